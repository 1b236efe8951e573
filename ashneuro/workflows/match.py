"""Contract of a file, from the module that it was exported from."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ashneuro.errors import AshneuroError, ConfigError, GraphError, need
from ashneuro.program.primitives import READ_OUT, SPIKING, numbers
from ashneuro.program.source import ContractMatch, Source
from ashneuro.program.wiring import Wiring, wire
from ashneuro.spiking.contract import CHOICES, Contract
from ashneuro.workflows.networks import Network, Overrides, contract_options, named_inputs, open_network
from ashneuro.workflows.progress import Progress, silent

if TYPE_CHECKING:
    import nir
    from torch import nn

    from ashneuro.frameworks.run import Traced
    from ashneuro.program.bundle import Bundle

SEARCHED = ("dt_s", "reset", "reset_delay", "comparison", "message", "integration", "if_convention", "start")
OWN = ("reset", "reset_delay", "comparison")  # mean the same in a file as in the module's own graph
USUAL_STEPS_S = (1e-3, 1e-4, 1.0, 1e-6)  # of ashneuro and Norse, of snnTorch, of sinabs, of Norse's τ · dt
FEW = 2  # samples that contracts are first compared on; the first that fits then runs all


def match_contract(
    source: str | Path | nir.NIRGraph | Network | Bundle,
    module: nn.Module,
    sample: Any,
    *,
    contract: Overrides | None = None,
    progress: Progress = silent,
) -> ContractMatch:
    """Return the contract with which a graph spikes as the module that it came from.

    The module runs over the sample as in `from_torch`. The contracts are few: dt (the usual ones,
    and the one that its decays give), reset, reset_delay, comparison, message, integration,
    if_convention and start, those with the fewest changes first. Where the sample does not tell
    two values of reset, reset_delay or comparison apart, the module's own is taken.

    Args:
        source: the exported graph.
        module: the module.
        sample: inputs (T, B, *shape).
        contract: fields that are known; they are not searched.
        progress: called with (phase, contracts compared, contracts in all).

    Raises:
        GraphError: something in the module has no NIR form, the populations of the two do not
            correspond, or no contract can be simulated.
        DataError: the sample does not fit.
    """
    network = open_network(source, contract)
    if network.is_netx:
        raise GraphError(f"{network.path} has no contract", "a lava-dl file says how its neurons step", "leave it out")
    given = {name for name, value in (contract or {}).items() if value is not None}
    frameworks = need("ashneuro.frameworks.run", extra="train", purpose="reading a module")
    traced = frameworks.trace_module(module, sample, dt_s=None)
    pairs = _pairs(network.wiring, traced)
    compare = partial(_compare, network, traced, pairs)

    best: tuple[int, Contract] | None = None
    candidates = list(_candidates(network, traced, pairs, given))
    refusal: AshneuroError | None = None
    for tried, candidate in enumerate(candidates, start=1):
        progress("comparing contracts", tried, len(candidates))
        try:
            wrong = compare(candidate, FEW).mismatches
            wrong = wrong or compare(candidate, None).mismatches
        except GraphError as error:  # e.g. a step that is longer than a time constant
            refusal = refusal or error
            continue
        if best is None or wrong < best[0]:
            best = wrong, candidate
        if not wrong:
            break
    if best is None:
        assert refusal is not None
        raise refusal
    wrong, chosen = best
    either = tuple(_either(chosen, candidates, compare)) if not wrong else ()
    # Where the sample does not decide, the module does.
    for name in [name for name in OWN if name in either]:
        owned = replace(chosen, **{name: getattr(traced.contract, name)})
        if not compare(owned, None).mismatches:
            chosen = owned
    before = network.contract
    changed = {name: getattr(chosen, name) for name in SEARCHED if getattr(chosen, name) != getattr(before, name)}
    return ContractMatch(chosen, compare(chosen, None), contract_options(changed).strip(), either, tried)


def module_at(place: str) -> nn.Module:
    """Return the module that a file of Python makes.

    Args:
        place: ``FILE.py:NAME``, a function without arguments that returns it, or the module itself.

    Raises:
        ConfigError: there is no such file or name, or it makes something else.
    """
    torch = need("torch", extra="train", purpose="reading a module")
    file, _, name = place.rpartition(":")
    path = Path(file)
    usage = "--source FILE.py:NAME, NAME a function that returns the torch.nn.Module"
    if not file:
        raise ConfigError(f"--source {place}", "it names a file alone, and nothing in it", usage)
    if not path.is_file():
        raise ConfigError(f"--source {place}", f"there is no file {file}", usage)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))  # as `python FILE.py` would
    try:
        spec.loader.exec_module(code)
        if not hasattr(code, name):
            raise ConfigError(f"--source {place}", f"{path} has no {name!r}", usage)
        made = getattr(code, name)
        module = made if isinstance(made, torch.nn.Module) or not callable(made) else made()
    except AshneuroError:
        raise
    except Exception as error:  # it is the user's code
        raise ConfigError(f"--source {place}", f"{type(error).__name__}: {error}", "correct the file") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(f"--source {place}", f"it makes {type(module).__name__}, which is not a module", usage)
    return module  # type: ignore[no-any-return]


def sample_at(inputs: str | Path) -> Any:
    """Return the samples in a .npy file.

    Raises:
        DataError: it cannot be read.
    """
    return named_inputs(inputs, ["input"])["input"]


def _compare(
    network: Network, traced: Traced, pairs: Mapping[str, str], contract: Contract, samples: int | None
) -> Source:
    from ashneuro.simulation.proof.source import compare_source

    def few(rasters: Mapping[str, Any]) -> dict[str, Any]:
        return {node: rasters[name][:, :samples] for node, name in pairs.items()}

    (name,) = network.input_names
    shape = network.wiring.in_shapes[name]
    inputs = traced.inputs[:, :samples].reshape(len(traced.inputs), -1, *(shape or ()))
    populations = compare_source(network.wiring, contract, {name: inputs}, few(traced.sent), few(traced.exact))
    return Source(traced.module, traced.frameworks, inputs.shape[1], len(inputs), populations)


def _pairs(wiring: Wiring, traced: Traced) -> dict[str, str]:
    """Return the module's population of each neuron node of a file: by name, else in order.

    Raises:
        GraphError: their numbers or shapes do not fit.
    """
    own = wire(traced.graph)
    ours = [name for name in traced.sent if own.roles.get(name) == "neuron"]
    theirs = _in_order(wiring)
    kinds = ((wiring, theirs), (own, ours))
    said = [", ".join(f"{name} {in_order.in_shapes[name]}" for name in names) or "none" for in_order, names in kinds]
    clash = GraphError(
        "the populations of the file and of the module do not correspond",
        f"the file has {said[0]}; the module {said[1]}",
        "give the module that the file was exported from",
    )
    if len(ours) != len(theirs):
        raise clash
    named = {node: name for node in theirs for name in ours if node == name or node.startswith(f"{name}.")}
    pairs = named if len(named) == len(theirs) == len(set(named.values())) else dict(zip(theirs, ours, strict=True))
    for node, name in pairs.items():
        if np.prod(wiring.in_shapes[node] or 0) != np.prod(own.in_shapes[name] or 0):
            raise clash
        if isinstance(wiring.nodes[node], READ_OUT) != isinstance(own.nodes[name], READ_OUT):
            raise clash
    return pairs


def _in_order(wiring: Wiring) -> list[str]:
    """Return the neurons of a graph, those nearer to the input first."""
    depth = dict.fromkeys(wiring.named("input"), 0)
    queue = list(depth)
    while queue:
        name = queue.pop(0)
        for target in wiring.targets(name):
            if target not in depth:
                depth[target] = depth[name] + 1
                queue.append(target)
    neurons = wiring.named("neuron")
    return sorted(neurons, key=lambda name: depth.get(name, 0))


def _candidates(network: Network, traced: Traced, pairs: Mapping[str, str], given: set[str]) -> Iterator[Contract]:
    """Iterate over contracts, those that change the fewest fields first."""
    wiring, base = network.wiring, network.contract
    nodes = [wiring.nodes[name] for name in pairs]
    leaky = any(hasattr(node, "tau") or hasattr(node, "tau_mem") for node in nodes)
    integrating = any(type(node).__name__ in ("IF", "I") for node in nodes)
    spiking = any(isinstance(node, SPIKING) for node in nodes)
    apart = any(
        hasattr(node, "v_reset")
        and np.any(numbers(node, "v_reset") != (numbers(node, "v_leak") if hasattr(node, "v_leak") else 0.0))
        for node in nodes
    )
    matters = {
        "dt_s": leaky or integrating,
        "reset": spiking,
        "reset_delay": spiking,
        "comparison": spiking,
        "message": spiking,
        "integration": leaky,
        "if_convention": integrating,
        "start": apart,
    }
    choices: dict[str, list[Any]] = {}
    for name in SEARCHED:
        own = getattr(base, name)
        others: list[Any] = []
        if matters[name] and name not in given:
            values = {"dt_s": _steps(network, traced, pairs), "reset_delay": (0, 1)}.get(name, CHOICES.get(name, ()))
            others = [value for value in values if value != own]
        choices[name] = [own, *others]
    combinations = itertools.product(*choices.values())
    changes = sorted(
        combinations, key=lambda values: sum(v != choices[n][0] for n, v in zip(choices, values, strict=True))
    )
    coding: dict[str, Any] = {} if "input_coding" in given else {"input_coding": traced.contract.input_coding}
    for values in changes:
        yield replace(base, timesteps=None, **dict(zip(choices, values, strict=True)), **coding)


def _steps(network: Network, traced: Traced, pairs: Mapping[str, str]) -> list[float]:
    """Return durations of a step: those that the module's decays give, and the usual ones."""
    found = []
    for node, name in pairs.items():
        ours, theirs = (
            next((numbers(n, key) for key in ("tau", "tau_mem") if hasattr(n, key)), None)
            for n in (traced.graph.nodes.get(name), network.wiring.nodes[node])
        )
        if ours is None or theirs is None:
            continue
        decay, tau = float(np.median(traced.contract.dt_s / ours)), float(np.median(theirs))
        found += [decay * tau] + ([-np.log1p(-decay) * tau] if decay < 1 else [])
    near = [next((usual for usual in USUAL_STEPS_S if abs(dt - usual) < 1e-4 * usual), float(dt)) for dt in found]
    return list(dict.fromkeys([*near, traced.contract.dt_s, *USUAL_STEPS_S]))


def _either(chosen: Contract, candidates: list[Contract], compare: Any) -> Iterator[str]:
    """Iterate over fields that no spike of the sample depends on."""
    for name in SEARCHED:
        for other in candidates:
            changed = [field for field in SEARCHED if getattr(other, field) != getattr(chosen, field)]
            if changed != [name]:
                continue
            try:
                same = not compare(other, FEW).mismatches and not compare(other, None).mismatches
            except GraphError:
                continue
            if same:
                yield name
                break
