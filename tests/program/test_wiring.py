import nir
import numpy as np
import pytest

from ashneuro.program.bundle import Reference, read_bundle, write_bundle
from ashneuro.program.check import check
from ashneuro.program.lower import lower
from ashneuro.program.wiring import Wiring, wire
from ashneuro.simulation.emulator.run_graph import graph_layers, graph_ports, run_graph
from ashneuro.simulation.proof.certify import certify, verify
from ashneuro.simulation.run import Graph, simulate
from tests.program import networks as net


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def wirings(monkeypatch) -> list[nir.NIRGraph]:
    """The graphs that were wired, in order."""
    made: list[nir.NIRGraph] = []
    original = Wiring.__init__

    def counting(self, **fields) -> None:
        made.append(fields["graph"])
        original(self, **fields)

    monkeypatch.setattr(Wiring, "__init__", counting)
    return made


def test_wire_is_idempotent(rng):
    wiring = wire(net.chain((6,), net.affine(6, 4, rng), net.lif((4,), rng)))
    assert wire(wiring) is wiring


def test_one_wiring_serves_check_lower_simulation_and_export(tmp_path, rng, wirings):
    graph, x = net.chain((6,), net.affine(6, 4, rng), net.lif((4,), rng)), net.spikes(rng, 20, 2, (6,))
    wirings.clear()  # those of the helper
    wiring = wire(graph)
    assert all(finding.ok for finding in check(wiring, net.CONTRACT, "nir"))
    program = lower(wiring, net.CONTRACT)
    ports = graph_ports(wiring, net.CONTRACT)
    run_graph(wiring, net.CONTRACT, {port.name: x for port in ports}, rasters=graph_layers(wiring)[1])
    simulate(Graph(wiring, net.CONTRACT), x, on="torch")
    answers = certify(wiring, net.CONTRACT, {"float": program}, x, lava=False).reference
    assert len(wirings) == 1 and wirings[0] is graph
    write_bundle(tmp_path / "bundle", wiring, net.CONTRACT, program, None, Reference({"input": x}, answers.spikes))
    # The file that was written is another graph: it is wired where it is read.
    assert len(wirings) == 2


def test_bundle_is_wired_once_when_read(tmp_path, rng, wirings):
    graph, x = net.chain((6,), net.affine(6, 4, rng), net.lif((4,), rng)), net.spikes(rng, 20, 2, (6,))
    program = lower(graph, net.CONTRACT)
    answers = certify(graph, net.CONTRACT, {"float": program}, x, lava=False).reference
    write_bundle(tmp_path / "bundle", graph, net.CONTRACT, program, None, answers)
    wirings.clear()
    bundle = read_bundle(tmp_path / "bundle")
    assert not verify(bundle, lava=False).failed
    simulate(bundle, x, on="torch")
    assert len(wirings) == 1 and wirings[0] is bundle.graph
