"""Pictures that cannot be decoded, found before anything is made of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ashneuro.data.images import picture_problem
from ashneuro.files import replace_file

LEFT_OUT = "left-out.txt"
"""File that lists what ``data.skip_broken`` left out."""


def broken_pictures(pictures: Mapping[str, Path | Callable[[], bytes]]) -> dict[str, str]:
    """Return the reason for every picture that cannot be decoded to its end, by name.

    Args:
        pictures: by name: a file, or a reader of its bytes. One thread per core decodes them.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = pool.map(picture_problem, pictures.values(), chunksize=1)
        return {name: why for name, why in zip(pictures, reasons, strict=True) if why}


def save_left_out(path: Path, left_out: tuple[str, ...]) -> None:
    """Write what was left out, one line each; nothing if that is nothing.

    An older list at ``path`` goes.
    """
    if left_out:
        replace_file(path, lambda file: file.write_text("".join(f"{line}\n" for line in left_out), encoding="utf-8"))
    else:
        path.unlink(missing_ok=True)


def count_left_out(left_out: tuple[str, ...]) -> str:
    """Return the number of what was left out as a sentence."""
    return f"{len(left_out):,} broken picture(s) or entries are left out."
