"""Every kind of neuron on its whole way: NIR file, check, integers, cores, counts and a price."""

from itertools import pairwise
from pathlib import Path
from typing import get_args

import nir
import numpy as np
import pytest

from ashneuro.cost.cores import core_limits
from ashneuro.cost.deployment import deploy
from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import load_profile
from ashneuro.cost.workload import count
from ashneuro.program.check import check
from ashneuro.program.lower import lower
from ashneuro.program.nir_file import read_graph, write_graph
from ashneuro.program.placement.place import place
from ashneuro.program.primitives import nir_type
from ashneuro.program.quantise import quantise
from ashneuro.program.same import compare_programs
from ashneuro.program.wiring import node_dynamics, node_message, wire
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.spiking.contract import Contract
from ashneuro.spiking.dynamics import DYNAMICS
from ashneuro.spiking.firing import Comparison, Reset
from ashneuro.spiking.message import SPIKE, Activation, MessageKind

LOIHI1, LOIHI2 = (load_profile(name) for name in ("loihi1", "loihi2"))
CONTRACT = Contract(timesteps=12, input_coding="spikes")
SUBTRACT = {"reset": "subtract", "reset_delay": 0}
KINDS = {
    "LIF": ("LIF", {}),
    "subtraction, same step": ("LIF", SUBTRACT),
    "subtraction of a synaptic current": ("CubaLIF", SUBTRACT),
    "subtraction without a leak": ("IF", SUBTRACT),
    "subtraction, one step late": ("LIF", {"reset": "subtract", "reset_delay": 1}),
    "value, one step late": ("LIF", {"reset": "value", "reset_delay": 1}),
    "several spikes": ("IF", {**SUBTRACT, "message": "count"}),
    "several spikes, at most 3": ("LIF", {**SUBTRACT, "message": "count", "message_limit": 3}),
    "inclusive": ("LIF", {"comparison": "inclusive"}),
    "ReLU": ("Threshold", {"message": "graded"}),
    "jump": ("Threshold", {"message": "graded", "message_bits": 5, "message_limit": 3.0}),
    "delta": ("Threshold", {"message": "change"}),
    "sigma-delta": ("I Threshold", {"message": "change", "message_activation": "relu"}),
    "sigma-delta of levels": (
        "I Threshold",
        {"message": "change", "message_activation": "levels", "message_bits": 4, "message_limit": 2.1},
    ),
    "potential": ("CubaLI LIF", {}),
    "one time constant each": ("CubaLIF", {}),
    "refractory": ("LIF", {"dynamics": "refractory", "refractory_steps": 2}),
    "adaptive": (
        "LIF",
        {"dynamics": "adaptive", "tau_threshold": 8e-3, "tau_refractory": 6e-3, "threshold_step": 1.0},
    ),
    "resonate": ("LIF", {"dynamics": "resonate", "period": 5.3e-3}),
    "izhikevich": ("LIF", {"dynamics": "izhikevich", "period": 9e-3}),
    "ternary": ("LIF", {"dynamics": "ternary", "threshold_below": 0.2}),
}


def population(name, size):
    """Return the nodes of a population of a kind; the last is what sends."""
    primitives, stated = KINDS[name]
    one = np.ones(size)
    tau = np.linspace(3e-3, 9e-3, size) if name == "one time constant each" else 4e-3 * one
    leak = {"v_leak": 0 * one, "v_reset": 0 * one}
    made = {
        "LIF": lambda: nir.LIF(tau=tau, r=one, v_threshold=0.4 * one, **leak),
        "CubaLIF": lambda: nir.CubaLIF(tau_syn=0.7 * tau, tau_mem=tau, r=one, v_threshold=0.4 * one, **leak),
        "IF": lambda: nir.IF(r=one, v_threshold=0.4 * one, v_reset=0 * one),
        "I": lambda: nir.I(r=one),
        "CubaLI": lambda: nir.CubaLI(tau_syn=3e-3 * one, tau_mem=tau, r=one, v_leak=0.1 * one, w_in=2 * one),
        "Threshold": lambda: nir.Threshold((0.0 if name == "ReLU" else 0.3) * one),
    }
    nodes = [made[primitive]() for primitive in primitives.split()]
    nodes[-1].metadata = {f"ashneuro.{key}": value for key, value in stated.items()}
    return nodes


