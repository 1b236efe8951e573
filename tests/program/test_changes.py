"""Changes (sigma-delta): read from metadata, simulated, lowered, quantised, checked, stored."""

from itertools import pairwise

import nir
import numpy as np
import pytest

from ashneuro.errors import GraphError
from ashneuro.program.check import check
from ashneuro.program.lower import lower
from ashneuro.program.nir_file import read_graph
from ashneuro.program.quantise import quantise
from ashneuro.program.serialise import load_programs, save_programs
from ashneuro.program.wiring import node_message
from ashneuro.simulation.calibrate import calibrate
from ashneuro.simulation.emulator.run_graph import run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.inputs import check_inputs
from ashneuro.simulation.units import read_out
from ashneuro.spiking.contract import Contract
from ashneuro.spiking.message import Message
from tests.program.networks import chain, define, sending
from tests.program.test_messages import alone
from tests.simulation import machine_reference

CONTRACT = Contract(timesteps=10)


def changes(shape, threshold=0.0, **metadata):
    """Return a Threshold that sends changes."""
    return sending(nir.Threshold(np.full(shape, threshold)), "change", **metadata)


def network(threshold=0.0, bias=0.2, cumulative=False, seed=0):
    """Return a delta encoder n0, a conv n3 and a dense n7 with Σ in front of the weights, a Σ."""
    rng = np.random.default_rng(seed)
    relu = {"activation": "relu", "cumulative": cumulative}
    return chain(
        (2, 6, 6),
        changes((2, 6, 6), threshold, cumulative=cumulative),
        nir.I(np.ones((2, 6, 6))),
        nir.Conv2d((6, 6), rng.normal(0, 0.4, (4, 2, 3, 3)), 2, 1, 1, 1, rng.normal(0, bias, 4)),
        changes((4, 3, 3), threshold, **relu),
        nir.I(np.ones((4, 3, 3))),
        nir.Flatten({"input": np.array([4, 3, 3])}, 0, -1),
        nir.Affine(rng.normal(0, 0.3, (7, 36)), rng.normal(0, bias, 7)),
        changes((7,), threshold, **relu),
        nir.Linear(rng.normal(0, 0.3, (3, 7))),
        nir.I(np.ones(3)),
    )


