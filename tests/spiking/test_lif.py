"""Spiking layers against Norse's cells, bit for bit, and the float64 reference, spike for spike."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from norse.torch import LIFBoxCell
from norse.torch.functional.lif_box import LIFBoxParameters
from torch import nn

from ashneuro.errors import ConfigError
from ashneuro.spiking.kernels import backend_native
from ashneuro.spiking.kernels.cpp import NativeError
from ashneuro.spiking.lif import IF, LI, LIF, CubaLIF, Delta, Graded, SigmaDelta
from ashneuro.spiking.message import Message
from ashneuro.spiking.recurrent import RecurrentLIF
from tests import reference

SHAPE = (9, 3, 5, 4)


def currents(scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("v_leak, v_reset", [(0.0, 0.0), (0.25, 0.25), (-0.5, 0.125)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lif_equals_norse_bit_for_bit(dtype: torch.dtype, v_leak: float, v_reset: float) -> None:
    x = currents().to(dtype)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    p = LIFBoxParameters(*torch.tensor([1 / 3e-3, v_leak, 0.8, v_reset], dtype=torch.float64))
    cell, state, steps = LIFBoxCell(p, dt=1e-3), None, []
    for step in theirs:
        z, state = cell(step, state)
        steps.append(z)
    spikes, expected = LIF(3e-3, 0.8, v_leak, v_reset, dt=1e-3)(mine), torch.stack(steps)
    assert 0.02 < spikes.mean() < 0.5
    assert spikes.dtype == dtype
    assert torch.equal(spikes, expected)
    weights = torch.linspace(0, 1, spikes.numel(), dtype=dtype).reshape(spikes.shape)
    (spikes * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("tau", [1e-3, 2e-3, 7.3e-3])
@pytest.mark.parametrize("v_leak, v_reset", [(0.0, 0.0), (0.3, -0.2)])
def test_lif_equals_the_reference(tau: float, v_leak: float, v_reset: float) -> None:
    spikes, _ = reference.lif(currents(), tau=tau, dt=1e-3, v_threshold=0.7, v_leak=v_leak, v_reset=v_reset)
    assert spikes.any() and not spikes.all()
    np.testing.assert_array_equal(LIF(tau, 0.7, v_leak, v_reset, dt=1e-3)(currents()), spikes)


def test_potential_at_threshold_does_not_spike() -> None:
    exactly = torch.tensor([[2.0], [2.0]], dtype=torch.float64)  # v' = 0.5 · 2 = the threshold
    assert LIF(2e-3, dt=1e-3)(exactly).flatten().tolist() == [0.0, 1.0]
    assert reference.lif(exactly, tau=2e-3, dt=1e-3)[0].flatten().tolist() == [0.0, 1.0]


def test_other_neurons_equal_the_reference() -> None:
    x = currents()
    np.testing.assert_allclose(LI(4e-3, 0.1, dt=1e-3)(x), reference.li(x, tau=4e-3, dt=1e-3, v_leak=0.1), rtol=1e-12)
    spikes, _ = reference.cuba_lif(x, tau_mem=2e-3, tau_syn=3e-3, dt=1e-3, v_threshold=0.3)
    assert 0.02 < spikes.mean() < 0.5
    np.testing.assert_array_equal(CubaLIF(2e-3, 3e-3, 0.3, dt=1e-3)(x), spikes)
    spikes, _ = reference.if_(x, v_threshold=1.5, v_reset=-0.1)
    np.testing.assert_array_equal(IF(1.5, -0.1)(x), spikes)


def test_parameter_per_neuron() -> None:
    tau = torch.tensor([1e-3, 2e-3, 3e-3, 5e-3], dtype=torch.float64)
    spikes, _ = reference.lif(currents(), tau=tau.numpy(), dt=1e-3)
    np.testing.assert_array_equal(LIF(tau, dt=1e-3)(currents()), spikes)


@pytest.mark.parametrize("each", [False, True], ids=["one", "each"])
def test_reset_by_subtraction_equals_the_reference(each: bool) -> None:
    x, subtract = currents(), {"reset": "subtract"}
    spread = np.linspace(0.6, 1.4, SHAPE[-1]) if each else np.float64(1)
    tau, threshold, leak = (torch.as_tensor(value * spread) for value in (2e-3, 0.4, 0.3))
    kwargs = {"dt": 1e-3, "v_threshold": threshold, "v_leak": leak} | subtract
    wanted = [
        (LIF(tau, threshold, leak, dt=1e-3, **subtract), reference.lif(x, tau=tau, **kwargs)),
        (
            CubaLIF(tau, 3e-3, threshold, leak, dt=1e-3, **subtract),
            reference.cuba_lif(x, tau_mem=tau, tau_syn=3e-3, **kwargs),
        ),
        (IF(threshold, **subtract), reference.if_(x, v_threshold=threshold, **subtract)),
    ]
    for layer, (spikes, potentials) in wanted:
        sent, state = layer.steps(x)
        np.testing.assert_array_equal(sent, spikes)
        np.testing.assert_allclose(state.v, potentials[-1], rtol=1e-12, atol=1e-12)
        assert 0.1 < spikes.mean() < 0.6
        layer.reset = "value"
        assert not torch.equal(layer(x), sent)


def test_reset_by_subtraction_keeps_the_excess() -> None:
    x = torch.tensor([[2.5], [0.0], [0.0]], dtype=torch.float64)
    spikes, state = IF(reset="subtract").steps(x)
    assert spikes.flatten().tolist() == [1, 1, 0] and state.v.item() == 0.5
    # Exactly at the threshold after a reset: silent, as before it.
    assert IF(reset="subtract")(torch.tensor([[2.0], [0.0]])).flatten().tolist() == [1, 0]


@pytest.mark.parametrize("wrong", [{"v_reset": -0.2}, {"v_reset": torch.tensor([0.0, 0.1])}, {"learn": ("v_reset",)}])
def test_reset_by_subtraction_refuses_v_reset(wrong) -> None:
    for layer in (partial(LIF, 2e-3, dt=1e-3), partial(CubaLIF, 2e-3, 3e-3, dt=1e-3), IF):
        with pytest.raises(ConfigError, match=r"reset = 'subtract'\n.*v_reset has no effect\n.*leave v_reset out"):
            layer(reset="subtract", **wrong)


def test_unknown_reset_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"reset = 'zero'\n.*one of value, subtract"):
        IF(reset="zero")


def test_recurrent_layer_resets_by_subtraction() -> None:
    layer = RecurrentLIF(4, 2e-3, dt=1e-3, reset="subtract")
    nn.init.zeros_(layer.weight)
    x = currents().flatten(1, 2).float()
    assert torch.equal(layer(x), LIF(2e-3, dt=1e-3, reset="subtract")(x))


@pytest.mark.parametrize("each", [False, True], ids=["one", "each"])
def test_graded_values_equal_the_reference(each: bool) -> None:
    x = currents()
    threshold = torch.linspace(0.0, 1.4, SHAPE[-1], dtype=torch.float64) if each else 0.5
    for limit in (None, 2.5):
        wanted = reference.graded(x, threshold=threshold, limit=limit or np.inf)
        layer = Graded(threshold, limit=limit)
        np.testing.assert_array_equal(layer(x), wanted)
        assert torch.equal(layer(x[:1], hold=4), layer(x[:1].expand(4, *SHAPE[1:])))
        np.testing.assert_array_equal(layer.events(layer(x)), wanted > 0)
        rate = layer.with_rate(x)[1]  # of messages, not the mean of the values
        assert rate is None or rate == pytest.approx((wanted > 0).mean())
        layer.message = Message("graded", 8, 0.7)
        assert layer(x).max() == 0.7


@pytest.mark.parametrize("kernels", ["torch", "native"])
@pytest.mark.parametrize("surrogate", ["super", "atan"])
def test_graded_events_have_the_gradient_of_a_step_of_height_1(kernels: str, surrogate: str) -> None:
    threshold = torch.linspace(0.3, 0.8, SHAPE[-1], dtype=torch.float64)
    layer = Graded(threshold, limit=1.5, learn=("v_threshold",), surrogate=surrogate, kernels=kernels)
    x, weights = currents(1.0).requires_grad_(), currents(0.7).flip(0)
    (layer.events(layer(x)) * weights).sum().backward()
    u = x.detach() / threshold - 1
    # By default the integral over u is 1.
    step = 1 / (1 + 2 * u.abs()) ** 2 if surrogate == "super" else 1 / (1 + (np.pi * u) ** 2)
    through = weights * step / threshold
    torch.testing.assert_close(x.grad, through, rtol=1e-9, atol=1e-12)
    learned = layer.parametrizations.v_threshold.original  # the logarithm
    torch.testing.assert_close(learned.grad, -through.sum((0, 1, 2)) * threshold, rtol=1e-9, atol=1e-12)


def test_graded_events_of_a_relu_have_a_gradient_where_it_sends() -> None:
    x = torch.tensor([[-0.5, 0.0, 0.25, 3.0]], requires_grad=True)
    layer = Graded(0.0, limit=2.0)
    layer.events(layer(x)).sum().backward()
    assert x.grad.tolist() == [[0, 0, pytest.approx(1 / 1.5**2), 0]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"v_threshold": -0.1}, r"v_threshold = -0\.1.*\n.*nothing negative"),
        ({"bits": 0}, "1 to 15 bits"),
        ({"bits": 16}, "1 to 15 bits"),
        ({"limit": 0.0}, "limit = 0.0\n.*above 0"),
        ({"learn": ("v_threshold",)}, "starts above 0"),
        ({"v_threshold": 0.5, "learn": ("tau",)}, "v_threshold"),
    ],
)
def test_wrong_graded_neurons_are_errors(wrong, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Graded(**wrong)


def test_sigma_delta_layers_compute_the_ann_within_their_threshold() -> None:
    """Frames of a drifting picture: the sums follow the ANN, the messages become fewer."""
    torch.manual_seed(1)
    first, second = nn.Linear(6, 20, bias=False).double(), nn.Linear(20, 9, bias=False).double()
    bias = torch.randn(20, dtype=torch.float64)
    frames = torch.randn(1, 3, 6, dtype=torch.float64) + 0.02 * torch.randn(30, 3, 6, dtype=torch.float64).cumsum(0)
    ann = second(torch.relu(first(frames) + bias))
    found = {}
    for threshold in (0.0, 0.1):
        entry, hidden = Delta(threshold), SigmaDelta(threshold, bias)
        with torch.no_grad():
            changes = hidden(first(entry(frames)))
            values = second(changes.cumsum(0))
        found[threshold] = float(hidden.events(changes).mean()), float((values - ann).abs().max())
        assert changes.min() < 0 < changes.max() and hidden.with_rate(first(frames))[1] is None
    assert found[0.0][1] < 1e-12 and 1e-3 < found[0.1][1] < 1.0
    assert found[0.1][0] < 0.3 * found[0.0][0]


def test_gradient_of_sigma_delta_layers_is_that_of_the_ann() -> None:
    torch.manual_seed(1)
    first, frames = nn.Linear(6, 20, bias=False).double(), torch.randn(7, 3, 6, dtype=torch.float64).cumsum(0)
    layer = SigmaDelta(0.3, torch.randn(20, dtype=torch.float64), learn=("bias",))
    weights = torch.randn(7, 3, 20, dtype=torch.float64)
    (layer(first(Delta(0.2)(frames))).cumsum(0) * weights).sum().backward()
    ours = first.weight.grad.clone(), layer.bias.grad.clone()
    first.zero_grad(), layer.zero_grad()
    # The ReLU is that of the sum of what arrived, the weights met the changes that were sent.
    arrived = Delta(0.2)(frames).cumsum(0)
    (torch.relu(first(arrived) + layer.bias) * weights).sum().backward()
    torch.testing.assert_close(ours, (first.weight.grad, layer.bias.grad), rtol=1e-9, atol=1e-9)


class Classifier(nn.Module):
    """A class for every frame of a stream, by changes."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.entry, self.first = Delta(threshold), nn.Linear(12, 32, bias=False)
        self.hidden, self.second = SigmaDelta(threshold, torch.zeros(32), learn=("bias",)), nn.Linear(32, 4)

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, float]:
        sent = self.hidden(self.first(self.entry(frames)))
        return self.second(sent.cumsum(0)), float(self.hidden.events(sent).mean())


