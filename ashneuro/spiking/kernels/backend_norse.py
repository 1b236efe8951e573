"""Neurons by Norse's step functions under autograd: slow, the reference of the other back ends."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ashneuro.errors import ConfigError
from ashneuro.spiking.kernels.interface import CHANGES, Neurons, State
from ashneuro.spiking.kernels.layout import computed_type

with warnings.catch_warnings():
    # Norse 1.1.0 scripts functions that are not used here, and torch 2.14 calls that deprecated.
    warnings.simplefilter("ignore", FutureWarning)
    from norse.torch.functional.iaf import IAFFeedForwardState, IAFParameters, iaf_feed_forward_step
    from norse.torch.functional.leaky_integrator_box import LIBoxParameters, LIBoxState, li_box_feed_forward_step
    from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters, lif_box_feed_forward_step
    from norse.torch.functional.reset import reset_subtract, reset_value
    from norse.torch.functional.threshold import threshold as spike

SURROGATES = ("super", "triangle")  # names that Norse knows too


def multi_step(currents: Tensor, neurons: Neurons, state: State | None) -> tuple[Tensor, State]:
    """Return outputs (T, B, ...) and the last state, as `kernels.multi_step.multi_step` does.

    Raises:
        ConfigError: Norse has no such neuron or surrogate, or the reset is to be detached.
    """
    if neurons.kind == "graded" or neurons.kind in CHANGES:
        what = "changes" if neurons.kind in CHANGES else "graded values"
        raise ConfigError("kernels = 'norse'", f"Norse has no neuron that sends {what}", "kernels = 'auto'")
    if neurons.detached or neurons.surrogate not in SURROGATES:
        raise ConfigError(
            "kernels = 'norse'",
            f"Norse's steps have the surrogates {', '.join(SURROGATES)}, and always a gradient through the reset",
            "kernels = 'auto'",
        )
    computed = computed_type(currents.dtype)
    decay, synapse, threshold, leak, reset = (values.to(currents.device, computed) for values in neurons.parameters())
    slope = 0.3 if neurons.slope is None else neurons.slope
    v, i = (None, None) if state is None else state
    v = leak.expand(currents.shape[1:]) if v is None else v.to(computed)
    if neurons.kind == "cuba-lif":
        i = torch.zeros_like(currents[0], dtype=computed) if i is None else i.to(computed)
    # Norse multiplies dt by 1/τ; with dt = 1 their product, the decay, can be given as 1/τ.
    filtering = LIBoxParameters(tau_mem_inv=synapse, v_leak=torch.zeros_like(leak))
    leaking = LIBoxParameters(tau_mem_inv=decay, v_leak=leak)
    subtracts = neurons.reset_kind == "subtract"
    reset_method = reset_subtract if subtracts else reset_value
    firing = LIFBoxParameters(decay, leak, threshold, reset, neurons.surrogate, slope, reset_method)
    integrating = IAFParameters(threshold, reset, method=neurons.surrogate, alpha=slope)
    outputs = []
    # Unbound once: the backward pass of currents[t] would write a full-size zero tensor per step.
    for current in currents.to(computed).unbind(0):
        if i is not None:
            i, _ = li_box_feed_forward_step(current, LIBoxState(i), filtering, 1.0)
            current = i
        if neurons.kind == "li":
            output, after = li_box_feed_forward_step(current, LIBoxState(v), leaking, 1.0)
        elif neurons.kind == "if" and subtracts:  # Norse's step can only reset to a value
            charged = v + current
            output = spike(charged - threshold, neurons.surrogate, slope)
            after = IAFFeedForwardState(reset_subtract(output, charged, reset, threshold))
        elif neurons.kind == "if":
            output, after = iaf_feed_forward_step(current, IAFFeedForwardState(v), integrating)
        else:
            output, after = lif_box_feed_forward_step(current, LIFBoxFeedForwardState(v), firing, 1.0)
        v = after.v
        outputs.append(output)
    return torch.stack(outputs).to(currents.dtype), State(v, i)
