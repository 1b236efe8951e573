import nir
import numpy as np
import pytest

from ashneuro.errors import GraphError
from ashneuro.program.lower import lower
from ashneuro.program.synapse import matrix
from ashneuro.program.wiring import ALWAYS_ON
from ashneuro.spiking.contract import Contract
from tests import reference
from tests.program import networks as net


def assert_same_spikes(graph, inputs, contract=net.CONTRACT, minimum=0.02):
    program = lower(graph, contract)
    expected = net.define(graph, contract, inputs)
    got = net.run_program(program, inputs)
    neurons = [name for name, node in graph.nodes.items() if isinstance(node, reference.NEURONS)]
    assert set(neurons) <= set(got)
    for layer in program.layers:
        if layer.neuron.spiking:
            np.testing.assert_array_equal(got[layer.name], expected[layer.name], err_msg=layer.name)
            assert minimum < expected[layer.name].mean() < 0.95, f"{layer.name} fires at {expected[layer.name].mean()}"
        else:
            np.testing.assert_allclose(got[layer.name], expected[layer.name], atol=1e-12, err_msg=layer.name)
    return program


@pytest.mark.parametrize("seed", range(4))
def test_dense_lif_layers_with_bias(seed):
    rng = np.random.default_rng(seed)
    nodes = net.affine(6, 12, rng), net.lif((12,), rng), net.affine(12, 8, rng), net.lif((8,), rng)
    program = assert_same_spikes(net.chain((6,), *nodes), {"input": net.spikes(rng, 40, 3, (6,))})
    assert [layer.depth for layer in program.layers] == [1, 2]
    assert program.inputs[0].coding == "graded"
    np.testing.assert_array_equal(program.layers[0].connections[0].synapse.weight, nodes[0].weight)


def test_analog_input_enters_the_first_neurons_directly():
    rng = np.random.default_rng(0)
    graph = net.chain((10,), net.lif((10,), rng, uniform=True), net.affine(10, 5, rng), net.lif((5,), rng))
    program = assert_same_spikes(graph, {"input": net.analog(rng, 40, 3, (10,))})
    assert program.inputs[0].coding == "current"
    assert program.layers[0].connections[0].synapse is None
    assert [layer.depth for layer in program.layers] == [0, 1]


def test_analog_input_of_neurons_that_differ_passes_weights_of_1():
    rng = np.random.default_rng(0)
    graph = net.chain((10,), net.lif((10,), rng), net.affine(10, 5, rng), net.lif((5,), rng))
    program = assert_same_spikes(graph, {"input": net.analog(rng, 40, 3, (10,))})
    assert program.inputs[0].coding == "graded"
    assert program.layers[0].connections[0].synapse.kind == "scale"


def test_direct_spike_input_gets_a_synapse():
    rng = np.random.default_rng(0)
    graph = net.chain((10,), net.lif((10,), rng))
    program = assert_same_spikes(graph, {"input": net.spikes(rng, 40, 3, (10,))}, Contract(input_coding="spikes"))
    assert program.inputs[0].coding == "spikes" and program.layers[0].connections[0].synapse.kind == "scale"


@pytest.mark.parametrize("make", [net.lif, net.cuba])
def test_exponential_integration(make):
    """Time constants may be shorter than a step then."""
    rng = np.random.default_rng(3)
    names = ("tau",) if make is net.lif else ("tau_syn", "tau_mem")
    fast = {name: rng.uniform(3e-4, 2e-3, 12) for name in names}
    graph = net.chain((6,), net.affine(6, 12, rng), make((12,), rng, **fast))
    x = {"input": net.spikes(rng, 40, 3, (6,))}
    program = assert_same_spikes(graph, x, Contract(integration="exponential"))
    np.testing.assert_allclose(program.layers[0].neuron.dv, 1 - np.exp(-1e-3 / fast[names[-1]]))
    with pytest.raises(GraphError, match="at least dt"):
        lower(graph, Contract())


def test_start_at_v_reset():
    """v_reset and v_leak may differ then: the way to rest is a bias, which no synapse filters."""
    rng = np.random.default_rng(4)
    apart = {"v_leak": rng.uniform(-0.2, 0.2, 12), "v_reset": rng.uniform(-0.3, 0.0, 12)}
    contract = Contract(start="v_reset")
    for make in (net.lif, net.cuba):
        graph = net.chain((6,), net.affine(6, 12, rng), make((12,), rng, **apart))
        assert_same_spikes(graph, {"input": net.spikes(rng, 60, 3, (6,))}, contract)
        with pytest.raises(GraphError, match="--start v_reset"):
            lower(graph, Contract())
    graph = net.chain((6,), net.affine(6, 12, rng), nir.IF(np.ones(12), np.full(12, 1.5), apart["v_reset"]))
    assert_same_spikes(graph, {"input": net.spikes(rng, 60, 3, (6,))}, contract)


