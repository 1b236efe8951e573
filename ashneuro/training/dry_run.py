"""What a training run would take: memory and time, from a few real steps on made-up data, before any data is read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ashneuro.config import RunConfig, StageConfig, TrainConfig, stages
from ashneuro.data.pairs import Batch
from ashneuro.data.question_batches import QuestionBatch
from ashneuro.model.network import AshNet
from ashneuro.training.learner import Learner, whole_loss
from ashneuro.training.loop import pick_device
from ashneuro.training.schedule import check_stages, only_training

PROBES = (2, 4)
LABELS = {"vqa": 3129, "entailment": 3, "nlvr2": 2}


@dataclass(frozen=True)
class StageEstimate:
    """One stage, for one process.

    Args:
        batch: pairs (questions) that one process computes at a time.
        activation_bytes: kept for the backward pass, per pair; measured on small batches, the part that grows with the batch.
        fixed_bytes: weights, their gradients, and AdamW's two moments of what learns.
        flops: floating-point operations of a training step, per pair: convolutions, matrix products and attention, forward and
            backward; what is done per element (neurons, norms) is not counted.
        seconds: per pair, measured on this machine with a small batch.
        pairs: that pass in the whole stage.
    """

    name: str
    task: str
    batch: int
    activation_bytes: float
    fixed_bytes: int
    flops: float
    seconds: float
    pairs: int

    @property
    def memory_bytes(self) -> float:
        """What one process needs at its full batch."""
        return self.fixed_bytes + self.batch * self.activation_bytes


@dataclass(frozen=True)
class DryRun:
    """A run that was not done.

    Args:
        parameters: numbers of weights per part, and how many of them learn, in all.
        device: where the steps were measured.
    """

    parameters: Mapping[str, int]
    learning: int
    device: str
    processes: int
    stages: tuple[StageEstimate, ...]

    def seconds_at(self, flops_per_s: float) -> float:
        """Return how long all stages take at a sustained rate per process: products alone, and no waiting for data."""
        return sum(stage.flops * stage.pairs for stage in self.stages) / (flops_per_s * self.processes)

    @property
    def seconds_here(self) -> float:
        """How long all stages take at the pace that was measured here, on as many such machines as there are processes."""
        return sum(stage.seconds * stage.pairs for stage in self.stages) / self.processes


def dry_run(config: RunConfig, *, pairs: int, words: int, processes: int = 1) -> DryRun:
    """Return what ``config`` would take; weights are random, nothing is read or downloaded but what a text tower's settings need.

    Args:
        pairs: training pairs (and questions of a task) in an epoch.
        words: size of the vocabulary.
        processes: how many share a batch.

    Raises:
        ConfigError: the settings contradict each other.
        DataError: a text tower's folder cannot be read.
    """
    device = pick_device(config.train.device)
    labels: dict[str, int] = {
        stage.task: LABELS[stage.task] for stage, _ in stages(config) if stage.task != "retrieval"
    }
    model = AshNet(config.model, words, config.data.image_size, config.data.max_words, labels, load=False).to(device)
    if model.abstract is not None:
        model.abstract.checkpointing = config.train.checkpointing
        model.abstract.use_kernels(config.train.kernels)
    learner = Learner(model, config.train, mask=1).to(device).train()
    check_stages(config, learner)
    parts = {name: sum(weight.numel() for weight in child.parameters()) for name, child in model.named_children()}
    learns = sum(weight.numel() for weight in learner.parameters() if weight.requires_grad)
    return DryRun(
        {name: count for name, count in parts.items() if count},
        learns,
        torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU",
        processes,
        tuple(_stage(learner, stage, settings, config, pairs, words, processes) for stage, settings in stages(config)),
    )


def _stage(
    learner: Learner,
    stage: StageConfig,
    settings: TrainConfig,
    config: RunConfig,
    pairs: int,
    words: int,
    processes: int,
) -> StageEstimate:
    with only_training(learner, stage.parts):
        return _probe(learner, stage, settings, config, pairs, words, processes)


def _probe(
    learner: Learner,
    stage: StageConfig,
    settings: TrainConfig,
    config: RunConfig,
    pairs: int,
    words: int,
    processes: int,
) -> StageEstimate:
    kept: list[int] = []
    seconds = flops = 0.0
    for count in PROBES:
        batch = _made_up(stage, config, count, words, learner)
        saved: dict[int, int] = {}
        weights = {weight.untyped_storage().data_ptr() for weight in (*learner.parameters(), *learner.buffers())}

        def keep(tensor: Tensor, saved: dict[int, int] = saved, weights: set[int] = weights) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with (
            FlopCounterMode(display=False) as counter,
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            _step(learner, batch, settings)
        kept.append(sum(saved.values()))
        flops = counter.get_total_flops() / count
        started = time.perf_counter()
        _step(learner, batch, settings)
        if batch.images.is_cuda:
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - started) / count
        learner.zero_grad(set_to_none=True)
    sizes = [(weight.numel() * weight.element_size(), weight.requires_grad) for weight in learner.parameters()]
    fixed = sum(size * (4 if learns else 1) for size, learns in sizes)
    growth = (kept[1] - kept[0]) / (PROBES[1] - PROBES[0])
    passes = pairs // settings.batch_size * settings.batch_size * settings.epochs
    return StageEstimate(
        stage.name, stage.task, settings.batch_size // processes, growth, fixed, flops, seconds, passes
    )


def _step(learner: Learner, batch: Batch | QuestionBatch, settings: TrainConfig) -> None:
    cast = torch.autocast(batch.images.device.type, torch.bfloat16, enabled=settings.precision == "bf16")
    with cast:
        terms, _ = learner(batch, settings, torch.Generator().manual_seed(0))
    torch.autograd.backward(whole_loss(terms))


def _made_up(stage: StageConfig, config: RunConfig, count: int, words: int, learner: Learner) -> Batch | QuestionBatch:
    """Return a batch of noise of the right shapes."""
    size, length = config.data.image_size, config.data.max_words
    device = learner.model.log_scale.device
    tokens = torch.randint(2, words, (count, length), device=device)
    if stage.task == "retrieval":
        views = (
            torch.randn(count, 3, size, size, device=device)
            if config.train.contrast and learner.model.abstract is not None
            else None
        )
        images = torch.randn(count, 3, size, size, device=device)
        return Batch(images, views, tokens, torch.arange(count, device=device), tuple(map(str, range(count))))
    images = torch.randn(count, 2 if stage.task == "nlvr2" else 1, 3, size, size, device=device)
    wanted = (
        torch.rand(count, LABELS["vqa"], device=device)
        if stage.task == "vqa"
        else torch.zeros(count, dtype=torch.long, device=device)
    )
    return QuestionBatch(stage.task, images, tokens, wanted)
