"""Files of a folder and of its folders, also of those that are symbolic links."""

from __future__ import annotations

import os
from pathlib import Path


def files_below(folder: Path) -> list[Path]:
    """Return every file in ``folder`` and below, sorted.

    Links to folders are followed, as `Path.rglob` does from Python 3.13 on only; a link to a folder
    that holds it is not.
    """
    found = []
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _holds(os.path.join(root, name), root)]
        found += [Path(root, name) for name in files]
    return sorted(path for path in found if path.is_file())


def _holds(link: str, place: str) -> bool:
    """Return True if ``link`` is a symbolic link to ``place`` or to a folder above it."""
    if not os.path.islink(link):
        return False
    real = os.path.realpath(link)
    return os.path.commonpath([real, os.path.realpath(place)]) == real
