"""Neurons over all timesteps at once, forward and backward in closed form.

With margin ``m_t = v'_t − v_threshold`` and decays k = dt/τ, for every neuron::

    I_t  = I_{t-1} + k_syn · (x_t − I_{t-1})                 CubaLIF; else I_t = x_t
    v'_t = v_{t-1} + k · ((I_t + v_leak) − v_{t-1})          LIF, CubaLIF, LI
    v'_t = v_{t-1} + x_t                                     IF
    z_t  = 1 if m_t > 0 else 0                               LI: output v_t = v'_t
    v_t  = v_reset if z_t = 1, else v'_t                     reset to a value
    v_t  = v'_t − v_threshold · z_t                          reset by subtraction

Graded neurons have no state. With θ the threshold and m_t = x_t − θ they send::

    s_t  = min(x_t, limit) if m_t > 0 else 0                 a ReLU (θ = 0), or a jump (θ > 0)

Neurons that send changes sum them in q. With b a bias, and y_t = x_t of ``"delta"``::

    u_t  = u_{t-1} + x_t, u_0 = b;   y_t = max(u_t, 0)       sigma-delta
    s_t  = y_t − q_{t-1} if |y_t − q_{t-1}| ≥ θ else 0;      q_t = q_{t-1} + s_t, q_0 = 0

That is Lava's Delta, whose residue r_t is y_t − q_t.

Backward, with G the gradient at z (LI: at v), σ' the surrogate, d = 1, or 0 if the
reset is detached::

    ∂z_t  = G_t + d · ∂v_t · (v_reset − v'_t)                reset to a value
    ∂v'_t = ∂z_t · σ'(m_t) + ∂v_t · (1 − z_t)
    ∂z_t  = G_t − d · ∂v_t · v_threshold                     reset by subtraction
    ∂v'_t = ∂z_t · σ'(m_t) + ∂v_t
    ∂I_t = k · ∂v'_t + (1 − k_syn) · ∂I_{t+1};   ∂x_t = k_syn · ∂I_t;   ∂v_{t-1} = (1 − k) · ∂v'_t
    ∂v_threshold = −Σ_t ∂z_t · σ'(m_t);   by subtraction also −Σ_t ∂v_t · z_t

Of graded neurons, with G the gradient at s; the step of height θ at θ has the derivative
σ'(x/θ − 1), whose integral over x is θ if that of σ' is 1, and none if θ = 0::

    ∂x_t = G_t · (1[θ < x_t ≤ limit] + σ'(m_t/θ));   ∂θ = −Σ_t G_t · σ'(m_t/θ)

Of changes, straight through: a gradient takes q_t for y_t, from which it differs by less than θ. θ
has none; that of b is that of u_0::

    ∂y_t = G_t − G_{t+1};   ∂u_t = ∂u_{t+1} + ∂y_t · 1[u_t > 0];   ∂x_t = ∂u_t;   delta: ∂x_t = ∂y_t

So only the margins have to be kept. Their sign is the spike, whatever the reset, and rounding them
to bf16 does not change it. A reset by subtraction leaves the margin itself: v_t = m_t where
z_t = 1. Instead of full-precision margins the native kernels keep the input, and compute the
margins again: that takes less time than reading them from memory.

Back ends: ``triton`` on CUDA; ``native``, compiled for the CPU if there is a compiler; ``torch``,
in-place operations on any device; ``norse``, Norse's step functions under autograd, the reference
of the others. ``auto`` is the first that works. ``$ASHNEURO_KERNELS`` decides where the caller
says ``auto``.

Under `torch.compile` and other tracing (`ashneuro.spiking.kernels.tracing.is_traced`) each pass is
one operator of `ashneuro.spiking.kernels.operators`, so a network around it compiles to one graph.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ashneuro.errors import ConfigError
from ashneuro.spiking.kernels import backend_norse, operators
from ashneuro.spiking.kernels.autograd import MultiStep, fitted_weights, mean_rate
from ashneuro.spiking.kernels.dispatch import choose_backend
from ashneuro.spiking.kernels.interface import CHANGES, SECOND, ForwardInputs, Neurons, Settings, State
from ashneuro.spiking.kernels.layout import computed_type
from ashneuro.spiking.kernels.passes import fitted_block, held, run_forward
from ashneuro.spiking.kernels.surrogate import surrogate
from ashneuro.spiking.kernels.tracing import is_traced, refuse_forward_mode


def multi_step(
    currents: Tensor, neurons: Neurons, state: State | None = None, *, hold: int = 1
) -> tuple[Tensor, State]:
    """Return spikes (T, B, ...) of currents (T, B, ...), and the last state.

    ``"graded"`` neurons return the values that they send, ``"sigma-delta"`` and ``"delta"`` the
    changes; ``"li"`` returns v.

    Computed in float32, or in float64 if the currents are; the output has the currents' type. A
    state that is passed to the next call continues the sample, gradients included. Without one, v
    starts at v_leak and I at 0.

    Args:
        hold: T > 1 if currents (1, B, ...) last for T steps. Their gradient is the sum over steps,
            added up before it is written to memory.

    Raises:
        ConfigError: the back end does not work here, the surrogate is unknown, there is no step, or
            the derivative is one that only ``norse`` computes.
        ValueError: ``hold`` with more than one step of currents.
    """
    spikes, last, *_ = _run(currents, neurons, state, hold, last=True)
    assert last is not None
    return spikes, last


def whole_sample(
    currents: Tensor, neurons: Neurons, weights: Tensor | None = None, *, hold: int = 1
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return spikes (T, B, ...), their mean, and the mean of their weights; means that would cost
    something are ``None``.

    Of graded neurons, their values, the share of them that sent one (the mean of
    `ashneuro.spiking.kernels.events.events`), and the mean weight of those messages. As
    `multi_step`, for samples that do not go on. The native kernels then write no state, count
    spikes as they write them, and add the gradients of the means (scalars, float32) as they read
    that of the spikes. For other back ends there is `firing_rate`.

    Args:
        weights: of the spikes of each neuron, broadcast to its shape (...); for example, the
            number of synapses that they reach.
    """
    weights = weights.reshape(1) if weights is not None and not weights.ndim else weights
    spikes, _, rate, weighted = _run(currents, neurons, None, hold, last=False, weights=weights)
    return spikes, rate, weighted


