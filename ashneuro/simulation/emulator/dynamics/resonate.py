"""Resonators: a complex state turns and decays; v is its real part, w its imaginary part."""

from __future__ import annotations

from typing import Any

from ashneuro.simulation.emulator.dynamics.step import Neurons


def start(neurons: Neurons, zero: Any) -> tuple[Any, ...]:
    """Return (w,)."""
    return (zero,)


def step(neurons: Neurons, before: Any, x: Any, more: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], Any]:
    """Return (v, (w,), spikes) of RF: v passes the threshold while w crosses 0 upwards."""
    (last,) = more
    v, w = _turned(neurons, before, last, x)
    return v, (w,), (v >= neurons.v_threshold) & (w >= 0) & (last < 0)


def step_izhikevich(neurons: Neurons, before: Any, x: Any, more: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], Any]:
    """Return (v, (w,), spikes) of RF_IZ: w reaches the threshold, and is set just below it."""
    (last,) = more
    v, w = _turned(neurons, before, last, x)
    spikes = w >= neurons.v_threshold
    where = neurons.xp.where
    return where(spikes, 0 * v, v), (where(spikes, neurons.v_threshold - neurons.smallest, w),), spikes


def _turned(neurons: Neurons, v: Any, w: Any, x: Any) -> tuple[Any, Any]:
    """Return (v, w) after a step, in Lava's order of operations."""
    decay = neurons.decay
    x, y = x if isinstance(x, tuple) else (x, 0 * x)
    turned_v = decay(v, "cos") - decay(w, "sin") + x
    turned_w = decay(v, "sin") + decay(w, "cos") + y
    return neurons.saturate(turned_v), neurons.saturate(turned_w)
