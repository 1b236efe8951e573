"""Texts as pieces of words, learned from a run's own texts: for languages without spaces between
words, and for words that were never seen.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro import schemas
from ashneuro.data.tokens import UNKNOWN, Words, build_vocabulary, pad, split_words
from ashneuro.errors import DataError, need

PIECES = 8192
"""Largest number of pieces."""

MIN_COUNT = 2
"""Number of times that two pieces stand next to each other before they make a new one."""

LETTERS, UNSPACED_LETTERS = 16, 6
"""Longest piece: of a word between spaces, and where there are none. A longer one there would hold
several words, or all of a caption that several pictures have, and say nothing about other captions.
"""

_OFFSET = 2  # indices 0 and 1 are padding and the mask
_BYTES = 256
_HAN = "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"

# Scripts in which words are not separated: Thai, Lao, Tibetan, Burmese, Khmer, kana, Bopomofo, Yi,
# and Chinese characters.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3100-\u312f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff]"
)


class Pieces:
    """Pieces of words by index, by byte-pair encoding; `Words` describes the methods.

    Every text can be written: a letter that was never seen becomes its bytes. A Chinese character
    is a piece. Pieces do not say where a word starts: where words have no spaces, none does. 0 is
    padding, 1 the mask. Texts are compared in lower case, in compatible form (NFKC), without
    punctuation; a text of signs alone keeps them.

    Args:
        definition: the JSON of a `tokenizers.Tokenizer`.

    Raises:
        DataError: it is none.
    """

    def __init__(self, definition: str) -> None:
        library: Any = need("tokenizers", extra="train", purpose="data.tokeniser = 'pieces'")
        try:
            self._tokenizer = library.Tokenizer.from_str(definition)
        except Exception as error:  # the library raises no type of its own
            raise DataError("this is no tokeniser", str(error), "restore the run's vocabulary.json") from error

    def __eq__(self, other: object) -> bool:
        """Return True if texts get the same indices."""
        return isinstance(other, Pieces) and self._tokenizer.to_str() == other._tokenizer.to_str()

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return _OFFSET + int(self._tokenizer.get_vocab_size())

    @property
    def mask(self) -> int:
        """Index that replaces masked pieces."""
        return UNKNOWN

    @property
    def marks(self) -> frozenset[int]:
        """Empty: texts have no marks."""
        return frozenset()

    def indices(self, text: str) -> list[int]:
        """Return one index per piece of ``text``."""
        return [_OFFSET + number for number in self._tokenizer.encode(_plain(text)).ids]

    def encode(self, texts: Iterable[str], max_words: int) -> NDArray[np.int64]:
        """Return indices (B, M) of B ``texts``, cut to ``max_words`` pieces and padded, M ≥ 1."""
        return pad([self.cut(self.indices(text), max_words) for text in texts])

    def cut(self, indices: list[int], max_words: int) -> list[int]:
        """Return the first ``max_words`` of ``indices``; 0: all."""
        return indices[:max_words] if max_words else indices

    def unknown(self, text: str) -> list[str]:
        """Return no words: all of them have pieces."""
        return []

    def pieces(self, text: str) -> list[str]:
        """Return the pieces of ``text``; bytes are ``<0xE7>``."""
        return list(self._tokenizer.encode(_plain(text)).tokens)

    def save(self, path: Path) -> None:
        """Write the tokeniser as JSON."""
        content = schemas.PIECES.stamped({"tokeniser": "pieces", "definition": json.loads(self._tokenizer.to_str())})
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def build_pieces(texts: Iterable[str]) -> Pieces:
    """Return the pieces of all words in ``texts``.

    Neighbouring pieces become one, the most frequent first, until there are `PIECES` or none is
    left that occurs `MIN_COUNT` times. Where words have no spaces between them, pieces have at most
    `UNSPACED_LETTERS` letters.
    """
    library: Any = need("tokenizers", extra="train", purpose="data.tokeniser = 'pieces'")
    # Sorted: the pieces do not depend on the order of the pairs.
    known = sorted(texts)
    tokenizer = library.Tokenizer(library.models.BPE(byte_fallback=True))
    before = library.pre_tokenizers
    tokenizer.pre_tokenizer = before.Sequence([before.WhitespaceSplit(), before.Split(library.Regex(_HAN), "isolated")])
    trainer = library.trainers.BpeTrainer(
        vocab_size=PIECES,
        min_frequency=MIN_COUNT,
        max_token_length=UNSPACED_LETTERS if unspaced_share(known) >= UNSPACED else LETTERS,
        show_progress=False,
    )
    tokenizer.train_from_iterator(map(_plain, known), trainer)
    definition = json.loads(tokenizer.to_str())
    # The trainer knows no bytes: they come first.
    learned = sorted(definition["model"]["vocab"], key=definition["model"]["vocab"].__getitem__)
    pieces = [*(f"<0x{number:02X}>" for number in range(_BYTES)), *learned]
    definition["model"]["vocab"] = {piece: number for number, piece in enumerate(pieces)}
    return Pieces(json.dumps(definition))


def choose_words(tokeniser: str, texts: Sequence[str]) -> Words:
    """Return the words or the pieces of ``texts``, as ``data.tokeniser`` says."""
    if tokeniser == "auto":
        tokeniser = "pieces" if unspaced_share(texts) >= UNSPACED else "words"
    return build_pieces(texts) if tokeniser == "pieces" else build_vocabulary(texts)


UNSPACED = 0.05
"""Share of texts in scripts without spaces from which ``data.tokeniser = "auto"`` takes pieces."""


def is_unspaced(text: str) -> bool:
    """Return True if at least half of the letters of ``text`` are of scripts without spaces."""
    letters = sum(letter.isalnum() for letter in text)
    return letters > 0 and 2 * len(_UNSPACED.findall(text)) >= letters


def unspaced_share(texts: Sequence[str]) -> float:
    """Return the share of ``texts`` in scripts without spaces between words."""
    return sum(map(is_unspaced, texts)) / max(1, len(texts))


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text)
    return " ".join(split_words(text)) or " ".join(text.split())
