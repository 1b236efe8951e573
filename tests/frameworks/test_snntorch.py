"""snnTorch modules: their graphs spike as they do, defaults first."""

import numpy as np
import pytest
import torch
from torch import nn

import ashneuro
from ashneuro.errors import GraphError
from tests.frameworks.modules import QUIET, framework, read, same_in_lava, same_in_program, spikes, spiking, strong

pytestmark = QUIET


@pytest.fixture
def snn():
    return framework("snntorch")


def dense(*neurons, gain=2.0):
    sizes = [6, 8, 4]
    parts = [(nn.Linear(a, b), neuron) for a, b, neuron in zip(sizes, sizes[1:], neurons, strict=False)]
    return strong(nn.Sequential(*(part for pair in parts for part in pair)), gain)


NEURONS = {
    "Leaky": lambda snn, **k: snn.Leaky(beta=0.9, init_hidden=True, **k),
    "no leak": lambda snn, **k: snn.Leaky(beta=1.0, init_hidden=True, **k),
    "no memory": lambda snn, **k: snn.Leaky(beta=0.0, init_hidden=True, **k),
    "one beta each": lambda snn, **k: snn.Leaky(beta=torch.linspace(0.5, 0.95, 8), init_hidden=True, **k),
    "Synaptic": lambda snn, **k: snn.Synaptic(alpha=0.6, beta=0.8, threshold=2.0, init_hidden=True, **k),
    "Synaptic, no leak": lambda snn, **k: snn.Synaptic(alpha=0.6, beta=1.0, threshold=3.0, init_hidden=True, **k),
    "Lapicque": lambda snn, **k: snn.Lapicque(beta=0.8, threshold=0.3, init_hidden=True, **k),
    "Lapicque, R and C": lambda snn, **k: snn.Lapicque(R=2.0, C=3.0, threshold=0.5, init_hidden=True, **k),
    "RLeaky": lambda snn, **k: snn.RLeaky(beta=0.8, linear_features=8, init_hidden=True, **k),
    "RLeaky, one to one": lambda snn, **k: snn.RLeaky(beta=0.8, all_to_all=False, V=-0.3, init_hidden=True, **k),
    "RSynaptic": lambda snn, **k: snn.RSynaptic(
        alpha=0.5, beta=0.7, threshold=2.0, linear_features=8, init_hidden=True, **k
    ),
}


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_neurons_spike_as_the_module_does(snn, name, reset):
    network = spiking(read(dense(NEURONS[name](snn, reset_mechanism=reset)), spikes(6)))
    same_in_program(network)


@pytest.mark.lava
@pytest.mark.parametrize("name", ["Leaky", "Synaptic", "Lapicque", "RLeaky", "RSynaptic"])
def test_defaults_spike_alike_in_lava(snn, name):
    same_in_lava(spiking(read(dense(NEURONS[name](snn)), spikes(6))))


def test_neurons_without_reset_are_a_read_out_and_a_threshold(snn):
    network = spiking(read(dense(NEURONS["Leaky"](snn, reset_mechanism="none")), spikes(6)))
    assert [type(network.graph.nodes[name]).__name__ for name in ("1", "1.spikes")] == ["LI", "Threshold"]
    same_in_program(network)


def test_default_network_of_the_field(snn):
    """The case of snntorch#246: `Leaky` with one value per neuron and its default reset."""
    n, m = 64, 32
    net = nn.Sequential(
        nn.Linear(32, n),
        snn.Leaky(beta=torch.full((n,), 0.9), init_hidden=True),
        nn.Linear(n, m),
        snn.Leaky(beta=torch.full((m,), 0.9), init_hidden=True),
    )
    for parameter in net.parameters():
        parameter.data *= 3
    network = spiking(read(net, spikes(32, steps=40, batch=8, rate=0.3)))
    assert network.source.populations[-1].compared == 10_240
    assert not network.contract_read.assumed
    same_in_program(network)


