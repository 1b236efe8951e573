"""Momentum text tower, queue of text features, and training with few labelled pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ashneuro.config import RunConfig, TextConfig
from ashneuro.data.batches import Batches
from ashneuro.data.tokens import build_vocabulary
from ashneuro.errors import ConfigError
from ashneuro.exchange import METRICS, read_metrics
from ashneuro.model.text import TextEncoder
from ashneuro.training.checkpoint import build_model
from ashneuro.training.learner import Learner
from ashneuro.training.loop import Progress, train
from ashneuro.training.text_targets import MomentumText, TextQueue
from tests.training import tiny
from tests.training.test_loop import files


def few(share: float = 0.5, **settings: object) -> RunConfig:
    """Return settings with a share of labelled pairs."""
    found = tiny.config(**{"batch_size": 4, "unlabelled": 0.5, "stua_reading": "soft", **settings})
    return replace(found, data=replace(found.data, labelled=share))


def learner_and_terms(config: RunConfig) -> tuple[Learner, dict[str, torch.Tensor]]:
    """Return a fresh learner and its objectives of one batch, two of six pairs labelled."""
    torch.manual_seed(0)
    pairs = tiny.load_splits(config.data).train
    vocabulary = build_vocabulary(text for pair in pairs for text in pair.captions)
    learner = Learner(build_model(config, vocabulary).train(), config.train, 1)
    batches = Batches(pairs, vocabulary, config.data, config.train, views=True, labelled=range(6))
    return learner, learner(next(batches.epoch(0)), config.train, torch.Generator().manual_seed(0))[0]


def test_momentum_text_follows_its_equation() -> None:
    torch.manual_seed(0)
    text = TextEncoder(TextConfig(width=4, layers=1, heads=2), 9, 5, 3)
    momentum = MomentumText(text, 0.3)
    expected = torch.zeros(())
    for n in range(8):
        with torch.no_grad():
            text.project.bias.fill_(float(n + 1))
        momentum.update(text)
        d = min(0.3, n / (n + 9))
        expected = d * expected + (1 - d) * (n + 1)
        torch.testing.assert_close(momentum.average.project.bias, expected.expand(3).float())
    assert not any(weight.requires_grad for weight in momentum.parameters())
    tokens = torch.tensor([[2, 3, 4, 0], [5, 0, 0, 0]])
    assert torch.equal(momentum.train()(tokens), momentum(tokens)), "no dropout"
    torch.testing.assert_close(momentum(tokens), momentum.average.eval()(tokens))


def test_momentum_text_shares_a_frozen_tower() -> None:
    text = TextEncoder(TextConfig(width=4, layers=0), 9, 5, 3)
    text.tower = torch.nn.Embedding(9, 4).requires_grad_(False)
    momentum, before = MomentumText(text, 0.9), text.tower.weight.clone()
    momentum.update(text)
    assert momentum.average.tower is text.tower and torch.equal(text.tower.weight, before)
    text.tower.requires_grad_(True)
    assert MomentumText(text, 0.9).average.tower is not text.tower and text.tower.weight.requires_grad


def test_queue_holds_the_newest_features() -> None:
    queue = TextQueue(2, size=5)
    rows = torch.arange(14.0).reshape(7, 2)
    assert torch.equal(queue.push(rows[:2]), rows[:2])
    assert torch.equal(queue.push(rows[2:4]), rows[[2, 3, 0, 1]])
    assert torch.equal(queue.push(rows[4:7]), rows[[4, 5, 6, 2, 3]])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_unlabelled_objective_reaches_images_spikes_and_fragments(momentum: float) -> None:
    learner, terms = learner_and_terms(few(momentum_text=momentum))
    (terms["unlabelled"] + 0 * terms["itc"]).backward()
    reached = {name for name, weight in learner.named_parameters() if weight.grad is not None and weight.grad.any()}
    parts = {name.removeprefix("model.").split(".")[0] for name in reached}
    # Not the temperature, which would follow the confidence of its own assignments.
    assert parts == {"concrete", "abstract", "omega", "readout", "ratio", "stua", "project", "text"}
    assert hasattr(learner, "momentum_text") == bool(momentum)


def test_l_stua_has_the_momentum_towers_texts() -> None:
    """After its first update the tower equals the text encoder, apart from dropout."""
    found = few(share=1.0, unlabelled=0.0)
    plain = replace(found, model=replace(found.model, text=replace(found.model.text, dropout=0.0)))
    losses = {}
    for momentum in (0.0, 0.9):
        settings = replace(plain, train=replace(plain.train, momentum_text=momentum))
        learner, terms = learner_and_terms(settings)
        losses[momentum] = float(terms["stua"].detach())
        if momentum:
            with torch.no_grad():
                for weight in learner.momentum_text.average.parameters():
                    weight.zero_()
                learner.momentum_text.average.project.bias[0] = 1.0
                learner.momentum_text.updates.fill_(1000)
            pairs = tiny.load_splits(settings.data).train
            words = build_vocabulary(text for pair in pairs for text in pair.captions)
            batch = next(Batches(pairs, words, settings.data, settings.train, views=True).epoch(0))
            again, _ = learner(batch, settings.train, torch.Generator().manual_seed(0))
            assert float(again["stua"].detach()) < 1e-3, "all texts are nearly one: every read-out ranks them alike"
    assert losses[0.0] == pytest.approx(losses[0.9], rel=1e-5)


@pytest.mark.parametrize("kind", ["spiking", "none"])
def test_few_labelled_pairs_train_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("ashneuro.training.data.load_splits", tiny.load_splits)
    settings = few(epochs=2, momentum_text=0.9, save_every=1)
    abstract = replace(settings.model.abstract, kind=kind)
    settings = replace(settings, model=replace(settings.model, abstract=abstract))

    def stop(now: Progress) -> None:
        if (now.epoch, now.batch) == (2, 2):
            raise KeyboardInterrupt

    whole = train(settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "parts", on_progress=stop)
    train(settings, tmp_path / "parts", resume=True)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert read_metrics(tmp_path / "whole" / METRICS).epochs[0].losses["unlabelled"] > 0
    assert not any("momentum" in name or "queue" in name for name in whole.model.state_dict())


def test_unlabelled_objective_needs_unlabelled_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashneuro.training.data.load_splits", tiny.load_splits)
    with pytest.raises(ConfigError, match=r"train\.unlabelled = 0\.5") as error:
        train(few(share=1.0), tmp_path / "run")
    assert "data.labelled" in error.value.do


def test_unlabelled_spikes_stop_at_c() -> None:
    """The images' own alignment reaches C; that of their spikes does so only where it may."""
    gradients = {}
    for stops in (True, False):
        learner, terms = learner_and_terms(few(stua=0.0, contrast=0.0, stua_stops_at_concrete=stops))
        (terms["unlabelled"] + 0 * terms["itc"]).backward()
        gradients[stops] = {name: weight.grad for name, weight in learner.named_parameters()}
    for name in ("model.stua.weight", "model.readout.weight", "model.abstract.w_in.weight", "model.project.weight"):
        torch.testing.assert_close(gradients[True][name], gradients[False][name], msg=name)
    inner = "model.concrete.trunk.0.weight"
    assert gradients[True][inner].any() and not torch.allclose(gradients[True][inner], gradients[False][inner])
