"""Fields of the contract that a graph leaves open: those that change its spikes, and no others."""

from dataclasses import fields, replace

import nir
import numpy as np
import pytest

from ashneuro.errors import GraphError
from ashneuro.program.rules.open_fields import DEPENDS, SHOULD_STATE, assumptions_of
from ashneuro.program.wiring import wire
from ashneuro.simulation.emulator.run_graph import graph_layers, run_graph
from ashneuro.spiking.contract import Contract, read_contract
from tests.program import networks as net

OTHER = {
    "dt_s": 1.5e-3,
    "reset": "subtract",
    "reset_delay": 1,
    "comparison": "inclusive",
    "start": "v_reset",
    "integration": "exponential",
    "if_convention": "per-second",
    "message": "count",
}
"""Another value of each field."""

LEAK = ("dt_s", "integration")
FIRES = ("reset", "reset_delay", "comparison")
MODEL = "ashneuro."


def leaky(**stated):
    """Return LIF neurons whose v often ties with the threshold: r = tau / dt, whole weights."""
    values = {"tau": 2e-3, "r": 2.0, "v_leak": 0.0, "v_threshold": 3.0, "v_reset": 0.0} | stated
    return nir.LIF(**{name: np.full(4, value) for name, value in values.items()})


def with_metadata(node, **entries):
    node.metadata = {MODEL + name: value for name, value in entries.items()}
    return node


def integrate(**stated):
    values = {"r": 1.0, "v_threshold": 3.0, "v_reset": 0.0} | stated
    return nir.IF(**{name: np.full(4, value) for name, value in values.items()})


def full(*values):
    return [np.full(4, value) for value in values]


# Neurons, what is stated of the contract, and the fields on which they depend.
CASES = {
    "LIF": ([leaky()], {}, (*LEAK, *FIRES)),
    "LIF that starts elsewhere": ([leaky(v_reset=-8.0)], {}, (*LEAK, *FIRES, "start")),
    "LIF that states its reset": (
        [with_metadata(leaky(v_threshold=1.0), reset="subtract")],
        {},
        (*LEAK, "reset_delay", "comparison", "message"),
    ),
    "refractory LIF": ([with_metadata(leaky(), dynamics="refractory", refractory_steps=2)], {}, LEAK),
    "adaptive IF": (
        [with_metadata(integrate(), dynamics="adaptive", tau_threshold=9e-3, tau_refractory=7e-3, threshold_step=1.0)],
        {},
        (*LEAK, "if_convention"),
    ),
    "resonating LIF": ([with_metadata(leaky(tau=3e-3, r=3.0), dynamics="resonate", period=8e-3)], {}, LEAK),
    "CubaLIF": ([nir.CubaLIF(*full(2e-3, 2e-3, 2.0, 0.0, 3.0, 0.0, 2.0))], {}, (*LEAK, *FIRES)),
    "IF": ([integrate()], {}, (*FIRES, "if_convention")),
    "IF per second": ([integrate(r=1e3)], {"if_convention": "per-second"}, (*FIRES, "dt_s")),
    "IF that starts elsewhere": ([integrate(v_reset=-1.0)], {}, (*FIRES, "if_convention", "start")),
    "Threshold": ([nir.Threshold(np.full(4, 3.0))], {}, ("comparison",)),
    "Threshold that sends changes": ([with_metadata(nir.Threshold(np.full(4, 3.0)), message="change")], {}, ()),
    "LI": ([nir.LI(*full(2e-3, 2.0, 0.0))], {}, LEAK),
    "I": ([nir.I(*full(1.0))], {}, ("if_convention",)),
    "Delay": ([nir.Delay(np.full(4, 3e-3)), nir.Threshold(np.full(4, 3.0))], {}, ("dt_s", "comparison")),
    "no neuron": ([], {}, ()),
}


def graph_of(nodes):
    weight = np.random.default_rng(3).integers(-2, 4, (4, 6)).astype(float)
    return net.chain((6,), nir.Linear(weight), *nodes)


@pytest.mark.parametrize("name", CASES)
def test_open_fields_are_those_that_change_the_answers(name):
    nodes, stated, expected = CASES[name]
    graph = graph_of(nodes)
    read = read_contract({MODEL + field: value for field, value in stated.items()})
    found = assumptions_of(wire(graph), read)
    assert {item.field for item in found} == {*expected, "input_coding"}
    assert all(item.spikes for item in found if item.field in expected)
    x = (np.random.default_rng(4).random((60, 5, 6)) < 0.4).astype(np.uint8)
    known = answers(graph, read.contract, x)
    for field in set(OTHER) - set(stated):
        try:
            other = answers(graph, replace(read.contract, **{field: OTHER[field]}), x)
        except GraphError:  # the graph has no other choice
            assert field not in expected
            continue
        changed = any(not np.array_equal(known[layer], other[layer]) for layer in known)
        assert changed == (field in expected), field


def answers(graph, contract, x):
    return run_graph(graph, contract, x, rasters=graph_layers(graph)[0]).rasters


def test_assumptions_name_their_nodes():
    graph = graph_of([leaky(), nir.Linear(np.eye(4)), with_metadata(leaky(), reset="value")])
    found = {item.field: item for item in assumptions_of(wire(graph), read_contract({}))}
    assert found["dt_s"].nodes == ("n1", "n3") and found["reset"].nodes == ("n1",)
    assert found["input_coding"].nodes == ("input",) and not found["input_coding"].spikes
    assert found["dt_s"].option == "--dt 0.001" and str(found["dt_s"]) == "dt = 0.001 s"
    assert found["reset_delay"].option == "--reset-delay 0" and str(found["reset_delay"]) == "reset_delay = 0"


def test_stated_fields_are_no_assumptions():
    wiring = wire(graph_of([leaky()]))
    assert assumptions_of(wiring, read_contract(Contract().to_metadata())) == ()
    rest = assumptions_of(wiring, read_contract({}, dt_s=2e-3, reset="value"))
    assert {item.field for item in rest} == {"reset_delay", "comparison", "integration", "input_coding"}


def test_unsound_graph_has_assumptions():
    graph = graph_of([leaky()])
    graph.nodes["n1"].v_reset = np.full(3, -1.0)
    graph.nodes["n1"].metadata = {"ashneuro.dynamics": "unheard of"}
    assert {item.field for item in assumptions_of(wire(graph), read_contract({}))} >= {"start", "reset"}


def test_every_field_of_the_contract_is_known():
    known = {field.name for field in fields(Contract)} - {"timesteps", "message_limit"}
    assert set(DEPENDS) == set(SHOULD_STATE) == known == {*OTHER, "input_coding"}
