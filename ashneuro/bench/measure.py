"""The parts that every benchmark shares: the machine it ran on, spreads over rounds, threads."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median

from ashneuro.cores import usable_cores
from ashneuro.errors import ConfigError
from ashneuro.simulation.inputs import Progress

SCHEMA = "ashneuro.bench/1"


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of one figure over the rounds of a benchmark."""

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
    """Hardware and software that a benchmark ran on.

    Args:
        cpu: model name of the processor.
        cores: number of cores that this process may use.
        system: operating system.
        versions: by package, of everything that computed.
        load: one-minute load average before and after. Above ``cores``, other processes ran too.
            Empty where the system does not report it.
    """

    cpu: str
    cores: int
    system: str
    versions: Mapping[str, str]
    load: tuple[float, ...]


def load() -> tuple[float, ...]:
    """Return the one-minute load average; empty where the system does not report it."""
    return os.getloadavg()[:1] if hasattr(os, "getloadavg") else ()


def machine(packages: Iterable[str], *, also: Mapping[str, str], load_before: tuple[float, ...]) -> Machine:
    """Return this machine.

    Args:
        packages: whose versions are listed, where they are installed.
        also: further versions, such as those of a Lava worker's own environment.
        load_before: `load` before the benchmark began.
    """
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Machine(_cpu(), usable_cores(), platform.platform(), {**versions, **also}, (*load_before, *load()))


def require_positive(**settings: int | None) -> None:
    """Raise `ConfigError` for a setting below 1; ``None`` passes.

    Names are those of the options.
    """
    for name, value in settings.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} = {value}", "a benchmark takes at least one", f"--{name.replace('_', '-')} 1")


def count_runs(progress: Progress | None, total: int) -> Callable[[], None]:
    """Return a function to call after each run; it reports (runs done, ``total``) to
    ``progress``.
    """
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    return tick


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Set the number of torch's threads inside the block; ``None`` changes and imports nothing."""
    if threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
