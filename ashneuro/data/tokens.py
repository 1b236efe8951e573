"""Texts as word indices, and the vocabulary that a run keeps."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import DataError

PADDING, UNKNOWN = 0, 1
_SPECIAL = ("<padding>", "<unknown>")
_WORD = re.compile(r"\w+(?:['’]\w+)*")


def split_words(text: str) -> list[str]:
    """Return the words of ``text`` in lower case; an apostrophe stays inside a word, all other punctuation parts words."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class Vocabulary:
    """Words and their indices: 0 is padding, 1 stands for every word that is not known.

    Args:
        words: in the order of their indices, the two special ones first.
    """

    words: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", {word: index for index, word in enumerate(self.words)})

    def __len__(self) -> int:
        return len(self.words)

    def indices(self, text: str) -> list[int]:
        """Return one index per word of ``text``."""
        return [self._index.get(word, UNKNOWN) for word in split_words(text)]

    def encode(self, texts: Iterable[str], max_words: int) -> NDArray[np.int64]:
        """Return word indices (B, M) of B ``texts``, cut after ``max_words`` and padded to the longest, M ≥ 1."""
        return pad([self.indices(text)[:max_words] for text in texts])

    def unknown(self, text: str) -> list[str]:
        """Return the words of ``text`` that are not in the vocabulary."""
        return [word for word in split_words(text) if word not in self._index]

    def save(self, path: Path) -> None:
        """Write the words as a JSON list."""
        path.write_text(json.dumps(self.words, ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Return the vocabulary that `save` wrote.

        Raises:
            DataError: the file cannot be read or is not such a list.
        """
        try:
            words = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read the vocabulary {path}", str(error), "train the run again, or restore the file") from error
        if not isinstance(words, list) or tuple(words[:2]) != _SPECIAL or not all(isinstance(word, str) for word in words):
            raise DataError(
                f"{path} is not a vocabulary", f"it must be a JSON list of words that starts with {', '.join(_SPECIAL)}", "restore the file"
            )
        return cls(tuple(words))


def build_vocabulary(texts: Iterable[str]) -> Vocabulary:
    """Return the vocabulary of all words in ``texts``, the most frequent first, ties in alphabetical order."""
    counts = Counter(word for text in texts for word in split_words(text))
    return Vocabulary((*_SPECIAL, *sorted(counts, key=lambda word: (-counts[word], word))))


def pad(rows: list[list[int]]) -> NDArray[np.int64]:
    """Return ``rows`` as one array (B, M), padded with 0 on the right; M is the longest row's length, at least 1."""
    tokens = np.full((len(rows), max((1, *map(len, rows)))), PADDING, np.int64)
    for row, values in zip(tokens, rows, strict=True):
        row[: len(values)] = values
    return tokens
