"""Memory layouts: tensors of any strides as blocks [T, rows, width], without copies where possible.

Neurons are independent, so a step (B, ...) may be computed in the order in which it lies in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Layout(NamedTuple):
    """Memory layout of one step: ``strides`` as (B, ...), and size as a block [rows, width]."""

    strides: tuple[int, ...]
    rows: int
    width: int


def layout_of(shape: Sequence[int], strides: Sequence[int], per_neuron: bool) -> Layout:
    """Return the layout of a step of ``shape``: its own if it has no gaps, else C order."""
    size = math.prod(shape)
    axes = sorted((axis for axis in range(len(shape)) if shape[axis] != 1), key=lambda axis: strides[axis])
    expected = 1
    for axis in axes:
        if strides[axis] != expected:
            break
        expected *= shape[axis]
    dense = expected == size
    # Parameters per neuron need the batch outermost: then all rows have the same parameters.
    if not dense or (per_neuron and shape[0] > 1 and axes[-1] != 0):
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    rows = shape[0] if per_neuron else 1
    return Layout(tuple(strides), rows, size // max(1, rows))


def fits(values: Tensor, strides: Sequence[int]) -> bool:
    """Return True if ``values`` has these strides; those of axes of size 1 do not count."""
    own = values.stride()
    return own == strides or all(a == b or n == 1 for a, b, n in zip(own, strides, values.shape, strict=True))


def lay(values: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Return ``values`` with these strides, copied only if its own differ."""
    if fits(values, strides):
        return values
    return torch.empty_strided(values.shape, strides, dtype=values.dtype, device=values.device).copy_(values)


def state_block(values: Tensor, layout: Layout, dtype: torch.dtype) -> Tensor:
    """Return a state (B, ...) as a block."""
    return lay(values.to(dtype), layout.strides).as_strided((layout.rows, layout.width), (layout.width, 1))


def steps_block(values: Tensor, layout: Layout) -> Tensor:
    """Return inputs (T, B, ...) as a block; the stride between steps is arbitrary, 0 included."""
    size = layout.rows * layout.width
    if values.stride() == (size, *layout.strides):
        return values.as_strided((len(values), layout.rows, layout.width), (size, layout.width, 1))
    # If steps have to be copied, or there is one only, they are laid next to each other.
    keeps = values.shape[0] > 1 and fits(values[0], layout.strides)
    laid = lay(values, (values.stride(0) if keeps else size, *layout.strides))
    return laid.as_strided((len(laid), layout.rows, layout.width), (laid.stride(0), layout.width, 1))


def outside(values: Tensor, shape: Sequence[int], layout: Layout) -> Tensor:
    """Return a block as a tensor of ``shape``, (T, B, ...) or (B, ...)."""
    size = layout.rows * layout.width
    return values.as_strided(
        tuple(shape), (size, *layout.strides) if len(shape) > len(layout.strides) else layout.strides
    )


def fit_parameter(
    values: Tensor, shape: Sequence[int], layout: Layout, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return a parameter of a block: () stays (), others become (width,), a value per neuron."""
    values = values.to(device, dtype)
    if not values.ndim:
        return values
    inside = torch.empty_strided(tuple(shape[1:]), layout.strides[1:], dtype=dtype, device=device).copy_(
        values.expand(tuple(shape[1:]))
    )
    return inside.as_strided((layout.width,), (1,))


def computed_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type of states, and of the arithmetic on inputs of ``dtype``."""
    return torch.float64 if dtype == torch.float64 else torch.float32
