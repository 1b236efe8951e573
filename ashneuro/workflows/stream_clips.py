"""Clips that a stream is evaluated on: those of a source, or a run's own pictures that drift."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ashneuro.errors import ConfigError, DataError
from ashneuro.workflows.runs import Part, pictures_of_run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.data.clips import Clip
    from ashneuro.training.checkpoint import Run

OWN = "own"
DRIFT = 8  # frames of a picture that drifts
FRAMES = 1024  # simulated together


def stream_clips(run: Run, source: str | Path, samples: int | None, part: Part) -> tuple[Clip, ...]:
    """Return the clips of a stream, each of two frames at least.

    Args:
        source: see `ashneuro.data.streams.load_clips`; `OWN`: pictures of the run's ``part``, each
            of which moves by a pixel from frame to frame.
        samples: only this many; ``None``: all.

    Raises:
        ConfigError: ``samples`` is below 1.
        DataError: clips cannot be read, or none of them moves.
    """
    from ashneuro.data.streams import load_clips

    if samples is not None and samples < 1:
        raise ConfigError(f"--samples {samples}", "a stream has at least one clip", "--samples 16")
    if source == OWN:
        return _drifting(run, samples, part)
    clips = load_clips(source, image_size=run.config.data.image_size, limit=samples)
    moving = tuple(clip for clip in clips if len(clip.frames) > 1)
    if not moving:
        raise DataError(f"no clip of {source} has two frames", "changes need at least two", "name other clips")
    return moving


def _drifting(run: Run, samples: int | None, part: Part) -> tuple[Clip, ...]:
    """Return pictures of a run that move to the right by a pixel per frame."""
    import numpy as np

    from ashneuro.data.batches import load_images
    from ashneuro.data.clips import Clip

    pairs = (pictures_of_run(run, part) or pictures_of_run(run, "train"))[:samples]
    pictures = load_images(pairs, run.config.data.image_size).permute(0, 2, 3, 1).numpy()
    return tuple(
        Clip(
            pair.key,
            np.stack([_shifted(picture, step) for step in range(DRIFT)]),
            8.0,
            pair.concept,
            pair.captions,
        )
        for pair, picture in zip(pairs, pictures, strict=True)
    )


def _shifted(picture: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    import numpy as np

    edge = np.repeat(picture[:, :1], pixels, axis=1)
    return np.concatenate([edge, picture], axis=1)[:, : picture.shape[1]]


def subsampled(clips: Sequence[Clip], rate: float) -> list[Clip]:
    """Return clips at the rate nearest to ``rate`` that leaving out frames gives, frames/s."""
    from ashneuro.data.clips import subsampling

    return [clip.subsampled(subsampling(clip.frames_per_s, rate, clip.key)) for clip in clips]


def of_one_length(clips: Sequence[Clip]) -> Iterator[list[Clip]]:
    """Yield groups of clips of one length, at most `FRAMES` frames each."""
    by_length: dict[int, list[Clip]] = {}
    for clip in clips:
        by_length.setdefault(len(clip.frames), []).append(clip)
    for length, group in sorted(by_length.items()):
        most = max(1, FRAMES // length)
        yield from (group[start : start + most] for start in range(0, len(group), most))
