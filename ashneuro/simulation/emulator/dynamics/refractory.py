"""Refractory neurons: after a spike, v stays at its reset value for some steps."""

from __future__ import annotations

from typing import Any

from ashneuro.simulation.emulator.dynamics.step import Neurons


def start(neurons: Neurons, zero: Any) -> tuple[Any, ...]:
    """Return (n,): no neuron is refractory."""
    return (zero,)


def step(neurons: Neurons, before: Any, v: Any, more: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], Any]:
    """Return (v, (n,), spikes)."""
    (n,) = more
    where = neurons.xp.where
    v = where(n > 0, before, v)
    spikes = v > neurons.v_threshold
    left = where(n > 0, n - 1, n)
    return where(spikes, neurons.v_reset, v), (where(spikes, neurons.parameters["refractory_steps"], left),), spikes
