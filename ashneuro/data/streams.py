"""Streams by name or path, loaded as clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ashneuro.data.clip_files import read_clip_files
from ashneuro.data.clips import MAX_BYTES, Clip, ClipRecord, changed_share, subsampling
from ashneuro.data.readers import report
from ashneuro.data.splits import hash_order
from ashneuro.errors import ConfigError, DataError

__all__ = ["Clip", "changed_share", "load_clips", "open_clips"]

NATIVE = 24.0  # frames per second that folders of frames are taken to have


def load_clips(
    source: str | Path,
    *,
    image_size: int | None = None,
    every: int | None = None,
    frames_per_s: float | None = None,
    limit: int | None = None,
    native: float = NATIVE,
) -> tuple[Clip, ...]:
    """Return the clips of a named source, an animated picture, or a folder of either.

    Frames are left out at a constant step, never made up.

    Args:
        source: the path of an animated WebP, AVIF, GIF or PNG; or of a folder whose sub-folders
            hold frames, or that holds animated pictures.
        image_size: width and height that frames are resized to, in pixels; default: their own.
        every: keep every k-th frame; default 1.
        frames_per_s: rate to come near instead of ``every``, per clip. Durations of the frames of a
            file are taken as equal.
        limit: number of clips; they are chosen by the hash of their keys, so that they are spread
            over the source, and keep their order.
        native: frames per second of folders of frames, which do not say theirs.

    Raises:
        ConfigError: there is no such source, or a number cannot be used.
        DataError: clips cannot be read; names all problems.
    """
    if every is not None and frames_per_s is not None:
        raise ConfigError("every and frames_per_s", "both say which frames are kept", "give one of them")
    for name, value in (("every", every), ("limit", limit), ("image_size", image_size)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} = {value}", "it is below 1", "give a positive number")
    chosen = choose(open_clips(source, native=native), limit)
    steps = [
        subsampling(record.frames_per_s, frames_per_s, record.key) if frames_per_s is not None else every or 1
        for record in chosen
    ]
    clips: list[Clip] = []
    problems: list[str] = []
    size = 0
    for record, step in zip(chosen, steps, strict=True):
        try:
            clip = record.load(image_size=image_size, every=step)
        except DataError as error:
            problems.append(f"{record.key}: {error.why}")
            continue
        clips.append(clip)
        size += clip.frames.nbytes
        if size > MAX_BYTES:
            raise DataError(
                f"will not load all of {source}",
                f"the frames of {len(clips)} of {len(chosen)} clips take more than {MAX_BYTES >> 30} GiB",
                "give a limit, a smaller image size, or leave out more frames",
            )
    report(source, problems)
    return tuple(clips)


def open_clips(source: str | Path, *, native: float = NATIVE) -> tuple[ClipRecord, ...]:
    """Return the clips of a source, not decoded yet; arguments and errors as of `load_clips`."""
    if not native > 0:
        raise ConfigError(f"native = {native:g}", "a rate is positive", "give frames per second above 0")
    records, problems = read_clip_files(Path(source).expanduser(), native)
    report(source, problems)
    return tuple(records)


def choose(records: Sequence[ClipRecord], limit: int | None) -> list[ClipRecord]:
    """Return ``limit`` of the clips, by the hash of their keys and in their order."""
    if limit is None or limit >= len(records):
        return list(records)
    kept = set(hash_order((record.key for record in records), "clips")[:limit])
    return [record for record in records if record.key in kept]
