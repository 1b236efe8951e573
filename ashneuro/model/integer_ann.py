"""ANN controls in the integers that they are priced at."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ashneuro.data.batches import normalise
from ashneuro.model.abstract import Block, QuantisedReLU, Synapse
from ashneuro.model.network import AshNet

WEIGHT_BITS = 8
ACTIVATION_BITS = 8


@torch.no_grad()
def integer_ann(model: AshNet, images: Tensor | None = None) -> AshNet:
    """Return a copy of an ANN control whose abstract encoder computes integers.

    Weights are symmetric with `WEIGHT_BITS` and a scale per output channel, which a batch norm
    folds into; the gains of skips have one scale. Activations are unsigned: quantised ReLUs keep
    their own bits, plain ones get `ACTIVATION_BITS` over the largest value that ``images`` show, by
    layer. Biases and accumulators have 32 bits, whose rounding is left out. The host part, which
    every network of a comparison has, stays in floating point.

    Args:
        model: of kind ``relu`` or ``quantised-relu``; one without an abstract encoder comes back as
            it is.
        images: uint8 (B, 3, S, S); calibrate plain ReLUs, and are not needed for quantised ones.
    """
    if model.abstract is None:
        return model
    found = copy.deepcopy(model).eval()
    assert found.abstract is not None
    for module in found.abstract.modules():
        if isinstance(module, Synapse):
            # A scale per output channel is that of the folded weight too: the norm scales both.
            module.linear.weight.copy_(_rounded(module.linear.weight, by_channel=True))
        elif isinstance(module, Block):
            module.gain.copy_(_rounded(module.gain, by_channel=False))
    if any(isinstance(module, nn.ReLU) for module in found.abstract.modules()):
        if images is None:
            raise ValueError("plain ReLUs need images that choose their levels")
        _quantise_relus(found, normalise(images).to(found.log_scale.device))
    return found


def _rounded(weights: Tensor, *, by_channel: bool) -> Tensor:
    axes = tuple(range(1, weights.ndim)) if by_channel else tuple(range(weights.ndim))
    largest = weights.abs().amax(axes, keepdim=True)
    step = (largest / (2 ** (WEIGHT_BITS - 1) - 1)).clamp(min=torch.finfo(weights.dtype).tiny)
    rounded: Tensor = torch.round(weights / step) * step
    return rounded


def _quantise_relus(model: AshNet, pixels: Tensor) -> None:
    """Replace ReLUs by quantised ones whose largest level is the largest value on ``pixels``."""
    assert model.abstract is not None
    peaks: dict[str, float] = {}
    relus = [name for name, module in model.abstract.named_modules() if isinstance(module, nn.ReLU)]
    hooks = [
        model.abstract.get_submodule(name).register_forward_hook(
            lambda _, __, sent, name=name: peaks.update({name: max(peaks.get(name, 0.0), float(sent.max()))})  # type: ignore[misc]
        )
        for name in relus
    ]
    model.encode(pixels)
    for hook in hooks:
        hook.remove()
    for name in relus:
        parent, _, leaf = name.rpartition(".")
        step = max(peaks[name], torch.finfo(torch.float32).tiny) / (2**ACTIVATION_BITS - 1)
        setattr(model.abstract.get_submodule(parent), leaf, QuantisedReLU(ACTIVATION_BITS, step))
