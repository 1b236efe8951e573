"""Semantic abstract encoder: the part that is deployed, from the input current to the last spike, and its ANN controls.

Only what runs on a neuromorphic chip: convolutions and a dense layer, batch norms that fold into them, LIF neurons, and
skips that add a scaled copy. Every control has the same layers; only what happens at a neuron differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ashneuro.config import AbstractConfig
from ashneuro.errors import ConfigError
from ashneuro.model.concrete import halved
from ashneuro.model.spatial import DenseOverPlaces
from ashneuro.spiking.integers import Integers
from ashneuro.spiking.kernels.interface import Kernels, Options
from ashneuro.spiking.kernels.sparse_synapses import synaptic_currents
from ashneuro.spiking.lif import LIF, CubaLIF
from ashneuro.spiking.straight_through import integer_bias, integer_current, integer_weights, shifted_sums


class QuantisedReLU(nn.Module):
    """ReLU on ``2^bits`` levels: ``step · clip(round(x / step), 0, 2^bits − 1)``, the step learned.

    Rounding passes the gradient straight through; outside the clip only the step gets one (learned step size quantisation).
    """

    def __init__(self, bits: int, step: float = 0.5) -> None:
        super().__init__()
        self.bits = bits
        self.step = nn.Parameter(torch.tensor(step))

    def forward(self, x: Tensor) -> Tensor:
        """Return the levels, of x's shape."""
        scaled = (x / self.step).clamp(0, 2**self.bits - 1)
        return (scaled + (scaled.round() - scaled).detach()) * self.step

    def extra_repr(self) -> str:
        """Say how many bits."""
        return f"bits={self.bits}"


def bits_of(timesteps: int) -> int:
    """Return the bits that hold a spike count of 0…T: ⌈log2(T + 1)⌉."""
    return math.ceil(math.log2(timesteps + 1))


def spiking_neuron(config: AbstractConfig) -> LIF | CubaLIF:
    """Return one population of the neurons that the settings ask for; a learned time constant is one number per population."""
    options = Options(surrogate=config.surrogate, slope=config.slope or None, detached=config.detach_reset)
    if config.neuron == "cubalif":
        both = ("tau_mem", "tau_syn") if config.learn_decay else ()
        return CubaLIF(config.tau_mem_s, config.tau_syn_s, config.v_threshold, dt=config.dt_s, learn=both, **options)
    one = ("tau",) if config.learn_decay else ()
    return LIF(config.tau_mem_s, config.v_threshold, dt=config.dt_s, learn=one, **options)


NEURONS: dict[str, Callable[[AbstractConfig], nn.Module]] = {
    "spiking": spiking_neuron,
    "relu": lambda config: nn.ReLU(),
    "quantised-relu": lambda config: QuantisedReLU(bits_of(config.timesteps)),
}


Counted = tuple[Tensor, Tensor | None]
"""Spikes, and their mean (scalar) where it costs nothing."""


def fire(neurons: nn.Module, currents: Tensor, hold: int = 1) -> Counted:
    """Return what ``neurons``, or what stands for them, send of ``currents``, which are held for so many steps."""
    if isinstance(neurons, LIF | CubaLIF):
        return neurons.with_rate(currents, hold=hold)
    return neurons(currents, hold=hold) if hold > 1 else neurons(currents), None


# Batch norms in front of LIF neurons start with currents of this standard deviation, in thresholds: about one neuron in six
# then fires in a step, whatever the threshold is.
START = 2.0


