"""Event-driven convolutions and dense layers on the CPU: sums of the weights of active inputs.

With spikes z_i ∈ {0, 1} and the gradient G_o at the currents, per position and kernel tap::

    y_o = Σ_{i: z_i = 1} W_oi;    ∂W_oi = Σ_{positions: z_i = 1} G_o;    ∂z_i = Σ_o W_oi · G_o

The first two take one addition per event, and no product. The input gradient ∂z stays a dense
product: it has no zeros to skip. Where stride or padding would waste much of it, it is one of
`synapses.cpp`, elsewhere torch's. Spikes are kept as bits between the passes. Inputs that are not
spikes, or that are too dense (`MAX_DENSITY`), go through torch's layer.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from ashneuro.spiking.kernels.cpp import NativeError, in_slices, load
from ashneuro.spiking.kernels.dispatch import choose_backend
from ashneuro.spiking.kernels.interface import Kernels
from ashneuro.spiking.kernels.tracing import first_derivative_only, is_traced

SOURCE = Path(__file__).with_name("synapses.cpp")
# Above this share of ones a dense product is as fast, both passes together (measured with AVX-512).
MAX_DENSITY = 0.4
# With fewer input channels a position has too few events to pay for finding them.
MIN_CHANNELS = 32
# Dense products with fewer multiply-accumulates take less time than the decision.
MIN_MACS = 1 << 20
# Bytes of output gradients that are read again for every input channel: they fit an L2 cache.
GRADIENT_BLOCK_BYTES = 1 << 16
# Bytes of images, input and output, that stay in L2 while all sets of taps pass over them.
IMAGE_BLOCK_BYTES = 1 << 19
# Limits of the input gradient in synapses.cpp. With fewer images or channels, or a larger kernel,
# too few positions share a set of taps; with a larger share of products inside the image, skipping
# the padding saves too little.
MIN_DIRECT = 32
MAX_DIRECT_KERNEL = 5
MAX_INSIDE = 0.7
MAX_CHUNK_CHANNELS = 128  # output channels per chunk, with 512-bit vectors
ADDITIONS_PER_THREAD = 1 << 18
WEIGHTS_PER_THREAD = 1 << 16  # that are copied to another order


def synaptic_currents(linear: nn.Conv2d | nn.Linear, spikes: Tensor, kernels: Kernels = "auto") -> Tensor:
    """Return ``linear(spikes)`` of spikes (N, C, H, W) or (N, C).

    Computed event by event if the kernels are native and the spikes sparse enough.
    Results differ from torch's only by the order of sums, which does not depend on the number of
    threads. It is torch's product under `torch.compile`, under autocast and where operations are
    counted, and if calling the layer does more than its class does: hooks (the weight of a pruned
    layer comes from one) and a ``forward`` of a subclass.
    """
    currents = _event_driven(linear.weight, spikes, _connection(linear, spikes), kernels) if _plain(linear) else None
    if currents is None:
        return linear(spikes)  # type: ignore[no-any-return]
    return currents if linear.bias is None else currents + linear.bias.reshape(-1, *[1] * (currents.ndim - 2))


def dense_currents(weight: Tensor, spikes: Tensor, kernels: Kernels = "auto") -> Tensor:
    """Return ``spikes @ weight.T`` of spikes (N, C) and weights (K, C); see `synaptic_currents`."""
    currents = _event_driven(weight, spikes, _if_worthwhile(_dense(weight, spikes), weight, spikes), kernels)
    return F.linear(spikes, weight) if currents is None else currents


def _event_driven(weight: Tensor, spikes: Tensor, connection: _Connection | None, kernels: Kernels) -> Tensor | None:
    """Return currents without the bias; ``None`` where torch's layer is to compute them."""
    packed = (
        None if connection is None or choose_backend(kernels, spikes.device) != "native" else _pack(connection, spikes)
    )
    if packed is None:
        return None
    connection, bits = packed
    if not (torch.is_grad_enabled() and (spikes.requires_grad or weight.requires_grad)):
        return _currents(weight, bits, connection)
    trained = _Weights.apply(weight, bits, connection) if weight.requires_grad else None
    currents: Tensor = _Currents.apply(spikes, trained, weight.detach(), bits, connection)
    return currents


