"""The command line as a whole: commands, help, speed, imports and output streams."""

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


def test_list_of_commands() -> None:
    """The list is closed: a new ability becomes an option or a sub-command."""
    assert [verb for _, verb, _ in cli.VERBS] == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_command(verb: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ashneuro", verb, "--help"], capture_output=True, text=True, check=True
    )
    assert f"ashneuro {verb}" in result.stdout


@pytest.mark.parametrize(
    "verb, promise",
    [("check", "Exit code 1 when one forbids it"), ("verify", "68 MB, once"), ("sweep", "share one folder")],
)
def test_help_page_has_the_full_docstring(verb: str, promise: str) -> None:
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


def test_help_takes_half_a_second() -> None:
    # The best of five, because other processes may slow one down.

    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ashneuro", "--help"], capture_output=True, check=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.5


@pytest.mark.parametrize("words", [["--help"], ["profiles"], ["profiles", "show", "loihi1"]])
def test_light_commands_do_not_import_torch(words: list[str]) -> None:
    code = f"import sys; sys.argv = ['ashneuro', *{words!r}]\nfrom ashneuro.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules and 'norse' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize(
    "words", [["--help"], ["profiles", "show", "loihi1"], ["profiles", "show", "loihi1", "--json"]]
)
def test_output_in_ascii(words: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ashneuro", *words],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    if "--json" in words:
        content = json.loads(result.stdout.decode("ascii"))
        assert "–" in json.dumps(content, ensure_ascii=False), "characters are kept"


@pytest.mark.parametrize("words", ["--help", "train --help", "profiles show loihi1"])
def test_broken_pipe_exits_with_0(words: str) -> None:
    command = f"({sys.executable} -m ashneuro {words}; echo $? >&2) | true"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert result.stderr == "0\n"


def test_closed_stdout_exits_with_0() -> None:
    result = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m ashneuro profiles show loihi1 >&-"], capture_output=True, check=True
    )
    assert not result.stderr
