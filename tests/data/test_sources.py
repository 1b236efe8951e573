from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ashneuro.config import DataConfig
from ashneuro.data.pairs import Splits
from ashneuro.data.sources import SOURCES, check_images, load_splits
from ashneuro.errors import ConfigError, DataError

from .pictures import write_picture


def dataset(folder: Path, count: int = 30, **extra: list[Any]) -> Path:
    """Write ``count`` pictures with captions of their own; ``extra`` columns by name."""
    lines = []
    for index in range(count):
        write_picture(folder / f"{index:02}.png", index)
        row = {"image": f"{index:02}.png", "caption": f"picture {index}"} | {
            name: values[index] for name, values in extra.items()
        }
        lines.append(json.dumps(row))
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(lines))
    return path


def keys(splits: Splits) -> list[set[str]]:
    return [{pair.key for pair in part} for part in (splits.train, splits.validation, splits.test)]


def config(path: Path | str, **values: Any) -> DataConfig:
    return DataConfig(source=str(path), **({"split": "random"} | values))


def test_named_source_is_loaded() -> None:
    assert set(SOURCES) == {"emoji", "tuxpaint"}
    assert len(load_splits(DataConfig()).test) == 1583


def test_loading_imports_neither_torch_nor_pillow() -> None:
    heavy = "{'torch', 'PIL', 'resvg_py', 'matplotlib'}"
    code = f"import sys, ashneuro.data.sources, ashneuro.data.show; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_file_is_read_with_the_images_beside_it(tmp_path: Path) -> None:
    splits = load_splits(config(dataset(tmp_path)))
    assert [len(part) for part in keys(splits)] == [24, 3, 3]
    assert splits.name == "pairs.jsonl, random split by caption"
    pair = splits.train[0]
    assert pair.captions == (f"picture {int(pair.key[:2])}",) and pair.concept == pair.key
    assert (pair.load().shape, pair.load().dtype) == ((8, 12, 3), np.uint8)


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv"])
def test_all_formats_give_the_same_pairs(tmp_path: Path, suffix: str) -> None:
    rows = [(f"{index}.png", f"picture {index}") for index in range(10)]
    for index, (image, _) in enumerate(rows):
        write_picture(tmp_path / "images" / image, index)
    content = {
        "json": json.dumps(
            {
                "images": [{"id": index, "file_name": image} for index, (image, _) in enumerate(rows)],
                "annotations": [
                    {"id": index, "image_id": index, "caption": text} for index, (_, text) in enumerate(rows)
                ],
            }
        ),
        "jsonl": "\n".join(json.dumps({"image": image, "caption": [text]}) for image, text in rows),
        "csv": "image,caption\n" + "\n".join(f"{image},{text}" for image, text in rows),
    }[suffix]
    path = tmp_path / f"pairs.{suffix}"
    path.write_text(content)
    splits = load_splits(config(path, images=str(tmp_path / "images")))
    pairs = sorted(splits.train + splits.validation + splits.test, key=lambda pair: pair.key)
    assert [(pair.key, pair.captions) for pair in pairs] == [(image, (text,)) for image, text in rows]
    assert [len(part) for part in keys(splits)] == [8, 1, 1]


def test_split_of_the_file_is_kept(tmp_path: Path) -> None:
    parts = ["train"] * 20 + ["val"] * 4 + ["test"] * 5 + ["restval"]
    splits = load_splits(config(dataset(tmp_path, split=parts), split="file"))
    assert [len(part) for part in keys(splits)] == [21, 4, 5]
    assert keys(splits)[1] == {"20.png", "21.png", "22.png", "23.png"}


def test_incomplete_split_is_refused(tmp_path: Path) -> None:
    path = dataset(tmp_path, 6, split=["train", "train", "test", "", "", "test"])
    with pytest.raises(DataError, match=r"2 problem[\s\S]*line 4 \(03\.png\): has no split"):
        load_splits(config(path, split="file"))


def test_file_without_splits_names_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no split column[\s\S]*random"):
        load_splits(config(dataset(tmp_path, 3), split="file"))
    with pytest.raises(ConfigError, match=r"belongs to the emoji[\s\S]*random"):
        load_splits(config(dataset(tmp_path, 3), split="style"))


def test_split_without_test_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pair for test"):
        load_splits(config(dataset(tmp_path, 3, split=["train", "val", "train"]), split="file"))


def test_images_with_equal_captions_are_one_concept(tmp_path: Path) -> None:
    captions = [["a flower", "red"], ["red", "a flower"], ["a flower"], *([f"{index}"] for index in range(27))]
    splits = load_splits(config(dataset(tmp_path, caption=captions)))
    concepts = {pair.key: pair.concept for pair in splits.train + splits.validation + splits.test}
    assert concepts["00.png"] == concepts["01.png"] != concepts["02.png"]


def test_concepts_styles_and_labels_are_kept(tmp_path: Path) -> None:
    extra = {
        "concept": [f"{index // 2}" for index in range(30)],
        "style": ["ink", "oil"] * 15,
        "labels": [{"n": 1}] * 30,
    }
    splits = load_splits(config(dataset(tmp_path, **extra), styles=("oil",)))
    pairs = splits.train + splits.validation + splits.test
    assert {pair.style for pair in pairs} == {"oil"} and len(pairs) == 15
    assert pairs[0].labels == {"n": 1} and {pair.concept for pair in pairs} == {f"{index}" for index in range(15)}


def test_unknown_style_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no style 'oil'[\s\S]*has: ink"):
        load_splits(config(dataset(tmp_path, 4, style=["ink"] * 4), styles=("oil", "ink")))


def test_all_missing_and_broken_images_are_named(tmp_path: Path) -> None:
    path = dataset(tmp_path, 6)
    (tmp_path / "01.png").unlink()
    (tmp_path / "03.png").write_bytes(b"")
    (tmp_path / "04.png").unlink()
    (tmp_path / "04.png").mkdir()
    path.write_text(path.read_text() + "\n{oops")
    with pytest.raises(DataError) as caught:
        load_splits(config(path))
    text = str(caught.value)
    assert "4 problem(s)" in text
    for part in (
        "line 7: not JSON",
        "line 2 (01.png): there is no such file",
        "line 4 (03.png): it is not an image",
        "line 5 (04.png): ",
    ):
        assert part in text


def test_check_images_decodes_every_image(tmp_path: Path) -> None:
    path = dataset(tmp_path)
    for name in ("05.png", "07.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-100])
    splits = load_splits(config(path))
    pairs = splits.train + splits.validation + splits.test
    with pytest.raises(DataError, match=r"30 images: 2 problem[\s\S]*05\.png: [\s\S]*07\.png: "):
        check_images(sorted(pairs, key=lambda pair: pair.key))
    check_images([pair for pair in pairs if pair.key not in ("05.png", "07.png")])


def test_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(DataError, match="has no pairs"):
        load_splits(config(tmp_path / "a.jsonl"))


def test_unknown_names_get_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean emoji"):
        load_splits(config("emojii"))
    with pytest.raises(ConfigError, match="neither a data set \\(emoji, tuxpaint\\) nor a file or folder"):
        load_splits(config(tmp_path / "gone.jsonl"))
    with pytest.raises(DataError, match="an empty folder"):
        load_splits(config(tmp_path))
    with pytest.raises(ConfigError, match="there is no such folder"):
        load_splits(config(dataset(tmp_path, 3), images=str(tmp_path / "gone")))


def test_missing_tuxpaint_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path))
    with pytest.raises(DataError, match="ashneuro data fetch tuxpaint"):
        load_splits(config("tuxpaint"))
