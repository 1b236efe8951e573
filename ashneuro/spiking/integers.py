"""Loihi's number formats, and how floats become them: for numpy arrays and torch tensors alike.

The compiler rounds a trained network with these functions, and training rounds with them in its forward pass, so that a
network that learnt through integers is exported to the integers that it learnt with.

Sources: Lava 0.10.0 (``proc/lif/models.py``, ``proc/dense``, ``utils/weightutils.py``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ashneuro.loihi import BIAS_MANTISSA, LARGEST_BIAS_EXP, LARGEST_WEIGHT, MIXED_WEIGHTS, WEIGHT_EXP


@dataclass(frozen=True)
class IntegerLayer:
    """What stays as it is in a population of LIF neurons while its weights and biases learn through integers.

    Args:
        scale: integer units of a per float unit of current.
        v_threshold: 17-bit threshold; v is compared with it shifted left by 6.
        dv: decay of v, in 1/4096.
    """

    scale: float
    v_threshold: int
    dv: int


@dataclass(frozen=True)
class Integers:
    """The units that a network learns with, as an export has to take them.

    Args:
        layers: by the name of the neuron's node in the deployed graph.
        input_peak: largest magnitude of the input current, in float units; larger ones saturate.
        input_limit: the same as the host sends it, an integer.
    """

    layers: Mapping[str, IntegerLayer]
    input_peak: float
    input_limit: int

    @property
    def scales(self) -> dict[str, float]:
        """Integer units of a per float unit, by layer."""
        return {name: layer.scale for name, layer in self.layers.items()}

    def dumps(self) -> str:
        """Return JSON; `loads` reads it."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def loads(cls, text: str) -> Integers:
        """Return what `dumps` wrote."""
        values = json.loads(text)
        return cls({name: IntegerLayer(**layer) for name, layer in values.pop("layers").items()}, **values)


def full_range(low: float, high: float) -> float:
    """Return the factor at which weights from ``low`` to ``high`` fill 8 bits; inf when all are 0."""
    if low < 0 < high:
        return min(MIXED_WEIGHTS[1] / high, MIXED_WEIGHTS[0] / low)
    return LARGEST_WEIGHT / max(-low, high) if low or high else math.inf


def weight_exponent(low: float, high: float, factor: float) -> int:
    """Return the smallest ``weight_exp`` with which ``factor`` times weights from ``low`` to ``high`` fit 8 bits."""
    return max(math.ceil(math.log2(factor / full_range(low, high)) - 1e-9), WEIGHT_EXP[0])


def round_weights(exact: Any) -> Any:
    """Return the nearest weights that the hardware keeps: even ones where signs are mixed, inside their range up to rounding."""
    low, high = exact.min(), exact.max()
    if not low < 0 < high:
        return exact.round()
    rounded = (exact / 2).round() * 2
    if not rounded.min() < 0 < rounded.max():
        # One sign is too small to be kept: the other one has every number up to 255, and −256 no longer.
        return exact.round().clip(*((0, LARGEST_WEIGHT) if high > -low else (-LARGEST_WEIGHT, 0)))
    return rounded


def round_bias(exact: Any) -> tuple[Any, int]:
    """Return (mantissa, exponent) of a bias in 1/64 units of a, with the smallest exponent at which the mantissa fits."""
    for exponent in range(LARGEST_BIAS_EXP + 1):
        mantissa = (exact / 2.0**exponent).round()
        if BIAS_MANTISSA[0] <= mantissa.min() and mantissa.max() <= BIAS_MANTISSA[1]:
            break
    return mantissa, exponent
