"""Texts as word indices: vocabularies, and tokenizers of pretrained text towers."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ashneuro import schemas
from ashneuro.data.fetch import weights_path
from ashneuro.errors import DataError, need
from ashneuro.files import read_json, reason_of
from ashneuro.schemas import remedy_of

PADDING, UNKNOWN = 0, 1
_SPECIAL = ("<padding>", "<unknown>")
_VARIATIONS = range(0xFE00, 0xFE10)  # variation selectors, which belong to no word


def split_words(text: str) -> list[str]:
    """Return the words of ``text`` in lower case, in canonical form.

    Apostrophes stay inside words; all other punctuation separates them. Combining marks that
    compose with no letter, such as the vowel signs of Hindi, stay in their word.
    """
    return _word().findall(canonical(text.lower()))


def canonical(text: str) -> str:
    """Return ``text`` with composed accents (NFC) and typographic apostrophes, however it was
    typed.
    """
    return unicodedata.normalize("NFC", text).replace("'", "’")


@cache
def _word() -> re.Pattern[str]:
    # \w has no combining marks (Mn, Mc), without which words of many scripts would fall apart.
    marks = (
        chr(code)
        for code in range(0x300, 0x1F000)
        if unicodedata.category(chr(code)) in ("Mn", "Mc") and code not in _VARIATIONS
    )
    part = rf"\w[\w{''.join(marks)}]*"
    return re.compile(rf"{part}(?:’{part})*")


class Words(Protocol):
    """Texts to word indices, 0 = padding: a `Vocabulary`, `ashneuro.data.pieces.Pieces`, or the
    tokenizer of a pretrained text tower.
    """

    @property
    def mask(self) -> int:
        """Index that replaces masked words."""

    def __len__(self) -> int:
        """Return the number of indices."""

    def indices(self, text: str) -> list[int]:
        """Return one index per word or piece of ``text``."""

    def encode(self, texts: Iterable[str], max_words: int) -> NDArray[np.int64]:
        """Return indices (B, M) of B ``texts``, cut to ``max_words`` and padded to the longest, M ≥
        1.
        """

    @property
    def marks(self) -> frozenset[int]:
        """Indices that mark the start and end of every text."""

    def cut(self, indices: list[int], max_words: int) -> list[int]:
        """Return a text's indices, cut to ``max_words``; 0: all of them."""

    def unknown(self, text: str) -> list[str]:
        """Return the words of ``text`` that have no index of their own."""

    def save(self, path: Path) -> None:
        """Write the file that `load_words` reads."""


