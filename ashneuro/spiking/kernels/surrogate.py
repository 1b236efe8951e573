"""Surrogate gradients by name: stand-ins for the derivative of ``z = 1 if m > 0`` else 0.

m = v' − v_threshold is the margin by which a neuron exceeds its threshold.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ashneuro.errors import ConfigError


@dataclass(frozen=True)
class Surrogate:
    """Surrogate derivative of a spike.

    Args:
        code: its number in compiled kernels.
        slope: default of α.
        derivative: function of m and α.
    """

    code: int
    slope: float
    derivative: Callable[[Tensor, float], Tensor]


def _super(m: Tensor, slope: float) -> Tensor:
    return (m.abs() * slope + 1).square_().reciprocal_()


def _atan(m: Tensor, slope: float) -> Tensor:
    return slope / 2 / (1 + (math.pi / 2 * slope * m).square_())


def _sigmoid(m: Tensor, slope: float) -> Tensor:
    level = (slope * m).sigmoid_()
    return slope * level * (1 - level)


def _triangle(m: Tensor, slope: float) -> Tensor:
    return slope * (1 - m.abs()).relu_()


SURROGATES = {
    # 1/(1 + α|m|)². Norse's SuperSpike ignores its α; it is this one with α = 1.
    "super": Surrogate(0, 1.0, _super),
    "atan": Surrogate(1, 2.0, _atan),  # (α/2)/(1 + (π/2·α·m)²), as in SpikingJelly and snnTorch
    "sigmoid": Surrogate(2, 4.0, _sigmoid),  # α·σ(αm)·(1 − σ(αm)), as in SpikingJelly
    "triangle": Surrogate(3, 0.3, _triangle),  # α·max(0, 1 − |m|), as in Norse and in Bellec et al. 2020
}


def surrogate(name: str) -> Surrogate:
    """Return the surrogate called ``name``.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in SURROGATES:
        near = difflib.get_close_matches(name, SURROGATES, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else "take 'super', which is Norse's default"
        raise ConfigError(f"surrogate {name!r}", f"it must be one of {', '.join(SURROGATES)}", remedy)
    return SURROGATES[name]
