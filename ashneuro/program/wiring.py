"""NIR graphs as flat graphs.

Nested graphs are opened, shapes inferred and mended (`ashneuro.program.mending`), and every node
has its role in the lowering.

NIR's own type check assumes square kernels and one group; the shapes here follow each primitive's
definition instead. This module accepts every graph: `ashneuro.program.rules.graph` reports what is
wrong with one.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import nir
import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import GraphError
from ashneuro.program.mending import Mending, mend_shapes, with_arrays, with_ends
from ashneuro.program.primitives import LINEAR, PARAMETERS, READ_OUT, SCALARS, SPIKING, WHOLE_PARAMETERS
from ashneuro.program.program import Shape
from ashneuro.spiking.contract import PREFIX, Contract, plain, read_contract
from ashneuro.spiking.dynamics import DYNAMICS, DynamicsName
from ashneuro.spiking.firing import Firing
from ashneuro.spiking.message import ACTIVATIONS, BITS, MESSAGE_KINDS, POTENTIAL, SPIKE, Message

ALWAYS_ON = "always-on"  # name of the input line that carries biases through synapses

Role = Literal["input", "output", "pass", "linear", "delay", "neuron", "unknown"]

# Contract fields that a neuron node may state for itself, in its own metadata.
FIRES = (nir.LIF, nir.CubaLIF, nir.IF, nir.Threshold)
FIRING_FIELDS = ("comparison", "reset", "reset_delay")
# The last two of changes alone.
MESSAGE_FIELDS = (
    "message",
    "message_bits",
    "message_limit",
    "message_activation",
    "message_cumulative",
    "message_jump",
)
# Primitives that can state other dynamics than LIF's in their metadata.
INTEGRATES = (nir.LIF, nir.CubaLIF, nir.IF)


@dataclass(frozen=True, eq=False)
class Wiring:
    """A flat view of a NIR graph. It is not updated when the graph changes.

    Args:
        graph: the graph with its nested graphs; the caller's own where nothing was mended.
        nodes: every primitive by name; nodes of a nested graph are called ``"graph.node"``.
        edges: the edges between these nodes, each once.
        dangling: edges with a missing end, as written.
        doubled: edges that occur more than once.
        broken_subgraphs: nested graphs without exactly one Input and one Output.
        taken: names that clash: shared by two nodes, or reserved by the lowering.
        roles: role of each node; ``"pass"``: Input or Output of a nested graph; ``"unknown"``: not
            a primitive, or `unreadable`.
        in_shapes, out_shapes: shapes of one sample at one step, without batch; ``None`` where they
            are not known.
        mended: what differs from the caller's graph: shapes that follow from the edges.
    """

    graph: nir.NIRGraph
    nodes: dict[str, Any]
    edges: tuple[tuple[str, str], ...]
    dangling: tuple[tuple[str, str], ...]
    doubled: tuple[tuple[str, str], ...]
    broken_subgraphs: tuple[str, ...]
    taken: tuple[str, ...]
    roles: dict[str, Role]
    in_shapes: dict[str, Shape | None]
    out_shapes: dict[str, Shape | None]
    mended: tuple[Mending, ...]

    def sources(self, name: str) -> list[str]:
        """Return the nodes that feed ``name``."""
        return [a for a, b in self.edges if b == name]

    def targets(self, name: str) -> list[str]:
        """Return the nodes that ``name`` feeds."""
        return [b for a, b in self.edges if a == name]

    def named(self, *roles: Role) -> list[str]:
        """Return the nodes of these roles, in the graph's order."""
        return [name for name, role in self.roles.items() if role in roles]

    def firing(self, name: str, contract: Contract) -> Firing:
        """Return comparison and reset of a neuron: from its own metadata, else the contract's."""
        return node_firing(self.nodes[name], contract)

    def message(self, name: str, contract: Contract | None = None) -> Message:
        """Return the message of a neuron: from its own metadata, else the contract's, if given."""
        return node_message(self.nodes[name], contract)

    def imaginary(self, name: str) -> list[str]:
        """Return the nodes that feed the imaginary part of neurons that resonate."""
        if self.roles[name] != "neuron":
            return []
        inside = name.rpartition(".")[0]
        stated = [f"{inside}.{one}" if inside else one for one in node_imaginary(self.nodes[name])]
        # A nested graph is called by its own name; what feeds the neurons is its Output.
        return [source for source in self.sources(name) if any(f"{source}.".startswith(f"{one}.") for one in stated)]

    def only_reshapes(self, name: str) -> bool:
        """Return True for a node that changes no value: a Flatten, or an end of a nested graph."""
        return self.roles[name] == "pass" or isinstance(self.nodes[name], nir.Flatten)

    def only_neuron(self, output: str) -> str | None:
        """Return the neuron whose values an Output gives, perhaps reshaped; else ``None``."""
        name, seen = output, set[str]()
        while len(sources := self.sources(name)) == 1 and name not in seen:
            seen.add(name)
            (name,) = sources
            if not self.only_reshapes(name):
                return name if self.roles[name] == "neuron" else None
        return None


