"""Torch functions between neurons, as nodes of the graph.

A rule has the parameters of its torch function, and returns the value of the result; ``None``: the
function has no linear form here, and its result stays outside of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import nir
import numpy as np
import torch
from torch import Tensor

from ashneuro.frameworks.form import array, conv_node, linear_node, pair
from ashneuro.frameworks.graph import Elementwise
from ashneuro.frameworks.signals import (
    Opaque,
    Signal,
    Value,
    merged_axes,
    permuted,
    relaid,
    repeated,
    selected,
    stacked,
    unsqueezed,
)
from ashneuro.spiking.contract import PREFIX

if TYPE_CHECKING:
    from ashneuro.frameworks.trace import Recorder

Rule = Callable[..., Any]


def linear(t: Recorder, out: Tensor, input: Any, weight: Tensor, bias: Tensor | None = None) -> Value | None:
    """``y = W x + b`` along the last axis."""
    x = t.signal(input)
    if x is None or not x.shape or t.value(weight) is not None:
        return None
    shape = (*x.shape[:-1], weight.shape[0])

    def make() -> Any:
        if len(x.shape) == 1:
            return linear_node(weight, bias)
        # One matrix for each element of the leading axes.
        matrices = np.broadcast_to(array(weight), (*x.shape[:-1], *weight.shape))
        return linear_node(matrices, None if bias is None else np.broadcast_to(array(bias), shape))

    return t.operation("linear", x, make, shape, weight)


def matmul(t: Recorder, out: Tensor, input: Any, other: Any) -> Value | None:
    """``x @ W``."""
    if not isinstance(other, Tensor) or other.ndim != 2:
        return None
    return linear(t, out, input, other.T)


def conv(
    t: Recorder,
    out: Tensor,
    input: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value | None:
    """Convolution of samples (C, \\*spatial)."""
    x = t.signal(input)
    axes = weight.ndim - 2
    if x is None or len(x.axes) != 1 or len(x.shape) != axes + 1:
        return None
    geometry = (stride, padding, dilation, groups)
    return t.operation(
        "conv", x, lambda: conv_node(weight, bias, *geometry, x.shape), tuple(out.shape[1:]), weight, repr(geometry)
    )


def batch_norm(
    t: Recorder,
    out: Tensor,
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value | None:
    """Batch norm with its running statistics."""
    x = t.signal(input)
    if x is None or len(x.axes) != 1 or training or running_mean is None or running_var is None:
        return None

    def make() -> Elementwise:
        scale = (1.0 if weight is None else array(weight)) / np.sqrt(array(running_var) + eps)
        offset = (0.0 if bias is None else array(bias)) - array(running_mean) * scale
        per_channel = (-1, *[1] * (len(x.shape) - 1))
        return Elementwise(*(np.broadcast_to(v.reshape(per_channel), x.shape).copy() for v in (scale, offset)))

    return t.operation("batch_norm", x, make, x.shape, running_mean)


def avg_pool2d(
    t: Recorder,
    out: Tensor,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value | None:
    """Mean over windows; zeros of the padding count."""
    x = t.signal(input)
    padded = bool(np.any(padding))
    if x is None or len(x.axes) != 1 or divisor_override or (padded and not count_include_pad):
        return None
    return _pool(t, x, out, nir.AvgPool2d, kernel_size, stride, padding)


def lp_pool2d(
    t: Recorder,
    out: Tensor,
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Value | None:
    """Sum over windows, as sinabs' SumPool2d computes it."""
    x = t.signal(input)
    if x is None or len(x.axes) != 1 or norm_type != 1:
        return None
    return _pool(t, x, out, nir.SumPool2d, kernel_size, stride, 0)


