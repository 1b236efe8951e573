"""Own layers, and what holds for modules of any framework."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ashneuro
from ashneuro.errors import DataError, GraphError
from ashneuro.frameworks.registry import FRAMEWORKS
from ashneuro.spiking.lif import IF, LI, LIF, CubaLIF, Delta, Graded, SigmaDelta
from ashneuro.spiking.message import Message
from ashneuro.spiking.recurrent import RecurrentLIF
from tests.frameworks.modules import read, same_in_lava, same_in_program, spikes, spiking, strong

DT = 1e-3


NEURONS = {
    "LIF": lambda **k: LIF(5e-3, 0.3, dt=DT, **k),
    "CubaLIF": lambda **k: CubaLIF(8e-3, 4e-3, 0.2, dt=DT, **k),
    "IF": lambda **k: IF(1.5, **k),
    "RecurrentLIF": lambda **k: RecurrentLIF(8, 5e-3, 0.3, dt=DT, **k),
}


def dense(neuron):
    return strong(nn.Sequential(nn.Linear(6, 8), neuron, nn.Linear(8, 4), LIF(4e-3, 0.3, dt=DT)), 4.0)


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_layers_spike_as_their_graph(name, reset):
    same_in_program(spiking(read(dense(NEURONS[name](reset=reset)), spikes(6))))


@pytest.mark.lava
def test_layers_spike_alike_in_lava():
    same_in_lava(spiking(read(dense(NEURONS["LIF"]()), spikes(6))))


def test_a_read_out_and_a_relu():
    net = strong(
        nn.Sequential(
            nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), LIF(4e-3, 0.3, dt=DT), nn.Linear(8, 4), LI(5e-3, dt=DT)
        ),
        3.0,
    )
    network = read(net, torch.rand(20, 2, 6))
    assert network.contract.input_coding == "current" and network.wiring.message("1").graded
    same_in_program(network)


@pytest.mark.parametrize("learn", [(), ("v_threshold",)])
def test_graded_layers_send_the_values_of_their_graph(learn):
    threshold = torch.linspace(0.1, 0.4, 8, dtype=torch.float64)
    net = strong(
        nn.Sequential(nn.Linear(6, 8), Graded(threshold, bits=6, limit=0.9, learn=learn), nn.Linear(8, 4)), 3.0
    )
    net.append(Graded(0.0))
    network = spiking(read(net, spikes(6)))
    assert network.wiring.message("1") == Message("graded", 6, 0.9)
    assert network.wiring.message("3") == Message("graded", 8)
    np.testing.assert_allclose(network.wiring.nodes["1"].threshold, threshold, rtol=1e-12)
    same_in_program(network)


class SigmaDeltaNet(nn.Module):
    """An ANN over a stream of frames, by changes."""

    def __init__(self, convolutional):
        super().__init__()
        self.entry = Delta(0.05)
        if convolutional:
            self.first, self.flat = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.Flatten(2)
            self.hidden = SigmaDelta(0.05, 0.2 * torch.randn(4, 1, 1))
        else:
            self.first, self.flat = nn.Linear(6, 64, bias=False), nn.Identity()
            self.hidden = SigmaDelta(0.05, 0.2 * torch.randn(64), learn=("bias",))
        self.second, self.last = nn.Linear(64, 5, bias=False), SigmaDelta(0.1)

    def forward(self, x):
        sent = self.entry(x)
        sums = self.first(sent.flatten(0, 1)).unflatten(0, sent.shape[:2])
        return self.last(self.second(self.flat(self.hidden(sums))))


def stream(*shape, steps=12):
    """Frames that drift slowly."""
    generator = torch.Generator().manual_seed(3)
    drift = 0.05 * torch.randn(steps, 2, *shape, generator=generator).cumsum(0)
    return torch.randn(1, 2, *shape, generator=generator) + drift


@pytest.mark.parametrize("convolutional", [False, True], ids=["dense", "conv"])
def test_sigma_delta_layers_send_the_changes_of_their_graph(convolutional):
    network = read(strong(SigmaDeltaNet(convolutional), 2.0), stream(*((2, 4, 4) if convolutional else (6,))))
    assert {network.wiring.message(name).activation for name in ("hidden", "last")} == {"relu"}
    assert network.wiring.message("entry") == Message("change", 16)
    for population in network.source.populations:
        assert 0 < population.spikes < population.compared
    same_in_program(network)


@pytest.mark.lava
def test_sigma_delta_layers_are_proved_in_lava(tmp_path):
    network = read(strong(SigmaDeltaNet(True), 2.0), stream(2, 4, 4))
    certificate = ashneuro.export(network, tmp_path / "bundle").certificate
    assert certificate.passed
    proved = {comparison.right: comparison for comparison in certificate.comparisons if comparison.required}
    assert {"Lava, floating_pt", "Lava, fixed_pt"} <= proved.keys()
    for comparison in proved.values():
        assert comparison.mismatches == 0 and all(layer.spikes for layer in comparison.layers)


def test_bias_of_every_neuron_of_a_map_has_no_form_in_nir():
    net = SigmaDeltaNet(True)
    net.hidden = SigmaDelta(0.05, torch.randn(4, 4, 4))
    with pytest.raises(GraphError, match="bias of shape") as error:
        ashneuro.from_torch(net, stream(2, 4, 4))
    assert "one per channel" in error.value.do


def test_one_relu_module_for_two_populations():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2, self.relu, self.lif = nn.Linear(6, 8), nn.Linear(8, 8), nn.ReLU(), LIF(4e-3, dt=DT)

        def forward(self, x):
            return self.lif(self.relu(self.fc2(self.relu(self.fc1(x)))))

    network = read(strong(Net(), 3.0), torch.rand(20, 2, 6))
    assert network.wiring.named("neuron") == ["relu", "relu_2", "lif"]


def test_linear_layers_over_further_axes():
    net = strong(nn.Sequential(nn.Linear(4, 3), LIF(4e-3, 0.2, dt=DT)), 4.0)
    network = spiking(read(net, spikes(5, 4)))
    assert network.wiring.in_shapes["1"] == (5, 3)
    same_in_program(network)


def test_the_module_and_its_mode_stay_as_they_are():
    net = dense(NEURONS["LIF"]())
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    read(net, spikes(6))
    assert net.training and all(torch.equal(weights[name], value) for name, value in net.state_dict().items())
    assert "forward" not in vars(net[1])


def test_samples_are_arrays_or_tensors_of_steps_and_samples():
    net, x = dense(NEURONS["LIF"]()), spikes(6)
    ours, theirs = read(net, x), read(net, x.numpy().astype(bool))
    np.testing.assert_array_equal(ours.sample, theirs.sample)
    assert ours.contract.input_coding == "spikes"
    with pytest.raises(DataError, match=r"\(T, B, \*shape\)"):
        ashneuro.from_torch(net, x[:, 0])


@pytest.mark.parametrize("sizes", [(1, 1), (1, 3), (20, 1), (3, 3)])
def test_samples_of_one_step_or_one_sample(sizes):
    steps, batch = sizes
    network = read(dense(NEURONS["LIF"]()), spikes(6, steps=steps, batch=batch))
    assert network.source.compared == steps * batch * 12


def test_wrapped_modules_are_read():
    net, x = dense(NEURONS["LIF"]()), spikes(6)
    wrapped = nn.DataParallel(net)
    assert list(read(wrapped, x).graph.nodes) == list(read(net, x).graph.nodes)
    assert list(read(torch.compile(net), x).graph.nodes) == list(read(net, x).graph.nodes)


def test_modules_of_float64_and_with_parametrised_weights():
    net = dense(NEURONS["LIF"]()).double()
    assert read(net, spikes(6)).source.ties == 0
    net = dense(NEURONS["LIF"]())
    nn.utils.parametrizations.weight_norm(net[0])
    same_in_program(spiking(read(net, spikes(6))))


def test_every_neuron_is_in_the_docs():
    page = (Path(__file__).parent.parent.parent / "docs" / "from_torch.md").read_text(encoding="utf-8")
    for adapter in FRAMEWORKS.values():
        assert f"| {adapter.name} " in page
        for name in [*adapter.neurons, *adapter.refused]:
            assert f"`{name.removesuffix('Squeeze')}`" in page, f"{name} of {adapter.name}"


def test_a_module_without_neurons_is_refused():
    with pytest.raises(GraphError, match="Sequential has no spiking neurons"):
        ashneuro.from_torch(nn.Sequential(nn.Linear(6, 8), nn.ReLU()), spikes(6))


def test_a_forward_that_cannot_run_is_refused_with_what_it_said():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = nn.Linear(7, 8), LIF(4e-3, dt=DT)

        def forward(self, x, more):
            return self.lif(self.fc(x))

    with pytest.raises(GraphError, match=r"Net\.forward\(x, more\) cannot be run") as error:
        ashneuro.from_torch(Net(), spikes(6))
    assert "more" in error.value.why


def test_a_forward_that_reads_values_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = nn.Linear(6, 8), LIF(4e-3, dt=DT)

        def forward(self, x):
            y = self.fc(x)
            return self.lif(y if y.sum() > 0 else -y)

    with pytest.raises(GraphError, match="reads the values of signals"):
        ashneuro.from_torch(Net(), spikes(6))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda x: torch.cat([x, x], -1), "cat"),
        (lambda x: (x > 0).float(), "gt"),
        (lambda x: x * x, "mul"),
        (lambda x: x.roll(1, -1), "roll"),
        (lambda x: x.mean(0, keepdim=True).expand_as(x), "mean"),
        (lambda x: x.permute(0, 2, 1).transpose(1, 2), "permute"),
    ],
)
def test_functions_that_are_not_linear_are_named(change, named):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = nn.Linear(6, 8), LIF(4e-3, dt=DT)

        def forward(self, x):
            return self.lif(change(self.fc(x)))

    with pytest.raises(GraphError, match=f"torch's {named} in forward"):
        ashneuro.from_torch(Net(), spikes(6))


def test_arguments_by_name_and_weights_of_the_moment():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.lif = nn.Parameter(torch.rand(6, 8) - 0.3), LIF(4e-3, 0.3, dt=DT)

        def forward(self, x):
            y = x.permute(dims=(1, 0, 2)).transpose(dim0=0, dim1=1) @ (2 * self.weight)
            return self.lif(torch.sub(input=y, other=0.1, alpha=0.5))

    network = spiking(read(Net(), spikes(6)))
    assert network.graph.nodes["matmul" if "matmul" in network.graph.nodes else "linear"].weight.shape == (8, 6)
    same_in_program(network)


def test_a_neuron_that_is_called_twice_is_refused():
    neuron = LIF(4e-3, dt=DT)
    net = nn.Sequential(nn.Linear(6, 8), neuron, nn.Linear(8, 8), neuron)
    with pytest.raises(GraphError, match="called twice"):
        ashneuro.from_torch(net, spikes(6))


def test_a_module_by_the_step_counts_dt_as_given():
    net = dense(NEURONS["IF"]())
    net[3] = IF(1.0)
    assert read(net, spikes(6)).contract.dt_s == 1e-3
    assert read(net, spikes(6), dt=2e-3).contract.dt_s == 2e-3
