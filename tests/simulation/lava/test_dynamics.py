"""Further dynamics: files, proofs, counts, and equality with Lava's own processes."""

from dataclasses import replace
from itertools import pairwise

import nir
import numpy as np
import pytest

from ashneuro.cost.workload import count
from ashneuro.errors import GraphError
from ashneuro.loihi import LARGEST_STATE
from ashneuro.program.bounds import accumulation, largest_adaptation
from ashneuro.program.certificate import OWN_PROCESSES
from ashneuro.program.check import check
from ashneuro.program.lower import lower
from ashneuro.program.nir_file import read_graph
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.quantise import quantise, quantise_unchecked
from ashneuro.program.serialise import load_programs, save_programs
from ashneuro.simulation.emulator.dynamics import STEPS
from ashneuro.simulation.emulator.neurons import population
from ashneuro.simulation.emulator.run_graph import run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.lava.describe import hold_currents
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.proof.certify import certify
from ashneuro.spiking.contract import Contract
from ashneuro.spiking.dynamics import DYNAMICS
from ashneuro.spiking.message import TERNARY
from tests.program.networks import define
from tests.simulation.lava.stock import alone, stock

CONTRACT = Contract(timesteps=12, input_coding="spikes")
KINDS = [name for name in DYNAMICS if name != "lif"]
PAIRS = [
    (kind, primitive)
    for kind in KINDS
    for primitive in ("LIF", "CubaLIF", "IF")
    if primitive != "CubaLIF" or not DYNAMICS[kind].resonates
]
METADATA = {
    "ternary": {"ashneuro.threshold_below": 0.2},
    "refractory": {"ashneuro.refractory_steps": 2},
    "adaptive": {"ashneuro.tau_threshold": 8e-3, "ashneuro.tau_refractory": 6e-3, "ashneuro.threshold_step": 1.0},
    "resonate": {"ashneuro.period": 5.3e-3},
    "izhikevich": {"ashneuro.period": 9e-3},
}


def neurons(kind, size, primitive="LIF", **changed):
    one = np.ones(size)
    rates = {"LIF": {"tau": 4e-3 * one}, "CubaLIF": {"tau_syn": 3e-3 * one, "tau_mem": 4e-3 * one}, "IF": {}}
    leak = {} if primitive == "IF" else {"v_leak": 0 * one}
    node = getattr(nir, primitive)(**rates[primitive], **leak, r=one, v_threshold=0.4 * one, v_reset=0 * one)
    node.metadata = {"ashneuro.dynamics": kind} | METADATA.get(kind, {}) | changed
    return node


def network(kind, primitive="LIF", seed=0, **changed):
    """Return Input → weights → neurons → weights → neurons → Output."""
    rng = np.random.default_rng(seed)
    nodes = {
        "input": nir.Input(np.array([6])),
        "w": nir.Affine(rng.normal(0.4, 1.0, (9, 6)), rng.normal(0.1, 0.1, 9)),
        "a": neurons(kind, 9, primitive, **changed),
        "x": nir.Linear(rng.normal(0.4, 1.0, (5, 9))),
        "b": neurons(kind, 5, primitive, **changed),
        "output": nir.Output(np.array([5])),
    }
    names = list(nodes)
    return nir.NIRGraph(nodes, list(pairwise(names)), type_check=False)


def spikes(seed=1, samples=5):
    return (np.random.default_rng(seed).random((12, samples, 6)) < 0.5).astype(float)


def test_tables_have_every_kind():
    assert set(STEPS) == set(KINDS) == set(METADATA)
    assert {kind.capitalize() for kind in KINDS} <= set(OWN_PROCESSES)


