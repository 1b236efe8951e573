"""What is read from all places of channels-last arrays at once, without laying them out anew: their mean, and a dense layer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ashneuro.spiking.kernels.interface import Kernels
from ashneuro.spiking.kernels.sparse_synapses import dense_currents


def mean_over_places(x: Tensor) -> Tensor:
    """Return the mean (B, C) of x (B, C, H, W) over its places.

    The gradient lies in memory as x does. That of torch's own mean is always channels-first, and the layers in front of it, batch
    norms above all, take several times as long with two layouts as with one.
    """
    mean: Tensor = _Mean.apply(x)
    return mean


class DenseOverPlaces(nn.Module):
    """A dense layer of all channels at all places: weights (K, C, H, W), no bias.

    Where weights lie in memory as the arrays do, both are read as they are. `nn.Linear` behind a flattening would have spikes, and
    twice their gradients, copied to channels-first. Weights start as those of `nn.Linear` do.
    """

    def __init__(self, channels: int, side: int, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(units, channels, side, side))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, arrays: Tensor, weight: Tensor | None = None, kernels: Kernels = "auto") -> Tensor:
        """Return sums (B, K) of arrays (B, C, H, W), with other weights of the same shape where they are given."""
        return dense_currents(_rows(self.weight if weight is None else weight), _rows(arrays), kernels)

    def extra_repr(self) -> str:
        """Say what it connects."""
        units, *places = self.weight.shape
        return f"{' × '.join(map(str, places))} → {units}"


def _rows(arrays: Tensor) -> Tensor:
    return arrays.permute(0, 2, 3, 1).flatten(1)


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        last = x.is_contiguous(memory_format=torch.channels_last)
        ctx.shape, ctx.format = x.shape, torch.channels_last if last else torch.contiguous_format
        return x.mean((2, 3))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        each = gradient / (ctx.shape[2] * ctx.shape[3])
        spread: Tensor = each[..., None, None].expand(ctx.shape)
        return spread.contiguous(memory_format=ctx.format)
