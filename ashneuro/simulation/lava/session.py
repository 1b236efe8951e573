"""Lava as a simulator of programs: workers that share samples, whose answers come back in order.

A step takes Lava as long for one sample as for a hundred side by side, so beyond a few samples the
synapses are batched (`ashneuro.lava_worker.batched`). Of every such run, some samples go through
Lava's own processes first, and both have to answer the same (`ashneuro.simulation.lava.stock`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

from ashneuro.errors import ConfigError
from ashneuro.program.program import Program
from ashneuro.simulation.inputs import Inputs, Progress, check_inputs
from ashneuro.simulation.lava.execute import Trace, encode_all, run_chunk, trace_samples
from ashneuro.simulation.lava.layout import Samples, best_width, chunk_size, is_lagged, regroup
from ashneuro.simulation.lava.network import LavaNetwork
from ashneuro.simulation.lava.pool import Seconds, Slot, WorkerPool
from ashneuro.simulation.lava.resume import FinishedChunks
from ashneuro.simulation.lava.stock import RUN_STOCK, require_stock
from ashneuro.simulation.lava.stream import stream_chunks
from ashneuro.simulation.lava.worker import Health, worker_command, worker_fingerprint
from ashneuro.simulation.record import SpikeRecord

MOST_WORKERS = 1024


class Lava:
    """Lava on one or several worker processes; a context manager. Programs run one after another.

    Args:
        workers: number of workers that share the samples; each has a process per layer and synapse.
        command: command line that starts a worker, e.g.
            ``"ssh host python3.10 lava_worker/worker.py"``, or several, which workers take in turn,
            at least one each; default: with `find_interpreter`.
        timeout_s: longest wait for one reply: for a network to be built, or for some dozen steps.

    Attributes:
        versions: of Python, lava-nc, numpy and scipy in the worker.

    Raises:
        ConfigError: no workers, no time, or a command that cannot be split.
        LavaError: no interpreter was found, or it cannot import Lava, or runs another version.
    """

    def __init__(self, workers: int = 1, command: str | Sequence[str] | None = None, timeout_s: float = 300.0) -> None:
        if not 1 <= workers <= MOST_WORKERS:
            raise ConfigError(f"--workers {workers}", f"1 to {MOST_WORKERS:,} workers run Lava", "--workers 1")
        if not timeout_s > 0:
            raise ConfigError(f"--lava-timeout {timeout_s:g}", "a reply takes some time", "--lava-timeout 300")
        self.versions: dict[str, str] = {}
        several = () if command is None or isinstance(command, str) else command
        commands: list[str | None] = [*several] or [command if isinstance(command, str) else None]
        self._workers = max(workers, len(commands))
        self._pool = WorkerPool(self._workers, [worker_command(text) for text in commands], timeout_s)
        self._shared_memory: int | None = None  # bytes for the channels of one worker

    def __enter__(self) -> Self:
        worker = self._pool.start()
        self.versions = worker.versions
        if (free := worker.machine["shared_memory"]) is not None:
            self._shared_memory = int(free) // (2 * self._workers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._pool.kill()
        self._pool.end(gently=kind is None)

    @property
    def seconds(self) -> Seconds:
        """Time spent in all runs."""
        return self._pool.seconds

    def health(self) -> list[Health]:
        """Return the state of every worker that was started.

        Raises:
            WorkerLost: one of them does not answer.
        """
        return self._pool.health()

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
        """Return the activity of every layer, computed by Lava in the program's precision.

        Args:
            program: float (Lava's ``floating_pt``) or integer (``fixed_pt``).
            inputs: (T, B, *shape), see `check_inputs`.
            rasters: layers whose raster the record keeps; read-outs always keep it.
            stock: number of samples for Lava's own processes, ``None`` for all; the others run
                through batched synapses.
            resume: folder for finished chunks, from which a later run of the same samples goes on.
            progress: called with (samples done, samples in all).

        Raises:
            DataError: the inputs do not fit.
            LavaError: Lava failed or took too long, or batched synapses sent other values than its
                own.
        """
        require_stock(stock)
        checked = check_inputs(program.inputs, program.timesteps, inputs)
        timesteps, samples = next(iter(checked.values())).shape[:2]
        batched = stock is not None and samples > stock
        size = self._chunk_size(program, timesteps, batched, share=-(-samples // self._workers))
        chunks = (
            {name: values[:, first : first + size] for name, values in checked.items()}
            for first in range(0, samples, size)
        )
        records = self._stream(
            program,
            chunks,
            rasters,
            stock if batched else None,
            resume if samples > size else None,
            progress and (lambda done: progress(done, samples)),
        )
        return SpikeRecord.joined(list(records))

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
        """Yield records of all samples, in order. While Lava runs some, the next ones are drawn.

        Args:
            parts: (T, b, *shape) each, of any b; few are in memory at once. A record may be of
                several parts, or of a piece of one.
            progress: called with the samples done.

        Other arguments and errors as `run`.
        """
        require_stock(stock)
        checked = (check_inputs(program.inputs, program.timesteps, part) for part in parts)
        first = next(checked, None)
        if first is not None:
            size = self._chunk_size(program, len(next(iter(first.values()))), stock is not None)
            chunks = regroup(chain([first], checked), size)
            yield from self._stream(program, chunks, rasters, stock, resume, progress)

    def trace(self, program: Program, inputs: Inputs, neurons: Mapping[str, Sequence[int]]) -> dict[str, Trace]:
        """Return u, v and the answers of single neurons, from Lava's own processes.

        Args:
            neurons: flat indices, by layer.

        Raises:
            DataError, LavaError: as `run`.
        """
        sent = encode_all(program, check_inputs(program.inputs, program.timesteps, inputs))
        samples = next(iter(sent.values())).shape[1]
        size = 1 if is_lagged(program) else samples
        parts = []
        for first in range(0, samples, size):
            part = {name: values[:, first : first + size] for name, values in sent.items()}
            parts.append(self._pool.run(partial(trace_samples, program=program, sent=part, neurons=neurons)))
        return {name: Trace.joined([part[name] for part in parts]) for name in neurons}

    def _stream(
        self,
        program: Program,
        chunks: Iterator[Samples],
        rasters: Collection[str],
        stock: int | None,
        resume: Path | None,
        progress: Callable[[int], object] | None,
    ) -> Iterator[SpikeRecord]:
        begun = time.monotonic()
        chunks = self._drawn(chunks)
        try:
            first = next(chunks)  # how long its samples are decides the network
            network = self._network(program, first, batched=stock is not None)
            finished = self._finished(network, resume, rasters)

            def compute(number: int, chunk: Samples, tell: Callable[[int], object]) -> SpikeRecord:
                record = finished.find(chunk) if finished else None
                if record is None:
                    # Batched and own processes are compared once per run, on the first chunk.
                    compared = stock or 0 if number == 0 else 0
                    record = self._run_chunk(network, chunk, rasters, compared, tell)
                    if finished:
                        finished.keep(chunk, record)
                return record

            yield from stream_chunks(
                chain([first], chunks), compute, self._workers, kill=self._pool.kill, progress=progress
            )
            if finished:
                finished.clear()
        except BaseException:
            self._pool.end(gently=False)
            raise
        finally:
            self._pool.count(Seconds(passed=time.monotonic() - begun))

    def _drawn(self, chunks: Iterator[Samples]) -> Iterator[Samples]:
        """Yield the chunks, and count the time that it takes to prepare them."""
        while True:
            start = time.monotonic()
            chunk = next(chunks, None)
            self._pool.count(Seconds(host=time.monotonic() - start))
            if chunk is None:
                return
            yield chunk

    def _network(self, program: Program, chunk: Samples, *, batched: bool) -> LavaNetwork:
        timesteps, samples = next(iter(chunk.values())).shape[:2]
        width = best_width(program, samples, self._shared_memory) if batched else 1
        return LavaNetwork(program, timesteps, width, batched=width > 1)

    def _finished(self, network: LavaNetwork, folder: Path | None, rasters: Collection[str]) -> FinishedChunks | None:
        if folder is None:
            return None
        return FinishedChunks(folder, f"{network.fingerprint} {worker_fingerprint()} {self.versions}", rasters)

    def _run_chunk(
        self,
        network: LavaNetwork,
        chunk: Samples,
        rasters: Collection[str],
        stock: int,
        tell: Callable[[int], object],
    ) -> SpikeRecord:
        def work(slot: Slot) -> SpikeRecord:
            with self._pool.counted(slot):
                return run_chunk(slot, network, chunk, rasters, stock, tell)

        return self._pool.run(work)

    def _chunk_size(self, program: Program, timesteps: int, batched: bool, share: int | None = None) -> int:
        return chunk_size(program, timesteps, batched=batched, shared_memory=self._shared_memory, share=share)
