"""check, simulate, export, verify and report on a NIR file that ashneuro did not write."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.commands.conftest import Command

SPIKES = ("--input-coding", "spikes")
ACCEPT = "--accept-assumptions"
ASSUMED = ["dt_s", "reset", "reset_delay", "comparison", "integration", "input_coding"]
"""Fields that `foreign` leaves open, and on which its nodes depend."""


def test_check_lists_assumptions(ashneuro: Command, foreign: Path) -> None:
    result = ashneuro("check", foreign, "--json")
    findings = json.loads(result.out)
    assert result.code == 0
    assert {finding["level"] for finding in findings} == {"note", "ok"}
    assert any("dt_s" in finding["actual"] and finding["remedy"] for finding in findings)
    stated = json.loads(ashneuro("check", foreign, "--json", "--dt", "1e-3", "--reset", "value", *SPIKES).out)
    assert not any("dt_s" in finding["actual"] for finding in stated)


def test_check_exits_with_1_on_an_error(ashneuro: Command, foreign: Path, tmp_path: Path) -> None:
    import nir

    graph = nir.read(foreign)
    graph.nodes["lif2"].v_reset = np.full(10, -0.5)
    nir.write(tmp_path / "reset.nir", graph)
    result = ashneuro("check", tmp_path / "reset.nir", "--json")
    errors = [finding for finding in json.loads(result.out) if not finding["ok"]]
    assert result.code == 1
    assert [finding["node"] for finding in errors] == ["lif2"]
    assert errors[0]["remedy"]


WRONG_INPUTS = {
    "shape": (np.ones((16, 6, 2, 8, 9)), "(T, B, 2, 8, 8)"),
    "steps": (np.ones((15, 6, 2, 8, 8)), "a sample of this network lasts 16"),
    "text": (np.array(["a"]), "numbers are read"),
    "nan": (np.full((16, 6, 2, 8, 8), np.nan), "not finite"),
    "empty": (np.ones((16, 0, 2, 8, 8)), "at least 1"),
    "zero": (np.zeros((16, 6, 2, 8, 8)), "0 everywhere"),
}


@pytest.mark.parametrize("kind", WRONG_INPUTS)
def test_check_and_export_reject_wrong_inputs(ashneuro: Command, foreign: Path, tmp_path: Path, kind: str) -> None:
    values, named = WRONG_INPUTS[kind]
    np.save(tmp_path / "x.npy", values)
    for words in (("check",), ("export", "--no-lava", ACCEPT, "--out", tmp_path / "b")):
        result = ashneuro(words[0], foreign, *words[1:], "--inputs", tmp_path / "x.npy", "--timesteps", "16")
        assert result.code == 2 and named in result.err


@pytest.mark.parametrize("damage", ["cut", "bits", "pickle"])
def test_unreadable_inputs_are_an_error(ashneuro: Command, foreign: Path, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "x.npz"
    np.savez_compressed(file, input=np.random.default_rng(0).random((16, 6, 2, 8, 8)))
    if damage == "pickle":
        np.savez(file, allow_pickle=True, input=np.array([{}], object))
    else:
        data = bytearray(file.read_bytes())
        data[200:260] = bytes(byte ^ 0xFF for byte in data[200:260])
        file.write_bytes(data if damage == "bits" else data[: len(data) // 2])
    result = ashneuro("simulate", foreign, "--inputs", file)
    assert result.code == 2 and f"cannot read {file}" in result.err


@pytest.mark.parametrize("on", ["torch", "loihi"])
def test_simulate_saves_rasters(ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path, on: str) -> None:
    save = tmp_path / "spikes.npz"
    result = ashneuro("simulate", foreign, "--on", on, "--inputs", spikes, "--save", save, "--json", *SPIKES)
    assert result.code == 0
    content = json.loads(result.out)
    with np.load(save) as arrays:
        assert {name: (arrays[name].shape, arrays[name].dtype.name) for name in arrays} == {
            "lif1": ((16, 6, 4, 4, 4), "uint8"),
            "lif2": ((16, 6, 10), "uint8"),
        }
        for name in arrays:
            assert content["layers"][name]["spikes"] == int(arrays[name].sum()) > 0


@pytest.mark.lava
def test_lava_equals_torch_and_emulator(ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path) -> None:
    saved = {}
    for on, precision in (("torch", "float"), ("lava", "float"), ("loihi", "fixed"), ("lava", "fixed")):
        save = tmp_path / f"{on}-{precision}.npz"
        words = ("--on", on, "--precision", precision, "--inputs", spikes, "--save", save, *SPIKES)
        assert ashneuro("simulate", foreign, *words).code == 0
        with np.load(save) as arrays:
            saved[on, precision] = {name: arrays[name] for name in arrays}
    for name in ("lif1", "lif2"):
        np.testing.assert_array_equal(saved["torch", "float"][name], saved["lava", "float"][name])
        np.testing.assert_array_equal(saved["loihi", "fixed"][name], saved["lava", "fixed"][name])


def test_verify_repeats_the_proof_and_detects_damage(
    ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "net.bundle"
    result = ashneuro("export", foreign, "--inputs", spikes, "--out", bundle, "--no-lava", ACCEPT, "--json", *SPIKES)
    certificate = json.loads(result.out)["certificate"]
    assert result.code == 0
    # Without Lava the required comparison is missing: neither passed nor failed.
    assert (certificate["passed"], certificate["failed"]) == (False, False)
    again = ashneuro("verify", bundle, "--no-lava", "--json")
    assert again.code == 0
    required = [
        item for item in json.loads(again.out)["comparisons"] if item["required"] and "Lava" not in item["right"]
    ]
    assert len(required) == 3 and {item["status"] for item in required} == {"equal"}
    with (bundle / "program.npz").open("r+b") as file:
        file.seek(200)
        file.write(b"\xff\xff")
    damaged = ashneuro("verify", bundle, "--no-lava")
    assert damaged.code == 2
    assert "program.npz" in damaged.err


@pytest.mark.parametrize(("shape", "code"), [(4, 0), ([-4], 2), ([2**40], 2), ([], 0)])  # []: left open
def test_export_checks_input_shape(ashneuro: Command, tmp_path: Path, shape: object, code: int) -> None:
    import h5py
    import nir

    neuron = nir.LIF(*(np.full(4, value) for value in (5e-3, 1.0, 0.0, 0.2, 0.0)))
    nodes = {"input": nir.Input(np.array([4])), "lif": neuron, "output": nir.Output(np.array([4]))}
    nir.write(tmp_path / "g.nir", nir.NIRGraph(nodes, [("input", "lif"), ("lif", "output")]))
    with h5py.File(tmp_path / "g.nir", "r+") as file:
        del file["node/nodes/input/shape"]
        file["node/nodes/input/shape"] = shape
    result = ashneuro("export", tmp_path / "g.nir", "--no-lava", ACCEPT)
    assert result.code == code
    assert code == 0 or "input" in result.err


@pytest.mark.parametrize(
    ("words", "named"), [(("--samples", "-1"), "--samples -1"), (("--out", "."), "is not a bundle")]
)
def test_export_rejects_arguments_before_working(
    ashneuro: Command,
    foreign: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious.txt").write_text("kept")
    monkeypatch.setattr("ashneuro.workflows.export._build", lambda *_, **__: pytest.fail("work was done first"))
    result = ashneuro("export", foreign, "--no-lava", *words)
    assert result.code == 2 and named in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_export_to_nir_writes_the_contract(ashneuro: Command, foreign: Path, tmp_path: Path) -> None:
    words = ("export", foreign, "--target", "nir", "--dt", "2e-3", "--out", tmp_path / "g.nir", "--json")
    assert ashneuro(*words).code == 2 and not (tmp_path / "g.nir").exists()
    result = ashneuro(*words, ACCEPT)
    content = json.loads(result.out)
    assert result.code == 0
    assert content["graph"] == str(tmp_path / "g.nir") and content["contract"]["dt_s"] == 2e-3
    assert [item["field"] for item in content["assumptions"]] == ASSUMED[1:]
    again = json.loads(ashneuro("check", tmp_path / "g.nir", "--json").out)
    notes = [finding["actual"] for finding in again if finding["rule"] == "assumed_contract"]
    assert [note.split()[1] for note in notes] == ASSUMED[1:]


def test_failed_proof_writes_nothing(ashneuro: Command, tmp_path: Path) -> None:
    import nir

    from ashneuro.spiking.firing import TIE

    # Exactly, v equals its threshold of 0.2 and half a tie. It is a difference of numbers thousands
    # of times as large, and in the graph's units their rounding lifts it above.
    neuron = nir.LIF(*(np.full(1, value) for value in (5e-3, 1.0, 0.0, 0.2, 0.0)))
    nodes = {"input": nir.Input(np.array([1])), "lif": neuron, "output": nir.Output(np.array([1]))}
    nir.write(tmp_path / "tie.nir", nir.NIRGraph(nodes, [("input", "lif"), ("lif", "output")]))
    np.save(tmp_path / "x.npy", np.array([-5e3, 4e3 + 1 + TIE]).reshape(2, 1, 1))
    result = ashneuro("export", tmp_path / "tie.nir", "--inputs", tmp_path / "x.npy", "--no-lava", ACCEPT)
    assert result.code == 1
    assert "1 of 2 values, first in lif, sample 0, step 1, neuron 0" in result.err
    assert not (tmp_path / "tie.bundle").exists()


def test_simulate_rejects_conflicting_options(ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path) -> None:
    save = tmp_path / "s.npz"
    both = ashneuro("simulate", foreign, "--inputs", spikes, *SPIKES, "--trace", "lif1:0", "--save", save)
    assert both.code == 2 and "--trace with --save" in both.err and not save.exists()
    bundle = tmp_path / "net.bundle"
    assert ashneuro("export", foreign, "--inputs", spikes, "--out", bundle, "--no-lava", ACCEPT, *SPIKES).code == 0
    assert ashneuro("simulate", bundle, "--dt", "1e-3", *SPIKES).code == 0
    other = ashneuro("simulate", bundle, "--dt", "2e-3")
    assert other.code == 2 and f"{bundle} with --dt 0.002" in other.err and "network.nir" in other.err


def test_report_counts_synops(ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path) -> None:
    result = ashneuro("report", foreign, "--inputs", spikes, "--out", tmp_path, "--json", *SPIKES)
    report = json.loads(result.out)
    assert result.code == 0
    assert report["schema"] == "ashneuro.report/1"
    # Synops: fan-out of the input's convolution and of the dense layer.
    synops = sum(layer["effective_acs"] for layer in report["workload"]["layers"])
    assert synops == brute_force_synops(foreign, np.load(spikes))
    assert "evaluations" in report["missing"]
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r'(src="|<link[^>]*href="|url\(["\']?)http', page)  # nothing is fetched


def brute_force_synops(path: Path, x: np.ndarray) -> int:
    """Return the number of non-zero weights that all spikes meet."""
    import nir
    import torch

    from ashneuro.simulation.run import Graph, simulate
    from ashneuro.spiking.contract import Contract

    graph = nir.read(path)
    conv = torch.from_numpy(graph.nodes["conv"].weight)
    reach = torch.nn.functional.conv_transpose2d(
        torch.ones(1, 4, 4, 4, dtype=conv.dtype), (conv != 0).to(conv), None, 2, 1, 1
    )[0].numpy()
    record = simulate(Graph(graph, Contract(input_coding="spikes")), x, on="torch")
    hidden = record.layers["lif1"].counts.sum() * 10
    return int((x.sum((0, 1)) * reach).sum() + hidden)
