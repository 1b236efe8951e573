"""Training: stages of a schedule, batches, one optimiser a stage, a checkpoint after every epoch."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ashneuro.config import RunConfig, StageConfig, TrainConfig, stages, trained_tasks
from ashneuro.data.batches import Batches, Images, ahead, texts_of
from ashneuro.data.pairs import Batch, Pair, Questions, Splits
from ashneuro.data.question_batches import QuestionBatch, QuestionBatches, labels_of
from ashneuro.data.sources import load_splits
from ashneuro.data.tasks import load_questions, pictures_of
from ashneuro.data.tokens import Words
from ashneuro.errors import AshneuroError, ConfigError, DataError
from ashneuro.exchange import EpochMetrics, TrainingMetrics, TrainingTotals
from ashneuro.files import replace_file
from ashneuro.model.codebook import Codebook
from ashneuro.model.network import AshNet
from ashneuro.spiking.integers import Integers
from ashneuro.spiking.kernels.dispatch import choose_backend, describe_kernels
from ashneuro.training.checkpoint import (
    TRAINER,
    Labels,
    Run,
    build_model,
    build_words,
    in_short,
    load_run,
    save_run,
    write_state,
)
from ashneuro.training.evaluate import Pool, recalls
from ashneuro.training.features import frozen_features
from ashneuro.training.folder import open_folder, uninterrupted
from ashneuro.training.learner import Learner, whole_loss
from ashneuro.training.processes import Processes, SharedNorm, join, shared_norms
from ashneuro.training.task_evaluation import TaskPool, accuracy

MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Progress:
    """Where training is: after ``batch`` of ``batches`` in ``epoch`` of ``epochs``, both counted from 1.

    Args:
        metrics: metrics of the epoch, once it is finished.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    metrics: EpochMetrics | None = None


OnProgress = Callable[[Progress], None]

# Chooses the integer units of a model's spiking encoder; None or the units that it has learnt with so far come in.
ChooseIntegers = Callable[[AshNet, Integers | None], Integers]


