"""SpikingJelly nodes: their graphs spike as they do, in both step modes."""

import pytest
import torch
from torch import nn

import ashneuro
from ashneuro.errors import GraphError
from tests.frameworks.modules import QUIET, framework, read, same_in_lava, same_in_program, spikes, spiking, strong

pytestmark = QUIET


@pytest.fixture
def neuron():
    return framework("spikingjelly.activation_based.neuron")


def dense(first, last, gain=3.0):
    return strong(nn.Sequential(nn.Linear(6, 8), first, nn.Linear(8, 4), last), gain)


NEURONS = {
    "IFNode": lambda n, **k: n.IFNode(**k),
    "LIFNode": lambda n, **k: n.LIFNode(v_threshold=0.5, **k),
    "LIFNode, undecayed input": lambda n, **k: n.LIFNode(tau=3.0, decay_input=False, **k),
    "ParametricLIFNode": lambda n, **k: n.ParametricLIFNode(init_tau=2.5, v_threshold=0.5, **k),
}


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("v_reset", [0.0, None, -0.3])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_nodes_spike_as_the_module_does(neuron, name, v_reset, step_mode):
    node, last = NEURONS[name](neuron, v_reset=v_reset, step_mode=step_mode), neuron.IFNode(step_mode=step_mode)
    same_in_program(spiking(read(dense(node, last), spikes(6)), most=0.99))


@pytest.mark.parametrize("v_reset", [0.0, None])
def test_current_based_node(neuron, v_reset):
    net = dense(neuron.CUBALIFNode(v_reset=v_reset), neuron.IFNode(), 1.5)
    same_in_program(spiking(read(net, spikes(6)), most=0.99))


@pytest.mark.lava
@pytest.mark.parametrize("name", ["IFNode", "LIFNode", "ParametricLIFNode"])
def test_defaults_spike_alike_in_lava(neuron, name):
    same_in_lava(spiking(read(dense(NEURONS[name](neuron), neuron.IFNode()), spikes(6)), most=0.99))


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_convolutions_in_both_step_modes(neuron, step_mode):
    layer = framework("spikingjelly.activation_based.layer")
    functional = framework("spikingjelly.activation_based.functional")
    net = nn.Sequential(
        layer.Conv2d(2, 3, 3, padding=1, bias=False),
        layer.BatchNorm2d(3),
        neuron.IFNode(),
        layer.AvgPool2d(2),
        layer.Dropout(0.5),
        layer.Flatten(),
        layer.Linear(27, 4),
        neuron.LIFNode(v_threshold=0.3),
    )
    nn.init.uniform_(net[1].running_var, 0.5, 2.0)
    functional.set_step_mode(net, step_mode)
    same_in_program(spiking(read(strong(net, 3.0), spikes(2, 6, 6)), most=0.99))


def test_containers_of_layers_and_nodes(neuron):
    layer = framework("spikingjelly.activation_based.layer")
    net = nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)),
        neuron.LIFNode(v_threshold=0.2, step_mode="m"),
        layer.MultiStepContainer(nn.Sequential(nn.Flatten(), nn.Linear(48, 4), neuron.IFNode())),
    )
    same_in_program(spiking(read(strong(net, 3.0), spikes(2, 6, 6)), most=0.99))


def test_one_picture_repeated_over_time(neuron):
    """Direct coding, as in SpikingJelly's tutorials."""
    layer = framework("spikingjelly.activation_based.layer")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                layer.Conv2d(1, 3, 3, step_mode="m"),
                neuron.IFNode(step_mode="m"),
                layer.Flatten(step_mode="m"),
                layer.Linear(48, 4, step_mode="m"),
                neuron.IFNode(step_mode="m"),
            )

        def forward(self, x):
            return self.layers(x.unsqueeze(0).repeat(10, 1, 1, 1, 1)).mean(0)

    held = torch.rand(1, 3, 1, 6, 6).expand(10, 3, 1, 6, 6)
    network = spiking(read(strong(Net(), 1.5), held), most=0.99)
    assert network.contract.input_coding == "constant-current"
    same_in_program(network)


def test_default_thresholds_are_inclusive(neuron):
    """Whole weights: potentials lie on the threshold, where ≥ spikes."""
    net = nn.Sequential(nn.Linear(6, 8, bias=False), neuron.IFNode(v_threshold=2.0))
    net[0].weight.data = torch.randint(-1, 3, (8, 6)).float()
    network = spiking(read(net, spikes(6)), most=0.99)
    assert network.contract.comparison == "inclusive" and not network.source.ties


@pytest.mark.parametrize("name", ["KLIFNode", "QIFNode", "EIFNode", "NonSpikingIFNode"])
def test_nodes_without_a_form_are_named(neuron, name):
    with pytest.raises(GraphError, match=f"{name} is not among the neurons that are known"):
        ashneuro.from_torch(dense(getattr(neuron, name)(), neuron.IFNode()), spikes(6))
