"""Traces of single neurons, and the choice of inputs."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nir
import numpy as np
import pytest

from ashneuro.errors import ConfigError, DataError, LavaError
from ashneuro.workflows.lower import lower
from ashneuro.workflows.networks import read
from ashneuro.workflows.simulate import simulate, trace, with_inputs
from tests.simulation.test_neuron_traces import Recorded

X = 3 * np.random.default_rng(1).normal(size=(20, 4, 3))
CONTRACT = {"dt_s": 1e-3, "input_coding": "current"}


def no_lava() -> None:
    raise LavaError("no Lava here", "it is not installed", "ashneuro doctor --setup lava")


MISSING: Any = SimpleNamespace(open=no_lava)
LAVA: Any = SimpleNamespace(open=lambda: nullcontext(Recorded()))


@pytest.mark.parametrize("precision", ["float", "integer"])
def test_trace_of_a_graph(graph: nir.NIRGraph, precision: Any) -> None:
    phases: list[str] = []
    traces, missing = trace(
        graph,
        ["n1:2", "n1:0"],
        X,
        precision=precision,
        sample=3,
        lava=LAVA,
        contract=CONTRACT,
        progress=lambda phase, done, total: phases.append(phase),
    )
    assert missing == "" and phases == ["tracing"]
    assert [(one.layer, one.neuron, one.differing) for one in traces] == [("n1", 2, 0), ("n1", 0, 0)]
    program = lower(graph, precision, inputs=X, contract=CONTRACT)
    record = simulate(program, X, on="torch" if precision == "float" else "loihi")
    assert all(one.states["emulator"].spikes.any() for one in traces)
    for one in traces:
        assert set(one.states) == {"emulator", "Lava"}
        np.testing.assert_array_equal(one.states["emulator"].spikes, record.layers["n1"].raster[:, 3, one.neuron])


def test_trace_without_lava(graph: nir.NIRGraph) -> None:
    (one,), missing = trace(graph, ["n1:2"], X, lava=MISSING, contract=CONTRACT)
    assert missing == "no Lava here: ashneuro doctor --setup lava" and set(one.states) == {"emulator"}


def test_trace_of_a_bundle_uses_its_reference(old: Path) -> None:
    bundle = read("lif_cubalif.bundle")
    (one,), _ = trace(bundle, ["cuba:1"], precision="integer", sample=1, lava=MISSING)
    np.testing.assert_array_equal(one.states["emulator"].spikes, bundle.reference.spikes["cuba"][:, 1, 1])


@pytest.mark.parametrize(
    ("neurons", "sample", "error"),
    [(["n1:4"], 0, "--trace n1:4"), (["lif9:0"], 0, "--trace lif9:0"), (["n1:0"], 4, "--trace-sample 4")],
)
def test_trace_errors(graph: nir.NIRGraph, neurons: list[str], sample: int, error: str) -> None:
    with pytest.raises(DataError, match=error):
        trace(graph, neurons, X, sample=sample, lava=MISSING, contract=CONTRACT)


def test_trace_of_a_program_needs_its_precision(graph: nir.NIRGraph) -> None:
    program = lower(graph, contract=CONTRACT)
    with pytest.raises(ConfigError, match="--precision integer"):
        trace(program, ["n1:0"], X, precision="integer", lava=MISSING)


def test_networks_and_programs_need_inputs(graph: nir.NIRGraph, tmp_path: Path) -> None:
    nir.write(tmp_path / "small.nir", graph)
    sources = {
        "this program": lower(graph, contract=CONTRACT),
        "this network": graph,
        str(tmp_path / "small.nir"): tmp_path / "small.nir",
    }
    for name, source in sources.items():
        with pytest.raises(DataError, match="has no inputs of its own") as error:
            with_inputs(source, None)
        assert error.value.what.startswith(name)
