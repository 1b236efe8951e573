"""Settings of a sweep: a frozen dataclass, read from TOML."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Len

from ashneuro.config import SWEEPS, PositiveInt, Task, invalid_values, presets, read_settings, sweeps
from ashneuro.errors import ConfigError


@dataclass(frozen=True)
class SearchRange:
    """``[ranges]`` of a sweep: values of one setting that a search chooses from.

    Args:
        low, high: limits, both included. Whole numbers if both are.
        log: the logarithm is uniform.
    """

    low: int | float
    high: int | float
    log: bool = False

    @property
    def is_whole(self) -> bool:
        """True if values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class SweepConfig:
    """Settings of a sweep: runs of every variant with every seed.

    Args:
        base: preset or TOML file of settings.
        set: changes to all runs, ``"section.key=value"`` each.
        seeds: training seeds; differences between variants are compared with the spread over them.
        factors: levels by factor, changes by level:
            ``{"T": {"T = 1": ["model.abstract.timesteps=1"]}}``.
        starts: variants that are trained for others to start from, and not compared themselves:
            changes by name. A level starts from one with ``"train.start=@NAME"``, and is taught by
            one with ``"train.teacher=@NAME"``; NAME is any variant, in its run of the same seed.
        design: ``"one-at-a-time"``: the base, and the base with each single level. ``"levels"``:
            the same without the base. ``"cross"``: every combination of one level per factor.
        search: ``"optuna"``: trials in place of a design; each has one level of every factor and a
            value of every range. Accuracy is maximised and energy minimised.
        trials: number of trials of a search.
        ranges: limits by setting, for a search: ``{"train.learning_rate": {low = 1e-4, high = 1e-2,
            log = true}}``.
        equal_epochs: refuse a sweep whose compared variants have not all been trained for the same
            number of epochs, those of their starts included.
        task: task whose accuracy the table shows; for retrieval the mean of R@1 in both directions.
        part: part of the data on which accuracy is measured.
        profile: hardware profile that prices the events, of kind ``"asic"``.
    """

    base: str = "tiny"
    set: tuple[str, ...] = ()
    seeds: Annotated[tuple[int, ...], Len(1)] = (0, 1, 2)
    factors: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    starts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    design: Literal["one-at-a-time", "levels", "cross"] = "one-at-a-time"
    search: Literal["", "optuna"] = ""
    trials: PositiveInt = 20
    ranges: dict[str, SearchRange] = field(default_factory=dict)
    equal_epochs: bool = False
    task: Task = "retrieval"
    part: Literal["validation", "test"] = "test"
    profile: str = "cmos45"


def load_sweep(path: Path, overrides: Iterable[str] = ()) -> SweepConfig:
    """Return the sweep in a TOML file.

    Args:
        path: a file, or the name of one of `sweeps`.
        overrides: ``section.key=value`` each, changes to all runs, applied after the sweep's own.

    Raises:
        ConfigError: the file cannot be read, keys are unknown, values are not valid, or the sweep
            varies nothing.
    """
    from pydantic import TypeAdapter, ValidationError

    see = f"see {sweeps()['ablation']}"
    if str(path) in presets() and not path.exists():
        raise ConfigError(f"{path} is a preset, not a sweep", "it has settings of one run, and no [factors]", see)
    values = read_settings(path if path.exists() else sweeps().get(str(path), path), SWEEPS, "sweep")
    values.pop("energy_images", None)  # of earlier files; events are counted on every image of the part
    if unknown := sorted(set(values) - {item.name for item in fields(SweepConfig)}):
        raise ConfigError(f"{path}: {len(unknown)} unknown setting(s)", "; ".join(unknown), see)
    try:
        sweep = TypeAdapter(SweepConfig).validate_python(values)
    except ValidationError as error:
        lines = invalid_values(error)
        raise ConfigError(f"{path}: {len(lines)} setting(s) cannot be used", "; ".join(lines), see) from error
    if sweep.ranges and not sweep.search:
        raise ConfigError(
            f"{path} has [ranges]", "a design has levels; a search chooses from ranges", "search = 'optuna'"
        )
    for key, limits in sweep.ranges.items():
        if not limits.low < limits.high or (limits.log and limits.low <= 0):
            why = f"low = {limits.low}, high = {limits.high}" + (", log = true" if limits.log else "")
            raise ConfigError(f"{path}: the range of {key} is empty", why, "low < high, and 0 < low with log")
    if not any(sweep.factors.values()) and not sweep.ranges:
        raise ConfigError(f"{path} varies nothing", "it has no [factors] with levels", see)
    return replace(sweep, set=(*sweep.set, *overrides))
