"""Batch norms whose training step is compiled for the CPU; elsewhere they are torch's.

With the mean μ and the variance σ² of a channel over N rows (all images and places), and the
gradient g at the output y::

    s = 1/√(σ² + ε);    y = γ s (x − μ) + β
    ∂β = Σ g;    ∂γ = s Σ g (x − μ);    ∂x = γ s (g − ∂β/N − (x − μ) s ∂γ/N)

torch's kernels take as long on one thread, and for some shapes of channels-last arrays three times
as long on two as on one. Results differ from torch's by the order of sums, which does not depend
on the number of threads.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ashneuro.spiking.kernels.cpp import NativeError, in_slices, load
from ashneuro.spiking.kernels.dispatch import choose_backend
from ashneuro.spiking.kernels.interface import Kernels
from ashneuro.spiking.kernels.tracing import first_derivative_only, is_traced

SOURCE = Path(__file__).with_name("batch_norm.cpp")
# Values of a block: with those of the gradient they fit an L2 cache, and their sums are accurate.
BLOCK = 1 << 14
# Of fewer values torch's norm takes less time than the calls of a compiled one.
MIN_VALUES = 1 << 15
# Less work than this is done before a second thread has begun.
VALUES_PER_THREAD = 1 << 15

_POINTERS = (
    *("x", "gradient", "weight", "bias", "output", "mean", "scale", "running_mean", "running_variance"),
    *("g_weight", "g_bias", "slope", "shift", "factor", "first", "second"),
)


class _Job(ctypes.Structure):
    """``Job`` of batch_norm.cpp, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "channels", "block")),
        *((name, ctypes.c_double) for name in ("momentum", "epsilon")),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    ]
    # After Ctrl-C a thread may still be running without its caller, so the job itself keeps the
    # memory alive that it points to.
    memory: object = None


@cache
def library() -> ctypes.CDLL:
    """Return the compiled functions of batch_norm.cpp.

    Raises:
        NativeError: they cannot be compiled here.
    """
    loaded = load(SOURCE)
    for name in ("moments", "statistics", "normalise", "gradient_sums", "parameter_gradients", "gradients"):
        function = getattr(loaded, name)
        function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64], None
    return loaded


class _Native(nn.modules.batchnorm._BatchNorm):
    """Base of the norms below.

    Attributes:
        kernels: back end; native kernels compute training in float32 on a CPU.
    """

    kernels: Kernels = "auto"

    def forward(self, x: Tensor) -> Tensor:
        """Return x (N, C), or channels-last (N, C, H, W), normalised by channel."""
        if not self._compiled(x):
            return super().forward(x)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        normalised: Tensor = _BatchNorm.apply(x, self.weight, self.bias, self)
        return normalised

    def _compiled(self, x: Tensor) -> bool:
        """Return True if the compiled step applies to x."""
        if is_traced(x) or forward_ad._current_level >= 0 or not self.training or x.device.type != "cpu":
            return False
        own = self.weight, self.bias, self.running_mean, self.running_var
        if self.momentum is None or any(each is None or each.dtype != torch.float32 for each in (x, *own)):
            return False
        if x.ndim not in (2, 4) or x.shape[1] != self.num_features:
            return False
        if x.numel() < max(MIN_VALUES, 2 * self.num_features):
            return False
        if not _rows(x).is_contiguous() or choose_backend(self.kernels, x.device) != "native":
            return False
        try:
            library()
        except NativeError:
            return False
        return True


class BatchNorm1d(_Native, nn.BatchNorm1d):
    """`nn.BatchNorm1d` with a compiled training step."""


class BatchNorm2d(_Native, nn.BatchNorm2d):
    """`nn.BatchNorm2d` with a compiled training step."""


def _rows(values: Tensor) -> Tensor:
    """Return (N, C, H, W) viewed as (N, H, W, C); (N, C) stays."""
    return values if values.ndim == 2 else values.permute(0, 2, 3, 1)


def _job(x: Tensor, **memory: Tensor) -> _Job:
    """Return the argument of the compiled functions; ``memory``: tensors by field name."""
    block = max(1, BLOCK // x.shape[1])
    rows = x.numel() // x.shape[1]
    sums = torch.empty(2, -(-rows // block) * x.shape[1], dtype=torch.float64)
    memory = {**memory, "x": x, "first": sums}
    job = _Job(rows, x.shape[1], block, **{name: values.data_ptr() for name, values in memory.items()})
    job.second = job.first + sums.nbytes // 2
    job.memory = memory
    return job


def _run(job: _Job, by_block: str, by_channel: str, then: str) -> None:
    """Run the functions of blocks, of channels, and of blocks again."""
    loaded, threads = library(), min(torch.get_num_threads(), 1 + job.rows * job.channels // VALUES_PER_THREAD)
    blocks = -(-job.rows // job.block)
    in_slices(getattr(loaded, by_block), job, blocks, threads)
    in_slices(getattr(loaded, by_channel), job, job.channels, 1)
    in_slices(getattr(loaded, then), job, blocks, threads)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: _Native) -> Tensor:
        output, found = torch.empty_like(x), x.new_empty(3, x.shape[1])
        assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
        job = _job(
            x, weight=weight, bias=bias, output=output, mean=found,
            running_mean=norm.running_mean, running_variance=norm.running_var,
        )  # fmt: skip
        job.scale, job.slope = _rows_after(found)
        job.momentum, job.epsilon = norm.momentum, norm.eps
        _run(job, "moments", "statistics", "normalise")
        ctx.save_for_backward(x, weight, found)
        return output

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        x, weight, found = ctx.saved_tensors
        arriving, result = _rows(gradient).contiguous(), torch.empty_like(x)
        g_weight, g_bias, own = torch.empty_like(weight), torch.empty_like(weight), x.new_empty(3, x.shape[1])
        job = _job(
            x, gradient=arriving, weight=weight, output=result, mean=found, g_weight=g_weight, g_bias=g_bias, slope=own
        )
        job.scale, _ = _rows_after(found)
        job.shift, job.factor = _rows_after(own)
        _run(job, "gradient_sums", "parameter_gradients", "gradients")
        return result, g_weight, g_bias, None


def _rows_after(values: Tensor) -> tuple[int, int]:
    """Return pointers to the second and third row of an array (3, C)."""
    first, row = values.data_ptr(), values.nbytes // 3
    return first + row, first + 2 * row
