"""Straight-through rounding: values of the hardware, gradients of the float network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ashneuro.spiking.integers import IntegerLayer, Integers
from ashneuro.spiking.lif import LIF, Graded
from ashneuro.spiking.straight_through import (
    integer_bias,
    integer_current,
    integer_messages,
    integer_multi_step,
    integer_weights,
    shifted_sums,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.3, 60.0, 4000.0])
def test_mixed_signs_round_to_even_8_bit_weights(scale: float) -> None:
    weight = random(40, 30)
    integer, exponent = integer_weights(weight, scale)
    assert torch.equal(integer, (integer / 2).round() * 2)
    assert -256 <= integer.min() < -120 and 120 < integer.max() <= 254
    assert (integer * 2.0**exponent - weight * scale).abs().max() <= 2.0**exponent


def test_single_sign_weights_keep_odd_integers() -> None:
    integer, exponent = integer_weights(random(40, 30).abs(), 60.0)
    assert (integer % 2 == 1).any() and integer.min() >= 0 and integer.max() <= 255
    assert exponent == 0


def test_zero_weights_stay_zero() -> None:
    integer, exponent = integer_weights(torch.zeros(3, 3), 60.0)
    assert not integer.any() and exponent == 0


def test_roundings_pass_gradients_straight_through() -> None:
    weight, bias, current = (
        random(4, 3).requires_grad_(),
        random(4, seed=1).requires_grad_(),
        (3 * random(5, seed=2)).requires_grad_(),
    )
    integer, exponent = integer_weights(weight, 50.0)
    (integer * 2.0**exponent).sum().backward()
    assert torch.allclose(weight.grad, torch.full_like(weight, 50.0))
    integer_bias(bias, 50.0).sum().backward()
    assert torch.allclose(bias.grad, torch.full_like(bias, 50.0))
    sent = integer_current(current, 10.0, 25)
    sent.sum().backward()
    assert torch.equal(sent, (current.detach() * 10).round().clip(-25, 25))
    assert torch.equal(current.grad, torch.where(current.detach().abs() * 10 < 25, 10.0, 0.0).double())


def test_right_shift_rounds_down() -> None:
    sums = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0, 4.0])
    assert shifted_sums(sums, -1).tolist() == [-2, -1, 0, 0, 1, 2]
    assert shifted_sums(sums, 2).tolist() == [-12, -4, 0, 4, 12, 16]


@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_integer_neuron_equals_the_hardware_arithmetic(reset: str) -> None:
    layer = IntegerLayer(scale=31.0, v_threshold=90, dv=1234)
    currents = (random(9, 5, 7) * 90).round() + torch.randint(
        0, 64, (9, 5, 7), generator=torch.Generator().manual_seed(1)
    ) / 64
    v, expected = np.zeros((5, 7), np.int64), []
    for a in (currents * 64).long().numpy():
        product = v * (4096 - 1234)
        v = np.sign(product) * (np.abs(product) >> 12) + a
        expected.append(v > 90 * 64)
        v = np.where(expected[-1], v - 90 * 64 if reset == "subtract" else 0, v)
    spikes, last = integer_multi_step(currents, layer, reset=reset)
    assert np.array_equal(spikes.numpy(), np.stack(expected)) and np.array_equal(last.numpy(), v)
    assert 0.05 < np.mean(expected) < 0.6


def test_integer_potential_saturates() -> None:
    layer = IntegerLayer(scale=1.0, v_threshold=(1 << 17) - 1, dv=1)
    down = torch.full((3, 1), -130_000.0, dtype=torch.float64)
    up = torch.full((1, 1), 131_000.0, dtype=torch.float64)
    # Without saturation v falls three times as far, and three steps up do not reach the threshold;
    # one step up does not reach it from 0 either.
    assert integer_multi_step(torch.cat([down, up, up, up]), layer)[0].flatten().tolist() == [0, 0, 0, 0, 0, 1]


def test_integer_subtraction_follows_the_saturation() -> None:
    layer, up = IntegerLayer(scale=1.0, v_threshold=90, dv=1), torch.full((1, 1), 140_000.0, dtype=torch.float64)
    spikes, v = integer_multi_step(up, layer, reset="subtract")
    assert spikes.item() == 1 and v.item() == (1 << 23) - 1 - 90 * 64


@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_integer_gradient_equals_the_float_network(reset: str) -> None:
    scale, dv = 1000.0, 2048
    lif = LIF(tau=2e-3, v_threshold=1.0, dt=1e-3, reset=reset)
    layer = IntegerLayer(scale=scale, v_threshold=2000, dv=dv)  # 1.0 · τ/dt · scale
    currents = (random(6, 4, 3) * 2.0 * scale).round() / scale
    gradients = []
    for run in (lambda x: lif(x), lambda x: integer_multi_step(x * scale, layer, reset=reset)[0]):
        x = currents.clone().requires_grad_()
        spikes = run(x)
        (spikes * random(6, 4, 3, seed=4)).sum().backward()
        gradients.append((spikes.detach(), x.grad))
    assert torch.equal(gradients[0][0], gradients[1][0])
    assert torch.allclose(gradients[0][1], gradients[1][1], atol=1e-4)


def test_integer_graded_neuron_equals_the_hardware_arithmetic() -> None:
    layer, neuron = IntegerLayer(scale=31.0, v_threshold=20, dv=0, limit=127), Graded(20 / 31)
    neuron.integers = layer
    currents = (random(3, 5, 7) * 90).round() + torch.randint(
        0, 64, (3, 5, 7), generator=torch.Generator().manual_seed(1)
    ) / 64
    v = (currents * 64).long().numpy()
    expected = np.where(v > 20 * 64, np.minimum(v >> 6, 127), 0)
    sent = neuron(currents)
    np.testing.assert_array_equal(integer_messages(sent.float(), layer.message_scale), expected)
    assert 0.2 < (expected > 0).mean() < 0.8 and expected.max() == 127
    np.testing.assert_array_equal(neuron.events(sent), expected > 0)
    assert torch.equal(neuron(currents[:1], hold=3), neuron(currents[:1].expand(3, 5, 7)))


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_integer_gradient_equals_the_float_graded_neuron(threshold: float) -> None:
    scale = 4096.0
    neuron = Graded(threshold, limit=1.5)
    currents, gradients = (random(2, 5, 40) * scale).round() / scale, []
    for integers in (None, IntegerLayer(scale, round(threshold * scale), 0, limit=round(1.5 * scale))):
        neuron.integers = integers
        x = currents.clone().requires_grad_()
        sent = neuron(x if integers is None else x * scale)
        (sent * random(2, 5, 40, seed=4) + neuron.events(sent) * random(2, 5, 40, seed=5)).sum().backward()
        gradients.append((sent.detach(), x.grad))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_integers_json_round_trip() -> None:
    integers = Integers({"a.lif": IntegerLayer(1.5, 7, 2048), "b.lif": IntegerLayer(2.5, 8, 1, 255)}, 3.25, 9)
    assert Integers.loads(integers.dumps()) == integers
    assert integers.scales == {"a.lif": 1.5, "b.lif": 2.5}


@pytest.mark.parametrize("cut", [1, 4])
@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_state_continues_an_integer_layer(cut: int, reset: str) -> None:
    lif = LIF(2e-3, 0.4, dt=1e-3, reset=reset)
    lif.integers = IntegerLayer(scale=31.0, v_threshold=90, dv=1234)
    currents = (random(9, 5, 7) * 90).round().requires_grad_()
    whole, last = lif.steps(currents)
    (expected,) = torch.autograd.grad(whole.sum(), currents)
    first, state = lif.steps(currents[:cut])
    rest, after = lif.steps(currents[cut:], state)
    (given,) = torch.autograd.grad(first.sum() + rest.sum(), currents)
    assert torch.equal(torch.cat([first, rest]), whole) and torch.equal(after.v, last.v) and whole.any()
    assert torch.equal(lif(currents), whole) and torch.allclose(given, expected)
    assert torch.equal(lif.steps(currents[:1], hold=3)[0], lif(currents[:1].expand(3, 5, 7)))
