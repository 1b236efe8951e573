"""Small model with weights and statistics away from their initial values."""

from __future__ import annotations

from dataclasses import replace

import torch

from ashneuro.config import AbstractConfig, ConcreteConfig, ModelConfig, TextConfig
from ashneuro.model.network import AshNet
from ashneuro.spiking.firing import Reset
from ashneuro.spiking.lif import Population

CONFIG = ModelConfig(
    concrete=ConcreteConfig(channels=(5,), width=6),
    abstract=AbstractConfig(channels=(4, 6, 7), units=9, timesteps=3, v_threshold=0.4),
    text=TextConfig(width=8, layers=1, heads=2, dropout=0.1),
    embedding=10,
)
VOCABULARY, SIZE, WORDS = 20, 9, 6


def model(kind: str = "spiking", layers: int = 1, neuron: str = "lif", **changed: object) -> AshNet:
    """Return a model in eval mode, with batch statistics of data and perturbed parameters.

    ``changed``: further settings of the abstract encoder.
    """
    torch.manual_seed(5)
    abstract = replace(CONFIG.abstract, kind=kind, neuron=neuron, **changed)
    config = replace(CONFIG, abstract=abstract, text=replace(CONFIG.text, layers=layers))
    net = AshNet(config, VOCABULARY, SIZE, WORDS)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        for seed in range(40):
            net.train().encode(images(16, seed))
    return net.eval()


def with_reset(net: AshNet, reset: Reset) -> AshNet:
    """Return ``net``, whose spiking layers now reset to 0 or by subtraction."""
    for module in net.modules():
        if isinstance(module, Population):
            module.reset = reset
    return net


def images(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
