"""Neurons that send changes: Lava's definition and straight-through gradients on every back end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ashneuro.errors import ConfigError
from ashneuro.spiking.kernels import multi_step as engine
from ashneuro.spiking.kernels.interface import Neurons, State
from tests import reference
from tests.spiking.kernels.test_multi_step import BACKENDS, INTERPRETED, backend, inputs, multi_step

__all__ = ["BACKENDS", "backend"]  # the fixture runs here too
KINDS = ["sigma-delta", "delta"]
SHAPES = [(1, 1, 1), (2, 3, 5), (7, 2, 3, 5, 2), (16, 2, 130), (64, 1, 9)]
# Native kernels divide these among threads; an interpreted one takes blocks of 512 in turn.
SHAPES += [(3, 1, 600), (19, 2, 300)] if INTERPRETED else [(3, 1, 2100), (19, 2, 1111)]


def on_grid(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Inputs in 64ths, whose sums are exact."""
    return (inputs(*shape) * 64).round().to(dtype) / 64


def neurons(kind: str, kernels: str, **changed) -> Neurons:
    return Neurons(kind, kernels=kernels, **{"threshold": 0.75, "leak": 0.25} | changed)


def gradients(x: Tensor, given: Neurons, hold: int = 1) -> tuple[Tensor, State, Tensor]:
    """Return changes, last state, and the gradient at x of a weighted sum of all of them."""
    x = x.detach().requires_grad_()
    sent, last = multi_step(x, given, hold=hold)
    weights = torch.linspace(-1, 1, sent.numel(), dtype=torch.float64).reshape(sent.shape).to(sent)
    total = (sent * weights).sum() + last.i.square().sum()
    (total + last.v.square().sum() if given.kind == "sigma-delta" else total).backward()
    return sent.detach(), last, x.grad


def straight_through(x: Tensor, given: Neurons, hold: int = 1) -> tuple[Tensor, State, Tensor]:
    """The same by autograd: what has been sent has the gradient of the value."""
    leaf = x.detach().clone().requires_grad_()
    steps = leaf.expand(max(hold, len(leaf)), *leaf.shape[1:])
    leak, threshold = torch.as_tensor(given.leak).to(x.dtype), torch.as_tensor(given.threshold).to(x.dtype)
    u, q, sent = leak.expand(x.shape[1:]), torch.zeros_like(x[0]), []
    for current in steps.unbind(0):
        u = u + current
        y = u.clamp(min=0) if given.kind == "sigma-delta" else current
        after = torch.where((y - q).abs() >= threshold, y, q)
        after = y + (after - y).detach()
        sent.append(after - q)
        q = after
    outputs = torch.stack(sent)
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=torch.float64).reshape(outputs.shape).to(outputs)
    total = (outputs * weights).sum() + q.square().sum()
    (total + u.square().sum() if given.kind == "sigma-delta" else total).backward()
    return outputs.detach(), State(u, q), leaf.grad


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threshold", [0.0, 0.75])
def test_changes_equal_the_reference(kind: str, shape: tuple[int, ...], threshold: float, backend: str) -> None:
    x = on_grid(*shape)
    sent, last = multi_step(x, neurons(kind, backend, threshold=threshold))
    sums = kind == "sigma-delta"
    np.testing.assert_array_equal(sent, reference.changes(x, threshold=threshold, bias=0.25, sums=sums))
    torch.testing.assert_close(last.i, sent.sum(0), rtol=0, atol=0)
    values = (x.sum(0) + 0.25).clamp(min=0) if sums else x[-1]
    assert (last.i - values).abs().max() <= threshold  # within the threshold of the ANN's value
    assert x.numel() < 100 or 0.1 < (sent != 0).double().mean() < (0.95 if threshold else 1.01)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_straight_through(kind: str, shape: tuple[int, ...], backend: str) -> None:
    each = torch.linspace(0.5, 1.0, shape[-1], dtype=torch.float64)
    for changed in ({}, {"threshold": each, "leak": each - 0.75}):
        ours, theirs = (
            run(on_grid(*shape), neurons(kind, backend, **changed)) for run in (gradients, straight_through)
        )
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1].i, theirs[1].i)
        torch.testing.assert_close(ours[2], theirs[2], rtol=1e-12, atol=1e-12)
        assert ours[2].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_types(kind: str, dtype: torch.dtype, backend: str) -> None:
    x = (inputs(6, 4, 33) * 2).round().to(dtype) / 2  # whole numbers of halves fit them all
    sent, last, gradient = gradients(x, neurons(kind, backend))
    wanted = straight_through(x.float(), neurons(kind, backend))
    assert sent.dtype == gradient.dtype == dtype and last.v.dtype == last.i.dtype == torch.float32
    assert torch.equal(sent.float(), wanted[0]) and torch.equal(last.i, wanted[1].i)
    close = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 8e-2}[dtype]
    torch.testing.assert_close(gradient.float(), wanted[2], rtol=close, atol=close * wanted[2].abs().max().item())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("saves", ["full", "bf16"])
