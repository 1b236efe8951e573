import nir
import numpy as np
import pytest

from ashneuro.errors import GraphError
from ashneuro.program.lower import lower
from ashneuro.simulation.emulator.run_graph import run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.spiking.contract import Contract
from tests import reference
from tests.simulation import graphs

CONTRACT = Contract(dt_s=graphs.DT)
BACKENDS = ["numpy", "torch"]


def draw(shape, timesteps=9, samples=4, seed=0):
    return np.random.default_rng(seed).normal(0.4, 0.8, (timesteps, samples, *shape))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", graphs.GRAPHS)
@pytest.mark.parametrize("seed", [0, 1])
def test_graph_equals_definition(name, seed, backend):
    build, shape = graphs.GRAPHS[name]
    graph, x = build(seed), draw(shape)
    everything = [node for node in graph.nodes if not isinstance(graph.nodes[node], nir.Input)]
    record = run_graph(graph, CONTRACT, x, rasters=everything, backend=backend)
    wanted = reference.run_graph(graph, x, dt=graphs.DT)
    spiking = 0
    for layer, activity in record.layers.items():
        if activity.binary:
            assert activity.raster.dtype == np.uint8
            np.testing.assert_array_equal(activity.raster, wanted[layer])
            spiking += 0 < activity.raster.mean() < 1
        else:
            np.testing.assert_allclose(activity.raster, wanted[layer], rtol=0, atol=1e-12)
    assert spiking == 3 if name == "dense" else spiking == 4
    assert ("output" in record.layers) == (name == "residual")


@pytest.mark.parametrize("name", graphs.GRAPHS)
def test_lowered_program_equals_graph(name):
    build, shape = graphs.GRAPHS[name]
    graph, x = build(3), draw(shape)
    here = run_graph(graph, CONTRACT, x, rasters=list(graph.nodes))
    program = lower(graph, CONTRACT)
    there = run_program(program, x, rasters=list(graph.nodes))
    assert here.layers.keys() == there.layers.keys()
    for layer, activity in here.layers.items():
        np.testing.assert_allclose(there.layers[layer].raster, activity.raster, rtol=0, atol=1e-10)


def neuron(shape=(2,), threshold=1.0, **kwargs):
    return nir.IF(r=np.ones(shape), v_threshold=np.full(shape, threshold), v_reset=np.zeros(shape), **kwargs)


def one(graph, x, contract=CONTRACT, backend="torch"):
    record = run_graph(
        graph, contract, np.asarray(x, float).reshape(-1, 1, 2), rasters=list(graph.nodes), backend=backend
    )
    return {name: activity.raster[:, 0].tolist() for name, activity in record.layers.items()}


@pytest.mark.parametrize("backend", BACKENDS)
def test_self_connection_is_one_step_late(backend):
    """An excitatory neuron of threshold 1 with a self-weight of 1.5 never stops after one input."""
    nodes = {**graphs.ends((2,), (2,)), "if": neuron(), "w": nir.Linear(1.5 * np.eye(2))}
    x = [[2, 0], [0, 0], [0, 0], [0, 0]]
    looped = one(graphs.graph(nodes, "input if output", "if w if"), x, backend=backend)
    assert looped["if"] == [[1, 0]] * 4
    assert one(graphs.graph({**nodes, "w": nir.Linear(0.5 * np.eye(2))}, "input if output", "if w if"), x)["if"] == [
        [1, 0]
    ] + 3 * [[0, 0]]


def test_output_of_loop_is_not_late():
    """The same weights lead back to the neuron one step late, and to another one without delay."""
    nodes = {**graphs.ends((2,), (2,)), "a": neuron(), "w": nir.Linear(1.5 * np.eye(2)), "b": neuron()}
    got = one(graphs.graph(nodes, "input a w a", "w b output"), [[2, 0], [0, 0], [0, 0]])
    assert got == {"a": [[1, 0]] * 3, "b": [[1, 0]] * 3}


