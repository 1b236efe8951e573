"""Networks written for SANA-FE, read again by the grammar of its netlists."""

from __future__ import annotations

import ast
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from ashneuro.errors import AshneuroError, GraphError, MissingDependency
from ashneuro.program.assumption import Assumption, from_json
from ashneuro.program.placement.place import place
from ashneuro.program.program import Connection
from ashneuro.program.synapse import matrix
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.sanafe import environment
from ashneuro.simulation.sanafe.netlist import core_of, write_network
from tests.simulation.sanafe import nets

LAYERS = ("first layer", "a", "b", "join", "out")
TALL = 4  # rows of tiles of SANA-FE's Loihi, whose tile t lies at column t / 4 and row t % 4


class Netlist:
    """A netlist, read line by line: groups, neurons, edges and cores."""

    def __init__(self, text):
        self.groups, self.neurons, self.edges, self.cores = [], {}, [], {}
        for line in text.splitlines():
            kind, *fields = line.split(maxsplit=2)
            if kind == "g":
                size, *rest = fields
                self.groups.append((int(size), attributes(rest)))
            elif kind == "n":
                self.neurons[address(fields[0])] = attributes(fields[1:])
            elif kind == "e":
                source, target = fields[0].split("->")
                self.edges.append((address(source), address(target), attributes(fields[1:])))
            elif kind == "&":
                neuron, place = fields[0].split("@")
                self.cores[address(neuron)] = tuple(map(int, place.split(".")))
            else:
                assert kind == "#"


def address(text):
    group, neuron = text.split(".")
    return int(group), int(neuron)


def attributes(rest):
    if rest and rest[0].startswith("{"):
        return json.loads(rest[0])
    return {} if not rest else dict(re.findall(r"(\w+)=(\S+)", rest[0]))


@pytest.fixture(params=["spikes", "current"])
def written(request, tmp_path):
    coding = request.param
    program, samples = nets.program(coding=coding), nets.inputs(coding=coding)
    placement = place(program, nets.LIMITS)
    write_network(tmp_path / "net", program, placement, samples)
    netlist = Netlist((tmp_path / "net" / "network.net").read_text())
    return program, placement, samples, netlist, tmp_path / "net"


def test_weights_and_delays_are_those_of_the_program(written):
    program, _, _, netlist, _ = written
    sizes = {name: program.layer(name).size for name in LAYERS}
    first = {"in": len(LAYERS)}
    for target, layer in enumerate(program.layers):
        for delay in (0, 1):
            wanted = {}
            for connection in layer.connections:
                if connection.synapse is not None and connection.delay == delay:
                    wanted[connection.source] = matrix(connection.synapse).toarray() * 2.0**connection.weight_exp
            for source, weights in wanted.items():
                found = np.zeros_like(weights)
                for (group, neuron), (other, row), own in netlist.edges:
                    if other != target or int(own.get("delay", 0)) != delay:
                        continue
                    # A line of the input is a group of its own.
                    if source == "in" and group >= first["in"]:
                        found[row, group - first["in"]] += float(own["w"])
                    elif source != "in" and group == LAYERS.index(source):
                        found[row, neuron] += float(own["w"])
                np.testing.assert_array_equal(found, weights)
                assert weights.any() and weights.shape[0] == sizes[layer.name]


