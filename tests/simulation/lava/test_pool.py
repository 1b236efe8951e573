"""Workers that several commands start, without Lava."""

from __future__ import annotations

from typing import Any

import pytest

from ashneuro.errors import LavaError
from ashneuro.simulation.lava import pool
from ashneuro.simulation.lava.pool import Slot, WorkerPool


class FakeWorker:
    """A worker that starts nothing."""

    def __init__(self, command: list[str], timeout_s: float) -> None:
        self.command = command
        self.versions = {"lava-nc": "0.1" if command == ["ssh", "old"] else "0.10"}
        self.machine: dict[str, Any] = {"host": command[-1]}

    def close(self) -> None:
        """End it."""

    end = close


@pytest.fixture(autouse=True)
def fake_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "Worker", FakeWorker)


def test_commands_start_workers_in_turn() -> None:
    workers = WorkerPool(3, [["ssh", "a"], ["ssh", "b"]], 1.0)
    used: list[Slot] = []

    def work(slot: Slot) -> str:
        used.append(slot)
        return workers.run(work) if len(used) < 3 else "done"

    assert workers.run(work) == "done"
    assert sorted(slot.worker.command[-1] for slot in used if slot.worker) == ["a", "a", "b"]


def test_workers_of_other_versions_are_refused() -> None:
    workers = WorkerPool(2, [["ssh", "a"], ["ssh", "old"]], 1.0)
    workers.start()
    with pytest.raises(LavaError, match=r"old has lava-nc 0\.1; the first one has lava-nc 0\.10"):
        workers.run(lambda slot: None)  # the last slot goes first
    assert all(slot.worker is None for slot in workers.slots[1:])
