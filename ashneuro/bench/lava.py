"""Seconds per sample in Lava: a network built for each sample, samples streamed, samples side by
side.

Each schedule starts from a running worker and ends with the spikes on the host. Starting Python and
importing Lava, which all of them share, is left out; building networks, transfer and the proof of a
batch, for which a user waits, are not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

import numpy as np

from ashneuro.bench.emulator import BenchNetwork
from ashneuro.bench.measure import SCHEMA, Machine, Spread, count_runs, load, machine
from ashneuro.errors import ConfigError
from ashneuro.simulation.inputs import Progress
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.lava.stock import RUN_STOCK
from ashneuro.simulation.record import SpikeRecord


class Schedule(Enum):
    """Order of samples in Lava; the value is the name in tables and files."""

    PER_SAMPLE = "a network per sample"
    STREAMED = "streamed"
    BATCHED = f"side by side, {RUN_STOCK} of them proved"


@dataclass(frozen=True)
class LavaTiming:
    """Time of one schedule.

    Args:
        name: of the schedule.
        samples: number of samples per round.
        per_sample_s: seconds of wall-clock time per sample.
        gain: seconds per sample of a network per sample, over this schedule's, in the same round.
    """

    name: str
    samples: int
    per_sample_s: Spread
    gain: Spread


@dataclass(frozen=True)
class LavaBench:
    """Result of the benchmark.

    Args:
        ways: one timing per schedule.
        mismatches: number of neurons whose spike counts differ between schedules.
    """

    machine: Machine
    title: str
    timesteps: int
    rounds: int
    ways: tuple[LavaTiming, ...]
    mismatches: int

    def to_json(self) -> dict[str, Any]:
        """Return the result under the schema ``ashneuro.bench/1``."""
        return {"schema": SCHEMA, "benchmark": "lava", "passed": not self.mismatches, **asdict(self)}


def bench_lava(
    network: BenchNetwork,
    *,
    rounds: int = 3,
    naive: int = 4,
    streamed: int = 32,
    lava: Callable[[], Lava] = Lava,
    progress: Progress | None = None,
) -> LavaBench:
    """Time every schedule on ``network``, in turn within a round.

    Args:
        network: all of its samples run side by side.
        naive: maximum number of samples with a network each.
        streamed: maximum number of samples that are streamed.
        lava: makes the Lava session.
        progress: called with (runs done, runs in all).

    Raises:
        ConfigError: there are too few samples for a batch.
        LavaError: Lava is not installed, or failed.
    """
    timesteps, samples = next(iter(network.inputs.values())).shape[:2]
    if rounds < 1 or samples <= RUN_STOCK:
        raise ConfigError(
            f"{samples} samples in {rounds} rounds",
            f"more than {RUN_STOCK} are batched, in at least one round",
            "--samples 256",
        )
    counts = {
        Schedule.PER_SAMPLE: min(naive, samples),
        Schedule.STREAMED: min(streamed, samples),
        Schedule.BATCHED: samples,
    }
    took: dict[Schedule, list[float]] = {schedule: [] for schedule in counts}
    tick = count_runs(progress, rounds * len(counts))
    mismatches, load_before = 0, load()
    with lava() as worker:
        versions = {f"lava worker: {name}": version for name, version in worker.versions.items()}

        def run(first: int, last: int, stock: int | None = None) -> SpikeRecord:
            part = {port: values[:, first:last] for port, values in network.inputs.items()}
            return worker.run(network.program, part, stock=stock)

        for number in range(rounds):
            records: dict[Schedule, SpikeRecord] = {}
            for schedule, count in counts.items():
                start = time.perf_counter()
                # Separate runs build a network each; their records add up.
                if schedule is Schedule.PER_SAMPLE:
                    records[schedule] = run(0, 1)
                    for index in range(1, count):
                        records[schedule] += run(index, index + 1)
                else:
                    records[schedule] = run(0, count, RUN_STOCK if schedule is Schedule.BATCHED else None)
                took[schedule].append((time.perf_counter() - start) / count)
                tick()
            if number == 0:
                # The schedules run different numbers of samples: each is compared on those of the
                # smaller one.
                few, more = counts[Schedule.PER_SAMPLE], counts[Schedule.STREAMED]
                mismatches = _differ(records[Schedule.PER_SAMPLE], run(0, few))
                mismatches += _differ(records[Schedule.STREAMED], run(0, more, stock=1))
    timings = tuple(
        LavaTiming(
            schedule.value,
            count,
            Spread.of(took[schedule]),
            Spread.of(slow / fast for slow, fast in zip(took[Schedule.PER_SAMPLE], took[schedule], strict=True)),
        )
        for schedule, count in counts.items()
    )
    here = machine(("numpy", "scipy"), also=versions, load_before=load_before)
    return LavaBench(here, network.title, timesteps, rounds, timings, mismatches)


def _differ(left: SpikeRecord, right: SpikeRecord) -> int:
    return sum(
        int(np.count_nonzero(activity.counts != right.layers[name].counts)) for name, activity in left.layers.items()
    )