def train(
    config: RunConfig,
    out: str | Path,
    *,
    resume: bool = False,
    choose_integers: ChooseIntegers | None = None,
    on_progress: OnProgress = lambda progress: None,
) -> Run:
    """Return the trained run, written to the folder ``out``.

    After every epoch (and every ``train.save_every`` batches) the folder holds a whole checkpoint, so training can be stopped or
    killed at any time and taken up again with ``resume``; the result is then the same, bit for bit on a CPU, as without the
    interruption. Ctrl-C waits for files that are being written. Under torchrun each process calls this alike.

    Args:
        choose_integers: with ``train.quantise_aware``: called before the first epoch and after each.

    Raises:
        ConfigError: ``out`` holds a run and ``resume`` is not set; or a resumed run has other settings; or there is no GPU
            and ``train.device`` asks for one; or ``train.start`` is a run of another model; or settings contradict each other; or
            the loss is no number any more.
        DataError: the data, or the checkpoint to resume from, cannot be read; or a resumed run learned from other data.
    """
    out = Path(out)
    if config.train.quantise_aware and not (config.train.start and choose_integers):
        raise ConfigError("train.quantise_aware", "it fine-tunes a trained run", "ashneuro train RUN --quantise-aware")
    device = pick_device(config.train.device)
    choose_backend(config.train.kernels, device)  # says now what cannot be had
    processes = join(config.train, device, [settings for _, settings in stages(config)])
    if processes.rank == 0:  # makes the folder and clears it of halves
        try:
            state = open_folder(out, config, resume)
        except AshneuroError:
            processes.follow(False)
            raise
        processes.follow(True)
    elif processes.follow(True):
        state = open_folder(out, config, resume=True)
    else:
        raise SystemExit(2)  # the first process says why
    material = Material(config, processes)
    if state is not None and state.get("data", material.digest) != material.digest:
        raise DataError(
            f"cannot resume {out}",
            "its training data were others: texts or questions have changed",
            "restore them, or name another --out",
        )
    device = processes.device
    epochs = [EpochMetrics.from_json(row) for row in json.loads(state["rows"])] if state else []
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        torch.manual_seed(config.train.seed)
        model = build_model(config, material.words, material.labels)
        learner = Learner(model, config.train, material.words.mask)
        check_stages(config, learner)
        learner.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        learner.fan_out = {name: reached.to(device) for name, reached in learner.fan_out.items()}
        if model.abstract is not None:
            model.abstract.checkpointing = config.train.checkpointing
            model.abstract.use_kernels(config.train.kernels)
        if state is None and config.train.start:
            _start_from(config, model, material.words)
        if state is not None:
            try:
                learner.load_state_dict(state["model"])
            except RuntimeError as error:  # of another version, whose layers have other shapes
                raise DataError(
                    f"cannot resume from {out / TRAINER}", in_short(error), "train again in another folder"
                ) from error
            if model.abstract is not None and state["integers"]:
                model.abstract.use_integers(Integers.loads(state["integers"]))
        else:
            _choose(model, config.train, choose_integers)
        if config.train.compile:
            model.concrete.compile()
            # Not the module: what calls it in training calls its parts.
            model.text.features = torch.compile(model.text.features)  # type: ignore[method-assign]
        stack.enter_context(shared_norms(learner, processes))
        before, weights = 0, None
        for number, (stage, settings) in enumerate(stages(config)):
            past = len(epochs) - before
            if past < settings.epochs:
                with Stage(number, stage, settings, config, learner, processes, material) as running:
                    if state is not None:
                        running.restore(state)
                    for epoch in range(past, settings.epochs):
                        metrics = running.epoch(epoch, epochs, out, on_progress)
                        _choose(model, config.train, choose_integers)
                        with processes.whole(running.wrapped):
                            metrics = replace(metrics, validation=material.validate(model, stage))
                        epochs.append(metrics)
                        weights = _save(out, config, material, learner, running, epochs)
                        batches = len(running.batches)
                        on_progress(Progress(metrics.epoch, material.epochs, batches, batches, metrics.loss, metrics))
                state = None
            before += settings.epochs
    kernels = describe_kernels(device, config.train.kernels) if config.model.abstract.kind == "spiking" else ""
    seconds = round(sum(metrics.seconds or 0.0 for metrics in epochs), 1)
    finished = TrainingMetrics(tuple(epochs), TrainingTotals(len(epochs), seconds, kernels))
    if processes.rank == 0:
        with uninterrupted():
            save_run(out, config, material.words, model, finished, material.labels, weights)
    processes.wait()
    return (
        Run(out, config, material.words, model.eval(), material.labels)
        if processes.size == 1
        else load_run(out, device)
    )


