"""Hand-over to other neurons: what the network computes stays close."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ashneuro.model.abstract import QuantisedReLU
from ashneuro.model.hand_over import hand_over
from ashneuro.model.network import AshNet
from ashneuro.spiking.lif import IF, Population
from tests.model import tiny

TARGETS: dict[str, dict[str, Any]] = {
    "lif": {"neuron": "lif", "timesteps": 4},
    "if, subtract": {"neuron": "if", "reset": "subtract", "timesteps": 4},
    "graded": {"neuron": "graded", "timesteps": 1, "v_threshold": 2.0},
    "cubalif": {"neuron": "cubalif", "timesteps": 6},
}


def twin(kind: str = "quantised-relu", **changed: Any) -> AshNet:
    return tiny.model(kind, bits=3, **changed)


def abstract_of(net: AshNet) -> Tensor:
    with torch.no_grad():
        return net.encode(tiny.images(200)).abstract.flatten(1)


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


@pytest.mark.parametrize("name", TARGETS)
def test_spikes_carry_on_what_the_twin_has_learned(name: str) -> None:
    net, plain = twin(), twin()
    x = tiny.images(200)
    after = replace(net.config.abstract, kind="spiking", **TARGETS[name])
    with torch.no_grad():
        wanted = net.encode(x)
        hand_over(net, after)
        plain.use_neurons(after)
        found, other = net.encode(x), plain.encode(x)
    assert net.config.abstract == after
    assert net.omega.tolist() == pytest.approx([1 / after.timesteps] * after.timesteps)
    # Every further layer of this untrained network adds its own error.
    for layer, least in (("entry.lif", 0.92), ("block1.lif1", 0.82)):
        kept, lost = (correlation(wanted.layers[layer].mean(0), each.layers[layer].mean(0)) for each in (found, other))
        assert kept > max(least, lost), (layer, kept, lost)
    size = float(found.abstract.std() / wanted.abstract.std())
    assert 0.5 < size < 1.5, size


def test_relus_become_graded_neurons_without_threshold_exactly() -> None:
    net = twin("relu")
    before = abstract_of(net)
    hand_over(net, replace(net.config.abstract, kind="spiking", neuron="graded", v_threshold=0.0, timesteps=1))
    torch.testing.assert_close(abstract_of(net), before)


def test_graded_neurons_send_what_exceeds_the_twin_s_step() -> None:
    net = twin()
    assert net.abstract is not None
    x = tiny.images(20)
    with torch.no_grad():
        net.abstract.entry.step.fill_(0.3)
        current = net.currents(x)
        hand_over(net, replace(net.config.abstract, kind="spiking", neuron="graded", v_threshold=2.0, timesteps=1))
        sent = net.encode(x).layers["entry.lif"][0]
    assert torch.equal(sent > 0, current > 0.3) and 0.1 < float((sent > 0).double().mean()) < 0.9
    torch.testing.assert_close(sent[sent > 0], current[sent > 0] * (2 / 0.3))


def test_quantised_relus_get_the_step_of_their_currents() -> None:
    net = twin("relu")
    assert net.abstract is not None
    with torch.no_grad():
        net.abstract.norm.weight.mul_(1000)
        net.abstract.norm.bias.mul_(1000)
        net.abstract.blocks[0].conv1.norm.running_var.mul_(1000**2)
        net.abstract.blocks[0].conv1.norm.running_mean.mul_(1000)
    before = abstract_of(net)
    hand_over(net, replace(net.config.abstract, kind="quantised-relu", bits=4))
    found = {name: neurons for name, neurons, _ in net.abstract.populations() if isinstance(neurons, QuantisedReLU)}
    steps = {name: neurons.step.item() for name, neurons in found.items()}
    assert len(steps) == 8 and steps["entry.lif"] > 100 * steps["block1.lif1"]
    assert correlation(before, abstract_of(net)) > 0.9


def test_settings_that_change_no_response_keep_what_was_learned() -> None:
    net = tiny.model("spiking", learn_threshold=True, learn_decay=True)
    assert net.abstract is not None
    before, omega = abstract_of(net), net.omega.clone()
    found = [neurons for neurons in net.abstract.modules() if isinstance(neurons, Population)]
    thresholds = [neurons.v_threshold.item() for neurons in found]  # type: ignore[operator,union-attr]
    assert len(set(thresholds)) == 8, "each has its own"
    hand_over(net, replace(net.config.abstract, surrogate="atan", learn_threshold=False))
    assert torch.equal(net.omega, omega)
    torch.testing.assert_close(abstract_of(net), before)


def test_learned_time_constants_go_on_with_more_timesteps() -> None:
    net = tiny.model("spiking", learn_decay=True)
    assert net.abstract is not None
    before = [neurons.tau.item() for _, neurons, _ in net.abstract.populations()]
    hand_over(net, replace(net.config.abstract, timesteps=5))
    assert [neurons.tau.item() for _, neurons, _ in net.abstract.populations()] == pytest.approx(before)


def test_a_codebook_still_quantises_values_of_its_size() -> None:
    net = twin(units=8, codebook=4, codebook_groups=2)
    weight, whole = net.readout.weight.clone(), net.omega.sum().item()
    hand_over(net, replace(net.config.abstract, kind="spiking", neuron="if", reset="subtract", timesteps=4))
    assert torch.equal(net.readout.weight, weight)
    assert not torch.allclose(net.omega.sum(), torch.tensor(whole)) and len(set(net.omega.tolist())) == 1


def test_a_model_without_spiking_encoder_has_nothing_to_hand_over() -> None:
    net = tiny.model("none")
    hand_over(net, net.config.abstract)
    with pytest.raises(ValueError, match="has no neurons"):
        hand_over(net, replace(net.config.abstract, timesteps=9))


def test_new_neurons_have_the_encoder_s_kernels() -> None:
    net = twin()
    assert net.abstract is not None
    net.abstract.use_kernels("torch")
    hand_over(net, replace(net.config.abstract, kind="spiking", neuron="if"))
    assert isinstance(net.abstract.entry, IF) and net.abstract.entry.options["kernels"] == "torch"
