"""What a synapse is as a matrix, and how many weights it has: exact for every kind.

Simulators may apply a synapse in any faster way; this module is what they are tested against. Counts follow
NeuroBench's *effective* operations: zero weights and padding are not work.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import block_diag, csr_matrix

from ashneuro.program.program import Shape, Synapse


def matrix(synapse: Synapse) -> csr_matrix:
    """Return ``W`` (N_out, N_in) with ``y.ravel() = W @ x.ravel()``: sorted, without explicit zeros, in the weights' dtype."""
    weight = synapse.weight
    if synapse.kind == "sparse":
        result = csr_matrix((weight, synapse.indices, synapse.indptr), shape=(synapse.out_size, synapse.in_size))
    elif synapse.kind == "scale":
        values = np.broadcast_to(weight, synapse.in_shape).ravel()
        lines = np.arange(synapse.in_size + 1)
        result = csr_matrix((values, lines[:-1], lines), shape=(synapse.in_size, synapse.in_size))
    elif synapse.kind == "dense":
        result = csr_matrix(weight)
        copies = synapse.in_size // weight.shape[1]
        if copies > 1:
            result = block_diag([result] * copies, format="csr", dtype=weight.dtype)
    else:
        result = _conv_matrix(synapse)
    result = result.copy()
    result.sum_duplicates()
    result.eliminate_zeros()
    return result


def sparse(weights: csr_matrix, in_shape: Shape, out_shape: Shape) -> Synapse:
    """Return the synapse of kind ``"sparse"`` that computes ``weights``."""
    weights = csr_matrix(weights)
    weights.sum_duplicates()
    weights.eliminate_zeros()
    indices, indptr = weights.indices.astype(np.int32), weights.indptr.astype(np.int32)
    return Synapse("sparse", in_shape, out_shape, weights.data, indices=indices, indptr=indptr)


def fan_out(synapse: Synapse) -> NDArray[np.int64]:
    """Return, per input element (shape ``in_shape``), how many non-zero weights it meets: the synops of one event."""
    weight = synapse.weight
    if synapse.kind == "sparse":
        assert synapse.indices is not None
        counts = np.bincount(synapse.indices[weight != 0], minlength=synapse.in_size)
    elif synapse.kind == "scale":
        counts = np.broadcast_to(weight, synapse.in_shape) != 0
    elif synapse.kind == "dense":
        counts = np.tile((weight != 0).sum(axis=0), synapse.in_size // weight.shape[1])
    else:
        # Per input channel and kernel tap: non-zero weights; per tap: the positions at which it meets each pixel.
        channels, taps, (_, tap, pixel) = synapse.in_shape[0], math.prod(weight.shape[2:]), conv_pairs(synapse)
        nonzero = (weight != 0).reshape(synapse.groups, -1, weight.shape[1], taps).sum(axis=1).reshape(channels, taps)
        meets = csr_matrix((np.ones(len(tap), np.int64), (tap, pixel)), shape=(taps, math.prod(synapse.in_shape[1:])))
        counts = nonzero @ meets
    return np.asarray(counts, np.int64).reshape(synapse.in_shape)


def dense_macs(synapse: Synapse) -> int:
    """Return how many products one step costs when every input is non-zero: zero weights count, padding does not.

    A ``"sparse"`` synapse has no zero weights to begin with: its stored weights are what is counted.
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
    """Return (output position, kernel tap, input pixel) of every product of one channel pair, padding left out.

    All three are flat indices into the spatial axes, row by row; sorted by output position, then by tap.
    """
    kernel, spatial, out = synapse.weight.shape[2:], synapse.in_shape[1:], synapse.out_shape[1:]
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


def conv_shape(
    in_shape: Shape, kernel: Shape, channels: int, stride: Shape, padding: tuple[tuple[int, int], ...], dilation: Shape
) -> Shape:
    """Return the output shape ``(channels, *spatial)`` of a convolution or pooling, rounded down as torch does."""
    axes = zip(in_shape[1:], kernel, stride, padding, dilation, strict=True)
    return (channels, *((size + sum(pad) - gap * (taps - 1) - 1) // step + 1 for size, taps, step, pad, gap in axes))


def _conv_matrix(synapse: Synapse) -> csr_matrix:
    weight = synapse.weight
    out_channels, group_in = weight.shape[:2]
    pixels, positions = math.prod(synapse.in_shape[1:]), math.prod(synapse.out_shape[1:])
    position, tap, pixel = conv_pairs(synapse)
    group = np.arange(out_channels) // (out_channels // synapse.groups)
    in_channel = group[:, None] * group_in + np.arange(group_in)
    shape = (out_channels, group_in, len(tap))
    rows = np.broadcast_to((np.arange(out_channels)[:, None] * positions + position)[:, None, :], shape)
    columns = in_channel[:, :, None] * pixels + pixel
    values = weight.reshape(out_channels, group_in, -1)[:, :, tap]
    return csr_matrix((values.ravel(), (rows.ravel(), columns.ravel())), shape=(synapse.out_size, synapse.in_size))
