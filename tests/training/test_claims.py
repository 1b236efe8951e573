"""Claims on runs: exclusive, without locks, and free again when their process is gone."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ashneuro.errors import AshneuroError
from ashneuro.training import claims
from ashneuro.training.claims import STALE_S, Holder, claim

ELSEWHERE = {"process": os.getpid(), "host": "another", "space": "pid:[1]"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cells" / "base-0"


def leave(folder: Path, number: int = 1, age_s: float = STALE_S + 1) -> Path:
    """Write the claim of a process elsewhere that was touched ``age_s`` ago."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f"{folder.name}.claim-{number}")
    path.write_text(json.dumps(ELSEWHERE))
    touched = time.time() - age_s
    os.utime(path, (touched, touched))
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir())


def test_a_run_has_one_process_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with claim(folder) as first, claim(folder) as second, claim(folder.with_name("base-1")) as other:
        assert (first.holder, other.holder) == ("", "")
        assert second.holder.startswith(f"process {os.getpid()} on ")
        first.require()
    with pytest.raises(ZeroDivisionError), claim(folder) as third:
        assert third.holder == ""
        raise ZeroDivisionError
    assert files(folder) == [], "a run that failed is free, and leaves nothing"
    monkeypatch.setenv("WORLD_SIZE", "2")
    with claim(folder) as one, claim(folder) as two:
        assert (one.holder, two.holder) == ("", ""), "processes of torchrun share a run"


def test_claims_need_no_locks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    monkeypatch.setattr(fcntl, "lockf", fail)
    with claim(folder) as first, claim(folder) as second:
        assert first.holder == "" and second.holder


def test_a_killed_process_leaves_no_claim(folder: Path) -> None:
    code = "import sys, time; from pathlib import Path; from ashneuro.training.claims import claim\n"
    code += "with claim(Path(sys.argv[1])):\n    print('mine', flush=True)\n    time.sleep(60)\n"
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "mine\n"
        with claim(folder) as other:
            assert other.holder.startswith(f"process {process.pid} on ")
        process.send_signal(signal.SIGKILL)
    with claim(folder) as mine:
        assert mine.holder == ""
    assert files(folder) == []


def test_a_claim_that_nobody_touches_is_taken_over_once(folder: Path) -> None:
    leave(folder, age_s=STALE_S / 2)
    with claim(folder) as fresh:
        assert fresh.holder == f"process {os.getpid()} on another"
    leave(folder)
    with claim(folder) as first, claim(folder) as second:
        assert first.holder == "" and second.holder
    assert files(folder) == []


def test_age_is_told_by_the_clock_of_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(folder, age_s=0)
    monkeypatch.setattr(time, "time", lambda: 1e12)  # this machine's clock is wrong
    with claim(folder) as other:
        assert other.holder


def test_a_claim_without_content_is_taken_over_when_it_is_old(folder: Path) -> None:
    leave(folder, age_s=0).write_text("")  # being written
    with claim(folder) as other:
        assert other.holder == "another process"
    path = leave(folder)
    path.write_text("{")
    os.utime(path, (0, 0))
    with claim(folder) as mine:
        assert mine.holder == ""


def test_a_second_claim_at_the_same_time_is_given_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes have seen no claim, and one of them a number that is free by now."""
    with claim(folder) as first:
        assert first.holder == ""
        seen = claims._claims
        looks = iter([{1: leave(folder, 7)}])  # the first look is of earlier
        monkeypatch.setattr(claims, "_claims", lambda folder: next(looks, None) or seen(folder))
        with claim(folder) as second:
            assert second.holder.startswith("process ")
    monkeypatch.undo()


def test_the_holder_touches_its_claim_and_notices_a_loss(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 0.01)
    with claim(folder) as mine:
        path = folder.with_name("base-0.claim-1")
        os.utime(path, (0, 0))
        while path.stat().st_mtime == 0:
            time.sleep(0.01)
        mine.require()
        leave(folder, number=2, age_s=0)  # this process stood still, and another one took over
        with pytest.raises(AshneuroError, match="another process took this run over"):
            mine.require()
    assert files(folder) == ["base-0.claim-1", "base-0.claim-2"], "what belongs to the other one stays"


def test_a_process_of_another_container_is_not_taken_for_a_dead_one() -> None:
    here = Holder.here()
    assert not here.is_gone
    dead = subprocess.Popen(["true"])
    dead.wait()
    assert Holder(dead.pid, here.host, here.space).is_gone
    assert not Holder(dead.pid, here.host, "pid:[1]").is_gone
    assert not Holder(dead.pid, "another", here.space).is_gone
