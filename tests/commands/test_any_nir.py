"""check, simulate, export, verify and report on a NIR file that somebody else wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.commands.conftest import Command

SPIKES = ("--input-coding", "spikes")


def test_check_lists_assumptions_and_lets_a_sound_graph_pass(ashneuro: Command, foreign: Path) -> None:
    said = ashneuro("check", foreign, "--json")
    findings = json.loads(said.out)
    assert said.code == 0
    assert {finding["level"] for finding in findings} == {"note", "ok"}
    assert any("dt_s" in finding["actual"] and finding["remedy"] for finding in findings)
    told = json.loads(ashneuro("check", foreign, "--json", "--dt", "1e-3", "--reset", "value", *SPIKES).out)
    assert not any("dt_s" in finding["actual"] for finding in told)


def test_check_exits_with_1_when_something_forbids_it(ashneuro: Command, foreign: Path, tmp_path: Path) -> None:
    import nir

    graph = nir.read(foreign)
    graph.nodes["lif2"].v_reset = np.full(10, -0.5)
    nir.write(tmp_path / "reset.nir", graph)
    said = ashneuro("check", tmp_path / "reset.nir", "--json")
    errors = [finding for finding in json.loads(said.out) if not finding["ok"]]
    assert said.code == 1
    assert [finding["node"] for finding in errors] == ["lif2"]
    assert errors[0]["remedy"]


WRONG_INPUTS = {
    "shape": (np.ones((16, 6, 2, 8, 9)), "(T, B, 2, 8, 8)"),
    "steps": (np.ones((15, 6, 2, 8, 8)), "a sample of this network lasts 16"),
    "text": (np.array(["a"]), "real numbers"),
    "nan": (np.full((16, 6, 2, 8, 8), np.nan), "not finite"),
    "empty": (np.ones((16, 0, 2, 8, 8)), "at least 1"),
    "zero": (np.zeros((16, 6, 2, 8, 8)), "0 everywhere"),
}


@pytest.mark.parametrize("kind", WRONG_INPUTS)
def test_check_refuses_the_inputs_that_export_refuses(
    ashneuro: Command, foreign: Path, tmp_path: Path, kind: str
) -> None:
    values, named = WRONG_INPUTS[kind]
    np.save(tmp_path / "x.npy", values)
    for words in (("check",), ("export", "--no-lava", "--out", tmp_path / "b")):
        said = ashneuro(words[0], foreign, *words[1:], "--inputs", tmp_path / "x.npy", "--timesteps", "16")
        assert said.code == 2 and named in said.err


@pytest.mark.parametrize("damage", ["cut", "bits", "pickle"])
def test_damaged_inputs_are_named(ashneuro: Command, foreign: Path, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "x.npz"
    np.savez_compressed(file, input=np.random.default_rng(0).random((16, 6, 2, 8, 8)))
    if damage == "pickle":
        np.savez(file, allow_pickle=True, input=np.array([{}], object))
    else:
        data = bytearray(file.read_bytes())
        data[200:260] = bytes(byte ^ 0xFF for byte in data[200:260])
        file.write_bytes(data if damage == "bits" else data[: len(data) // 2])
    said = ashneuro("simulate", foreign, "--inputs", file)
    assert said.code == 2 and f"cannot read {file}" in said.err


@pytest.mark.parametrize("on", ["torch", "loihi"])
def test_arrays_in_arrays_out(ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path, on: str) -> None:
    save = tmp_path / "spikes.npz"
    said = ashneuro("simulate", foreign, "--on", on, "--inputs", spikes, "--save", save, "--json", *SPIKES)
    assert said.code == 0
    told = json.loads(said.out)
    with np.load(save) as arrays:
        assert {name: (arrays[name].shape, arrays[name].dtype.name) for name in arrays} == {
            "lif1": ((16, 6, 4, 4, 4), "uint8"),
            "lif2": ((16, 6, 10), "uint8"),
        }
        for name in arrays:
            assert told["layers"][name]["spikes"] == int(arrays[name].sum()) > 0


@pytest.mark.lava
def test_lava_spikes_what_torch_and_the_emulator_say(
    ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path
) -> None:
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


def test_a_bundle_carries_its_proof_and_is_refused_when_touched(
    ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "net.bundle"
    said = ashneuro("export", foreign, "--inputs", spikes, "--out", bundle, "--no-lava", "--json", *SPIKES)
    certificate = json.loads(said.out)["certificate"]
    assert said.code == 0
    # Without Lava nothing failed, but nothing may claim to have passed either.
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
    touched = ashneuro("verify", bundle, "--no-lava")
    assert touched.code == 2
    assert "program.npz" in touched.err


@pytest.mark.parametrize(("shape", "code"), [(4, 0), ([-4], 2), ([2**40], 2), ([], 2)])
def test_an_input_of_any_shape_is_exported_or_refused(
    ashneuro: Command, tmp_path: Path, shape: object, code: int
) -> None:
    import h5py
    import nir

    neuron = nir.LIF(*(np.full(4, value) for value in (5e-3, 1.0, 0.0, 0.2, 0.0)))
    nodes = {"input": nir.Input(np.array([4])), "lif": neuron, "output": nir.Output(np.array([4]))}
    nir.write(tmp_path / "g.nir", nir.NIRGraph(nodes, [("input", "lif"), ("lif", "output")]))
    with h5py.File(tmp_path / "g.nir", "r+") as file:
        del file["node/nodes/input/shape"]
        file["node/nodes/input/shape"] = shape
    said = ashneuro("export", tmp_path / "g.nir", "--no-lava")
    assert said.code == code
    assert code == 0 or "input" in said.err


@pytest.mark.parametrize(
    ("words", "named"), [(("--samples", "-1"), "--samples -1"), (("--out", "."), "is not a bundle")]
)
def test_export_refuses_before_it_works(
    ashneuro: Command,
    foreign: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious.txt").write_text("kept")
    monkeypatch.setattr("ashneuro.workflows.export._build", lambda *_, **__: pytest.fail("it worked first"))
    said = ashneuro("export", foreign, "--no-lava", *words)
    assert said.code == 2 and named in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_graph_alone_is_written_with_its_contract(ashneuro: Command, foreign: Path, tmp_path: Path) -> None:
    said = ashneuro("export", foreign, "--target", "nir", "--dt", "2e-3", "--out", tmp_path / "g.nir", "--json")
    told = json.loads(said.out)
    assert said.code == 0
    assert told["graph"] == str(tmp_path / "g.nir") and told["contract"]["dt_s"] == 2e-3
    again = json.loads(ashneuro("check", tmp_path / "g.nir", "--json").out)
    assert not any(finding["rule"] == "assumed_contract" for finding in again)


def test_a_proof_that_fails_writes_nothing_and_exits_with_1(ashneuro: Command, tmp_path: Path) -> None:
    import nir

    # -5, then 5: in exact numbers v reaches its threshold of 0.2, and rounding in the graph's units lifts it above.
    neuron = nir.LIF(*(np.full(1, value) for value in (5e-3, 1.0, 0.0, 0.2, 0.0)))
    nodes = {"input": nir.Input(np.array([1])), "lif": neuron, "output": nir.Output(np.array([1]))}
    nir.write(tmp_path / "tie.nir", nir.NIRGraph(nodes, [("input", "lif"), ("lif", "output")]))
    np.save(tmp_path / "x.npy", np.array([-5.0, 5.0]).reshape(2, 1, 1))
    said = ashneuro("export", tmp_path / "tie.nir", "--inputs", tmp_path / "x.npy", "--no-lava")
    assert said.code == 1
    assert "1 of 2 values, first in lif, sample 0, step 1, neuron 0" in said.err
    assert not (tmp_path / "tie.bundle").exists()


def test_simulate_refuses_what_it_would_not_do(ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path) -> None:
    save = tmp_path / "s.npz"
    both = ashneuro("simulate", foreign, "--inputs", spikes, *SPIKES, "--trace", "lif1:0", "--save", save)
    assert both.code == 2 and "--trace with --save" in both.err and not save.exists()
    bundle = tmp_path / "net.bundle"
    assert ashneuro("export", foreign, "--inputs", spikes, "--out", bundle, "--no-lava", *SPIKES).code == 0
    assert ashneuro("simulate", bundle, "--dt", "1e-3", *SPIKES).code == 0
    other = ashneuro("simulate", bundle, "--dt", "2e-3")
    assert other.code == 2 and f"{bundle} with --dt 0.002" in other.err and "network.nir" in other.err


def test_report_counts_and_prices_it(ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path) -> None:
    said = ashneuro("report", foreign, "--inputs", spikes, "--out", tmp_path, "--json", *SPIKES)
    report = json.loads(said.out)
    assert said.code == 0
    assert report["schema"] == "ashneuro.report/1"
    # Both layers synapse: fan-out of the input's convolution and of the dense layer, nothing else.
    synops = sum(layer["effective_acs"] for layer in report["workload"]["layers"])
    assert synops == brute_force_synops(foreign, np.load(spikes))
    assert "evaluations" in report["missing"]
    assert "http" not in (tmp_path / "report.html").read_text().split("<main")[0].split("<link")[-1]


def brute_force_synops(path: Path, x: np.ndarray) -> int:
    """Count, spike by spike, the weights that each meets."""
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


def test_the_graph_alone_is_told_as_json(ashneuro: Command, foreign: Path, tmp_path: Path) -> None:
    said = ashneuro("export", foreign, "--target", "nir", "--out", tmp_path / "alone.nir", "--dt", 2e-3, "--json")
    told = json.loads(said.out)
    assert told["graph"] == str(tmp_path / "alone.nir") and told["contract"]["dt_s"] == 2e-3
