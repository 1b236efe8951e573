"""``ashneuro report`` on NIR and lava-dl networks, with noise or inputs, on several chips."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from ashneuro.cost.measure import Measurement, NotMeasured, save_measurements
from tests.commands.conftest import TASK_SETTINGS, Command

SPIKES = ("--input-coding", "spikes")
CHIPS = (
    "--profile",
    "loihi1",
    "--profile",
    "loihi1-sanafe",
    "--profile",
    "loihi2",
    "--profile",
    "cmos45",
    "--profile",
    "cpu",
)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lava-dl network of two dense layers, written with h5py alone."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("netx") / "small.net"
    with h5py.File(path, "w") as file:
        for number, (name, shape) in enumerate((("input", 20), ("dense", 12), ("dense", 5))):
            group = file.create_group(f"layer/{number}")
            group["type"], group["shape"] = name, np.array([shape, 1, 1])
            if name == "dense":
                before = (20, 12)[number - 1]
                group["weight"] = random.integers(-20, 21, (shape, before)) * 2
                neuron = group.create_group("neuron")
                for key, value in (
                    ("type", "LOIHI"),
                    ("iDecay", 4096),
                    ("vDecay", 512),
                    ("vThMant", 60),
                    ("refDelay", 1),
                    ("gradedSpike", False),
                ):
                    neuron[key] = value
        file["simulation/Ts"], file["simulation/tSample"] = 1, 8
    return path


def test_nir_graph_without_inputs_gets_noise(ashneuro: Command, foreign: Path, tmp_path: Path) -> None:
    result = ashneuro(
        "report", foreign, "--out", tmp_path, "--json", "--noise", 3, "--rate", 0.5, "--timesteps", 5, *SPIKES, *CHIPS
    )
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["about"]["inputs"].startswith("noise, 3 samples")
    port = report["workload"]["layers"][0]
    assert (report["workload"]["samples"], report["workload"]["timesteps"]) == (3, 5)
    assert 0.4 < port["spikes"] / (3 * 5 * port["neurons"]) < 0.6
    assert [item["profile"] for item in report["estimates"]] == ["loihi1", "loihi1-sanafe", "loihi2"]
    assert len(report["placements"]) == 3 and all(item["cores"] >= 2 for item in report["placements"])
    synops = {row["name"]: sum(row["effective_acs"]) for row in report["steps"]}
    assert synops == {row["name"]: row["effective_acs"] for row in report["workload"]["layers"] if row["kind"] == "snn"}
    names = [line["name"] for line in report["comparison"]["conventions"]]
    assert names[0].startswith("(i) arithmetic only") and any(name.startswith("(iii)") for name in names)
    assert report["neurobench"]["SynapticOperations"]["Effective_ACs"] > 0


def test_report_of_netx(ashneuro: Command, net: Path, tmp_path: Path) -> None:
    result = ashneuro("report", net, "--out", tmp_path, "--json", *CHIPS)
    assert result.code == 0, result.err
    noise = json.loads(result.out)
    assert noise["estimates"][0]["dynamic_j"]["typical"] > 0
    assert [layer["layer"] for layer in noise["placements"][0]["layers"]] == ["dense1", "dense2"]
    x = np.zeros((8, 2, 20, 1, 1), np.uint8)
    x[:, :, :3] = 1
    np.save(tmp_path / "x.npy", x)
    given = ashneuro("report", net, "--inputs", tmp_path / "x.npy", "--out", tmp_path, "--json")
    assert given.code == 0, given.err
    counted = json.loads(given.out)["workload"]
    assert counted["samples"] == 2 and counted["layers"][0]["spikes"] == 8 * 2 * 3


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX model of 20 inputs and two layers."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install -e '.[ann]'")
    helper, random = onnx.helper, np.random.default_rng(0)
    sizes = {"w": (20, 12), "v": (12, 5)}
    stored = [onnx.numpy_helper.from_array(random.normal(size=sizes[k]).astype("f4"), k) for k in sizes]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "fc1"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "v"], ["y"], "fc2"),
    ]
    ends = [helper.make_tensor_value_info(name, 1, ["b", size]) for name, size in (("x", 20), ("y", 5))]
    graph = helper.make_graph(nodes, "mine", ends[:1], ends[1:], stored)
    path = tmp_path_factory.mktemp("ann") / "mine.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_own_ann_beside_files_and_runs(
    ashneuro: Command, net: Path, foreign: Path, exported_run: Path, mine: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.eye(20, dtype=np.float32))
    for source in (net, foreign, exported_run):
        out = tmp_path / source.stem
        result = ashneuro("report", source, "--ann", mine, "--ann-sample", tmp_path / "x.npy", "--out", out)
        assert result.code == 0, result.err
        assert "mine (your ANN), fp16" in result.out and "ANN twin, int8" in result.out
        assert "mine (your ANN), int8, zero-skipping" in (out / "report.html").read_text(encoding="utf-8")
        own = json.loads((out / "report.json").read_text(encoding="utf-8"))["own_ann"]
        # An eye wakes one of 20 inputs of the first layer.
        assert own["workload"]["layers"][0]["effective_macs"] == 20 * 12 and 0.7 < own["zero_share"] < 1


def test_sample_without_its_ann_is_an_error(ashneuro: Command, net: Path, tmp_path: Path) -> None:
    result = ashneuro("report", net, "--ann-sample", tmp_path / "x.npy", "--out", tmp_path / "report")
    assert result.code == 2 and "without --ann" in result.err and not (tmp_path / "report").exists()


@pytest.mark.parametrize(("file", "said"), [("absent.onnx", "cannot read"), ("model.pt", "torch.onnx.export")])
def test_own_ann_that_cannot_be_read(ashneuro: Command, net: Path, tmp_path: Path, file: str, said: str) -> None:
    if file.endswith("onnx"):
        pytest.importorskip("onnx", reason="onnx is not installed: pip install -e '.[ann]'")
    result = ashneuro("report", net, "--ann", tmp_path / file, "--out", tmp_path / "report")
    assert result.code == 2 and said in result.err


def test_measurements_file_is_shown(ashneuro: Command, foreign: Path, tmp_path: Path) -> None:
    items = [
        Measurement(
            "NVIDIA Test",
            "board",
            "NVML; 3 windows of 10 s",
            1e-3,
            2e-3,
            0.9e-3,
            1.1e-3,
            64,
            "fp16",
            80.0,
            "ANN twin",
            2e-3,
        ),
        NotMeasured("ANN twin", "cpu", "there is no counter"),
    ]
    file = save_measurements(items, tmp_path / "gpu.json")
    words = ("--measurements", file, "--out", tmp_path, *SPIKES)
    result = ashneuro("report", foreign, *words)
    assert "NVIDIA Test" in result.out and "not measured, because there is no counter" in result.out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "NVIDIA Test" in page and "not measured, because there is no counter" in page
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [item["device"] for item in report["measurements"]] == ["NVIDIA Test"]
    assert report["not_measured"][0]["reason"] == "there is no counter"


@pytest.mark.parametrize(
    "words, why",
    [
        (("--measure",), "belong to a run"),
        (("elsewhere",), "belong to a run"),
        (("--rate", "0"), "a rate above 0"),
        (("--noise", "0"), "1 sample or more"),
        (("--measurements", "absent.json"), "cannot read measurements"),
        (("--profile", "lohi1"), "did you mean loihi1"),
        (("--profile", "cmos45", "--profile", "cmos7"), "one node decides"),
    ],
)
def test_report_rejects_bad_arguments(
    ashneuro: Command, foreign: Path, tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    result = ashneuro("report", foreign, *words, "--out", tmp_path, *SPIKES)
    assert result.code == 2 and why in result.err


def test_network_that_fits_no_chip_is_priced(ashneuro: Command, tmp_path: Path) -> None:
    import nir

    random = np.random.default_rng(0)
    ones = np.ones(3)
    nodes = {
        "input": nir.Input(np.array([5000])),
        "fc": nir.Linear(random.normal(0, 0.1, (3, 5000))),
        "lif": nir.LIF(tau=4e-3 * ones, r=ones, v_leak=0 * ones, v_threshold=ones, v_reset=0 * ones),
        "output": nir.Output(np.array([3])),
    }
    nir.write(tmp_path / "wide.nir", nir.NIRGraph(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")]))
    result = ashneuro("report", tmp_path / "wide.nir", "--profile", "loihi1", "--out", tmp_path, "--json", *SPIKES)
    report = json.loads(result.out)
    assert result.code == 0
    assert "5,000 of 4,096 input axons" in report["facts"]["does not fit loihi1"]
    assert "placements" in report["missing"] and report["estimates"][0]["dynamic_j"]["typical"] > 0


def test_report_evaluates_missing_tasks(ashneuro: Command, exported_run: Path, pairs: Path, tmp_path: Path) -> None:
    from ashneuro.workflows.train import train

    other = tmp_path / "control"
    train("tiny", other, settings=[f"data.source={pairs}", *TASK_SETTINGS, "model.abstract.kind=none"])
    result = ashneuro("report", exported_run, other, "--out", tmp_path)
    assert result.code == 0, result.err
    evaluation = json.loads((exported_run / "entailment.json").read_text())
    assert evaluation["split"].endswith("test"), "missing evaluations are made and kept"
    report = json.loads((tmp_path / "report.json").read_text())
    missing = report["missing"]
    assert evaluation in report["tasks"] and not any(name.startswith("entailment") for name in missing)
    floats = missing[f"accuracy of {exported_run.name} in integers"]
    assert f"`ashneuro evaluate {exported_run} --task entailment --abstract-on loihi`" in floats
    hybrid, control = (json.loads((run / "entailment.json").read_text())["rows"] for run in (exported_run, other))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (result.out, page):
        assert all(
            text.count(name) >= 1
            for name in ("hybrid, A zeroed", "hybrid, C zeroed", "hybrid, text alone", "most frequent answer")
        )
        assert f"{100 * hybrid[0]['accuracy']:.1f}" in text and f"{100 * control[0]['accuracy']:.1f}" in text
    assert f"visual entailment accuracy {100 * control[0]['accuracy']:.1f} %" in result.out, (
        "beside the control's energy"
    )
    assert "Visual entailment" in page and "multimodal transformer" in page
    one = exported_run.parent / "again"
    shutil.copytree(exported_run, one)
    twins = json.loads(ashneuro("report", exported_run, one, "--out", tmp_path, "--json").out)["tasks"]
    assert {item["rows"][0]["name"] for item in twins} == {"hybrid", "again"}, "two hybrids have different names"


def test_report_names_task_without_data(ashneuro: Command, exported_run: Path, tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    shutil.copytree(exported_run, lost, ignore=shutil.ignore_patterns("entailment*"))
    config = json.loads((lost / "config.json").read_text())
    config["tasks"]["entailment"] |= {"format": "snli-ve", "train": str(tmp_path / "gone.jsonl")}
    (lost / "config.json").write_text(json.dumps(config))
    result = ashneuro("report", lost, "--out", tmp_path)
    assert result.code == 0, result.err
    assert "entailment of lost: not run, the data of" in result.out and "gone.jsonl" in result.out
    assert "entailment of lost" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_pages_of_several_networks_link_one_another(
    ashneuro: Command, exported_run: Path, net: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(exported_run, tmp_path / "runs" / "other")
    words = ("--html", "--out", tmp_path / "pages", "--profile", "cmos45", "--noise", 2)
    result = ashneuro("report", exported_run, other, net, *words)
    assert result.code == 0 and "runs.html" in result.out, result.err
    index = (tmp_path / "pages" / "runs.html").read_text(encoding="utf-8")
    assert 'href="hybrid/report.html"' in index and 'href="small/report.html"' in index
    assert 'href="other/report.html"' in index
    page = (tmp_path / "pages" / "hybrid" / "report.html").read_text(encoding="utf-8")
    assert 'href="../small/report.html"' in page and 'href="../runs.html"' in page


def test_pages_need_several_networks(ashneuro: Command, net: Path) -> None:
    result = ashneuro("report", net, "--html")
    assert result.code == 2 and "it links several runs" in result.err
