"""Clips of one's own: animated pictures, and folders of frames."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.data.clips import ClipRecord
from ashneuro.data.formats import read_captions
from ashneuro.data.images import DAMAGE, flatten, read_image, reason
from ashneuro.data.readers import Record
from ashneuro.errors import DataError, need

ANIMATED = (".apng", ".avif", ".gif", ".png", ".webp")
FRAMES = (".avif", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
CAPTION_FILES = {"clips.csv": "csv", "clips.tsv": "csv", "clips.jsonl": "jsonl", "clips.json": "coco"}  # formats
UNTIMED_MS = 100.0  # duration of a frame where the file says 0, as browsers take it


def read_clip_files(path: Path, native: float) -> tuple[list[ClipRecord], list[str]]:
    """Return the clips of an animated picture or of a folder, and its problems, one line each.

    In a folder, every animated picture and every sub-folder of pictures is a clip; a folder of
    still pictures and nothing else is one clip. Frames are in the natural order of their names
    (2 before 10). A caption file ``clips.csv``, ``.tsv``, ``.jsonl`` or ``.json`` (COCO) in the
    folder names the clips in its column ``image``; without one, a clip's name is its caption.

    Args:
        native: frames per second of folders of frames, which do not say theirs.

    Raises:
        DataError: there is no such file or folder, it holds no clip, or its caption file cannot be
            read at all.
    """
    if path.is_file():
        frames, rate = probe(path)
        problems = [] if frames > 1 else [f"{path.name}: a single picture, no stream"]
        return [_record(path.name, path, rate)], problems
    if not path.is_dir():
        raise DataError(f"no clips in {path}", "there is no such file or folder", "check the path")
    problems = []
    records: list[ClipRecord] = []
    stills: list[Path] = []
    for entry in sorted(path.iterdir(), key=natural):
        suffix = entry.suffix.lower()
        if entry.is_dir():
            if frames_of := frame_files(entry):
                records.append(_record(entry.name, frames_of, native))
        elif suffix in {*ANIMATED, *FRAMES} and entry.is_file():
            try:
                number, rate = probe(entry)
            except DataError as error:
                problems.append(f"{entry.name}: {error.why}")
                continue
            if number > 1:
                records.append(_record(entry.name, entry, rate))
            else:
                stills.append(entry)
    if stills and not records:
        records.append(_record(path.resolve().name, stills, native))
    else:
        problems += [f"{still.name}: a single picture, no stream; put frames into a sub-folder" for still in stills]
    if not records and not problems:
        raise DataError(
            f"no clips in {path}",
            f"it holds neither animated pictures ({', '.join(ANIMATED)}) nor sub-folders of pictures",
            "check the path",
        )
    if captions := next((path / name for name in CAPTION_FILES if (path / name).is_file()), None):
        records = _captioned(records, captions, problems)
    return records, problems


def probe(path: Path) -> tuple[int, float]:
    """Return the number of frames of a picture file, and their mean rate in frames per second.

    Raises:
        DataError: the file is not a picture that Pillow knows.
    """
    image = need("PIL.Image", extra="train", purpose="reading clips")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", image.DecompressionBombWarning)
            with image.open(path) as file:
                return animation(file)
    except (*DAMAGE, image.DecompressionBombError) as error:
        raise _unreadable(str(path), error) from error


def animation(file: Any) -> tuple[int, float]:
    """Return the number of frames of an open picture, and their mean rate in frames per second."""
    frames = getattr(file, "n_frames", 1)
    total = 0.0
    for index in range(frames):
        file.seek(index)
        # WebP and AVIF know a frame's duration once it is decoded.
        if file.format in ("WEBP", "AVIF"):
            file.load()
        total += float(file.info.get("duration", 0)) or UNTIMED_MS
    return frames, 1000 * frames / total


def animated_frames(
    source: Path | IO[bytes], name: str, every: int = 1, limit: int | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Iterate over every k-th frame of an animated picture, (H, W, 3) uint8, transparency on white.

    Args:
        name: of the picture in error messages.
        limit: number of the picture's frames that are looked at.

    Raises:
        DataError: the picture is damaged; frames before the damage come first.
    """
    image = need("PIL.Image", extra="train", purpose="reading clips")
    try:
        with image.open(source) as file:
            for index in range(0, min(getattr(file, "n_frames", 1), limit or sys.maxsize), every):
                file.seek(index)
                yield np.asarray(flatten(file))
    except (*DAMAGE, image.DecompressionBombError) as error:
        raise _unreadable(name, error) from error


def frame_files(folder: Path) -> list[Path]:
    """Return the pictures of a folder in the natural order of their names."""
    return sorted((file for file in folder.iterdir() if file.suffix.lower() in FRAMES and file.is_file()), key=natural)


def natural(path: Path) -> list[tuple[int, int | str]]:
    """Return a sort key by which numbers in a name count as numbers: 2 before 10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name) if part]


def words_of(name: str) -> str:
    """Return a file's name as a caption: without suffix, words separated by spaces."""
    return " ".join(re.split(r"[\s_-]+", name)).strip() or name


def _record(key: str, files: Path | Sequence[Path], rate: float) -> ClipRecord:
    stem = Path(key).stem if isinstance(files, Path) else key
    read = partial(animated_frames, files, str(files)) if isinstance(files, Path) else partial(_stills, files)
    return ClipRecord(key, rate, stem, (words_of(stem),), "", "", read)


def _stills(files: Sequence[Path], every: int) -> Iterator[NDArray[np.uint8]]:
    return (read_image(file) for file in files[::every])


def _captioned(records: list[ClipRecord], path: Path, problems: list[str]) -> list[ClipRecord]:
    """Return the clips that the caption file names, with its captions, in its order."""
    entries, wrong = read_captions(path, CAPTION_FILES[path.name])
    problems += wrong
    by_key = {record.key: record for record in records}
    named = {entry.image for entry in entries}
    problems += [f"{key}: has no caption in {path.name}" for key in by_key if key not in named]
    found = []
    for entry in entries:
        if entry.image in by_key:
            found.append(_with_captions(by_key[entry.image], entry))
        else:
            problems.append(f"{path.name} {entry.where} ({entry.image}): there is no such clip beside it")
    return found


def _with_captions(record: ClipRecord, entry: Record) -> ClipRecord:
    return ClipRecord(
        record.key,
        record.frames_per_s,
        entry.concept or record.concept,
        tuple(entry.captions),
        str(entry.labels.get("group", "")),
        entry.style,
        record.read,
    )


def _unreadable(name: str, error: Exception) -> DataError:
    return DataError(f"cannot read the clip {name}", reason(error), "replace the file, or remove it from the folder")
