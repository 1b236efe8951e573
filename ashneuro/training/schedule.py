"""Schedule of a run: parameters that learn in a stage, learning rates, checks of stages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields

import torch
from torch import nn

from ashneuro.config import AbstractConfig, RunConfig, TrainConfig, encoder_of, stages
from ashneuro.errors import ConfigError
from ashneuro.model.codebook import Codebook
from ashneuro.training.learner import Learner
from ashneuro.training.processes import SharedNorm
from ashneuro.training.teacher import START

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm, SharedNorm, Codebook)
"""Modules with statistics of the data."""


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Return the learning rate of one step, counted from 0.

    Linear warm-up over the share ``warmup`` of all steps, then half a cosine down to 0.
    """
    rise = config.warmup * steps
    if step < rise:
        return config.learning_rate * (step + 1) / (rise + 1)
    return config.learning_rate * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise))) / 2


def synops_target(progress: float, config: TrainConfig) -> float:
    """Return the budget in synops per image at ``progress`` (0 … 1) of a stage.

    ::

        τ(p) = a · (b/a)^min(1, p/u)        a = synops_from, b = synops, u = synops_fall

    Without ``synops_from`` it is ``synops`` throughout.
    """
    if not (config.synops and config.synops_from):
        return config.synops
    share = min(1.0, progress / config.synops_fall)
    return float(config.synops_from * (config.synops / config.synops_from) ** share)


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
    # One pass over memory in place of ten. A checkpoint keeps the choice: older ones go on unfused.
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate, fused=True)


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
        if own and not any(own) and isinstance(module, NORMS):
            module.eval()


def check_schedule(config: RunConfig) -> None:
    """Check what stages change of neurons, teacher and budget, before anything is read.

    Raises:
        ConfigError: they contradict each other, or ``[model.abstract]``.
    """
    wanted = config.model.abstract
    for number, (stage, settings) in enumerate(stages(config)):
        name = f"stage {stage.name!r}" if config.schedule else "[train]"
        if settings.synops_from and not settings.synops:
            why = f"synops_from = {settings.synops_from:g} has no budget to fall to"
            raise ConfigError(f"{name} cannot be trained", why, "set synops too")
        if settings.synops_from and settings.synops_from < settings.synops:
            why = f"synops_from = {settings.synops_from:g} is below synops = {settings.synops:g}"
            raise ConfigError(f"{name} cannot be trained", f"{why}: a budget falls", "a larger synops_from, or none")
        if settings.ema and (settings.strategy == "fsdp" or settings.quantise_aware):
            what = "sharded weights" if settings.strategy == "fsdp" else "weights that have integer units"
            raise ConfigError(f"{name}: ema = {settings.ema:g}", f"no average is kept of {what}", "leave ema out")
        if settings.teacher and stage.task == "retrieval" and not (settings.distil or settings.distil_embedding):
            why = "it has a teacher, and distil and distil_embedding are 0"
            raise ConfigError(f"{name} learns nothing from its teacher", why, "set distil = 1, or teacher = ''")
        if settings.teacher == START and stage.task == "retrieval" and not number and not config.train.start:
            why = "teacher = 'start' is the network it starts from, and it starts from fresh weights"
            raise ConfigError(f"{name} has no teacher", why, "set it in a later stage, or train.start, or name a run")
        if settings.teacher == START and number and settings.strategy == "fsdp":
            raise ConfigError(
                "train.strategy = 'fsdp'",
                f"the teacher of {name} is a copy of the weights, which are sharded",
                "set train.strategy = 'ddp', or name a run as the teacher",
            )
    encoders = [encoder_of(config, stage) for stage, _ in stages(config)]
    if encoders[-1] != wanted:
        differs = "; ".join(
            f"{item.name} = {getattr(encoders[-1], item.name)!r} and not {getattr(wanted, item.name)!r}"
            for item in fields(wanted)
            if getattr(encoders[-1], item.name) != getattr(wanted, item.name)
        )
        raise ConfigError(
            "the schedule ends with other neurons than [model.abstract] has",
            f"its last stage, {config.schedule[-1].name!r}, has {differs}",
            "leave abstract out of the last stage, or set [model.abstract] to its neurons",
        )
    changing = [stage.name for stage, encoder in zip(config.schedule, encoders, strict=False) if encoder != wanted]
    if changing and config.train.strategy == "fsdp":
        raise ConfigError(
            "train.strategy = 'fsdp'",
            f"stage {changing[0]!r} has other neurons, and sharded weights cannot be handed over to the next",
            "set train.strategy = 'ddp', or one run per stage with train.start",
        )
    if changing and config.train.quantise_aware:
        raise ConfigError(
            "train.quantise_aware",
            f"stage {changing[0]!r} has other neurons than the integers are of",
            "fine-tune the finished run: ashneuro train RUN --quantise-aware",
        )


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
            if not _has_objective(settings, encoder_of(config, stage)):
                raise ConfigError(f"{name} has nothing to learn", "all weights of its objectives are 0", "set itc = 1")
        with only_training(learner, stage.parts):
            if not any(parameter.requires_grad for parameter in learner.parameters()):
                why = f"no parameter learns in {', '.join(stage.parts) or 'any part'}"
                raise ConfigError(f"{name} has nothing to learn", why, "name other parts, or none for all")


def _has_objective(settings: TrainConfig, abstract: AbstractConfig) -> bool:
    """Return True if any objective of a retrieval stage has a weight above 0."""
    weights = [settings.itc, settings.itm, settings.mlm]
    if settings.teacher:
        weights += [settings.distil, settings.distil_embedding]
    if abstract.kind != "none":
        weights += [settings.contrast, settings.changes, settings.stua, settings.codebook * abstract.codebook]
    if abstract.kind == "spiking":
        weights += [settings.firing_rate_weight, settings.synops * settings.synops_weight]
    return any(weights)
