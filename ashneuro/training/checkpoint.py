"""Run folders: settings, weights, vocabulary, metrics, model card, and the trainer's state."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ashneuro import schemas
from ashneuro.config import (
    MIN_WORDS,
    AbstractConfig,
    RunConfig,
    Task,
    dump_config,
    encoder_of,
    load_config,
    parse_config,
    stages,
    trained_tasks,
    with_encoder,
)
from ashneuro.data import sources
from ashneuro.data.pairs import Questions, Splits
from ashneuro.data.pieces import choose_words
from ashneuro.data.tasks import load_questions
from ashneuro.data.tokens import TOWER, PretrainedWords, Words, load_words
from ashneuro.display import Brief
from ashneuro.errors import ConfigError, DataError
from ashneuro.exchange import METRICS, EpochMetrics, TrainingMetrics
from ashneuro.files import parse_json, read_text, reason_of, replace_file, require_regular, write_text
from ashneuro.model.network import AshNet
from ashneuro.schemas import remedy_of
from ashneuro.spiking.integers import Integers
from ashneuro.spiking.kernels.dispatch import find_device
from ashneuro.training.provenance import CARD, WEIGHTS, weights_sha256

CONFIG = "config.json"
INTEGERS = "integers.json"
VOCABULARY = "vocabulary.json"
LABELS = "labels.json"
TRAINER = "trainer.pt"

Labels = Mapping[str, tuple[str, ...]]
"""Answers or labels in the order of the head's scores, by task."""


@dataclass(frozen=True, eq=False, repr=False)
class Run(Brief):
    """A trained model, in eval mode, with its settings, vocabulary and labels.

    Args:
        given: other pairs than those that its settings name.
        unanswered: after training, the tasks whose test questions have no answers.
    """

    path: Path
    config: RunConfig
    vocabulary: Words
    model: AshNet
    labels: Labels = field(default_factory=dict)
    given: Splits | None = None
    unanswered: tuple[str, ...] = ()

    @cached_property
    def splits(self) -> Splits:
        """The pairs of its data, loaded once.

        Raises:
            DataError: they cannot be read.
        """
        return self.given or sources.load_splits(self.config.data)

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of its weights file, in hexadecimal digits."""
        return weights_sha256(self.path)

    @property
    def left_out(self) -> tuple[str, ...] | None:
        """Lines about what ``data.skip_broken`` left out of the data that were read so far;
        ``None`` if none were read.
        """
        read: list[Splits | Questions] = [
            *([self.splits] if "splits" in self.__dict__ else []),
            *self._questions.values(),
        ]
        return tuple(dict.fromkeys(line for data in read for line in data.left_out)) if read else None

    def questions(self, task: Task) -> Questions:
        """Return the questions of a task, loaded once.

        Raises:
            DataError: they cannot be read.
        """
        if task not in self._questions:
            # Questions from files need no pairs; derived ones are about the run's own.
            splits = None if getattr(self.config.tasks, task).format else self.splits
            self._questions[task] = load_questions(task, self.config.tasks, self.config.data, splits)
        return self._questions[task]

    @cached_property
    def _questions(self) -> dict[Task, Questions]:
        return {}


def build_words(config: RunConfig, texts: Iterable[str]) -> Words:
    """Return words or pieces of the training texts, or the tokenizer of a pretrained tower."""
    if config.model.text.tower:
        return PretrainedWords(config.model.text.tower, config.model.text.weights)
    return choose_words(config.data.tokeniser, list(texts))


def build_model(config: RunConfig, vocabulary: Words, labels: Labels | None = None, *, load: bool = True) -> AshNet:
    """Return the model of ``config`` with fresh weights.

    Args:
        load: load the weights of pretrained parts.
    """
    counts = {task: len(known) for task, known in (labels or {}).items()}
    words = config.data.max_words or MIN_WORDS
    try:
        return AshNet(config.model, len(vocabulary), config.data.image_size, words, counts, load)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        why = "its layers need more memory than there is here"
        raise ConfigError("the model of these settings cannot be made", why, "smaller sizes in [model]") from error


def save_run(
    path: Path,
    config: RunConfig,
    vocabulary: Words,
    model: AshNet,
    metrics: TrainingMetrics,
    labels: Labels | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the files of a run, each replaced at once.

    Args:
        weights: complete weights, for a model that holds only its shard of them.
    """
    path.mkdir(parents=True, exist_ok=True)
    settings = json.dumps(schemas.CONFIG.stamped(dump_config(config)), indent=1) + "\n"
    write_text(path / CONFIG, settings)
    replace_file(path / VOCABULARY, vocabulary.save)
    whole = {name: value.detach().cpu().contiguous() for name, value in (weights or model.state_dict()).items()}
    # In a stage with other neurons the weights do not fit [model.abstract].
    other = model.abstract is not None and model.config.abstract != config.model.abstract
    metadata = encoder_metadata(model.config.abstract) if other else {"format": "pt"}
    replace_file(path / WEIGHTS, lambda file: file.write_bytes(save(whole, metadata)))
    if model.abstract is not None and (integers := model.abstract.integers) is not None:
        write_text(path / INTEGERS, integers.dumps())
    if labels:
        write_text(path / LABELS, json.dumps(schemas.LABELS.stamped(labels), ensure_ascii=False, indent=1))
    if model.text.tower is not None and model.text.tower.kind == "transformers":
        model.text.tower.model.config.save_pretrained(path / TOWER)
    write_text(path / METRICS, metrics.to_jsonl())
    write_text(path / CARD, _card(path.name, config, model, metrics.epochs))