@pytest.mark.parametrize(("kind", "primitive"), PAIRS)
def test_graph_and_program_equal_the_definition(kind, primitive):
    graph, x = network(kind, primitive), spikes()
    wanted = define(graph, CONTRACT, {"input": x})
    lif = define(network("lif", primitive), CONTRACT, {"input": x})
    assert 0.03 < (wanted["a"] != 0).mean() < 0.9 and (wanted["a"] != lif["a"]).any()
    records = [run_graph(graph, CONTRACT, x, rasters=("a", "b"))]
    records += [
        run_program(lower(graph, CONTRACT), x, rasters=("a", "b"), backend=backend) for backend in ("numpy", "torch")
    ]
    for record in records:
        for name in ("a", "b"):
            np.testing.assert_array_equal(record.layers[name].raster, wanted[name])
    assert len({record.layers["a"].active_updates for record in records}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_file_and_bundle_keep_the_kind(kind, tmp_path):
    graph, x = network(kind), spikes()
    graph.metadata = CONTRACT.to_metadata()
    nir.write(tmp_path / "net.nir", graph)
    read, contract = read_graph(tmp_path / "net.nir")
    assert contract.contract == CONTRACT
    program = lower(read, CONTRACT)
    integer = quantise(program, input_peak={}).program
    save_programs(tmp_path, {"float": program, "integer": integer})
    again = load_programs(tmp_path)
    for one, other in ((lower(graph, CONTRACT), again["float"]), (integer, again["integer"])):
        left, right = (run_program(p, x, rasters=("b",)).layers["b"].raster for p in (one, other))
        np.testing.assert_array_equal(left, right)
        assert other.layers[0].neuron.dynamics == kind


@pytest.mark.lava
@pytest.mark.parametrize(("kind", "primitive"), [pair for pair in PAIRS if pair[1] != "IF"])
def test_kind_is_proved_in_lava(kind, primitive):
    graph, x = network(kind, primitive), spikes(samples=7)
    program = lower(graph, CONTRACT)
    programs = {"float": program, "integer": quantise(program, input_peak={}).program}
    certificate = certify(graph, CONTRACT, programs, x).certificate
    assert certificate.passed, certificate
    assert certificate.own_processes == {"a": kind.capitalize(), "b": kind.capitalize()}
    assert any(f"process {kind.capitalize()}" in sentence for sentence in certificate.not_compared)


@pytest.mark.parametrize("kind", KINDS)
def test_update_counts_the_further_state(kind):
    x = spikes()
    programs = [quantise(lower(network(name), CONTRACT), input_peak={}).program for name in ("lif", kind)]
    lif, other = (
        next(layer for layer in count(program, run_program(program, x)).layers if layer.name == "a")
        for program in programs
    )
    dynamics = DYNAMICS[kind]
    assert other.updates == lif.updates
    assert other.state_variables == lif.state_variables + len(dynamics.state)
    # The bias of a resonator comes over a line that is always on.
    assert other.update_adds == lif.update_adds + dynamics.adds - dynamics.resonates
    assert other.update_multiplies == lif.update_multiplies + dynamics.multiplies


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"ashneuro.dynamics": "bursting"}, "readable_parameters"),
        ({"ashneuro.refractory_steps": None}, "readable_parameters"),
        ({"ashneuro.refractory_steps": "two"}, "readable_parameters"),
        ({"ashneuro.refractory_steps": 0}, "dynamics_parameters"),
        ({"ashneuro.refractory_steps": 1.5}, "dynamics_parameters"),
        ({"ashneuro.refractory_steps": np.ones(4)}, "dynamics_parameters"),
        ({"ashneuro.threshold_below": 0.0}, "dynamics_parameters"),
        ({"ashneuro.threshold_below": 1.0, "ashneuro.reset": "subtract"}, "dynamics_firing"),
        ({"ashneuro.threshold_below": 1.0, "ashneuro.message": "count"}, "readable_parameters"),
        ({"ashneuro.reset": "subtract"}, "dynamics_firing"),
        ({"ashneuro.comparison": "inclusive"}, "dynamics_firing"),
    ],
)
def test_unfit_metadata_is_refused(changed, rule):
    graph = network("ternary" if "ashneuro.threshold_below" in changed else "refractory", **changed)
    assert rule in {finding.rule for finding in check(graph, CONTRACT, "nir") if not finding.ok}
    with pytest.raises(GraphError):
        run_graph(graph, CONTRACT, spikes())


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"ashneuro.tau_threshold": 1e-4}, "dynamics_parameters"),
        ({"ashneuro.threshold_step": -0.1}, "dynamics_parameters"),
        ({"ashneuro.threshold_step": None}, "readable_parameters"),
        ({"ashneuro.reset": "value"}, "dynamics_firing"),
        ({"v_reset": -0.1}, "dynamics_firing"),
        ({"v_leak": -0.1, "v_reset": -0.1}, "dynamics_firing"),
        ({"v_threshold": 0.0}, "dynamics_firing"),
    ],
)
def test_unfit_adaptive_neuron_is_refused(changed, rule):
    numbers = {name: changed.pop(name) for name in list(changed) if not name.startswith("ashneuro.")}
    graph = network("adaptive", **changed)
    for name, value in numbers.items():
        setattr(graph.nodes["a"], name, np.full(9, value))
    assert rule in {finding.rule for finding in check(graph, CONTRACT, "nir") if not finding.ok}
    with pytest.raises(GraphError):
        run_graph(graph, CONTRACT, spikes())


