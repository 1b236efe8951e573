"""Trained runs: opened once, then handed on."""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ashneuro.config import trained_tasks
from ashneuro.data.broken import LEFT_OUT, save_left_out
from ashneuro.errors import AshneuroError, need
from ashneuro.workflows.networks import require_kind
from ashneuro.workflows.places import require_data

if TYPE_CHECKING:
    from ashneuro.data.pairs import Pair, Splits
    from ashneuro.training.checkpoint import Run

Part = Literal["train", "validation", "test"]


def open_run(source: str | Path | Run, device: str = "cpu", *, skip_broken: bool = False) -> Run:
    """Return the run at a path, loaded to ``device``; a loaded run comes back as it is.

    Args:
        skip_broken: leave out pictures of its data that cannot be read, whatever its settings say.

    Raises:
        AshneuroError: the path is not a run, or the run cannot be read.
    """
    if isinstance(source, str | Path):
        require_kind(Path(source), "run")
        checkpoint = need("ashneuro.training.checkpoint", extra="train", purpose="reading a run")
        run: Run = checkpoint.load_run(source, device)
    else:
        run = source
    return skipping_broken(run) if skip_broken else run


def skipping_broken(run: Run) -> Run:
    """Return the run with ``data.skip_broken``: pictures that cannot be read are left out."""
    return replace(run, config=replace(run.config, data=replace(run.config.data, skip_broken=True)))


def list_left_out(run: Run) -> None:
    """Write the list of what was left out into the run's folder; an older one goes."""
    if (left_out := run.left_out) is not None:
        save_left_out(run.path / LEFT_OUT, left_out)


def splits_of(run: Run) -> Splits:
    """Return the pairs of a run.

    Raises:
        DataError: they cannot be read, or are not where its settings say.
    """
    if run.given is None and "splits" not in vars(run):
        require_data(run.config, run.path)
    return run.splits


def pairs_of(run: Run, part: Part, samples: int | None = None) -> tuple[tuple[Pair, ...], str]:
    """Return the run's pairs of ``part`` and the name of that split.

    Args:
        samples: only this many of them, evenly spaced; ``None``: all.

    Raises:
        AshneuroError: the part has fewer pairs.
    """
    pairs: tuple[Pair, ...] = getattr(splits_of(run), part)
    if samples is not None:
        if not 0 < samples <= len(pairs):
            raise AshneuroError(
                f"--samples {samples}", f"the {part} part has {len(pairs)} pairs", f"give 1 to {len(pairs)}"
            )
        pairs = tuple(pairs[index * len(pairs) // samples] for index in range(samples))
    return pairs, f"{run.splits.name}, {part}"


def pictures_of_run(run: Run, part: Part) -> list[Pair]:
    """Return pictures of ``part`` like those that the run was trained for.

    They come in turn from its pairs and from each task that brings pictures of its own; from the
    tasks alone where the run was never trained on pairs.
    """
    from ashneuro.data.tasks import pictures_of

    own = [task for task in trained_tasks(run.config) if getattr(run.config.tasks, task).format]
    sets = [pictures_of(questions, getattr(questions, part)) for questions in map(run.questions, own)]
    if not own or any(stage.task not in own for stage in run.config.schedule):
        sets.insert(0, list(getattr(splits_of(run), part)))
    return [picture for row in zip_longest(*sets) for picture in row if picture is not None]
