"""Training loop: reproducibility, resuming, progress, errors."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from contextlib import nullcontext
from dataclasses import replace
from functools import partial, partialmethod
from pathlib import Path

import pytest
import torch

from ashneuro.config import DataConfig, MultimodalConfig, RunConfig, StageConfig, load_config
from ashneuro.data.pairs import Splits
from ashneuro.errors import AshneuroError, ConfigError, DataError
from ashneuro.exchange import METRICS, read_metrics
from ashneuro.spiking.kernels import multi_step
from ashneuro.spiking.kernels.dispatch import choose_backend
from ashneuro.training import checkpoint, data, folder, loop, schedule, stage
from ashneuro.training.loop import Progress, train
from ashneuro.workflows.train import resume_config
from tests.training import tiny


def files(path: Path) -> dict[str, object]:
    metrics = read_metrics(path / METRICS)
    return {
        "epochs": [replace(epoch, seconds=None, pairs_per_s=None, waited_share=None) for epoch in metrics.epochs],
        "totals": metrics.totals and replace(metrics.totals, seconds=0.0),
        "weights": (path / "model.safetensors").read_bytes(),
        "words": (path / "vocabulary.json").read_bytes(),
    }


def test_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        state = torch.get_rng_state()
        train(tiny.config(seed=seed), tmp_path / name)
        assert torch.equal(state, torch.get_rng_state()), "the caller's random state is restored"
    assert torch.get_num_threads() == threads
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a")["weights"] != files(tmp_path / "c")["weights"]


@pytest.mark.parametrize("epoch, batch", [(1, 1), (2, 1), (3, 2)])
def test_resumed_run_equals_uninterrupted_run(tmp_path: Path, epoch: int, batch: int) -> None:
    def stop(now: Progress) -> None:
        if (now.epoch, now.batch, now.metrics) == (epoch, batch, None):
            raise KeyboardInterrupt

    train(tiny.config(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tiny.config(), tmp_path / "parts", on_progress=stop)
    seen: list[Progress] = []
    train(tiny.config(), tmp_path / "parts", resume=True, on_progress=seen.append)
    assert seen[0].epoch == epoch
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    train(tiny.config(), tmp_path / "run")
    before = files(tmp_path / "run")
    seen: list[Progress] = []
    notes: list[str] = []
    train(tiny.config(), tmp_path / "run", resume=True, on_progress=seen.append, on_note=notes.append)
    assert any("all epochs of this run are trained" in note for note in notes)
    assert not seen and files(tmp_path / "run") == before


@pytest.mark.parametrize("finished", [False, True])
def test_resume_refuses_changed_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool) -> None:
    """The same words in another order fit the weights but have other indices."""

    def stop(now: Progress) -> None:
        if now.epoch == 2 and not finished:
            raise KeyboardInterrupt

    def renamed(config: DataConfig) -> Splits:
        splits = tiny.load_splits(config)
        return replace(
            splits,
            train=tuple(replace(pair, captions=(pair.captions[0].replace("red", "zebra"),)) for pair in splits.train),
        )

    with nullcontext() if finished else pytest.raises(KeyboardInterrupt):
        train(tiny.config(), tmp_path / "run", on_progress=stop)
    before = files(tmp_path / "run"), (tmp_path / "run" / checkpoint.VOCABULARY).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(data, "load_splits", renamed)
        with pytest.raises(DataError, match="cannot resume") as error:
            train(tiny.config(), tmp_path / "run", resume=True)
    assert "training data changed" in error.value.why and error.value.do
    assert (files(tmp_path / "run"), (tmp_path / "run" / checkpoint.VOCABULARY).read_bytes()) == before
    train(tiny.config(), tmp_path / "run", resume=True)


def test_start_of_another_size_is_an_error(tmp_path: Path) -> None:
    train(tiny.config(epochs=1), tmp_path / "start")
    settings = tiny.config(epochs=1, start=str(tmp_path / "start"))
    train(settings, tmp_path / "same")
    for name, value in (("image_size", 16), ("max_words", 4)):
        with pytest.raises(ConfigError, match="cannot start from") as error:
            train(replace(settings, data=replace(settings.data, **{name: value})), tmp_path / name)
        assert "size mismatch" in error.value.why and "[data]" in error.value.do


def test_start_from_a_transformer_without_positions_of_words(tmp_path: Path) -> None:
    """Runs from before `model.multimodal.word_order` and `similarity` have neither."""
    before = MultimodalConfig(width=8, layers=1, heads=2, word_order=False, similarity=False)

    def settings(**changes: bool) -> RunConfig:
        config = tiny.config(epochs=1, itm=0.5, start=str(tmp_path / "before") if changes else "")
        return replace(config, model=replace(config.model, multimodal=replace(before, **changes)))

    start = train(settings(), tmp_path / "before")
    words, padding = torch.randn(2, 3, 8), torch.zeros(2, 3, dtype=torch.bool)
    visual = torch.randn(2, start.model.multimodal.places.shape[0], 8)  # type: ignore[union-attr]
    found = checkpoint.build_model(settings(word_order=True), start.vocabulary, {}, load=False)
    loop._load_start(found, settings(word_order=True))
    with torch.no_grad():
        expected, here = (one.eval().multimodal(words, padding, visual) for one in (start.model, found))  # type: ignore[misc]
    torch.testing.assert_close(here, expected)
    assert train(settings(word_order=True), tmp_path / "ordered").model.multimodal.order.abs().max() > 0  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="cannot start from") as error:
        train(settings(word_order=True, similarity=True), tmp_path / "other")
    assert error.value.why.endswith("model.multimodal.similarity is False there and True here")
    assert error.value.do == "train it with --set model.multimodal.similarity=false"


def test_training_learns_and_reports_progress(tmp_path: Path) -> None:
    seen: list[Progress] = []
    run = train(tiny.config(epochs=30), tmp_path / "run", on_progress=seen.append)
    metrics = read_metrics(tmp_path / "run" / METRICS)
    first, last = metrics.epochs[0], metrics.epochs[-1]
    assert metrics.totals and metrics.totals.epochs == 30 and len(metrics.epochs) == 30
    assert last.losses["itc"] < 0.5 * first.losses["itc"]
    assert max(epoch.recall_at_1["image_to_text"] for epoch in metrics.epochs) > 3 / 12  # chance is 1/12
    assert list(first.losses) == ["itc", "contrast", "stua", "firing"]
    assert first.loss == pytest.approx(sum(first.losses.values()))
    assert set(run.model.encode(torch.zeros(1, 3, 8, 8)).layers) == set(first.firing_rates)
    assert len(seen) == 30 * 3 and seen[-1].metrics == last
    assert [(now.epoch, now.batch, now.batches) for now in seen[:3]] == [(1, 1, 2), (1, 2, 2), (1, 2, 2)]
    assert not run.model.training


def test_pictures_are_counted_before_the_first_batch(tmp_path: Path) -> None:
    seen: list[object] = []
    train(
        tiny.config(epochs=1),
        tmp_path / "run",
        on_reading=lambda what, done, total: seen.append((done, total)),
        on_progress=lambda now: seen.append("batch"),
    )
    assert seen[:13] == [*((done, 12) for done in range(1, 13)), "batch"]


def graded(threshold: float, **settings: object) -> RunConfig:
    """Return settings of a small run with graded neurons; a threshold above 0 is learned."""
    config = tiny.config(**settings)
    changed = {"neuron": "graded", "timesteps": 1, "v_threshold": threshold, "learn_threshold": threshold > 0}
    return replace(config, model=replace(config.model, abstract=replace(config.model.abstract, **changed)))


@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_graded_neurons_learn(tmp_path: Path, threshold: float) -> None:
    train(graded(threshold, epochs=30), tmp_path / "run")
    epochs = read_metrics(tmp_path / "run" / METRICS).epochs
    assert epochs[-1].losses["itc"] < 0.5 * epochs[0].losses["itc"]
    assert max(epoch.recall_at_1["image_to_text"] for epoch in epochs) > 3 / 12  # chance is 1/12


def test_budget_lowers_the_number_of_graded_messages(tmp_path: Path) -> None:
    rates = []
    for name, synops in (("free", 0.0), ("held", 60.0)):
        train(graded(0.3, epochs=12, synops=synops, firing_rate_weight=0.0), tmp_path / name)
        rates.append(read_metrics(tmp_path / name / METRICS).epochs[11].firing_rate)
    assert rates[1] < 0.8 * rates[0]


def test_metrics_name_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set()

    def choose(kernels, device):
        asked.add(kernels)
        return choose_backend(kernels, device)

    monkeypatch.setattr(multi_step, "choose_backend", choose)
    for name in ("torch", "norse"):
        train(tiny.config(epochs=1, kernels=name), tmp_path / name)
        totals = read_metrics(tmp_path / name / METRICS).totals
        assert totals and totals.kernels == f"{name}, as asked for"
    assert asked == {"torch", "norse"}  # the layers ask for no other
    one, other = (read_metrics(tmp_path / name / METRICS).epochs[0].loss for name in ("torch", "norse"))
    assert one == pytest.approx(other, rel=1e-3)
    train(tiny.config(epochs=1, kernels="torch"), tmp_path / "norse", resume=True)
    with pytest.raises(ConfigError, match="they run on CUDA, not on cpu"):
        train(tiny.config(epochs=1, kernels="triton"), tmp_path / "triton")
    assert not (tmp_path / "triton").exists()


def test_compile_covers_both_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(f"{torch.is_grad_enabled()} {graph.code}")
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend=backend))
    torch._dynamo.reset()
    run = train(tiny.config(epochs=1, compile=True), tmp_path / "run")
    learned = "".join(graph for graph in graphs if graph.startswith("True"))
    assert "conv2d" in learned and "embedding" in learned
    plain = train(tiny.config(epochs=1), tmp_path / "plain")
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(run.model.state_dict()[name], value, msg=name)


def test_divergence_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="batch 2 in epoch 1 is nan") as said:
        train(tiny.config(learning_rate=1e30), tmp_path / "at once")
    assert "lower train.learning_rate" in said.value.do and "checkpoint" not in said.value.why
    rates = iter([*[1e-3] * 2, *[1e30] * 2])
    monkeypatch.setattr(stage, "learning_rate", lambda *_: next(rates))
    with pytest.raises(ConfigError, match="has diverged") as said:
        train(tiny.config(), tmp_path / "later")
    assert "up to its last checkpoint" in said.value.why
    weights = checkpoint.load_run(tmp_path / "later").model.state_dict().values()
    assert all(weight.isfinite().all() for weight in weights)


def test_losses_may_be_read_every_few_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: the run is the same, and one that diverges ends a little later."""
    shown: dict[str, list[tuple[int, float]]] = {"every": [], "third": []}
    for name, every in (("every", 1), ("third", 3)):
        monkeypatch.setitem(stage.READ_EVERY, "cpu", every)
        seen = shown[name]
        settings = tiny.config(batch_size=2, epochs=1)
        train(settings, tmp_path / name, on_progress=lambda now, seen=seen: seen.append((now.batch, now.loss)))
    losses = dict(shown["every"][:6])
    assert shown["third"][:6] == [(number, losses[read]) for number, read in enumerate((1, 1, 3, 3, 3, 6), 1)]
    assert shown["third"][6] == shown["every"][6], "the epoch's own loss"
    with pytest.raises(ConfigError, match="batch 3, or of one before it, in epoch 1 is nan"):
        train(tiny.config(batch_size=2, learning_rate=1e30), tmp_path / "wild")
    assert not (tmp_path / "wild" / "config.json").exists(), "no checkpoint of what diverged"


