"""check, export, verify, simulate and report on lava-dl networks."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ashneuro.program.bundle import read_bundle
from ashneuro.simulation.lava.environment import find_interpreter
from tests.commands.conftest import Command
from tests.program.netx.test_read import dense_net, every_layer, write


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write(tmp_path / "every.net", every_layer(np.random.default_rng(4)), Ts=1.0, tSample=9)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    values = np.random.default_rng(1).random((1, 3, 2, 7, 6)).repeat(9, axis=0)
    np.save(tmp_path / "x.npy", values)
    return tmp_path / "x.npy"


def test_export_and_verify(ashneuro: Command, network: Path, images: Path, tmp_path: Path) -> None:
    result = ashneuro("export", network, "--inputs", images, "--samples", 3, "--no-lava", "--json")
    assert result.code == 0, result.err
    content = json.loads(result.out)
    bundle = read_bundle(tmp_path / "every.bundle")
    assert bundle.graph is None and bundle.float_program is None and bundle.contract is None
    assert (bundle.folder / "network.net").read_bytes() == network.read_bytes()
    assert [(pair["left"], pair["right"]) for pair in content["certificate"]["comparisons"]] == [
        ("integer program", "Lava, fixed_pt")
    ]

    again = json.loads(ashneuro("verify", bundle.folder, "--no-lava", "--json").out)
    recorded = again["comparisons"][0]
    assert (recorded["left"], recorded["status"], recorded["required"]) == ("reference.npz", "equal", True)
    assert sum(layer["spikes"] for layer in recorded["layers"]) > 20

    for subject in (network, bundle.folder):
        counted = json.loads(ashneuro("simulate", subject, "--on", "loihi", "--inputs", images, "--json").out)
        assert {name: layer["spikes"] for name, layer in counted["layers"].items() if layer["spikes"] is not None} == {
            layer["layer"]: layer["spikes"] for layer in recorded["layers"] if layer["largest"] is None
        }
    assert ashneuro("check", bundle.folder).code == 0
    assert json.loads(ashneuro("report", bundle.folder, "--profile", "loihi1", "--json").out)["workload"]["layers"]


def test_check_accepts_axonal_delays(ashneuro: Command, tmp_path: Path) -> None:
    late = dense_net(2.0 * np.random.default_rng(2).integers(-40, 41, (6, 5)), delay=np.float32([0, 3, 7, 1, 0, 5]))
    path = write(tmp_path / "late.net", late)
    result = ashneuro("check", path, "--json")
    assert result.code == 0, result.out
    (apart,) = [finding for finding in json.loads(result.out) if finding["rule"] == "samples_apart"]
    assert apart["actual"] == "input arrives 1 to 7 step(s) late"


def test_float_targets_are_rejected(ashneuro: Command, network: Path, tmp_path: Path) -> None:
    assert ashneuro("export", network, "--no-lava").code == 0
    for words in (("simulate", tmp_path / "every.bundle", "--on", "torch"), ("export", network, "--target", "nir")):
        result = ashneuro(*words)
        assert result.code != 0 and "integers alone" in result.err, words


def test_contract_options_are_rejected(ashneuro: Command, network: Path, images: Path, tmp_path: Path) -> None:
    assert ashneuro("export", network, "--no-lava").code == 0
    fed = ("--inputs", images, "--on", "loihi")
    for words in (
        ("check", network),
        ("export", network, "--no-lava"),
        ("simulate", network, *fed),
        ("simulate", tmp_path / "every.bundle"),
    ):
        result = ashneuro(*words, "--dt", 5e-3)
        assert result.code == 2 and "--dt 0.005" in result.err, words


def test_verify_detects_a_missing_file(ashneuro: Command, network: Path, tmp_path: Path) -> None:
    assert ashneuro("export", network, "--no-lava").code == 0
    (tmp_path / "every.bundle" / "network.net").unlink()
    result = ashneuro("verify", tmp_path / "every.bundle", "--no-lava")
    assert result.code != 0 and "network.net is missing" in result.err


@pytest.mark.lava
def test_lava_and_script_equal_the_reference(ashneuro: Command, network: Path, images: Path, tmp_path: Path) -> None:
    result = ashneuro("export", network, "--inputs", images, "--samples", 3, "--json")
    assert result.code == 0, result.err
    certificate = json.loads(result.out)["certificate"]
    assert certificate["passed"] and certificate["comparisons"][0]["compared"] > 1000
    shutil.copytree(tmp_path / "every.bundle", tmp_path / "elsewhere" / "net")
    script = [find_interpreter(), tmp_path / "elsewhere" / "net" / "run_lava.py", "--verify"]
    ran = subprocess.run(script, cwd=tmp_path / "elsewhere", capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "fixed: equal" in ran.stdout, ran.stdout
