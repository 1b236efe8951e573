"""Reset by subtraction against sinabs and SpikingJelly in float64, spike for spike.

Both spike at v ≥ v_threshold, which no potential here meets exactly. Rockpool also subtracts in the
same step; tests/frameworks compares it with its graph.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ashneuro.spiking.lif import IF, LIF, CubaLIF
from tests.frameworks.modules import framework

THRESHOLD, DT_S = 0.7, 1e-3


def currents(offset: float = 0.3) -> Tensor:
    return offset + 1.5 * torch.randn(50, 3, 40, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def same(ours: Tensor, theirs: Tensor) -> None:
    assert 0.05 < ours.mean() < 0.6 and theirs.shape == ours.shape
    assert torch.equal(ours, theirs.to(ours))


def sinabs_layer(name: str, **parameters) -> nn.Module:
    activation, threshold = framework("sinabs.activation"), torch.tensor(THRESHOLD, dtype=torch.float64)
    subtracting = {"spike_fn": activation.SingleSpike, "reset_fn": activation.MembraneSubtract()}
    layer = getattr(framework("sinabs.layers"), name)(spike_threshold=threshold, **subtracting, **parameters)
    return layer.double()


def sinabs_run(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x.movedim(0, 1)).movedim(1, 0)


def time_constant(steps: float) -> float:
    """Return τ of an Euler step that decays as an exponential one with ``steps`` timesteps does."""
    return DT_S / -math.expm1(-1 / steps)


@pytest.mark.parametrize("steps", [1.5, 4.0])
def test_lif_equals_sinabs(steps: float) -> None:
    ours = LIF(time_constant(steps), THRESHOLD, dt=DT_S, reset="subtract")(currents())
    same(ours, sinabs_run(sinabs_layer("LIF", tau_mem=steps), currents()))


def test_if_equals_sinabs() -> None:
    same(IF(THRESHOLD, reset="subtract")(currents()), sinabs_run(sinabs_layer("IAF"), currents()))


def test_cuba_lif_equals_sinabs() -> None:
    """Its current is α·(I + x), without the factor 1 − α."""
    alpha = math.exp(-1 / 2)
    layer = CubaLIF(time_constant(4.0), time_constant(2.0), THRESHOLD, dt=DT_S, reset="subtract")
    theirs = sinabs_run(sinabs_layer("LIF", tau_mem=4.0, tau_syn=2.0), currents())
    same(layer(currents() * alpha / (1 - alpha)), theirs)


@pytest.mark.parametrize("decay_input", [True, False])
def test_lif_equals_spikingjelly(decay_input: bool) -> None:
    neuron = framework("spikingjelly.activation_based.neuron")
    node = neuron.LIFNode(tau=3.0, decay_input=decay_input, v_threshold=THRESHOLD, v_reset=None, step_mode="m")
    ours = LIF(3 * DT_S, THRESHOLD, dt=DT_S, reset="subtract")
    same(ours(currents() * (1 if decay_input else 3)), node(currents()))


def test_if_equals_spikingjelly() -> None:
    neuron = framework("spikingjelly.activation_based.neuron")
    node = neuron.IFNode(v_threshold=THRESHOLD, v_reset=None, step_mode="m")
    same(IF(THRESHOLD, reset="subtract")(currents()), node(currents()))


def test_cuba_lif_equals_spikingjelly() -> None:
    """Its states are sums: c ← c_decay·c + x and v ← v_decay·v + c."""
    neuron = framework("spikingjelly.activation_based.neuron")
    node = neuron.CUBALIFNode(0.5, 0.75, v_threshold=4 * THRESHOLD, v_reset=None)
    ours = CubaLIF(4 * DT_S, 2 * DT_S, 4 * THRESHOLD, dt=DT_S, reset="subtract")
    same(ours(currents() * 2 * 4), torch.stack([node(current) for current in currents()]))
