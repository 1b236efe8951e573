"""Runs programs in Lava itself: one worker process or several, samples in chunks, in order, however many workers there are.

What Lava is told is said in `ashneuro.simulation.lava.network`, a worker process in `ashneuro.simulation.lava.worker`. Lava takes as
long for a step of one sample as for a step of a hundred side by side, so beyond a few samples the synapses are batched
(`ashneuro.lava_worker.batched`); some samples of every such run go through Lava's own processes first, and both must answer alike.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import chain
from operator import add
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import ConfigError
from ashneuro.program.program import Program
from ashneuro.simulation.inputs import Inputs, Progress, check_inputs, encode
from ashneuro.simulation.lava.network import Network, Tap, best_width, copies_at_most, is_lagged
from ashneuro.simulation.lava.resume import FinishedChunks
from ashneuro.simulation.lava.stock import RUN_STOCK, require_equal, require_stock
from ashneuro.simulation.lava.worker import Health, Worker, WorkerLost, worker_command, worker_fingerprint
from ashneuro.simulation.record import Activity, SpikeRecord

CHUNK_BYTES = 1 << 28  # of encoded inputs
CHUNK_STEPS = 64  # machine steps of a chunk; more where its last, idle ones would count
IDLE = 6  # at least so many times as many steps as idle ones
ATTEMPTS = 2  # workers that a chunk is given to, when the first one is lost

Samples = Mapping[str, NDArray[Any]]
Result = TypeVar("Result")


@dataclass
class Seconds:
    """Where the time went; with several workers theirs add up, and are more than the time that passed.

    Args:
        host: preparing inputs, and taking answers apart.
        transfer: between host and workers.
        lava: Lava itself, starts included.
        start: of these, starting workers and building networks.
        passed: on the clock.
    """

    host: float = 0.0
    transfer: float = 0.0
    lava: float = 0.0
    start: float = 0.0
    passed: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(*(ours + theirs for ours, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Trace:
    """Some neurons of a layer, step by step: ``u``, ``v`` and ``sent`` (T, B, neurons), u and v in the arithmetic's own units."""

    neurons: tuple[int, ...]
    u: NDArray[Any]
    v: NDArray[Any]
    sent: NDArray[Any]


