"""A file that leaves its contract open: every result that rests on an assumption names it."""

from __future__ import annotations

import json
import shlex
import subprocess
import zipfile
from itertools import pairwise
from pathlib import Path

import nir
import numpy as np
import pytest

import ashneuro as ash
from ashneuro.errors import GraphError
from ashneuro.simulation.lava.environment import find_interpreter
from tests.commands.conftest import Command

FIELDS = ["dt_s", "reset", "reset_delay", "comparison", "integration", "input_coding"]
ASSUMING = "dt = 0.001 s, reset = value, reset_delay = 0, comparison = strict, integration = euler"


@pytest.fixture
def leaky(tmp_path: Path) -> tuple[Path, Path]:
    """A file with four LIF neurons and no metadata, and inputs (50, 1, 6)."""
    random = np.random.default_rng(0)
    lif = nir.LIF(*(np.full(4, value) for value in (2.5e-3, 2.5, 0.0, 1.0, 0.0)))
    nodes = {
        "input": nir.Input(np.array([6])),
        "linear": nir.Linear(random.normal(size=(4, 6))),
        "lif": lif,
        "output": nir.Output(np.array([4])),
    }
    names = list(nodes)
    nir.write(tmp_path / "leaky.nir", nir.NIRGraph(nodes, list(pairwise(names))))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((50, 1, 6)))
    return tmp_path / "leaky.nir", tmp_path / "x.npy"


def test_simulate_names_its_assumptions_first(ashneuro: Command, leaky: tuple[Path, Path], tmp_path: Path) -> None:
    path, x = leaky
    save = tmp_path / "spikes.npz"
    said = ashneuro("simulate", path, "--inputs", x, "--save", save)
    assert said.code == 0 and said.out.startswith("Assumptions: what the source of this network does not say")
    assert said.out.index("--dt 0.001") < said.out.index("Spikes")
    with zipfile.ZipFile(save) as archive:
        assumed = json.loads(archive.comment)["assumed"]
    assert list(assumed) == FIELDS and assumed["dt_s"] == 1e-3
    with np.load(save) as arrays:
        assert list(arrays) == ["lif"]
    spikes = {}
    for dt in ("1e-3", "1e-4"):
        words = ("--dt", dt, "--reset", "value", "--reset-delay", 0, "--comparison", "strict")
        stated = ashneuro("simulate", path, "--inputs", x, *words, "--integration", "euler", "--json")
        content = json.loads(stated.out)
        assert [item["field"] for item in content["assumptions"]] == ["input_coding"]
        spikes[dt] = content["layers"]["lif"]["spikes"]
    assert spikes["1e-3"] != spikes["1e-4"]


def test_trace_names_its_assumptions(ashneuro: Command, leaky: tuple[Path, Path], tmp_path: Path) -> None:
    path, x = leaky
    words = ("simulate", path, "--inputs", x, "--trace", "lif:0", "--figure", tmp_path / "t.svg")
    assert ashneuro(*words).out.startswith("Assumptions")
    assert [item["field"] for item in json.loads(ashneuro(*words, "--json").out)["assumptions"]] == FIELDS


def test_export_is_refused_with_the_command_that_states_it(
    ashneuro: Command, leaky: tuple[Path, Path], tmp_path: Path
) -> None:
    path, x = leaky
    refused = ashneuro("export", path, "--inputs", x, "--no-lava", "--dt", "5e-4")
    assert refused.code == 2 and not (tmp_path / "leaky.bundle").exists()
    assert "reset = value, assumed for lif" in refused.err and "--accept-assumptions" in refused.err
    (command,) = [line for line in refused.err.splitlines() if line.startswith("do:")]
    program, *words = shlex.split(command.removeprefix("do:"))
    assert program == "ashneuro" and "--dt" in words and words[words.index("--dt") + 1] == "0.0005"
    done = ashneuro(*words, "--json")
    assert done.code == 0, done.err
    content = json.loads(done.out)
    assert content["assumptions"] == [] and "assuming" not in content["certificate"]["verdict"]
    assert ash.read(tmp_path / "leaky.bundle").contract.dt_s == 5e-4


