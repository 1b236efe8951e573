"""Rockpool modules: their graphs spike as they do."""

import sys

import pytest
import torch

import ashneuro
from ashneuro.errors import GraphError
from tests.frameworks.modules import QUIET, framework, read, same_in_lava, same_in_program, spikes, spiking

pytestmark = QUIET


@pytest.fixture(scope="module")
def rockpool():
    # PyPI's "samna", which sinabs brings, installs the real one from elsewhere when it is imported.
    before = sys.modules.get("samna")
    sys.modules["samna"] = None
    found = framework("rockpool.nn.modules.torch"), framework("rockpool.nn.combinators").Sequential
    if before is None:
        del sys.modules["samna"]
    else:
        sys.modules["samna"] = before
    return found


NEURONS = {
    "LIFTorch": {},
    "with a bias": {"bias": torch.full((8,), 0.05)},
    "recurrent": {"has_rec": True},
    "by decays": {"leak_mode": "decays"},
    "by bit shifts": {"leak_mode": "bitshifts", "dash_mem": torch.full((8,), 3.0), "dash_syn": torch.full((8, 1), 2.0)},
    "one tau each": {"tau_mem": torch.linspace(5e-3, 30e-3, 8)},
}
SINGLE = {"max_spikes_per_dt": torch.tensor(1.0)}


def dense(rockpool, **settings):
    modules, sequential = rockpool
    first, last = modules.LIFTorch(8, **SINGLE, **settings), modules.LIFTorch(4, **SINGLE)
    return sequential(modules.LinearTorch((6, 8)), first, modules.LinearTorch((8, 4)), last)


@pytest.mark.parametrize("name", NEURONS)
def test_neurons_spike_as_the_module_does(rockpool, name):
    network = spiking(read(dense(rockpool, **NEURONS[name]), spikes(6)))
    assert network.contract.dt_s == 1e-3
    same_in_program(network)


def counting(rockpool, **settings):
    modules, sequential = rockpool
    first, last = modules.LIFTorch(8, **settings), modules.LIFTorch(4, **settings)
    net = sequential(modules.LinearTorch((6, 8)), first, modules.LinearTorch((8, 4)), last)
    for part in (net[0], net[2]):
        part.weight.data *= 3
    return net


@pytest.mark.parametrize("most", [None, 3])
def test_several_spikes_in_a_step(rockpool, most):
    settings = {} if most is None else {"max_spikes_per_dt": torch.tensor(float(most))}
    network = read(counting(rockpool, **settings), spikes(6))
    sent = ashneuro.simulate(network).layers["1_LIFTorch"].raster
    assert sent.max() > 1 and (most is None or sent.max() == most)
    same_in_program(network)


@pytest.mark.lava
def test_defaults_spike_alike_in_lava(rockpool):
    same_in_lava(read(counting(rockpool), spikes(6)))


@pytest.mark.lava
def test_neurons_spike_alike_in_lava(rockpool):
    same_in_lava(spiking(read(dense(rockpool), spikes(6))))


def test_synapses_in_front_of_neurons(rockpool):
    modules, sequential = rockpool
    net = sequential(modules.LinearTorch((6, 8)), modules.ExpSynTorch(8), modules.LIFNeuronTorch(8, **SINGLE))
    same_in_program(spiking(read(net, spikes(6))))


def test_modules_without_a_form_are_named(rockpool):
    modules, sequential = rockpool
    noisy = sequential(modules.LinearTorch((6, 8)), modules.LIFTorch(8, noise_std=0.1, **SINGLE))
    with pytest.raises(GraphError, match=r"noise_std = 0\.1"):
        ashneuro.from_torch(noisy, spikes(6))
