"""Semantic abstract encoder: the part that is deployed, from the input current to the last spike, and its ANN controls.

Only what runs on a neuromorphic chip: convolutions and a dense layer, batch norms that fold into them, LIF neurons, and
skips that add a scaled copy. Every control has the same layers; only what happens at a neuron differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ashneuro.config import AbstractConfig
from ashneuro.model.concrete import halved
from ashneuro.spiking.integers import Integers
from ashneuro.spiking.lif import LIF
from ashneuro.spiking.straight_through import arriving, integer_bias, integer_weights, sent_current


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


NEURONS: dict[str, Callable[[AbstractConfig], nn.Module]] = {
    "spiking": lambda config: LIF(config.tau_mem_s, config.v_threshold, dt=config.dt_s),
    "relu": lambda config: nn.ReLU(),
    "quantised-relu": lambda config: QuantisedReLU(bits_of(config.timesteps)),
}


# Batch norms in front of LIF neurons start with currents of this standard deviation, in thresholds: about one neuron in six
# then fires in a step, whatever the threshold is.
START = 2.0


class Synapse(nn.Module):
    """A convolution or a dense layer with the batch norm that folds into it, applied once to all T·B arrays.

    With ``scale`` set, weights and bias are what Loihi keeps of them, and currents are integer units of a: ``scale`` per float unit.
    """

    scale: float | None = None

    linear: nn.Conv2d | nn.Linear
    norm: nn.BatchNorm1d | nn.BatchNorm2d

    def __init__(self, linear: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.BatchNorm2d(linear.out_channels) if isinstance(linear, nn.Conv2d) else nn.BatchNorm1d(linear.out_features)

    def forward(self, spikes: Tensor) -> Tensor:
        """Return currents (T, B, ...) of spikes (T, B, ...)."""
        arrays = spikes.flatten(0, 1)
        currents = self.norm(self.linear(arrays)) if self.scale is None else self._integers(arrays, self.scale)
        return currents.unflatten(0, spikes.shape[:2])  # type: ignore[no-any-return]

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
        return weight * gain.reshape(-1, *[1] * (weight.ndim - 1)), norm.bias.double() - gain * norm.running_mean.double()

    def _integers(self, arrays: Tensor, scale: float) -> Tensor:
        weight, bias = self._fold()
        integer, exponent = integer_weights(weight, scale)
        linear = self.linear
        if isinstance(linear, nn.Conv2d):
            sums = F.conv2d(arrays, integer.to(arrays.dtype), None, linear.stride, linear.padding, linear.dilation, linear.groups)  # type: ignore[arg-type]
        else:
            sums = F.linear(arrays, integer.to(arrays.dtype))
        offset = integer_bias(bias, scale).to(arrays.dtype)
        return arriving(sums, exponent) + offset.reshape(-1, *[1] * (sums.ndim - 2))


class Block(nn.Module):
    """Spikes at half the resolution, with one residual join.

    ::

        s1 = LIF(conv1(s))                       stride 2
        s2 = LIF(conv2(s1))
        s3 = LIF(conv3(s2) + gain ⊙ s1)          gain: learned, one number per channel

    The two ways from s1 to s3 differ by one synapse with delay: a deployment has to balance them.
    """

    def __init__(self, before: int, channels: int, neuron: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv1 = Synapse(nn.Conv2d(before, channels, 3, stride=2, padding=1, bias=False))
        self.lif1 = neuron()
        self.conv2 = Synapse(nn.Conv2d(channels, channels, 3, padding=1, bias=False))
        self.lif2 = neuron()
        self.conv3 = Synapse(nn.Conv2d(channels, channels, 3, padding=1, bias=False))
        self.gain = nn.Parameter(torch.full((channels, 1, 1), 0.5))
        self.lif3 = neuron()

    def forward(self, spikes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the spikes of all three populations, each (T, B, C, H, W)."""
        first = self.lif1(self.conv1(spikes))
        second = self.lif2(self.conv2(first))
        return first, second, self.lif3(self.conv3(second) + self._skip(first))

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
        return arriving(gain.to(spikes.dtype) * spikes, exponent)


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
        self.blocks = nn.ModuleList(Block(before, channels, neuron) for before, channels in zip(config.channels, rest, strict=False))
        side = halved(grid, len(rest))
        self.dense = Synapse(nn.Linear(rest[-1] * side * side, config.units, bias=False))
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

    def use_integers(self, integers: Integers | None) -> None:
        """Compute Loihi's integers from now on, with straight-through gradients; ``None``: floating point again.

        Batch norms then apply what they know, in training too: in a deployment they are part of the weights.
        """
        self.integers = integers
        for name, neuron, synapse in self.populations():
            layer = None if integers is None else integers.layers[name]
            assert isinstance(neuron, LIF)
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
        if self.integers is not None:
            current = sent_current(current, self.integers.layers["entry.lif"].scale, self.integers.input_limit)
        layers = {"entry.lif": self.entry(current.expand(self.timesteps, *current.shape))}
        spikes = layers["entry.lif"]
        for number, block in enumerate(self.blocks, start=1):
            first, second, spikes = block(spikes)
            layers |= {f"block{number}.lif1": first, f"block{number}.lif2": second, f"block{number}.lif3": spikes}
        layers["semantic.lif"] = self.semantic(self.dense(spikes.flatten(2)))
        return layers