def test_sigma_delta_network_learns_and_sends_less() -> None:
    def streams(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        random = torch.Generator().manual_seed(seed)
        classes, centres = torch.randint(0, 4, (count,), generator=random), torch.eye(4, 12) * 4
        noise = torch.randn(count, 12, generator=random)
        return centres[classes] + noise + 0.05 * torch.randn(8, count, 12, generator=random).cumsum(0), classes

    rates = []
    for threshold in (0.0, 0.2):
        torch.manual_seed(0)
        net, (frames, classes) = Classifier(threshold), streams(64, 1)
        optimiser, losses = torch.optim.Adam(net.parameters(), 1e-2), []
        for _ in range(40):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(net(frames)[0].flatten(0, 1), classes.repeat(8))
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        frames, classes = streams(128, 2)
        with torch.no_grad():
            scores, rate = net(frames)
        assert losses[-1] < 0.1 * losses[0] and (scores.argmax(-1) == classes).float().mean() > 0.95
        rates.append(rate)
    assert rates[1] < 0.3 * rates[0]


@pytest.mark.parametrize("layer", [SigmaDelta, Delta])
def test_wrong_neurons_of_changes_are_errors(layer) -> None:
    with pytest.raises(ConfigError, match=r"v_threshold = -0\.1.*\n.*magnitude"):
        layer(torch.tensor([0.2, -0.1]))
    with pytest.raises(ConfigError, match=r"learn = 'v_threshold'\n.*does not depend on it"):
        SigmaDelta(0.1, learn=("v_threshold",))


@pytest.mark.parametrize(
    "neuron",
    [LIF(2e-3, dt=1e-3), CubaLIF(2e-3, 4e-3, dt=1e-3), LI(2e-3, dt=1e-3), IF(), Graded(), SigmaDelta(), Delta()],
    ids=lambda neuron: type(neuron).__name__,
)
def test_parameters_move_with_the_module(neuron: nn.Module) -> None:
    names = {name.rpartition(".")[2] for name in neuron.state_dict()}
    assert names == {name.rpartition(".")[2] for name, _ in neuron.named_buffers()}
    assert names & {"tau", "v_threshold"}
    assert all(value.device.type == "meta" for value in neuron.to("meta").state_dict().values())


def test_backward_pass_is_one_node() -> None:
    x = torch.randn(6, 2, 3, requires_grad=True)
    spikes = LIF(2e-3, dt=1e-3)(x)  # kept: in torch 2.6 a node ends with its tensor
    names, todo = [], [spikes.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None:
            names.append(type(node).__name__)
            todo += [source for source, _ in node.next_functions]
    assert names == ["MultiStepBackward", "AccumulateGrad"]


@pytest.mark.parametrize(
    "layer",
    [LIF(2e-3, dt=1e-3), CubaLIF(2e-3, 3e-3, dt=1e-3), LI(2e-3, dt=1e-3), IF(), Graded(0.5), SigmaDelta(0.5)],
    ids=lambda layer: type(layer).__name__,
)
def test_changed_parameters_invalidate_the_cache(layer) -> None:
    x = 2 * torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(4))

    def fresh() -> torch.Tensor:
        same = deepcopy(layer)
        same._cached = None
        return same(x)

    before = layer(x)
    assert torch.equal(layer(x), before)
    name = "tau" if isinstance(layer, LI) else "v_threshold"
    layer.get_buffer(name).mul_(1.3)
    assert torch.equal(layer(x), fresh())
    layer.get_buffer(name).data.mul_(1.3)  # which autograd takes no notice of
    assert torch.equal(layer(x), fresh())
    assert not torch.equal(layer(x), before)
    layer.load_state_dict({key: value * 1.5 for key, value in layer.state_dict().items()})
    assert torch.equal(layer(x), fresh())
    setattr(layer, name, torch.as_tensor(0.7, dtype=torch.float64))
    assert torch.equal(layer(x), fresh())
    if not isinstance(layer, LI | Graded | SigmaDelta):
        layer.reset = "subtract"
        assert torch.equal(layer(x), fresh()) and layer._cached[2].reset_kind == "subtract"
    layer.options = {"kernels": "torch"}
    layer(x)
    assert layer._cached[2].kernels == "torch"
    layer.double()
    assert layer(x.double()).dtype == torch.float64


@pytest.mark.parametrize("way", ["native", "torch"])
@pytest.mark.parametrize(
    "make",
    [
        lambda way: LIF(2e-3, dt=1e-3, kernels=way),
        lambda way: CubaLIF(2e-3, 3e-3, dt=1e-3, kernels=way),
        lambda way: LI(2e-3, dt=1e-3, kernels=way),
        lambda way: IF(kernels=way),
        lambda way: Graded(0.5, kernels=way),
        lambda way: SigmaDelta(0.5, kernels=way),
    ],
    ids=["LIF", "CubaLIF", "LI", "IF", "Graded", "SigmaDelta"],
)
def test_layer_first_used_in_inference_mode_can_be_trained(make, way: str) -> None:
    if way == "native":
        try:
            backend_native.library("lif", torch.float32, torch.float32)
        except NativeError as error:
            pytest.skip(f"{error}; install one, for example: apt install g++")
    layer, x = make(way), 2 * torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        before = layer(x)
    leaf = x.clone().requires_grad_()
    spikes = layer(leaf)
    spikes.sum().backward()
    assert torch.equal(spikes, before) and leaf.grad.any()


def test_buffer_gradient_in_every_call() -> None:
    layer, x = LIF(2e-3, dt=1e-3), 2 * torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(4))
    layer(x)
    tau = torch.tensor(2e-3, dtype=torch.float64, requires_grad=True)
    first, second = (
        torch.autograd.grad(torch.func.functional_call(layer, {"tau": tau}, x).sum(), tau)[0] for _ in range(2)
    )
    layer.tau.requires_grad_()
    layer(x).sum().backward()
    assert first.any() and torch.equal(first, second) and torch.equal(layer.tau.grad, first)


