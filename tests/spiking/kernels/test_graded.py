"""Graded neurons on every back end: values of the reference, gradients of autograd."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ashneuro.errors import ConfigError
from ashneuro.spiking.kernels import multi_step as engine
from ashneuro.spiking.kernels.events import events
from ashneuro.spiking.kernels.interface import Neurons, State
from ashneuro.spiking.kernels.surrogate import SURROGATES
from tests import reference
from tests.spiking.kernels.test_multi_step import BACKENDS, INTERPRETED, backend, inputs, multi_step

__all__ = ["BACKENDS", "backend"]  # the fixture runs here too
SHAPES = [(1, 1, 1), (1, 3, 5), (7, 2, 3, 5, 2), (2, 2, 130), (19, 1, 9), (3, 1, 2100), (16, 2, 1111)]


def graded(kernels: str, **changed) -> Neurons:
    values = {"threshold": 0.4, "limit": 2.0, "slope": 2.0} | changed
    return Neurons("graded", kernels=kernels, **values)


class Jump(torch.autograd.Function):
    """Height θ where x > θ, with the derivative σ'(x/θ − 1) by hand."""

    @staticmethod
    def forward(ctx, x: Tensor, threshold: Tensor, derivative) -> Tensor:
        ctx.save_for_backward(x, threshold)
        ctx.derivative = derivative
        return threshold * (x > threshold)

    @staticmethod
    def backward(ctx, g: Tensor):
        x, threshold = ctx.saved_tensors
        through = torch.where(threshold > 0, g * ctx.derivative(x / threshold - 1), torch.zeros_like(g))
        return (
            through,
            (torch.where(x > threshold, g, torch.zeros_like(g)) - through).sum_to_size(threshold.shape),
            None,
        )


def by_autograd(x: Tensor, threshold: Tensor, limit: float, surrogate: str = "super", slope: float = 2.0) -> Tensor:
    """Return the values as a ramp (x − θ)⁺, cut off at the limit, on a jump of height θ."""
    jump = Jump.apply(x, threshold, lambda u: SURROGATES[surrogate].derivative(u, slope))
    ramp = (x - threshold).clamp(min=0)
    return jump + torch.where(x <= limit, ramp, limit - threshold)


