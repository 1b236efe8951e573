"""How much work a network does for the samples it saw: counted, before any joule is estimated.

Definitions follow NeuroBench where it has one; each is stated at the field that holds it. Every number is a total over
``samples`` inferences; divide by `Workload.samples` for one inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Place = Literal["host", "deployed"]


@dataclass(frozen=True)
class LayerWorkload:
    """Work of one layer over all samples of a `Workload`.

    Args:
        name: layer name.
        place: ``"host"`` (GPU or CPU) or ``"deployed"`` (the spiking part).
        neurons: neurons, or output elements of a host layer.
        parameters: weights and biases.
        dense_macs: products that a dense ANN layer of this shape does, padding excluded; on the deployed side the
            same for every step.
        effective_macs: of these, products of a non-zero activation that is not 0/±1 with a non-zero weight; ``None``
            where activations were not observed.
        effective_acs: synaptic operations (synops): one per spike and non-zero weight that it meets, padding excluded.
        updates_active: neuron-steps with a state or an input other than zero.
        updates_inactive: all other neuron-steps. Both ``None`` for host layers.
        messages: spikes (or graded values) sent to other layers.
        bytes_in: values that cross from host to chip, in bytes (deployed input port) or ``0``.
        firing_rate: spikes per neuron and step, ``None`` where nothing spikes.
    """

    name: str
    place: Place
    neurons: int
    parameters: int
    dense_macs: int
    effective_macs: int | None = None
    effective_acs: int = 0
    updates_active: int | None = None
    updates_inactive: int | None = None
    messages: int = 0
    bytes_in: int = 0
    firing_rate: float | None = None


@dataclass(frozen=True)
class Workload:
    """Work of a whole network: layers in order, over ``samples`` inferences of ``timesteps`` steps each."""

    samples: int
    timesteps: int
    layers: tuple[LayerWorkload, ...]

    def part(self, place: Place) -> Workload:
        """Return the host part or the deployed part alone."""
        return Workload(self.samples, self.timesteps, tuple(layer for layer in self.layers if layer.place == place))
