"""Changes of levels: a network computes by changes what it computes afresh."""

from itertools import pairwise

import nir
import numpy as np
import pytest

from ashneuro.errors import GraphError
from ashneuro.program.lower import lower
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
from tests.program.networks import define
from tests.program.test_changes import changes, stream
from tests.simulation import machine_reference

CONTRACT = Contract(timesteps=None)
LAYERS = ("entry", "first", "second", "join", "units")


def levels(shape, step, bits=4, jump=0.0, threshold=0.0):
    """Return a Threshold that sends changes of 2^(bits − 1) levels, 0 among them."""
    largest = 2 ** (bits - 1) - 1
    stated = {"activation": "levels", "bits": bits, "limit": step * largest}
    return changes(shape, threshold, **stated, **({"jump": jump} if jump else {}))


def network(bits=4, jump=0.0, threshold=0.0, seed=0):
    """Return a block with a skip, and a dense layer: sums of changes in front of the weights."""
    rng, shape, small = np.random.default_rng(seed), (2, 6, 6), (4, 3, 3)

    def conv(channels, stride):
        weight = rng.normal(0, 0.5, (4, channels, 3, 3))
        return nir.Conv2d((6, 6) if stride == 2 else (3, 3), weight, stride, 1, 1, 1, rng.normal(0, 0.2, 4))

    def sends(shape, step):
        return levels(shape, step, bits, jump and jump * step, threshold and threshold * step)

    nodes = {
        "input": nir.Input(np.array(shape)),
        "entry": sends(shape, 0.3),
        "sum0": nir.I(np.ones(shape)),
        "conv1": conv(2, 2),
        "first": sends(small, 0.37),
        "sum1": nir.I(np.ones(small)),
        "conv2": conv(4, 1),
        "second": sends(small, 0.45),
        "sum2": nir.I(np.ones(small)),
        "conv3": conv(4, 1),
        "skip": nir.Scale(np.full(small, 0.7)),
        "join": sends(small, 0.5),
        "sum3": nir.I(np.ones(small)),
        "flatten": nir.Flatten({"input": np.array(small)}, 0, -1),
        "dense": nir.Affine(rng.normal(0, 0.3, (7, 36)), rng.normal(0, 0.2, 7)),
        "units": sends((7,), 0.6),
        "output": nir.Output(np.array((7,))),
    }
    line = ["input", "entry", "sum0", "conv1", "first", "sum1", "conv2", "second", "sum2", "conv3", "join"]
    rest = ["join", "sum3", "flatten", "dense", "units", "output"]
    edges = [*pairwise(line), *pairwise(rest), ("sum1", "skip"), ("skip", "join")]
    return nir.NIRGraph(nodes, edges)


def afresh(x):
    """Return the frames of streams (T, B, ...) as samples of one step (1, T·B, ...)."""
    return x.reshape(1, -1, *x.shape[2:])


def values(program, x):
    """Return the sums of the layers' changes, (T, B, ...) by layer."""
    record = run_program(program, x, rasters=LAYERS)
    return {name: record.layers[name].raster.cumsum(axis=0) for name in LAYERS}


@pytest.mark.parametrize(("bits", "jump"), [(4, 0.0), (3, 1.4), (9, 1.4)])
def test_values_by_changes_are_those_of_fresh_coding(bits, jump):
    """Exact in integers; in floats to the rounding of sums."""
    x = stream(samples=3)
    float_program = lower(network(bits, jump), CONTRACT)
    integer = calibrate(float_program, x).program
    for program, tolerance in ((float_program, 1e-9), (integer, 1e-12)):
        by_changes, fresh = values(program, x), values(program, afresh(x))
        for name in LAYERS:
            again = fresh[name].reshape(by_changes[name].shape)
            np.testing.assert_allclose(by_changes[name], again, rtol=0, atol=tolerance)
            assert len(np.unique(np.round(by_changes[name], 6))) > 3 and (by_changes[name] > -1e-9).all()


