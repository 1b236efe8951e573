"""Counts of a source of clips: how many there are, and how much changes between frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ashneuro.data.clips import Clip, ClipRecord, changed_share
from ashneuro.errors import DataError

SLOWER = (1, 2, 3, 6)  # every k-th frame of what is read


@dataclass(frozen=True)
class RateCount:
    """Frames and changes of all clips at one rate.

    Args:
        frames_per_s: mean of the clips' rates.
        frames: number of frames.
        changed: share of pixels whose largest channel moves by more than 2 % of full scale from a
            frame to the next; mean over the clips with two frames or more, ``None`` without any.
        same: share of pixels that do not move at all; likewise.
    """

    frames_per_s: float
    frames: int
    changed: float | None
    same: float | None


@dataclass(frozen=True)
class ClipCheck:
    """Result of `check_clips`.

    Args:
        clips: number of clips.
        readable: number of those that decode to their end.
        still: number of clips none of whose pixels changes, at the highest rate.
        concepts: number of distinct concepts.
        captions: number of distinct captions.
        styles: drawing styles.
        sizes: sizes of the frames, "WIDTH×HEIGHT".
        rates: counts by rate, the highest first.
        problems: one line each.
    """

    source: str
    clips: int
    readable: int
    still: int
    concepts: int
    captions: int
    styles: tuple[str, ...]
    sizes: tuple[str, ...]
    rates: tuple[RateCount, ...]
    problems: tuple[str, ...]


def check_clips(
    source: str, records: Sequence[ClipRecord], every: int = 1, tick: Callable[[int, int], None] | None = None
) -> ClipCheck:
    """Decode every clip to its end, one after another, and return counts and problems.

    Args:
        source: name for the result.
        every: the highest rate is that of every k-th frame.
        tick: called with (clips read, clips in all).
    """
    problems: list[str] = []
    measured: list[list[tuple[float, int, float, float]]] = []  # by clip, by rate
    sizes: set[str] = set()
    for number, record in enumerate(records, start=1):
        try:
            clip = record.load(every=every)
        except DataError as error:
            problems.append(f"{record.key}: {error.why}")
        else:
            measured.append([_measure(clip.subsampled(step)) for step in SLOWER])
            sizes.add(f"{clip.frames.shape[2]}×{clip.frames.shape[1]}")
        if tick:
            tick(number, len(records))
    # (clips, rates, 4)
    table = np.array(measured, dtype=np.float64).reshape(-1, len(SLOWER), 4)
    return ClipCheck(
        source,
        clips=len(records),
        readable=len(measured),
        still=int((table[:, 0, 2] == 0).sum()),
        concepts=len({record.concept for record in records}),
        captions=len({caption for record in records for caption in record.captions}),
        styles=tuple(dict.fromkeys(record.style for record in records if record.style)),
        sizes=tuple(sorted(sizes)),
        rates=tuple(_mean(table[:, rate]) for rate in range(len(SLOWER))) if measured else (),
        problems=tuple(problems),
    )


def _measure(clip: Clip) -> tuple[float, int, float, float]:
    frames = clip.frames
    if len(frames) < 2:
        return clip.frames_per_s, len(frames), float("nan"), float("nan")
    same = (frames[1:] == frames[:-1]).all(axis=-1).mean()
    return clip.frames_per_s, len(frames), float(changed_share(frames).mean()), float(same)


def _mean(rows: NDArray[np.float64]) -> RateCount:
    moving = rows[rows[:, 1] > 1]
    changed, same = map(float, moving[:, 2:].mean(axis=0)) if len(moving) else (None, None)
    return RateCount(float(rows[:, 0].mean()), int(rows[:, 1].sum()), changed, same)
