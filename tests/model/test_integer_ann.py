"""ANN controls in integers: grids of weights and activations, and how far they are from floats."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ashneuro.config import AbstractConfig, AbstractKind, ConcreteConfig, ModelConfig
from ashneuro.data.batches import normalise
from ashneuro.model.abstract import Block, QuantisedReLU, Synapse
from ashneuro.model.integer_ann import integer_ann
from ashneuro.model.network import AshNet

CONFIG = ModelConfig(
    concrete=ConcreteConfig(channels=(8,), width=8), abstract=AbstractConfig(channels=(8, 12), units=16, timesteps=4)
)


def control(kind: AbstractKind) -> tuple[AshNet, torch.Tensor]:
    torch.manual_seed(0)
    model = AshNet(replace(CONFIG, abstract=replace(CONFIG.abstract, kind=kind)), 10, 16).eval()
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    return model, images


@pytest.mark.parametrize("kind", ["relu", "quantised-relu"])
def test_weights_lie_on_an_8_bit_grid_and_activations_on_their_own(kind: AbstractKind) -> None:
    model, images = control(kind)
    found = integer_ann(model, images)
    assert found.abstract is not None and model.abstract is not None
    for mine, theirs in zip(found.abstract.modules(), model.abstract.modules(), strict=True):
        if isinstance(mine, Synapse):
            assert isinstance(theirs, Synapse)
            # The batch norm folds into the scale of a channel, so folded weights are on a grid too.
            folded, exact = mine.folded()[0].flatten(1), theirs.folded()[0].flatten(1)
            step = folded.abs().amax(1, keepdim=True) / 127
            assert ((folded / step) - (folded / step).round()).abs().max() < 1e-3
            assert (folded - exact).abs().max() <= 0.501 * step.max()
            assert (folded != exact).any()
        elif isinstance(mine, Block):
            step = mine.gain.abs().max() / 127
            assert ((mine.gain / step) - (mine.gain / step).round()).abs().max() < 1e-3
    bits = {module.bits for module in found.abstract.modules() if isinstance(module, QuantisedReLU)}
    assert bits == {8 if kind == "relu" else 3}
    with torch.no_grad():
        sent = found.encode(normalise(images)).layers["block1.lif3"]
        assert len(sent.unique()) <= 2 ** next(iter(bits))
        likeness = (found.embed_images(normalise(images)) * model.embed_images(normalise(images))).sum(1)
    assert likeness.min() > 0.99 and likeness.min() < 1
    assert not any(isinstance(module, QuantisedReLU) and module.bits == 8 for module in model.modules()), "a copy"


def test_host_alone_has_nothing_to_round() -> None:
    model, images = control("none")
    assert integer_ann(model, images) is model
