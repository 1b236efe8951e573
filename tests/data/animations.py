"""Animated pictures for the tests of this package."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def moving_square(count: int = 9, side: int = 16, seed: int = 0) -> NDArray[np.uint8]:
    """Frames (count, side, side, 3) of a coloured square that moves one pixel to the right at a
    time.
    """
    frames = np.full((count, side, side, 3), 255, np.uint8)
    colour = np.random.default_rng(seed).integers(0, 128, 3)
    for number, frame in enumerate(frames):
        frame[4:8, number % side : number % side + 4] = colour
    return frames


def webp(frames: NDArray[np.uint8], duration: int = 42) -> bytes:
    """Return the frames as a lossless animated WebP."""
    first, *rest = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    first.save(buffer, "WEBP", save_all=True, append_images=rest, duration=duration, lossless=True)
    return buffer.getvalue()
