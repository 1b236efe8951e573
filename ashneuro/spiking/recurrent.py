"""A LIF layer that hears itself one step later."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Unpack

import torch
from torch import Tensor, nn

from ashneuro.spiking.kernels.interface import Options, State
from ashneuro.spiking.lif import LIF, Parameter


class Echo(NamedTuple):
    """A recurrent population between two steps: its neurons' state, and the spikes (B, N) that are on their way back."""

    neurons: State
    spikes: Tensor


class RecurrentLIF(nn.Module):
    """`LIF` of N neurons with a dense synapse from every one to every one: ``x_t + W z_{t−1}`` drives them, z_{−1} = 0.

    A step needs the spikes of the one before it, so there is one product and one call of the kernel per step.

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
        learn: Collection[str] = (),
        **options: Unpack[Options],
    ) -> None:
        super().__init__()
        self.neurons = LIF(tau, v_threshold, v_leak, v_reset, dt=dt, learn=learn, **options)
        self.weight = nn.Parameter(torch.empty(size, size))
        nn.init.orthogonal_(self.weight, 0.5)

    def forward(self, currents: Tensor) -> Tensor:
        """Return spikes (T, B, N) of currents (T, B, N)."""
        return self.steps(currents)[0]

    def steps(self, currents: Tensor, state: Echo | None = None) -> tuple[Tensor, Echo]:
        """Return spikes (T, B, N), and the state from which the sample goes on."""
        before = None if state is None else state.neurons
        z = torch.zeros_like(currents[0]) if state is None else state.spikes
        weight, spikes = self.weight.to(currents.dtype), []
        for current in currents.unbind(0):
            sent, before = self.neurons.steps(torch.addmm(current, z, weight.T)[None], before)
            z = sent[0]
            spikes.append(z)
        assert before is not None
        return torch.stack(spikes), Echo(before, z)
