"""Both passes as torch operators, ``ashneuro::neurons`` and ``ashneuro::neurons_backward``.

`torch.compile` puts each into its graph as one node. An operator takes flat arguments. Each list of
records below describes them once: for the operator's schema, and for cutting them into records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple, get_origin, get_type_hints

import torch
from torch import Tensor

from ashneuro.spiking.kernels.autograd import gradients, keep
from ashneuro.spiking.kernels.interface import LEARNABLE, SECOND, ForwardInputs, Parameters, Settings
from ashneuro.spiking.kernels.layout import computed_type, layout_of
from ashneuro.spiking.kernels.passes import (
    Arriving,
    Saved,
    Wanted,
    held,
    keeps_input,
    layout_for,
    make_block,
    run_backward,
    run_forward,
    saved_type,
)


class Inputs(NamedTuple):
    """Currents x (T, B, ...), and the first state v and i (B, ...)."""

    x: Tensor
    v: Tensor | None
    i: Tensor | None


class Site(NamedTuple):
    """Sizes of a backward pass.

    Args:
        shape: (T, B, ...) of the output; ``strides``: of one step of it.
        like: empty tensor of the input's type and device.
        learned: names of parameters, separated by spaces.
    """

    shape: Sequence[int]
    strides: Sequence[int]
    like: Tensor
    learned: str


FORWARD = (Inputs, Parameters, Settings)
BACKWARD = (Arriving, Saved, Parameters, Site, Settings)
TYPES = {
    Tensor: "Tensor",
    Tensor | None: "Tensor?",
    Sequence[int]: "SymInt[]",
    str: "str",
    float: "float",
    bool: "bool",
    int: "SymInt",
}


def schema(records: Sequence[type], outputs: int) -> str:
    """Return the schema of an operator with the fields of ``records`` and ``outputs`` tensors."""
    hints = [(name, hint) for record in records for name, hint in get_type_hints(record).items()]
    arguments = (f"{'str' if get_origin(hint) is Literal else TYPES[hint]} {name}" for name, hint in hints)
    return f"({', '.join(arguments)}) -> ({', '.join(['Tensor'] * outputs)})"


def cut(arguments: Sequence[Any], records: Sequence[type]) -> list[Any]:
    """Return the flat arguments of an operator as records."""
    rest = iter(arguments)
    return [record(*islice(rest, len(record._fields))) for record in records]  # type: ignore[attr-defined]


def _forward(*arguments: Any) -> tuple[Tensor, ...]:
    inputs, parameters, settings = cut(arguments, FORWARD)
    x = held(inputs.x, settings.hold)
    if x.numel() == 0:
        return _empty_outputs(x, parameters, settings)
    layout = layout_for(x, parameters)
    block = make_block(parameters, settings, x.shape[1:], layout, x, x.device)
    call = ForwardInputs(x, inputs.v, inputs.i, saved_type(settings.save, x.dtype))
    output, *rest, _, _ = run_forward(call, block, layout, settings.backend)
    # An operator returns tensors only.
    return output, *(x.new_empty(0) if part is None else part for part in rest)


def _fake_forward(*arguments: Any) -> tuple[Tensor, ...]:
    inputs, parameters, settings = cut(arguments, FORWARD)
    return _empty_outputs(held(inputs.x, settings.hold), parameters, settings)


def _empty_outputs(x: Tensor, parameters: Parameters, settings: Settings) -> tuple[Tensor, ...]:
    """Return tensors of the sizes and strides that `_forward` returns."""
    layout, shape, save = layout_for(x, parameters), x.shape[1:], saved_type(settings.save, x.dtype)
    has_margins = save is not None and settings.kind not in ("li", "delta") and not keeps_input(settings)
    size, computed = layout.rows * layout.width, computed_type(x.dtype)
    return (
        torch.empty_strided(x.shape, (size, *layout.strides), dtype=x.dtype, device=x.device),
        torch.empty_strided(shape, layout.strides, dtype=computed, device=x.device),
        torch.empty_strided(shape, layout.strides, dtype=computed, device=x.device)
        if settings.kind in SECOND
        else x.new_empty(0),
        x.new_empty((x.shape[0], layout.rows, layout.width), dtype=save) if has_margins else x.new_empty(0),
    )


def _backward(*arguments: Any) -> tuple[Tensor, ...]:
    arriving, saved, parameters, site, settings = cut(arguments, BACKWARD)
    shape, strides, like, learned = site
    if math.prod(shape) == 0:
        return tuple(values.zero_() for values in _empty_gradients(site, settings))
    layout = layout_of(shape[1:], strides, any(values.ndim for values in parameters))
    device = parameters.decay.device if like.device.type == "cpu" else like.device
    block = make_block(parameters, settings, shape[1:], layout, like, device)
    given = run_backward(arriving, saved, block, layout, Wanted(shape, like.dtype, learned), settings)
    return tuple(like.new_empty(0) if part is None else part for part in given)


def _fake_backward(*arguments: Any) -> tuple[Tensor, ...]:
    *_, site, settings = cut(arguments, BACKWARD)
    return _empty_gradients(site, settings)


def _empty_gradients(site: Site, settings: Settings) -> tuple[Tensor, ...]:
    """Return tensors of the sizes and strides that `_backward` returns."""
    shape, strides, like, learned = site
    inside, size = tuple(shape[1:]), math.prod(shape[1:])

    def state(wanted: bool) -> Tensor:
        if not wanted:
            return like.new_empty(0)
        return torch.empty_strided(inside, tuple(strides), dtype=computed_type(like.dtype), device=like.device)

    g_input = torch.empty_strided(
        (1 if settings.hold > 1 else shape[0], *inside), (size, *strides), dtype=like.dtype, device=like.device
    )
    names = learned.split()
    return g_input, state(True), state(settings.kind in SECOND), *(state(name in names) for name in LEARNABLE)


def _keep(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    given, parameters, settings = cut(inputs, FORWARD)
    keep(ctx, given, parameters, settings, output)


def _gradients(ctx: Any, g: Tensor | None, g_v: Tensor | None, g_i: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    return *gradients(ctx, Arriving(g, g_v, g_i)), *[None] * len(Settings._fields)


def _register() -> tuple[Any, Any]:
    """Register both operators, and return them."""
    forward = torch.library.custom_op("ashneuro::neurons", _forward, mutates_args=(), schema=schema(FORWARD, 4))
    forward.register_fake(_fake_forward)
    forward.register_autograd(_gradients, setup_context=_keep)
    backward = torch.library.custom_op(
        "ashneuro::neurons_backward", _backward, mutates_args=(), schema=schema(BACKWARD, 3 + len(LEARNABLE))
    )
    backward.register_fake(_fake_backward)
    return torch.ops.ashneuro.neurons, torch.ops.ashneuro.neurons_backward


neurons, neurons_backward = _register()
