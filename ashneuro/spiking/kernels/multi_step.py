"""The one neuron over many steps at once, forward and backward in closed form, by the fastest way that a machine has.

With margin ``m_t = v'_t − v_threshold``, decays k = dt/τ, and everything per neuron::

    I_t  = I_{t-1} + k_syn · (x_t − I_{t-1})                 CubaLIF; elsewhere I_t = x_t
    v'_t = v_{t-1} + k · ((I_t + v_leak) − v_{t-1})          LIF, CubaLIF, LI
    v'_t = v_{t-1} + x_t                                     IF
    z_t  = 1 if m_t > 0 else 0;   v_t = v_reset where z_t = 1, else v'_t       LI: v_t = v'_t, and v is what it gives

Backward, with G the gradient that arrives at z (at v, for LI), σ' the surrogate, d = 0 where the reset is detached, else 1::

    ∂z_t = G_t + d · ∂v_t · (v_reset − v'_t)
    ∂v'_t = ∂z_t · σ'(m_t) + ∂v_t · (1 − z_t)
    ∂I_t = k · ∂v'_t + (1 − k_syn) · ∂I_{t+1};   ∂x_t = k_syn · ∂I_t;   ∂v_{t-1} = (1 − k) · ∂v'_t

so the margins are all that has to be kept. Their sign is the spike, and rounding them to bf16 does not change it. Where they would
be kept unrounded, the native kernels keep the input in their place and compute them again: that takes less time than memory does.

Ways: ``triton`` on CUDA; ``native``, compiled for the CPU where there is a compiler; ``torch``, in-place operations, anywhere;
``norse``, Norse's step functions under autograd, which is what the others are tested against. ``auto`` takes the first that
works. ``$ASHNEURO_KERNELS`` decides where the caller leaves it open.

Under `torch.compile`, and wherever else tensors stand for others (`stands_in`), each pass is one operator (``ashneuro::neurons``,
``ashneuro::neurons_backward``), so the graph of a network around it does not break.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor

from ashneuro.errors import ConfigError
from ashneuro.spiking.kernels import backend_native
from ashneuro.spiking.kernels.backend_norse import norse_multi_step
from ashneuro.spiking.kernels.dispatch import Kernels, backend, choose, once, refuse_tangents, stands_in
from ashneuro.spiking.kernels.interface import LEARNABLE, Block, Kind, State
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
from ashneuro.spiking.kernels.surrogate import surrogate

# So many sizes of a batch are remembered.
BLOCKS = 8


class Options(TypedDict, total=False):
    """How neurons are trained and computed, as keyword arguments of a layer; see `Neurons`."""

    surrogate: str
    slope: float | None
    detached: bool
    saves: Literal["full", "bf16"]
    kernels: Kernels


@dataclass(frozen=True, eq=False)
class Neurons:
    """Neurons of one kind; every parameter is a number, or a tensor that broadcasts to the population's shape (...).

    Args:
        kind: ``"lif"``, ``"cuba-lif"``, ``"if"`` or ``"li"``; the module's equations.
        decay: k = dt/τ_mem; not for ``"if"``.
        synapse: k_syn = dt/τ_syn; for ``"cuba-lif"``.
        threshold, leak, reset: potentials.
        surrogate: a name in `ashneuro.spiking.kernels.surrogate.SURROGATES`; ``slope``: its α, by default that of the table.
        detached: let no gradient pass through the reset.
        saves: ``"full"`` keeps margins in the type that is computed with, or the input; ``"bf16"`` margins in half of float32's memory.
        kernels: which way, see the module.
        blocks: where to keep what the parameters were fitted to, by where neurons lie, for fitting takes longer than a small population
            itself. A tensor among the parameters must then not be changed any more. ``None``: it is not kept.
    """

    kind: Kind
    decay: Tensor | float = 1.0
    synapse: Tensor | float = 1.0
    threshold: Tensor | float = 1.0
    leak: Tensor | float = 0.0
    reset: Tensor | float = 0.0
    surrogate: str = "super"
    slope: float | None = None
    detached: bool = False
    saves: Literal["full", "bf16"] = "full"
    kernels: Kernels = "auto"
    blocks: dict[object, Block] | None = None

    def parameters(self) -> tuple[Tensor, ...]:
        """Return decay, synapse, threshold, leak and reset as tensors."""
        values = (self.decay, self.synapse, self.threshold, self.leak, self.reset)
        return tuple(
            value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64) for value in values
        )


def multi_step(
    currents: Tensor, neurons: Neurons, state: State | None = None, *, hold: int = 1
) -> tuple[Tensor, State]:
    """Return spikes (T, B, ...), or potentials of ``"li"``, that ``currents`` (T, B, ...) cause, and the state after the last step.

    Computed in float32, in float64 where the currents are float64; the output has the type of the currents. A state that is
    handed on to the next call continues the sample, gradients included. Without one, v starts at v_leak and I at 0.

    Args:
        hold: T > 1 where the currents are (1, B, ...) and stay for T steps. The gradient there is the sum over steps, and is summed
            before it reaches memory.

    Raises:
        ConfigError: the kernels that were asked for cannot be had here, the surrogate is unknown, there is no step, or the derivative is
            one that only ``norse`` computes.
        ValueError: more than one step of currents is to be held.
    """
    spikes, after, _ = _all_steps(currents, neurons, state, hold, last=True)
    assert after is not None
    return spikes, after


def whole_sample(currents: Tensor, neurons: Neurons, *, hold: int = 1) -> tuple[Tensor, Tensor | None]:
    """Return spikes (T, B, ...) as `multi_step` does, of a sample that does not go on, and their mean where it costs nothing.

    The native kernels write no state then, count spikes where they send them, and add the gradient of the mean (scalar, float32) where
    they read that of the spikes. Elsewhere there is `firing_rate`.
    """
    spikes, _, rate = _all_steps(currents, neurons, None, hold, last=False)
    return spikes, rate


def _all_steps(
    currents: Tensor, neurons: Neurons, state: State | None, hold: int, *, last: bool
) -> tuple[Tensor, State | None, Tensor | None]:
    """Return spikes, the state if ``last``, and the mean of the spikes where it costs nothing."""
    if currents.shape[0] == 0:
        raise ConfigError(
            f"currents of shape {tuple(currents.shape)}",
            "a sample lasts at least one step",
            "give currents (T, B, ...), T ≥ 1",
        )
    if hold < 1 or (hold > 1 and len(currents) > 1):
        raise ValueError(f"hold = {hold} steps is for currents (1, B, ...), not for {tuple(currents.shape)}")
    way = choose(neurons.kernels, currents.device)
    if way == "norse":
        return *norse_multi_step(currents.expand(max(hold, len(currents)), *currents.shape[1:]), neurons, state), None
    shape = surrogate(neurons.surrogate)
    slope = shape.slope if neurons.slope is None else neurons.slope
    parameters = neurons.parameters()
    v: Tensor | None
    i: Tensor | None
    v, i = (None, None) if state is None else state
    refuse_tangents(currents, v, i, *parameters)
    if neurons.kind == "cuba-lif" and parameters[1].requires_grad and torch.is_grad_enabled():
        # The gradient of a learned τ_syn needs the synaptic currents: here they are an output of their own.
        wide = currents.to(computed_type(currents.dtype))
        filtered, first = multi_step(
            wide, _part(neurons, "li", neurons.synapse), None if i is None else State(i), hold=hold
        )
        spikes, after = multi_step(filtered, _part(neurons, "lif", neurons.decay), None if v is None else State(v))
        return spikes.to(currents.dtype), State(after.v, first.v), None
    if v is None and parameters[3].requires_grad:
        v = parameters[3].to(currents.device, computed_type(currents.dtype)).expand(currents.shape[1:])
    save = ""
    if torch.is_grad_enabled() and any(
        part is not None and part.requires_grad for part in (currents, v, i, *parameters)
    ):
        save = neurons.saves if currents.dtype != torch.float64 else "full"
        if torch._C._are_functorch_transforms_active():
            raise ConfigError(
                "gradients of spiking layers by torch.func",
                "kernels give them to torch.autograd alone",
                "kernels = 'norse'",
            )
    how = (neurons.kind, neurons.surrogate, slope, neurons.detached, save, way, hold)
    rate: Tensor | None = None
    if stands_in(currents) or currents.numel() == 0:
        operator: Any = torch.ops.ashneuro.neurons
        output, v, i, _ = operator(currents, v, i, *parameters, *how)
    elif save:
        output, v, i, _, rate = _MultiStep.apply(currents, v, i, *parameters, *how, neurons, last)
    else:
        x = _held(currents, hold)
        output, v, i, _, ones = _steps(x, v, i, *_fitted(neurons, parameters, x, slope), None, way, last)
        rate = _mean(ones, output)
    return output, None if v is None or not last else State(v, i if neurons.kind == "cuba-lif" else None), rate


def firing_rate(spikes: Tensor) -> Tensor:
    """Return the mean of spikes (scalar, float32), whose gradient is one number for all of them, not an array."""
    rate: Tensor = _Rate.apply(spikes)
    return rate


def _mean(ones: int | None, spikes: Tensor) -> Tensor | None:
    return None if ones is None else torch.tensor(ones / spikes.numel(), dtype=torch.float32)


class _Rate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, spikes: Tensor) -> Tensor:
        ctx.like, ctx.shape = spikes.dtype, spikes.shape
        return spikes.mean(dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        each: Tensor = gradient / math.prod(ctx.shape)
        return each.to(ctx.like).expand(ctx.shape)


def _part(neurons: Neurons, kind: Kind, decay: Tensor | float) -> Neurons:
    if kind == "li":
        return Neurons("li", decay, saves=neurons.saves, kernels=neurons.kernels)
    rest = {
        name: getattr(neurons, name)
        for name in ("threshold", "leak", "reset", "surrogate", "slope", "detached", "saves", "kernels")
    }
    return Neurons(kind, decay, **rest)


def _block(
    parameters: Sequence[Tensor],
    shape: Sequence[int],
    layout: Layout,
    dtype: torch.dtype,
    device: torch.device,
    **rest: Any,
) -> Block:
    decay, synapse, threshold, leak, reset = (
        fit_parameter(values, shape, layout, computed_type(dtype), device) for values in parameters
    )
    return Block(decay=decay, synapse=synapse, threshold=threshold, leak=leak, reset=reset, **rest)


def _fitted(neurons: Neurons, parameters: Sequence[Tensor], x: Tensor, slope: float) -> tuple[Block, Layout]:
    """Return the block that ``neurons`` are behind x, and where it lies."""
    layout = layout_of(x.shape[1:], x.stride()[1:], any(values.ndim for values in parameters))
    place = (layout, x.shape[2:], x.dtype, x.device)
    block = None if neurons.blocks is None else neurons.blocks.get(place)
    if block is None:
        rest = {"kind": neurons.kind, "surrogate": neurons.surrogate, "slope": slope, "detached": neurons.detached}
        block = _block(parameters, x.shape[1:], layout, x.dtype, x.device, **rest)
        if neurons.blocks is not None:
            if len(neurons.blocks) >= BLOCKS:
                neurons.blocks.clear()
            neurons.blocks[place] = block
    return block, layout


def _forward(
    x: Tensor,
    v: Tensor | None,
    i: Tensor | None,
    decay: Tensor,
    synapse: Tensor,
    threshold: Tensor,
    leak: Tensor,
    reset: Tensor,
    kind: str,
    surrogate_name: str,
    slope: float,
    detached: bool,
    save: str,
    way: str,
    hold: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype, parameters, x = x.dtype, (decay, synapse, threshold, leak, reset), _held(x, hold)
    shape, layout, kept = _plan(x, parameters, save)
    if x.numel() == 0:
        return _empty(x, parameters, kind, save, way)
    block = _block(
        parameters, shape, layout, dtype, x.device, kind=kind, surrogate=surrogate_name, slope=slope, detached=detached
    )
    output, *rest, _ = _steps(x, v, i, block, layout, kept, way)
    return output, *(x.new_empty(0) if part is None else part for part in rest)  # type: ignore[return-value]


def _steps(
    x: Tensor,
    v: Tensor | None,
    i: Tensor | None,
    block: Block,
    layout: Layout,
    kept: torch.dtype | None,
    way: str,
    last: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, int | None]:
    dtype, shape, computed = x.dtype, x.shape[1:], block.leak.dtype
    if way == "native" and dtype not in backend_native.TYPES:
        x = x.float()
    states = [None if state is None else state_block(state.expand(tuple(shape)), layout, computed) for state in (v, i)]
    left_out = {} if last or way != "native" else {"last": False}
    done = backend(way).forward(steps_block(x, layout), *states, block, kept, **left_out)
    return (
        outside(done.output, x.shape, layout).to(dtype),
        None if done.v is None else outside(done.v, shape, layout),
        None if done.i is None else outside(done.i, shape, layout),
        # An operator's outputs may not be one another: a leaky integrator keeps its own output, which autograd saves.
        None if block.kind == "li" else done.saved,
        None if block.kind == "li" else done.ones,
    )


def _held(x: Tensor, hold: int) -> Tensor:
    """Return inputs of every step, those of a step that is held all at one place."""
    return x.expand(hold, *x.shape[1:]) if hold > 1 else x


def _keeps_input(kind: str, save: str, way: str) -> bool:
    return way == "native" and kind != "li" and save == "full"


def _plan(x: Tensor, parameters: Sequence[Tensor], save: str) -> tuple[Sequence[int], Layout, torch.dtype | None]:
    shape = x.shape[1:]
    layout = layout_of(shape, x.stride()[1:], any(values.ndim for values in parameters))
    return shape, layout, None if not save else torch.bfloat16 if save == "bf16" else computed_type(x.dtype)


def _fake_forward(
    x: Tensor,
    v: Tensor | None,
    i: Tensor | None,
    decay: Tensor,
    synapse: Tensor,
    threshold: Tensor,
    leak: Tensor,
    reset: Tensor,
    kind: str,
    surrogate_name: str,
    slope: float,
    detached: bool,
    save: str,
    way: str,
    hold: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _empty(_held(x, hold), (decay, synapse, threshold, leak, reset), kind, save, way)


def _empty(
    x: Tensor, parameters: Sequence[Tensor], kind: str, save: str, way: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape, layout, kept = _plan(x, parameters, save)
    margins = kept is not None and kind != "li" and not _keeps_input(kind, save, way)
    size, computed = layout.rows * layout.width, computed_type(x.dtype)
    return (
        torch.empty_strided(x.shape, (size, *layout.strides), dtype=x.dtype, device=x.device),
        torch.empty_strided(shape, layout.strides, dtype=computed, device=x.device),
        torch.empty_strided(shape, layout.strides, dtype=computed, device=x.device)
        if kind == "cuba-lif"
        else x.new_empty(0),
        x.new_empty((x.shape[0], layout.rows, layout.width), dtype=kept) if margins else x.new_empty(0),
    )


def _backward(
    g: Tensor | None,
    g_v: Tensor | None,
    g_i: Tensor | None,
    saved: Tensor | None,
    x: Tensor | None,
    v: Tensor | None,
    i: Tensor | None,
    decay: Tensor,
    synapse: Tensor,
    threshold: Tensor,
    leak: Tensor,
    reset: Tensor,
    shape: Sequence[int],
    strides: Sequence[int],
    like: Tensor,
    learned: str,
    kind: str,
    surrogate_name: str,
    slope: float,
    detached: bool,
    way: str,
    held: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    dtype, parameters = like.dtype, (decay, synapse, threshold, leak, reset)
    if math.prod(shape) == 0:
        nowhere = _empty_gradients(shape, strides, like, learned, kind, held)
        return tuple(values.zero_() for values in nowhere)  # type: ignore[return-value]
    layout = layout_of(shape[1:], strides, any(values.ndim for values in parameters))
    device = decay.device if like.device.type == "cpu" else like.device
    block = _block(
        parameters,
        shape[1:],
        layout,
        dtype,
        device,
        kind=kind,
        surrogate=surrogate_name,
        slope=slope,
        detached=detached,
    )
    given = _steps_back(g, g_v, g_i, saved, x, v, i, block, layout, shape, dtype, learned, way, held)
    return tuple(like.new_empty(0) if part is None else part for part in given)  # type: ignore[return-value]


def _steps_back(
    g: Tensor | None,
    g_v: Tensor | None,
    g_i: Tensor | None,
    saved: Tensor | None,
    x: Tensor | None,
    v: Tensor | None,
    i: Tensor | None,
    block: Block,
    layout: Layout,
    shape: Sequence[int],
    dtype: torch.dtype,
    learned: str,
    way: str,
    held: bool,
    g_each: float = 0.0,
    wanted: bool = True,
) -> tuple[Tensor | None, ...]:
    """Return gradients at the input (its sum over steps where it was held), the first v and the first i, and of what is `LEARNABLE`.

    ``g_each``, for native kernels, arrives at every spike; these leave out gradients at the first state that are not ``wanted``.
    """
    computed, inside = block.leak.dtype, tuple(shape[1:])
    narrow = dtype if way != "native" or dtype in backend_native.TYPES else computed
    size = layout.rows * layout.width
    arriving = None if g is None else steps_block(lay(g.to(narrow), (size, *layout.strides)), layout)
    states = [None if state is None else state_block(state, layout, computed) for state in (g_v, g_i)]
    first, first_i = (
        None if state is None else state_block(state.expand(inside), layout, computed) for state in (v, i)
    )
    more: dict[str, Any] = {} if way != "native" else {"g_each": g_each, "first": wanted}
    if x is not None:
        more |= {"x": steps_block(_held(x.to(narrow), shape[0] if held else 1), layout), "i_first": first_i}
    kept = (
        None
        if saved is None
        else steps_block(lay(saved, (size, *layout.strides)), layout)
        if block.kind == "li"
        else saved
    )
    like_x = (shape[0], layout.rows, layout.width)
    done = backend(way).backward(like_x, arriving, *states, kept, first, block, narrow, learned.split(), held, **more)
    return (
        outside(done.input, (1 if held else shape[0], *inside), layout).to(dtype),
        *(None if state is None else outside(state, inside, layout) for state in (done.v, done.i)),
        *(outside(done.learned[name], inside, layout) if name in done.learned else None for name in LEARNABLE),
    )


def _fake_backward(
    g: Tensor | None,
    g_v: Tensor | None,
    g_i: Tensor | None,
    saved: Tensor | None,
    x: Tensor | None,
    v: Tensor | None,
    i: Tensor | None,
    decay: Tensor,
    synapse: Tensor,
    threshold: Tensor,
    leak: Tensor,
    reset: Tensor,
    shape: Sequence[int],
    strides: Sequence[int],
    like: Tensor,
    learned: str,
    kind: str,
    surrogate_name: str,
    slope: float,
    detached: bool,
    way: str,
    held: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _empty_gradients(shape, strides, like, learned, kind, held)


def _empty_gradients(
    shape: Sequence[int], strides: Sequence[int], like: Tensor, learned: str, kind: str, held: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    inside, size = tuple(shape[1:]), math.prod(shape[1:])

    def state(wanted: bool) -> Tensor:
        if not wanted:
            return like.new_empty(0)
        return torch.empty_strided(inside, tuple(strides), dtype=computed_type(like.dtype), device=like.device)

    g_input = torch.empty_strided(
        (1 if held else shape[0], *inside), (size, *strides), dtype=like.dtype, device=like.device
    )
    return (g_input, state(True), state(kind == "cuba-lif"), *(state(name in learned.split()) for name in LEARNABLE))  # type: ignore[return-value]


def _keep(ctx: Any, inputs: Sequence[Any], output: Sequence[Any]) -> None:
    x, v, i, *parameters = inputs[:8]
    kind, surrogate_name, slope, detached, save, way, hold = inputs[8:]
    wants = dict(zip(("decay", "synapse", *LEARNABLE[1:]), ctx.needs_input_grad[3:8], strict=True))
    if kind in ("if", "li"):
        wants = {
            name: wanted and name in (("threshold", "reset") if kind == "if" else ("decay", "leak"))
            for name, wanted in wants.items()
        }
    learned = [name for name in LEARNABLE if wants[name]]
    again = _keeps_input(kind, save, way)
    saved = None if again else output[3] if kind != "li" else output[0] if "decay" in learned else None
    ctx.set_materialize_grads(False)
    # An empty tensor of the input's type and device stands for the input itself where that need not be kept.
    kept = (
        saved,
        x if again else None,
        v if again or "decay" in learned else None,
        i if again else None,
        x.new_empty(0),
    )
    ctx.save_for_backward(*kept, *parameters)
    ctx.shape, ctx.strides = output[0].shape, None if output[1] is None else output[1].stride()
    ctx.first_shapes = None if v is None else v.shape, None if i is None else i.shape
    ctx.learned, ctx.rest, ctx.fitted = " ".join(learned), (kind, surrogate_name, slope, detached, way, hold > 1), None


def _gradients(
    ctx: Any, g: Tensor | None, g_v: Tensor | None, g_i: Tensor | None, _: Tensor | None, g_rate: Tensor | None = None
) -> tuple[Tensor | None, ...]:
    saved, x, v, i, like, *parameters = ctx.saved_tensors
    if ctx.rest[0] != "cuba-lif":
        g_i = None
    given: Any
    v_shape, i_shape = ctx.first_shapes
    if ctx.fitted is not None:
        block, layout = ctx.fitted
        each = 0.0 if g_rate is None else float(g_rate) / math.prod(ctx.shape)
        wanted = v_shape is not None or i_shape is not None
        *_, way, held = ctx.rest
        how = (block, layout, ctx.shape, like.dtype, ctx.learned, way, held)
        given = _steps_back(g, g_v, g_i, saved, x, v, i, *how, each, wanted)
    else:
        backward: Any = torch.ops.ashneuro.neurons_backward
        given = backward(g, g_v, g_i, saved, x, v, i, *parameters, ctx.shape, ctx.strides, like, ctx.learned, *ctx.rest)
    g_input, first_v, first_i, *learned = given
    by_name = dict(zip(LEARNABLE, learned, strict=True))
    sums = [
        by_name[name].sum_to_size(values.shape).to(values) if name in ctx.learned.split() else None
        for name, values in zip(("decay", "synapse", *LEARNABLE[1:]), parameters, strict=True)
    ]
    states = (
        None if v_shape is None else first_v.sum_to_size(v_shape),
        None if i_shape is None else first_i.sum_to_size(i_shape),
    )
    return (g_input, *states, *sums, *[None] * 7)


class _MultiStep(torch.autograd.Function):
    """Both passes outside of torch.compile: the operators' way through the dispatcher costs more than a small layer."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor | None, ...]:
        """Return what `_forward` does, and the mean of the spikes. (torch takes longer to bind the arguments of a separate
        ``setup_context`` than this takes.)
        """
        *arguments, neurons, last = inputs
        x, v, i, *parameters = arguments[:8]
        *_, slope, _, save, way, hold = arguments
        x = _held(x, hold)
        block, layout = _fitted(neurons, parameters, x, slope)
        kept = torch.bfloat16 if save == "bf16" else computed_type(x.dtype)
        output, *rest, ones = _steps(x, v, i, block, layout, kept, way, last)
        # The same memory as no view: autograd lets nobody change views that a function returns in place (``spikes += skip``).
        output = output.new_empty(0).set_(
            output.untyped_storage(), output.storage_offset(), output.shape, output.stride()
        )
        _keep(ctx, arguments, (output, *rest))
        ctx.fitted = block, layout  # need not be made again
        return output, *rest, _mean(ones, output)

    @staticmethod
    @once
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return `_gradients`."""
        return *_gradients(ctx, *gradients), None, None


_neurons = torch.library.custom_op("ashneuro::neurons", _forward, mutates_args=())
_neurons.register_fake(_fake_forward)
_neurons.register_autograd(_gradients, setup_context=_keep)
torch.library.custom_op("ashneuro::neurons_backward", _backward, mutates_args=()).register_fake(_fake_backward)
