"""Compiled layers against torch, at the edges of blocks of 16-bit sums, tiles and shifts."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from ashneuro.errors import ConfigError
from ashneuro.program.program import InputPort, Layer, Neuron, Synapse
from ashneuro.program.synapse import conv_shape
from ashneuro.simulation.emulator import backend_native
from ashneuro.simulation.emulator.compiled import KINDS, PARAMETERS, CompiledNeurons
from ashneuro.simulation.emulator.neurons import population
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.spiking.dynamics import DYNAMICS
from ashneuro.spiking.firing import Firing
from ashneuro.spiking.kernels.cpp import NativeError
from ashneuro.spiking.message import Message
from tests.simulation import nets


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    monkeypatch.delenv(backend_native.VARIABLE, raising=False)
    if not backend_native.enabled():
        pytest.skip("no C++ compiler; install one, for example: apt install g++")


def both(program, x, monkeypatch, backend="numpy"):
    """Return the record of compiled layers, after comparing it with torch's."""
    names = [layer.name for layer in program.layers]
    records = []
    for kernels in ("native", "torch"):
        monkeypatch.setenv(backend_native.VARIABLE, kernels)
        records.append(run_program(program, x, rasters=names, traces=names, backend=backend))
    ours, theirs = records
    for part in ("layers", "inputs"):
        for name, activity in getattr(ours, part).items():
            other = getattr(theirs, part)[name]
            for field in ("counts", "raster", "u", "v", "ones"):
                np.testing.assert_array_equal(
                    getattr(activity, field), getattr(other, field), err_msg=f"{name} {field}"
                )
            assert (activity.active_updates, activity.binary) == (other.active_updates, other.binary), name
    return ours


def one_layer(weight, *, exponent=0, du=4095, bias=0):
    neuron = Neuron(*(np.array(np.int32(value)) for value in (du, 300, 2000)), np.array(np.int32(bias)))
    synapse = Synapse("dense", (weight.shape[1],), (weight.shape[0],), weight.astype(np.int32))
    layer = Layer("a", (weight.shape[0],), neuron, (nets.connect("input", synapse, weight_exp=exponent),), 1)
    return nets.Random(0, "integer").program(InputPort("input", (weight.shape[1],), "spikes"), [layer])


@pytest.mark.parametrize("sign", ["mixed", "excitatory", "inhibitory"])
@pytest.mark.parametrize("exponent", [0, 3, -4, -8])
@pytest.mark.parametrize("lines", [1, 7, 127, 128, 129, 600])
def test_sums_and_shifts(lines, exponent, sign, monkeypatch):
    random = np.random.default_rng(lines)
    weight = np.full((70, lines), {"mixed": 254, "excitatory": 255, "inhibitory": -255}[sign])
    weight[1::2] = random.integers(0, 128, weight[1::2].shape) * 2 * (-1 if sign == "inhibitory" else 1)
    if sign == "mixed":
        weight[::3] = -256
    x = (random.random((6, 3, lines)) < 0.5).astype(np.uint8)
    x[0], x[1] = 1, 0  # every line at once, and none
    record = both(one_layer(weight, exponent=exponent, du=1500), x, monkeypatch)
    total = int(weight[0].sum()) << exponent if exponent > 0 else int(weight[0].sum()) >> -exponent
    if abs(total) < 1 << 17:  # else u wraps
        assert record.layers["a"].u[0, 0, 0] == total << 6


@pytest.mark.parametrize("neurons", [1, 63, 64, 65, 130])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_population_sizes(neurons, backend, monkeypatch):
    random = np.random.default_rng(neurons)
    weight = 2 * random.integers(-100, 101, (neurons, 9))
    record = both(one_layer(weight, bias=40), (random.random((300, 2, 9)) < 0.4).astype(np.uint8), monkeypatch, backend)
    assert 0 < record.firing_rate("a") < 1


