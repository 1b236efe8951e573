"""Which cores a neuron's spikes go to, and over how many hops: messages are sent once per core that they reach.

Hops are counted on a mesh with dimension-ordered routes, east–west and north–south apart; between chips only the crossing
is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ashneuro.program.program import Layer, Program, Synapse
from ashneuro.program.synapse import matrix, sparse

if TYPE_CHECKING:
    from ashneuro.program.placement.place import LayerPlacement, Placement


@dataclass(frozen=True)
class Traffic:
    """What the spikes of one layer cause on the mesh.

    Args:
        messages: spikes times the cores that each reaches.
        local: of these, within a tile.
        east_west, north_south: hops of all messages, on their chip.
        crossings: messages to another chip.
    """

    messages: int
    local: int
    east_west: int
    north_south: int
    crossings: int


def traffic(program: Program, placement: Placement, counts: Mapping[str, NDArray[Any]]) -> dict[str, Traffic]:
    """Return the traffic that each layer causes.

    Args:
        counts: spikes of every neuron, in the layer's shape, by layer.
    """
    places = {core: placement.position(core) for core in range(placement.cores)}
    result = {}
    for source in placement.layers:
        messages = local = east_west = north_south = crossings = 0
        for target, sent in _sent(program, placement, source, np.asarray(counts[source.layer])):
            for row, column in zip(*np.nonzero(sent), strict=True):
                number = int(sent[row, column])
                here, there = places[source.first_core + int(row)], places[target.first_core + int(column)]
                messages += number
                if here[0] != there[0]:
                    crossings += number
                    continue
                east_west += number * abs(here[1] - there[1])
                north_south += number * abs(here[2] - there[2])
                local += number * (here == there)
        result[source.layer] = Traffic(messages, local, east_west, north_south, crossings)
    return result


def received(program: Program, placement: Placement, counts: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """Return, per layer, the messages that its busiest core receives from other layers; ``counts`` as in `traffic`."""
    sums = {placed.layer: np.zeros(placed.cores, np.int64) for placed in placement.layers}
    for source in placement.layers:
        for target, sent in _sent(program, placement, source, np.asarray(counts[source.layer])):
            sums[target.layer] += sent.sum(axis=0)
    return {name: int(cores.max()) for name, cores in sums.items()}


def out_axons(program: Program, placement: Placement) -> dict[str, int]:
    """Return, per layer, the output axons of its fullest core: one per neuron and core that it reaches."""
    result = {}
    for source in placement.layers:
        sums = [sent.sum(axis=1) for _, sent in _sent(program, placement, source, np.ones(source.shape, np.int64))]
        result[source.layer] = int(np.sum(sums, axis=0).max()) if sums else 0
    return result


def _sent(
    program: Program, placement: Placement, source: LayerPlacement, counts: NDArray[Any]
) -> Iterator[tuple[LayerPlacement, NDArray[np.int64]]]:
    """Yield each layer that ``source`` feeds, with messages from core to core."""
    for layer in program.layers:
        synapses = [connection.synapse for connection in layer.connections if connection.source == source.layer]
        if not synapses:
            continue
        target = placement.layer(layer.name)
        # Several synapses between two layers: a spike is sent to a core once, and the synapse with the widest reach decides; lists of
        # synapses, as delays make them of one matrix, are one list again, for each may hold other neurons.
        ways = [_between(synapse, layer, source, target, counts.reshape(source.shape)) for synapse in _merged(synapses)]
        yield target, np.maximum.reduce(ways)


def _merged(synapses: Sequence[Synapse | None]) -> Iterator[Synapse | None]:
    """Yield the synapses between two layers, those that are lists as one."""
    lists = [synapse for synapse in synapses if synapse is not None and synapse.kind == "sparse"]
    yield from (synapse for synapse in synapses if synapse is None or synapse.kind != "sparse")
    if lists:
        first, *rest = lists
        yield first if not rest else sparse(sum(map(_pattern, rest), _pattern(first)), first.in_shape, first.out_shape)


def _between(
    synapse: Synapse | None, layer: Layer, source: LayerPlacement, target: LayerPlacement, counts: NDArray[Any]
) -> NDArray[np.int64]:
    if synapse is not None and synapse.kind == "dense" and len(target.shape) == 1:
        sums = np.array([int(counts[block].sum()) for block in source.blocks()], np.int64)
        return np.repeat(sums[:, None], target.cores, axis=1)
    if synapse is not None and (synapse.kind in ("dense", "sparse") or synapse.in_shape != source.shape):
        return _by_matrix(synapse, source, target, counts)
    axes = [_reach(synapse, target, axis) for axis in range(len(source.shape))]
    rows = []
    for block in source.blocks():
        sums = counts[block].astype(np.int64)
        for axis, part in zip(axes, block, strict=True):  # one axis after the other leaves (blocks along C, H, W)
            sums = np.tensordot(sums, axis[part], axes=(0, 0))
        rows.append(sums.ravel())
    return np.array(rows, np.int64)


def _reach(synapse: Synapse | None, target: LayerPlacement, axis: int) -> NDArray[np.int64]:
    """Return (inputs along the axis, blocks along the axis): whether the input meets a neuron of the block."""
    parts, part = target.grid[axis], target.block[axis]
    if synapse is None or synapse.kind == "scale":
        size = target.shape[axis]
        met = np.zeros((size, parts), np.int64)
        met[np.arange(size), np.arange(size) // part] = 1
        return met
    size = synapse.in_shape[axis]
    met = np.zeros((size, parts), np.int64)
    if axis == 0:
        per_group = synapse.weight.shape[0] // synapse.groups
        outputs = np.arange(synapse.weight.shape[0])
        for channel in range(size):
            group = channel // synapse.weight.shape[1]
            met[channel, np.unique(outputs[group * per_group : (group + 1) * per_group] // part)] = 1
        return met
    for tap in range(synapse.weight.shape[1 + axis]):
        place = (
            np.arange(target.shape[axis]) * synapse.stride[axis - 1]
            - synapse.padding[axis - 1][0]
            + tap * synapse.dilation[axis - 1]
        )
        inside = (place >= 0) & (place < size)
        met[place[inside], np.flatnonzero(inside) // part] = 1
    return met


def _by_matrix(
    synapse: Synapse, source: LayerPlacement, target: LayerPlacement, counts: NDArray[Any]
) -> NDArray[np.int64]:
    met = (_membership(target) @ _pattern(synapse)).toarray() > 0  # (cores of the target, inputs)
    return np.asarray(_membership(source).multiply(counts.ravel()) @ met.T.astype(np.int64), np.int64)


def _pattern(synapse: Synapse) -> csr_matrix:
    """Return (outputs, inputs): 1 where a weight joins them."""
    weights = matrix(synapse)
    return csr_matrix((np.ones(weights.nnz, np.int64), weights.indices, weights.indptr), shape=weights.shape)


def _membership(placed: LayerPlacement) -> csr_matrix:
    """Return (cores, neurons): which neuron lies on which core."""
    core = np.empty(placed.shape, np.int64)
    for number, block in enumerate(placed.blocks()):
        core[block] = number
    size = math.prod(placed.shape)
    return csr_matrix((np.ones(size, np.int64), (core.ravel(), np.arange(size))), shape=(placed.cores, size))
