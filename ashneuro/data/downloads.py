"""Large files from a package registry: downloaded over HTTP, resumed, checked by their hash."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ashneuro.errors import DataError

REGISTRY = "https://registry.npmjs.org"
BLOCK = 1 << 20


@dataclass(frozen=True)
class Tarball:
    """An npm package's tarball, pinned by its hash."""

    name: str
    version: str
    size_bytes: int
    sha256: str

    @property
    def spec(self) -> str:
        """Name and version as npm writes them."""
        return f"{self.name}@{self.version}"

    @property
    def url(self) -> str:
        """Address in npm's registry, or in the mirror that ``$NPM_CONFIG_REGISTRY`` names."""
        registry = (os.environ.get("NPM_CONFIG_REGISTRY") or REGISTRY).rstrip("/")
        return f"{registry}/{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"


def fetch_tarball(tarball: Tarball, folder: Path, progress: Callable[[str], None]) -> Path:
    """Return the tarball in ``folder``, downloaded unless it is there, and checked by its hash.

    A download that was interrupted is resumed where it stopped; what is there of it lies beside the
    file under the suffix ``.part``.

    Raises:
        DataError: the registry cannot be reached, the connection broke, or what came is not the
            pinned file (it is then removed).
    """
    target = folder / f"{tarball.name.replace('/', '-').lstrip('@')}-{tarball.version}.tgz"
    part = target.with_name(target.name + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not target.is_file():
            _continue(tarball, part, progress)
            _check(tarball, part)
            part.replace(target)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"cannot fetch {tarball.spec}",
            f"{tarball.url}: {error}",
            "check the network and run it again: it goes on where it stopped",
        ) from error
    else:
        _check(tarball, target)
    return target


def _continue(tarball: Tarball, part: Path, progress: Callable[[str], None]) -> None:
    done = part.stat().st_size if part.is_file() else 0
    if done >= tarball.size_bytes:  # complete or wrong, which the hash tells
        return
    request = urllib.request.Request(tarball.url, headers={"Range": f"bytes={done}-"} if done else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:  # a server that does not resume starts over
            done = 0
        _require_room(part, tarball.size_bytes - done)
        with part.open("ab" if done else "wb") as file:
            tenths = -1
            while done < tarball.size_bytes and (block := answer.read(BLOCK)):
                file.write(block)
                done += len(block)
                if done * 10 // tarball.size_bytes > tenths:
                    tenths = done * 10 // tarball.size_bytes
                    progress(f"downloading {tarball.spec}, {10 * tenths} % of {tarball.size_bytes / 1e6:.0f} MB")
    if done < tarball.size_bytes:
        raise OSError(f"the connection ended after {done:,} of {tarball.size_bytes:,} bytes")


def _require_room(part: Path, needed: int) -> None:
    if (free := shutil.disk_usage(part.parent).free) < needed:
        raise OSError(f"{needed / 1e6:.0f} MB are needed in {part.parent}, {free / 1e6:.0f} MB are free")


def _check(tarball: Tarball, path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != tarball.sha256:
        path.unlink()
        raise DataError(
            f"{tarball.spec} is not the pinned package",
            f"what came has the SHA-256 {found}, expected {tarball.sha256}",
            "run it again; if the hash is the same, fetch from registry.npmjs.org",
        )