class Material:
    """What a run learns from: pairs, words, questions and labels of its tasks, read once for all stages."""

    def __init__(self, config: RunConfig, processes: Processes) -> None:
        self.config, self.processes = config, processes
        self.splits: Splits = load_splits(config.data)
        tasks = trained_tasks(config)
        self.questions: dict[str, Questions] = {
            task: load_questions(task, config.tasks, config.data, self.splits) for task in tasks
        }
        own = {task: labels_of(asked, getattr(config.tasks, task).answers) for task, asked in self.questions.items()}
        # A run that goes on from another keeps the heads that it has.
        self.labels: Labels = {**(load_run(config.train.start).labels if config.train.start else {}), **own}
        texts = [text for pair in self.splits.train for text in texts_of(pair, config.data.captions)]
        texts += [question.text for asked in self.questions.values() for question in asked.train]
        self.words: Words = build_words(config, texts)
        self.epochs = sum(settings.epochs for _, settings in stages(config))
        self._pools: dict[str, Pool | TaskPool | None] = {}

    @cached_property
    def digest(self) -> str:
        """A hash of what the run learns from, in its order, pictures by name: words and labels have their numbers from it."""
        pairs = [(pair.key, pair.captions, pair.concept) for pair in self.splits.train]
        asked = [(each.images, each.text, each.answers) for task in self.questions.values() for each in task.train]
        return hashlib.sha256(json.dumps([pairs, asked, self.labels]).encode()).hexdigest()

    def batches(self, stage: StageConfig, settings: TrainConfig, model: AshNet) -> Batches | QuestionBatches:
        """Return the batches of a stage."""
        part = (self.processes.rank, self.processes.size)
        data = self.config.data
        if stage.task == "retrieval":
            views = self.config.model.abstract.kind != "none" and settings.contrast > 0
            images = self._features(self.splits.train, settings, model)
            return Batches(self.splits.train, self.words, data, settings, views=views, images=images, part=part)
        asked = self.questions[stage.task]
        images = self._features(pictures_of(asked, asked.train), settings, model) if settings.cache_features else None
        return QuestionBatches(asked, self.labels[stage.task], self.words, data, settings, images, part=part)

    def validate(self, model: AshNet, stage: StageConfig) -> dict[str, float]:
        """Return the metrics of a stage's task on the validation part; nothing where there is none."""
        if stage.task not in self._pools:
            self._pools[stage.task] = self._pool(stage.task)
        pool = self._pools[stage.task]
        if isinstance(pool, TaskPool):
            return {f"{stage.task}_accuracy": accuracy(model, pool)}
        if pool is None:
            return {}
        image_to_text, text_to_image = recalls(model, pool)
        return {"R@1_image_to_text": image_to_text["R@1"], "R@1_text_to_image": text_to_image["R@1"]}

    def _pool(self, task: str) -> Pool | TaskPool | None:
        if task == "retrieval":
            return Pool(self.splits.validation, self.words, self.config.data) if self.splits.validation else None
        asked = self.questions[task]
        if not any(question.answers for question in asked.validation):
            return None
        return TaskPool(asked, asked.validation, self.labels[task], self.words, self.config.data)

    def _features(self, pictures: Sequence[Pair], settings: TrainConfig, model: AshNet) -> Images | None:
        if not settings.cache_features:
            return None
        concrete = self.config.model.concrete
        if not concrete.backbone or concrete.tune or settings.augment:
            why = "the pictures are augmented" if settings.augment else "no frozen backbone makes them"
            raise ConfigError(
                "train.cache_features",
                f"features would differ from step to step: {why}",
                "set model.concrete.tune = false, train.augment = 0",
            )
        return frozen_features(model, pictures, self.config, self.processes)


