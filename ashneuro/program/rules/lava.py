"""Limits of the machine that Lava runs on, as rules on programs.

Lava checks none of them: it hangs, or dies of a signal.

Measured with lava-nc 0.10.0 and channels of `CHANNEL` messages. Per layer with one synapse: 3
operating-system processes, 30 file descriptors of the process that starts them, and shared memory
for 4 messages of the layer's size.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Callable, Iterator, Mapping

from ashneuro.program.program import Program
from ashneuro.program.rules.finding import Violation

CHANNEL = 2  # messages that a channel holds; Lava's own default is 64
SHARED_MEMORY = "/dev/shm"
DESCRIPTORS, RUNTIME_DESCRIPTORS = 10, 25  # per channel, and of the runtime
RUNTIME_PROCESSES = 4
MANY_LAYERS = 100

LavaRule = Callable[[Program], Iterator[Violation]]
ELSEWHERE = "run Lava where there is more of it: --lava-command 'ssh HOST …' (docs/lava.md)"


def enough_processes(program: Program) -> Iterator[Violation]:
    """Lava runs every layer, synapse and sink as a process of its own."""
    needed, most = processes(program), _hard_limit(resource.RLIMIT_NPROC)
    if needed > most:
        remedy = f"ulimit -u {2 * needed}, or {ELSEWHERE}"
        yield Violation("graph", f"{needed} processes, at most {most} here", remedy, "note")


def enough_descriptors(program: Program) -> Iterator[Violation]:
    """The process that starts Lava keeps several files open per channel."""
    needed, most = DESCRIPTORS * channels(program) + RUNTIME_DESCRIPTORS, _hard_limit(resource.RLIMIT_NOFILE)
    if needed > most:
        remedy = f"ulimit -Hn {2 * needed} (as root), or {ELSEWHERE}"
        yield Violation("graph", f"{needed} open files, at most {most} here", remedy, "note")


def enough_shared_memory(program: Program) -> Iterator[Violation]:
    """Lava's messages lie in shared memory, all of it allocated when the network starts."""
    if not os.path.isdir(SHARED_MEMORY):
        return
    found = os.statvfs(SHARED_MEMORY)
    needed, free = channel_bytes(program), found.f_bavail * found.f_frsize
    if needed > free:
        actual = f"{needed / 1e6:.0f} MB for one sample, {free / 1e6:.0f} MB free in {SHARED_MEMORY}"
        size = f"{math.ceil(2 * needed / 1e6)}M"
        remedy = f"mount -o remount,size={size} {SHARED_MEMORY} (Docker: --shm-size={size}), or {ELSEWHERE}"
        yield Violation("graph", actual, remedy, "note")


def few_layers(program: Program) -> Iterator[Violation]:
    """A step of Lava takes about 0.5 ms per layer, and more the more processes it starts."""
    if len(program.layers) > MANY_LAYERS:
        actual = f"{len(program.layers)} layers, {processes(program)} processes"
        yield Violation(
            "graph", actual, "give it time: --lava-timeout SECONDS, 300 by default; or take fewer layers", "note"
        )


LAVA_RULES: Mapping[str, LavaRule] = {
    "lava_processes": enough_processes,
    "lava_open_files": enough_descriptors,
    "lava_shared_memory": enough_shared_memory,
    "lava_layers": few_layers,
}


def channels(program: Program) -> int:
    """Number of Lava's channels.

    Two per synapse, one per sink, one per current that enters neurons directly.
    """
    synapses = [connection.synapse is not None for _, connection in program.connections()]
    return len(program.layers) + sum(2 if synapse else 1 for synapse in synapses)


def processes(program: Program) -> int:
    """Number of operating-system processes that Lava starts."""
    synapses = sum(connection.synapse is not None for _, connection in program.connections())
    return 2 * len(program.layers) + synapses + len(program.inputs) + RUNTIME_PROCESSES


def channel_bytes(program: Program) -> int:
    """Shared memory of Lava's channels, in bytes per sample side by side."""
    sizes = {layer.name: layer.size for layer in program.layers} | {
        port.name: math.prod(port.shape) for port in program.inputs
    }
    values = 2 * sum(sizes.values())
    longest: dict[str, int] = {}
    for layer, connection in program.connections():
        if connection.synapse is not None:
            values += layer.size
            longest[connection.source] = max(connection.delay, longest.get(connection.source, 0))
    values += sum(6 * delay * sizes[name] for name, delay in longest.items())  # a shift register, and its readers
    return values * CHANNEL * (4 if program.precision == "integer" else 8)


def _hard_limit(limit: int) -> float:
    """Return the hard limit; inf without one.

    The worker raises its soft limit of files to the hard one, and a shell can do so for processes.
    """
    _, hard = resource.getrlimit(limit)
    return math.inf if hard == resource.RLIM_INFINITY else hard
