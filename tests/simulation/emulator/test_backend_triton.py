"""The Triton kernel of integer neurons against torch, interpreted or on a GPU."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from ashneuro.program.program import Layer, Neuron
from ashneuro.simulation.emulator.neurons import IntegerPopulation, population
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.spiking.dynamics import DYNAMICS
from ashneuro.spiking.firing import Firing
from ashneuro.spiking.message import SPIKE, Message
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

    random = np.random.default_rng(int(np.sum(du) + np.sum(dv)))
    size = 250_000 if large else 4_000  # of currents: the large ones wrap and saturate
    bias = torch.from_numpy(random.integers(-30_000, 30_000, (3, 7)).astype(np.int32)).to(DEVICE)
    keep_u, keep_v = (
        torch.from_numpy(keep).to(DEVICE) if isinstance(keep, np.ndarray) else keep for keep in (4095 - du, 4096 - dv)
    )
    library = IntegerPopulation(torch, spiking, bias, keep_u, keep_v, 200_000, firing, subtract)
    currents = torch.from_numpy(random.integers(-size, size, (8, 30, 3, 7)).astype(np.int32)).to(DEVICE)
    currents[:, :, 0, :2] = 0
    sent = compare(library, currents)
    if spiking:
        assert sent.dtype == torch.uint8 and 0.02 < sent.float().mean() < 0.98


def compare(library, currents):
    """Return the messages of a population, after comparing the kernel with torch.

    The kernel runs in two halves, the second from the state that the first one leaves.
    """
    import torch

    from ashneuro.simulation.emulator import backend_triton

    results = []
    for one, halves in ((library, [currents]), (replace(library, kernel=backend_triton.run), currents.split(4))):
        (u, v), more, states = (torch.zeros_like(currents[0]) for _ in range(2)), (), []
        if currents.dim() > 2 + library.bias.dim():
            u, v = u[:, 0], v[:, 0]
        parts = []
        for half in halves:
            parts.append(one.run(u.clone(), v.clone(), half.clone(), states, more))
            u, v, more = parts[-1].u, parts[-1].v, parts[-1].more
        results.append(
            (torch.cat([part.sent for part in parts]), u, v, more, sum(part.active for part in parts), states)
        )
    (sent, u, v, more, active, states), other = results
    for ours, theirs in zip((sent, u, v, *more), (other[0], other[1], other[2], *other[3]), strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    assert active == other[4] and 0 < active <= sent.numel() and len(states) == len(other[5]) == 8
    for ours, theirs in zip(states, other[5], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    return sent


KINDS = {
    "refractory": {"refractory_steps": 2},
    "adaptive": {"d_threshold": 500, "d_refractory": 1200, "threshold_step": 900},
    "resonate": {"sin": 2300, "cos": 3100},
    "izhikevich": {"sin": 1300, "cos": 3700},
    "ternary": {"threshold_below": 1500},
}
MESSAGES = [
    Message("graded", 12, 3000),
    Message("count", 8, 3),
    Message("change", 16, shift=2),
    Message("change", 16, 900.0, "relu"),
    Message("change", 16, 900.0, "relu", True, -1),
    Message("change", 8, 127, "levels", False, 5, 40),
]


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, *MESSAGES], ids=str)
def test_kinds_equal_torch(kind, each):
    sent = compare(*of_kind(kind, each))
    assert 0.02 < (sent != 0).float().mean() < 0.98
    if isinstance(kind, Message) or kind == "ternary":
        assert len(sent.unique()) > 2


def test_imaginary_input_equals_torch():
    for kind in ("resonate", "izhikevich"):
        library, currents = of_kind(kind, True)
        assert compare(library, currents.unflatten(1, (15, 2))).any()


def test_read_out_of_changes_equals_torch():
    library, currents = of_kind(MESSAGES[2], False)
    assert (compare(replace(library, spiking=False), currents) != 0).any()


def of_kind(kind, each):
    """Return (population, currents); ``each``: neurons differ in their parameters."""
    import torch

    draw, shape = np.random.default_rng(6), (3, 7)
    message = kind if isinstance(kind, Message) else SPIKE

    def drawn(value):
        return draw.integers(max(1, value // 2), value + 1, shape).astype(np.int32) if each else np.int32(value)

    bias = draw.integers(-50, 50, shape).astype(np.int32) * (kind not in ("resonate", "izhikevich"))
    neuron = Neuron(np.int32(1200), np.int32(drawn(700)), np.int32(1500), bias, 5, message=message)
    if message.kind == "count":
        neuron = replace(neuron, firing=Firing(reset="subtract"), v_subtract=np.int32(1500))
    elif message.kind == "change":
        neuron = replace(neuron, du=np.int32(-1), v_threshold=drawn(1 if message.levels else 60))
    elif message.kind == "spike":
        parameters = {name: drawn(value) for name, value in KINDS[kind].items()}
        neuron = replace(neuron, dynamics=kind, parameters=parameters, message=DYNAMICS[kind].message)
    made = population(
        Layer("a", shape, neuron, (), 0), "integer", torch, lambda x: torch.tensor(x.astype(np.int32)).to(DEVICE)
    )
    return made, torch.from_numpy(draw.integers(-3000, 4000, (8, 30, *shape)).astype(np.int32)).to(DEVICE)


@pytest.mark.parametrize("net", ["dense", "recurrent", "conv", "messages", "changes"])
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
