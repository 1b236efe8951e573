"""Ternary neurons: 1 above the upper threshold, −1 below the lower one; both reset v."""

from __future__ import annotations

from typing import Any

from ashneuro.simulation.emulator.dynamics.step import Neurons


def start(neurons: Neurons, zero: Any) -> tuple[Any, ...]:
    """Return (): there is no further state."""
    return ()


def step(neurons: Neurons, before: Any, v: Any, more: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], Any]:
    """Return (v, (), messages)."""
    where = neurons.xp.where
    above, below = v > neurons.v_threshold, v < neurons.v_reset - neurons.parameters["threshold_below"]
    return where(above | below, neurons.v_reset, v), (), where(above, 1, where(below, -1, 0))
