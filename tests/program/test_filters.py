"""Read-outs in front of neurons: LI → LIF is a CubaLIF, others send their potential."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from ashneuro.program.check import check
from ashneuro.program.lower import lower
from ashneuro.program.quantise import quantise
from ashneuro.program.requantise import quantise_again
from ashneuro.program.same import compare_programs
from ashneuro.simulation.calibrate import calibrate
from ashneuro.simulation.emulator.run_graph import run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.inputs import check_inputs
from ashneuro.simulation.proof.certify import certify
from ashneuro.simulation.units import read_out
from ashneuro.spiking.contract import Contract
from ashneuro.workflows.export import export
from tests.program import networks as net
from tests.simulation import machine_reference


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


# Graphs whose read-out sends its potential: changed nodes, edges, why it is no synaptic current.
SENDERS = {
    "weights mix": ({"li": lambda rng: li(6, rng)}, [("li", "fc"), ("fc", "lif")], "time constants differ"),
    "other input": ({}, [("li", "lif"), ("input", "lif")], "input reaches lif as well, unfiltered"),
    "recurrent": ({}, [("li", "lif"), ("lif", "fc"), ("fc", "lif")], "lif reaches lif as well"),
    "second order": (
        {"lif": lambda rng: net.cuba((6,), rng)}, [("li", "lif")], "lif has a synaptic current of its own"
    ),
    "delay": (
        {"fc": lambda rng: nir.Delay(np.full(6, 2e-3)), "li": lambda rng: li(6, rng)},
        [("li", "fc"), ("fc", "lif")], "a Delay lies between",
    ),
    "weighted output": (
        {"li": lambda rng: li(6, rng, v_leak=0.2)}, [("li", "lif"), ("li", "fc"), ("fc", "output2")],
        "output2 gives its value behind",
    ),
    "two states": (
        {"li": lambda rng: nir.CubaLI(*(np.full(6, x) for x in (5e-3, 4e-3, 2.0, 0.1, 1.0)))},
        [("li", "lif")], "CubaLI has two states",
    ),
    "an input that enters neurons as well": (
        {"li": lambda rng: nir.I(np.ones(6)), "lif": lambda rng: net.cuba((6,), rng), "if": lambda rng: if_(6, rng)},
        [("li", "fc"), ("fc", "lif"), ("input", "if")], "lif has a synaptic current",
    ),
    "a sum": ({"li": lambda rng: nir.I(rng.uniform(0.1, 0.3, 6))}, [("li", "lif")], "its sum never leaks"),
    "a loop": (
        {
            "li": lambda rng: nir.LI(
                rng.uniform(2e-3, 5e-3, 6), np.full(6, 1.5), np.full(6, 0.1), metadata={"ashneuro.message_limit": 5.0}
            ),
            "late": lambda rng: nir.Delay(np.full(6, 2e-3)),
        },
        [("li", "fc"), ("fc", "lif"), ("lif", "late"), ("late", "li")], "time constants differ",
    ),
}  # fmt: skip


def sender(case):
    """Return (graph, contract, inputs) of a case of `SENDERS`."""
    changed, edges, _ = SENDERS[case]
    rng = np.random.default_rng(4)
    nodes = {"input": (6,), "li": li(6, rng, alike=True), "fc": nir.Linear(rng.normal(0, 1, (6, 6)))}
    nodes |= {"lif": net.lif((6,), rng)} | {name: make(rng) for name, make in changed.items()}
    if case == "weighted output":
        nodes["output2"] = nir.Output(np.array([6]))
    if not any("fc" in edge for edge in edges):
        del nodes["fc"]
    graph = net.graph_of(nodes, [("input", "li"), *edges, ("lif", "output")])
    direct = "if" in nodes  # analog values, without weights
    contract = Contract(input_coding="current" if direct else "spikes", timesteps=30)
    return graph, contract, net.analog(rng, 30, 4, (6,), 0.5) if direct else net.spikes(rng, 30, 4, (6,))


@pytest.mark.parametrize("case", SENDERS)
def test_other_read_outs_send_their_potential(case):
    graph, contract, x = sender(case)
    (note,) = [finding for finding in check(graph, contract) if finding.rule == "read_outs_end"]
    assert (note.node, note.level) == ("li", "note") and SENDERS[case][2] in note.actual
    assert "a population that sends its potential" in note.actual
    program = lower(graph, contract)
    layer = program.layer("li")
    assert layer.neuron.potential and layer.neuron.message.bits == 16
    names = [layer.name for layer in program.layers]
    wanted, found = run_graph(graph, contract, x, rasters=names), run_program(program, x, rasters=names)
    defined = net.define(graph, contract, {"input": x})
    for name in names:
        np.testing.assert_allclose(found.layers[name].raster, wanted.layers[name].raster, rtol=0, atol=1e-10)
        np.testing.assert_allclose(wanted.layers[name].raster, defined[name], rtol=0, atol=1e-10)
        assert wanted.layers[name].events == found.layers[name].events
    assert wanted.layers["li"].events > 0 and wanted.layers["lif"].events > 10
    calibrated = calibrate(program, x)
    integer = calibrated.program
    records = [run_program(integer, x, rasters=names, backend=backend) for backend in ("numpy", "torch", "native")]
    exact = machine_reference.run(integer, check_inputs(integer.inputs, None, {"input": x}))
    for record in records:
        for one in integer.layers:
            numbers = exact[one.name] if one.neuron.binary else read_out(one, exact[one.name], "integer")
            np.testing.assert_array_equal(record.layers[one.name].raster, numbers)
    assert sum(calibrated.mismatches.values()) / len(calibrated.mismatches) < 0.1
    again = quantise_again(program, integer).program
    assert compare_programs(integer, again).differing == 0


def test_potential_keeps_its_payload():
    """The largest potential saturates; bits and limit are those of the node's metadata."""
    rng = np.random.default_rng(6)
    graph, contract, x = sender("weights mix")
    stated = {"ashneuro.message_bits": 6, "ashneuro.message_limit": 0.5}
    graph.nodes["li"].metadata |= stated
    program = lower(graph, contract)
    assert (program.layer("li").neuron.message.bits, program.layer("li").neuron.message.limit) == (6, 0.5)
    integer = quantise(program, input_peak={}).program
    li_values = run_program(integer, x, rasters=["li"]).layers["li"].raster
    assert integer.layer("li").neuron.message.limit <= 31
    np.testing.assert_allclose(np.abs(li_values).max(), 0.5, rtol=0.05)
    for key, value in {"message_bits": 17, "message_limit": -1.0, "message": "graded"}.items():
        graph.nodes["li"].metadata = {f"ashneuro.{key}": value}
        (error,) = [finding for finding in check(graph, contract) if finding.rule == "readable_parameters"]
        assert key in error.actual and error.remedy
    resting, contract, _ = sender("delay")
    resting.nodes["li"] = li(6, rng, v_leak=0.1)
    (error,) = [finding for finding in check(resting, contract) if not finding.ok]
    assert error.rule == "undelayed_bias" and "v_leak" in error.remedy


