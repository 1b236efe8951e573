"""Runs whose data were moved, other data, other working directories, and more epochs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ashneuro.config import RunConfig, StageConfig
from ashneuro.workflows.train import next_steps
from tests.commands.conftest import Command
from tests.training import tiny


@pytest.fixture
def moved(task_run: Path, tmp_path: Path) -> Path:
    """A run, in a folder with a space, whose settings name its data by a path that is no more."""
    folder = tmp_path / "my run"
    shutil.copytree(task_run, folder, ignore=shutil.ignore_patterns("entailment*", "evaluation*"))
    config = json.loads((folder / "config.json").read_text())
    config["data"]["source"] = "then/pairs.jsonl"
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_data_that_were_moved(ashneuro: Command, moved: Path, pairs: Path, tmp_path: Path) -> None:
    lost = ashneuro("evaluate", moved)
    assert lost.code == 2 and "not at then/pairs.jsonl" in lost.err and "--data" in lost.err
    assert ashneuro("evaluate", moved, "--data", pairs).code == 0
    assert json.loads((moved / "evaluation.json").read_text())["images"] == 9
    assert ashneuro("evaluate", moved, "--data", pairs, "--task", "entailment").code == 0
    result = ashneuro("search", moved, "face", "--data", pairs, "--out", tmp_path / "a.png", "--json")
    assert json.loads(result.out)["pictures"] == 9
    result = ashneuro("export", moved, "--samples", 1, "--no-lava", "--data", pairs)
    assert result.code == 0 and f"ashneuro verify '{moved / 'bundle'}'" in result.out, result.err
    lost = ashneuro("report", moved)
    assert lost.code == 2 and "not at then/pairs.jsonl" in lost.err and "--data" in lost.err
    assert ashneuro("report", moved, "--data", pairs, "--json").code == 0


def test_other_data(ashneuro: Command, moved: Path, pairs: Path, tmp_path: Path) -> None:
    """Results on other data do not take the place of the run's own, and need no parts."""
    other = tmp_path / "other.jsonl"
    rows = [json.loads(line) for line in pairs.read_text().splitlines()[:8]]
    other.write_text("\n".join(json.dumps({"image": row["image"], "caption": row["caption"]}) for row in rows))
    result = ashneuro("evaluate", moved, "--data", other, "--images", pairs.parent)
    assert result.code == 0, result.err
    found = json.loads((moved / "on-other-evaluation.json").read_text())
    assert found["images"] == 8 and found["split"] == "other.jsonl, all of it, test"
    assert not (moved / "evaluation.json").exists()
    stream = ashneuro("evaluate", moved, "--stream", "own", "--data", other)
    assert stream.code == 2 and "--stream with --data" in stream.err
    absent = ashneuro("evaluate", moved, "--data", "no/such.csv")
    assert absent.code == 2 and "no/such.csv" in absent.err and "do:" in absent.err


def test_resume_where_the_data_are_now(ashneuro: Command, moved: Path, pairs: Path) -> None:
    lost = ashneuro("train", "--resume", "--out", moved)
    assert lost.code == 2 and "--data" in lost.err
    result = ashneuro("train", "--resume", "--out", moved, "--data", pairs)
    assert result.code == 0, result.err
    assert json.loads((moved / "config.json").read_text())["data"]["source"] == str(pairs)
    assert f"ashneuro evaluate '{moved}' --task entailment" in result.out
    more = ashneuro("train", "--resume", "--out", moved, "--set", "train.seed=3", "--set", "train.teacher=a b")
    assert more.code == 2
    assert f"--set train.start='{moved}' --set train.seed=3 --set train.teacher='a b' --out OTHER" in more.err


def test_next_steps_fit_the_run() -> None:
    asked = RunConfig(schedule=(StageConfig("ask", 1, task="vqa"), StageConfig("again", 1, task="vqa")))
    assert next_steps(asked, Path("runs/a")) == [
        "ashneuro evaluate runs/a --task vqa",
        "ashneuro export runs/a --target lava",
    ]
    assert next_steps(tiny.of_kind("none"), Path("my runs/a")) == ["ashneuro evaluate 'my runs/a'"]
    assert next_steps(asked, Path("my runs/a"), ["vqa"])[0] == (
        "ashneuro evaluate 'my runs/a' --task vqa --predictions 'my runs/a/vqa.json'"
    )
