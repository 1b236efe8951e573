from __future__ import annotations

import numpy as np
import pytest

from ashneuro.data.describe import describe
from ashneuro.data.pairs import Pair, Splits


def pair(key: str, concept: str, style: str, *captions: str) -> Pair:
    return Pair(key, captions, concept, lambda: np.zeros((1, 1, 3), np.uint8), style=style)


def test_counts_of_a_small_data_set() -> None:
    splits = Splits(
        train=(
            pair("1", "dog", "ink", "a dog", "Dog, pet"),
            pair("2", "dog", "oil", "a dog"),
            pair("3", "cat", "oil", "a cat"),
        ),
        validation=(),
        test=(pair("4", "cow", "ink", "a cow", "a dog"),),
        name="animals",
        notes=("few",),
    )
    found = describe(splits)
    assert (found.name, found.notes, list(found.parts)) == ("animals", ("few",), ["train", "validation", "test"])
    train = found.parts["train"]
    assert train.images == {"ink": 1, "oil": 2}
    assert (train.concepts, train.captions, train.distinct_captions) == (2, 4, 3)
    assert train.words == 4  # a, dog, pet, cat
    assert train.words_per_caption == pytest.approx(2)
    assert found.parts["test"].captions_in_train == 1
    assert found.parts["validation"].words_per_caption == 0
