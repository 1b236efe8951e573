"""Messages of graded neurons as events, 0 and 1, with the gradient of their number.

With z_t = 1 if x_t > θ else 0, the step of height 1 under the values s_t, penalties on messages
need the gradients at x and θ::

    ∂x_t = R_t · σ'(m_t/θ) / θ;   ∂θ = −Σ_t R_t · σ'(m_t/θ) / θ        R: gradient at z

The values are all that is kept of a layer, so the gradients go through them. The layer makes
``G · (1[θ < x ≤ limit] + σ')`` of a gradient G at s (`ashneuro.spiking.kernels.multi_step`), and
what it is given is::

    G_t = R_t / θ · σ' / (1 + σ')     where 0 < s_t < limit, since m_t is known there
    G_t = R_t / θ                     elsewhere
    ∂θ  = −Σ R_t / θ · σ' / (1 + σ')  directly, over 0 < s_t < limit: the rest goes through s

A ReLU (θ = 0) has no jump that a gradient could pass where it is silent. Its events have the
gradient ``R · σ'(s)`` where it sends, and none elsewhere.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ashneuro.spiking.kernels.interface import Neurons
from ashneuro.spiking.kernels.surrogate import surrogate
from ashneuro.spiking.kernels.tracing import first_derivative_only


def events(sent: Tensor, neurons: Neurons) -> Tensor:
    """Return 1 where ``neurons`` of kind ``"graded"`` sent a value, else 0, both (T, B, ...)."""
    threshold = torch.as_tensor(neurons.threshold).to(sent.device)
    result: Tensor = _Events.apply(sent, threshold, neurons)
    return result


class _Events(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sent: Tensor, threshold: Tensor, neurons: Neurons) -> Tensor:
        ctx.save_for_backward(sent, threshold)
        ctx.neurons = neurons
        return (sent > 0).to(sent.dtype)

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:  # type: ignore[override]
        sent, threshold = ctx.saved_tensors
        neurons, table = ctx.neurons, surrogate(ctx.neurons.surrogate)
        slope = table.slope if neurons.slope is None else neurons.slope
        height = threshold.to(sent.dtype)
        width = torch.where(height > 0, height, torch.ones_like(height))
        step = table.derivative((sent - height).div_(width), slope)
        known = sent > 0
        if neurons.limit != math.inf:
            known &= sent < neurons.limit
        # In place: each pass over memory takes as long as the neurons themselves.
        passed = gradient / width
        outside = torch.where(height > 0, passed, 0.0)
        inside = torch.where(known, passed.mul_(step).div_((step * (height > 0)).add_(1)), 0.0)
        g_threshold = None
        if ctx.needs_input_grad[1]:
            g_threshold = -torch.where(height > 0, inside, 0.0).sum_to_size(threshold.shape).to(threshold)
        return torch.where(known, inside, outside), g_threshold, None
