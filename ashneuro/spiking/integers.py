"""Loihi's number formats, and the rounding to them, for numpy arrays and torch tensors alike.

The compiler and quantisation-aware training use the same functions, so a network is exported to the
integers that it was trained with.

Sources: Lava 0.10.0 (``proc/lif/models.py``, ``proc/dense``, ``utils/weightutils.py``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ashneuro.files import parse_json
from ashneuro.loihi import BIAS_MANTISSA, LARGEST_BIAS_EXP, LARGEST_WEIGHT, MIXED_WEIGHTS, WEIGHT_EXP
from ashneuro.schemas import Format


@dataclass(frozen=True)
class IntegerLayer:
    """Units of a population that stay fixed in quantisation-aware training.

    Args:
        scale: integer units of a per float unit of current, and of a graded message.
        v_threshold: 17-bit threshold; v is compared with it shifted left by 6.
        dv: decay of v, in 1/4096; 0 of neurons without leak, unused by graded ones.
        limit: largest graded message; 0: the population sends spikes.
    """

    scale: float
    v_threshold: int
    dv: int
    limit: int = 0

    @property
    def message_scale(self) -> float:
        """Integer units of what is sent per float unit: 1 for spikes."""
        return self.scale if self.limit else 1.0


@dataclass(frozen=True)
class Integers:
    """Units of a network in quantisation-aware training, which its export has to use.

    Args:
        layers: by name of the neurons' node in the deployed graph.
        input_peak: largest magnitude of the input current, in float units; larger ones saturate.
        input_limit: the same as an integer, as the host sends it.
    """

    layers: Mapping[str, IntegerLayer]
    input_peak: float
    input_limit: int

    @property
    def scales(self) -> dict[str, float]:
        """Integer units of a per float unit, by layer."""
        return {name: layer.scale for name, layer in self.layers.items()}

    def dumps(self) -> str:
        """Return JSON that `loads` reads."""
        return json.dumps(INTEGERS.stamped(asdict(self)), indent=1) + "\n"

    @classmethod
    def loads(cls, text: str) -> Integers:
        """Return the units from JSON of `dumps`.

        Raises:
            ValueError: it is not such JSON.
        """
        integers: Integers = INTEGERS.parse(parse_json(text))
        return integers


INTEGERS = Format("ashneuro-integers", Integers, bare=True)
"""``integers.json``."""


def full_range(low: float, high: float) -> float:
    """Return the factor at which weights ``low`` … ``high`` fill 8 bits; inf if all are 0."""
    if low < 0 < high:
        return min(MIXED_WEIGHTS[1] / high, MIXED_WEIGHTS[0] / low)
    return LARGEST_WEIGHT / max(-low, high) if low or high else math.inf


def weight_exponent(low: float, high: float, factor: float) -> int:
    """Return the smallest ``weight_exp`` with which ``factor`` · weights fit 8 bits.

    Args:
        low, high: smallest and largest weight.
    """
    return max(math.ceil(math.log2(factor / full_range(low, high)) - 1e-9), WEIGHT_EXP[0])


def round_weights(exact: Any) -> Any:
    """Return the nearest weights of the hardware: even if signs are mixed, any integer otherwise.

    ``exact`` must fit 8 bits, up to rounding.
    """
    low, high = exact.min(), exact.max()
    if not low < 0 < high:
        return exact.round()
    rounded = (exact / 2).round() * 2
    if not rounded.min() < 0 < rounded.max():
        # One sign was rounded to 0: the other has all integers up to 255, but no −256.
        return exact.round().clip(*((0, LARGEST_WEIGHT) if high > -low else (-LARGEST_WEIGHT, 0)))
    return rounded


def round_bias(exact: Any) -> tuple[Any, int]:
    """Return mantissa and (smallest) exponent of a bias in 1/64 units of a."""
    for exponent in range(LARGEST_BIAS_EXP + 1):
        mantissa = (exact / 2.0**exponent).round()
        if BIAS_MANTISSA[0] <= mantissa.min() and mantissa.max() <= BIAS_MANTISSA[1]:
            break
    return mantissa, exponent
