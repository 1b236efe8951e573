"""Client of one Lava worker process: start, handshake, requests with a time limit, end."""

from __future__ import annotations

import hashlib
import math
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from ashneuro.config import cache_dir
from ashneuro.errors import ConfigError, LavaError
from ashneuro.lava_worker.frames import VERSION, Arrays, FrameError, Header, read_frame, write_frame
from ashneuro.simulation.interpreters import clean_environment
from ashneuro.simulation.lava.environment import SETUP, WORKER, find_interpreter

TERMINATE_S, KILL_S = 5.0, 10.0
PING_S = 10.0  # a busy machine may not schedule a living worker for seconds
WAIT_S = 0.5  # longest single wait: select() refuses very large timeouts, and `kill` is noticed after it
MULTIPROCESSING = "pymp-"  # how names of multiprocessing's temporary folders begin
LOGS = 40  # number of log files that are kept
TAIL_LINES = 12  # lines of a worker's log that an error quotes


class WorkerLost(LavaError):
    """The worker ended or does not answer; another one can repeat its work."""


@dataclass(frozen=True)
class Health:
    """State of a worker.

    Args:
        busy: the request that it serves, ``""`` if none.
        seconds: time since that request, or since the last one.
        steps: machine steps that the present network has run.
        processes: number of Lava's processes that live.
    """

    busy: str
    seconds: float
    steps: int
    processes: int


def worker_command(text: str | None) -> list[str]:
    """Return the command that starts a worker: ``text``, split as by a shell, or the default.

    Raises:
        ConfigError: ``text`` cannot be split.
        LavaError: no interpreter was found.
    """
    try:
        words = shlex.split(text or "")
    except ValueError as error:
        raise ConfigError(f"--lava-command {text!r}", str(error), "close the quotes") from error
    return words or [str(find_interpreter()), "-B", str(WORKER / "worker.py")]


