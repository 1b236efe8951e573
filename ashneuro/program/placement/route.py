"""Traffic on the mesh: the cores that a neuron's spikes reach, and the hops on the way.

A message is sent once per core that a spike reaches. Hops are counted along dimension-ordered
routes, east–west and north–south apart; between chips only the crossing is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ashneuro.program.placement.placement import LayerPlacement, Placement
from ashneuro.program.program import Layer, Program, Synapse
from ashneuro.program.synapse import matrix, sparse


@dataclass(frozen=True)
class Traffic:
    """Messages of one layer on the mesh.

    Args:
        messages: spikes times the cores that each reaches.
        local: of these, messages within a tile.
        east_west, north_south: hops of all messages within their chip.
        crossings: messages to another chip.
    """

    messages: int
    local: int
    east_west: int
    north_south: int
    crossings: int


def traffic(program: Program, placement: Placement, counts: Mapping[str, NDArray[Any]]) -> dict[str, Traffic]:
    """Return the traffic of each layer.

    Args:
        counts: spikes per neuron, in the layer's shape, by layer.
    """
    tiles = {core: placement.tile(core) for core in range(placement.cores)}
    result = {}
    for source in placement.layers:
        messages = local = east_west = north_south = crossings = 0
        for target, sent in _sent(program, placement, source, np.asarray(counts[source.layer])):
            for row, column in zip(*np.nonzero(sent), strict=True):
                number = int(sent[row, column])
                here, there = tiles[source.first_core + int(row)], tiles[target.first_core + int(column)]
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
    """Return the messages that the busiest core of each layer receives; arguments as `traffic`."""
    sums = {placed.layer: np.zeros(placed.cores, np.int64) for placed in placement.layers}
    for source in placement.layers:
        for target, sent in _sent(program, placement, source, np.asarray(counts[source.layer])):
            sums[target.layer] += sent.sum(axis=0)
    return {name: int(cores.max()) for name, cores in sums.items()}


def out_axons(program: Program, placement: Placement) -> dict[str, int]:
    """Return the output axons of each layer's fullest core: one per neuron and core reached."""
    result = {}
    for source in placement.layers:
        sums = [sent.sum(axis=1) for _, sent in _sent(program, placement, source, np.ones(source.shape, np.int64))]
        result[source.layer] = int(np.sum(sums, axis=0).max()) if sums else 0
    return result


def _sent(
    program: Program, placement: Placement, source: LayerPlacement, counts: NDArray[Any]
) -> Iterator[tuple[LayerPlacement, NDArray[np.int64]]]:
    """Iterate over the layers that ``source`` feeds, with the messages between cores.

    Messages: (cores of the source, cores of the layer).
    """
    for layer in program.layers:
        synapses = [connection.synapse for connection in layer.connections if connection.source == source.layer]
        if not synapses:
            continue
        target = placement.layer(layer.name)
        # However many synapses join two layers, a spike is sent to a core once.
        sent = [_between(synapse, layer, source, target, counts.reshape(source.shape)) for synapse in _merged(synapses)]
        yield target, np.maximum.reduce(sent)


def _merged(synapses: Sequence[Synapse | None]) -> Iterator[Synapse | None]:
    """Iterate over the synapses between two layers, with all sparse ones merged into one.

    Sparse synapses that differ in delay may reach different cores; a spike goes to the union of
    them, once each.

    Sparse synapses that differ in delay reach different neurons, so their messages add up; those of
    other kinds reach the same cores, and the widest reach counts.
    """
    lists = [synapse for synapse in synapses if synapse is not None and synapse.kind == "sparse"]
    yield from (synapse for synapse in synapses if synapse is None or synapse.kind != "sparse")
    if lists:
        first, *rest = lists
        yield first if not rest else sparse(sum(map(_pattern, rest), _pattern(first)), first.in_shape, first.out_shape)


def _between(
    synapse: Synapse | None, layer: Layer, source: LayerPlacement, target: LayerPlacement, counts: NDArray[Any]
) -> NDArray[np.int64]:
    """Return the messages (cores of the source, cores of the target) through one synapse."""
    # A compiled dense matrix keeps its zeros: every neuron reaches every core.
    if synapse is not None and synapse.kind == "dense" and len(target.shape) == 1:
        sums = np.array([int(counts[block].sum()) for block in source.blocks()], np.int64)
        return np.repeat(sums[:, None], target.cores, axis=1)
    if synapse is not None and (synapse.kind in ("dense", "sparse") or synapse.in_shape != source.shape):
        return _by_matrix(synapse, source, target, counts)
    # Convolutions and scalings are separable: an input reaches a block if it does along every axis.
    axes = [_reach(synapse, target, axis) for axis in range(len(source.shape))]
    rows = []
    for block in source.blocks():
        sums = counts[block].astype(np.int64)
        for axis, part in zip(axes, block, strict=True):  # ends with shape (blocks along C, H, W)
            sums = np.tensordot(sums, axis[part], axes=(0, 0))
        rows.append(sums.ravel())
    return np.array(rows, np.int64)


def _reach(synapse: Synapse | None, target: LayerPlacement, axis: int) -> NDArray[np.int64]:
    """Return a 0/1 matrix (inputs, blocks) along one axis: 1 where an input reaches a block."""
    parts, part = target.grid[axis], target.block[axis]
    if synapse is None or synapse.kind == "scale":
        size = target.shape[axis]
        reached = np.zeros((size, parts), np.int64)
        reached[np.arange(size), np.arange(size) // part] = 1
        return reached
    size = synapse.in_shape[axis]
    reached = np.zeros((size, parts), np.int64)
    if axis == 0:  # channels: all outputs of the input's group
        per_group = synapse.weight.shape[0] // synapse.groups
        outputs = np.arange(synapse.weight.shape[0])
        for channel in range(size):
            group = channel // synapse.weight.shape[1]
            reached[channel, np.unique(outputs[group * per_group : (group + 1) * per_group] // part)] = 1
        return reached
    for tap in range(synapse.weight.shape[1 + axis]):
        first = tap * synapse.dilation[axis - 1] - synapse.padding[axis - 1][0]
        pixel = np.arange(target.shape[axis]) * synapse.stride[axis - 1] + first
        inside = (pixel >= 0) & (pixel < size)
        reached[pixel[inside], np.flatnonzero(inside) // part] = 1
    return reached


def _by_matrix(
    synapse: Synapse, source: LayerPlacement, target: LayerPlacement, counts: NDArray[Any]
) -> NDArray[np.int64]:
    reached = (_membership(target) @ _pattern(synapse)).toarray() > 0  # (cores of the target, inputs)
    return np.asarray(_membership(source).multiply(counts.ravel()) @ reached.T.astype(np.int64), np.int64)


def _pattern(synapse: Synapse) -> csr_matrix:
    """Return a 0/1 matrix (outputs, inputs): 1 where a weight joins them."""
    weights = matrix(synapse)
    return csr_matrix((np.ones(weights.nnz, np.int64), weights.indices, weights.indptr), shape=weights.shape)


def _membership(placed: LayerPlacement) -> csr_matrix:
    """Return a 0/1 matrix (cores, neurons): 1 where a core holds a neuron."""
    core = np.empty(placed.shape, np.int64)
    for number, block in enumerate(placed.blocks()):
        core[block] = number
    size = math.prod(placed.shape)
    return csr_matrix((np.ones(size, np.int64), (core.ravel(), np.arange(size))), shape=(placed.cores, size))
