"""Sigma-delta neurons in Lava: proofs, the script of a bundle, and equality with Lava's own."""

import numpy as np
import pytest

from ashneuro.program.lower import lower
from ashneuro.program.program import Neuron
from ashneuro.simulation.calibrate import calibrate
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.proof.certify import certify
from ashneuro.spiking.message import Message
from tests.program.test_changes import CONTRACT, LAYERS, network, stream, summed_end
from tests.simulation import nets
from tests.simulation.lava.stock import alone, stock
from tests.simulation.lava.test_script import start, write

pytestmark = pytest.mark.lava


def sent(neuron, currents, precision):
    """Return the messages (T, n) of the emulator, in its own units."""
    program = alone(neuron, currents.shape[1], precision)
    values = run_program(program, currents[:, None], rasters=("a",), backend="numpy").layers["a"].raster[:, 0]
    return values * 2.0 ** -(neuron.message.shift if neuron.spiking else 0)


STEPS, SIZE = 50, 200


@pytest.mark.parametrize("cumulative", [False, True])
@pytest.mark.parametrize("activation", ["none", "relu"])
def test_float_changes_equal_lavas_sigma_delta(tmp_path, activation, cumulative):
    rng = np.random.default_rng(0)
    currents, bias = rng.normal(0, 0.5, (STEPS, SIZE)), rng.normal(0, 0.3, SIZE)
    given = {"vth": 0.6, "bias": bias, "act_mode": int(activation == "relu"), "cum_error": cumulative}
    wanted = stock(tmp_path, "SigmaDelta", "floating_pt", currents, given)
    message = Message("change", 16, activation=activation, cumulative=cumulative)
    neuron = Neuron(np.array(0.0), np.array(1.0), np.array(0.6), bias, message=message)
    assert 0.05 < (wanted != 0).mean() < 0.9
    np.testing.assert_array_equal(sent(neuron, currents, "float"), wanted)


@pytest.mark.parametrize("cumulative", [False, True])
@pytest.mark.parametrize(("spike_exp", "state_exp"), [(6, 6), (0, 6), (3, 0)])
def test_integer_changes_equal_lavas_sigma_delta(tmp_path, spike_exp, state_exp, cumulative):
    rng = np.random.default_rng(1)
    exponent = spike_exp + state_exp
    currents = rng.integers(-40, 41, (STEPS, SIZE)).astype(np.int32) << exponent
    currents += rng.integers(-9, 10, currents.shape).astype(np.int32)  # bits that a message drops
    bias = rng.integers(-30, 30, SIZE).astype(np.int32)
    given = {"vth": 50, "bias": bias, "spike_exp": spike_exp, "state_exp": state_exp, "cum_error": cumulative}
    wanted = stock(tmp_path, "SigmaDelta", "fixed_pt", currents, given)
    message = Message("change", 16, activation="relu", cumulative=cumulative, shift=state_exp)
    keep, none, threshold = (np.array(np.int32(value)) for value in (-1, 4095, 50))
    neuron = Neuron(keep, none, threshold, bias, exponent, message=message)
    assert 0.05 < (wanted != 0).mean() < 0.9
    np.testing.assert_array_equal(sent(neuron, currents, "integer"), wanted)


@pytest.mark.parametrize("cumulative", [False, True])
def test_changes_of_the_input_equal_lavas_delta(tmp_path, cumulative):
    rng = np.random.default_rng(2)
    currents = rng.integers(-60, 61, (STEPS, SIZE)).astype(np.int32).cumsum(axis=0, dtype=np.int32)
    given = {"vth": 40, "spike_exp": 6, "state_exp": 6, "cum_error": cumulative}
    wanted = stock(tmp_path, "Delta", "fixed_pt", currents, given)
    message = Message("change", 16, cumulative=cumulative, shift=-6)
    none, threshold, zero = (np.array(np.int32(value)) for value in (4095, 40, 0))
    found = sent(Neuron(none, none, threshold, zero, message=message), currents, "integer")
    assert 0.05 < (wanted != 0).mean() < 0.9
    np.testing.assert_array_equal(found, wanted)


def test_sum_of_changes_equals_lavas_sigma(tmp_path):
    currents = np.random.default_rng(3).integers(-9000, 9001, (STEPS, SIZE)).astype(np.int32)
    wanted = stock(tmp_path, "Sigma", "fixed_pt", currents, {})
    keep, none, zero = (np.array(np.int32(value)) for value in (-1, 4095, 0))
    neuron = Neuron(keep, none, none, zero, spiking=False, message=Message("change", 16))
    np.testing.assert_array_equal(sent(neuron, currents, "integer"), wanted)


@pytest.mark.parametrize("cumulative", [False, True])
def test_networks_are_proved(cumulative):
    graph, x = network(0.2, cumulative=cumulative), stream(samples=7)
    program = lower(graph, CONTRACT)
    certificate = certify(graph, CONTRACT, {"float": program, "integer": calibrate(program, x).program}, x).certificate
    assert certificate.passed, certificate
    assert certificate.own_processes == dict.fromkeys(("n0", "n3", "n7"), "Changes")
    assert any("process Changes" in sentence for sentence in certificate.not_compared)
    for pair in certificate.required:
        layers = {layer.layer: layer for layer in pair.layers}
        assert all(layers[name].spikes > 50 for name in LAYERS[:3])


def test_sum_in_front_of_the_last_weights_is_proved():
    graph, x = summed_end(0.7), stream(samples=3)
    program = lower(graph, CONTRACT)
    certificate = certify(graph, CONTRACT, {"float": program, "integer": calibrate(program, x).program}, x).certificate
    assert certificate.passed and "output" not in certificate.own_processes, certificate
    assert all({layer.layer for layer in pair.layers} >= {"n7", "output"} for pair in certificate.required)


def test_script_verifies_changes(tmp_path):
    random, program = nets.change_net(3, "float")
    _, integer = nets.change_net(3, "integer")
    x = random.inputs(program.inputs[0], 6, 3)
    write(tmp_path / "bundle", program, integer, {"input": x})
    said = start(tmp_path / "bundle", "--verify")
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count(" 0 differ\n") == 2 * len(program.layers)
    assert "messages" in said.stdout and "read-out" in said.stdout
