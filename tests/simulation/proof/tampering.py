"""Changes to the files of a bundle, as somebody makes them who tampers with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ashneuro.program.bundle import MANIFEST


def rehash(folder: Path) -> None:
    """Write the hashes of changed files into the manifest."""
    file = folder / MANIFEST
    manifest = json.loads(file.read_text())
    for name, entry in manifest["files"].items():
        if (folder / name).name == name and is_file(folder / name):
            content = (folder / name).read_bytes()
            entry |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    file.write_text(json.dumps(manifest))


def is_file(path: Path) -> bool:
    """Return True for a regular file; False also for a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def rewrite_arrays(file: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Change the arrays of an .npz."""
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    change(arrays)
    np.savez_compressed(file, **arrays)


def rewrite_json(file: Path, change: Callable[[dict], object]) -> None:
    """Change the values of a JSON file."""
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))