@pytest.mark.parametrize("learn", [(), ("tau",)])
def test_option_changed_in_place_takes_effect(learn) -> None:
    x = 2 * torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(4))

    def gradient(layer: LIF) -> torch.Tensor:
        leaf = x.clone().requires_grad_()
        layer(leaf).sum().backward()
        return leaf.grad

    layer = LIF(2e-3, dt=1e-3, learn=learn, slope=1.0)
    gradient(layer)
    layer.options["slope"] = 5.0
    assert torch.equal(gradient(layer), gradient(LIF(2e-3, dt=1e-3, learn=learn, slope=5.0)))


@pytest.mark.parametrize("threshold", [0.4, torch.linspace(0.2, 2, 5)], ids=["one", "each"])
def test_batch_size_and_type_may_change(threshold) -> None:
    layer = LIF(2e-3, threshold, dt=1e-3)
    x = 2 * torch.randn(6, 12, 5, generator=torch.Generator().manual_seed(4))
    whole = layer(x)
    assert torch.equal(layer(x.double()), whole.double())
    for size in range(1, 12):
        assert torch.equal(layer(x[:, :size]), whole[:, :size])
    assert torch.equal(layer(x.double()), whole.double())


def test_layer_created_in_inference_mode() -> None:
    with torch.inference_mode():
        layer = LIF(2e-3, 0.5, dt=1e-3)
        assert layer(torch.ones(4, 2, 3)).any()
        layer.v_threshold.fill_(9.0)
        assert not layer(torch.ones(4, 2, 3)).any()
