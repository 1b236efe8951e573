"""Training: the same again from the same seed, also after an interruption; gradients go where they should."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import nullcontext
from dataclasses import replace
from functools import partial, partialmethod
from pathlib import Path

import pytest
import torch

from ashneuro.config import DataConfig, RunConfig
from ashneuro.data.batches import Batches
from ashneuro.data.pairs import Splits
from ashneuro.data.tokens import build_vocabulary
from ashneuro.errors import AshneuroError, ConfigError, DataError
from ashneuro.exchange import METRICS, read_metrics
from ashneuro.model.network import AshNet
from ashneuro.spiking.kernels import multi_step
from ashneuro.spiking.kernels.dispatch import choose_backend
from ashneuro.training import checkpoint, data, folder, stage
from ashneuro.training.checkpoint import build_model
from ashneuro.training.learner import Learner, whole_loss
from ashneuro.training.loop import Progress, train
from ashneuro.training.schedule import learning_rate
from tests.training import tiny


def files(path: Path) -> dict[str, object]:
    metrics = read_metrics(path / METRICS)
    return {
        "epochs": [replace(epoch, seconds=None, pairs_per_s=None, waited_share=None) for epoch in metrics.epochs],
        "totals": metrics.totals and replace(metrics.totals, seconds=0.0),
        "weights": (path / "model.safetensors").read_bytes(),
        "words": (path / "vocabulary.json").read_bytes(),
    }


def step(config: RunConfig, dtype: torch.dtype = torch.float32) -> tuple[AshNet, dict[str, torch.Tensor]]:
    """Return a fresh model and the objectives of one batch."""
    torch.manual_seed(0)
    pairs = tiny.load_splits(config.data).train
    vocabulary = build_vocabulary(text for pair in pairs for text in pair.captions)
    model = build_model(config, vocabulary).train()
    (batch, *_) = Batches(pairs, vocabulary, config.data, config.train, views=config.train.contrast > 0).epoch(0)
    views = None if batch.views is None else batch.views.to(dtype)
    learner = Learner(model, config.train, 1).to(dtype)
    return model, learner(
        replace(batch, images=batch.images.to(dtype), views=views), config.train, torch.Generator().manual_seed(0)
    )[0]


def test_one_seed_gives_one_run_and_another_seed_another(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        state = torch.get_rng_state()
        train(tiny.config(seed=seed), tmp_path / name)
        assert torch.equal(state, torch.get_rng_state()), "the caller's random numbers are its own"
    assert torch.get_num_threads() == threads
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a")["weights"] != files(tmp_path / "c")["weights"]


@pytest.mark.parametrize("epoch, batch", [(1, 1), (2, 1), (3, 2)])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, epoch: int, batch: int) -> None:
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
    train(tiny.config(), tmp_path / "run", resume=True, on_progress=seen.append)
    assert not seen and files(tmp_path / "run") == before


@pytest.mark.parametrize("finished", [False, True])
def test_a_run_is_not_resumed_with_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool) -> None:
    """As many words in another order would fit the weights, and mean something else."""

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


def test_a_start_of_another_size_is_said(tmp_path: Path) -> None:
    train(tiny.config(epochs=1), tmp_path / "start")
    settings = tiny.config(epochs=1, start=str(tmp_path / "start"))
    train(settings, tmp_path / "same")
    for name, value in (("image_size", 16), ("max_words", 4)):
        with pytest.raises(ConfigError, match="cannot start from") as error:
            train(replace(settings, data=replace(settings.data, **{name: value})), tmp_path / name)
        assert "size mismatch" in error.value.why and "[data]" in error.value.do


def test_it_learns_and_says_how_it_goes(tmp_path: Path) -> None:
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


def test_kernels_are_a_setting_that_the_metrics_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set()

    def choose(kernels, device):
        asked.add(kernels)
        return choose_backend(kernels, device)

    monkeypatch.setattr(multi_step, "choose_backend", choose)
    for name in ("torch", "norse"):
        train(tiny.config(epochs=1, kernels=name), tmp_path / name)
        totals = read_metrics(tmp_path / name / METRICS).totals
        assert totals and totals.kernels == f"{name}, as asked for"
    assert asked == {"torch", "norse"}  # by every layer
    one, other = (read_metrics(tmp_path / name / METRICS).epochs[0].loss for name in ("torch", "norse"))
    assert one == pytest.approx(other, rel=1e-3)
    train(tiny.config(epochs=1, kernels="torch"), tmp_path / "norse", resume=True)
    with pytest.raises(ConfigError, match="they run on CUDA, not on cpu"):
        train(tiny.config(epochs=1, kernels="triton"), tmp_path / "triton")
    assert not (tmp_path / "triton").exists()


def test_both_encoders_are_compiled_for_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_run_that_diverges_stops_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("kind", ["none", "relu", "quantised-relu"])
def test_controls_train_with_the_same_loop(tmp_path: Path, kind: str) -> None:
    train(tiny.of_kind(kind, epochs=1), tmp_path / "run")
    (metrics,) = read_metrics(tmp_path / "run" / METRICS).epochs
    assert metrics.firing_rate is None and not metrics.firing_rates
    assert ("stua" in metrics.losses) == ("contrast" in metrics.losses) == (kind != "none")


def test_a_low_target_lowers_the_rate(tmp_path: Path) -> None:
    rates = []
    for name, weight in (("free", 0.0), ("held", 5.0)):
        train(tiny.config(epochs=12, firing_rate=0.03, firing_rate_weight=weight), tmp_path / name)
        rates.append(read_metrics(tmp_path / name / METRICS).epochs[11].firing_rate)
    assert rates[1] < 0.8 * rates[0]


def test_stua_stops_at_c_and_at_the_text() -> None:
    model, terms = step(tiny.config(contrast=0.0))
    whole_loss({"itc": 0 * terms["itc"], "stua": terms["stua"]}).backward()
    reached = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert {name.split(".")[0] for name in reached} == {"abstract", "omega", "readout", "stua"}
    assert "abstract.w_in.weight" in reached
    model, terms = step(tiny.config(contrast=0.0, stua_stops_at_concrete=False))
    whole_loss({"itc": 0 * terms["itc"], "stua": terms["stua"]}).backward()
    reached = {
        name.split(".")[0] for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()
    }
    assert reached == {"concrete", "abstract", "omega", "readout", "stua"}


@pytest.mark.parametrize("reading", ["uni", "symmetric", "reconstruction", "bag-of-words"])
def test_stopping_stua_leaves_all_other_gradients_as_they_are(reading: str) -> None:
    """One backward pass of the sum gives what two passes give: all but L_STUA to everything, L_STUA to what lies behind C."""
    model, terms = step(tiny.config(stua_reading=reading), torch.float64)
    whole_loss(terms).backward()
    ours = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model, terms = step(tiny.config(stua_reading=reading, stua_stops_at_concrete=False), torch.float64)
    inner = model.abstract_parameters()
    wanted = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    names = {weight: name for name, weight in model.named_parameters()}
    for weight, gradient in zip(
        inner, torch.autograd.grad(terms["stua"], inner, retain_graph=True, allow_unused=True), strict=True
    ):
        wanted[names[weight]] += 0 if gradient is None else gradient
    whole_loss({name: term for name, term in terms.items() if name != "stua"}).backward()
    for name, weight in model.named_parameters():
        given = wanted[name] if weight.grad is None else wanted[name] + weight.grad
        torch.testing.assert_close(ours.get(name, torch.zeros_like(weight)), given, rtol=1e-10, atol=1e-12, msg=name)
    assert wanted["readout.weight"].any() and ours["concrete.trunk.0.weight"].any()


@pytest.mark.parametrize(("reading", "name"), [("reconstruction", "from_text"), ("bag-of-words", "to_words")])
@pytest.mark.parametrize("stops", [True, False])
def test_the_maps_of_a_reading_learn_with_it(reading: str, name: str, stops: bool) -> None:
    """And are neither fixed noise nor moved by anything else."""
    settings = tiny.config(stua_reading=reading, stua_stops_at_concrete=stops)
    torch.manual_seed(0)
    pairs = tiny.load_splits(settings.data).train
    vocabulary = build_vocabulary(text for pair in pairs for text in pair.captions)
    learner = Learner(build_model(settings, vocabulary).train(), settings.train, 1)
    (batch, *_) = Batches(pairs, vocabulary, settings.data, settings.train, views=True).epoch(0)
    terms, _ = learner(batch, settings.train, torch.Generator().manual_seed(0))
    terms.pop("stua").backward(retain_graph=True)
    gradient = getattr(learner, name).weight.grad
    assert gradient is not None and gradient.any()
    before = gradient.clone()
    whole_loss(terms).backward()
    assert torch.equal(getattr(learner, name).weight.grad, before)


def test_texts_that_pass_the_spiking_encoder_leave_no_trace_in_its_batch_norms() -> None:
    """What is known of pictures' currents stays true of pictures, which is what evaluation and export apply."""
    with_texts, without = (
        dict(step(tiny.config(stua_reading="reconstruction", stua=weight))[0].named_buffers()) for weight in (1.0, 0.0)
    )
    assert any("running_mean" in name for name in without)
    for name, value in without.items():
        torch.testing.assert_close(with_texts[name], value, msg=name)


