"""Graded messages: read from node metadata, lowered, quantised, checked, stored."""

from dataclasses import replace

import nir
import numpy as np
import pytest

from ashneuro.errors import GraphError
from ashneuro.program.check import check
from ashneuro.program.lower import lower
from ashneuro.program.nir_file import read_graph
from ashneuro.program.quantise import default_scales, quantise
from ashneuro.program.rules.loihi import check_program
from ashneuro.program.serialise import load_programs, save_programs
from ashneuro.program.wiring import node_message
from ashneuro.simulation.calibrate import calibrate
from ashneuro.simulation.emulator.run_graph import run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.spiking.contract import Contract
from ashneuro.spiking.message import SPIKE, Message
from tests.program import networks as net


def graded(shape, threshold=0.0, **metadata):
    """Return a Threshold that sends values."""
    return net.sending(nir.Threshold(np.full(shape, threshold)), "graded", **metadata)


def counting(shape, **metadata):
    """Return an IF that sends spike counts."""
    node = nir.IF(np.ones(shape), np.full(shape, 0.5), np.zeros(shape))
    net.sending(node, "count", **metadata).metadata["ashneuro.reset"] = "subtract"
    return node


def spikes(message=None, **metadata):
    """Return a Threshold that sends spikes, with metadata of a payload."""
    node = graded((3,), **metadata)
    del node.metadata["ashneuro.message"]
    node.metadata |= {} if message is None else {"ashneuro.message": message}
    return node


def alone(node):
    """Return the graph Input → node → Output; the node may be unreadable."""
    nodes = {"input": nir.Input(np.array([3])), "n0": node, "output": nir.Output(np.array([3]))}
    return nir.NIRGraph(nodes, [("input", "n0"), ("n0", "output")], type_check=False)


def network(**metadata):
    rng = np.random.default_rng(2)
    nodes = [
        net.affine(12, 16, rng, gain=1.0),
        graded((16,), **metadata),
        net.affine(16, 16, rng, gain=1.0),
        graded((16,), 0.3, **metadata),
        net.affine(16, 5, rng),
        net.lif((5,), rng, uniform=True),
    ]
    return net.chain((12,), *nodes)


def values(seed=1):
    return {"input": net.analog(np.random.default_rng(seed), 8, 6, (12,))}


def test_metadata_survive_a_file(tmp_path):
    graph = network(bits=6, limit=2.5)
    nir.write(tmp_path / "network.nir", graph)
    read, contract = read_graph(tmp_path / "network.nir")
    program = lower(read, contract.contract)
    assert program.layer("n1").neuron.message == Message("graded", 6, 2.5)
    assert program.layer("n5").neuron.message == SPIKE
    expected, found = (net.run_program(lower(g, Contract()), values()) for g in (graph, read))
    for name, sent in expected.items():
        np.testing.assert_array_equal(found[name], sent)


def test_another_reader_sees_a_threshold(tmp_path):
    nir.write(tmp_path / "network.nir", network())
    assert type(nir.read(tmp_path / "network.nir").nodes["n1"]) is nir.Threshold


@pytest.mark.parametrize("threshold", [0.0, 0.35])
def test_relu_and_jump(threshold):
    x = np.linspace(-1, 3, 41).reshape(1, 1, -1)
    graph = net.chain((41,), graded((41,), threshold, limit=2.0))
    sent = net.run_program(lower(graph, Contract()), {"input": x})["n0"]
    np.testing.assert_array_equal(sent, np.where(x > threshold, np.minimum(x, 2.0), 0))


@pytest.mark.parametrize(
    "node, says",
    [
        (graded((3,), bits=0), "1 to 15 bits"),
        (graded((3,), bits=16), "1 to 15 bits"),
        (graded((3,), bits=2.5), "1 to 15 bits"),
        (graded((3,), limit=-1.0), "above 0"),
        (graded((3,), limit=np.inf), "above 0"),
        (graded((3,), limit="much"), "above 0"),
        (counting((3,), bits=16), "1 to 15 bits"),
        (counting((3,), limit=0), "above 0"),
        (counting((3,), limit=2.5), "whole"),
        (spikes(bits=4), "no payload"),
        (spikes(message="spike", limit=2.0), "no payload"),
    ],
)
def test_metadata_of_another_kind_are_refused(node, says):
    with pytest.raises(GraphError, match=says):
        node_message(node)
    findings = check(alone(node), Contract())
    assert [finding.rule for finding in findings if not finding.ok] == ["readable_parameters"]