@pytest.mark.lava
def test_potentials_are_proved_in_lava():
    """Streamed and side by side; several graphs are one."""
    for cases in (("weights mix", "second order", "weighted output"), ("a loop",)):
        nodes, edges, inputs = {}, [], {}
        for number, case in enumerate(cases):
            graph, contract, x = sender(case)
            nodes |= {f"{number}{name}": node for name, node in graph.nodes.items()}
            edges += [(f"{number}{a}", f"{number}{b}") for a, b in graph.edges]
            inputs[f"{number}input"] = x
        whole = nir.NIRGraph(nodes, edges, type_check=False)
        program = lower(whole, contract)
        integer = calibrate(program, inputs).program
        certificate = certify(whole, contract, {"float": program, "integer": integer}, inputs).certificate
        assert certificate.passed, certificate
        assert set(certificate.own_processes.values()) == {"Potential"}


@pytest.mark.lava
@pytest.mark.parametrize("case", [name for name in CASES if name != "LI, LI"])
def test_synaptic_current_is_proved_in_lava(case):
    rng = np.random.default_rng(5)
    graph, contract = net.chain((8,), *CASES[case](rng)), Contract(input_coding="spikes")
    program = lower(graph, contract)
    integer = quantise(program, input_peak={}).program
    certificate = certify(graph, contract, {"float": program, "integer": integer}, net.spikes(rng, 20, 5, (8,)))
    assert certificate.certificate.passed, certificate.certificate