class Lava:
    """One Lava worker process or several; a context manager. Programs run in it one after another.

    Args:
        workers: how many processes share the samples. Each of them starts as many processes as the network has parts.
        command: what starts a worker, as a shell would split it, e.g. ``"ssh host python3.10 lava_worker/worker.py"``; the
            interpreter of `find_interpreter` by default.
        timeout_s: the longest that one reply may take: building a network, or some dozen steps of it.

    Attributes:
        versions: of Python, lava-nc, numpy and scipy there.
        seconds: where the time of all runs went.

    Raises:
        ConfigError: there are no workers or no time, or the command cannot be split.
        LavaError: no interpreter was found, Lava cannot be imported there, or the worker is of another version.
    """

    def __init__(self, workers: int = 1, command: str | None = None, timeout_s: float = 300.0) -> None:
        if workers < 1:
            raise ConfigError(f"--workers {workers}", "at least one worker runs Lava", "--workers 1")
        if not timeout_s > 0:
            raise ConfigError(f"--lava-timeout {timeout_s:g}", "a reply takes some time", "--lava-timeout 300")
        self.seconds = Seconds()
        self.versions: dict[str, str] = {}
        self._size, self._command, self._timeout_s = workers, worker_command(command), timeout_s
        self._idle: list[_Slot] = [_Slot() for _ in range(workers)]
        self._slots = tuple(self._idle)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        slot = self._slots[0]
        slot.worker = Worker(self._command, self._timeout_s)
        self.versions, self._shared_memory = slot.worker.versions, slot.worker.machine["shared_memory"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for slot in self._slots:
            if kind is not None:
                slot.kill()
        for slot in self._slots:
            slot.end(gently=kind is None)

    def health(self) -> list[Health]:
        """Return what every worker that was started is doing.

        Raises:
            WorkerLost: one of them does not answer.
        """
        return [slot.worker.health() for slot in self._slots if slot.worker is not None]

    def run(
        self,
        program: Program,
        inputs: Inputs,
        *,
        rasters: Collection[str] = (),
        stock: int | None = RUN_STOCK,
        resume: Path | None = None,
        progress: Progress | None = None,
    ) -> SpikeRecord:
        """Return what every layer of ``program`` sends, computed by Lava: ``floating_pt`` or ``fixed_pt``, as the program says.

        Args:
            program: a float or an integer program.
            inputs: (T, B, *shape), see `check_inputs`.
            rasters: names of the layers whose spikes, step by step, the record keeps.
            stock: samples that run through Lava's own processes; the rest runs batched, and the batch must answer them alike.
                ``None``: all of them.
            resume: a folder for finished chunks: a run of the same samples that was ended before goes on from there.
            progress: called with (samples done, samples in all).

        Raises:
            DataError: the inputs do not fit.
            LavaError: Lava failed, took longer than the timeout, or batched synapses answered otherwise than Lava's own.
        """
        require_stock(stock)
        checked = check_inputs(program.inputs, program.timesteps, inputs)
        timesteps, samples = next(iter(checked.values())).shape[:2]
        batched = stock is not None and samples > stock
        size = self._chunk_size(program, timesteps, batched=batched, share=-(-samples // self._size))
        chunks = (
            {name: values[:, first : first + size] for name, values in checked.items()}
            for first in range(0, samples, size)
        )
        resume = resume if samples > size else None
        records = self._stream(
            program, chunks, rasters, stock if batched else None, resume, progress and _of(progress, samples)
        )
        return reduce(add, records)

    def stream(
        self,
        program: Program,
        parts: Iterable[Inputs],
        *,
        rasters: Collection[str] = (),
        stock: int | None = RUN_STOCK,
        resume: Path | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Iterator[SpikeRecord]:
        """Yield records of all samples, in their order; while Lava runs some, the next ones are drawn.

        Args:
            parts: (T, b, *shape) each, of any size; few of them are in memory at a time. A record may be of several parts, or
                of a piece of one.
            progress: called with the samples done.

        The rest is as in `run`.
        """
        require_stock(stock)
        checked = (check_inputs(program.inputs, program.timesteps, part) for part in parts)
        first = next(checked, None)
        if first is not None:
            size = self._chunk_size(program, len(next(iter(first.values()))), batched=stock is not None)
            yield from self._stream(
                program, _regrouped(chain([first], checked), size), rasters, stock, resume, progress
            )

    def trace(self, program: Program, inputs: Inputs, neurons: Mapping[str, Sequence[int]]) -> dict[str, Trace]:
        """Return u, v and what was sent of some neurons, by layer, from Lava's own processes.

        Args:
            neurons: flat indices, by layer.

        Raises:
            DataError, LavaError: as `run`.
        """
        checked = check_inputs(program.inputs, program.timesteps, inputs)
        timesteps, samples = next(iter(checked.values())).shape[:2]
        sent = {port.name: encode(port, checked[port.name], program.precision) for port in program.inputs}
        parts: dict[str, list[Trace]] = {name: [] for name in neurons}
        size = 1 if is_lagged(program) else samples
        for first in range(0, samples, size):
            part = {name: values[:, first : first + size] for name, values in sent.items()}
            work = partial(_trace, network=Network(program, timesteps, traces=neurons), sent=part, neurons=neurons)
            for name, trace in self._with_worker(work).items():
                parts[name].append(trace)
        return {
            name: Trace(
                tuple(neurons[name]),
                *(np.concatenate([getattr(part, what) for part in found], 1) for what in ("u", "v", "sent")),
            )
            for name, found in parts.items()
        }

    def _stream(
        self,
        program: Program,
        chunks: Iterator[dict[str, NDArray[Any]]],
        rasters: Collection[str],
        stock: int | None,
        resume: Path | None,
        progress: Callable[[int], object] | None,
    ) -> Iterator[SpikeRecord]:
        """Yield the records of chunks in order. The caller's thread draws chunks and reports progress; one thread per worker waits."""
        begun = time.monotonic()
        events: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        stop = threading.Event()
        waiting: dict[int, SpikeRecord] = {}
        under_way: dict[int, int] = {}
        drawn = yielded = finished = 0
        exhausted = False
        job: _Job | None = None
        pool = ThreadPoolExecutor(self._size, thread_name_prefix="lava")

        def room() -> bool:
            """Whether to draw a chunk: one more than there are workers, so that none waits for the host; few wait for their turn."""
            return drawn - yielded - len(waiting) <= self._size and drawn - yielded <= 2 * self._size

        try:
            while not exhausted or yielded < drawn:
                while not exhausted and room():
                    start = time.monotonic()
                    chunk = next(chunks, None)
                    self._count(host=time.monotonic() - start)
                    if chunk is None:
                        exhausted = True
                        break
                    if job is None:
                        job = self._job(program, chunk, rasters, stock, resume)
                    pool.submit(self._chunk_in_thread, job, drawn, chunk, events, stop)
                    drawn += 1
                while yielded in waiting:
                    record = waiting.pop(yielded)
                    yielded += 1
                    yield record
                if yielded < drawn and (exhausted or not room()):
                    number, what = events.get()
                    if isinstance(what, BaseException):
                        raise what
                    if isinstance(what, SpikeRecord):
                        waiting[number] = what
                        under_way.pop(number, None)
                        finished += what.samples
                    else:
                        under_way[number] = what
                    if progress:
                        progress(finished + sum(under_way.values()))
            if job is not None and job.finished is not None:
                job.finished.clear()
        except BaseException:
            stop.set()
            for slot in self._slots:
                slot.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            if stop.is_set():
                for slot in self._slots:
                    slot.end(gently=False)
            self._count(passed=time.monotonic() - begun)

    def _job(
        self, program: Program, chunk: Samples, rasters: Collection[str], stock: int | None, resume: Path | None
    ) -> _Job:
        timesteps, samples = next(iter(chunk.values())).shape[:2]
        width = 1 if stock is None else best_width(program, samples, self._shared())
        network = Network(program, timesteps, width, batched=width > 1)
        made_by = f"{network.fingerprint} {worker_fingerprint()} {self.versions}"
        finished = FinishedChunks(resume, made_by, rasters) if resume else None
        return _Job(network, frozenset(rasters), stock or 0, finished)

    def _chunk_size(self, program: Program, timesteps: int, *, batched: bool, share: int | None = None) -> int:
        """Return how many samples a chunk should have; ``share``: what one worker gets of them, where that is known."""
        most = share or sys.maxsize
        width = best_width(program, most, self._shared()) if batched else 1
        if is_lagged(program):
            return width if batched else min(most, copies_at_most(program))
        sample_bytes = sum(8 * timesteps * int(np.prod(port.shape)) for port in program.inputs)
        idle = -(-program.depth // timesteps)  # rounds that a chunk waits at its end
        rounds = max(CHUNK_STEPS // timesteps, IDLE * idle, 1)
        rounds = min(rounds, max(1, CHUNK_BYTES // (sample_bytes * width)), -(-most // width))
        return rounds * width

    def _shared(self) -> int | None:
        """Return the bytes of shared memory that one worker's channels may take."""
        return None if self._shared_memory is None else int(self._shared_memory) // (2 * self._size)

    def _chunk_in_thread(
        self, job: _Job, number: int, chunk: Samples, events: queue.SimpleQueue[Any], stop: threading.Event
    ) -> None:
        """Put what comes of a chunk into ``events``: samples done so far, then its record, or what went wrong."""
        try:
            if stop.is_set():
                return
            record = job.finished.find(chunk) if job.finished is not None else None
            if record is None:
                record = self._with_worker(
                    lambda slot: self._compute(slot, job, number, chunk, lambda done: events.put((number, done)))
                )
                if job.finished is not None:
                    job.finished.keep(chunk, record)
            events.put((number, record))
        except BaseException as error:
            events.put((number, error))

    def _with_worker(self, work: Callable[[_Slot], Result]) -> Result:
        """Do ``work`` with a worker of its own; when it is lost, once more with a new one."""
        with self._lock:
            slot = self._idle.pop()
        try:
            for attempt in range(ATTEMPTS):
                try:
                    start = time.monotonic()
                    if slot.open(self._command, self._timeout_s):
                        self._count(start=time.monotonic() - start, lava=time.monotonic() - start)
                    return work(slot)
                except BaseException as error:
                    # What Lava refused it would refuse again; and a network that failed half-way is no ground to build on.
                    lost = isinstance(error, WorkerLost) and not slot.killed
                    slot.end(gently=False)
                    if not lost or attempt + 1 == ATTEMPTS:
                        raise
            raise AssertionError("every attempt returns or raises")
        finally:
            with self._lock:
                self._idle.append(slot)

    def _compute(
        self, slot: _Slot, job: _Job, number: int, chunk: Samples, tell: Callable[[int], object]
    ) -> SpikeRecord:
        network = job.network
        program = network.program
        sent = {port.name: encode(port, chunk[port.name], program.precision) for port in program.inputs}
        timesteps, samples = next(iter(sent.values())).shape[:2]
        if timesteps != network.timesteps:
            network = Network(program, timesteps, network.width, network.batched)
        begun, before = time.monotonic(), replace(slot.seconds)
        proof: list[int] = []
        expected: dict[str, NDArray[Any]] = {}
        if network.batched and number == 0 and job.stock:
            proof = [index * samples // job.stock for index in range(min(job.stock, samples))]
            own = Network(program, timesteps, len(proof) if is_lagged(program) else 1)
            taps = _run(
                slot,
                own,
                {name: values[:, proof] for name, values in sent.items()},
                set(),
                range(len(proof)),
                lambda done: None,
            )
            expected = {tap.layer.name: tap.proof() for tap in taps}
        elif not network.batched and is_lagged(program):
            network = Network(program, timesteps, samples)
        taps = _run(slot, network, sent, job.rasters, proof, tell)
        for tap in taps:
            if proof:
                require_equal(tap.layer, expected[tap.layer.name], tap.proof(), network.width)
        record = SpikeRecord(
            "lava",
            program.precision,
            timesteps,
            samples,
            {tap.layer.name: tap.activity() for tap in taps},
            {port.name: Activity.of_inputs(sent[port.name]) for port in program.inputs},
            len(proof) if network.batched else samples,
        )
        used = slot.seconds
        lava, transfer = used.lava - before.lava, used.transfer - before.transfer
        self._count(
            lava=lava,
            transfer=transfer,
            start=used.start - before.start,
            host=max(0.0, time.monotonic() - begun - lava - transfer),
        )
        return record

    def _count(self, **seconds: float) -> None:
        with self._lock:
            self.seconds = self.seconds + Seconds(**seconds)


@dataclass(frozen=True, eq=False)
class _Job:
    """What all chunks of a run have in common."""

    network: Network
    rasters: frozenset[str]
    stock: int
    finished: FinishedChunks | None


class _Slot:
    """The place of one worker, which may be replaced: the worker, and which network it runs."""

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.killed = False
        self.seconds = Seconds()
        self._network: Network | None = None
        self._steps = 0

    def open(self, command: list[str], timeout_s: float) -> bool:
        """Have a worker; return whether it had to be started."""
        if self.worker is not None:
            return False
        if self.killed:
            raise WorkerLost("the run was ended", "its workers are gone", "start it again")
        worker = Worker(command, timeout_s)
        if self.killed:
            worker.end()
            return self.open(command, timeout_s)
        self.worker = worker
        return True

    def kill(self) -> None:
        """End the worker from another thread; no other takes its place until `end`."""
        self.killed = True
        if (worker := self.worker) is not None:
            worker.kill()

    def end(self, gently: bool) -> None:
        """Have no worker, and nothing of it left."""
        worker, self.worker, self._network = self.worker, None, None
        if worker is not None:
            (worker.close if gently else worker.end)()
        self.killed = False

    def build(self, network: Network) -> None:
        """Have ``network`` running, at the start of a sample."""
        if self._network is network and not is_lagged(network.program):
            idle = network.idle(self._steps)  # go on, without input, to where a sample may begin
            for start in range(0, idle, network.rows):
                self.step(min(network.rows, idle - start), {})
            return
        self._network, self._steps = None, 0
        self.seconds.start += self.ask({"request": "build", "network": network.description}, network.arrays)[0][
            "seconds"
        ]
        self._network = network

    def step(self, steps: int, sent: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return what the layers send in some machine steps, (steps, size) each."""
        self._steps += steps
        return self.ask({"request": "step", "steps": steps}, sent)[1]

    def ask(
        self, header: dict[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the worker's reply, and count how long Lava and the way there took."""
        assert self.worker is not None
        start = time.monotonic()
        reply, results = self.worker.ask(header, dict(arrays))
        self.seconds.lava += reply["seconds"]
        self.seconds.transfer += max(0.0, time.monotonic() - start - reply["seconds"])
        return reply, results


def _run(
    slot: _Slot,
    network: Network,
    sent: Samples,
    rasters: Collection[str],
    proof: Sequence[int],
    tell: Callable[[int], object],
) -> list[Tap]:
    """Run samples through ``network``, in rounds, and return what its layers sent."""
    samples = next(iter(sent.values())).shape[1]
    slot.build(network)
    taps = [Tap(network, layer, samples, layer.name in rasters, proof) for layer in network.program.layers]
    total = network.steps(samples)
    for start in range(0, total, network.rows):
        steps = min(network.rows, total - start)
        results = slot.step(steps, network.feed(sent, start, steps))
        for tap in taps:
            tap.take(start, results[tap.layer.name])
        tell(min(samples, (start + steps) * network.width // network.timesteps))
    return taps


def _trace(slot: _Slot, network: Network, sent: Samples, neurons: Mapping[str, Sequence[int]]) -> dict[str, Trace]:
    """Return the traces of all samples of ``sent``, which stream through ``network``, or are one."""
    timesteps, samples = next(iter(sent.values())).shape[:2]
    slot.build(network)
    total = network.steps(samples)
    states: dict[str, list[NDArray[Any]]] = {name: [] for name in neurons}
    spikes: dict[str, list[NDArray[Any]]] = {name: [] for name in neurons}
    for start in range(0, total, network.rows):
        steps = min(network.rows, total - start)
        results = slot.step(steps, network.feed(sent, start, steps))
        for name, chosen in neurons.items():
            states[name].append(results[f"trace {name}"].reshape(steps, 2, -1))
            spikes[name].append(results[name][:, list(chosen)])
    found = {}
    for name, chosen in neurons.items():
        first = network.program.layer(name).depth
        rows = slice(first, first + timesteps * samples)
        state = np.concatenate(states[name])[rows].reshape(samples, timesteps, 2, -1).transpose(2, 1, 0, 3)
        sent_ = np.concatenate(spikes[name])[rows].reshape(samples, timesteps, -1).swapaxes(0, 1)
        found[name] = Trace(tuple(chosen), state[0], state[1], sent_)
    return found


def _regrouped(parts: Iterator[dict[str, NDArray[Any]]], size: int) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the samples of ``parts`` in chunks of ``size``; the last one may be smaller."""
    held: list[dict[str, NDArray[Any]]] = []
    count = 0
    for part in parts:
        held.append(part)
        count += next(iter(part.values())).shape[1]
        if count < size:
            continue
        joined = {
            name: np.concatenate([piece[name] for piece in held], axis=1) if held[1:] else part[name] for name in part
        }
        for first in range(0, count - size + 1, size):
            yield {name: values[:, first : first + size] for name, values in joined.items()}
        held = [{name: values[:, count - count % size :] for name, values in joined.items()}] if count % size else []
        count %= size
    if held:
        yield {name: np.concatenate([piece[name] for piece in held], axis=1) for name in held[0]}


def _of(progress: Progress, samples: int) -> Callable[[int], object]:
    return lambda done: progress(done, samples)
