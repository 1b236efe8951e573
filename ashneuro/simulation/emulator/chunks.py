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
    run: Callable[[Chunk], SpikeRecord],
    inputs: Chunk,
    *,
    library: Arrays,
    widest: int,
    progress: Progress | None = None,
) -> SpikeRecord:
    """Return the record of all samples of ``inputs`` (T, B, *shape).

    Chunks run side by side, each on one core: a single step is too little work to be shared among
    threads, which would mostly wait for each other.

    Args:
        run: computes one chunk; called from several threads.
        widest: elements of the largest array that one sample needs in one step.
        progress: called with (samples done, samples in all).
    """
    timesteps, samples = next(iter(inputs.values())).shape[:2]
    size = max(1, min(library.batch, library.patches // (timesteps * widest)))
    chunks = [
        {name: values[:, first : first + size] for name, values in inputs.items()} for first in range(0, samples, size)
    ]
    records: list[SpikeRecord] = []
    with library.single_threaded() as cores, ThreadPoolExecutor(min(cores, len(chunks))) as pool:
        try:
            for done in pool.map(run, chunks):
                records.append(done)
                if progress:
                    progress(sum(record.samples for record in records), samples)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return SpikeRecord.joined(records)
