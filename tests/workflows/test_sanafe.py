"""Export for SANA-FE, from files of several kinds."""

from __future__ import annotations

import json
from pathlib import Path

import nir
import numpy as np
import pytest

import ashneuro
from ashneuro.errors import BundleError, ConfigError, GraphError
from ashneuro.simulation.sanafe.environment import PYTHON_VARIABLE
from ashneuro.workflows.export import export
from ashneuro.workflows.networks import read
from tests.commands.conftest import Command
from tests.program import networks

RNG = np.random.default_rng(0)
X = (RNG.random((12, 5, 8)) < 0.4).astype(np.uint8)
SPIKES = {"dt_s": 1e-3, "input_coding": "spikes"}
STATED = SPIKES | {"reset": "value", "reset_delay": 0, "comparison": "strict", "integration": "euler"}


@pytest.fixture
def no_sanafe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, "/nowhere/python")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    parts = [networks.affine(8, 6, RNG), networks.lif((6,), RNG, uniform=True), networks.affine(6, 3, RNG)]
    graph = networks.chain((8,), *parts, networks.lif((3,), RNG, uniform=True))
    nir.write(tmp_path / "small.nir", graph)
    return tmp_path / "small.nir"


@pytest.mark.usefixtures("no_sanafe")
def test_next_step_repeats_contract_and_inputs(ashneuro: Command, file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    words = ("--inputs", tmp_path / "x.npy", "--input-coding", "spikes")
    said = ashneuro("export", file, "--target", "sanafe", *words, "--accept-assumptions").out.splitlines()[-1]
    assert said.split()[:3] == ["ashneuro", "report", str(file)]
    assert f"--inputs {tmp_path / 'x.npy'} " in said and said.endswith("--second-opinion sanafe --input-coding spikes")


@pytest.mark.usefixtures("no_sanafe")
def test_export_without_sanafe_says_how_to_compare(file: Path) -> None:
    written = ashneuro.export_sanafe(file, inputs=X, samples=3, contract=STATED)
    assert written.folder == file.with_suffix(".sanafe") and not written.proof
    assert "doctor --setup sanafe" in written.not_proved and "run_sanafe.py" in written.not_proved
    plan = json.loads((written.folder / "plan.json").read_text())
    assert (plan["samples"], plan["timesteps"]) == (3, 12) == (written.samples, written.timesteps)
    ashneuro.export_sanafe(file, inputs=X, samples=2, contract=STATED)  # it may be written again
    assert json.loads((written.folder / "plan.json").read_text())["samples"] == 2


@pytest.mark.usefixtures("no_sanafe")
def test_bundle_keeps_its_integers(file: Path, tmp_path: Path) -> None:
    bundle = export(read(file, **SPIKES), inputs=X, lava=None, accept_assumptions=True).bundle
    written = ashneuro.export_sanafe(bundle)
    with pytest.raises(GraphError, match="does not say what its spikes depend on") as refused:
        ashneuro.export_sanafe(file, inputs=X, contract=SPIKES)
    assert f"ashneuro export {file} --target sanafe --dt 0.001" in refused.value.do
    accepted = {"contract": SPIKES, "accept_assumptions": True}
    again = ashneuro.export_sanafe(file, tmp_path / "other", inputs=X, samples=5, **accepted)
    assert written.assumptions == again.assumptions == bundle.assumptions and bundle.assumptions
    assert written.samples_from == "the bundle's reference" and written.folder.name == "small.sanafe"
    # The same scales were chosen, on the same samples.
    texts = [(folder / "network.net").read_text() for folder in (written.folder, again.folder)]
    assert texts[0] == texts[1]


@pytest.mark.usefixtures("no_sanafe")
def test_folder_of_something_else_is_kept(file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="never overwritten"):
        ashneuro.export_sanafe(file, tmp_path / "mine", inputs=X, contract=SPIKES)
    with pytest.raises(ConfigError):
        ashneuro.export_sanafe(file, inputs=X, samples=0, contract=SPIKES)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_check_names_what_sanafe_cannot_compute(file: Path) -> None:
    fine = ashneuro.check(file, "sanafe", contract=SPIKES)
    late = ashneuro.check(file, "sanafe", contract=SPIKES | {"reset_delay": 1})
    analog = ashneuro.check(file, "sanafe", contract=SPIKES | {"input_coding": "current"})
    assert fine.ok
    assert {(finding.node, finding.rule) for finding in late if not finding.ok} == {
        (name, "sanafe_reset") for name in ("n1", "n3")
    }
    assert [finding.rule for finding in analog if not finding.ok] == ["sanafe_inputs"]
    assert all(finding.remedy for found in (late, analog) for finding in found if not finding.ok)
    with pytest.raises(GraphError, match="analog values"):
        ashneuro.export_sanafe(file, inputs=X, contract=SPIKES | {"input_coding": "current"})


@pytest.mark.sanafe
def test_command_prints_the_comparison(ashneuro: Command, file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    words = (
        "--target",
        "sanafe",
        "--inputs",
        tmp_path / "x.npy",
        "--dt",
        "1e-3",
        "--accept-assumptions",
        "--input-coding",
        "spikes",
    )
    result = ashneuro("export", file, *words, "--json")
    content = json.loads(result.out)
    assert result.code == 0 and content["samples"] == 5 and content["cores"] == 2
    assert [(layer["layer"], layer["mismatches"]) for layer in content["proof"]] == [("n1", 0), ("n3", 0)]
    assert all(layer["spikes"] for layer in content["proof"])
    assert "run_sanafe.py" in {path.name for path in Path(content["folder"]).iterdir()}
