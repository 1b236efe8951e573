"""Karpathy's and Flickr's caption files: good ones, and every kind of damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ashneuro.data.caption_files import read_flickr, read_karpathy
from ashneuro.data.formats import read_captions
from ashneuro.errors import ConfigError, DataError


def karpathy(folder: Path, *images: Any) -> Path:
    path = folder / "dataset_coco.json"
    path.write_text(json.dumps({"dataset": "coco", "images": images}))
    return path


def image(number: int, split: str = "train", *texts: str, **more: Any) -> dict[str, Any]:
    sentences = [
        {"raw": text, "tokens": text.split(), "imgid": number, "sentid": 10 * number + place}
        for place, text in enumerate(texts or ("a dog",))
    ]
    name = f"COCO_val2014_{number:012d}.jpg"
    return {
        "filepath": "val2014",
        "filename": name,
        "imgid": number,
        "cocoid": number,
        "split": split,
        "sentences": sentences,
    } | more


def test_karpathy_keeps_parts_folders_and_all_captions(tmp_path: Path) -> None:
    bare = {key: value for key, value in image(4, "test").items() if key not in ("filepath", "cocoid")}
    path = karpathy(tmp_path, image(1, "train", "one ", "two"), image(2, "restval"), image(3, "val"), bare)
    records, problems = read_karpathy(path)
    assert problems == []
    assert [record.split for record in records] == ["train", "train", "validation", "test"]
    assert records[0].image == "val2014/COCO_val2014_000000000001.jpg" and records[0].captions == ["one", "two"]
    assert records[3].image == "COCO_val2014_000000000004.jpg"


def test_all_problems_of_a_karpathy_file_are_reported(tmp_path: Path) -> None:
    path = karpathy(
        tmp_path,
        image(1),
        image(1, filename="other.jpg"),
        image(2, "trian"),
        image(3, ""),
        image(4, sentences=[]),
        {"split": "train"},
        image(5, sentences=[{"raw": " ", "sentid": 99}, {"raw": "fine", "sentid": 99}]),
    )
    _, problems = read_karpathy(path)
    assert [problem.split(" (")[0] for problem in problems] == [
        "images[1]",
        "images[1].sentences[0]",
        "images[2]",
        "images[3]",
        "images[4]",
        "images[5]: needs a filename",
        "images[6].sentences[0]",
        "images[6].sentences[1]",
    ]
    assert "imgid 1 is already" in problems[0] and "sentid 10 is already" in problems[1] and "'trian'" in problems[2]


def test_wrong_formats_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}))
    with pytest.raises(DataError, match="not a Karpathy split"):
        read_captions(path, "karpathy")
    with pytest.raises(ConfigError, match="not captions"):
        read_captions(path, "vqa2")
    with pytest.raises(DataError, match="no such file"):
        read_captions(tmp_path / "none", "flickr30k")


FORMS = {
    "results_20130124.token": "1.jpg#0\tA dog .\n1.jpg#1\tIt runs, fast\n\n2.jpg#0\tein Hund läuft\r\n",
    "captions.txt": 'image,caption\n1.jpg,A dog .\n1.jpg,"It runs, fast"\n2.jpg,ein Hund läuft\n',
    "results.csv": "image_name| comment_number| comment\n"
    "1.jpg| 0| A dog .\n1.jpg| 1| It runs, fast\n2.jpg| 0| ein Hund läuft\n",
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_three_flickr_formats_give_the_same_records(tmp_path: Path, name: str, encoding: str) -> None:
    path = tmp_path / name
    path.write_bytes(FORMS[name].encode(encoding))
    records, problems = read_flickr(path)
    assert problems == []
    assert {record.image: record.captions for record in records} == {
        "1.jpg": ["A dog .", "It runs, fast"],
        "2.jpg": ["ein Hund läuft"],
    }
    assert [record.split for record in records] == ["", ""]


def test_all_problems_of_a_flickr_file_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.token"
    path.write_text("1.jpg#0\tfine\n2.jpg 0 no tab\n1.jpg#0\tthe number again\n3.jpg#0\t \n#1\tno name\n")
    _, problems = read_flickr(path)
    assert [problem.split(" ")[1] for problem in problems] == ["2:", "4", "5:", "3"]
    path = tmp_path / "results.csv"
    path.write_text(
        "image_name| comment_number| comment\n"
        "1.jpg| 0| a | b\n2199200615.jpg| 4   A dog runs across the grass .\n3.jpg| 1| \n"
    )
    records, problems = read_flickr(path)  # line 3 is as in the public file
    assert [record.captions for record in records] == [["a | b"]]
    assert [problem.partition(":")[0] for problem in problems] == ["line 3", "line 4 (3.jpg)"]
    (tmp_path / "b.txt").write_text("a dog\n")
    with pytest.raises(DataError, match="not a Flickr caption file"):
        read_flickr(tmp_path / "b.txt")


def test_lists_of_names_give_the_parts(tmp_path: Path) -> None:
    path = tmp_path / "Flickr8k.token.txt"
    path.write_text("".join(f"{number}.jpg#0\tdog {number}\n" for number in range(5)))
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("0.jpg\n1.jpg\n9.jpg\n")
    (tmp_path / "Flickr_8k.devImages.txt").write_text("2\n")
    (tmp_path / "Flickr_8k.testImages.txt").write_text("3.jpg\n1.jpg\n")
    (tmp_path / "training notes.txt").write_text("these are notes about training\n")
    records, problems = read_flickr(path)
    assert [record.split for record in records] == ["train", "test", "validation", "test", ""]
    assert sorted(problems) == [
        "Flickr_8k.trainImages.txt line 2: 1.jpg is already in the test part",
        "Flickr_8k.trainImages.txt line 3: 9.jpg has no caption in Flickr8k.token.txt",
    ]
