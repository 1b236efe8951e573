"""Every neuron behind a convolution and behind a dense layer, from the module through Lava."""

import pytest
import torch
from torch import nn

from ashneuro.spiking.lif import IF, LIF, CubaLIF
from tests.frameworks.modules import QUIET, framework, read, same_in_lava, spikes, strong

pytestmark = [pytest.mark.slow, pytest.mark.lava, *QUIET]
BATCH = 2


class Merged(nn.Module):
    """A layer over samples whose first two axes it takes as one."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        y = self.layer(x.flatten(0, 1))
        return y.reshape(*x.shape[:2], *y.shape[1:])


def stepped(first, last):
    return nn.Sequential(nn.Conv2d(2, 3, 3), first, nn.Flatten(), nn.Linear(48, 4), last)


def whole(first, last):
    return nn.Sequential(Merged(nn.Conv2d(2, 3, 3)), first, nn.Flatten(2), nn.Linear(48, 4), last)


def snntorch(name, *, recurrent=False, **settings):
    kind, settings = getattr(framework("snntorch"), name), {"init_hidden": True} | settings
    if not recurrent:
        return stepped(kind(**settings), kind(**settings))
    return stepped(kind(conv2d_channels=3, kernel_size=3, **settings), kind(linear_features=4, **settings))


def norse(name):
    module = framework("norse.torch")
    cells = getattr(module, name)(), getattr(module, name)()
    return module.SequentialState(nn.Conv2d(2, 3, 3), cells[0], nn.Flatten(), nn.Linear(48, 4), cells[1])


def spikingjelly(name, mode):
    kind = getattr(framework("spikingjelly.activation_based.neuron"), name)
    layer = framework("spikingjelly.activation_based.layer")
    net = nn.Sequential(layer.Conv2d(2, 3, 3), kind(), layer.Flatten(), layer.Linear(48, 4), kind())
    framework("spikingjelly.activation_based.functional").set_step_mode(net, mode)
    return net


def sinabs(name, *, counts=False, **settings):
    kind = getattr(framework("sinabs.layers"), f"{name}Squeeze")
    single = {} if counts else {"spike_fn": framework("sinabs.activation").SingleSpike}
    return stepped(*(kind(batch_size=BATCH, **single, **settings) for _ in range(2)))


NETWORKS = {
    "snnTorch Leaky": (lambda: snntorch("Leaky", beta=0.9), 3),
    "snnTorch Synaptic": (lambda: snntorch("Synaptic", alpha=0.6, beta=0.8), 3),
    "snnTorch Lapicque": (lambda: snntorch("Lapicque", beta=0.8, threshold=0.5), 3),
    "snnTorch RLeaky": (lambda: snntorch("RLeaky", recurrent=True, beta=0.8), 3),
    "snnTorch RSynaptic": (lambda: snntorch("RSynaptic", recurrent=True, alpha=0.5, beta=0.8), 3),
    "Norse LIFBoxCell": (lambda: norse("LIFBoxCell"), 20),
    "Norse LIFCell": (lambda: norse("LIFCell"), 10),
    "Norse IAFCell": (lambda: norse("IAFCell"), 2),
    "SpikingJelly IFNode, stepped": (lambda: spikingjelly("IFNode", "s"), 3),
    "SpikingJelly IFNode": (lambda: spikingjelly("IFNode", "m"), 3),
    "SpikingJelly LIFNode": (lambda: spikingjelly("LIFNode", "m"), 6),
    "SpikingJelly ParametricLIFNode": (lambda: spikingjelly("ParametricLIFNode", "s"), 6),
    "sinabs IAF, counts": (lambda: sinabs("IAF", counts=True), 3),
    "sinabs LIF, counts": (lambda: sinabs("LIF", counts=True, tau_mem=5.0), 9),
    "sinabs IAF": (lambda: sinabs("IAF"), 3),
    "sinabs LIF": (lambda: sinabs("LIF", tau_mem=5.0, spike_threshold=torch.tensor(0.3)), 3),
    "ashneuro LIF": (lambda: whole(LIF(5e-3, 0.3, dt=1e-3), LIF(5e-3, 0.3, dt=1e-3)), 3),
    "ashneuro CubaLIF": (lambda: whole(*(CubaLIF(8e-3, 4e-3, 0.2, dt=1e-3) for _ in range(2))), 3),
    "ashneuro IF": (lambda: whole(IF(), IF()), 3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_convolutional_modules_spike_alike_in_lava(name):
    torch.manual_seed(0)
    build, gain = NETWORKS[name]
    network = read(strong(build(), gain), spikes(2, 6, 6, steps=12, batch=BATCH))
    assert network.source.populations[0].spikes > 50
    same_in_lava(network)
