"""The command line as a whole: its verbs, its speed, what it must not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from ashneuro import cli

VERBS = [
    "train",
    "evaluate",
    "sweep",
    "search",
    "check",
    "export",
    "simulate",
    "verify",
    "report",
    "profiles",
    "data",
    "doctor",
    "bench",
    "demo",
]


def test_the_verbs_are_these() -> None:
    """A new ability is an option or a sub-command; a new verb is a decision."""
    assert [verb for _, verb, _ in cli.VERBS] == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_how_it_is_used(verb: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "ashneuro", verb, "--help"], capture_output=True, text=True, check=True
    )
    assert f"ashneuro {verb}" in said.stdout


@pytest.mark.parametrize(
    "verb, promise",
    [("check", "Exit code 1 when one forbids it"), ("verify", "68 MB, once"), ("sweep", "share one folder")],
)
def test_a_verbs_own_page_says_all_about_it(verb: str, promise: str) -> None:
    page, verbs = (
        " ".join(
            subprocess.run(
                [sys.executable, "-m", "ashneuro", *words], capture_output=True, text=True, check=True
            ).stdout.split()
        )
        for words in ([verb, "--help"], ["--help"])
    )
    assert promise in page and "``" not in page
    assert promise not in verbs


def test_help_is_quick() -> None:
    """Half a second is the promise; the best of five keeps a busy machine from breaking it."""

    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ashneuro", "--help"], capture_output=True, check=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.5


@pytest.mark.parametrize("words", [["--help"], ["profiles"], ["profiles", "show", "loihi1"]])
def test_what_needs_no_torch_imports_none(words: list[str]) -> None:
    code = f"import sys; sys.argv = ['ashneuro', *{words!r}]\nfrom ashneuro.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules and 'norse' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize(
    "words", [["--help"], ["profiles", "show", "loihi1"], ["profiles", "show", "loihi1", "--json"]]
)
def test_prints_whatever_the_terminal_can_show(words: list[str]) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "ashneuro", *words],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    if "--json" in words:
        told = json.loads(said.stdout.decode("ascii"))
        assert "–" in json.dumps(told, ensure_ascii=False), "characters are kept"


@pytest.mark.parametrize("words", ["--help", "train --help", "profiles show loihi1"])
def test_an_output_that_nobody_reads_is_no_error(words: str) -> None:
    command = f"({sys.executable} -m ashneuro {words}; echo $? >&2) | true"
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert said.stderr == "0\n"


def test_a_closed_output_is_no_error() -> None:
    said = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m ashneuro profiles show loihi1 >&-"], capture_output=True, check=True
    )
    assert not said.stderr