def test_adaptive_state_stays_within_24_bits():
    """With 400 spikes at once per neuron, weights would fill 8 bits at a scale that overflows."""
    rng = np.random.default_rng(0)
    nodes = {
        "input": nir.Input(np.array([400])),
        "w": nir.Linear(rng.uniform(0.5, 1.0, (9, 400))),
        "a": neurons("adaptive", 9, **{"ashneuro.tau_refractory": 0.5}),
        "output": nir.Output(np.array([9])),
    }
    graph = nir.NIRGraph(nodes, list(pairwise(nodes)), type_check=False)
    program = lower(graph, Contract(timesteps=100, input_coding="spikes"))
    result = quantise(program, input_peak={})
    (layer,) = result.program.layers
    assert 0.5 * LARGEST_STATE < largest_adaptation(result.program, layer) <= LARGEST_STATE
    currents = (np.random.default_rng(1).random((100, 9)) < 0.7) * np.int32(accumulation(result.program, layer)[1])
    neurons_of, more, reached = population(layer, "integer", np, np.asarray), (), 0
    u, v = np.zeros((2, 1, 9), np.int32)
    for a in currents[:, None, None]:
        steps = neurons_of.run(u, v, a, None, more)
        u, v, more = steps.u, steps.v, steps.more
        reached = max(reached, *(int(values.max()) for values in more))
    assert 0.1 * largest_adaptation(result.program, layer) < reached <= largest_adaptation(result.program, layer)
    larger = quantise_unchecked(program, {}, {"a": 2 * layer.scale}).findings
    assert "adaptation_in_range" in {finding.rule for finding in larger if not finding.ok}


def test_read_out_with_dynamics_is_refused():
    node = nir.LI(4e-3 * np.ones(6), np.ones(6), np.zeros(6))
    node.metadata = {"ashneuro.dynamics": "refractory", "ashneuro.refractory_steps": 2}
    nodes = {"input": nir.Input(np.array([6])), "li": node, "output": nir.Output(np.array([6]))}
    graph = nir.NIRGraph(nodes, [("input", "li"), ("li", "output")], type_check=False)
    assert "readable_parameters" in {finding.rule for finding in check(graph, CONTRACT, "nir") if not finding.ok}


def test_integers_need_one_value_per_population():
    graph = network("refractory", **{"ashneuro.refractory_steps": 2})
    graph.nodes["a"].metadata["ashneuro.refractory_steps"] = np.array([1, 2, 3] * 3)
    assert not [finding for finding in check(graph, CONTRACT, "nir") if not finding.ok]
    assert "uniform_parameters" in {finding.rule for finding in check(graph, CONTRACT, "lava") if not finding.ok}