def test_a_limit_beside_the_count_of_the_contract_is_read():
    node = counting((3,), limit=2)
    del node.metadata["ashneuro.message"]
    contract = Contract(reset="subtract", message="count")
    assert node_message(node, contract).limit == 2
    assert not [finding for finding in check(alone(node), contract, "nir") if not finding.ok]


def test_only_a_threshold_sends_values():
    node = net.lif((3,), np.random.default_rng(0))
    node.metadata = {"ashneuro.message": "graded"}
    findings = [finding for finding in check(alone(node), Contract()) if not finding.ok]
    assert [finding.rule for finding in findings] == ["readable_parameters"]
    assert "only a Threshold" in findings[0].actual


def test_only_a_neuron_with_a_reset_sends_counts():
    node = graded((3,))
    node.metadata["ashneuro.message"] = "count"
    findings = [finding for finding in check(alone(node), Contract(message="count")) if not finding.ok]
    assert [finding.rule for finding in findings] == ["readable_parameters"]
    assert "only a LIF" in findings[0].actual


def test_unknown_kind_is_refused():
    node = graded((3,))
    node.metadata["ashneuro.message"] = "loud"
    with pytest.raises(GraphError, match="spike, graded, change, count"):
        node_message(node)


def rules(graph, **peak):
    return {(finding.node, finding.rule) for finding in check(graph, Contract(), input_peak=peak) if not finding.ok}


def test_negative_threshold_is_refused():
    assert rules(net.chain((3,), graded((3,), -0.1))) == {("n0", "graded_threshold")}


def test_integers_need_one_threshold_per_layer():
    node = graded((3,))
    node.threshold = np.array([0.1, 0.2, 0.3])
    graph = net.chain((3,), node)
    assert rules(graph, input=1.0) == {("n0", "uniform_graded_threshold")}
    assert all(finding.ok for finding in check(graph, Contract(), "nir"))


def test_no_read_out_is_the_current_of_a_stateless_layer():
    one = np.ones(3)
    graph = net.chain((3,), nir.Linear(np.eye(3)), nir.LI(5e-3 * one, one, 0 * one), graded((3,)))
    (note,) = [finding for finding in check(graph, Contract()) if finding.rule == "read_outs_end"]
    assert note.node == "n1" and "sends its potential" in note.actual and "stateless" in note.actual


def test_loops_need_a_limit():
    rng = np.random.default_rng(0)
    for limit, expected in (({}, {("n", "limit_in_loops")}), ({"limit": 2.0}, set())):
        nodes = {"input": (4,), "n": graded((4,), 0.1, **limit), "back": net.affine(4, 4, rng, gain=0.5)}
        graph = net.graph_of(nodes, [("input", "n"), ("n", "back"), ("back", "n"), ("n", "output")])
        assert rules(graph, input=1.0) == expected


@pytest.mark.parametrize("bits, error", [(4, 0.25), (8, 0.03), (12, 0.025)])
def test_integer_messages_are_close_to_float_ones(bits, error):
    program = lower(network(bits=bits, limit=3.0), Contract())
    inputs = values()
    integer = quantise(program, input_peak={"input": float(np.abs(inputs["input"]).max())}).program
    expected, found = net.run_program(program, inputs), net.run_program(integer, inputs)
    for name in ("n1", "n3"):
        layer = integer.layer(name)
        assert layer.neuron.message == Message("graded", bits, (1 << bits) - 1)
        assert layer.scale == pytest.approx(((1 << bits) - 1) / 3.0)
        sent = found[name]
        assert sent.max() <= layer.neuron.message.limit and (sent > 0).mean() > 0.1
        gap = np.abs(sent / layer.scale - expected[name])
        assert gap.mean() / expected[name].mean() < error, name


def test_values_saturate_at_the_limit():
    program = lower(network(bits=8, limit=0.5), Contract())
    integer = quantise(program, input_peak={"input": 8.0}).program
    expected, found = net.run_program(program, values()), net.run_program(integer, values())
    assert expected["n1"].max() == 0.5 and (expected["n1"] == 0.5).mean() > 0.1
    assert found["n1"].max() == 255


def test_without_a_limit_no_input_saturates():
    """The payload holds the largest value that can reach the layer, also behind another one."""
    program = lower(network(bits=10), Contract())
    integer = quantise(program, input_peak={"input": 2.0}).program
    signs = np.sign(program.layer("n1").connections[0].synapse.weight)
    x = {"input": 2.0 * signs[None]}
    expected, found = net.run_program(program, x), net.run_program(integer, x)
    for name in ("n1", "n3"):
        layer = integer.layer(name)
        assert 0 < found[name].max() < layer.neuron.message.limit == 1023
        assert np.abs(found[name] / layer.scale - expected[name]).max() < 0.05 * expected[name].max()


