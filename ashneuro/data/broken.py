"""Pictures that cannot be decoded, found before anything is made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ashneuro.config import cache_dir
from ashneuro.cores import reading_threads
from ashneuro.data.images import picture_problem
from ashneuro.files import write_text
from ashneuro.schemas import BROKEN

LEFT_OUT = "left-out.txt"
"""File that lists what ``data.skip_broken`` left out."""


def broken_pictures(pictures: Mapping[str, Path | Callable[[], bytes]]) -> dict[str, str]:
    """Return the reason for every picture that cannot be decoded to its end, by name.

    One thread per core decodes them. The result is kept in the cache folder until a file changes.

    Args:
        pictures: by name: a file, or a reader of its bytes.
    """
    if (kept := _kept(pictures)) is None:
        return _decoded(pictures)
    found: dict[str, str] = BROKEN.kept(kept, lambda: {"broken": _decoded(pictures)})["broken"]
    return found


def _decoded(pictures: Mapping[str, Path | Callable[[], bytes]]) -> dict[str, str]:
    with ThreadPoolExecutor(reading_threads()) as pool:
        reasons = pool.map(picture_problem, pictures.values())
        return {name: why for name, why in zip(pictures, reasons, strict=True) if why}


def _kept(pictures: Mapping[str, Path | Callable[[], bytes]]) -> Path | None:
    """Return the file of the result for these files, at these sizes and times; ``None`` where
    pictures are no files.
    """
    digest = hashlib.sha256()
    for name, source in pictures.items():
        if not isinstance(source, Path):
            return None
        try:
            found = source.stat()
            state: object = (found.st_size, found.st_mtime_ns)
        except (OSError, ValueError):  # a missing file, or a name that no file can have
            state = None
        digest.update(f"{name!r} {str(source.absolute())!r} {state}\n".encode("utf-8", "surrogateescape"))
    return cache_dir() / "broken" / f"{digest.hexdigest()[:32]}.json"


def save_left_out(path: Path, left_out: tuple[str, ...]) -> None:
    """Write what was left out, one line each; nothing if that is nothing.

    An older list at ``path`` goes.
    """
    if left_out:
        write_text(path, "".join(f"{line}\n" for line in left_out))
    else:
        path.unlink(missing_ok=True)


def count_left_out(left_out: tuple[str, ...]) -> str:
    """Return the number of what was left out as a sentence."""
    return f"{len(left_out):,} broken picture(s) or entries are left out."
