"""Cores that a process may use, and how many threads it starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ashneuro.cores import SPINS, reading_threads, share_cores, usable_cores


@pytest.fixture(autouse=True)
def big_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 64),
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "9900000 100000"}, 64),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_quotas_of_containers_count(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == cores
    environ: dict[str, str] = {}
    share_cores(environ, groups=tmp_path)
    assert environ.get("OMP_NUM_THREADS") == (str(cores) if cores < 64 else None)


def test_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 9}, raising=False)
    assert usable_cores(tmp_path) == 3


def test_processes_divide_the_cores_and_soon_wait_asleep(tmp_path: Path) -> None:
    for processes, threads in ((4, "16"), (48, "1"), (100, "1")):
        share_cores(environ := {}, processes, tmp_path)
        waiting = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": str(SPINS), "KMP_BLOCKTIME": "0"}
        assert environ == {**waiting, "OMP_NUM_THREADS": threads}
    asked = {"OMP_WAIT_POLICY": "ACTIVE", "KMP_BLOCKTIME": "200", "OMP_NUM_THREADS": "8"}
    share_cores(found := dict(asked), 4, tmp_path)
    assert found == asked


@pytest.mark.parametrize(
    ("asked", "processes", "threads"), [("", "1", 64), ("4", "1", 4), ("99", "1", 64), ("4,2", "1", 64), ("1", "8", 64)]
)
def test_threads_that_decode(monkeypatch: pytest.MonkeyPatch, asked: str, processes: str, threads: int) -> None:
    monkeypatch.setattr("ashneuro.cores._quotas", lambda groups: ())
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert reading_threads() == threads
