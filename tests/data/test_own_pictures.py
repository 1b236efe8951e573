"""Pictures as people have them: folders, tables with any headers, JSON of any keys."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from ashneuro.config import DataConfig
from ashneuro.data.check import check
from ashneuro.data.columns import Columns, choose_columns
from ashneuro.data.formats import read_captions
from ashneuro.data.picture_folders import find_picture
from ashneuro.data.recognise import recognise
from ashneuro.data.sources import load_splits
from ashneuro.errors import ConfigError, DataError

from .pictures import write_picture


def read(path: Path, format: str = "", columns: Columns | None = None) -> dict[str, list[str]]:
    records, problems = read_captions(path, format, columns)
    assert problems == []
    return {record.image: record.captions for record in records}


def files(folder: Path, **texts: str) -> Path:
    """Write ``a.jpg`` and its side-car ``a.txt`` for ``a="…"``; a double underscore is a slash."""
    for name, text in texts.items():
        path = folder / name.replace("__", "/")
        write_picture(path.with_suffix(".jpg"))
        if text:
            path.with_suffix(".txt").write_text(text)
    return folder


def test_side_car_files_have_a_caption_a_line(tmp_path: Path) -> None:
    files(tmp_path, a="one\n\n two \r\n", train__b="three")
    assert recognise(tmp_path).format == "folder"
    assert read(tmp_path) == {"a.jpg": ["one", "two"], "train/b.jpg": ["three"]}
    records, _ = read_captions(tmp_path)
    assert [record.split for record in records] == ["", "train"]


def test_side_cars_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    files(tmp_path / "images", a="", b="")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("one")
    (tmp_path / "texts" / "b.json").write_text('{"caption": ["two", "three"]}')
    assert read(tmp_path) == {"images/a.jpg": ["one"], "images/b.jpg": ["two", "three"]}


def test_side_cars_by_other_names(tmp_path: Path) -> None:
    for name in ("A.JPG", "b.jpeg", "c.png", "d.avif", "e.jfif"):
        write_picture(tmp_path / name)
    for name in ("A.TXT", "b.jpeg.txt", "c.text", "d.caption", "e.JSON"):
        (tmp_path / name).write_text('{"text": "five"}' if name == "e.JSON" else name[0])
    captions = {"A.JPG": ["A"], "b.jpeg": ["b"], "c.png": ["c"], "d.avif": ["d"], "e.jfif": ["five"]}
    assert read(tmp_path) == captions
    assert len(load_splits(DataConfig(source=str(tmp_path), split="picture")).train) == 3


def test_side_cars_in_another_encoding_are_problems(tmp_path: Path) -> None:
    files(tmp_path, a="one", b="two")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    records, problems = read_captions(tmp_path)
    assert [record.image for record in records] == ["a.jpg"]
    assert problems == [
        "b.jpg: b.txt is not UTF-8: byte 0xe9 in line 1 does not belong to it; Latin-1 or Windows-1252 perhaps"
    ]


def test_broken_pictures_of_a_folder_are_named_once(tmp_path: Path) -> None:
    files(tmp_path, a="one", b="two")
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    assert check(tmp_path).problems[0].startswith("b.jpg: it is not an image")
    with pytest.raises(DataError, match=r"\n +b\.jpg: it is not an image"):
        load_splits(DataConfig(source=str(tmp_path), split="picture"))


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    files(tmp_path / "disk", a="", b="")
    (tmp_path / "set" / "cats").mkdir(parents=True)
    (tmp_path / "set" / "dogs").symlink_to(tmp_path / "disk")
    (tmp_path / "set" / "cats" / "all").symlink_to(tmp_path / "set")  # a loop
    assert read(tmp_path / "set") == {"dogs/a.jpg": ["dogs"], "dogs/b.jpg": ["dogs"]}


def test_names_of_folders_are_captions(tmp_path: Path) -> None:
    files(tmp_path, red_flower__1="", train__002__blue_bird__2="")
    write_picture(tmp_path / "test" / "003.Black_cat" / "3.png")
    (tmp_path / ".cache").mkdir()
    write_picture(tmp_path / ".cache" / "thumbnail.png")
    assert read(tmp_path) == {
        "red_flower/1.jpg": ["red flower"],
        "test/003.Black_cat/3.png": ["Black cat"],
        "train/002/blue_bird/2.jpg": ["blue bird"],
    }


def test_pictures_without_a_caption_are_problems(tmp_path: Path) -> None:
    files(tmp_path, a="one", b="", c=" \n")
    records, problems = read_captions(tmp_path)
    assert [record.image for record in records] == ["a.jpg"]
    assert problems == [
        "b.jpg: has no caption: there is no b.txt",
        "c.jpg: has no caption: c.txt holds none",
    ]
    bare = files(tmp_path / "bare", d="")
    assert "neither d.txt nor a folder's name (its own: --format file-names)" in read_captions(bare)[1][0]


def test_file_names_are_captions_if_asked_for(tmp_path: Path) -> None:
    names = ("a red car", "train/03_a_blue-car_2", "a Boeing 747", "two cats (2)", "狗")
    for name in names:
        write_picture(tmp_path / f"{name}.jpg")
    assert list(read(tmp_path, "file-names").values()) == [
        *(["a Boeing 747"], ["a red car"], ["a blue car"], ["two cats"], ["狗"])
    ]
    write_picture(tmp_path / "IMG_.jpg")
    write_picture(tmp_path / "0001.jpg")
    records, problems = read_captions(tmp_path, "file-names")
    assert problems == ["0001.jpg: has no caption: its name has no words"]
    assert [record.split for record in records if record.split] == ["train"]
    with pytest.raises(DataError, match="is not a folder of pictures"):
        read_captions(tmp_path / "a red car.jpg", "file-names")


def test_the_first_answer_of_a_conversation_is_the_caption(tmp_path: Path) -> None:
    def entry(image: str | None, *turns: tuple[str, str]) -> dict[str, Any]:
        said = [{"from": who, "value": text} for who, text in turns]
        return {"id": "1", **({"image": image} if image else {}), "conversations": said}

    asked = ("human", "<image>\nDescribe it.")
    good = entry("a.jpg", asked, ("gpt", "A red car."), ("human", "Why?"), ("gpt", "Paint."))
    path = tmp_path / "llava.json"
    path.write_text(json.dumps([good, entry("b.jpg", ("user", "?"), ("assistant", "two"))]))
    assert recognise(path).format == "json"
    assert read(path) == {"a.jpg": ["A red car."], "b.jpg": ["two"]}
    path.write_text(json.dumps([good, entry(None, asked, ("gpt", "hi")), entry("c.jpg", asked)]))
    records, problems = read_captions(path)
    assert [record.image for record in records] == ["a.jpg"]
    assert problems == [
        "[1]: needs image: a path",
        "[2] (c.jpg): needs caption: a text, or a list of texts, none of them empty",
    ]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_imagefolder(tmp_path: Path, kind: str) -> None:
    rows = {"train": [("1.png", "one"), ("sub/2.png", "two")], "validation": [("1.png", "three")]}
    for part, pairs in rows.items():
        for name, _ in pairs:
            write_picture(tmp_path / part / name)
        table = tmp_path / part / f"metadata.{kind}"
        columns = [{"file_name": name, "text": text} for name, text in pairs]
        if kind == "parquet":
            parquet.write_table(arrow.Table.from_pylist(columns), table)
        elif kind == "jsonl":
            table.write_text("\n".join(map(json.dumps, columns)))
        else:
            table.write_text("file_name,text\n" + "\n".join(",".join(pair) for pair in pairs))
    assert recognise(tmp_path).format == "imagefolder"
    records, problems = read_captions(tmp_path)
    assert problems == []
    assert [(record.image, record.captions, record.split) for record in records] == [
        ("train/1.png", ["one"], "train"),
        ("train/sub/2.png", ["two"], "train"),
        ("validation/1.png", ["three"], "validation"),
    ]


def test_metadata_parquet_reports_its_rows(tmp_path: Path) -> None:
    table = {"file_name": ["a.png", None, "c.png"], "text": ["one", "two", " "]}
    parquet.write_table(arrow.table(table), tmp_path / "metadata.parquet")
    records, problems = read_captions(tmp_path)
    assert [record.image for record in records] == ["a.png"]
    assert [problem.partition(":")[0] for problem in problems] == ["row 1", "row 2 (c.png)"]


@pytest.mark.parametrize(
    "content",
    [
        [{"image": "a.jpg", "caption": "one"}, {"image": "b.jpg", "caption": ["two", "three"]}],
        [{"image_id": 7, "image": "a.jpg", "caption": ["one"]}, {"image": "b.jpg", "caption": ["two", "three"]}],
        [{"file_name": "a.jpg", "text": "one"}, {"file_name": "b.jpg", "text": ["two", "three"]}],
        [
            {"id": 1, "filepath": "a.jpg", "sentences": [{"raw": "one"}]},
            {"id": 2, "filepath": "b.jpg", "sentences": [{"raw": "two"}, {"raw": "three"}]},
        ],
        [{"id": "a.jpg", "words": "one"}, {"id": "b.jpg", "words": ["two", "three"]}],
        {"data": [{"image": "a.jpg", "caption": "one"}, {"image": "b.jpg", "caption": ["two", "three"]}], "version": 1},
        {"train": [{"image": "a.jpg", "caption": "one"}], "val": [{"image": "b.jpg", "caption": ["two", "three"]}]},
        {"a.jpg": "one", "b.jpg": ["two", "three"]},
        {"a.jpg": {"caption": "one"}, "b.jpg": {"caption": ["two", "three"]}},
        {"7": {"image": "a.jpg", "caption": "one"}, "8": {"image": "b.jpg", "caption": ["two", "three"]}},
        [["a.jpg", "one"], ["b.jpg", ["two", "three"]]],
        {"image": ["a.jpg", "b.jpg"], "caption": [["one"], ["two", "three"]], "width": [1, 2]},
        {"image": {"0": "a.jpg", "1": "b.jpg"}, "caption": {"0": "one", "1": ["two", "three"]}},
        {
            "licences": [{"id": 1}],
            "data": [{"image": "a.jpg", "caption": "one"}, {"image": "b.jpg", "caption": ["two", "three"]}],
        },
        [
            {"image": {"path": "a.jpg"}, "caption": "one"},
            {"image": {"path": "b.jpg", "bytes": None}, "caption": ["two", "three"]},
        ],
    ],
)
def test_json_of_pictures_and_captions(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(content))
    assert recognise(path).format == "json"
    assert read(path) == {"a.jpg": ["one"], "b.jpg": ["two", "three"]}
    path.write_text(json.dumps(content, indent=2))
    assert read(path) == {"a.jpg": ["one"], "b.jpg": ["two", "three"]}


@pytest.mark.parametrize(
    "text",
    [
        "filepath\ttitle\na.jpg\tone, two\nb.jpg\tthree\n",
        "Image Path;Title\na.jpg;one, two\nb.jpg;three\n",
        'id,image,title\n1,a.jpg,"one, two"\n2,b.jpg,three\n',
        "path|Description\na.jpg|one, two\nb.jpg|three\n",
        'foto,bildtext\na.jpg,"one, two"\nb.jpg,three\n',
        "a.jpg\tone, two\nb.jpg\tthree\n",
        'url,image,caption\nhttp://x/7,a.jpg,"one, two"\nhttp://x/8,b.jpg,three\n',
        'image,caption_1,caption_2\na.jpg,"one, two",\nb.jpg,,three\n',
        'image,caption\na.jpg,"[""one, two""]"\nb.jpg,three\n',
        'image, caption\na.jpg, "one, two"\nb.jpg, three\n',
        "image,caption\na.jpg,\"['one, two']\"\nb.jpg,three\n",
    ],
)
@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv", "pairs.txt"])
def test_tables_with_other_headers(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    if recognise(path).format == "csv":
        assert read(path) == {"a.jpg": ["one, two"], "b.jpg": ["three"]}
    else:
        assert text.startswith("image,caption\n") and name == "pairs.txt"  # Flickr8k's captions.txt


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("key,image,before,after,note\n1,a.jpg,x.png,one,n\n2,b.jpg,y.png,two,m\n")
    assert read(path, columns=Columns("before", "after")) == {"x.png": ["one"], "y.png": ["two"]}
    assert read(path, columns=Columns("", "After, note")) == {"a.jpg": ["one", "n"], "b.jpg": ["two", "m"]}
    with pytest.raises(DataError, match=r"no column 'later'[\s\S]*'before', 'after'"):
        read(path, columns=Columns("", "later"))
    with pytest.raises(DataError, match=r"which column holds the captions[\s\S]*--caption-column"):
        read(path)
    coco = tmp_path / "coco.json"
    coco.write_text('{"images": [], "annotations": []}')
    with pytest.raises(ConfigError, match="fixed names"):
        read(coco, columns=Columns("image"))


def test_a_column_of_file_names_is_preferred() -> None:
    rows = [{"image": "17", "file_name": "a.jpg", "caption": "one"}]
    assert choose_columns("x", list(rows[0]), rows, Columns()).image == "file_name"


def test_format_is_recognised_from_the_content(tmp_path: Path) -> None:
    contents = {
        "coco": '{"images": [], "annotations": []}',
        "karpathy": '{"images": [{"sentences": []}], "dataset": "coco"}',
        "vqa2": '{"questions": []}',
        "easy-vqa": '[["is it?", "yes", 1]]',
        "json": '[{"image": "a.jpg", "caption": "one"}]',
        "jsonl": '{"image": "a.jpg", "caption": "one"}\n{"image": "b.jpg", "caption": "two"}\n',
        "nlvr2": '{"identifier": "dev-0-0-0", "sentence": "one"}\n{"identifier": "dev-0-0-1", "sentence": "two"}',
        "snli-ve": '{"gold_label": "-", "sentence2": "x"}\n{"gold_label": "-", "sentence2": "y"}',
        "flickr30k": "1.jpg#0\tone\n1.jpg#1\ttwo\n",
        "csv": "image;caption\na.jpg;one\n",
    }
    for format, content in contents.items():
        path = tmp_path / f"{format}.data"
        path.write_text(content)
        assert recognise(path).format == format
    assert recognise(tmp_path / "shard-{000..009}.tar").format == "webdataset"


def test_wrong_guess_says_what_was_seen(tmp_path: Path) -> None:
    path = tmp_path / "notes.dat"
    path.write_text("Dear reader,\nthis is no table")
    with pytest.raises(DataError, match=r"which format[\s\S]*'Dear reader,'; tried: webdataset[\s\S]*--format"):
        recognise(path)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "a.xyz").write_text("")
    with pytest.raises(
        DataError, match=r"it holds 1 \.xyz; pictures end in \.avif, [\s\S]*; tried: huggingface, imagefolder"
    ):
        recognise(tmp_path / "odd")
    path = tmp_path / "list.json"
    path.write_text('[{"width": 3}]')
    with pytest.raises(DataError, match=r"'width'; it was read as json, because it is a list"):
        read(path)
    path.write_text('[{"image": "a.jpg", "caption": "one"}]')
    with pytest.raises(DataError, match=r"not a COCO captions file[\s\S]*it is a list[\s\S]*--format json"):
        read(path, "coco")


def test_folder_with_one_caption_file_is_read_through_it(tmp_path: Path) -> None:
    for number in range(3):
        write_picture(tmp_path / "images" / f"{number}.jpg", number)
    (tmp_path / "info.json").write_text('{"author": {"name": "x"}}')
    rows = [{"image": f"{number}.jpg", "caption": f"{number}", "split": "train"} for number in range(3)]
    rows[2]["split"] = "test"
    (tmp_path / "captions.json").write_text(json.dumps(rows))
    assert recognise(tmp_path).path == tmp_path / "captions.json"
    splits = load_splits(DataConfig(source=str(tmp_path), split="file"))
    assert [len(splits.train), len(splits.test)] == [2, 1]
    assert splits.test[0].load().shape == (8, 12, 3)  # found in images/
    (tmp_path / "more.json").write_text(json.dumps(rows))  # named after no part
    with pytest.raises(DataError, match=r"which of its files[\s\S]*captions\.json, more\.json"):
        recognise(tmp_path)


@pytest.mark.parametrize("kind", ["csv", "json", "coco"])
def test_folder_with_a_file_for_each_part(tmp_path: Path, kind: str) -> None:
    for number, part in enumerate(("train", "val", "testing")):
        write_picture(tmp_path / f"{number}.jpg", number)
        row: Any = {"image": f"{number}.jpg", "caption": f"text {number}"}
        if kind == "csv":
            (tmp_path / f"{part}.csv").write_text(f"image,caption\n{number}.jpg,text {number}\n")
            continue
        if kind == "coco":  # ids as texts in one list, as numbers in the other
            images = [{"id": str(number), "file_name": f"{number}.jpg"}]
            boxes = {"images": images, "annotations": [{"image_id": number, "bbox": [0, 0, 1, 1]}]}
            (tmp_path / f"instances_{part}2017.json").write_text(json.dumps(boxes))
            row = {"images": images, "annotations": [{"image_id": number, "caption": f"text {number}"}]}
        (tmp_path / f"captions_{part}2017.json").write_text(json.dumps(row if kind == "coco" else [row]))
    assert recognise(tmp_path).format == kind
    assert read(tmp_path) == {f"{number}.jpg": [f"text {number}"] for number in range(3)}
    splits = load_splits(DataConfig(source=str(tmp_path), split="auto"))
    assert [pair.key for part in (splits.train, splits.validation, splits.test) for pair in part] == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
    ]


def test_packed_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv.gz"
    path.write_bytes(gzip.compress(b"image,caption\na.jpg,one\n"))
    with pytest.raises(DataError, match=r"packed[\s\S]*gzip[\s\S]*unpack it"):
        recognise(path)


def test_names_may_differ_in_case_and_accents(tmp_path: Path) -> None:
    write_picture(tmp_path / "P1.JPG")
    write_picture(tmp_path / unicodedata.normalize("NFD", "café.png"))
    assert find_picture(tmp_path, "p1.jpg") == tmp_path / "P1.JPG"
    assert find_picture(tmp_path, "photos/café.png").is_file()
    write_picture(tmp_path / "val2017" / "7.jpg")
    assert find_picture(tmp_path, "7.jpg") == tmp_path / "val2017" / "7.jpg"
    write_picture(tmp_path / "p1.JPG")  # which of the two is not clear
    assert find_picture(tmp_path, "p1.jpg") == tmp_path / "p1.jpg"


def test_pictures_are_found_where_they_are(tmp_path: Path) -> None:
    write_picture(tmp_path / "a" / "1.jpg")
    write_picture(tmp_path / "images" / "2.png")
    assert find_picture(tmp_path, "a\\1.jpg") == tmp_path / "a" / "1.jpg"
    assert find_picture(tmp_path, "data/coco/a/1.jpg") == tmp_path / "a" / "1.jpg"
    assert find_picture(tmp_path, "2") == tmp_path / "images" / "2.png"
    assert find_picture(tmp_path, "gone.png") == tmp_path / "gone.png"
    assert find_picture(tmp_path / "a", str(tmp_path / "images" / "2.png")) == tmp_path / "images" / "2.png"


def test_classes_are_split_by_picture(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(10):
            write_picture(tmp_path / name / f"{number}.png", number)
    with pytest.raises(DataError, match=r"data\.split = 'picture'"):
        load_splits(DataConfig(source=str(tmp_path), split="random"))
    splits = load_splits(DataConfig(source=str(tmp_path), split="picture"))
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [16, 2, 2]
    assert {pair.captions for pair in splits.train} == {("cat",), ("dog",)}
    assert splits.name.endswith("random split by picture")
    again = load_splits(DataConfig(source=str(tmp_path), split="picture"))
    assert [pair.key for pair in again.test] == [pair.key for pair in splits.test]


def test_split_follows_from_the_data(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(10):
            write_picture(tmp_path / "classes" / name / f"{number}.png", number)
    assert load_splits(DataConfig(source=str(tmp_path / "classes"), split="auto")).name.endswith("split by picture")
    files(tmp_path / "texts", **{f"n{number}": f"text {number}" for number in range(10)})
    assert load_splits(DataConfig(source=str(tmp_path / "texts"), split="auto")).name.endswith("split by caption")
    files(tmp_path / "parts", train__a="one", test__b="two")
    splits = load_splits(DataConfig(source=str(tmp_path / "parts"), split="auto"))
    assert splits.name.endswith("its own split") and [pair.key for pair in splits.test] == ["test/b.jpg"]


def test_web_addresses_are_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("image,caption\nhttps://x.org/a.jpg,one\n")
    with pytest.raises(DataError, match="it is an address: download"):
        load_splits(DataConfig(source=str(path), split="random"))


@pytest.mark.parametrize(
    ("header", "why"),
    [('image,"caption', "a quote that nothing closes"), (",".join(f"c{n}" for n in range(50_000)), "and 49,980 more")],
)
def test_first_lines_that_are_no_header(tmp_path: Path, header: str, why: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(f"{header}\n1.png,hello\n")
    with pytest.raises(DataError) as caught:
        read(path)
    assert why in caught.value.why and len(caught.value.why) < 400
