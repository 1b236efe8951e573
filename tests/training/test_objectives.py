"""Every objective against its equation, written as a loop over pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ashneuro.training import objectives
from ashneuro.training.objectives import (
    answer_loss,
    balanced_assignment,
    codebook_loss,
    contrast,
    distil,
    distil_embedding,
    firing_rate_penalty,
    hard_negatives,
    itc,
    itm,
    label_loss,
    mask_words,
    mlm,
    pseudo_alignment,
    stua,
    stua_reconstruction,
    stua_soft,
    stua_symmetric,
    stua_words,
    synops,
    synops_penalty,
    synthetic_negatives,
    text_contrast,
)

CONCEPTS = torch.tensor([0, 1, 2, 1, 3, 1])
B, SCALE = len(CONCEPTS), 7.0


def unit(seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(B, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def negatives(i: int) -> list[int]:
    return [j for j in range(B) if CONCEPTS[j] != CONCEPTS[i]]


def one_way(a: torch.Tensor, b: torch.Tensor, smoothing: float = 0.0) -> float:
    """Return −1/B Σ_i [(1 − ε) log p_ii + ε/|N(i)| Σ_j log p_ij].

    p_ij = e^{s·a_i·b_j} / Σ_{k ∈ N(i)} e^{s·a_i·b_k}
    """
    total = 0.0
    for i in range(B):
        shares = [math.exp(SCALE * float(a[i] @ b[j])) for j in [i, *negatives(i)]]
        logs = [math.log(share / sum(shares)) for share in shares]
        total -= ((1 - smoothing) * logs[0] + smoothing * sum(logs) / len(logs)) / B
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_itc(smoothing: float) -> None:
    u, t = unit(1), unit(2)
    expected = (one_way(u, t, smoothing) + one_way(t, u, smoothing)) / 2
    assert float(itc(u, t, CONCEPTS, SCALE, smoothing)) == pytest.approx(expected)


def test_smoothed_itc_has_finite_gradients_with_masked_pairs() -> None:
    u = unit(1).requires_grad_()
    itc(u, unit(2), CONCEPTS, SCALE, 0.3).backward()
    assert u.grad.isfinite().all() and u.grad.any()


@pytest.mark.parametrize("beta", [0.0, 2.5])
def test_contrast(beta: float) -> None:
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


def test_contrast_without_tilt_is_info_nce() -> None:
    z, other = unit(3), unit(4)
    assert float(contrast(z, other, CONCEPTS, SCALE, 0.0)) == pytest.approx(one_way(z, other))
    assert float(contrast(z, other, CONCEPTS, SCALE, 4.0)) > float(contrast(z, other, CONCEPTS, SCALE, 0.0))


def test_tilt_has_no_gradient() -> None:
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


def test_stua_moves_read_outs_only() -> None:
    a, t = unit(5).requires_grad_(), unit(6).requires_grad_()
    loss = stua(a, t, CONCEPTS, SCALE)
    assert float(loss.detach()) == pytest.approx(one_way(a.detach(), t.detach()))
    loss.backward()
    assert t.grad is None and a.grad.any()


def test_firing_rate_penalty() -> None:
    quiet, loud = torch.zeros(2, 3, 10), torch.zeros(2, 3, 10)
    quiet[0, 0, 0], loud[0] = 1.0, 1.0
    expected = (0.0 + (0.5 / 0.1 - 1) ** 2) / 2
    assert float(firing_rate_penalty([quiet, loud], 0.1)) == pytest.approx(expected)
    assert float(firing_rate_penalty([quiet], 0.1)) == 0.0


@pytest.mark.parametrize("count", [1, 2, 4])
def test_synthetic_negatives(count: int) -> None:
    z, other = unit(3), unit(4)
    expected, found = 0.0, 0
    for i in range(B):
        hardest = sorted(negatives(i), key=lambda j: -float(z[i] @ other[j]))
        mixed = [
            F.normalize(other[hardest[m]] + other[hardest[m + 1]], dim=0) for m in range(min(count, len(hardest) - 1))
        ]
        found += len(mixed)
        positive = math.exp(SCALE * float(z[i] @ other[i]))
        hard = sum(math.exp(SCALE * float(z[i] @ v)) for v in [*(other[j] for j in negatives(i)), *mixed])
        expected -= math.log(positive / (positive + hard)) / B
    assert found >= B * min(count, 2)
    assert float(contrast(z, other, CONCEPTS, SCALE, 0.0, count)) == pytest.approx(expected)


def test_missing_synthetic_negatives_are_masked() -> None:
    z, other = unit(3)[:3], unit(4)[:3]
    excluded = torch.tensor([[True, False, True], [False, True, False], [True, True, True]])
    mixed, real = synthetic_negatives(z, other, excluded, 5)
    assert mixed.shape == (3, 5, 5)
    assert real.tolist() == [[False] * 5, [True, *[False] * 4], [False] * 5]


def test_hard_negatives_are_drawn_by_similarity() -> None:
    similarity = torch.randn(B, B, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    random = torch.Generator().manual_seed(1)
    counts = torch.zeros(B, B)
    for _ in range(4000):
        drawn = hard_negatives(similarity, CONCEPTS, random)
        counts[torch.arange(B), drawn] += 1
    for i in range(B):
        n = negatives(i)
        shares = torch.tensor([math.exp(float(similarity[i, j])) for j in n])
        torch.testing.assert_close(counts[i, n] / 4000, shares / shares.sum(), atol=0.03, rtol=0)
        assert counts[i].sum() == counts[i, n].sum()
    assert hard_negatives(similarity, torch.zeros(B, dtype=torch.long), random).tolist() == [-1] * B
    drawn = hard_negatives(torch.full((B, B), math.nan), CONCEPTS, random).tolist()
    assert all(j in negatives(i) for i, j in enumerate(drawn)), "NaN does not stop training here"


def cross_entropy(scores: torch.Tensor, label: int) -> float:
    shares = [math.exp(float(score)) for score in scores]
    return -math.log(shares[label] / sum(shares))


def test_itm_mlm_and_label_loss() -> None:
    scores, labels = torch.randn(5, 2, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])
    expected = sum(cross_entropy(row, int(label)) for row, label in zip(scores, labels, strict=True)) / 5
    assert float(itm(scores, labels)) == float(label_loss(scores, labels)) == pytest.approx(expected)
    words, targets = torch.randn(2, 3, 7, dtype=torch.float64), torch.tensor([[4, -1, -1], [-1, 0, 6]])
    expected = (cross_entropy(words[0, 0], 4) + cross_entropy(words[1, 1], 0) + cross_entropy(words[1, 2], 6)) / 3
    assert float(mlm(words, targets)) == pytest.approx(expected)
    assert float(mlm(words, torch.full((2, 3), -1))) == 0.0


def test_mask_words_shares() -> None:
    tokens = torch.randint(2, 50, (2000, 10), generator=torch.Generator().manual_seed(0))
    tokens[:, 7:] = 0
    tokens[0] = 0
    hidden, targets = mask_words(tokens, 0.15, 1, 50, torch.Generator().manual_seed(2))
    chosen = targets >= 0
    assert (targets[chosen] == tokens[chosen]).all() and (hidden[~chosen] == tokens[~chosen]).all()
    assert not chosen[tokens == 0].any() and chosen[1:].any(1).all(), (
        "never padding, and at least one word of every text that has any"
    )
    shares = [float((hidden[chosen] == 1).float().mean()), float((hidden[chosen] == tokens[chosen]).float().mean())]
    assert shares == pytest.approx([0.8, 0.1 + 0.1 / 48], abs=0.03)
    assert hidden[chosen].max() < 50


def test_stua_readings() -> None:
    a, t = unit(5).requires_grad_(), unit(6).requires_grad_()
    both = stua_symmetric(a, t, CONCEPTS, SCALE)
    assert float(both.detach()) == pytest.approx(
        (one_way(a.detach(), t.detach()) + one_way(t.detach(), a.detach())) / 2
    )
    both.backward()
    assert t.grad is not None and t.grad.any(), "texts move, too"
    a, t = unit(5).requires_grad_(), unit(6).requires_grad_()
    rebuilt = stua_reconstruction(a, t)
    assert float(rebuilt.detach()) == pytest.approx(sum(1 - float(a[i].detach() @ t[i].detach()) for i in range(B)) / B)
    rebuilt.backward()
    assert t.grad is None
    scores, tokens = torch.randn(3, 9, dtype=torch.float64), torch.tensor([[4, 4, 2, 0], [0, 0, 0, 0], [8, 1, 0, 0]])
    expected = (
        (cross_entropy(scores[0], 4) + cross_entropy(scores[0], 2)) / 2
        + (cross_entropy(scores[2], 8) + cross_entropy(scores[2], 1)) / 2
    ) / 2
    assert float(stua_words(scores, tokens)) == pytest.approx(expected)


def test_stua_with_soft_targets() -> None:
    a, t = unit(5).requires_grad_(), unit(6).requires_grad_()
    expected = 0.0
    for i in range(B):
        wanted = [math.exp(SCALE * float(t[i].detach() @ t[j].detach())) for j in range(B)]
        given = [math.exp(SCALE * float(a[i].detach() @ t[j].detach())) for j in range(B)]
        for q, p in zip(wanted, given, strict=True):
            share = q / sum(wanted)
            expected += share * math.log(share / (p / sum(given))) / B
    loss = stua_soft(a, t, SCALE)
    assert float(loss.detach()) == pytest.approx(expected)
    loss.backward()
    assert t.grad is None and a.grad is not None and a.grad.any()
    assert float(stua_soft(unit(6), unit(6), SCALE)) == pytest.approx(0.0), "least where a = t"
    others = torch.cat([unit(6), unit(7)])
    assert float(stua_soft(unit(5), unit(6), SCALE, others)) == pytest.approx(
        sum(divergence(unit(6)[i], unit(5)[i], others) for i in range(B)) / B
    )


def shares(of: torch.Tensor, among: torch.Tensor, scale: float = SCALE) -> list[float]:
    values = [math.exp(scale * float(of @ one)) for one in among]
    return [value / sum(values) for value in values]


def divergence(wanted: torch.Tensor, given: torch.Tensor, among: torch.Tensor) -> float:
    return sum(q * math.log(q / p) for q, p in zip(shares(wanted, among), shares(given, among), strict=True))


def test_unlabelled_images_are_assigned_to_all_texts_alike() -> None:
    v, candidates = unit(6).requires_grad_(), torch.cat([unit(7), unit(8), unit(9)])
    q = [[math.exp(SCALE * float(v[i].detach() @ one)) for one in candidates] for i in range(B)]
    for _ in range(2):
        columns = [sum(q[i][j] for i in range(B)) for j in range(3 * B)]
        q = [[value / total for value, total in zip(row, columns, strict=True)] for row in q]
        q = [[value / sum(row) for value in row] for row in q]
    found = balanced_assignment(v, candidates, SCALE, rounds=2)
    torch.testing.assert_close(found, torch.tensor(q, dtype=torch.float64))
    assert not found.requires_grad
    # All images are most similar to one text: each still goes to another one.
    hub = torch.tensor([[0.9, 0.1], [0.9, 0.2]], dtype=torch.float64)
    settled = balanced_assignment(hub, torch.eye(2, dtype=torch.float64), 100.0, rounds=50)
    assert settled.argmax(1).tolist() == [0, 1] and settled.sum(0).tolist() == pytest.approx([1, 1], abs=0.01)


def test_pseudo_alignment() -> None:
    u, q, candidates = unit(5).requires_grad_(), torch.rand(B, 2 * B).double(), torch.cat([unit(7), unit(8)])
    expected = 0.0
    for i in range(B):
        p = shares(u[i].detach(), candidates)
        expected -= sum(float(q[i, j]) * math.log(p[j]) for j in range(2 * B)) / B
    loss = pseudo_alignment(u, q, candidates, SCALE)
    assert float(loss.detach()) == pytest.approx(expected)


def test_text_contrast_excludes_equal_texts() -> None:
    f, t = unit(5).requires_grad_(), unit(6).requires_grad_()
    # As CONCEPTS: texts 1, 3 and 5 are equal.
    tokens = torch.stack([CONCEPTS + 2, torch.zeros_like(CONCEPTS)], 1)
    loss = text_contrast(f, t, tokens, SCALE)
    assert float(loss.detach()) == pytest.approx(one_way(f.detach(), t.detach()))
    loss.backward()
    assert t.grad is None and f.grad is not None and f.grad.any()


def test_codebook_loss_moves_both_sides() -> None:
    z, e = unit(1).requires_grad_(), unit(2).requires_grad_()
    loss = codebook_loss(z, e, 0.25)
    squares = [float((a - b) ** 2) for a, b in zip(z.detach().flatten(), e.detach().flatten(), strict=True)]
    assert float(loss.detach()) == pytest.approx(1.25 * sum(squares) / len(squares))
    loss.backward()
    torch.testing.assert_close(z.grad, -0.25 * e.grad)


def test_answer_loss_with_soft_targets() -> None:
    scores, targets = (
        torch.randn(2, 3, dtype=torch.float64),
        torch.tensor([[0.3, 1.0, 0.0], [0.0, 0.0, 0.6]], dtype=torch.float64),
    )
    expected = 0.0
    for row, wanted in zip(scores, targets, strict=True):
        for score, y in zip(row, wanted, strict=True):
            p = 1 / (1 + math.exp(-float(score)))
            expected -= (float(y) * math.log(p) + (1 - float(y)) * math.log(1 - p)) / 2
    assert float(answer_loss(scores, targets)) == pytest.approx(expected)


def test_synops_penalty() -> None:
    random = torch.Generator().manual_seed(0)
    layers = {
        "a": (torch.rand(2, 3, 4, generator=random) < 0.5).double(),
        "b": (torch.rand(2, 3, 2, 2, generator=random) < 0.5).double(),
    }
    fan_out = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([[5.0, 6.0], [7.0, 8.0]])}
    total = 0.0
    for t in range(2):
        for sample in range(3):
            total += sum(float(layers["a"][t, sample, n] * fan_out["a"][n]) for n in range(4))
            total += sum(float(layers["b"][t, sample, r, c] * fan_out["b"][r, c]) for r in range(2) for c in range(2))
    mean = total / 3
    assert float(synops_penalty(synops(layers, fan_out), mean / 3)) == pytest.approx(4.0)
    assert float(synops_penalty(synops(layers, fan_out), 2 * mean)) == 0.0


def test_distillation_is_the_divergence_from_the_teacher_both_ways() -> None:
    u, t, taught_u, taught_t = unit(1), unit(2), unit(3)[:, :4], unit(4)[:, :4]

    def shares(a: torch.Tensor, b: torch.Tensor, scale: float, i: int) -> list[float]:
        found = [math.exp(scale * float(a[i] @ b[j])) for j in range(B)]
        return [one / sum(found) for one in found]

    total = 0.0
    for i in range(B):
        for a, b, taught_a, taught_b in [(u, t, taught_u, taught_t), (t, u, taught_t, taught_u)]:
            q, p = shares(taught_a, taught_b, 3.0, i), shares(a, b, SCALE, i)
            total += sum(q[j] * math.log(q[j] / p[j]) for j in range(B)) / (2 * B)
    leaves = [each.requires_grad_() for each in (u, t, taught_u, taught_t)]
    loss = distil(u, t, SCALE, taught_u, taught_t, 3.0)
    assert loss.item() == pytest.approx(total)
    assert float(distil(u, t, SCALE, u, t, SCALE)) == pytest.approx(0.0, abs=1e-12)
    (loss + distil_embedding(u, unit(5))).backward()
    assert [each.grad is not None for each in leaves] == [True, True, False, False]
    expected = sum(1 - float(u[i] @ unit(5)[i]) for i in range(B)) / B
    assert float(distil_embedding(u, unit(5))) == pytest.approx(expected)


def test_changes_count_levels_and_their_synapses() -> None:
    torch.manual_seed(0)
    shapes = {"a": (2, 3, 4), "b": (2, 3, 2, 2)}
    first, second = ({name: torch.randint(0, 4, shape) * 0.5 for name, shape in shapes.items()} for _ in range(2))
    fan_out = {name: torch.randint(1, 9, shape[2:]).float() for name, shape in shapes.items()}
    first["a"].requires_grad_()
    units = {"a": torch.tensor(0.5), "b": torch.tensor(0.25)}
    moved = sent = 0.0
    for name in shapes:
        for index in np.ndindex(*shapes[name]):
            one, other = first[name][index].item(), second[name][index].item()
            moved += abs(one - other) / units[name].item() * fan_out[name][index[2:]].item()
            sent += (one != 0) * fan_out[name][index[2:]].item()
    found = objectives.changes(first, second, units, fan_out)
    torch.testing.assert_close(found.item(), moved / sent)
    found.backward()  # what is sent is no way to make the ratio small
    wanted = torch.sign(first["a"].detach() - second["a"]) / 0.5 * fan_out["a"] / 3 / (sent / 3)
    torch.testing.assert_close(first["a"].grad, wanted)
    assert objectives.changes(first, first, units, fan_out) == 0


def test_shifted_images_repeat_their_edge() -> None:
    images = torch.rand(64, 3, 5, 6)
    found = objectives.shifted(images, torch.Generator().manual_seed(0))
    ways = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]
    padded, drawn = F.pad(images, (1, 1, 1, 1), mode="replicate"), []
    for image, moved in zip(padded, found, strict=True):
        match = [way for way in ways if torch.equal(image[:, 1 + way[0] : 6 + way[0], 1 + way[1] : 7 + way[1]], moved)]
        drawn.append(*match)
    assert set(drawn) == set(ways)


def test_equal_texts_are_not_negatives() -> None:
    """Images 0 and 1 have the text of pair 0 in common; pair 1 was drawn with another one."""
    concepts = torch.arange(3)
    texts = torch.tensor([[7, 7, -1], [8, 7, 8], [9, 9, -1]])
    same = objectives.same_texts(concepts, texts)
    assert same.tolist() == [[True, False, False], [True, True, False], [False, False, True]]
    assert objectives.same_texts(concepts, None) is concepts
    images, features = (F.normalize(torch.randn(3, 4), dim=1) for _ in range(2))
    logits = 5.0 * images @ features.T
    without = logits.clone()
    without[1, 0] = -torch.inf
    expected = (F.cross_entropy(without, torch.arange(3)) + F.cross_entropy(without.T, torch.arange(3))) / 2
    torch.testing.assert_close(objectives.itc(images, features, same, 5.0), expected)
    torch.testing.assert_close(objectives.stua(images, features, same, 5.0), F.cross_entropy(without, torch.arange(3)))
    drawn = {objectives.hard_negatives(logits, same, torch.Generator().manual_seed(n))[1].item() for n in range(20)}
    assert drawn == {2}
