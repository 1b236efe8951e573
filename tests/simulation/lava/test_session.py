"""Lava, in its own interpreter, against the reference in plain Python numbers."""

import math

import numpy as np
import pytest

from ashneuro.errors import ConfigError, DataError, LavaError
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.inputs import check_inputs
from ashneuro.simulation.lava import layout, network
from ashneuro.simulation.lava.network import REQUEST_STEPS
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.units import read_out
from tests.simulation import machine_reference, nets

pytestmark = pytest.mark.lava


@pytest.fixture(scope="module")
def lava():
    with Lava() as running:
        yield running


def expect_equal(program, record, x):
    wanted = machine_reference.run(program, check_inputs(program.inputs, None, {"input": x}))
    for layer in program.layers:
        got = record.layers[layer.name]
        if layer.neuron.spiking:
            np.testing.assert_array_equal(got.counts, (wanted[layer.name] != 0).sum((0, 1)))
        if layer.neuron.binary:
            np.testing.assert_array_equal(got.raster, wanted[layer.name])
        else:
            np.testing.assert_allclose(
                got.raster, read_out(layer, wanted[layer.name], program.precision), rtol=0, atol=1e-12
            )
    return wanted


def run(lava, program, x, **kwargs):
    return lava.run(program, x, rasters=[layer.name for layer in program.layers], **kwargs)


def test_versions(lava):
    assert lava.versions["lava-nc"] == "0.10.0"
    assert lava.versions["python"].startswith("3.10.")


CASES = [(net, precision, 2) for net in nets.NETS for precision in ("float", "integer")]
CASES += [
    (net, "integer", None) for net in ("conv", "recurrent")
]  # graphs of all kinds run so in test_random_graphs.py


@pytest.mark.parametrize(("net", "precision", "stock"), CASES)
def test_streamed_samples_equal_reference(lava, net, precision, stock):
    random, program = nets.NETS[net](29, precision)
    x = random.inputs(program.inputs[0], 8, 6)
    told = []
    record = run(lava, program, x, stock=stock, progress=lambda done, total: told.append((done, total)))
    wanted = expect_equal(program, record, x)
    assert sum(0 < (wanted[layer.name] != 0).mean() < 1 for layer in program.layers if layer.neuron.spiking) >= 2
    assert told[-1] == (6, 6)
    if net != "recurrent" and stock is None:  # there samples run side by side
        assert len(told) > 1, f"more than one request of {REQUEST_STEPS} steps"
    assert record.stock_samples == (2 if stock else 6)


def test_overflow_equals_reference(lava):
    random, program = nets.overflow_net(1)
    x = random.inputs(program.inputs[0], 40, 3)
    wanted = expect_equal(program, run(lava, program, x, stock=1), x)
    assert all(0 < spikes.mean() < 1 for spikes in wanted.values())


@pytest.mark.parametrize("timesteps", [1, 2])
def test_sample_shorter_than_network_depth(lava, timesteps):
    """The reset offset of a layer at depth d, d + 1 steps, is then longer than a sample."""
    random, program = nets.conv_net(8, "integer")
    x = 4 * random.inputs(program.inputs[0], timesteps, 9)
    wanted = expect_equal(program, run(lava, program, x), x)
    assert wanted["e"].any() or wanted["d"].any()


def test_wrong_reset_offset_leaks_between_samples(lava, monkeypatch):
    """One step off, and samples leak into each other: the comparisons above can fail."""
    original = network.describe

    def late(*args, **options):
        description = original(*args, **options)
        description.header["layers"][1]["offset"] += 1
        return description

    monkeypatch.setattr(network, "describe", late)
    random, program = nets.dense_net(29, "float")
    x = random.inputs(program.inputs[0], 8, 6)
    with pytest.raises(AssertionError, match="not equal"):
        expect_equal(program, run(lava, program, x), x)


