"""The runs of a sweep, their claims, and the summary of each variant over its seeds."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import re
import socket
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ashneuro.config import RunConfig, SweepConfig, load_config, trained_tasks
from ashneuro.errors import ConfigError
from ashneuro.files import replace_file

BASE = "base"

MEASURES = (
    "accuracy",
    "accuracy_a_zeroed",
    "accuracy_c_zeroed",
    "accuracy_a_alone",
    "firing_rate",
    "synops",
    "host_macs",
    "energy_j",
    "energy_low_j",
    "energy_high_j",
)
"""Measures of every run, averaged over seeds."""


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: ``variant`` with ``seed``; ``levels`` per factor, empty for the base."""

    variant: str
    levels: Mapping[str, str]
    seed: int
    config: RunConfig

    @property
    def name(self) -> str:
        """The variant and the seed, in words."""
        return f"{self.variant}, seed {self.seed}"

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return f"{re.sub(r'[^a-z0-9]+', '-', self.variant.lower()).strip('-')}-{self.seed}"


@dataclass(frozen=True)
class Row:
    """Measures of one finished run.

    Args:
        measures: `MEASURES` and R@1 of each direction; ``None`` where a run has no such thing.
        folder: folder of the run.
    """

    variant: str
    levels: Mapping[str, str]
    seed: int
    measures: Mapping[str, float | None]
    folder: Path = Path()

    def save(self, path: Path) -> None:
        """Write ``row.json``, whole or not at all."""
        values = {name: value for name, value in self.to_json().items() if name != "folder"}
        replace_file(path, lambda file: file.write_text(json.dumps(values, indent=1), encoding="utf-8"))

    @classmethod
    def load(cls, path: Path) -> Row:
        """Read the ``row.json`` of a run's folder."""
        values = json.loads(path.read_text(encoding="utf-8"))
        identity = {name: values.pop(name) for name in ("variant", "levels", "seed")}
        return cls(**identity, measures=values, folder=path.parent)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        identity = {"variant": self.variant, "levels": dict(self.levels), "seed": self.seed}
        return {**identity, **self.measures, "folder": str(self.folder)}


@dataclass(frozen=True)
class Summary:
    """One variant over its seeds: ``mean`` and ``deviation`` (of the sample; ``None`` for one seed)
    per measure that was taken.
    """

    variant: str
    levels: Mapping[str, str]
    seeds: int
    mean: Mapping[str, float]
    deviation: Mapping[str, float | None]
    least: Mapping[str, float]
    most: Mapping[str, float]


def cells(sweep: SweepConfig) -> tuple[Cell, ...]:
    """Return all runs of a sweep: seed by seed, so that after each round every variant has as many.

    Raises:
        ConfigError: settings cannot be used, or two variants have one name.
    """
    chosen = _variants(sweep)
    names = [Cell(name, {}, 0, RunConfig()).folder for name, _, _ in chosen]
    if len(names) != len(set(names)):
        raise ConfigError(
            "two variants of the sweep have one name",
            ", ".join(sorted({n for n in names if names.count(n) > 1})),
            "rename a level",
        )
    found = tuple(
        Cell(name, levels, seed, _config(sweep, name, [*changes, f"train.seed={seed}"]))
        for seed in sweep.seeds
        for name, levels, changes in chosen
    )
    lacking = [cell.variant for cell in found if sweep.task not in ("retrieval", *trained_tasks(cell.config))]
    if lacking:
        stage = f"schedule=[…, {{name = 'finetune', epochs = 5, task = '{sweep.task}'}}]"
        raise ConfigError(
            f"task = {sweep.task!r}", f"it is not trained by {', '.join(dict.fromkeys(lacking))}", f'set = ["{stage}"]'
        )
    return found


def _config(sweep: SweepConfig, variant: str, changes: list[str]) -> RunConfig:
    try:
        return load_config(sweep.base, [*sweep.set, *changes])
    except ConfigError as error:
        why = f"{error.what}: {error.why}"
        raise ConfigError(
            f"{variant!r} of the sweep cannot be run", why, "correct base, set or that level of the sweep"
        ) from error


@contextmanager
def claim(folder: Path) -> Iterator[str]:
    """Claim a cell's ``folder`` for this process, so that sweeps that share a disk split the work;
    yield who has it, ``""`` for us.

    The claim is a lock on ``FOLDER.claim``, held by the system for as long as the process lives:
    one that was killed leaves none. On a disk without locks, and for a process of several that
    train together, every claim is granted. The file goes when the cell has its row.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        yield ""
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f"{folder.name}.claim")
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                file.seek(0)
                yield file.read().strip() or "another process"
                return
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                raise
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield ""
        if (folder / "row.json").exists():  # else somebody may be waiting for this very file
            path.unlink(missing_ok=True)


def _variants(sweep: SweepConfig) -> list[tuple[str, dict[str, str], tuple[str, ...]]]:
    if sweep.design == "one-at-a-time":
        single = [
            (level, {factor: level}, changes)
            for factor, levels in sweep.factors.items()
            for level, changes in levels.items()
        ]
        return [(BASE, {}, ()), *single]
    found = []
    factors = {name: levels for name, levels in sweep.factors.items() if levels}
    for combination in itertools.product(*(levels.items() for levels in factors.values())):
        levels = dict(zip(factors, (name for name, _ in combination), strict=True))
        found.append(
            (", ".join(levels.values()), levels, tuple(change for _, changes in combination for change in changes))
        )
    return found


def summarise(rows: Iterable[Row]) -> tuple[Summary, ...]:
    """Return one summary per variant, in the order in which they first occur."""
    by_variant: dict[str, list[Row]] = {}
    for row in rows:
        by_variant.setdefault(row.variant, []).append(row)
    return tuple(_summary(variant, found) for variant, found in by_variant.items())


def _summary(variant: str, rows: Sequence[Row]) -> Summary:
    taken = {name: [value for row in rows if (value := row.measures.get(name)) is not None] for name in MEASURES}
    known = {name: values for name, values in taken.items() if values}
    return Summary(
        variant,
        rows[0].levels,
        len(rows),
        {name: statistics.fmean(values) for name, values in known.items()},
        {name: statistics.stdev(values) if len(values) > 1 else None for name, values in known.items()},
        {name: min(values) for name, values in known.items()},
        {name: max(values) for name, values in known.items()},
    )
