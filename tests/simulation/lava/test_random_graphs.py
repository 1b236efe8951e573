"""Random graphs of every supported layer: all simulators agree with the definition.

Float: tests/reference.py, the graph, the lowered program, Lava. Integers: plain Python numbers, the
emulator, Lava. The emulator runs with numpy and with torch.
"""

from collections import Counter
from dataclasses import replace
from itertools import count, islice, product, starmap
from typing import get_args

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashneuro.errors import GraphError
from ashneuro.program.check import check
from ashneuro.program.filters import merged_read_outs, synaptic_filters
from ashneuro.program.lower import lower
from ashneuro.program.primitives import PRIMITIVES
from ashneuro.program.quantise import quantise
from ashneuro.program.wiring import wire
from ashneuro.simulation.emulator.run_graph import run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.inputs import check_inputs
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.units import read_out
from ashneuro.spiking.contract import Contract
from ashneuro.spiking.dynamics import DYNAMICS
from ashneuro.spiking.firing import Comparison, Firing, Reset
from tests.program.networks import define
from tests.simulation import machine_reference
from tests.simulation.random_graphs import damage, draw, seeded

BACKENDS = ("numpy", "torch")
EXAMPLES = settings(max_examples=40, derandomize=True, deadline=None, database=None)


@st.composite
def drawn(pick, integers):
    return draw(lambda options: pick(st.sampled_from(options)), integers=integers)


def names(program):
    return [layer.name for layer in program.layers]


def counting(program):
    return [layer.name for layer in program.layers if layer.neuron.message.kind == "count"]


def peak(case):
    return {"input": float(np.abs(case.inputs["input"]).max())}


def expect_defined(case, program, record):
    """Compare with the definition: spikes exactly, other values up to rounding."""
    wanted = define(case.graph, case.contract, case.inputs)
    for layer in program.layers:
        got = record.layers[layer.name].raster
        if layer.neuron.binary:
            np.testing.assert_array_equal(got, wanted[layer.name], err_msg=layer.name)
        else:
            np.testing.assert_allclose(got, wanted[layer.name], rtol=0, atol=1e-10, err_msg=layer.name)


def expect_exact(case, program, record):
    """Compare all that layers send, and read-outs, with the reference in Python numbers."""
    wanted = machine_reference.run(program, check_inputs(program.inputs, None, case.inputs))
    for layer in program.layers:
        exact = wanted[layer.name] if layer.neuron.binary else read_out(layer, wanted[layer.name], "integer")
        np.testing.assert_array_equal(record.layers[layer.name].raster, exact, err_msg=layer.name)


@EXAMPLES
@given(drawn(integers=False))
def test_float_simulators_agree_with_definition(case):
    program = lower(case.graph, case.contract)
    for backend in BACKENDS:
        expect_defined(
            case, program, run_graph(case.graph, case.contract, case.inputs, rasters=names(program), backend=backend)
        )
        expect_defined(case, program, run_program(program, case.inputs, rasters=names(program), backend=backend))


@EXAMPLES
@given(drawn(integers=True))
def test_integer_emulator_agrees_with_definition(case):
    findings = check(case.graph, case.contract, input_peak=peak(case))
    assert all(finding.ok for finding in findings), [finding for finding in findings if not finding.ok]
    program = quantise(lower(case.graph, case.contract), input_peak=peak(case)).program
    for backend in BACKENDS:
        expect_exact(case, program, run_program(program, case.inputs, rasters=names(program), backend=backend))


def test_emulator_agrees_with_definition_of_imaginary_input():
    # Few drawn graphs have it, and fewer spike because of it.
    found = 0
    for seed in range(500, 570):
        case = draw(seeded(seed), integers=True)
        program = lower(case.graph, case.contract)
        if any(connection.imaginary for _, connection in program.connections()):
            program = quantise(program, input_peak=peak(case)).program
            expect_exact(case, program, run_program(program, case.inputs, rasters=names(program)))
            found += 1
    assert found >= 3


