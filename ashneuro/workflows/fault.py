"""Faults: exceptions that nobody foresaw. Their traceback goes to a file, which can be sent."""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import join

from ashneuro import __version__
from ashneuro.config import cache_dir
from ashneuro.errors import AshneuroError, Fault

PACKAGE = Path(__file__).parents[1]


def log_fault(error: BaseException, words: Sequence[str]) -> Fault:
    """Write the traceback of an exception and what `ashneuro doctor` says to a file.

    Args:
        error: the exception.
        words: command line.

    Returns:
        The error to be printed, which names the file.
    """
    kind = type(error).__name__
    last = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in last if Path(frame.filename).is_relative_to(PACKAGE)] or list(last)
    where = f" in {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""
    what = f"a fault of ashneuro{where}: {kind}: {_first_line(error)}"
    file = _write("".join(_report(error, words)))
    if file is None:
        trace = "".join(traceback.format_exception(error))
        do = f"report it with this traceback and what `ashneuro doctor` prints\n{trace}"
    else:
        do = f"report it with {file}, which has the traceback and what `ashneuro doctor` says of this machine"
    return Fault(what, "nobody foresaw this exception, so it is not known what mends it", do)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "no message")


def _report(error: BaseException, words: Sequence[str]) -> Iterator[str]:
    yield f"ashneuro {__version__}: {join(words)}\n\n"
    yield from traceback.format_exception(error)
    yield "\n"
    try:
        from ashneuro.workflows.doctor import examine

        for check in examine():
            yield f"{check.name}: {check.found}\n"
    except Exception as other:  # the machine may be what is broken
        yield f"ashneuro doctor failed: {type(other).__name__}: {other}\n"


def _write(text: str) -> Path | None:
    """Return the file that was written, in the cache or else in the folder for temporary files."""
    name = f"fault-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for place in ("cache", "temporary"):
        try:  # neither may have a folder
            folder = cache_dir() / "faults" if place == "cache" else Path(tempfile.gettempdir())
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / name
            file.write_text(text, encoding="utf-8", errors="backslashreplace")
        except (AshneuroError, OSError, RuntimeError):  # no such user, a full disk, a folder that is read-only
            continue
        return file
    return None