@dataclass(frozen=True)
class Vocabulary:
    """Words by index: 0 is padding, 1 stands for every unknown word.

    Args:
        words: in the order of their indices, the two special ones first.
    """

    words: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index: dict[str, int] = {}
        for number, word in enumerate(self.words):
            # Older runs saved words as typed; the first of equal ones is the more frequent one.
            index.setdefault(canonical(word), number)
        object.__setattr__(self, "_index", index)

    def __len__(self) -> int:
        return len(self.words)

    @property
    def mask(self) -> int:
        """Index that replaces masked words: that of unknown words."""
        return UNKNOWN

    def indices(self, text: str) -> list[int]:
        """Return one index per word of ``text``."""
        return [self._index.get(word, UNKNOWN) for word in split_words(text)]

    def encode(self, texts: Iterable[str], max_words: int) -> NDArray[np.int64]:
        """Return word indices (B, M) of B ``texts``, cut to ``max_words`` and padded to the
        longest, M ≥ 1.
        """
        return pad([self.cut(self.indices(text), max_words) for text in texts])

    @property
    def marks(self) -> frozenset[int]:
        """Empty: texts have no marks."""
        return frozenset()

    def cut(self, indices: list[int], max_words: int) -> list[int]:
        """Return the first ``max_words`` of ``indices``; 0: all."""
        return indices[:max_words] if max_words else indices

    def unknown(self, text: str) -> list[str]:
        """Return the words of ``text`` that are not in the vocabulary."""
        return [word for word in split_words(text) if word not in self._index]

    def save(self, path: Path) -> None:
        """Write the words as JSON."""
        content = schemas.WORDS.stamped({"words": self.words})
        path.write_text(json.dumps(content, ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Return the vocabulary that `save` wrote.

        Raises:
            DataError: the file cannot be read or is not such a list.
        """
        try:
            content = read_json(path)
            words = schemas.WORDS.check({"words": content} if isinstance(content, list) else content)["words"]
        except (OSError, ValueError) as error:
            do = remedy_of(error, "train the run again, or restore the file")
            raise DataError(f"cannot read the vocabulary {path}", reason_of(error), do) from error
        if tuple(words[:2]) != _SPECIAL:
            raise DataError(
                f"{path} is not a vocabulary",
                f"its list of words must start with {', '.join(_SPECIAL)}",
                "restore the file",
            )
        return cls(tuple(words))


def build_vocabulary(texts: Iterable[str]) -> Vocabulary:
    """Return the vocabulary of all words in ``texts``, the most frequent first, ties in
    alphabetical order.
    """
    counts = Counter(word for text in texts for word in split_words(text))
    return Vocabulary((*_SPECIAL, *sorted(counts, key=lambda word: (-counts[word], word))))


def extend_words(known: Words, more: Words) -> Words:
    """Return the words of ``known``, then those that a vocabulary ``more`` has besides.

    Pieces and the tokenizer of a text tower spell every word, so they stay as they are.
    """
    if not (isinstance(known, Vocabulary) and isinstance(more, Vocabulary)):
        return known
    there = set(map(canonical, known.words))
    return Vocabulary((*known.words, *(word for word in more.words if word not in there)))


def pad(rows: list[list[int]]) -> NDArray[np.int64]:
    """Return ``rows`` as one array (B, M), padded with 0 on the right; M is the longest length, at
    least 1.
    """
    tokens = np.full((len(rows), max((1, *map(len, rows)))), PADDING, np.int64)
    for row, values in zip(tokens, rows, strict=True):
        row[: len(values)] = values
    return tokens


class PretrainedWords:
    """The tokenizer of a pretrained text tower.

    Indices are its own plus one: 0 is padding for every tower.

    Args:
        tower: ``"transformers"`` or ``"open_clip"``.
        weights: as `ashneuro.config.TextConfig.weights`.

    Raises:
        DataError: the tokenizer cannot be read.
    """

    def __init__(self, tower: str, weights: str) -> None:
        self.tower, self.weights = tower, weights
        try:
            if tower == "open_clip":
                clip: Any = need("open_clip", extra="pretrained", purpose="model.text.tower")
                self._tokenizer = clip.get_tokenizer(weights.partition(":")[0])
            else:
                hub: Any = need("transformers", extra="pretrained", purpose="model.text.tower")
                self._tokenizer = hub.AutoTokenizer.from_pretrained(weights_path(weights))
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"no tokenizer in {weights!r}", why, "give a folder that has the tower's tokenizer"
            ) from error

    def __eq__(self, other: object) -> bool:
        """Return True if texts get the same indices.

        Folders may differ: a run has a copy of the tokenizer.
        """
        # open_clip's tokenizers follow from the model's name; transformers' are compared by their
        # pieces.
        return isinstance(other, PretrainedWords) and self.tower == other.tower and self._pieces() == other._pieces()

    __hash__ = None  # type: ignore[assignment]

    def _pieces(self) -> object:
        return self.weights.partition(":")[0] if self.tower == "open_clip" else self._tokenizer.get_vocab()

    def __len__(self) -> int:
        return 1 + (self._tokenizer.vocab_size if self.tower == "open_clip" else len(self._tokenizer))

    @property
    def mask(self) -> int:
        """Index of the tokenizer's mask; if it has none, of its unknown piece, or its first."""
        own = [getattr(self._tokenizer, name, None) for name in ("mask_token_id", "unk_token_id")]
        return 1 + next((number for number in own if number is not None), 0)

    def indices(self, text: str) -> list[int]:
        """Return one index per piece of ``text``, with the marks of start and end that the tower
        needs.
        """
        if self.tower == "open_clip":
            marks = [self._tokenizer.sot_token_id, *self._tokenizer.encode(text), self._tokenizer.eot_token_id]
            return [number + 1 for number in marks]
        return [number + 1 for number in self._tokenizer(text)["input_ids"]]

    def encode(self, texts: Iterable[str], max_words: int) -> NDArray[np.int64]:
        """Return indices (B, M), cut to ``max_words`` pieces; the end mark is kept."""
        return pad([self.cut(self.indices(text), max_words) for text in texts])

    @cached_property
    def marks(self) -> frozenset[int]:
        """Indices of the marks of start and end that the tower needs."""
        names = ("sot_token_id", "eot_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
        own = [getattr(self._tokenizer, name, None) for name in names]
        return frozenset(1 + number for number in own if number is not None)

    def cut(self, indices: list[int], max_words: int) -> list[int]:
        """Return the first ``max_words`` of ``indices``, the last of them the end mark; 0: all."""
        return indices if not max_words or len(indices) <= max_words else [*indices[: max_words - 1], indices[-1]]

    def unknown(self, text: str) -> list[str]:
        """Return no words: the tokenizer cuts unknown words into known pieces."""
        return []

    def save(self, path: Path) -> None:
        """Write the tokenizer's name to ``path``, and beside it a copy of the tokenizer if it has
        files.
        """
        if self.tower == "transformers":
            self._tokenizer.save_pretrained(path.parent / TOWER)
        content = schemas.TOWER.stamped({"tower": self.tower, "weights": self.weights})
        path.write_text(json.dumps(content), encoding="utf-8")


TOWER = "tower"


def load_words(path: Path) -> Words:
    """Return the words that `Words.save` wrote to ``path``.

    Raises:
        DataError: the file cannot be read, or is not such a file.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or "words" in content:
        return Vocabulary.load(path)
    pieces = "tokeniser" in content
    try:
        body = (schemas.PIECES if pieces else schemas.TOWER).check(content)
    except ValueError as error:
        why = f"{error}; it has words, or names a tokeniser or a tower"
        do = remedy_of(error, "restore the file, or train the run again")
        raise DataError(f"{path} is not a vocabulary", why, do) from error
    if pieces:
        from ashneuro.data.pieces import Pieces

        return Pieces(json.dumps(body["definition"]))
    copy = path.parent / TOWER
    return PretrainedWords(body["tower"], str(copy) if copy.is_dir() else body["weights"])
