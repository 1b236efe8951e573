"""Claims on the runs of a sweep, so that processes that share a folder divide them.

A claim is a file that is created exclusively, which is atomic on shared disks, NFS included. A lock
is not safe there: a disk without locks may grant one to everybody. A thread of the holder touches
the file. Where it is no longer touched the run is free, and the next process makes a claim with the
next number.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ashneuro.errors import AshneuroError
from ashneuro.files import read_json
from ashneuro.schemas import Format

BEAT_S = 30.0
"""Seconds between two touches of a claim."""

STALE_S = 300.0
"""Seconds without a touch after which a run is free: its process or machine is gone."""

LARGEST = 1 << 16
"""Bytes of the largest claim that is read; ours have 100."""


@dataclass(frozen=True)
class Holder:
    """Process that made a claim.

    Args:
        space: its space of process numbers: containers of one host have several.
    """

    process: int
    host: str
    space: str

    @classmethod
    def here(cls) -> Holder:
        """Return this process."""
        space = ""
        with suppress(OSError):  # Linux
            space = os.readlink("/proc/self/ns/pid")
        return cls(os.getpid(), socket.gethostname(), space)

    @property
    def is_gone(self) -> bool:
        """True if it ran where this process runs, and runs no more."""
        here = Holder.here()
        if not self.space or (self.host, self.space) != (here.host, here.space):
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except OSError:  # somebody else's process
            return False
        return False

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


CLAIM = Format("ashneuro-claim", Holder, bare=True)


class Claim:
    """A claim that was asked for.

    Attributes:
        holder: who has the run; empty: this process.
    """

    def __init__(self, holder: str = "", path: Path | None = None) -> None:
        self.holder = holder
        self._path, self._lost, self._ended = path, False, threading.Event()
        self._thread: threading.Thread | None = None

    def require(self) -> None:
        """Raise `AshneuroError` if another process has the run by now: this one stood still too
        long.
        """
        if self._lost or (self._path is not None and _taken_over(self._path)):
            self._lost = True
            raise AshneuroError(
                "another process took this run over",
                f"its claim was not touched for {STALE_S:.0f} s, or was deleted: this process stood still",
                "start the same sweep again; finished runs stay",
            )

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._beat, name="claim", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        assert self._path is not None
        while not self._ended.wait(BEAT_S):
            try:
                os.utime(self._path)
            except FileNotFoundError:
                self._lost = True
                return
            except OSError:
                continue  # a disk that does not answer for a while

    def _stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()


@contextmanager
def claim(folder: Path) -> Iterator[Claim]:
    """Claim the run in ``folder`` for this process; yield the claim, which says who has it.

    The claim is given back at the end, whatever happens. After SIGKILL it is free at once for
    processes on the same host, and after `STALE_S` for others. A process of several that train
    together gets every claim.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        yield Claim()
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = _make(folder)
    if isinstance(made, str):
        yield Claim(made)
        return
    own = Claim(path=made)
    own._start()
    try:
        yield own
    finally:
        own._stop()
        if not own._lost and not _taken_over(made):
            for path in sorted(_claims(folder).values()):  # those that were left first, then ours
                if path != made:
                    path.unlink(missing_ok=True)
            made.unlink(missing_ok=True)


def _make(folder: Path) -> Path | str:
    """Return the file of a new claim, or who has the run."""
    known = _claims(folder)
    number = max(known, default=0)
    if number and (holder := _active(known[number])):
        return holder
    path = folder.with_name(f"{folder.name}.claim-{number + 1}")
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(CLAIM.stamped(asdict(Holder.here())), file)
    except FileExistsError:  # somebody was quicker
        return _active(path) or "another process"
    except OSError:  # a full disk, say
        path.unlink(missing_ok=True)
        raise
    # A claim may have been given back, and another one made, since the first look.
    for other in _claims(folder).values():
        if other != path and (holder := _active(other)):
            path.unlink(missing_ok=True)
            return holder
    return path


def _claims(folder: Path) -> dict[int, Path]:
    """Return the claims on a run by number."""
    pattern = re.compile(rf"{re.escape(folder.name)}\.claim-(\d+)")
    return {
        int(found[1]): path for path in folder.parent.iterdir() if (found := pattern.fullmatch(path.name)) is not None
    }


def _taken_over(path: Path) -> bool:
    """Return True if a claim is gone, or there is one with a higher number."""
    stem, _, number = path.name.rpartition("-")
    return not path.exists() or path.with_name(f"{stem}-{int(number) + 1}").exists()


def _active(path: Path) -> str:
    """Return who holds a claim; empty if it was given back or left."""
    try:
        age = _age(path)
    except FileNotFoundError:
        return ""
    try:
        holder = CLAIM.parse(read_json(path, LARGEST))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError):  # it is being written, or was not written to its end
        return "another process" if age < STALE_S else ""
    return "" if age >= STALE_S or holder.is_gone else str(holder)


def _age(path: Path) -> float:
    """Return the seconds since a file was touched, by the clock of the disk: clocks of machines
    differ.
    """
    probe = path.with_name(f".{path.name}.{os.getpid()}-{socket.gethostname()}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
