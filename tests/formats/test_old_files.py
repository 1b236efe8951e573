"""Runs and bundles of earlier versions open with today's code and give the numbers that were
printed then.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ashneuro.program.bundle import read_bundle
from ashneuro.simulation.record import load_counts
from ashneuro.training.checkpoint import load_run
from ashneuro.training.evaluate import Evaluation
from tests.commands.conftest import Command

ONE_QUERY = 1 / 12 + 1e-6
"""float32 differs among processors by a rounding, which may change the rank of one of the 12
queries.
"""

BUNDLES = {
    "runs/hybrid/bundle": {
        "entry.lif": 851,
        "block1.lif1": 290,
        "block1.lif2": 292,
        "block1.lif3": 184,
        "semantic.lif": 19,
    },
    "lif_cubalif.bundle": {"lif": 22, "cuba": 13},
    "conv_delays.bundle": {"conv1": 185, "dense3": 37, "dense4": 3},
}
"""Spikes of the reference samples, per layer, in float and in integers alike."""

COMPARED = {"runs/hybrid/bundle": 6720, "lif_cubalif.bundle": 272, "conv_delays.bundle": 1080}
NIR_BUNDLES = ("runs/hybrid/bundle", "lif_cubalif.bundle")


@pytest.mark.parametrize(
    ("name", "kind", "parameters"), [("hybrid", "spiking", 2953), ("relu", "relu", 2951), ("learnt", "spiking", 2953)]
)
def test_run_loads(old: Path, name: str, kind: str, parameters: int) -> None:
    run = load_run(old / "runs" / name)
    assert run.config.model.abstract.kind == kind and run.config.data.source == "shapes"
    assert run.config.train.momentum_text == 0.0, "a setting that it did not have"
    assert sum(weight.numel() for weight in run.model.parameters()) == parameters
    assert len(run.vocabulary) == 13
    assert (run.model.abstract.integers is not None) == (name == "learnt")


@pytest.mark.parametrize(
    ("name", "image_to_text", "text_to_image"),
    [("hybrid", 6 / 12, 6 / 12), ("relu", 9 / 12, 10 / 12), ("learnt", 7 / 12, 8 / 12)],
)
def test_run_is_evaluated_as_before(
    ashneuro: Command, old: Path, name: str, image_to_text: float, text_to_image: float
) -> None:
    said = ashneuro("evaluate", f"runs/{name}", "--json")
    assert said.code == 0, said.err
    row = json.loads(said.out)["rows"][0]
    assert row["image_to_text"]["R@1"] == pytest.approx(image_to_text, abs=ONE_QUERY)
    assert row["text_to_image"]["R@1"] == pytest.approx(text_to_image, abs=ONE_QUERY)


def test_emulator_spikes_as_before(ashneuro: Command, old: Path) -> None:
    said = ashneuro("evaluate", "runs/hybrid", "--abstract-on", "loihi", "--json")
    assert said.code == 0, said.err
    row = json.loads(said.out)["rows"][0]
    assert row["image_to_text"]["R@1"] == pytest.approx(6 / 12, abs=ONE_QUERY)
    assert row["text_to_image"]["R@1"] == pytest.approx(8 / 12, abs=ONE_QUERY)
    record = load_counts(old / "runs/hybrid/evaluation-loihi.npz")
    assert sum(layer.counts.sum() for layer in record.layers.values()) == pytest.approx(4576, rel=0.01)


def test_evaluation_file_loads(old: Path) -> None:
    values = json.loads((old / "runs/hybrid/evaluation-loihi.json").read_text())
    evaluation = Evaluation.from_json(values)
    assert [row.image_to_text["R@1"] for row in evaluation.rows] == [0.5, 0.5, pytest.approx(1 / 3)]
    assert [row.text_to_image["R@1"] for row in evaluation.rows] == [pytest.approx(2 / 3), 0.5, pytest.approx(1 / 3)]
    assert (evaluation.images, evaluation.texts, evaluation.concepts) == (12, 12, 6)
    assert json.loads(json.dumps(evaluation.to_json())) == values


def test_spike_counts_load(old: Path) -> None:
    record = load_counts(old / "runs/hybrid/evaluation-loihi.npz")
    assert (record.source, record.precision, record.timesteps, record.samples) == ("loihi", "integer", 3, 12)
    assert {name: int(layer.counts.sum()) for name, layer in record.layers.items()} == {
        "entry.lif": 2401,
        "block1.lif1": 805,
        "block1.lif2": 781,
        "block1.lif3": 524,
        "semantic.lif": 65,
    }


@pytest.mark.parametrize("name", BUNDLES)
def test_bundle_opens(old: Path, name: str) -> None:
    bundle = read_bundle(old / name)
    assert bundle.certificate is not None and bundle.certificate.passed
    assert {layer.name for layer in bundle.program("integer").layers} == set(BUNDLES[name])
    assert (bundle.graph is not None) == (name in NIR_BUNDLES)


@pytest.mark.parametrize("name", BUNDLES)
def test_bundle_is_verified(ashneuro: Command, old: Path, name: str) -> None:
    said = ashneuro("verify", name, "--no-lava", "--json")
    assert said.code == 0, said.out + said.err
    found = {(item["left"], item["right"]): item for item in json.loads(said.out)["comparisons"]}
    recorded = found["reference.npz", "integer program"]
    assert recorded["status"] == "equal" and recorded["compared"] == COMPARED[name]
    assert {layer["layer"]: layer["spikes"] for layer in recorded["layers"]} == BUNDLES[name]
    if name in NIR_BUNDLES:
        assert found["reference.npz", "graph, float64"]["compared"] == COMPARED[name]
        assert found["reference.npz", "graph, float64"]["status"] == "equal"


@pytest.mark.lava
@pytest.mark.parametrize("name", BUNDLES)
def test_bundle_is_verified_by_lava(ashneuro: Command, old: Path, name: str) -> None:
    said = ashneuro("verify", name, "--json")
    assert said.code == 0, said.out + said.err
    found = {item["right"]: item for item in json.loads(said.out)["comparisons"]}
    assert found["Lava, fixed_pt"]["status"] == "equal" and found["Lava, fixed_pt"]["compared"] == COMPARED[name]


@pytest.mark.parametrize("name", BUNDLES)
def test_bundle_is_simulated(ashneuro: Command, old: Path, name: str) -> None:
    for words in (["--on", "loihi"], ["--on", "torch"], ["--on", "loihi", "--precision", "fixed"]):
        if words[1] == "torch" and name not in NIR_BUNDLES:
            continue
        said = ashneuro("simulate", name, *words, "--json")
        assert said.code == 0, said.err
        layers = json.loads(said.out)["layers"]
        assert {layer: counted["spikes"] for layer, counted in layers.items()} == BUNDLES[name]


@pytest.mark.parametrize("name", NIR_BUNDLES)
def test_bundle_is_checked(ashneuro: Command, old: Path, name: str) -> None:
    said = ashneuro("check", name, "--json")
    assert said.code == 0, said.out + said.err


def test_assumptions_of_old_bundles_were_not_recorded(ashneuro: Command, old: Path) -> None:
    for name in ("lif_cubalif.bundle", "conv_delays.bundle"):
        bundle = read_bundle(name)
        assert bundle.assumptions is None and bundle.certificate is not None
        assert bundle.certificate.verdict == "passed, assumptions not recorded"
        again = ashneuro("verify", name, "--no-lava")
        assert again.code == 0 and ", assumptions not recorded" in again.out
        assert "not recorded by the version that wrote this" in ashneuro("simulate", name, "--on", "loihi").out
        checked = json.loads(ashneuro("check", name, "--json").out)
        assert any("record" in finding["rule"] or "not recorded" in finding["actual"] for finding in checked)
        # Exported again it is no better known, and a second time neither.
        for source, out in ((name, "again.bundle"), ("again.bundle", "third.bundle")):
            done = ashneuro("export", source, "--no-lava", "--out", out, "--json")
            assert done.code == 0 and json.loads(done.out)["assumptions"] is None
    assert load_counts(old / "runs/hybrid/evaluation-loihi.npz").assumptions is None


def test_old_bundle_whose_contract_is_stated_assumes_nothing(ashneuro: Command, old: Path) -> None:
    words = ("--dt", 1e-3, "--reset", "value", "--reset-delay", 0, "--comparison", "strict", "--integration", "euler")
    for name, stated in (
        ("lif_cubalif.bundle", (*words, "--input-coding", "current")),
        ("conv_delays.bundle", ("--comparison", "strict")),
    ):
        done = ashneuro("export", name, *stated, "--no-lava", "--out", "stated.bundle", "--json")
        assert done.code == 0 and json.loads(done.out)["assumptions"] == [], done.err


def test_report_of_old_files(ashneuro: Command, old: Path) -> None:
    before = json.loads((old / "runs/hybrid/report.json").read_text())
    chips = [word for name in ("loihi1", "cmos45", "h100") for word in ("--profile", name)]
    said = ashneuro("report", "runs/hybrid", "--baseline", "runs/relu", *chips, "--json")
    assert said.code == 0, said.err
    now = json.loads(said.out)
    assert now["winner"] == before["winner"] == "undecided"
    energies = [contender["total_j"]["typical"] for contender in now["comparison"]["groups"][0]["contenders"]]
    assert energies == pytest.approx(
        [8.102680333e-8, 1.867131000e-8, 1.669310999e-8, 1.787349083e-7, 1.298558000e-7], rel=1e-8
    )
    for part in ("evaluations", "workload", "steps", "training"):
        assert now[part] == before[part], part


def test_report_of_a_netx_bundle(ashneuro: Command, old: Path) -> None:
    said = ashneuro("report", "conv_delays.bundle", "--profile", "loihi1", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["workload"]["samples"] == 2


def test_old_run_is_exported(ashneuro: Command, old: Path) -> None:
    said = ashneuro("export", "runs/learnt", "--no-lava", "--samples", 2, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["assumptions"] == []  # a run states its contract
    accuracy = json.loads(said.out)["certificate"]["accuracy"]
    assert set(accuracy) == {"learnt integers", "integer"}
    assert accuracy["integer"]["image to text R@1"] == pytest.approx(7 / 12, abs=ONE_QUERY)


def metrics(run: Path) -> list[dict[str, Any]]:
    """Read the lines of metrics.jsonl without their schema, which files of then do not have."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "schema"} for line in lines]


