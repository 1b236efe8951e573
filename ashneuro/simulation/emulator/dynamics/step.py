"""Types of a step function, which computes what follows the integration of v in one timestep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ashneuro.spiking.dynamics import JUST_BELOW


def _as_it_is(v: Any) -> Any:
    return v


@dataclass(frozen=True, eq=False)
class Neurons:
    """Parameters of a population, as arrays of ``xp`` (numpy or torch) and in units of v.

    Args:
        decay: x, name of a decay → x after one step of it: a product, or Loihi's arithmetic.
        v_threshold, v_reset: arrays, or numbers.
        smallest: what the w of "izhikevich" neurons is set below their threshold.
        saturate: v → v within the bits of the state.
        parameters: the other parameters, by their names in a program.
    """

    xp: Any
    decay: Callable[[Any, str], Any]
    v_threshold: Any
    v_reset: Any
    parameters: Mapping[str, Any]
    smallest: float = JUST_BELOW
    saturate: Callable[[Any], Any] = _as_it_is


@dataclass(frozen=True)
class StepFunction:
    """A kind of dynamics.

    Args:
        start: neurons, zeros (B, *shape) → further state at the start of a sample.
        step: neurons, v of the last step, v as integrated from it, further state → (v, further
            state, spikes or other messages).
        bias_joins_current: in floats, v decays and then takes (u + bias) in one sum, not one after
            the other: Lava's order, on which the last bit depends.
        integrates: v is integrated as LIF's. ``False``: ``step`` gets what arrives in v instead, or
            (real, imaginary) input.
    """

    start: Callable[[Neurons, Any], tuple[Any, ...]]
    step: Callable[[Neurons, Any, Any, tuple[Any, ...]], tuple[Any, tuple[Any, ...], Any]]
    bias_joins_current: bool = False
    integrates: bool = True
