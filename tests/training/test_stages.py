"""Stages that change neurons, learn from a teacher, or lower a budget."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ashneuro.config import AbstractConfig, RunConfig, StageConfig, StageNeuron, parse_config
from ashneuro.errors import ConfigError, DataError
from ashneuro.exchange import METRICS, read_metrics
from ashneuro.model.abstract import QuantisedReLU
from ashneuro.spiking.lif import IF, Graded
from ashneuro.training import learner, teacher
from ashneuro.training.checkpoint import load_run
from ashneuro.training.dry_run import dry_run
from ashneuro.training.loop import Progress, train
from ashneuro.training.schedule import synops_target
from tests.training import tasks_tiny, tiny

ANN_FIRST = (
    StageConfig("relu", 1, abstract=StageNeuron(kind="relu")),
    StageConfig("3-bit", 1, abstract=StageNeuron(kind="quantised-relu", bits=3)),
    StageConfig("spikes", 2, teacher="start", synops=40.0, synops_from=400.0, synops_fall=0.7),
)
SUBTRACT = {"neuron": "if", "reset": "subtract", "timesteps": 3}
GRADED = {"neuron": "graded", "timesteps": 1, "learn_threshold": True}


def config(
    schedule: tuple[StageConfig, ...] = ANN_FIRST, abstract: dict[str, Any] = SUBTRACT, **train: Any
) -> RunConfig:
    settings = replace(tiny.config(**train), schedule=schedule)
    return replace(settings, model=replace(settings.model, abstract=replace(settings.model.abstract, **abstract)))


def weights(path: Path) -> bytes:
    return (path / "model.safetensors").read_bytes()


def rows(path: Path) -> list[object]:
    epochs = read_metrics(path / METRICS).epochs
    return [replace(epoch, seconds=None, pairs_per_s=None, waited_share=None) for epoch in epochs]


def stop_at(epoch: int, batch: int, finished: bool = False):
    def stop(now: Progress) -> None:
        if (now.epoch, now.batch, now.metrics is not None) == (epoch, batch, finished):
            raise KeyboardInterrupt

    return stop


def test_stages_train_their_own_neurons(tmp_path: Path) -> None:
    kinds: list[tuple[str, int]] = []

    def look(now: Progress) -> None:
        if now.metrics is not None:
            run = load_run(tmp_path / "run")  # as a checkpoint of any stage opens
            kinds.append((run.config.model.abstract.kind, run.model.abstract.timesteps))  # type: ignore[union-attr]

    run = train(config(), tmp_path / "run", on_progress=look)
    assert kinds == [("relu", 1), ("quantised-relu", 1), ("spiking", 3), ("spiking", 3)]
    assert all(isinstance(neurons, IF) for _, neurons, _ in run.model.abstract.populations())  # type: ignore[union-attr]
    epochs = read_metrics(tmp_path / "run" / METRICS).epochs
    assert [epoch.stage for epoch in epochs] == ["relu", "3-bit", "spikes", "spikes"]
    assert epochs[0].firing_rate is None and epochs[2].firing_rate is not None
    assert {"distil", "distil_embedding", "synops"} <= set(epochs[2].losses) and "distil" not in epochs[1].losses
    card = (tmp_path / "run" / "README.md").read_text()
    assert "| trained as | relu, then quantised-relu, then spiking |" in card
    again = load_run(tmp_path / "run")
    assert again.config == config() and not (tmp_path / "run" / teacher.FILE).exists()
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, run.model.state_dict()[name]), name


@pytest.mark.parametrize("abstract", [SUBTRACT, GRADED])
def test_resumed_schedule_equals_uninterrupted(tmp_path: Path, abstract: dict[str, Any]) -> None:
    """Killed after, before and at a hand-over; then twice where the teacher comes from its file."""
    settings = config(abstract=abstract, save_every=1)
    train(settings, tmp_path / "whole")
    stops = (stop_at(1, 2, finished=True), stop_at(2, 2), stop_at(2, 2, finished=True), stop_at(3, 1), stop_at(4, 2))
    for number, stop in enumerate(stops):
        with pytest.raises(KeyboardInterrupt):
            train(settings, tmp_path / "parts", resume=number > 0, on_progress=stop)
    train(settings, tmp_path / "parts", resume=True)
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_start_may_have_other_neurons(tmp_path: Path) -> None:
    bits = {"kind": "quantised-relu", "bits": 3}
    start = train(config((), bits, epochs=2), tmp_path / "twin")
    assert isinstance(start.model.abstract.entry, QuantisedReLU)  # type: ignore[union-attr]
    settings = config((), GRADED, epochs=1, start=str(tmp_path / "twin"), teacher="start")
    run = train(settings, tmp_path / "graded")
    assert isinstance(run.model.abstract.entry, Graded)  # type: ignore[union-attr]
    twin, graded = StageConfig("3-bit", 2, abstract=StageNeuron(**bits)), StageConfig("graded", 1, teacher="start")
    both = config((twin, graded), GRADED)
    assert train(both, tmp_path / "both").config == both
    losses = [read_metrics(tmp_path / name / METRICS).epochs[-1].losses for name in ("graded", "both")]
    assert losses[0].keys() == losses[1].keys()
    assert losses[0]["distil"] == pytest.approx(losses[1]["distil"], rel=0.5)  # one teacher; other random pictures
    other = replace(settings, model=replace(settings.model, embedding=6))
    with pytest.raises(ConfigError, match="cannot start from") as said:
        train(other, tmp_path / "other")
    assert "its model differs" in said.value.why


def test_a_run_teaches_and_stays_as_it_is(tmp_path: Path) -> None:
    train(config((), {"kind": "relu"}, epochs=2), tmp_path / "teacher")
    before = weights(tmp_path / "teacher")
    settings = config((), SUBTRACT, epochs=2, teacher=str(tmp_path / "teacher"), distil=0.5, distil_embedding=0.0)
    train(settings, tmp_path / "student")
    assert "distil_embedding" not in read_metrics(tmp_path / "student" / METRICS).epochs[0].losses
    assert weights(tmp_path / "teacher") == before
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "parts", on_progress=stop_at(2, 1))
    train(settings, tmp_path / "parts", resume=True)
    assert weights(tmp_path / "parts") == weights(tmp_path / "student")
    run = config((), SUBTRACT, epochs=3, teacher=str(tmp_path / "teacher"))
    with pytest.raises(KeyboardInterrupt):
        train(run, tmp_path / "late", on_progress=stop_at(2, 1))
    (tmp_path / "teacher").rename(tmp_path / "away")
    train(config((), {"kind": "relu"}, epochs=1, seed=5), tmp_path / "teacher")
    with pytest.raises(DataError, match="cannot resume") as said:
        train(run, tmp_path / "late", resume=True)
    assert "other weights than at the checkpoint" in said.value.why


def test_distillation_brings_the_student_nearer_to_its_teacher(tmp_path: Path) -> None:
    train(config((), {"kind": "relu"}, epochs=8), tmp_path / "teacher")
    losses = []
    for name, weight in (("free", 1e-9), ("taught", 5.0)):
        settings = config((), {}, epochs=8, teacher=str(tmp_path / "teacher"), distil=weight, distil_embedding=0.0)
        train(settings, tmp_path / name)
        losses.append(read_metrics(tmp_path / name / METRICS).epochs[-1].losses["distil"] / weight)
    assert losses[1] < 0.7 * losses[0]


def test_a_teacher_of_other_words_or_images_is_an_error(tmp_path: Path) -> None:
    base = config((), {}, epochs=1)
    train(replace(base, data=replace(base.data, max_words=4)), tmp_path / "teacher")
    with pytest.raises(ConfigError, match=r"train\.teacher = .*\n.*data\.max_words differ"):
        train(config((), {}, epochs=1, teacher=str(tmp_path / "teacher")), tmp_path / "run")
    with pytest.raises(DataError, match="is not a run"):
        train(config((), {}, epochs=1, teacher=str(tmp_path / "nowhere")), tmp_path / "other")


def test_the_teacher_is_in_eval_mode_and_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    teach = teacher.Teacher.teach

    def watched(self: teacher.Teacher, batch: Any) -> teacher.Taught:
        assert not any(module.training for module in self.model.modules())
        assert not any(weight.requires_grad for weight in self.model.parameters())
        seen.append({name: value.clone() for name, value in self.model.state_dict().items()})
        return teach(self, batch)

    monkeypatch.setattr(teacher.Teacher, "teach", watched)
    train(config(), tmp_path / "run")
    assert len(seen) == 2 * 2  # batches of the last stage alone
    assert all(torch.equal(value, seen[-1][name]) for name, value in seen[0].items())
    assert "abstract.entry.step" in seen[0], "the twin, before the hand-over"


def test_budget_falls_geometrically_within_its_share() -> None:
    settings = replace(tiny.config().train, synops=200.0, synops_from=800.0, synops_fall=0.5)
    assert [synops_target(p, settings) for p in (0, 0.25, 0.5, 1)] == pytest.approx([800, 400, 200, 200])
    assert synops_target(0.1, replace(settings, synops_from=0.0)) == 200
    assert synops_target(0.1, replace(settings, synops=0.0)) == 0


def test_steps_get_the_budget_of_their_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets: list[float] = []
    penalty = learner.objectives.synops_penalty

    def watched(count: torch.Tensor, target: float) -> torch.Tensor:
        targets.append(target)
        return penalty(count, target)

    monkeypatch.setattr(learner.objectives, "synops_penalty", watched)
    train(config(), tmp_path / "run")
    expected = [400 * 0.1 ** min(1, step / 4 / 0.7) for step in range(4)]
    assert targets == pytest.approx(expected)


def test_a_control_without_abstract_encoder_ignores_neurons(tmp_path: Path) -> None:
    schedule = (*ANN_FIRST[:2], StageConfig("last", 1))
    train(config(schedule, {"kind": "none"}), tmp_path / "run")
    assert len(read_metrics(tmp_path / "run" / METRICS).epochs) == 3


def test_question_stages_have_no_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashneuro.training.data.load_questions", tasks_tiny.load_questions)
    schedule = (StageConfig("pairs", 1), StageConfig("task", 1, task="entailment", teacher="start"))
    settings = tasks_tiny.config(*schedule)
    train(settings, tmp_path / "run")
    assert "distil" not in read_metrics(tmp_path / "run" / METRICS).epochs[1].losses


BAD = {
    "ends with other neurons": (StageConfig("a", 1), StageConfig("b", 1, abstract=StageNeuron(kind="relu"))),
    "learns nothing from its teacher": (
        StageConfig("a", 1),
        StageConfig("b", 1, teacher="start", distil=0, distil_embedding=0),
    ),
    "has no teacher": (StageConfig("a", 1, teacher="start"),),
    "no budget to fall to": (StageConfig("a", 1, synops_from=9.0),),
    "a budget falls": (StageConfig("a", 1, synops_from=9.0, synops=10.0),),
}


@pytest.mark.parametrize("words", BAD)
def test_contradictions_are_errors_before_anything_is_written(tmp_path: Path, words: str) -> None:
    settings = config(BAD[words])
    for check in (lambda: train(settings, tmp_path / "run"), lambda: dry_run(settings, pairs=12, words=9)):
        with pytest.raises(ConfigError) as said:
            check()
        assert words in f"{said.value.what} {said.value.why}" and said.value.do
    assert not (tmp_path / "run").exists()


def test_integers_are_learned_by_one_kind_of_neuron(tmp_path: Path) -> None:
    settings = config(start=str(tmp_path / "start"), quantise_aware=True)
    with pytest.raises(ConfigError, match=r"train\.quantise_aware\n.*'relu' has other neurons"):
        train(settings, tmp_path / "run", choose_integers=lambda *_: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(ConfigError, match=r"strategy = 'fsdp'\n.*cannot be handed over"):
        train(config((*ANN_FIRST[:2], StageConfig("spikes", 1)), strategy="fsdp"), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"strategy = 'fsdp'\n.*teacher of stage 'b' is a copy"):
        train(config((StageConfig("a", 1), StageConfig("b", 1, teacher="start")), strategy="fsdp"), tmp_path / "run")


def test_settings_of_a_stage_come_from_toml() -> None:
    stage = {"name": "a", "epochs": 1, "abstract": {"kind": "quantised-relu", "bits": 3}}
    parsed = parse_config({"schedule": [stage, {"name": "b", "epochs": 2, "teacher": "start"}]})
    assert parsed.schedule[0].abstract == StageNeuron(kind="quantised-relu", bits=3)
    wrong = {**stage, "abstract": {"bit": 3}}
    with pytest.raises(ConfigError, match=r"schedule\.0\.abstract\.bit \(did you mean schedule\.0\.abstract\.bits\?\)"):
        parse_config({"schedule": [wrong]})
    with pytest.raises(ConfigError, match="kind"):
        parse_config({"schedule": [{**stage, "abstract": {"kind": "none"}}]})


def test_a_stage_can_set_every_setting_of_neurons() -> None:
    layers = {"channels", "units", "positions", "block", "codebook", "codebook_groups"}  # weights fit them
    assert {item.name for item in fields(StageNeuron)} == {item.name for item in fields(AbstractConfig)} - layers


def test_dry_run_estimates_every_stage() -> None:
    found = dry_run(config(), pairs=12, words=20)
    relu, quantised, spikes = found.stages
    assert relu.flops == quantised.flops
    assert spikes.flops > 2 * relu.flops, "three timesteps, and a teacher"
