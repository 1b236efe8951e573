from dataclasses import replace

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashneuro.errors import GraphError
from ashneuro.program.bounds import accumulation, largest_current
from ashneuro.program.check import check
from ashneuro.program.lower import lower
from ashneuro.program.quantise import default_scales, quantise
from ashneuro.program.rules.loihi import check_program
from ashneuro.program.synapse import matrix
from ashneuro.simulation.calibrate import calibrate
from ashneuro.simulation.emulator.run_graph import run_graph
from ashneuro.spiking.contract import Contract
from tests.program import networks as net


def residual(rng, make=net.lif, width=24, depth=3):
    """An analog input into the first neurons, then layers with a skip over each second one."""
    nodes = {"input": (width,), "n0": make((width,), rng, **net.population(rng, make, width))}
    edges = [("input", "n0")]
    for i in range(1, depth + 1):
        nodes[f"w{i}"] = net.affine(width, width, rng)
        nodes[f"n{i}"] = make((width,), rng, **net.population(rng, make, width))
        edges += [(f"n{i - 1}", f"w{i}"), (f"w{i}", f"n{i}")]
        if i >= 2:
            edges.append((f"n{i - 2}", f"n{i}"))
    return net.graph_of(nodes, [*edges, (f"n{depth}", "output")])


def disagreement(graph, inputs, contract=net.CONTRACT):
    program = lower(graph, contract)
    peak = {name: float(np.abs(values).max()) for name, values in inputs.items()}
    integer = quantise(program, input_peak=peak).program
    a, b = net.run_program(program, inputs), net.run_program(integer, inputs)
    return {layer.name: float((a[layer.name] != b[layer.name]).mean()) for layer in program.layers}, a


@pytest.mark.parametrize("make", [net.lif, net.cuba])
def test_integer_spikes_are_close_to_float(make):
    rng = np.random.default_rng(0)
    graph = residual(rng, make)
    rates, spikes = disagreement(graph, {"input": net.analog(rng, 32, 16, (24,), 4.0)})
    assert all(0.01 < spikes[name].mean() < 0.95 for name in rates), {name: spikes[name].mean() for name in rates}
    assert rates["n0"] < 1e-3 and rates["n1"] < 0.02, rates
    assert max(rates.values()) < 0.08, rates  # a spike that differs makes others differ downstream


def test_convolution_pooling_and_spike_input():
    rng = np.random.default_rng(1)
    two, none = np.array([2, 2]), np.array([0, 0])
    flat = nir.Flatten({"input": np.array((6, 4, 4))}, 0, -1)
    nodes = [
        net.conv2d(2, 4, (8, 8), rng),
        net.lif((4, 8, 8), rng, **net.population(rng, net.lif, (4, 8, 8))),
        nir.AvgPool2d(two, two, none),
        net.conv2d(4, 6, (4, 4), rng),
        net.lif((6, 4, 4), rng, **net.population(rng, net.lif, (6, 4, 4))),
        flat,
        net.affine(96, 10, rng),
        net.lif((10,), rng, **net.population(rng, net.lif, 10)),
    ]
    contract = Contract(input_coding="spikes")
    rates, _ = disagreement(net.chain((2, 8, 8), *nodes), {"input": net.spikes(rng, 24, 4, (2, 8, 8))}, contract)
    assert max(rates.values()) < 0.04, rates


def test_integer_valued_network_is_kept_exactly():
    rng = np.random.default_rng(2)

    def whole(inputs, outputs):
        weight = rng.integers(-100, 100, (outputs, inputs)) * 2.0
        weight.flat[:2] = 254, -256
        return nir.Linear(weight)

    def neuron(size):
        return nir.IF(np.ones(size), np.full(size, 300.0), np.zeros(size))

    graph = net.chain((12,), whole(12, 20), neuron(20), whole(20, 9), neuron(9))
    inputs = {"input": net.spikes(rng, 40, 8, (12,))}
    rates, spikes = disagreement(graph, inputs, Contract(input_coding="spikes"))
    assert set(rates.values()) == {0.0} and spikes["n3"].mean() > 0.05
    program = quantise(lower(graph, Contract(input_coding="spikes")), input_peak={}).program
    np.testing.assert_array_equal(program.layers[0].connections[0].synapse.weight, graph.nodes["n0"].weight)


