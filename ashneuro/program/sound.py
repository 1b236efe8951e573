"""Checks of a program that was read from a file: its names, shapes and types.

A program that `lower` or `quantise` made always does. Sizes are compared before anything is
allocated from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import get_args

import numpy as np

from ashneuro.program.program import Connection, Layer, Precision, Program, Shape, Synapse
from ashneuro.program.synapse import conv_shape
from ashneuro.spiking.dynamics import DYNAMICS
from ashneuro.spiking.message import BITS

LARGEST_SIZE = 2**31 - 1  # of a population: indices of sparse weights have 32 bits
LARGEST_SHIFT = 63  # of a message, in bits


def require_sound(program: Program, name: str) -> None:
    """Raise `ValueError` with everything about a program that has no meaning.

    Args:
        name: name that the file gives it, which is its precision.
    """
    problems = list(_problems(program, name))
    if problems:
        more = f"; {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"the {name} program: {'; '.join(problems[:3])}{more}")


def _problems(program: Program, name: str) -> Iterator[str]:
    if program.precision not in get_args(Precision) or program.precision != name:
        yield f"its precision is {program.precision!r}"
    if not program.dt_s > 0 or not math.isfinite(program.dt_s):
        yield f"dt_s is {program.dt_s}"
    if program.timesteps is not None and (not _whole(program.timesteps) or program.timesteps < 1):
        yield f"timesteps is {program.timesteps!r}"
    names = [*(port.name for port in program.inputs), *(layer.name for layer in program.layers)]
    yield from (f"{one!r} is there twice" for one in sorted({one for one in names if names.count(one) > 1}))
    layers = {layer.name for layer in program.layers}
    if not program.outputs or len(set(program.outputs)) != len(program.outputs):
        yield "it has no outputs, or one twice"
    yield from (f"its output {one!r} is no layer" for one in program.outputs if one not in layers)
    sizes: dict[str, int] = {}
    for port in program.inputs:
        if not _is_shape(port.shape):
            yield f"input {port.name!r} has the shape {port.shape}"
        elif port.coding not in ("current", "graded", "spikes"):
            yield f"input {port.name!r} has the coding {port.coding!r}"
        else:
            sizes[port.name] = math.prod(port.shape)
    for layer in program.layers:
        if _is_shape(layer.shape):
            sizes[layer.name] = layer.size
        else:
            yield f"layer {layer.name!r} has the shape {layer.shape}"
    kind = "iu" if program.precision == "integer" else "f"
    for layer in program.layers:
        if layer.name in sizes:
            yield from (f"layer {layer.name!r}: {problem}" for problem in _layer(layer, sizes, layers, kind))


def _layer(layer: Layer, sizes: dict[str, int], layers: set[str], kind: str) -> Iterator[str]:
    if not _whole(layer.depth) or layer.depth < 0:
        yield f"depth is {layer.depth!r}"
    if not math.isfinite(layer.scale) or layer.scale <= 0:
        yield f"scale is {layer.scale}"
    neuron = layer.neuron
    if neuron.dynamics not in DYNAMICS:
        yield f"unknown dynamics {neuron.dynamics!r}"
    elif set(neuron.parameters) != set(DYNAMICS[neuron.dynamics].kinds):
        yield f"parameters {', '.join(neuron.parameters)} of {neuron.dynamics}"
    arrays = {name: getattr(neuron, name) for name in ("du", "dv", "v_threshold", "bias")} | dict(neuron.parameters)
    arrays |= {} if neuron.v_subtract is None else {"v_subtract": neuron.v_subtract}
    for name, values in arrays.items():
        if not _fits(values.shape, layer.shape):
            yield f"{name} has the shape {values.shape}, not {layer.shape}"
        elif values.dtype.kind not in kind:
            yield f"{name} has the type {values.dtype}"
        elif np.isnan(values).any() or (name != "v_threshold" and np.isinf(values).any()):
            yield f"{name} is not finite"
    message = neuron.message
    if message.kind != "spike" and message.kind not in BITS:
        yield f"unknown messages {message.kind!r}"
    fewest, most = BITS[message.kind][1:] if message.kind in BITS else (0, 0)
    if not _whole(message.bits) or not (message.bits == 0 or fewest <= message.bits <= most):
        yield f"{message.kind} messages have {message.bits!r} bits"
    if not _whole(message.shift) or abs(message.shift) > LARGEST_SHIFT:
        yield f"messages are shifted by {message.shift!r} bits"
    for connection in layer.connections:
        for problem in _connection(connection, layer, sizes, layers, kind):
            yield f"from {connection.source!r}, {problem}"


def _connection(
    connection: Connection, layer: Layer, sizes: dict[str, int], layers: set[str], kind: str
) -> Iterator[str]:
    if connection.source not in sizes:
        yield "which is neither a layer nor an input"
        return
    if not _whole(connection.delay) or connection.delay < 0:
        yield f"delay is {connection.delay!r}"
    if not _whole(connection.weight_exp) or abs(connection.weight_exp) > 63:
        yield f"weight_exp is {connection.weight_exp!r}"
    synapse = connection.synapse
    if synapse is None:
        if connection.source in layers:
            yield "a layer feeds neurons without a synapse"
        elif sizes[connection.source] not in (1, layer.size):
            yield f"{sizes[connection.source]} values feed {layer.size} neurons"
        return
    if not _is_shape(synapse.in_shape) or not _is_shape(synapse.out_shape):
        yield f"shapes {synapse.in_shape} and {synapse.out_shape}"
    elif synapse.in_size != sizes[connection.source]:
        yield f"in_shape {synapse.in_shape} has not the size of its source, {sizes[connection.source]}"
    elif synapse.out_size != layer.size:
        yield f"out_shape {synapse.out_shape} has not the size of the layer, {layer.size}"
    elif synapse.weight.dtype.kind not in kind:
        yield f"weights of type {synapse.weight.dtype}"
    elif not np.isfinite(synapse.weight).all():
        yield "weights that are not finite"
    else:
        yield from _synapse(synapse)


def _synapse(synapse: Synapse) -> Iterator[str]:
    """Yield the faults of a synapse whose shapes fit its source and its layer."""
    weight, kind = synapse.weight, synapse.kind
    wrong = f"{kind} weights {weight.shape} do not map {synapse.in_shape} to {synapse.out_shape}"
    if kind == "dense":
        copies = synapse.in_size // weight.shape[1] if weight.ndim == 2 and weight.size else 0
        if (copies * np.asarray(weight.shape[::-1])).tolist() != [synapse.in_size, synapse.out_size]:
            yield wrong
    elif kind == "scale":
        if synapse.in_size != synapse.out_size or not _fits(weight.shape, synapse.in_shape):
            yield wrong
    elif kind == "sparse":
        yield from _sparse(synapse)
    elif kind == "conv":
        axes = len(synapse.in_shape) - 1
        given = (synapse.stride, synapse.padding, synapse.dilation)
        if axes not in (1, 2) or weight.ndim != axes + 2 or any(len(values) != axes for values in given):
            yield wrong
            return
        padding = [size for pair in synapse.padding for size in pair]
        if min(synapse.groups, *synapse.stride, *synapse.dilation) < 1 or min(padding) < 0:
            yield f"groups {synapse.groups}, stride {synapse.stride}, padding {synapse.padding}"
            return
        out_channels, group_in, *kernel = weight.shape
        shape = conv_shape(synapse.in_shape, tuple(kernel), out_channels, *given)
        fits = out_channels % synapse.groups == 0 and group_in * synapse.groups == synapse.in_shape[0]
        if synapse.out_shape != shape or not fits:
            yield wrong
    else:
        yield f"unknown synapse {kind!r}"


def _sparse(synapse: Synapse) -> Iterator[str]:
    indices, starts = synapse.indices, synapse.indptr
    if indices is None or starts is None:
        yield "sparse weights without indices"
    elif indices.dtype.kind not in "iu" or starts.dtype.kind not in "iu":
        yield "sparse indices that are not whole"
    elif (
        indices.shape != synapse.weight.shape
        or indices.ndim != 1
        or starts.shape != (synapse.out_size + 1,)
        or starts[0] != 0
        or starts[-1] != len(indices)
        or (np.diff(starts) < 0).any()
        or (len(indices) and not 0 <= indices.min() <= indices.max() < synapse.in_size)
    ):
        yield f"sparse indices lead out of {synapse.out_size} × {synapse.in_size} weights"


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_shape(shape: Shape) -> bool:
    return all(_whole(size) and size > 0 for size in shape) and math.prod(shape) <= LARGEST_SIZE


def _fits(shape: tuple[int, ...], wanted: Shape) -> bool:
    """Return True if an array of ``shape`` broadcasts to ``wanted``."""
    sizes = wanted[len(wanted) - len(shape) :] if len(shape) <= len(wanted) else None
    return sizes is not None and all(size in (1, full) for size, full in zip(shape, sizes, strict=True))
