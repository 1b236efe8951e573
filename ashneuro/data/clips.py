"""Clips: pictures that follow one another, with captions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import ConfigError, DataError, need

MOVED = 0.02  # of full scale: what counts as a change of a pixel
MAX_BYTES = 4 << 30  # of the frames of one clip, or of all clips that are loaded together


@dataclass(frozen=True, eq=False)
class Clip:
    """Pictures that follow one another at a constant rate, with captions.

    Args:
        key: unique name within its source, e.g. ``"1f436"`` or a file name.
        frames: (F, H, W, 3) uint8 RGB.
        frames_per_s: rate of ``frames``, after frames were left out.
        concept: clips and pictures of one concept are never negatives of each other, as in `Pair`.
        captions: one or more texts; the first one is shown.
        group: category, as the label ``group`` of a pair; may be empty.
        style: drawing style; may be empty.
    """

    key: str
    frames: NDArray[np.uint8]
    frames_per_s: float
    concept: str
    captions: tuple[str, ...]
    group: str = ""
    style: str = ""

    def subsampled(self, every: int) -> Clip:
        """Return the clip with frames 0, ``every``, 2 · ``every``, …, at the rate that this gives.

        Raises:
            ConfigError: ``every`` is below 1.
        """
        if every < 1:
            raise ConfigError(f"every = {every}", "a stream keeps every k-th frame, k ≥ 1", "give a positive number")
        return replace(self, frames=self.frames[::every], frames_per_s=self.frames_per_s / every)


@dataclass(frozen=True, eq=False)
class ClipRecord:
    """A clip of a source that is not decoded yet.

    Args:
        frames_per_s: rate of the frames that ``read`` yields.
        read: iterates over every k-th frame for the argument k, (H, W, 3) uint8, one at a time.
            Raises `DataError`.
    """

    key: str
    frames_per_s: float
    concept: str
    captions: tuple[str, ...]
    group: str
    style: str
    read: Callable[[int], Iterable[NDArray[np.uint8]]]

    def load(self, *, image_size: int | None = None, every: int = 1) -> Clip:
        """Return the clip with every ``every``-th frame, resized to ``image_size`` squared.

        Pictures of pairs are resized the same way (Lanczos, proportions not kept).

        Raises:
            DataError: a frame cannot be read, frames differ in size, or the clip is too large.
        """
        frames: list[NDArray[np.uint8]] = []
        for number, frame in enumerate(self.read(every)):
            pixels = frame if image_size is None else _resized(frame, image_size)
            if frames and pixels.shape != frames[0].shape:
                raise DataError(
                    f"the frames of {self.key} differ in size",
                    f"frame {number * every} is {pixels.shape[1]}×{pixels.shape[0]}, the first one "
                    f"{frames[0].shape[1]}×{frames[0].shape[0]}",
                    "give an image size, to which all are resized",
                )
            if (len(frames) + 1) * pixels.nbytes > MAX_BYTES:
                raise DataError(
                    f"will not read the clip {self.key}",
                    f"its frames take more than {MAX_BYTES >> 30} GiB",
                    "give a smaller image size, leave out more frames, or cut the clip",
                )
            frames.append(pixels)
        if not frames:
            raise DataError(f"the clip {self.key} is empty", "it holds no frame", "remove it")
        rate = self.frames_per_s / every
        return Clip(self.key, np.stack(frames), rate, self.concept, self.captions, self.group, self.style)


def changed_share(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the share of pixels that change from each frame to the next, (F − 1,).

    A pixel changes if its largest difference over the channels is above 2 % of full scale.

    Args:
        frames: (F, H, W, 3) uint8.
    """
    # Frame by frame and unsigned: a clip may fill much of the memory.
    shares = [
        ((np.maximum(new, old) - np.minimum(new, old)).max(axis=-1) > MOVED * 255).mean()
        for old, new in pairwise(frames)
    ]
    return np.array(shares, dtype=np.float64)


def subsampling(native: float, wanted: float, key: str, faster: str = "") -> int:
    """Return k so that every k-th frame of a clip at ``native`` frames/s comes nearest ``wanted``.

    Args:
        key: of the clip, for errors.
        faster: a source of clips with more frames per second, for errors.

    Raises:
        ConfigError: ``wanted`` is not positive, or more than 10 % above the native rate.
    """
    if not wanted > 0:
        raise ConfigError(f"frames_per_s = {wanted:g}", "it is not positive", "give a rate above 0")
    if wanted > 1.1 * native:
        raise ConfigError(
            f"frames_per_s = {wanted:g}",
            f"{key} has {native:.3g} frames/s, and frames are left out, never made up",
            f"give at most {native:.3g}" + (f", or take {faster}" if faster else ""),
        )
    return max(1, round(native / wanted))


def _resized(frame: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if frame.shape[:2] == (size, size):
        return frame
    pillow: Any = need("PIL.Image", extra="train", purpose="resizing images")
    return np.array(pillow.fromarray(frame).resize((size, size), pillow.Resampling.LANCZOS))
