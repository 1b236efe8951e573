from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ashneuro.config import DataConfig
from ashneuro.data.emoji import PACK, load_emoji
from ashneuro.data.pairs import Pair, Splits
from ashneuro.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def style() -> Splits:
    return load_emoji(DataConfig(split="style"))


@pytest.fixture(scope="module")
def concept() -> Splits:
    return load_emoji(DataConfig(split="concept"))


def everything(splits: Splits) -> tuple[Pair, ...]:
    return splits.train + splits.validation + splits.test


def test_pack_matches_its_manifest() -> None:
    manifest = json.loads((PACK / "pack.json").read_text())
    assert {path.name for path in PACK.iterdir()} == {*manifest["files"], "pack.json", "LICENSES.txt"}
    for name, expected in manifest["files"].items():
        assert hashlib.sha256((PACK / name).read_bytes()).hexdigest() == expected, name
    assert sum(path.stat().st_size for path in PACK.iterdir()) < 10_000_000


def test_all_images_have_names_and_keywords(style: Splits) -> None:
    pairs = everything(style)
    assert len(pairs) == len({pair.key for pair in pairs}) == 7507
    assert len({pair.concept for pair in pairs}) == 1640
    assert Counter(pair.style for pair in pairs) == {
        "noto": 1632, "twemoji": 1614, "fluent": 1583, "noto-v1": 1138, "emojione": 1074, "fxemoji": 466
    }  # fmt: skip
    assert all(pair.captions[0] == pair.concept for pair in pairs)
    assert sum(len(pair.captions) for pair in pairs) == 14950
    dog = next(pair for pair in pairs if pair.key == "noto/1f436")
    assert dog.captions[0] == "dog face" and "puppy" in dog.captions[1].split(", ")
    assert dog.labels == {"group": "animals & nature", "subgroup": "mammals"}


def test_no_flags_and_no_skin_tones(style: Splits) -> None:
    assert not [
        pair.concept for pair in everything(style) if "skin tone" in pair.concept or pair.concept.startswith("flag:")
    ]


def test_cells_hold_their_pictures(style: Splits) -> None:
    pixels = {
        pair.key: pair.load()
        for pair in everything(style)
        if pair.concept in ("red heart", "green apple", "blue circle")
    }
    assert len(pixels) == 6 + 6 + 5
    for key, picture in pixels.items():
        assert (picture.shape, picture.dtype) == ((64, 64, 3), np.uint8)
        red, green, blue = (int(value) for value in picture.reshape(-1, 3)[picture.reshape(-1, 3).min(1) < 128].mean(0))
        colour = {"2764": red, "1f34f": green, "1f535": blue}[key.partition("/")[2]]
        assert colour == max(red, green, blue), key


def test_pictures_are_copies(style: Splits) -> None:
    picture = style.test[0].load()
    picture[:] = 0
    assert style.test[0].load().any()


def test_style_split_tests_on_an_unseen_style(style: Splits) -> None:
    assert {pair.style for pair in style.test} == {"fluent"} and len(style.test) == 1583
    assert "fluent" not in {pair.style for pair in style.train + style.validation}
    assert (len(style.train), len(style.validation)) == (5597, 327)


def test_style_validation_has_new_drawings_of_seen_concepts(style: Splits) -> None:
    trained = {pair.concept for pair in style.train}
    assert all(pair.concept in trained for pair in style.validation)
    assert len({pair.concept for pair in style.validation}) == len(style.validation)


def test_training_styles_can_be_chosen(style: Splits) -> None:
    splits = load_emoji(DataConfig(styles=("noto", "twemoji")))
    assert {pair.style for pair in splits.train} == {pair.style for pair in splits.validation} == {"noto", "twemoji"}
    assert [pair.key for pair in splits.test] == [pair.key for pair in style.test]
    assert {pair.key for pair in splits.validation} <= {pair.key for pair in style.validation}


def test_concept_split_shares_no_concept_and_no_caption(concept: Splits) -> None:
    parts = (concept.train, concept.validation, concept.test)
    assert [len(part) for part in parts] == [5910, 849, 748]
    for texts in (lambda pair: {pair.concept}, lambda pair: {caption.casefold() for caption in pair.captions}):
        train, validation, test = ({text for pair in part for text in texts(pair)} for part in parts)
        assert not (train & validation or train & test or validation & test)


def test_variants_of_a_person_are_in_one_part(concept: Splits) -> None:
    sides = [{pair.concept for pair in part} for part in (concept.train, concept.validation, concept.test)]
    for family in (
        {"man running", "woman running", "person running: facing right"},
        {"merman", "mermaid"},
        {"boy", "older person"},
    ):
        assert sum(bool(side & family) for side in sides) == 1


def test_every_part_of_the_concept_split_has_every_style(concept: Splits) -> None:
    for part in (concept.train, concept.validation, concept.test):
        assert len({pair.style for pair in part}) == 6
    few = load_emoji(DataConfig(split="concept", styles=("noto",)))
    assert {pair.style for pair in everything(few)} == {"noto"}


@pytest.mark.parametrize("split", ["random", "file"])
def test_other_splits_are_refused(split: str) -> None:
    with pytest.raises(ConfigError, match="style and concept"):
        load_emoji(DataConfig(split=split))  # type: ignore[arg-type]


def test_training_on_the_test_style_is_refused() -> None:
    with pytest.raises(ConfigError, match="that style is the test set"):
        load_emoji(DataConfig(styles=("noto", "fluent")))


def test_unknown_styles_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no drawing style 'apple', 'nota'[\s\S]*there are noto, twemoji"):
        load_emoji(DataConfig(styles=("nota", "noto", "apple")))


@pytest.mark.parametrize("name", ["captions.json.gz", "splits.json", "noto.webp"])
@pytest.mark.parametrize("damage", ["gone", "short"])
def test_damaged_pack_names_a_remedy(tmp_path: Path, name: str, damage: str) -> None:
    pack = tmp_path / "emoji"
    shutil.copytree(PACK, pack)
    content = (pack / name).read_bytes()
    (pack / name).unlink()
    if damage == "short":
        (pack / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="ashneuro data build emoji"):
        load_emoji(DataConfig(), pack).train[0].load()
