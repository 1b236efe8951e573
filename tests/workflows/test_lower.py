"""Lowering a graph, a bundle and a lava-dl file, in floats and integers."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest

from ashneuro.errors import BundleError, ConfigError, DataError, GraphError
from ashneuro.program.program import Program
from ashneuro.workflows.lower import lower
from ashneuro.workflows.networks import Network, open_network, read
from tests.program import networks

X = np.random.default_rng(1).normal(size=(6, 4, 3))
CONTRACT = {"dt_s": 1e-3, "input_coding": "current"}


def same(left: Program, right: Program) -> bool:
    """Return True if two programs have equal weights and thresholds."""
    return all(
        np.array_equal(a.neuron.v_threshold, b.neuron.v_threshold)
        and all(
            np.array_equal(one.synapse.weight, other.synapse.weight)
            for one, other in zip(a.connections, b.connections, strict=True)
            if one.synapse is not None and other.synapse is not None
        )
        for a, b in zip(left.layers, right.layers, strict=True)
    )


def test_graph_as_floats(graph: nir.NIRGraph, tmp_path: Path) -> None:
    nir.write(tmp_path / "small.nir", graph)
    sources = (graph, open_network(graph, CONTRACT), tmp_path / "small.nir", str(tmp_path / "small.nir"))
    # A network that was read has its contract.
    programs = [lower(one, contract=None if isinstance(one, Network) else CONTRACT) for one in sources]
    assert {(program.precision, program.dt_s) for program in programs} == {("float", 1e-3)}
    assert all(same(programs[0], program) for program in programs)


def test_graph_as_integers(graph: nir.NIRGraph) -> None:
    phases: list[str] = []
    program = lower(
        graph, "integer", inputs=X, contract=CONTRACT, progress=lambda phase, done, total: phases.append(phase)
    )
    assert program.precision == "integer" and set(phases) == {"choosing integer scales"}
    assert same(program, lower(graph, "integer", inputs={"input": X}, contract=CONTRACT))


def test_integers_need_inputs(graph: nir.NIRGraph) -> None:
    with pytest.raises(ConfigError, match="network as integers without inputs") as error:
        lower(graph, "integer")
    assert error.value.why == "integer scales are chosen on samples"
    with pytest.raises(DataError):
        lower(graph, "integer", inputs=X[..., :2], contract=CONTRACT)


def test_graph_that_cannot_be_lowered() -> None:
    rng = np.random.default_rng(0)
    graph = networks.chain((3,), networks.affine(3, 4, rng), networks.lif((4,), rng, v_reset=np.full(4, -0.5)))
    with pytest.raises(GraphError, match="n1"):
        lower(graph)


def test_bundle_has_its_own_programs(old: Path) -> None:
    for precision in ("float", "integer"):
        bundle = read("lif_cubalif.bundle")
        assert lower(bundle, precision) is bundle.program(precision)
    with pytest.raises(BundleError, match="has no float program") as error:
        lower(read("conv_delays.bundle"), "float")
    assert error.value.why == "a lava-dl network is integers alone"


def test_netx_is_integers_alone(old: Path) -> None:
    path = Path("conv_delays.bundle") / "network.net"
    program = lower(path, "integer")
    assert program.precision == "integer" and same(program, read("conv_delays.bundle").program("integer"))
    with pytest.raises(ConfigError, match="network as floats"):
        lower(path)