def test_larger_scale_saturates_earlier():
    program = lower(network(bits=8), Contract())
    scales = default_scales(program, input_peak={"input": 8.0})
    finer = quantise(program, input_peak={"input": 8.0}, scales={"n1": 8 * scales["n1"]}).program
    sent = net.run_program(finer, values())["n1"]
    assert finer.layer("n1").scale == 8 * scales["n1"] and sent.max() <= 255


def test_damaged_payload_is_refused():
    integer = quantise(lower(network(bits=8), Contract()), input_peak={"input": 8.0}).program
    for bits, limit in ((8, 256), (8, None), (16, 9), (8, 1.5)):
        message = Message("graded", bits, limit)
        layers = tuple(
            replace(layer, neuron=replace(layer.neuron, message=message)) if layer.neuron.graded else layer
            for layer in integer.layers
        )
        broken = {finding.rule for finding in check_program(replace(integer, layers=layers)) if not finding.ok}
        assert "message_in_range" in broken, message


def test_messages_are_stored(tmp_path):
    program = lower(network(bits=6, limit=2.5), Contract())
    integer = quantise(program, input_peak={"input": 8.0}).program
    save_programs(tmp_path, {"float": program, "integer": integer})
    for name, stored in load_programs(tmp_path).items():
        original = {"float": program, "integer": integer}[name]
        assert [layer.neuron.message for layer in stored.layers] == [layer.neuron.message for layer in original.layers]


# ---- spike counts -------------------------------------------------------------------------------


def counts_network(**metadata):
    rng = np.random.default_rng(4)
    nodes = [
        net.affine(12, 16, rng, gain=0.6),
        counting((16,), **metadata),
        net.affine(16, 8, rng, gain=0.6),
        counting((8,), **metadata),
    ]
    return net.chain((12,), *nodes)


@pytest.mark.parametrize("comparison, expected", [("strict", [0, 0, 1, 1, 2]), ("inclusive", [0, 1, 1, 2, 3])])
def test_counts_at_multiples_of_the_threshold(comparison, expected):
    """0.1 · k is no multiple of 0.1 in float64, and counts as one."""
    node = nir.IF(np.ones(5), np.full(5, 0.1), np.zeros(5))
    x = np.array([0.05, 0.1, 0.15, 0.1 + 0.1, 0.1 + 0.1 + 0.1]).reshape(1, 1, 5)
    contract = Contract(comparison=comparison, reset="subtract", message="count")
    graph = net.chain((5,), node)
    for sent in (
        net.run_program(lower(graph, contract), {"input": x})["n0"],
        net.define(graph, contract, {"input": x})["n0"],
        run_graph(graph, contract, x, rasters=["n0"]).layers["n0"].raster,
    ):
        np.testing.assert_array_equal(sent.ravel(), expected)


def test_contract_and_node_state_counts_alike(tmp_path):
    graph, plain = counts_network(limit=3), counts_network()
    for name in ("n1", "n3"):
        plain.nodes[name].metadata = {}
    plain.metadata = Contract(reset="subtract", message="count", message_limit=3).to_metadata()
    nir.write(tmp_path / "network.nir", plain)
    read, said = read_graph(tmp_path / "network.nir")
    assert not said.assumed and said.contract.message_limit == 3
    program = lower(read, said.contract)
    assert program.layer("n1").neuron.message == Message("count", 8, 3)
    expected, found = (net.run_program(p, values()) for p in (lower(graph, Contract()), program))
    assert expected["n3"].max() == 3
    np.testing.assert_array_equal(found["n3"], expected["n3"])


@pytest.mark.parametrize(
    "changed",
    [
        {"ashneuro.reset": "value"},
        {"ashneuro.reset_delay": 1},
        {"ashneuro.dynamics": "refractory", "ashneuro.refractory_steps": 2},
    ],
)
def test_counts_need_subtraction_at_once(changed):
    graph = counts_network()
    graph.nodes["n1"].metadata |= changed
    assert ("n1", "count_firing") in rules(graph, input=1.0)


def test_counts_need_a_positive_threshold():
    graph = counts_network()
    graph.nodes["n1"].v_threshold[3] = 0
    assert ("n1", "count_firing") in rules(graph, input=1.0)


