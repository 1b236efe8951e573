"""Several processes of one command on one machine, which divide its cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ashneuro.cores import reading_threads
from ashneuro.errors import ConfigError

Worker = subprocess.Popen[bytes]

COMMAND = (sys.executable, "-m", "ashneuro")


@contextmanager
def workers(count: int, words: Sequence[str], logs: Path, command: Sequence[str] = COMMAND) -> Iterator[list[Worker]]:
    """Start ``count`` − 1 further processes of a command, which end with the block; this process is
    the first worker.

    Each gets an equal share of the threads that one process would have, this one included where
    torch is not loaded yet.

    Args:
        words: the command's arguments.
        logs: folder of what they print, ``worker-2.log`` and so on.

    Raises:
        ConfigError: ``count`` is not positive.
    """
    if count < 1:
        raise ConfigError(f"--workers {count}", "at least one process is needed", "--workers 1")
    if count == 1:
        yield []
        return
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(max(1, reading_threads() // count))
    logs.mkdir(parents=True, exist_ok=True)
    started: list[Worker] = []
    try:
        for number in range(2, count + 1):
            with (logs / f"worker-{number}.log").open("wb") as log:
                started.append(subprocess.Popen([*command, *words], stdout=log, stderr=subprocess.STDOUT))
        yield started
    finally:
        for each in started:
            if each.poll() is None:
                each.terminate()
        for each in started:
            each.wait()
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