def test_accepted_assumptions_are_named_everywhere(ashneuro: Command, leaky: tuple[Path, Path], tmp_path: Path) -> None:
    path, x = leaky
    done = ashneuro("export", path, "--inputs", x, "--no-lava", "--accept-assumptions")
    assert done.code == 0 and f", assuming {ASSUMING}, input_coding = current" in done.out
    bundle = tmp_path / "leaky.bundle"
    for words in (("verify", bundle, "--no-lava"), ("report", bundle)):
        said = ashneuro(*words)
        assert said.code == 0 and "Assumptions" in said.out and "--reset value" in said.out, words
    assert ashneuro("report", bundle).out.startswith("Assumptions")
    folder = tmp_path / "leaky-report"
    report = json.loads((folder / "report.json").read_text())
    assert [item["field"] for item in report["assumptions"]] == FIELDS
    assert report["certificate"]["assumptions"] == report["assumptions"]
    page = (folder / "report.html").read_text()
    assert page.index("Assumptions: what the source") < page.index('<ul class="tiles">')
    assert f"assuming {ASSUMING}" in page
    for subject in (bundle, bundle / "network.nir"):
        checked = json.loads(ashneuro("check", subject, "--json").out)
        assert sum(finding["rule"] == "assumed_contract" for finding in checked) == len(FIELDS)


def test_bundle_that_is_exported_again_keeps_its_samples(
    ashneuro: Command, leaky: tuple[Path, Path], tmp_path: Path
) -> None:
    path, x = leaky
    assert ashneuro("export", path, "--inputs", x, "--no-lava", "--accept-assumptions").code == 0
    bundle = tmp_path / "leaky.bundle"
    before = ash.simulate(bundle).layers["lif"].raster
    command = ashneuro("check", bundle).out.splitlines()[-1].split()  # states what was assumed
    said = ashneuro(*command[1:], "--no-lava")
    assert said.code == 0 and "compared on the bundle's reference" in said.out and "assuming" not in said.out
    assert np.array_equal(ash.simulate(bundle).layers["lif"].raster, before)
    other = ashneuro("export", bundle, "--no-lava", "--timesteps", 20, "--out", tmp_path / "short.bundle")
    assert other.code == 0 and "random inputs" in other.out  # the reference has 50 steps


def test_proof_takes_settings_of_lava(leaky: tuple[Path, Path], tmp_path: Path) -> None:
    path, _ = leaky
    for given, do in ((False, "lava=None"), (True, "leave it out")):
        for call in (ash.export, ash.verify):
            with pytest.raises(ash.AshneuroError) as error:
                call(path, lava=given)
            assert error.value.do == do
    assert not (tmp_path / "leaky.bundle").exists()


def test_check_ends_with_a_command_that_is_not_refused(ashneuro: Command, leaky: tuple[Path, Path]) -> None:
    path, x = leaky
    said = ashneuro("check", path, "--dt", "1e-4")
    command = shlex.split(said.out.splitlines()[-1])
    assert command[0] == "ashneuro" and "0.0001" in command
    assert ashneuro(*command[1:], "--no-lava", "--inputs", x).code == 0


def test_functions_carry_assumptions(leaky: tuple[Path, Path], tmp_path: Path) -> None:
    path, file = leaky
    x = np.load(file)
    graph = nir.read(path)
    network = ash.read(graph, dt_s=1e-3)
    assert isinstance(network, ash.Network)
    assert [item.field for item in network.assumptions or ()] == FIELDS[1:]
    with pytest.raises(GraphError, match="does not say what its spikes depend on") as refused:
        ash.export(network, tmp_path / "b", inputs=x, lava=None)
    stated = (
        "dt_s=0.001, reset='value', reset_delay=0, comparison='strict', integration='euler', input_coding='current'"
    )
    assert f"ash.read(graph, {stated})" in refused.value.do and "accept_assumptions=True" in refused.value.do
    exported = ash.export(network, tmp_path / "b", inputs=x, lava=None, accept_assumptions=True)
    integer = ash.lower(network, "integer", inputs=x)
    costs = ash.compare(exported.bundle, profiles=["cmos45"])
    report = ash.report(network, inputs=x, profiles=["cmos45"])
    shown = [exported.certificate, ash.verify(exported.bundle, lava=None), costs, report]
    shown += [ash.simulate(subject, x, on="loihi") for subject in (network, exported.bundle, integer)]
    shown += [shown[-1] + shown[-1]]
    for value in shown:
        assert value.assumptions == network.assumptions
        assert "Assumptions: what the source" in value._repr_html_()
    with pytest.raises(ValueError, match="do not add up"):
        _ = shown[-1] + ash.simulate(ash.read(graph, dt_s=1e-3, reset="value"), x, on="loihi")


