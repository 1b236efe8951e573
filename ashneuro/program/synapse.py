"""Synapses as matrices, their products, and their numbers of weights.

Exact for every kind; simulators may apply a synapse in any faster way and are tested against this
module. Counts are NeuroBench's *effective* operations: zero weights and padding are no work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import block_diag, csr_matrix

from ashneuro.program.program import Shape, Synapse


def matrix(synapse: Synapse) -> csr_matrix:
    """Return ``W`` (N_out, N_in) with ``y.ravel() = W @ x.ravel()``.

    A sorted CSR matrix without explicit zeros, in the dtype of the weights.
    """
    weight = synapse.weight
    if synapse.kind == "sparse":
        result = csr_matrix((weight, synapse.indices, synapse.indptr), shape=(synapse.out_size, synapse.in_size))
    elif synapse.kind == "scale":
        values = np.broadcast_to(weight, synapse.in_shape).ravel()
        # A diagonal matrix: one entry per row.
        lines = np.arange(synapse.in_size + 1)
        result = csr_matrix((values, lines[:-1], lines), shape=(synapse.in_size, synapse.in_size))
    elif synapse.kind == "dense":
        result = csr_matrix(weight)
        copies = synapse.in_size // weight.shape[1]
        if copies > 1:
            result = block_diag([result] * copies, format="csr", dtype=weight.dtype)
    else:
        result = _conv_matrix(synapse)
    result = result.copy()  # it may share memory with the weights, and is changed in place
    result.sum_duplicates()
    result.eliminate_zeros()
    return result


def sparse(weights: csr_matrix, in_shape: Shape, out_shape: Shape) -> Synapse:
    """Return the synapse of kind ``"sparse"`` that multiplies by ``weights``."""
    weights = csr_matrix(weights)
    weights.sum_duplicates()
    weights.eliminate_zeros()
    indices, indptr = weights.indices.astype(np.int32), weights.indptr.astype(np.int32)
    return Synapse("sparse", in_shape, out_shape, weights.data, indices=indices, indptr=indptr)


def fan_out(synapse: Synapse) -> NDArray[np.int64]:
    """Return the non-zero weights per input element (``in_shape``): the synops of one spike."""
    weight = synapse.weight
    if synapse.kind == "sparse":
        assert synapse.indices is not None
        counts = np.bincount(synapse.indices[weight != 0], minlength=synapse.in_size)
    elif synapse.kind == "scale":
        counts = np.broadcast_to(weight, synapse.in_shape) != 0
    elif synapse.kind == "dense":
        counts = np.tile((weight != 0).sum(axis=0), synapse.in_size // weight.shape[1])
    else:
        # (channels, taps) non-zero weights, times (taps, pixels) output positions at which a tap
        # meets a pixel.
        channels, taps, (_, tap, pixel) = synapse.in_shape[0], math.prod(weight.shape[2:]), conv_pairs(synapse)
        nonzero = (weight != 0).reshape(synapse.groups, -1, weight.shape[1], taps).sum(axis=1).reshape(channels, taps)
        meets = csr_matrix((np.ones(len(tap), np.int64), (tap, pixel)), shape=(taps, math.prod(synapse.in_shape[1:])))
        counts = nonzero @ meets
    return np.asarray(counts, np.int64).reshape(synapse.in_shape)


def signed_sums(synapse: Synapse) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the sums of the negative and of the positive weights, per output element (flat)."""
    negative, positive = (
        _row_sums(replace(synapse, weight=clip(synapse.weight, 0))) for clip in (np.minimum, np.maximum)
    )
    return negative, positive


