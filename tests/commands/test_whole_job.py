"""Train, evaluate, export, evaluate again on emulator and Lava, report: a small model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.commands.conftest import Command, settings


@pytest.mark.lava
def test_train_evaluate_export_report(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    hybrid, control = tmp_path / "hybrid", tmp_path / "control"
    assert ashneuro("train", "tiny", "--out", hybrid, *settings(pairs)).code == 0
    assert ashneuro("train", "tiny", "--out", control, *settings(pairs, "model.abstract.kind=none")).code == 0

    rows = json.loads(ashneuro("evaluate", hybrid, "--json").out)["rows"]
    names = ["hybrid", "hybrid, A zeroed", "hybrid, C zeroed", "hybrid, A alone, STUA head"]
    assert [row["name"] for row in rows] == names
    assert ashneuro("evaluate", control).code == 0

    exported = json.loads(ashneuro("export", hybrid, "--samples", 4, "--json").out)
    assert exported["certificate"]["passed"]
    assert set(exported["certificate"]["accuracy"]) == {"float32", "integer"}
    assert ashneuro("verify", hybrid, "--no-lava").code == 0  # with Lava: test_old_files.py

    # Emulator and Lava in fixed point: equal spike counts, hence equal ranks.
    elsewhere = {}
    for words in (("loihi",), ("lava", "--lava-precision", "fixed")):
        result = ashneuro("evaluate", hybrid, "--abstract-on", *words, "--json")
        assert result.code == 0, result.err
        elsewhere[words[-1]] = json.loads(result.out)["rows"]
    counts = {name: np.load(hybrid / f"evaluation-{name}.npz") for name in ("loihi", "lava-fixed")}
    for key in counts["loihi"].files:
        if key != "record":
            np.testing.assert_array_equal(counts["loihi"][key], counts["lava-fixed"][key])
    assert [row["image_to_text"] for row in elsewhere["loihi"]] == [row["image_to_text"] for row in elsewhere["fixed"]]

    example = [
        sys.executable,
        str(Path(__file__).parents[2] / "examples" / "hybrid_inference.py"),
        str(hybrid),
        "a face",
        "lava",
    ]
    output = subprocess.run(example, capture_output=True, text=True, check=True).stdout
    assert "'a face', spikes from Lava, fixed:" in output and "Lava: " in output

    report = json.loads(ashneuro("report", hybrid, control, "--json").out)
    assert set(report["missing"]) == {"measurements"}  # --measure was not given
    assert report["winner"] in {"hybrid", "ann", "undecided"}
    assert any(layer["place"] == "host" for layer in report["workload"]["layers"])
    assert (hybrid / "report.html").stat().st_size > 50_000

    # A report has one network per control.
    twin = tmp_path / "twin"
    assert (
        ashneuro("train", "tiny", "--out", twin, *settings(pairs, "model.abstract.kind=relu", "train.epochs=1")).code
        == 0
    )
    second = shutil.copytree(twin, tmp_path / "second")
    twice = ashneuro("report", hybrid, twin, second)
    assert twice.code == 2 and f"{second} is the second relu twin" in twice.err

    # A bundle of earlier weights must not stand for the run.
    resumed = ashneuro("train", hybrid / "config.json", "--out", tmp_path / "more", "--set", "train.seed=1")
    assert resumed.code == 0
    (hybrid / "model.safetensors").write_bytes((tmp_path / "more" / "model.safetensors").read_bytes())
    for words in (
        ("evaluate", hybrid, "--abstract-on", "loihi"),
        ("verify", hybrid),
        ("simulate", hybrid),
        ("report", hybrid),
    ):
        stale = ashneuro(*words)
        assert stale.code == 2 and "stale" in stale.err, words
    assert ashneuro("verify", hybrid / "bundle", "--no-lava").code == 0, "the bundle itself verifies"
    assert ashneuro("export", hybrid, "--samples", 2, "--no-lava").code == 0
    later = json.loads(ashneuro("report", hybrid, control, "--json").out)
    names = [row["name"] for evaluation in later["evaluations"] for row in evaluation["rows"]]
    assert names == ["no abstract encoder"], "evaluations of earlier weights are left out"
    assert "evaluation-loihi.json" in later["missing"]["earlier results of hybrid"]
    assert later["workload"] != report["workload"]


def test_ann_control_has_integers_but_no_export(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    run = tmp_path / "relu"
    assert (
        ashneuro("train", "tiny", "--out", run, *settings(pairs, "model.abstract.kind=relu", "train.epochs=1")).code
        == 0
    )
    result = ashneuro("export", run)
    assert result.code == 2 and "spiking" in result.err
    integers = ashneuro("evaluate", run, "--abstract-on", "loihi")
    assert integers.code == 0 and "ReLU twin, in integers" in integers.out, integers.err
    rows = json.loads((run / "evaluation-loihi.json").read_text())["rows"]
    assert {row["spikes_from"] for row in rows} == {"none, in integers"}
    lava = ashneuro("evaluate", run, "--abstract-on", "lava")
    assert lava.code == 2 and "nothing to deploy" in lava.err
    shard = ashneuro("evaluate", run, "--abstract-on", "loihi", "--shard", "1/2")
    assert shard.code == 2 and "computes no spikes" in shard.err


def test_json_report_with_measure_prints_json_alone(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert ashneuro("train", "tiny", "--out", run, *settings(pairs, "train.epochs=1")).code == 0
    assert ashneuro("export", run, "--no-lava", "--samples", 2).code == 0
    result = ashneuro("report", run, "--measure", "--device", "cuda:99", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["schema"] == "ashneuro.report/1" and (run / "measurement.json").exists()
