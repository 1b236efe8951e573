"""Published conditions for a spiking network to win, beside this network's own numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ashneuro.cost.workload import Workload


@dataclass(frozen=True)
class Threshold:
    """A published condition for a spiking network to win, and this network's reading.

    Args:
        condition: the condition.
        value, unit: this network's value.
        reading: comparison of the two, in words.
        source: the publication.
    """

    condition: str
    value: float | None
    unit: str
    reading: str
    source: str


def thresholds(hybrid: Workload) -> Iterator[Threshold]:
    """Yield the published conditions for which this network has a value."""
    # The limits are those of the publications, on their networks and hardware.
    density = hybrid.part("deployed").spikes_per_synapse
    if density is not None:
        reading = (
            "below the whole band" if density < 0.15 else "above the whole band: no ANN considered there is beaten"
        )
        if 0.15 <= density <= 1.38:
            reading = "inside the band: it depends on how the ANN is implemented"
        yield Threshold(
            "an IF network competes at 0.15–1.38 spikes per synapse and inference, "
            "depending on the ANN's implementation",
            density,
            "spikes per synapse and inference",
            reading,
            "Dampfhoffer et al., IEEE TETCI 7(3):731–741, 2023 (abstract)",
        )
    rate = hybrid.firing_rate
    # A condition on spikes: a rate of messages that carry numbers is not one.
    if rate is not None and not any(layer.message_bits for layer in hybrid.layers):
        steps = hybrid.timesteps
        reading = ("below" if rate < 0.057 else "not below") + (
            "" if steps == 5 else f"; stated for T = 5 and a VGG-16, this network has T = {steps}"
        )
        yield Threshold(
            "a spiking network needs a mean rate below 5.7 % at T = 5 to beat a quantised ANN "
            "with data movement counted",
            rate,
            "spikes per neuron and step",
            reading,
            "Yan, Bai, Wong, arXiv 2409.08290 v4 (abstract as listed)",
        )
