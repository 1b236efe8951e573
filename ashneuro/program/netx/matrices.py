"""Matrices of Slayer's transposed convolution, pool and unpool, (outputs, inputs) in CSR.

A transposed convolution is the transpose of the convolution that leads from its output back to its
input, with the same weights.

Slayer's pool and unpool stack the channels of a (C, H, W) input to one image of C·H rows, apply a
(transposed) convolution with one kernel, and cut the result into C channels again. Where windows
overlap, or padding is used, a window therefore sees two channels. Before, pool adds H mod kH rows
and W mod kW columns of zeros.

Source: ``lava.lib.dl.slayer.synapse.layer`` of lava-dl 0.6.0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ashneuro.program.program import Shape, Synapse
from ashneuro.program.synapse import Window, conv_shape, matrix


def transposed_shape(in_shape: Shape, channels: int, window: Window) -> Shape:
    """Return the output shape of a transposed convolution, (channels, H, W)."""
    axes = zip(in_shape[1:], window.kernel, window.stride, window.padding, window.dilation, strict=True)
    return (channels, *((size - 1) * step - sum(pad) + gap * (taps - 1) + 1 for size, taps, step, pad, gap in axes))


def transposed(weight: NDArray[Any], in_shape: Shape, out_shape: Shape, window: Window, groups: int) -> csr_matrix:
    """Return the matrix of a transposed convolution; weight (C_in, C_out / groups, kH, kW)."""
    geometry = (window.stride, window.padding, window.dilation)
    return csr_matrix(matrix(Synapse("conv", out_shape, in_shape, weight, *geometry, groups)).T)


def padded(in_shape: Shape, kernel: Shape) -> Shape:
    """Return the shape of a pool's input with the zeros that Slayer adds to it."""
    channels, *sizes = in_shape
    return (channels, *(size + size % taps for size, taps in zip(sizes, kernel, strict=True)))


def separate(in_shape: Shape, window: Window) -> bool:
    """Return True if no window of a pool sees two channels: windows lie side by side."""
    plain = window.stride == window.kernel and window.dilation == (1, 1) and not any(map(sum, window.padding))
    return plain and padded(in_shape, window.kernel)[1] % window.kernel[0] == 0


def stacked_shape(in_shape: Shape, window: Window, kind: str) -> Shape | None:
    """Return the output shape of a pool or unpool; ``None`` if its rows do not make C channels."""
    channels, height, width = in_shape
    tall = (1, channels * height, width)
    if kind == "pool":
        _, height, width = padded(in_shape, window.kernel)
        tall = (1, channels * height, width)
        result = conv_shape(tall, window.kernel, 1, window.stride, window.padding, window.dilation)
    else:
        result = transposed_shape(tall, 1, window)
    return None if result[1] % channels else (channels, result[1] // channels, result[2])


def stacked(weight: NDArray[Any], in_shape: Shape, out_shape: Shape, window: Window, kind: str) -> csr_matrix:
    """Return the matrix of a pool or unpool; weight (1, 1, kH, kW)."""
    channels, height, width = out_shape
    tall_out = (1, channels * height, width)
    if kind == "unpool":
        return transposed(weight, (1, in_shape[0] * in_shape[1], in_shape[2]), tall_out, window, 1)
    shape = padded(in_shape, window.kernel)
    geometry = (window.stride, window.padding, window.dilation)
    full = matrix(Synapse("conv", (1, shape[0] * shape[1], shape[2]), tall_out, weight, *geometry))
    # The columns of the zeros that were added are left out.
    pixels = np.arange(math.prod(shape)).reshape(shape)[:, : in_shape[1], : in_shape[2]]
    return csr_matrix(full[:, pixels.ravel()])
