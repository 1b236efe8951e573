"""Training batches of shards that are read as a stream."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ashneuro.config import DataConfig, TrainConfig
from ashneuro.data.batches import (
    CPU,
    augment,
    draw_augmentation,
    local_rows,
    normalise,
    place,
    prefetch,
    require_batch,
    resize,
    texts_of,
)
from ashneuro.data.images import decode_image
from ashneuro.data.pairs import Batch
from ashneuro.data.shards import Sample, Stream, Survey
from ashneuro.data.splits import normalise_caption
from ashneuro.data.tokens import Words, pad
from ashneuro.errors import ConfigError, DataError

TEXTS = 16
"""Texts of a pair, at most, that are compared with the texts of others in a batch."""

AHEAD = 2
"""Batches whose rows a lane decodes ahead."""


PATIENCE = 1000
"""Pictures, one after the other, that may fail to be decoded."""


@dataclass(frozen=True, eq=False)
class _Row:
    """A sample whose picture is decoded, (size, size, 3) uint8."""

    sample: Sample
    pixels: NDArray[np.uint8]


class StreamBatches:
    """Training batches of a stream, epoch by epoch; `ashneuro.data.batches.Batches` describes them.

    Every row of a batch belongs to a lane of the stream. A process reads the lanes of its rows, one
    thread each. The batches of an epoch depend on (seed, epoch) alone: a resumed run reads over
    what it has learned from, and sees the batches of an uninterrupted one.

    Args:
        survey: of the stream.
        views: add a second augmented view of every image.
        shard: this process's rank and the number of processes; each gives its rows of every batch.

    Raises:
        ConfigError: settings ask for what a stream cannot give.
        DataError: there are fewer pairs than a batch holds.
    """

    def __init__(
        self,
        stream: Stream,
        survey: Survey,
        vocabulary: Words,
        data: DataConfig,
        train: TrainConfig,
        *,
        views: bool,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        require_batch(survey.pairs, "training pairs", train.batch_size)
        for name in ("cache_features", "unlabelled"):
            if getattr(train, name):
                why = "the pictures of a stream come in another order in every epoch, and are not kept"
                raise ConfigError(f"train.{name} with data.stream", why, f"leave train.{name} out")
        self._stream, self._vocabulary, self._data, self._train = stream, vocabulary, data, train
        self._views, self._shard, self._pairs = views, shard, survey.pairs
        known = [len(texts_of(sample, data.captions)) for sample in survey.samples]
        self._texts = min(TEXTS, max(known, default=1))

    def __len__(self) -> int:
        """Return the number of whole batches in an epoch."""
        return self._pairs // self._train.batch_size

    def epoch(self, epoch: int, start: int = 0, device: torch.device = CPU) -> Iterator[Batch]:
        """Iterate over the batches of an epoch, counted from 0, from batch ``start`` on.

        Images are augmented on ``device``, where the batches are.
        """
        size = self._train.batch_size
        own = local_rows(size, self._shard)
        mine = range(size)[own]
        lanes = self._stream.lanes(self._shard[1], size)
        with ExitStack() as running:
            readers: list[tuple[range, Iterator[_Row]]] = []
            for lane in range(lanes):
                rows = range(lane * size // lanes, (lane + 1) * size // lanes)
                if given := range(max(rows[0], mine[0]), min(rows[-1], mine[-1]) + 1):
                    decoded = prefetch(self._lane(epoch, lane, lanes, rows, given, start), AHEAD * len(given))
                    readers.append((given, running.enter_context(closing(decoded))))  # type: ignore[type-var]
            for number in range(start, len(self)):
                found = [next(reader) for given, reader in readers for _ in given]
                yield self._batch(found, mine, own, f"{self._train.seed}/{epoch}/{number}", device)

    def _lane(self, epoch: int, lane: int, lanes: int, rows: range, given: range, start: int) -> Iterator[_Row]:
        """Iterate over a lane's samples for the rows ``given``, batch by batch from ``start`` on.

        The lane fills ``rows`` of every batch; samples of other rows are read by other processes.
        """
        samples = self._stream.lane(epoch, self._train.seed, lane, lanes)
        for number in range(len(self)):
            for row in rows:
                wanted = number >= start and row in given
                yield from (found for found in (self._next(samples, wanted),) if found is not None)

    def _next(self, samples: Iterator[Sample], wanted: bool) -> _Row | None:
        """Return the next sample, decoded; ``None`` if it is not wanted.

        A picture that cannot be decoded makes way for the next one, so that with
        ``data.skip_broken`` those that are passed over have to be decoded, too.

        Raises:
            DataError: a picture cannot be decoded, and ``data.skip_broken`` is not set.
        """
        for failed, sample in enumerate(samples):
            if failed > max(self._pairs, PATIENCE):
                raise DataError(
                    f"{self._data.source} has no pictures that can be decoded",
                    f"{failed:,} of them, one after the other, cannot be",
                    "check the shards: ashneuro data check SHARD",
                )
            if not wanted and not self._data.skip_broken:
                return None
            try:
                pixels = decode_image(lambda data=sample.picture: data, sample.key)  # type: ignore[misc]
            except DataError as error:
                self._stream.problem(f"{sample.key}: {error.why}")
                continue
            return _Row(sample, resize(pixels, self._data.image_size)) if wanted else None
        raise AssertionError("a lane has no end")

    def _batch(self, found: list[_Row], mine: range, own: slice, name: str, device: torch.device) -> Batch:
        """Return the rows of this process; ``name`` is that of the batch, which seeds its random
        numbers.
        """
        chance = torch.Generator().manual_seed(_number(name))
        size = self._train.batch_size
        changes = [draw_augmentation(size, self._train.augment, chance) for _ in range(1 + self._views)]
        pixels = np.stack([row.pixels for row in found]).transpose(0, 3, 1, 2)
        images = normalise(place(torch.from_numpy(np.ascontiguousarray(pixels)), device))
        views = [augment(images, [values[own] for values in change]) for change in changes]
        drawn = [self._draw(row.sample, f"{name}/{number}") for row, number in zip(found, mine, strict=True)]
        return Batch(
            images=views[0],
            views=views[1] if self._views else None,
            tokens=place(torch.from_numpy(pad([words for words, _ in drawn])), device),
            concepts=place(torch.tensor([_number(row.sample.concept) for row in found]), device),
            keys=tuple(row.sample.key for row in found),
            texts=place(torch.stack([texts for _, texts in drawn]), device),
        )

    def _draw(self, sample: Sample, name: str) -> tuple[list[int], Tensor]:
        """Draw one text of a pair and drop words from it; return also the numbers of the drawn text
        and of all its texts, −1 = padding.
        """
        chance = random.Random(name)
        texts = texts_of(sample, self._data.captions)
        text = chance.choice(texts)
        words, marks = self._vocabulary.indices(text), self._vocabulary.marks
        kept = [word for word in words if chance.random() >= self._train.word_dropout or word in marks]
        numbers = [_number(normalise_caption(each)) for each in texts[: self._texts]]
        numbers += [-1] * (self._texts - len(numbers))
        short = self._vocabulary.cut(kept, self._data.max_words) or words[:1]
        return short, torch.tensor([_number(normalise_caption(text)), *numbers])


def _number(text: str) -> int:
    """Return a number from 0 to 2⁶³ − 1: equal for equal texts, in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