@settings(EXAMPLES, max_examples=250)
@given(st.data(), st.booleans())
def test_damaged_graph_is_refused_or_runs(data, integers):
    """`check` never crashes, and what it passes is computed equally by graph and program."""

    def choose(options):
        return data.draw(st.sampled_from(options))

    case = draw(choose, integers=integers)
    what = [damage(choose, case.graph) for _ in range(choose([1, 2]))]
    findings = check(case.graph, case.contract, "lava" if integers else "nir")
    errors = [finding for finding in findings if not finding.ok]
    assert all(finding.node and finding.sentence and finding.remedy for finding in errors), what
    if errors:
        with pytest.raises(GraphError):
            quantise(lower(case.graph, case.contract), input_peak=peak(case))
        return
    program = lower(case.graph, case.contract)
    wiring = wire(case.graph)  # a damaged Input may have its shape from the nodes behind it
    x = {
        name: np.random.default_rng(0).integers(0, 2, (case.contract.timesteps, 2, *wiring.in_shapes[name]))
        for name in wiring.named("input")
    }
    here = run_graph(case.graph, case.contract, x, rasters=names(program), backend="numpy")
    there = run_program(program, x, rasters=names(program), backend="numpy")
    for name in names(program):
        np.testing.assert_allclose(
            there.layers[name].raster, here.layers[name].raster, rtol=1e-9, atol=1e-8, err_msg=f"{what} {name}"
        )
    if integers:
        quantise(program, input_peak=dict.fromkeys(x, 1.0))


def _sums(program):
    changing = [layer.neuron for layer in program.layers if layer.neuron.changes]
    return {"summed" if np.all(neuron.du == 0) else "not summed" for neuron in changing}


def test_drawn_graphs_cover_every_primitive():
    kinds, rates, sizes = Counter(), [], []
    for seed in range(140):
        case = draw(seeded(seed), integers=False)
        program = lower(case.graph, case.contract)
        wiring = wire(case.graph)
        kinds.update(type(node).__name__ for node in (*case.graph.nodes.values(), *wiring.nodes.values()))
        wanted = define(case.graph, case.contract, case.inputs)
        spiking = [layer for layer in program.layers if layer.neuron.spiking]
        rates += [(wanted[layer.name] != 0).mean() for layer in spiking if layer.neuron.binary]
        sizes += [np.abs(wanted[layer.name]).mean() for layer in spiking if layer.neuron.payload]
        kinds["several spikes"] += any((wanted[name] > 1).any() for name in counting(program))
        lags = {program.lag(layer, connection) for layer, connection in program.connections()}
        kinds["streams" if lags == {0} else "recurrent or delayed"] += 1
        kinds["joins"] += any(
            connection.delay and program.lag(layer, connection) == 0 for layer, connection in program.connections()
        )
        kinds.update(layer.neuron.firing for layer in program.layers if layer.neuron.spiking)
        kinds["filters"] += bool(merged_read_outs(wiring, synaptic_filters(wiring, case.contract)))
        kinds["potential"] += any(layer.neuron.potential for layer in program.layers)
        kinds["graded"] += any(layer.neuron.graded for layer in program.layers)
        kinds["count"] += bool(counting(program))
        kinds.update(f"change, {keep}" for keep in _sums(program))
        kinds.update(layer.neuron.dynamics for layer in program.layers)
        kinds["always on"] += any(port.constant for port in program.inputs)
    features = ("streams", "recurrent or delayed", "joins", "always on", "filters", "graded", "potential")
    features += ("change, summed", "change, not summed", "count", "several spikes")
    assert all(kinds[name] >= 5 for name in (*PRIMITIVES, *features)), kinds
    assert all(kinds[firing] >= 2 for firing in starmap(Firing, product(get_args(Comparison), get_args(Reset), (0, 1))))
    assert all(kinds[dynamics] >= 5 for dynamics in DYNAMICS), kinds
    assert np.mean([0.02 < rate < 0.9 for rate in rates]) > 0.9
    assert np.mean([size > 0.02 for size in sizes]) > 0.9


# ---- Lava: many graphs form one network, so that Lava starts a few times instead of fifty --------


