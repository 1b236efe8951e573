"""Every objective against a loop over pairs that spells its equation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from ashneuro.train.objectives import contrast, firing_rate_penalty, itc, stua

CONCEPTS = torch.tensor([0, 1, 2, 1, 3, 1])
B, SCALE = len(CONCEPTS), 7.0


def unit(seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(B, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def negatives(i: int) -> list[int]:
    return [j for j in range(B) if CONCEPTS[j] != CONCEPTS[i]]


def one_way(a: torch.Tensor, b: torch.Tensor, smoothing: float = 0.0) -> float:
    """−1/B Σ_i [(1 − ε) log p_ii + ε/|N(i)| Σ_j log p_ij], p_ij = e^{s·a_i·b_j} / Σ_{k ∈ N(i)} e^{s·a_i·b_k}."""
    total = 0.0
    for i in range(B):
        shares = [math.exp(SCALE * float(a[i] @ b[j])) for j in [i, *negatives(i)]]
        logs = [math.log(share / sum(shares)) for share in shares]
        total -= ((1 - smoothing) * logs[0] + smoothing * sum(logs) / len(logs)) / B
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_itc_is_its_equation_both_ways(smoothing: float) -> None:
    u, t = unit(1), unit(2)
    expected = (one_way(u, t, smoothing) + one_way(t, u, smoothing)) / 2
    assert float(itc(u, t, CONCEPTS, SCALE, smoothing)) == pytest.approx(expected)


def test_smoothing_has_a_finite_gradient_beside_masked_pairs() -> None:
    u = unit(1).requires_grad_()
    itc(u, unit(2), CONCEPTS, SCALE, 0.3).backward()
    assert u.grad.isfinite().all() and u.grad.any()


@pytest.mark.parametrize("beta", [0.0, 2.5])
def test_contrast_is_its_equation(beta: float) -> None:
    z, other = unit(3), unit(4)
    expected = 0.0
    for i in range(B):
        n = negatives(i)
        tilt = [math.exp(beta * float(z[i] @ other[j])) for j in n]
        weights = [len(n) * value / sum(tilt) for value in tilt]
        positive = math.exp(SCALE * float(z[i] @ other[i]))
        hard = sum(w * math.exp(SCALE * float(z[i] @ other[j])) for w, j in zip(weights, n, strict=True))
        expected -= math.log(positive / (positive + hard)) / B
    assert float(contrast(z, other, CONCEPTS, SCALE, beta)) == pytest.approx(expected)


def test_without_tilt_contrast_is_plain_info_nce() -> None:
    z, other = unit(3), unit(4)
    assert float(contrast(z, other, CONCEPTS, SCALE, 0.0)) == pytest.approx(one_way(z, other))
    assert float(contrast(z, other, CONCEPTS, SCALE, 4.0)) > float(contrast(z, other, CONCEPTS, SCALE, 0.0))


def test_the_tilt_passes_no_gradient() -> None:
    def gradient(beta: float, weight_too: bool) -> torch.Tensor:
        z, other = unit(3).requires_grad_(), unit(4)
        if weight_too:
            return torch.autograd.grad(contrast(z, other, CONCEPTS, SCALE, beta), z)[0]
        similarity = z @ other.T
        total = torch.zeros(())
        for i in range(B):
            n = negatives(i)
            tilt = (beta * similarity[i, n].detach()).exp()
            hard = (len(n) * tilt / tilt.sum() * (SCALE * similarity[i, n]).exp()).sum()
            positive = (SCALE * similarity[i, i]).exp()
            total = total - (positive / (positive + hard)).log() / B
        return torch.autograd.grad(total, z)[0]

    torch.testing.assert_close(gradient(3.0, True), gradient(3.0, False))


def test_stua_is_its_equation_and_leaves_texts_alone() -> None:
    a, t = unit(5).requires_grad_(), unit(6).requires_grad_()
    loss = stua(a, t, CONCEPTS, SCALE)
    assert float(loss.detach()) == pytest.approx(one_way(a.detach(), t.detach()))
    loss.backward()
    assert t.grad is None and a.grad.any()


def test_only_firing_above_the_target_is_penalised() -> None:
    quiet, loud = torch.zeros(2, 3, 10), torch.zeros(2, 3, 10)
    quiet[0, 0, 0], loud[0] = 1.0, 1.0
    expected = (0.0 + (0.5 / 0.1 - 1) ** 2) / 2
    assert float(firing_rate_penalty([quiet, loud], 0.1)) == pytest.approx(expected)
    assert float(firing_rate_penalty([quiet], 0.1)) == 0.0
