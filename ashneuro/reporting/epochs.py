"""Training in words: one line per epoch, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ashneuro.reporting.tables.table import percent
from ashneuro.reporting.words import TASKS

if TYPE_CHECKING:
    from ashneuro.exchange import EpochMetrics

WIDTH = 100
"""Longest line of an epoch, in characters."""

WAITED = 0.1
"""Share of an epoch spent waiting for data, above which its line says so."""


class TimeLeft:
    """Estimate of the time until training ends, from its own pace since the first batch.

    Args:
        clock: seconds of a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, float] | None = None

    def after(self, done: float) -> float | None:
        """Return the seconds left when the share ``done`` of all work is done, 0 to 1.

        ``None`` until it has been called twice: a resumed run begins with work that is done.
        """
        now = self._clock()
        if self._first is None:
            self._first = now, done
        began, before = self._first
        return (now - began) / (done - before) * (1 - done) if done > before else None


def duration(seconds: float) -> str:
    """Return a time in words, to about two digits: ``"40 s"``, ``"12 min"``, ``"3 h 20 min"``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def epoch_line(epoch: int, epochs: int, metrics: EpochMetrics, left_s: float | None = None) -> str:
    """Return the line of a finished epoch, of at most `WIDTH` characters.

    What does not fit is left out, the least important first; ``metrics.jsonl`` has all of it.

    Args:
        left_s: seconds until training ends.
    """
    # (rank, text) in the order of the line; the highest ranks are left out first.
    parts = [(0, f"epoch {epoch:>{len(str(epochs))}}/{epochs}"), (0, f"loss {metrics.loss:.3f}")]
    if metrics.stage:
        parts.insert(1, (5, metrics.stage))
    parts += [(1, text) for text in _validation(metrics)]
    if metrics.firing_rate is not None:
        parts.append((2, f"firing {percent(metrics.firing_rate)}"))
    if metrics.pairs_per_s is not None:
        parts.append((4, f"{metrics.pairs_per_s:,.0f} pairs/s"))
    if metrics.waited_share is not None and metrics.waited_share >= WAITED:
        parts.append((6, f"{100 * metrics.waited_share:.0f} % waiting for data"))
    if left_s is not None and epoch < epochs:
        parts.append((3, f"{duration(left_s)} left"))
    while len(line := "  ".join(text for _, text in parts)) > WIDTH and max(parts)[0]:
        parts.remove(max(parts))
    return line[:WIDTH]


def _validation(metrics: EpochMetrics) -> list[str]:
    """Return the metrics of the validation part in words."""
    recall = metrics.recall_at_1
    words = [f"R@1 {percent(recall[way])} {name}" for way, name in _WAYS.items() if way in recall]
    if len(words) == len(_WAYS):
        first, second = (f"{percent(recall[way])} {name}" for way, name in _WAYS.items())
        words = [f"R@1 {first}, {second}"]
    return words + [
        f"{TASKS[task]} {percent(value)}"
        for task in TASKS
        if (value := metrics.validation.get(f"{task}_accuracy")) is not None
    ]


_WAYS = {"image_to_text": "image→text", "text_to_image": "text→image"}
