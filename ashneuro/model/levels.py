"""Levels of an abstract encoder: its values, rounded so that their changes are exact.

A graded network, a ReLU or a quantised ReLU network becomes one whose neurons send one of L + 1
levels. It is the network that a stream is computed with: by changes, or from each frame afresh,
with the same values.
"""

from __future__ import annotations

import copy
from typing import final

import torch
from torch import Tensor, nn

from ashneuro.config import ANNS
from ashneuro.errors import ConfigError
from ashneuro.model.abstract import AbstractEncoder, Block, QuantisedReLU
from ashneuro.model.network import AshNet
from ashneuro.spiking.lif import Graded
from ashneuro.spiking.message import Message, activated

LARGEST_PAYLOAD = 15  # a change has one bit more, its sign
# Fractions of the largest value that are tried as the largest level.
FRACTIONS = tuple(number / 32 for number in range(4, 33))


@final
class Levels(nn.Module):
    """Neurons that send a level: ``Δ · min(⌊x/Δ + 1/2⌋, L) if x > jump else 0``, L = 2^bits − 1.

    For evaluation: rounding has no gradient.

    Buffers: ``step`` (Δ) and ``jump``, float64.

    Args:
        bits: payload bits of a level.
        threshold: least change that is sent, in steps; 1 sends every change.
    """

    step: Tensor
    jump: Tensor

    def __init__(self, bits: int, step: float, jump: float = 0.0, threshold: float = 1.0) -> None:
        super().__init__()
        self.bits, self.threshold = bits, threshold
        self.register_buffer("step", torch.tensor(step, dtype=torch.float64))
        self.register_buffer("jump", torch.tensor(jump, dtype=torch.float64))

    @property
    def message(self) -> Message:
        """Message of a stream: the change of the level, with one bit more for its sign."""
        limit = float(self.step) * ((1 << self.bits) - 1)
        return Message("change", self.bits + 1, limit, "levels", jump=float(self.jump))

    def forward(self, x: Tensor) -> Tensor:
        """Return the levels of x."""
        found: Tensor = activated(self.message, x.double(), torch)
        return found.to(x.dtype)

    def extra_repr(self) -> str:
        """Return bits, step and jump."""
        return f"bits={self.bits}, step={float(self.step):.4g}, jump={float(self.jump):.4g}"


@torch.no_grad()
def level_network(model: AshNet, currents: Tensor, bits: int | None = None, threshold: float = 1.0) -> AshNet:
    """Return a copy of ``model`` whose abstract encoder sends levels.

    A quantised ReLU keeps its step and bits; with other ``bits``, the largest level stays where it
    is. Elsewhere the largest level is that with the least squared error on the samples, population
    after population.

    Args:
        currents: first currents (B, C, H, W) of some images, to choose levels on.
        bits: payload bits; ``None``: a quantised ReLU's own, or those of ``message_bits``.
        threshold: least change that is sent, in steps.

    Raises:
        ConfigError: the neurons keep a state within a sample, or the payload is out of range.
    """
    config = model.config.abstract
    stateless = config.kind in ANNS or config.graded
    if model.abstract is None or not stateless or model.abstract.timesteps != 1:
        neuron = config.neuron if config.kind == "spiking" else config.kind
        raise ConfigError(
            f"model.abstract: {neuron}, {config.timesteps} timesteps",
            "a stream is coded by the changes of values: of graded neurons in one timestep, or of a ReLU network",
            "train with neuron = 'graded' and timesteps = 1, or kind = 'quantised-relu'",
        )
    if bits is not None and not 1 <= bits <= LARGEST_PAYLOAD:
        raise ConfigError(f"payload of {bits} bits", f"levels have 1 to {LARGEST_PAYLOAD} bits", "3 bits")
    if threshold < 1:
        raise ConfigError(f"threshold of {threshold:g} levels", "the least change is one level", "1, or more")
    found = copy.deepcopy(model).eval()
    encoder = found.abstract
    assert encoder is not None
    if encoder.integers is not None:
        encoder.use_integers(None)
    names = [name for name, _, _ in encoder.populations()]
    for name in names:
        # What reaches a population depends on the levels of those before.
        arriving: list[Tensor] = []
        neurons = _population(encoder, name)
        _replace(encoder, name, _Recorder(arriving))
        encoder(currents)
        _replace(encoder, name, _levels(neurons, arriving[0], bits or config.message_bits, bits, threshold))
    return found


def streams(model: AshNet) -> bool:
    """Return True if the abstract encoder of ``model`` sends levels."""
    return model.abstract is not None and isinstance(model.abstract.entry, Levels)


@final
class _Recorder(nn.Module):
    """Keep the input of a population, and send nothing on."""

    def __init__(self, found: list[Tensor]) -> None:
        super().__init__()
        self._found = found

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros."""
        self._found.append(x)
        return torch.zeros_like(x)


def _levels(neurons: nn.Module, x: Tensor, bits: int, asked: int | None, threshold: float) -> Levels:
    if isinstance(neurons, QuantisedReLU):
        step, own = float(neurons.step), neurons.bits
        return Levels(asked or own, step * (2**own - 1) / (2 ** (asked or own) - 1), 0.0, threshold)
    jump = 0.0
    values = x.clamp(min=0)
    if isinstance(neurons, Graded):
        if neurons.v_threshold.numel() > 1 and bool((neurons.v_threshold != neurons.v_threshold.max()).any()):
            raise ConfigError(
                "thresholds that differ within a population",
                "levels have one jump per population",
                "model.abstract.learn_threshold = 'population'",
            )
        jump = float(neurons.v_threshold.max())
        if neurons.message.limit is not None:
            values = values.clamp(max=neurons.message.limit)
        values = torch.where(x > neurons.v_threshold, values, 0)
    largest = float(values.max()) or 1.0
    tried = [
        Levels(bits, largest * part / (2**bits - 1), jump, threshold) for part in FRACTIONS if largest * part > jump
    ]
    if not tried:  # every value is at most the jump
        return Levels(bits, 2 * max(jump, largest) / (2**bits - 1), jump, threshold)
    return min(tried, key=lambda one: float((one(x) - values).double().square().mean()))


def _owner(encoder: AbstractEncoder, name: str) -> tuple[nn.Module, str]:
    """Return the module that holds a population, and the attribute."""
    if name == "entry.lif":
        return encoder, "entry"
    if name == "semantic.lif":
        return encoder, "semantic"
    block, attribute = name.removeprefix("block").split(".")
    owner = encoder.blocks[int(block) - 1]
    assert isinstance(owner, Block)
    return owner, attribute


def _population(encoder: AbstractEncoder, name: str) -> nn.Module:
    owner, attribute = _owner(encoder, name)
    found: nn.Module = getattr(owner, attribute)
    return found


def _replace(encoder: AbstractEncoder, name: str, neurons: nn.Module) -> None:
    owner, attribute = _owner(encoder, name)
    setattr(owner, attribute, neurons)