def gradients(x: Tensor, given: Neurons, hold: int = 1) -> tuple[Tensor, Tensor]:
    """Return the values, and the gradient at x of a weighted sum of them."""
    x = x.detach().requires_grad_()
    output, _ = multi_step(x, given, hold=hold)
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape).to(output)
    (output * weights).sum().backward()
    return output.detach(), x.grad


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("threshold", "limit"), [(0.0, math.inf), (0.4, 2.0), (0.4, math.inf)])
def test_values_equal_the_reference(shape: tuple[int, ...], threshold: float, limit: float, backend: str) -> None:
    x = inputs(*shape)
    sent, _ = multi_step(x, graded(backend, threshold=threshold, limit=limit))
    np.testing.assert_array_equal(sent, reference.graded(x, threshold=threshold, limit=limit))
    assert x.numel() < 100 or 0.2 < (sent > 0).double().mean() < 0.6


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("shape", [(), (3, 1), (3, 5)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_equal_autograd(surrogate: str, shape: tuple[int, ...], dtype: torch.dtype, backend: str) -> None:
    start = 0.4 * torch.linspace(0.8, 1.2, math.prod(shape), dtype=torch.float64).reshape(shape)
    x, results = inputs(19, 2, 3, 5, dtype=dtype), []
    for which in (backend, "autograd"):
        leaf, threshold = x.clone().requires_grad_(), start.clone().requires_grad_()
        if which == "autograd":
            sent = by_autograd(leaf.double(), threshold, 1.5, surrogate, 1.3).to(dtype)
        else:
            sent = multi_step(leaf, graded(which, threshold=threshold, limit=1.5, surrogate=surrogate, slope=1.3))[0]
        weights = torch.linspace(-1, 1, sent.numel(), dtype=torch.float64).reshape(sent.shape).to(sent)
        (sent * weights).sum().backward()
        results.append((sent.detach(), leaf.grad, threshold.grad))
    close = {"rtol": 1e-9, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, **close)
        assert ours.abs().max() > 0


def test_gradient_of_a_relu_and_of_a_limit(backend: str) -> None:
    x = torch.tensor([[[-1.0, 0.0, 0.5, 1.0, 3.0]]], dtype=torch.float64)
    for threshold, wanted in ((0.0, [0, 0, 1, 1, 0]), (0.5, [1 / 49, 1 / 9, 1, 1 + 1 / 9, 1 / 121])):
        given = torch.tensor(threshold, dtype=torch.float64, requires_grad=True)
        leaf = x.clone().requires_grad_()
        sent, _ = multi_step(leaf, graded(backend, threshold=given, limit=1.0))
        assert sent.flatten().tolist() == [0, 0, 0.5 * (threshold == 0), 1, 1]
        sent.sum().backward()
        torch.testing.assert_close(leaf.grad.flatten(), torch.tensor(wanted, dtype=torch.float64))
        jumps = 0.0 if threshold == 0 else 1 / 49 + 1 / 9 + 1 + 1 / 9 + 1 / 121
        assert given.grad.item() == pytest.approx(-jumps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types(dtype: torch.dtype, backend: str) -> None:
    x = inputs(3, 4, 33).to(dtype)
    sent, gradient = gradients(x, graded(backend, limit=math.inf))
    assert sent.dtype == gradient.dtype == dtype
    assert torch.equal(sent, torch.where(x.float() > 0.4, x, torch.zeros_like(x)))
    wanted = gradients(x.float(), graded("torch", limit=math.inf))[1]
    torch.testing.assert_close(gradient.float(), wanted, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize(
    ("dtype", "saves"), [(torch.float64, "full"), (torch.float32, "full"), (torch.float32, "bf16")]
)
def test_held_current_gets_the_sum_of_gradients(dtype: torch.dtype, saves: str, backend: str) -> None:
    x = inputs(1, 3, 2, 4, 5).to(dtype).permute(0, 1, 4, 2, 3)
    given = graded(backend, threshold=torch.linspace(0.2, 0.6, 5).reshape(5, 1, 1), saves=saves)
    sent, gradient = gradients(x, given, hold=11)
    wanted = gradients(x.expand(11, 3, 5, 2, 4).clone(), given)
    assert torch.equal(sent, wanted[0]) and gradient.shape == x.shape
    close = {torch.float64: 1e-12, torch.float32: 1e-5}[dtype]
    torch.testing.assert_close(gradient[0], wanted[1].sum(0), rtol=close, atol=close)


def test_bf16_margins_keep_the_side_of_the_threshold(backend: str) -> None:
    x = torch.tensor([0.4 + 1e-6, 0.4 - 1e-6, 1.0, -1.0], dtype=torch.float32).repeat(2, 1, 8)
    full, short = (gradients(x, graded(backend, saves=saves)) for saves in ("full", "bf16"))
    assert torch.equal(full[0], short[0])
    torch.testing.assert_close(short[1], full[1], rtol=0.05, atol=0.02)
    assert not torch.equal(short[1], full[1])


def test_state_is_passed_on_and_changes_nothing(backend: str) -> None:
    x, v = inputs(4, 2, 7), inputs(2, 7, seed=5).requires_grad_()
    sent, last = multi_step(x, graded(backend), State(v))
    assert torch.equal(sent, multi_step(x, graded(backend))[0]) and torch.equal(last.v, v)
    last.v.square().sum().backward()
    torch.testing.assert_close(v.grad, 2 * v.detach())


@pytest.mark.parametrize(("threshold", "limit"), [(0.0, 1.5), (0.4, 1.5), (0.4, math.inf)])
@pytest.mark.parametrize(("shape", "hold"), [((3, 2, 83), 1), ((1, 2, 2100), 3)])
def test_share_of_messages_has_the_gradient_of_their_events(
    threshold: float, limit: float, shape: tuple[int, ...], hold: int, backend: str
) -> None:
    results, device = [], "cuda" if backend == "triton" and not INTERPRETED else "cpu"
    synapses = torch.linspace(1, 9, shape[-1], device=device)
    for counted in (True, False):
        given = torch.tensor(threshold, dtype=torch.float64, device=device, requires_grad=True)
        neurons, x = graded(backend, threshold=given, limit=limit), inputs(*shape, dtype=torch.float32).to(device)
        x.requires_grad_()
        sent, share, weighted = engine.whole_sample(x, neurons, synapses, hold=hold)
        assert (share is not None) == (weighted is not None) == (backend == "native")
        if share is None or weighted is None or not counted:
            share = engine.firing_rate(events(sent, neurons))
            weighted = (events(sent, neurons) * synapses).mean()
        torch.testing.assert_close(share, (sent > 0).float().mean())
        torch.testing.assert_close(weighted, ((sent > 0) * synapses).mean())
        weights = torch.linspace(-1, 1, sent.numel(), device=device).reshape(sent.shape)
        (1e3 * share.square() + 99 * weighted.square() + (sent * weights).sum()).backward()
        results.append((x.grad, given.grad))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    assert results[0][0].any() and results[0][1].any() == (threshold > 0)


def test_norse_has_no_graded_neuron() -> None:
    with pytest.raises(ConfigError, match=r"Norse has no neuron that sends graded values\n.*kernels = 'auto'"):
        multi_step(inputs(1, 2, 3), graded("norse"))


def test_compiling_breaks_no_graph(backend: str) -> None:
    device = "cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"
    x = inputs(3, 2, 6, dtype=torch.float32).to(device)

    def run(values: Tensor) -> Tensor:
        return engine.multi_step(values, graded(backend))[0].mean(0)

    torch._dynamo.reset()
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    run(one).square().sum().backward()
    torch.compile(run, fullgraph=True, backend="aot_eager")(other).square().sum().backward()
    torch.testing.assert_close(other.grad, one.grad)
    assert one.grad.any()