def stream(seed=1, samples=4, steps=10):
    """Return pictures that follow one another: few values change from one to the next."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, 0.5, (steps, samples, 2, 6, 6)) * (rng.random((steps, samples, 2, 6, 6)) < 0.3)
    return np.cumsum(moves, axis=0)


LAYERS = ("n0", "n3", "n7", "n9")


@pytest.mark.parametrize("cumulative", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.25])
def test_graph_and_program_equal_the_definition(threshold, cumulative):
    graph, x = network(threshold, cumulative=cumulative), stream()
    wanted = define(graph, CONTRACT, {"input": x})
    program = lower(graph, CONTRACT)
    assert [layer.name for layer in program.layers] == list(LAYERS)  # the sums are no layers
    records = [run_graph(graph, CONTRACT, x, rasters=LAYERS)]
    records += [run_program(program, x, rasters=LAYERS, backend=backend) for backend in ("numpy", "torch")]
    for record in records:
        for name in LAYERS:
            np.testing.assert_allclose(record.layers[name].raster, wanted[name], rtol=0, atol=1e-12)
    assert len({record.layers["n3"].active_updates for record in records}) == 1
    if threshold:
        plain = define(network(threshold, cumulative=not cumulative), CONTRACT, {"input": x})
        assert (np.abs(plain["n3"] - wanted["n3"]) > 0.1).any()


def ann(graph, x):
    """Return the activations of an ANN with the same weights, for every frame."""
    relu = {"n3": changes((4, 3, 3)), "n7": changes((7,))}
    for node in relu.values():
        node.metadata = {"ashneuro.message": "graded"}
    nodes = {name: relu.get(name, node) for name, node in graph.nodes.items() if name not in ("n0", "n1", "n4", "n9")}
    names = list(nodes)
    return define(nir.NIRGraph(nodes, list(pairwise(names)), type_check=False), CONTRACT, {"input": x})


def test_without_threshold_changes_add_up_to_the_ann():
    graph, x = network(0.0), stream()
    record = run_program(lower(graph, CONTRACT), x, rasters=LAYERS)
    wanted = ann(graph, x)
    for name in ("n3", "n7"):
        sums = record.layers[name].raster.cumsum(axis=0)
        np.testing.assert_allclose(sums, wanted[name], atol=1e-9)
        assert (record.layers[name].raster < 0).any() and (wanted[name] > 0).any()
    np.testing.assert_allclose(record.layers["n9"].raster, wanted["n8"], atol=1e-9)


def test_sums_stay_within_the_threshold():
    x = stream()
    record = run_program(lower(network(0.3), CONTRACT), x, rasters=["n0"])
    gap = np.abs(record.layers["n0"].raster.cumsum(axis=0) - x)
    assert gap.max() < 0.3 and gap.max() > 0.2


def test_still_frames_send_nothing():
    x = np.repeat(stream()[-1:], 10, axis=0)
    record = run_program(lower(network(0.1), CONTRACT), x, rasters=LAYERS)
    for name in ("n0", "n3", "n7"):
        sent = record.layers[name].raster
        assert sent[0].any() and not sent[1:].any()


def test_samples_start_at_rest():
    x, program = stream(), lower(network(0.25), CONTRACT)
    together = run_program(program, x, rasters=LAYERS)
    for sample in range(x.shape[1]):
        alone = run_program(program, x[:, [sample]], rasters=LAYERS)
        for name in LAYERS:
            np.testing.assert_allclose(alone.layers[name].raster[:, 0], together.layers[name].raster[:, sample])


def test_metadata_survive_a_file_and_a_bundle(tmp_path):
    graph, x = network(0.25, cumulative=True), stream()
    graph.metadata = CONTRACT.to_metadata()
    nir.write(tmp_path / "network.nir", graph)
    read, contract = read_graph(tmp_path / "network.nir")
    program = lower(read, contract.contract)
    assert program.layer("n3").neuron.message == Message("change", 16, None, "relu", True)
    integer = calibrate(program, x).program
    save_programs(tmp_path, {"float": program, "integer": integer})
    again = load_programs(tmp_path)
    for one, other in ((lower(graph, CONTRACT), again["float"]), (integer, again["integer"])):
        left, right = (run_program(p, x, rasters=LAYERS) for p in (one, other))
        for name in LAYERS:
            np.testing.assert_array_equal(left.layers[name].raster, right.layers[name].raster)
    # Another reader sees a sum and a threshold.
    kinds = [type(nir.read(tmp_path / "network.nir").nodes[name]) for name in ("n1", "n3")]
    assert kinds == [nir.I, nir.Threshold]


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"bits": 1}, "2 to 16 bits"),
        ({"bits": 17}, "2 to 16 bits"),
        ({"limit": 0.0}, "above 0"),
        ({"activation": "sigmoid"}, "none, relu"),
        ({"cumulative": "yes"}, "true or false"),
    ],
)
def test_unfit_metadata_are_refused(metadata, says):
    with pytest.raises(GraphError, match=says):
        node_message(changes((3,), **metadata))
    findings = check(alone(changes((3,), **metadata)), CONTRACT, "nir")
    assert [finding.rule for finding in findings if not finding.ok] == ["readable_parameters"]


def test_graded_values_have_no_activation():
    node = changes((3,), activation="relu")
    node.metadata["ashneuro.message"] = "graded"
    with pytest.raises(GraphError, match="message_activation"):
        node_message(node)


def rules(graph, target="lava"):
    return {(finding.node, finding.rule) for finding in check(graph, CONTRACT, target) if not finding.ok}


def test_only_a_sum_without_decay_becomes_sigma_delta():
    one = np.ones(3)
    graph = chain((3,), nir.Linear(np.eye(3)), nir.LI(5e-3 * one, one, 0 * one), changes((3,)))
    assert [layer.name for layer in lower(graph, CONTRACT).layers] == ["n1", "n2"]  # it sends its potential
    graph = chain((3,), nir.Linear(np.eye(3)), nir.I(one), changes((3,)))
    assert [layer.name for layer in lower(graph, CONTRACT).layers] == ["n2"]


def test_negative_threshold_is_refused():
    assert rules(chain((3,), changes((3,), -0.1))) == {("n0", "graded_threshold")}


def test_integers_need_one_threshold_per_layer():
    node = changes((3,))
    node.threshold = np.array([0.1, 0.2, 0.3])
    graph = chain((3,), node)
    assert rules(graph) == {("n0", "uniform_graded_threshold")} and not rules(graph, "nir")


def test_loops_need_a_limit():
    for limit, expected in (({}, {("n0", "limit_in_loops")}), ({"limit": 4.0}, set())):
        graph = chain((3,), changes((3,), 0.1, **limit))
        graph.nodes["back"] = nir.Linear(0.3 * np.eye(3))
        graph.edges += [("n0", "back"), ("back", "n0")]
        assert rules(graph) == expected


@pytest.mark.parametrize("cumulative", [False, True])
def test_changes_that_come_back_equal_the_definition(cumulative):
    rng = np.random.default_rng(3)
    nodes = (nir.I(np.ones(3)), nir.Affine(rng.normal(0, 0.5, (4, 3)), rng.normal(0, 0.2, 4)))
    graph = chain((3,), *nodes, changes((4,), 0.2, limit=20.0, activation="relu", cumulative=cumulative))
    graph.nodes |= {"w": nir.Linear(rng.normal(0, 0.3, (3, 4))), "late": nir.Delay(np.full(3, 1e-3))}
    graph.edges += [("n2", "w"), ("w", "late"), ("late", "n0")]
    x = np.cumsum(rng.normal(0, 0.3, (10, 4, 3)), axis=0)
    x = np.diff(x, axis=0, prepend=0)  # the changes of a stream
    wanted = define(graph, CONTRACT, {"input": x})["n2"]
    program = lower(graph, CONTRACT)
    assert any(program.lag(layer, connection) for layer, connection in program.connections())
    for record in (run_graph(graph, CONTRACT, x, rasters=["n2"]), run_program(program, x, rasters=["n2"])):
        np.testing.assert_allclose(record.layers["n2"].raster, wanted, rtol=0, atol=1e-12)
    integer = calibrate(program, x).program
    exact = machine_reference.run(integer, check_inputs(integer.inputs, None, {"input": x}))["n2"]
    for backend in ("numpy", "torch"):
        found = run_program(integer, x, rasters=["n2"], backend=backend).layers["n2"].raster
        np.testing.assert_array_equal(found, read_out(integer.layer("n2"), exact, "integer"))
    assert 0.1 < (exact != 0).mean() < 0.9 and (exact < 0).any()


@pytest.mark.parametrize(("bits", "error"), [(16, 0.02), (8, 0.2)])
def test_integer_sums_are_close_to_float_ones(bits, error):
    graph, x = network(0.0), stream()
    for name in ("n0", "n3", "n7"):
        graph.nodes[name].metadata["ashneuro.message_bits"] = bits
    program = lower(graph, CONTRACT)
    integer = calibrate(program, x).program
    expected, found = (run_program(p, x, rasters=LAYERS) for p in (program, integer))
    for name in ("n3", "n7"):
        message = integer.layer(name).neuron.message
        assert message.bits == bits and message.limit <= message.largest
        left, right = (record.layers[name].raster.cumsum(axis=0) for record in (expected, found))
        assert np.abs(left - right).max() < error * np.abs(left).max()
        sent = found.layers[name].raster * integer.layer(name).scale / 2.0**message.shift
        np.testing.assert_allclose(sent, np.rint(sent), atol=1e-9)
        assert message.largest / 8 < np.abs(sent).max() <= message.largest
    np.testing.assert_allclose(found.layers["n9"].raster, expected.layers["n9"].raster, atol=3 * error)


def test_room_without_samples_is_for_the_largest_input():
    """Without samples the room is that of all inputs of the stated peak: coarse, never short."""
    x = stream()
    peak = float(np.abs(x).max())
    program = lower(network(0.0), CONTRACT)
    integer = quantise(program, input_peak={"input": peak}).program
    worst = np.sign(np.random.default_rng(5).normal(size=x.shape)) * peak
    record = run_program(integer, worst, rasters=LAYERS, traces=["n3", "n7"])
    for name in ("n3", "n7"):
        layer, message = integer.layer(name), integer.layer(name).neuron.message
        sent = record.layers[name].raster * layer.scale / 2.0**message.shift
        assert np.abs(sent).max() <= message.largest
        assert np.abs(record.layers[name].u).max() < 1 << 23


def summed_end(bias):
    """Return `network` with a sum in front of its last weights, and a bias behind them."""
    rng, graph = np.random.default_rng(4), network(0.1)
    nodes = [node for name, node in graph.nodes.items() if name not in ("input", "n8", "n9", "output")]
    end = (nir.I(rng.uniform(0.5, 1.5, 7)), nir.Affine(rng.normal(0, 0.4, (3, 7)), np.full(3, bias)))
    return chain((2, 6, 6), *nodes, *end)


@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_sum_in_front_of_the_last_weights_is_a_read_out(bias):
    graph, x = summed_end(bias), stream()
    wanted = define(graph, CONTRACT, {"input": x})["output"]
    program = lower(graph, CONTRACT)
    assert [layer.name for layer in program.layers] == ["n0", "n3", "n7", "output"] and not rules(graph)
    for record in (run_graph(graph, CONTRACT, x), run_program(program, x)):
        np.testing.assert_allclose(record.layers["output"].raster, wanted, rtol=0, atol=1e-12)
    integer = run_program(calibrate(program, x).program, x).layers["output"].raster
    assert np.abs(integer - wanted).max() < 0.1 * np.abs(wanted).max()


@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_layer_that_never_sends_has_integers(threshold):
    """All weights are 0, or no value comes near the threshold."""
    dead = nir.Affine(np.zeros((4, 3)), np.zeros(4))
    end = nir.Affine(np.eye(4)[:2], np.full(2, 0.5))
    graph = chain((3,), changes((3,)), nir.I(np.ones(3)), dead, changes((4,), threshold), nir.I(np.ones(4)), end)
    program, x = lower(graph, CONTRACT), stream()[..., 0, 0, :3]
    for integer in (quantise(program, input_peak={"input": 4.0}).program, calibrate(program, x).program):
        record = run_program(integer, x, rasters=["n3", "output"])
        assert not record.layers["n3"].raster.any()
        np.testing.assert_allclose(record.layers["output"].raster, 0.5, atol=0.01)


def test_small_units_are_noted():
    """Weights of 255 and changes of 16 bits over many inputs: 24 bits may not hold their sum."""
    graph = chain((400,), changes((400,)), nir.I(np.ones(400)), nir.Linear(np.ones((2, 400))), changes((2,)))
    graph.nodes["n3"].metadata["ashneuro.message_limit"] = 0.1  # far below what the inputs can cause
    found = {
        (finding.node, finding.rule, finding.level) for finding in check(graph, CONTRACT, input_peak={"input": 1.0})
    }
    assert ("n3", "wide_changes", "note") in found