def test_integrator_with_fractional_threshold_is_exact():
    graph = net.chain((1,), nir.Linear(np.array([[255.0]])), nir.IF(np.ones(1), np.array([509.7]), np.zeros(1)))
    contract = Contract(input_coding="spikes")
    inputs = {"input": np.ones((12, 1, 1))}
    program = lower(graph, contract)
    integer = quantise(program, input_peak={}).program
    assert integer.layers[0].neuron.v_threshold == 509
    np.testing.assert_array_equal(net.run_program(program, inputs)["n1"], net.run_program(integer, inputs)["n1"])


def test_connections_share_the_unit_of_their_layer():
    rng = np.random.default_rng(3)
    program = lower(residual(rng), net.CONTRACT)
    integer = quantise(program, input_peak={"input": 8.0}).program
    for before, after in zip(program.layers, integer.layers, strict=True):
        for old, new in zip(before.connections, after.connections, strict=True):
            if old.synapse is None:
                assert integer.inputs[0].scale == after.scale
                continue
            weight = new.synapse.weight
            np.testing.assert_allclose(
                weight * 2.0**new.weight_exp / after.scale,
                old.synapse.weight,
                atol=2.0 ** (new.weight_exp + 1) / after.scale,
            )
            assert np.abs(weight).max() > 126
            mixed = weight.min() < 0 < weight.max()
            assert not mixed or not (weight & 1).any()


def test_weights_of_one_sign_use_8_bits():
    rng = np.random.default_rng(4)
    for sign in (1, -1):
        layer = nir.Linear(sign * rng.uniform(0.1, 1, (5, 4)))
        program = lower(net.chain((4,), layer, net.lif((5,), rng, uniform=True)), Contract(input_coding="spikes"))
        weight = quantise(program, input_peak={}).program.layers[0].connections[0].synapse.weight
        assert np.abs(weight).max() == 255 and (weight & 1).any() and weight.dtype == np.int32


@pytest.mark.parametrize("sign", [1, -1])
def test_weights_whose_other_sign_rounds_to_zero(sign):
    graph = net.chain(
        (3,),
        nir.Linear(sign * np.array([[1.0, 0.55, -1e-4]])),
        nir.LIF(*np.array([[5e-3], [1.0], [0.0], [0.1], [0.0]])),
    )
    result = quantise(lower(graph, Contract(input_coding="spikes")), input_peak={})
    weight = result.program.layers[0].connections[0].synapse.weight
    assert weight[0, 0] == sign * (254 if sign > 0 else 255) and weight[0, 2] == 0
    assert abs(weight[0, 1] / weight[0, 0] - 0.55) < 4e-3


def test_negligible_weights_become_zero():
    graph = net.chain((1,), nir.Linear(np.array([[1e-190]])), nir.LIF(*np.array([[5e-3], [1.0], [0.0], [0.1], [0.0]])))
    result = quantise(lower(graph, Contract(input_coding="spikes")), input_peak={})
    assert result.costs[0].weights == 1.0 and not result.program.layers[0].connections[0].synapse.weight.any()


def test_decay_conventions():
    rng = np.random.default_rng(5)
    node = net.cuba((4,), rng, tau_syn=np.full(4, 5e-3), tau_mem=np.full(4, 8e-3))
    program = lower(net.chain((4,), net.affine(4, 4, rng), node), Contract(input_coding="spikes"))
    neuron = quantise(program, input_peak={}).program.layers[0].neuron
    assert neuron.du == round(4096 / 5) - 1 and neuron.dv == round(4096 / 8)
    lif = net.lif((4,), rng, tau=np.full(4, 8e-3), uniform=True)
    program = lower(net.chain((4,), net.affine(4, 4, rng), lif), Contract(input_coding="spikes"))
    assert quantise(program, input_peak={}).program.layers[0].neuron.du == 4095


