"""The pictures of a folder, without captions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ashneuro.data.columns import SUFFIXES
from ashneuro.data.images import header_problem, read_image
from ashneuro.data.pairs import Pair
from ashneuro.data.picture_folders import pictures_in
from ashneuro.errors import DataError


def folder_pictures(folder: Path) -> tuple[list[Pair], list[str]]:
    """Return the pictures in ``folder`` and below, sorted by name, and one line per file that
    cannot be read.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"no pictures in {folder}", "there is no such folder", "give a folder with pictures")
    files = pictures_in(folder)
    if not files:
        raise DataError(
            f"no pictures in {folder}", f"no file there ends in {', '.join(SUFFIXES)}", "give another folder"
        )
    pictures, problems = [], []
    for file in files:
        name = file.relative_to(folder).as_posix()
        if why := header_problem(file):
            problems.append(f"{name}: {why}")
        else:
            # The name takes the place of a caption: pairs have at least one text.
            pictures.append(Pair(name, (name,), name, partial(read_image, file)))
    return pictures, problems
