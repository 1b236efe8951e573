"""Files of a folder and of its folders, also of those that are symbolic links."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LINKED_FOLDERS = 10_000
"""Most folders that are walked through links. Links between a few make paths without end."""


def files_below(folder: Path) -> list[Path]:
    """Return every file in ``folder`` and below, sorted.

    Links to folders are followed, as `Path.rglob` does from Python 3.13 on only; a link to a folder
    that the path to it goes through is not.

    Raises:
        OSError: links lead to more than `LINKED_FOLDERS` folders.
    """
    found: list[Path] = []
    linked = 0
    left = [(Path(folder), frozenset(_identity(folder)), False)]
    while left:
        place, above, through_link = left.pop()
        linked += through_link
        if linked > LINKED_FOLDERS:
            why = f"links in it lead to more than {LINKED_FOLDERS:,} folders"
            raise OSError(errno.ELOOP, why, str(folder))
        with suppress(OSError), os.scandir(place) as entries:  # a folder that cannot be listed is left out
            for entry in entries:
                path = Path(entry.path)
                if os.path.isdir(path):  # unlike `entry.is_dir`, False for a link to itself
                    own = frozenset(_identity(path))
                    if not (entry.is_symlink() and own & above):
                        left.append((path, above | own, through_link or entry.is_symlink()))
                elif os.path.isfile(path):
                    found.append(path)
    return sorted(found)


def _identity(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield device and number of a folder; nothing if it cannot be looked at."""
    with suppress(OSError):
        facts = os.stat(folder)
        yield facts.st_dev, facts.st_ino
