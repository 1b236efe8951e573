"""Modules that the tests of adapters read, and their comparison through the whole chain."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import ashneuro
from ashneuro.program.lower import lower
from ashneuro.simulation.emulator.run_graph import run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.lava.session import Lava

EXTRA = "pip install -e '.[frameworks]'"
STEPS, BATCH = 25, 3
# The frameworks' own warnings, as `pytestmark`.
QUIET = [
    pytest.mark.filterwarnings(f"ignore::{name}") for name in ("DeprecationWarning", "FutureWarning", "UserWarning")
]


def framework(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed: {EXTRA}")


def spikes(*shape, steps=STEPS, batch=BATCH, rate=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, batch, *shape, generator=generator) < rate).float()


def strong(module, gain=2.0):
    """Draw weights, excitatory in the mean, so that all layers spike."""
    for part in nn.Module.modules(module):
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d):
            part.weight.data = gain * (torch.rand(part.weight.shape) - 0.4) / part.weight[0].numel() ** 0.5
            if part.bias is not None:
                part.bias.data = 0.1 * torch.rand(part.bias.shape)
    return module


def read(module, x, **options):
    """Return the network of a module; every population but read-outs spikes."""
    network = ashneuro.from_torch(module, x, **options)
    assert network.source.mismatches == 0 and network.source.compared
    return network


def spiking(network, *, least=0.01, most=0.95):
    """Assert that equality of all populations says something."""
    for population in network.source.populations:
        rate = population.spikes / population.compared
        assert population.spikes == 0 or least < rate < most, f"{population.name} spikes at {rate:.1%}"
    assert any(population.spikes for population in network.source.populations)
    return network


def same_in_program(network):
    """Assert that the float program sends what the module sent."""
    program = lower(network.graph, network.contract)
    names = [layer.name for layer in program.layers]
    record = run_program(program, network.sample, rasters=names)
    _equal(record, network)
    return program


def same_in_lava(network):
    """Assert that Lava sends what the module sent."""
    program = same_in_program(network)
    with Lava() as lava:
        _equal(lava.run(program, network.sample, rasters=[layer.name for layer in program.layers]), network)


def _equal(record, network):
    # The module is equal to its graph; here the graph is what a record has to equal.
    names = list(record.layers)
    graph = run_graph(network.wiring, network.contract, network.sample, rasters=names)
    for name in names:
        np.testing.assert_allclose(record.layers[name].raster, graph.layers[name].raster, rtol=0, atol=1e-9)
