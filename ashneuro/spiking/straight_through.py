"""Loihi's integer arithmetic in the forward pass, straight-through gradients in the backward pass.

A rounding q has the value q(x) and the gradient of x (Bengio et al. 2013, arXiv 1308.3432). Layers
pass on what the hardware would send; a test compares it with the emulator, spike for spike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ashneuro.loihi import DECAY_ONE, LARGEST_STATE, STATE_SHIFT, STATE_UNIT
from ashneuro.spiking.firing import Reset
from ashneuro.spiking.integers import (
    IntegerLayer,
    round_bias,
    round_weights,
    weight_exponent,
)


def integer_weights(weight: Tensor, scale: float) -> tuple[Tensor, int]:
    """Return (W_int, weight_exp) with ``W_int · 2^weight_exp ≈ scale · W``; integers in float64."""
    low, high = min(0.0, float(weight.detach().min())), max(0.0, float(weight.detach().max()))
    if not low < high:
        return weight.double() * scale, 0
    exponent = weight_exponent(low, high, scale)
    exact = weight.double() * (scale * 2.0**-exponent)
    return _straight(exact, round_weights(exact.detach())), exponent


def integer_bias(bias: Tensor, scale: float) -> Tensor:
    """Return the bias that the hardware adds: ``mantissa · 2^exponent / 64 ≈ scale · bias``.

    In units of a, whole 64ths.
    """
    exact = bias.double() * (scale * STATE_UNIT)
    mantissa, exponent = round_bias(exact.detach())
    return _straight(exact, mantissa * 2.0**exponent) / STATE_UNIT


def shifted_sums(sums: Tensor, exponent: int) -> Tensor:
    """Return a connection's current: sums of W_int shifted by ``exponent``, rounding down."""
    # Sums are integers below 2^24, but a Winograd convolution is not exact.
    whole = _straight(sums, sums.detach().round())
    shifted = whole * 2.0**exponent
    return shifted if exponent >= 0 else _straight(shifted, shifted.detach().floor())


def integer_messages(values: Tensor, scale: float) -> Tensor:
    """Return graded messages in integer units of ``values`` = message / scale, free of rounding."""
    exact = values * scale
    return _straight(exact, exact.detach().round())


def integer_current(current: Tensor, scale: float, limit: int) -> Tensor:
    """Return the input current that the host sends: ``round(scale · x)``, clipped to ±``limit``.

    The gradient is 0 where it is clipped.
    """
    exact = (current.double() * scale).clamp(-limit, limit)
    return _straight(exact, exact.detach().round()).to(current.dtype)


def integer_multi_step(
    currents: Tensor, layer: IntegerLayer, v: Tensor | None = None, *, reset: Reset = "value"
) -> tuple[Tensor, Tensor]:
    """Return spikes (T, B, ...) of LIF neurons with Loihi's arithmetic, and their last v (B, ...).

    ::

        v'_t = clip(rz(v_{t-1} · (4096 − dv) / 4096) + 64 · a_t, ±(2^23 − 1))      rz: toward zero
        z_t  = 1 if v'_t > 64 · v_threshold else 0
        v_t  = 0 where z_t = 1, else v'_t              reset = "value"
        v_t  = v'_t − 64 · v_threshold · z_t           reset = "subtract"

    Backward as `ashneuro.spiking.kernels.multi_step.multi_step` of the float network.

    Args:
        currents: a_t (T, B, ...), bias included, in whole 64ths.
        v: potential (B, ...) that continues a sample; ``None``: 0. In float64.
    """
    keep, threshold = (DECAY_ONE - layer.dv) / DECAY_ONE, layer.v_threshold << STATE_SHIFT
    # Float units per unit of v, for the surrogate: a step adds dt/τ of the current, or, without
    # leak, all of it.
    unit = (layer.dv / DECAY_ONE if layer.dv else 1.0) / (layer.scale * STATE_UNIT)
    v = (
        torch.zeros_like(currents[0], dtype=torch.float64) if v is None else v.double()
    )  # holds the 35 bits of v · (4096 − dv)
    spikes = []
    for a in currents.unbind(0):
        decayed = v * keep
        v = _straight(decayed, decayed.detach().trunc()) + a.double() * STATE_UNIT
        v = v.clamp(-LARGEST_STATE, LARGEST_STATE)
        z = _Spike.apply((v - threshold) * unit)
        v = v - threshold * z if reset == "subtract" else v * (1 - z)
        spikes.append(z.to(currents.dtype))
    return torch.stack(spikes), v


def integer_graded(currents: Tensor, layer: IntegerLayer, derivative: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the values (T, B, ...) that graded neurons send with Loihi's arithmetic, in floats.

    ::

        m_t = min(⌊a_t⌋, limit) if a_t > v_threshold else 0;      value = m_t / scale

    Backward as `ashneuro.spiking.kernels.multi_step.multi_step` of the float network.

    Args:
        currents: a_t (T, B, ...), bias included, in whole 64ths.
        derivative: σ' of the step, as a function of x/θ − 1.
    """
    sent: Tensor = _Graded.apply(currents, layer, derivative)
    return sent


class _Graded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, layer: IntegerLayer, derivative: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(a)
        ctx.layer, ctx.derivative = layer, derivative
        message = a.floor().clamp(max=layer.limit)
        return torch.where(a > layer.v_threshold, message, torch.zeros_like(a)) / layer.scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (a,), layer = ctx.saved_tensors, ctx.layer
        passes = ((a > layer.v_threshold) & (a <= layer.limit)).to(gradient.dtype)
        if layer.v_threshold:
            passes = passes + ctx.derivative(a / layer.v_threshold - 1)
        return gradient / layer.scale * passes, None, None


class _Spike(torch.autograd.Function):
    """1 where x > 0; backward Norse's ``super`` surrogate 1/(|x| + 1)²."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        result: Tensor = gradient / (x.abs() + 1).square()
        return result


class _Straight(torch.autograd.Function):
    """``rounded`` forward; backward as if it were ``exact``."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, rounded: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


def _straight(exact: Tensor, rounded: Tensor) -> Tensor:
    result: Tensor = _Straight.apply(exact, rounded)
    return result