def test_convention_of_if_is_asked_for(ashneuro: Command, tmp_path: Path) -> None:
    """SpikingJelly writes r = 1/dt, and adds dt·r·x in a step."""
    neuron = nir.IF(*(np.full(3, value) for value in (1e3, 1.0, 0.0)))
    nodes = {"input": nir.Input(np.array([3])), "if": neuron, "output": nir.Output(np.array([3]))}
    nir.write(tmp_path / "if.nir", nir.NIRGraph(nodes, [("input", "if"), ("if", "output")]))
    refused = ashneuro("export", tmp_path / "if.nir", "--no-lava")
    assert refused.code == 2 and "if_convention = per-step, assumed for if" in refused.err
    assert "R = 1000 may be 1/dt, as SpikingJelly writes it: --if-convention per-second --dt 0.001" in refused.err
    command = refused.err.partition("do:")[2]
    assert "--if-convention per-step" in command and "--dt" not in command and "--integration" not in command
    # Read per second, it depends on the duration of a step.
    other = ashneuro("export", tmp_path / "if.nir", "--no-lava", "--if-convention", "per-second")
    assert other.code == 2 and "dt = 0.001 s, assumed for if" in other.err
    assert "--if-convention per-second" in other.err and "if_convention =" not in other.err


def test_lava_dl_network_is_asked_for_its_comparison(ashneuro: Command, tmp_path: Path) -> None:
    from tests.program.netx.test_read import ties, write

    layers, x = ties(np.random.default_rng(5))
    path = write(tmp_path / "ties.net", layers, tSample=len(x))
    np.save(tmp_path / "x.npy", x)
    words = ("export", path, "--no-lava", "--inputs", tmp_path / "x.npy")
    refused = ashneuro(*words)
    assert refused.code == 2 and "comparison = strict, assumed for dense1" in refused.err
    assert "--no-lava --comparison strict" in refused.err
    accepted = json.loads(ashneuro(*words, "--accept-assumptions", "--json").out)
    assert accepted["certificate"]["verdict"].endswith("assuming comparison = strict")
    bundle = tmp_path / "ties.bundle"
    assert json.loads((bundle / "manifest.json").read_text())["contract"]["assumed"] == {"comparison": "strict"}
    assert ashneuro("simulate", bundle, "--on", "loihi").out.startswith("Assumptions")
    # The same comparison, stated: the bundle is exported again, and nothing is assumed.
    again = ashneuro(
        "export", bundle, "--comparison", "strict", "--no-lava", "--out", tmp_path / "again.bundle", "--json"
    )
    assert again.code == 0 and json.loads(again.out)["assumptions"] == []
    assert ashneuro("export", bundle, "--no-lava", "--out", tmp_path / "third.bundle").code == 2


@pytest.mark.lava
def test_proof_in_lava_passes_under_assumptions(ashneuro: Command, leaky: tuple[Path, Path], tmp_path: Path) -> None:
    path, x = leaky
    done = json.loads(ashneuro("export", path, "--inputs", x, "--accept-assumptions", "--json").out)
    assert done["certificate"]["verdict"] == f"passed, assuming {ASSUMING}, input_coding = current"
    script = [find_interpreter(), tmp_path / "leaky.bundle" / "run_lava.py", "--verify"]
    said = subprocess.run(script, capture_output=True, text=True, timeout=600, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.startswith("assumed dt_s = 0.001: the network's source does not say it\nassumed reset = value")
    assert "fixed: equal" in said.stdout
