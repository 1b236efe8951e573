"""Runs of Lava that are killed at seeded moments: nothing is left, and the next run works.

``pytest -m slow tests/simulation/lava/test_kills.py``; docs/reliability.md has its figures.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz import seeds

pytestmark = [pytest.mark.lava, pytest.mark.slow]

KILLS = 18
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
SETTLE_S = 90.0
"""Time that workers have to notice that their parent is gone."""
CONTRACT = ("--dt", "0.001", "--reset", "value", "--reset-delay", "0", "--comparison", "strict")
STATED = ("--integration", "euler", "--input-coding", "spikes", "--start", "v_leak")


class Place:
    """A folder with a bundle, a temporary folder and a cache of its own.

    Its processes, whoever started them, are those with its path in their environment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.temporary, self.home = folder, folder / "temporary", folder / "home"
        self.temporary.mkdir()
        self.home.mkdir()
        seeds.files(folder / "network")
        x = np.load(folder / "network" / "x.npy")
        np.save(folder / "network" / "x.npy", np.tile(x, (4, 8, 1, 1, 1)))
        self.segments = set(os.listdir("/dev/shm"))
        outer = Path(os.environ.get("ASHNEURO_HOME", Path.home() / ".cache" / "ashneuro"))
        for made in ("lava", "kernels"):  # Lava's environment takes minutes to make
            if (outer / made).exists():
                (self.home / made).symlink_to(outer / made)
        self.environment = {**os.environ, "TMPDIR": str(self.temporary), "ASHNEURO_HOME": str(self.home)}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, as a shell does."""
        command = [sys.executable, "-m", "ashneuro", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            cwd=self.folder / "network",
            env=self.environment,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str) -> str:
        """Return the output of a command that must succeed."""
        process = self.start(*words)
        out, said = process.communicate(timeout=500)
        assert process.returncode == 0, said
        return out

    def left(self) -> list[str]:
        """Return processes, segments of shared memory and temporary files that are left."""
        marker = f"TMPDIR={self.temporary}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                try:
                    if marker in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(f"process {entry.name}: {(entry / 'cmdline').read_bytes()[-200:]!r}")
                except OSError:  # it has ended, or is somebody else's
                    continue
        found += [f"segment {name}" for name in set(os.listdir("/dev/shm")) - self.segments if name.startswith("psm_")]
        kept = "torchinductor_"  # torch's cache of compiled code, one for all runs of a user
        return found + [f"temporary {each.name}" for each in self.temporary.iterdir() if not each.name.startswith(kept)]

    def left_after(self, seconds: float) -> list[str]:
        """Return `left`, empty or after at most ``seconds``."""
        deadline = time.monotonic() + seconds
        while (found := self.left()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def counts(text: str) -> dict[str, object]:
    return {name: layer for name, layer in json.loads(text).items() if name in ("layers", "inputs", "samples")}


def plan(begun: Sequence[float], seed: int = 20) -> list[tuple[signal.Signals, float]]:
    """Return a signal and a moment of each kill, up to the time that a whole run took."""
    rng = random.Random(seed)
    return [(SIGNALS[number % len(SIGNALS)], rng.uniform(*begun)) for number in range(KILLS)]


def test_nothing_is_left_after_kills(place: Place) -> None:
    place.run("export", "network.nir", "--out", "bundle", "--inputs", "x.npy", "--no-lava", *CONTRACT, *STATED)
    words = ("simulate", "bundle", "--inputs", "x.npy", "--on", "lava", "--json")
    begun = time.monotonic()
    whole = counts(place.run(*words))
    taken = time.monotonic() - begun
    assert place.left_after(SETTLE_S) == []
    remains: list[str] = []
    runs = 0
    for number, (name, moment) in enumerate(plan((0.1 * taken, taken))):
        killed = False
        while not killed:
            runs += 1
            process = place.start(*words)
            try:
                process.wait(moment)
                moment *= 0.8  # it had ended: once more, earlier
            except subprocess.TimeoutExpired:
                # ^C goes to the group; the others to the process that somebody knows.
                (os.killpg if name is signal.SIGINT else os.kill)(process.pid, name)
                killed = True
            _, said = process.communicate(timeout=SETTLE_S)
            assert "Traceback" not in said, said
            remains += [f"kill {number}, {name.name} after {moment:.1f} s: {one}" for one in place.left_after(SETTLE_S)]
    print(f"{KILLS} of {runs} runs killed; a whole run takes {taken:.1f} s; left: {remains or 'nothing'}")
    assert remains == []
    assert counts(place.run(*words)) == whole
    assert tempfile.gettempdir() != str(place.temporary) and place.left_after(SETTLE_S) == []