class Stage:
    """One stage while it runs: its batches, its optimiser, the wrapped learner."""

    def __init__(
        self,
        number: int,
        stage: StageConfig,
        settings: TrainConfig,
        config: RunConfig,
        learner: Learner,
        processes: Processes,
        material: Material,
    ) -> None:
        self.number, self.stage, self.settings, self.config = number, stage, settings, config
        self.learner, self.processes, self.material = learner, processes, material
        self.batches = material.batches(stage, settings, learner.model)
        self._done: tuple[int, dict[str, Tensor]] = (0, {})

    def __enter__(self) -> Stage:
        self._stack = ExitStack()
        self._stack.enter_context(learning(self.learner, self.stage.parts))
        self.wrapped = self.processes.wrap(self.learner)
        self.optimiser = _optimiser(self.learner, self.settings)
        self.learner.zero_grad()  # what another stage left behind would count in the norm that gradients are clipped to
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned, unless that was in another stage; the weights are loaded already."""
        if state["stage"] != self.number:
            return
        self.processes.restore(self.wrapped, self.optimiser, state)
        self._done = state["batch"], state["sums"]
        # A checkpoint of another number of processes, or of an older version, has none for this one.
        self._random = [
            each if isinstance(each, Tensor) else each[min(self.processes.rank, len(each) - 1)]
            for each in state["random"]
        ]

    def state(
        self, epochs: Sequence[EpochMetrics], batch: int = 0, sums: Mapping[str, Tensor] | None = None
    ) -> dict[str, Any]:
        """Return everything that going on takes; ``batch`` batches of an epoch are done, with these sums."""
        model = self.learner.model
        integers = model.abstract and model.abstract.integers
        random = [
            torch.get_rng_state(),
            *([torch.cuda.get_rng_state(self.processes.device)] if self.processes.device.type == "cuda" else []),
        ]
        return {
            **self.processes.state(self.wrapped, self.learner, self.optimiser),
            "stage": self.number,
            "data": self.material.digest,
            "rows": json.dumps([metrics.to_json() for metrics in epochs]),
            "batch": batch,
            "sums": {name: value.cpu() for name, value in (sums or {}).items()},
            "random": [self.processes.of_each(own) for own in random],
            "integers": integers.dumps() if integers else "",
        }

    def epoch(self, epoch: int, epochs: Sequence[EpochMetrics], out: Path, on_progress: OnProgress) -> EpochMetrics:
        """Train one epoch of the stage, counted from 0, after ``epochs``; return its metrics, without validation."""
        settings, device = self.settings, self.processes.device
        # Dropout draws from torch's own generator; seeding it per epoch makes a resumed epoch the same. Processes drop differently.
        past = len(epochs)
        seed = settings.seed * 1_000_003 + past
        torch.manual_seed(seed + 7_777_777 * self.processes.rank)
        drawn = torch.Generator().manual_seed(seed)  # masked words and negatives
        start, kept = self._done
        self._done = (0, {})
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=device)) | {
            name: value.to(device) for name, value in kept.items()
        }
        if start:
            torch.set_rng_state(self._random[0])
            if device.type == "cuda":
                torch.cuda.set_rng_state(self._random[1], device)
        self.learner.train()
        keep_statistics(self.learner)
        batches: Iterator[Batch | QuestionBatch] = self.batches.epoch(past, start)
        source: Iterator[Batch | QuestionBatch] = ahead(batches) if device.type == "cuda" else batches
        steps = settings.epochs * math.ceil(len(self.batches) / settings.accumulate)
        started = time.perf_counter()
        waited, rate, total, due = 0.0, 0.0, torch.zeros(()), False
        for number in range(start, len(self.batches)):
            asked = time.perf_counter()
            batch = _to(next(source), device)
            waited += time.perf_counter() - asked
            step = epoch * math.ceil(len(self.batches) / settings.accumulate) + number // settings.accumulate
            rate = learning_rate(step, steps, settings)
            drawn.manual_seed(seed * 31 + number)
            terms, firing = self._step(batch, number, rate, drawn)
            total = sum(term.detach() for term in terms.values())  # type: ignore[assignment]
            for name, value in {
                "loss": total,
                **{f"loss_{name}": term.detach() for name, term in terms.items()},
                **firing,
            }.items():
                sums[name] += value
            loss = float(total)
            if not math.isfinite(loss):
                what = f"training has diverged: the loss of batch {number + 1} in epoch {past + 1} is {loss}"
                left = f"; {out} holds the run up to its last checkpoint" if (out / TRAINER).exists() else ""
                raise ConfigError(
                    what, f"the learning rate was {rate:.3g}{left}", "a lower train.learning_rate, and another --out"
                )
            on_progress(Progress(past + 1, self.material.epochs, number + 1, len(self.batches), loss))
            due |= settings.save_every > 0 and (number + 1) % settings.save_every == 0
            # Between steps alone: a checkpoint does not hold the gradients that a step has gathered so far.
            if due and self._completes_step(number) and number + 1 < len(self.batches):
                _save(out, self.config, self.material, self.learner, self, epochs, number + 1, self._everywhere(sums))
                due = False
        seconds = time.perf_counter() - started
        sums = self._everywhere(sums)
        means = {name: value.item() / len(self.batches) for name, value in sums.items()}
        losses = {name.removeprefix("loss_"): value for name, value in means.items() if name.startswith("loss_")}
        rates = {name: value for name, value in means.items() if not name.startswith("loss")}
        pairs = (len(self.batches) - start) * settings.batch_size
        return EpochMetrics(
            epoch=past + 1,
            stage=self.stage.name if self.config.schedule else "",
            loss=means["loss"],
            losses=losses,
            firing_rate=sum(rates.values()) / len(rates) if rates else None,
            firing_rates=rates,
            learning_rate=rate,
            seconds=round(seconds, 2),
            pairs_per_s=round(pairs / max(seconds, 1e-9), 1),
            waited_share=round(waited / max(seconds, 1e-9), 4),
        )

    def _everywhere(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean of the processes' sums; what was computed from gathered embeddings is the same on all of them."""
        if self.processes.size == 1 or not sums:
            return sums
        values = torch.stack([value.float() for value in sums.values()])
        self.processes.share([values])
        return dict(zip(sums, values, strict=True))

    def _completes_step(self, number: int) -> bool:
        """Whether the weights move after batch ``number``, counted from 0."""
        return (number + 1) % self.settings.accumulate == 0 or number + 1 == len(self.batches)

    def _step(
        self, batch: Batch | QuestionBatch, number: int, rate: float, random: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Add the gradients of one batch, and move the weights where that completes a step."""
        settings = self.settings
        last = self._completes_step(number)
        if number % settings.accumulate == 0:
            self.optimiser.zero_grad()
        device = self.processes.device.type
        cast = torch.autocast(device, torch.bfloat16) if settings.precision == "bf16" else nullcontext()
        with nullcontext() if last else self.processes.quietly(self.wrapped):
            with cast:
                terms, firing = self.wrapped(batch, settings, random)
            loss = whole_loss(terms)
            if not loss.requires_grad:
                why = f"none of its objectives ({', '.join(terms)}) reaches {', '.join(self.stage.parts)}"
                raise ConfigError(
                    f"stage {self.stage.name!r} has nothing to learn", why, "name other parts, or other weights"
                )
            torch.autograd.backward(loss / settings.accumulate)
        if last:
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self.processes.clip(self.wrapped, MAX_GRADIENT_NORM)
            self.optimiser.step()
        return terms, firing


def pick_device(name: str) -> torch.device:
    """Return the device that ``train.device`` names; ``auto`` is the GPU where there is one.

    Raises:
        ConfigError: ``cuda`` is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.device = 'cuda'", "torch finds no NVIDIA GPU here", "set train.device = 'auto'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Return the rate of one step, counted from 0: a linear rise over ``warmup`` of all steps, then half a cosine down to 0."""
    rise = config.warmup * steps
    if step < rise:
        return config.learning_rate * (step + 1) / (rise + 1)
    return config.learning_rate * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise))) / 2


def _start_from(config: RunConfig, model: AshNet, vocabulary: Words) -> None:
    """Give ``model`` the weights of the run that ``train.start`` names."""
    start = load_run(config.train.start)
    what, do = f"cannot start from {start.path}", "keep [model] and [data] as they are there"
    if start.config.model != config.model or start.vocabulary != vocabulary:
        other = "model" if start.config.model != config.model else "words"
        raise ConfigError(what, f"its {other} differ from those of this run", do)
    try:
        model.load_state_dict(start.model.state_dict())
    except RuntimeError as error:  # pictures or texts of another size, or a head more
        raise ConfigError(what, in_short(error), do) from error


def _choose(model: AshNet, config: TrainConfig, choose: ChooseIntegers | None) -> None:
    if config.quantise_aware and choose is not None and model.abstract is not None:
        before = model.abstract.integers
        model.abstract.use_integers(None)
        model.abstract.use_integers(choose(model, before))


@contextmanager
def learning(learner: Learner, parts: Sequence[str]) -> Iterator[None]:
    """Let only the named parts of a model learn while the block runs; without names, all that may."""
    model = learner.model
    chosen = {id(parameter) for part in parts for parameter in model.part(part)}
    if "abstract" in parts and model.abstract is not None:  # with the maps of its own objectives
        chosen |= {id(parameter) for parameter in model.view.parameters()}
        chosen |= {id(parameter) for name, parameter in learner.named_parameters() if not name.startswith("model.")}
    held = [
        parameter
        for parameter in learner.parameters()
        if parts and parameter.requires_grad and id(parameter) not in chosen
    ]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


def keep_statistics(learner: nn.Module) -> None:
    """Let what does not learn stay as it is while the rest does: batch norms apply what they know, a codebook waits for its start.

    Else a stage that trains the heads would change what retrieval, of which it trains nothing, sees.
    """
    for module in learner.modules():
        own = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
        if own and not any(own) and isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | SharedNorm | Codebook):
            module.eval()


def check_stages(config: RunConfig, learner: Learner) -> None:
    """Say that a stage cannot be trained before any is.

    Raises:
        ConfigError: it has no objective, or one that asks for a part that the model does not have, or no part that learns.
    """
    for stage, settings in stages(config):
        name = f"stage {stage.name!r}" if config.schedule else "[train]"
        if stage.task == "retrieval":
            if (settings.itm or settings.mlm) and not config.model.multimodal.layers:
                why = "itm and mlm need the multimodal transformer, and model.multimodal.layers is 0"
                raise ConfigError(f"{name} cannot be trained", why, "--set model.multimodal.layers=2")
            if not _has_objective(settings, config):
                raise ConfigError(f"{name} has nothing to learn", "all weights of its objectives are 0", "set itc = 1")
        with learning(learner, stage.parts):
            if not any(parameter.requires_grad for parameter in learner.parameters()):
                why = f"the model has nothing that learns in {', '.join(stage.parts) or 'any part'}"
                raise ConfigError(f"{name} has nothing to learn", why, "name other parts, or none for all")


def _has_objective(settings: TrainConfig, config: RunConfig) -> bool:
    """Whether anything of a stage on pairs is weighed."""
    abstract = config.model.abstract
    weights = [settings.itc, settings.itm, settings.mlm]
    if abstract.kind != "none":
        weights += [settings.contrast, settings.stua, settings.codebook * abstract.codebook]
    if abstract.kind == "spiking":
        weights += [settings.firing_rate_weight, settings.synops * settings.synops_weight]
    return any(weights)


def _optimiser(learner: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW with decay on matrices and kernels alone; vectors (biases, norms, gains, ratios, word weights) are left alone."""
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if parameter.numel() > max((1, *parameter.shape))]
    vectors = [parameter for parameter in parameters if parameter.numel() <= max((1, *parameter.shape))]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate)


