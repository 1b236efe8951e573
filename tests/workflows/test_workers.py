"""Processes of one command that divide the cores."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ashneuro.errors import ConfigError
from ashneuro.workflows import workers as module
from ashneuro.workflows.workers import workers

TELLS = (sys.executable, "-c", "import os, sys; print(os.environ['OMP_NUM_THREADS'], *sys.argv[1:])")
WAITS = (sys.executable, "-c", "import time; time.sleep(600)")


@pytest.mark.parametrize(("count", "each"), [(3, "2"), (8, "1")])
def test_workers_divide_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, each: str) -> None:
    monkeypatch.setattr(module, "reading_threads", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with workers(count, ["sweep", "a b"], tmp_path / "logs", TELLS) as others:
        assert [other.wait() for other in others] == [0] * (count - 1)
        assert os.environ["OMP_NUM_THREADS"] == each, "this process is one of them"
    assert "OMP_NUM_THREADS" not in os.environ
    logs = sorted((tmp_path / "logs").iterdir())
    assert [log.name for log in logs] == [f"worker-{number}.log" for number in range(2, count + 1)]
    assert {log.read_text() for log in logs} == {f"{each} sweep a b\n"}


def test_workers_end_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), workers(2, [], tmp_path, WAITS) as others:
        (other,) = others
        raise KeyboardInterrupt
    assert other.poll() is not None


def test_one_worker_is_this_process(tmp_path: Path) -> None:
    with workers(1, [], tmp_path) as others:
        assert not others
    with pytest.raises(ConfigError, match="--workers 0"), workers(0, [], tmp_path):
        pass