@pytest.mark.parametrize("kind", ["none", "relu", "quantised-relu"])
def test_controls_train(tmp_path: Path, kind: str) -> None:
    train(tiny.of_kind(kind, epochs=1), tmp_path / "run")
    (metrics,) = read_metrics(tmp_path / "run" / METRICS).epochs
    assert metrics.firing_rate is None and not metrics.firing_rates
    assert ("stua" in metrics.losses) == ("contrast" in metrics.losses) == (kind != "none")


def test_low_target_lowers_the_firing_rate(tmp_path: Path) -> None:
    rates = []
    for name, weight in (("free", 0.0), ("held", 5.0)):
        train(tiny.config(epochs=12, firing_rate=0.03, firing_rate_weight=weight), tmp_path / name)
        rates.append(read_metrics(tmp_path / name / METRICS).epochs[11].firing_rate)
    assert rates[1] < 0.8 * rates[0]


def test_train_never_overwrites_a_run(tmp_path: Path) -> None:
    train(tiny.config(epochs=1), tmp_path / "run")
    before = files(tmp_path / "run")
    with pytest.raises(ConfigError, match="already holds a run"):
        train(tiny.config(epochs=1), tmp_path / "run")
    with pytest.raises(ConfigError, match="cannot resume") as error:
        train(tiny.config(epochs=2, seed=9), tmp_path / "run", resume=True)
    assert "train.epochs was 1, now 2" in error.value.why and "train.seed was 0, now 9" in error.value.why
    assert files(tmp_path / "run") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        train(tiny.config(epochs=1), tmp_path / "mine")
    assert (tmp_path / "mine" / "README.md").read_text() == "mine"


