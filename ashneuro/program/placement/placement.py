"""Placements: the capacities of a chip's cores, and the neurons on each core."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ashneuro.program.program import Shape


@dataclass(frozen=True)
class CoreLimits:
    """Capacities of a core, and the mesh of cores on a chip; ``None`` where one is not known.

    Args:
        chip: name, for messages.
        neurons: neurons per core.
        synapse_words: 64-bit words of synaptic memory per core.
        synapse_bits: bits per stored synapse that is not shared.
        axon_bits: bits per input axon besides its synapses.
        shared_weight_bits: bits per weight of a convolution's kernel, which a core stores once.
        in_axons: input axons per core.
        out_axons: output axons per core; a neuron takes one for every core that it reaches.
        shared_in_axons: the inputs of a convolution share one axon, instead of one each.
        cores_per_tile, tiles_wide, cores_per_chip, chips_per_board: the mesh.
    """

    chip: str
    neurons: int
    synapse_words: int
    synapse_bits: float
    axon_bits: float
    shared_weight_bits: float
    in_axons: int | None
    out_axons: int | None
    shared_in_axons: bool
    cores_per_tile: int
    tiles_wide: int
    cores_per_chip: int
    chips_per_board: int | None = None


@dataclass(frozen=True)
class LayerPlacement:
    """The cores of one layer: equal blocks of neurons, one block per core.

    Args:
        layer: name of the layer.
        shape: shape of the layer.
        block: shape of the neurons of one core; W may be a power of two beyond the layer's edge.
        first_core: number of its first core; the others follow.
        neurons: neurons allocated per core.
        synapse_words: 64-bit words of synapses per core.
        in_axons: input axons per core.
        out_axons: output axons of the fullest core.
        demands: cores that each limit alone would ask for, by limit.
    """

    layer: str
    shape: Shape
    block: Shape
    first_core: int
    neurons: int
    synapse_words: int
    in_axons: int
    out_axons: int = 0
    demands: Mapping[str, int] = field(default_factory=dict)

    @property
    def grid(self) -> Shape:
        """Number of blocks along each axis."""
        return tuple(math.ceil(size / part) for size, part in zip(self.shape, self.block, strict=True))

    @property
    def cores(self) -> int:
        """Number of cores."""
        return math.prod(self.grid)

    @property
    def block_share(self) -> float:
        """Share of the layer's neurons that the fullest core holds."""
        return math.prod(min(part, size) / size for part, size in zip(self.block, self.shape, strict=True))

    @property
    def limited_by(self) -> str:
        """The limit that asks for the most cores; "" where one core holds the layer."""
        return max(self.demands, key=lambda name: self.demands[name]) if self.cores > 1 else ""

    def blocks(self) -> Iterator[tuple[slice, ...]]:
        """Iterate over the neurons of each core, as slices of the layer, in the cores' order."""
        for index in np.ndindex(*self.grid):
            yield tuple(
                slice(i * part, min((i + 1) * part, size))
                for i, part, size in zip(index, self.block, self.shape, strict=True)
            )


@dataclass(frozen=True)
class Placement:
    """A program on the cores of a chip.

    Args:
        limits: capacities of the chip.
        layers: the cores of each layer, in the program's order.
    """

    limits: CoreLimits
    layers: tuple[LayerPlacement, ...]

    @property
    def cores(self) -> int:
        """Number of cores."""
        return sum(layer.cores for layer in self.layers)

    @property
    def chips(self) -> int:
        """Number of chips, each filled before the next."""
        return math.ceil(self.cores / self.limits.cores_per_chip)

    @property
    def boards(self) -> int | None:
        """Number of boards; ``None`` where the chips per board are not known."""
        return None if self.limits.chips_per_board is None else math.ceil(self.chips / self.limits.chips_per_board)

    @property
    def tiles(self) -> int:
        """Number of tiles in use."""
        return math.ceil(self.cores / self.limits.cores_per_tile)

    def layer(self, name: str) -> LayerPlacement:
        """Return the cores of the layer called ``name``."""
        return next(layer for layer in self.layers if layer.layer == name)

    def tile(self, core: int) -> tuple[int, int, int]:
        """Return (chip, column, row) of the tile of a core."""
        chip, rest = divmod(core, self.limits.cores_per_chip)
        row, column = divmod(rest // self.limits.cores_per_tile, self.limits.tiles_wide)
        # Tiles are numbered along the rows, there and back, so that consecutive cores are
        # neighbours.
        return chip, column if row % 2 == 0 else self.limits.tiles_wide - 1 - column, row
