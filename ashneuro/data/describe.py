"""What is in a data set: counts per part and per style, and how much of the test texts was seen in training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ashneuro.data.pairs import Pair, Splits
from ashneuro.data.tokens import split_words


@dataclass(frozen=True)
class PartCounts:
    """Counts of one part of a data set.

    Args:
        images: images by style; one entry with an empty name where there are no styles.
        concepts: number of distinct concepts.
        captions: number of captions, and ``distinct_captions`` of different ones.
        words: number of distinct words.
        words_per_caption: their mean number.
        captions_in_train: how many of the distinct captions also stand in the training part.
    """

    images: Mapping[str, int]
    concepts: int
    captions: int
    distinct_captions: int
    words: int
    words_per_caption: float
    captions_in_train: int


@dataclass(frozen=True)
class Description:
    """A data set in numbers; ``parts`` are train, validation and test."""

    name: str
    notes: tuple[str, ...]
    parts: Mapping[str, PartCounts]


def describe(splits: Splits) -> Description:
    """Return the counts of each part."""
    seen = {caption for pair in splits.train for caption in pair.captions}
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return Description(splits.name, splits.notes, {name: _count(pairs, seen) for name, pairs in parts.items()})


def _count(pairs: Sequence[Pair], seen: set[str]) -> PartCounts:
    captions = [caption for pair in pairs for caption in pair.captions]
    words = [split_words(caption) for caption in captions]
    distinct = set(captions)
    return PartCounts(
        images=dict(Counter(pair.style for pair in pairs)),
        concepts=len({pair.concept for pair in pairs}),
        captions=len(captions),
        distinct_captions=len(distinct),
        words=len({word for text in words for word in text}),
        words_per_caption=sum(map(len, words)) / max(1, len(words)),
        captions_in_train=len(distinct & seen),
    )