class ByHand(nn.Module):
    """A network as snnTorch's tutorials write it: a loop over time, `mem` handed on."""

    def __init__(self, snn, axis=0, steps=None):
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 8), snn.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(8, 4), snn.Leaky(beta=0.8)
        self.axis, self.steps = axis, steps
        strong(self)

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        sent, potentials = [], []
        for step in range(self.steps or x.size(self.axis)):
            now = x if self.steps else x.select(self.axis, step)
            spk1, mem1 = self.lif1(self.fc1(now), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            sent.append(spk2)
            potentials.append(mem2)
        return torch.stack(sent), torch.stack(potentials)


@pytest.mark.parametrize("axis", [0, 1])
def test_loops_over_time_by_hand(snn, axis):
    network = spiking(read(ByHand(snn, axis), spikes(6)))
    assert list(network.wiring.named("neuron")) == ["lif1", "lif2"]
    same_in_program(network)


def test_a_loop_that_repeats_its_input(snn):
    held = torch.rand(1, 3, 6).expand(25, 3, 6)
    network = spiking(read(ByHand(snn, steps=25), held))
    assert network.contract.input_coding == "constant-current"
    with pytest.raises(GraphError, match="the sample changes from step to step"):
        ashneuro.from_torch(ByHand(snn, steps=25), spikes(6))


def test_a_recurrence_by_hand(snn):
    class Loop(ByHand):
        def forward(self, x):
            mem1, spk1 = self.lif1.init_leaky(), torch.zeros(x.shape[1], 8)
            for now in x:
                spk1, mem1 = self.lif1(self.fc1(now) + self.back(spk1), mem1)
            return spk1

    net = Loop(snn)
    net.back = nn.Linear(8, 8, bias=False)
    network = spiking(read(net, spikes(6)))
    assert ("back", "lif1") in network.graph.edges
    same_in_program(network)


def test_a_loop_through_two_populations_has_a_delay(snn):
    class Loop(ByHand):
        def forward(self, x):
            mem1, mem2, spk2 = self.lif1.init_leaky(), self.lif2.init_leaky(), torch.zeros(x.shape[1], 4)
            for now in x:
                spk1, mem1 = self.lif1(self.fc1(now) + self.back(spk2), mem1)
                spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            return spk2

    net = Loop(snn)
    net.back = nn.Linear(4, 8, bias=False)
    network = spiking(read(net, spikes(6)))
    assert {("lif2", "lif2.late"), ("lif2.late", "back")} <= set(network.graph.edges)


def test_convolutions_with_batch_norm_pooling_and_dropout(snn):
    def leaky(threshold=0.3):
        return snn.Leaky(beta=0.8, threshold=threshold, init_hidden=True)

    net = strong(
        nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            leaky(),
            nn.AvgPool2d(2),
            nn.Dropout(),
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
            leaky(0.2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 5),
            nn.BatchNorm1d(5),
            leaky(0.1),
        )
    )
    for part in net:
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.2, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.uniform_(part.weight, 0.5, 2.0)
            nn.init.uniform_(part.bias, -0.1, 0.3)
    network = spiking(read(net, spikes(2, 6, 6)), most=0.99)
    kinds = [type(node).__name__ for node in network.graph.nodes.values()]
    # Two batch norms are part of the weights in front of them; the one behind a pool stands alone.
    assert kinds.count("Conv2d") == 3 and "1" not in network.graph.nodes and "11" not in network.graph.nodes
    same_in_program(network)


def test_residual_additions_and_scaled_signals(snn):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.skip = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
            self.lif = snn.Leaky(beta=0.8, init_hidden=True)

        def forward(self, x):
            y = self.inner(x)
            y += 0.5 * self.skip(x) - x / 4
            return self.lif(y + x + 0.1)

    first, last = snn.Leaky(beta=0.9, init_hidden=True), snn.Leaky(beta=0.9, init_hidden=True)
    net = strong(nn.Sequential(nn.Linear(6, 8), first, Block(), nn.Linear(8, 4), last))
    same_in_program(spiking(read(net, spikes(6))))


def test_hidden_state_of_a_training_step_is_left_alone(snn):
    net = dense(NEURONS["Leaky"](snn))
    net(spikes(6)[0]).sum().backward()
    before = net[1].mem
    assert before.grad_fn is not None
    read(net, spikes(6))
    assert net[1].mem is before and net.training


