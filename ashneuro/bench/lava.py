"""What a sample costs in Lava: a network built for each sample, samples that stream, samples side by side, all in one run.

Each way starts from a worker that is up and ends with the spikes on the host; what they share (starting Python and importing
Lava) is left out, what a user waits for (building networks, transfer, the proof of a batch) is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ashneuro.bench.emulator import Network
from ashneuro.bench.measure import SCHEMA, Machine, Spread, load, machine
from ashneuro.errors import ConfigError
from ashneuro.simulation.inputs import Progress
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.lava.stock import RUN_STOCK
from ashneuro.simulation.record import SpikeRecord

NAIVE, STREAMED, BATCHED = "a network per sample", "streamed", f"side by side, {RUN_STOCK} of them proved"


@dataclass(frozen=True)
class LavaWay:
    """One way to run samples.

    Args:
        samples: in one round.
        per_sample_s: seconds on the clock, over those samples.
        gain: how many times less than a network per sample, in the same round.
    """

    name: str
    samples: int
    per_sample_s: Spread
    gain: Spread


@dataclass(frozen=True)
class LavaBench:
    """One run of the benchmark; ``mismatches``: spike counts of neurons that differ between ways."""

    machine: Machine
    title: str
    timesteps: int
    rounds: int
    ways: tuple[LavaWay, ...]
    mismatches: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"schema": SCHEMA, "benchmark": "lava", "passed": not self.mismatches, **asdict(self)}


def bench_lava(
    network: Network,
    *,
    rounds: int = 3,
    naive: int = 4,
    streamed: int = 32,
    lava: Callable[[], Lava] = Lava,
    progress: Progress | None = None,
) -> LavaBench:
    """Return what a sample of ``network`` costs each way; the ways take turns within a round.

    Args:
        network: its samples are those of the batched way.
        naive, streamed: how many of them the slower ways run, at most.
        lava: makes the Lava that runs.
        progress: called with (runs done, runs in all).

    Raises:
        ConfigError: there are too few samples to be batched.
        LavaError: Lava is not there, or failed.
    """
    timesteps, samples = next(iter(network.inputs.values())).shape[:2]
    if rounds < 1 or samples <= RUN_STOCK:
        raise ConfigError(
            f"{samples} samples in {rounds} rounds",
            f"more than {RUN_STOCK} are batched, in at least one round",
            "--samples 256",
        )
    counts = {NAIVE: min(naive, samples), STREAMED: min(streamed, samples), BATCHED: samples}
    took: dict[str, list[float]] = {name: [] for name in counts}
    mismatches, load_before = 0, load()
    with lava() as worker:
        versions = {f"lava worker: {name}": version for name, version in worker.versions.items()}

        def run(name: str, first: int, last: int) -> SpikeRecord:
            part = {port: values[:, first:last] for port, values in network.inputs.items()}
            return worker.run(network.program, part, stock=RUN_STOCK if name == BATCHED else None)

        for number in range(rounds):
            records: dict[str, SpikeRecord] = {}
            for name, count in counts.items():
                start = time.perf_counter()
                if name == NAIVE:
                    for index in range(count):
                        one = run(name, index, index + 1)
                        records[name] = one if name not in records else records[name] + one
                else:
                    records[name] = run(name, 0, count)
                took[name].append((time.perf_counter() - start) / count)
                if progress:
                    progress(len([second for seconds in took.values() for second in seconds]), rounds * len(counts))
            if number == 0:
                streamed_first = run(STREAMED, 0, counts[NAIVE])
                batched_first = worker.run(
                    network.program, {port: x[:, : counts[STREAMED]] for port, x in network.inputs.items()}, stock=1
                )
                mismatches = _differ(records[NAIVE], streamed_first) + _differ(records[STREAMED], batched_first)
    gains = {
        name: [slow / fast for slow, fast in zip(took[NAIVE], seconds, strict=True)] for name, seconds in took.items()
    }
    ways = tuple(LavaWay(name, counts[name], Spread.of(took[name]), Spread.of(gains[name])) for name in counts)
    here = machine(("numpy", "scipy"), also=versions, load_before=load_before)
    return LavaBench(here, network.title, timesteps, rounds, ways, mismatches)


def _differ(left: SpikeRecord, right: SpikeRecord) -> int:
    return sum(
        int(np.count_nonzero(activity.counts != right.layers[name].counts)) for name, activity in left.layers.items()
    )
