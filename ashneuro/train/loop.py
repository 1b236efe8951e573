"""Training: batches, objectives, one optimiser, a checkpoint after every epoch."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ashneuro.config import RunConfig, TrainConfig, load_config
from ashneuro.data.batches import Batches, texts_of
from ashneuro.data.pairs import Batch
from ashneuro.data.sources import load_splits
from ashneuro.data.tokens import Vocabulary, build_vocabulary
from ashneuro.errors import ConfigError, DataError
from ashneuro.model.network import AshNet
from ashneuro.spiking.integers import Integers
from ashneuro.train import objectives
from ashneuro.train.checkpoint import CONFIG, TRAINER, Run, build_model, load_run, replace_file, save_run
from ashneuro.train.evaluate import Pool, recalls

# Inverse temperature of L_CL: 1/0.1, the customary value for two views.
VIEW_SCALE = 10.0
MAX_SCALE = 100.0
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Progress:
    """Where training is: after ``batch`` of ``batches`` in ``epoch`` of ``epochs``, both counted from 1.

    Args:
        row: the epoch's row of metrics, once the epoch is finished.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    row: Mapping[str, Any] | None = None


# Chooses the integer units of a model's spiking encoder; None or the units that it has learnt with so far come in.
ChooseIntegers = Callable[[AshNet, Integers | None], Integers]


def train(
    config: RunConfig,
    out: str | Path,
    *,
    resume: bool = False,
    choose_integers: ChooseIntegers | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Run:
    """Return the trained run, written to the folder ``out``.

    After every epoch the folder holds a whole checkpoint, so training can be stopped at any time and taken up again with
    ``resume``; the result is then the same, bit for bit on a CPU, as without the interruption. Ctrl-C waits for files that
    are being written.

    Args:
        choose_integers: with ``train.quantise_aware``: called before the first epoch and after each.

    Raises:
        ConfigError: ``out`` holds a run and ``resume`` is not set; or a resumed run has other settings; or there is no GPU
            and ``train.device`` asks for one; or ``train.start`` is a run of another model.
        DataError: the data, or the checkpoint to resume from, cannot be read.
    """
    out = Path(out)
    device = pick_device(config.train.device)
    if config.train.quantise_aware and not (config.train.start and choose_integers):
        raise ConfigError("train.quantise_aware", "it fine-tunes a trained run", "ashneuro train RUN --quantise-aware")
    state = _open(out, config, resume)
    splits = load_splits(config.data)
    vocabulary = build_vocabulary(text for pair in splits.train for text in texts_of(pair, config.data.captions))
    spiking = config.model.abstract.kind != "none"
    batches = Batches(splits.train, vocabulary, config.data, config.train, views=spiking and config.train.contrast > 0)
    validation = Pool(splits.validation, vocabulary, config.data) if splits.validation else None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.train.seed)
        model = build_model(config, vocabulary)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = _optimiser(model, config.train)
        rows: list[dict[str, Any]] = []
        if state is not None:
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
            rows = json.loads(state["rows"])
            if model.abstract is not None and state["integers"]:
                model.abstract.use_integers(Integers.loads(state["integers"]))
        elif config.train.start:
            _start_from(config, model, vocabulary)
        if state is None:
            _choose(model, config.train, choose_integers)
        for epoch in range(len(rows), config.train.epochs):
            # Dropout draws from torch's own generator; seeding it per epoch makes a resumed epoch the same.
            torch.manual_seed(config.train.seed * 1_000_003 + epoch)
            row = _run_epoch(model, optimiser, batches, config, epoch, on_progress)
            _choose(model, config.train, choose_integers)
            if validation:
                row |= _validate(model, validation)
            rows.append(row)
            with _uninterrupted():
                replace_file(out / TRAINER, lambda file: torch.save(_state(model, optimiser, rows), file))
                save_run(out, config, vocabulary, model, rows)
            on_progress(Progress(epoch + 1, config.train.epochs, len(batches), len(batches), row["loss"], row))
    final = {"final": True, "epochs": len(rows), "seconds": round(sum(row["seconds"] for row in rows), 1)}
    with _uninterrupted():
        save_run(out, config, vocabulary, model, [*rows, final])
    return Run(out, config, vocabulary, model.eval())


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