def avg_pool1d(
    t: Recorder,
    out: Tensor,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Value | None:
    """Mean over windows of (C, L), as a convolution of each channel."""
    x = t.signal(input)
    if x is None or len(x.axes) != 1 or len(x.shape) != 2 or (np.any(padding) and not count_include_pad):
        return None
    kernel = int(np.ravel(kernel_size)[0])
    geometry = (int(np.ravel(kernel_size if stride is None else stride)[0]), int(np.ravel(padding)[0]), 1, x.shape[0])
    if out.shape[-1] != (x.shape[1] + 2 * geometry[1] - kernel) // geometry[0] + 1:
        return None

    def make() -> Any:
        return conv_node(np.full((x.shape[0], 1, kernel), 1 / kernel), None, *geometry, x.shape)

    return t.operation("avg_pool", x, make, tuple(out.shape[1:]), f"{kernel} {geometry}")


def adaptive_avg_pool2d(t: Recorder, out: Tensor, input: Any, output_size: Any) -> Value | None:
    """Mean over windows that tile the input."""
    x = t.signal(input)
    if x is None or len(x.axes) != 1 or len(x.shape) != 3:
        return None
    size = tuple(out.shape[-2:])
    if x.shape[1] % size[0] or x.shape[2] % size[1]:
        return None
    kernel = (x.shape[1] // size[0], x.shape[2] // size[1])
    return _pool(t, x, out, nir.AvgPool2d, kernel, kernel, 0)


def _pool(t: Recorder, x: Signal, out: Tensor, kind: Any, kernel: Any, stride: Any, padding: Any) -> Value | None:
    kernel, padding = pair(kernel), pair(padding)
    stride = kernel if stride is None or stride == [] else pair(stride)
    fits = all(
        size == (old + 2 * pad - width) // step + 1
        for size, old, pad, width, step in zip(out.shape[-2:], x.shape[1:], padding, kernel, stride, strict=True)
    )
    if len(x.shape) != 3 or not fits:  # ceil_mode added a window that is not full
        return None
    node = kind(np.array(kernel), np.array(stride), np.array(padding))
    return t.operation("pool", x, lambda: node, tuple(out.shape[1:]), f"{kind.__name__} {kernel} {stride} {padding}")


def relu(t: Recorder, out: Tensor, input: Any, inplace: bool = False) -> Value | None:
    """A ReLU is a population that sends graded messages."""
    x = t.signal(input)
    if x is None:
        return None
    node = nir.Threshold(np.zeros(x.shape), metadata={PREFIX + "message": "graded"})
    return t.stateless("relu", x, node, out)


def add(t: Recorder, out: Tensor, input: Any, other: Any, *, alpha: float = 1) -> Value | None:
    """A sum of signals, or a signal and a constant."""
    return _sum(t, input, other, float(alpha))


def sub(t: Recorder, out: Tensor, input: Any, other: Any, *, alpha: float = 1) -> Value | None:
    """A difference."""
    return _sum(t, input, other, -float(alpha))


def rsub(t: Recorder, out: Tensor, input: Any, other: Any, *, alpha: float = 1) -> Value | None:
    """``other − input``."""
    x = t.signal(input)
    return None if x is None else _sum(t, other, _scaled(t, x, -1.0), 1.0)


def _sum(t: Recorder, left: Any, right: Any, factor: float) -> Value | None:
    a, b = (side if isinstance(side, Signal) else t.signal(side) for side in (left, right))
    if a is None and b is None:
        return None
    if a is not None and b is not None:
        b = b if factor == 1 else _scaled(t, b, factor)
        if a.axes != b.axes or a.shape != b.shape:
            return None
        twice = {term.node for term in a.terms} & {term.node for term in b.terms}
        # An edge that occurs twice is a factor of 2.
        b = _scaled(t, b, 1.0) if twice else b
        return Signal((*a.terms, *b.terms), a.axes, a.shape)
    if a is None:
        assert b is not None
        signal, constant = (b if factor == 1 else _scaled(t, b, factor)), _constant(t, left, b)
    else:
        signal, constant = a, _constant(t, right, a)
        constant = None if constant is None else constant * factor
    if signal is None or constant is None:
        return None
    if not constant.any():
        return signal
    ones = np.ones(signal.shape)
    return t.operation("add", signal, lambda: Elementwise(ones, constant), signal.shape, constant.tobytes())


def mul(t: Recorder, out: Tensor, input: Any, other: Any) -> Value | None:
    """A signal times a constant."""
    x, factor = (input, other) if t.signal(input) is not None else (other, input)
    signal = t.signal(x)
    constant = None if signal is None else _constant(t, factor, signal)
    return None if signal is None or constant is None else _scaled(t, signal, constant)


def div(t: Recorder, out: Tensor, input: Any, other: Any, *, rounding_mode: str | None = None) -> Value | None:
    """A signal divided by a constant."""
    signal = t.signal(input)
    constant = None if signal is None or rounding_mode else _constant(t, other, signal)
    if signal is None or constant is None or not constant.all():
        return None
    return _scaled(t, signal, 1.0 / constant)


def neg(t: Recorder, out: Tensor, input: Any) -> Value | None:
    """The negative of a signal."""
    signal = t.signal(input)
    return None if signal is None else _scaled(t, signal, -1.0)


def _scaled(t: Recorder, signal: Signal, factor: Any) -> Signal:
    scale = np.broadcast_to(np.asarray(factor, np.float64), signal.shape).copy()
    zero = np.zeros(signal.shape)
    return t.operation("scale", signal, lambda: Elementwise(scale, zero), signal.shape, scale.tobytes())


def _constant(t: Recorder, value: Any, signal: Signal) -> Any:
    """Return a constant with one number per element; ``None`` if it is none, or varies over samples
    or steps.
    """
    if isinstance(value, Tensor):
        if t.value(value) is not None:
            return None
        numbers = array(value)
    elif isinstance(value, int | float):
        numbers = np.asarray(value, np.float64)
    else:
        return None
    for _ in range(numbers.ndim - len(signal.shape)):
        if len(numbers) > 1 and (numbers != numbers[:1]).any():
            return None
        numbers = numbers[0]
    try:
        return np.broadcast_to(numbers, signal.shape).copy()
    except ValueError:
        return None


def reshape(t: Recorder, out: Tensor, input: Any, *args: Any, **kwargs: Any) -> Value | None:
    """Merge or part the axes of time and batch, or flatten those of a sample."""
    x = t.signal(input)
    reading = None if x is None else relaid(x, tuple(out.shape), t.sizes)
    if x is None or reading is None:
        return None
    axes, shape = reading
    laid = Signal(x.terms, axes, x.shape)
    if shape == x.shape:
        return laid
    merged = merged_axes(x.shape, shape)
    if merged is None:
        return None
    node = nir.Flatten({"input": np.array(x.shape)}, *merged)
    return t.operation("flatten", laid, lambda: node, shape, repr(merged))


def permute(t: Recorder, out: Tensor, input: Any, *args: Any, **kwargs: Any) -> Value | None:
    """Change the order of axes."""
    x, dims = t.signal(input), (*args, *kwargs.values())
    order = [int(dim) % out.ndim for dim in (dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims)]
    return None if x is None else permuted(x, order)


def transpose(t: Recorder, out: Tensor, input: Any, dim0: Any, dim1: Any) -> Value | None:
    """Exchange two axes."""
    x = t.signal(input)
    order = list(range(out.ndim))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return None if x is None else permuted(x, order)


def movedim(t: Recorder, out: Tensor, input: Any, source: int, destination: int) -> Value | None:
    """Move one axis."""
    x = t.signal(input)
    order = [axis for axis in range(out.ndim) if axis != source % out.ndim]
    order.insert(destination % out.ndim, source % out.ndim)
    return None if x is None else permuted(x, order)


def getitem(t: Recorder, out: Tensor, input: Any, index: Any) -> Value | None:
    """Take one step, or everything."""
    x = t.signal(input)
    if x is None:
        return None
    parts = index if isinstance(index, tuple) else (index,)
    if Ellipsis in [part for part in parts if not isinstance(part, Tensor)]:
        return x if parts == (Ellipsis,) else None
    chosen = [(axis, part) for axis, part in enumerate(parts) if part != slice(None)]
    if not chosen:
        return x
    (axis, step), *more = chosen
    if more or isinstance(step, bool) or not isinstance(step, int):
        return None
    return selected(x, axis, step, t.sizes["T"])


def select(t: Recorder, out: Tensor, input: Any, dim: int, index: int) -> Value | None:
    """Take one step."""
    x = t.signal(input)
    return None if x is None else selected(x, dim % (out.ndim + 1), index, t.sizes["T"])


def unbind(t: Recorder, out: Any, input: Any, dim: int = 0) -> list[Value | None] | None:
    """Take every step."""
    x = t.signal(input)
    if x is None:
        return None
    axis = dim % (out[0].ndim + 1)
    return [selected(x, axis, index, t.sizes["T"]) for index in range(len(out))]


def stack(t: Recorder, out: Tensor, tensors: Any, dim: int = 0) -> Value | None:
    """Put the steps of a sample together."""
    parts = [t.signal(tensor) for tensor in tensors]
    known = [part for part in parts if part is not None]
    return stacked(known, dim % out.ndim, t.sizes["T"]) if len(known) == len(parts) else None


def unsqueeze(t: Recorder, out: Tensor, input: Any, dim: int) -> Value | None:
    """Add an axis for the steps."""
    x = t.signal(input)
    return None if x is None else unsqueezed(x, dim % out.ndim)


def repeat(t: Recorder, out: Tensor, input: Any, *sizes: Any) -> Value | None:
    """Repeat one step over time."""
    x = t.signal(input)
    times = sizes if sizes and isinstance(sizes[0], int) else tuple(sizes[0])
    return None if x is None else repeated(x, times, t.sizes["T"])


def expand(t: Recorder, out: Tensor, input: Tensor, *sizes: Any) -> Value | None:
    """Repeat one step over time, or nothing."""
    x = t.signal(input)
    if x is None or out.ndim != input.ndim:
        return None
    times = [new // old for new, old in zip(out.shape, input.shape, strict=True)]
    return x if set(times) == {1} else repeated(x, times, t.sizes["T"])


def turned(t: Recorder, out: Tensor, input: Any, *args: Any) -> Value | None:
    """``x.T``: all axes in reverse order."""
    x = t.signal(input)
    return None if x is None else permuted(x, list(reversed(range(out.ndim))))


def same(t: Recorder, out: Tensor, input: Any, *args: Any, **kwargs: Any) -> Value | None:
    """The values stay: a copy, another number format, dropout in evaluation."""
    return t.value(input)


def dropout(t: Recorder, out: Tensor, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Dropout passes everything in evaluation."""
    return None if training and p else t.value(input)


def constant(t: Recorder, out: Any, *args: Any, **kwargs: Any) -> None:
    """A new tensor that takes only the shape of another."""


RULES: Mapping[str, Rule] = {
    "linear": linear,
    "matmul": matmul,
    "__matmul__": matmul,
    "mm": matmul,
    "conv1d": conv,
    "conv2d": conv,
    "batch_norm": batch_norm,
    "avg_pool1d": avg_pool1d,
    "avg_pool2d": avg_pool2d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "lp_pool2d": lp_pool2d,
    "relu": relu,
    "relu_": relu,
    "add": add,
    "add_": add,
    "__add__": add,
    "__radd__": add,
    "__iadd__": add,
    "sub": sub,
    "sub_": sub,
    "__sub__": sub,
    "rsub": rsub,
    "__rsub__": rsub,
    "mul": mul,
    "mul_": mul,
    "__mul__": mul,
    "__rmul__": mul,
    "div": div,
    "div_": div,
    "__truediv__": div,
    "neg": neg,
    "__neg__": neg,
    "reshape": reshape,
    "view": reshape,
    "flatten": reshape,
    "unflatten": reshape,
    "permute": permute,
    "transpose": transpose,
    "swapaxes": transpose,
    "swapdims": transpose,
    "movedim": movedim,
    "T": turned,
    "unsqueeze": unsqueeze,
    "repeat": repeat,
    "expand": expand,
    "expand_as": expand,
    "__getitem__": getitem,
    "select": select,
    "unbind": unbind,
    "__iter__": unbind,
    "stack": stack,
    "dropout": dropout,
    "dropout1d": dropout,
    "dropout2d": dropout,
    "dropout3d": dropout,
    "feature_dropout": dropout,
    "alpha_dropout": dropout,
    **dict.fromkeys(("clone", "contiguous", "detach", "detach_", "to", "float", "double", "cpu", "type_as"), same),
    **dict.fromkeys(("requires_grad_", "alias", "data"), same),
    **dict.fromkeys(
        ("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty"),
        constant,
    ),
}

# What helps where a function has no linear form.
REMEDIES: Mapping[str, str] = {
    "max_pool1d": "use average or sum pooling: a maximum of spikes is no sum",
    "max_pool2d": "use AvgPool2d, or a sum: a maximum of spikes is no sum",
    "adaptive_avg_pool2d": "choose an output size that divides the input's",
    "avg_pool2d": "pool without ceil_mode, with count_include_pad=True where it is padded",
    "conv1d": "give the sample in the shape that the first layer takes; one axis may hold time and batch",
    "conv2d": "give the sample in the shape that the first layer takes; one axis may hold time and batch",
    "interpolate": "use a convolution with a stride in the layer before, or a linear layer",
    "conv_transpose2d": "use a Conv2d; no rule of NIR describes a transposed convolution",
    "pad": "use the padding of the convolution, with zeros",
    "cat": "add the outputs of one linear layer each: x and y side by side are W x + V y",
    "batch_norm": "call module.eval(), with running statistics",
    "layer_norm": "use a batch norm, which becomes part of the weights",
    "group_norm": "use a batch norm, which becomes part of the weights",
    "dropout": "call module.eval()",
    "sigmoid": "use neurons or a ReLU in its place",
    "tanh": "use neurons or a ReLU in its place",
    "gelu": "use neurons or a ReLU in its place",
    "reshape": "give the sample in the shape that the first layer takes; between layers only flatten",
    "view": "give the sample in the shape that the first layer takes; between layers only flatten",
    "unsqueeze": "give the sample in the shape that the first layer takes",
}


def opaque(name: str, where: str, sources: frozenset[str]) -> Opaque:
    """Return the value of a function without a rule."""
    plain = name.strip("_")
    said = f"torch's {plain}" + (f" in {where}" if where else "")
    return Opaque(sources, said, REMEDIES.get(plain, "use linear layers, pooling by means or sums, and neurons"))


def promoted(name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return arguments of a call in a float64 run: nothing turns back into float32."""
    if any(value is torch.float32 for value in (*args, *kwargs.values())):
        args = tuple(torch.float64 if value is torch.float32 else value for value in args)
        kwargs = {key: torch.float64 if value is torch.float32 else value for key, value in kwargs.items()}
    if name in ("linear", "matmul", "mm", "bmm", "addmm", "einsum", "conv1d", "conv2d", "__matmul__"):
        args = tuple(_doubled(value) for value in args)
        kwargs = {key: _doubled(value) for key, value in kwargs.items()}
    return args, kwargs


def _doubled(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.dtype is torch.float32 else value
