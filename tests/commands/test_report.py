"""`ashneuro report` on networks from elsewhere, with noise or given inputs, on several chips; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from ashneuro.cost.measure import Measurement, NotMeasured, save_measurements
from tests.commands.conftest import Command

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


def test_a_nir_graph_without_inputs_is_fed_with_noise_and_says_so(
    ashneuro: Command, foreign: Path, tmp_path: Path
) -> None:
    said = ashneuro(
        "report", foreign, "--out", tmp_path, "--json", "--noise", 3, "--rate", 0.5, "--timesteps", 5, *SPIKES, *CHIPS
    )
    assert said.code == 0, said.err
    report = json.loads(said.out)
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


def test_noise_is_the_same_every_time(ashneuro: Command, foreign: Path, tmp_path: Path) -> None:
    first, second = (
        json.loads(ashneuro("report", foreign, "--out", tmp_path, "--json", *SPIKES).out)["workload"] for _ in range(2)
    )
    assert first == second


def test_a_netx_network_gets_the_same_report(ashneuro: Command, net: Path, tmp_path: Path) -> None:
    said = ashneuro("report", net, "--out", tmp_path, "--json", *CHIPS)
    assert said.code == 0, said.err
    noise = json.loads(said.out)
    assert noise["estimates"][0]["dynamic_j"]["typical"] > 0
    assert [layer["layer"] for layer in noise["placements"][0]["layers"]] == ["dense1", "dense2"]
    x = np.zeros((8, 2, 20, 1, 1), np.uint8)
    x[:, :, :3] = 1
    np.save(tmp_path / "x.npy", x)
    given = ashneuro("report", net, "--inputs", tmp_path / "x.npy", "--out", tmp_path, "--json")
    assert given.code == 0, given.err
    counted = json.loads(given.out)["workload"]
    assert counted["samples"] == 2 and counted["layers"][0]["spikes"] == 8 * 2 * 3


def test_measurements_from_another_machine_are_shown(ashneuro: Command, foreign: Path, tmp_path: Path) -> None:
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
    said = ashneuro("report", foreign, *words)
    assert "NVIDIA Test" in said.out and "not measured, because there is no counter" in said.out
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
def test_what_cannot_be_reported_is_refused(
    ashneuro: Command, foreign: Path, tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    said = ashneuro("report", foreign, *words, "--out", tmp_path, *SPIKES)
    assert said.code == 2 and why in said.err


def test_a_network_that_fits_no_chip_is_still_counted(ashneuro: Command, tmp_path: Path) -> None:
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
    said = ashneuro("report", tmp_path / "wide.nir", "--profile", "loihi1", "--out", tmp_path, "--json", *SPIKES)
    report = json.loads(said.out)
    assert said.code == 0
    assert "5,000 of 4,096 input axons" in report["facts"]["does not fit loihi1"]
    assert "placements" in report["missing"] and report["estimates"][0]["dynamic_j"]["typical"] > 0