def test_decays_per_neuron():
    """Case D10: one time constant per neuron, as of snnTorch's learn_beta and Rockpool."""
    rng = np.random.default_rng(6)
    tau_syn, tau_mem = rng.uniform(2e-3, 9e-3, (2, 24))
    graph = net.chain((8,), net.affine(8, 24, rng), net.cuba((24,), rng, tau_syn=tau_syn, tau_mem=tau_mem))
    contract = Contract(input_coding="spikes")
    program = lower(graph, contract)
    quantised = quantise(program, input_peak={})
    neuron = quantised.program.layers[0].neuron
    np.testing.assert_array_equal(neuron.du, np.rint(4.096 / tau_syn) - 1)
    np.testing.assert_array_equal(neuron.dv, np.rint(4.096 / tau_mem))
    assert 0 < quantised.costs[0].dv < 1e-3
    notes = [finding for finding in check(graph, contract) if finding.rule == "uniform_decay"]
    assert [(note.node, note.level, note.actual) for note in notes] == [("n1", "note", "24 pairs of decays")]
    inputs = {"input": net.spikes(rng, 60, 8, (8,))}
    a, b = (net.run_program(one, inputs)["n1"] for one in (program, quantised.program))
    assert 0.02 < a.mean() < 0.9 and (a != b).mean() < 0.08


def case_d5(seed, low=-178, high=192, threshold=150, dv=415, unit=512.0, float32=False):
    """Return case D5: a graph whose numbers lie on Loihi's grid, its weights, and spikes."""
    rng = np.random.default_rng(seed)
    even = 2 if low < 0 else 1
    weights = rng.integers(low // even, high // even + 1, (24, 32)) * even
    values = {"tau_syn": 1e-3, "tau_mem": 4.096 / dv, "r": 4096 / dv, "v_threshold": threshold / unit, "w_in": 1.0}
    kind = np.float32 if float32 else np.float64
    values = {name: np.full(24, value, kind) for name, value in values.items()}
    node = nir.CubaLIF(**values, v_leak=np.zeros(24), v_reset=np.zeros(24))
    graph = net.chain((32,), nir.Linear((weights / unit).astype(kind)), node)
    return graph, weights, np.random.default_rng(0).random((100, 4, 32)) < 0.3


def recursion_d5(weights, x, threshold=150, dv=415):
    v, sent = np.zeros((4, 24), np.int64), []
    for spikes in x.astype(np.int64):
        v = np.sign(v) * (np.abs(v) * (4096 - dv) >> 12) + 64 * spikes @ weights.T
        sent.append(v > 64 * threshold)
        v[sent[-1]] = 0
    return np.stack(sent)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"float32": True},
        {"low": 0, "threshold": 1500},
        {"unit": 7.3, "dv": 1000},
        {"low": -60, "high": 60, "dv": 0},
    ],
)
def test_numbers_on_grid_stay(seed, changed):
    """Case D5: a network that lies on Loihi's grid keeps its integers."""
    if changed.get("dv") == 0:
        graph, weights, x = case_d5(seed, **{**changed, "dv": 4096})
        nodes = [graph.nodes["n0"], nir.IF(np.ones(24), np.full(24, 150 / 512), np.zeros(24))]
        graph = net.chain((32,), *nodes)
    else:
        graph, weights, x = case_d5(seed, **changed)
    program = lower(graph, Contract(input_coding="spikes"))
    layer = quantise(program, input_peak={}).program.layers[0]
    np.testing.assert_array_equal(layer.connections[0].synapse.weight, weights)
    assert layer.connections[0].weight_exp == 0 and layer.scale == pytest.approx(changed.get("unit", 512), rel=1e-6)
    threshold, dv = changed.get("threshold", 150), changed.get("dv", 415)
    assert (layer.neuron.v_threshold, layer.neuron.dv, layer.neuron.du) == (threshold, dv, 4095)
    calibrated = calibrate(program, x).program
    spikes = net.run_program(calibrated, {"input": x})["n1"]
    wanted = recursion_d5(weights, x, threshold, dv)
    assert 0.01 < wanted.mean() < 0.9
    np.testing.assert_array_equal(spikes, wanted)


