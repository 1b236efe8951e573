"""LIF layer with recurrent synapses."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Unpack

import torch
from torch import Tensor, nn

from ashneuro.spiking.firing import Reset
from ashneuro.spiking.kernels.interface import Options, State
from ashneuro.spiking.lif import LIF, Parameter


class RecurrentState(NamedTuple):
    """State between two steps: that of the neurons, and their last spikes (B, N)."""

    neurons: State
    spikes: Tensor


class RecurrentLIF(nn.Module):
    """N `LIF` neurons with all-to-all recurrence, driven by ``x_t + W z_{t−1}``, z_{−1} = 0.

    A step needs the spikes of the step before, so each takes one product and one kernel call.

    Parameters: ``weight`` (N, N). Other arguments as `LIF`.
    """

    def __init__(
        self,
        size: int,
        tau: Parameter,
        v_threshold: Parameter = 1.0,
        v_leak: Parameter = 0.0,
        v_reset: Parameter = 0.0,
        *,
        dt: float,
        reset: Reset = "value",
        learn: Collection[str] = (),
        **options: Unpack[Options],
    ) -> None:
        super().__init__()
        self.neurons = LIF(tau, v_threshold, v_leak, v_reset, dt=dt, reset=reset, learn=learn, **options)
        self.weight = nn.Parameter(torch.empty(size, size))
        nn.init.orthogonal_(self.weight, 0.5)

    def forward(self, currents: Tensor) -> Tensor:
        """Return spikes (T, B, N) of currents (T, B, N)."""
        return self.steps(currents)[0]

    def steps(self, currents: Tensor, state: RecurrentState | None = None) -> tuple[Tensor, RecurrentState]:
        """Return spikes (T, B, N), and the state that continues the sample."""
        before = None if state is None else state.neurons
        z = torch.zeros_like(currents[0]) if state is None else state.spikes
        weight, spikes = self.weight.to(currents.dtype), []
        for current in currents.unbind(0):
            sent, before = self.neurons.steps(torch.addmm(current, z, weight.T)[None], before)
            z = sent[0]
            spikes.append(z)
        assert before is not None
        return torch.stack(spikes), RecurrentState(before, z)
