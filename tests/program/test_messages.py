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
from ashneuro.spiking.contract import Contract
from ashneuro.spiking.message import SPIKE, Message
from tests.program import networks as net


def graded(shape, threshold=0.0, **metadata):
    """Return a Threshold that sends values."""
    node = nir.Threshold(np.full(shape, threshold))
    stated = {f"ashneuro.message_{key}": value for key, value in metadata.items()}
    node.metadata = {"ashneuro.message": "graded"} | stated
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
    ],
)
def test_metadata_of_another_kind_are_refused(node, says):
    with pytest.raises(GraphError, match=says):
        node_message(node)
    findings = check(alone(node), Contract())
    assert [finding.rule for finding in findings if not finding.ok] == ["readable_parameters"]


def test_only_a_threshold_sends_values():
    node = net.lif((3,), np.random.default_rng(0))
    node.metadata = {"ashneuro.message": "graded"}
    findings = [finding for finding in check(alone(node), Contract()) if not finding.ok]
    assert [finding.rule for finding in findings] == ["readable_parameters"]
    assert "only a Threshold" in findings[0].actual


def test_unknown_kind_is_refused():
    node = graded((3,))
    node.metadata["ashneuro.message"] = "loud"
    with pytest.raises(GraphError, match="spike, graded"):
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
    findings = [finding for finding in check(graph, Contract()) if not finding.ok]
    assert [finding.node for finding in findings] == ["n1"] and "stateless" in findings[0].actual


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