class _Job(ctypes.Structure):
    """``Job`` of synapses.cpp, field by field."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("images", "in_rows", "in_columns", "in_channels", "out_rows", "out_columns", "out_channels")
        ),
        *(
            (f"{name}_{axis}", ctypes.c_int64)
            for name in ("kernel", "stride", "padding", "dilation")
            for axis in ("rows", "columns")
        ),
        *((name, ctypes.c_int64) for name in ("ones", "others", "block", "row")),
        *((name, ctypes.c_void_p) for name in ("spikes", "bits", "transposed", "packed", "weight", "output")),
    ]
    # After Ctrl-C a thread may still be running without its caller, so the job itself keeps the
    # memory alive that it points to.
    memory: tuple[Tensor, ...] = ()

    def point(self, **memory: Tensor) -> None:
        """Set pointer fields, by name."""
        for name, values in memory.items():
            setattr(self, name, values.data_ptr())
        self.memory += tuple(memory.values())


@dataclass(frozen=True)
class _Connection:
    """Convolution, its settings each (rows, columns); a dense layer is a 1 × 1 convolution.

    Args:
        shape: (N, C, H, W) of the spikes.
        channels: output channels.
        flat: True for a dense layer, whose currents are (N, channels).
        events: number of ones among the spikes, once they are counted.
    """

    shape: tuple[int, ...]
    channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    flat: bool = False
    events: int = 0

    @property
    def out_size(self) -> tuple[int, ...]:
        """Height and width of the output."""
        settings = zip(self.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple(
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in settings
        )

    @property
    def inside(self) -> float:
        """Share of a dense product's multiplications that are not with padding."""
        share = 1.0
        axes = zip(self.shape[2:], self.out_size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        for size, out_size, kernel, stride, padding, dilation in axes:
            met = sum(
                0 <= position * stride + tap * dilation - padding < size
                for position in range(out_size)
                for tap in range(kernel)
            )
            share *= met / (out_size * kernel)
        return share

    @property
    def taps(self) -> int:
        """Number of weights from one channel to another."""
        return math.prod(self.kernel)

    def empty_currents(self) -> Tensor:
        """Return uninitialised currents, channels last."""
        return torch.empty(self.shape[0], *([] if self.flat else self.out_size), self.channels)

    def job(self, **memory: Tensor) -> _Job:
        """Return the argument of the compiled functions; ``memory``: tensors by field name."""
        n, c, h, w = self.shape
        settings = (*self.kernel, *self.stride, *self.padding, *self.dilation)
        job = _Job(n, h, w, c, *self.out_size, self.channels, *settings, row=self.channels)
        job.point(**memory)
        return job

    def run(self, name: str, job: _Job, parts: int) -> None:
        """Call the compiled function ``name`` for all parts, in as many threads as pay."""
        additions = self.events * self.channels * self.taps // math.prod(self.stride)
        threads = min(torch.get_num_threads(), 1 + additions // ADDITIONS_PER_THREAD)
        in_slices(getattr(library(), name), job, parts, threads)

    def repack(self, name: str, job: _Job) -> None:
        """Call ``pack_weights`` or ``unpack_weights`` in as many threads as pay."""
        weights = self.shape[1] * self.channels * self.taps
        threads = min(torch.get_num_threads(), 1 + weights // WEIGHTS_PER_THREAD)
        in_slices(getattr(library(), name), job, library().repack_parts(ctypes.byref(job)), threads)


@cache
def library() -> ctypes.CDLL:
    """Return the compiled functions of synapses.cpp.

    Raises:
        NativeError: they cannot be compiled here.
    """
    loaded = load(SOURCE)
    for name in (
        "pack",
        "transpose",
        "pack_weights",
        "pack_weights_back",
        "unpack_weights",
        "currents",
        "weights",
        "spikes",
    ):
        function = getattr(loaded, name)
        function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64], None
    for function in (loaded.padded_out_channels, loaded.padded_in_channels, loaded.repack_parts):
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int64
    loaded.has_fma.argtypes, loaded.has_fma.restype = [], ctypes.c_bool
    return loaded


def _plain(linear: nn.Conv2d | nn.Linear) -> bool:
    """Return True if calling the layer runs torch's own ``forward`` and nothing else."""
    plain = nn.Linear.forward if isinstance(linear, nn.Linear) else nn.Conv2d.forward
    hooks = linear._forward_pre_hooks, linear._forward_hooks, linear._backward_pre_hooks, linear._backward_hooks
    return getattr(linear.forward, "__func__", None) is plain and not any(hooks)


def _connection(linear: nn.Conv2d | nn.Linear, spikes: Tensor) -> _Connection | None:
    """Return the layer's connection; ``None`` if torch should compute it."""
    if isinstance(linear, nn.Linear):
        connection = _dense(linear.weight, spikes)
    elif linear.groups == 1 and linear.padding_mode == "zeros" and not isinstance(linear.padding, str):
        settings = linear.kernel_size, linear.stride, linear.padding, linear.dilation
        connection = _Connection(tuple(spikes.shape), linear.weight.shape[0], *settings)
    else:
        return None
    return _if_worthwhile(connection, linear.weight, spikes)


def _dense(weight: Tensor, spikes: Tensor) -> _Connection:
    return _Connection(
        (*spikes.shape, 1, 1), weight.shape[0], kernel=(1, 1), stride=(1, 1), padding=(0, 0), dilation=(1, 1), flat=True
    )


def _if_worthwhile(connection: _Connection, weight: Tensor, spikes: Tensor) -> _Connection | None:
    """Return the connection; ``None`` if only torch can compute it, or is as fast."""
    # A FLOP counter should count the layer's operations, not those of one implementation; and only
    # torch has forward-mode derivatives.
    if (
        is_traced(spikes)
        or forward_ad._current_level >= 0
        or spikes.device.type != "cpu"
        or torch.is_autocast_enabled("cpu")
    ):
        return None
    if not (spikes.dtype == weight.dtype == torch.float32 and spikes.numel() and weight.numel()):
        return None
    if len(connection.shape) != 4 or connection.shape[1] < MIN_CHANNELS:
        return None
    taps = () if connection.flat else connection.kernel
    if weight.shape[1:] != (connection.shape[1], *taps) or min(connection.out_size) < 1:  # torch raises the error
        return None
    if spikes.shape[0] * math.prod(connection.out_size) * weight.numel() < MIN_MACS:
        return None
    return connection


def _pack(connection: _Connection, spikes: Tensor) -> tuple[_Connection, Tensor] | None:
    """Return the connection with the number of events, and the spikes as bits.

    ``None`` if there are too many ones, or a value is neither 0 nor 1.
    """
    n, c, h, w = connection.shape
    bits, rows = torch.empty(n, h * w, -(-c // 64), dtype=torch.int64), _channels_last(spikes)
    job = connection.job(spikes=rows, bits=bits)
    try:
        library()
    except NativeError:
        return None
    connection.run("pack", job, n * h * w)
    if job.others or job.ones > MAX_DENSITY * spikes.numel():
        return None
    return replace(connection, events=job.ones), bits


def _channels_last(values: Tensor) -> Tensor:
    """Return (N, C, H, W) as contiguous (N, H, W, C), copied only if needed; (N, C) stays."""
    return (values if values.ndim == 2 else values.permute(0, 2, 3, 1)).contiguous()


def _channels_first(values: Tensor) -> Tensor:
    """Return (N, H, W, C) viewed as (N, C, H, W)."""
    return values if values.ndim == 2 else values.permute(0, 3, 1, 2)


def _currents(weight: Tensor, bits: Tensor, connection: _Connection) -> Tensor:
    weight_rows, output = _channels_last(weight), connection.empty_currents()
    job = connection.job(bits=bits, weight=weight_rows, output=output)
    width = library().padded_out_channels(ctypes.byref(job))
    packed = _packing_buffer(connection.taps * connection.shape[1], width, connection.channels)
    job.point(packed=packed)
    connection.repack("pack_weights", job)
    connection.run("currents", job, connection.shape[0])
    return _channels_first(output)


def _packing_buffer(rows: int, width: int, used: int) -> Tensor:
    """Return a buffer for packed weights; its padding is read but never written, so it is 0."""
    return torch.empty(rows, width) if width == used else torch.zeros(rows, width)


def _weight_gradient(gradient: Tensor, bits: Tensor, connection: _Connection) -> Tensor:
    n, c, h, w = connection.shape
    width = library().padded_out_channels(ctypes.byref(connection.job()))
    arriving = _channels_last(gradient)
    if width > connection.channels:  # the last vector of a row would read the next row, and past the end
        arriving = F.pad(arriving, (0, width - connection.channels))
    image_bytes = math.prod(connection.out_size) * min(width, MAX_CHUNK_CHANNELS) * 4
    block = max(1, min(n, GRADIENT_BLOCK_BYTES // image_bytes))
    transposed = torch.empty(-(-n // block), -(-c // 64) * 64, -(-block * h * w // 64), dtype=torch.int64)
    packed = torch.empty(connection.taps * c * width)
    result = torch.empty(connection.channels, *([] if connection.flat else connection.kernel), c)
    job = connection.job(bits=bits, transposed=transposed, packed=packed, weight=result, output=arriving)
    job.block, job.row = block, width
    connection.run("transpose", job, len(transposed))
    connection.run("weights", job, c)
    connection.repack("unpack_weights", job)
    return _channels_first(result)


def _spike_gradient(gradient: Tensor, weight: Tensor, connection: _Connection) -> Tensor:
    if connection.flat:
        return gradient @ weight
    if _direct(connection):
        return _direct_gradient(gradient, weight, connection)
    # Uninitialised: torch uses only its shape and memory format.
    like = torch.empty(connection.shape, dtype=gradient.dtype, memory_format=torch.channels_last)
    settings = list(connection.stride), list(connection.padding), list(connection.dilation)
    input_only = [True, False, False]
    result: Tensor = torch.ops.aten.convolution_backward(
        gradient, like, weight, None, *settings, False, [0, 0], 1, input_only
    )[0]
    return result


def _direct(connection: _Connection) -> bool:
    """Return True where `_direct_gradient` was measured to be no slower than torch's."""
    n, c, _, _ = connection.shape
    fits = c % 16 == 0 and min(n, connection.channels) >= MIN_DIRECT and max(connection.kernel) <= MAX_DIRECT_KERNEL
    fits = fits and max(connection.dilation) == 1 and bool(library().has_fma())
    return fits and (max(connection.stride) > 1 or connection.inside <= MAX_INSIDE)


def _direct_gradient(gradient: Tensor, weight: Tensor, connection: _Connection) -> Tensor:
    """Return the input gradient of a convolution, without torch's products in the padding."""
    n, c, h, w = connection.shape
    arriving, weight_rows, result = _channels_last(gradient), _channels_last(weight), torch.empty(n, h, w, c)
    job = connection.job(output=arriving, weight=weight_rows, spikes=result)
    job.block = max(1, IMAGE_BLOCK_BYTES * n // (arriving.nbytes + result.nbytes))
    width = library().padded_in_channels(ctypes.byref(job))
    packed = _packing_buffer(connection.taps * connection.channels, width, c)
    job.point(packed=packed)
    # A dense product: for the number of threads every input counts as an event.
    dense = replace(connection, events=result.numel())
    dense.run("pack_weights_back", job, connection.taps)
    dense.run("spikes", job, n)
    return _channels_first(result)


class _Weights(torch.autograd.Function):
    """Zeros in the shape of the currents, whose gradient gives that of the weights.

    A node of its own, so that a backward pass that wants no weight gradients skips it.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bits: Tensor, connection: _Connection) -> Tensor:
        ctx.save_for_backward(bits)
        ctx.connection = connection
        out_size = () if connection.flat else connection.out_size
        return weight.new_zeros(()).expand(connection.shape[0], connection.channels, *out_size)

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (bits,) = ctx.saved_tensors
        return _weight_gradient(gradient, bits, ctx.connection), None, None


class _Currents(torch.autograd.Function):
    """Currents; backward, the gradient at the spikes."""

    @staticmethod
    def forward(
        ctx: Any, spikes: Tensor, trained: Tensor | None, weight: Tensor, bits: Tensor, connection: _Connection
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.connection = connection
        return _currents(weight, bits, connection)

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:  # type: ignore[override]
        (weight,) = ctx.saved_tensors
        at_spikes = _spike_gradient(gradient, weight, ctx.connection) if ctx.needs_input_grad[0] else None
        return at_spikes, gradient if ctx.needs_input_grad[1] else None, None, None, None