def test_still_frames_send_nothing():
    x = np.repeat(stream(steps=1), 5, axis=0)
    program = calibrate(lower(network(), CONTRACT), x).program
    record = run_program(program, x, rasters=LAYERS)
    for name in LAYERS:
        assert record.layers[name].raster[0].any() and not record.layers[name].raster[1:].any()


def test_fewer_levels_and_thresholds_send_less():
    x = stream()
    sent = {
        key: sum(activity.events for activity in run_program(lower(network(*key), CONTRACT), x).layers.values())
        for key in ((9, 0.0, 0.0), (4, 0.0, 0.0), (4, 0.0, 2.0))
    }
    assert sent[9, 0.0, 0.0] > sent[4, 0.0, 0.0] > sent[4, 0.0, 2.0] > 0


@pytest.mark.parametrize(("jump", "threshold"), [(0.0, 0.0), (1.4, 0.0), (0.6, 2.0)])
def test_graph_programs_and_integers_equal_the_definition(jump, threshold):
    graph, x = network(4, jump, threshold), stream(samples=2, steps=6)
    wanted = define(graph, CONTRACT, {"input": x})
    program = lower(graph, CONTRACT)
    for record in (run_graph(graph, CONTRACT, x, rasters=LAYERS), run_program(program, x, rasters=LAYERS)):
        for name in LAYERS:
            np.testing.assert_allclose(record.layers[name].raster, wanted[name], rtol=0, atol=1e-9)
    integer = calibrate(program, x).program
    exact = machine_reference.run(integer, check_inputs(integer.inputs, None, {"input": x}))
    for backend in ("numpy", "torch"):
        record = run_program(integer, x, rasters=LAYERS, backend=backend)
        for name in LAYERS:
            found = read_out(integer.layer(name), exact[name], "integer")
            np.testing.assert_array_equal(record.layers[name].raster, found)


def test_integers_round_where_floats_do():
    """Values that are half a level go up in both; a level has 1, 2, 4 … units."""
    graph = network()
    x = np.zeros((1, 1, 2, 6, 6))
    x.flat[:6] = 0.3 * np.array([0.5, 1.5, 2.49, 2.5, 7.4, -3.0])
    program = lower(graph, CONTRACT)
    integer = quantise(program, input_peak={"input": 3.0}).program
    for one in (program, integer):
        found = run_program(one, x, rasters=["entry"]).layers["entry"].raster.flat[:6] / 0.3
        np.testing.assert_allclose(found, [1, 2, 2, 3, 7, 0], atol=1e-9)
    for name in LAYERS:
        layer = integer.layer(name)
        units = layer.scale * program.layer(name).neuron.message.step
        assert units == pytest.approx(2**layer.neuron.message.shift) and layer.neuron.message.limit == 7
        assert all(connection.weight_exp >= 0 for connection in layer.connections)


def test_metadata_and_files_hold_levels(tmp_path):
    node = levels((3,), 0.5, 4, 0.7)
    message = node_message(node)
    assert message == Message("change", 4, 3.5, "levels", jump=0.7) and message.step == 0.5
    program = lower(network(4, 1.4), CONTRACT)
    integer = quantise(program, input_peak={"input": 3.0}).program
    save_programs(tmp_path, {"float": program, "integer": integer})
    for name, one in load_programs(tmp_path).items():
        assert (
            one.layer("join").neuron.message
            == {"float": program, "integer": integer}[name].layer("join").neuron.message
        )


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"activation": "levels"}, "need the largest"),
        ({"activation": "levels", "limit": 1.0, "jump": 1.0}, "below the largest level"),
        ({"activation": "relu", "jump": 0.5}, "of levels alone"),
    ],
)
def test_faulty_levels_are_refused(stated, words):
    with pytest.raises(GraphError, match=words):
        node_message(changes((3,), **stated))


def test_other_scales_are_refused():
    with pytest.raises(GraphError, match="round where floats do"):
        quantise(lower(network(), CONTRACT), input_peak={"input": 3.0}, scales={"first": 10.0})
