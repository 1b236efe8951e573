"""Schedules: stages, tasks, resuming between and inside stages and after SIGKILL."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ashneuro.config import StageConfig, TrainConfig, load_config, stages, trains_stua_head
from ashneuro.data.tokens import build_vocabulary
from ashneuro.errors import ConfigError
from ashneuro.evaluation import TaskEvaluation
from ashneuro.exchange import METRICS, read_metrics
from ashneuro.training import data, task_evaluation
from ashneuro.training.checkpoint import build_model, load_run
from ashneuro.training.dry_run import dry_run
from ashneuro.training.loop import Progress, train
from ashneuro.training.schedule import learning_rate, make_optimiser
from ashneuro.training.task_evaluation import evaluate_task
from tests.training import tasks_tiny, tiny
from tests.training.test_loop import files


@pytest.fixture(autouse=True)
def questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "load_questions", tasks_tiny.load_questions)


THREE = (
    StageConfig("pretrain", 2, itm=0.5, mlm=0.5),
    StageConfig("stua", 1, parts=("abstract",), stua=1.0, learning_rate=5e-3),
    StageConfig("finetune", 1, task="vqa"),
)


def test_stage_inherits_settings_from_train() -> None:
    settings = [settings for _, settings in stages(tasks_tiny.config(*THREE, contrast=0.3))]
    assert [one.epochs for one in settings] == [2, 1, 1]
    assert [one.stua for one in settings] == [0.2, 1.0, 0.2] and {one.contrast for one in settings} == {0.3}
    assert settings[1].learning_rate == 5e-3 and settings[0].learning_rate == 1e-2
    assert [stage.name for stage, _ in stages(tiny.config())] == ["train"]


def test_stua_head_is_trained_by_any_stage_that_aligns_pictures() -> None:
    stage = StageConfig("stua", 1, stua=1.0)
    assert trains_stua_head(tiny.config()) and not trains_stua_head(tiny.config(stua=0.0))
    assert trains_stua_head(tasks_tiny.config(StageConfig("pretrain", 1), stage, stua=0.0))
    assert not trains_stua_head(tasks_tiny.config(replace(stage, task="vqa"), stua=0.0)), "a task has no L_STUA"
    assert not trains_stua_head(tiny.of_kind("none"))
    assert trains_stua_head(tiny.config(stua_reading="soft"))
    assert not trains_stua_head(tiny.config(stua_reading="bag-of-words")), "it has a projection of its own"


def test_stages_have_their_own_objectives_and_metrics(tmp_path: Path) -> None:
    run = train(tasks_tiny.config(*THREE), tmp_path / "run")
    epochs = read_metrics(tmp_path / "run" / METRICS).epochs
    assert [epoch.stage for epoch in epochs] == ["pretrain", "pretrain", "stua", "finetune"]
    assert {"itc", "itm", "mlm", "contrast", "stua"} <= epochs[0].losses.keys()
    assert "itm" not in epochs[2].losses and "stua" in epochs[2].losses
    assert list(epochs[3].losses) == ["vqa", "firing"]
    assert "vqa_accuracy" in epochs[3].validation and "R@1_image_to_text" in epochs[0].validation
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    recall, answered = epochs[2].recall_at_1["image_to_text"], epochs[3].validation["vqa_accuracy"]
    assert f"| validation R@1 image to text | {recall:.1%}, after epoch 3; not measured since |" in card
    assert f"| validation vqa accuracy | {answered:.1%} |" in card and "| epochs | 4 of 4" in card
    assert (
        "for image–text retrieval, vqa," in card
        and "| questions, vqa | derived" in card
        and "from\nthis data alone" in card
    )
    assert set(run.labels["vqa"]) == {*tiny.COLOURS, *tiny.PLACES}
    assert epochs[0].pairs_per_s > 0 and 0 <= epochs[0].waited_share <= 1
    again = load_run(tmp_path / "run")
    assert again.labels == run.labels
    for name, value in run.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name


def test_card_names_trained_tasks_and_start(tmp_path: Path) -> None:
    train(tasks_tiny.config(THREE[0]), tmp_path / "start")
    train(tasks_tiny.config(StageConfig("pairs", 1), start=str(tmp_path / "start")), tmp_path / "more")
    card = (tmp_path / "more" / "README.md").read_text(encoding="utf-8")
    assert f"| began with the weights of | {tmp_path / 'start'} |" in card and "what it began with" in card
    train(tasks_tiny.config(THREE[2]), tmp_path / "vqa")
    assert "model for vqa, trained" in (tmp_path / "vqa" / "README.md").read_text(encoding="utf-8")


def test_stage_trains_only_its_parts(tmp_path: Path) -> None:
    first = train(tasks_tiny.config(THREE[0]), tmp_path / "first").model.state_dict()
    second = train(tasks_tiny.config(*THREE[:2]), tmp_path / "second").model.state_dict()
    moved = {name.split(".")[0] for name in first if not torch.equal(first[name], second[name])}
    assert not torch.equal(first["abstract.norm.running_mean"], second["abstract.norm.running_mean"])
    assert {"abstract", "readout", "omega"} <= moved <= {"abstract", "readout", "omega", "stua", "view"}


@pytest.mark.parametrize("reading", ["soft", "symmetric", "reconstruction", "bag-of-words"])
def test_stua_readings_train(tmp_path: Path, reading: str) -> None:
    run = train(tiny.config(epochs=1, stua_reading=reading, synthetic=2, synops=1.0), tmp_path / "run")
    losses = read_metrics(tmp_path / "run" / METRICS).epochs[0].losses
    assert losses["stua"] > 0 and losses["synops"] > 0
    assert not any("from_text" in name or "to_words" in name for name in run.model.state_dict()), (
        "projections of the objectives are not part of the model"
    )


def test_codebook_loss_trains_with_the_others(tmp_path: Path) -> None:
    settings = tiny.config(epochs=2)
    settings = replace(
        settings,
        model=replace(settings.model, abstract=replace(settings.model.abstract, codebook=4, codebook_groups=3)),
    )
    train(settings, tmp_path / "run")
    assert read_metrics(tmp_path / "run" / METRICS).epochs[0].losses["codebook"] > 0


@pytest.mark.parametrize("task, metric", [("vqa", "VQA accuracy"), ("entailment", "accuracy"), ("nlvr2", "accuracy")])
def test_task_training_and_evaluation(tmp_path: Path, task: str, metric: str) -> None:
    settings = tasks_tiny.config(StageConfig("finetune", 25, task=task), batch_size=12, augment=0.0)
    run = train(settings, tmp_path / "run")
    questions = tasks_tiny.load_questions(task, settings.tasks, settings.data)
    found = evaluate_task(
        run.model, run.vocabulary, questions, questions.test, run.labels[task], settings.data, split="squares"
    )
    written = json.loads(json.dumps(found.to_json()))
    names = [row["name"] for row in written["rows"]]
    assert names == ["hybrid", "hybrid, A zeroed", "hybrid, C zeroed", "hybrid, text alone", "most frequent answer"]
    assert written["measure"] == metric and found.answerable == 1.0
    blind = max(found.rows[3].accuracy, found.rows[4].accuracy)
    assert found.rows[0].accuracy > blind + 0.1, found.rows
    # Brute force, one question at a time.
    scores = []
    for question in questions.test:
        images = torch.stack([torch.from_numpy(questions.pictures[name]()).movedim(-1, 0) for name in question.images])
        with torch.no_grad():
            encoded = run.model.encode((images.float() - 127.5) / 63.75)
            tokens = torch.from_numpy(run.vocabulary.encode([question.text], settings.data.max_words))
            said = run.labels[task][
                int(run.model.answer(task, run.model.visual_tokens(encoded)[None], tokens).argmax())
            ]
        scores.append(float(said in question.answers))
    assert found.rows[0].accuracy == pytest.approx(sum(scores) / len(scores))
    if task == "nlvr2":
        groups: dict[str, list[float]] = {}
        for question, score in zip(questions.test, scores, strict=True):
            groups.setdefault(question.group, []).append(score)
        assert found.rows[0].consistency == pytest.approx(sum(min(group) for group in groups.values()) / len(groups))
    else:
        assert found.rows[0].consistency is None
    assert set(found.rows[0].by_kind) == ({"colour", "place"} if task == "vqa" else set())
    assert written["schema"] == "ashneuro.task-evaluation/1"
    assert TaskEvaluation.from_json(written) == found


def test_a_task_starts_from_a_run_on_pairs(tmp_path: Path) -> None:
    """Words of the questions, transformer and head are new; everything else is that run's."""
    start = train(tiny.config(epochs=1), tmp_path / "pairs")
    stage = StageConfig("finetune", 1, task="vqa", parts=("multimodal", "heads"))
    settings = tasks_tiny.config(stage, start=str(tmp_path / "pairs"))
    run = train(settings, tmp_path / "vqa")
    known, more = len(start.vocabulary), set(run.vocabulary.words[len(start.vocabulary) :])
    assert run.vocabulary.words[:known] == start.vocabulary.words and more == {"which", "colour", "place"}
    weights = run.model.state_dict()
    for name, value in start.model.state_dict().items():
        torch.testing.assert_close(weights[name][: len(value)] if value.dim() else weights[name], value, atol=0, rtol=0)
    assert load_run(tmp_path / "vqa").vocabulary == run.vocabulary
    again = train(replace(settings, train=replace(settings.train, start=str(tmp_path / "vqa"))), tmp_path / "again")
    assert again.vocabulary == run.vocabulary


