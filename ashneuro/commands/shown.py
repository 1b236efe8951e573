"""Training, shown while it runs: shared by the verbs that train."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ashneuro.reporting import terminal

if TYPE_CHECKING:
    from ashneuro.config import RunConfig
    from ashneuro.training.loop import Progress


@contextmanager
def shown_training(config: RunConfig, folder: Path) -> Iterator[Callable[[Progress], None]]:
    """Print the kernels that the neurons run on, and show progress; under torchrun the first
    process does both.
    """
    from ashneuro.workflows.train import describe_neurons

    if not is_first_process():
        yield lambda now: None
        return
    if neurons := describe_neurons(config):
        terminal.line(neurons)
    with terminal.epochs(f"training {folder.name}") as show:
        yield lambda now: show(now.epoch, now.epochs, now.batch, now.batches, now.loss, now.metrics)


def is_first_process() -> bool:
    """Return True in the one process that speaks for all that train together."""
    return os.environ.get("RANK", "0") == "0"
