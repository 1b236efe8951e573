"""Pieces of words: languages without spaces, words that were never seen, and the run's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ashneuro.config import MAX_WORDS, MIN_WORDS
from ashneuro.data.learnable import count_learnable, limit_words
from ashneuro.data.pieces import Pieces, build_pieces, choose_words, is_unspaced
from ashneuro.data.tokens import Vocabulary, build_vocabulary, load_words
from ashneuro.errors import DataError

CHINESE = ["一只红色的狗在草地上奔跑", "一只白色的猫坐在椅子上", "蓝色的鸟在天空飞"]
JAPANESE = ["赤い犬が草の上を走っている", "白い猫が椅子に座っている"]
THAI = ["สุนัขสีแดงวิ่งบนหญ้า", "แมวสีขาวนั่งบนเก้าอี้"]
ENGLISH = ["A red dog runs on the grass.", "the white cat, the dog’s friend"]


def test_sentences_without_spaces_have_pieces_in_common() -> None:
    for texts in (CHINESE, JAPANESE, THAI):
        pieces = build_pieces(texts)
        first, second = (set(pieces.indices(text)) for text in texts[:2])
        assert len(first) > 4 and len(second) > 4 and first & second and first - second
    assert build_pieces(CHINESE).pieces("红色的鸟") == ["红", "色", "的", "鸟"]
    # No piece is a whole caption, however often it occurs.
    assert len(build_pieces(THAI * 50).pieces(THAI[0])) >= 4


def test_words_never_seen_are_read() -> None:
    pieces = build_pieces([*ENGLISH * 5, *CHINESE])
    assert pieces.pieces("The DOG") == ["the", "dog"]
    assert pieces.unknown("zebra 斑马") == []
    rows = [tuple(pieces.indices(text)) for text in ("zebra", "斑马", "🐶", "ж", "dogs", "")]
    assert len(set(rows)) == 6 and rows[-1] == () and min(min(row) for row in rows[:-1]) >= 2
    assert max(map(max, rows[:-1])) < len(pieces)
    assert pieces.indices("ｒｅｄ，  Dog!") == pieces.indices("red dog")
    assert pieces.encode(["red dog", ""], 1).shape == (2, 1)
    assert pieces.encode(["red dog runs"], 0).shape == (1, 3)
    assert pieces.marks == frozenset() and pieces.mask == 1


def test_pieces_do_not_depend_on_the_order_of_texts() -> None:
    texts = [*CHINESE, *JAPANESE, *THAI, *ENGLISH]
    assert build_pieces(texts) == build_pieces(reversed(texts)) != build_pieces(texts[1:])


def test_saved_pieces_are_loaded(tmp_path: Path) -> None:
    pieces = build_pieces(CHINESE)
    pieces.save(tmp_path / "vocabulary.json")
    again = load_words(tmp_path / "vocabulary.json")
    assert isinstance(again, Pieces) and again == pieces and again.indices(CHINESE[0]) == pieces.indices(CHINESE[0])
    (tmp_path / "vocabulary.json").write_text(json.dumps({"tokeniser": "pieces"}))
    with pytest.raises(DataError, match=r"has no .definition."):
        load_words(tmp_path / "vocabulary.json")


def test_pieces_are_chosen_for_scripts_without_spaces() -> None:
    assert isinstance(choose_words("auto", ENGLISH * 20), Vocabulary)
    assert isinstance(choose_words("auto", [*ENGLISH * 10, *CHINESE]), Pieces)
    assert isinstance(choose_words("words", CHINESE), Vocabulary)
    assert isinstance(choose_words("pieces", ENGLISH), Pieces)
    for text in (*CHINESE, *JAPANESE, *THAI, "ລາວ", "ភាសាខ្មែរ", "မြန်မာ"):
        assert is_unspaced(text)
    for text in (*ENGLISH, "한국어 문장", "हिन्दी वाक्य", "русский", "the 犬 emoji", "", "🐶"):
        assert not is_unspaced(text)


def test_limit_follows_from_the_lengths() -> None:
    assert limit_words([]) == limit_words([3] * 100) == MIN_WORDS
    assert limit_words([5] * 980 + [63] * 20) == 63
    assert limit_words([5] * 999 + [63]) == MIN_WORDS  # fewer than one in a hundred
    assert limit_words([5000] * 10) == MAX_WORDS
    assert limit_words([5000] * 10, 77) == 77


def test_texts_without_effect_are_counted() -> None:
    texts = ["a dog", "A  dog", "cat", "cat", "…", "一只红色的狗", " ".join(["word"] * 30)]
    owners = ["1", "2", "3", "3", "4", "5", "6"]
    found = count_learnable(texts, owners, build_vocabulary(texts), 24)
    assert (found.texts, found.shared, found.cut, found.unspaced, found.wordless) == (7, 2, 1, 1, 1)
    sentences = found.sentences()
    assert [sentence.split()[0] for sentence in sentences] == ["2", "1", "1", "1"]
    assert "more than 24 words" in sentences[1] and "data.tokeniser = 'pieces'" in sentences[2]
    found = count_learnable(texts, owners, build_pieces(texts), 0, one_colour=3)
    assert (found.max_words, found.cut, found.wordless, found.unit) == (30, 0, 1, "pieces")
    assert [sentence.split()[0] for sentence in found.sentences()] == ["2", "1", "1", "3"]
    assert "read in pieces" in found.sentences()[1] and "have no words" in found.sentences()[2]
