"""What Lava needs of the machine that it runs on, as rules on programs. Lava checks none of it: it hangs, or dies of a signal.

Measured with lava-nc 0.10.0, with each channel held to `CHANNEL` messages: per layer with one synapse 3 operating-system
processes, 30 file descriptors of the process that starts them, and shared memory for 4 messages of the layer's size.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Callable, Iterator, Mapping

from ashneuro.program.program import Program
from ashneuro.program.rules.graph import Trouble

CHANNEL = 2  # messages that a channel holds; Lava's own default is 64
SHARED_MEMORY = "/dev/shm"
DESCRIPTORS, RUNTIME_DESCRIPTORS = 10, 25  # per channel, and of the runtime
RUNTIME_PROCESSES = 4
MANY_LAYERS = 100

ElsewhereRule = Callable[[Program], Iterator[Trouble]]
ELSEWHERE = "run Lava where there is more of it: --lava-command 'ssh HOST …' (docs/lava.md)"


def enough_processes(program: Program) -> Iterator[Trouble]:
    """Lava runs every layer, synapse and sink as a process of its own."""
    needed, most = processes(program), _soft_or_hard(resource.RLIMIT_NPROC)
    if needed > most:
        yield Trouble(
            "graph", f"{needed} processes, at most {most} here", f"ulimit -u {2 * needed}, or {ELSEWHERE}", "note"
        )


def enough_descriptors(program: Program) -> Iterator[Trouble]:
    """The process that starts Lava keeps several files open for every channel."""
    needed, most = DESCRIPTORS * channels(program) + RUNTIME_DESCRIPTORS, _soft_or_hard(resource.RLIMIT_NOFILE)
    if needed > most:
        yield Trouble(
            "graph",
            f"{needed} open files, at most {most} here",
            f"raise the hard limit (ulimit -Hn), or {ELSEWHERE}",
            "note",
        )


def enough_shared_memory(program: Program) -> Iterator[Trouble]:
    """Lava's processes pass what they send through shared memory, which is all taken when the network starts."""
    if not os.path.isdir(SHARED_MEMORY):
        return
    found = os.statvfs(SHARED_MEMORY)
    needed, free = channel_bytes(program), found.f_bavail * found.f_frsize
    if needed > free:
        actual = f"{needed / 1e6:.0f} MB for one sample, {free / 1e6:.0f} MB free in {SHARED_MEMORY}"
        yield Trouble(
            "graph", actual, f"mount -o remount,size=… {SHARED_MEMORY} (Docker: --shm-size), or {ELSEWHERE}", "note"
        )


def few_layers(program: Program) -> Iterator[Trouble]:
    """A step of Lava takes about half a millisecond per layer, and more with every process that waits for another."""
    if len(program.layers) > MANY_LAYERS:
        yield Trouble(
            "graph",
            f"{len(program.layers)} layers, {processes(program)} processes",
            "--lava-timeout above its default of 300 s",
            "note",
        )


LAVA_RULES: Mapping[str, ElsewhereRule] = {
    "lava_processes": enough_processes,
    "lava_open_files": enough_descriptors,
    "lava_shared_memory": enough_shared_memory,
    "lava_layers": few_layers,
}


def channels(program: Program) -> int:
    """Return how many channels Lava makes: two per synapse, one per sink, one per current that enters neurons directly."""
    synapses = [connection.synapse is not None for _, connection in program.connections()]
    return len(program.layers) + sum(2 if synapse else 1 for synapse in synapses)


def processes(program: Program) -> int:
    """Return how many operating-system processes Lava starts."""
    synapses = sum(connection.synapse is not None for _, connection in program.connections())
    return 2 * len(program.layers) + synapses + len(program.inputs) + RUNTIME_PROCESSES


def channel_bytes(program: Program) -> int:
    """Return how much shared memory Lava's channels need per sample side by side."""
    sizes = {layer.name: layer.size for layer in program.layers} | {
        port.name: math.prod(port.shape) for port in program.inputs
    }
    values = 2 * sum(sizes.values())
    longest: dict[str, int] = {}
    for layer, connection in program.connections():
        if connection.synapse is not None:
            values += layer.size
            longest[connection.source] = max(connection.delay, longest.get(connection.source, 0))
    values += sum(6 * delay * sizes[name] for name, delay in longest.items())  # a shift register, and what hears it
    return values * CHANNEL * (4 if program.precision == "integer" else 8)


def _soft_or_hard(limit: int) -> float:
    """Return the hard limit, which the worker takes for files, and a shell gives for processes; infinity where there is none."""
    _, hard = resource.getrlimit(limit)
    return math.inf if hard == resource.RLIM_INFINITY else hard
