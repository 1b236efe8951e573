from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ashneuro.data.formats import read_captions as read_records
from ashneuro.data.readers import Record, read_coco, report
from ashneuro.errors import DataError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def captions(records: list[Record]) -> dict[str, list[str]]:
    return {record.image: record.captions for record in records}


def coco(path: Path, images: list[Any], annotations: list[Any]) -> Path:
    return write(path / "captions.json", json.dumps({"images": images, "annotations": annotations}))


def test_coco_joins_captions_to_images_in_file_order(tmp_path: Path) -> None:
    images = [
        {"id": 7, "file_name": "b.jpg"},
        {"id": 3, "file_name": "a.jpg", "split": "val", "style": "photo", "labels": {"n": 1}},
    ]
    annotations = [
        {"id": 1, "image_id": 3, "caption": "one "},
        {"id": 2, "image_id": 7, "caption": "two"},
        {"id": 3, "image_id": 3, "caption": "3"},
    ]
    records, problems = read_records(coco(tmp_path, images, annotations))
    assert problems == []
    assert captions(records) == {"b.jpg": ["two"], "a.jpg": ["one", "3"]}
    assert list(captions(records)) == ["b.jpg", "a.jpg"]
    assert (records[1].split, records[1].style, records[1].labels) == ("validation", "photo", {"n": 1})


def test_all_problems_of_a_coco_file_are_reported(tmp_path: Path) -> None:
    images: list[Any] = [
        {"id": 1, "file_name": "a.jpg"},
        {"id": 1, "file_name": "b.jpg"},
        {"id": 2},
        {"id": 3, "file_name": "c.jpg"},
        {"id": True, "file_name": "d.jpg"},
        "e.jpg",
    ]
    annotations: list[Any] = [
        {"id": 1, "image_id": 1, "caption": "fine"},
        {"id": 1, "image_id": 1, "caption": "the id again"},
        {"id": 2, "image_id": 99, "caption": "lost"},
        {"id": 3, "image_id": "1", "caption": "a text is not a number"},
        {"id": 4, "image_id": [1], "caption": "a list"},
        {"id": 5, "image_id": 1, "caption": "  "},
        {"id": 6, "image_id": 2, "caption": "of a broken image"},
        None,
    ]
    _, problems = read_records(coco(tmp_path, images, annotations))
    assert problems == [
        "images[1] (b.jpg): id 1 is already that of a.jpg",
        "images[2]: needs a file_name and an id",
        "images[4]: needs a file_name and an id",
        "images[5]: needs a file_name and an id",
        "annotations[1]: id 1 is used twice",
        "annotations[2]: there is no image with the id 99",
        "annotations[3]: there is no image with the id '1'",
        "annotations[4]: there is no image with the id [1]",
        "annotations[5]: needs a caption",
        "annotations[7]: needs a caption",
        "images[3] (c.jpg): has no caption",
    ]


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": {}, "annotations": []}', "3"])
def test_other_json_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match="not a COCO captions file"):
        read_coco(write(tmp_path / "a.json", content))
    if content == "[]":  # a list of pictures, though an empty one
        assert read_records(tmp_path / "a.json") == ([], [])
        return
    with pytest.raises(DataError, match=r"no list of pictures|which format"):
        read_records(tmp_path / "a.json")


def test_damaged_json_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2"):
        read_records(write(tmp_path / "a.json", '{"images": [],\n oops'))
    with pytest.raises(DataError, match="jsonl"):
        read_records(write(tmp_path / "a.json", '{"image": "a"}\n{"image": "b"}\n'))
    with pytest.raises(DataError, match="nested too deeply"):
        read_records(write(tmp_path / "a.json", "[" * 200_000))


def test_jsonl_with_one_or_more_captions(tmp_path: Path) -> None:
    lines = [
        {"image": "a.jpg", "caption": "one", "split": "train"},
        {"image": "b.jpg", "caption": ["two", "three\u2028four"], "split": "test", "concept": "c"},
    ]
    path = write(tmp_path / "a.jsonl", "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\r\n")
    records, problems = read_records(path)
    assert problems == []
    assert captions(records) == {"a.jpg": ["one"], "b.jpg": ["two", "three\u2028four"]}
    assert [(record.split, record.concept) for record in records] == [("train", ""), ("test", "c")]