def node_firing(node: Any, contract: Contract) -> Firing:
    """Return comparison and reset of a neuron node: from its own metadata, else the contract's.

    Raises:
        GraphError: a value in the metadata is of another kind.
    """
    if isinstance(node, nir.Threshold):  # there is nothing to reset; a change is sent from θ on
        return Firing("inclusive" if node_message(node, contract).changes else contract.comparison)
    stated = node.metadata if isinstance(getattr(node, "metadata", None), Mapping) else {}
    given = {name: stated.get(PREFIX + name, getattr(contract, name)) for name in FIRING_FIELDS}
    try:
        return read_contract({PREFIX + name: value for name, value in given.items()}).contract.firing
    except GraphError as error:  # its remedy is an option, which does not reach the node's own metadata
        own = " and ".join(PREFIX + name for name in FIRING_FIELDS if PREFIX + name in stated)
        raise GraphError(error.what, error.why, f"correct {own}, or remove it for the graph's own") from error


def node_message(node: Any, contract: Contract | None = None) -> Message:
    """Return the message of a neuron node: from its own metadata, else the contract's, if given.

    Raises:
        GraphError: a value in the metadata is of another kind, or the node cannot send it.
    """
    if isinstance(node, READ_OUT):
        return _node_potential(node)
    own = DYNAMICS[node_dynamics(node)[0]].message
    resets = isinstance(node, INTEGRATES)
    usual = contract.sent if resets and contract else SPIKE
    stated = node.metadata if isinstance(getattr(node, "metadata", None), Mapping) else {}
    given = {name: plain(stated[PREFIX + name]) for name in MESSAGE_FIELDS if PREFIX + name in stated}
    if own.payload and not given:
        return own
    if not given:
        return usual
    kind, limit = given.get("message", usual.kind), given.get("message_limit")

    def refused(name: str, why: str) -> GraphError:
        return GraphError(f"{name} = {given.get(name)!r}", why, f"correct {PREFIX}{name}, or remove it")

    if own.payload:
        raise refused(next(iter(given)), f"these neurons send {own.words}")
    if kind not in MESSAGE_KINDS:
        raise refused("message", f"it must be one of {', '.join(MESSAGE_KINDS)}")
    if kind == "spike":
        beside = [name for name in given if name != "message"]
        if beside and ("message" in given or not resets):  # else the contract may say that it counts
            raise refused(beside[0], f"a spike has no payload; {PREFIX}message says what has one")
        return SPIKE
    if kind == "count" and not resets:
        raise refused("message", "only a LIF, CubaLIF or IF sends several spikes in a step")
    if kind != "count" and not isinstance(node, nir.Threshold):
        raise refused("message", "only a Threshold sends graded values or changes")
    default, fewest, most = BITS[kind]
    bits = given.get("message_bits", default)
    if isinstance(bits, bool) or not isinstance(bits, int) or not fewest <= bits <= most:
        raise refused("message_bits", f"a payload has {fewest} to {most} bits")
    if limit is not None and (not isinstance(limit, int | float) or not 0 < limit < math.inf):
        raise refused("message_limit", "the largest value that is sent is above 0")
    if kind == "count" and limit is not None and (limit != int(limit) or isinstance(limit, bool)):
        raise refused("message_limit", "the largest number of spikes in a step is whole")
    limit = None if limit is None else float(limit)
    activation, cumulative = given.get("message_activation", "none"), given.get("message_cumulative", False)
    if activation not in ACTIVATIONS or (kind != "change" and activation != "none"):
        raise refused("message_activation", f"changes are of one of {', '.join(ACTIVATIONS)}")
    if cumulative not in (False, True) or (kind != "change" and cumulative):
        raise refused("message_cumulative", "it is true or false, and of changes alone")
    jump = given.get("message_jump", 0.0)
    if activation == "levels" and limit is None:
        raise refused("message_limit", "levels need the largest one")
    largest = limit if activation == "levels" else None
    if isinstance(jump, bool) or not isinstance(jump, int | float) or (jump and largest is None):
        raise refused("message_jump", "it is a number, and of levels alone")
    if largest is not None and not 0 <= jump < largest:
        raise refused("message_jump", "it lies from 0 to below the largest level")
    return Message(kind, bits, limit, activation, bool(cumulative), jump=float(jump))