def test_numbers_beside_grid_are_rounded():
    graph, _, _ = case_d5(0)
    program = lower(graph, Contract(input_coding="spikes"))
    layer = program.layers[0]
    on_grid = quantise(program, input_peak={}).program.layers[0].scale

    def scale(**changes):
        other = replace(layer, neuron=replace(layer.neuron, **changes))
        return quantise(replace(program, layers=(other,)), input_peak={}).program.layers[0].scale

    assert scale(bias=np.full(24, 3 / 512 / 64)) == on_grid
    for changes in ({"v_threshold": np.asarray(150.3 / 512)}, {"dv": np.asarray(0.3)}, {"bias": np.asarray(1e-4)}):
        assert scale(**changes) != on_grid, changes


def test_ties_are_equal_in_graph_and_program():
    """v equals v_threshold in exact arithmetic, but not as float64 rounds it in either order."""
    contract = Contract(input_coding="spikes")
    ties = 0
    for seed in range(4):
        graph, weights, x = case_d5(seed)
        program = lower(graph, contract)
        record = run_graph(graph, contract, x, rasters=["n1"])
        np.testing.assert_array_equal(net.run_program(program, {"input": x})["n1"], record.layers["n1"].raster)
        np.testing.assert_array_equal(net.define(graph, contract, x)["n1"], record.layers["n1"].raster)
        ties += int((x.astype(int) @ weights.T == 150).sum())
    assert ties > 20


def test_analog_input_beside_weights_fits_its_message():
    """An analog input enters a layer that other weights reach, too: its peak bounds the scale."""
    rng = np.random.default_rng(8)
    nodes = {
        "input": (6,),
        "other": (6,),
        "in": net.lif((6,), rng, uniform=True),
        "fc": nir.Linear(rng.normal(0, 1e-3, (6, 6))),
        "lif": net.lif((6,), rng, uniform=True),
    }
    edges = [("input", "in"), ("in", "fc"), ("fc", "lif"), ("other", "lif"), ("lif", "output")]
    program = lower(net.graph_of(nodes, edges), Contract())
    port = quantise(program, input_peak={"input": 1.0, "other": 2.0}).program.inputs[1]
    assert 30_000 < port.limit <= 32_767


def test_different_thresholds_move_into_weights():
    rng = np.random.default_rng(6)
    graph = net.chain((8,), net.affine(8, 16, rng), net.lif((16,), rng, tau=np.full(16, 5e-3)))
    program = lower(graph, Contract(input_coding="spikes"))
    assert np.ptp(program.layers[0].neuron.v_threshold) > 0
    rates, _ = disagreement(graph, {"input": net.spikes(rng, 32, 16, (8,))}, Contract(input_coding="spikes"))
    assert max(rates.values()) < 0.02
    integer = quantise(program, input_peak={}).program.layers[0]
    unit = integer.neuron.v_unit / integer.scale
    np.testing.assert_allclose(integer.neuron.v_threshold * unit, graph.nodes["n1"].v_threshold, rtol=0.02)