def test_held_current_gets_the_sum_of_gradients(kind: str, saves: str, backend: str) -> None:
    x = on_grid(1, 3, 2, 4, 5, dtype=torch.float32).permute(0, 1, 4, 2, 3)
    given = neurons(kind, backend, threshold=torch.linspace(0.2, 0.6, 5).reshape(5, 1, 1), saves=saves)
    sent, _, gradient = gradients(x, given, hold=11)
    wanted = gradients(x.expand(11, 3, 5, 2, 4).clone(), given)
    assert torch.equal(sent, wanted[0]) and gradient.shape == x.shape
    torch.testing.assert_close(gradient[0], wanted[2].sum(0), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [1, 4, 8])
def test_state_continues_a_stream(kind: str, cut: int, backend: str) -> None:
    x = on_grid(9, 2, 7)
    whole, cubed = x.clone().requires_grad_(), x.clone().requires_grad_()
    given = neurons(kind, backend)
    sent, last = multi_step(whole, given)
    first, state = multi_step(cubed[:cut], given)
    second, end = multi_step(cubed[cut:], given, state)
    assert torch.equal(torch.cat([first, second]), sent)
    assert torch.equal(end.v, last.v) and torch.equal(end.i, last.i)
    weights = torch.linspace(-1, 1, sent.numel(), dtype=torch.float64).reshape(sent.shape)
    (sent * weights).sum().backward()
    (torch.cat([first, second]) * weights).sum().backward()
    torch.testing.assert_close(cubed.grad, whole.grad, rtol=1e-12, atol=1e-14)


def test_bias_is_learned(backend: str) -> None:
    results = []
    for run in (gradients, straight_through):
        bias = torch.linspace(-0.5, 0.5, 5, dtype=torch.float64, requires_grad=True)
        run(on_grid(6, 2, 3, 5), neurons("sigma-delta", backend, leak=bias))
        results.append(bias.grad)
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    assert results[0].any()


@pytest.mark.parametrize("kind", KINDS)
def test_norse_sends_no_changes(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"Norse has no neuron that sends changes\n.*kernels = 'auto'"):
        multi_step(inputs(2, 2, 3), neurons(kind, "norse"))


@pytest.mark.parametrize("kind", KINDS)
def test_mean_of_changes_is_no_rate(kind: str, backend: str) -> None:
    if backend == "triton" and torch.cuda.is_available():
        pytest.skip("the inputs lie on the CPU, where Triton needs its interpreter; run without a GPU")
    sent, rate, _ = engine.whole_sample(inputs(4, 2, 3), neurons(kind, backend))
    assert rate is None and sent.any()


@pytest.mark.parametrize("kind", KINDS)
def test_operators_pass_opcheck(kind: str) -> None:
    number = [torch.tensor(value, dtype=torch.float64) for value in (1.0, 1.0, 0.4, 0.1, 0.0)]
    x = inputs(3, 2, 4, dtype=torch.float32).requires_grad_()
    for given, hold in ((x, 1), (x[:1], 4)):
        arguments = (given, None, None, *number, kind, "value", "super", 1.0, False, "full", "torch", hold, 0.0)
        torch.library.opcheck(torch.ops.ashneuro.neurons.default, arguments, raise_exception=True)