def _run(
    currents: Tensor, neurons: Neurons, state: State | None, hold: int, *, last: bool, weights: Tensor | None = None
) -> tuple[Tensor, State | None, Tensor | None, Tensor | None]:
    """Return spikes, the state if ``last``, and the means of spikes and weights if free."""
    if currents.shape[0] == 0:
        raise ConfigError(
            f"currents of shape {tuple(currents.shape)}",
            "a sample lasts at least one step",
            "give currents (T, B, ...), T ≥ 1",
        )
    if hold < 1 or (hold > 1 and len(currents) > 1):
        raise ValueError(f"hold = {hold} steps is for currents (1, B, ...), not for {tuple(currents.shape)}")
    backend = choose_backend(neurons.kernels, currents.device)
    if backend == "norse":
        all_steps = currents.expand(max(hold, len(currents)), *currents.shape[1:])
        return *backend_norse.multi_step(all_steps, neurons, state), None, None
    table = surrogate(neurons.surrogate)
    slope = table.slope if neurons.slope is None else neurons.slope
    parameters = neurons.parameters()
    v: Tensor | None
    i: Tensor | None
    v, i = (None, None) if state is None else state
    refuse_forward_mode(currents, v, i, *parameters)
    if neurons.kind == "cuba-lif" and parameters.synapse.requires_grad and torch.is_grad_enabled():
        return *_with_learned_synapse(currents, neurons, state, hold), None, None
    if v is None and parameters.leak.requires_grad:
        # A first potential of its own, so that its gradient reaches v_leak.
        v = parameters.leak.to(currents.device, computed_type(currents.dtype)).expand(currents.shape[1:])
    save: Any = ""
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
    settings = Settings(
        neurons.kind, neurons.reset_kind, neurons.surrogate, slope, neurons.detached, save, backend, hold, neurons.limit
    )
    rate: Tensor | None = None
    weighted: Tensor | None = None
    if backend != "native" or neurons.kind in CHANGES or neurons.kind == "li":
        weights = None
    if is_traced(currents) or currents.numel() == 0:
        output, v, i, _ = operators.neurons(currents, v, i, *parameters, *settings)
    elif save:
        output, v, i, _, rate, weighted = MultiStep.apply(currents, v, i, *parameters, settings, neurons, last, weights)
    else:
        x = held(currents, hold)
        block, layout = fitted_block(x, parameters, settings, neurons.blocks, weights)
        fitted = fitted_weights(weights, x.shape[1:], block, layout, x.device)
        output, v, i, _, *totals = run_forward(ForwardInputs(x, v, i, None, last, fitted), block, layout, backend)
        rate, weighted = (mean_rate(total, output) for total in totals)
    after = None if v is None or not last else State(v, i if neurons.kind in SECOND else None)
    return output, after, rate, weighted


def _with_learned_synapse(currents: Tensor, neurons: Neurons, state: State | None, hold: int) -> tuple[Tensor, State]:
    """Return spikes and last state of CubaLIF, computed as LI and LIF in series.

    The gradient of a learned τ_syn needs the synaptic currents, which a fused kernel does not keep.
    """
    v, i = (None, None) if state is None else state
    synapse = Neurons("li", neurons.synapse, saves=neurons.saves, kernels=neurons.kernels)
    membrane = replace(neurons, kind="lif", synapse=1.0, blocks=None)
    wide = currents.to(computed_type(currents.dtype))
    filtered, first = multi_step(wide, synapse, None if i is None else State(i), hold=hold)
    spikes, last = multi_step(filtered, membrane, None if v is None else State(v))
    return spikes.to(currents.dtype), State(last.v, first.v)


def firing_rate(spikes: Tensor) -> Tensor:
    """Return the mean of spikes (scalar, float32).

    Its gradient is one number, expanded, instead of an array.
    """
    rate: Tensor = _Rate.apply(spikes)
    return rate


class _Rate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, spikes: Tensor) -> Tensor:
        ctx.like, ctx.shape = spikes.dtype, spikes.shape
        return spikes.mean(dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        each: Tensor = gradient / math.prod(ctx.shape)
        return each.to(ctx.like).expand(ctx.shape)
