"""What every benchmark says beside its figures: the machine they are of, and how far they spread."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median

SCHEMA = "ashneuro.bench/1"


@dataclass(frozen=True)
class Spread:
    """One figure over all rounds of a run: median, smallest, largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of ``values``, at least one."""
        known = sorted(values)
        return cls(median(known), known[0], known[-1])


@dataclass(frozen=True)
class Machine:
    """Where and with what a benchmark ran.

    Args:
        cpu: the processor's own name.
        cores: that this process may use.
        versions: of everything that computed.
        load: average number of processes that wanted a core in the last minute, before and after; above ``cores``
            means that others were running too. Empty where the system does not say.
    """

    cpu: str
    cores: int
    system: str
    versions: Mapping[str, str]
    load: tuple[float, ...]


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> tuple[float, ...]:
    """Return the load average of the last minute; empty where the system does not say."""
    return os.getloadavg()[:1] if hasattr(os, "getloadavg") else ()


def machine(packages: Iterable[str], *, also: Mapping[str, str], load_before: tuple[float, ...]) -> Machine:
    """Return this machine, with the versions of those ``packages`` that are installed, and of what ``also`` ran."""
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Machine(_cpu(), cores(), platform.platform(), {**versions, **also}, (*load_before, *load()))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
