"""What a simulation counts, in a form that adds up."""

from __future__ import annotations

import math
from collections.abc import Mapping
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

    def __add__(self, other: Activity) -> Activity:
        both = self.active_updates is not None and other.active_updates is not None
        return Activity(
            counts=self.counts + other.counts,
            active_updates=self.active_updates + other.active_updates if both else None,  # type: ignore[operator]
            raster=_joined(self.raster, other.raster),
            binary=self.binary and other.binary,
            u=_joined(self.u, other.u),
            v=_joined(self.v, other.v),
        )


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

    def firing_rate(self, layer: str) -> float:
        """Return spikes per neuron and step."""
        activity = self.layers[layer]
        return activity.events / (activity.neurons * self.timesteps * self.samples)

    def __add__(self, other: SpikeRecord) -> SpikeRecord:
        same = (self.source, self.precision, self.timesteps) == (other.source, other.precision, other.timesteps)
        if not same or self.layers.keys() != other.layers.keys():
            raise ValueError("spike records of different programs, simulators or lengths do not add up")
        return SpikeRecord(
            self.source,
            self.precision,
            self.timesteps,
            self.samples + other.samples,
            {name: activity + other.layers[name] for name, activity in self.layers.items()},
            {name: activity + other.inputs[name] for name, activity in self.inputs.items()},
            None if self.stock_samples is None or other.stock_samples is None else self.stock_samples + other.stock_samples,
        )


def _joined(ours: NDArray[np.generic] | None, theirs: NDArray[np.generic] | None) -> NDArray[np.generic] | None:
    """Return the samples of both, one after the other."""
    return None if ours is None or theirs is None else np.concatenate([ours, theirs], axis=1)
