"""What a simulation counts, in a form that adds up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Where = Literal["torch", "loihi", "lava"]


@dataclass(frozen=True, eq=False)
class Activity:
    """Events of one population, summed over samples and steps.

    Args:
        counts: per neuron (shape of the population): spikes; for an input port: non-zero values sent; int64.
        active_updates: neuron-steps in which the neuron had a state or an input other than zero; ``None`` when the
            simulator cannot see it (Lava).
        raster: (T, B, *shape), uint8 spikes or float values, when it was asked for.
        binary: every value that the population sent was 0 or 1.
        u, v: (T, B, *shape), the current and the membrane potential after each step (v after its reset), in the
            arithmetic's own units, when traces were asked for.
    """

    counts: NDArray[np.int64]
    active_updates: int | None = None
    raster: NDArray[np.generic] | None = None
    binary: bool = True
    u: NDArray[np.generic] | None = None
    v: NDArray[np.generic] | None = None

    @classmethod
    def of_inputs(cls, sent: NDArray[Any]) -> Activity:
        """Return the activity of an input port that was sent ``sent`` (T, B, *shape)."""
        events = sent != 0
        return cls(counts=events.sum(axis=(0, 1), dtype=np.int64), binary=np.array_equal(events, sent))

    @property
    def neurons(self) -> int:
        """Number of neurons (or input lines)."""
        return math.prod(self.counts.shape)

    @property
    def events(self) -> int:
        """Spikes (or non-zero inputs), summed over the population."""
        return int(self.counts.sum())

    @classmethod
    def joined(cls, parts: Sequence[Activity]) -> Activity:
        """Return the activity of all samples of ``parts``, one after the other."""
        active = [part.active_updates for part in parts]
        return cls(
            counts=np.sum([part.counts for part in parts], axis=0, dtype=np.int64),
            active_updates=None if None in active else sum(active),  # type: ignore[arg-type]
            raster=_joined([part.raster for part in parts]),
            binary=all(part.binary for part in parts),
            u=_joined([part.u for part in parts]),
            v=_joined([part.v for part in parts]),
        )

    def __add__(self, other: Activity) -> Activity:
        return Activity.joined([self, other])


@dataclass(frozen=True, eq=False)
class SpikeRecord:
    """Spikes of a whole program over ``samples`` samples of ``timesteps`` steps. Shards of one run merge with ``+``.

    Args:
        source: which simulator produced it.
        precision: ``"float"`` or ``"integer"``.
        layers: activity of every population, by layer name, in program order.
        inputs: activity of every input port, by name.
        stock_samples: Lava: how many samples ran through Lava's own processes alone. The others ran through batched synapses,
            which had answered these samples alike.
    """

    source: Where
    precision: Literal["float", "integer"]
    timesteps: int
    samples: int
    layers: Mapping[str, Activity]
    inputs: Mapping[str, Activity] = field(default_factory=dict)
    stock_samples: int | None = None

    @property
    def rasters(self) -> dict[str, NDArray[Any]]:
        """Rasters (T, B, *shape) of the layers that keep one, by name."""
        kept = {name: activity.raster for name, activity in self.layers.items()}
        return {name: np.asarray(raster) for name, raster in kept.items() if raster is not None}

    def firing_rate(self, layer: str) -> float:
        """Return spikes per neuron and step."""
        activity = self.layers[layer]
        return activity.events / (activity.neurons * self.timesteps * self.samples)

    @classmethod
    def joined(cls, parts: Sequence[SpikeRecord]) -> SpikeRecord:
        """Return the record of all samples of ``parts``, one after the other.

        Raises:
            ValueError: they are of different programs, simulators or lengths.
        """
        first = parts[0]
        for part in parts:
            same = (first.source, first.precision, first.timesteps) == (part.source, part.precision, part.timesteps)
            if not same or first.layers.keys() != part.layers.keys():
                raise ValueError("spike records of different programs, simulators or lengths do not add up")
        stock = [part.stock_samples for part in parts]
        return cls(
            first.source,
            first.precision,
            first.timesteps,
            sum(part.samples for part in parts),
            {name: Activity.joined([part.layers[name] for part in parts]) for name in first.layers},
            {name: Activity.joined([part.inputs[name] for part in parts]) for name in first.inputs},
            None if None in stock else sum(stock),  # type: ignore[arg-type]
        )

    def __add__(self, other: SpikeRecord) -> SpikeRecord:
        return SpikeRecord.joined([self, other])


def _joined(parts: Sequence[NDArray[np.generic] | None]) -> NDArray[np.generic] | None:
    """Return the samples of all, one after the other; ``None`` where one has none."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return known[0] if len(known) == 1 else np.concatenate(known, axis=1)
