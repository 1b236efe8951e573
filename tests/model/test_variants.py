"""Variants of the abstract encoder: equations, deployment spike for spike, fan-out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch

from ashneuro.config import AbstractConfig
from ashneuro.cost.workload import count
from ashneuro.errors import ConfigError
from ashneuro.model.abstract import AbstractEncoder, Block
from ashneuro.model.codebook import Codebook
from ashneuro.model.deploy import deployed_graph
from ashneuro.model.network import AshNet
from ashneuro.program.check import check
from ashneuro.program.lower import lower
from ashneuro.simulation.run import simulate
from ashneuro.spiking.contract import read_contract
from ashneuro.spiking.kernels.surrogate import SURROGATES
from tests import reference
from tests.model import tiny


def variant(**settings: Any) -> AshNet:
    """Return the tiny model with other encoder settings, in float64, and perturbed parameters."""
    torch.manual_seed(2)
    config = replace(tiny.CONFIG, abstract=replace(tiny.CONFIG.abstract, **settings))
    net = AshNet(config, tiny.VOCABULARY, tiny.SIZE, tiny.WORDS)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for seed in range(40):
            net.train().encode(tiny.images(16, seed))
    return net.eval().double()


VARIANTS: dict[str, dict[str, Any]] = {
    "mlp": {"block": "mlp"},
    "mixing": {"block": "mixing"},
    "cubalif": {"neuron": "cubalif", "tau_syn_s": 1.5e-3},
    "learned decay": {"learn_decay": True},
    "learned cubalif, mixing": {
        "neuron": "cubalif",
        "learn_decay": True,
        "block": "mixing",
        "tau_syn_s": 1.2e-3,
        "tau_mem_s": 1.2e-3,
    },
    "learned threshold": {"learn_threshold": True},
    "if": {"neuron": "if", "learn_threshold": True},
    "if, subtract": {"neuron": "if", "reset": "subtract"},
    "lif, subtract": {"reset": "subtract", "learn_decay": True},
    "graded": {"neuron": "graded", "learn_threshold": True, "message_limit": 0.9, "timesteps": 1},
    "positions": {"positions": True},
    "positions, graded": {"positions": True, "neuron": "graded", "timesteps": 1},
    "relu, mixing": {"neuron": "graded", "v_threshold": 0.0, "block": "mixing"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_deployed_variants_spike_as_the_module(name: str) -> None:
    net = variant(**VARIANTS[name])
    x = tiny.images(12).double()
    with torch.no_grad():
        currents = net.currents(x).numpy()
        layers = net.encode(x).layers
    graph = deployed_graph(net)
    steps = np.broadcast_to(currents, (net.abstract.timesteps, *currents.shape))  # type: ignore[union-attr]
    outputs = reference.run_graph(graph, steps, dt=1e-3)
    close = {"rtol": 1e-12, "atol": 1e-12 if "neuron" in VARIANTS[name] else 0}  # graded sums in another order
    for layer, spikes in layers.items():
        assert 0 < (spikes > 0).double().mean() < 0.95, layer
        np.testing.assert_allclose(outputs[layer], spikes.numpy(), **close, err_msg=layer)
    contract = read_contract(graph.metadata).contract
    program = lower(graph, contract)
    record = simulate(program, steps, on="torch", rasters="outputs")
    (output,) = program.outputs
    np.testing.assert_allclose(record.layers[output].raster, layers["semantic.lif"].numpy(), **close)
    assert [finding for finding in check(graph, read_contract(graph.metadata), "lava") if not finding.ok] == []


def test_mixing_connects_all_positions() -> None:
    encoder = AbstractEncoder(replace(tiny.CONFIG.abstract, block="mixing"), width=6, grid=8)
    block = encoder.blocks[0]
    assert isinstance(block, Block)
    places = torch.zeros(16, 6, 4, 4)
    for place in range(16):
        places[place, 2, place // 4, place % 4] = 1.0
    sent = block.conv2.linear(places)[:, 2].flatten(1)
    assert (sent != 0).all(), "one spike at any place moves all 16"
    assert (block.conv2.linear(places)[:, 3] == 0).all(), "and stays in its channel"
    assert sent[0, 15] == sent.new_tensor(block.conv2.linear.weight[2, 0, 3 - 3, 3 - 3].item())


def test_learned_time_constants_have_gradients_and_bounds() -> None:
    net = variant(**VARIANTS["learned cubalif, mixing"]).train()
    net.embed_images(tiny.images(8).double()).sum().backward()
    learned = [
        name
        for name, weight in net.named_parameters()
        if "tau" in name and weight.grad is not None and weight.grad.abs() > 0
    ]
    assert len(learned) == 2 * 8  # τ_mem and τ_syn of 2 · 3 + 2 populations
    for name, neuron, _ in net.abstract.populations():  # type: ignore[union-attr]
        assert neuron.tau_mem.item() > 1e-3 and neuron.tau_syn.item() > 1e-3, name


@pytest.mark.parametrize("neuron", ["lif", "cubalif"])
def test_surrogate_and_reset_change_only_gradients(neuron: str) -> None:
    spikes, gradients = [], set()
    names = get_args(get_type_hints(AbstractConfig)["surrogate"])
    assert set(names) == set(SURROGATES)
    settings: list[dict[str, Any]] = [{"surrogate": name} for name in names]
    for setting in [*settings, {"slope": 3.0}, {"detach_reset": True}]:
        net = variant(neuron=neuron, **setting)
        images = tiny.images(8).double()
        net.embed_images(images).sum().backward()
        assert isinstance(net.abstract, AbstractEncoder)
        gradients.add(net.abstract.w_in.weight.grad.abs().sum().item())  # type: ignore[union-attr]
        spikes.append(net.encode(images).layers["semantic.lif"])
    assert all(torch.equal(spikes[0], other) for other in spikes)
    assert len(gradients) == len(settings) + 2


def test_learned_thresholds_have_gradients_and_bounds() -> None:
    for neuron in ("lif", "graded"):
        net = variant(neuron=neuron, learn_threshold=True).train()
        net.embed_images(tiny.images(8).double()).sum().backward()
        learned = [
            weight.grad for name, weight in net.named_parameters() if "v_threshold" in name and weight.grad is not None
        ]
        assert len(learned) == 8 and all(gradient.abs() > 0 for gradient in learned)
        assert all(neurons.v_threshold.item() > 0 for _, neurons, _ in net.abstract.populations())  # type: ignore[union-attr]


@pytest.mark.parametrize("settings", [{}, {"neuron": "if", "reset": "subtract"}, {"neuron": "graded", "timesteps": 1}])
def test_thresholds_per_channel_are_scales_of_batch_norms(settings: dict[str, Any]) -> None:
    """So `learn_threshold` offers none: γ and β of a channel learn the same."""
    one, other = variant(**settings), variant(**settings)
    x = tiny.images(6).double()
    factors = torch.linspace(0.5, 2.0, 4, dtype=torch.float64)
    assert one.abstract is not None and other.abstract is not None
    with torch.no_grad():
        one.abstract.entry.v_threshold = 0.4 * factors[:, None, None]
        other.abstract.norm.weight /= factors
        other.abstract.norm.bias /= factors
        if settings.get("neuron") == "graded":  # values are smaller by the factor, which weights make up for
            other.abstract.blocks[0].conv1.linear.weight *= factors[:, None, None]
        sent, scaled = one.encode(x).layers, other.encode(x).layers
    assert torch.equal(sent["entry.lif"] > 0, scaled["entry.lif"] > 0)
    torch.testing.assert_close(sent["semantic.lif"], scaled["semantic.lif"])


def test_wrong_settings_of_neurons_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"v_threshold = 0\n.*rest at 0.*\n.*neuron = 'graded'"):
        variant(v_threshold=0.0)
    for neuron in ("graded", "if"):
        with pytest.raises(ConfigError, match=r"learn_decay = true\n.*no time constant"):
            variant(neuron=neuron, learn_decay=True)
    with pytest.raises(ConfigError, match=r"learn_threshold = 'channel'\n.*γ and a shift β"):
        variant(learn_threshold="channel")
    with pytest.raises(ConfigError, match=r"reset = 'subtract'\n.*no potential"):
        variant(neuron="graded", reset="subtract")
    with pytest.raises(ConfigError, match=r"learned v_threshold starts above 0"):
        variant(neuron="graded", v_threshold=0.0, learn_threshold=True)


@pytest.mark.parametrize(
    ("block", "neuron", "positions"),
    [
        ("conv", "lif", False),
        ("conv", "lif", True),
        ("mlp", "lif", False),
        ("mixing", "lif", False),
        ("conv", "graded", False),
        ("mixing", "graded", True),
    ],
)
def test_fan_out_equals_effective_synops(block: str, neuron: str, positions: bool) -> None:
    """Σ events · fan-out equals the effective operations of the lowered program."""
    net = variant(block=block, neuron=neuron, positions=positions)
    x = tiny.images(5).double()
    with torch.no_grad():
        currents = net.currents(x).numpy()
        layers = net.encode(x).layers
    maps = net.abstract.fan_out()  # type: ignore[union-attr]
    assert {name: tuple(spikes.shape[2:]) for name, spikes in layers.items()} == {
        name: tuple(value.shape) for name, value in maps.items()
    }
    events = net.abstract.events(layers)  # type: ignore[union-attr]
    ours = sum(float((sent * maps[name]).sum()) for name, sent in events.items())
    graph = deployed_graph(net)
    program = lower(graph, read_contract(graph.metadata).contract)
    record = simulate(program, np.broadcast_to(currents, (3, *currents.shape)), on="torch", rasters="all")
    workload = count(program, record)
    operations = "effective_macs" if neuron == "graded" else "effective_acs"
    theirs = sum(getattr(layer, operations) or 0 for layer in workload.layers)
    assert ours == theirs


def test_checkpointing_keeps_gradients_and_statistics() -> None:
    found = []
    for again in (False, True):
        net = variant().train()
        net.abstract.checkpointing = again  # type: ignore[union-attr]
        net.embed_images(tiny.images(8).double()).pow(3).sum().backward()
        gradients = {name: weight.grad for name, weight in net.named_parameters() if weight.grad is not None}
        found.append((gradients, {name: value.clone() for name, value in net.named_buffers()}))
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


def test_codebook_gives_nearest_entries_and_passes_gradients() -> None:
    torch.manual_seed(0)
    book = Codebook(units=6, entries=5, groups=2).eval()
    z = torch.randn(7, 6, requires_grad=True)
    quantised, codes = book(z)
    for sample in range(7):
        for group in range(2):
            part = z[sample, 3 * group : 3 * group + 3]
            distances = [((part - entry) ** 2).sum().item() for entry in book.entries[group]]
            best = distances.index(min(distances))
            assert codes.indices[sample, group] == best
            torch.testing.assert_close(quantised[sample, 3 * group : 3 * group + 3], book.entries[group, best])
    quantised.sum().backward()
    torch.testing.assert_close(z.grad, torch.ones_like(z))
    torch.testing.assert_close(codes.entries, quantised.detach())


def test_first_batch_initialises_the_codebook() -> None:
    torch.manual_seed(0)
    book = Codebook(units=4, entries=3, groups=1)
    z = torch.randn(5, 4) + 10
    _, codes = book(z)
    assert bool(book.started) and set(codes.indices.flatten().tolist()) == {0, 1, 2}
    torch.testing.assert_close(book.entries[0], z[:3], atol=0.01, rtol=0)
    before = book.entries.clone()
    book(z + 1)
    assert torch.equal(book.entries, before)


def test_codebook_quantises_the_read_out() -> None:
    net = variant(codebook=4, codebook_groups=3)
    encoded = net.encode(tiny.images(3).double())
    assert encoded.codes is not None
    torch.testing.assert_close(encoded.codes.z, torch.einsum("t,tbk->bk", net.omega, encoded.layers["semantic.lif"]))
    torch.testing.assert_close(encoded.abstract[:, :, 0, 0], net.readout(encoded.codes.entries))
    with pytest.raises(ConfigError, match="do not divide"):
        variant(codebook=4, codebook_groups=2)
    assert variant(kind="none", codebook=4).codebook is None


def test_all_processes_start_with_one_codebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a broadcast, each would initialise it with its own part of the batch."""
    first = torch.randn(2, 4, 3)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.broadcast", lambda entries, source: entries.copy_(first))
    book = Codebook(6, 4, 2).train()
    book(torch.randn(8, 6))
    torch.testing.assert_close(book.entries.detach(), first)
