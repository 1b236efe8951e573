"""Training of a run: the stages of its schedule in turn, with a checkpoint after every epoch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote

import torch

from ashneuro.config import (
    AbstractConfig,
    RunConfig,
    TrainConfig,
    differences,
    encoder_of,
    load_config,
    settled,
    stages,
    with_encoder,
    without_neurons,
)
from ashneuro.data.broken import LEFT_OUT, save_left_out
from ashneuro.data.pairs import Pair
from ashneuro.errors import AshneuroError, ConfigError, DataError
from ashneuro.exchange import EpochMetrics
from ashneuro.model.hand_over import hand_over
from ashneuro.model.network import AshNet
from ashneuro.spiking.integers import Integers
from ashneuro.spiking.kernels.dispatch import choose_backend, describe_kernels
from ashneuro.training.checkpoint import CONFIG, TRAINER, Run, build_model, load_run, shorten
from ashneuro.training.data import OnReading, TrainingData, Validation
from ashneuro.training.folder import Checkpoints, TrainerState, extended_epochs, held, open_folder
from ashneuro.training.learner import Learner
from ashneuro.training.loggers import check_loggers
from ashneuro.training.processes import Processes, join, shared_norms
from ashneuro.training.rates import norm_steps, rates_note
from ashneuro.training.schedule import check_schedule, check_stages, only_training
from ashneuro.training.stage import StageTraining
from ashneuro.training.state import read_rows
from ashneuro.training.teacher import START, Teacher, copy_of, load_teacher, run_as_teacher, save_teacher


@dataclass(frozen=True)
class Progress:
    """Progress of training: ``batch`` of ``batches`` in ``epoch`` of ``epochs`` is done, from 1.

    Args:
        loss: loss of the batch; of the epoch, once it is finished.
        metrics: metrics of the epoch, once it is finished.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    metrics: EpochMetrics | None = None


MULTIMODAL = ("multimodal", "itm", "mlm", "heads")
"""Parts of a model that a run may add to those of the run that it starts from."""

PER_WORD = frozenset({"text.words.weight", "text.weights.weight", "mlm.weight", "mlm.bias"})
"""Weights with a row per word index."""

OnProgress = Callable[[Progress], None]

OnNote = Callable[[str], None]

ChooseIntegers = Callable[[AshNet, Integers | None, Sequence[Pair]], Integers]
"""Chooses the integer units of a model, given the current ones, if any, and the training pairs."""


def train(
    config: RunConfig,
    out: str | Path,
    *,
    resume: bool = False,
    choose_integers: ChooseIntegers | None = None,
    on_progress: OnProgress = lambda progress: None,
    on_reading: OnReading = lambda what, done, total: None,
    on_note: OnNote = lambda note: None,
) -> Run:
    """Train a run into the folder ``out`` and return it.

    After every epoch (and every ``train.save_every`` batches) the folder holds a complete
    checkpoint. Training can be killed at any time and continued with ``resume``; on a CPU the
    result is bit for bit that of an uninterrupted run. Resumed with more epochs in its
    last stage, a run is trained on: the learning rate is that of the longer cycle from there.
    Ctrl-C waits for files that are being written. Under torchrun every process makes this call.

    Args:
        choose_integers: called before the first epoch and after each, with
            ``train.quantise_aware``.
        on_reading: called while pictures are decoded, see `ashneuro.training.data.OnReading`.
        on_note: called with sentences about what will not be learned from the data, and about
            firing rates that differ between training and evaluation.

    Raises:
        MissingDependency: the package of a logger is not installed.
        ConfigError: ``out`` holds a run and ``resume`` is not set; another process trains in it; a
            resumed run has other settings; ``train.device`` asks for a GPU and there is none;
            ``train.start`` is a run of another model; settings contradict each other; or training
            diverges.
        DataError: data or the checkpoint cannot be read, or the data of a resumed run have changed.
    """
    out = Path(out)
    if config.train.quantise_aware and not (config.train.start and choose_integers):
        raise ConfigError("train.quantise_aware", "it fine-tunes a trained run", "ashneuro train RUN --quantise-aware")
    device = pick_device(config.train.device)
    choose_backend(config.train.kernels, device)  # a back end that is not available fails here, before data are read
    check_schedule(config)
    check_loggers(config.train.loggers)
    processes = join(config.train, device, [settings for _, settings in stages(config)])
    # The first of several processes opens the folder for all; claims are of single processes.
    with held(out, resume) if processes.size == 1 else nullcontext():
        state = _open_folder(out, config, resume, processes)
        extended: tuple[int, ...] = ()
        if state is not None:
            before = load_config(out / CONFIG)
            config, extended = settled(config, before), before.train.extended
            if longer := extended_epochs(before, config):
                on_note(_extension_note(*longer))
                extended += (longer[0],)
        config = replace(config, train=replace(config.train, extended=extended))
        data = TrainingData(config, processes, on_reading)
        config = data.config
        if state is not None and state.get("data", data.digest) != data.digest:
            raise DataError(
                f"cannot resume {out}",
                "the training data changed since the checkpoint: texts or questions differ",
                "restore them, or name another --out",
            )
        if processes.rank == 0:
            save_left_out(out / LEFT_OUT, data.left_out)
        for note in data.notes():
            on_note(note)
        device = processes.device
        integers = choose_integers if config.train.quantise_aware else None
        with _seeded(config.train.seed, device):
            learner = _build_learner(config, data, device)
            if state is not None:
                _use_neurons(learner.model, encoder_of(config, stages(config)[state["stage"]][0]))
                _load_state(learner, state, out)
            elif config.train.start:
                _load_start(learner.model, config)
            if config.train.compile:
                _compile(learner.model)
            epochs = read_rows(state["rows"]) if state else []
            if len(epochs) == sum(settings.epochs for _, settings in stages(config)):
                on_note("all epochs of this run are trained; --set train.epochs=N adds epochs to its last stage")
            checkpoints = Checkpoints(out, config, data, learner, processes, epochs)
            with shared_norms(learner, processes):
                validation = _train_stages(config, data, checkpoints, state, integers, on_progress)
        if processes.rank == 0:  # the pictures of a stream are decoded in training alone
            save_left_out(out / LEFT_OUT, data.left_out)
        spiking = config.model.abstract.kind == "spiking"
        checkpoints.finish(describe_kernels(device, config.train.kernels) if spiking else "")
        if spiking and validation is not None:
            rates = checkpoints.epochs[-1].firing_rates
            if note := rates_note(rates, validation.firing_rates, norm_steps(learner.model)):
                on_note(note)
        if processes.size == 1:
            return Run(out, config, data.words, learner.model.eval(), data.labels, unanswered=data.unanswered)
        return replace(load_run(out, device), unanswered=data.unanswered)