def complex_network(kind, nested=False):
    """Return a graph with weights for both parts of "a"; "b" feeds its own imaginary part."""
    graph = network(kind)
    rng = np.random.default_rng(3)
    graph.nodes |= {"y": nir.Affine(rng.normal(0.4, 1.0, (9, 6)), rng.normal(0, 0.2, 9))}
    edges = [*graph.edges, ("input", "y"), ("y", "a"), ("b", "b")]
    graph.nodes["a"].metadata["ashneuro.imaginary"] = "y"
    graph.nodes["b"].metadata["ashneuro.imaginary"] = "b"
    if nested:
        ends = {"in": nir.Input(np.array([6])), "out": nir.Output(np.array([9]))}
        graph.nodes["y"] = nir.NIRGraph(ends | {"w": graph.nodes["y"]}, [("in", "w"), ("w", "out")], type_check=False)
    return nir.NIRGraph(graph.nodes, edges, type_check=False)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", ["resonate", "izhikevich"])
def test_imaginary_input_equals_the_definition(kind, nested, tmp_path):
    graph, x = complex_network(kind, nested), spikes()
    wanted, without = define(graph, CONTRACT, {"input": x}), define(network(kind), CONTRACT, {"input": x})
    assert (wanted["a"] != without["a"]).any() and wanted["b"].any()
    nir.write(tmp_path / "net.nir", graph)
    graph, _ = read_graph(tmp_path / "net.nir")
    program = lower(graph, CONTRACT)
    records = [run_graph(graph, CONTRACT, x, rasters=("a", "b"), backend=backend) for backend in ("numpy", "torch")]
    records += [run_program(program, x, rasters=("a", "b"), backend=backend) for backend in ("numpy", "torch")]
    for record in records:
        for name in ("a", "b"):
            np.testing.assert_array_equal(record.layers[name].raster, wanted[name])


@pytest.mark.lava
@pytest.mark.parametrize("kind", ["resonate", "izhikevich"])
def test_imaginary_input_is_proved_in_lava(kind):
    graph, x = complex_network(kind), spikes(samples=6)
    program = lower(graph, CONTRACT)
    programs = {"float": program, "integer": quantise(program, input_peak={}).program}
    certificate = certify(graph, CONTRACT, programs, x).certificate
    assert certificate.passed, certificate


@pytest.mark.parametrize(
    ("kind", "names"), [("resonate", "z"), ("resonate", "w, z"), ("resonate", "input"), ("lif", "w"), ("adaptive", "w")]
)
def test_wrong_imaginary_input_is_refused(kind, names):
    graph = network(kind, **{"ashneuro.imaginary": names})
    assert "imaginary_input" in {finding.rule for finding in check(graph, CONTRACT, "nir") if not finding.ok}
    unreadable = network(kind, **{"ashneuro.imaginary": 3.0})
    assert "readable_parameters" in {finding.rule for finding in check(unreadable, CONTRACT, "nir") if not finding.ok}


# ---- Lava's own processes, without a reset between samples --------------------------------------


@pytest.mark.lava
def test_refractory_equals_lavas_process(tmp_path):
    rng, size = np.random.default_rng(0), 300
    currents, bias = rng.normal(0.3, 1.0, (60, size)), rng.normal(0, 0.1, size)
    parameters = {"du": 0.3, "dv": 0.17, "vth": 1.1, "bias_mant": bias, "refractory_period": 3}
    wanted = stock(tmp_path, "LIFRefractory", "floating_pt", currents, parameters)
    du, dv, threshold, steps = (np.asarray(value) for value in (0.3, 0.17, 1.1, 3))
    neuron = Neuron(du, dv, threshold, bias, dynamics="refractory", parameters={"refractory_steps": steps})
    record = run_program(alone(neuron, size, "float"), currents[:, None], rasters=("a",), backend="numpy")
    assert 0.05 < wanted.mean() < 0.5
    np.testing.assert_array_equal(record.layers["a"].raster[:, 0], wanted)


