"""The one neuron, for a whole sample at once: currents (T, B, ...) come in, spikes (T, B, ...) go out.

Norse's step functions do the arithmetic. Norse's own modules keep their parameters outside ``state_dict`` and leave
them behind in ``.to()``; here they are registered buffers, held in float64 so that a time constant of 2 ms stays 2 ms in
an export. As 0-dimensional tensors they take the precision of the currents that they meet.

A resistance or an input gain is a factor of the weights in front and has no parameter of its own.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from ashneuro.spiking.integers import IntegerLayer
from ashneuro.spiking.straight_through import integer_multi_step

with warnings.catch_warnings():
    # Norse 1.1.0 scripts functions that are not used here, and torch 2.14 calls that deprecated.
    warnings.simplefilter("ignore", FutureWarning)
    from norse.torch.functional.iaf import IAFFeedForwardState, IAFParameters, iaf_feed_forward_step
    from norse.torch.functional.leaky_integrator_box import LIBoxParameters, LIBoxState, li_box_feed_forward_step
    from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters, lif_box_feed_forward_step

Parameter = float | Tensor
"""One number for a whole population, or a tensor that broadcasts to its shape (...)."""


def multi_step(currents: Tensor, neuron: LIFBoxParameters, dt: Tensor) -> Tensor:
    """Return the spikes (T, B, ...) that `currents` (T, B, ...) cause in neurons that start at v = v_leak.

    ::

        v'_t = v_{t-1} + dt/τ · (v_leak + x_t − v_{t-1})
        z_t  = 1 if v'_t > v_threshold else 0
        v_t  = v_reset where z_t = 1, else v'_t

    Backward: Norse's ``super`` surrogate, 1/(|v' − v_threshold| + 1)², through the reset as well.

    Every spiking layer passes here, so this is the function that a fused kernel replaces. The steps are unbound once:
    indexing ``currents[t]`` would make the backward pass write a zero tensor of full size per step.
    """
    state = LIFBoxFeedForwardState(v=neuron.v_leak)
    spikes = []
    for current in currents.unbind(0):
        z, state = lif_box_feed_forward_step(current, state, neuron, dt)
        spikes.append(z)
    return torch.stack(spikes)


class LIF(nn.Module):
    """Leaky integrate-and-fire: `norse.torch.LIFBoxCell` over the first axis; the equation is at `multi_step`.

    Buffers: ``tau`` and ``dt`` (s), ``v_threshold``, ``v_leak``, ``v_reset``. Lava's LIF can run it when v_reset = v_leak.
    With ``integers`` set, currents and potentials are those of Loihi's arithmetic (`integer_multi_step`).
    """

    integers: IntegerLayer | None = None

    tau: Tensor
    v_threshold: Tensor
    v_leak: Tensor
    v_reset: Tensor
    dt: Tensor

    def __init__(
        self, tau: Parameter, v_threshold: Parameter = 1.0, v_leak: Parameter = 0.0, v_reset: Parameter = 0.0, *, dt: float
    ) -> None:
        super().__init__()
        _register(self, tau=tau, v_threshold=v_threshold, v_leak=v_leak, v_reset=v_reset, dt=dt)

    def forward(self, currents: Tensor) -> Tensor:
        """Return spikes (T, B, ...) of currents (T, B, ...)."""
        if self.integers is not None:
            return integer_multi_step(currents, self.integers)
        neuron = LIFBoxParameters(tau_mem_inv=1 / self.tau, v_leak=self.v_leak, v_th=self.v_threshold, v_reset=self.v_reset)
        return multi_step(currents, neuron, self.dt)


class LI(nn.Module):
    """Leaky integrator, without spikes: ``v_t = v_{t-1} + dt/τ · (v_leak − v_{t-1} + x_t)``, v_0 = v_leak.

    Buffers: ``tau`` and ``dt`` (s), ``v_leak``.
    """

    tau: Tensor
    v_leak: Tensor
    dt: Tensor

    def __init__(self, tau: Parameter, v_leak: Parameter = 0.0, *, dt: float) -> None:
        super().__init__()
        _register(self, tau=tau, v_leak=v_leak, dt=dt)

    def forward(self, currents: Tensor) -> Tensor:
        """Return potentials (T, B, ...) of currents (T, B, ...)."""
        leak = LIBoxParameters(tau_mem_inv=1 / self.tau, v_leak=self.v_leak)
        state = LIBoxState(v=self.v_leak)
        potentials = []
        for current in currents.unbind(0):
            v, state = li_box_feed_forward_step(current, state, leak, self.dt)
            potentials.append(v)
        return torch.stack(potentials)


class CubaLIF(nn.Module):
    """Current-based LIF: the synaptic current is a leaky integrator of the input (`LI`), and drives `LIF` in the same step.

    ::

        I_t = I_{t-1} + dt/τ_syn · (x_t − I_{t-1})
    """

    def __init__(
        self,
        tau_mem: Parameter,
        tau_syn: Parameter,
        v_threshold: Parameter = 1.0,
        v_leak: Parameter = 0.0,
        v_reset: Parameter = 0.0,
        *,
        dt: float,
    ) -> None:
        super().__init__()
        self.synapse = LI(tau_syn, dt=dt)
        self.membrane = LIF(tau_mem, v_threshold, v_leak, v_reset, dt=dt)

    def forward(self, currents: Tensor) -> Tensor:
        """Return spikes (T, B, ...) of inputs (T, B, ...)."""
        return self.membrane(self.synapse(currents))  # type: ignore[no-any-return]


class IF(nn.Module):
    """Integrate-and-fire without leak: ``v'_t = v_{t-1} + x_t`` once per step (the ``per-step`` convention), v_0 = 0.

    Buffers: ``v_threshold``, ``v_reset``.
    """

    v_threshold: Tensor
    v_reset: Tensor

    def __init__(self, v_threshold: Parameter = 1.0, v_reset: Parameter = 0.0) -> None:
        super().__init__()
        _register(self, v_threshold=v_threshold, v_reset=v_reset)

    def forward(self, currents: Tensor) -> Tensor:
        """Return spikes (T, B, ...) of currents (T, B, ...)."""
        neuron = IAFParameters(v_th=self.v_threshold, v_reset=self.v_reset)
        state = IAFFeedForwardState(v=torch.zeros_like(self.v_threshold))
        spikes = []
        for current in currents.unbind(0):
            z, state = iaf_feed_forward_step(current, state, neuron)
            spikes.append(z)
        return torch.stack(spikes)


def _register(module: nn.Module, **values: Parameter) -> None:
    for name, value in values.items():
        module.register_buffer(name, torch.as_tensor(value, dtype=torch.float64).clone())
