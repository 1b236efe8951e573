import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from ashneuro.errors import ConfigError, DataError, GraphError
from ashneuro.program.program import InputPort, Layer, Neuron
from ashneuro.simulation.emulator import run_program as module
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.inputs import check_inputs
from ashneuro.simulation.units import read_out
from tests.simulation import machine_reference, nets

BACKENDS = ["numpy", "torch"]
PRECISIONS = ["float", "integer"]


@pytest.fixture(autouse=True, params=["auto", "torch"])
def kernels(request, monkeypatch):
    """With compiled layers if there is a compiler, and without."""
    monkeypatch.setenv("ASHNEURO_KERNELS", request.param)


def expect_equal(program, record, x):
    """Compare every layer, step and neuron with the reference, which must not be trivial."""
    wanted = machine_reference.run(program, check_inputs(program.inputs, None, {"input": x}))
    for layer in program.layers:
        want, activity = wanted[layer.name], record.layers[layer.name]
        if layer.neuron.payload:
            assert 0 < (want != 0).mean() < 1 and not activity.binary and not activity.read_out
            np.testing.assert_array_equal(activity.counts, (want != 0).sum((0, 1)))
        if layer.neuron.binary:
            assert 0 < want.mean() < 1
            np.testing.assert_array_equal(activity.raster, want)
            np.testing.assert_array_equal(activity.counts, want.sum((0, 1)))
        elif program.precision == "integer":
            np.testing.assert_array_equal(activity.raster, read_out(layer, want, "integer"))
        else:
            np.testing.assert_allclose(activity.raster, want, rtol=0, atol=1e-12)


def names(program):
    return [layer.name for layer in program.layers]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("net", nets.NETS)
