"""The workers of one session: each in a slot, replaced when it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from numpy.typing import NDArray

from ashneuro.errors import LavaError
from ashneuro.lava_worker.frames import Arrays, Header
from ashneuro.simulation.lava.layout import is_lagged
from ashneuro.simulation.lava.network import LavaNetwork
from ashneuro.simulation.lava.worker import Health, Worker, WorkerLost

ATTEMPTS = 2  # workers that one piece of work is given to, if the first one is lost

Result = TypeVar("Result")


@dataclass(frozen=True)
class Seconds:
    """Time spent in runs. Times of several workers add up, to more than what passed on the clock.

    Args:
        host: preparing inputs and reading answers.
        transfer: between host and workers.
        lava: Lava itself, including starts.
        start: starting workers and building networks; part of ``lava``.
        passed: on the clock.
    """

    host: float = 0.0
    transfer: float = 0.0
    lava: float = 0.0
    start: float = 0.0
    passed: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(*(ours + theirs for ours, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))


class Slot:
    """Place of one worker, with the network that it runs.

    Args:
        command: starts the worker.
        timeout_s: longest wait for one reply.

    Attributes:
        worker: ``None`` until it is started, and after its end.
        killed: the run was ended from another thread; no worker is started until `end`.
        seconds: spent by the workers of this slot.
    """

    def __init__(self, command: list[str], timeout_s: float) -> None:
        self._command, self._timeout_s = command, timeout_s
        self.worker: Worker | None = None
        self.killed = False
        self.seconds = Seconds()
        self._network: LavaNetwork | None = None
        self._steps = 0

    def open(self) -> bool:
        """Start a worker unless there is one; return True if it was started."""
        if self.worker is not None:
            return False
        if self.killed:
            raise WorkerLost("the run was ended", "its workers are gone", "start it again")
        worker = Worker(self._command, self._timeout_s)
        if self.killed:  # while it started
            worker.end()
            return self.open()
        self.worker = worker
        return True

    def kill(self) -> None:
        """End the worker from another thread."""
        self.killed = True
        if (worker := self.worker) is not None:
            worker.kill()

    def end(self, gently: bool) -> None:
        """Leave nothing of the worker; ``gently``: it ends itself first."""
        worker, self.worker, self._network = self.worker, None, None
        if worker is not None:
            (worker.close if gently else worker.end)()
        self.killed = False

    def build(self, network: LavaNetwork) -> None:
        """Build ``network``, or bring the one that runs already to the start of a sample."""
        if self._network is network and not is_lagged(network.program):
            idle = network.idle_steps(self._steps)
            for start in range(0, idle, network.request_steps):
                self.step(min(network.request_steps, idle - start), {})
            return
        self._network, self._steps = None, 0
        description = network.description
        reply, _ = self._ask({"request": "build", "network": description.header}, description.arrays)
        self.seconds += Seconds(start=reply["seconds"])
        self._network = network

    def step(self, steps: int, sent: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the values (steps, size) that each layer sends in the next machine steps."""
        self._steps += steps
        return self._ask({"request": "step", "steps": steps}, sent)[1]

    def _ask(self, header: Header, arrays: Mapping[str, NDArray[Any]]) -> tuple[Header, Arrays]:
        assert self.worker is not None
        start = time.monotonic()
        reply, results = self.worker.ask(header, dict(arrays))
        lava = reply["seconds"]
        self.seconds += Seconds(lava=lava, transfer=max(0.0, time.monotonic() - start - lava))
        return reply, results


class WorkerPool:
    """A fixed number of slots that threads take turns in.

    Args:
        size: number of slots; workers start when they are needed.
        commands: each starts workers; slots take them in turn.
        timeout_s: longest wait for one reply.

    Attributes:
        slots: all of them.
        seconds: spent in all runs.
    """

    def __init__(self, size: int, commands: Sequence[list[str]], timeout_s: float) -> None:
        self.slots = tuple(Slot(commands[number % len(commands)], timeout_s) for number in range(size))
        self.seconds = Seconds()
        self._versions: dict[str, str] = {}
        self._idle = list(self.slots)
        self._lock = threading.Lock()

    def start(self) -> Worker:
        """Start the first worker and return it."""
        slot = self.slots[0]
        slot.open()
        assert slot.worker is not None
        self._versions = slot.worker.versions
        return slot.worker

    def _require_same(self, worker: Worker | None) -> None:
        """Raise `LavaError` if a worker computes with other packages than the first one."""
        if worker is None or not self._versions or worker.versions == self._versions:
            return
        found = ", ".join(f"{name} {version}" for name, version in worker.versions.items())
        first = ", ".join(f"{name} {version}" for name, version in self._versions.items())
        raise LavaError(
            "workers of one run have different versions",
            f"{worker.machine.get('host', 'one')} has {found}; the first one has {first}",
            "install the same versions on all hosts (docs/lava.md)",
        )

    def health(self) -> list[Health]:
        """Return the state of every worker that was started."""
        return [slot.worker.health() for slot in self.slots if slot.worker is not None]

    def run(self, work: Callable[[Slot], Result]) -> Result:
        """Return the result of ``work`` with a free slot; if its worker is lost, with a new one."""
        with self._lock:
            slot = self._idle.pop()
        try:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    start = time.monotonic()
                    if slot.open():
                        self._require_same(slot.worker)
                        seconds = time.monotonic() - start
                        self.count(Seconds(start=seconds, lava=seconds))
                    return work(slot)
                except BaseException as error:
                    # What Lava refused, it would refuse again. In any case the worker is ended: its
                    # network may have stopped half-way.
                    lost = isinstance(error, WorkerLost) and not slot.killed
                    slot.end(gently=False)
                    if not lost or attempt == ATTEMPTS:
                        raise
            raise AssertionError("every attempt returns or raises")
        finally:
            with self._lock:
                self._idle.append(slot)

    def kill(self) -> None:
        """End all workers at once, from any thread; `end` has to follow."""
        for slot in self.slots:
            slot.kill()

    def end(self, gently: bool) -> None:
        """Leave nothing of any worker; ``gently``: each ends itself first."""
        for slot in self.slots:
            slot.end(gently)

    def count(self, seconds: Seconds) -> None:
        """Add to ``seconds``."""
        with self._lock:
            self.seconds += seconds

    @contextmanager
    def counted(self, slot: Slot) -> Iterator[None]:
        """Add the time of the block, unless it fails; the host's is what the slot did not spend."""
        begun, before = time.monotonic(), slot.seconds
        yield
        lava, transfer = slot.seconds.lava - before.lava, slot.seconds.transfer - before.transfer
        host = max(0.0, time.monotonic() - begun - lava - transfer)
        self.count(Seconds(host, transfer, lava, slot.seconds.start - before.start))
