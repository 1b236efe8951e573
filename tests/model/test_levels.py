"""Levels: what a model computes with few levels, and the graph that sends their changes."""

import numpy as np
import pytest
import torch

from ashneuro.errors import ConfigError
from ashneuro.model.deploy import deployed_graph
from ashneuro.model.levels import Levels, level_network, streams
from ashneuro.program.lower import lower
from ashneuro.simulation.calibrate import calibrate
from ashneuro.simulation.emulator.run_graph import run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.spiking.contract import read_contract
from tests.model.tiny import images, model

KINDS = [{"kind": "quantised-relu"}, {"kind": "relu"}, {"neuron": "graded", "timesteps": 1, "v_threshold": 0.3}]


def frames(net, count=5, streams=3):
    """Return currents (T, B, C, H, W) of pictures of which a few pixels change each time."""
    first = images(streams)
    pictures = [first]
    for seed in range(count - 1):
        moved = torch.rand(first.shape, generator=torch.Generator().manual_seed(seed)) < 0.1
        pictures.append(torch.where(moved, images(streams, seed + 50), pictures[-1]))
    with torch.no_grad():
        return torch.stack([net.currents(picture.to(net.readout.weight.dtype)) for picture in pictures])


@pytest.mark.parametrize("settings", KINDS, ids=["3 bits", "ReLU", "graded"])
def test_changes_add_up_to_the_models_levels(settings):
    """In the float graph; and integers by changes are those of each frame afresh."""
    net = model(**settings).double()
    currents = frames(net)
    found = level_network(net, currents.flatten(0, 1), bits=3)
    assert streams(found) and not streams(net)
    graph = deployed_graph(found)
    contract = read_contract(graph.metadata).contract
    assert contract.timesteps is None and contract.input_coding == "current"
    names = [name for name, _, _ in found.abstract.populations()]
    record = run_graph(graph, contract, currents.numpy(), rasters=names)
    with torch.no_grad():
        wanted = found.abstract(currents.flatten(0, 1))
    for name in names:
        sent = record.layers[name].raster
        values = wanted[name][0].unflatten(0, currents.shape[:2]).numpy()
        np.testing.assert_allclose(sent.cumsum(axis=0), values, rtol=0, atol=1e-9, err_msg=name)
        assert len(np.unique(values)) > 2 and (sent < -1e-9).any(), name
    integer = calibrate(lower(graph, contract), {"input": currents.numpy()}).program
    by_changes = run_program(integer, currents.numpy(), rasters=names).layers
    afresh = run_program(integer, currents.flatten(0, 1)[None].numpy(), rasters=names).layers
    for name in names:
        again = afresh[name].raster.reshape(by_changes[name].raster.shape)
        np.testing.assert_allclose(by_changes[name].raster.cumsum(axis=0), again, rtol=0, atol=1e-9)


def test_quantised_relu_keeps_its_levels():
    net = model(kind="quantised-relu")
    found = level_network(net, net.currents(images(4)).detach())
    with torch.no_grad():
        np.testing.assert_allclose(
            found.embed_images(images(20)).numpy(), net.embed_images(images(20)).numpy(), atol=1e-5
        )
    steps = {name: neurons.step for name, neurons, _ in net.abstract.populations()}
    for name, neurons, _ in found.abstract.populations():
        assert isinstance(neurons, Levels) and neurons.bits == 2
        assert neurons.step == pytest.approx(steps[name].item())


def test_fewer_bits_keep_the_largest_level():
    net = model(kind="quantised-relu", timesteps=7)
    found = level_network(net, net.currents(images(4)).detach(), bits=2)
    for (_, own, _), (_, levels, _) in zip(net.abstract.populations(), found.abstract.populations(), strict=True):
        assert levels.step * 3 == pytest.approx(own.step.item() * 7)


def test_levels_of_many_bits_are_the_values():
    net = model(neuron="graded", timesteps=1, v_threshold=0.3)
    x = images(20)
    with torch.no_grad():
        found = level_network(net, net.currents(x), bits=12)
        np.testing.assert_allclose(found.embed_images(x).numpy(), net.embed_images(x).numpy(), atol=5e-3)
        coarse = level_network(net, net.currents(x), bits=2)
        assert (coarse.embed_images(x) - net.embed_images(x)).abs().max() > 2e-2


def test_threshold_is_the_least_change():
    net = model(kind="quantised-relu")
    found = level_network(net, frames(net).flatten(0, 1), threshold=2.0)
    for name, neurons, _ in found.abstract.populations():
        node = deployed_graph(found).nodes[name]
        assert node.threshold.max() == pytest.approx(2 * float(neurons.step))


@pytest.mark.parametrize(
    ("settings", "options", "words"),
    [
        ({}, {}, "lif, 3 timesteps"),
        ({"neuron": "graded"}, {}, "graded, 3 timesteps"),
        ({"kind": "none"}, {}, "none"),
        ({"kind": "relu"}, {"bits": 16}, "1 to 15 bits"),
        ({"kind": "relu"}, {"threshold": 0.5}, "one level"),
    ],
)
def test_networks_without_levels_are_refused(settings, options, words):
    net = model(**settings)
    with pytest.raises(ConfigError, match=words):
        level_network(net, torch.zeros(1, 4, 4, 4), **options)


def test_thresholds_of_single_channels_are_refused():
    net = model(neuron="graded", timesteps=1)
    net.abstract.entry.v_threshold = torch.linspace(0.1, 0.4, 4).reshape(-1, 1, 1).double()
    with pytest.raises(ConfigError, match="one jump per population"):
        level_network(net, net.currents(images(2)).detach())
