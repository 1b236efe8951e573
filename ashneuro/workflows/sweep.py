"""Sweeps: train and measure every run of a plan, then summarise them over seeds."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ashneuro.cost.profile import load_profile
from ashneuro.errors import ConfigError, need
from ashneuro.exchange import Shard
from ashneuro.files import copy_folder, reason_of, replace_file, require_own
from ashneuro.sweep_config import SweepConfig
from ashneuro.workflows.study import search
from ashneuro.workflows.sweep_runs import StartRun, SweepResult, Wait, finished_rows, other_seeds, work
from ashneuro.workflows.sweep_table import write_sweep

if TYPE_CHECKING:
    from ashneuro.training.sweep import Cell


def sweep(
    planned: SweepConfig,
    folder: str | Path,
    *,
    limit: int | None = None,
    shard: Shard | None = None,
    merge: Sequence[str | Path] = (),
    start_run: StartRun = lambda cell, number, total: lambda now: None,
    wait: Wait = lambda run, who: None,
) -> SweepResult:
    """Train and measure every run of a plan that nobody has finished or claimed.

    Several processes may share a folder: each takes the next free run, and waits where all that are
    left start from a run that another process is training. A run that fails stops only those that
    start from it. Without a common folder, each process trains its own ``shard``, and ``merge``
    joins the runs.

    Args:
        planned: factors, seeds, base settings and profile.
        folder: folder of the sweep; runs lie in ``cells`` below it.
        limit: train at most this many runs, of a search trials; 0: only gather what is there.
        shard: train only this part of the runs, and those that they build on.
        merge: folders of the same sweep whose finished runs are copied into ``folder`` first.
        start_run: called before each run.
        wait: called before waiting for another process.

    Raises:
        ConfigError: the profile is no node, or a folder holds runs of other settings, or none.
    """
    if limit is not None and limit < 0:
        raise ConfigError(
            f"--limit {limit}", "it is a number of runs to train", "--limit 0 trains none and writes the table"
        )
    profile = load_profile(planned.profile)
    if profile.kind != "asic":
        raise ConfigError(
            f"profile = {planned.profile!r}",
            f"it is of kind {profile.kind!r}; a sweep prices both sides on one node",
            "one of kind 'asic': cmos45",
        )
    if planned.search:
        if shard or merge:
            why = "trials follow from those that were measured before, in one folder"
            raise ConfigError("a search with --shard or --merge", why, "start the same command several times")
        return search(planned, Path(folder), profile, limit, start_run, wait)
    plan = need("ashneuro.training.sweep", extra="train", purpose="a sweep")
    cells, folder = plan.cells(planned), Path(folder)
    for other in merge:
        _merge(cells, Path(other), folder)
    own = cells if shard is None else plan.shard_of(cells, shard)
    finished_rows(cells, folder)  # a folder of another sweep is refused before anything is trained
    elsewhere, failed = work(own, cells, folder, planned, profile, limit, start_run, wait)
    rows = finished_rows(cells, folder)
    summaries = plan.summarise(rows)
    compared = sum(cell.compared for cell in cells)
    files = write_sweep(folder, planned, rows, compared, summaries) if rows else []
    seeds = tuple(other_seeds(planned, folder))
    return SweepResult(compared, tuple(rows), summaries, elsewhere, failed, tuple(files), seeds)


def _merge(cells: Sequence[Cell], other: Path, folder: Path) -> None:
    """Copy the finished runs of the folder ``other`` of the same sweep that ``folder`` lacks.

    Raises:
        ConfigError: ``other`` holds none, or runs of other settings.
    """
    finished_rows(cells, other)
    finished = [cell for cell in cells if (other / "cells" / cell.folder / "row.json").exists()]
    if not finished:
        raise ConfigError(
            f"--merge {other}", "it holds no finished run of this sweep", "name the --out of another shard"
        )
    for cell in finished:
        there, here = other / "cells" / cell.folder, folder / "cells" / cell.folder
        if (here / "row.json").exists():
            continue
        claims = need("ashneuro.training.claims", extra="train", purpose="a sweep")
        with claims.claim(here) as own:
            if own.holder:
                continue  # it is being trained here, too
            try:
                copy_folder(there, here, lambda name: name == "row.json" or name.startswith("."))
                require_own(there / "row.json", there)
                replace_file(here / "row.json", partial(shutil.copyfile, there / "row.json"))
            except OSError as error:
                why = f"{error.filename}: {reason_of(error)}"
                raise ConfigError(f"--merge {other}", why, "put the file itself there, or leave it out") from error