@pytest.mark.parametrize("seed", [3, 14])
def test_program_equals_reference(net, precision, backend, seed):
    random, program = nets.NETS[net](seed, precision)
    x = random.inputs(program.inputs[0], 7, 3)
    record = run_program(program, x, rasters=names(program), backend=backend)
    expect_equal(program, record, x)
    assert (record.source, record.timesteps, record.samples) == ("loihi" if precision == "integer" else "torch", 7, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_integer_program_is_made_ready_once(backend, monkeypatch):
    made, population = [], module.population
    monkeypatch.setattr(
        module, "population", lambda layer, *given: made.append(layer.name) or population(layer, *given)
    )
    random, program = nets.conv_net(3, "integer")
    x = random.inputs(program.inputs[0], 7, 3)
    first, again = (run_program(program, x, rasters=names(program), backend=backend) for _ in range(2))
    assert made == names(program)
    for name in names(program):
        np.testing.assert_array_equal(first.layers[name].raster, again.layers[name].raster)
    # Of other weights is another program.
    *others, layer = program.layers
    connection = layer.connections[0]
    silent = replace(connection, synapse=replace(connection.synapse, weight=connection.synapse.weight * 0))
    changed = replace(program, layers=(*others, replace(layer, connections=(silent,))))
    other = run_program(changed, x, rasters=names(program), backend=backend)
    assert made == names(program) * 2
    assert (other.layers[layer.name].raster != first.layers[layer.name].raster).any()


def test_a_program_that_ran_is_freed():
    random, program = nets.conv_net(3, "integer")
    run_program(program, random.inputs(program.inputs[0], 7, 3), backend="numpy")
    seen = weakref.ref(program)
    del program
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_overflow_equals_reference(backend):
    random, program = nets.overflow_net(1)
    x = random.inputs(program.inputs[0], 40, 4)
    record = run_program(program, x, rasters=names(program), backend=backend)
    expect_equal(program, record, x)
    # A current without the wrap would give other spikes: it must have happened.
    a = program.layers[0].neuron
    u = np.zeros((4, 6))
    for t in range(40):
        u = np.trunc(u * (4096 - (int(a.du) + 1)) / 4096) + np.clip(np.rint(x[t] * 30000), -32767, 32767) * 64
    assert (np.abs(u) > 2**23).any()


@pytest.mark.parametrize("units", [2**17, 2**17 + 1, -(2**17), -(2**17) + 1])
@pytest.mark.parametrize("backend", BACKENDS)
def test_wraps_exactly_at_the_edge(backend, units):
    """Currents of exactly ±2^23 (64 · 2^17), seen through a read-out."""
    watch = Neuron(*(np.array(np.int32(x)) for x in (4095, 4095, 1, 0)), 0, False)
    layer = Layer("u", (1,), watch, (nets.connect("input", None),), 0)
    program = nets.Random(0, "integer").program(InputPort("input", (1,), "current", 1.0, 2**20), [layer])
    x = np.full((1, 1, 1), float(units))
    record = run_program(program, x, backend=backend)
    expect_equal(program, record, x)
    inside = -(2**17) < units <= 2**17
    assert (record.layers["u"].raster[0, 0, 0] > 0) == ((units > 0) == inside)


@pytest.mark.parametrize("backend", BACKENDS)
def test_saturates_exactly_at_the_edge(backend):
    """The largest currents of both signs, and a bias on top."""
    sink = Neuron(*(np.array(np.int32(x)) for x in (4095, 0, 1)), np.array([4095, -4096], np.int32), 7, False)
    layer = Layer("v", (2,), sink, (nets.connect("input", None),), 0)
    program = nets.Random(0, "integer").program(InputPort("input", (2,), "current", 1.0, 2**20), [layer])
    x = np.array([[[2**17 - 1, 1 - 2**17]], [[0, 0]]], float)
    record = run_program(program, x, backend=backend)
    expect_equal(program, record, x)
    np.testing.assert_array_equal(record.layers["v"].raster[0, 0] * 64, [2**23 - 1, 1 - 2**23])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_spikes_strictly_above_the_threshold(backend, precision):
    kind = np.int32 if precision == "integer" else float
    neuron = Neuron(*(np.array(x, kind) for x in (4095 if precision == "integer" else 1, 0, 7, 0)), 0)
    layer = Layer("a", (2,), neuron, (nets.connect("input", None),), 0)
    program = nets.Random(0, precision).program(InputPort("input", (2,), "current", 1.0, 100), [layer])
    record = run_program(program, np.array([[[7.0, 8.0]]]), rasters=["a"], backend=backend)
    assert record.layers["a"].raster.tolist() == [[[0, 1]]]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_active_updates_counts_states_inputs_and_biases(precision):
    random = nets.Random(0, precision)
    kind = np.int32 if precision == "integer" else float
    keep = 1000 if precision == "integer" else 0.3
    silent = Neuron(
        *(np.array(x, kind) for x in (4095 if precision == "integer" else 1, keep, 100)), np.array([0, 0, 1], kind)
    )
    program = random.program(
        InputPort("input", (3,), "current", 1.0, 100), [Layer("a", (3,), silent, (nets.connect("input", None),), 0)]
    )
    x = np.zeros((5, 1, 3))
    x[2, 0, 0] = 50
    # Neuron 0 is active from its input in step 2 on; neuron 1 is at rest; neuron 2 has a bias.
    assert run_program(program, x).layers["a"].active_updates == 3 + 0 + 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_chunks_give_same_results(backend, monkeypatch):
    from ashneuro.simulation.emulator import arrays

    random, program = nets.conv_net(5, "integer")
    x = random.inputs(program.inputs[0], 4, 7)
    whole = run_program(program, x, rasters=["e"], backend=backend)
    original, told = arrays.TorchArrays.__init__, []

    def small(self, device):
        original(self, device)
        self.batch = 3

    monkeypatch.setattr(arrays.TorchArrays, "__init__", small)
    monkeypatch.setattr(arrays.NumpyArrays, "batch", 3)
    chunked = run_program(
        program, x, rasters=["e"], backend=backend, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(3, 7), (6, 7), (7, 7)]
    np.testing.assert_array_equal(chunked.layers["e"].raster, whole.layers["e"].raster)
    for name in names(program):
        np.testing.assert_array_equal(chunked.layers[name].counts, whole.layers[name].counts)
        assert chunked.layers[name].active_updates == whole.layers[name].active_updates


def test_only_requested_rasters_are_kept():
    random, program = nets.dense_net(1, "integer")
    record = run_program(program, random.inputs(program.inputs[0], 4, 2), rasters=["b"])
    assert {name: activity.raster is not None for name, activity in record.layers.items()} == {
        "a": False,
        "b": True,
        "c": False,
        "out": True,
    }
    assert record.layers["b"].raster.dtype == np.uint8


def test_samples_shorter_than_depth():
    random, program = nets.conv_net(8, "integer")
    x = 3 * random.inputs(program.inputs[0], 1, 6)
    wanted = machine_reference.run(program, {"input": x})
    record = run_program(program, x, rasters=names(program))
    for name, want in wanted.items():
        np.testing.assert_array_equal(record.layers[name].raster, want)


def test_inputs_are_recorded():
    random, program = nets.spike_input_net(1, "integer")
    x = random.inputs(program.inputs[0], 4, 3)
    record = run_program(program, x)
    np.testing.assert_array_equal(record.inputs["input"].counts, x.sum((0, 1)))
    assert record.inputs["bias"].events == 12
    assert record.inputs["input"].binary
    random, program = nets.graded_net(1, "integer")
    assert not run_program(program, random.inputs(program.inputs[0], 4, 3)).inputs["input"].binary


def replace_weights(change):
    random, program = nets.dense_net(1, "integer")
    change(program.layers[1].connections[0].synapse.weight)
    return program, random.inputs(program.inputs[0], 3, 1)


@pytest.mark.parametrize("weight", [3, 256, -258])
def test_weights_beyond_hardware_are_refused(weight):
    program, x = replace_weights(lambda w: w.__setitem__((0, 0), weight))
    with pytest.raises(
        GraphError, match=r"Loihi's arithmetic\nwhy: b \(layer\): Weights of both signs are even and in \[-256, 254\]"
    ):
        run_program(program, x)


def test_sums_that_wrap_twice_are_refused():
    random = nets.Random(0, "integer")
    wide = random.dense((1200,), 2, size=254)
    layers = [
        Layer("a", (1200,), random.neuron((1200,)), (nets.connect("input", None),), 0),
        Layer("b", (2,), random.neuron((2,)), (nets.connect("a", wide, weight_exp=7),), 1),
    ]
    program = random.program(random.port((1200,)), layers)
    with pytest.raises(GraphError, match="layer 'b' can receive"):
        run_program(program, random.inputs(program.inputs[0], 2, 1))


def test_large_sums_use_float64():
    """Odd sums above 2^24, which float32 would round up to another result."""
    random = nets.Random(0, "integer")
    weights = nets.Synapse("dense", (1,), (1,), np.array([[255]], np.int32))
    watch = Neuron(*(np.array(np.int32(x)) for x in (4095, 4095, 0, 0)), 0, False)
    layer = Layer("a", (1,), watch, (nets.connect("input", weights, weight_exp=-8),), 1)
    program = random.program(InputPort("input", (1,), "graded", 1.0, 2**20), [layer])
    x = np.array([65_793.0 + 256 * k for k in range(1, 6)]).reshape(5, 1, 1)
    for backend in BACKENDS:
        expect_equal(program, run_program(program, x, backend=backend), x)


def test_negative_lag_is_refused():
    random = nets.Random(0, "float")
    layers = [
        Layer("a", (2,), random.neuron((2,)), (nets.connect("input", None),), 0),
        Layer("b", (2,), random.neuron((2,)), (nets.connect("a", random.dense((2,), 2)),), 2),
    ]
    with pytest.raises(GraphError, match=r"a → b\n.*1 step\(s\) before they are sent"):
        run_program(random.program(random.port((2,)), layers), np.zeros((2, 1, 2)))


def test_unknown_device_is_refused():
    random, program = nets.dense_net(1, "float")
    with pytest.raises(ConfigError, match="device 'abacus'"):
        run_program(program, random.inputs(program.inputs[0], 2, 1), device="abacus")


PORT = InputPort("pixels", (2, 3), "current")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 2, 3)), r"'pixels' has shape \(4, 2, 3\)\n.*\(T, B, 2, 3\).*\n.*add the time axis"),
        (np.zeros((4, 5, 3, 2)), r"has shape \(4, 5, 3, 2\)"),
        (np.zeros((0, 5, 2, 3)), r"T and B at least 1"),
        (np.full((4, 1, 2, 3), np.nan), "not finite\n.*step 0 of sample 0"),
        (np.zeros((4, 1, 2, 3), complex), "complex128\n.*real numbers"),
        (np.full((4, 1, 2, 3), "a"), "real numbers"),
        (np.zeros((5, 1, 2, 3)), "has 5 time steps\n.*lasts 4"),
        ({"picture": np.zeros((4, 1, 2, 3))}, "inputs picture\n.*pixels"),
    ],
)
def test_invalid_inputs_are_explained(given, message):
    with pytest.raises(DataError, match=message):
        check_inputs((PORT,), 4, given)


def test_spike_inputs_other_than_0_and_1_are_refused():
    port = InputPort("events", (2,), "spikes")
    with pytest.raises(DataError, match=r"'events' holds 0.5\n.*0 or 1"):
        check_inputs((port,), None, np.array([[[0, 1]], [[0.5, 1]]]))


def test_several_inputs_by_name():
    other = InputPort("other", (1,), "current")
    with pytest.raises(DataError, match="2 inputs: pixels, other"):
        check_inputs((PORT, other), None, np.zeros((4, 1, 2, 3)))
    with pytest.raises(DataError, match="do not belong together"):
        check_inputs((PORT, other), None, {"pixels": np.zeros((4, 1, 2, 3)), "other": np.zeros((4, 2, 1))})