def _node_potential(node: Any) -> Message:
    """Return the message of a read-out that feeds further layers.

    Raises:
        GraphError: the metadata states no such bits or limit.
    """
    stated = node.metadata if isinstance(getattr(node, "metadata", None), Mapping) else {}
    given = {name: plain(stated[PREFIX + name]) for name in MESSAGE_FIELDS if PREFIX + name in stated}
    bits, limit = given.get("message_bits", POTENTIAL.bits), given.get("message_limit")
    _, fewest, most = BITS["potential"]
    other = [name for name in given if name not in ("message_bits", "message_limit")]
    number = isinstance(limit, int | float) and not isinstance(limit, bool)
    if other:
        name, why = other[0], "a read-out sends its potential, and nothing else"
    elif isinstance(bits, bool) or not isinstance(bits, int) or not fewest <= bits <= most:
        name, why = "message_bits", f"a payload has {fewest} to {most} bits"
    elif limit is not None and not (number and 0 < limit < math.inf):
        name, why = "message_limit", "the largest potential is above 0"
    else:
        return Message("potential", bits, None if limit is None else float(limit))
    raise GraphError(f"{name} = {given[name]!r}", why, f"correct {PREFIX}{name}, or remove it")


def node_dynamics(node: Any) -> tuple[DynamicsName, dict[str, NDArray[np.float64]]]:
    """Return the dynamics that a neuron node's metadata states, and its parameters by name.

    Raises:
        GraphError: the metadata states another kind, or lacks a number.
    """
    stated = node.metadata if isinstance(getattr(node, "metadata", None), Mapping) else {}
    name: Any = plain(stated.get(PREFIX + "dynamics", "lif"))
    known = type(name) is str and name in DYNAMICS  # lists and arrays have no hash
    if not known or (name != "lif" and not isinstance(node, INTEGRATES)):
        others = ", ".join(kind for kind in DYNAMICS)
        raise GraphError(
            f"{PREFIX}dynamics = {name!r}",
            f"a LIF, CubaLIF or IF has one of {others}",
            f"correct {PREFIX}dynamics, or remove it for an ordinary neuron",
        )
    found = {}
    for key in DYNAMICS[name].parameters:
        value = _array(stated.get(PREFIX + key))
        if value.dtype.kind not in "fiu":
            what, do = (f" = {plain(stated[PREFIX + key])!r}", "correct") if PREFIX + key in stated else ("", "add")
            raise GraphError(f"{PREFIX}{key}{what}", f"{name} neurons need it as a number", f"{do} {PREFIX}{key}")
        found[key] = value.astype(np.float64)
    return name, found


def node_imaginary(node: Any) -> list[str]:
    """Return the nodes that a neuron node's metadata names as its imaginary input.

    Raises:
        GraphError: the metadata is no text.
    """
    stated = node.metadata if isinstance(getattr(node, "metadata", None), Mapping) else {}
    names = plain(stated.get(PREFIX + "imaginary", ""))
    if not isinstance(names, str):
        why = "it holds names of nodes, with commas between them"
        raise GraphError(f"{PREFIX}imaginary = {names!r}", why, f"correct {PREFIX}imaginary")
    return [name.strip() for name in names.split(",") if name.strip()]


