"""Read-outs in front of neurons (case D9): LI → LIF is a CubaLIF."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from ashneuro.errors import GraphError
from ashneuro.program.check import check
from ashneuro.program.lower import lower
from ashneuro.program.quantise import quantise
from ashneuro.simulation.emulator.run_graph import run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.proof.certify import certify
from ashneuro.spiking.contract import Contract
from ashneuro.workflows.export import export
from tests.program import networks as net


def li(n, rng, *, alike=False, v_leak=0.0, r=None):
    tau, gain = (rng.uniform(low, high, () if alike else n) for low, high in ((2e-3, 8e-3), (0.5, 3)))
    return nir.LI(*(np.full(n, value) for value in (tau, gain if r is None else r, v_leak)))


def threshold(n, rng):
    return nir.Threshold(rng.uniform(0.2, 0.5, n))


def if_(n, rng):
    return nir.IF(np.full(n, 0.7), rng.uniform(0.3, 0.8, n), np.zeros(n))


CASES = {
    "LI, LIF": lambda rng: [net.affine(8, 6, rng), li(6, rng, v_leak=0.2), net.lif((6,), rng)],
    "LI, Affine, LIF": lambda rng: [
        net.affine(8, 6, rng), li(6, rng, alike=True, v_leak=0.1), net.affine(6, 5, rng), net.lif((5,), rng)
    ],
    "LI, Scale, LIF": lambda rng: [
        net.affine(8, 6, rng), li(6, rng), nir.Scale(rng.uniform(0.5, 1, 6)), net.lif((6,), rng)
    ],
    "LI, Linear, IF": lambda rng: [
        net.affine(8, 6, rng), li(6, rng, alike=True), nir.Linear(rng.normal(0, 1, (5, 6))), if_(5, rng)
    ],
    "LI, Threshold": lambda rng: [net.affine(8, 6, rng), li(6, rng), threshold(6, rng)],
    "LI, LI": lambda rng: [net.affine(8, 6, rng), li(6, rng, v_leak=0.1), li(6, rng)],
}  # fmt: skip


@pytest.mark.parametrize("integration", ["euler", "exponential"])
@pytest.mark.parametrize("start", ["v_leak", "v_reset"])
@pytest.mark.parametrize("case", CASES)
def test_read_out_becomes_synaptic_current(case, start, integration):
    rng = np.random.default_rng(1)
    graph = net.chain((8,), *CASES[case](rng))
    contract = Contract(input_coding="spikes", start=start, integration=integration)
    x = net.spikes(rng, 60, 4, (8,))
    program = lower(graph, contract)
    last = program.layers[-1].name
    assert [layer.name for layer in program.layers] == [last]
    wanted = run_graph(graph, contract, x, rasters=[last]).layers[last].raster
    found = run_program(program, x, rasters=[last]).layers[last].raster
    if program.layers[-1].neuron.spiking:
        assert 0.05 < wanted.mean() < 0.95
        np.testing.assert_array_equal(found, wanted)
        integer = quantise(program, input_peak={}).program
        close = run_program(integer, x, rasters=[last]).layers[last].raster
        assert (close != wanted).mean() < 0.2  # gains differ: some weights have few bits
    else:
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    (note,) = (finding for finding in check(graph, contract) if finding.rule == "read_outs_end")
    kind = "CubaLIF" if program.layers[-1].neuron.spiking else "CubaLI"
    assert (note.node, note.level) == ("n1", "note")
    assert note.actual == f"the synaptic current of {last}, which run as {kind}"


def test_export_says_which_read_out_is_no_layer(tmp_path):
    rng = np.random.default_rng(0)
    exported = export(net.chain((8,), *CASES["LI, LIF"](rng)), tmp_path / "b", lava=None, accept_assumptions=True)
    (note,) = (note for note in exported.notes if note.rule == "read_outs_end")
    assert "run as CubaLIF" in note.actual and all(note.level == "note" for note in exported.notes)


@pytest.mark.parametrize("coding", ["spikes", "current"])
def test_program_is_that_of_cuba_lif(coding):
    rng = np.random.default_rng(2)
    cuba = net.cuba((8,), rng)
    first = nir.LI(cuba.tau_syn, cuba.w_in, np.zeros(8))
    second = nir.LIF(cuba.tau_mem, cuba.r, cuba.v_leak, cuba.v_threshold, cuba.v_reset)
    contract = Contract(input_coding=coding)
    a, b = lower(net.chain((8,), first, second), contract), lower(net.chain((8,), cuba), contract)
    assert [port.coding for port in a.inputs] == [port.coding for port in b.inputs]
    for name in ("du", "dv", "v_threshold", "bias", "v_unit"):
        np.testing.assert_array_equal(getattr(a.layers[0].neuron, name), getattr(b.layers[0].neuron, name), name)


def test_read_out_of_an_output_keeps_its_neurons():
    rng = np.random.default_rng(3)
    nodes = {"input": (6,), "li": li(6, rng), "lif": net.lif((6,), rng), "value": nir.Output(np.array([6]))}
    graph = net.graph_of(nodes, [("input", "li"), ("li", "lif"), ("lif", "output"), ("li", "value")])
    contract = Contract(input_coding="spikes")
    program = lower(graph, contract)
    assert {layer.name for layer in program.layers} == {"li", "lif"}
    x = net.spikes(rng, 30, 4, (6,))
    a, b = (run(graph if run is run_graph else program, *rest, x, rasters=["li", "lif"])
            for run, rest in ((run_graph, (contract,)), (run_program, ())))  # fmt: skip
    np.testing.assert_array_equal(a.layers["lif"].raster, b.layers["lif"].raster)
    np.testing.assert_allclose(a.layers["li"].raster, b.layers["li"].raster, rtol=0, atol=1e-12)


REFUSED = {
    "weights mix": ({"li": lambda rng: li(6, rng)}, [("li", "fc"), ("fc", "lif")], "time constants differ"),
    "other input": ({}, [("li", "lif"), ("input", "lif")], "input reaches lif as well, unfiltered"),
    "recurrent": ({}, [("li", "lif"), ("lif", "fc"), ("fc", "lif")], "lif reaches lif as well"),
    "second order": (
        {"lif": lambda rng: net.cuba((6,), rng)}, [("li", "lif")], "lif has a synaptic current of its own"
    ),
    "delay": ({"fc": lambda rng: nir.Delay(np.full(6, 2e-3))}, [("li", "fc"), ("fc", "lif")], "a Delay lies between"),
    "weighted output": ({}, [("li", "lif"), ("li", "fc"), ("fc", "output2")], "output2 gives its value behind"),
    "two states": (
        {"li": lambda rng: nir.CubaLI(*(np.full(6, x) for x in (5e-3, 5e-3, 1.0, 0.0, 1.0)))},
        [("li", "lif")], "CubaLI has two states",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_read_out_that_is_no_synaptic_current_is_refused(case):
    changed, edges, words = REFUSED[case]
    rng = np.random.default_rng(4)
    nodes = {"input": (6,), "li": li(6, rng, alike=True), "fc": nir.Linear(rng.normal(0, 1, (6, 6)))}
    nodes |= {"lif": net.lif((6,), rng)} | {name: make(rng) for name, make in changed.items()}
    if case == "weighted output":
        nodes["output2"] = nir.Output(np.array([6]))
    if not any("fc" in edge for edge in edges):
        del nodes["fc"]
    graph = net.graph_of(nodes, [("input", "li"), *edges, ("lif", "output")])
    errors = [finding for finding in check(graph, Contract()) if not finding.ok]
    assert [finding.rule for finding in errors] == ["read_outs_end"]
    assert words in errors[0].actual and "CubaLIF" in errors[0].remedy
    with pytest.raises(GraphError, match="read-out"):
        lower(graph, Contract())
    run_graph(graph, Contract(), np.ones((5, 2, 6)))


@pytest.mark.lava
@pytest.mark.parametrize("case", [name for name in CASES if name != "LI, LI"])
def test_synaptic_current_is_proved_in_lava(case):
    rng = np.random.default_rng(5)
    graph, contract = net.chain((8,), *CASES[case](rng)), Contract(input_coding="spikes")
    program = lower(graph, contract)
    integer = quantise(program, input_peak={}).program
    certificate = certify(graph, contract, {"float": program, "integer": integer}, net.spikes(rng, 20, 5, (8,)))
    assert certificate.certificate.passed, certificate.certificate
