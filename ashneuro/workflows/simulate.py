"""Simulation: samples in, spikes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ashneuro.config import cache_dir
from ashneuro.errors import ConfigError, DataError, LavaError
from ashneuro.exchange import Shard
from ashneuro.program.bundle import NETWORK, NETX, Bundle
from ashneuro.program.netx.read import reading_of
from ashneuro.program.program import Precision, Program
from ashneuro.spiking.contract import read_contract
from ashneuro.workflows.lava import LOCAL_LAVA, LavaSettings
from ashneuro.workflows.networks import (
    Network,
    Overrides,
    contract_options,
    has_bundle,
    named_inputs,
    netx_reading,
    open_bundle,
    open_network,
    refuse_input_shape,
)
from ashneuro.workflows.progress import Progress, silent

if TYPE_CHECKING:
    import nir
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.simulation.record import SpikeRecord
    from ashneuro.simulation.run import Graph
    from ashneuro.simulation.traces import NeuronTrace


def simulate(
    source: str | Path | nir.NIRGraph | Network | Bundle | Program,
    inputs: str | Path | NDArray[np.generic] | Mapping[str, NDArray[np.generic]] | None = None,
    *,
    on: Literal["torch", "loihi", "lava"] = "torch",
    precision: Precision | None = None,
    rasters: Sequence[str] | Literal["outputs", "all"] = "all",
    device: str = "cpu",
    shard: Shard | None = None,
    lava: LavaSettings = LOCAL_LAVA,
    contract: Overrides | None = None,
    progress: Progress = silent,
) -> SpikeRecord:
    """Return the spikes of a network.

    Args:
        source: a bundle or a run that was exported, a NIR graph or file, a lava-dl file, or a
            program.
        inputs: samples (T, B, *shape): an array, arrays by input name, or the path of a .npy or
            .npz. Default: a bundle's reference samples, or the sample of a module.
        on: ``"torch"``: float64; ``"loihi"``: the bit-exact integer emulator; ``"lava"``: Lava
            itself.
        precision: default: float on torch, integer elsewhere.
        rasters: layers whose spikes are kept step by step in ``record.layers[name].raster`` (T, B,
            *shape).
        device: where torch and the emulator run.
        shard: simulate only this part of the samples; the records of all parts add up, with ``+``
            or `ashneuro.simulation.record.merge_counts`.
        lava: settings of Lava.
        contract: fields of `Contract` that win over the source's.
        progress: called with (phase, samples done, samples in all).

    Raises:
        DataError: the inputs are missing, cannot be read or do not fit.
        ConfigError: the simulator does not compute in this precision; fields contradict a bundle's
            contract; or a shard has no samples.
        GraphError: the graph cannot be computed, lowered or expressed in integers.
        LavaError: Lava is not there, or failed.
    """
    from ashneuro.simulation.lava.stock import RUN_STOCK
    from ashneuro.simulation.run import program_of
    from ashneuro.simulation.run import simulate as run

    target, given = with_inputs(source, inputs, contract)
    if shard is not None:
        if not isinstance(target, Bundle) and (precision or ("float" if on == "torch" else "integer")) == "integer":
            target = program_of(target, given, "integer")  # its units are chosen on all samples
        samples = next(iter(given.values())).shape[1]
        if shard.count > samples:
            raise ConfigError(f"--shard {shard}", f"there are {samples} samples", f"--shard i/{samples} at most")
        given = {name: values[:, shard.rows(samples)] for name, values in given.items()}
    return run(
        target,
        given,
        on=on,
        precision=precision,
        rasters=rasters,
        device=device,
        worker=lava.open,
        stock=lava.stock_samples(RUN_STOCK),
        resume=cache_dir() / "finished-chunks",
        progress=partial(progress, f"simulating on {on}"),
    )


def trace(
    source: str | Path | nir.NIRGraph | Network | Bundle | Program,
    neurons: Sequence[str],
    inputs: str | Path | NDArray[np.generic] | Mapping[str, NDArray[np.generic]] | None = None,
    *,
    precision: Precision = "float",
    sample: int = 0,
    lava: LavaSettings = LOCAL_LAVA,
    contract: Overrides | None = None,
    progress: Progress = silent,
) -> tuple[Sequence[NeuronTrace], str]:
    """Return u and v of single neurons from the emulator and from Lava, and why Lava did not run
    (else empty).

    Args:
        neurons: ``"LAYER:NEURON"`` each, NEURON a flat index.
        sample: index of the sample.

    Other arguments and errors as `simulate`.
    """
    from ashneuro.simulation.run import program_of
    from ashneuro.simulation.traces import parse_neurons, trace_neurons

    target, given = with_inputs(source, inputs, contract)
    program = program_of(target, given, precision)
    chosen, missing = parse_neurons(program, neurons), ""
    # The emulator's trace is worth having alone; why Lava's is absent goes with it.
    try:
        worker = lava.open()
    except LavaError as error:
        worker, missing = None, f"{error.what}: {error.do}"
    progress("tracing", 0, 0)
    with worker or nullcontext() as running:
        return trace_neurons(program, given, chosen, sample=sample, lava=running), missing


def with_inputs(
    source: str | Path | nir.NIRGraph | Network | Bundle | Program,
    inputs: str | Path | NDArray[np.generic] | Mapping[str, NDArray[np.generic]] | None,
    contract: Overrides | None = None,
) -> tuple[Bundle | Program | Graph, Mapping[str, Any]]:
    """Return the target of a simulation and its samples, given or a bundle's own reference.

    Raises:
        DataError: a network that is not a bundle came without inputs, or they cannot be read.
        ConfigError: contract fields contradict a bundle's, or are given for a lava-dl file.
    """
    overrides = contract or {}
    if isinstance(source, Program):
        if inputs is None:
            raise _no_inputs("this program")
        return source, named_inputs(inputs, [port.name for port in source.fed_inputs])
    # A run means its bundle: the weights that were exported, not those of later training.
    if has_bundle(source):
        bundle = open_bundle(source)
        _require_same_contract(bundle, source, overrides)
        if inputs is None:
            return bundle, bundle.reference.inputs
        return bundle, named_inputs(inputs, list(bundle.reference.inputs))
    network = open_network(source, overrides)
    inputs = network.sample if inputs is None else inputs
    if inputs is None:
        raise _no_inputs(str(source) if isinstance(source, str | Path) else "this network")
    given = named_inputs(inputs, network.input_names)
    return (network.program if network.is_netx else network.simulable), given


def _no_inputs(what: str) -> DataError:
    return DataError(
        f"{what} has no inputs of its own",
        "the file is a network without samples",
        "--inputs x.npy, (T, B, *shape)",
    )


def _require_same_contract(bundle: Bundle, source: object, overrides: Overrides) -> None:
    """Raise `ConfigError` where contract fields say something else than a bundle's own contract."""
    options = contract_options(overrides)
    if bundle.contract is None:
        stored = reading_of(bundle.program("integer"))
        if netx_reading(str(source), overrides, stored) != stored:
            why = "its program was made, and its samples recorded, from the file as it was read then"
            remedy = f"ashneuro simulate {bundle.folder / NETX} --inputs x.npy{options}, or export it with them"
            raise ConfigError(f"{source} with{options}", why, remedy)
        return
    refuse_input_shape(str(source), overrides)
    if read_contract(bundle.contract.to_metadata(), **overrides).contract != bundle.contract:
        why = "its programs were lowered, and its samples recorded, with the contract that it carries"
        remedy = f"ashneuro simulate {bundle.folder / NETWORK} --inputs x.npy{options}, or export it with them"
        raise ConfigError(f"{source} with{options}", why, remedy)