def _only_read(node: Any) -> None:
    """Raise `GraphError` where a neuron node's metadata has a field that nothing reads: the neuron
    would silently be another than its author meant.
    """
    stated = node.metadata if isinstance(getattr(node, "metadata", None), Mapping) else {}
    name, parameters = node_dynamics(node)
    known = {"dynamics", "imaginary", *FIRING_FIELDS, *MESSAGE_FIELDS, *parameters}
    for key in stated:
        if not isinstance(key, str) or not key.startswith(PREFIX) or key.removeprefix(PREFIX) in known:
            continue
        owners = [kind for kind, one in DYNAMICS.items() if key.removeprefix(PREFIX) in one.parameters]
        why = f"{name} neurons have no such parameter" if owners else "ashneuro has no such field"
        do = (
            f"state {PREFIX}dynamics = {' or '.join(owners)}, or remove {key}" if owners else f"correct or remove {key}"
        )
        raise GraphError(key, why, do)


def wire(graph: nir.NIRGraph | Wiring) -> Wiring:
    """Return the flat view of ``graph``, with all shapes that can be inferred.

    A `Wiring` is returned as it is. Every function that takes a graph takes its wiring as well, so
    a caller that needs several of them wires once and passes the wiring on.
    """
    if isinstance(graph, Wiring):
        return graph
    ended, mended = with_ends(with_arrays(graph))
    flat = _Flat()
    _open(ended, "", flat)
    edges = Counter(flat.edges)
    readable = {name: None if flat.roles[name] == "unknown" else node for name, node in flat.nodes.items()}
    nodes, in_shapes, out_shapes, shaped = mend_shapes(readable, tuple(edges))
    changed = {name: node for name, node in nodes.items() if node is not None and node is not flat.nodes[name]}
    return Wiring(
        graph=_replaced(ended, changed, "") if changed else ended,
        nodes=flat.nodes | changed,
        edges=tuple(edges),
        dangling=tuple(flat.dangling),
        doubled=tuple(edge for edge, count in edges.items() if count > 1),
        broken_subgraphs=tuple(flat.broken_subgraphs),
        taken=(*flat.taken, ALWAYS_ON) if ALWAYS_ON in flat.nodes else tuple(flat.taken),
        roles=flat.roles,
        in_shapes=in_shapes,
        out_shapes=out_shapes,
        mended=(*mended, *(one for one in shaped if one.node not in {other.node for other in mended})),
    )


def _replaced(graph: nir.NIRGraph, changed: Mapping[str, Any], prefix: str) -> nir.NIRGraph:
    """Return a copy of ``graph`` with the nodes that were changed, by their full names."""
    result = copy.copy(graph)
    result.nodes = {
        name: _replaced(node, changed, f"{prefix}{name}.")
        if isinstance(node, nir.NIRGraph)
        else changed.get(prefix + name, node)
        for name, node in graph.nodes.items()
    }
    return result


@dataclass(frozen=True)
class Unreadable:
    """A parameter of a NIR node that cannot be read: why, and what helps."""

    why: str
    remedy: str