@pytest.mark.lava
@pytest.mark.parametrize("precision", ["float", "integer"])
def test_adaptive_equals_lavas_process(precision, tmp_path):
    rng, size = np.random.default_rng(0), 300
    fixed = precision == "integer"
    if fixed:
        currents, bias = rng.integers(-300, 500, (60, size)).astype(np.int32), rng.integers(-40, 40, size)
        du, dv, threshold, names = 1200, 700, 400, {"d_threshold": 300, "d_refractory": 900, "threshold_step": 250}
    else:
        currents, bias = rng.normal(0.3, 1.0, (60, size)), rng.normal(0, 0.1, size)
        du, dv, threshold, names = 0.3, 0.17, 1.1, {"d_threshold": 0.07, "d_refractory": 0.22, "threshold_step": 0.6}
    one = 4096 if fixed else 1
    parameters = {"delta_i": du / one, "delta_v": dv / one, "bias_mant": bias, "bias_exp": 3 if fixed else 0}
    parameters |= {"delta_theta": names["d_threshold"] / one, "delta_r": names["d_refractory"] / one}
    parameters |= {"theta": threshold, "theta_0": threshold, "theta_step": names["threshold_step"]}
    tag = "fixed_pt" if fixed else "floating_pt"
    wanted = stock(tmp_path, "ATRLIF", tag, currents, parameters)
    own = {name: np.asarray(value) for name, value in names.items()}
    neuron = Neuron(*map(np.asarray, (du, dv, threshold, bias)), 3 if fixed else 0, dynamics="adaptive", parameters=own)
    for backend in ("numpy", "torch"):
        record = run_program(alone(neuron, size, precision), currents[:, None], rasters=("a",), backend=backend)
        np.testing.assert_array_equal(record.layers["a"].raster[:, 0], wanted)
    assert 0.05 < wanted.mean() < 0.5


@pytest.mark.lava
@pytest.mark.parametrize("precision", ["float", "integer"])
@pytest.mark.parametrize("kind", ["resonate", "izhikevich"])
def test_resonators_equal_lavas_process(kind, precision, tmp_path):
    """Complex input, as two synapses of one weight per neuron bring it from two analog inputs."""
    rng, size, fixed = np.random.default_rng(0), 200, precision == "integer"
    period, alpha, steps = 7.3, 0.06, 80
    values = rng.integers(-100, 100, (steps, 2, size)) if fixed else rng.normal(0.0, 0.5, (steps, 2, size))
    currents = values.astype(np.int32 if fixed else float)
    threshold = 170 if fixed else 0.9
    exponents = {"state_exp": 6, "decay_bits": 12} if fixed else {}
    tag = "fixed_pt" if fixed else "floating_pt"
    parameters = {"period": period, "alpha": alpha, "vth": threshold, **exponents}
    wanted = stock(tmp_path, {"resonate": "RF", "izhikevich": "RF_IZ"}[kind], tag, currents, parameters)
    graph = network(kind, **{"ashneuro.period": period * 1e-3})
    graph.nodes["a"].tau = np.full(9, 1e-3 / alpha)
    program = lower(graph, CONTRACT)
    program = quantise(program, input_peak={}).program if fixed else program
    neuron = replace(program.layers[0].neuron, v_threshold=np.asarray(threshold), v_unit=np.ones(()))
    one = Synapse("scale", (size,), (size,), np.ones((), np.int32 if fixed else float))
    ports = tuple(InputPort(name, (size,), "graded", limit=100) for name in ("x", "y"))
    connections = (Connection("x", one), Connection("y", one, imaginary=True))
    layer = Layer("a", (size,), neuron, connections, 1)
    program = Program(precision, 1e-3, None, ports, (layer,), ("a",))
    inputs = {name: currents[:, None, part].astype(float) for part, name in enumerate(("x", "y"))}
    for backend in ("numpy", "torch"):
        record = run_program(program, inputs, rasters=("a",), backend=backend)
        np.testing.assert_array_equal(record.layers["a"].raster[:, 0], wanted)
    with Lava() as lava:
        np.testing.assert_array_equal(lava.run(program, inputs, rasters=["a"]).layers["a"].raster[:, 0], wanted)
    assert 0.02 < wanted.mean() < 0.5


