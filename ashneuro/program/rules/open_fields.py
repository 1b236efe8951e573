"""Fields of the contract that a NIR file may leave open, and the nodes that depend on each.

`ashneuro.spiking.contract` gives each field a default. Where no node depends on a field, its
default is no assumption: the convention of ``IF`` in a graph without ``IF``, or the value of v at
the start where v_reset = v_leak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import nir
import numpy as np

from ashneuro.errors import GraphError
from ashneuro.program.assumption import Assumption, Assumptions
from ashneuro.program.primitives import numbers
from ashneuro.program.wiring import FIRES, Wiring, node_dynamics, node_firing, node_message
from ashneuro.spiking.contract import PREFIX, Contract, ReadContract
from ashneuro.spiking.dynamics import DYNAMICS, DynamicsName

LEAKY = (nir.LIF, nir.CubaLIF, nir.LI, nir.CubaLI)
ACCUMULATES = (nir.IF, nir.I)
LARGE_GAIN = 100.0  # R of an IF from which it may be 1/dt: steps are at most 10 ms in practice


def assumptions_of(wiring: Wiring, read: ReadContract) -> Assumptions:
    """Return the assumptions that a graph is read with, in the order of the contract's fields.

    The graph need not be sound. ``None`` if its file was written by a version that stated what it
    had assumed.
    """
    if not read.recorded:
        return None
    return tuple(matching(wiring, read.contract, read.assumed))


def matching(wiring: Wiring, contract: Contract, fields: Iterable[str]) -> Iterator[Assumption]:
    """Iterate over those of ``fields`` on which a node of the graph depends, with its nodes."""
    for field in fields:
        depends = DEPENDS[field]
        nodes = tuple(name for name, node in wiring.nodes.items() if depends(node, contract))
        if nodes:
            yield Assumption(field, getattr(contract, field), nodes, field not in KIND_OF_INPUT)


def per_second_options(wiring: Wiring, item: Assumption) -> str:
    """Return the options of R = 1/dt where the gains of neurons may be that, else nothing."""
    if item.field != "if_convention" or item.value != "per-step":
        return ""
    try:
        gains = np.unique(np.concatenate([numbers(wiring.nodes[name], "r").ravel() for name in item.nodes]))
    except (TypeError, ValueError, GraphError):  # no numbers: a rule reports it
        return ""
    if len(gains) != 1 or not LARGE_GAIN <= gains[0] < np.inf:
        return ""
    options = f"--if-convention per-second --dt {1 / gains[0]:g}"
    return f"R = {gains[0]:g} may be 1/dt, as SpikingJelly writes it: {options}"


def _decays(node: Any, contract: Contract) -> bool:
    return isinstance(node, LEAKY) or "tau" in _kinds(node)


def _timed(node: Any, contract: Contract) -> bool:
    per_second = isinstance(node, ACCUMULATES) and contract.if_convention == "per-second"
    return per_second or isinstance(node, nir.Delay) or "turn" in _kinds(node) or _decays(node, contract)


def _compares(node: Any, contract: Contract) -> bool:
    return _fires_unless(node, "comparison") and not _changes(node)


def _resets(node: Any, contract: Contract) -> bool:
    return not isinstance(node, nir.Threshold) and _fires_unless(node, "reset")


def _resets_at(node: Any, contract: Contract) -> bool:
    return not isinstance(node, nir.Threshold) and _fires_unless(node, "reset_delay")


def _sends(node: Any, contract: Contract) -> bool:
    # Only where a spike takes v_threshold from v at once, what is left of v may be worth another.
    if not _fires_unless(node, "message") or isinstance(node, nir.Threshold):
        return False
    try:
        firing = node_firing(node, contract)
    except GraphError:  # a rule reports it
        return False
    return firing.reset == "subtract" and not firing.reset_delay


def _fires_unless(node: Any, field: str) -> bool:
    """Return True for a neuron that fires as the contract says, not as its own metadata says."""
    if not isinstance(node, FIRES) or _dynamics(node) != "lif":
        return False  # other dynamics have a comparison and a reset of their own
    stated = node.metadata if isinstance(node.metadata, Mapping) and not isinstance(node, nir.Threshold) else {}
    return PREFIX + field not in stated


def _starts(node: Any, contract: Contract) -> bool:
    if not hasattr(node, "v_reset"):
        return False
    rest = numbers(node, "v_leak") if hasattr(node, "v_leak") else np.zeros(())
    try:
        return bool(np.any(numbers(node, "v_reset") != rest))
    except ValueError:  # shapes that clash: a rule reports them
        return True


def _changes(node: Any) -> bool:
    """Return True for a node that sends changes, which have a comparison of their own."""
    try:
        return node_message(node).changes
    except GraphError:  # a rule reports it
        return False


def _kinds(node: Any) -> list[str]:
    """Return the kinds of the parameters that the node's dynamics have beside LIF's."""
    return [parameter.kind for parameter in DYNAMICS[_dynamics(node)].parameters.values()]


def _dynamics(node: Any) -> DynamicsName:
    try:
        return node_dynamics(node)[0]
    except GraphError:  # a rule reports it
        return "lif"


KIND_OF_INPUT = ("input_coding",)
"""Fields that say what a network is fed with: they change no equation."""

DEPENDS: Mapping[str, Callable[[Any, Contract], bool]] = {
    "dt_s": _timed,
    "reset": _resets,
    "reset_delay": _resets_at,
    "message": _sends,
    "comparison": _compares,
    "start": _starts,
    "integration": _decays,
    "if_convention": lambda node, contract: isinstance(node, ACCUMULATES),
    "input_coding": lambda node, contract: isinstance(node, nir.Input),
}
"""Fields that a file may leave open, and the nodes that depend on each."""

SHOULD_STATE: Mapping[str, str] = {
    "dt_s": "A file should state the duration of a step.",
    "reset": "A file should state how a spike resets v.",
    "reset_delay": "A file should state when a reset takes effect.",
    "message": "A file should state whether a neuron may spike several times in a step.",
    "comparison": "A file should state whether a neuron spikes at its threshold or only above it.",
    "start": "A file should state the start value of v.",
    "integration": "A file should state how its equations are integrated.",
    "if_convention": "A file should state whether IF integrates per step or per second.",
    "input_coding": "A file should state whether its inputs are spikes or analog values.",
}
"""The demand of each field, as `ashneuro.program.check` shows it."""
