"""Neurons against the matrix products in front of them: a dense layer, a small convolutional
network.

Synapses are applied once to all T·B arrays. "Stepwise" applies them in every step, as Norse's
sequences and most tutorials do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ashneuro.bench.peers import NEURONS, Benched, Neuron, available, benched, missing, norse_cell
from ashneuro.bench.timing import Job, Variant
from ashneuro.spiking.kernels.interface import Kernels
from ashneuro.spiking.kernels.sparse_synapses import synaptic_currents

OURS: tuple[Kernels, ...] = ("triton", "native", "torch")
SEED = 7
RATE = 0.2  # spikes per input line and timestep


def lif_jobs(
    device: torch.device,
    *,
    timesteps: tuple[int, ...] = (16, 32),
    batch: int = 64,
    width: int = 768,
    neuron: str = "lif",
) -> list[Job]:
    """Return two jobs per number of timesteps: a dense layer with neurons, and the neurons alone.

    Args:
        neuron: name in `NEURONS`. If it is not LIF, our LIF is timed too, as the baseline.

    Raises:
        ConfigError: there is no such neuron.
    """
    kind, jobs = benched(neuron), []
    for steps in timesteps:
        torch.manual_seed(SEED)
        linear = nn.Linear(width, width).to(device)
        spikes = (torch.rand(steps, batch, width, device=device) < RATE).float()
        back = torch.randn_like(spikes)
        currents = torch.randn_like(spikes).requires_grad_()
        size = f"T = {steps}, batch {batch}"

        def layer(
            neuron: Neuron,
            synapse: Callable[[nn.Linear, Tensor], Tensor] = nn.Linear.__call__,
            linear: nn.Linear = linear,
            spikes: Tensor = spikes,
            back: Tensor = back,
        ) -> Callable[[], None]:
            def run() -> None:
                linear.zero_grad()
                x = spikes.requires_grad_()  # a hidden layer also computes the gradient of its input
                currents = synapse(linear, x.flatten(0, 1)).reshape(x.shape)
                torch.autograd.backward(neuron(currents), back)
                x.grad = None

            return run

        def stepwise(
            behind: Callable[[nn.Module], Neuron],
            linear: nn.Module = linear,
            spikes: Tensor = spikes,
            back: Tensor = back,
        ) -> Callable[[], None]:
            with torch.device(device):
                step = behind(linear)

            def run() -> None:
                linear.zero_grad()
                x = spikes.requires_grad_()
                torch.autograd.backward(step(x), back)
                x.grad = None

            return run

        def alone(neuron: Neuron, currents: Tensor = currents, back: Tensor = back) -> Callable[[], None]:
            def run() -> None:
                torch.autograd.backward(neuron(currents), back)
                currents.grad = None

            return run

        product, neurons = Variant("Linear only", layer(lambda x: x)), _neurons(kind, device, layer)
        variants = [product, Variant("Linear, GELU", layer(nn.functional.gelu)), *neurons]
        if not available("native", device):
            added = layer(kind.ours("native", device), synaptic_currents)
            variants.append(Variant(f"ashneuro, native, {RATE:.0%} spikes added up", added))
        if kind.stepwise:
            variants.append(Variant("Norse, stepwise", stepwise(kind.stepwise)))
        baseline = product if neuron == "lif" else neurons[0]
        jobs.append(Job(f"Linear {width} and {kind.title}, {size}", tuple(variants), baseline))
        neurons = _neurons(kind, device, alone)
        fastest = next(variant for variant in neurons if not variant.reason)
        jobs.append(Job(f"{kind.title} alone, {width} neurons, {size}", (*neurons, _copies(back)), fastest))
    return jobs


def conv_jobs(device: torch.device, *, timesteps: int = 16, batch: int = 16, side: int = 32) -> list[Job]:
    """Return a network of two convolutions and a dense layer, with LIF neurons and with synapses
    alone.
    """
    torch.manual_seed(SEED)
    conv1, conv2 = nn.Conv2d(2, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
    dense = nn.Linear(64 * (side // 4) ** 2, 10)
    network = nn.ModuleList([conv1, conv2, dense]).to(device)
    x = (torch.rand(timesteps, batch, 2, side, side, device=device) < RATE).float()
    back = torch.randn(timesteps, batch, 10, device=device)

    def run(*neurons: Neuron) -> Callable[[], None]:
        first, second, third = neurons

        def whole() -> None:
            network.zero_grad()
            s = first(conv1(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
            s = second(conv2(nn.functional.avg_pool2d(s.flatten(0, 1), 2)).unflatten(0, x.shape[:2]))
            s = third(dense(nn.functional.avg_pool2d(s.flatten(0, 1), 2).flatten(1)).unflatten(0, x.shape[:2]))
            torch.autograd.backward(s, back)

        return whole

    def stepwise() -> None:
        network.zero_grad()
        states: list[Any] = [None] * 3
        cells, outputs = [norse_cell().to(device) for _ in range(3)], []
        for t in range(timesteps):
            s, states[0] = cells[0](conv1(x[t]), states[0])
            s, states[1] = cells[1](conv2(nn.functional.avg_pool2d(s, 2)), states[1])
            s, states[2] = cells[2](dense(nn.functional.avg_pool2d(s, 2).flatten(1)), states[2])
            outputs.append(s)
        torch.autograd.backward(torch.stack(outputs), back)

    synapses = Variant("synapses only", run(*[lambda x: x] * 3))
    variants = (
        synapses,
        Variant("ReLU", run(*[nn.functional.relu] * 3)),
        *_neurons(NEURONS["lif"], device, lambda neuron: run(neuron, neuron, neuron)),
        Variant("Norse, stepwise", stepwise),
    )
    title = f"Conv 32, conv 64, dense 10, LIF after each, {side}×{side}, T = {timesteps}, batch {batch}"
    return [Job(title, variants, synapses)]


def _copies(like: Tensor) -> Variant:
    """Return a variant that only moves the bytes that neurons must move: a bound by memory
    bandwidth.

    Forward reads x and writes spikes; backward reads the output's gradient and writes the input's.
    In between, the GPU kernels write margins and read them again, the CPU kernels read x again. Six
    arrays, or five.
    """
    arrays = 6 if like.device.type == "cuda" else 5
    values, to = (torch.zeros(arrays * like.numel() // 2, dtype=like.dtype, device=like.device) for _ in range(2))
    return Variant(f"copies: {arrays} arrays read or written", lambda: to.copy_(values))


def _neurons(kind: Benched, device: torch.device, job: Callable[[Neuron], Callable[[], None]]) -> list[Variant]:
    """Return ``job`` with this neuron of every library, and with our LIF first if it is another.

    Neurons keep no state between runs.
    """
    lif, variants = NEURONS["lif"], []
    if kind is not lif:
        usable = [kernels for kernels in OURS if not available(kernels, device)]
        variants = [Variant(f"LIF, {kernels}", job(lif.ours(kernels, device))) for kernels in usable]
    for kernels in OURS:
        reason = available(kernels, device)
        if reason and kernels == "triton" and device.type == "cpu":
            continue  # no row for kernels that no CPU runs
        if reason:
            variants.append(Variant(f"ashneuro, {kernels}", reason=reason))
            continue
        variants.append(Variant(f"ashneuro, {kernels}", job(kind.ours(kernels, device))))
        if kernels != "torch":
            variants.append(Variant(f"ashneuro, {kernels}, bf16 kept", job(kind.ours(kernels, device, bf16=True))))
    for name, (package, make) in kind.peers.items():
        reason = missing(package)
        if reason:
            variants.append(Variant(name, reason=reason))
            continue
        with torch.device(device):
            variants.append(Variant(name, job(make())))
    return variants