@pytest.mark.lava
@pytest.mark.parametrize("precision", ["float", "integer"])
def test_ternary_equals_lavas_process(precision, tmp_path):
    rng, size = np.random.default_rng(0), 300
    fixed = precision == "integer"
    if fixed:
        currents, bias = rng.integers(-400, 450, (60, size)).astype(np.int32), rng.integers(-40, 40, size)
        du, dv, threshold, below = 1200, 700, 900, 640
    else:
        currents, bias = rng.normal(0.1, 1.0, (60, size)), rng.normal(0, 0.1, size)
        du, dv, threshold, below = 0.3, 0.17, 2.1, 1.6
    parameters = {"du": du, "dv": dv, "vth_hi": threshold, "vth_lo": -below, "bias_mant": bias}
    parameters |= {"bias_exp": 3 if fixed else 0}
    wanted = stock(tmp_path, "TernaryLIF", "fixed_pt" if fixed else "floating_pt", currents, parameters)
    own = {"threshold_below": np.asarray(below)}
    values = map(np.asarray, (du, dv, threshold, bias))
    neuron = Neuron(*values, 3 if fixed else 0, message=TERNARY, dynamics="ternary", parameters=own)
    for backend in ("numpy", "torch"):
        record = run_program(alone(neuron, size, precision), currents[:, None], rasters=("a",), backend=backend)
        np.testing.assert_array_equal(record.layers["a"].raster[:, 0], wanted)
    assert all(0.05 < (wanted == sign).mean() < 0.5 for sign in (-1, 1))


def test_ternary_messages_are_added_and_carry_two_bits():
    x = spikes()
    program = quantise(lower(network("ternary"), CONTRACT), input_peak={}).program
    record = run_program(program, x, rasters=("a", "b"))
    rows = {row.name: row for row in count(program, record).layers}
    sent = record.layers["a"].raster
    assert set(np.unique(sent)) == {-1, 0, 1}
    messages = int(np.count_nonzero(sent))
    assert (rows["a"].spikes, rows["a"].graded_messages, rows["a"].payload_bits) == (0, messages, 2 * messages)
    fan_out = np.count_nonzero(program.layer("b").connections[0].synapse.weight, axis=0)
    synops = int((np.count_nonzero(sent, axis=(0, 1)) * fan_out).sum())
    assert (rows["b"].effective_macs, rows["b"].effective_acs) == (0, synops)


def test_ternary_neurons_spike_on_both_sides_of_their_start():
    graph = network("ternary")
    graph.nodes["a"].v_threshold[2] = 0.0
    assert "dynamics_firing" in {finding.rule for finding in check(graph, CONTRACT, "nir") if not finding.ok}


@pytest.mark.parametrize("integer", [False, True])
def test_held_ternary_neurons_stay_within_half_a_unit(integer):
    """Before its sample arrives, no bias makes a deep layer spike, on either side."""
    rng, size = np.random.default_rng(0), 40
    bias = rng.integers(-4096, 4096, size) if integer else rng.normal(0, 3, size)
    du, dv = (900, 30) if integer else (0.2, 0.01)
    own = {"threshold_below": np.asarray(1 if integer else 1e-6)}
    values = map(np.asarray, (du, dv, 1 if integer else 1e-6, bias))
    neuron = Neuron(*values, 2 if integer else 0, message=TERNARY, dynamics="ternary", parameters=own)
    layer = Layer("a", (size,), neuron, (), 9)
    currents = hold_currents(layer, integer)
    assert currents.shape == (9, size)
    held, free = (
        population(layer, "integer" if integer else "float", np, np.asarray).run(
            *np.zeros((2, 1, size), currents.dtype), given.copy()
        )
        for given in (currents[:, None], 0 * currents[:, None])
    )
    assert not held.sent.any() and free.sent.any()