class Synapse(nn.Module):
    """A convolution or a dense layer with the batch norm that folds into it, applied once to all T·B arrays.

    Spikes are few: where ``kernels`` allow, their weights are added up one by one
    (`ashneuro.spiking.kernels.sparse_synapses`). With ``scale`` set, weights and bias are what Loihi keeps of them, and currents are integer units of a: ``scale`` per float unit.
    """

    scale: float | None = None
    kernels: Kernels = "auto"

    linear: nn.Conv2d | DenseOverPlaces
    norm: nn.BatchNorm1d | nn.BatchNorm2d

    def __init__(self, linear: nn.Conv2d | DenseOverPlaces) -> None:
        super().__init__()
        self.linear = linear
        channels = linear.weight.shape[0]
        self.norm = nn.BatchNorm2d(channels) if isinstance(linear, nn.Conv2d) else nn.BatchNorm1d(channels)

    def forward(self, spikes: Tensor) -> Tensor:
        """Return currents (T, B, K, H', W') of spikes (T, B, C, H, W), or (T, B, K) of a dense layer."""
        arrays, linear = spikes.flatten(0, 1), self.linear
        if self.scale is not None:
            currents = self._integers(arrays, self.scale)
        else:
            kernels = self.kernels
            currents = self.norm(
                synaptic_currents(linear, arrays, kernels)
                if isinstance(linear, nn.Conv2d)
                else linear(arrays, kernels=kernels)
            )
        return currents.unflatten(0, spikes.shape[:2])  # type: ignore[no-any-return,no-untyped-call]

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias (float64) with the batch norm folded in, as eval mode applies it, and rounded where ``scale`` is set.

        With γ, β, μ, σ² of a channel: ``W ← γ/√(σ² + ε) · W`` and ``b = β − γ/√(σ² + ε) · μ``.
        """
        weight, bias = self._fold()
        if self.scale is None:
            return weight, bias
        integer, exponent = integer_weights(weight, self.scale)
        return integer * (2.0**exponent / self.scale), integer_bias(bias, self.scale) / self.scale

    def _fold(self) -> tuple[Tensor, Tensor]:
        norm, weight = self.norm, self.linear.weight.double()
        assert norm.running_mean is not None and norm.running_var is not None
        gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        return weight * gain.reshape(
            -1, *[1] * (weight.ndim - 1)
        ), norm.bias.double() - gain * norm.running_mean.double()

    def _integers(self, arrays: Tensor, scale: float) -> Tensor:
        weight, bias = self._fold()
        integer, exponent = integer_weights(weight, scale)
        linear = self.linear
        if isinstance(linear, nn.Conv2d):
            sums = F.conv2d(
                arrays, integer.to(arrays.dtype), None, linear.stride, linear.padding, linear.dilation, linear.groups
            )  # type: ignore[arg-type]
        else:
            sums = linear(arrays, integer.to(arrays.dtype), kernels="torch")
        offset = integer_bias(bias, scale).to(arrays.dtype)
        return shifted_sums(sums, exponent) + offset.reshape(-1, *[1] * (sums.ndim - 2))


def _reached(synapse: Synapse, shape: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """Return how many neurons each one in front of a convolution reaches, and the shape behind it."""
    conv = synapse.linear
    assert isinstance(conv, nn.Conv2d)
    inputs = torch.ones(1, *shape, requires_grad=True)
    outputs = F.conv2d(
        inputs, torch.ones(conv.weight.shape), None, conv.stride, conv.padding, conv.dilation, conv.groups
    )  # type: ignore[arg-type]
    (reached,) = torch.autograd.grad(outputs.sum(), inputs)
    return reached[0], tuple(outputs.shape[1:])


def inner_convolutions(kind: str, channels: int, side: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Return the second and third convolution of a block, over ``side`` × ``side`` places.

    ``mixing`` is spike-driven token mixing: the depthwise kernel is so large that every place is reached from every other,
    with a weight for their distance, and the 1×1 convolution mixes channels. Mixing with weights that depend on the spikes
    themselves (attention, with softmax or without) multiplies two signals; no NIR primitive does that, and neither does Lava.
    """
    if kind == "conv":
        return nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.Conv2d(
            channels, channels, 3, padding=1, bias=False
        )
    if kind == "mlp":
        return nn.Conv2d(channels, channels, 1, bias=False), nn.Conv2d(channels, channels, 1, bias=False)
    mixing = nn.Conv2d(channels, channels, 2 * side - 1, padding=side - 1, groups=channels, bias=False)
    return mixing, nn.Conv2d(channels, channels, 1, bias=False)


