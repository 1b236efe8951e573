"""Semantic abstract encoder: the part that is deployed, from the input current to the last spike, and its ANN controls.

Only what runs on a neuromorphic chip: convolutions and a dense layer, batch norms that fold into them, LIF neurons, and
skips that add a scaled copy. Every control has the same layers; only what happens at a neuron differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ashneuro.config import AbstractConfig
from ashneuro.model.concrete import halved
from ashneuro.spiking.lif import LIF


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
    """A convolution or a dense layer with the batch norm that folds into it, applied once to all T·B arrays."""

    linear: nn.Conv2d | nn.Linear
    norm: nn.BatchNorm1d | nn.BatchNorm2d

    def __init__(self, linear: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.BatchNorm2d(linear.out_channels) if isinstance(linear, nn.Conv2d) else nn.BatchNorm1d(linear.out_features)

    def forward(self, spikes: Tensor) -> Tensor:
        """Return currents (T, B, ...) of spikes (T, B, ...)."""
        return self.norm(self.linear(spikes.flatten(0, 1))).unflatten(0, spikes.shape[:2])  # type: ignore[no-any-return]


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
        return first, second, self.lif3(self.conv3(second) + self.gain * first)


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

    def current(self, concrete: Tensor) -> Tensor:
        """Return the first current x (B, *in_shape) of C (B, D, H, W)."""
        return self.norm(self.w_in(concrete))  # type: ignore[no-any-return]

    def forward(self, current: Tensor) -> dict[str, Tensor]:
        """Return what every population sends, (T, B, ...) by its name in the deployed graph, of the current (B, C, H, W).

        The last entry, ``semantic.lif``, is S (T, B, K).
        """
        layers = {"entry.lif": self.entry(current.expand(self.timesteps, *current.shape))}
        spikes = layers["entry.lif"]
        for number, block in enumerate(self.blocks, start=1):
            first, second, spikes = block(spikes)
            layers |= {f"block{number}.lif1": first, f"block{number}.lif2": second, f"block{number}.lif3": spikes}
        layers["semantic.lif"] = self.semantic(self.dense(spikes.flatten(2)))
        return layers