def unreadable(node: Any) -> Unreadable | None:
    """Return the first parameter of a NIR node that cannot be read; ``None`` when all of them
    can.
    """
    for name in PARAMETERS.get(type(node), ()):
        if _array(getattr(node, name)).dtype.kind not in "fiub":
            return Unreadable(f"{name} is not numeric", f"give {name} as an array of numbers")
    for name in WHOLE_PARAMETERS.get(type(node), ()):
        value = getattr(node, name)
        text = value.decode("utf8", "replace") if isinstance(value, bytes) else value
        free = (name == "padding" and isinstance(text, str) and text in ("same", "valid")) or (
            name == "input_shape" and value is None
        )
        if not free and (not _whole(value) or (name in SCALARS and _array(value).ndim)):
            words = ', or as "same" or "valid"' if name == "padding" else ""
            return Unreadable(f"{name} is {value!r}", f"give {name} as a whole number{words}")
    if isinstance(node, FIRES + READ_OUT):
        try:
            if isinstance(node, FIRES):
                node_firing(node, Contract())
            node_message(node)
            node_dynamics(node)
            node_imaginary(node)
            _only_read(node)
        except GraphError as error:
            return Unreadable(f"{error.what} in its metadata: {error.why}", f"in the node's metadata: {error.do}")
    if isinstance(node, nir.Input | nir.Output | nir.Flatten):
        shape = node.input_type.get("input") if isinstance(node.input_type, Mapping) else node.input_type
        if shape is not None and not (_whole(shape) and (_array(shape) > 0).all()):
            return Unreadable(f"its shape is {shape!r}", "give whole numbers above 0, or no shape")
    return None


def _whole(value: Any) -> bool:
    values = _array(value)
    return values.dtype.kind in "iuf" and bool(((np.abs(values) < 2**31) & (values == np.rint(values))).all())


def _array(value: Any) -> NDArray[Any]:
    # Graphs made in memory may hold anything: a value that is no array becomes one of no number.
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # ragged lists, tensors that need a gradient
        return np.asarray(None)


@dataclass(frozen=True, eq=False)
class _Flat:
    """The part of a `Wiring` that grows while nested graphs are opened."""

    nodes: dict[str, Any] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    dangling: list[tuple[str, str]] = field(default_factory=list)
    broken_subgraphs: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)


def _open(graph: nir.NIRGraph, prefix: str, flat: _Flat) -> None:
    """Add the nodes and edges of ``graph`` to ``flat``, with ``prefix`` in front of their names."""
    # An edge to a nested graph leads to its Input, an edge from it starts at its Output.
    entry: dict[str, str] = {}
    leave: dict[str, str] = {}
    for name, node in graph.nodes.items():
        full = prefix + name
        entry[name] = leave[name] = full
        if not isinstance(node, nir.NIRGraph):
            if full in flat.nodes:
                flat.taken.append(full)
            flat.nodes[full] = node
            role = _role(node)
            flat.roles[full] = "pass" if prefix and role in ("input", "output") else role
            continue
        _open(node, f"{full}.", flat)
        if len(node.inputs) == 1 and len(node.outputs) == 1:
            entry[name], leave[name] = f"{full}.{next(iter(node.inputs))}", f"{full}.{next(iter(node.outputs))}"
        else:
            flat.broken_subgraphs.append(full)
            del entry[name], leave[name]
    subgraphs = {name for name, node in graph.nodes.items() if isinstance(node, nir.NIRGraph)}
    for a, b in graph.edges:
        if a in leave and b in entry:
            flat.edges.append((leave[a], entry[b]))
        elif not {a, b} & subgraphs:  # edges of broken subgraphs are reported with the subgraph
            flat.dangling.append((prefix + str(a), prefix + str(b)))


def _role(node: Any) -> Role:
    # Later steps compute with parameters freely, so a node that cannot be read counts as unknown.
    if unreadable(node):
        return "unknown"
    kinds: tuple[tuple[tuple[type, ...], Role], ...] = (
        ((nir.Input,), "input"),
        ((nir.Output,), "output"),
        (LINEAR, "linear"),
        ((nir.Delay,), "delay"),
        (SPIKING + READ_OUT, "neuron"),
    )
    return next((role for types, role in kinds if type(node) in types), "unknown")


def walk(wiring: Wiring, names: Sequence[str], step: Literal["sources", "targets"]) -> Iterator[str]:
    """Iterate over ``names`` and all nodes reachable from them, against or along the edges."""
    seen = set(names)
    queue = list(names)
    neighbours: dict[str, list[str]] = {}
    for a, b in wiring.edges:
        here, there = (b, a) if step == "sources" else (a, b)
        neighbours.setdefault(here, []).append(there)
    while queue:
        name = queue.pop()
        yield name
        for other in neighbours.get(name, ()):
            if other not in seen:
                seen.add(other)
                queue.append(other)
