"""Firing of a population as data: comparison with the threshold, and effect of a spike on v.

With v'_t the potential before any reset of step t, a spike and the potential after it are::

    z_t = 1 if v'_t > v_threshold else 0     comparison "strict": Norse, snnTorch, Lava
    z_t = 1 if v'_t ≥ v_threshold else 0     comparison "inclusive": sinabs, SpikingJelly, Slayer

    v_t = v_reset where z_t = 1, else v'_t   reset "value"
    v_t = v'_t − v_threshold · z_t           reset "subtract": sinabs, Rockpool

Potentials within `TIE` of the threshold count as equal to it: where numbers are round, ties are
frequent, and float64 would decide them by the order in which it rounds.

A late reset (``reset_delay=1``, snnTorch's default) acts one step later, on the potential that was
integrated from the unreset one, before it is compared::

    v'_t = integrate(v'_{t−1}, x_t)
    v'_t = v_reset where z_{t−1} = 1, else v'_t;   or v'_t − v_threshold · z_{t−1}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

TIE = 2.0**-36  # half-width of a tie: far above float64's rounding, a thousandth of float32's

Comparison = Literal["strict", "inclusive"]
Reset = Literal["value", "subtract"]


@dataclass(frozen=True)
class Firing:
    """Comparison and reset of a population; the module docstring has the equations.

    Args:
        comparison: ``"strict"``: v > v_threshold; ``"inclusive"``: v ≥ v_threshold.
        reset: ``"value"`` or ``"subtract"``.
        reset_delay: steps between a spike and its reset, 0 or 1.
    """

    comparison: Comparison = "strict"
    reset: Reset = "value"
    reset_delay: int = 0


def compared_with(v_threshold: Any, size: Any, comparison: Comparison) -> Any:
    """Return the value that v is compared with by > or ≥, beyond the ties.

    Args:
        size: magnitude of the numbers that make v: the largest of v_threshold and v_leak.
    """
    return v_threshold + TIE * size if comparison == "strict" else v_threshold - TIE * size


LIF_FIRING = Firing()
"""Firing of Norse's, Lava's and this package's default neuron."""