def test_contrast_reads_the_input_current_alone() -> None:
    model, terms = step(tiny.config())
    terms["contrast"].backward()
    reached = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert {name.split(".")[0] for name in reached} == {"concrete", "abstract", "view"}
    assert {name for name in reached if name.startswith("abstract")} == {
        "abstract.w_in.weight",
        "abstract.norm.weight",
        "abstract.norm.bias",
    }


def test_the_rate_rises_then_falls_to_nothing() -> None:
    rates = [learning_rate(step, 100, replace(tiny.CONFIG.train, learning_rate=1.0, warmup=0.2)) for step in range(101)]
    assert rates[0] > 0 and max(rates) == rates[20] == 1.0
    assert rates[:21] == sorted(rates[:21]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[60] == pytest.approx(0.5) and rates[100] == pytest.approx(0.0)


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
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


def test_a_damaged_checkpoint_is_said(tmp_path: Path) -> None:
    train(tiny.config(epochs=1), tmp_path / "run")
    (tmp_path / "run" / checkpoint.TRAINER).write_bytes(b"PK\x03\x04 half")
    with pytest.raises(DataError, match="cannot resume") as error:
        train(tiny.config(epochs=1), tmp_path / "run", resume=True)
    assert error.value.why and error.value.do


def test_a_checkpoint_of_other_layers_is_said(tmp_path: Path) -> None:
    train(tiny.config(epochs=1), tmp_path / "run")
    file = tmp_path / "run" / checkpoint.TRAINER
    state = torch.load(file, weights_only=True)
    name = "model.abstract.dense.linear.weight"
    torch.save(state | {"model": state["model"] | {name: state["model"][name].flatten(1)}}, file)
    with pytest.raises(DataError, match="cannot resume") as error:
        train(tiny.config(epochs=1), tmp_path / "run", resume=True)
    assert "abstract.dense" in error.value.why and "\n" not in error.value.why and error.value.do


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU; the error is for those that have none")
def test_a_gpu_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(AshneuroError, match="cuda"):
        train(tiny.config(device="cuda"), tmp_path / "run")


def test_ctrl_c_waits_for_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