def test_answerable_share_needs_no_score_per_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """VQA v2 has 214,354 validation questions and 3,129 answers: all scores would take too long."""
    scored: list[str] = []
    settings = tasks_tiny.config(StageConfig("finetune", 1, task="vqa"))
    questions = tasks_tiny.load_questions("vqa", settings.tasks, settings.data)
    labels = ("red", *(f"answer {number}" for number in range(500)))
    words = build_vocabulary([question.text for question in questions.train])
    model = build_model(settings, words, {"vqa": labels})
    monkeypatch.setattr(task_evaluation, "soft_score", lambda said, given: bool(scored.append(said)))
    found = evaluate_task(model, words, questions, questions.test, labels, settings.data, split="squares", examples=2)
    assert found.answerable == sum("red" in question.answers for question in questions.test) / len(questions.test) > 0
    assert len(scored) == 5 * len(questions.test) + 2


@pytest.mark.parametrize("epoch, batch", [(2, 1), (3, 1), (4, 2)])
def test_resume_in_any_stage(tmp_path: Path, epoch: int, batch: int) -> None:
    def stop(now: Progress) -> None:
        if (now.epoch, now.batch, now.metrics) == (epoch, batch, None):
            raise KeyboardInterrupt

    settings = tasks_tiny.config(*THREE)
    train(settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "parts", on_progress=stop)
    train(settings, tmp_path / "parts", resume=True)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_resume_inside_an_epoch(tmp_path: Path) -> None:
    settings = tiny.config(epochs=2, batch_size=3, save_every=1)
    seen: list[tuple[int, int]] = []

    def stop(now: Progress) -> None:
        if (now.epoch, now.batch) == (2, 3):
            raise KeyboardInterrupt

    train(settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "parts", on_progress=stop)
    train(settings, tmp_path / "parts", resume=True, on_progress=lambda now: seen.append((now.epoch, now.batch)))
    assert seen[0] == (2, 3), "the first two batches of the second epoch are not repeated"
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