def test_quantisation_errors_per_layer():
    rng = np.random.default_rng(7)
    result = quantise(lower(residual(rng), net.CONTRACT), input_peak={"input": 8.0})
    assert [cost.layer for cost in result.costs] == [layer.name for layer in result.program.layers]
    first, *others = result.costs
    assert first.weights == 0 and 0 < first.input_step < 1e-3
    assert all(
        1e-4 < cost.weights < 0.02 and cost.weight_bits >= 7 and cost.threshold < 0.01 and cost.dv < 1e-3
        for cost in others
    )
    coarse = quantise(
        lower(residual(np.random.default_rng(7)), net.CONTRACT),
        input_peak={"input": 8.0},
        scales={"n1": first.scale / 500},
    )
    assert next(cost for cost in coarse.costs if cost.layer == "n1").scale == first.scale / 500


def test_scales_override_the_default():
    rng = np.random.default_rng(8)
    program = lower(residual(rng), net.CONTRACT)
    scales = default_scales(program, input_peak={"input": 8.0})
    assert scales == {layer.name: layer.scale for layer in quantise(program, input_peak={"input": 8.0}).program.layers}
    smaller = {name: 0.8 * value for name, value in scales.items()}
    result = quantise(program, input_peak={"input": 8.0}, scales=smaller)
    assert {layer.name: layer.scale for layer in result.program.layers} == smaller
    assert result.program.inputs[0].scale == smaller["n0"]
    with pytest.raises(GraphError, match="17 bit"):
        quantise(program, input_peak={"input": 8.0}, scales={"n2": 1e6})


def test_saturating_input_does_not_wrap_the_current():
    rng = np.random.default_rng(9)
    program = lower(residual(rng, net.cuba), net.CONTRACT)
    integer = quantise(program, input_peak={"input": 3.0}).program
    net.run_program(integer, {"input": net.analog(rng, 60, 4, (24,), 1e4)})  # asserts that u does not wrap
    net.run_program(integer, {"input": np.full((60, 1, 24), 1e9)})


def test_wide_fan_in_lowers_the_scale():
    rng = np.random.default_rng(10)
    layer = nir.Linear(rng.uniform(0.5, 1.0, (3, 4096)))
    program = lower(
        net.chain((4096,), layer, net.lif((3,), rng, r=np.full(3, 1e-3), uniform=True)), Contract(input_coding="spikes")
    )
    integer = quantise(program, input_peak={}).program
    connection = integer.layers[0].connections[0]
    assert connection.weight_exp < 0 and connection.synapse.weight.max() > 127
    raster = net.run_program(integer, {"input": np.ones((5, 1, 4096))})
    assert 0.9 < largest_current(integer, integer.layers[0]) / (1 << 23) <= 1
    assert raster["n1"].shape == (5, 1, 3)


def test_read_out_membrane():
    rng = np.random.default_rng(11)
    taus = np.full(5, 6e-3)
    rest = np.full(5, 0.3)
    graph = net.chain(
        (8,),
        net.affine(8, 12, rng),
        net.lif((12,), rng, uniform=True),
        net.affine(12, 5, rng),
        nir.LI(taus, np.ones(5), rest),
    )
    contract = Contract(input_coding="spikes", timesteps=30)
    x = {"input": net.spikes(rng, 30, 4, (8,))}
    program = lower(graph, contract)
    integer = quantise(program, input_peak={}).program
    a, b = net.run_program(program, x), net.run_program(integer, x)
    same = (a["n1"] == b["n1"]).all(axis=(0, 2))
    assert same.any()
    np.testing.assert_allclose(a["n3"][:, same], b["n3"][:, same] / (64 * integer.layers[1].scale) + rest, atol=0.02)


def test_always_on_line_and_bias_are_scaled():
    rng = np.random.default_rng(12)
    for make in (net.lif, net.cuba):
        graph = net.chain((8,), net.affine(8, 12, rng), make((12,), rng, **net.population(rng, make, 12)))
        graph.nodes["n0"].bias[:] *= 3
        program = lower(graph, Contract(input_coding="spikes"))
        result = quantise(program, input_peak={})
        assert result.costs[0].bias < 0.01
        rates, _ = disagreement(graph, {"input": net.spikes(rng, 32, 16, (8,))}, Contract(input_coding="spikes"))
        assert max(rates.values()) < 0.03


