"""Adaptive neurons: a spike raises threshold and refractory state, which decay; v is not reset."""

from __future__ import annotations

from typing import Any

from ashneuro.simulation.emulator.dynamics.step import Neurons


def start(neurons: Neurons, zero: Any) -> tuple[Any, ...]:
    """Return (threshold, refractory state): v_threshold and 0."""
    return zero + neurons.v_threshold, zero


def step(neurons: Neurons, before: Any, v: Any, more: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], Any]:
    """Return (v, (threshold, refractory state), spikes)."""
    theta, r = more
    where = neurons.xp.where
    theta = neurons.decay(theta - neurons.v_threshold, "d_threshold") + neurons.v_threshold
    r = neurons.decay(r, "d_refractory")
    spikes = v - r >= theta
    raised = where(spikes, theta + neurons.parameters["threshold_step"], theta)
    return v, (raised, where(spikes, r + 2 * theta, r)), spikes