@pytest.mark.parametrize("every, stopped, goes_on", [(1, 3, 3), (1, 4, 3), (3, 6, 5)])
def test_resume_with_accumulation_starts_at_a_step(tmp_path: Path, every: int, stopped: int, goes_on: int) -> None:
    settings = tiny.config(epochs=1, batch_size=2, save_every=every, accumulate=2)
    seen: list[int] = []

    def stop(now: Progress) -> None:
        if now.batch == stopped:
            raise KeyboardInterrupt

    train(settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "parts", on_progress=stop)
    train(settings, tmp_path / "parts", resume=True, on_progress=lambda now: seen.append(now.batch))
    assert seen[0] == goes_on
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


OFTEN = {"save_every": 1, "batch_size": 4}

KILLED = f"""
import os, signal, sys
from pathlib import Path
from ashneuro.training import data, loop
from tests.training import tiny

data.load_splits = tiny.load_splits
count = 4

def kill(now):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)

loop.train(tiny.config(**{OFTEN}), Path(sys.argv[1]), on_progress=kill)
"""


def test_resume_after_sigkill(tmp_path: Path) -> None:
    """The process is killed inside an epoch. One thread: sums round differently with more."""
    words = [sys.executable, "-c", KILLED, str(tmp_path / "run")]
    killed = subprocess.run(words, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert killed.returncode == -signal.SIGKILL
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(tiny.config(**OFTEN), tmp_path / "run", resume=True)
        train(tiny.config(**OFTEN), tmp_path / "whole")
    finally:
        torch.set_num_threads(threads)
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def test_accumulated_batches_make_one_step(tmp_path: Path) -> None:
    """A task's loss is a mean over questions: two half batches give the step of the whole one."""
    found = {}
    for name, size, accumulate in (("whole", 12, 1), ("halves", 6, 2)):
        stage = StageConfig("finetune", 1, task="vqa", batch_size=size, firing_rate_weight=0.0)
        settings = tasks_tiny.config(stage, accumulate=accumulate, augment=0.0)
        settings = replace(
            settings, model=replace(settings.model, abstract=replace(settings.model.abstract, kind="none"))
        )
        settings = replace(settings, model=replace(settings.model, text=replace(settings.model.text, dropout=0.0)))
        run = train(settings, tmp_path / name)
        found[name] = {key: value for key, value in run.model.state_dict().items() if key.startswith("heads")}
    # Not exact: batch norms see half as many images at a time.
    torch.testing.assert_close(found["whole"], found["halves"], atol=2e-2, rtol=0.2)


def test_bf16(tmp_path: Path) -> None:
    train(tiny.config(epochs=1, precision="bf16"), tmp_path / "run")
    assert read_metrics(tmp_path / "run" / METRICS).epochs[0].losses["itc"] > 0
    assert load_run(tmp_path / "run").model.project.weight.dtype == torch.float32


def test_contradictory_settings_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="multimodal transformer"):
        train(tiny.config(itm=1.0), tmp_path / "a")
    with pytest.raises(ConfigError, match="cache_features"):
        train(tiny.config(cache_features=True), tmp_path / "b")
    no_layers = replace(tiny.config(), schedule=(StageConfig("finetune", 1, task="vqa"),))
    with pytest.raises(ConfigError, match="without a multimodal transformer"):
        train(no_layers, tmp_path / "c")
    text = replace(tiny.CONFIG.model, text=replace(tiny.CONFIG.model.text, heads=3))
    with pytest.raises(ConfigError, match=r"model\.text\.heads = 3"):
        train(replace(tiny.config(), model=text), tmp_path / "d")
    wide = replace(tiny.CONFIG.model, multimodal=replace(tasks_tiny.WIDE, heads=3))
    with pytest.raises(ConfigError, match=r"model\.multimodal\.heads = 3"):
        train(replace(tiny.config(), model=wide), tmp_path / "e")