@pytest.mark.parametrize(
    ("neuron", "reason"),
    [
        (lambda snn: snn.Alpha(alpha=0.9, beta=0.8, init_hidden=True), "resets its two synaptic currents"),
        (lambda snn: snn.Leaky(beta=0.9, init_hidden=True, inhibition=True), "inhibition=True"),
        (lambda snn: snn.Leaky(beta=0.9, init_hidden=True, graded_spikes_factor=2.0), "graded_spikes_factor"),
        (lambda snn: snn.Leaky(beta=torch.tensor([1.0] * 4 + [0.5] * 4), init_hidden=True), "some do not"),
        (lambda snn: snn.Synaptic(alpha=1.0, beta=0.5, init_hidden=True), "never decays"),
        (lambda snn: snn.SLSTM(8, 8, init_hidden=True), "LSTM"),
    ],
)
def test_neurons_without_a_form_are_named(snn, neuron, reason):
    with pytest.raises(GraphError, match=reason) as error:
        ashneuro.from_torch(dense(neuron(snn)), spikes(6))
    assert error.value.what.startswith("1 (") and error.value.do


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.MaxPool1d(2), "max_pool1d"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.LayerNorm(8), "layer_norm"),
    ],
)
def test_functions_without_a_form_are_named(snn, layer, named):
    net = nn.Sequential(nn.Linear(6, 8), layer, nn.LazyLinear(4), snn.Leaky(beta=0.9, init_hidden=True))
    net(spikes(6)[0])
    with pytest.raises(GraphError, match=named) as error:
        ashneuro.from_torch(net, spikes(6))
    assert error.value.what == "3 (Leaky) has no NIR form" and "in 1 lies in front" in error.value.why


def test_a_potential_that_feeds_a_layer_is_named(snn):
    class Net(ByHand):
        def forward(self, x):
            mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
            for now in x:
                _, mem1 = self.lif1(self.fc1(now), mem1)
                spk2, mem2 = self.lif2(self.fc2(mem1), mem2)
            return spk2

    with pytest.raises(GraphError, match=r"torch's linear in fc2|potential of lif1"):
        ashneuro.from_torch(Net(snn), spikes(6))


def test_a_state_that_is_changed_between_steps_is_named(snn):
    class Net(ByHand):
        def forward(self, x):
            mem1 = self.lif1.init_leaky()
            for now in x:
                spk1, mem1 = self.lif1(self.fc1(now), 0.5 * mem1)
            return spk1

    with pytest.raises(GraphError, match="not the one of the call before"):
        ashneuro.from_torch(Net(snn), spikes(6))


def test_weights_that_change_with_time_are_found(snn):
    class Net(ByHand):
        def forward(self, x):
            mem1 = self.lif1.init_leaky()
            for step, now in enumerate(x):
                layer = self.fc1 if step < 9 else self.other
                spk1, mem1 = self.lif1(layer(now), mem1)
            return spk1

    net = Net(snn)
    net.other = nn.Linear(6, 8)
    with pytest.raises(GraphError, match="changes from step to step"):
        ashneuro.from_torch(net, spikes(6))


def test_thresholds_are_strict(snn):
    """Whole weights: potentials lie on the threshold, where > does not spike."""
    net = nn.Sequential(nn.Linear(6, 8, bias=False), snn.Leaky(beta=1.0, threshold=2.0, init_hidden=True))
    net[0].weight.data = torch.randint(-1, 3, (8, 6)).float()
    network = spiking(read(net, spikes(6)))
    record = ashneuro.simulate(ashneuro.read(network.graph, comparison="inclusive"), network.sample)
    assert network.contract.comparison == "strict" and not network.source.ties
    assert record.layers["1"].events == network.source.populations[0].spikes  # the node states its own


def test_a_reset_that_no_contract_describes_is_refused_by_the_comparison(snn):
    """With reset_delay=False snnTorch spares a potential above two thresholds its second reset."""
    net = dense(snn.Leaky(beta=0.9, threshold=0.3, init_hidden=True, reset_delay=False), gain=4)
    with pytest.raises(ashneuro.AshneuroError, match="does not spike as the module does") as error:
        ashneuro.from_torch(net, spikes(6))
    assert "first in 1, sample 0, step" in error.value.why and "above two thresholds" in error.value.why
    assert "reset_mechanism='zero'" in error.value.do


def test_float32_ties_are_told_from_mismatches(snn):
    """0.1 · 10 reaches 1.0 in float32 and stays below it in float64: v > threshold is a tie."""
    net = nn.Sequential(nn.Linear(1, 4, bias=False), snn.Leaky(beta=1.0, init_hidden=True))
    net[0].weight.data = torch.tensor([[0.1], [0.3], [0.7], [0.9]])
    source = read(net, torch.ones(60, 2, 1)).source
    assert source.ties > 0 and source.first is None
    assert np.isclose(source.compared, 60 * 2 * 4)
