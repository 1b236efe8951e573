"""``ashneuro evaluate --task``, with spikes from torch, the emulator and Lava."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands.conftest import Command


def test_evaluate_task(ashneuro: Command, task_run: Path) -> None:
    result = ashneuro("evaluate", task_run, "--task", "entailment", "--part", "train", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["rows"][0]["name"] == "hybrid" and found["task"] == "entailment"
    assert json.loads((task_run / "entailment-train.json").read_text())["rows"] == found["rows"]
    assert "text alone" in ashneuro("evaluate", task_run, "--task", "entailment", "--part", "train", "--samples", 4).out
    other = ashneuro("evaluate", task_run, "--task", "vqa")
    assert other.code == 2 and "trained on entailment" in other.err
    assert json.loads(ashneuro("evaluate", task_run, "--json").out)["rows"][0]["name"] == "hybrid"


def test_evaluate_task_on_emulator(ashneuro: Command, exported_run: Path) -> None:
    words = ("evaluate", exported_run, "--task", "entailment", "--part", "train", "--samples", 6)
    here, there = (json.loads(ashneuro(*words, *more, "--json").out) for more in ((), ("--abstract-on", "loihi")))
    assert [row["spikes_from"] for row in there["rows"]] == ["integer emulator"] * 4 + ["none"]
    assert [row["name"] for row in there["rows"]] == [row["name"] for row in here["rows"]]
    assert {row["name"]: row["accuracy"] for row in here["rows"][2:]}.items() <= {
        r["name"]: r["accuracy"] for r in there["rows"]
    }.items()
    assert (exported_run / "entailment-loihi-train-6.npz").exists(), "spike counts are kept"


@pytest.mark.lava
def test_evaluate_task_on_lava(ashneuro: Command, exported_run: Path) -> None:
    words = ("evaluate", exported_run, "--task", "entailment", "--samples", 2)
    emulator = json.loads(ashneuro(*words, "--abstract-on", "loihi", "--json").out)
    lava = ashneuro(*words, "--abstract-on", "lava")
    assert lava.code == 0, lava.err
    assert "spikes from Lava, integer" in lava.out and "spikes from Lava in " in lava.out
    rows = json.loads((exported_run / "entailment-lava-fixed-2.json").read_text())["rows"]
    assert [row["accuracy"] for row in rows] == [row["accuracy"] for row in emulator["rows"]], (
        "equal integers give equal answers"
    )