def pick_device(name: str) -> torch.device:
    """Return the device of ``train.device``; ``"auto"`` is the GPU if there is one.

    Raises:
        ConfigError: ``"cuda"`` is asked for and there is no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "train.device = 'cuda'",
            "torch finds no NVIDIA GPU here",
            "--device auto, in a config train.device = 'auto'",
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _open_folder(out: Path, config: RunConfig, resume: bool, processes: Processes) -> TrainerState | None:
    """Open the folder in the first process, then in the others, which exit if the first fails."""
    if processes.rank == 0:
        try:
            state = open_folder(out, config, resume)
        except AshneuroError:
            processes.broadcast(False)
            raise
        processes.broadcast(True)
        return state
    if not processes.broadcast(True):
        raise SystemExit(2)  # the first process prints the error
    return open_folder(out, config, resume=True)


def _extension_note(before: int, now: int) -> str:
    """Return a sentence about what a run gets that is trained on."""
    return (
        f"the last stage continues from {before} to {now} epochs: after epoch {before} the learning rate, and a "
        f"falling budget, are those of a cycle of {now} epochs; a run of {now} epochs from the start would end "
        "elsewhere"
    )


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators while the block runs; the caller's states come back after it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _build_learner(config: RunConfig, data: TrainingData, device: torch.device) -> Learner:
    """Return a learner with fresh weights on ``device``, with the neurons of the first stage.

    Raises:
        ConfigError: a stage cannot be trained.
    """
    (first, _), *_ = stages(config)
    model = build_model(with_encoder(config, encoder_of(config, first)), data.words, data.labels)
    learner = Learner(model, config.train, data.words.mask, [settings for _, settings in stages(config)])
    check_stages(config, learner)
    learner.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if model.abstract is not None:
        model.abstract.checkpointing = config.train.checkpointing
        model.abstract.use_kernels(config.train.kernels)
    return learner


def _load_state(learner: Learner, state: TrainerState, out: Path) -> None:
    """Load the weights and integer units of a checkpoint."""
    try:
        learner.load_state_dict(state["model"])
    except RuntimeError as error:  # layers of another version have other shapes
        raise DataError(
            f"cannot resume from {out / TRAINER}", shorten(error), "train again in another folder"
        ) from error
    if learner.model.abstract is not None and state["integers"]:
        learner.model.abstract.use_integers(Integers.loads(state["integers"]))


def _use_neurons(model: AshNet, abstract: AbstractConfig) -> None:
    """Give the model the neurons of ``abstract``, if it has others; weights come from a file."""
    if model.config.abstract != abstract:
        model.use_neurons(abstract)


def _load_start(model: AshNet, config: RunConfig) -> None:
    """Load the weights of the run ``train.start``, and take its neurons.

    What the run lacks keeps its fresh weights: words, the multimodal transformer, heads of tasks.
    Positions of words begin at zero, so a transformer without them computes the same with them.
    """
    start = load_run(config.train.start)
    what, do = f"cannot start from {start.path}", "keep [model] and [data] as they are there"
    theirs, ours = start.config.model, config.model
    if not theirs.multimodal.layers:
        theirs = replace(theirs, multimodal=ours.multimodal)
    elif ours.multimodal.word_order:
        theirs = replace(theirs, multimodal=replace(theirs.multimodal, word_order=True))
    if unlike := differences(asdict(without_neurons(theirs)), asdict(without_neurons(ours)), "model"):
        said = "; ".join(f"{name} is {there!r} there and {here!r} here" for name, (there, here) in unlike.items())
        words = " ".join(f"--set {quote(f'{name}={json.dumps(there)}')}" for name, (there, _) in unlike.items())
        raise ConfigError(what, f"its model differs from that of this run: {said}", f"train it with {words}")
    _use_neurons(model, start.config.model.abstract)
    fresh = model.state_dict()
    weights = {name: value for name, value in fresh.items() if name.split(".")[0] in MULTIMODAL}
    weights |= start.model.state_dict()
    for name in PER_WORD & weights.keys():
        weights[name] = torch.cat([weights[name], fresh[name][len(weights[name]) :]])
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:  # other image or text sizes, or another number of answers
        raise ConfigError(what, shorten(error), do) from error


def _choose_integers(model: AshNet, choose: ChooseIntegers, pairs: Sequence[Pair]) -> None:
    """Choose the integer units anew, from the model in floating point."""
    if model.abstract is not None:
        before = model.abstract.integers
        model.abstract.use_integers(None)
        model.abstract.use_integers(choose(model, before, pairs))


def _compile(model: AshNet) -> None:
    model.concrete.compile()
    # Training calls the text encoder's methods, not the module, so the method is compiled.
    model.text.features = torch.compile(model.text.features)  # type: ignore[method-assign]


def _train_stages(
    config: RunConfig,
    data: TrainingData,
    checkpoints: Checkpoints,
    state: TrainerState | None,
    choose_integers: ChooseIntegers | None,
    on_progress: OnProgress,
) -> Validation | None:
    """Train every epoch of the schedule that ``checkpoints`` does not hold yet; return the last
    validation, ``None`` if there was nothing to train.
    """
    learner, processes = checkpoints.learner, checkpoints.processes
    model = learner.model
    total = sum(settings.epochs for _, settings in stages(config))
    first = 0
    validation = None
    for number, (stage, settings) in enumerate(stages(config)):
        finished = len(checkpoints.epochs) - first
        first += settings.epochs
        if finished >= settings.epochs:
            continue
        resumed = state if state is not None and state["stage"] == number else None
        teacher = _teacher(settings, config, data, checkpoints, resumed) if stage.task == "retrieval" else None
        checkpoints.teacher = teacher.digest if teacher is not None else ""
        hand_over(model, encoder_of(config, stage))
        if choose_integers and model.abstract is not None and model.abstract.integers is None:
            _choose_integers(model, choose_integers, data.splits.train)
        batches = data.batches(stage, settings, model)

        def on_batch(batch: int, loss: float, count: int = len(batches)) -> None:
            on_progress(Progress(len(checkpoints.epochs) + 1, total, batch, count, loss))

        with only_training(learner, stage.parts):
            training = StageTraining(number, stage, settings, learner, batches, processes, checkpoints, teacher)
            if resumed is not None:
                training.restore(resumed)
            state = None
            for epoch in range(finished, settings.epochs):
                metrics = training.train_epoch(epoch, on_batch)
                if choose_integers:
                    _choose_integers(model, choose_integers, data.splits.train)
                with training.averaged(last=epoch + 1 == settings.epochs), training.unsharded():
                    validation = data.validate(model, stage.task)
                metrics = replace(metrics, stage=stage.name if config.schedule else "", validation=validation.metrics)
                checkpoints.epochs.append(metrics)
                checkpoints.save(training.state())
                on_progress(Progress(metrics.epoch, total, len(batches), len(batches), metrics.loss, metrics))
    return validation


def _teacher(
    settings: TrainConfig, config: RunConfig, data: TrainingData, checkpoints: Checkpoints, resumed: TrainerState | None
) -> Teacher | None:
    """Return the teacher of a stage, before the hand-over to the stage's neurons.

    A copy of the network that the stage starts from is kept in the run's folder, for ``resumed``.
    """
    model, out = checkpoints.learner.model, checkpoints.out
    if not settings.teacher:
        return None
    if settings.teacher == START:
        if resumed is not None:
            return load_teacher(out, model, config, data.words, data.labels)
        teacher = copy_of(model, config, data.words, data.labels)
        if checkpoints.processes.rank == 0:
            save_teacher(teacher, out)
        checkpoints.processes.barrier()
        return teacher
    teacher = run_as_teacher(settings.teacher, model, config, data.words)
    if resumed is not None and resumed.get("teacher", teacher.digest) != teacher.digest:
        raise DataError(
            f"cannot resume {out}",
            f"its teacher, {settings.teacher}, has other weights than at the checkpoint",
            "restore them, or name another --out",
        )
    return teacher
