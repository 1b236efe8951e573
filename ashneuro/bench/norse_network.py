"""The spiking encoder written with torch and Norse alone, with the same weights and neurons."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from ashneuro.bench.peers import norse_cell
from ashneuro.model.abstract import AbstractEncoder, Block, Synapse
from ashneuro.model.spatial import SpatialLinear
from ashneuro.spiking.lif import LIF


def cell_of(neurons: LIF) -> nn.Module:
    """Return Norse's cell with the parameters of ``neurons``."""
    values = (1 / neurons.tau, neurons.v_leak, neurons.v_threshold, neurons.v_reset, neurons.dt)
    return norse_cell(*map(float, values), reset=neurons.reset)


class Lifted(nn.Module):
    """A population in Norse's `Lift`, behind synapses that are applied to all steps at once."""

    def __init__(self, neurons: LIF) -> None:
        super().__init__()
        from norse.torch import Lift

        self.lifted = Lift(cell_of(neurons))

    def forward(self, currents: Tensor, *, hold: int = 1) -> Tensor:
        """Return spikes (T, B, ...) of currents (T, B, ...)."""
        return self.lifted(currents.expand(max(hold, len(currents)), *currents.shape[1:]))[0]  # type: ignore[no-any-return]


class Flattened(nn.Linear):
    """A flattening and torch's dense layer."""

    def __init__(self, dense: SpatialLinear) -> None:
        super().__init__(dense.weight[0].numel(), len(dense.weight), bias=False)
        self.weight = nn.Parameter(dense.weight.detach().flatten(1).clone())

    def forward(self, input: Tensor, kernels: object = None) -> Tensor:
        """Return sums (B, K) of arrays (B, C, H, W)."""
        return super().forward(input.flatten(1))


def lift(encoder: AbstractEncoder) -> None:
    """Replace every population of ``encoder`` by Norse's `Lift`, in place."""
    _use_torch_dense(encoder)
    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LIF):
                setattr(parent, name, Lifted(child))


def step_by_step(encoder: AbstractEncoder) -> None:
    """Make ``encoder`` run step by step through all layers, as Norse's `SequentialState` does, in
    place.

    Batch norms then see one step at a time.
    """
    _use_torch_dense(encoder)
    cells = {name: cell_of(neurons) for name, neurons, _ in encoder.populations() if isinstance(neurons, LIF)}

    def with_rates(current: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        states: dict[str, Any] = {}
        sent: defaultdict[str, list[Tensor]] = defaultdict(list)

        def fire(name: str, x: Tensor) -> Tensor:
            spikes, states[name] = cells[name](x, states.get(name))
            sent[name].append(spikes)
            return spikes  # type: ignore[no-any-return]

        for _ in range(encoder.timesteps):
            spikes = fire("entry.lif", current)
            for number, block in enumerate(encoder.blocks, start=1):
                assert isinstance(block, Block)
                first = fire(f"block{number}.lif1", _currents(block.conv1, spikes))
                second = fire(f"block{number}.lif2", _currents(block.conv2, first))
                spikes = fire(f"block{number}.lif3", _currents(block.conv3, second) + block.gain * first)
            fire("semantic.lif", _currents(encoder.dense, spikes))
        return {name: torch.stack(spikes) for name, spikes in sent.items()}, {}, {}

    encoder.with_rates = with_rates  # type: ignore[method-assign]


def _use_torch_dense(encoder: AbstractEncoder) -> None:
    if isinstance(encoder.dense.linear, SpatialLinear):  # else it is a convolution already
        encoder.dense.linear = Flattened(encoder.dense.linear)  # type: ignore[assignment]


def _currents(synapse: Synapse, spikes: Tensor) -> Tensor:
    return synapse.norm(synapse.linear(spikes))  # type: ignore[no-any-return]
