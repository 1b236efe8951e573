"""A small run with graded neurons: trained, evaluated, exported with its proof, reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands.conftest import Command, settings

GRADED = (
    "model.abstract.neuron=graded",
    "model.abstract.timesteps=1",
    "model.abstract.v_threshold=0.3",
    "model.abstract.learn_threshold=true",
    "train.synops=20000",
    "train.batch_size=4",
    "train.epochs=15",  # the batch statistics of fewer steps leave the last layers silent
)


@pytest.mark.lava
def test_graded_run_is_proved_in_lava_and_reported(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    run, control = tmp_path / "graded", tmp_path / "control"
    assert ashneuro("train", "tiny", "--out", run, *settings(pairs, *GRADED)).code == 0
    twin = settings(pairs, "model.abstract.kind=relu", "train.epochs=1")
    assert ashneuro("train", "tiny", "--out", control, *twin).code == 0
    assert ashneuro("evaluate", run).code == 0 and ashneuro("evaluate", control).code == 0

    exported = ashneuro("export", run, "--samples", 4, "--json")
    assert exported.code == 0, exported.err
    certificate = json.loads(exported.out)["certificate"]
    assert certificate["passed"] and set(certificate["accuracy"]) == {"float32", "integer"}
    proved = {one["right"]: one for one in certificate["comparisons"] if one["required"]}
    assert {"Lava, floating_pt", "Lava, fixed_pt"} <= proved.keys()
    for comparison in proved.values():
        assert comparison["mismatches"] == 0 and all(layer["spikes"] for layer in comparison["layers"])

    elsewhere = {}
    for words in (("loihi",), ("lava", "--lava-precision", "fixed")):
        result = ashneuro("evaluate", run, "--abstract-on", *words, "--json")
        assert result.code == 0, result.err
        elsewhere[words[0]] = [row["image_to_text"] for row in json.loads(result.out)["rows"]]
    assert elsewhere["loihi"] == elsewhere["lava"]

    result = ashneuro("report", run, control, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    # The hybrid's accuracy is that of integers; the control's is known in floats alone.
    lacking = report["missing"]["accuracy of control in integers"]
    assert f"`ashneuro evaluate {control} --abstract-on loihi`" in lacking
    assert ashneuro("evaluate", control, "--abstract-on", "loihi").code == 0
    again = json.loads(ashneuro("report", run, control, "--json").out)
    assert "accuracy of control in integers" not in again["missing"] and "(in float)" not in json.dumps(again)
    layers = {layer["name"]: layer for layer in report["workload"]["layers"] if layer["place"] == "deployed"}
    spiking = [layer for name, layer in layers.items() if name != "input"]
    assert all(layer["graded_messages"] > 0 and layer["message_bits"] == 8 for layer in spiking)
    assert not any(layer["spikes"] or layer["effective_acs"] for layer in spiking)
    # A message of one layer costs a product per weight that it meets in the next.
    assert layers["block1.lif1"]["graded_events"] == layers["entry.lif"]["graded_messages"]
    assert layers["block1.lif1"]["effective_macs"] > layers["block1.lif1"]["graded_events"]


def test_fine_tuned_graded_run_learns_the_integers_of_its_export(
    ashneuro: Command, pairs: Path, tmp_path: Path
) -> None:
    run = tmp_path / "graded"
    assert ashneuro("train", "tiny", "--out", run, *settings(pairs, *GRADED)).code == 0
    tuned = ashneuro("train", run, "--quantise-aware", "--set", "train.epochs=1")
    assert tuned.code == 0, tuned.err
    folder = tmp_path / "graded-integers"
    exported = ashneuro("export", folder, "--samples", 4, "--no-lava", "--json")
    assert exported.code == 0, exported.err
    accuracy = json.loads(exported.out)["certificate"]["accuracy"]
    assert accuracy["learnt integers"] == accuracy["integer"]
