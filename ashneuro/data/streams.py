"""Streams by name or path, loaded as clips."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ashneuro.data.clip_files import ANIMATED, read_clip_files
from ashneuro.data.clip_pack import is_pack, read_pack
from ashneuro.data.clips import MAX_BYTES, Clip, ClipRecord, changed_share, subsampling
from ashneuro.data.emoji_streams import PACK
from ashneuro.data.fetch import METEOCONS, fetched_folder
from ashneuro.data.meteocons import read_meteocons
from ashneuro.data.readers import report
from ashneuro.data.splits import hash_order
from ashneuro.errors import ConfigError, DataError
from ashneuro.files import user_path

__all__ = ["STREAMS", "Clip", "StreamSource", "changed_share", "choose", "default_step", "load_clips", "open_clips"]

NATIVE = 24.0  # frames per second that folders of frames are taken to have


@dataclass(frozen=True)
class StreamSource:
    """A named source of clips.

    Args:
        step: every ``step``-th frame is kept unless another rate is asked for.
        faster: name of a source with the same clips at a higher rate; may be empty.
    """

    about: str
    licence: str
    step: int
    read: Callable[[], list[ClipRecord]]
    faster: str = ""


def load_clips(
    source: str | Path = "emoji-streams",
    *,
    styles: Sequence[str] = (),
    image_size: int | None = None,
    every: int | None = None,
    frames_per_s: float | None = None,
    limit: int | None = None,
    native: float = NATIVE,
) -> tuple[Clip, ...]:
    """Return the clips of a named source, an animated picture, or a folder of either.

    Frames are left out at a constant step, never made up.

    Args:
        source: a name of `STREAMS`; the path of an animated WebP, AVIF, GIF or PNG; of a folder
            whose sub-folders hold frames, or that holds animated pictures; or of a pack of clips.
        styles: drawing styles to take; default: all.
        image_size: width and height that frames are resized to, in pixels; default: their own.
        every: keep every k-th frame; default: 1, and 5 for Meteocons, which have 60 frames/s.
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
    records = open_clips(source, native=native)
    if wrong := sorted(set(styles) - {record.style for record in records}):
        there = ", ".join(sorted({record.style for record in records if record.style})) or "none"
        raise ConfigError(f"no style {', '.join(map(repr, wrong))}", f"{source} has: {there}", "name another style")
    chosen = choose([record for record in records if not styles or record.style in styles], limit)
    step = every or default_step(source)
    faster = STREAMS[str(source)].faster if str(source) in STREAMS else ""
    steps = [
        step if frames_per_s is None else subsampling(record.frames_per_s, frames_per_s, record.key, faster)
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
    if named := STREAMS.get(str(source)):
        return tuple(named.read())
    path = user_path(source)
    if not path.exists():
        near = difflib.get_close_matches(str(source), STREAMS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ConfigError(
            f"no clips in {source}",
            f"it is neither a named source ({', '.join(STREAMS)}) nor a file or folder{hint}",
            "name a source, an animated picture, or a folder of frames",
        )
    if is_pack(path):
        return tuple(read_pack(path, remedy="ashneuro data build emoji-streams makes it again"))
    records, problems = read_clip_files(path, native)
    report(source, problems)
    return tuple(records)


def is_clips(source: str | Path) -> bool:
    """Return True if the source is surely one of clips: named, a pack, or an animated picture.

    A folder of pictures may be clips or pairs.
    """
    path = user_path(source)
    return str(source) in STREAMS or is_pack(path) or (path.suffix.lower() in ANIMATED and path.is_file())


def default_step(source: str | Path) -> int:
    """Return k so that every k-th frame of the source is kept unless another rate is asked for."""
    named = STREAMS.get(str(source))
    return named.step if named else 1


def choose(records: Sequence[ClipRecord], limit: int | None) -> list[ClipRecord]:
    """Return ``limit`` of the clips, by the hash of their keys and in their order."""
    if limit is None or limit >= len(records):
        return list(records)
    kept = set(hash_order((record.key for record in records), "clips")[:limit])
    return [record for record in records if record.key in kept]


_REBUILD = "reinstall ashneuro, or run `ashneuro data build emoji-streams`"
STREAMS: dict[str, StreamSource] = {
    "emoji-streams": StreamSource(
        "clips: animated emoji, 8 frames/s, with the emoji's names and keywords; embedded",
        "MIT",
        1,
        lambda: read_pack(PACK, remedy=_REBUILD),
        faster="emoji-streams-24",
    ),
    "emoji-streams-24": StreamSource(
        "clips: a quarter of the animated emoji at their full rate, 24 frames/s; embedded",
        "MIT",
        1,
        lambda: read_pack(PACK, remedy=_REBUILD, fastest=True),
    ),
    "meteocons": StreamSource(
        METEOCONS.about, METEOCONS.licence, 5, lambda: read_meteocons(fetched_folder("meteocons"))
    ),
}
