"""The Lava worker's main program: frames in on standard input, replies out on standard output.

Every request has one reply: ``build`` (see `network`), ``step`` (with the values of the sources; 0
for those left out), ``drop``, ``ping``, ``close``. A ``ping`` is answered at once, whatever Lava is
doing. The first frame is sent without a request: protocol, versions and machine, or why Lava could
not be imported. The reply to a failure is ``{"error": {"type", "message", "traceback"}}``. Replies
to ``build`` and ``step`` have the seconds that Lava took.

Rules that leave the machine clean:

- The worker leads its own process group.
- Standard output is for frames alone; all that Lava prints goes to standard error.
- Forked processes do not hold the pipes.
- If standard input ends without ``close``, the host is gone, and the whole group ends.
- If one of Lava's processes ends in the middle of a step, Lava would wait for it for ever: the
  worker reports it, and ends the group.
"""

from __future__ import annotations

import hashlib
import os
import platform
import queue
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
from importlib import metadata
from multiprocessing import util
from pathlib import Path

from frames import VERSION, FrameError, read_frame, write_frame


def main() -> None:
    """Serve one host until it closes."""
    commands, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    os.register_at_fork(after_in_child=lambda: (os.close(commands), os.close(replies)))
    # A channel of Lava takes several file descriptors; the usual limit of 1,024 lasts for a few
    # dozen layers.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = most if 0 <= most < 65536 else 65536
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, most))
    state = _State(replies)
    threading.Thread(target=_listen, args=(commands, state), daemon=True).start()
    _serve(state)


class _State:
    """State that the threads share: waiting requests, the running network, the pipe for replies."""

    def __init__(self, replies: int) -> None:
        self.requests: queue.SimpleQueue = queue.SimpleQueue()
        self.network = None
        self.busy = ""  # the request in progress
        self.since = time.monotonic()
        self._replies, self._lock = replies, threading.Lock()

    def reply(self, header: dict, arrays: dict | None = None) -> None:
        with self._lock:
            write_frame(lambda data: os.write(self._replies, data), header, arrays or {})

    def doing(self, what: str) -> None:
        self.busy, self.since = what, time.monotonic()


def _listen(commands: int, state: _State) -> None:
    """Queue requests; end the group if the host is gone, whatever Lava is doing."""
    try:
        while True:
            frame = read_frame(lambda buffer: os.readv(commands, [buffer]))
            if frame[0].get("request") == "ping":
                steps, processes = (state.network.steps, state.network.processes()) if state.network else (0, 0)
                seconds = time.monotonic() - state.since
                state.reply({"pong": {"busy": state.busy, "seconds": seconds, "steps": steps, "processes": processes}})
                continue
            state.requests.put(frame)
            if frame[0].get("request") == "close":
                return
    except BaseException as error:
        if isinstance(error, FrameError):
            state.reply(_failure(error))
        elif not isinstance(error, EOFError):
            traceback.print_exc()
        _end_group()


def _end_group() -> None:
    """Remove multiprocessing's temporary folder, which a signal would leave, and end the group."""
    shutil.rmtree(util.get_temp_dir(), ignore_errors=True)
    # SIGTERM, not SIGKILL: Python's resource tracker ignores it, and removes the shared memory at
    # the end.
    os.killpg(0, signal.SIGTERM)


def _watch(state: _State) -> None:
    """End the group if a process of Lava ends in the middle of a step."""
    while True:
        time.sleep(0.2)
        network = state.network if state.busy == "step" else None
        why = network.ended() if network is not None else None
        if why is not None and state.busy == "step":
            state.reply({"error": why})
            _end_group()


def _serve(state: _State) -> None:
    try:
        from network import Network

        # Made here, multiprocessing's folder is that of all processes forked later.
        temporary = os.path.basename(util.get_temp_dir())
        about = {"versions": _versions(), "machine": _machine(), "temporary": temporary}
        state.reply({"protocol": VERSION, "sources": fingerprint(), **about})
    except BaseException as error:
        state.reply(_failure(error))
        return
    threading.Thread(target=_watch, args=(state,), daemon=True).start()
    while True:
        header, arrays = state.requests.get()
        request = header.get("request")
        reply, results, start = {}, {}, time.monotonic()
        try:
            if request == "build":
                _drop(state)
                state.doing("build")
                state.network = Network(header["network"], arrays)
            elif request == "step":
                if state.network is None:
                    raise ValueError("there is no network to step")
                state.doing("step")
                results = state.network.step(header["steps"], arrays)
            elif request in {"drop", "close"}:
                _drop(state)
            else:
                raise ValueError(f"unknown request {request!r}")
            reply = {"seconds": time.monotonic() - start}
        except Exception as error:
            reply, results = _failure(error), {}
        state.doing("")
        state.reply(reply, results)
        if request == "close":
            return


def _drop(state: _State) -> None:
    network, state.network = state.network, None
    if network is not None:
        network.stop()


def fingerprint() -> str:
    """Return the hash of the worker's sources; the host requires the hash of its own copy."""
    here = Path(__file__).parent
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(here.glob("*.py")))).hexdigest()


def _versions() -> dict:
    packages = {name: metadata.version(name) for name in ("lava-nc", "numpy", "scipy")}
    return {"python": platform.python_version(), **packages}


def _machine() -> dict:
    from network import SHARED_MEMORY

    shared = os.statvfs(SHARED_MEMORY) if os.path.isdir(SHARED_MEMORY) else None
    free = shared.f_bavail * shared.f_frsize if shared else None
    return {"host": platform.node(), "cpus": os.cpu_count(), "shared_memory": free}


def _failure(error: BaseException) -> dict:
    return {"error": {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}}


if __name__ == "__main__":
    sys.exit(main())