def test_colliding_names_are_refused():
    rng = np.random.default_rng(0)
    inner = net.graph_of({"input": (4,), "lif": net.lif((4,), rng)}, [("input", "lif"), ("lif", "output")])
    nodes = {"input": (4,), "r": inner, "r.lif": net.lif((4,), rng), "always-on": net.lif((4,), rng)}
    graph = net.graph_of(nodes, [("input", "r"), ("r", "r.lif"), ("r.lif", "always-on"), ("always-on", "output")])
    with pytest.raises(GraphError, match="name is taken") as caught:
        lower(graph, net.CONTRACT)
    assert "r.lif" in str(caught.value) and "always-on" in str(caught.value)


def test_v_unit_and_origin_restore_the_graphs_units():
    rng = np.random.default_rng(0)
    shape = (4,)
    rest = np.full(shape, -0.7)
    node = net.lif(shape, rng, v_leak=rest, v_reset=rest)
    program = lower(net.chain(shape, node), net.CONTRACT)
    neuron = program.layers[0].neuron
    np.testing.assert_allclose(neuron.v_threshold * neuron.v_unit + neuron.v_origin, node.v_threshold)


@pytest.mark.parametrize("rest", [0.09, -0.4])
def test_nonzero_leak_and_reset(rest):
    rng = np.random.default_rng(1)
    values = {"v_leak": np.full(12, rest), "v_reset": np.full(12, rest)}
    for make in (net.lif, net.cuba):
        graph = net.chain((6,), net.affine(6, 12, rng), make((12,), rng, **values))
        assert_same_spikes(graph, {"input": net.spikes(rng, 60, 3, (6,))})


@pytest.mark.parametrize("seed", range(3))
def test_cuba_lif_bias_arrives_through_always_on_line(seed):
    rng = np.random.default_rng(seed)
    graph = net.chain((6,), net.affine(6, 12, rng), net.cuba((12,), rng), net.affine(12, 8, rng), net.cuba((8,), rng))
    program = assert_same_spikes(graph, {"input": net.spikes(rng, 60, 3, (6,))})
    assert [port.constant for port in program.inputs if port.name == ALWAYS_ON] == [True]
    assert all(not np.any(layer.neuron.bias) for layer in program.layers)
    assert all(program.lag(layer, connection) == 0 for layer, connection in program.connections())


@pytest.mark.parametrize("convention", ["per-step", "per-second"])
def test_if_conventions(convention):
    rng = np.random.default_rng(2)
    r = np.full(8, 1.0 if convention == "per-step" else 1e3) * rng.uniform(0.5, 2, 8)
    graph = net.chain((5,), net.affine(5, 8, rng, 1.0), nir.IF(r, rng.uniform(0.5, 1.5, 8), np.zeros(8)))
    contract = Contract(dt_s=1e-3, if_convention=convention)
    assert_same_spikes(graph, {"input": net.spikes(rng, 30, 3, (5,))}, contract)


