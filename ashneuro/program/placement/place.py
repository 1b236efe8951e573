"""Place the layers of a program on the cores of a chip. Start at `place`.

A layer is cut into equal blocks along its axes, one block per core. No compiler of these chips is
public, so the rules are those that printed partitions of Loihi 2 obey (`docs/placement.md` shows
where they fail):

- A layer with axes (C, W) or (C, H, W) is cut into blocks whose W is a power of two, and whose H is
  the layer's, halved and rounded up any number of times; of all blocks that fit a core, those with
  the fewest cores, of these the most square. C is halved only while nothing fits. The last block of
  a row may be smaller, but takes a core all the same.
- A flat layer (N) is divided by the factor by which its largest demand exceeds a core; the divisor
  doubles until all fits.
- A core holds neurons of one pair of decays, as each is a population in hardware: a layer with n_k
  neurons of pair k takes at least Σ ⌈n_k / neurons per core⌉ cores.
- Layers do not share a core. Cores are numbered in the order of the layers; tiles and chips are
  filled in that order, and the tiles of a chip are numbered row by row, there and back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import GraphError
from ashneuro.program.placement.placement import CoreLimits, LayerPlacement, Placement
from ashneuro.program.placement.route import out_axons
from ashneuro.program.program import Layer, Program, Shape, Synapse, decay_groups
from ashneuro.program.synapse import fan_out

ROUNDS = 12  # of cutting layers finer until their output axons fit


def place(program: Program, limits: CoreLimits) -> Placement:
    """Return the placement of ``program`` on cores with these ``limits``.

    Raises:
        GraphError: a single neuron of a layer needs more than a core has (all such layers at once),
            or no cut makes the output axons few enough.
    """
    # Output axons depend on how the layers behind are cut, so they are known only once all layers
    # are placed.
    least = dict.fromkeys((layer.name for layer in program.layers), 1)
    for _ in range(ROUNDS):
        first, placed, misfits = 0, [], []
        for layer in program.layers:
            groups = decay_groups(layer, program.precision)
            found = _partition(layer, limits, least[layer.name])
            # The first cut tells how many neurons fit a core.
            if found is not None and _parts(layer, found) < _populations(groups, found):
                found = _partition(layer, limits, _populations(groups, found))
            if found is None:
                misfits.append(f"{layer.name}: {_needs(layer, limits)}")
                continue
            placed.append(_placed(layer, limits, found, first, groups))
            first += placed[-1].cores
        if misfits:
            raise GraphError(
                f"the network does not fit {limits.chip}",
                "; ".join(misfits),
                "make those layers narrower, split them, or choose another target",
            )
        axons = out_axons(program, Placement(limits, tuple(placed)))
        result = Placement(limits, tuple(_with_axons(one, axons[one.layer], limits) for one in placed))
        full = [one for one in result.layers if limits.out_axons is not None and one.out_axons > limits.out_axons]
        if not full:
            return result
        sizes = {one.layer: math.prod(one.shape) for one in full}
        if any(one.cores == sizes[one.layer] for one in full):
            break  # each neuron has a core of its own already
        for one in full:
            assert limits.out_axons is not None
            asked = math.ceil(one.cores * one.out_axons / limits.out_axons)
            # At least one core more, or a layer whose estimate rounds down would never change.
            least[one.layer] = min(sizes[one.layer], max(asked, one.cores + 1))
    crowded = ", ".join(f"{one.layer} {one.out_axons:,}" for one in full)
    raise GraphError(
        f"the network does not fit {limits.chip}",
        f"output axons per core, at most {limits.out_axons:,}, stay too many however the layers are cut: {crowded}",
        "make the layers that they feed smaller, or choose another target",
    )


def _partition(layer: Layer, limits: CoreLimits, least: int) -> Shape | None:
    """Return the block of neurons of one core, with at least ``least`` cores in all.

    ``None`` where not even one neuron fits a core.
    """
    if len(layer.shape) == 1:
        return _divided(layer, limits, least)
    channels, *heights, width = layer.shape
    widths = [1 << power for power in range((width - 1).bit_length() + 1)]
    for part in _halves(channels):
        best: tuple[int, float, Shape] | None = None
        for inner in itertools.product(*(_halves(size) for size in heights), widths):
            block = (part, *inner)
            cores = _parts(layer, block)
            if cores < least or not _fits(
                limits, math.prod(block), _words(layer, limits, block), _axons(layer, limits, block)
            ):
                continue
            # The second criterion is 0 for a square block of pixels.
            candidate = (cores, abs(math.log(inner[-1] / inner[0])), block)
            best = candidate if best is None or candidate < best else best
        if best is not None:
            return best[2]
    return None


def _parts(layer: Layer, block: Shape) -> int:
    """Number of blocks in a layer."""
    return math.prod(math.ceil(size / side) for size, side in zip(layer.shape, block, strict=True))


def _populations(groups: list[int], block: Shape) -> int:
    """Number of cores of ``block`` neurons that groups of neurons with equal decays take."""
    return sum(math.ceil(count / math.prod(block)) for count in groups) if len(groups) > 1 else 1


def _divided(layer: Layer, limits: CoreLimits, least: int) -> Shape | None:
    size = layer.shape[0]
    demand = max(
        size / limits.neurons,
        _words(layer, limits, layer.shape) / limits.synapse_words,
        (_axons(layer, limits, layer.shape) / limits.in_axons) if limits.in_axons else 0.0,
    )
    divisor = max(least, math.ceil(demand), 1)
    while True:
        # Rounding a part up can leave fewer parts than were asked for.
        block = (min(math.ceil(size / divisor), size // least),)
        if _fits(limits, block[0], _words(layer, limits, block), _axons(layer, limits, block)):
            return block
        if block == (1,):
            return None
        divisor *= 2


def _halves(size: int) -> list[int]:
    found = [size]
    while found[-1] > 1:
        found.append(math.ceil(found[-1] / 2))
    return found


def _fits(limits: CoreLimits, neurons: int, words: int, axons: int) -> bool:
    return (
        neurons <= limits.neurons
        and words <= limits.synapse_words
        and (limits.in_axons is None or axons <= limits.in_axons)
    )


def _placed(layer: Layer, limits: CoreLimits, block: Shape, first: int, groups: list[int]) -> LayerPlacement:
    words, axons, whole = _words(layer, limits, block), _axons(layer, limits, block), layer.shape
    demands = {
        "neurons": math.ceil(math.prod(whole) / limits.neurons),
        "synapse words": math.ceil(_words(layer, limits, whole) / limits.synapse_words),
    }
    if limits.in_axons:
        demands["input axons"] = math.ceil(_axons(layer, limits, whole) / limits.in_axons)
    if len(groups) > 1:
        demands["pairs of decays"] = _populations(groups, (min(limits.neurons, layer.size),))
    return LayerPlacement(layer.name, whole, block, first, math.prod(block), words, axons, demands=demands)


def _with_axons(placed: LayerPlacement, fullest: int, limits: CoreLimits) -> LayerPlacement:
    demands = dict(placed.demands)
    if limits.out_axons:
        demands["output axons"] = math.ceil(placed.cores * fullest / limits.out_axons)
    return replace(placed, out_axons=fullest, demands=demands)


def _needs(layer: Layer, limits: CoreLimits) -> str:
    block = (1,) * len(layer.shape)
    words, axons = _words(layer, limits, block), _axons(layer, limits, block)
    parts = [f"one neuron takes {words:,} of {limits.synapse_words:,} synapse words"]
    if limits.in_axons is not None:
        parts.append(f"{axons:,} of {limits.in_axons:,} input axons")
    return " and ".join(parts)


def _shared(layer: Layer) -> list[Synapse]:
    """Return the convolutions and scalings: a core holds their weights once, or one per neuron."""
    synapses = (connection.synapse for connection in layer.connections)
    return [synapse for synapse in synapses if synapse is not None and synapse.kind in ("conv", "scale")]


def _lists(layer: Layer) -> Iterator[NDArray[np.int64]]:
    """Iterate over the sources of dense and sparse synapses: synapses per axon, (source neurons,).

    Connections from one source that differ in delay share its axons.
    """
    lengths: dict[str, NDArray[np.int64]] = {}
    for connection in layer.connections:
        synapse = connection.synapse
        if synapse is None or synapse.kind in ("conv", "scale"):
            continue
        if synapse.kind == "sparse":
            listed = fan_out(synapse)
        else:  # stored with its zeros
            listed = np.full(synapse.in_shape, layer.size // _copies(synapse))
        lengths[connection.source] = lengths.get(connection.source, 0) + listed.ravel()
    return iter(lengths.values())


def _copies(synapse: Synapse) -> int:
    """Number of times that a dense weight is applied, along the leading axes of its input."""
    return synapse.in_size // int(synapse.weight.shape[1])


def _words(layer: Layer, limits: CoreLimits, block: Shape) -> int:
    """Number of 64-bit words of synapses in a core with a ``block`` of neurons."""
    words = 0
    for synapse in _shared(layer):
        if synapse.kind == "conv":
            words += math.ceil(block[0] * math.prod(synapse.weight.shape[1:]) * limits.shared_weight_bits / 64)
        elif synapse.weight.size == 1 or _per_channel(synapse):
            words += math.ceil(block[0] * limits.shared_weight_bits / 64)
        else:
            words += math.prod(block) * math.ceil((limits.synapse_bits + limits.axon_bits) / 64)
    held = min(math.prod(block), layer.size)
    for lengths in _lists(layer):
        # Rounded up in whole numbers: as floats, 25 · (7 / 25) is above 7.
        used = -(-lengths[lengths > 0] * held // layer.size)
        words += int(np.ceil((used * limits.synapse_bits + limits.axon_bits) / 64).sum())
    return words


def _per_channel(synapse: Synapse) -> bool:
    weight = np.broadcast_to(synapse.weight, synapse.in_shape).reshape(synapse.in_shape[0], -1)
    return len(synapse.in_shape) > 1 and bool((weight == weight[:, :1]).all())


def _axons(layer: Layer, limits: CoreLimits, block: Shape) -> int:
    """Number of input axons of a core: its sources; inputs of a convolution may share one."""
    total = sum(int((lengths > 0).sum()) for lengths in _lists(layer))
    for synapse in _shared(layer):
        if limits.shared_in_axons:
            total += 1
        else:
            total += math.prod(block) if synapse.kind == "scale" else _receptive_field(synapse, block)
    return total


def _receptive_field(synapse: Synapse, block: Shape) -> int:
    """Number of inputs of a convolution that a block of its outputs reads."""
    out_channels, group_in, *kernel = synapse.weight.shape
    groups = min(synapse.groups, math.ceil(block[0] / (out_channels // synapse.groups)))
    spatial = (
        min(size, (part - 1) * step + gap * (taps - 1) + 1)
        for size, part, step, gap, taps in zip(
            synapse.in_shape[1:], block[1:], synapse.stride, synapse.dilation, kernel, strict=True
        )
    )
    return int(groups * group_in * math.prod(spatial))