def _row_sums(synapse: Synapse) -> NDArray[Any]:
    # Sums of int32 mantissas may exceed 32 bits.
    weight: NDArray[Any] = synapse.weight.astype(np.int64 if synapse.weight.dtype.kind in "iu" else np.float64)
    if synapse.kind == "scale":
        return np.broadcast_to(weight, synapse.in_shape).ravel()
    if synapse.kind == "dense":
        return np.asarray(np.tile(weight.sum(axis=1), synapse.in_size // weight.shape[1]))
    if synapse.kind == "conv":
        position, tap, _ = conv_pairs(synapse)
        taps, positions = math.prod(weight.shape[2:]), math.prod(synapse.out_shape[1:])
        used = csr_matrix((np.ones(len(tap), weight.dtype), (tap, position)), shape=(taps, positions))
        return np.asarray(weight.reshape(*weight.shape[:2], taps).sum(axis=1) @ used).ravel()
    return np.asarray(matrix(replace(synapse, weight=weight)).sum(axis=1)).ravel()


def dense_macs(synapse: Synapse) -> int:
    """Number of products per step if no input is zero: with zero weights, without padding.

    A ``"sparse"`` synapse stores no zeros, so its stored weights count.
    """
    size, shape = int(synapse.weight.size), synapse.weight.shape
    if synapse.kind == "sparse":
        return size
    if synapse.kind == "scale":
        return synapse.in_size
    if synapse.kind == "dense":
        return size * (synapse.in_size // int(shape[1]))
    return int(shape[0]) * int(shape[1]) * len(conv_pairs(synapse)[0])


def conv_pairs(synapse: Synapse) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return (output position, kernel tap, input pixel) of all products of a pair of channels.

    All three are flat row-major indices into the spatial axes, without products in the padding;
    sorted by output position, then by tap.
    """
    kernel, spatial, out = synapse.weight.shape[2:], synapse.in_shape[1:], synapse.out_shape[1:]
    # All pairs of position and tap as an array (*out, *kernel), built up one axis at a time.
    n = len(kernel)
    valid = np.ones((*out, *kernel), bool)
    pixel = np.zeros((*out, *kernel), np.int64)
    for axis in range(n):
        position = np.arange(out[axis]) * synapse.stride[axis] - synapse.padding[axis][0]
        line = position[:, None] + np.arange(kernel[axis]) * synapse.dilation[axis]
        line = line.reshape([out[axis] if a == axis else kernel[axis] if a == n + axis else 1 for a in range(2 * n)])
        valid &= (line >= 0) & (line < spatial[axis])
        pixel = pixel * spatial[axis] + line
    position, tap = np.nonzero(valid.reshape(math.prod(out), math.prod(kernel)))
    return position, tap, pixel.reshape(math.prod(out), -1)[position, tap]


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution or pooling, per spatial axis; padding is (before, after)."""

    kernel: Shape
    stride: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape


def conv_shape(
    in_shape: Shape, kernel: Shape, channels: int, stride: Shape, padding: tuple[tuple[int, int], ...], dilation: Shape
) -> Shape:
    """Return the output shape ``(channels, *spatial)``, rounded down as in torch."""
    axes = zip(in_shape[1:], kernel, stride, padding, dilation, strict=True)
    return (channels, *((size + sum(pad) - gap * (taps - 1) - 1) // step + 1 for size, taps, step, pad, gap in axes))


def in_channels(synapse: Synapse) -> NDArray[np.int64]:
    """Return the input channel of every kernel of a convolution: (C_out, C_in / groups)."""
    out_channels, group_in = synapse.weight.shape[:2]
    group: NDArray[np.int64] = np.arange(out_channels) // (out_channels // synapse.groups)
    channels: NDArray[np.int64] = group[:, None] * group_in + np.arange(group_in)
    return channels


def _conv_matrix(synapse: Synapse) -> csr_matrix:
    weight = synapse.weight
    out_channels, group_in = weight.shape[:2]
    pixels, positions = math.prod(synapse.in_shape[1:]), math.prod(synapse.out_shape[1:])
    position, tap, pixel = conv_pairs(synapse)
    shape = (out_channels, group_in, len(tap))
    rows = np.broadcast_to((np.arange(out_channels)[:, None] * positions + position)[:, None, :], shape)
    columns = in_channels(synapse)[:, :, None] * pixels + pixel
    values = weight.reshape(out_channels, group_in, -1)[:, :, tap]
    return csr_matrix((values.ravel(), (rows.ravel(), columns.ravel())), shape=(synapse.out_size, synapse.in_size))


def compose(first: Synapse | None, second: Synapse) -> Synapse:
    """Return the synapse that applies ``first`` (``None``: identity), then ``second``.

    The result has the narrowest kind that is exact. A convolution stays one if it is scaled per
    channel, or if it follows a convolution (or pooling) without zero padding that the merged kernel
    would have to respect.
    """
    if first is None:
        return second
    joined = _scaled(first, second) or _convolved(first, second)
    if joined is not None:
        return joined
    product = matrix(second) @ matrix(first)
    # A dense matrix stores one number per weight, a sparse one two.
    if "dense" in (first.kind, second.kind) and 2 * product.nnz > first.in_size * second.out_size:
        return Synapse("dense", first.in_shape, second.out_shape, product.toarray())
    return sparse(product, first.in_shape, second.out_shape)


def _scaled(first: Synapse, second: Synapse) -> Synapse | None:
    """Return the product if one of the two is a scaling, or both are dense; else ``None``."""
    if second.kind == "scale":
        return scale_outputs(first, np.broadcast_to(second.weight, second.in_shape).reshape(first.out_shape))
    if first.kind == "scale":
        factors = np.broadcast_to(first.weight, first.in_shape).reshape(second.in_shape)
        # A dense weight on the last axis alone cannot hold factors that differ along the others.
        if second.kind == "dense" and second.weight.shape[1] == second.in_size:
            return _replace(second, second.weight * factors.ravel(), in_shape=first.in_shape)
        per_channel = _per_channel(factors) if second.kind == "conv" and first.in_shape == second.in_shape else None
        if per_channel is not None:
            columns = per_channel[in_channels(second)]
            return _replace(second, second.weight * columns.reshape(*columns.shape, *[1] * (second.weight.ndim - 2)))
    if (
        first.kind == second.kind == "dense"
        and first.weight.shape[1] == first.in_size
        and second.weight.shape[1] == second.in_size
    ):
        return Synapse("dense", first.in_shape, second.out_shape, second.weight @ first.weight)
    return None


def scale_outputs(synapse: Synapse, factors: NDArray[Any]) -> Synapse:
    """Return ``diag(factors) W``; ``factors`` broadcast to ``out_shape``."""
    factors = np.broadcast_to(factors, synapse.out_shape)
    if synapse.kind == "scale":
        return _replace(synapse, np.broadcast_to(synapse.weight, synapse.in_shape) * factors)
    if synapse.kind == "dense" and synapse.weight.shape[1] == synapse.in_size:
        return _replace(synapse, synapse.weight * factors.reshape(-1, 1))
    per_channel = _per_channel(factors) if synapse.kind == "conv" else None
    if per_channel is not None:
        return _replace(synapse, synapse.weight * per_channel.reshape(-1, *[1] * (synapse.weight.ndim - 1)))
    weights = matrix(synapse)
    return sparse(csr_matrix(weights.multiply(factors.reshape(-1, 1))), synapse.in_shape, synapse.out_shape)


def _convolved(first: Synapse, second: Synapse) -> Synapse | None:
    """Return the product of two convolutions as one; ``None`` if groups or padding prevent it."""
    if first.kind != "conv" or second.kind != "conv" or first.out_shape != second.in_shape:
        return None
    first_alone = first.groups == first.in_shape[0] == first.out_shape[0]  # one kernel per channel, e.g. pooling
    second_alone = second.groups == second.in_shape[0] == second.out_shape[0]
    if not (first_alone or second_alone or first.groups == second.groups == 1):
        return None
    for axis, taps in enumerate(first.weight.shape[2:]):
        span, size = first.dilation[axis] * (taps - 1), first.in_shape[1 + axis]
        before, after = second.padding[axis]
        # First pixel of the window past the last one.
        end = first.out_shape[1 + axis] * first.stride[axis] - first.padding[axis][0]
        # The second one's padding is zeros; the merged kernel would see pixels there if a window of
        # the first one beyond its output still touched its input.
        if (before and span >= first.stride[axis] + first.padding[axis][0]) or (after and end < size):
            return None
    # A step of the second one is first.stride pixels, so its taps lie that far apart in the merged
    # kernel, each with a copy of the first kernel.
    axes = range(len(first.stride))
    gaps = [second.dilation[a] * first.stride[a] for a in axes]
    kernel = [
        gaps[a] * (second.weight.shape[2 + a] - 1) + first.dilation[a] * (first.weight.shape[2 + a] - 1) + 1
        for a in axes
    ]
    weight = np.zeros((second.out_shape[0], second.weight.shape[1] if first_alone else first.weight.shape[1], *kernel))
    for tap in np.ndindex(*second.weight.shape[2:]):
        starts = [gaps[a] * tap[a] for a in axes]
        reach = [first.dilation[a] * (first.weight.shape[2 + a] - 1) for a in axes]
        here = tuple(slice(starts[a], starts[a] + reach[a] + 1, first.dilation[a]) for a in axes)
        outer = second.weight[(slice(None), slice(None), *tap)]
        if first_alone or second_alone:
            inner = first.weight[in_channels(second), 0] if first_alone else first.weight
            weight[(slice(None), slice(None), *here)] += outer.reshape(*outer.shape, *[1] * len(kernel)) * inner
        else:
            weight[(slice(None), slice(None), *here)] += np.tensordot(outer, first.weight, axes=1)
    stride = tuple(first.stride[a] * second.stride[a] for a in axes)
    padding = tuple(
        (
            first.padding[a][0] + second.padding[a][0] * first.stride[a],
            first.padding[a][1] + second.padding[a][1] * first.stride[a],
        )
        for a in axes
    )
    ones = (1,) * len(kernel)
    if conv_shape(first.in_shape, tuple(kernel), second.out_shape[0], stride, padding, ones) != second.out_shape:
        return None  # the first one leaves out pixels at the border that the merged kernel would use
    groups = second.groups if first_alone else first.groups
    return Synapse("conv", first.in_shape, second.out_shape, weight, stride, padding, ones, groups)


def _per_channel(factors: NDArray[Any]) -> NDArray[Any] | None:
    """Return one factor per channel (first axis); ``None`` if they differ within a channel."""
    flat = factors.reshape(factors.shape[0], -1)
    return flat[:, 0] if (flat == flat[:, :1]).all() else None


def _replace(synapse: Synapse, weight: NDArray[Any], in_shape: Shape | None = None) -> Synapse:
    return replace(synapse, weight=weight, in_shape=in_shape or synapse.in_shape)
