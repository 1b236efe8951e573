"""Mend what exporters leave open or leave in: shapes that follow from the graph, and missing ends.

Nothing that is computed changes. What a graph does not decide stays as it is, for the rules of
`ashneuro.program.rules.graph` to refuse. The caller's graph and nodes are never changed: mended
nodes are copies.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from ashneuro.program.primitives import PARAMETERS, READ_OUT, SPIKING, WHOLE_PARAMETERS
from ashneuro.program.program import Shape
from ashneuro.program.shapes import (
    ELEMENTWISE,
    PORTS,
    Edges,
    Shapes,
    axes_in_front,
    flattened,
    infer_shapes,
    parameter_shape,
    stated_shape,
)


@dataclass(frozen=True)
class Mending:
    """One thing that was mended.

    Args:
        node: name of the node.
        what: what it is now, and what says so.
    """

    node: str
    what: str


def with_arrays(graph: nir.NIRGraph) -> nir.NIRGraph:
    """Return ``graph`` with numpy's arrays in place of tensors, and of other libraries' arrays."""
    nodes = {name: _with_arrays(node) for name, node in graph.nodes.items()}
    if all(nodes[name] is node for name, node in graph.nodes.items()):
        return graph
    changed = copy.copy(graph)
    changed.nodes = nodes
    return changed


def _with_arrays(node: Any) -> Any:
    if isinstance(node, nir.NIRGraph):
        return with_arrays(node)
    names = (*PARAMETERS.get(type(node), ()), *WHOLE_PARAMETERS.get(type(node), ()))
    foreign = {name: value for name in names if hasattr(value := getattr(node, name, None), "__array__")}
    arrays = {
        name: _plain_array(value) for name, value in foreign.items() if not isinstance(value, np.ndarray | np.generic)
    }
    if not arrays:
        return node
    changed = copy.copy(node)
    for name, array in arrays.items():
        setattr(changed, name, array)
    return changed


def _plain_array(value: Any) -> Any:
    """Return a tensor, or another library's array, as numpy's; ``value`` if it cannot be one."""
    if hasattr(value, "detach"):  # a tensor that needs a gradient, or lies on a GPU
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() and value.dtype.itemsize < 4 else value
    try:
        array = np.asarray(value)
        return array.astype(np.float32) if array.dtype.kind == "V" else array  # bfloat16 of JAX
    except (ValueError, TypeError, RuntimeError):
        return value


def with_ends(graph: nir.NIRGraph, prefix: str = "") -> tuple[nir.NIRGraph, list[Mending]]:
    """Return ``graph`` with an Input and an Output, where one is missing and its place is clear.

    An Input is missing if there is none and a single node has no edge to it; Outputs are missing if
    there is none, and follow every node without an edge from it. A loop counts as its only neuron.
    An edge may already name the missing node. Nested graphs likewise, where edges from the outside
    need a single Output. Leading axes of -1 that an Input or Output states are left out.
    """
    made: list[Mending] = []
    nodes = dict(graph.nodes)
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            nodes[name], inner = with_ends(node, f"{prefix}{name}.")
            made += inner
        elif isinstance(node, PORTS) and (shape := _without_open_axes(node)):
            nodes[name] = copy.copy(node)
            _set_types(nodes[name], shape, shape)
            text = "×".join(map(str, shape))
            made.append(Mending(prefix + name, f"a leading axis of any size (-1) left out: its shape is {text}"))
    edges = [(str(a), str(b)) for a, b in graph.edges]
    names = dict.fromkeys([*nodes, *(name for edge in edges for name in edge)])
    kinds = {type(node) for node in nodes.values()}
    first = _dead_ends(nodes, names, [(b, a) for a, b in edges])
    last = _dead_ends(nodes, names, edges)
    if nir.Input not in kinds and len(first) == 1 and not isinstance(nodes.get(first[0]), nir.Output):
        (behind,) = first
        end = _end("input", behind, names) if behind in nodes else behind
        nodes = {end: nir.Input(None), **nodes}
        edges = [(end, behind), *edges] if end != behind else edges
        made.append(Mending(prefix + end, f"it was missing in front of {', '.join(b for a, b in edges if a == end)}"))
    if nir.Output not in kinds and len(names) > 1 and (not prefix or len(last) == 1):
        for before in last:
            if isinstance(nodes.get(before), nir.Input):
                continue
            end = _end("output", before if len(last) > 1 else "", names) if before in nodes else before
            names[end] = None
            nodes[end] = nir.Output(None)
            edges = [*edges, (before, end)] if end != before else edges
            made.append(Mending(prefix + end, f"it was missing behind {', '.join(a for a, b in edges if b == end)}"))
    if not made:
        return graph, made
    mended = copy.copy(graph)
    mended.nodes, mended.edges = nodes, edges
    return mended, made


def _without_open_axes(port: nir.Input | nir.Output) -> Shape | None:
    """Return the shape of a port behind leading axes of -1, a batch of any size; ``None`` if it has
    none.
    """
    try:
        shape = stated_shape(port)
    except (ValueError, TypeError, OverflowError):  # a rule reports it
        return None
    rest = shape
    while rest and rest[0] == -1:
        rest = rest[1:]
    return rest if rest != shape and rest else None


def _dead_ends(nodes: Mapping[str, Any], names: Iterable[str], edges: Edges) -> list[str]:
    """Return the nodes from which no edge leads on, and the only neuron of each such loop; nothing
    if a loop has several.
    """
    order = list(names)
    index = {name: number for number, name in enumerate(order)}
    pairs = [(index[a], index[b]) for a, b in edges]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    joins = csr_matrix((np.ones(len(pairs)), (rows, columns)), shape=(len(order),) * 2)
    count, component = connected_components(joins, directed=True, connection="strong")
    left = {component[a] for a, b in pairs if component[a] != component[b]}
    found = []
    for number in sorted(set(range(count)) - left, key=lambda each: int(np.argmax(component == each))):
        members = [order[place] for place in np.flatnonzero(component == number)]
        if len(members) > 1:
            members = [name for name in members if isinstance(nodes.get(name), (*SPIKING, *READ_OUT, nir.NIRGraph))]
        if len(members) != 1:
            return []
        found += members
    return found


def _end(kind: str, node: str, taken: Iterable[str]) -> str:
    """Return a free name for an end."""
    names = [kind, f"{kind}_{node}", *(f"{kind}_{number}" for number in range(1, 1000))]
    return next(name for name in names if name not in taken)


def mend_shapes(nodes: Mapping[str, Any], edges: Edges) -> tuple[dict[str, Any], Shapes, Shapes, list[Mending]]:
    """Return (nodes, input shapes, output shapes, what was mended).

    Args:
        nodes: every primitive by name; ``None`` for a node that cannot be read.
        edges: those between them.
    """
    mended = dict(nodes)
    # Every round removes an axis, or gives a node the shape of its edge for good.
    while True:
        taken, given = infer_shapes(mended, edges)
        changed: dict[str, Any] = {}
        for a, b in edges:
            changed |= _agreed(mended | changed, edges, (a, b), given, taken) if not changed.keys() & {a, b} else {}
        if not changed:
            break
        mended |= changed
    notes: dict[str, str] = {}
    for name, shape in taken.items():
        if mended[name] is None or shape is None:
            continue
        mended[name] = _filled(mended[name], shape, given[name])
        if mended[name] is not nodes[name]:
            notes[name] = _words(nodes[name], mended[name], shape)
    return mended, taken, given, [Mending(name, text) for name, text in notes.items() if text]


def _agreed(
    nodes: Mapping[str, Any], edges: Edges, edge: tuple[str, str], given: Shapes, taken: Shapes
) -> dict[str, Any]:
    """Return the node that is changed so that the shapes at both ends of an edge may agree, by its
    name; nothing where they do, or where nothing helps.
    """
    a, b = edge
    out, into = given.get(a), taken.get(b)
    owner = _owner(nodes, edges, a)
    if into is None or out == into or nodes.get(owner) is None:
        return {}
    changed = None
    if isinstance(nodes[owner], nir.Flatten):
        changed = _lower_dimensions(nodes[owner], taken[owner], into)
    per_channel = isinstance(nodes[b], ELEMENTWISE) and stated_shape(nodes[b]) == into
    if changed is None and out is not None and per_channel and _spreads(into, out):
        changed, owner = _spread(nodes[b], out), b
    if changed is None and out is not None:
        owner, extra = (owner, axes_in_front(out, into)) if len(out) > len(into) else (b, axes_in_front(into, out))
        if extra and set(extra) == {1}:
            changed = _without_axes(nodes[owner], len(extra))
    return {} if changed is None else {owner: changed}


def _owner(nodes: Mapping[str, Any], edges: Edges, name: str) -> str:
    """Return the node whose shape ``name`` passes on: itself, unless it has none of its own."""
    seen = set()
    while (
        name not in seen and isinstance(nodes.get(name), (*ELEMENTWISE, *PORTS)) and stated_shape(nodes[name]) is None
    ):
        seen.add(name)
        name = next((a for a, b in edges if b == name), name)
    return name


def _spreads(own: Shape, shape: Shape) -> bool:
    """Return True for (C, 1, 1) of (C, H, W): parameters per channel."""
    pairs = zip(own, shape, strict=False)
    return len(own) == len(shape) and all(size in (1, wanted) for size, wanted in pairs)


def _lower_dimensions(flat: nir.Flatten, shape: Shape | None, wanted: Shape) -> nir.Flatten | None:
    """Return a Flatten with lower dimensions, without counting axes of batch or time, if then it
    gives ``wanted``.
    """
    start, end = int(flat.start_dim), int(flat.end_dim)
    for lower in range(1, start + 1):
        moved = start - lower, end - lower if end >= lower else min(end, 0)
        found = None if shape is None else flattened(shape, *moved)
        if found is not None and (found == wanted or set(axes_in_front(found, wanted) or (0,)) == {1}):
            changed = copy.copy(flat)
            changed.start_dim, changed.end_dim = moved
            return changed
    return None


def _without_axes(node: Any, count: int) -> Any:
    """Return ``node`` without ``count`` leading axes of size 1; ``None`` if it has none of its
    own.
    """
    shape = stated_shape(node)
    if shape is None or len(shape) <= count or set(shape[:count]) != {1}:
        return None
    if isinstance(node, ELEMENTWISE):
        return _spread(node, shape[count:])
    changed = copy.copy(node)
    if isinstance(node, PORTS):
        _set_types(changed, shape[count:], shape[count:])
    elif isinstance(node, nir.Flatten):
        start, end = (dim if dim < 0 else max(dim - count, 0) for dim in (int(node.start_dim), int(node.end_dim)))
        changed.start_dim, changed.end_dim = start, end
        _set_types(changed, shape[count:], flattened(shape[count:], start, end))
    elif isinstance(node, nir.Affine | nir.Linear):
        changed.weight = np.asarray(node.weight)[(0,) * count]
    else:
        return None
    return changed


def _filled(node: Any, shape: Shape, out: Shape | None) -> Any:
    """Return ``node`` with everything that its input shape says, as a copy if that is more than it
    says itself.
    """
    if isinstance(node, ELEMENTWISE):
        full = all(np.shape(getattr(node, name)) == shape for name in PARAMETERS[type(node)])
        return node if full else _spread(node, shape) or node
    if isinstance(node, PORTS) or (isinstance(node, nir.Flatten) and out is not None):
        if stated_shape(node) == shape:
            return node
        changed = copy.copy(node)
        _set_types(changed, shape, out)
        return changed
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        bias = _fitted(node.bias, (np.shape(node.weight)[0],)) if np.ndim(node.weight) > 2 else node.bias
        if stated_shape(node) == shape and bias is node.bias:
            return node
        changed = copy.copy(node)
        changed.bias = bias
        if len(shape) == np.ndim(node.weight) - 1 and stated_shape(node) is None:
            changed.input_shape = shape[1] if isinstance(node, nir.Conv1d) else shape[1:]
        _set_types(changed, shape, out)
        return changed
    if isinstance(node, nir.Affine) and out is not None:
        bias = _fitted(node.bias, out)
        if bias is node.bias:
            return node
        changed = copy.copy(node)
        changed.bias = bias
        return changed
    return node


def _spread(node: Any, shape: Shape) -> Any:
    """Return a copy of a neuron, Scale or Delay whose parameters have ``shape``; ``None`` if they
    do not fit it.
    """
    changed = copy.copy(node)
    for name in PARAMETERS[type(node)]:
        values = _fitted(getattr(node, name), shape)
        if np.shape(values) != shape:
            return None
        setattr(changed, name, values)
    _set_types(changed, shape, shape)
    return changed


def _fitted(values: Any, shape: Shape) -> Any:
    """Return ``values`` with ``shape``: without leading axes of size 1, single values repeated;
    unchanged if they do not fit.
    """
    array: NDArray[Any] = np.asarray(values)
    own = array.shape
    while len(own) > len(shape) and own[0] == 1:
        own = own[1:]
    fits = own in ((), shape) or set(own) == {1} or _spreads(own, shape)
    if array.shape == shape or array.dtype.kind not in "fiub" or not fits:
        return values
    return np.broadcast_to(array.reshape(own), shape).copy()


def _set_types(node: Any, shape: Shape, out: Shape | None) -> None:
    node.input_type = {"input": np.array(shape)}
    node.output_type = {"output": None if out is None else np.array(out)}


def _words(before: Any, after: Any, shape: Shape) -> str:
    """Return the difference between a node and its mended copy, in words."""
    said = []
    text = "×".join(map(str, shape))
    if isinstance(before, nir.Flatten) and (before.start_dim, before.end_dim) != (after.start_dim, after.end_dim):
        dims = f"start_dim {before.start_dim}, end_dim {before.end_dim} are {after.start_dim}, {after.end_dim}"
        said.append(f"{dims} without an axis of batch or time")
    if isinstance(before, ELEMENTWISE):
        names = PARAMETERS[type(before)]
        own = parameter_shape(before)
        if all(np.size(getattr(before, name)) == 1 for name in names):
            said.append(f"its single values stand for {text} elements, as the edges say")
        elif axes_in_front(own, shape):
            said.append(f"{_axes(axes_in_front(own, shape))} of its parameters left out")
        else:
            said.append(f"its parameters are spread over {text} elements")
    elif isinstance(before, nir.Affine | nir.Linear | nir.Conv1d | nir.Conv2d):
        if np.ndim(before.weight) != np.ndim(after.weight):
            said.append(f"{_axes((1,) * (np.ndim(before.weight) - np.ndim(after.weight)))} of its weight left out")
        if hasattr(before, "bias") and np.shape(before.bias) != np.shape(after.bias):
            said.append("its bias has one value per output")
    stated = stated_shape(before)
    if isinstance(before, (*PORTS, nir.Flatten, nir.Conv1d, nir.Conv2d)) and stated != shape:
        dropped = axes_in_front(stated, shape) if stated else None
        said.append(
            f"{_axes(dropped)} left out: its shape is {text}" if dropped else f"its shape is {text}, from the edges"
        )
    return "; ".join(said)


def _axes(sizes: Shape | None) -> str:
    return "a leading axis of size 1" if len(sizes or ()) == 1 else f"{len(sizes or ())} leading axes of size 1"
