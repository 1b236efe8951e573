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
from tests.program.netx.test_read import conv_first, dense_net, every_layer, ties, write

STRICT = "--comparison=strict"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write(tmp_path / "every.net", every_layer(np.random.default_rng(4)), Ts=1.0, tSample=9)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    values = np.random.default_rng(1).random((1, 3, 2, 7, 6)).repeat(9, axis=0)
    np.save(tmp_path / "x.npy", values)
    return tmp_path / "x.npy"


def test_export_and_verify(ashneuro: Command, network: Path, images: Path, tmp_path: Path) -> None:
    result = ashneuro("export", network, STRICT, "--inputs", images, "--samples", 3, "--no-lava", "--json")
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
    assert ashneuro("export", network, STRICT, "--no-lava").code == 0
    for words in (("simulate", tmp_path / "every.bundle", "--on", "torch"), ("export", network, "--target", "nir")):
        result = ashneuro(*words)
        assert result.code != 0 and "integers alone" in result.err, words


def test_contract_options_are_rejected(ashneuro: Command, network: Path, images: Path, tmp_path: Path) -> None:
    assert ashneuro("export", network, STRICT, "--no-lava").code == 0
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
    assert ashneuro("export", network, STRICT, "--no-lava").code == 0
    (tmp_path / "every.bundle" / "network.net").unlink()
    result = ashneuro("verify", tmp_path / "every.bundle", "--no-lava")
    assert result.code != 0 and "network.net is missing" in result.err


@pytest.mark.lava
def test_lava_and_script_equal_the_reference(ashneuro: Command, network: Path, images: Path, tmp_path: Path) -> None:
    result = ashneuro("export", network, STRICT, "--inputs", images, "--samples", 3, "--json")
    assert result.code == 0, result.err
    certificate = json.loads(result.out)["certificate"]
    assert certificate["passed"] and certificate["comparisons"][0]["compared"] > 1000
    shutil.copytree(tmp_path / "every.bundle", tmp_path / "elsewhere" / "net")
    script = [find_interpreter(), tmp_path / "elsewhere" / "net" / "run_lava.py", "--verify"]
    ran = subprocess.run(script, cwd=tmp_path / "elsewhere", capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "fixed: equal" in ran.stdout, ran.stdout


@pytest.fixture
def first(tmp_path: Path) -> tuple[Path, Path]:
    """Return a network that begins with a convolution, without the shape of its input, and
    spikes.
    """
    rng = np.random.default_rng(7)
    np.save(tmp_path / "spikes.npy", (rng.random((9, 3, 2, 7, 6)) < 0.3).astype(np.uint8))
    return write(tmp_path / "first.net", conv_first(rng), Ts=1.0, tSample=9), tmp_path / "spikes.npy"


def test_input_shape_option(ashneuro: Command, first: tuple[Path, Path], tmp_path: Path) -> None:
    path, spikes = first
    words = {
        "check": (),
        "export": (STRICT, "--no-lava", "--inputs", spikes),
        "simulate": ("--on", "loihi", "--inputs", spikes),
        "report": ("--profile", "loihi1", "--inputs", spikes),
    }
    for verb, options in words.items():
        without = ashneuro(verb, path, *options)
        assert without.code != 0 and "--input-shape C,H,W" in without.out + without.err, verb
        wrong = ashneuro(verb, path, *options, "--input-shape", "3,7,6")
        assert wrong.code != 0 and "takes 2 channels, 3 come" in wrong.out + wrong.err, verb
        given = ashneuro(verb, path, *options, "--input-shape", "2,7,6")
        assert given.code == 0, given.err
        text = ashneuro(verb, path, *options, "--input-shape", "2,seven,6")
        assert text.code == 2 and "--input-shape 2,seven,6" in text.err, verb
    # The bundle keeps the shape.
    for verb, options in words.items():
        assert ashneuro(verb, tmp_path / "first.bundle", *options).code == 0, verb
    other = ashneuro("simulate", tmp_path / "first.bundle", "--on", "loihi", "--input-shape", "2,6,7")
    assert other.code == 2 and "--input-shape 2,6,7" in other.err


def test_comparison_option(ashneuro: Command, tmp_path: Path) -> None:
    layers, x = ties(np.random.default_rng(5))
    path = write(tmp_path / "ties.net", layers, tSample=len(x))
    np.save(tmp_path / "x.npy", x)
    fed = ("--on", "loihi", "--inputs", tmp_path / "x.npy", "--json")

    def spikes(*words: object) -> int:
        counts = json.loads(ashneuro("simulate", *words, *fed).out)["layers"]
        return int(counts["dense1"]["spikes"])

    strict, inclusive = spikes(path), spikes(path, "--comparison", "inclusive")
    assert strict < inclusive and spikes(path, "--comparison", "strict") == strict
    for words, said in (((), "v > vThMant, assumed for dense1"), (("--comparison", "inclusive"), "v ≥ vThMant")):
        (note,) = [
            item for item in json.loads(ashneuro("check", path, *words, "--json").out) if item["rule"] == "comparison"
        ]
        assert note["level"] == "note" and said in note["actual"]
    inputs = ("--inputs", tmp_path / "x.npy", "--no-lava", "--comparison", "inclusive", "--json")
    exported = json.loads(ashneuro("export", path, *inputs).out)
    assert "comparison" in {note["rule"] for note in exported["notes"]}
    bundle = tmp_path / "ties.bundle"
    assert spikes(bundle) == spikes(bundle, "--comparison", "inclusive") == inclusive
    assumed = [{"field": "comparison", "value": "strict", "nodes": ["dense1"], "spikes": True}]
    for subject, found in ((bundle, []), (path, assumed)):
        report = json.loads(ashneuro("report", subject, "--inputs", tmp_path / "x.npy", "--json").out)
        assert report["assumptions"] == found
    other = ashneuro("simulate", bundle, *fed, "--comparison", "strict")
    assert other.code == 2 and "--comparison strict" in other.err
    # Exported again, it is read as it was.
    again = ashneuro("export", bundle, "--out", tmp_path / "again.bundle", "--no-lava")
    assert again.code == 0 and spikes(tmp_path / "again.bundle") == inclusive


def test_input_shape_of_a_nir_graph_is_rejected(ashneuro: Command, foreign: Path) -> None:
    for verb in ("check", "export", "report"):
        result = ashneuro(verb, foreign, "--input-shape", "4,4,4")
        assert result.code == 2 and "--input-shape 4,4,4" in result.err, verb


@pytest.mark.lava
def test_inclusive_network_equals_lava(ashneuro: Command, tmp_path: Path) -> None:
    layers, x = ties(np.random.default_rng(5))
    path = write(tmp_path / "ties.net", layers, tSample=len(x))
    np.save(tmp_path / "x.npy", x)
    words = ("--inputs", tmp_path / "x.npy", "--comparison", "inclusive", "--json")
    result = ashneuro("export", path, *words)
    assert result.code == 0, result.err
    certificate = json.loads(result.out)["certificate"]
    assert certificate["passed"] and certificate["own_processes"] == {"dense1": "Fired"}
    assert certificate["comparisons"][0]["compared"] > 1000