def in_one(programs):
    """Return programs of the same length as one, whose layers are called "0.name", "1.name", …"""
    ports, layers = [], []
    for number, program in enumerate(programs):
        ports += [replace(port, name=f"{number}.{port.name}") for port in program.inputs]
        for layer in program.layers:
            connections = tuple(
                replace(connection, source=f"{number}.{connection.source}") for connection in layer.connections
            )
            layers.append(replace(layer, name=f"{number}.{layer.name}", connections=connections))
    return replace(programs[0], timesteps=None, inputs=tuple(ports), layers=tuple(layers), outputs=())


def run_in_lava(lava, pairs):
    """Yield (case, program, record) for (case, program) pairs of any lengths."""
    groups = {}
    for case, program in pairs:
        streams = all(program.lag(layer, connection) == 0 for layer, connection in program.connections())
        groups.setdefault((case.contract.timesteps, streams), []).append((case, program))
    for members in groups.values():
        for first in range(0, len(members), 15):
            part = members[first : first + 15]
            whole = in_one([program for _, program in part])
            record = lava.run(
                whole, {f"{i}.input": case.inputs["input"] for i, (case, _) in enumerate(part)}, rasters=names(whole)
            )
            for i, (case, program) in enumerate(part):
                own = {layer.name: record.layers[f"{i}.{layer.name}"] for layer in program.layers}
                yield case, program, replace(record, layers=own)


def few_samples(case):
    """Return a case with two samples: loops and delays have a network of their own for each."""
    return replace(case, inputs={name: x[:, :2] for name, x in case.inputs.items()})


def of_length(timesteps, number, *, integers):
    """Return the seeds of the first graphs that run so long: equal lengths make one network."""
    found = (seed for seed in count() if draw(seeded(seed), integers=integers).contract.timesteps == timesteps)
    return tuple(islice(found, number))


def compare_with_lava(floats, integers):
    """Compare graphs by seed, as floats and as integers; return the number of each."""
    drawn = [few_samples(draw(seeded(seed), integers=False)) for seed in floats]
    exact = [few_samples(draw(seeded(seed), integers=True)) for seed in integers]
    counts = Counter()
    with Lava() as lava:
        for case, program, record in run_in_lava(lava, [(case, lower(case.graph, case.contract)) for case in drawn]):
            expect_defined(case, program, record)
            counts["float"] += 1
        for case, program, record in run_in_lava(
            lava, [(c, quantise(lower(c.graph, c.contract), input_peak=peak(c)).program) for c in exact]
        ):
            expect_exact(case, program, record)
            counts["integer"] += 1
    return counts


@pytest.mark.lava
def test_lava_agrees_with_definition():
    seeds = {"floats": of_length(12, 13, integers=False), "integers": of_length(12, 14, integers=True)}
    assert compare_with_lava(**seeds) == {"float": 13, "integer": 14}


@pytest.mark.lava
@pytest.mark.slow
def test_lava_agrees_with_definition_on_many_graphs():
    assert compare_with_lava(floats=range(100, 250), integers=range(100, 250)) == {"float": 150, "integer": 150}


@pytest.mark.lava
def test_lava_runs_unconnected_parts():
    """Lava silently leaves out processes that are not connected with the one it is told to run."""
    lif = nir.LIF(*(np.full(3, value) for value in (5e-3, 1.0, 0.0, 0.1, 0.0)))
    nodes = {name: nir.Input(np.array([3])) for name in ("a", "b")} | {
        "lif a": lif,
        "lif b": lif,
        "to a": nir.Output(None),
        "to b": nir.Output(None),
    }
    graph = nir.NIRGraph(
        nodes, [("a", "lif a"), ("b", "lif b"), ("lif a", "to a"), ("lif b", "to b")], type_check=False
    )
    x = np.random.default_rng(0).uniform(0, 2, (8, 3, 3))
    program = lower(graph, Contract())
    with Lava() as lava:
        record = lava.run(program, {"a": x, "b": x}, rasters=names(program))
    assert record.layers["lif a"].events > 0
    np.testing.assert_array_equal(record.layers["lif a"].raster, record.layers["lif b"].raster)
