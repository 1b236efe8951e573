from __future__ import annotations

import numpy as np
import pytest
import torch

from ashneuro.spiking.recurrent import RecurrentLIF
from tests import reference


@pytest.mark.parametrize("kernels", ["auto", "torch", "norse"])
def test_recurrent_spikes_arrive_one_step_later(kernels: str) -> None:
    torch.manual_seed(4)
    layer = RecurrentLIF(12, 2e-3, 0.5, dt=1e-3, kernels=kernels).double()
    x = 1.5 * torch.randn(30, 5, 12, dtype=torch.float64)
    spikes = layer(x)
    weight, v, z = layer.weight.detach().numpy(), np.zeros((5, 12)), np.zeros((5, 12))
    for t in range(30):
        z, v = reference.fire(reference.integrate(v, x[t].numpy() + z @ weight.T, decay=0.5), 0.5, 0.0)
        np.testing.assert_array_equal(spikes[t].detach().numpy(), z)
    assert 0.05 < spikes.mean() < 0.6
    assert not torch.equal(spikes, layer.neurons(x))


def test_gradients_flow_through_recurrence_and_state() -> None:
    torch.manual_seed(4)
    layer, plain = (RecurrentLIF(6, 2e-3, 0.5, dt=1e-3, kernels=kernels).double() for kernels in ("torch", "norse"))
    plain.load_state_dict(layer.state_dict())
    x, weights = (
        torch.randn(9, 3, 6, dtype=torch.float64),
        torch.linspace(-1, 1, 9 * 18, dtype=torch.float64).reshape(9, 3, 6),
    )
    gradients = []
    for one in (layer, plain):
        leaf = x.clone().requires_grad_()
        first, state = one.steps(leaf[:4])
        second, _ = one.steps(leaf[4:], state)
        spikes = torch.cat([first, second])
        assert torch.equal(spikes, one(leaf))
        (spikes * weights).sum().backward()
        gradients.append((leaf.grad, one.weight.grad))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
        assert ours.abs().max() > 0
