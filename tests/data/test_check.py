"""`data check` reports all problems at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ashneuro.data.check import check
from ashneuro.data.formats import CAPTIONS, CLIPS, FORMATS, QUESTIONS
from ashneuro.errors import ConfigError, DataError

from .pictures import write_picture


def lines(path: Path, *rows: tuple[str, str, str]) -> Path:
    path.write_text(
        "\n".join(json.dumps({"image": image, "caption": text, "split": split}) for image, text, split in rows)
    )
    return path


def test_clean_data_set_is_counted(tmp_path: Path) -> None:
    for number in range(4):
        write_picture(tmp_path / "pictures" / f"{number}.png", number)
    rows = [
        ("0.png", "a", "train"),
        ("0.png", "b", "train"),
        ("1.png", "c", "train"),
        ("2.png", "d", "val"),
        ("3.png", "é", "test"),
    ]
    ticks: list[tuple[int, int]] = []
    found = check(lines(tmp_path / "a.jsonl", *rows), "jsonl", tmp_path / "pictures", lambda *now: ticks.append(now))
    assert found.problems == ()
    assert list(found.parts) == ["train", "validation", "test"]
    train = found.parts["train"]
    assert (train.images, train.readable, train.texts) == (2, 2, 3)
    assert train.kinds == {"images with 1 caption(s)": 1, "images with 2 caption(s)": 1}
    assert ticks == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_all_problems_are_reported(tmp_path: Path) -> None:
    for number in range(5):
        write_picture(tmp_path / f"{number}.png", number)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:80])  # a whole header, truncated data
    (tmp_path / "2.png").write_text("not a picture")
    (tmp_path / "4.png").write_bytes((tmp_path / "0.png").read_bytes())
    rows = [
        ("0.png", "fine", "train"),
        ("1.png", "cut off", "train"),
        ("2.png", "no picture", "val"),
        ("3.png", "naÃ¯ve cafÃ©", "test"),
        ("4.png", "lost \ufffd letter", "test"),
        ("5.png", "missing", "test"),
        ("6.png", "bad split", "tset"),
    ]
    found = check(lines(tmp_path / "a.jsonl", *rows), "jsonl")
    text = "\n".join(found.problems)
    for words in (
        "line 7 (6.png): split is 'tset'",
        "line 4: 'naÃ¯ve cafÃ©' is UTF-8 that was read as Windows-1252: 'naïve café' perhaps",
        "line 5: 'lost \ufffd letter' has letters that were lost",
        "line 2 (1.png): ",
        "line 3 (2.png): it is not an image",
        "line 6 (5.png): there is no such file",
        "line 7 (6.png): there is no such file",
        "4.png: a test picture that is byte for byte the training picture 0.png",
    ):
        assert words in text
    assert len(found.problems) == 8
    assert (found.parts["test"].images, found.parts["test"].readable) == (3, 2)


def test_questions_are_checked_with_their_pictures(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "dev-1-0-img0.png")
    entries = [
        {"identifier": "dev-1-0-0", "sentence": "One.", "label": "True"},
        {"identifier": "dev-1-0-1", "sentence": "Two.", "label": "False"},
        {"identifier": "dev-1-0-1", "sentence": "Two.", "label": "False"},
    ]
    path = tmp_path / "dev.json"
    path.write_text("\n".join(map(json.dumps, entries)))
    found = check(path, "nlvr2", tmp_path / "images")
    assert (found.parts["validation"].images, found.parts["validation"].readable, found.parts["validation"].texts) == (
        2,
        1,
        2,
    )
    assert found.parts["validation"].kinds == {"true": 1, "false": 1}
    assert [problem.split(":")[0] for problem in found.problems] == [
        "dev.json line 3",
        "dev.json line 1 (dev-1-0-img1.png)",
    ]


def test_picture_in_two_parts_is_a_problem(tmp_path: Path) -> None:
    write_picture(tmp_path / "1.jpg")
    for part in ("train", "test"):
        entry = {"Flickr30K_ID": "1", "pairID": part, "sentence2": "A dog.", "gold_label": "neutral"}
        (tmp_path / f"snli_ve_{part}.jsonl").write_text(json.dumps(entry))
    assert check(tmp_path, "snli-ve").problems == ("1.jpg: is in the test part and in the training part",)


def test_unknown_formats_and_folders_are_refused(tmp_path: Path) -> None:
    assert set(FORMATS) == {*CAPTIONS, *QUESTIONS, *CLIPS}
    assert {
        "coco",
        "karpathy",
        "flickr30k",
        "vqa2",
        "snli-ve",
        "nlvr2",
        "webdataset",
        "huggingface",
        "jsonl",
        "csv",
    } <= set(FORMATS)
    with pytest.raises(ConfigError, match="--format nonsense"):
        check(tmp_path, "nonsense")
    with pytest.raises(ConfigError, match="no such folder"):
        check(tmp_path / "a.jsonl", "jsonl", tmp_path / "none")
    with pytest.raises(DataError, match="no such file"):
        check(tmp_path / "a.jsonl", "jsonl")
    with pytest.raises(DataError, match=r"which format[\s\S]*an empty folder"):
        check(tmp_path)


def test_unusable_names_and_texts_are_problems(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    path = tmp_path / "odd.jsonl"
    path.write_text(
        "\n".join(
            [
                json.dumps({"image": "a.png", "caption": "it \x07 rings"}),
                json.dumps({"image": "a\0.png", "caption": "a name that no file can have"}),
                json.dumps({"image": "b.png", "caption": "half a letter \ud83d"}),
                json.dumps({"image": "a.png", "caption": "a whole one \U0001f600"}),
                json.dumps({"image": f"{'x' * 300}.png", "caption": "too long"}),
            ]
        )
    )
    problems = check(path, "jsonl").problems
    assert len(problems) == 4
    for problem in problems:
        problem.encode()  # can be printed
    assert "line 3: holds half of a letter (\\ud83d without its other half)" in problems
    assert any("control characters" in problem for problem in problems)
    assert any("line 2 ('a\\x00.png')" in problem for problem in problems)
    whole = tmp_path / "captions.json"
    whole.write_text(json.dumps({"images": [], "annotations": [{"image_id": 1, "caption": "\udc00"}]}))
    with pytest.raises(DataError, match="half of a letter"):
        check(whole, "coco")


@pytest.mark.parametrize(
    "format, content",
    [("coco", {"images": [], "annotations": []}), ("vqa2", {"questions": []}), ("easy-vqa", []), ("jsonl", None)],
)
def test_empty_data_set_is_a_problem(tmp_path: Path, format: str, content: object) -> None:
    path = tmp_path / "questions.json"
    path.write_text("" if content is None else json.dumps(content))
    assert check(path, format).problems == ("questions.json: holds no picture with a text",)


def test_broken_line_in_a_folder_names_its_file(tmp_path: Path) -> None:
    for part in ("train", "dev"):
        (tmp_path / f"snli_ve_{part}.jsonl").write_text("{")
    problems = check(tmp_path, "snli-ve").problems
    assert [problem.split(":")[0] for problem in problems] == ["snli_ve_dev.jsonl line 1", "snli_ve_train.jsonl line 1"]


def test_texts_without_effect_are_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    for number in range(3):
        write_picture(tmp_path / f"{number}.png", number)
    Image.new("RGB", (40, 40), "red").save(tmp_path / "3.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    rows = [("0.png", "shared", "train"), ("1.png", "Shared", "train"), ("2.png", "...", "test")]
    found = check(lines(tmp_path / "a.jsonl", *rows, ("3.jpg", " ".join(["w"] * 30), "test")), max_words=24)
    assert found.problems == () and found.learnable is not None
    assert found.reduced == ("3.jpg",)
    counts = found.learnable
    assert (counts.shared, counts.cut, counts.wordless, counts.one_colour) == (2, 1, 1, 1)
