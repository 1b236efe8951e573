"""Chunks computed by several threads, and yielded in order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ashneuro.simulation.lava.layout import Samples
from ashneuro.simulation.record import SpikeRecord

# Computes chunk number n; calls back with the samples of it that are done.
Compute = Callable[[int, Samples, Callable[[int], object]], SpikeRecord]


def stream_chunks(
    chunks: Iterator[Samples],
    compute: Compute,
    threads: int,
    *,
    kill: Callable[[], object],
    progress: Callable[[int], object] | None = None,
) -> Iterator[SpikeRecord]:
    """Yield the record of every chunk, in order.

    The caller's thread draws chunks and reports progress; the other threads compute.

    Args:
        threads: number of chunks that are computed at once.
        kill: called when something failed, to end computations at once.
        progress: called with the samples done.
    """
    results: queue.SimpleQueue[tuple[int, SpikeRecord | int | BaseException]] = queue.SimpleQueue()
    stop = threading.Event()
    order = _Order(threads)
    exhausted = False
    pool = ThreadPoolExecutor(threads, thread_name_prefix="lava")

    # Errors travel through the queue like results, so that the caller's thread raises them.
    def work(number: int, chunk: Samples) -> None:
        if stop.is_set():
            return
        try:
            results.put((number, compute(number, chunk, lambda done: results.put((number, done)))))
        except BaseException as error:
            results.put((number, error))

    try:
        while not exhausted or order.pending:
            while not exhausted and order.has_room:
                chunk = next(chunks, None)
                exhausted = chunk is None
                if chunk is not None:
                    pool.submit(work, order.draw(), chunk)
            yield from order.ready()
            if order.pending and (exhausted or not order.has_room):
                order.take(*results.get())
                if progress:
                    progress(order.samples_done)
    except BaseException:
        stop.set()
        kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class _Order:
    """Chunks that were drawn and not yet yielded.

    Args:
        threads: number of chunks that are computed at once.
        records: of chunks that wait for their turn, by number.
        partly: samples done of chunks that are being computed, by number.
        drawn, yielded: number of chunks.
        samples: number of samples in finished chunks.
    """

    threads: int
    records: dict[int, SpikeRecord] = field(default_factory=dict)
    partly: dict[int, int] = field(default_factory=dict)
    drawn: int = 0
    yielded: int = 0
    samples: int = 0

    @property
    def pending(self) -> bool:
        """True if a chunk was drawn that was not yielded."""
        return self.yielded < self.drawn

    @property
    def has_room(self) -> bool:
        """True if another chunk should be drawn: one more than threads, so that none waits."""
        waiting = self.drawn - self.yielded
        return waiting - len(self.records) <= self.threads and waiting <= 2 * self.threads

    @property
    def samples_done(self) -> int:
        """Number of samples done, including those of unfinished chunks."""
        return self.samples + sum(self.partly.values())

    def draw(self) -> int:
        """Return the number of the next chunk."""
        self.drawn += 1
        return self.drawn - 1

    def take(self, number: int, result: SpikeRecord | int | BaseException) -> None:
        """Note the record of chunk ``number`` or the samples done in it; raise an error."""
        if isinstance(result, BaseException):
            raise result
        if isinstance(result, SpikeRecord):
            self.records[number] = result
            self.partly.pop(number, None)
            self.samples += result.samples
        else:
            self.partly[number] = result

    def ready(self) -> Iterator[SpikeRecord]:
        """Yield the records whose turn it is."""
        while (record := self.records.pop(self.yielded, None)) is not None:
            self.yielded += 1
            yield record