@pytest.mark.parametrize("steps", [1, 2])
def test_loop_of_two_neurons_has_its_delay(steps):
    delay = nir.Delay(np.full(2, steps * graphs.DT))
    nodes = {**graphs.ends((2,), (2,)), "a": neuron(), "ab": nir.Linear(2 * np.eye(2)), "b": neuron(), "late": delay}
    graph = graphs.graph({**nodes, "ba": nir.Linear(2 * np.eye(2))}, "input a ab b output", "b late ba a")
    got = one(graph, [[2, 0], *[[0, 0]] * 6])
    assert got["a"] == got["b"] == [[float(t % steps == 0), 0] for t in range(7)]


def test_delay_per_element():
    nodes = {**graphs.ends((2,), (2,)), "late": nir.Delay(np.array([0, 2]) * graphs.DT), "if": neuron()}
    got = one(graphs.graph(nodes, "input late if output"), [[2, 2], [0, 0], [0, 0], [2, 2]])
    assert got["if"] == [[1, 0], [0, 0], [0, 1], [1, 0]]


def test_if_convention():
    nodes = {**graphs.ends((2,), (2,)), "if": neuron(threshold=0.9)}
    graph, x = graphs.graph(nodes, "input if output"), [[1, 1000]] * 2
    assert one(graph, x)["if"] == [[1, 1]] * 2
    assert one(graph, x, Contract(dt_s=1e-3, if_convention="per-second"))["if"] == [[0, 1]] * 2


def test_reset_to_undeployable_value():
    leaky = nir.LIF(
        tau=np.full(2, 2e-3), r=np.ones(2), v_leak=np.zeros(2), v_threshold=np.ones(2), v_reset=np.full(2, -3.0)
    )
    graph = graphs.graph({**graphs.ends((2,), (2,)), "lif": leaky}, "input lif output")
    x = np.full((8, 1, 2), 4.0)
    record = run_graph(graph, CONTRACT, x, rasters=["lif"])
    np.testing.assert_array_equal(record.layers["lif"].raster, reference.run_graph(graph, x, dt=graphs.DT)["lif"])
    assert record.layers["lif"].raster[:, 0, 0].tolist() == [1, 0] * 4
    with pytest.raises(GraphError):
        lower(graph, CONTRACT)


def test_active_updates_counts_neurons_not_at_rest():
    graph = graphs.graph({**graphs.ends((2,), (2,)), "if": neuron(threshold=5)}, "input if output")
    x = np.zeros((4, 1, 2))
    x[1, 0, 0] = 1
    assert run_graph(graph, CONTRACT, x).layers["if"].active_updates == 3


def test_error_lists_all_findings():
    nodes = {**graphs.ends((2,), (2,)), "if": neuron((3,)), "w": nir.Linear(np.full((2, 2), np.nan))}
    with pytest.raises(GraphError, match=r"cannot be simulated\nwhy: (?s:.*)(if \(IF\)|w \(Linear\))"):
        run_graph(graphs.graph(nodes, "input w if output"), CONTRACT, np.zeros((2, 1, 2)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("field", [{"integration": "exponential"}, {"start": "v_reset"}])
def test_contract_conventions(backend, field):
    graph, x = graphs.dense(4), draw((6,), timesteps=20)
    graph.nodes["cuba"].v_reset = np.full(7, -0.3)
    record = run_graph(graph, Contract(dt_s=graphs.DT, **field), x, rasters=["lif1", "cuba", "if"], backend=backend)
    wanted, other = (reference.run_graph(graph, x, dt=graphs.DT, **how) for how in (field, {}))
    for name in ("lif1", "cuba", "if", "li"):
        np.testing.assert_allclose(record.layers[name].raster, wanted[name], rtol=0, atol=1e-12)
    assert (wanted["cuba"] != other["cuba"]).any()


def test_unsupported_reset_is_refused():
    with pytest.raises(GraphError, match="the reset comes 2 steps late"):
        run_graph(graphs.dense(0), Contract(reset_delay=2), draw((6,)))