def test_finished_run_is_trained_on(tmp_path: Path) -> None:
    """More epochs continue the longer cycle, and end the same when they are interrupted."""
    train(tiny.config(epochs=1), tmp_path / "run")
    (first,) = read_metrics(tmp_path / "run" / METRICS).epochs
    shutil.copytree(tmp_path / "run", tmp_path / "parts")
    notes: list[str] = []
    train(tiny.config(epochs=3), tmp_path / "run", resume=True, on_note=notes.append)
    assert any("from 1 to 3 epochs" in note for note in notes)
    epochs = read_metrics(tmp_path / "run" / METRICS).epochs
    whole = [schedule.learning_rate(step, 6, tiny.config(epochs=3).train) for step in (3, 5)]
    assert epochs[0] == first and [each.learning_rate for each in epochs[1:]] == pytest.approx(whole)
    assert load_config(tmp_path / "run" / "config.json").train.extended == (1,)

    def stop(now: Progress) -> None:
        if now.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny.config(epochs=3), tmp_path / "parts", resume=True, on_progress=stop)
    notes.clear()
    train(tiny.config(epochs=3), tmp_path / "parts", resume=True, on_note=notes.append)
    assert not any("from 1 to 3" in note for note in notes)
    assert files(tmp_path / "parts") == files(tmp_path / "run")
    with pytest.raises(ConfigError, match="cannot resume"):
        train(tiny.config(epochs=2), tmp_path / "run", resume=True)


