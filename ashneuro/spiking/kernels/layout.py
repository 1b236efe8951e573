"""Where neurons lie in memory: as blocks [T, rows, width] without copies, whatever the strides of the tensors around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Layout(NamedTuple):
    """Where the neurons of one step lie: ``strides`` of (B, ...), and how that is a block [rows, width]."""

    strides: tuple[int, ...]
    rows: int
    width: int


def layout_of(shape: Sequence[int], strides: Sequence[int], per_neuron: bool) -> Layout:
    """Return the layout that a step of this shape keeps: its own, if it has no gaps, else row by row."""
    size = math.prod(shape)
    axes = sorted((axis for axis in range(len(shape)) if shape[axis] != 1), key=lambda axis: strides[axis])
    expected = 1
    for axis in axes:
        if strides[axis] != expected:
            break
        expected *= shape[axis]
    dense = expected == size
    # With parameters that differ, the batch has to be the outermost axis: then all its rows are alike.
    if not dense or (per_neuron and shape[0] > 1 and axes[-1] != 0):
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    rows = shape[0] if per_neuron else 1
    return Layout(tuple(strides), rows, size // max(1, rows))


def fits(values: Tensor, strides: Sequence[int]) -> bool:
    """Whether ``values`` lies in memory as ``strides`` say."""
    own = values.stride()
    return own == strides or all(a == b or n == 1 for a, b, n in zip(own, strides, values.shape, strict=True))


def lay(values: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Return ``values`` with these strides, copied only if it has others."""
    if fits(values, strides):
        return values
    return torch.empty_strided(values.shape, strides, dtype=values.dtype, device=values.device).copy_(values)


def state_block(values: Tensor, layout: Layout, dtype: torch.dtype) -> Tensor:
    """Return a state (B, ...) as a block."""
    return lay(values.to(dtype), layout.strides).as_strided((layout.rows, layout.width), (layout.width, 1))


def steps_block(values: Tensor, layout: Layout) -> Tensor:
    """Return inputs (T, B, ...) as a block; steps may lie anywhere, all at one place as well."""
    size = layout.rows * layout.width
    if values.stride() == (size, *layout.strides):
        return values.as_strided((len(values), layout.rows, layout.width), (size, layout.width, 1))
    # One step needs no distance to the next, and steps that have to be moved are moved next to each other.
    keeps = values.shape[0] > 1 and fits(values[0], layout.strides)
    laid = lay(values, (values.stride(0) if keeps else size, *layout.strides))
    return laid.as_strided((len(laid), layout.rows, layout.width), (laid.stride(0), layout.width, 1))


def outside(values: Tensor, shape: Sequence[int], layout: Layout) -> Tensor:
    """Return a block as what it is outside: (T, B, ...) or (B, ...)."""
    size = layout.rows * layout.width
    return values.as_strided(
        tuple(shape), (size, *layout.strides) if len(shape) > len(layout.strides) else layout.strides
    )


def fit_parameter(
    values: Tensor, shape: Sequence[int], layout: Layout, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return a parameter as a block's: a number stays one, any other gets the value of each neuron in a row."""
    values = values.to(device, dtype)
    if not values.ndim:
        return values
    inside = torch.empty_strided(tuple(shape[1:]), layout.strides[1:], dtype=dtype, device=device).copy_(
        values.expand(tuple(shape[1:]))
    )
    return inside.as_strided((layout.width,), (1,))


def computed_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type that states have and that inputs of ``dtype`` are computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32
