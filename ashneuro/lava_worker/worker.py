"""The Lava worker: reads frames from its standard input, runs Lava, answers on its standard output.

Every request gets one reply. Requests: ``build`` (see `network`), ``step`` (arrays: what the sources send), ``drop``,
``close``. The first frame is sent unasked: protocol, versions, or why Lava could not be imported. A failure is answered
with ``{"error": {"type", "message", "traceback"}}``.

Rules that keep the machine clean: the worker leads its own process group; standard output belongs to the frames alone,
so whatever Lava prints goes to standard error; forked processes do not hold the pipes; and when standard input ends
without ``close``, the host is gone, and the whole group ends with it. When one of Lava's processes ends while it should
run, Lava waits for it for ever: the worker says what happened, and ends the group.
"""

from __future__ import annotations

import os
import platform
import queue
import signal
import sys
import threading
import time
import traceback
from importlib import metadata

from frames import VERSION, read_frame, write_frame


def main() -> None:
    """Serve one host until it closes."""
    commands, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    os.register_at_fork(after_in_child=lambda: (os.close(commands), os.close(replies)))
    requests: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(commands, requests), daemon=True).start()
    _serve(requests, replies)


def _listen(commands: int, requests: queue.SimpleQueue) -> None:
    """Hand over requests; end the group when the host is gone, whatever Lava is doing then."""
    try:
        while True:
            frame = read_frame(lambda buffer: os.readv(commands, [buffer]))
            requests.put(frame)
            if frame[0]["request"] == "close":
                return
    except BaseException as error:
        if not isinstance(error, EOFError):
            traceback.print_exc()
        # SIGTERM, not SIGKILL: Python's resource tracker ignores it and removes the shared-memory segments at the end.
        os.killpg(0, signal.SIGTERM)


class _Running:
    """Which network is in the middle of a step, if any; written by the main thread, read by the watching one."""

    network = None


def _watch(running: _Running, replies: int) -> None:
    """End the group when a process of Lava ended in the middle of a step."""
    while True:
        time.sleep(0.2)
        network = running.network
        why = network.ended() if network is not None else None
        if why is not None and running.network is network:
            write_frame(replies, {"error": why}, {})
            os.killpg(0, signal.SIGTERM)


def _serve(requests: queue.SimpleQueue, replies: int) -> None:
    network, running = None, _Running()
    try:
        from network import Network

        versions = {name: metadata.version(name) for name in ("lava-nc", "numpy", "scipy")}
        write_frame(replies, {"protocol": VERSION, "versions": {"python": platform.python_version(), **versions}}, {})
    except BaseException as error:
        write_frame(replies, _failure(error), {})
        return
    threading.Thread(target=_watch, args=(running, replies), daemon=True).start()
    while True:
        header, arrays = requests.get()
        reply, results = {}, {}
        try:
            if header["request"] == "build":
                if network is not None:
                    network.stop()
                network = Network(header["network"], arrays)
            elif header["request"] == "step":
                running.network = network
                results = network.step(header["steps"], arrays)
                running.network = None
            elif header["request"] in {"drop", "close"}:
                if network is not None:
                    network.stop()
                network = None
            else:
                raise ValueError(f"unknown request {header['request']!r}")
        except Exception as error:
            running.network = None
            reply, results = _failure(error), {}
        write_frame(replies, reply, results)
        if header["request"] == "close":
            return


def _failure(error: BaseException) -> dict:
    return {"error": {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}}


if __name__ == "__main__":
    sys.exit(main())