def encoder_metadata(abstract: AbstractConfig) -> dict[str, str]:
    """Return the metadata of a weights file that names the abstract encoder's settings."""
    return {"format": "pt", "abstract": json.dumps(asdict(abstract))}


def read_weights(path: Path) -> tuple[dict[str, Tensor], AbstractConfig | None]:
    """Return the weights in a file, and the encoder's settings if its metadata name them.

    Raises:
        OSError, SafetensorError: the file cannot be read.
        ValueError: a weight is not a finite number, or the settings are damaged.
    """
    require_regular(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    require_finite(weights)
    if "abstract" not in metadata:
        return weights, None
    return weights, parse_config({"model": {"abstract": parse_json(metadata["abstract"])}}).model.abstract


def require_finite(weights: Mapping[str, Tensor]) -> None:
    """Raise `ValueError` if a weight is NaN or infinite: whatever it computes would be, too."""
    bad = [name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        more = f", and of {len(bad) - 3} more" if len(bad) > 3 else ""
        raise ValueError(f"values of {', '.join(bad[:3])}{more} are not finite numbers")


def load_run(path: str | Path, device: torch.device | str = "cpu") -> Run:
    """Return the run that `ashneuro train` wrote to ``path``.

    If training stopped in a stage with other neurons than ``[model.abstract]``, the run has these.

    Raises:
        DataError: a file is missing or damaged, or the weights do not fit the settings.
        ConfigError: ``config.json`` is not valid, or the device does not exist.
    """
    path, device = Path(path), find_device(device)
    if not (path / CONFIG).exists():
        raise DataError(f"{path} is not a run", f"it has no {CONFIG}", f"ashneuro train tiny --out {path}")
    config, vocabulary, labels = load_config(path / CONFIG), load_words(path / VOCABULARY), _read_labels(path / LABELS)
    try:
        weights, abstract = read_weights(path / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    if abstract is not None:
        config = with_encoder(config, abstract)
    built = config
    if (path / TOWER).is_dir():
        # The run keeps the tower's architecture; its weights are among the run's own.
        text = replace(config.model.text, weights=str(path / TOWER))
        built = replace(config, model=replace(config.model, text=text))
    model = build_model(built, vocabulary, labels, load=False)
    try:
        model.load_state_dict(weights)
        # Torch does without the counters of normalisations, and begins them at 0.
        if missing := sorted(model.state_dict().keys() - weights.keys()):
            raise ValueError(f"it has no {', '.join(missing[:3])}")
    except (RuntimeError, ValueError) as error:
        raise _unreadable(path, error) from error
    if model.abstract is not None and (path / INTEGERS).exists():
        model.abstract.use_integers(_read_integers(path))
    return Run(path, config, vocabulary, model.to(device).eval(), labels)


def _unreadable(path: Path, error: Exception) -> DataError:
    remedy = f"ashneuro train {path / CONFIG} --out ANOTHER_FOLDER"
    return DataError(f"cannot read {path / WEIGHTS}", shorten(error), remedy)


def shorten(error: Exception) -> str:
    """Return the beginning of torch's error about weights that do not fit; it lists all of them."""
    return textwrap.shorten(reason_of(error), 240, placeholder=" …")


def _read_labels(path: Path) -> Labels:
    if not path.exists():
        return {}
    try:
        return {task: tuple(known) for task, known in schemas.LABELS.load(path).items()}
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read {path}",
            reason_of(error),
            remedy_of(error, f"ashneuro train --resume --out {path.parent}"),
        ) from error


def _read_integers(path: Path) -> Integers:
    try:
        return Integers.loads(read_text(path / INTEGERS))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read {path / INTEGERS}",
            reason_of(error),
            remedy_of(error, f"ashneuro train --resume --out {path}"),
        ) from error


def write_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write the trainer's state.

    Raises:
        OSError: the file cannot be written, e.g. because the disk is full.
    """
    try:
        with file.open("wb") as opened:  # a file that torch opens itself hides the system's error
            torch.save(state, opened)
    except RuntimeError as error:  # torch fails again when it closes its archive
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _card(name: str, config: RunConfig, model: AshNet, epochs: Sequence[EpochMetrics]) -> str:
    data, abstract = config.data, config.model.abstract
    parts = {
        part: sum(weight.numel() for weight in getattr(model, part).parameters())
        for part in ("concrete", "abstract", "text", "multimodal")
        if getattr(model, part, None) is not None
    }
    tasks = dict.fromkeys(
        "image–text retrieval" if stage.task == "retrieval" else stage.task for stage, _ in stages(config)
    )
    questions = {task: getattr(config.tasks, task).format or "derived from the pairs" for task in trained_tasks(config)}
    concrete, text = config.model.concrete, config.model.text
    # For open_clip, a name without ":TAG" is an untrained architecture.
    tower = text.weights if text.tower == "transformers" or ":" in text.weights else ""
    pretrained = [
        weights
        for weights in (config.train.start, concrete.backbone and concrete.weights, text.tower and tower)
        if weights
    ]
    sources = "this data and what it began with" if pretrained else "this data alone"
    styles = f", styles {', '.join(data.styles)}" if data.styles else ""
    total = sum(settings.epochs for _, settings in stages(config))
    spiking = f", {abstract.timesteps} steps of {abstract.dt_s * 1e3:g} ms" if abstract.kind == "spiking" else ""
    kinds = list(dict.fromkeys(encoder_of(config, stage).kind for stage, _ in stages(config)))
    lines = [
        *_front_matter(tasks),
        f"# {name}",
        "",
        f"A hybrid vision–language model for {', '.join(tasks)}, trained with ashneuro.",
        "It is one explicit reading of the abstract of ASH-Nets (Artificial-Spiking Hierarchical Networks), "
        "not a reproduction of that",
        "paper's models or results.",
        "",
        "| | |",
        "|---|---|",
        f"| data | {data.source}, {data.split} split, {data.image_size} px{styles} |",
        *(f"| questions, {task} | {source} |" for task, source in questions.items()),
        *([f"| began with the weights of | {', '.join(pretrained)} |"] if pretrained else []),
        f"| abstract encoder | {abstract.kind}{spiking} |",
        *([f"| trained as | {', then '.join(kinds)} |"] if len(kinds) > 1 else []),
        *(f"| parameters, {part} | {count:,} |" for part, count in parts.items()),
        f"| epochs | {len(epochs)} of {total}, seed {config.train.seed} |",
        *_validation_rows(epochs),
        "",
        "Validation numbers are for choices while training; results come from `ashneuro evaluate`. "
        "The model has learned from",
        f"{sources}: expect nothing of it on other pictures.",
        "",
        f"`{CONFIG}` holds every setting, `{WEIGHTS}` the weights, `{VOCABULARY}` the words, "
        f"`{METRICS}` one row per epoch.",
        "",
    ]
    return "\n".join(lines)


def _front_matter(tasks: Iterable[str]) -> Iterator[str]:
    """Yield the metadata that the Hugging Face hub reads from a card.

    There is no licence: that of the data decides, which whoever shares a run has to name.
    """
    asks = "vqa" in set(tasks)
    yield from ("---", "library_name: ashneuro")
    yield f"pipeline_tag: {'visual-question-answering' if asks else 'feature-extraction'}"
    yield from ("tags:", "- spiking-neural-network", "- neuromorphic", "- vision-language", "- nir", "---", "")


def _validation_rows(epochs: Sequence[EpochMetrics]) -> Iterator[str]:
    """Yield a table row with the newest value of each validation metric.

    A value of an earlier stage names its epoch, because the weights have changed since.
    """
    newest = {name: row for row in epochs for name in row.validation}
    for name, row in newest.items():
        since = "" if row is epochs[-1] else f", after epoch {row.epoch}; not measured since"
        yield f"| validation {name.replace('_', ' ')} | {row.validation[name]:.1%}{since} |"
