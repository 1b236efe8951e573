"""``ashneuro search``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.commands.conftest import Command


@pytest.fixture
def pictures(pairs: Path, tmp_path: Path) -> Path:
    """A folder of four pictures and a file that is none."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(4):
        shutil.copy(pairs.parent / f"{number}.png", folder)
    (folder / "broken.jpg").write_text("no picture")
    return folder


def test_search_ranks_pictures_of_a_folder(ashneuro: Command, task_run: Path, pictures: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "best.png"
    words = ("--images", pictures, "--n", 3, "--out", drawn, "--json")
    result = ashneuro("search", task_run, "a face zxzx", *words)
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert len(found["best"]) == 3 and found["pictures"] == 4
    scores = [hit["cosine"] for hit in found["best"]]
    assert scores == sorted(scores, reverse=True)
    assert {hit["picture"] for hit in found["best"]} < {f"{number}.png" for number in range(4)}
    assert "zxzx" in found["unknown_words"] and "broken.jpg" in found["unreadable"][0]
    assert Image.open(drawn).size[0] > 300
    alone = ashneuro("search", task_run, "A, face", *words)
    assert [hit["cosine"] for hit in json.loads(alone.out)["best"]] == scores, "unknown words have no effect"


def test_search_among_test_pictures(ashneuro: Command, task_run: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "best.png"
    result = ashneuro("search", task_run, "zxzx-face", "--out", drawn)
    assert result.code == 0 and "cosine" in result.out and drawn.is_file()


def test_search_of_a_folder_needs_no_training_data(
    ashneuro: Command, task_run: Path, pictures: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "run"
    shutil.copytree(task_run, kept)
    config = json.loads((kept / "config.json").read_text())
    config["data"]["source"] = str(tmp_path / "gone.csv")
    (kept / "config.json").write_text(json.dumps(config))
    assert ashneuro("search", kept, "face", "--images", pictures, "--out", tmp_path / "best.png").code == 0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("!!!",), "none of its words"),
        (("zxzx",), "none of its words"),
        (("face", "--images", "none"), "none"),
        (("face", "--images", "empty"), "no pictures in"),
        (("face", "--n", "0"), "at least one"),
        (("face", "--out", "absent/best.png"), "absent/best.png"),
    ],
)
def test_search_rejects_bad_arguments(
    ashneuro: Command,
    task_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = ashneuro("search", task_run, *words)
    assert result.code == 2 and error in result.err and "do:" in result.err
