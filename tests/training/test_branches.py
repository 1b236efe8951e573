"""Training steps cut into branches, computed by one thread or by two."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ashneuro.config import RunConfig
from ashneuro.data.batches import Batches
from ashneuro.data.tokens import build_vocabulary
from ashneuro.model.network import AshNet
from ashneuro.training.branches import Branches, StepGraph, branches_pay, thread_beside
from ashneuro.training.checkpoint import build_model
from ashneuro.training.learner import Learner, whole_loss
from ashneuro.training.loop import Progress, train
from tests.training import tiny


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def gradients(config: RunConfig, graph: str, batches: int = 1) -> dict[str, torch.Tensor]:
    """Return the gradients of one batch in float64, by parameter, added to gradients of 1."""
    torch.manual_seed(0)
    pairs = tiny.load_splits(config.data).train
    vocabulary = build_vocabulary(text for pair in pairs for text in pair.captions)
    learner = Learner(build_model(config, vocabulary).train(), config.train, 1).double()
    batch = next(Batches(pairs, vocabulary, config.data, config.train, views=True).epoch(0))
    assert batch.views is not None
    batch = replace(batch, images=batch.images.double(), views=batch.views.double())
    for parameter in learner.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.set_num_threads(2 if graph == "two threads" else 1)
    with thread_beside(wanted=True) as beside:
        assert (beside is None) == (graph != "two threads")
        step = StepGraph() if graph == "whole" else Branches(learner.parameters(), beside)
        terms, _ = learner(batch, config.train, torch.Generator().manual_seed(0), graph=step)
        step.backward(whole_loss(terms), batches)
    return {name: parameter.grad for name, parameter in learner.named_parameters()}  # type: ignore[misc]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"stua_reading": "symmetric", "contrast": 0.0},
        {"stua_reading": "soft", "momentum_text": 0.9, "changes": 0.1},
        {"stua_stops_at_concrete": False, "synops": 100.0},
        {"stua": 0.0},
    ],
)
def test_branches_have_the_gradients_of_the_whole_graph(settings: dict[str, Any]) -> None:
    config = tiny.config(**settings)
    whole, two = gradients(config, "whole", batches=2), gradients(config, "two threads", batches=2)
    one = gradients(config, "one thread", batches=2)
    for name, expected in whole.items():
        assert torch.allclose(two[name], expected, rtol=1e-9, atol=1e-12), name
        assert torch.equal(one[name], two[name]), name
    reached = {name for name, gradient in two.items() if (gradient != 1).any()}
    assert {"model.concrete.project.weight", "model.text.words.weight", "model.abstract.w_in.weight"} <= reached


def weights(path: Path) -> bytes:
    return (path / "model.safetensors").read_bytes()


def test_two_threads_train_the_same_run_as_one(tmp_path: Path) -> None:
    """Also where a run is interrupted on two threads and resumed on one."""
    settings = tiny.config(save_every=1, accumulate=2, ema=0.9)
    torch.set_num_threads(1)
    train(settings, tmp_path / "one")
    torch.set_num_threads(2)
    train(settings, tmp_path / "two")
    assert weights(tmp_path / "one") == weights(tmp_path / "two")

    def stop(now: Progress) -> None:
        if (now.epoch, now.batch) == (2, 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "parts", on_progress=stop)
    assert torch.get_num_threads() == 2
    assert not any(thread.name.startswith(("branches", "batches")) for thread in threading.enumerate())
    torch.set_num_threads(1)
    train(settings, tmp_path / "parts", resume=True)
    assert weights(tmp_path / "parts") == weights(tmp_path / "one")


@pytest.mark.parametrize("learned", [True, False])
def test_an_error_in_a_branch_ends_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learned: bool) -> None:
    """Forward, or in the backward pass of the branch."""
    names: list[str] = []

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
            names.append(threading.current_thread().name)
            if not learned:
                raise MemoryError("no room")
            return values.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            names.append(threading.current_thread().name)
            raise MemoryError("no room")

    embed = AshNet.embed_texts
    monkeypatch.setattr(AshNet, "embed_texts", lambda self, tokens: Fails.apply(embed(self, tokens)))
    torch.set_num_threads(2)
    with pytest.raises(MemoryError, match="no room"):
        train(tiny.config(), tmp_path / "run")
    assert names == ["branches_0"] * (2 if learned else 1)
    assert torch.get_num_threads() == 2
    assert not any(thread.name.startswith(("branches", "batches")) for thread in threading.enumerate())


def test_branches_are_for_steps_that_they_make_faster() -> None:
    def pay(config: RunConfig) -> bool:
        words = build_vocabulary(["red square"])
        return branches_pay(build_model(config, words), config.train)

    settings = tiny.config()
    assert pay(settings)
    for others in ({"precision": "bf16"}, {"checkpointing": True}, {"compile": True}, {"stua": 0.0, "contrast": 0.0}):
        assert not pay(tiny.config(**others)), others
    assert not pay(tiny.of_kind("none"))
    codebook = replace(settings.model, abstract=replace(settings.model.abstract, codebook=4, codebook_groups=4))
    assert not pay(replace(settings, model=codebook))
