"""Counts of a data set by part and style, and the overlap of its captions with the training
part.
"""

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
        images: number of images by style; one entry with an empty name where there are no styles.
        concepts: number of distinct concepts.
        captions: number of captions.
        distinct_captions: number of distinct captions.
        words: number of distinct words.
        words_per_caption: mean number of words of a caption.
        captions_in_train: number of distinct captions that are also in the training part.
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
    """Counts of a data set, by part: train, validation, test."""

    name: str
    notes: tuple[str, ...]
    parts: Mapping[str, PartCounts]


def describe(splits: Splits) -> Description:
    """Return the counts of each part."""
    # Overlap is counted exactly as written; splits themselves ignore case and spaces.
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
