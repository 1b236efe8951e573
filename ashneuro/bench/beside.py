"""Training beside other work: its speed alone, two at once, and beside busy processes.

Every training is a process of its own, as a user starts it. All situations are measured in turn, so
ratios are of one round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import IO, Any

from ashneuro.bench.measure import SCHEMA, Machine, Spread, count_runs, load, machine, require_positive
from ashneuro.config import RunConfig, dump_config, parse_config
from ashneuro.cores import share_cores, usable_cores
from ashneuro.errors import AshneuroError
from ashneuro.simulation.inputs import Progress

PACKAGES = ("ashneuro", "torch")
BUSY = "while True: pass"

StartRun = Callable[[int, float], Callable[[], float]]
"""Lets a training run with so many threads for so many seconds; what comes back waits for its pairs
per second.
"""


@dataclass(frozen=True)
class Situation:
    """Trainings that run at once.

    Args:
        trainings: their number.
        threads: of each.
        busy: processes beside them that do nothing but compute.
    """

    name: str
    trainings: int
    threads: int
    busy: int = 0


@dataclass(frozen=True)
class SituationSpeed:
    """Speed of all trainings of a situation together.

    Args:
        pairs_per_s: of all together.
        ratio: ``pairs_per_s`` over that of a training alone, in the same round.
    """

    name: str
    trainings: int
    threads: int
    busy: int
    pairs_per_s: Spread
    ratio: Spread


@dataclass(frozen=True)
class BesideBench:
    """Result of the benchmark; the first situation is a training alone."""

    machine: Machine
    rounds: int
    seconds: float
    situations: tuple[SituationSpeed, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result under the schema ``ashneuro.bench/1``."""
        return {"schema": SCHEMA, "benchmark": "beside", **asdict(self)}


def situations(cores: int, busy: int) -> tuple[Situation, ...]:
    """Return the situations that are compared on so many cores; a training alone is the first."""
    found = [Situation("alone", 1, cores)]
    if cores > 1:
        found.append(Situation("alone, one thread", 1, 1))
    return (
        *found,
        Situation("two at once, each with all cores", 2, cores),
        Situation("two at once, each with its share", 2, max(1, cores // 2)),
        Situation(f"beside {busy} busy processes", 1, cores, busy),
    )


def bench_beside(
    config: RunConfig, *, busy: int = 4, rounds: int = 3, seconds: float = 4.0, progress: Progress | None = None
) -> BesideBench:
    """Measure training steps of ``config``, on random pairs on the CPU, beside other work.

    Args:
        busy: number of processes that only compute, in the last situation.
        rounds: times that every situation is measured.
        seconds: length of one measurement.
        progress: called with (measurements done, measurements in all).

    Raises:
        ConfigError: ``busy`` or ``rounds`` is not positive.
        AshneuroError: a training cannot be started.
    """
    require_positive(beside=busy, rounds=rounds)
    before, planned = load(), situations(usable_cores(), busy)
    tick = count_runs(progress, rounds * len(planned))
    speeds: list[list[float]] = [[] for _ in planned]
    with ExitStack() as running:
        trainings = [running.enter_context(_training(config)) for _ in range(2)]
        for _ in range(rounds):
            for situation, found in zip(planned, speeds, strict=True):
                found.append(_measure(situation, trainings, seconds))
                tick()
    alone = speeds[0]
    return BesideBench(
        machine(PACKAGES, also={}, load_before=before),
        rounds,
        seconds,
        tuple(
            SituationSpeed(
                **asdict(situation),
                pairs_per_s=Spread.of(found),
                ratio=Spread.of(ours / theirs for ours, theirs in zip(found, alone, strict=True)),
            )
            for situation, found in zip(planned, speeds, strict=True)
        ),
    )


def _measure(situation: Situation, trainings: Sequence[StartRun], seconds: float) -> float:
    """Return the pairs per second of all trainings of a situation."""
    chosen = trainings[: situation.trainings]
    with ExitStack() as running:
        for _ in range(situation.busy):
            process = subprocess.Popen([sys.executable, "-c", BUSY])
            running.callback(_end, process)
        asked = [each(situation.threads, seconds) for each in chosen]
        return sum(answer() for answer in asked)


@contextmanager
def _training(config: RunConfig) -> Iterator[StartRun]:
    """Start a training that waits to be run."""
    environ = {**os.environ}
    environ.pop("OMP_NUM_THREADS", None)  # else no thread count above it
    share_cores(environ)
    process = subprocess.Popen(
        [sys.executable, "-m", "ashneuro.bench.beside"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    )
    assert process.stdin is not None and process.stdout is not None
    send, answers = process.stdin, process.stdout

    def answer() -> float:
        if not (line := answers.readline()):
            raise AshneuroError(
                "a training of the benchmark ended", f"exit code {process.wait()}; its error is above", "mend that"
            )
        return float(line)

    def run(threads: int, seconds: float) -> Callable[[], float]:
        _tell(send, f"{threads} {seconds}")
        return answer

    try:
        _tell(send, json.dumps(dump_config(config)))
        answer()  # 0, once it is ready
        yield run
    finally:
        _end(process)


def _tell(stream: IO[str], line: str) -> None:
    stream.write(f"{line}\n")
    stream.flush()


def _end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _serve() -> None:
    """Be a training: settings come on the first line, then "THREADS SECONDS" on each; answer with
    pairs per second.
    """
    config = parse_config(json.loads(sys.stdin.readline()))
    import torch

    from ashneuro.bench.model import one_network, random_pairs, training_step
    from ashneuro.spiking.memory import keep_freed_memory
    from ashneuro.training.branches import branches_pay, thread_beside

    keep_freed_memory()  # as training does
    pairs = random_pairs(torch.device("cpu"), config, config.train.batch_size)
    model = one_network(config)
    step, pays = training_step(model, pairs, config, update=True), branches_pay(model, config.train)
    step()
    _tell(sys.stdout, "0")
    for line in sys.stdin:
        threads, seconds = line.split()
        torch.set_num_threads(int(threads))
        with thread_beside(pays) as beside:
            step(beside)
            count, began = 0, time.perf_counter()
            while (passed := time.perf_counter() - began) < float(seconds):
                step(beside)
                count += 1
        _tell(sys.stdout, f"{count * config.train.batch_size / passed}")


if __name__ == "__main__":
    _serve()
