"""Words, indices, and the file of a vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashneuro.data.tokens import PADDING, UNKNOWN, Vocabulary, build_vocabulary, extend_words, split_words
from ashneuro.errors import DataError

TEXTS = ["Dog face", "dog, pet: man’s best friend", "the dog's 2 bones"]


def test_words_are_lower_case_without_punctuation() -> None:
    assert split_words("Dog, pet: MAN’s best-friend (2)!") == ["dog", "pet", "man’s", "best", "friend", "2"]
    assert split_words("Übergröße, 犬") == ["übergröße", "犬"]
    assert split_words(" ,;- ") == []


def test_words_are_in_canonical_form() -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    assert split_words(apart) == split_words(composed) == [composed]
    assert split_words("the woman's 'hat'") == split_words("the woman’s ‘hat’") == ["the", "woman’s", "hat"]
    assert split_words("हिन्दी, ❤️ 1️⃣") == ["हिन्दी", "1"]
    assert build_vocabulary(["woman’s hat"]).unknown("Woman's hat") == []


def test_vocabularies_of_older_runs_are_read() -> None:
    before = Vocabulary(("<padding>", "<unknown>", "don't", "don’t", "cafe\u0301"))
    assert before.indices("don't don’t caf\u00e9") == [2, 2, 4]


def test_frequent_words_come_first_and_ties_are_alphabetical() -> None:
    vocabulary = build_vocabulary(TEXTS)
    assert vocabulary.words[2:5] == ("dog", "2", "best")
    assert len(vocabulary) == len(set(vocabulary.words)) == 2 + 10
    assert build_vocabulary(reversed(TEXTS)) == vocabulary


def test_known_words_keep_their_indices() -> None:
    known, more = build_vocabulary(["red dog"]), build_vocabulary(["which dog?", "which colour?"])
    assert extend_words(known, more).words == (*known.words, "which", "colour")
    decomposed = Vocabulary(("<padding>", "<unknown>", "cafe\u0301"))  # of an older run
    assert extend_words(decomposed, build_vocabulary(["caf\u00e9"])) == decomposed


def test_texts_become_padded_indices() -> None:
    vocabulary = build_vocabulary(TEXTS)
    tokens = vocabulary.encode(["dog face", "unheard", "", "dog face pet bones"], max_words=3)
    assert tokens.shape == (4, 3)
    words = [[vocabulary.words[index] for index in row if index not in (PADDING, UNKNOWN)] for row in tokens]
    assert words == [["dog", "face"], [], [], ["dog", "face", "pet"]]
    assert tokens[1].tolist() == [UNKNOWN, PADDING, PADDING]
    assert tokens[2].tolist() == [PADDING] * 3
    assert vocabulary.encode([""], max_words=3).shape == (1, 1)
    assert vocabulary.unknown("A dog, unheard") == ["a", "unheard"]


def test_saved_vocabulary_is_loaded(tmp_path: Path) -> None:
    vocabulary = build_vocabulary([*TEXTS, "犬"])
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary


@pytest.mark.parametrize("content", [None, "{", '["dog"]', '{"dog": 2}', '["<padding>", "<unknown>", 3]'])
def test_damaged_file_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "vocabulary.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match="vocabulary") as error:
        Vocabulary.load(path)
    assert error.value.why and error.value.do
