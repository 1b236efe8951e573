"""Compiled layers against the array library, where blocks of 16-bit sums, tiles and shifts have their edges."""

from __future__ import annotations

import numpy as np
import pytest

from ashneuro.errors import ConfigError
from ashneuro.program.program import InputPort, Layer, Neuron, Synapse
from ashneuro.simulate import native
from ashneuro.simulate.loihi import run_program
from ashneuro.spiking.native import NativeError
from tests.simulate import nets


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    monkeypatch.delenv(native.VARIABLE, raising=False)
    if not native.wanted():
        pytest.skip("no C++ compiler; install one, for example: apt install g++")


def both(program, x, monkeypatch, backend="numpy"):
    """Return the compiled record and the library's, and that they are equal in everything."""
    names = [layer.name for layer in program.layers]
    records = []
    for kernels in ("native", "torch"):
        monkeypatch.setenv(native.VARIABLE, kernels)
        records.append(run_program(program, x, rasters=names, traces=names, backend=backend))
    ours, theirs = records
    for part in ("layers", "inputs"):
        for name, activity in getattr(ours, part).items():
            other = getattr(theirs, part)[name]
            for field in ("counts", "raster", "u", "v"):
                np.testing.assert_array_equal(getattr(activity, field), getattr(other, field), err_msg=f"{name} {field}")
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
def test_sums_of_any_size_and_shift(lines, exponent, sign, monkeypatch):
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
def test_populations_of_any_size(neurons, backend, monkeypatch):
    random = np.random.default_rng(neurons)
    weight = 2 * random.integers(-100, 101, (neurons, 9))
    record = both(one_layer(weight, bias=40), (random.random((300, 2, 9)) < 0.4).astype(np.uint8), monkeypatch, backend)
    assert 0 < record.firing_rate("a") < 1


@pytest.mark.parametrize("net", nets.NETS)
@pytest.mark.parametrize("seed", [2, 9, 21])
def test_every_kind_of_program(net, seed, monkeypatch):
    random, program = nets.NETS[net](seed, "integer")
    both(program, random.inputs(program.inputs[0], 11, 5), monkeypatch)


def test_overflows(monkeypatch):
    random, program = nets.overflow_net(3)
    both(program, random.inputs(program.inputs[0], 40, 4), monkeypatch)


def test_states_at_the_ends_of_their_range(monkeypatch):
    """Decays of the largest magnitudes, with every decay that differs in a bit."""
    for dv in (0, 1, 2, 1023, 2048, 4094, 4095):
        sink = Neuron(*(np.array(np.int32(value)) for value in (dv, dv, 1)), np.array([4095, -4096, 1], np.int32), 7, False)
        layer = Layer("v", (3,), sink, (nets.connect("input", None),), 0)
        program = nets.Random(0, "integer").program(InputPort("input", (3,), "current", 1.0, 2**20), [layer])
        x = np.tile(np.array([[[2**17 - 1, 1 - 2**17, 77]]], float), (9, 2, 1))
        x[3:] = [[-5, 3, -131_071]]
        both(program, x, monkeypatch)


def test_counts_more_rows_than_a_byte_holds():
    spikes = (np.random.default_rng(1).random((700, 3, 300)) < 0.9).astype(np.uint8)
    np.testing.assert_array_equal(native.count(spikes), spikes.sum((0, 1)))
    assert native.count(np.zeros((0, 2, 5), np.uint8)).tolist() == [0] * 5


def test_what_is_not_to_be_had_is_refused_only_where_it_is_asked_for(monkeypatch):
    def nothing():
        raise NativeError("no C++ compiler (c++)")

    monkeypatch.setattr(native, "_library", nothing)
    assert not native.wanted()
    monkeypatch.setenv(native.VARIABLE, "torch")
    assert not native.wanted()
    monkeypatch.setenv(native.VARIABLE, "native")
    with pytest.raises(ConfigError, match=r"native kernels\nwhy: no C\+\+ compiler"):
        native.wanted()