class Worker:
    """A worker process that runs and is of this version.

    Args:
        command: starts it; ``["ssh", "host", "python3.10", "lava_worker/worker.py"]`` on another
            machine.
        timeout_s: longest wait for one reply.

    Attributes:
        versions: of Python, lava-nc, numpy and scipy in the worker.
        machine: its host name, number of CPUs, and free bytes of shared memory.
        log: file with everything that Lava prints.

    Raises:
        LavaError: it cannot be started, cannot import Lava, or is of another version.
    """

    def __init__(self, command: Sequence[str], timeout_s: float = 300.0) -> None:
        self._command, self._timeout_s = list(command), timeout_s
        self._given_up_s = math.inf  # time.monotonic() after which no reply is expected
        self.log, self._log_file = _open_log()
        # There is a process per layer already: more threads would compete for the same cores.
        clean = clean_environment() | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._temporary = ""  # name of its temporary folder, once it has said so
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log_file,
                bufsize=0,
                start_new_session=True,
                env=clean,
            )
        except OSError as error:
            self._log_file.close()
            raise LavaError(
                "the Lava worker cannot be started", f"{shlex.join(self._command)}: {error.strerror}", SETUP
            ) from error
        try:
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)
            hello, _ = self._receive(self._timeout_s)
            self._shake_hands(hello)
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        """Process id and process group of the worker, or of the command that reaches it."""
        return self._process.pid

    def ask(self, header: Header, arrays: Arrays | None = None) -> tuple[Header, Arrays]:
        """Return the reply to a request.

        Raises:
            WorkerLost: the worker ended, does not answer, or its reply cannot be read.
            LavaError: Lava failed.
        """
        self._send(header, arrays or {})
        return self._receive(self._timeout_s)

    def health(self) -> Health:
        """Return the state of the worker, which answers at any time.

        Raises:
            WorkerLost: it does not answer.
        """
        self._send({"request": "ping"}, {})
        return Health(**self._receive(PING_S)[0]["pong"])

    def kill(self) -> None:
        """End the processes at once, from any thread; a pending `ask` raises `WorkerLost`."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            _signal_group(self._process.pid, number)
        # A process of Lava may outlive SIGTERM and hold the pipe open.
        self._given_up_s = min(self._given_up_s, time.monotonic() + KILL_S)

    def close(self) -> None:
        """Let the worker end itself, then make sure of it."""
        try:
            if self._process.poll() is None:
                self.ask({"request": "close"})
                self._process.wait(TERMINATE_S)
        except (LavaError, subprocess.TimeoutExpired):
            pass  # it is ended below
        finally:
            self.end()

    def end(self) -> None:
        """End every process of the worker's group."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        # SIGTERM first: Python's resource tracker ignores it, and removes the shared memory after
        # all other processes have ended. SIGKILL would leave it behind.
        for number, patience_s in ((signal.SIGTERM, KILL_S), (signal.SIGKILL, TERMINATE_S)):
            if not _signal_group(self._process.pid, number):
                break
            _signal_group(self._process.pid, signal.SIGCONT)  # a stopped process cannot end
            deadline = time.monotonic() + patience_s
            while time.monotonic() < deadline and _signal_group(self._process.pid, 0):
                self._process.poll()
                time.sleep(0.01)
        self._process.wait()
        self._log_file.close()
        # After a signal multiprocessing leaves its folder behind.
        if self._temporary.startswith(MULTIPROCESSING):
            shutil.rmtree(Path(tempfile.gettempdir(), self._temporary), ignore_errors=True)

    def _shake_hands(self, hello: Header) -> None:
        if hello.get("protocol") != VERSION or hello.get("sources") != worker_fingerprint():
            raise LavaError(
                "the Lava worker is of another version",
                f"its sources differ from {WORKER}",
                f"copy that folder to where the worker runs, e.g. scp -r {WORKER} HOST:",
            )
        self.versions: dict[str, str] = hello["versions"]
        self.machine: dict[str, Any] = hello["machine"]
        self._temporary = Path(hello["temporary"]).name

    def _send(self, header: Header, arrays: Arrays) -> None:
        assert self._process.stdin is not None
        try:
            write_frame(_writer(self._process.stdin.fileno(), self._deadline(self._timeout_s)), header, arrays)
        except BrokenPipeError:
            raise self._died() from None
        except TimeoutError:
            raise self._silent(self._timeout_s) from None

    def _receive(self, patience_s: float) -> tuple[Header, Arrays]:
        assert self._process.stdout is not None
        try:
            header, arrays = read_frame(_reader(self._process.stdout.fileno(), self._deadline(patience_s)))
        except EOFError:
            raise self._died() from None
        except TimeoutError:
            raise self._silent(patience_s) from None
        except FrameError as error:
            raise WorkerLost("the Lava worker's reply cannot be read", f"{error}{self.log_tail()}", SETUP) from error
        if failure := header.get("error"):
            lines = [line for line in failure["traceback"].strip().splitlines() if line.strip().startswith("File")]
            where = f" ({lines[-1].strip()})" if lines else ""
            kind = WorkerLost if failure["type"] == "ProcessEnded" else LavaError
            raise kind(
                f"Lava failed: {failure['type']}", f"{failure['message']}{where}{self.log_tail()}", "ashneuro doctor"
            )
        return header, arrays

    def _deadline(self, patience_s: float) -> Callable[[], float]:
        """Return the time until which a reply is waited for; `kill` brings it forward."""
        last = time.monotonic() + patience_s
        return lambda: min(last, self._given_up_s)

    def _died(self) -> WorkerLost:
        try:
            status = f"exit status {self._process.wait(TERMINATE_S)}"
        except subprocess.TimeoutExpired:
            status = "its pipes are closed"
        return WorkerLost("the Lava worker ended", f"{status}{self.log_tail()}", "ashneuro doctor")

    def _silent(self, patience_s: float) -> WorkerLost:
        """Return the error of a worker that takes too long, with its state if it answers a ping."""
        if self._given_up_s < math.inf:
            return self._died()
        why = f"no reply within {patience_s:g} s"
        if patience_s > PING_S:
            try:
                health = self.health()
                why += f", while the worker lives: Lava is at {health.busy or 'nothing'}, after step {health.steps}"
                why += f", {health.processes} processes of it"
            except LavaError:
                why += ", nor to a ping"
        return WorkerLost(
            "Lava does not answer",
            f"{why}{self.log_tail()}",
            "give it longer (--lava-timeout), or run a smaller network",
        )

    def log_tail(self) -> str:
        """Return the last lines of the log and its path; empty if Lava printed nothing."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-TAIL_LINES:]
        except OSError:  # another session removed it as one of the oldest
            return ""
        return f"; {self.log} ends with:\n" + "\n".join(lines) if lines else ""


def log_folder() -> Path:
    """Return the folder of the workers' logs."""
    return cache_dir() / "logs"


def _open_log() -> tuple[Path, IO[bytes]]:
    """Return a new log, and remove all but the newest ones."""
    folder = log_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("lava-*.log"))[:-LOGS]:
            old.unlink(missing_ok=True)
        name = f"lava-{datetime.now():%Y%m%d-%H%M%S-%f}-{os.getpid()}.log"
        return folder / name, (folder / name).open("wb")
    except OSError as error:
        raise LavaError(
            f"cannot write to {folder}", error.strerror or str(error), "ASHNEURO_HOME=FOLDER names another place"
        ) from error


def worker_fingerprint() -> str:
    """Return the hash of the worker's sources, which has to be the same on another machine."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(WORKER.glob("*.py")))).hexdigest()


def _reader(fd: int, deadline: Callable[[], float]) -> Callable[[memoryview], int]:
    """Return a reader of ``fd`` into a buffer that raises TimeoutError at the deadline."""

    def read_into(buffer: memoryview) -> int:
        _wait(fd, selectors.EVENT_READ, deadline)
        return os.readv(fd, [buffer])

    return read_into


def _writer(fd: int, deadline: Callable[[], float]) -> Callable[[memoryview], int]:
    """Return a writer to the non-blocking ``fd`` that raises TimeoutError at the deadline."""

    def write_from(data: memoryview) -> int:
        _wait(fd, selectors.EVENT_WRITE, deadline)
        return os.write(fd, data)

    return write_from


def _wait(fd: int, event: int, deadline: Callable[[], float]) -> None:
    with selectors.DefaultSelector() as ready:
        ready.register(fd, event)
        while not ready.select(min(max(0.0, deadline() - time.monotonic()), WAIT_S)):
            if time.monotonic() >= deadline():
                raise TimeoutError


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; return False if it has no process left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True