def test_all_problems_of_a_jsonl_file_are_reported(tmp_path: Path) -> None:
    lines = [
        '{"image": "a.jpg", "caption": "fine"}',
        '{"image": "b.jpg"',
        "[1]",
        '{"caption": "no image"}',
        '{"image": "c.jpg", "caption": []}',
        '{"image": "d.jpg", "caption": ["x", ""]}',
        '{"image": "e.jpg", "caption": "x", "split": "tset"}',
        '{"image": "f.jpg", "caption": "x", "style": 3}',
        '{"image": "g.jpg", "caption": "x", "labels": 3}',
    ]
    records, problems = read_records(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert [problem.partition(":")[0] for problem in problems] == [
        "line 2",
        "line 3",
        "line 4",
        "line 5 (c.jpg)",
        "line 6 (d.jpg)",
        "line 7 (e.jpg)",
        "line 8 (f.jpg)",
        "line 9 (g.jpg)",
    ]
    assert records[0].captions == ["fine"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_rows_of_one_image_are_merged(tmp_path: Path, delimiter: str) -> None:
    rows = [
        ("Caption", "image", "split"),
        ("one", "a.jpg", "train"),
        (f'"two{delimiter} ""2"""', "b.jpg", "dev"),
        ("three\nlines", "a.jpg", "train"),
    ]
    rows[3] = ('"three\nlines"', "a.jpg", "train")
    path = write(tmp_path / "a.csv", "\r\n".join(delimiter.join(row) for row in rows))
    records, problems = read_records(path)
    assert problems == []
    assert captions(records) == {"a.jpg": ["one", "three\nlines"], "b.jpg": [f'two{delimiter} "2"']}
    assert [record.split for record in records] == ["train", "validation"]


def test_all_problems_of_a_csv_file_are_reported(tmp_path: Path) -> None:
    lines = [
        "image,caption,split",
        "a.jpg,red, green,train",
        "b.jpg,,train",
        "c.jpg,x,train",
        "c.jpg,y,test",
        ",,",
        "",
        'd.jpg,"x"y,train',
        "e.jpg,x,test",
    ]
    records, problems = read_records(write(tmp_path / "a.csv", "\n".join(lines)))
    assert [problem.partition(":")[0] for problem in problems] == ["line 2", "line 3", "line 8", "line 5 (c.jpg)"]
    assert "4 fields" in problems[0] and "caption" in problems[1] and "'train' in line 4" in problems[3]
    assert captions(records) == {"c.jpg": ["x", "y"], "e.jpg": ["x"]}


def test_open_quote_is_a_problem(tmp_path: Path) -> None:
    _, problems = read_records(write(tmp_path / "a.csv", 'image,caption\na.jpg,"open\nb.jpg,x\nc.jpg,y\n'))
    assert len(problems) == 1 and problems[0].startswith("line 2: ")


@pytest.mark.parametrize("header", ["", "size,weather,season", "image"])
def test_table_without_the_columns_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(DataError, match=r"columns image and caption|which column holds"):
        read_records(write(tmp_path / "a.csv", header + "\na.jpg,x\n" if header else ""))


def test_duplicate_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="same name"):
        read_records(write(tmp_path / "a.csv", "image,caption,caption\na.jpg,x,y\n"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_byte_order_marks_are_read(tmp_path: Path, encoding: str, suffix: str) -> None:
    content = {
        ".csv": "image,caption\nä.jpg,naïve\n",
        ".jsonl": '{"image": "ä.jpg", "caption": "naïve"}\n',
        ".json": '{"images": [{"id": 1, "file_name": "ä.jpg"}], "annotations": [{"image_id": 1, "caption": "naïve"}]}',
    }[suffix]
    records, problems = read_records(write(tmp_path / f"a{suffix}", content.encode(encoding)))
    assert problems == []
    assert captions(records) == {"ä.jpg": ["naïve"]}


def test_latin_1_is_named_with_its_line_and_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not UTF-8[\s\S]*0xef in line 3[\s\S]*iconv"):
        read_records(write(tmp_path / "a.csv", "image,caption\na.jpg,x\nb.jpg,naïve\n".encode("latin-1")))


def test_other_or_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_records(tmp_path / "a.csv")


def test_report_counts_all_problems_and_shows_the_first() -> None:
    report("x.csv", [])
    with pytest.raises(DataError, match=r"x\.csv: 25 problem\(s\)[\s\S]*number 19\n  … and 5 more"):
        report("x.csv", [f"number {index}" for index in range(25)])


def test_number_of_thousands_of_digits_is_a_problem(tmp_path: Path) -> None:
    number = "9" * 5000
    (tmp_path / "a.jsonl").write_text(
        f'{{"image": "a.png", "caption": "a", "n": {number}}}\n{{"image": "b.png", "caption": "b"}}\n'
    )
    records, problems = read_records(tmp_path / "a.jsonl")
    assert (
        [record.image for record in records] == ["b.png"] and len(problems) == 1 and "line 1: not JSON" in problems[0]
    )
    (tmp_path / "a.json").write_text(f'{{"images": [{{"id": {number}}}], "annotations": []}}')
    with pytest.raises(DataError, match=r"a\.json cannot be read"):
        read_records(tmp_path / "a.json")
