"""Variants of one job, timed in turn.

Other load on the machine then meets all of them, and ratios are taken within a round.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

import torch

from ashneuro.bench.measure import (
    SCHEMA,
    Machine,
    Spread,
    count_runs,
    load,
    machine,
    require_positive,
    torch_threads,
)
from ashneuro.bench.split import split
from ashneuro.errors import ConfigError
from ashneuro.simulation.inputs import Progress
from ashneuro.spiking.kernels.dispatch import describe_kernels
from ashneuro.spiking.memory import keep_freed_memory, kept_bytes

# A run is repeated within its turn for at least LEAST_S, which the clock resolves well, and at
# least LEAST_RUNS times: the median leaves out the first run, which finds another variant's data in
# the caches.
LEAST_S, LEAST_RUNS, MOST_RUNS = 0.02, 3, 50
Clock = Literal["wall", "cpu"]
PACKAGES = ("ashneuro", "torch", "norse", "snntorch", "spikingjelly", "sinabs", "numpy", "triton")


@dataclass(frozen=True, eq=False)
class Variant:
    """One implementation of a job.

    Args:
        run: one forward and backward pass; not called if there is a ``reason``.
        reason: why it cannot run.
        split: profile it too, to split its time by kind of operator.
    """

    name: str
    run: Callable[[], object] = lambda: None
    reason: str = ""
    split: bool = False


@dataclass(frozen=True, eq=False)
class Job:
    """Variants that are compared; ratios are times over those of ``baseline``, one of them.

    Args:
        items: pairs that a run computes, for pairs per second; 0: not told.
    """

    title: str
    variants: tuple[Variant, ...]
    baseline: Variant
    items: int = 0


@dataclass(frozen=True)
class VariantTiming:
    """Figures of one variant.

    Args:
        seconds: per run.
        ratio: ``seconds`` over the baseline's in the same round.
        kept_bytes: that autograd keeps between forward and backward, without parameters.
        peak_bytes: maximum allocated on a GPU.
        reason: why it was not run.
        parts: seconds per run by kind of operator (`ashneuro.bench.split`), if it was profiled.
    """

    name: str
    seconds: Spread | None = None
    ratio: Spread | None = None
    kept_bytes: int = 0
    peak_bytes: int | None = None
    reason: str = ""
    parts: dict[str, float] | None = None


@dataclass(frozen=True)
class JobTiming:
    """Figures of one job; ``baseline`` is the name of a variant."""

    title: str
    baseline: str
    ways: tuple[VariantTiming, ...]
    items: int = 0


@dataclass(frozen=True)
class TimingBench:
    """Result of a benchmark."""

    benchmark: str
    machine: Machine
    device: str
    threads: int
    rounds: int
    clock: Clock
    kernels: str
    jobs: tuple[JobTiming, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result under the schema ``ashneuro.bench/1``."""
        return {"schema": SCHEMA, **asdict(self)}


def time_jobs(
    benchmark: str,
    jobs: Sequence[Job],
    *,
    device: torch.device,
    rounds: int,
    threads: int | None = None,
    clock: Clock = "wall",
    progress: Progress | None = None,
) -> TimingBench:
    """Time every variant of every job.

    Args:
        rounds: number of timed turns per variant, after one that is not timed.
        threads: of torch; default: as many as it has.
        clock: ``"wall"``, or ``"cpu"``: processor time of this process, free of other processes'
            load.
        progress: called with (turns done, turns in all).

    Raises:
        ConfigError: ``rounds`` or ``threads`` is not positive, or ``clock`` is ``"cpu"`` and the
            device is not.
    """
    if clock == "cpu" and device.type != "cpu":
        raise ConfigError("clock = cpu", f"the processor's time says nothing about {device.type}", "--clock wall")
    require_positive(rounds=rounds, threads=threads)
    keep_freed_memory()  # as training does
    before = load()
    tick = count_runs(progress, rounds * sum(not variant.reason for job in jobs for variant in job.variants))
    with torch_threads(threads):
        used = torch.get_num_threads()
        timings = tuple(_time(job, device, rounds, clock, tick) for job in jobs)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return TimingBench(
        benchmark,
        machine(PACKAGES, also={}, load_before=before),
        name,
        used,
        rounds,
        clock,
        describe_kernels(device),
        timings,
    )


def _time(job: Job, device: torch.device, rounds: int, clock: Clock, tick: Callable[[], None]) -> JobTiming:
    running = [variant for variant in job.variants if not variant.reason]
    # Also the untimed first run, which compiles kernels and fills caches.
    kept = {variant: kept_without_parameters(variant.run) for variant in running}
    peaks: dict[Variant, int | None] = {}
    repeats: dict[Variant, int] = {}
    seconds: dict[Variant, list[float]] = {variant: [] for variant in running}
    for variant in running:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        once = _seconds(variant.run, 1, device, clock)
        peaks[variant] = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        repeats[variant] = max(LEAST_RUNS, min(MOST_RUNS, round(LEAST_S / once)))
    for _ in range(rounds):
        for variant in running:
            seconds[variant].append(_seconds(variant.run, repeats[variant], device, clock))
            tick()
    timings = tuple(
        VariantTiming(variant.name, reason=variant.reason)
        if variant.reason
        else VariantTiming(
            variant.name,
            Spread.of(seconds[variant]),
            Spread.of(ours / theirs for ours, theirs in zip(seconds[variant], seconds[job.baseline], strict=True)),
            kept[variant],
            peaks[variant],
            parts=split(variant.run, device) if variant.split else None,
        )
        for variant in job.variants
    )
    return JobTiming(job.title, job.baseline.name, timings, job.items)


def _seconds(run: Callable[[], object], repeats: int, device: torch.device, clock: Clock) -> float:
    """Return the median time of ``repeats`` runs, in seconds."""
    now, times = time.perf_counter if clock == "wall" else time.process_time, []
    for _ in range(repeats):
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # kernels are launched asynchronously
        start = now()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(now() - start)
    return median(times)


def kept_without_parameters(run: Callable[[], object]) -> int:
    """Return the `kept_bytes` of ``run`` without those of any parameter."""
    return kept_bytes(run, apart=(one for one in gc.get_objects() if type(one) is torch.nn.Parameter))
