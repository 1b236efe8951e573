"""Moving average of weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ashneuro.config import StageConfig
from ashneuro.errors import ConfigError
from ashneuro.training.average import Average
from ashneuro.training.checkpoint import load_run
from ashneuro.training.loop import Progress, train
from tests.training import tiny
from tests.training.test_stages import ANN_FIRST, config


def test_average_is_that_of_its_equation() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    module[0].bias.requires_grad_(False)
    average, wanted = Average(module, 0.3), module[0].weight.detach().clone()
    for step in range(12):
        with torch.no_grad():
            module[0].weight += step
            module[0].bias += step
        module(torch.randn(4, 2))
        average.update()
        d = min(0.3, (1 + step) / (10 + step))
        wanted = d * wanted + (1 - d) * module[0].weight.detach()
    assert set(average.values) == {"0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var"}
    torch.testing.assert_close(average.values["0.weight"], wanted)
    live = module[0].weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(module[0].weight.detach(), wanted)
    assert torch.equal(module[0].weight, live)
    average.adopt()
    torch.testing.assert_close(module[0].weight.detach(), wanted)
    assert not torch.equal(module[0].bias, torch.zeros(2)), "what does not learn stays"


def test_saved_and_evaluated_weights_are_averaged(tmp_path: Path) -> None:
    seen: list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]] = []

    def look(now: Progress) -> None:
        if now.metrics is not None:
            state = torch.load(tmp_path / "run" / "trainer.pt", weights_only=True)
            live = {name.removeprefix("model."): value for name, value in state["model"].items()}
            seen.append((live, load_run(tmp_path / "run").model.state_dict()))

    run = train(tiny.config(epochs=2, ema=0.9), tmp_path / "run", on_progress=look)
    name = "abstract.dense.linear.weight"
    (first_live, first_saved), (last_live, last_saved) = seen
    assert not torch.equal(first_live[name], first_saved[name])
    assert torch.equal(last_live[name], last_saved[name]), "after its last epoch a stage keeps the average"
    assert torch.equal(run.model.state_dict()[name], last_saved[name])
    plain = train(tiny.config(epochs=2), tmp_path / "plain")
    assert not torch.equal(plain.model.state_dict()[name], last_saved[name])


def test_resumed_average_equals_uninterrupted(tmp_path: Path) -> None:
    """Killed within an epoch, between two of one stage, and between stages."""
    schedule = (*ANN_FIRST[:1], StageConfig("spikes", 2, teacher="start"))
    settings = config(schedule, ema=0.8, save_every=1)
    train(settings, tmp_path / "whole")
    for number, stop in enumerate([(1, 1, False), (1, 2, True), (2, 2, False), (2, 2, True)]):

        def interrupt(now: Progress, stop: tuple[int, int, bool] = stop) -> None:
            if (now.epoch, now.batch, now.metrics is not None) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(settings, tmp_path / "parts", resume=number > 0, on_progress=interrupt)
    train(settings, tmp_path / "parts", resume=True)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert one == other


def test_no_average_of_shards_or_of_weights_with_integers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ema = 0\.9\n.*sharded weights"):
        train(tiny.config(ema=0.9, strategy="fsdp"), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"ema = 0\.9\n.*integer units"):
        settings = tiny.config(ema=0.9, quantise_aware=True, start="nowhere")
        train(settings, tmp_path / "run", choose_integers=lambda *_: None)  # type: ignore[arg-type,return-value]
