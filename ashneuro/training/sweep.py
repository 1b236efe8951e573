"""The runs of a sweep, and the summary of each variant over its seeds."""

from __future__ import annotations

import difflib
import itertools
import json
import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ashneuro import schemas
from ashneuro.config import RunConfig, load_config, stages, trained_tasks
from ashneuro.errors import ConfigError, DataError
from ashneuro.exchange import Shard
from ashneuro.files import conform, reason_of, write_text
from ashneuro.sweep_config import SweepConfig

BASE = "base"
# Settings of [train], and of stages, that name a run; "@NAME" is a variant of the sweep.
REFERENCES = ("start", "teacher")

MEASURES = (
    "epochs",
    "accuracy",
    "accuracy_float",
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
    """One run of a sweep: ``variant`` with ``seed``.

    Args:
        levels: level per factor; empty for the base and for starts.
        config: its settings; a run that it builds on is ``"@VARIANT"`` there, see `settings`.
        epochs: passes over the training data, those of the runs that it started from included.
        compared: False for a variant that is only trained for others to start from.
    """

    variant: str
    levels: Mapping[str, str]
    seed: int
    config: RunConfig
    epochs: int = 0
    compared: bool = True

    @property
    def name(self) -> str:
        """The variant and the seed, in words."""
        return f"{self.variant}, seed {self.seed}"

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return folder_name(self.variant, self.seed)

    @property
    def needs(self) -> tuple[str, ...]:
        """Variants of the same seed that it starts from or is taught by."""
        return references(self.config)

    def settings(self, place: Callable[[str], Path]) -> RunConfig:
        """Return its settings with the folders of the runs that it builds on.

        Args:
            place: returns the folder of a variant's run of this seed.
        """
        return _resolved(self.config, lambda name: str(place(name).resolve()))

    def settings_like(self, made: RunConfig) -> RunConfig:
        """Return its settings; the runs that it builds on lie where ``made`` has them.

        References to a folder of another name are left as they are.
        """
        there = {Path(path).name: path for path in _named_runs(made)}
        return _resolved(self.config, lambda name: there.get(folder_name(name, self.seed), "@" + name))


def folder_name(variant: str, seed: int) -> str:
    """Return the name of the folder of one run."""
    return f"{re.sub(r'[^a-z0-9]+', '-', variant.lower()).strip('-')}-{seed}"


def references(config: RunConfig) -> tuple[str, ...]:
    """Return the variants that settings name as ``"@VARIANT"``, without repetition."""
    return tuple(dict.fromkeys(name[1:] for name in _named_runs(config) if name.startswith("@")))


def _named_runs(config: RunConfig) -> list[str]:
    parts = (config.train, *config.schedule)
    return [run for part in parts for key in REFERENCES if (run := getattr(part, key, None))]


def _resolved(config: RunConfig, path: Callable[[str], str]) -> RunConfig:
    """Return ``config`` with ``path(VARIANT)`` in the place of every ``"@VARIANT"``."""

    def resolve(part: Any) -> Any:
        given = {key: str(getattr(part, key, None) or "") for key in REFERENCES}
        return replace(part, **{key: path(run[1:]) for key, run in given.items() if run.startswith("@")})

    return replace(config, train=resolve(config.train), schedule=tuple(map(resolve, config.schedule)))


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
        write_text(path, json.dumps(schemas.ROW.stamped(values), indent=1))

    @classmethod
    def load(cls, path: Path) -> Row:
        """Read the ``row.json`` of a run's folder.

        Raises:
            DataError: it cannot be read.
        """
        try:
            values = schemas.ROW.load(path)
            identity = {name: values.pop(name) for name in ("variant", "levels", "seed")}
            conform(values, dict[str, float | None])
        except (OSError, ValueError) as error:
            do = schemas.remedy_of(error, "delete it: the sweep measures that run again")
            raise DataError(f"cannot read {path}", reason_of(error), do) from error
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

    Within a seed, a run comes after those that it builds on.

    Raises:
        ConfigError: settings cannot be used; two variants have one name; a variant builds on itself
            or on one that is not there; or the epochs differ where ``equal_epochs`` is set.
    """
    chosen = [*((name, {}, changes) for name, changes in sweep.starts.items()), *_variants(sweep)]
    names = [folder_name(name, 0) for name, _, _ in chosen]
    if len(names) != len(set(names)):
        raise ConfigError(
            "two variants of the sweep have one name",
            ", ".join(sorted({n.removesuffix("-0") for n in names if names.count(n) > 1})),
            "rename a level",
        )
    found: list[Cell] = []
    for seed in sweep.seeds:
        configs = {name: _config(sweep, name, [*changes, f"train.seed={seed}"]) for name, _, changes in chosen}
        epochs: dict[str, int] = {}
        order = _ordered({name: references(config) for name, config in configs.items()})
        for name in order:
            start = configs[name].train.start
            before = epochs[start[1:]] if start.startswith("@") else _epochs_of_run(start)
            epochs[name] = before + _own_epochs(configs[name])
        levels = {name: each for name, each, _ in chosen}
        found += [
            Cell(name, levels[name], seed, configs[name], epochs[name], name not in sweep.starts) for name in order
        ]
    compared = [cell for cell in found if cell.compared]
    lacking = [cell.variant for cell in compared if sweep.task not in ("retrieval", *trained_tasks(cell.config))]
    if lacking:
        stage = f"schedule=[…, {{name = 'finetune', epochs = 5, task = '{sweep.task}'}}]"
        raise ConfigError(
            f"task = {sweep.task!r}", f"it is not trained by {', '.join(dict.fromkeys(lacking))}", f'set = ["{stage}"]'
        )
    totals = {cell.variant: cell.epochs for cell in compared}
    if sweep.equal_epochs and len(set(totals.values())) > 1:
        raise ConfigError(
            "equal_epochs = true, and the variants are trained for different numbers of epochs",
            "; ".join(f"{name}: {total}" for name, total in totals.items()),
            "give each the same total, starts included, or set equal_epochs = false",
        )
    return tuple(found)


def _own_epochs(config: RunConfig) -> int:
    return sum(settings.epochs for _, settings in stages(config))


def _epochs_of_run(folder: str) -> int:
    """Return the epochs of a run that is not of the sweep, those of its own start included.

    0 where the folder is not there: training says so.
    """
    total, seen = 0, set()
    while folder and folder not in seen and (file := Path(folder) / "config.json").exists():
        seen.add(folder)
        config = load_config(file)
        total, folder = total + _own_epochs(config), config.train.start
    return total


def _ordered(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the variants so that each comes after those that it builds on; else in their order.

    Args:
        needs: by variant, the variants that its settings name.

    Raises:
        ConfigError: a variant is unknown, or builds on itself.
    """
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " → ".join((*path[path.index(name) :], name))
            raise ConfigError(
                f"{name!r} of the sweep builds on itself", circle, "let one of them start from fresh weights"
            )
        if name in order:
            return
        for other in needs[name]:
            if other not in needs:
                near = difflib.get_close_matches(other, needs, n=1)
                raise ConfigError(
                    f"'@{other}' in {name!r}",
                    "the sweep has no variant of that name" + (f" (did you mean '@{near[0]}'?)" if near else ""),
                    f"name one of {', '.join(each for each in needs if each != name)}",
                )
            visit(other, (*path, name))
        order.append(name)

    for name in needs:
        visit(name, ())
    return order


def _config(sweep: SweepConfig, variant: str, changes: list[str]) -> RunConfig:
    try:
        return load_config(sweep.base, [*sweep.set, *changes])
    except ConfigError as error:
        why = f"{error.what}: {error.why}"
        raise ConfigError(
            f"{variant!r} of the sweep cannot be run", why, "correct base, set or that level of the sweep"
        ) from error


def shard_of(planned: Sequence[Cell], shard: Shard) -> tuple[Cell, ...]:
    """Return the runs of a shard: the compared ones in turn, and those that they build on."""
    by_run = {(cell.variant, cell.seed): cell for cell in planned}
    chosen: set[tuple[str, int]] = set()
    waiting = shard.turn([cell for cell in planned if cell.compared])
    while waiting:
        cell = waiting.pop()
        if (cell.variant, cell.seed) not in chosen:
            chosen.add((cell.variant, cell.seed))
            waiting += [by_run[name, cell.seed] for name in cell.needs]
    return tuple(cell for cell in planned if (cell.variant, cell.seed) in chosen)


MOST_VARIANTS = 10_000
"""Combinations of levels that a sweep has at most."""


def _variants(sweep: SweepConfig) -> list[tuple[str, dict[str, str], tuple[str, ...]]]:
    if sweep.design == "one-at-a-time":
        return [(BASE, {}, ()), *_levels(sweep)]
    if sweep.design == "levels":
        return _levels(sweep)
    found = []
    factors = {name: levels for name, levels in sweep.factors.items() if levels}
    if (count := math.prod(map(len, factors.values()))) > MOST_VARIANTS:
        why = f"{' × '.join(str(len(levels)) for levels in factors.values())} levels; at most {MOST_VARIANTS:,}"
        raise ConfigError(
            f"design = 'cross' makes {count:,} variants", why, "fewer factors, or design = 'one-at-a-time'"
        )
    for combination in itertools.product(*(levels.items() for levels in factors.values())):
        levels = dict(zip(factors, (name for name, _ in combination), strict=True))
        found.append(
            (", ".join(levels.values()), levels, tuple(change for _, changes in combination for change in changes))
        )
    return found


def _levels(sweep: SweepConfig) -> list[tuple[str, dict[str, str], tuple[str, ...]]]:
    return [
        (level, {factor: level}, changes)
        for factor, levels in sweep.factors.items()
        for level, changes in levels.items()
    ]


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
