"""Malformed inputs in forked processes: the classification itself, a sample, and all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.cases import TARGETS, all_cases, sample
from tests.fuzz.runner import Ended, Outcome, classify

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("code", "text", "must", "outcome"),
    [
        (2, "error: x", "refuse", Outcome.ERROR),
        (0, "", "any", Outcome.FINE),
        (0, "", "refuse", Outcome.ACCEPTED),
        (2, "error: x", "go on", Outcome.STOPPED),
        (71, "Traceback (most recent call last)", "any", Outcome.TRACEBACK),
        (-11, "", "any", Outcome.TRACEBACK),
        (4, "error: this is a fault of ashneuro", "any", Outcome.TRACEBACK),
        (2, "Unable to allocate 931. GiB: MemoryError", "refuse", Outcome.MEMORY),
    ],
)
def test_outcomes(code: int, text: str, must: str, outcome: Outcome, tmp_path: Path) -> None:
    assert classify(Ended(code, text, 0.0, 0, False), must, tmp_path) is outcome
    assert classify(Ended(code, text, 0.0, 0, True), must, tmp_path) is Outcome.HANG
    (tmp_path / "EXECUTED").mkdir()
    assert classify(Ended(code, text, 0.0, 0, False), must, tmp_path) is Outcome.EXECUTED


def test_there_are_cases_of_every_file() -> None:
    cases = all_cases()
    assert len(cases) >= 3_400 and len({case.name for case in cases}) == len(cases)
    assert {case.target.kind for case in sample(200)} >= {target.kind for target in TARGETS}


def run(*words: str) -> None:
    # A process of its own: a fork of this one would have the threads of other tests.
    done = subprocess.run([sys.executable, "-m", "tests.fuzz", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_no_malformed_input_is_a_traceback_a_hang_or_accepted(tmp_path: Path) -> None:
    run("--out", str(tmp_path / "reliability.md"))
