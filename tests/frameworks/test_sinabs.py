"""sinabs layers: their graphs spike as they do."""

import pytest
import torch
from torch import nn

import ashneuro
from ashneuro.errors import GraphError
from tests.frameworks.modules import (
    BATCH,
    QUIET,
    framework,
    read,
    same_in_lava,
    same_in_program,
    spikes,
    spiking,
    strong,
)

pytestmark = QUIET


@pytest.fixture
def layers():
    return framework("sinabs.layers")


@pytest.fixture
def single():
    return {"spike_fn": framework("sinabs.activation").SingleSpike}


def dense(first, last, gain=3.0):
    return strong(nn.Sequential(nn.Linear(6, 8), first, nn.Linear(8, 4), last), gain)


LOW = {"spike_threshold": torch.tensor(0.2)}
NEURONS = {
    "LIF": lambda s, k: s.LIF(tau_mem=5.0, **LOW, **k),
    "LIF, one tau each": lambda s, k: s.LIF(tau_mem=torch.linspace(2.0, 9.0, 8), **LOW, **k),
    "LIF, unscaled input": lambda s, k: s.LIF(tau_mem=5.0, norm_input=False, **k),
    "LIF, trained alphas": lambda s, k: s.LIF(tau_mem=5.0, train_alphas=True, **LOW, **k),
    "LIF with a current": lambda s, k: s.LIF(tau_mem=5.0, tau_syn=3.0, **LOW, **k),
    "IAF": lambda s, k: s.IAF(**k),
    "IAF with a current": lambda s, k: s.IAF(tau_syn=3.0, **k),
    "LIFRecurrent": lambda s, k: s.LIFRecurrent(rec_connect=nn.Linear(8, 8, bias=False), tau_mem=5.0, **LOW, **k),
    "IAFRecurrent": lambda s, k: s.IAFRecurrent(rec_connect=nn.Linear(8, 8, bias=False), **k),
}


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("reset", ["subtract", "value"])
def test_layers_spike_as_the_module_does(layers, single, name, reset):
    resets = {"subtract": {}, "value": {"reset_fn": framework("sinabs.activation").MembraneReset()}}
    net = dense(NEURONS[name](layers, single | resets[reset]), layers.IAF(**single))
    same_in_program(spiking(read(net, spikes(6)), most=0.99))


@pytest.mark.parametrize("name", NEURONS)
def test_defaults_send_spike_counts(layers, name):
    network = read(dense(NEURONS[name](layers, {}), layers.IAF(), 6.0), spikes(6))
    assert network.contract.reset == "subtract"
    assert ashneuro.simulate(network).layers["1"].raster.max() > 1
    same_in_program(network)


def test_counts_up_to_a_limit(layers):
    most = framework("sinabs.activation").MaxSpike(2)
    network = read(dense(layers.IAF(spike_fn=most), layers.IAF(), 9.0), spikes(6))
    assert ashneuro.simulate(network).layers["1"].raster.max() == 2
    same_in_program(network)


@pytest.mark.lava
@pytest.mark.parametrize("name", ["LIF", "IAF", "LIF with a current"])
def test_defaults_send_alike_in_lava(layers, name):
    same_in_lava(read(dense(NEURONS[name](layers, {}), layers.IAF(), 6.0), spikes(6)))


@pytest.mark.lava
@pytest.mark.parametrize("name", ["LIF", "IAF", "LIF with a current"])
def test_layers_spike_alike_in_lava(layers, single, name):
    same_in_lava(spiking(read(dense(NEURONS[name](layers, single), layers.IAF(**single)), spikes(6)), most=0.99))


def test_convolutions_of_squeezed_samples(layers, single):
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3),
        layers.IAFSqueeze(batch_size=BATCH, **single),
        layers.SumPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 4),
        layers.LIFSqueeze(tau_mem=5.0, batch_size=BATCH, **LOW, **single),
        nn.Linear(4, 3),
        layers.ExpLeakSqueeze(tau_mem=8.0, batch_size=BATCH),
    )
    network = spiking(read(strong(net, 1.5), spikes(2, 6, 6)), most=0.99)
    assert [type(node).__name__ for node in network.graph.nodes.values()].count("SumPool2d") == 1
    same_in_program(network)


@pytest.mark.parametrize("norm_input", [True, False])
def test_read_out(layers, single, norm_input):
    net = dense(layers.IAF(**single), layers.ExpLeak(tau_mem=8.0, norm_input=norm_input))
    same_in_program(read(net, spikes(6)))


def test_squeezed_layers_of_another_batch_size_are_refused(layers, single):
    net = dense(layers.IAFSqueeze(batch_size=5, **single), layers.IAFSqueeze(batch_size=5, **single))
    with pytest.raises(GraphError, match="batch_size = 5, the sample has"):
        ashneuro.from_torch(net, spikes(6))


@pytest.mark.parametrize(
    ("neuron", "reason"),
    [
        (lambda s, k: s.LIF(tau_mem=5.0, min_v_mem=-1.0, **k), "min_v_mem = -1"),
        (
            lambda s, k: s.LIF(tau_mem=5.0, reset_fn=framework("sinabs.activation").MembraneReset()),
            "subtract a threshold",
        ),
        (lambda s, k: s.ALIF(tau_mem=5.0, tau_adapt=9.0, **k), "adapts"),
        (lambda s, k: s.LIFRecurrent(rec_connect=nn.Linear(8, 8), tau_mem=5.0, **k), "bias of rec_connect"),
    ],
)
def test_layers_without_a_form_are_named(layers, single, neuron, reason):
    with pytest.raises(GraphError, match=reason):
        ashneuro.from_torch(dense(neuron(layers, single), layers.IAF(**single)), spikes(6))
