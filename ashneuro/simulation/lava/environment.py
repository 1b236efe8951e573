"""The Python 3.10 environment of Lava: how it is found, made and described.

Lava 0.10.0, its last release, needs Python 3.10 and numpy < 2, so it cannot share an environment
with the rest.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ashneuro.config import cache_dir
from ashneuro.errors import LavaError, install_command
from ashneuro.files import user_path, write_text
from ashneuro.schemas import READY
from ashneuro.simulation.interpreters import clean_environment

WORKER = Path(__file__).parents[2] / "lava_worker"
REQUIREMENTS = WORKER / "requirements.txt"
PYTHON_VARIABLE = "ASHNEURO_LAVA_PYTHON"
SETUP = "ashneuro doctor --setup lava"

_VERSIONS = """
import importlib.metadata, json, platform
import lava.proc.lif.process, lava.proc.sparse.process, lava.magma.core.run_configs
packages = {"lava": "lava-nc", "numpy": "numpy"}
versions = {name: importlib.metadata.version(package) for name, package in packages.items()}
print(json.dumps({"python": platform.python_version(), **versions}))
"""


@dataclass(frozen=True)
class LavaEnvironment:
    """Result of `describe`.

    Args:
        ok: Lava can be used.
        text: versions and interpreter in one line, or why Lava cannot be used.
        interpreter: Python that runs the worker; ``None`` if there is none.
        versions: of python, lava and numpy; empty if Lava cannot be imported.
    """

    ok: bool
    text: str
    interpreter: Path | None
    versions: dict[str, str]


def find_interpreter() -> Path:
    """Return the interpreter: ``$ASHNEURO_LAVA_PYTHON``, or of the environment from `set_up`.

    Raises:
        LavaError: there is neither; the error names the command that makes one.
    """
    if named := os.environ.get(PYTHON_VARIABLE):
        found = shutil.which(named)
        if found is None:
            raise LavaError(f"{PYTHON_VARIABLE} = {named}", "there is no such program", f"unset it and run: {SETUP}")
        return Path(found)
    python = _environment() / "bin" / "python"
    if not _ready(_environment()):
        raise LavaError(
            "Lava is not installed",
            f"it needs a Python 3.10 environment of its own, and {_environment()} has none",
            SETUP,
        )
    return python


def set_up(say: Callable[[str], object] = lambda text: None) -> Path:
    """Make the environment unless it exists, and return its interpreter.

    Args:
        say: called with a few words on each step.

    Raises:
        LavaError: uv is missing, there is no Python 3.10 and none could be downloaded, or Lava
            cannot be imported.
    """
    folder = _environment()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lava.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two set-ups at once, the second finds the first one's result
        if not _ready(folder):
            uv = _find_uv()
            python = next(iter(_pythons()), None)
            say(f"making an environment from {python}" if python else "downloading Python 3.10")
            version = ["--python", str(python)] if python else ["--python", "3.10", "--managed-python"]
            _run([uv, "venv", "--quiet", "--clear", *version, str(folder)], _no_python(python))
            say("installing lava-nc")
            remedy = f"look at what uv says; then again: {SETUP}"
            _run(
                [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "-r", str(REQUIREMENTS)],
                remedy,
            )
            say("importing lava")
            versions = _versions(folder / "bin" / "python")
            ready = READY.stamped({**versions, "requirements": _fingerprint()})
            write_text(folder / "ready.json", json.dumps(ready))
    return folder / "bin" / "python"


def describe() -> LavaEnvironment:
    """Describe the Lava that would run here, or why none would. Never raises."""
    try:
        interpreter = find_interpreter()
    except LavaError as error:
        return LavaEnvironment(False, f"{error.what}: {error.why}", None, {})
    try:
        versions = _versions(interpreter)
    except LavaError as error:
        return LavaEnvironment(False, f"{error.what}: {error.why}", interpreter, {})
    text = f"lava-nc {versions['lava']}, Python {versions['python']}, numpy {versions['numpy']} ({interpreter})"
    return LavaEnvironment(True, text, interpreter, versions)


def _environment() -> Path:
    return cache_dir() / "lava"


def _fingerprint() -> str:
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()


def _ready(folder: Path) -> bool:
    """Return True if `set_up` finished there, with the present requirements."""
    try:
        made = READY.load(folder / "ready.json")
    except (OSError, ValueError):
        return False
    return bool(made["requirements"] == _fingerprint()) and (folder / "bin" / "python").exists()


def _find_uv() -> str:
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        if uv := shutil.which("uv"):
            return uv
    raise LavaError(
        "the Lava environment cannot be made",
        "it is made with uv, which is not installed",
        install_command("lava"),
    )


def _pythons() -> Iterator[Path]:
    """Yield every Python 3.10 that runs: on PATH, then in pyenv's versions folder."""
    versions = user_path(os.environ.get("PYENV_ROOT") or "~/.pyenv") / "versions"
    candidates = [Path(folder) / "python3.10" for folder in os.get_exec_path()]
    candidates += sorted(versions.glob("3.10*/bin/python3.10"), reverse=True)
    for candidate in candidates:
        if not os.access(candidate, os.X_OK):
            continue
        # A version manager's shim may fail; if it runs, sys.executable is the real interpreter.
        ask = "import sys; print(sys.executable if sys.version_info[:2] == (3, 10) else '')"
        answer = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, check=False, timeout=30)
        if answer.returncode == 0 and answer.stdout.strip():
            yield Path(answer.stdout.strip())


def _no_python(python: Path | None) -> str:
    if python:
        return f"check that this runs: {python} -c 'import ensurepip'"
    return f"install Python 3.10 (e.g. `pyenv install 3.10`, or your system's package python3.10), then: {SETUP}"


def _versions(interpreter: Path) -> dict[str, str]:
    clean = clean_environment()
    command = [str(interpreter), "-c", _VERSIONS]
    # `python -c` looks for modules in the current folder first: a folder named lava there would
    # hide the package.
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=clean, cwd=WORKER)
    if answer.returncode:
        reason = (answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"])[-1]
        raise LavaError(f"{interpreter} cannot import lava", reason, f"unset {PYTHON_VARIABLE} and run: {SETUP}")
    versions: dict[str, str] = json.loads(answer.stdout.strip().splitlines()[-1])
    return versions


def _run(command: list[str], remedy: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise LavaError("the Lava environment cannot be made", f"uv says: {reason[-600:]}", remedy)
