"""``data.skip_broken``: broken pictures and entries are left out, counted and listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ashneuro.config import DataConfig, QuestionConfig, TasksConfig
from ashneuro.data.batches import load_readable
from ashneuro.data.broken import broken_pictures, save_left_out
from ashneuro.data.check import check
from ashneuro.data.folder import folder_pictures
from ashneuro.data.sources import load_splits
from ashneuro.data.tasks import load_questions
from ashneuro.errors import DataError

from .pictures import write_picture


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ASHNEURO_HOME", str(folder))
    return folder


def damaged(folder: Path) -> Path:
    """Write eight pictures with captions: one missing, one truncated, one without a caption."""
    rows = []
    for number in range(8):
        write_picture(folder / f"{number}.png", number, (40, 40))
        part = ("train", "train", "test")[number % 3]
        rows.append({"image": f"{number}.png", "caption": f"picture {number}", "split": part})
    (folder / "3.png").unlink()
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:-1000])
    rows[6]["caption"] = ""
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_broken_pairs_are_left_out_and_listed(tmp_path: Path) -> None:
    path = damaged(tmp_path)
    with pytest.raises(DataError, match=r"2 problem[\s\S]*--skip-broken"):
        load_splits(DataConfig(source=str(path), split="file"))
    splits = load_splits(DataConfig(source=str(path), split="file", skip_broken=True))
    assert [pair.key for pair in (*splits.train, *splits.test)] == ["0.png", "1.png", "7.png", "2.png", "5.png"]
    assert [line.partition(":")[0] for line in splits.left_out] == [
        "line 7 (6.png)",
        "line 4 (3.png)",
        "line 5 (4.png)",
    ]
    assert "3 broken picture(s) or entries are left out." in splits.notes
    clean = load_splits(DataConfig(skip_broken=True))
    assert clean.left_out == ()


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("image,caption\nnone.png,gone\n")
    with pytest.raises(DataError, match=r"no pairs[\s\S]*all of its 1 are broken, such as line 2 \(none\.png\)"):
        load_splits(DataConfig(source=str(path), split="random", skip_broken=True))


def test_check_tells_what_is_left_out_from_problems(tmp_path: Path) -> None:
    path = damaged(tmp_path)
    assert len(check(path).problems) == 3
    found = check(path, skip_broken=True)
    assert found.problems == () and len(found.left_out) == 3


def test_questions_about_broken_pictures_are_left_out(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "train", "dev", "test")):
        write_picture(tmp_path / f"{number}.jpg", number)
        entry = {"Flickr30K_ID": str(number), "pairID": f"{number}", "sentence2": "A dog.", "gold_label": "neutral"}
        with (tmp_path / f"snli_ve_{part}.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")
    (tmp_path / "1.jpg").write_text("no picture")
    tasks = TasksConfig(entailment=QuestionConfig("snli-ve", train=str(tmp_path)))
    with pytest.raises(DataError, match=r"1\.jpg: it is not an image"):
        load_questions("entailment", tasks, DataConfig())
    questions = load_questions("entailment", tasks, DataConfig(skip_broken=True))
    assert [question.images for question in questions.train] == [("0.jpg",)]
    assert questions.left_out[0].startswith("1.jpg: ")


def test_verdicts_are_kept_until_a_file_changes(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = damaged(tmp_path)
    pictures = {f"{number}.png": path.with_name(f"{number}.png") for number in range(8)}
    found = broken_pictures(pictures)
    assert set(found) == {"3.png", "4.png"}
    with monkeypatch.context() as patched:
        patched.setattr("ashneuro.data.broken.picture_problem", lambda source: pytest.fail("decoded again"))
        assert broken_pictures(pictures) == found
    write_picture(tmp_path / "4.png", 4, (30, 30))
    assert set(broken_pictures(pictures)) == {"3.png"}
    for kept in (cache / "broken").iterdir():
        kept.write_text("{")
    assert set(broken_pictures(pictures)) == {"3.png"}
    assert set(broken_pictures({"a": (tmp_path / "3.png").read_bytes, "b": (tmp_path / "2.png").read_bytes})) == {"a"}


def test_readable_pictures_of_a_folder(tmp_path: Path) -> None:
    damaged(tmp_path)
    pairs, _ = folder_pictures(tmp_path)
    images, kept, problems = load_readable(pairs, 8)
    assert images.shape == (6, 3, 8, 8) and len(kept) == 6
    assert [problem.partition(":")[0] for problem in problems] == ["4.png"]


def test_an_older_list_goes(tmp_path: Path) -> None:
    file = tmp_path / "left-out.txt"
    save_left_out(file, ("a: gone", "b: gone"))
    assert file.read_text() == "a: gone\nb: gone\n"
    save_left_out(file, ())
    assert not file.exists()
