"""Loggers beside ``metrics.jsonl``: those of Lightning Fabric, and of PyTorch Lightning by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ashneuro.config import Logger
from ashneuro.errors import need
from ashneuro.exchange import EpochMetrics

PROJECT = "ashneuro"
"""Project in W&B, experiment in MLflow."""


class MetricsLogger(Protocol):
    """The part of Fabric's ``Logger`` that training uses."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Keep the metrics of a step."""

    def save(self) -> None:
        """Write what is kept."""

    def finalize(self, status: str) -> None:
        """End the run, as ``"success"``."""


def check_loggers(names: Sequence[Logger]) -> None:
    """Raise `MissingDependency` if the package of a logger is not installed."""
    for name in names:
        _library(name)


def _library(name: Logger) -> Any:
    """Return the module that has the logger's class."""
    purpose = f"train.loggers = [{name!r}]"
    if name == "csv":
        return need("lightning_fabric.loggers", extra="train", purpose=purpose)
    need(name, extra=name, purpose=purpose)
    if name == "tensorboard":
        return need("lightning_fabric.loggers", extra="train", purpose=purpose)
    return need("pytorch_lightning.loggers", extra=name, purpose=purpose)


def open_logger(name: Logger, out: Path) -> MetricsLogger:
    """Return a logger of the run in ``out``.

    TensorBoard's and the CSV are in ``out/NAME``. W&B and MLflow follow their own environment
    (``WANDB_MODE``, ``MLFLOW_TRACKING_URI``, …); without a tracking server MLflow writes
    ``out/mlflow.db``.

    Raises:
        MissingDependency: the logger's package is not installed.
    """
    library, found = _library(name), None
    if name == "tensorboard":
        found = library.TensorBoardLogger(out, name=name, version="")
    elif name == "csv":
        (out / name / "metrics.csv").unlink(missing_ok=True)  # `CSVLogger` would warn, and remove it
        found = library.CSVLogger(out, name=name, version="")
    elif name == "wandb":
        found = library.WandbLogger(name=out.name, save_dir=out, project=PROJECT)
    else:
        place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(out / 'mlflow.db').resolve()}"
        found = library.MLFlowLogger(PROJECT, run_name=out.name, tracking_uri=place)
    return found  # type: ignore[no-any-return]


class Loggers:
    """The loggers of a run.

    Args:
        names: of ``train.loggers``.
        out: folder of the run.
        finished: epochs that a resumed run has behind it. A CSV is written again with them.

    Raises:
        MissingDependency: a logger's package is not installed.
    """

    def __init__(self, names: Sequence[Logger], out: Path, finished: Sequence[EpochMetrics] = ()) -> None:
        self._open = {name: open_logger(name, out) for name in dict.fromkeys(names)}
        if "csv" in self._open:
            for metrics in finished:
                self._open["csv"].log_metrics(numbers(metrics), metrics.epoch)

    def log(self, metrics: EpochMetrics) -> None:
        """Log the numbers of an epoch, and write them."""
        for logger in self._open.values():
            logger.log_metrics(numbers(metrics), metrics.epoch)
            logger.save()

    def finish(self) -> None:
        """End the run in all loggers."""
        for logger in self._open.values():
            logger.finalize("success")


def numbers(metrics: EpochMetrics) -> dict[str, float]:
    """Return the numbers of an epoch by name, as in ``metrics.jsonl``; ``firing_rate/LAYER`` with a
    slash, which groups them.
    """
    found: dict[str, Any] = metrics.to_json()
    return {
        name.replace(".", "/", 1): value
        for name, value in found.items()
        if isinstance(value, int | float) and name != "epoch"
    }
