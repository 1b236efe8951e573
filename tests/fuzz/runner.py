"""One command in a forked process of its own, with limits, and what came of it.

Torch and the command line are imported once, by the parent.
"""

from __future__ import annotations

import contextlib
import enum
import gc
import os
import pkgutil
import re
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hub import folder_hub

MEMORY = 2 << 30
"""Bytes of address space that a case may take beyond the parent's."""
RESIDENT = 1 << 30
"""Bytes of memory that a case may hold beyond the parent's; more is "over memory"."""
PROCESSOR_S = 20
"""Processor time of a case in seconds; more is a hang."""
WALL_S = 120
"""Time that a case may wait in seconds, for something that never comes. Time in which other work
has the processor does not count."""
ROOMS = ("commands", "cost", "data", "model", "program", "reporting", "simulation", "spiking", "training", "workflows")
"""Packages of ashneuro that commands import when they run."""


class Outcome(enum.Enum):
    """Outcome of a malformed input; all but the first two should be empty."""

    ERROR = "clear error"
    FINE = "fine"
    STOPPED = "stopped though it can do without"
    ACCEPTED = "accepted though it should be refused"
    TRACEBACK = "traceback"
    HANG = "hang"
    MEMORY = "over memory"
    EXECUTED = "code was executed"


@dataclass(frozen=True)
class Ended:
    """End of a command.

    Args:
        code: exit code; negative: the signal that killed it.
        resident: bytes of memory that it held beyond its parent's, at most.
    """

    code: int
    text: str
    seconds: float
    resident: int
    timed_out: bool


def warm() -> None:
    """Import what commands import, so that a case does not."""
    import importlib

    for module in [
        "torch",
        "torchvision",
        "PIL.Image",
        "safetensors.torch",
        "pydantic.dataclasses",
        "pydantic.type_adapter",
        "h5py",
        "nir",
        "scipy.sparse",
        "matplotlib.figure",
        "matplotlib.backends.backend_agg",
        "rich.table",
        "rich.progress",
        "jinja2",
        "cyclopts",
        "pyarrow",
        "onnx",
        "tokenizers",
        "huggingface_hub",
        "ashneuro.cli",
    ]:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    for room in ROOMS:
        package = importlib.import_module(f"ashneuro.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"ashneuro.{room}."):
            with contextlib.suppress(ImportError):  # of a package that is not installed
                importlib.import_module(module.name)
    import torch

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # else a collection in a case copies the pages of every object


def run(words: Sequence[object], cwd: Path, seconds: float = PROCESSOR_S) -> Ended:
    """Run one command line in a fork of this process."""
    log = cwd / ".log"
    sys.stdout.flush()
    sys.stderr.flush()
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(words, cwd, log, seconds)
    timed_out, status, usage, waited, seen = False, 0, None, 0.0, begun
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        waited += 0 if _runs(child) else time.monotonic() - seen
        seen = time.monotonic()
        if waited > WALL_S:
            timed_out = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # what it may have started
        os.killpg(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    held, of_files = (int(pages) for pages in Path("/proc/self/statm").read_text().split()[1:3])
    own = (held - of_files) * resource.getpagesize()  # a fork maps files anew, where it touches them
    text = log.read_text(errors="replace")
    used = usage.ru_utime + usage.ru_stime
    timed_out |= code == -signal.SIGXCPU or (code == -signal.SIGKILL and used >= seconds)
    return Ended(code, text, time.monotonic() - begun, usage.ru_maxrss * 1024 - own, timed_out)


def _runs(process: int) -> bool:
    """Return True if a process computes, or would if a processor were free."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "R"
    except OSError:
        return False


def _child(words: Sequence[object], cwd: Path, log: Path, seconds: float) -> None:
    code = 70
    try:
        os.setsid()
        os.chdir(cwd)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, target in ((0, nothing), (1, file), (2, file)):
            os.dup2(target, number)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 2))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, mode, encoding="utf-8", closefd=False) for number, mode in enumerate(("r", "w", "w"))
        )
        sys.argv = ["ashneuro", *map(str, words)]
        from ashneuro.cli import main

        if (cwd / "hub").is_dir():
            import huggingface_hub

            for name, stand_in in folder_hub(cwd / "hub").items():
                setattr(huggingface_hub, name, stand_in)
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 71
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def classify(ended: Ended, must: str, cwd: Path) -> Outcome:
    """Return the outcome of a case."""
    if any(cwd.rglob("EXECUTED")):
        return Outcome.EXECUTED
    if ended.timed_out:
        return Outcome.HANG
    if ended.resident > RESIDENT or re.search(
        r"MemoryError|[Cc]annot allocate|not enough memory|bad_alloc", ended.text
    ):
        return Outcome.MEMORY
    if "Traceback (most recent call last)" in ended.text or ended.code not in (0, 1, 2, 3):
        return Outcome.TRACEBACK
    if ended.code == 0:
        return Outcome.ACCEPTED if must == "refuse" else Outcome.FINE
    return Outcome.STOPPED if must == "go on" else Outcome.ERROR