def test_counts_in_loops_need_a_limit():
    rng = np.random.default_rng(0)
    for limit, expected in (({}, {("n", "limit_in_loops")}), ({"limit": 2}, set())):
        nodes = {"input": (4,), "n": counting((4,), **limit), "back": net.affine(4, 4, rng, gain=0.5)}
        graph = net.graph_of(nodes, [("input", "n"), ("n", "back"), ("back", "n"), ("n", "output")])
        assert rules(graph, input=1.0) == expected
        program, x = lower(graph, Contract(timesteps=6)), {"input": rng.random((6, 2, 4))}
        if expected:  # the largest count on some samples is no bound for others
            with pytest.raises(GraphError, match="stated limit"):
                calibrate(program, x)
        else:
            assert calibrate(program, x).program.layer("n").neuron.message.limit == 2


def test_integer_counts_hold_the_largest_that_any_input_causes():
    program = lower(counts_network(), Contract(timesteps=8))
    integer = quantise(program, input_peak={"input": 2.0}).program
    signs = np.sign(program.layer("n1").connections[0].synapse.weight)
    x = {"input": np.repeat(2.0 * signs[None], 8, axis=0)}
    for p, limits in ((program, {"n1": None, "n3": None}), (integer, {})):
        sent = net.run_program(p, x)
        for name in ("n1", "n3"):
            limit = p.layer(name).neuron.message.limit
            assert limit is None if name in limits else 3 < sent[name].max() < limit < 255


def test_calibration_limits_counts_to_what_samples_need():
    program = lower(counts_network(), Contract(timesteps=8))
    calibration = calibrate(program, values())
    expected, found = net.run_program(program, values()), net.run_program(calibration.program, values())
    for name in ("n1", "n3"):
        limit, largest = calibration.program.layer(name).neuron.message.limit, expected[name].max()
        assert limit in (1, 3, 7, 15, 31) and limit // 2 < largest <= limit
        assert calibration.mismatches[name] < 0.1
        assert np.abs(found[name].sum(0) - expected[name].sum(0)).mean() < 0.1


def test_stated_limit_and_bits_bound_integers():
    for metadata, limit in (({"limit": 3}, 3), ({"limit": 9, "bits": 3}, 7), ({"bits": 2}, 3)):
        program = quantise(lower(counts_network(**metadata), Contract()), input_peak={"input": 8.0}).program
        assert program.layer("n1").neuron.message.limit == limit
        assert net.run_program(program, values())["n1"].max() == limit


def test_whole_numbers_of_a_counting_layer_stay():
    rng = np.random.default_rng(0)
    weights = [rng.integers(-3, 6, shape).astype(float) for shape in ((8, 6), (5, 8))]
    nodes = [nir.Linear(weights[0]), counting((8,)), nir.Linear(weights[1]), counting((5,), limit=6)]
    for node, threshold in zip(nodes[1::2], (3.0, 5.0), strict=True):
        node.v_threshold[:] = threshold
    contract = Contract(input_coding="spikes", timesteps=10, comparison="inclusive")
    program = lower(net.chain((6,), *nodes), contract)
    integer = quantise(program, input_peak={}).program
    x = {"input": (rng.random((10, 4, 6)) < 0.5).astype(float)}
    expected, found = net.run_program(program, x), net.run_program(integer, x)
    for name in ("n1", "n3"):
        assert expected[name].max() > 2
        np.testing.assert_array_equal(found[name], expected[name])


def test_damaged_count_is_refused():
    integer = quantise(lower(counts_network(), Contract()), input_peak={"input": 8.0}).program
    for changed, rule in (
        ({"message": Message("count", 8, None)}, "message_in_range"),
        ({"message": Message("count", 8, 256)}, "message_in_range"),
        ({"v_subtract": None}, "subtraction_in_range"),
    ):
        layers = tuple(replace(layer, neuron=replace(layer.neuron, **changed)) for layer in integer.layers)
        broken = {finding.rule for finding in check_program(replace(integer, layers=layers)) if not finding.ok}
        assert rule in broken


def test_check_says_what_is_sent():
    forms = {finding.node: finding.actual for finding in check(counts_network(), Contract(), "nir")}
    assert "spike counts of 8 bits (Loihi 2)" in forms["n1"]


@pytest.mark.parametrize("comparison, expected", [("strict", [0, 0, 1]), ("inclusive", [0, 1, 1])])
def test_a_threshold_of_zero_has_no_tie(comparison, expected):
    graph = net.chain((3,), nir.Threshold(np.zeros(3)))
    contract, x = Contract(comparison=comparison), np.array([-1e-30, 0.0, 1e-30]).reshape(1, 1, 3)
    np.testing.assert_array_equal(net.define(graph, contract, {"input": x})["n0"].ravel(), expected)
    record = run_program(lower(graph, contract), {"input": x}, rasters=["n0"])
    np.testing.assert_array_equal(record.layers["n0"].raster.ravel(), expected)
