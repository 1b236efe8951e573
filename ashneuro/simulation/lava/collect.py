"""Collection of a layer's answers, from machine steps back to samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.program.program import Layer
from ashneuro.simulation.lava.network import LavaNetwork
from ashneuro.simulation.record import Activity
from ashneuro.simulation.units import read_out


class LayerCollector:
    """Counts of one layer and, if asked for, its raster.

    Args:
        samples: number of samples that run.
        keep: keep the raster of all samples; read-outs always are.
        selected: samples whose raster is kept in any case, see `selection`.
    """

    def __init__(self, network: LavaNetwork, layer: Layer, samples: int, keep: bool, selected: Sequence[int]) -> None:
        self.layer, self._network, self._samples = layer, network, samples
        self._rounds = -(-samples // network.width)
        self._counts, self._ones = np.zeros(layer.size, np.int64), np.zeros(layer.size, np.int64)
        self._keep = keep or not layer.neuron.spiking
        dtype = np.uint8 if layer.neuron.binary else np.float64
        self._kept = np.empty((self._rounds if self._keep else 0, network.timesteps, layer.size, network.width), dtype)
        # (index among the selected, round, column)
        self._selected = [(index, *divmod(sample, network.width)) for index, sample in enumerate(selected)]
        self._selection = np.empty((network.timesteps, len(selected), layer.size), dtype)

    def take(self, start: int, sent: NDArray[Any]) -> None:
        """Add the rows (steps, size) that the layer sent from machine step ``start`` on."""
        timesteps, width = self._network.timesteps, self._network.width
        for step, values in enumerate(sent.reshape(len(sent), self.layer.size, width), start - self.layer.depth):
            number, t = divmod(step, timesteps)
            if not 0 <= number < self._rounds:
                continue  # before the first sample has arrived, or after the last one
            if self.layer.neuron.spiking:
                filled = values[:, : self._samples - number * width]
                self._counts += np.count_nonzero(filled, axis=1) if width > 1 else filled[:, 0] != 0
                if self.layer.neuron.message.whole:
                    self._ones += np.count_nonzero(np.abs(filled) == 1, axis=1)
            if self._keep:
                self._kept[number, t] = values
            for index, round_, column in self._selected:
                if round_ == number:
                    self._selection[t, index] = values[:, column]

    def activity(self) -> Activity:
        """Return the activity over all samples."""
        raster = None
        if self._keep:
            ordered = self._kept.transpose(1, 0, 3, 2).reshape(self._network.timesteps, -1, *self.layer.shape)
            raster = self._read(ordered[:, : self._samples])
        neuron = self.layer.neuron
        return Activity(
            self._counts.reshape(self.layer.shape),
            None,
            raster,
            binary=neuron.binary,
            read_out=not neuron.spiking,
            ones=self._ones.reshape(self.layer.shape) if neuron.message.whole else None,
        )

    def selection(self) -> NDArray[Any]:
        """Return the raster (T, len(selected), *shape) of the selected samples."""
        return self._read(self._selection.reshape(*self._selection.shape[:2], *self.layer.shape))

    def _read(self, raster: NDArray[Any]) -> NDArray[Any]:
        return raster if self.layer.neuron.binary else read_out(self.layer, raster, self._network.program.precision)