def test_every_neuron_is_on_its_core(written):
    program, placement, _, netlist, _ = written
    seen = set()
    for group, layer in enumerate(program.layers):
        for neuron, core in enumerate(core_of(placement.layer(layer.name)).tolist()):
            tile, offset = netlist.cores[group, neuron]
            _, column, row = placement.tile(core)
            assert (tile // TALL, tile % TALL) == (column, row)
            assert offset == core % 4
            seen.add((tile, offset))
    assert len(seen) == placement.cores
    lines = [netlist.cores[key] for key in netlist.cores if key[0] >= len(LAYERS)]
    assert not seen & set(lines)  # inputs lie on cores of their own
    assert len(lines) == (72 if program.inputs[0].coding == "spikes" else 0)


def test_neurons_have_the_units_of_sanafe(written):
    program, _, _, netlist, folder = written
    plan = json.loads((folder / "plan.json").read_text())
    for group, layer in enumerate(program.layers):
        size, own = netlist.groups[group]
        assert size == layer.size
        assert float(own["threshold"]) == (float(layer.neuron.v_threshold) if layer.neuron.spiking else 1e9)
        assert float(own["leak_decay"]) == (4096 - float(layer.neuron.dv)) / 4096
        bias = np.broadcast_to(layer.neuron.bias << 2, layer.shape).ravel() / 64
        found = [float(netlist.neurons.get((group, index), {}).get("bias", 0)) for index in range(size)]
        np.testing.assert_array_equal(found, bias)
        assert plan["layers"][group]["bias"] == bias.tolist()
        assert plan["layers"][group]["depth"] == layer.depth
    assert netlist.groups[3][1]["synapse_hw_name"] == "loihi_conv_synapse"  # most of its synapses
    assert netlist.groups[4][1]["synapse_hw_name"] == "loihi_dense_synapse"


def test_inputs_follow_one_another(written):
    program, _, samples, netlist, folder = written
    plan = json.loads((folder / "plan.json").read_text())
    assert (plan["samples"], plan["timesteps"], plan["depth"]) == (3, 7, program.depth)
    lines = samples.swapaxes(0, 1).reshape(21, -1)
    if program.inputs[0].coding == "spikes":
        found = [netlist.neurons[len(LAYERS) + line, 0]["spikes"] for line in range(72)]
        np.testing.assert_array_equal(np.array(found).T, lines)
        units = [netlist.groups[len(LAYERS) + line][1]["soma_hw_name"] for line in range(72)]
        assert len(set(units)) == 72  # a unit holds one line
        assert not plan["currents"]
    else:
        found = np.fromfile(folder / "currents.f64", "<f8").reshape(21, 72)
        np.testing.assert_array_equal(found, np.clip(np.rint(50 * lines), -400, 400))


def test_files_name_what_was_assumed(tmp_path):
    program, samples = nets.program(coding="spikes"), nets.inputs(coding="spikes")
    found = (Assumption("reset", "value", ("a",)), Assumption("dt_s", 1e-3, ("a", "b")))
    for assumed, said in ((found, "# assuming reset = value, dt = 0.001 s\n"), ((), ""), (None, "# assumptions not")):
        write_network(tmp_path / "net", replace(program, assumptions=assumed), place(program, nets.LIMITS), samples)
        first = (tmp_path / "net" / "network.net").read_text().splitlines(keepends=True)[0]
        assert first.startswith(said or "# 0: ")
        plan = json.loads((tmp_path / "net" / "plan.json").read_text())
        assert from_json(plan["assumptions"]) == assumed


def test_script_needs_the_standard_library_alone(written):
    tree = ast.parse((written[-1] / "run_sanafe.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names - {"sanafe"} <= sys.stdlib_module_names | {"importlib.metadata"}


def test_networks_beyond_the_model_are_refused(tmp_path):
    from dataclasses import replace

    program = nets.program(coding="current")
    late = replace(program.layers[3].connections[1], delay=6)
    again = Connection("a", nets.dense(np.random.default_rng(0), (3, 3, 3), (3, 3, 3)))
    changes = {
        "late": (3, {"connections": (program.layers[3].connections[0], late), "depth": 8}),
        "reset": (1, {"neuron": replace(program.layers[1].neuron, firing=nets.Firing(reset_delay=1))}),
        "refractory": (1, {"neuron": replace(program.layers[1].neuron, dynamics="refractory")}),
        "recurrent": (1, {"connections": (*program.layers[1].connections, again)}),
        "CubaLIF": (0, {"neuron": replace(program.layers[0].neuron, du=np.array(1000, np.int32))}),
    }
    for words, (index, fields) in changes.items():
        layers = list(program.layers)
        layers[index] = replace(layers[index], **fields)
        broken = replace(program, layers=tuple(layers))
        with pytest.raises(GraphError) as error:
            write_network(tmp_path / words, broken, place(program, nets.LIMITS), nets.inputs(coding="current"))
        assert error.value.do and not (tmp_path / words).exists(), words
    ports = (replace(program.inputs[0], coding="graded"),)
    with pytest.raises(GraphError, match="analog value"):
        write_network(
            tmp_path / "g", replace(program, inputs=ports), place(program, nets.LIMITS), nets.inputs(coding="current")
        )
    small = replace(nets.LIMITS, cores_per_chip=3)
    with pytest.raises(GraphError, match="128 cores"):
        write_network(tmp_path / "s", program, place(program, small), nets.inputs(coding="current"))


def test_missing_sanafe_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv(environment.PYTHON_VARIABLE, "/nowhere/python")
    with pytest.raises(MissingDependency) as error:
        environment.find_environment()
    assert environment.SETUP in error.value.do
    monkeypatch.delenv(environment.PYTHON_VARIABLE)
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(MissingDependency, match="not installed") as error:
        environment.find_environment()
    assert error.value.do == environment.SETUP


RUNS = {
    "LIF": ("spikes", {}),
    "IF": ("current", {"dv": 0}),
    "reset by subtraction": ("spikes", {"firing": nets.SUBTRACT}),
    "inclusive": ("current", {"firing": nets.INCLUSIVE}),
}


@pytest.mark.sanafe
@pytest.mark.parametrize("kind", RUNS)
def test_sanafe_computes_the_same_spikes(kind, tmp_path):
    from ashneuro.program.placement.route import traffic
    from ashneuro.simulation.sanafe.run import compare_spikes, run

    coding, options = RUNS[kind]
    program = nets.program(coding=coding, **options)
    samples = nets.inputs(coding=coding)
    placement = place(program, nets.LIMITS)
    write_network(tmp_path, program, placement, samples)
    found = run(tmp_path, program)
    record = run_program(program, samples, rasters=LAYERS)
    for layer in compare_spikes(record, found):
        assert layer.mismatches == 0, layer
        assert layer.largest is not None or 0 < layer.spikes < layer.compared, layer
    counts = {name: own.counts for name, own in record.layers.items()}
    counts["out"] = np.zeros_like(counts["out"])
    assert dict(found.traffic) == traffic(program, placement, counts)
    events = {**{name: record.inputs[name].counts for name in record.inputs}, **counts}
    synops = sum(
        int((matrix(c.synapse).getnnz(axis=0) * events[c.source].ravel()).sum())
        for _, c in program.connections()
        if c.synapse is not None
    )
    assert found.synops == synops
    injected = found.injected_j > 0 and found.injected_messages > 0
    assert injected == (coding == "spikes")
    assert found.energy_j["total"] == pytest.approx(
        sum(found.energy_j[part] for part in ("synapse", "dendrite", "soma", "network"))
    )


@pytest.mark.sanafe
def test_cubalif_differs_by_rounding_alone(tmp_path):
    # SANA-FE keeps the fractions of u: of a few thousand spikes some fall otherwise, not many.
    from ashneuro.simulation.sanafe.run import compare_spikes, run

    program, samples = nets.program(du=1500), nets.inputs(samples=8)
    write_network(tmp_path, program, place(program, nets.LIMITS), samples)
    layers = compare_spikes(run_program(program, samples, rasters=LAYERS), run(tmp_path, program))
    spiking = [layer for layer in layers if layer.largest is None]
    wrong, compared = sum(layer.mismatches for layer in spiking), sum(layer.compared for layer in spiking)
    assert wrong <= 0.01 * compared and sum(layer.spikes for layer in spiking) > 500


@pytest.mark.sanafe
def test_failure_of_sanafe_is_an_error_without_traceback(tmp_path):
    from ashneuro.simulation.sanafe.run import run

    program = nets.program()
    write_network(tmp_path, program, place(program, nets.LIMITS), nets.inputs())
    (tmp_path / "network.net").write_text("nonsense\n")
    with pytest.raises(AshneuroError) as error:
        run(tmp_path, program)
    assert error.value.do and "Traceback" not in str(error.value)