@pytest.mark.parametrize(
    "window",
    [
        {},
        {"stride": 2, "padding": (1, 0)},
        {"kernel": (5, 2), "padding": "same"},
        {"padding": "valid", "dilation": (2, 1)},
        {"groups": 2, "stride": (1, 2)},
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding=.same.")
def test_conv2d_flatten_affine(window):
    rng = np.random.default_rng(3)
    conv = net.conv2d(4, 6, (9, 8), rng, **window)
    from ashneuro.program.wiring import wire

    shape = wire(net.chain((4, 9, 8), conv, type_check=False)).out_shapes["n0"]
    flat = nir.Flatten({"input": np.array(shape)}, 0, -1)
    size = int(np.prod(shape))
    graph = net.chain(
        (4, 9, 8), conv, net.lif(shape, rng), flat, net.affine(size, 7, rng), net.lif((7,), rng), type_check=False
    )
    program = assert_same_spikes(graph, {"input": net.spikes(rng, 20, 2, (4, 9, 8))})
    first = program.layers[0].connections[0].synapse
    assert first.kind == "conv" and first.weight.shape == conv.weight.shape
    assert program.layers[1].connections[0].synapse.kind == "dense"


def test_conv1d():
    rng = np.random.default_rng(4)
    conv = nir.Conv1d(16, rng.standard_normal((6, 2, 3)), 2, 1, 2, 2, rng.standard_normal(6) * 0.1)
    graph = net.chain((4, 16), conv, net.lif((6, 7), rng), type_check=False)
    assert_same_spikes(graph, {"input": net.spikes(rng, 20, 2, (4, 16))})


@pytest.mark.parametrize("pool", [nir.SumPool2d, nir.AvgPool2d])
@pytest.mark.parametrize("padding", [0, 1])
def test_pooling_merges_into_next_convolution(pool, padding):
    rng = np.random.default_rng(5)
    two, pad = np.array([2, 2]), np.array([padding, padding])
    pooled = (8 + 2 * padding) // 2
    nodes = (
        net.conv2d(2, 4, (8, 8), rng),
        net.lif((4, 8, 8), rng),
        pool(two, two, pad),
        net.conv2d(4, 3, (pooled, pooled), rng),
    )
    graph = net.chain((2, 8, 8), *nodes, net.lif((3, pooled, pooled), rng))
    program = assert_same_spikes(graph, {"input": net.spikes(rng, 20, 2, (2, 8, 8))})
    synapse = program.layers[1].connections[0].synapse
    assert synapse.kind == "conv" and synapse.weight.shape == (3, 4, 6, 6) and synapse.stride == (2, 2)
    assert program.layers[1].connections[0].nir == ("n2", "n3")


def test_pooling_with_unused_border_is_exact():
    rng = np.random.default_rng(6)
    two = np.array([2, 2])
    nodes = (
        net.conv2d(2, 4, (7, 7), rng),
        net.lif((4, 7, 7), rng),
        nir.SumPool2d(two, two, np.array([0, 0])),
        net.conv2d(4, 3, (3, 3), rng),
    )
    program = assert_same_spikes(
        net.chain((2, 7, 7), *nodes, net.lif((3, 3, 3), rng)), {"input": net.spikes(rng, 20, 2, (2, 7, 7))}
    )
    assert program.layers[1].connections[0].synapse.kind == "sparse"


def test_linear_chain_merges_with_biases():
    rng = np.random.default_rng(7)
    scale = nir.Scale(rng.uniform(0.5, 1.5, (3, 6, 6)))
    channel_scale = nir.Scale(np.broadcast_to(rng.uniform(0.5, 1.5, (3, 1, 1)), (3, 6, 6)).copy())
    for between, kind in ((channel_scale, "conv"), (scale, "sparse")):
        nodes = net.conv2d(2, 3, (6, 6), rng), between, net.conv2d(3, 4, (6, 6), rng), net.lif((4, 6, 6), rng)
        program = assert_same_spikes(net.chain((2, 6, 6), *nodes), {"input": net.spikes(rng, 20, 2, (2, 6, 6))})
        assert len(program.layers[0].connections) == 1
        assert program.layers[0].connections[0].synapse.kind == "sparse", (
            kind
        )  # padding between the two: no single kernel
    nodes = (
        net.affine(6, 5, rng),
        nir.Scale(rng.uniform(0.5, 1.5, 5)),
        nir.Linear(rng.standard_normal((7, 5))),
        net.lif((7,), rng),
    )
    program = assert_same_spikes(net.chain((6,), *nodes), {"input": net.spikes(rng, 30, 2, (6,))})
    assert program.layers[0].connections[0].synapse.kind == "dense"
    assert program.layers[0].connections[0].nir == ("n0", "n1", "n2")


@pytest.mark.parametrize("make", [net.lif, net.cuba])
def test_residual_joins_of_unequal_depth(make):
    rng = np.random.default_rng(8)
    nodes = {
        "input": (6,),
        "in": net.affine(6, 10, rng),
        "a": make((10,), rng),
        "ab": net.affine(10, 10, rng),
        "b": make((10,), rng),
        "bc": net.affine(10, 10, rng),
        "c": make((10,), rng),
        "cd": net.affine(10, 10, rng),
        "d": make((10,), rng),
    }
    edges = [
        ("input", "in"),
        ("in", "a"),
        ("a", "ab"),
        ("ab", "b"),
        ("b", "bc"),
        ("bc", "c"),
        ("c", "cd"),
        ("cd", "d"),
        ("d", "output"),
    ]
    skips = [("a", "c"), ("a", "d"), ("in", "d")]
    program = assert_same_spikes(net.graph_of(nodes, edges + skips), {"input": net.spikes(rng, 40, 3, (6,))})
    assert [layer.depth for layer in program.layers] == [1, 2, 3, 4]
    delays = {(layer.name, c.source): c.delay for layer, c in program.connections() if c.source in ("a", "input")}
    assert delays == {("a", "input"): 0, ("b", "a"): 0, ("c", "a"): 1, ("d", "a"): 2, ("d", "input"): 3}
    assert all(program.lag(layer, connection) == 0 for layer, connection in program.connections())


def test_input_current_that_skips_to_a_deeper_layer():
    rng = np.random.default_rng(9)
    nodes = {"input": (6,), "a": net.lif((6,), rng, uniform=True), "ab": net.affine(6, 6, rng)}
    nodes["b"] = net.lif((6,), rng, uniform=True)
    edges = [("input", "a"), ("a", "ab"), ("ab", "b"), ("input", "b"), ("b", "output")]
    program = assert_same_spikes(net.graph_of(nodes, edges), {"input": net.analog(rng, 40, 3, (6,))})
    assert program.inputs[0].coding == "current"
    direct = next(c for layer, c in program.connections() if layer.name == "b" and c.source == "input")
    assert direct.synapse is None and direct.delay == 1


def test_input_with_direct_and_weighted_paths():
    rng = np.random.default_rng(10)
    nodes = {"input": (6,), "a": net.lif((6,), rng), "w": net.affine(6, 6, rng), "b": net.lif((6,), rng)}
    edges = [("input", "a"), ("input", "w"), ("w", "b"), ("a", "b"), ("b", "output")]
    program = assert_same_spikes(net.graph_of(nodes, edges), {"input": net.analog(rng, 40, 3, (6,))})
    assert program.inputs[0].coding == "graded"
    assert all(connection.synapse is not None for _, connection in program.connections())


@pytest.mark.parametrize("kind", ["LI", "CubaLI", "I", "linear"])
def test_read_out_membrane(kind):
    rng = np.random.default_rng(11)
    rates = {name: rng.uniform(2e-3, 1e-2, 4) for name in ("tau", "tau_syn", "tau_mem")}
    r, leak = rng.uniform(0.5, 2, 4), rng.uniform(-0.2, 0.2, 4)
    ends = {
        "LI": [nir.LI(rates["tau"], r, leak)],
        "CubaLI": [nir.CubaLI(rates["tau_syn"], rates["tau_mem"], r, leak, rng.uniform(0.5, 2, 4))],
        "I": [nir.I(r)],
        "linear": [],
    }
    graph = net.chain((6,), net.affine(6, 9, rng), net.lif((9,), rng), net.affine(9, 4, rng), *ends[kind])
    program = assert_same_spikes(graph, {"input": net.spikes(rng, 30, 3, (6,))})
    assert program.outputs == ("output",) if kind == "linear" else ("n3",)
    assert not program.layer(program.outputs[0]).neuron.spiking


def test_threshold_and_negative_gain():
    rng = np.random.default_rng(12)
    graph = net.chain((6,), net.affine(6, 9, rng), nir.Threshold(rng.uniform(-0.5, 0.5, 9)))
    assert_same_spikes(graph, {"input": net.spikes(rng, 30, 3, (6,))})
    graph = net.chain((9,), net.lif((9,), rng, r=rng.uniform(-2, 2, 9)))
    program = assert_same_spikes(graph, {"input": net.analog(rng, 30, 3, (9,), 4.0)})
    assert program.inputs[0].coding == "graded"


def test_recurrence_is_one_step_late():
    rng = np.random.default_rng(13)
    nodes = {"input": (6,), "in": net.affine(6, 9, rng), "r": net.cuba((9,), rng), "w": net.affine(9, 9, rng)}
    graph = net.graph_of(nodes, [("input", "in"), ("in", "r"), ("r", "w"), ("w", "r"), ("r", "output")])
    program = assert_same_spikes(graph, {"input": net.spikes(rng, 40, 3, (6,))})
    lags = {connection.source: program.lag(layer, connection) for layer, connection in program.connections()}
    assert lags["r"] == 1 and lags["input"] == 0


def test_nested_recurrent_graph():
    rng = np.random.default_rng(13)
    neuron, w, enter = net.cuba((9,), rng), net.affine(9, 9, rng), net.affine(6, 9, rng)
    inner = nir.NIRGraph(
        {"input": nir.Input(np.array([9])), "lif": neuron, "w": w, "output": nir.Output(np.array([9]))},
        [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")],
    )
    outer = net.graph_of(
        {"input": (6,), "in": enter, "rnn": inner}, [("input", "in"), ("in", "rnn"), ("rnn", "output")]
    )
    flat = net.graph_of(
        {"input": (6,), "in": enter, "rnn.lif": neuron, "rnn.w": w},
        [("input", "in"), ("in", "rnn.lif"), ("rnn.lif", "rnn.w"), ("rnn.w", "rnn.lif"), ("rnn.lif", "output")],
    )
    x = {"input": net.spikes(rng, 40, 3, (6,))}
    program = lower(outer, net.CONTRACT)
    assert program.outputs == ("rnn.lif",)
    np.testing.assert_array_equal(
        net.run_program(program, x)["rnn.lif"], reference.run_graph(flat, x, dt=net.CONTRACT.dt_s)["rnn.lif"]
    )


@pytest.mark.parametrize("steps", [[0, 0, 0, 0], [2, 2, 2, 2], [0, 1, 3, 1]])
def test_axonal_delays(steps):
    rng = np.random.default_rng(14)
    delay = nir.Delay((np.array(steps) * 1e-3).astype(np.float32))  # 3 ms are not 3 steps of 1 ms in float32
    graph = net.chain((5,), net.affine(5, 4, rng), net.lif((4,), rng), delay, net.affine(4, 6, rng), net.lif((6,), rng))
    program = assert_same_spikes(graph, {"input": net.spikes(rng, 40, 3, (5,))})
    assert {program.lag(layer, connection) for layer, connection in program.connections()} == {0, *steps}


def test_loop_through_two_layers_with_a_delay():
    rng = np.random.default_rng(15)
    nodes = {
        "input": (6,),
        "in": net.affine(6, 5, rng),
        "a": net.lif((5,), rng),
        "ab": net.affine(5, 5, rng),
        "b": net.lif((5,), rng),
        "back": nir.Delay(np.full(5, 2e-3)),
        "ba": net.affine(5, 5, rng),
    }
    nodes["ba"].bias[:] = 0
    edges = [
        ("input", "in"),
        ("in", "a"),
        ("a", "ab"),
        ("ab", "b"),
        ("b", "back"),
        ("back", "ba"),
        ("ba", "a"),
        ("b", "output"),
    ]
    program = assert_same_spikes(net.graph_of(nodes, edges), {"input": net.spikes(rng, 40, 3, (6,))})
    assert [layer.name for layer in program.layers] == ["a", "b"]
    nodes["back"].delay[:] = 1e-3
    with pytest.raises(GraphError, match="loop"):
        lower(net.graph_of(nodes, edges), net.CONTRACT)


def test_parallel_paths_from_one_source():
    rng = np.random.default_rng(16)
    nodes = {
        "input": (6,),
        "p": net.affine(6, 5, rng),
        "q": net.affine(6, 5, rng),
        "w": net.affine(5, 7, rng),
        "n": net.lif((7,), rng),
    }
    edges = [("input", "p"), ("input", "q"), ("p", "w"), ("q", "w"), ("w", "n"), ("n", "output")]
    program = assert_same_spikes(net.graph_of(nodes, edges), {"input": net.spikes(rng, 40, 3, (6,))})
    assert len(program.layers[0].connections) == 1
    np.testing.assert_allclose(
        matrix(program.layers[0].connections[0].synapse).toarray(),
        nodes["w"].weight @ (nodes["p"].weight + nodes["q"].weight),
    )


def test_error_lists_all_broken_rules():
    rng = np.random.default_rng(17)
    bad = net.lif((4,), rng, tau=np.full(4, np.nan), v_reset=np.full(4, -1.0))
    graph = net.graph_of({"input": (6,), "n": bad, "m": None}, [("input", "n"), ("n", "output"), ("n", "ghost")])
    with pytest.raises(GraphError) as caught:
        lower(graph, net.CONTRACT)
    for word in ("ghost", "NaN", "v_reset", "m (NoneType)", "input gives 6, n takes 4"):
        assert word in str(caught.value), word
