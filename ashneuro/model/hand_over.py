"""Hand-over: a trained abstract encoder goes on with other neurons.

Training an ANN first and spikes from it is more accurate than spikes from the start. Weights stay;
scales have to change, because a ReLU sends values and a spiking neuron 0 or 1, and because its
threshold has another scale than the step of a quantised ReLU.

Let y(x) be the old activation of a constant current x (of spiking neurons, the mean over their T
timesteps), r(x) that of the new neurons. Each population gets the factor f of its currents and the
gain g with which ``g · r(f · x)`` is closest to y(x) in the least squares, over the currents that
its batch norm makes: normal, with mean β and variance γ² in each channel. Then::

    γ ← f γ,  β ← f β                   currents of the population
    μ ← μ / g,  σ² ← σ² / g²            statistics of the batch norm that it feeds: W r = W y / g
    skip ← f₃ g₁ skip                   from lif1 to lif3: it carries r₁, and y₁ ≈ g₁ r₁
    W_o ← g Σ_t ω_t W_o,  ω_t ← 1/T     read-out; with a codebook, ω_t ← g Σ_t ω_t / T instead

So LIF neurons with τ = 2 dt, which spike in every step from x = 2θ on and never below 1.07 θ, get
other currents than neurons without leak that reset by subtraction and have T + 1 levels.

- Quantised ReLUs get no factor but their step, by the same least squares.
- Graded neurons send what exceeds θ: f makes the old step (of a ReLU, that of a 3-bit one) θ.
- Neurons with the same response (another surrogate, another payload) keep scales and parameters.

Variances of spikes in time are not in σ²; a few batches of training correct the statistics.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from ashneuro.config import AbstractConfig
from ashneuro.model.abstract import NEURONS, Block, QuantisedReLU
from ashneuro.model.network import AshNet
from ashneuro.spiking.lif import Graded, Population

# Settings that change gradients, or the messages of integers, but not what a neuron sends.
SAME_RESPONSE = ("surrogate", "slope", "detach_reset", "learn_decay", "learn_threshold", "message_bits")

TIME_SETTINGS = attrgetter("kind", "neuron", "dt_s", "tau_mem_s", "tau_syn_s")
TIMES = ("tau", "tau_mem", "tau_syn")
PARAMETERS = (*TIMES, "v_threshold", "step")  # of all neurons

# Bits of the quantised ReLU that takes the place of a ReLU where a step is asked for.
USUAL_BITS = 3

QUANTILES = 33  # points per channel that stand for the normal distribution of its currents
PER_OCTAVE = 8  # candidates of a factor or step per factor of 2
OCTAVES = 5  # candidates reach from 2^−5 to 2^5 of the natural scale
STEPS_OFFSET = -2  # steps of quantised ReLUs: around a quarter of the currents' root mean square


@dataclass(frozen=True, eq=False)
class _Fit:
    """New neurons of a population, the factor f of its currents and the gain g of what it sends."""

    neurons: nn.Module
    factor: float
    gain: float


@torch.no_grad()
def hand_over(model: AshNet, after: AbstractConfig) -> None:
    """Replace the neurons of ``model`` by those of ``after``, and fit its scales to them, in place.

    Nothing happens if the neurons are the same already. The result follows from weights and
    settings alone, so all processes that train together get the same.

    Args:
        after: settings that differ from the model's in the neurons only.
    """
    before = model.config.abstract
    if before == after:
        return
    encoder = model.abstract
    if encoder is None:
        raise ValueError("a model without an abstract encoder has no neurons")
    same = _response_settings(before) == _response_settings(after)
    times = TIME_SETTINGS(before) == TIME_SETTINGS(after)
    fits: list[_Fit] = []
    old = [_on_cpu(neurons) for _, neurons, _ in encoder.populations()]
    for neurons, currents in zip(old, _currents(model), strict=True):
        new = _on_cpu(NEURONS[after.kind](after))
        if same:
            _copy(neurons, new, PARAMETERS)
            fits.append(_Fit(new, 1.0, 1.0))
            continue
        if times:  # they may have been learned
            _copy(neurons, new, TIMES)
        fits.append(_fitted(neurons, encoder.timesteps, new, after, currents))
    omega = float(model.omega.sum())
    model.use_neurons(after)
    _place(model, fits)
    if not same:
        _scale(model, fits, omega)


def _response_settings(config: AbstractConfig) -> AbstractConfig:
    default = AbstractConfig()
    return replace(config, **{name: getattr(default, name) for name in SAME_RESPONSE})


def _copy(old: nn.Module, new: nn.Module, names: Sequence[str]) -> None:
    """Set the parameters ``names`` of ``new``, learned or not, to those of ``old``."""
    for name in names:
        if hasattr(new, name):
            if name in getattr(new, "parametrizations", ()):
                setattr(new, name, getattr(old, name))  # through the inverse of its parametrisation
            else:
                getattr(new, name).copy_(getattr(old, name))


def _currents(model: AshNet) -> Iterator[Tensor]:
    """Yield quantiles (channels, `QUANTILES`) of the currents of every population, in float64.

    They are normal in each channel; the skip of a block adds its mean and variance.
    """
    encoder = model.abstract
    assert encoder is not None
    yield _quantiles(*_moments(encoder.norm))
    for block in encoder.blocks:
        assert isinstance(block, Block)
        first = _quantiles(*_moments(block.conv1.norm))
        yield first
        yield _quantiles(*_moments(block.conv2.norm))
        sent = _response(_on_cpu(block.lif1), encoder.timesteps, first)
        gain = block.gain.double().cpu().flatten()
        mean, variance = _moments(block.conv3.norm)
        yield _quantiles(mean + gain * sent.mean(1), variance + gain.square() * sent.var(1, correction=0))
    yield _quantiles(*_moments(encoder.dense.norm))


def _moments(norm: Any) -> tuple[Tensor, Tensor]:
    """Return mean and variance per channel of what a batch norm makes."""
    return norm.bias.double().cpu(), norm.weight.double().cpu().square()


def _quantiles(mean: Tensor, variance: Tensor) -> Tensor:
    places = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
    values: Tensor = mean[:, None] + variance.sqrt()[:, None] * torch.special.ndtri(places)
    return values


def _on_cpu(neurons: nn.Module) -> nn.Module:
    """Return a copy in CPU memory, computed by torch, so that no device or kernel changes a fit."""
    copied = copy.deepcopy(neurons).cpu()
    if isinstance(copied, Population):
        copied.options = {**copied.options, "kernels": "torch"}
    return copied


def _response(neurons: nn.Module, timesteps: int, currents: Tensor) -> Tensor:
    """Return the mean output of ``neurons`` for constant ``currents``."""
    held = isinstance(neurons, Population)
    values: Tensor = neurons(currents[None], hold=timesteps).mean(0) if held else neurons(currents)
    return values


def _fitted(old: nn.Module, timesteps: int, new: nn.Module, after: AbstractConfig, currents: Tensor) -> _Fit:
    """Return ``new`` with the factor and the gain that bring it closest to ``old``."""
    wanted = _response(old, timesteps, currents)
    steps = after.timesteps if after.kind == "spiking" else 1
    if isinstance(new, QuantisedReLU):
        new.step.fill_(_best_step(new.bits, wanted, currents))
        factor = 1.0
    elif isinstance(new, Graded):
        threshold = float(new.v_threshold.mean())
        factor = threshold / _smallest(old, wanted, currents) if threshold else 1.0
    elif isinstance(new, Population):
        unit = float(new.v_threshold.mean()) / _scale_of(currents)  # type: ignore[union-attr,operator]
        factor = max(
            (unit * octave for octave in _octaves()),
            key=lambda each: _likeness(wanted, _response(new, steps, each * currents)),
        )
    else:
        factor = 1.0
    sent = _response(new, steps, factor * currents)
    power = float(sent.square().sum())
    gain = float((wanted * sent).sum()) / power if power else 1.0
    return _Fit(new, factor, gain or 1.0)


def _octaves() -> list[float]:
    return [2.0 ** (place / PER_OCTAVE) for place in range(-OCTAVES * PER_OCTAVE, OCTAVES * PER_OCTAVE + 1)]


def _scale_of(currents: Tensor) -> float:
    return float(currents.square().mean().sqrt()) or 1.0


def _likeness(wanted: Tensor, sent: Tensor) -> float:
    """Return the share of Σ wanted² that the best multiple of ``sent`` explains."""
    power = float(sent.square().sum())
    return float((wanted * sent).sum()) ** 2 / power if power else 0.0


def _best_step(bits: int, wanted: Tensor, currents: Tensor) -> float:
    """Return the step of quantised ReLUs that is closest to ``wanted`` in the least squares."""
    unit = _scale_of(currents) * 2.0**STEPS_OFFSET
    return max(
        (unit * octave for octave in _octaves()),
        key=lambda step: _likeness(wanted, QuantisedReLU(bits, step)(currents)),
    )


def _smallest(old: nn.Module, wanted: Tensor, currents: Tensor) -> float:
    """Return the smallest value that ``old`` tells from 0: its step, or its threshold."""
    if isinstance(old, QuantisedReLU):
        return float(old.step)
    threshold = float(old.v_threshold.mean()) if isinstance(old, Population) else 0.0  # type: ignore[union-attr,operator]
    return threshold or _best_step(USUAL_BITS, wanted, currents)


def _place(model: AshNet, fits: list[_Fit]) -> None:
    """Give the model's new neurons the parameters of the fitted ones."""
    assert model.abstract is not None
    for (_, neurons, _), fit in zip(model.abstract.populations(), fits, strict=True):
        neurons.load_state_dict(fit.neurons.state_dict())


def _scale(model: AshNet, fits: list[_Fit], omega: float) -> None:
    """Scale norms, skips and read-out for the new neurons; ``omega``: Σ ω_t of the old ones."""
    encoder = model.abstract
    assert encoder is not None
    arriving = 1.0
    for (_, _, synapse), fit in zip(encoder.populations(), fits, strict=True):
        norm: Any = encoder.norm if synapse is None else synapse.norm
        norm.weight *= fit.factor
        norm.bias *= fit.factor
        if synapse is not None:
            norm.running_mean /= arriving
            norm.running_var /= arriving**2
        arriving = fit.gain
    for number, block in enumerate(encoder.blocks):
        assert isinstance(block, Block)
        first, _, third = fits[1 + 3 * number : 4 + 3 * number]
        block.gain.mul_(third.factor * first.gain)
    whole = omega * arriving
    model.omega.fill_(1 / len(model.omega))
    if model.codebook is None:
        model.readout.weight.mul_(whole)
    else:  # its entries are of the size of what it quantises
        model.omega.mul_(whole)
