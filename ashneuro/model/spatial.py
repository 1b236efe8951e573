"""Global average pooling and a dense layer on channels-last tensors, without copies."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor, nn

from ashneuro.spiking.kernels.interface import Kernels
from ashneuro.spiking.kernels.sparse_synapses import dense_currents


def global_average_pool(x: Tensor) -> Tensor:
    """Return the spatial mean (B, C) of x (B, C, H, W); the gradient has x's memory format.

    The gradient of torch's own mean is always channels-first, and layers in front of it, batch
    norms above all, take several times as long on two memory formats as on one.
    """
    mean: Tensor = _Mean.apply(x)
    return mean


@final
class SpatialLinear(nn.Module):
    """Dense layer of a whole feature map: weights (K, C, H, W), no bias.

    Weights and inputs of one memory format are read as they are. `nn.Linear` after a flattening
    would copy channels-last spikes, and twice their gradients, to channels-first. Weights are
    initialised as those of `nn.Linear`.
    """

    def __init__(self, channels: int, side: int, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(units, channels, side, side))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor, weight: Tensor | None = None, kernels: Kernels = "auto") -> Tensor:
        """Return sums (B, K) of x (B, C, H, W).

        Args:
            weight: used instead of the layer's own, of the same shape.
            kernels: back end of event-driven synapses.
        """
        return dense_currents(_flat(self.weight if weight is None else weight), _flat(x), kernels)

    def extra_repr(self) -> str:
        """Return the sizes of input and output."""
        units, *size = self.weight.shape
        return f"{' × '.join(map(str, size))} → {units}"


def _flat(values: Tensor) -> Tensor:
    """Return (N, C, H, W) as (N, H·W·C): a view of channels-last memory."""
    return values.permute(0, 2, 3, 1).flatten(1)


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        channels_last = x.is_contiguous(memory_format=torch.channels_last)
        ctx.shape, ctx.format = x.shape, torch.channels_last if channels_last else torch.contiguous_format
        return x.mean((2, 3))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        each = gradient / (ctx.shape[2] * ctx.shape[3])
        spread: Tensor = each[..., None, None].expand(ctx.shape)
        return spread.contiguous(memory_format=ctx.format)
