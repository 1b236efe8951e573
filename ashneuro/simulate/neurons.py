"""The arithmetic of one step, written once for numpy and torch: `xp` is either module.

Which equations, and in which units, is said in `ashneuro.program.program`. Each population answers `step` with the new
state and what it sends; state and input are arrays (B, *shape).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ashneuro.program.program import Layer, Precision

Array = TypeVar("Array")

UNITY = 4096  # decays are 12-bit fractions
STATE = 1 << 23  # u and v are 24-bit signed numbers
ALIGN = 6  # thresholds and input are shifted left by it: 64 units of state are one unit of input


@dataclass(frozen=True, eq=False)
class Population(ABC, Generic[Array]):
    """Neurons of one layer, their parameters as arrays of the module ``xp``."""

    xp: Any
    spiking: bool
    bias: Array

    @abstractmethod
    def step(self, u: Array, v: Array, a: Array) -> tuple[Array, Array, Array]:
        """Return (u, v, what is sent) after one step with input ``a``: spikes as booleans, or v of a read-out."""


@dataclass(frozen=True, eq=False)
class FloatPopulation(Population[Array]):
    """Lava's ``floating_pt`` neuron, operation by operation in its order, so that float64 results agree to the last bit."""

    keep_u: Array
    keep_v: Array
    v_threshold: Array

    def step(self, u: Any, v: Any, a: Any) -> Any:
        """Return (u, v, sent): ``u·(1 − du) + a``, ``v·(1 − dv) + u + bias``."""
        u = u * self.keep_u + a
        v = v * self.keep_v + u + self.bias
        if not self.spiking:
            return u, v, v
        spikes = v > self.v_threshold
        return u, self.xp.where(spikes, 0.0, v), spikes


@dataclass(frozen=True, eq=False)
class IntegerPopulation(Population[Array]):
    """Lava's ``fixed_pt`` neuron: int32 throughout. ``bias`` is already shifted, ``v_threshold`` aligned."""

    keep_u: int
    keep_v: int
    v_threshold: int

    def step(self, u: Any, v: Any, a: Any) -> Any:
        """Return (u, v, sent); u wraps once at 24 bits, v saturates."""
        u = self._decay(u, self.keep_u) + (a << ALIGN)
        # Lava's wrap, asymmetric as it is: 2^23 itself stays, −2^23 becomes 2^23.
        u = self.xp.where(u > STATE, u - 2 * STATE, self.xp.where(u <= -STATE, u + 2 * STATE, u))
        v = self.xp.clip(self._decay(v, self.keep_v) + u + self.bias, 1 - STATE, STATE - 1)
        if not self.spiking:
            return u, v, v
        spikes = v > self.v_threshold
        return u, self.xp.where(spikes, self.xp.zeros_like(v), v), spikes

    def _decay(self, x: Any, keep: int) -> Any:
        """Return x·keep / 4096 rounded toward zero; |x| = h·4096 + l, so that no product leaves 32 bits."""
        if keep == UNITY:
            return x
        if keep == 0:
            return self.xp.zeros_like(x)
        size = self.xp.abs(x)
        kept = (size >> 12) * keep + (((size & (UNITY - 1)) * keep) >> 12)
        return self.xp.where(x < 0, -kept, kept)


def population(layer: Layer, precision: Precision, xp: Any, put: Any) -> Population[Any]:
    """Return the neurons of ``layer``; ``put`` makes an array of ``xp`` from one of numpy."""
    neuron = layer.neuron
    if precision == "float":
        keep_u, keep_v, bias = (np.broadcast_to(np.float64(value), layer.shape) for value in (1 - neuron.du, 1 - neuron.dv, neuron.bias))
        threshold = np.broadcast_to(np.float64(neuron.v_threshold), layer.shape)
        return FloatPopulation(xp, neuron.spiking, put(bias), put(keep_u), put(keep_v), put(threshold))
    bias = np.broadcast_to(np.int32(neuron.bias) << neuron.bias_exp, layer.shape).astype(np.int32)
    du, dv = one(neuron.du), one(neuron.dv)
    return IntegerPopulation(xp, neuron.spiking, put(bias), UNITY - (du + 1), UNITY - dv, one(neuron.v_threshold) << ALIGN)


def one(value: NDArray[np.generic]) -> int:
    """Return the one number that all neurons of a layer share."""
    numbers = np.unique(np.asarray(value))
    if numbers.size != 1:
        raise ValueError("an integer layer has one du, one dv and one v_threshold")
    return int(numbers[0])


def read_out(layer: Layer, v: NDArray[Any], precision: Precision) -> NDArray[np.float64]:
    """Return the membrane potential in the graph's own units; in an integer program v counts 64ths of a scaled unit."""
    v = np.asarray(v, np.float64)
    neuron = layer.neuron
    unscaled = v if precision == "float" else v / (layer.scale * (1 << ALIGN))
    return unscaled * np.asarray(neuron.v_unit, np.float64) + np.asarray(neuron.v_origin, np.float64)