def many(seed=5, precision="integer", timesteps=4, samples=20):
    """Return a program and samples for it."""
    random, program = nets.spike_input_net(seed, precision)
    return program, random.inputs(program.inputs[0], timesteps, samples)


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 4 samples, 2 side by side."""
    monkeypatch.setattr(layout, "WIDTH", 2)
    monkeypatch.setattr(layout, "CHUNK_STEPS", 4)
    monkeypatch.setattr(layout, "ROUNDS_PER_IDLE", 1)


def test_two_workers_give_same_results_in_order(small_chunks):
    program, x = many(samples=15)
    told = []
    with Lava(workers=2) as lava:
        record = run(lava, program, x, stock=2, progress=lambda done, total: told.append((done, total)))
        assert len(lava.health()) == 2 and all(not health.busy for health in lava.health())
    expect_equal(program, record, x)
    assert record.stock_samples == 2 and record.samples == 15
    assert told[-1] == (15, 15) and [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize("size", [3, 4, 11])
def test_stream_keeps_order_and_prefetches_few_chunks(lava, small_chunks, size):
    program, x = many(samples=25)
    drawn, seen, done = [], [], 0

    def parts():
        for first in range(0, 25, size):
            drawn.append(min(25, first + size))
            yield x[:, first : first + size]

    for record in lava.stream(program, parts(), rasters=[layer.name for layer in program.layers], stock=2):
        expect_equal(program, record, x[:, done : done + record.samples])
        done += record.samples
        seen.append(drawn[-1] - done)
    assert done == 25 and not list(lava.stream(program, iter(())))
    assert seen[0] >= 4, "a chunk is ready when its predecessor is done"
    assert max(seen) <= 3 * 4 + size, "and only few are in memory"
    assert lava.seconds.lava > 0 and lava.seconds.transfer > 0 and lava.seconds.host > 0


def test_wrong_batched_synapse_is_detected(lava, monkeypatch):
    """A weight of the batched network differs: the check on stock samples detects it."""
    original = network.describe

    def other(*args, batched, **options):
        description = original(*args, batched=batched, **options)
        if batched:
            arrays = description.arrays
            key = next(name for name in arrays if name.startswith("connection.2."))  # into layer b
            arrays[key] = -arrays[key]
        return description

    monkeypatch.setattr(network, "describe", other)
    program, x = many(samples=20)
    with pytest.raises(
        LavaError,
        match=r"layer 'b' answers otherwise with 20 samples side by side\nwhy: \d+ of \d+ values.*\n.*--stock all",
    ):
        lava.run(program, x)
    expect_equal(program, run(lava, program, x, stock=None), x)


def test_interrupted_run_resumes_from_finished_chunks(lava, small_chunks, tmp_path):
    program, x = many(samples=30)
    names = [layer.name for layer in program.layers]

    def interrupt(done, total):
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lava.run(program, x, rasters=names, stock=2, resume=tmp_path, progress=interrupt)
    (folder,) = tmp_path.iterdir()
    kept = len(list(folder.glob("*.npz")))
    assert 1 <= kept < 30 // 2
    before = lava.seconds.lava
    told = []
    record = run(lava, program, x, stock=2, resume=tmp_path, progress=lambda done, total: told.append(done))
    expect_equal(program, record, x)
    assert record.stock_samples == 2
    assert lava.seconds.lava > before and not list(tmp_path.iterdir()), "what is complete is removed"


@pytest.mark.parametrize(("net", "precision"), [("dense", "integer"), ("recurrent", "float"), ("changes", "integer")])
def test_traces_equal_emulator(lava, net, precision):
    random, program = nets.NETS[net](4, precision)
    x = random.inputs(program.inputs[0], 7, 3)
    neurons = {"b": [4, 1], program.layers[-1].name: [0]}
    traces = lava.trace(program, x, neurons)
    wanted = run_program(program, x, rasters=list(neurons), traces=list(neurons))
    for name, chosen in neurons.items():
        activity, trace = wanted.layers[name], traces[name]
        for got, whole in ((trace.u, activity.u), (trace.v, activity.v)):
            np.testing.assert_allclose(
                got, whole.reshape(7, 3, -1)[..., chosen], rtol=0, atol=0 if precision == "integer" else 1e-12
            )
        if program.layer(name).neuron.spiking:
            sent = np.asarray(trace.sent) * 2.0 ** program.layer(name).neuron.message.shift  # of changes: in units of v
            np.testing.assert_array_equal(sent, activity.raster.reshape(7, 3, -1)[..., chosen])
        assert np.ptp(trace.v) > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "--workers 0"),
        ({"command": "ssh 'host"}, "No closing quotation"),
        ({"timeout_s": math.nan}, "--lava-timeout nan"),
        ({"timeout_s": 0.0}, "--lava-timeout 0"),
        ({"timeout_s": -5.0}, "--lava-timeout -5"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Lava(**settings)


@pytest.mark.parametrize("settings", [{"timeout_s": math.inf}, {"timeout_s": 3e6}, {"command": "  "}])
def test_infinite_timeout_and_empty_command(settings):
    random, program = nets.dense_net(1, "integer")
    x = random.inputs(program.inputs[0], 4, 2)
    with Lava(**settings) as lava:
        expect_equal(program, run(lava, program, x), x)


def test_invalid_inputs_are_refused(lava):
    random, program = nets.dense_net(1, "float")
    x = random.inputs(program.inputs[0], 4, 2)
    for wrong in (x[..., :-1], np.full_like(x, np.nan)):
        with pytest.raises(DataError):
            lava.run(program, wrong)
    with pytest.raises(ConfigError, match="--stock 0"):
        lava.run(program, x, stock=0)
