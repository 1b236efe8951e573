"""Simulation of many samples in chunks that fit the cache, one chunk per core at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

from ashneuro.simulation.emulator.arrays import Arrays
from ashneuro.simulation.inputs import Progress
from ashneuro.simulation.record import SpikeRecord

Chunk = Mapping[str, NDArray[Any]]


def run_chunks(
    run: Callable[[Chunk, Chunk], SpikeRecord],
    inputs: Chunk,
    kept: Chunk,
    *,
    library: Arrays,
    widest: int,
    progress: Progress | None = None,
) -> SpikeRecord:
    """Return the record of all samples of ``inputs`` (T, B, *shape).

    Chunks run side by side, each on one core: a single step is too little work to be shared among
    threads, which would mostly wait for each other.

    Args:
        run: computes one chunk, from its samples of ``inputs`` and ``kept``; called from several
            threads.
        kept: arrays (T, B, ...) for ``run`` to write to.
        widest: elements of the largest array that one sample needs in one step.
        progress: called with (samples done, samples in all).
    """
    timesteps, samples = next(iter(inputs.values())).shape[:2]
    records: list[SpikeRecord] = []
    with library.single_threaded() as cores:
        # Smaller chunks keep more cores busy; below half a batch the calls take too long.
        share = max(library.batch // 2, -(-samples // cores))
        size = max(1, min(library.batch, share, library.patches // (timesteps * widest)))
        parts = [slice(first, first + size) for first in range(0, samples, size)]
        chunks, into = (
            [{name: values[:, part] for name, values in arrays.items()} for part in parts] for arrays in (inputs, kept)
        )
        threads = min(cores, len(chunks))
        # One thread is this one, whose core has the caches.
        pool = ThreadPoolExecutor(threads) if threads > 1 else None
        try:
            for done in (pool.map if pool else map)(run, chunks, into):
                records.append(done)
                if progress:
                    progress(sum(record.samples for record in records), samples)
        finally:
            if pool:
                pool.shutdown(cancel_futures=True)
    return SpikeRecord.joined(records)
