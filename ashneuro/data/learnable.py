"""Counts of what will not be learned from a data set's texts and pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ashneuro.config import MAX_WORDS, MIN_WORDS
from ashneuro.data.pieces import is_unspaced
from ashneuro.data.splits import normalise_caption
from ashneuro.data.tokens import Vocabulary, Words


@dataclass(frozen=True)
class Learnable:
    """Counts of the texts of a data set.

    Args:
        texts: number of texts.
        shared: those that equal a text of another owner, up to case and spaces.
        max_words: longest text that is read, in words or pieces.
        cut: number of longer texts.
        unspaced: texts in scripts without spaces between words.
        wordless: texts without letters and digits, or without any word or piece.
        unit: what texts are read as: ``"words"`` or ``"pieces"``.
        one_colour: pictures that have a single colour.
    """

    texts: int
    shared: int
    max_words: int
    cut: int
    unspaced: int
    wordless: int
    unit: str
    one_colour: int = 0

    def sentences(self) -> list[str]:
        """Return a sentence for each count of what may not be learned, with the remedy."""
        of = f"of {self.texts:,} texts"
        found = []
        if self.shared:
            found.append(
                f"{self.shared:,} {of} belong to several pictures: they cannot tell these apart, and count as hits "
                "of each, never as negatives"
            )
        if self.cut:
            found.append(
                f"{self.cut:,} {of} have more than {self.max_words} {self.unit}; the rest is cut off "
                "(data.max_words = 0 follows the data)"
            )
        if self.unspaced:
            how = (
                "a sentence is one word: set data.tokeniser = 'pieces'"
                if self.unit == "words"
                else "they are read in pieces of words"
            )
            found.append(f"{self.unspaced:,} {of} are in scripts without spaces between words; {how}")
        if self.wordless:
            how = "nothing is learned from them" if self.unit == "words" else "they are read as signs"
            found.append(f"{self.wordless:,} {of} have no words: {how}")
        if self.one_colour:
            found.append(f"{self.one_colour:,} pictures are all of one colour")
        return found


def count_learnable(
    texts: Sequence[str], owners: Sequence[Hashable], words: Words, max_words: int, one_colour: int = 0
) -> Learnable:
    """Return the counts of ``texts``.

    Args:
        owners: of each text: its picture, or its concept.
        max_words: 0: as `limit_words` says.
        one_colour: number of pictures of one colour, kept in the result.
    """
    owners_of: dict[str, set[Hashable]] = defaultdict(set)
    for text, owner in zip(texts, owners, strict=True):
        owners_of[normalise_caption(text)].add(owner)
    lengths = [len(words.indices(text)) for text in texts]
    limit = max_words or limit_words(lengths)
    return Learnable(
        texts=len(texts),
        shared=sum(len(owners_of[normalise_caption(text)]) > 1 for text in texts),
        max_words=limit,
        cut=sum(length > limit for length in lengths),
        unspaced=sum(map(is_unspaced, texts)),
        wordless=sum(
            not length or not any(map(str.isalnum, text)) for text, length in zip(texts, lengths, strict=True)
        ),
        unit="words" if isinstance(words, Vocabulary) else "pieces",
        one_colour=one_colour,
    )


def limit_words(lengths: Sequence[int], most: int = MAX_WORDS) -> int:
    """Return the number of words that ``data.max_words = 0`` stands for.

    It is the 99th percentile of the training texts' lengths, from `MIN_WORDS` to ``most``.
    """
    long = int(np.percentile(lengths, 99, method="higher")) if lengths else 0
    return min(max(long, MIN_WORDS), most)
