"""Forward and backward pass on tensors of any memory layout, by a back end that takes blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ashneuro.spiking.kernels import backend_native
from ashneuro.spiking.kernels.dispatch import load_backend
from ashneuro.spiking.kernels.interface import (
    CHANGES,
    LEARNABLE,
    BackwardInputs,
    Block,
    ForwardInputs,
    ForwardResult,
    Settings,
)
from ashneuro.spiking.kernels.layout import (
    Layout,
    computed_type,
    fit_parameter,
    lay,
    layout_of,
    outside,
    state_block,
    steps_block,
)

# Number of memory layouts (batch sizes, mostly) whose fitted parameters are cached.
CACHED_BLOCKS = 8


class Saved(NamedTuple):
    """Tensors that the backward pass needs, ``None`` where it does not.

    Args:
        margins: v' − v_threshold of every neuron and timestep; the output of ``"li"``.
        x, v, i: input, and first state.
    """

    margins: Tensor | None
    x: Tensor | None
    v: Tensor | None
    i: Tensor | None


class Arriving(NamedTuple):
    """Gradients at the output and at the last state; ``None`` stands for 0."""

    g: Tensor | None
    g_v: Tensor | None
    g_i: Tensor | None


class Wanted(NamedTuple):
    """Gradients that a backward pass is asked for.

    Args:
        shape: (T, B, ...) of the output; ``dtype``: type of the input.
        learned: names of parameters, separated by spaces.
        first: whether gradients at the first state are wanted.
        each: gradient added at every spike or graded message; only the native back end adds it.
        weighted: the same, times the weight of its neuron.
        weights: (width,) of a block.
    """

    shape: Sequence[int]
    dtype: torch.dtype
    learned: str
    first: bool = True
    each: float = 0.0
    weighted: float = 0.0
    weights: Tensor | None = None


def saved_type(save: str, dtype: torch.dtype) -> torch.dtype | None:
    """Return the type of the saved margins of inputs of ``dtype``; ``None`` if none are saved."""
    return None if not save else torch.bfloat16 if save == "bf16" else computed_type(dtype)


def keeps_input(settings: Settings) -> bool:
    """Return True if the input is saved instead of the margins.

    Native kernels compute margins again from it in less time than memory would give them back.
    """
    return settings.backend == "native" and settings.kind not in ("li", "delta") and settings.save == "full"


def held(x: Tensor, hold: int) -> Tensor:
    """Return the input of every timestep: a view with stride 0 along time where it is held."""
    return x.expand(hold, *x.shape[1:]) if hold > 1 else x


def layout_for(x: Tensor, parameters: Sequence[Tensor]) -> Layout:
    """Return the layout of the population's block for inputs x (T, B, ...)."""
    return layout_of(x.shape[1:], x.stride()[1:], any(values.ndim for values in parameters))


def make_block(
    parameters: Sequence[Tensor],
    settings: Settings,
    shape: Sequence[int],
    layout: Layout,
    like: Tensor,
    device: torch.device,
) -> Block:
    """Return the parameters fitted to steps of ``shape`` (B, ...) and to the type of ``like``."""
    computed = computed_type(like.dtype)
    decay, synapse, threshold, leak, reset = (
        fit_parameter(values, shape, layout, computed, device) for values in parameters
    )
    kind, reset_kind, surrogate, slope, detached, *_, limit = settings
    return Block(kind, decay, synapse, threshold, leak, reset, reset_kind, surrogate, slope, detached, limit)


def fitted_block(
    x: Tensor,
    parameters: Sequence[Tensor],
    settings: Settings,
    cache: dict[object, Block] | None,
    weights: Tensor | None = None,
) -> tuple[Block, Layout]:
    """Return the block for inputs x (T, B, ...), from ``cache`` if there is one, and its layout.

    Args:
        weights: (...), which the layout is for as well.
    """
    layout = layout_for(x, parameters if weights is None else (*parameters, weights))
    key = (layout, x.shape[2:], x.dtype, x.device)
    block = None if cache is None else cache.get(key)
    if block is None:
        block = make_block(parameters, settings, x.shape[1:], layout, x, x.device)
        if cache is not None:
            if len(cache) >= CACHED_BLOCKS:
                cache.clear()
            cache[key] = block
    return block, layout


def run_forward(inputs: ForwardInputs, block: Block, layout: Layout, backend: str) -> ForwardResult:
    """Return output (T, B, ...), last state (B, ...), saved margins (a block) and spike count.

    ``inputs`` are tensors (T, B, ...) and (B, ...), not blocks; its weights are those of a block.
    """
    x, v, i, save, last, weights = inputs
    dtype, shape, computed = x.dtype, x.shape[1:], block.leak.dtype
    if backend == "native" and dtype not in backend_native.TYPES:
        x = x.float()
    v, i = [None if state is None else state_block(state.expand(tuple(shape)), layout, computed) for state in (v, i)]
    done = load_backend(backend).forward(ForwardInputs(steps_block(x, layout), v, i, save, last, weights), block)
    spiking = block.kind != "li"
    return ForwardResult(
        outside(done.output, x.shape, layout).to(dtype),
        None if done.v is None else outside(done.v, shape, layout),
        None if done.i is None else outside(done.i, shape, layout),
        # Outputs of an operator must not alias: for "li" autograd saves the output itself.
        done.saved if spiking else None,
        done.ones if spiking and block.kind not in CHANGES else None,
        done.weighted,
    )


def run_backward(
    arriving: Arriving, saved: Saved, block: Block, layout: Layout, wanted: Wanted, settings: Settings
) -> tuple[Tensor | None, ...]:
    """Return gradients at the input, first v, first i, and, per neuron, `LEARNABLE` parameters.

    The gradient at an input that was held is the sum over timesteps (1, B, ...).
    """
    shape, dtype, learned, first, each, weighted, weights = wanted
    computed, inside = block.leak.dtype, tuple(shape[1:])
    native, hold = settings.backend == "native", settings.hold > 1
    narrow = computed if native and dtype not in backend_native.TYPES else dtype
    strides = (layout.rows * layout.width, *layout.strides)
    g = None if arriving.g is None else steps_block(lay(arriving.g.to(narrow), strides), layout)
    g_v, g_i = [None if state is None else state_block(state, layout, computed) for state in arriving[1:]]
    v, i = [
        None if state is None else state_block(state.expand(inside), layout, computed) for state in (saved.v, saved.i)
    ]
    margins = saved.margins
    if margins is not None and block.kind == "li":
        margins = steps_block(lay(margins, strides), layout)
    x = saved.x
    if x is not None:
        x = steps_block(held(x.to(narrow), shape[0] if hold else 1), layout)
    done = load_backend(settings.backend).backward(
        BackwardInputs(
            *((shape[0], layout.rows, layout.width), narrow, g, g_v, g_i, margins, v, learned.split(), hold),
            *(x, i, each, first, weighted, weights),
        ),
        block,
    )
    return (
        outside(done.input, (1 if hold else shape[0], *inside), layout).to(dtype),
        None if done.v is None else outside(done.v, inside, layout),
        None if done.i is None else outside(done.i, inside, layout),
        *(outside(done.learned[name], inside, layout) if name in done.learned else None for name in LEARNABLE),
    )
