"""Semantic abstract encoder, deployed from input current to last spike, and its ANN controls.

It has only what runs on a neuromorphic chip: convolutions and a dense layer with batch norms that
fold into them, LIF neurons, and skips that add a scaled copy. A control has the same layers with
other neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ashneuro.config import AbstractConfig, relu_bits
from ashneuro.errors import ConfigError
from ashneuro.model.concrete import downsampled
from ashneuro.model.spatial import SpatialLinear
from ashneuro.spiking.integers import Integers
from ashneuro.spiking.kernels.batch_norm import BatchNorm1d, BatchNorm2d
from ashneuro.spiking.kernels.interface import Kernels, Options
from ashneuro.spiking.kernels.sparse_synapses import synaptic_currents
from ashneuro.spiking.lif import IF, LIF, CubaLIF, Graded, Population
from ashneuro.spiking.straight_through import (
    integer_bias,
    integer_current,
    integer_messages,
    integer_weights,
    shifted_sums,
)


class QuantisedReLU(nn.Module):
    """ReLU with ``2^bits`` levels: ``step · clip(round(x / step), 0, 2^bits − 1)``.

    The step is learned (learned step size quantisation): rounding passes its gradient straight
    through; outside the clip only the step gets one.
    """

    def __init__(self, bits: int, step: float = 0.5) -> None:
        super().__init__()
        self.bits = bits
        self.step = nn.Parameter(torch.tensor(step))

    def forward(self, x: Tensor) -> Tensor:
        """Return x rounded to the levels."""
        scaled = (x / self.step).clamp(0, 2**self.bits - 1)
        return (scaled + (scaled.round() - scaled).detach()) * self.step

    def extra_repr(self) -> str:
        """Return the number of bits."""
        return f"bits={self.bits}"


def spiking_neuron(config: AbstractConfig) -> Population:
    """Return one population of the configured neurons.

    A learned time constant or threshold is one number per population.

    Raises:
        ConfigError: the neurons have no such parameter, or not with this value.
    """
    options = Options(surrogate=config.surrogate, slope=config.slope or None, detached=config.detach_reset)
    if config.learn_threshold == "channel":
        raise ConfigError(
            "model.abstract.learn_threshold = 'channel'",
            "it would learn nothing new: a neuron compares its current with its threshold, and the batch norm in "
            "front has a scale γ and a shift β for every channel's current already",
            "learn_threshold = 'population'",
        )
    learn = ("v_threshold",) if config.learn_threshold else ()
    if config.neuron == "graded":
        if config.reset != "value":
            raise ConfigError(
                f"model.abstract.reset = {config.reset!r}",
                "graded neurons have no potential that a message could lower",
                "leave reset out, or another neuron",
            )
        if config.learn_decay:
            raise ConfigError(
                "model.abstract.learn_decay = true",
                "graded neurons have no time constant",
                "learn_threshold = true, or another neuron",
            )
        limit = config.message_limit or None
        return Graded(config.v_threshold, bits=config.message_bits, limit=limit, learn=learn, **options)
    if not config.v_threshold:
        raise ConfigError(
            "model.abstract.v_threshold = 0",
            f"{config.neuron} neurons rest at 0, and would not stop spiking",
            "a threshold above 0, or neuron = 'graded', which is a ReLU at 0",
        )
    reset = config.reset
    if config.neuron == "if":
        if config.learn_decay:
            raise ConfigError(
                "model.abstract.learn_decay = true",
                "integrate-and-fire neurons have no time constant",
                "neuron = 'lif', or learn_decay = false",
            )
        return IF(config.v_threshold, reset=reset, learn=learn, **options)
    if config.neuron == "cubalif":
        learn = (*learn, "tau_mem", "tau_syn") if config.learn_decay else learn
        taus = config.tau_mem_s, config.tau_syn_s
        return CubaLIF(*taus, config.v_threshold, dt=config.dt_s, reset=reset, learn=learn, **options)
    learn = (*learn, "tau") if config.learn_decay else learn
    return LIF(config.tau_mem_s, config.v_threshold, dt=config.dt_s, reset=reset, learn=learn, **options)


NEURONS: dict[str, Callable[[AbstractConfig], nn.Module]] = {
    "spiking": spiking_neuron,
    "relu": lambda config: nn.ReLU(),
    "quantised-relu": lambda config: QuantisedReLU(relu_bits(config)),
}


SpikesAndRates = tuple[Tensor, Tensor | None, Tensor | None]
"""Spikes or graded values (T, B, ...), and their rate and weighted rate where these are free."""


def fire(neurons: nn.Module, currents: Tensor, hold: int = 1) -> SpikesAndRates:
    """Return the outputs of ``neurons``, or of the activation of a control.

    Args:
        currents: (T, B, ...), or (1, B, ...) that last for T = ``hold`` timesteps.
    """
    if isinstance(neurons, Population):
        return neurons.with_rates(currents, hold=hold)
    return neurons(currents, hold=hold) if hold > 1 else neurons(currents), None, None


# Initial standard deviation of currents behind a batch norm, in thresholds: about one neuron in six
# then fires per timestep, whatever the threshold. Neurons without leak gather all of their current.
INITIAL_DEVIATION = {"lif": 2.0, "cubalif": 2.0, "if": 0.5, "graded": 2.0}


class Synapse(nn.Module):
    """Convolution or dense layer with a batch norm, applied once to all T·B feature maps.

    Attributes:
        scale: if set, weights and bias are rounded to Loihi's, and currents are in its integer
            units of a: ``scale`` per float unit.
        arriving: integer units per float unit of what arrives: 1 for spikes.
        kernels: back end; native kernels compute sparse spikes event by event
            (`ashneuro.spiking.kernels.sparse_synapses`).
    """

    scale: float | None = None
    arriving: float = 1.0
    kernels: Kernels = "auto"

    linear: nn.Conv2d | SpatialLinear
    norm: nn.BatchNorm1d | nn.BatchNorm2d

    def __init__(self, linear: nn.Conv2d | SpatialLinear) -> None:
        super().__init__()
        self.linear = linear
        channels = linear.weight.shape[0]
        self.norm = BatchNorm2d(channels) if isinstance(linear, nn.Conv2d) else BatchNorm1d(channels)

    def forward(self, spikes: Tensor) -> Tensor:
        """Return currents (T, B, K, H', W'), or (T, B, K), of spikes (T, B, C, H, W)."""
        arrays, linear = spikes.flatten(0, 1), self.linear
        if self.scale is not None:
            currents = self._integers(arrays, self.scale)
        else:
            if isinstance(linear, nn.Conv2d):
                products = synaptic_currents(linear, arrays, self.kernels)
            else:
                products = linear(arrays, kernels=self.kernels)
            currents = self.norm(products)
        return currents.unflatten(0, spikes.shape[:2])  # type: ignore[no-any-return,no-untyped-call]

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias (float64) with the batch norm of eval mode folded in.

        With γ, β, μ, σ² of a channel: ``W ← γ/√(σ² + ε) · W`` and ``b = β − γ/√(σ² + ε) · μ``.
        They are rounded if ``scale`` is set.
        """
        weight, bias = self._fold()
        if self.scale is None:
            return weight, bias
        factor = self.scale / self.arriving
        integer, exponent = integer_weights(weight, factor)
        return integer * (2.0**exponent / factor), integer_bias(bias, self.scale) / self.scale

    def _fold(self) -> tuple[Tensor, Tensor]:
        norm, weight = self.norm, self.linear.weight.double()
        assert norm.running_mean is not None and norm.running_var is not None
        gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        bias = norm.bias.double() - gain * norm.running_mean.double()
        return weight * gain.reshape(-1, *[1] * (weight.ndim - 1)), bias

    def _integers(self, arrays: Tensor, scale: float) -> Tensor:
        weight, bias = self._fold()
        integer, exponent = integer_weights(weight, scale / self.arriving)
        if self.arriving != 1.0:
            arrays = integer_messages(arrays, self.arriving)
        linear = self.linear
        if isinstance(linear, nn.Conv2d):
            sums = F.conv2d(
                arrays, integer.to(arrays.dtype), None, linear.stride, linear.padding, linear.dilation, linear.groups
            )  # type: ignore[arg-type]
        else:
            sums = linear(arrays, integer.to(arrays.dtype), kernels="torch")
        offset = integer_bias(bias, scale).to(arrays.dtype)
        return shifted_sums(sums, exponent) + offset.reshape(-1, *[1] * (sums.ndim - 2))