@pytest.mark.parametrize("net", nets.NETS)
@pytest.mark.parametrize("seed", [2, 9, 21])
def test_all_programs(net, seed, monkeypatch):
    random, program = nets.NETS[net](seed, "integer")
    both(program, random.inputs(program.inputs[0], 11, 5), monkeypatch)


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("subtract", [None, 1.0, 0.7])
@pytest.mark.parametrize("comparison", ["strict", "inclusive"])
@pytest.mark.parametrize("net", ["dense", "conv", "recurrent"])
def test_all_firings(net, comparison, subtract, late, monkeypatch):
    random, program = nets.NETS[net](4, "integer")
    firing = Firing(comparison, "value" if subtract is None else "subtract", late)

    def changed(layer):
        amount = None if subtract is None else np.int32(subtract * layer.neuron.v_threshold)
        neuron = replace(layer.neuron, firing=firing, v_subtract=amount)
        return replace(layer, neuron=neuron) if layer.neuron.spiking else layer

    before = both(program, random.inputs(program.inputs[0], 11, 5), monkeypatch)
    program = replace(program, layers=tuple(map(changed, program.layers)))
    record = both(program, random.inputs(program.inputs[0], 11, 5), monkeypatch)
    if subtract is not None or late:
        assert any((record.layers[name].raster != before.layers[name].raster).any() for name in record.layers)


FURTHER = {
    "refractory": {"refractory_steps": 2},
    "adaptive": {"d_threshold": 500, "d_refractory": 1200, "threshold_step": 90},
    "resonate": {"sin": 2300, "cos": 3100},
    "izhikevich": {"sin": 1300, "cos": 3700},
    "ternary": {"threshold_below": 700},
}


def with_dynamics(kind, neuron, **changed):
    """Return a neuron of another kind; ``changed``: parameters."""
    parameters = {name: np.asarray(value, np.int32) for name, value in (FURTHER[kind] | changed).items()}
    none = {"bias": np.zeros((), np.int32), "du": np.asarray(4095, np.int32)} if "sin" in parameters else {}
    return replace(neuron, dynamics=kind, parameters=parameters, message=DYNAMICS[kind].message, **none)


@pytest.mark.parametrize("net", ["dense", "conv", "recurrent"])
@pytest.mark.parametrize("kind", FURTHER)
def test_all_dynamics(kind, net, monkeypatch):
    random, program = nets.NETS[net](5, "integer")
    alike = sum(layer.neuron.binary for layer in program.layers)
    layers = [
        replace(layer, neuron=with_dynamics(kind, layer.neuron)) if layer.neuron.binary else layer
        for layer in program.layers
    ]
    program = replace(program, layers=tuple(layers))
    ran, run_layer = [], backend_native.run_layer
    monkeypatch.setattr(backend_native, "run_layer", lambda *given: ran.append(given[0].kind) or run_layer(*given))
    record = both(program, random.inputs(program.inputs[0], 40, 3), monkeypatch)
    assert (ran.count(kind) == alike) == (net != "recurrent")
    assert sum(activity.events for activity in record.layers.values()) > 20


@pytest.mark.parametrize("net", ["dense", "conv"])
@pytest.mark.parametrize("kind", FURTHER)
def test_dynamics_with_decays_per_neuron(kind, net, monkeypatch):
    random, program = nets.NETS[net](5, "integer")
    draw = np.random.default_rng(8)

    def changed(layer):
        if not layer.neuron.binary:
            return layer
        turns = {name: draw.integers(1000, 2900, layer.shape) for name in FURTHER[kind] if name in ("sin", "cos")}
        neuron = with_dynamics(kind, layer.neuron, **turns)
        return replace(layer, neuron=replace(neuron, dv=draw.integers(0, 4096, layer.shape).astype(np.int32)))

    program = replace(program, layers=tuple(map(changed, program.layers)))
    record = both(program, random.inputs(program.inputs[0], 40, 3), monkeypatch)
    assert sum(activity.events for activity in record.layers.values()) > 5


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("kind", ["resonate", "izhikevich"])
def test_imaginary_input(kind, each, monkeypatch):
    """Through a synapse of its own, and directly; both beside real input."""
    random = np.random.default_rng(4)
    program = one_layer(2 * random.integers(-100, 101, (70, 9)), exponent=3)
    (layer,) = program.layers
    size = (70,) if each else ()
    neuron = with_dynamics(
        kind, layer.neuron, sin=random.integers(1000, 2000, size), cos=random.integers(3000, 3500, size)
    )
    synapse = Synapse("dense", (9,), (70,), (2 * random.integers(-100, 101, (70, 9))).astype(np.int32))
    direct = InputPort("direct", (70,), "current", 1.0, 2000)
    x = {"input": (random.random((60, 3, 9)) < 0.4).astype(np.uint8), "direct": random.normal(0, 300, (60, 3, 70))}
    for others in (
        (replace(nets.connect("input", synapse), imaginary=True),),
        (replace(nets.connect("input", synapse), imaginary=True), nets.connect("direct", None, 1)),
        (replace(nets.connect("direct", None, 1), imaginary=True),),
    ):
        ports = (*program.inputs, direct) if any(one.source == "direct" for one in others) else program.inputs
        changed = replace(layer, neuron=neuron, connections=(*layer.connections, *others))
        run = replace(program, inputs=ports, layers=(changed,))
        record = both(run, {port.name: x[port.name] for port in ports}, monkeypatch)
        assert record.layers["a"].events > 20


