"""The interpreter that has SANA-FE.

SANA-FE is under the GPL. It is never imported here: it runs in a process of its own, like Lava.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ashneuro.config import cache_dir
from ashneuro.errors import MissingDependency
from ashneuro.simulation.interpreters import clean_environment

PYTHON_VARIABLE = "ASHNEURO_SANAFE_PYTHON"
VERSION = "2.2.9"
SETUP = "ashneuro doctor --setup sanafe"
_ASK = "import sanafe, importlib.metadata as m; print(m.version('sanafe'))"


@dataclass(frozen=True)
class SanafeEnvironment:
    """The interpreter that has SANA-FE, and SANA-FE's version."""

    interpreter: Path
    version: str


def find_environment() -> SanafeEnvironment:
    """Return the interpreter named by ``$ASHNEURO_SANAFE_PYTHON``; else the first of this one and
    that of `set_up` that can import SANA-FE.

    Raises:
        MissingDependency: there is none; the error names the command that makes one.
    """
    if named := os.environ.get(PYTHON_VARIABLE):
        program = shutil.which(named)
        version = program and _version(Path(program))
        if not program or not version:
            why = "it cannot import sanafe" if program else "there is no such program"
            raise MissingDependency(f"{PYTHON_VARIABLE} = {named}", why, f"unset it, and run: {SETUP}")
        return SanafeEnvironment(Path(program), version)
    for interpreter in (Path(sys.executable), _environment() / "bin" / "python"):
        if version := _version(interpreter):
            return SanafeEnvironment(interpreter, version)
    raise MissingDependency(
        "SANA-FE is not installed",
        f"neither {sys.executable} nor {_environment()} can import sanafe, and {PYTHON_VARIABLE} is not set",
        SETUP,
    )


def set_up(say: Callable[[str], object] = lambda text: None) -> Path:
    """Make an environment with SANA-FE unless there is one, and return its interpreter.

    Args:
        say: called with a few words on each step.

    Raises:
        MissingDependency: the environment cannot be made, or SANA-FE cannot be installed.
    """
    python = _environment() / "bin" / "python"
    if not _version(python):
        say(f"making an environment from {sys.executable}")
        _run([sys.executable, "-m", "venv", "--clear", str(_environment())])
        say(f"installing sanafe {VERSION}")
        _run([str(python), "-m", "pip", "install", "--quiet", f"sanafe=={VERSION}"])
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
        remedy = f"install sanafe in any environment, and set {PYTHON_VARIABLE} to its interpreter"
        raise MissingDependency("SANA-FE cannot be installed", reason[-600:], remedy)


def _environment() -> Path:
    return cache_dir() / "sanafe"


def _version(interpreter: Path) -> str:
    """Return SANA-FE's version; "" where it cannot be imported."""
    # `python -c` looks for modules in the current folder first: an empty one hides nothing.
    if not interpreter.exists():
        return ""
    answer = subprocess.run(
        [str(interpreter), "-c", _ASK],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
        cwd=Path(__file__).parent.parent.parent / "sanafe_worker",
    )
    return answer.stdout.strip().splitlines()[-1] if answer.returncode == 0 and answer.stdout.strip() else ""