def test_a_seed_has_at_most_32_bits(tmp_path: Path) -> None:
    """Seeds of epochs and batches are multiples of it and must fit torch's 64 bits."""
    with pytest.raises(ConfigError, match="cannot be used") as error:
        load_config("tiny", ["train.seed=20261123120000"])
    assert "less than 4294967296" in error.value.why
    for seed in (2**32 - 1, 1 - 2**32):
        assert load_config("tiny", [f"train.seed={seed}"]).train.seed == seed
        train(tiny.config(seed=seed, epochs=1), tmp_path / str(seed))


@pytest.mark.parametrize(
    "last, why",
    [
        (StageConfig("last", 1, mlm=0.5), "multimodal transformer"),
        (
            StageConfig("last", 1, itc=0.0, contrast=0.0, stua=0.0, firing_rate_weight=0.0),
            "weights of its objectives are 0",
        ),
        (StageConfig("last", 1, parts=("heads",)), "no parameter learns in heads"),
    ],
)
def test_stages_are_checked_before_training(tmp_path: Path, last: StageConfig, why: str) -> None:
    settings = replace(tiny.config(), schedule=(StageConfig("first", 1), last))
    for attempt in (lambda: train(settings, tmp_path / "run"), lambda: dry_run(settings, pairs=60, words=50)):
        with pytest.raises(ConfigError, match="'last'") as error:
            attempt()
        assert why in error.value.why and error.value.do
    assert not (tmp_path / "run" / "config.json").exists()


def test_stage_without_gradients_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to learn") as error:
        train(tasks_tiny.config(StageConfig("words", 1, parts=("multimodal",))), tmp_path / "run")
    assert "itc" in error.value.why and "reaches multimodal" in error.value.why


def test_learning_rate_warms_up_then_decays_to_zero() -> None:
    rates = [learning_rate(step, 100, replace(tiny.CONFIG.train, learning_rate=1.0, warmup=0.2)) for step in range(101)]
    assert rates[0] > 0 and max(rates) == rates[20] == 1.0
    assert rates[:21] == sorted(rates[:21]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[60] == pytest.approx(0.5) and rates[100] == pytest.approx(0.0)


def test_optimiser_of_an_older_run_goes_on_unfused() -> None:
    """A resumed run repeats the bytes of the run that wrote its checkpoint."""
    old, new = (nn.Linear(30, 40) for _ in range(2))
    new.load_state_dict(old.state_dict())
    optimisers = [torch.optim.AdamW([{"params": [old.weight]}, {"params": [old.bias]}], lr=1e-2)]
    optimisers.append(make_optimiser(new, TrainConfig(learning_rate=1e-2)))
    for step in range(3):
        if step == 1:
            new.load_state_dict(old.state_dict())
            optimisers[1].load_state_dict(copy.deepcopy(optimisers[0].state_dict()))
        for module, optimiser in zip((old, new), optimisers, strict=True):
            for weight in module.parameters():
                weight.grad = (weight.detach() + step).sin()
            optimiser.step()
    assert not any(group["fused"] for group in optimisers[1].param_groups)
    assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))


def test_a_run_knows_tasks_whose_test_has_no_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(*given, **named):
        found = tasks_tiny.load_questions(*given, **named)
        return replace(found, test=tuple(replace(question, answers=()) for question in found.test))

    asked = tasks_tiny.config(StageConfig("ask", 1, task="vqa"), epochs=1)
    assert train(asked, tmp_path / "answered").unanswered == ()
    monkeypatch.setattr(data, "load_questions", hidden)
    assert train(asked, tmp_path / "hidden").unanswered == ("vqa",)
