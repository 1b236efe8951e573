"""Training, shown while it runs: shared by the verbs that train."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ashneuro.reporting import terminal

if TYPE_CHECKING:
    from ashneuro.config import RunConfig
    from ashneuro.training.loop import Progress


class Shown:
    """Progress of one training, shown: called after every batch, and by `reading` before the first.

    The bar of reading pictures and that of training are not on the screen at once.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._open = ExitStack()
        self._read: Callable[[str, int, int], None] | None = None
        self._show: Callable[..., None] | None = None

    def reading(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` pictures were read."""
        if self._show is not None:  # those of the validation part, beside the bar of training
            return
        if self._read is None:
            self._read = self._open.enter_context(terminal.progress())
        self._read(what, done, total)

    def __call__(self, now: Progress) -> None:
        """Show a batch, or a finished epoch."""
        if self._show is None:
            self.close()
            self._show = self._open.enter_context(terminal.epochs(f"training {self._name}"))
        self._show(now.epoch, now.epochs, now.batch, now.batches, now.loss, now.metrics)

    def close(self) -> None:
        """Take the bars from the screen."""
        self._open.close()


class Silent(Shown):
    """Progress of a process that shows nothing."""

    def reading(self, what: str, done: int, total: int) -> None:
        """Ignore it."""

    def __call__(self, now: Progress) -> None:
        """Ignore it."""


@contextmanager
def shown_training(config: RunConfig, folder: Path) -> Iterator[Shown]:
    """Print the kernels that the neurons run on, and show progress; under torchrun the first
    process does both.
    """
    from ashneuro.workflows.train import describe_neurons

    if not is_first_process():
        yield Silent(folder.name)
        return
    if neurons := describe_neurons(config):
        terminal.line(neurons)
    shown = Shown(folder.name)
    try:
        yield shown
    finally:
        shown.close()


def is_first_process() -> bool:
    """Return True in the one process that speaks for all that train together."""
    return os.environ.get("RANK", "0") == "0"
