"""Progress of long work: workflows call it, whoever runs them shows it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], object]
"""Called with (phase, steps done, steps in all); 0 steps in all: the phase cannot be counted."""


def silent(phase: str, done: int, total: int) -> None:
    """Ignore progress: the default of every workflow."""