def test_last_stage_of_a_schedule_is_trained_on(tmp_path: Path) -> None:
    ends = (StageConfig("first", 1), StageConfig("second", 1, teacher="start"))
    train(replace(tiny.config(epochs=9), schedule=ends[:1]), tmp_path / "plain")
    longer = resume_config(tmp_path / "plain", ["train.epochs=2", 'data.source="emoji"'])
    assert longer.schedule[0].epochs == 2 and longer.train.epochs == 9
    train(replace(tiny.config(epochs=9), schedule=longer.schedule), tmp_path / "plain", resume=True)
    assert len(read_metrics(tmp_path / "plain" / METRICS).epochs) == 2
    train(replace(tiny.config(epochs=9), schedule=ends), tmp_path / "taught")
    more = (ends[0], replace(ends[1], epochs=2))
    with pytest.raises(ConfigError, match="not kept once a run is finished"):
        train(replace(tiny.config(epochs=9), schedule=more), tmp_path / "taught", resume=True)


def test_damaged_checkpoint_is_an_error(tmp_path: Path) -> None:
    train(tiny.config(epochs=1), tmp_path / "run")
    (tmp_path / "run" / checkpoint.TRAINER).write_bytes(b"PK\x03\x04 half")
    with pytest.raises(DataError, match="cannot resume") as error:
        train(tiny.config(epochs=1), tmp_path / "run", resume=True)
    assert error.value.why and error.value.do


def test_checkpoint_of_other_layers_is_an_error(tmp_path: Path) -> None:
    train(tiny.config(epochs=1), tmp_path / "run")
    file = tmp_path / "run" / checkpoint.TRAINER
    state = torch.load(file, weights_only=True)
    name = "model.abstract.dense.linear.weight"
    torch.save(state | {"model": state["model"] | {name: state["model"][name].flatten(1)}}, file)
    with pytest.raises(DataError, match="cannot resume") as error:
        train(tiny.config(epochs=1), tmp_path / "run", resume=True)
    assert "abstract.dense" in error.value.why and "\n" not in error.value.why and error.value.do


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU; the error is for those that have none")
def test_missing_gpu_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AshneuroError, match="cuda"):
        train(tiny.config(device="cuda"), tmp_path / "run")


def test_ctrl_c_waits_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = folder.save_run

    def press(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        save(*arguments)

    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(folder, "save_run", press)
    with pytest.raises(KeyboardInterrupt):
        train(tiny.config(), tmp_path / "run")
    metrics = read_metrics(tmp_path / "run" / METRICS)
    assert len(metrics.epochs) == 1 and metrics.totals is None
    assert checkpoint.load_run(tmp_path / "run").config == tiny.config()
    assert not list((tmp_path / "run").glob(".*"))
