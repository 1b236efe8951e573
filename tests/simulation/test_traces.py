from dataclasses import replace

import numpy as np
import pytest

from ashneuro.simulation.emulator.arrays import NumpyArrays
from ashneuro.simulation.emulator.run_program import run_program
from tests.simulation import nets


@pytest.fixture(autouse=True, params=["auto", "torch"])
def kernels(request, monkeypatch):
    """With compiled layers if there is a compiler, and without."""
    monkeypatch.setenv("ASHNEURO_KERNELS", request.param)


def toward_zero(product):
    return np.sign(product) * (np.abs(product) // 4096)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_traces_satisfy_neuron_equations(backend):
    random, program = nets.dense_net(4, "integer")
    layer = program.layers[0]
    x = random.inputs(program.inputs[0], 9, 5)
    activity = run_program(program, x, rasters=["a"], traces=["a"], backend=backend).layers["a"]
    u, v, s = (values.astype(np.int64) for values in (activity.u, activity.v, activity.raster))
    assert u.shape == v.shape == s.shape == (9, 5, *layer.shape)
    neuron = layer.neuron
    before = np.concatenate([np.zeros_like(v[:1]), v[:-1]])
    risen = toward_zero(before * (4096 - int(neuron.dv))) + u + (neuron.bias.astype(np.int64) << neuron.bias_exp)
    fired = risen > int(neuron.v_threshold) << 6
    assert fired.any() and not fired.all()
    np.testing.assert_array_equal(s, fired)
    np.testing.assert_array_equal(v, np.where(fired, 0, risen))
    arrived = u - toward_zero(np.concatenate([np.zeros_like(u[:1]), u[:-1]]) * (4095 - int(neuron.du)))
    assert arrived.any() and not (arrived % 64).any()


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("net", ["dense", "recurrent"])
def test_active_updates_match_traces(net, backend):
    random, program = nets.NETS[net](4, "integer")
    silent = [
        replace(layer, neuron=replace(layer.neuron, bias=layer.neuron.bias * (np.arange(layer.size) == 0)))
        for layer in program.layers
    ]
    program = replace(program, layers=tuple(silent))
    x = random.inputs(program.inputs[0], 9, 5)
    x[:, :, 1:] *= random.rng.random((9, 5, program.inputs[0].shape[0] - 1)) < 0.1
    for layer in program.layers:
        activity = run_program(program, x, traces=[layer.name], backend=backend).layers[layer.name]
        u, v = (values.astype(np.int64) for values in (activity.u, activity.v))
        u_before, v_before = (np.concatenate([np.zeros_like(values[:1]), values[:-1]]) for values in (u, v))
        arrived = u - toward_zero(u_before * (4095 - int(layer.neuron.du)))
        active = (u_before != 0) | (v_before != 0) | (arrived != 0) | (layer.neuron.bias != 0)
        assert activity.active_updates == active.sum()
        assert layer.name != "a" or 0 < active.mean() < 1


def test_traces_of_chunks_are_joined(monkeypatch):
    random, program = nets.dense_net(1, "float")
    x = random.inputs(program.inputs[0], 4, 5)
    whole = run_program(program, x, traces=["b", "out"], backend="numpy")
    assert {name: activity.v is not None for name, activity in whole.layers.items()} == {
        "a": False,
        "b": True,
        "c": False,
        "out": True,
    }
    np.testing.assert_array_equal(whole.layers["out"].v, whole.layers["out"].raster)
    monkeypatch.setattr(NumpyArrays, "batch", 2)
    chunked = run_program(program, x, traces=["b"], backend="numpy")
    np.testing.assert_array_equal(chunked.layers["b"].u, whole.layers["b"].u)
    np.testing.assert_array_equal(chunked.layers["b"].v, whole.layers["b"].v)
