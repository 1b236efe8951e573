"""Schedule of a run: parameters that learn in a stage, learning rates, checks of stages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ashneuro.config import RunConfig, TrainConfig, stages
from ashneuro.errors import ConfigError
from ashneuro.model.codebook import Codebook
from ashneuro.training.learner import Learner
from ashneuro.training.processes import SharedNorm


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Return the learning rate of one step, counted from 0.

    Linear warm-up over the share ``warmup`` of all steps, then half a cosine down to 0.
    """
    rise = config.warmup * steps
    if step < rise:
        return config.learning_rate * (step + 1) / (rise + 1)
    return config.learning_rate * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise))) / 2


def make_optimiser(learner: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW over the parameters that learn.

    Weight decay applies to matrices and kernels only, not to vectors (biases, norms, gains, fusion
    ratios, timestep weights).
    """
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    # A tensor is a vector if one axis holds all its elements, whatever its number of axes.
    matrices = [parameter for parameter in parameters if parameter.numel() > max((1, *parameter.shape))]
    vectors = [parameter for parameter in parameters if parameter.numel() <= max((1, *parameter.shape))]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate)


@contextmanager
def only_training(learner: Learner, parts: Sequence[str]) -> Iterator[None]:
    """Freeze all parameters outside ``parts`` while the block runs; no parts: freeze nothing."""
    model = learner.model
    # By identity: comparing tensors compares their elements.
    chosen = {id(parameter) for part in parts for parameter in model.parameters_of(part)}
    if "abstract" in parts and model.abstract is not None:
        # The projections of this encoder's own objectives learn with it.
        chosen |= {id(parameter) for parameter in model.view.parameters()}
        chosen |= {id(parameter) for name, parameter in learner.named_parameters() if not name.startswith("model.")}
    frozen = [
        parameter
        for parameter in learner.parameters()
        if parts and parameter.requires_grad and id(parameter) not in chosen
    ]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def freeze_statistics(learner: nn.Module) -> None:
    """Put batch norms and codebooks whose own parameters are frozen into eval mode.

    Otherwise their running statistics would drift: a stage that trains only the heads would change
    retrieval.
    """
    for module in learner.modules():
        own = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
        if own and not any(own) and isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | SharedNorm | Codebook):
            module.eval()


def check_stages(config: RunConfig, learner: Learner) -> None:
    """Check that every stage can be trained.

    Raises:
        ConfigError: a stage has no objective, an objective needs a part that the model does not
            have, or none of the stage's parts learns.
    """
    for stage, settings in stages(config):
        name = f"stage {stage.name!r}" if config.schedule else "[train]"
        if stage.task == "retrieval":
            if (settings.itm or settings.mlm) and not config.model.multimodal.layers:
                why = "itm and mlm need the multimodal transformer, and model.multimodal.layers is 0"
                raise ConfigError(f"{name} cannot be trained", why, "--set model.multimodal.layers=2")
            if not _has_objective(settings, config):
                raise ConfigError(f"{name} has nothing to learn", "all weights of its objectives are 0", "set itc = 1")
        with only_training(learner, stage.parts):
            if not any(parameter.requires_grad for parameter in learner.parameters()):
                why = f"no parameter learns in {', '.join(stage.parts) or 'any part'}"
                raise ConfigError(f"{name} has nothing to learn", why, "name other parts, or none for all")


def _has_objective(settings: TrainConfig, config: RunConfig) -> bool:
    """Return True if any objective of a retrieval stage has a weight above 0."""
    abstract = config.model.abstract
    weights = [settings.itc, settings.itm, settings.mlm]
    if abstract.kind != "none":
        weights += [settings.contrast, settings.stua, settings.codebook * abstract.codebook]
    if abstract.kind == "spiking":
        weights += [settings.firing_rate_weight, settings.synops * settings.synops_weight]
    return any(weights)
