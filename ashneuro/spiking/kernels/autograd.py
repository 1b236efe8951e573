"""Autograd of the neuron kernels: tensors kept between the passes, and the autograd function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ashneuro.spiking.kernels.interface import LEARNABLE, SECOND, Block, ForwardInputs, Parameters, Settings
from ashneuro.spiking.kernels.layout import Layout, fit_parameter
from ashneuro.spiking.kernels.passes import (
    Arriving,
    Saved,
    Wanted,
    fitted_block,
    held,
    keeps_input,
    run_backward,
    run_forward,
    saved_type,
)
from ashneuro.spiking.kernels.tracing import first_derivative_only

# Parameters that a kind, or a kind of reset, has no equation for get no gradient.
UNUSED = {
    "if": ("decay", "leak"),
    "li": ("threshold", "reset"),
    "graded": ("decay", "leak", "reset"),
    # The bias of sigma-delta neurons is their first v.
    "sigma-delta": ("decay", "threshold", "leak", "reset"),
    "delta": ("decay", "threshold", "leak", "reset"),
    "subtract": ("reset",),
}


# Plain tuples, because constructing a NamedTuple is one more Python call in every forward pass.
Inputs = tuple[Tensor, Tensor | None, Tensor | None]
"""Currents x (T, B, ...), and the first state v and i (B, ...)."""

Outputs = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
"""Output (T, B, ...), last state v and i (B, ...), and margins."""


def keep(ctx: Any, inputs: Inputs, parameters: Sequence[Tensor], settings: Settings, outputs: Outputs) -> None:
    """Store in ``ctx`` what `gradients` needs."""
    x, v, i = inputs
    output, v_last, _, margins = outputs
    unused = UNUSED.get(settings.kind, ()) + UNUSED.get(settings.reset_kind, ())
    # Inputs 3 to 7 are the parameters.
    trained = zip(Parameters._fields, ctx.needs_input_grad[3:8], strict=True)
    learned = [name for name, wanted in trained if wanted and name in LEARNABLE and name not in unused]
    again = keeps_input(settings)
    if again:
        margins = None
    elif settings.kind == "li":
        margins = output if "decay" in learned else None
    ctx.set_materialize_grads(False)
    # An empty tensor of the input's type and device stands for the input where that is not kept.
    ctx.save_for_backward(
        margins,
        x if again else None,
        v if again or "decay" in learned else None,
        i if again else None,
        x.new_empty(0),
        *parameters,
    )
    ctx.shape, ctx.strides = output.shape, None if v_last is None else v_last.stride()
    ctx.first_shapes = None if v is None else v.shape, None if i is None else i.shape
    ctx.learned, ctx.settings, ctx.fitted = " ".join(learned), settings, None


def gradients(
    ctx: Any, arriving: Arriving, g_rate: Tensor | None = None, g_weighted: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    """Return gradients at x, v and i, and at the five parameters.

    Args:
        g_rate, g_weighted: gradients at the mean of the spikes, and at that of their weights.
    """
    margins, x, v, i, like, *parameters = ctx.saved_tensors
    saved, settings = Saved(margins, x, v, i), ctx.settings
    if settings.kind not in SECOND and arriving.g_i is not None:
        arriving = arriving._replace(g_i=None)  # of the empty tensor that stands for i
    given: Any
    v_shape, i_shape = ctx.first_shapes
    if ctx.fitted is not None:
        block, layout, weights = ctx.fitted
        each, weighted = (0.0 if g is None else float(g) / math.prod(ctx.shape) for g in (g_rate, g_weighted))
        first = v_shape is not None or i_shape is not None
        if g_weighted is None:
            weights = None
        wanted = Wanted(ctx.shape, like.dtype, ctx.learned, first, each, weighted, weights)
        given = run_backward(arriving, saved, block, layout, wanted, settings)
    else:
        backward: Any = torch.ops.ashneuro.neurons_backward
        given = backward(*arriving, *saved, *parameters, ctx.shape, ctx.strides, like, ctx.learned, *settings)
    g_input, first_v, first_i, *learned = given
    by_name = dict(zip(LEARNABLE, learned, strict=True))
    names = ctx.learned.split()
    return (
        g_input,
        None if v_shape is None else first_v.sum_to_size(v_shape),
        None if i_shape is None else first_i.sum_to_size(i_shape),
        *[
            by_name[name].sum_to_size(values.shape).to(values) if name in names else None
            for name, values in zip(Parameters._fields, parameters, strict=True)
        ],
    )


def mean_rate(total: float | None, spikes: Tensor) -> Tensor | None:
    """Return the mean of ``spikes`` or of their weights (scalar, float32), if there is a total.

    Args:
        total: number of spikes or graded messages, or sum of their weights.
    """
    return None if total is None else torch.tensor(total / spikes.numel(), dtype=torch.float32)


def fitted_weights(
    weights: Tensor | None, shape: Sequence[int], block: Block, layout: Layout, device: torch.device
) -> Tensor | None:
    """Return weights (...) as those of a block, (width,)."""
    if weights is None:
        return None
    return fit_parameter(weights, shape, layout, block.leak.dtype, device)


class MultiStep(torch.autograd.Function):
    """Both passes outside of tracing.

    For a small layer, an operator's trip through torch's dispatcher takes longer than the layer.
    """

    # Without setup_context: torch takes longer to bind its arguments than this method takes.
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor | None, ...]:
        """Return `Outputs`, and the means of the spikes and of their weights.

        Args:
            arguments: x, v, i, the five parameters, settings, neurons, whether the last state is
                wanted, and weights.
        """
        x, v, i, *parameters, settings, neurons, last, weights = arguments
        x = held(x, settings.hold)
        block, layout = fitted_block(x, parameters, settings, neurons.blocks, weights)
        fitted = fitted_weights(weights, x.shape[1:], block, layout, x.device)
        save = saved_type(settings.save, x.dtype)
        call = ForwardInputs(x, v, i, save, last, fitted)
        output, v_last, i_last, margins, ones, weighted = run_forward(call, block, layout, settings.backend)
        # The same memory, but no view: autograd forbids changing a returned view in place, as
        # ``spikes += skip`` does.
        output = output.new_empty(0).set_(
            output.untyped_storage(), output.storage_offset(), output.shape, output.stride()
        )
        keep(ctx, (arguments[0], v, i), parameters, settings, (output, v_last, i_last, margins))
        ctx.fitted = block, layout, fitted
        return output, v_last, i_last, margins, mean_rate(ones, output), mean_rate(weighted, output)

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, *given: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return `gradients`; settings, neurons, the flag and the weights have none."""
        g, g_v, g_i, _, g_rate, g_weighted = given
        return *gradients(ctx, Arriving(g, g_v, g_i), g_rate, g_weighted), None, None, None, None