def _conv_fan_out(synapse: Synapse, shape: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]]:
    """Return the fan-out of each input of a convolution, and the shape of its output."""
    conv = synapse.linear
    assert isinstance(conv, nn.Conv2d)
    inputs = torch.ones(1, *shape, requires_grad=True)
    outputs = F.conv2d(
        inputs, torch.ones(conv.weight.shape), None, conv.stride, conv.padding, conv.dilation, conv.groups
    )  # type: ignore[arg-type]
    # With weights of 1, the gradient counts the products that an input takes part in.
    (fan_out,) = torch.autograd.grad(outputs.sum(), inputs)
    return fan_out[0], tuple(outputs.shape[1:])


def inner_convolutions(kind: str, channels: int, side: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Return the second and third convolution of a block on ``side`` × ``side`` feature maps.

    ``mixing`` is spike-driven token mixing: a depthwise kernel large enough to connect all pairs of
    positions, with a weight per offset, then a 1×1 convolution that mixes channels. Attention, with
    softmax or without, would multiply two signals; neither NIR nor Lava has a primitive for that.
    """

    def conv(size: int, groups: int = 1) -> nn.Conv2d:
        return nn.Conv2d(channels, channels, size, padding=size // 2, groups=groups, bias=False)

    if kind == "conv":
        return conv(3), conv(3)
    if kind == "mlp":
        return conv(1), conv(1)
    return conv(2 * side - 1, groups=channels), conv(1)


class Block(nn.Module):
    """Spiking block at half the resolution, with one residual join.

    ::

        s1 = LIF(conv1(s))                       3×3, stride 2
        s2 = LIF(conv2(s1))                      `inner_convolutions`
        s3 = LIF(conv3(s2) + gain ⊙ s1)          gain (C, 1, 1) is learned

    The two paths from s1 to s3 differ by one synaptic delay, which a deployment has to balance.

    Args:
        side: H = W of s1, s2 and s3.
    """

    def __init__(self, in_channels: int, channels: int, neuron: Callable[[], nn.Module], kind: str, side: int) -> None:
        super().__init__()
        self.conv1 = Synapse(nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False))
        self.lif1 = neuron()
        conv2, conv3 = inner_convolutions(kind, channels, side)
        self.conv2 = Synapse(conv2)
        self.lif2 = neuron()
        self.conv3 = Synapse(conv3)
        self.gain = nn.Parameter(torch.full((channels, 1, 1), 0.5))
        self.lif3 = neuron()

    def forward(self, spikes: Tensor) -> tuple[SpikesAndRates, SpikesAndRates, SpikesAndRates]:
        """Return the spikes of all three populations, each (T, B, C, H, W)."""
        first = fire(self.lif1, self.conv1(spikes))
        second = fire(self.lif2, self.conv2(first[0]))
        return first, second, fire(self.lif3, self.conv3(second[0]) + self._skip(first[0]))

    def deployed_gain(self) -> Tensor:
        """Return the gain (C, 1, 1) in float64, rounded if the block computes integers."""
        if self.conv3.scale is None:
            return self.gain.double()
        factor = self.conv3.scale / self.conv2.arriving
        gain, exponent = integer_weights(self.gain, factor)
        return gain * (2.0**exponent / factor)

    def _skip(self, spikes: Tensor) -> Tensor:
        if self.conv3.scale is None:
            return self.gain * spikes
        arriving = self.conv2.arriving  # from the same population
        gain, exponent = integer_weights(self.gain, self.conv3.scale / arriving)
        messages = spikes if arriving == 1.0 else integer_messages(spikes, arriving)
        return shifted_sums(gain.to(spikes.dtype) * messages, exponent)


@final
class FrozenStatistics:
    """Reusable context in which batch norms of ``block`` do not update their running statistics.

    For a second pass over the same batch, or a pass over something else than images.
    """

    def __init__(self, block: nn.Module) -> None:
        self._norms: list[Any] = [module for module in block.modules() if hasattr(module, "num_batches_tracked")]
        self._before: list[tuple[Any, Any]] = []

    def __enter__(self) -> None:
        self._before = [(norm.momentum, norm.num_batches_tracked) for norm in self._norms]
        for norm in self._norms:
            # Momentum 0 keeps mean and variance; the counter is incremented in place, so on a copy.
            norm.momentum, norm.num_batches_tracked = 0.0, norm.num_batches_tracked.clone()

    def __exit__(self, *error: object) -> None:
        for norm, (momentum, seen) in zip(self._norms, self._before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, seen


class AbstractEncoder(nn.Module):
    """Encoder of continuous latents C into discrete latents S (T, B, K), or (T, B, K, H', W').

    ::

        x  = BN(W_in C)                          1×1, on the host; constant current of all timesteps
        s0 = LIF(x, x, ..., x)                   first spikes, at C's resolution
        s  = Block_n(... Block_1(s0))
        S  = LIF(dense(flatten(s)))              K semantic units; with ``positions`` LIF(conv(s))

    Everything after x is deployed. A control (``relu``, ``quantised-relu``) runs the same layers
    once, T = 1.

    Args:
        width: D, channels of C.
        grid: H = W of C.

    Attributes:
        out_shape: shape of S of one image and timestep.
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
        self.norm = BatchNorm2d(first)
        self.entry = neuron()
        self.blocks = nn.ModuleList(
            Block(in_channels, channels, neuron, config.block, downsampled(grid, number))
            for number, (in_channels, channels) in enumerate(zip(config.channels, rest, strict=False), start=1)
        )
        side = downsampled(grid, len(rest))
        self.out_shape: tuple[int, ...] = (config.units, side, side) if config.positions else (config.units,)
        # The name is that of checkpoints.
        self.dense = Synapse(
            nn.Conv2d(rest[-1], config.units, 1, bias=False)
            if config.positions
            else SpatialLinear(rest[-1], side, config.units)
        )
        self.semantic = neuron()
        if config.kind == "spiking" and config.v_threshold:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                    nn.init.constant_(module.weight, INITIAL_DEVIATION[config.neuron] * config.v_threshold)

    def use_neurons(self, config: AbstractConfig) -> None:
        """Replace all neurons by those of ``config``, with their initial parameters.

        The settings of the layers must be those that the encoder was made with. Weights stay as
        they are; `ashneuro.model.hand_over.hand_over` fits them to the new neurons.
        """
        device = self.w_in.weight.device

        def neuron() -> nn.Module:
            return NEURONS[config.kind](config).to(device).train(self.training)

        self.integers = None
        self.timesteps = config.timesteps if config.kind == "spiking" else 1
        self.entry = neuron()
        for block in self.blocks:
            assert isinstance(block, Block)
            block.lif1, block.lif2, block.lif3 = neuron(), neuron(), neuron()
        self.semantic = neuron()
        self.use_kernels(self.dense.kernels)

    def populations(self) -> Iterator[tuple[str, nn.Module, Synapse | None]]:
        """Iterate over populations: name in the deployed graph, neurons, synapse before them."""
        yield "entry.lif", self.entry, None
        for number, block in enumerate(self.blocks, start=1):
            assert isinstance(block, Block)
            yield f"block{number}.lif1", block.lif1, block.conv1
            yield f"block{number}.lif2", block.lif2, block.conv2
            yield f"block{number}.lif3", block.lif3, block.conv3
        yield "semantic.lif", self.semantic, self.dense

    def fan_out(self) -> dict[str, Tensor]:
        """Return the number of synapses of each neuron: by population, a map of its shape.

        Products with padding are no synapses. Spikes of the semantic units go to the host and
        meet none.
        """
        maps: dict[str, Tensor] = {}
        shape: tuple[int, ...] = self.in_shape
        previous = "entry.lif"
        for number, block in enumerate(self.blocks, start=1):
            assert isinstance(block, Block)
            name = f"block{number}"
            maps[previous], shape = _conv_fan_out(block.conv1, shape)
            maps[f"{name}.lif1"], _ = _conv_fan_out(block.conv2, shape)
            maps[f"{name}.lif1"] = maps[f"{name}.lif1"] + 1  # the skip
            maps[f"{name}.lif2"], _ = _conv_fan_out(block.conv3, shape)
            previous = f"{name}.lif3"
        # Each neuron of the last block reaches all K units, or those at its position.
        maps[previous] = torch.full(shape, float(self.out_shape[0]))
        maps["semantic.lif"] = torch.zeros(self.out_shape)
        return maps

    def use_kernels(self, kernels: Kernels) -> None:
        """Set the back end of all neurons, synapses and norms."""
        for module in self.modules():
            if isinstance(module, Population):
                module.options = {**module.options, "kernels": kernels}
            elif isinstance(module, Synapse | BatchNorm1d | BatchNorm2d):
                module.kernels = kernels

    def use_integers(self, integers: Integers | None) -> None:
        """Compute with Loihi's integers and straight-through gradients; with ``None``, floats.

        Batch norms then use their running statistics in training too, because in a deployment they
        are part of the weights.
        """
        self.integers = integers
        arriving = 1.0
        for name, neuron, synapse in self.populations():
            layer = None if integers is None else integers.layers[name]
            if not isinstance(neuron, LIF | IF | Graded):
                raise ConfigError(
                    "train.quantise_aware",
                    f"{name} is a {type(neuron).__name__}; integers are learned through LIF, IF and graded neurons",
                    "model.abstract.neuron = 'lif', 'if' or 'graded'",
                )
            neuron.integers = layer
            if synapse is not None:
                synapse.scale = None if layer is None else layer.scale
                # Each population hears the one before it, by its synapse; a skip is the block's.
                synapse.arriving = arriving
            arriving = 1.0 if layer is None else layer.message_scale
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; batch norms stay in eval mode while integers are computed."""
        super().train(mode)
        for module in self.modules():
            if hasattr(module, "num_batches_tracked"):  # a batch norm, of this process or of several
                module.train(mode and self.integers is None)
        return self

    def current(self, concrete: Tensor) -> Tensor:
        """Return the first current x (B, *in_shape) of C (B, D, H, W)."""
        return self.norm(self.w_in(concrete))  # type: ignore[no-any-return]

    def forward(self, current: Tensor) -> dict[str, Tensor]:
        """Return the spikes (T, B, ...) of every population, by name in the deployed graph.

        Graded neurons return values in their place.

        Args:
            current: x (B, C, H, W).

        The last entry, ``semantic.lif``, is S (T, B, *out_shape).
        """
        return self.with_rates(current)[0]

    def weigh(self, weights: Mapping[str, Tensor]) -> None:
        """Set weights (...) of the messages of each neuron, by population; others get none."""
        for name, neurons, _ in self.populations():
            if isinstance(neurons, Population):
                neurons.weights = weights.get(name)

    def with_rates(self, current: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Return spikes as `forward` does, and means (scalars) that cost nothing.

        They are the firing rates, and the same with the weights of `weigh`, by population.
        """
        if self.integers is not None:
            current = integer_current(current, self.integers.layers["entry.lif"].scale, self.integers.input_limit)
        sent = {"entry.lif": fire(self.entry, current[None], self.timesteps)}
        spikes = sent["entry.lif"][0]
        for number, block in enumerate(self.blocks, start=1):
            populations = self._checkpointed(block, spikes) if self.checkpointing and self.training else block(spikes)
            # `update`, for torch 2.6 cannot compile |= of dictionaries.
            sent.update({f"block{number}.lif{index}": each for index, each in enumerate(populations, start=1)})
            spikes = populations[-1][0]
        sent["semantic.lif"] = fire(self.semantic, self.dense(spikes))
        rates, weighted = (
            {name: means[part] for name, means in sent.items() if means[part] is not None} for part in (1, 2)
        )
        return {name: spikes for name, (spikes, *_) in sent.items()}, rates, weighted  # type: ignore[return-value]

    def events(self, sent: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return 1 where a neuron sent a spike or a message, else 0, by population.

        Args:
            sent: as `forward` returned it.
        """
        by_name = {name: neurons for name, neurons, _ in self.populations()}
        found = {}
        for name, values in sent.items():
            neurons = by_name[name]
            found[name] = neurons.events(values) if isinstance(neurons, Population) else values
        return found

    def units(self, sent: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the least change of a message (scalars), without gradient, by population.

        The step of a quantised ReLU, the threshold of graded neurons, 1 for spikes; of other values
        the mean of those that are not 0.

        Args:
            sent: as `forward` returned it.
        """
        found = {}
        for name, neurons, _ in self.populations():
            values = sent[name].detach()
            if isinstance(neurons, QuantisedReLU):
                found[name] = neurons.step.detach()
            elif isinstance(neurons, Population) and not neurons.message.graded:
                found[name] = values.new_ones(())
            elif isinstance(neurons, Graded) and bool((neurons.v_threshold > 0).all()):
                found[name] = neurons.v_threshold.detach().mean().to(values)
            else:
                found[name] = values.sum() / (values != 0).sum().clamp(min=1)
        return {name: unit.clamp(min=1e-6) for name, unit in found.items()}

    def _checkpointed(self, block: nn.Module, spikes: Tensor) -> tuple[SpikesAndRates, SpikesAndRates, SpikesAndRates]:
        """Run a block under activation checkpointing; its second pass leaves batch norms alone."""
        result: tuple[SpikesAndRates, SpikesAndRates, SpikesAndRates] = checkpoint(
            block, spikes, use_reentrant=False, context_fn=lambda: (nullcontext(), FrozenStatistics(block))
        )
        return result