@pytest.mark.parametrize(
    "end", [nir.Threshold(np.full(5, 0.3)), nir.LIF(*(np.full(5, x) for x in (1e-3, 1.0, 0.0, 0.3, 0.0))), None]
)
def test_full_decay_keeps_a_4096th(end):
    rng = np.random.default_rng(15)
    nodes = [net.affine(8, 12, rng), net.lif((12,), rng, **net.population(rng, net.lif, 12)), net.affine(12, 5, rng)]
    graph = net.chain((8,), *nodes, *([end] if end else []))
    contract = Contract(input_coding="spikes")
    inputs = {"input": net.spikes(rng, 64, 16, (8,))}
    quantised = quantise(lower(graph, contract), input_peak={})
    last = quantised.program.layers[-1]
    assert last.neuron.dv == 4095
    assert [
        finding.node for finding in check(graph, contract) if finding.rule == "full_decay" and finding.level == "note"
    ] == [last.name]
    assert quantised.costs[-1].dv == pytest.approx(1 / 4096)
    a, b = (net.run_program(program, inputs)[last.name] for program in (lower(graph, contract), quantised.program))
    if end:
        assert 0.05 < a.mean() < 0.95 and (a != b).mean() < 0.03
    else:
        near = np.abs(b / (64 * quantised.program.layers[-1].scale) - a) < 0.02 * np.abs(a).max()
        assert near.mean() > 0.97  # elsewhere a hidden spike differed


def test_more_than_full_decay_is_refused():
    rng = np.random.default_rng(16)
    program = lower(net.chain((4,), net.affine(4, 4, rng), net.lif((4,), rng)), Contract(input_coding="spikes"))
    layer = program.layers[0]
    wild = replace(program, layers=(replace(layer, neuron=replace(layer.neuron, dv=np.full(4, 1.2))),))
    with pytest.raises(GraphError, match="4095"):
        quantise(wild, input_peak={})