class Block(nn.Module):
    """Spikes at half the resolution, with one residual join.

    ::

        s1 = LIF(conv1(s))                       3×3, stride 2
        s2 = LIF(conv2(s1))                      `inner_convolutions`
        s3 = LIF(conv3(s2) + gain ⊙ s1)          gain: learned, one number per channel

    The two ways from s1 to s3 differ by one synapse with delay: a deployment has to balance them.

    Args:
        side: H = W of s1, s2 and s3.
    """

    def __init__(self, before: int, channels: int, neuron: Callable[[], nn.Module], kind: str, side: int) -> None:
        super().__init__()
        self.conv1 = Synapse(nn.Conv2d(before, channels, 3, stride=2, padding=1, bias=False))
        self.lif1 = neuron()
        conv2, conv3 = inner_convolutions(kind, channels, side)
        self.conv2 = Synapse(conv2)
        self.lif2 = neuron()
        self.conv3 = Synapse(conv3)
        self.gain = nn.Parameter(torch.full((channels, 1, 1), 0.5))
        self.lif3 = neuron()

    def forward(self, spikes: Tensor) -> tuple[Counted, Counted, Counted]:
        """Return the spikes of all three populations, each (T, B, C, H, W)."""
        first = fire(self.lif1, self.conv1(spikes))
        second = fire(self.lif2, self.conv2(first[0]))
        return first, second, fire(self.lif3, self.conv3(second[0]) + self._skip(first[0]))

    def deployed_gain(self) -> Tensor:
        """Return the gain (C, 1, 1), float64, rounded where the block computes integers."""
        if self.conv3.scale is None:
            return self.gain.double()
        gain, exponent = integer_weights(self.gain, self.conv3.scale)
        return gain * (2.0**exponent / self.conv3.scale)

    def _skip(self, spikes: Tensor) -> Tensor:
        if self.conv3.scale is None:
            return self.gain * spikes
        gain, exponent = integer_weights(self.gain, self.conv3.scale)
        return shifted_sums(gain.to(spikes.dtype) * spikes, exponent)


