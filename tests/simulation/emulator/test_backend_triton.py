"""The Triton kernel of integer neurons against torch, interpreted or on a GPU."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from ashneuro.simulation.emulator.neurons import IntegerPopulation
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.spiking.firing import Firing
from tests.simulation import nets

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = pytest.mark.triton if INTERPRETED else pytest.mark.gpu
DEVICE = "cpu" if INTERPRETED else "cuda"


@pytest.mark.parametrize("du", [4095, 0, 500])
@pytest.mark.parametrize("dv", [0, 300, 4095])
@pytest.mark.parametrize("spiking", [True, False])
@pytest.mark.parametrize("large", [False, True])
def test_kernel_equals_torch(du, dv, spiking, large):
    compare_with_torch(du, dv, spiking, large, Firing(), None)


@pytest.mark.parametrize("subtract", [None, 200_000, 130_000])
@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("comparison", ["strict", "inclusive"])
def test_firing_equals_torch(subtract, late, comparison):
    firing = Firing(comparison, "value" if subtract is None else "subtract", late)
    compare_with_torch(500, 300, True, False, firing, subtract)


@pytest.mark.parametrize("spiking", [True, False])
def test_decays_per_neuron_equal_torch(spiking):
    random = np.random.default_rng(5)
    du, dv = random.integers(0, 4096, (2, 3, 7)).astype(np.int32)
    compare_with_torch(du, dv, spiking, False, Firing(), None)
    compare_with_torch(4095, dv, spiking, True, Firing(), 130_000)


def compare_with_torch(du, dv, spiking, large, firing, subtract):
    import torch

    from ashneuro.simulation.emulator import backend_triton

    random = np.random.default_rng(int(np.sum(du) + np.sum(dv)))
    size = 250_000 if large else 4_000  # of currents: the large ones wrap and saturate
    bias = torch.from_numpy(random.integers(-30_000, 30_000, (3, 7)).astype(np.int32)).to(DEVICE)
    keep_u, keep_v = (
        torch.from_numpy(keep).to(DEVICE) if isinstance(keep, np.ndarray) else keep for keep in (4095 - du, 4096 - dv)
    )
    library = IntegerPopulation(torch, spiking, bias, keep_u, keep_v, 200_000, firing, subtract)
    currents = torch.from_numpy(random.integers(-size, size, (8, 30, 3, 7)).astype(np.int32)).to(DEVICE)
    currents[:, :, 0, :2] = 0
    results = []
    for population in (library, replace(library, kernel=backend_triton.run)):
        states = []
        u, v = (torch.zeros_like(currents[0]) for _ in range(2))
        steps = population.run(u, v, currents.clone(), states)
        results.append((steps.sent, steps.u, steps.v, steps.active, states))
    (sent, u, v, active, states), other = results
    assert all(torch.equal(a, b) for a, b in ((sent, other[0]), (u, other[1]), (v, other[2]))) and active == other[3]
    assert all(
        torch.equal(a, b)
        for ours, theirs in zip(states, other[4], strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )
    assert len(states) == 8 and 0 < active <= currents.numel()
    if spiking:
        assert sent.dtype == torch.uint8 and 0.02 < sent.float().mean() < 0.98


@pytest.mark.parametrize("net", ["dense", "recurrent", "conv"])
def test_programs_equal_torch(net, monkeypatch):
    random, program = nets.NETS[net](5, "integer")
    x, names = random.inputs(program.inputs[0], 5, 3), [layer.name for layer in program.layers]
    monkeypatch.setenv("ASHNEURO_KERNELS", "torch")
    wanted = run_program(program, x, rasters=names, traces=names, backend="numpy")
    monkeypatch.setenv("ASHNEURO_KERNELS", "triton")
    record = run_program(program, x, rasters=names, traces=names, backend="torch", device=DEVICE)
    for name in names:
        for field in ("raster", "counts", "u", "v"):
            np.testing.assert_array_equal(getattr(record.layers[name], field), getattr(wanted.layers[name], field))
        assert record.layers[name].active_updates == wanted.layers[name].active_updates