def test_interrupted_run_is_resumed(ashneuro: Command, old: Path) -> None:
    before = metrics(old / "runs/interrupted")
    said = ashneuro("train", "runs/interrupted/config.json", "--resume", "--out", "runs/interrupted")
    assert said.code == 0, said.err
    *epochs, last = metrics(old / "runs/interrupted")
    assert epochs[:2] == before and last["final"]
    # The last two epochs as the code of then went on with them.
    assert [row["loss"] for row in epochs[2:]] == pytest.approx([0.73514477, 0.70286226], rel=0.02)
    assert [row["stage"] for row in epochs] == ["pretrain", "finetune", "finetune", "finetune"]


def test_task_is_evaluated_as_before(ashneuro: Command, old: Path) -> None:
    file = old / "runs/interrupted/entailment.json"
    before = json.loads(file.read_text())
    said = ashneuro("evaluate", "runs/interrupted", "--task", "entailment", "--json")
    assert said.code == 0, said.err
    now = json.loads(said.out)
    assert (now["questions"], now["pictures"], now["answerable"]) == (48, 12, 1.0)
    assert [row["name"] for row in now["rows"]] == [row["name"] for row in before["rows"]]
    assert now["rows"][0]["accuracy"] == pytest.approx(0.5, abs=2 / 48)