def network(name):
    """Return 6 inputs → weights → 9 neurons of the kind → weights → 5 of it."""
    rng = np.random.default_rng(0)
    nodes = [
        nir.Input(np.array([6])),
        nir.Affine(rng.normal(0.4, 1.0, (9, 6)), rng.normal(0.1, 0.1, 9)),
        *population(name, 9),
        nir.Linear(rng.normal(0.4, 1.0, (5, 9))),
        *population(name, 5),
        nir.Output(np.array([5])),
    ]
    names = ["input", *(f"n{number}" for number in range(1, len(nodes) - 1)), "output"]
    return nir.NIRGraph(dict(zip(names, nodes, strict=True)), list(pairwise(names)), type_check=False)


def choices(key, default):
    return {stated.get(key, default) for _, stated in KINDS.values()}


def test_every_kind_is_here_and_documented():
    assert choices("dynamics", "lif") == set(DYNAMICS)
    assert choices("message", "spike") == set(get_args(MessageKind)) - {"ternary", "potential"}  # follow from the node
    assert choices("message_activation", "none") == set(get_args(Activation))
    assert choices("reset", "value") == set(get_args(Reset))
    assert choices("comparison", "strict") == set(get_args(Comparison))
    written = (Path(__file__).parents[2] / "docs/nir.md").read_text()
    for _, stated in KINDS.values():
        for key in stated:
            assert f"`ashneuro.{key}`" in written


@pytest.mark.parametrize("name", KINDS)
def test_file_keeps_the_kind(name, tmp_path):
    graph = network(name)
    program = lower(graph, CONTRACT)
    write_graph(tmp_path / "net.nir", graph, CONTRACT)
    read, contract = read_graph(tmp_path / "net.nir")
    write_graph(tmp_path / "again.nir", read, contract)
    for path in ("net.nir", "again.nir"):
        read, contract = read_graph(tmp_path / path)
        assert contract.contract == CONTRACT
        same = compare_programs(program, lower(read, contract))
        assert same.compared > 20 and not same.differing, same.first
    last = program.layers[-1].name
    node, original = read.nodes[last], wire(graph).nodes[last]
    assert nir_type(node) == nir_type(original)
    assert node_message(node) == node_message(original) and node_dynamics(node)[0] == node_dynamics(original)[0]


@pytest.mark.parametrize("name", KINDS)
def test_kind_is_checked_placed_counted_and_priced(name):
    graph = network(name)
    findings = check(graph, CONTRACT, "lava")
    assert not [finding for finding in findings if finding.level == "error"]
    program = quantise(lower(graph, CONTRACT), input_peak={}).program
    x = (np.random.default_rng(1).random((12, 4, 6)) < 0.5).astype(float)
    record = run_program(program, x)
    work = count(program, record)
    counted = {layer.name: layer for layer in work.layers}
    assert all(counted[layer.name].updates for layer in program.layers) and work.total("messages") > 0
    placement = place(program, core_limits(LOIHI2))
    assert all(placement.layer(layer.name).cores for layer in program.layers)
    # No prices of Loihi 2 are complete, and none of Loihi 1 has a payload, but a bracket.
    price = estimate(work.part("deployed"), LOIHI1, deployment=deploy(program, record, LOIHI1))
    binary = all(layer.neuron.message == SPIKE for layer in program.layers)
    assert (price.dynamic_j is not None) == binary
    energy = price.dynamic_j if binary else price.bracketed_j
    assert 0 < energy.low <= energy.high
