"""Several ways of doing one job, timed in turn: whatever else the machine does meets all of them, and ratios are of one round."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

import torch

from ashneuro.bench.measure import SCHEMA, Machine, Spread, load, machine
from ashneuro.bench.split import split
from ashneuro.errors import ConfigError
from ashneuro.simulation.inputs import Progress
from ashneuro.spiking.kernels.dispatch import describe_kernels
from ashneuro.spiking.memory import keep_freed_memory

# A run is repeated within its turn until this has passed, so that what is timed is not the clock; and some times in any case, of which
# the median counts, because the first run finds what another way has left in the caches.
LEAST_S, LEAST_RUNS = 0.02, 3
Clock = Literal["wall", "cpu"]
PACKAGES = ("ashneuro", "torch", "norse", "snntorch", "spikingjelly", "sinabs", "numpy", "triton")


@dataclass(frozen=True, eq=False)
class Way:
    """One way: ``run`` does forward and backward once. It is not called where ``reason`` says why it cannot be.

    With ``split``, it is also said where its time goes.
    """

    name: str
    run: Callable[[], object] = lambda: None
    reason: str = ""
    split: bool = False


@dataclass(frozen=True, eq=False)
class Job:
    """What is done, and the ways to do it; ratios are times over that of the way called ``baseline``."""

    title: str
    baseline: str
    ways: tuple[Way, ...]


@dataclass(frozen=True)
class Timed:
    """One way's figures.

    Args:
        seconds: of one run.
        ratio: ``seconds`` over the baseline's in the same round.
        kept_bytes: that autograd keeps between forward and backward, parameters left out.
        peak_bytes: allocated at most, on a GPU.
        reason: why it was not run.
        parts: seconds of a run, profiled, by what they are spent on (`ashneuro.bench.split`), where that was asked for.
    """

    name: str
    seconds: Spread | None = None
    ratio: Spread | None = None
    kept_bytes: int = 0
    peak_bytes: int | None = None
    reason: str = ""
    parts: dict[str, float] | None = None


@dataclass(frozen=True)
class TimedJob:
    """The figures of one job."""

    title: str
    baseline: str
    ways: tuple[Timed, ...]

    def ratio(self, name: str) -> float:
        """Return the median ratio of the way called ``name``."""
        found = next(way for way in self.ways if way.name == name)
        if found.ratio is None:
            raise ValueError(f"{name} was not run: {found.reason}")
        return found.ratio.median


@dataclass(frozen=True)
class TimedJobs:
    """One run of a benchmark."""

    benchmark: str
    machine: Machine
    device: str
    threads: int
    rounds: int
    clock: Clock
    kernels: str
    jobs: tuple[TimedJob, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
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
) -> TimedJobs:
    """Return the figures of every way of every job.

    Args:
        rounds: how often every way has its turn, after one that is not timed.
        threads: that torch may use; by default as many as it has.
        clock: ``"wall"``, or ``"cpu"``: the processor time of this process, in which others have no part.
        progress: called with (turns done, turns in all).

    Raises:
        ConfigError: ``rounds`` or ``threads`` is not positive, or processor time is asked for and something else computes.
    """
    if clock == "cpu" and device.type != "cpu":
        raise ConfigError("clock = cpu", f"the processor's time says nothing about {device.type}", "--clock wall")
    for name, value in (("rounds", rounds), ("threads", threads)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} = {value}", "a benchmark takes at least one", f"--{name} 1")
    keep_freed_memory()  # as training does
    before, done = load(), 0
    total = rounds * sum(not way.reason for job in jobs for way in job.ways)

    def tick() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    with torch_threads(threads) as used:
        timed = tuple(_time(job, device, rounds, clock, tick) for job in jobs)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return TimedJobs(
        benchmark,
        machine(PACKAGES, also={}, load_before=before),
        name,
        used,
        rounds,
        clock,
        describe_kernels(device),
        timed,
    )


def _time(job: Job, device: torch.device, rounds: int, clock: Clock, tick: Callable[[], None]) -> TimedJob:
    running = [way for way in job.ways if not way.reason]
    kept = {way: kept_bytes(way.run) for way in running}
    peaks, repeats, seconds = {}, {}, {way: [] for way in running}  # type: ignore[var-annotated]
    for way in running:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        once = _seconds(way.run, 1, device, clock)
        peaks[way] = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        repeats[way] = max(LEAST_RUNS, min(50, round(LEAST_S / once)))
    for _ in range(rounds):
        for way in running:
            seconds[way].append(_seconds(way.run, repeats[way], device, clock))
            tick()
    baseline = next(seconds[way] for way in running if way.name == job.baseline)
    timed = tuple(
        Timed(way.name, reason=way.reason)
        if way.reason
        else Timed(
            way.name,
            Spread.of(seconds[way]),
            Spread.of(ours / theirs for ours, theirs in zip(seconds[way], baseline, strict=True)),
            kept[way],
            peaks[way],
            parts=split(way.run, device) if way.split else None,
        )
        for way in job.ways
    )
    return TimedJob(job.title, job.baseline, timed)


def _seconds(run: Callable[[], object], repeats: int, device: torch.device, clock: Clock) -> float:
    """Return what one run takes, the median of so many."""
    now, times = time.perf_counter if clock == "wall" else time.process_time, []
    for _ in range(repeats):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = now()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(now() - start)
    return median(times)


def kept_bytes(run: Callable[[], object]) -> int:
    """Return the bytes of the tensors that ``run`` saves for its backward pass, each memory counted once, parameters left out."""
    kept: dict[int, int] = {}
    # What is kept of a parameter may be another tensor in its memory: transposed, or detached.
    parameters = {one.untyped_storage().data_ptr() for one in gc.get_objects() if type(one) is torch.nn.Parameter}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(kept.values())


@contextmanager
def torch_threads(threads: int | None) -> Iterator[int]:
    """Let torch use so many threads meanwhile, or as many as before; give the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