def losses(model: AshNet, batch: Batch, config: TrainConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the weighted objectives by name (scalars), and the mean firing rate of every spiking layer by its name (scalars)."""
    encoded = model.encode(batch.images)
    texts = model.embed_texts(batch.tokens)
    scale = model.log_scale.exp().clamp(max=MAX_SCALE)
    terms = {"itc": objectives.itc(encoded.embedding, texts, batch.concepts, scale, config.label_smoothing)}
    if model.abstract is None or encoded.current is None:
        return terms, {}
    if batch.views is not None:
        first, second = (F.normalize(model.view(x.mean((2, 3))), dim=-1) for x in (encoded.current, model.currents(batch.views)))
        terms["contrast"] = config.contrast * objectives.contrast(first, second, batch.concepts, VIEW_SCALE, config.beta)
    if config.stua:
        abstract = F.normalize(model.stua(encoded.abstract.flatten(1)), dim=-1)
        terms["stua"] = config.stua * objectives.stua(abstract, texts, batch.concepts, scale.detach())
    if model.config.abstract.kind != "spiking":
        return terms, {}
    if config.firing_rate_weight:
        penalty = objectives.firing_rate_penalty(encoded.layers.values(), config.firing_rate)
        terms["firing"] = config.firing_rate_weight * penalty
    return terms, {name: spikes.detach().mean() for name, spikes in encoded.layers.items()}


def backward(model: AshNet, terms: Mapping[str, Tensor], config: TrainConfig) -> None:
    """Add the gradients of all objectives to the parameters.

    By default L_STUA reaches only what lies behind C; the other objectives go everywhere. Both share the forward pass.
    """
    others = sum(term for name, term in terms.items() if name != "stua")
    if "stua" in terms and config.stua_stops_at_concrete:
        torch.autograd.backward(terms["stua"], inputs=model.abstract_parameters(), retain_graph=True)
    elif "stua" in terms:
        others = others + terms["stua"]
    assert isinstance(others, Tensor)
    torch.autograd.backward(others)


def _run_epoch(
    model: AshNet,
    optimiser: torch.optim.Optimizer,
    batches: Batches,
    config: RunConfig,
    epoch: int,
    on_progress: Callable[[Progress], None],
) -> dict[str, Any]:
    """Return the epoch's row: means of every loss term and firing rate, the learning rate and the time."""
    model.train()
    device = model.log_scale.device
    started, steps = time.perf_counter(), config.train.epochs * len(batches)
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=device))
    rate = 0.0
    for number, batch in enumerate(batches.epoch(epoch)):
        rate = learning_rate(epoch * len(batches) + number, steps, config.train)
        for group in optimiser.param_groups:
            group["lr"] = rate
        terms, firing = losses(model, _to(batch, device), config.train)
        optimiser.zero_grad()
        backward(model, terms, config.train)
        nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        optimiser.step()
        total = sum(term.detach() for term in terms.values())
        for name, value in {"loss": total, **{f"loss_{name}": term.detach() for name, term in terms.items()}, **firing}.items():
            sums[name] += value
        on_progress(Progress(epoch + 1, config.train.epochs, number + 1, len(batches), float(total)))
    means = {name: value.item() / len(batches) for name, value in sums.items()}
    row: dict[str, Any] = {"epoch": epoch + 1, **{name: value for name, value in means.items() if name.startswith("loss")}}
    if rates := {name: value for name, value in means.items() if not name.startswith("loss")}:
        row |= {"firing_rate": sum(rates.values()) / len(rates), **{f"firing_rate.{name}": value for name, value in rates.items()}}
    return row | {"learning_rate": rate, "seconds": round(time.perf_counter() - started, 2)}


def _start_from(config: RunConfig, model: AshNet, vocabulary: Vocabulary) -> None:
    """Give ``model`` the weights of the run that ``train.start`` names."""
    start = load_run(config.train.start)
    if start.config.model != config.model or start.vocabulary != vocabulary:
        other = "model" if start.config.model != config.model else "words"
        raise ConfigError(
            f"cannot start from {start.path}", f"its {other} differ from those of this run", "keep [model] and [data] as they are there"
        )
    model.load_state_dict(start.model.state_dict())


def _choose(model: AshNet, config: TrainConfig, choose: ChooseIntegers | None) -> None:
    if config.quantise_aware and choose is not None and model.abstract is not None:
        before = model.abstract.integers
        model.abstract.use_integers(None)
        model.abstract.use_integers(choose(model, before))


def _validate(model: AshNet, pool: Pool) -> dict[str, float]:
    image_to_text, text_to_image = recalls(model, pool)
    return {"validation_R@1_image_to_text": image_to_text["R@1"], "validation_R@1_text_to_image": text_to_image["R@1"]}


def _optimiser(model: AshNet, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW with decay on matrices and kernels alone; vectors (biases, norms, gains, ratios, word weights) are left alone."""
    parameters = list(model.parameters())
    matrices = [parameter for parameter in parameters if parameter.numel() > max((1, *parameter.shape))]
    vectors = [parameter for parameter in parameters if parameter.numel() <= max((1, *parameter.shape))]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def _to(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    views = None if batch.views is None else batch.views.to(device, non_blocking=True)
    images, tokens, concepts = (part.to(device, non_blocking=True) for part in (batch.images, batch.tokens, batch.concepts))
    return Batch(images, views, tokens, concepts, batch.keys)


def _state(model: AshNet, optimiser: torch.optim.Optimizer, rows: list[dict[str, Any]]) -> dict[str, Any]:
    integers = model.abstract and model.abstract.integers
    return {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "rows": json.dumps(rows),
        "integers": integers.dumps() if integers else "",
    }


def _open(out: Path, config: RunConfig, resume: bool) -> dict[str, Any] | None:
    """Make the folder, and return the state to resume from, if there is one."""
    if not resume and (out / CONFIG).exists():
        raise ConfigError(
            f"{out} already holds a run", "a run is never overwritten", f"--resume, or another folder with --out, or delete {out}"
        )
    if not (out / CONFIG).exists() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty", "a run gets a folder of its own", "name another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {out}", error.strerror or str(error), "name another folder with --out") from error
    if not (out / CONFIG).exists():
        return None
    before = load_config(out / CONFIG)
    if different := list(_differences(dataclasses.asdict(before), dataclasses.asdict(config))):
        raise ConfigError(f"cannot resume {out}", f"its settings were others: {'; '.join(different)}", f"resume with {out / CONFIG}")
    try:
        state: dict[str, Any] = torch.load(out / TRAINER, weights_only=True, map_location="cpu")
    except Exception as error:  # torch.load raises whatever a damaged file leads to
        raise DataError(f"cannot resume from {out / TRAINER}", str(error).splitlines()[0], "train again in another folder") from error
    return state


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in now.items():
        if isinstance(value, dict):
            yield from _differences(before[name], value, f"{prefix}{name}.")
        elif value != before[name] and prefix + name != "train.device":
            yield f"{prefix}{name} was {before[name]!r}, now {value!r}"


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C until the block is done."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    pressed = False

    def remember(signal_number: int, frame: object) -> None:
        nonlocal pressed
        pressed = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
