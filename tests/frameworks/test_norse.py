"""Norse modules: their graphs spike as they do, with the default parameters first."""

import pytest
import torch
from torch import nn

import ashneuro
from ashneuro.errors import GraphError
from tests.frameworks.modules import QUIET, framework, read, same_in_lava, same_in_program, spikes, spiking, strong

pytestmark = QUIET


@pytest.fixture
def norse():
    return framework("norse.torch")


def dense(norse, neuron, gain=12.0):
    last = norse.LIFBoxCell()
    return strong(norse.SequentialState(nn.Linear(6, 8), neuron, nn.Linear(8, 4), last), gain)


NEURONS = {
    "LIFBoxCell": lambda n: n.LIFBoxCell(),
    "LIFBoxCell, subtract": lambda n: n.LIFBoxCell(n.LIFBoxParameters(reset_method=n.reset_subtract)),
    "LIFCell": lambda n: n.LIFCell(),
    "IAFCell": lambda n: n.IAFCell(n.IAFParameters(v_th=torch.tensor(8.0))),
}


@pytest.mark.parametrize("name", NEURONS)
def test_cells_spike_as_the_module_does(norse, name):
    network = spiking(read(dense(norse, NEURONS[name](norse)), spikes(6)))
    assert network.contract.dt_s == 1e-3
    same_in_program(network)


@pytest.mark.lava
@pytest.mark.parametrize("name", ["LIFBoxCell", "LIFCell"])
def test_defaults_spike_alike_in_lava(norse, name):
    same_in_lava(spiking(read(dense(norse, NEURONS[name](norse)), spikes(6))))


@pytest.mark.parametrize("name", ["LIBoxCell", "LICell"])
def test_read_outs(norse, name):
    readout = getattr(norse, name)()
    net = strong(norse.SequentialState(nn.Linear(6, 8), norse.LIFCell(), nn.Linear(8, 4), readout), 12.0)
    network = spiking(read(net, spikes(6)))
    assert network.source.populations[-1].spikes == 0
    same_in_program(network)


def test_layers_over_whole_samples(norse):
    net = norse.SequentialState(
        norse.Lift(nn.Conv2d(2, 3, 3)),
        norse.LIF(),
        nn.Flatten(2),
        norse.LIFRecurrent(48, 8),
        norse.Lift(nn.Linear(8, 4)),
        norse.LI(),
    )
    network = spiking(read(strong(net, 8.0), spikes(2, 6, 6)))
    assert {"3.w_in", "3.w_rec"} <= set(network.graph.nodes)
    same_in_program(network)


def test_recurrent_cell_with_its_own_weights(norse):
    net = norse.SequentialState(norse.LIFRecurrentCell(6, 8), nn.Linear(8, 4), norse.LIFCell())
    same_in_program(spiking(read(strong(net, 12.0), spikes(6))))


def test_linear_read_out_cell(norse):
    net = norse.SequentialState(nn.Linear(6, 8), norse.LIFCell(), norse.LILinearCell(8, 4))
    network = read(strong(net, 12.0), spikes(6))
    assert network.wiring.named("neuron")[-1] == "2"


def test_a_network_that_loops_over_time(norse):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.lif = nn.Conv2d(1, 4, 3), norse.LIFCell(norse.LIFParameters(v_th=torch.tensor(0.3)))
            self.out, self.readout = nn.Linear(16, 4), norse.LICell()

        def forward(self, x):
            s0 = s1 = None
            voltages = []
            for now in x:
                z, s0 = self.lif(self.conv(now), s0)
                v, s1 = self.readout(self.out(z.flatten(1)), s1)
                voltages.append(v)
            return torch.stack(voltages).max(0).values

    network = spiking(read(strong(Net(), 4.0), spikes(1, 4, 4)))
    assert network.graph.edges[-1] == ("readout", "output")
    same_in_program(network)


def test_a_state_that_is_not_handed_on_is_named(norse):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = nn.Linear(6, 8), norse.LIFCell()

        def forward(self, x):
            return torch.stack([self.lif(self.fc(now))[0] for now in x])

    with pytest.raises(GraphError, match="starts anew"):
        ashneuro.from_torch(Net(), spikes(6))


def test_steps_of_another_length_are_refused(norse):
    net = dense(norse, norse.LIFCell(dt=5e-4))
    with pytest.raises(GraphError, match="steps of different lengths"):
        ashneuro.from_torch(net, spikes(6))
    with pytest.raises(GraphError, match=r"its neurons state dt = 0\.001 s"):
        ashneuro.from_torch(dense(norse, norse.LIFCell()), spikes(6), dt=1e-4)


def test_another_start_than_the_reset_is_refused_for_lava_by_its_rule(norse):
    net = dense(norse, norse.LIFBoxCell(norse.LIFBoxParameters(v_reset=torch.tensor(-0.2))))
    network = spiking(read(net, spikes(6)))
    findings = ashneuro.check(network, "lava")
    assert {finding.rule for finding in findings if not finding.ok} == {"start_value"}


def test_neurons_without_a_form_are_named(norse):
    with pytest.raises(GraphError, match="LSNNCell is not among the neurons that are known"):
        ashneuro.from_torch(dense(norse, norse.LSNNCell()), spikes(6))
