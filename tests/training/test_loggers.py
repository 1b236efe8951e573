"""Loggers beside metrics.jsonl."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ashneuro.config import load_config
from ashneuro.errors import MissingDependency, install_command
from ashneuro.exchange import METRICS, read_metrics
from ashneuro.training import data, loop
from ashneuro.training.loggers import numbers
from tests.training import tiny


@pytest.fixture(autouse=True)
def squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "load_splits", tiny.load_splits)


def test_csv_and_tensorboard_have_every_epoch_of_a_resumed_run(tmp_path: Path) -> None:
    def stop(now: loop.Progress) -> None:
        if now.epoch == 2:
            raise KeyboardInterrupt

    settings = tiny.config(epochs=2, loggers=("csv", "tensorboard"))
    with pytest.raises(KeyboardInterrupt):
        loop.train(settings, tmp_path, on_progress=stop)
    loop.train(tiny.config(epochs=2, loggers=("csv",)), tmp_path, resume=True)  # loggers may differ
    epochs = read_metrics(tmp_path / METRICS).epochs
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == [{**numbers(metrics), "step": metrics.epoch} for metrics in epochs]
    assert "firing_rate/entry.lif" in rows[0] and len(rows) == 2
    assert len(list((tmp_path / "tensorboard").glob("events.*"))) == 1


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_loggers_of_lightning_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    made: dict[str, Any] = {}

    class Recorder:
        def __init__(self, *given: object, **options: object) -> None:
            made.update(options, steps=[], ended="")

        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            made["steps"].append((step, metrics["loss"]))

        def save(self) -> None: ...

        def finalize(self, status: str) -> None:
            made["ended"] = status

    library = ModuleType("pytorch_lightning.loggers")
    library.WandbLogger = library.MLFlowLogger = Recorder  # type: ignore[attr-defined]
    for module in (ModuleType(name), ModuleType("pytorch_lightning"), library):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    run = tmp_path / "mine"
    loop.train(tiny.config(epochs=1, loggers=(name,)), run)
    (metrics,) = read_metrics(run / METRICS).epochs
    assert made["steps"] == [(1, metrics.loss)] and made["ended"] == "success"
    assert made["name" if name == "wandb" else "run_name"] == "mine"


def test_missing_package_is_an_error_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "load_splits", lambda config: pytest.fail("read"))
    for name in ("wandb", "mlflow", "tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingDependency, match="needs the package") as said:
            loop.train(tiny.config(loggers=(name,)), tmp_path / name)
        assert said.value.do == install_command(name)


def test_tensorboard_of_earlier_settings_is_a_logger(tmp_path: Path) -> None:
    for text, loggers in (
        ("true", ("tensorboard",)),
        ("false", ()),
        ('true\nloggers = ["csv"]', ("csv", "tensorboard")),
    ):
        (tmp_path / "own.toml").write_text(f"[train]\ntensorboard = {text}\n")
        assert load_config(tmp_path / "own.toml").train.loggers == loggers
