"""Packs of clips: one ZIP archive of AVIF sequences with their captions, and a manifest.

A pack is a folder of ``clips.zip`` (a file ``KEY.avif`` per clip, and ``clips.json``),
``pack.json`` (hashes, versions) and ``LICENSES.txt``. Frames of a clip are coded together: coded
one by one, lossy pictures differ where nothing moves. AVIF keeps full colour resolution (4:4:4).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.data.clip_files import animated_frames
from ashneuro.data.clips import ClipRecord
from ashneuro.errors import DataError, need
from ashneuro.files import parse_json, reason_of, replace_files
from ashneuro.schemas import Format, remedy_of
from ashneuro.zips import open_zip

ARCHIVE, MANIFEST, INDEX = "clips.zip", "pack.json", "clips.json"
QUALITY, SPEED = 75, 6
MAX_CLIPS, MAX_FRAMES = 100_000, 100_000  # of a pack, of one of its clips
EPOCH = (1980, 1, 1, 0, 0, 0)  # ZIP's first time; the time of the build would change the bytes


@dataclass(frozen=True)
class PackedClip:
    """Entry of ``clips.json``.

    Args:
        frames: number of frames in the file.
        every: the file holds every k-th frame of the original.
    """

    key: str
    captions: tuple[str, ...]
    concept: str
    group: str
    style: str
    frames: int
    every: int


@dataclass(frozen=True)
class ClipPackSummary:
    """Counts of a written pack.

    Args:
        digest: SHA-256 of all entries and of all pixels before compression.
        size_bytes: size of archive and manifest.
    """

    clips: int
    frames: int
    digest: str
    size_bytes: int


def encode(frames: NDArray[np.uint8]) -> bytes:
    """Return frames (F, H, W, 3) uint8 as an AVIF sequence.

    Raises:
        MissingDependency: Pillow is missing, or has no AVIF.
    """
    image = need("PIL.Image", extra="data", purpose="writing clips")
    need("PIL._avif", extra="data", purpose="writing clips as AVIF")
    first, *rest = [image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    # One thread: the division of work among several could change the bytes.
    options = {"quality": QUALITY, "speed": SPEED, "subsampling": "4:4:4", "codec": "aom", "max_threads": 1}
    first.save(buffer, "AVIF", save_all=True, append_images=rest, **options)
    return without_times(buffer.getvalue())


def without_times(avif: bytes) -> bytes:
    """Return an AVIF sequence with zero as its times of creation and change.

    libavif writes the time of the encoding, by which the bytes of two builds would differ. The
    times are in the headers of the movie, its tracks and their media (ISO/IEC 14496-12, 8.2.2,
    8.3.2, 8.4.2).
    """
    data = bytearray(avif)

    def clear(start: int, end: int) -> None:
        while start + 8 <= end:
            size, kind = int.from_bytes(data[start : start + 4]), bytes(data[start + 4 : start + 8])
            if size < 8:  # 0: to the end; 1: a 64-bit size. No box that holds times has these.
                return
            if kind in (b"moov", b"trak", b"mdia"):
                clear(start + 8, start + size)
            elif kind in (b"mvhd", b"tkhd", b"mdhd"):
                times = 16 if data[start + 8] else 8  # version 1 has 64-bit times
                data[start + 12 : start + 12 + times] = bytes(times)
            start += size

    clear(0, len(data))
    return bytes(data)


@dataclass(frozen=True)
class PackFile:
    """``pack.json``: what of it is read; the rest describes where the clips are from."""

    frames_per_s: float


PACK = Format("ashneuro-clips", PackFile, bare=True)


def write_pack(
    folder: Path,
    clips: Iterable[tuple[PackedClip, bytes, str]],
    *,
    frames_per_s: float,
    info: Mapping[str, Any],
) -> ClipPackSummary:
    """Write ``clips.zip`` and ``pack.json`` to ``folder``, both or none.

    Args:
        clips: entry, AVIF file, and hash of the pixels before compression, in the order of the
            pack.
        frames_per_s: rate of the originals.
        info: description, source and versions, for the manifest.
    """
    return replace_files(folder, partial(_write_pack, clips, frames_per_s, info), last=MANIFEST)


def _write_pack(
    clips: Iterable[tuple[PackedClip, bytes, str]], frames_per_s: float, info: Mapping[str, Any], folder: Path
) -> ClipPackSummary:
    digest = hashlib.sha256()
    index = []
    with zipfile.ZipFile(folder / ARCHIVE, "w") as archive:
        for entry, data, pixels in clips:
            archive.writestr(zipfile.ZipInfo(f"{entry.key}.avif", EPOCH), data, zipfile.ZIP_STORED)
            index.append(asdict(entry))
            digest.update(json.dumps([asdict(entry), pixels], ensure_ascii=False).encode())
        lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in index)
        archive.writestr(zipfile.ZipInfo(INDEX, EPOCH), f"[{lines}]\n", zipfile.ZIP_DEFLATED)
    packed = (folder / ARCHIVE).read_bytes()
    manifest = PACK.stamped(info) | {
        "frames_per_s": frames_per_s,
        "digest": digest.hexdigest(),
        "files": {ARCHIVE: hashlib.sha256(packed).hexdigest()},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    size = len(packed) + (folder / MANIFEST).stat().st_size
    return ClipPackSummary(len(index), sum(entry["frames"] for entry in index), digest.hexdigest(), size)


def is_pack(folder: Path) -> bool:
    """Return True if the folder holds a pack of clips."""
    return (folder / ARCHIVE).is_file() and (folder / MANIFEST).is_file()


def read_pack(folder: Path, *, remedy: str, fastest: bool = False) -> list[ClipRecord]:
    """Return the clips of a pack at one rate, not decoded yet.

    A pack may hold some clips at a higher rate than the others.

    Args:
        remedy: what to do about a damaged pack, for errors.
        fastest: only clips that are held at the pack's highest rate, at that rate; default: all
            clips, at the lowest rate.

    Raises:
        DataError: the pack is damaged.
    """
    try:
        manifest = PACK.load(folder / MANIFEST)
        native = float(manifest["frames_per_s"])
        with open_zip(folder / ARCHIVE) as archive:
            entries = [_entry(fields) for fields in parse_json(archive.read(INDEX).decode("utf-8"))]
            missing = {f"{entry.key}.avif" for entry in entries} - set(archive.namelist())
        if missing or not entries or len(entries) > MAX_CLIPS or not native > 0:
            raise ValueError(f"{len(missing)} of {len(entries)} clips are missing")
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        do = remedy_of(error, remedy)
        raise DataError(f"the pack of clips in {folder} cannot be read", reason_of(error), do) from error
    steps = [entry.every for entry in entries]
    every = min(steps) if fastest else max(steps)
    if uneven := [entry.key for entry in entries if every % entry.every and not fastest]:
        raise DataError(
            f"the pack of clips in {folder} cannot be read",
            f"{uneven[0]} holds every {entries[0].every}th frame, which does not divide {every}",
            remedy,
        )
    return [
        ClipRecord(
            entry.key,
            native / every,
            entry.concept,
            entry.captions,
            entry.group,
            entry.style,
            partial(_frames, folder, entry, every // entry.every, remedy),
        )
        for entry in entries
        if not fastest or entry.every == every
    ]


def _frames(folder: Path, entry: PackedClip, step: int, remedy: str, every: int) -> Iterator[NDArray[np.uint8]]:
    need("PIL._avif", extra="train", purpose="reading clips in AVIF, which Pillow has from 11.3 on,")
    try:
        with open_zip(folder / ARCHIVE) as archive:
            data = archive.read(f"{entry.key}.avif")  # checks the CRC
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"cannot read the clip {entry.key} in {folder}", reason_of(error), remedy) from error
    frames = animated_frames(io.BytesIO(data), f"{entry.key} in {folder}", step * every, MAX_FRAMES)
    count = 0
    for frame in frames:
        count += 1
        yield frame
    if count != -(-entry.frames // (step * every)):
        raise DataError(
            f"cannot read the clip {entry.key} in {folder}",
            f"it has not the {entry.frames} frames that the pack's index says",
            remedy,
        )


def _entry(fields: dict[str, Any]) -> PackedClip:
    entry = PackedClip(**{**fields, "captions": tuple(fields["captions"])})
    texts = (entry.key, entry.concept, entry.group, entry.style, *entry.captions)
    counts = (entry.frames, entry.every)
    if not (all(isinstance(text, str) for text in texts) and entry.captions) or not all(
        type(count) is int and 1 <= count <= MAX_FRAMES for count in counts
    ):
        raise ValueError(f"the entry of {entry.key!r} in {INDEX} is not one of a clip")
    return entry