REFUSED = {
    "no decay left": ({"tau": np.full(4, 100.0)}, "rounded away"),
    "threshold at rest": ({"v_threshold": np.zeros(4)}, "above the resting potential"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unrepresentable_networks_are_refused(case):
    values, words = REFUSED[case]
    rng = np.random.default_rng(13)
    node = net.lif((4,), rng, **({"tau": np.full(4, 5e-3)} | values))
    program = lower(net.chain((4,), net.affine(4, 4, rng), node), Contract(input_coding="spikes"))
    with pytest.raises(GraphError, match=words) as caught:
        quantise(program, input_peak={})
    assert caught.value.do


def test_direct_input_needs_uniform_threshold_and_peak():
    rng = np.random.default_rng(14)
    # Neurons that differ get weights of 1, which absorb it.
    uneven = lower(net.chain((4,), net.lif((4,), rng)), net.CONTRACT)
    (layer,) = uneven.layers
    assert uneven.inputs[0].coding == "graded" and layer.connections[0].synapse.kind == "scale"
    integer = quantise(uneven, input_peak={"input": 2.0}).program
    x = net.analog(rng, 30, 2, (4,), 1.0).clip(-2, 2)
    float_spikes, spikes = (net.run_program(program, {"input": x})["n0"] for program in (uneven, integer))
    assert float_spikes.sum() > 15 and (float_spikes != spikes).mean() < 0.05
    without = replace(layer, connections=(replace(layer.connections[0], synapse=None),))
    direct = replace(uneven, inputs=(replace(uneven.inputs[0], coding="current"),), layers=(without,))
    with pytest.raises(GraphError, match="share one threshold"):
        quantise(direct, input_peak={"input": 1.0})
    even = lower(net.chain((4,), net.lif((4,), rng, uniform=True)), net.CONTRACT)
    with pytest.raises(GraphError, match="range is not known"):
        quantise(even, input_peak={})
    with pytest.raises(GraphError, match="already in integers"):
        quantise(quantise(even, input_peak={"input": 1.0}).program, input_peak={"input": 1.0})


def test_default_scales_keep_limits_that_rounding_may_exceed():
    """Rounding lifts what adaptive neurons can reach by a little over 24 bits here."""
    rng = np.random.default_rng(0)
    one = np.ones(4)
    own = {"dynamics": "adaptive", "tau_threshold": 5e-3, "tau_refractory": 5e-3, "threshold_step": 0.05}
    weights = nir.Linear(rng.normal(size=(4, 6)) * 2 / np.sqrt(6))
    read_out = nir.LI(5e-3 * one, one, 0.1 * one)
    adaptive = nir.LIF(8e-3 * one, one, 0 * one, 0.05 * one, 0 * one, metadata={f"ashneuro.{k}": own[k] for k in own})
    program = lower(net.chain((6,), weights, read_out, adaptive), Contract(input_coding="current"))
    scales = default_scales(program, input_peak={"input": 1.0})
    assert quantise(program, input_peak={"input": 1.0}, scales=scales).program.layers[0].scale == scales["n2"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([net.lif, net.cuba]), st.floats(1e-3, 1e3), st.integers(2, 40))
def test_quantised_programs_keep_all_limits(seed, make, size, width):
    rng = np.random.default_rng(seed)
    graph = residual(rng, make, width, depth=2)
    for node in graph.nodes.values():
        if isinstance(node, nir.Affine):
            node.weight *= size * rng.choice([0, 1, 1, 1, 20], node.weight.shape)
            node.bias *= size
    program = lower(graph, net.CONTRACT)
    try:
        integer = quantise(program, input_peak={"input": size}).program
    except GraphError as error:
        assert "threshold is a whole number from 1" in str(
            error
        )  # weights so large that the threshold is nothing beside them
        return
    assert all(finding.ok for finding in check_program(integer))
    for layer in integer.layers:
        low, high = accumulation(integer, layer)
        assert (low <= high).all()
    net.run_program(integer, {"input": rng.standard_normal((6, 2, width)) * size})


def test_accumulation_is_reached_by_the_worst_input():
    rng = np.random.default_rng(15)
    program = quantise(lower(residual(rng), net.CONTRACT), input_peak={"input": 2.0}).program
    layer = program.layers[2]
    low, high = accumulation(program, layer)
    best = worst = 0
    for connection in layer.connections:
        weights = matrix(connection.synapse).toarray().astype(np.int64)
        for bound, wanted in ((1, weights > 0), (-1, weights < 0)):
            total = (weights * wanted).sum(axis=1)
            total = total << connection.weight_exp if connection.weight_exp >= 0 else total >> -connection.weight_exp
            best, worst = (best + total, worst) if bound > 0 else (best, worst + total)
    np.testing.assert_array_equal(high, best)
    np.testing.assert_array_equal(low, worst)
    graded = quantise(
        lower(net.chain((8,), net.affine(8, 3, rng), net.lif((3,), rng, uniform=True)), net.CONTRACT),
        input_peak={"input": 2.0},
    )
    low, high = accumulation(graded.program, graded.program.layers[0])
    weights = graded.program.layers[0].connections[0].synapse.weight.astype(int)
    np.testing.assert_array_equal(high, 127 * np.abs(weights).sum(axis=1))
    np.testing.assert_array_equal(low, -high)
    wide = replace(
        program, layers=(*program.layers[:2], replace(layer, connections=layer.connections * 3000), program.layers[3])
    )
    assert "current_does_not_wrap" in {finding.rule for finding in check_program(wide) if not finding.ok}
