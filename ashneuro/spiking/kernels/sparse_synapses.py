"""Synapses driven by events: a convolution or a dense layer of spikes, computed on the CPU by adding the weights of those that spiked.

With z_i ∈ {0, 1} that arrive and G_o the gradient that comes back, per place and tap::

    y_o = Σ_{i: z_i = 1} W_oi;    ∂W_oi = Σ_{places: z_i = 1} G_o;    ∂z_i = Σ_o W_oi · G_o

The first two take as many additions as there are events, and no product; only ∂z, of which nothing is 0, stays a dense product:
where strides or padding leave out much one of ours, else torch's. Spikes are kept as bits. What is not spikes, or so many that a
dense product is faster, is one: see `DENSEST`.
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
# Above this share of ones a dense product is as fast, forward and backward together (measured with AVX-512).
DENSEST = 0.4
# With fewer channels that arrive, a place has too few events for what finding them takes.
LEAST_CHANNELS = 32
# Dense products of fewer multiplications than this take less time than deciding.
LEAST_PRODUCTS = 1 << 20
# Bytes of gradients that are read again for every input channel, and should stay in a second-level cache.
BLOCK_BYTES = 1 << 16
# Bytes of images, before and behind a convolution, that should stay there while one set of taps after another has its turn.
IMAGES_BYTES = 1 << 19
# Gradients at spikes without padding: of fewer images or channels, or a larger kernel, too few places share their taps, and with more
# products inside the image than this share of all, too little is saved.
LEAST_DIRECT = 32
LARGEST_DIRECT = 5
MOST_INSIDE = 0.7
MOST_CHANNELS = 128  # in a chunk, at 512 bits
ADDITIONS_PER_THREAD = 1 << 18


def connect(linear: nn.Conv2d | nn.Linear, arrays: Tensor, kernels: Kernels = "auto") -> Tensor:
    """Return ``linear(arrays)``, arrays (N, C, H, W) or (N, C), event by event where ``kernels`` are native and it pays.

    Results are those of torch but for the order of sums, which does not depend on the number of threads. Under `torch.compile`,
    under autocast and where operations are counted it is a dense product, and so it is where calling the layer does more than its
    class: hooks (a pruned layer's make its weight) and a ``forward`` of a subclass.
    """
    currents = _by_events(linear.weight, arrays, _connection(linear, arrays), kernels) if _plain(linear) else None
    if currents is None:
        return linear(arrays)  # type: ignore[no-any-return]
    return currents if linear.bias is None else currents + linear.bias.reshape(-1, *[1] * (currents.ndim - 2))


def connect_all(weight: Tensor, arrays: Tensor, kernels: Kernels = "auto") -> Tensor:
    """Return ``arrays @ weight.T``, arrays (N, C) and weights (K, C), computed like `connect`."""
    currents = _by_events(weight, arrays, _worthwhile(_dense(weight, arrays), weight, arrays), kernels)
    return F.linear(arrays, weight) if currents is None else currents


def _by_events(weight: Tensor, arrays: Tensor, connection: _Connection | None, kernels: Kernels) -> Tensor | None:
    """Return currents without the bias; ``None`` where a dense product is to give them."""
    packed = (
        None if connection is None or choose_backend(kernels, arrays.device) != "native" else _pack(connection, arrays)
    )
    if packed is None:
        return None
    connection, bits = packed
    if not (torch.is_grad_enabled() and (arrays.requires_grad or weight.requires_grad)):
        return _currents(weight, bits, connection)
    learning = _Weights.apply(weight, bits, connection) if weight.requires_grad else None
    currents: Tensor = _Currents.apply(arrays, learning, weight.detach(), bits, connection)
    return currents


class _Job(ctypes.Structure):
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
        *((name, ctypes.c_int64) for name in ("ones", "others", "together", "row")),
        *((name, ctypes.c_void_p) for name in ("spikes", "bits", "turned", "packed", "weight", "output")),
    ]
    # A thread may still be at work where Ctrl-C has taken its caller away: whoever holds the job holds what it points to.
    memory: tuple[Tensor, ...] = ()

    def point(self, **memory: Tensor) -> None:
        """Point to these."""
        for name, values in memory.items():
            setattr(self, name, values.data_ptr())
        self.memory += tuple(memory.values())


@dataclass(frozen=True)
class _Connection:
    """A convolution's settings, each (rows, columns), and sizes; a dense layer is a convolution of 1 × 1.

    Args:
        shape: (N, C, H, W) of what arrives.
        channels: that it becomes.
        flat: whether currents are (N, channels).
        events: ones among what arrives, once they are counted.
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
    def places(self) -> tuple[int, ...]:
        """Height and width behind it."""
        settings = zip(self.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple(
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in settings
        )

    @property
    def inside(self) -> float:
        """Share of a dense product's multiplications that are not with padding."""
        share = 1.0
        axes = zip(self.shape[2:], self.places, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        for size, places, kernel, stride, padding, dilation in axes:
            met = sum(
                0 <= place * stride + tap * dilation - padding < size
                for place in range(places)
                for tap in range(kernel)
            )
            share *= met / (places * kernel)
        return share

    @property
    def taps(self) -> int:
        """Weights from one channel to another."""
        return math.prod(self.kernel)

    def currents(self) -> Tensor:
        """Return room for currents: rows of channels."""
        return torch.empty(self.shape[0], *([] if self.flat else self.places), self.channels)

    def job(self, **memory: Tensor) -> _Job:
        """Return what the compiled functions take."""
        n, c, h, w = self.shape
        job = _Job(
            n,
            h,
            w,
            c,
            *self.places,
            self.channels,
            *self.kernel,
            *self.stride,
            *self.padding,
            *self.dilation,
            row=self.channels,
        )
        job.point(**memory)
        return job

    def run(self, name: str, job: _Job, parts: int) -> None:
        """Call a compiled function for all of its parts, in as many threads as there is work for."""
        function = getattr(library(), name)
        additions = self.events * self.channels * self.taps // math.prod(self.stride)
        threads = min(torch.get_num_threads(), 1 + additions // ADDITIONS_PER_THREAD)
        in_slices(lambda begin, end: function(ctypes.byref(job), begin, end), parts, threads)


@cache
def library() -> ctypes.CDLL:
    """Return the compiled functions.

    Raises:
        NativeError: they cannot be compiled here.
    """
    loaded = load(SOURCE)
    for name in (
        "pack",
        "turn",
        "pack_weights",
        "pack_weights_back",
        "unpack_weights",
        "currents",
        "weights",
        "spikes",
    ):
        function = getattr(loaded, name)
        function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64], None
    for function in (loaded.rounded, loaded.rounded_back):
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int64
    loaded.fuses.argtypes, loaded.fuses.restype = [], ctypes.c_bool
    return loaded


def _plain(linear: nn.Conv2d | nn.Linear) -> bool:
    """Return whether to call the layer is to call its class of torch and nothing else."""
    plain = nn.Linear.forward if isinstance(linear, nn.Linear) else nn.Conv2d.forward
    hooks = linear._forward_pre_hooks, linear._forward_hooks, linear._backward_pre_hooks, linear._backward_hooks
    return getattr(linear.forward, "__func__", None) is plain and not any(hooks)


def _connection(linear: nn.Conv2d | nn.Linear, arrays: Tensor) -> _Connection | None:
    """Return how the layer connects; ``None`` where only torch can compute it, or quickly enough."""
    if isinstance(linear, nn.Linear):
        connection = _dense(linear.weight, arrays)
    elif linear.groups == 1 and linear.padding_mode == "zeros" and not isinstance(linear.padding, str):
        how = linear.kernel_size, linear.stride, linear.padding, linear.dilation
        connection = _Connection(tuple(arrays.shape), linear.weight.shape[0], *how)
    else:
        return None
    return _worthwhile(connection, linear.weight, arrays)


def _dense(weight: Tensor, arrays: Tensor) -> _Connection:
    one, none = (1, 1), (0, 0)
    return _Connection((*arrays.shape, 1, 1), weight.shape[0], one, one, none, one, flat=True)


def _worthwhile(connection: _Connection, weight: Tensor, arrays: Tensor) -> _Connection | None:
    # Who counts operations counts those of the layer, not of a way to compute it; and only torch knows forward-mode derivatives.
    if (
        is_traced(arrays)
        or forward_ad._current_level >= 0
        or arrays.device.type != "cpu"
        or torch.is_autocast_enabled("cpu")
    ):
        return None
    if not (arrays.dtype == weight.dtype == torch.float32 and arrays.numel() and weight.numel()):
        return None
    if len(connection.shape) != 4 or connection.shape[1] < LEAST_CHANNELS:
        return None
    taps = () if connection.flat else connection.kernel
    if weight.shape[1:] != (connection.shape[1], *taps) or min(connection.places) < 1:  # torch says what does not fit
        return None
    if arrays.shape[0] * math.prod(connection.places) * weight.numel() < LEAST_PRODUCTS:
        return None
    return connection


def _pack(connection: _Connection, arrays: Tensor) -> tuple[_Connection, Tensor] | None:
    """Return the spikes as bits, and the connection with their number; ``None`` where they are too many, or no spikes."""
    n, c, h, w = connection.shape
    bits, rows = torch.empty(n, h * w, -(-c // 64), dtype=torch.int64), _rows(arrays)
    job = connection.job(spikes=rows, bits=bits)
    try:
        library()
    except NativeError:
        return None
    connection.run("pack", job, n * h * w)
    if job.others or job.ones > DENSEST * arrays.numel():
        return None
    return replace(connection, events=job.ones), bits


def _rows(arrays: Tensor) -> Tensor:
    """Return arrays as rows of channels, one per place, copied only if they lie otherwise."""
    return (arrays if arrays.ndim == 2 else arrays.permute(0, 2, 3, 1)).contiguous()


def _outside(rows: Tensor) -> Tensor:
    return rows if rows.ndim == 2 else rows.permute(0, 3, 1, 2)


def _currents(weight: Tensor, bits: Tensor, connection: _Connection) -> Tensor:
    outer, output = _rows(weight), connection.currents()
    job = connection.job(bits=bits, weight=outer, output=output)
    packed = _room(connection.taps * connection.shape[1], library().rounded(ctypes.byref(job)), connection.channels)
    job.point(packed=packed)
    connection.run("pack_weights", job, connection.taps)
    connection.run("currents", job, connection.shape[0])
    return _outside(output)


def _room(rows: int, width: int, used: int) -> Tensor:
    """Return room for rows of weights in chunks; what of them is never written, though it is computed with, is 0."""
    return torch.empty(rows, width) if width == used else torch.zeros(rows, width)


def _weight_gradient(gradient: Tensor, bits: Tensor, connection: _Connection) -> Tensor:
    n, c, h, w = connection.shape
    width = library().rounded(ctypes.byref(connection.job()))
    arriving = _rows(gradient)
    if width > connection.channels:  # vectors at the end of a row would reach into the next one, and behind the last
        arriving = F.pad(arriving, (0, width - connection.channels))
    together = max(1, min(n, BLOCK_BYTES // (math.prod(connection.places) * min(width, MOST_CHANNELS) * 4)))
    turned = torch.empty(-(-n // together), -(-c // 64) * 64, -(-together * h * w // 64), dtype=torch.int64)
    packed = torch.empty(connection.taps * c * width)
    outer = torch.empty(connection.channels, *([] if connection.flat else connection.kernel), c)
    job = connection.job(bits=bits, turned=turned, packed=packed, weight=outer, output=arriving)
    job.together, job.row = together, width
    connection.run("turn", job, len(turned))
    connection.run("weights", job, c)
    connection.run("unpack_weights", job, connection.taps)
    return _outside(outer)


def _spike_gradient(gradient: Tensor, weight: Tensor, connection: _Connection) -> Tensor:
    if connection.flat:
        return gradient @ weight
    if _direct(connection):
        return _direct_gradient(gradient, weight, connection)
    # Never touched: only its size and layout count.
    like = torch.empty(connection.shape, dtype=gradient.dtype, memory_format=torch.channels_last)
    how = (
        list(connection.stride),
        list(connection.padding),
        list(connection.dilation),
        False,
        [0, 0],
        1,
        [True, False, False],
    )
    given: Tensor = torch.ops.aten.convolution_backward(gradient, like, weight, None, *how)[0]
    return given


def _direct(connection: _Connection) -> bool:
    """Return whether the gradient at the spikes comes from `_direct_gradient`, which was measured to be no slower there than torch's."""
    n, c, _, _ = connection.shape
    fits = c % 16 == 0 and min(n, connection.channels) >= LEAST_DIRECT and max(connection.kernel) <= LARGEST_DIRECT
    fits = fits and max(connection.dilation) == 1 and bool(library().fuses())
    return fits and (max(connection.stride) > 1 or connection.inside <= MOST_INSIDE)


def _direct_gradient(gradient: Tensor, weight: Tensor, connection: _Connection) -> Tensor:
    """Return the gradient at the spikes of any convolution, without the products with padding that torch's computes."""
    n, c, h, w = connection.shape
    arriving, outer, given = _rows(gradient), _rows(weight), torch.empty(n, h, w, c)
    job = connection.job(output=arriving, weight=outer, spikes=given)
    job.together = max(1, IMAGES_BYTES * n // (arriving.nbytes + given.nbytes))
    packed = _room(connection.taps * connection.channels, library().rounded_back(ctypes.byref(job)), c)
    job.point(packed=packed)
    everything = replace(connection, events=given.numel())
    everything.run("pack_weights_back", job, connection.taps)
    everything.run("spikes", job, n)
    return _outside(given)


class _Weights(torch.autograd.Function):
    """Nothing, in the shape of the currents; the gradient that arrives there is what the weights get theirs from.

    A node of its own, so that a pass that asks for no gradients of weights leaves it out.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bits: Tensor, connection: _Connection) -> Tensor:
        ctx.save_for_backward(bits)
        ctx.connection = connection
        places = () if connection.flat else connection.places
        return weight.new_zeros(()).expand(connection.shape[0], connection.channels, *places)

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (bits,) = ctx.saved_tensors
        return _weight_gradient(gradient, bits, ctx.connection), None, None


class _Currents(torch.autograd.Function):
    """The currents, and backward the gradient at the spikes."""

    @staticmethod
    def forward(
        ctx: Any, arrays: Tensor, learning: Tensor | None, weight: Tensor, bits: Tensor, connection: _Connection
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.connection = connection
        return _currents(weight, bits, connection)

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:  # type: ignore[override]
        (weight,) = ctx.saved_tensors
        given = _spike_gradient(gradient, weight, ctx.connection) if ctx.needs_input_grad[0] else None
        return given, gradient if ctx.needs_input_grad[1] else None, None, None, None
