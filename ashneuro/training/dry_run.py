"""Memory and time of a training run, estimated from a few real steps on random data."""

from __future__ import annotations

import copy
import time
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from ashneuro.config import MIN_WORDS, RunConfig, StageConfig, TrainConfig, encoder_of, stages
from ashneuro.data.pairs import Batch
from ashneuro.data.question_batches import QuestionBatch
from ashneuro.exchange import DryRun, StageEstimate
from ashneuro.model.network import AshNet
from ashneuro.spiking.memory import kept_bytes
from ashneuro.training.learner import Learner, whole_loss
from ashneuro.training.loop import pick_device
from ashneuro.training.schedule import check_schedule, check_stages, only_training
from ashneuro.training.teacher import Teacher

PROBES = (2, 4)
"""Batch sizes of the measured steps; memory per pair is the difference."""

TIMED_SECONDS = 1.0
"""A step is timed with a batch that takes this long, or with a whole batch: in a short step, the
time between operations outweighs theirs."""

LABELS = {"vqa": 3129, "entailment": 3, "nlvr2": 2}
"""Usual number of answers or labels, by task."""


def dry_run(config: RunConfig, *, pairs: int, words: int, processes: int = 1) -> DryRun:
    """Return the estimate for ``config``.

    Weights are random. Nothing is read or downloaded, except the configuration of a text tower.

    Args:
        pairs: number of training pairs, or questions of a task, in an epoch.
        words: size of the vocabulary.
        processes: number of processes that share a batch.

    Raises:
        ConfigError: the settings contradict each other.
        DataError: a text tower's folder cannot be read.
    """
    device = pick_device(config.train.device)
    labels: dict[str, int] = {
        stage.task: LABELS[stage.task] for stage, _ in stages(config) if stage.task != "retrieval"
    }
    check_schedule(config)
    model = AshNet(
        config.model, words, config.data.image_size, config.data.max_words or MIN_WORDS, labels, load=False
    ).to(device)
    if model.abstract is not None:
        model.abstract.checkpointing = config.train.checkpointing
        model.abstract.use_kernels(config.train.kernels)
    learner = Learner(model, config.train, 1, [settings for _, settings in stages(config)]).to(device).train()
    check_stages(config, learner)
    parts = {name: sum(weight.numel() for weight in child.parameters()) for name, child in model.named_children()}
    learns = sum(weight.numel() for weight in learner.parameters() if weight.requires_grad)
    return DryRun(
        {name: count for name, count in parts.items() if count},
        learns,
        torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU",
        processes,
        tuple(
            _estimate(learner, stage, settings, config, pairs, words, processes) for stage, settings in stages(config)
        ),
    )


def _estimate(
    learner: Learner,
    stage: StageConfig,
    settings: TrainConfig,
    config: RunConfig,
    pairs: int,
    words: int,
    processes: int,
) -> StageEstimate:
    """Return the estimate of one stage from a step with each batch size of `PROBES`.

    A copy of the model stands for its teacher.
    """
    if (abstract := encoder_of(config, stage)) != learner.model.config.abstract:
        learner.model.use_neurons(abstract)
    teacher = Teacher(copy.deepcopy(learner.model)) if settings.teacher and stage.task == "retrieval" else None
    with only_training(learner, stage.parts):
        small, large = (
            _probe(learner, _random_batch(stage, config, count, words, learner), settings, teacher) for count in PROBES
        )
        timed, seconds = _time_step(
            learner, stage, settings, config, words, max(settings.batch_size // processes, PROBES[0]), teacher
        )
        sizes = [(weight.numel() * weight.element_size(), weight.requires_grad) for weight in learner.parameters()]
    per_epoch = pairs // settings.batch_size * settings.batch_size
    return StageEstimate(
        stage.name,
        stage.task,
        batch=settings.batch_size // processes,
        activation_bytes=(large.saved_bytes - small.saved_bytes) / (PROBES[1] - PROBES[0]),
        # Of a parameter that learns: the weight, its gradient, two moments.
        fixed_bytes=sum(size * (4 if learns else 1) for size, learns in sizes),
        flops=large.flops / PROBES[1],
        seconds=seconds / timed,
        pairs=per_epoch * settings.epochs,
        timed=timed,
    )


class _Probe(NamedTuple):
    saved_bytes: int
    flops: int


def _probe(learner: Learner, batch: Batch | QuestionBatch, settings: TrainConfig, teacher: Teacher | None) -> _Probe:
    """Return memory kept for the backward pass, and operations of a training step."""
    with FlopCounterMode(display=False) as counter:
        saved = kept_bytes(
            lambda: _step(learner, batch, settings, teacher), apart=(*learner.parameters(), *learner.buffers())
        )
    learner.zero_grad(set_to_none=True)
    return _Probe(saved, counter.get_total_flops())


def _time_step(
    learner: Learner,
    stage: StageConfig,
    settings: TrainConfig,
    config: RunConfig,
    words: int,
    largest: int,
    teacher: Teacher | None,
) -> tuple[int, float]:
    """Return a batch size and the seconds of a training step with it, the shorter of two.

    The size grows fourfold from the larger of `PROBES` until a step takes `TIMED_SECONDS` or the
    size is ``largest``.
    """
    count = min(PROBES[1], largest)
    while True:
        batch = _random_batch(stage, config, count, words, learner)
        seconds = min(_seconds(learner, batch, settings, teacher) for _ in range(2))
        if seconds >= TIMED_SECONDS or count >= largest:
            return count, seconds
        count = min(4 * count, largest)


def _seconds(learner: Learner, batch: Batch | QuestionBatch, settings: TrainConfig, teacher: Teacher | None) -> float:
    started = time.perf_counter()
    _step(learner, batch, settings, teacher)
    if batch.images.is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    learner.zero_grad(set_to_none=True)
    return seconds


def _step(learner: Learner, batch: Batch | QuestionBatch, settings: TrainConfig, teacher: Teacher | None) -> None:
    cast = torch.autocast(batch.images.device.type, torch.bfloat16, enabled=settings.precision == "bf16")
    with cast:
        taught = teacher.teach(batch) if teacher is not None and isinstance(batch, Batch) else None
        terms, _ = learner(batch, settings, torch.Generator().manual_seed(0), taught)
    torch.autograd.backward(whole_loss(terms))


def _random_batch(
    stage: StageConfig, config: RunConfig, count: int, words: int, learner: Learner
) -> Batch | QuestionBatch:
    """Return a batch of ``count`` random pairs or questions."""
    size, length = config.data.image_size, config.data.max_words or MIN_WORDS
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
