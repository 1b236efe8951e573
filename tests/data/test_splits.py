from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashneuro.data.pairs import Pair
from ashneuro.data.splits import choose_labelled, connected, hash_order, normalise_caption, split_by_caption
from ashneuro.errors import DataError


def pair(key: str, *captions: str, concept: str = "") -> Pair:
    return Pair(key, captions, concept or key, lambda: np.zeros((1, 1, 3), np.uint8))


def test_hash_order_is_fixed() -> None:
    # The order of `printf salt/b | sha256sum`. A change would move pairs between published splits.
    assert hash_order("abcdefgh", "salt") == list("bfcdehga")
    assert hash_order("abcdefgh", "salt") != hash_order("abcdefgh", "other")


def test_connected_groups_are_transitive() -> None:
    groups = connected([["a"], ["b"], ["a", "c"], ["d"], ["c", "b"]])
    assert sorted(map(sorted, groups)) == [[0, 1, 2, 4], [3]]


def test_parts_are_disjoint_complete_and_of_the_right_size() -> None:
    pairs = [pair(f"{index}", f"caption {index}") for index in range(200)]
    train, validation, test = split_by_caption(pairs)
    assert (len(train), len(validation), len(test)) == (160, 20, 20)
    assert {item.key for item in (*train, *validation, *test)} == {item.key for item in pairs}


def test_labelled_pairs_are_stratified_by_concept() -> None:
    sizes = {"a": 1, "b": 5, "c": 2, "d": 4}
    pairs = [pair(f"{name}{number}", name, concept=name) for name, size in sizes.items() for number in range(size)]

    def counts(share: float, seed: int = 0) -> dict[str, int]:
        chosen = choose_labelled(pairs, share, seed)
        assert chosen == sorted(set(chosen)) and len(chosen) == round(share * 12)
        return {name: sum(pairs[row].concept == name for row in chosen) for name in sizes}

    assert counts(4 / 12) == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert counts(7 / 12) == {"a": 1, "b": 2, "c": 2, "d": 2}
    assert counts(1.0) == sizes
    assert choose_labelled(pairs, 0.01, 0), "at least one"
    assert set(choose_labelled(pairs, 0.25, 0)) <= set(choose_labelled(pairs, 0.5, 0)), "more labels add pairs"
    assert choose_labelled(pairs, 0.5, 0) != choose_labelled(pairs, 0.5, 1)
    backwards = choose_labelled(pairs[::-1], 0.5, 0)
    assert {pairs[::-1][row].key for row in backwards} == {pairs[row].key for row in choose_labelled(pairs, 0.5, 0)}


def test_split_does_not_depend_on_the_order_of_pairs() -> None:
    pairs = [pair(f"{index}", f"caption {index // 3}") for index in range(60)]
    forth, back = split_by_caption(pairs), split_by_caption(pairs[::-1])
    assert [{item.key for item in part} for part in forth] == [{item.key for item in part} for part in back]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefghijklmnop"), min_size=1, max_size=2), min_size=1, max_size=60))
def test_no_caption_is_in_two_parts(captions: list[list[str]]) -> None:
    pairs = [pair(f"{index}", *texts) for index, texts in enumerate(captions)]
    try:
        parts = split_by_caption(pairs)
    except DataError:
        return
    sides = [{caption for item in part for caption in item.captions} for part in parts]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert sum(map(len, parts)) == len(pairs)


def test_case_and_spaces_do_not_distinguish_captions() -> None:
    assert normalise_caption(" A  Red\tflower") == normalise_caption("a red flower")
    pairs = [pair(f"{index}", "A  Dog" if index % 2 else "a dog") for index in range(40)] + [
        pair(f"x{index}", f"{index}") for index in range(40)
    ]
    parts = split_by_caption(pairs)
    assert [sum("dog" in item.captions[0].lower() for item in part) for part in parts] == [40, 0, 0]


def test_concept_stays_in_one_part() -> None:
    pairs = [pair(f"{index}", f"caption {index}", concept=f"{index // 4}") for index in range(120)]
    concepts = [{item.concept for item in part} for part in split_by_caption(pairs)]
    assert not (concepts[0] & concepts[1] or concepts[0] & concepts[2] or concepts[1] & concepts[2])


def test_too_few_different_captions_are_refused() -> None:
    with pytest.raises(DataError, match="2 group"):
        split_by_caption([pair("1", "a"), pair("2", "a"), pair("3", "b")])


def test_groups_too_large_to_split_are_refused() -> None:
    with pytest.raises(DataError, match="larger than the 3"):
        split_by_caption([pair(f"{index}", f"{index % 3}") for index in range(30)])