CHANGES = [
    Message("change", 16, shift=5),
    Message("change", 16, 900.0, "relu", shift=5),
    Message("change", 16, 900.0, "relu", True, 2),
    Message("change", 16, 900.0, "none", False, -1),
    Message("change", 8, 127, "levels", False, 5, 40),
    Message("change", 5, 15, "levels", True, 0),
]


@pytest.mark.parametrize("message", CHANGES)
@pytest.mark.parametrize("net", ["dense", "conv"])
def test_changes(net, message, monkeypatch):
    """Sigma-delta neurons, their chains and their read-outs."""
    random, program = nets.NETS[net](4, "integer")

    def changed(layer):
        neuron = random.changes(layer.shape, 3, spiking=layer.neuron.spiking)
        neuron = replace(neuron, bias_exp=7 if message.shift > 0 else 3, message=message)
        weaker = tuple(replace(one, weight_exp=-8 if message.shift < 0 else -5) for one in layer.connections)
        return replace(layer, neuron=neuron, connections=weaker)

    program = replace(program, layers=tuple(map(changed, program.layers)))
    record = both(program, random.inputs(program.inputs[0], 11, 5), monkeypatch)
    assert sum(activity.events for activity in record.layers.values()) > 20


@pytest.mark.parametrize("layout", [None, (7, 10)])
@pytest.mark.parametrize("kind", [*FURTHER, *CHANGES], ids=str)
def test_parameters_per_neuron(kind, layout):
    """The kernel against the library, on currents: programs share most of these parameters."""
    draw, shape = np.random.default_rng(8), (7, 10)
    (layer,) = one_layer(np.zeros((70, 1))).layers
    threshold = draw.integers(500, 2000, shape).astype(np.int32)
    if isinstance(kind, Message):
        neuron, du = nets.Random(2, "integer").changes(shape, 3), draw.choice([-1, 4095], shape)
        neuron = replace(neuron, du=du, v_threshold=threshold // (1000 if kind.levels else 200), message=kind)
    else:
        each = {
            name: np.minimum(draw.integers(max(1, value // 2), 2 + 3 * value // 2, shape), 4095)
            for name, value in FURTHER[kind].items()
        }
        neuron = with_dynamics(kind, layer.neuron, **each)
        neuron = replace(neuron, dv=draw.integers(0, 4096, shape).astype(np.int32), v_threshold=threshold)
    made = population(
        replace(layer, shape=shape, neuron=neuron), "integer", np, lambda values: np.asarray(values, np.int32)
    )
    currents = draw.integers(-1500, 2500, (40, 3, *shape)).astype(np.int32)
    rest, states = np.zeros((3, *shape), np.int32), []
    wanted = made.run(rest, rest.copy(), currents.copy(), states)
    compiled = CompiledNeurons.of(made, made.bias)
    assert not compiled.alike
    ran = backend_native.run_layer(compiled, currents.shape, currents, [], layout, True)
    np.testing.assert_array_equal(ran.sent, wanted.sent)
    np.testing.assert_array_equal(ran.counts, np.count_nonzero(wanted.sent, axis=(0, 1)))
    assert ran.active == wanted.active and 20 < ran.counts.sum() < wanted.sent.size
    for ours, theirs in zip((ran.u, ran.v), zip(*states, strict=True), strict=True):
        np.testing.assert_array_equal(ours, np.stack(theirs))


def test_changes_beyond_16_bits(monkeypatch):
    """Nothing clips a change, and 32 bits hold the sums."""
    weight, behind = np.full((40, 9), 254), np.array([[254, -256, 2] * 13 + [4], [6] * 40])
    program = graded_layers(weight, behind, limit=300, exponent=-7)
    first, last = program.layers
    message = Message("change", 16)
    summed = {"du": np.asarray(-1, np.int32), "v_threshold": np.asarray(0, np.int32), "message": message}
    first = replace(
        first,
        neuron=replace(first.neuron, **summed),
        connections=tuple(replace(one, weight_exp=7) for one in first.connections),
    )
    last = replace(last, neuron=replace(last.neuron, **summed))
    x = (np.random.default_rng(0).random((6, 3, 9)) < 0.5).astype(np.uint8)
    record = both(replace(program, layers=(first, last)), x, monkeypatch)
    assert np.abs(record.layers["a"].raster).max() > 1 << 16
    assert np.abs(record.layers["b"].raster).max() > 0


@pytest.mark.parametrize("size", [70, 1 << 14, 1 << 17])
def test_convolution_of_changes_of_any_size(size, monkeypatch):
    """One pixel changes by more than others, by 8, 15 or 18 bits."""
    draw = np.random.default_rng(3)
    summed = nets.Random(2, "integer").changes((3, 4, 5), 1)
    zero = np.asarray(0, np.int32)
    summed = replace(summed, bias=zero, v_threshold=zero, message=Message("change", 16))
    first = Layer("a", (3, 4, 5), summed, (nets.connect("input", None),), 0)
    weight = 2 * draw.integers(-99, 100, (33, 3, 3, 3)).astype(np.int32)
    synapse = Synapse("conv", (3, 4, 5), (33, 4, 5), weight, (1, 1), ((1, 1), (1, 1)), (1, 1))
    last = Layer("b", (33, 4, 5), summed, (nets.connect("a", synapse, weight_exp=-8),), 1)
    port = InputPort("input", (3, 4, 5), "current", 1.0, 1 << 18)
    program = nets.Random(0, "integer").program(port, [first, last])
    x = draw.integers(-60, 61, (5, 3, 3, 4, 5)).astype(float)
    x[1:3, :, 0, 1, 2] = size
    record = both(program, x, monkeypatch)
    a, b = record.layers["a"], record.layers["b"]
    assert a.sent.dtype == (np.int16 if size < 1 << 15 else np.int32) and b.events > 100


@pytest.mark.parametrize("kind", ["ternary", "count", "graded"])
def test_messages_take_the_fewest_bytes(kind, monkeypatch):
    message = DYNAMICS["ternary"].message if kind == "ternary" else Message(kind, 8, 255)
    random = np.random.default_rng(4)
    program = graded_layers(2 * random.integers(-99, 100, (40, 9)), np.full((7, 40), 2), limit=255, exponent=-3)
    first, last = program.layers
    firing = {"firing": Firing(reset="subtract"), "v_subtract": np.asarray(90, np.int32)} if kind == "count" else {}
    neuron = replace(first.neuron, message=message, v_threshold=np.asarray(90, np.int32), **firing)
    neuron = with_dynamics(kind, neuron) if kind == "ternary" else neuron
    program = replace(program, layers=(replace(first, neuron=neuron), last))
    record = both(program, (random.random((9, 3, 9)) < 0.5).astype(np.uint8), monkeypatch)
    sent = record.layers["a"].sent
    assert sent.dtype == (np.int8 if kind == "ternary" else np.uint8)
    assert (sent.min(), sent.max()) == ((-1, 1) if kind == "ternary" else (0, sent.max())) and sent.any()


@pytest.mark.parametrize("kind", FURTHER)
def test_states_of_dynamics_at_limits(kind, monkeypatch):
    """u wraps, v saturates, and threshold and refractory state pass 24 bits."""
    weight = np.array([[254, -256, 254], [-256, 254, 254], [254, 254, 254]])
    program = one_layer(weight, exponent=7, du=400)
    (layer,) = program.layers
    highest = {"threshold_step": 131071, "d_refractory": 0}
    changed = highest if kind == "adaptive" else {"threshold_below": 131071} if kind == "ternary" else {}
    neuron = with_dynamics(kind, replace(layer.neuron, dv=np.asarray(3, np.int32)), **changed)
    program = replace(program, layers=(replace(layer, neuron=neuron),))
    record = both(program, (np.random.default_rng(0).random((300, 4, 3)) < 0.7).astype(np.uint8), monkeypatch)
    # Ternary neurons fire below that.
    assert np.abs(record.layers["a"].v).max() == (1 << 23) - 1 or kind == "ternary"


@pytest.mark.parametrize("limit", [1, 3, 255])
@pytest.mark.parametrize("comparison", ["strict", "inclusive"])
@pytest.mark.parametrize("net", ["dense", "conv", "recurrent"])
def test_spike_counts(net, comparison, limit, monkeypatch):
    random, program = nets.NETS[net](4, "integer")

    def changed(layer):
        amount = np.maximum(layer.neuron.v_threshold // 40, 1)
        message, firing = Message("count", 8, limit), Firing(comparison, "subtract")
        neuron = replace(layer.neuron, v_threshold=amount, firing=firing, v_subtract=amount, message=message)
        weaker = tuple(replace(connection, weight_exp=-6) for connection in layer.connections)
        return replace(layer, neuron=neuron, connections=weaker) if layer.neuron.spiking else layer

    program = replace(program, layers=tuple(map(changed, program.layers)))
    record = both(program, random.inputs(program.inputs[0], 11, 5), monkeypatch)
    sending = [layer.name for layer in program.layers if layer.neuron.spiking]
    largest = max(int(record.layers[name].raster.max()) for name in sending)
    assert min(limit, 20) <= largest <= limit


@pytest.mark.parametrize("net", nets.NETS)
@pytest.mark.parametrize("subtract", [None, 0.6])
@pytest.mark.parametrize("late", [0, 1])
def test_decays_per_neuron(net, subtract, late, monkeypatch):
    random, program = nets.NETS[net](5, "integer")
    draw, firing = np.random.default_rng(6), Firing("strict", "value" if subtract is None else "subtract", late)

    def changed(layer):
        amount = None if subtract is None else np.int32(subtract * layer.neuron.v_threshold)
        du, dv = draw.integers(0, 4096, (2, *layer.shape)).astype(np.int32)
        neuron = replace(layer.neuron, du=du, dv=dv if draw.random() < 0.8 else layer.neuron.dv)
        return replace(layer, neuron=replace(neuron, firing=firing, v_subtract=amount) if neuron.spiking else neuron)

    program = replace(program, layers=tuple(map(changed, program.layers)))
    record = both(program, random.inputs(program.inputs[0], 11, 5), monkeypatch)
    assert any(activity.events for activity in record.layers.values())


def convolution(
    in_shape, outputs, kernel, stride, padding, dilation, groups=1, *, exponent=0, weight=None, seed=0, threshold=900
):
    """Return a program of one convolution from spikes."""
    random = np.random.default_rng(seed)
    if weight is None:
        weight = 2 * random.integers(-128, 128, (outputs, in_shape[0] // groups, *kernel))
    out_shape = conv_shape(in_shape, kernel, outputs, stride, padding, dilation)
    synapse = Synapse("conv", in_shape, out_shape, weight.astype(np.int32), stride, padding, dilation, groups)
    bias = random.integers(-50, 51, out_shape).astype(np.int32)
    neuron = Neuron(*(np.array(np.int32(value)) for value in (random.choice([4095, 1200]), 300, threshold)), bias)
    layer = Layer("a", out_shape, neuron, (nets.connect("input", synapse, weight_exp=exponent),), 1)
    return nets.Random(0, "integer").program(InputPort("input", in_shape, "spikes"), [layer])


def is_compiled(program, layer=None):
    """Return True if every connection of the layer is compiled."""
    layer = layer or program.layers[-1]
    lags = {index: program.lag(layer, connection) for index, connection in enumerate(layer.connections)}
    return len(backend_native.EventInputs.of(layer, lags).synapses) == len(lags)


@pytest.mark.parametrize("seed", range(60))
def test_convolution_shapes(seed, monkeypatch):
    random = np.random.default_rng(seed)
    axes = 1 if seed % 6 == 5 else 2
    kernel, dilation = (tuple(map(int, random.integers(1, most, axes))) for most in (5, 4))
    stride = tuple(map(int, random.integers(1, 4, axes)))
    padding = tuple((int(before), int(after)) for before, after in random.integers(0, 3, (axes, 2)))
    spans = [gap * (taps - 1) + 1 for taps, gap in zip(kernel, dilation, strict=True)]
    sides = tuple(int(random.integers(max(1, span - sum(pad)), 12)) for span, pad in zip(spans, padding, strict=True))
    groups = int(random.choice([1, 1, 2, 3, 7]))
    channels, outputs = (groups * int(random.integers(1, most)) for most in (70 // groups, 140 // groups))
    if seed % 10 == 9:
        channels = outputs = groups = 33  # one channel each
    program = convolution(
        (channels, *sides),
        outputs,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        exponent=int(random.integers(-3, 3)),
        seed=seed,
    )
    assert is_compiled(program)
    timesteps, samples = int(random.choice([1, 2, 9])), int(random.choice([1, 3]))
    x = (random.random((timesteps, samples, channels, *sides)) < random.choice([0.02, 0.2, 0.6])).astype(np.uint8)
    x[-1, 0], x[timesteps // 2, -1] = 0, 1
    both(program, x, monkeypatch, "torch" if seed % 2 else "numpy")


@pytest.mark.parametrize("size", [-256, 255, 254])
@pytest.mark.parametrize("exponent", [0, 3, -6])
@pytest.mark.parametrize(
    "channels", [14, 15, 43, 128, 129]
)  # of 9 taps: around the 127 or 128 weights that 16 bits hold, and 3 times these
def test_largest_weights_of_convolutions(channels, exponent, size, monkeypatch):
    weight = np.full((33, channels, 3, 3), size)
    weight[1::2] = 126 if size == -256 else size - 1 & ~1
    x = np.ones((3, 2, channels, 4, 3), np.uint8)
    x[1, 1] = np.random.default_rng(channels).random(x.shape[2:]) < 0.8
    whole, none = (1, 1), ((1, 1), (1, 1))
    record = both(
        convolution(x.shape[2:], 33, (3, 3), whole, none, whole, exponent=exponent, weight=weight), x, monkeypatch
    )
    total = 9 * channels * size
    total = total << exponent if exponent > 0 else total >> -exponent
    if abs(total) < 1 << 17:  # else u wraps
        assert record.layers["a"].u[0, 0, 0, 1, 1] == total << 6


@pytest.mark.parametrize("limit", [1, 255, 32767])
@pytest.mark.parametrize("amount", [1, 3, 77, 4097, 65535])
def test_spike_counts_of_any_potential(amount, limit, monkeypatch):
    """Quotients of all sizes, and those just below and at a whole number."""
    values = (np.array(np.int32(value)) for value in (4095, 4095, amount))
    counting = Neuron(
        *values,
        np.zeros((), np.int32),
        firing=Firing(reset="subtract"),
        v_subtract=np.array(np.int32(amount)),
        message=Message("count", 15, limit),
    )
    layer = Layer("n", (40,), counting, (nets.connect("input", None),), 0)
    program = nets.Random(0, "integer").program(InputPort("input", (40,), "current", 1.0, 2**17), [layer])
    random = np.random.default_rng(amount)
    x = random.integers(1 - 2**17, 2**17, (50, 3, 40)).astype(float)
    multiples = amount * random.integers(-3, 2**17 // amount, (25, 3, 40)) + random.integers(-1, 2, (25, 3, 40))
    x[::2] = np.clip(multiples, 1 - 2**17, 2**17 - 1)
    x[1] = most = 2**17 - 1
    record = both(program, x, monkeypatch)
    assert record.layers["n"].raster.max() == min(limit, (64 * most - 1) // (64 * amount))


@pytest.mark.parametrize(
    ("weights", "block"),
    [
        ([255] * 128 + [127], 2**31 - 1),  # 2^15 − 1
        ([255] * 128 + [128], 128),
        ([254] * 129 + [-256] * 127, 2**31 - 1),  # each sign by itself
        ([254] * 129 + [-256] * 128, 127),
    ],
)
def test_block_bounds_16_bit_sums(weights, block, monkeypatch):
    one, weight = (1, 1), np.array([weights, weights[::-1]])[:, :, None, None]
    program = convolution((len(weights), 1, 2), 2, one, one, ((0, 0), (0, 0)), one, weight=weight)
    spread = backend_native.EventSynapse.of(program.layers[0].connections[0], 0, (2, 2))
    assert spread.block == block
    x = (np.array(weights)[:, None, None] > [[0, -1000]]).astype(
        np.uint8
    )  # the positive ones at one place, all at the other
    record = both(program, x[None, None], monkeypatch)
    np.testing.assert_array_equal(
        record.layers["a"].u[0, 0, 0, 0], [sum(w for w in weights if w > 0) << 6, sum(weights) << 6]
    )


def test_convolutions_and_other_synapses_into_one_layer(monkeypatch):
    """Dense and convolved spikes into one layer, reshaped layers, delays, unequal convolutions."""
    r = nets.Random(5, "integer")
    port, line = r.port((6, 5, 7), "spikes"), InputPort("line", (1,), "spikes", constant=True)
    conv, flat = r.conv((6, 5, 7), 9), r.conv((9, 35), 63)
    layers = [
        Layer(
            "a",
            (9, 35),
            r.neuron((9, 35), threshold=300),
            (nets.connect("input", conv), nets.connect("line", r.dense((1,), 315))),
            1,
        ),
        Layer("b", (2205,), r.neuron((2205,), threshold=300), (nets.connect("a", flat),), 2),
        Layer(
            "c",
            (9, 5, 7),
            r.neuron((9, 5, 7), threshold=400),
            (
                nets.connect("a", r.conv((9, 5, 7), 9, groups=3), 1),
                nets.connect("b", r.dense((2205,), 315, size=8)),
                nets.connect("a", r.conv((9, 35), 9, kernel=1, padding=0), 3),
                nets.connect("a", r.identity((9, 5, 7)), 2),
                nets.connect("a", r.conv((315, 1), 315, kernel=1, padding=0, groups=45), 1),
            ),
            3,
        ),
        Layer(
            "out",
            (4,),
            r.neuron((4,), spiking=False),
            (nets.connect("c", r.dense((315,), 4)), nets.connect("a", r.dense((315,), 4), 4)),
            4,
        ),
    ]
    program = r.program(port, layers, line)
    record = both(program, r.inputs(port, 7, 3), monkeypatch)
    assert all(0 < record.firing_rate(name) < 1 for name in "abc")
    assert max(program.lag(layer, connection) for layer, connection in program.connections()) == 2
    assert [is_compiled(program, layer) for layer in layers] == [True, True, False, True]


def test_steps_in_pieces(monkeypatch):
    program = convolution((5, 9, 9), 20, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    x = (np.random.default_rng(0).random((10, 2, 5, 9, 9)) < 0.3).astype(np.uint8)
    whole = both(program, x, monkeypatch)
    monkeypatch.setenv(backend_native.VARIABLE, "native")
    for piece in (1, 3 * 1620, 1 << 40):
        monkeypatch.setattr(backend_native, "PIECE", piece)
        record = run_program(program, x, rasters=["a"], traces=["a"], backend="numpy")
        for field in ("counts", "raster", "u", "v", "ones"):
            np.testing.assert_array_equal(getattr(record.layers["a"], field), getattr(whole.layers["a"], field))


def test_threads_give_same_results():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[train]'")
    random, program = nets.conv_net(4, "integer")
    x = random.inputs(program.inputs[0], 5, 300)
    names, before, records = [layer.name for layer in program.layers], torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            records.append(run_program(program, x, rasters=names, traces=names, backend="torch"))
    finally:
        torch.set_num_threads(before)
    for record in records[1:]:
        for name in names:
            for field in ("counts", "raster", "u", "v", "active_updates"):
                np.testing.assert_array_equal(
                    getattr(record.layers[name], field), getattr(records[0].layers[name], field)
                )


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_input_memory_layouts(backend, monkeypatch):
    program = convolution((6, 5, 4), 7, (3, 2), (1, 1), ((1, 1), (0, 0)), (1, 1))
    x = (np.random.default_rng(2).random((4, 3, 6, 5, 4)) < 0.4).astype(np.uint8)
    want = both(program, x, monkeypatch, backend)
    monkeypatch.setenv(backend_native.VARIABLE, "native")
    turned = np.ascontiguousarray(x.transpose(4, 1, 3, 2, 0)).transpose(4, 1, 3, 2, 0)
    for same in (turned, np.ascontiguousarray(x[::-1])[::-1], x.astype(bool), x.astype(np.float32)):
        same.flags.writeable = False
        record = run_program(program, same, rasters=["a"], backend=backend)
        np.testing.assert_array_equal(record.layers["a"].raster, want.layers["a"].raster)


def test_overflow_equals_library(monkeypatch):
    random, program = nets.overflow_net(3)
    both(program, random.inputs(program.inputs[0], 40, 4), monkeypatch)


def test_states_at_limits(monkeypatch):
    """States of the largest magnitudes, with decays of every single bit."""
    for dv in (0, 1, 2, 1023, 2048, 4094, 4095):
        sink = Neuron(
            *(np.array(np.int32(value)) for value in (dv, dv, 1)), np.array([4095, -4096, 1], np.int32), 7, False
        )
        layer = Layer("v", (3,), sink, (nets.connect("input", None),), 0)
        program = nets.Random(0, "integer").program(InputPort("input", (3,), "current", 1.0, 2**20), [layer])
        x = np.tile(np.array([[[2**17 - 1, 1 - 2**17, 77]]], float), (9, 2, 1))
        x[3:] = [[-5, 3, -131_071]]
        both(program, x, monkeypatch)


def test_kinds_and_sizes_are_those_of_the_kernel():
    source = backend_native.SOURCE.read_text(encoding="utf-8")
    (kinds,) = re.findall(r"enum Kind \{(.*)\};", source)
    assert tuple(kind.strip().lower() for kind in kinds.split(",")) == KINDS
    for field in ("int32_t shared", "const int32_t\\* each"):
        assert re.findall(rf"{field}\[(\d+)\];", source) == [str(PARAMETERS)]
    for name in ("ROWS", "COPIED"):
        assert f"{name} = {getattr(backend_native, name)};" in source
    types = ["SPIKES", *(str(one).upper() for one in backend_native.TYPES)]
    assert f"enum Type {{ {', '.join(types)} }};" in source


def test_count_exceeds_a_byte():
    spikes = (np.random.default_rng(1).random((700, 3, 300)) < 0.9).astype(np.uint8)
    np.testing.assert_array_equal(backend_native.count(spikes)[0], spikes.sum((0, 1)))
    assert backend_native.count(np.zeros((0, 2, 5), np.uint8))[0].tolist() == [0] * 5
    numbers = np.random.default_rng(2).integers(-2, 3, (700, 3, 300)).astype(np.int16)
    types = (numbers.astype(kind) for kind in (np.int8, np.int32))
    for part in (numbers, numbers[:, 1:], *types, np.abs(numbers).astype(np.uint8)):
        counts, ones = backend_native.count(part, whole=True, numbers=True)
        np.testing.assert_array_equal(counts, np.count_nonzero(part, axis=(0, 1)))
        np.testing.assert_array_equal(ones, (np.abs(part) == 1).sum((0, 1)))


def test_missing_compiler_is_an_error_only_if_native_is_forced(monkeypatch):
    def nothing():
        raise NativeError("no C++ compiler (c++)")

    monkeypatch.setattr(backend_native, "_library", nothing)
    assert not backend_native.enabled()
    monkeypatch.setenv(backend_native.VARIABLE, "torch")
    assert not backend_native.enabled()
    monkeypatch.setenv(backend_native.VARIABLE, "native")
    with pytest.raises(ConfigError, match=r"native kernels\nwhy: no C\+\+ compiler"):
        backend_native.enabled()


def graded_layers(weight, behind, *, limit, exponent, bits=15):
    """Return a program of graded neurons behind spikes, and of LIF neurons behind these."""
    program = one_layer(weight)
    (layer,) = program.layers
    neuron = replace(layer.neuron, v_threshold=np.array(0, np.int32), message=Message("graded", bits, limit))
    synapse = Synapse("dense", layer.shape, (behind.shape[0],), behind.astype(np.int32))
    last = Layer("b", synapse.out_shape, layer.neuron, (nets.connect("a", synapse, weight_exp=exponent),), 2)
    return replace(program, layers=(replace(layer, neuron=neuron), last), outputs=("b",))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 40, 96, 97, 200])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_sums_of_graded_values(size, backend, monkeypatch):
    random = np.random.default_rng(size)
    weight, behind = 2 * random.integers(-100, 101, (size, 9)), 2 * random.integers(-127, 127, (size + 3, size))
    program = graded_layers(weight, behind, limit=300, exponent=-7)
    record = both(program, (random.random((90, 3, 9)) < 0.4).astype(np.uint8), monkeypatch, backend)
    values = record.layers["a"].raster
    assert values.max() == 300 and 0.1 < (values > 0).mean() < 0.9
    assert record.layers["b"].events > 0


@pytest.mark.parametrize("size", [255, -255, 254])
@pytest.mark.parametrize("limit", [1, 2, 15, 16, 17])
def test_products_in_16_bits(limit, size, monkeypatch):
    """All values are at their limit, and as many of them add up as 16 bits hold."""
    behind = np.full((33, 300), size)
    behind[:, ::2] = -256 if size == 254 else size
    program = graded_layers(np.full((300, 9), 254), behind, limit=limit, exponent=-6)
    record = both(program, np.ones((3, 2, 9), np.uint8), monkeypatch)
    assert (record.layers["a"].raster == limit).all()
    assert (record.layers["b"].u[0] == (int(behind[0].sum()) * limit >> 6) << 6).all()


def test_graded_sums_beyond_32_bits_are_the_librarys(monkeypatch):
    """255 · 32767 · 300 exceeds 2^31; with an exponent of −8 the sum is a possible input."""
    weight, behind = np.full((300, 200), 254), np.full((2, 300), 254)
    program = graded_layers(weight, behind, limit=32767, exponent=-8)
    x = np.zeros((3, 2, 200), np.uint8)
    x[:, :, 7] = 1  # within 32 bits, which is what the library computes in
    seen, of = [], backend_native.EventInputs.of
    monkeypatch.setattr(
        backend_native.EventInputs, "of", lambda layer, lags, payloads=(): seen.append(set(lags)) or of(layer, lags)
    )
    record = both(program, x, monkeypatch)
    assert seen == [{0}, set()] and record.layers["a"].raster.max() == 254