def _to(batch: Batch | QuestionBatch, device: torch.device) -> Batch | QuestionBatch:
    if device.type == "cpu":
        return batch
    names = (
        ("images", "tokens", "targets")
        if isinstance(batch, QuestionBatch)
        else ("images", "views", "tokens", "concepts")
    )
    moved = {name: part.to(device, non_blocking=True) for name in names if (part := getattr(batch, name)) is not None}
    return replace(batch, **moved)  # type: ignore[no-any-return]


def _save(
    out: Path,
    config: RunConfig,
    material: Material,
    learner: Learner,
    stage: Stage,
    epochs: Sequence[EpochMetrics],
    batch: int = 0,
    sums: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Write the state for resuming, and what using the run takes; the first process does. Return the model's weights."""
    state = stage.state(epochs, batch, sums)
    weights = {
        name.removeprefix("model."): value for name, value in state["model"].items() if name.startswith("model.")
    }
    if stage.processes.rank == 0:
        with uninterrupted():
            replace_file(out / TRAINER, lambda file: write_state(file, state))
            metrics = TrainingMetrics(tuple(epochs))
            save_run(out, config, material.words, learner.model, metrics, material.labels, weights)
            if config.train.tensorboard and not batch:
                _log(out, epochs[-1])
    stage.processes.wait()
    return weights


def _log(out: Path, metrics: EpochMetrics) -> None:
    """Write the numbers of an epoch as TensorBoard events."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(out / "tensorboard")) as writer:
        for name, value in metrics.to_json().items():
            if isinstance(value, int | float):
                writer.add_scalar(name.replace(".", "/", 1), value, metrics.epoch)