class WithoutStatistics:
    """A context, for any number of uses, in which batch norms inside ``block`` leave their running statistics alone.

    For a second pass of the same batch, which they have seen, or for a pass of what is no picture.
    """

    def __init__(self, block: nn.Module) -> None:
        self._norms: list[Any] = [module for module in block.modules() if hasattr(module, "num_batches_tracked")]
        self._before: list[tuple[Any, Any]] = []

    def __enter__(self) -> None:
        self._before = [(norm.momentum, norm.num_batches_tracked) for norm in self._norms]
        for norm in self._norms:
            norm.momentum, norm.num_batches_tracked = 0.0, norm.num_batches_tracked.clone()

    def __exit__(self, *error: object) -> None:
        for norm, (momentum, seen) in zip(self._norms, self._before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, seen


class AbstractEncoder(nn.Module):
    """Discrete latents S (T, B, K) of the continuous ones: input current on the host, everything after it deployed.

    ::

        x  = BN(W_in C)                          host; 1×1; the same current in every step
        s0 = LIF(x, x, ..., x)                   first spikes, at C's resolution
        s  = Block_n(... Block_1(s0))
        S  = LIF(dense(flatten(s)))              K semantic units

    A control (``relu``, ``quantised-relu``) runs the same layers once, T = 1.

    Args:
        width: D, channels of C.
        grid: H = W of C.
    """

    integers: Integers | None = None
    checkpointing: bool = False

    def __init__(self, config: AbstractConfig, width: int, grid: int) -> None:
        super().__init__()
        first, *rest = config.channels

        def neuron() -> nn.Module:
            return NEURONS[config.kind](config)

        self.timesteps = config.timesteps if config.kind == "spiking" else 1
        self.in_shape = (first, grid, grid)
        self.w_in = nn.Conv2d(width, first, 1, bias=False)
        self.norm = nn.BatchNorm2d(first)
        self.entry = neuron()
        self.blocks = nn.ModuleList(
            Block(before, channels, neuron, config.block, halved(grid, number))
            for number, (before, channels) in enumerate(zip(config.channels, rest, strict=False), start=1)
        )
        side = halved(grid, len(rest))
        self.dense = Synapse(DenseOverPlaces(rest[-1], side, config.units))
        self.semantic = neuron()
        if config.kind == "spiking":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                    nn.init.constant_(module.weight, START * config.v_threshold)

    def populations(self) -> Iterator[tuple[str, nn.Module, Synapse | None]]:
        """Yield name in the deployed graph, neurons, and the synapse in front of them, of every population."""
        yield "entry.lif", self.entry, None
        for number, block in enumerate(self.blocks, start=1):
            assert isinstance(block, Block)
            yield f"block{number}.lif1", block.lif1, block.conv1
            yield f"block{number}.lif2", block.lif2, block.conv2
            yield f"block{number}.lif3", block.lif3, block.conv3
        yield "semantic.lif", self.semantic, self.dense

    def fan_out(self) -> dict[str, Tensor]:
        """Return how many synapses a spike of each neuron meets, per population: a map of its shape, without the batch.

        Products with padding are no synapses. What the semantic units send goes to the host and meets none.
        """
        maps: dict[str, Tensor] = {}
        shape: tuple[int, ...] = self.in_shape
        before = "entry.lif"
        for number, block in enumerate(self.blocks, start=1):
            assert isinstance(block, Block)
            name = f"block{number}"
            maps[before], shape = _reached(block.conv1, shape)
            maps[f"{name}.lif1"], _ = _reached(block.conv2, shape)
            maps[f"{name}.lif1"] = maps[f"{name}.lif1"] + 1  # the skip
            maps[f"{name}.lif2"], _ = _reached(block.conv3, shape)
            before = f"{name}.lif3"
        maps[before] = torch.full(shape, float(self.dense.linear.weight.shape[0]))
        maps["semantic.lif"] = torch.zeros(self.dense.linear.weight.shape[0])
        return maps

    def use_kernels(self, kernels: Kernels) -> None:
        """Compute neurons and synapses by ``kernels`` from now on."""
        for module in self.modules():
            if isinstance(module, LIF | CubaLIF):
                module.options = {**module.options, "kernels": kernels}
            elif isinstance(module, Synapse):
                module.kernels = kernels

    def use_integers(self, integers: Integers | None) -> None:
        """Compute Loihi's integers from now on, with straight-through gradients; ``None``: floating point again.

        Batch norms then apply what they know, in training too: in a deployment they are part of the weights.
        """
        self.integers = integers
        for name, neuron, synapse in self.populations():
            layer = None if integers is None else integers.layers[name]
            if not isinstance(neuron, LIF):
                raise ConfigError(
                    "train.quantise_aware",
                    f"{name} is a {type(neuron).__name__}; integers are learned through plain LIF neurons",
                    "model.abstract.neuron = 'lif' and learn_decay = false",
                )
            neuron.integers = layer
            if synapse is not None:
                synapse.scale = None if layer is None else layer.scale
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; batch norms stay in eval mode while integers are computed."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.train(mode and self.integers is None)
        return self

    def current(self, concrete: Tensor) -> Tensor:
        """Return the first current x (B, *in_shape) of C (B, D, H, W)."""
        return self.norm(self.w_in(concrete))  # type: ignore[no-any-return]

    def forward(self, current: Tensor) -> dict[str, Tensor]:
        """Return what every population sends, (T, B, ...) by its name in the deployed graph, of the current (B, C, H, W).

        The last entry, ``semantic.lif``, is S (T, B, K).
        """
        return self.with_rates(current)[0]

    def with_rates(self, current: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the same, and the mean firing rate (scalar) of those populations where it costs nothing."""
        if self.integers is not None:
            current = integer_current(current, self.integers.layers["entry.lif"].scale, self.integers.input_limit)
        sent = {"entry.lif": fire(self.entry, current[None], self.timesteps)}
        spikes, _ = sent["entry.lif"]
        for number, block in enumerate(self.blocks, start=1):
            populations = self._computed_again(block, spikes) if self.checkpointing and self.training else block(spikes)
            sent |= {f"block{number}.lif{index}": population for index, population in enumerate(populations, start=1)}
            spikes, _ = populations[-1]
        sent["semantic.lif"] = fire(self.semantic, self.dense(spikes))
        rates = {name: rate for name, (_, rate) in sent.items() if rate is not None}
        return {name: spikes for name, (spikes, _) in sent.items()}, rates

    def _computed_again(self, block: nn.Module, spikes: Tensor) -> tuple[Counted, Counted, Counted]:
        """Run a block whose activations are computed again in the backward pass instead of being kept."""
        result: tuple[Counted, Counted, Counted] = checkpoint(
            block, spikes, use_reentrant=False, context_fn=lambda: (nullcontext(), WithoutStatistics(block))
        )
        return result
