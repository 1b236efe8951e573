"""Layout of samples in Lava: how many side by side, how many per chunk.

Beyond a few samples, batched synapses serve many of them side by side; a chunk is what one worker
gets at once. In a feed-forward network the rounds of a chunk stream back to back. In a lagged one
the last spikes of a sample would arrive in the next, so there a chunk is a single round.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from ashneuro.program.program import Program
from ashneuro.program.rules.lava import channel_bytes

Samples = Mapping[str, NDArray[np.generic]]

WIDTH = 256  # largest number of samples side by side: from here on a step costs in proportion
MESSAGE_VALUES = 1 << 19  # largest message: from here on a message costs in proportion
COPIED_WEIGHTS = 4_000_000  # largest number of weights in a network of side-by-side copies
CHUNK_STEPS = 64  # machine steps per chunk; more in deep networks, whose chunks end with idle steps
CHUNK_BYTES = 1 << 28  # of a chunk's encoded inputs
ROUNDS_PER_IDLE = 6  # smallest ratio of a chunk's rounds to the idle ones at its end


def is_lagged(program: Program) -> bool:
    """Return True if spikes of a sample can arrive in the next one: loops and axonal delays."""
    return any(program.lag(layer, connection) for layer, connection in program.connections())


def best_width(program: Program, samples: int, shared_memory: int | None) -> int:
    """Return the number of samples that batched synapses should serve at once.

    Args:
        shared_memory: bytes available for Lava's channels; ``None`` if there is no such limit.
    """
    widest = max([layer.size for layer in program.layers] + [int(np.prod(port.shape)) for port in program.inputs])
    width = min(WIDTH, samples, max(1, MESSAGE_VALUES // widest))
    if shared_memory is not None:
        width = min(width, shared_memory // channel_bytes(program))
    return max(1, width)


def chunk_size(
    program: Program, timesteps: int, *, batched: bool, shared_memory: int | None, share: int | None = None
) -> int:
    """Return the number of samples per chunk.

    Args:
        share: number of samples per worker, if known; a larger chunk would leave workers idle.
    """
    most = share or sys.maxsize
    width = best_width(program, most, shared_memory) if batched else 1
    if is_lagged(program):
        return width if batched else min(most, _most_copies(program))
    sample_bytes = sum(8 * timesteps * int(np.prod(port.shape)) for port in program.inputs)
    idle = -(-program.depth // timesteps)  # rounds until the last layer has answered
    rounds = max(CHUNK_STEPS // timesteps, ROUNDS_PER_IDLE * idle, 1)
    rounds = min(rounds, max(1, CHUNK_BYTES // (sample_bytes * width)), -(-most // width))
    return rounds * width


def regroup(parts: Iterator[Samples], size: int) -> Iterator[Samples]:
    """Yield the samples of ``parts`` in chunks of ``size``; the last one may be smaller."""
    held: list[Samples] = []
    count = 0
    for part in parts:
        held.append(part)
        count += next(iter(part.values())).shape[1]
        if count < size:
            continue
        joined = _joined(held)
        whole = count - count % size
        for first in range(0, whole, size):
            yield {name: values[:, first : first + size] for name, values in joined.items()}
        held = [{name: values[:, whole:] for name, values in joined.items()}] if count % size else []
        count %= size
    if held:
        yield _joined(held)


def _joined(parts: list[Samples]) -> Samples:
    if len(parts) == 1:
        return parts[0]  # without a copy
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


def _most_copies(program: Program) -> int:
    weights = sum(connection.synapse.weight.size for _, connection in program.connections() if connection.synapse)
    return max(1, COPIED_WEIGHTS // max(1, weights))
