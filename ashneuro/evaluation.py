"""Evaluations of one network on one split, retrieval or a task, and the files that hold them.

A network is identified by its ``kind`` (``model.abstract.kind``) and, where several runs of one
kind stand side by side, by a ``label``; a row by its `Condition` and its `SpikeSource`. The files
(schemas ``ashneuro.evaluation/1`` and ``ashneuro.task-evaluation/1``) carry one name in their
place. It is composed and parsed here; what a reader is shown comes from `ashneuro.reporting.words`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from annotated_types import MaxLen

from ashneuro.display import Plotted
from ashneuro.errors import DataError
from ashneuro.files import read_json, reason_of, write_text
from ashneuro.schemas import Format, remedy_of

if TYPE_CHECKING:
    from ashneuro.config import AbstractKind, Task

Metrics = Mapping[str, float]
"""``R@1``, ``R@5``, ``R@10`` (fractions) and ``median_rank`` (from 1)."""


class Condition(Enum):
    """The trained network, the network with a branch zeroed at test time, or a baseline.

    `A_ALONE`: read-outs of the abstract encoder are compared with texts through the STUA head,
    without C and without the fusion.

    The value is the word in files.
    """

    WHOLE = ""
    A_ZEROED = "A zeroed"
    C_ZEROED = "C zeroed"
    A_ALONE = "A alone, STUA head"
    V_ZEROED = "text alone"
    MOST_FREQUENT = "most frequent answer"
    CHANCE = "chance"


class SpikeSource(Enum):
    """Simulator that computed the spikes; `NONE` for a network without spikes.

    `ANN_INTEGERS`: no spikes either; the abstract encoder is an ANN in the integers that are
    priced.

    The value is the word in files.
    """

    TORCH = "torch"
    EMULATOR = "integer emulator"
    LAVA_FLOAT = "Lava, float"
    LAVA_INTEGER = "Lava, fixed"
    NONE = "none"
    ANN_INTEGERS = "none, in integers"

    @property
    def is_integer(self) -> bool:
        """True where the abstract encoder computed the integers that are priced."""
        return self in (SpikeSource.EMULATOR, SpikeSource.LAVA_INTEGER, SpikeSource.ANN_INTEGERS)


# The words of files. Shown words may change, these may not.
_NETWORKS: dict[AbstractKind, str] = {
    "spiking": "hybrid",
    "none": "no abstract encoder",
    "relu": "ReLU twin",
    "quantised-relu": "quantised-ReLU twin",
}
_MEASURES: dict[Task, str] = {"vqa": "VQA accuracy", "entailment": "accuracy", "nlvr2": "accuracy"}


@dataclass(frozen=True)
class RetrievalRow:
    """Retrieval metrics in both directions, under one condition."""

    condition: Condition
    spikes_from: SpikeSource
    image_to_text: Metrics
    text_to_image: Metrics

    @property
    def directions(self) -> tuple[Metrics, Metrics]:
        """Metrics image → text and text → image."""
        return self.image_to_text, self.text_to_image


@dataclass(frozen=True)
class FusionRatio:
    """The learned r in ``V = C + r ⊙ A``: mean, extremes and the value of each channel."""

    mean: float
    min: float
    max: float
    channels: tuple[float, ...]


@dataclass(frozen=True)
class RetrievalHit:
    """One retrieved item.

    Args:
        key: key of the image–text pair.
        text: the retrieved text, or the first caption of the retrieved image.
        score: cosine similarity with the query.
        correct: the item is of the query's concept.
    """

    key: str
    text: str
    score: float
    correct: bool


@dataclass(frozen=True)
class RetrievalExample:
    """One query and its five best hits, best first.

    Args:
        kind: what the query is; hits of an image are texts, and the other way round.
        key: key of the query's pair.
        text: the query, or the first caption of the query image.
    """

    kind: Literal["image", "text"]
    key: str
    text: str
    hits: tuple[RetrievalHit, ...]


class _EvaluationFile(Plotted):
    """An evaluation that is written to a JSON file and read back."""

    def to_json(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        raise NotImplementedError

    def save(self, path: Path) -> None:
        """Write the JSON form to ``path``, whole or not at all."""
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"
        write_text(path, text)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file that `save` wrote.

        Raises:
            DataError: it is no JSON, or not of this schema.
        """
        return cls.from_json(_read(path))


@dataclass(frozen=True, repr=False)
class Evaluation(_EvaluationFile):
    """Retrieval metrics of one network on one split.

    Args:
        kind: ``model.abstract.kind``.
        split: name of the data set and its part.
        images, texts, concepts: sizes of the pool; every query ranks all of it.
        rows: the whole network first, then with A zeroed and with C zeroed in the fusion, and the
            STUA head alone where it was trained.
        chance: expectation for a random ranking.
        ratio: the learned fusion ratio; ``None`` without an abstract encoder.
        firing_rate: spikes per neuron and step of each observed spiking layer, by name.
        examples: a dozen queries, evenly spaced over the pool.
        weights_sha256: hash of the evaluated weights; empty where it is not known.
        label: name of the run, where it stands beside others of its kind.
        shared_texts: number of texts that images of several concepts have; a hit for each of them.
    """

    kind: AbstractKind
    split: str
    images: int
    texts: int
    concepts: int
    rows: tuple[RetrievalRow, ...]
    chance: RetrievalRow
    ratio: FusionRatio | None
    firing_rate: Mapping[str, float]
    examples: tuple[RetrievalExample, ...]
    weights_sha256: str = ""
    label: str = ""
    shared_texts: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with the schema of `RETRIEVAL`."""
        return {
            "schema": RETRIEVAL.schema,
            "kind": self.kind,
            "split": self.split,
            "images": self.images,
            "texts": self.texts,
            "concepts": self.concepts,
            **({"shared_texts": self.shared_texts} if self.shared_texts else {}),
            "rows": [
                {
                    "name": _name(self.kind, self.label, row.condition),
                    "spikes_from": row.spikes_from.value,
                    "image_to_text": dict(row.image_to_text),
                    "text_to_image": dict(row.text_to_image),
                }
                for row in self.rows
            ],
            "chance": {
                "image_to_text": dict(self.chance.image_to_text),
                "text_to_image": dict(self.chance.text_to_image),
            },
            "ratio": {**asdict(self.ratio), "channels": list(self.ratio.channels)} if self.ratio else {},
            "firing_rate": dict(self.firing_rate),
            "examples": [asdict(example) for example in self.examples],
            "weights_sha256": self.weights_sha256,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the evaluation that `to_json` wrote.

        Raises:
            DataError: the schema, the kind, or the name of a row is unknown.
        """
        file: RetrievalFile = _parsed(values, RETRIEVAL)
        kind = _kind(values)
        label, identities = _identities(kind, values["rows"])
        return cls(
            kind=kind,
            split=values["split"],
            images=values["images"],
            texts=values["texts"],
            concepts=values["concepts"],
            rows=tuple(
                RetrievalRow(condition, source, row["image_to_text"], row["text_to_image"])
                for (condition, source), row in zip(identities, values["rows"], strict=True)
            ),
            chance=RetrievalRow(Condition.CHANCE, SpikeSource.NONE, **values["chance"]),
            ratio=file.ratio if isinstance(file.ratio, FusionRatio) else None,
            firing_rate=values["firing_rate"],
            examples=file.examples,
            weights_sha256=values.get("weights_sha256", ""),
            label=label,
            shared_texts=values.get("shared_texts", 0),
        )


@dataclass(frozen=True)
class TaskRow:
    """Answers under one condition, scored.

    Args:
        accuracy: mean score over the questions; for VQA the soft score.
        by_kind: mean score by type of question.
        consistency: share of groups with every question right; ``None`` without groups.
    """

    condition: Condition
    spikes_from: SpikeSource
    accuracy: float
    by_kind: Mapping[str, float]
    consistency: float | None


@dataclass(frozen=True)
class AnsweredQuestion:
    """One question, the network's answer and the right ones.

    Args:
        images: keys of the pictures.
        said: the network's answer.
        answers: answers of the annotators.
        score: 0 to 1.
    """

    images: tuple[str, ...]
    text: str
    said: str
    answers: tuple[str, ...]
    score: float


@dataclass(frozen=True, repr=False)
class TaskEvaluation(_EvaluationFile):
    """Accuracy of one network at one task, on one split.

    Args:
        kind: ``model.abstract.kind``.
        split: name of the data set and its part.
        questions, pictures: number of answered questions, and of the pictures they are about.
        rows: the whole network first, then with A, with C and with all of V zeroed (text alone),
            then the most frequent answer of training questions of the same type.
        answerable: share of the questions with an answer that the head knows, an upper bound of
            the accuracy.
        firing_rate: spikes per neuron and step of each observed spiking layer, by name.
        examples: a dozen questions, evenly spaced.
        weights_sha256: hash of the evaluated weights; empty where it is not known.
        label: name of the run, where it stands beside others of its kind.
    """

    task: Task
    kind: AbstractKind
    split: str
    questions: int
    pictures: int
    rows: tuple[TaskRow, ...]
    answerable: float
    firing_rate: Mapping[str, float]
    examples: tuple[AnsweredQuestion, ...]
    weights_sha256: str = ""
    label: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with the schema of `TASK`."""
        return {
            "schema": TASK.schema,
            "task": self.task,
            "kind": self.kind,
            "split": self.split,
            "questions": self.questions,
            "pictures": self.pictures,
            "measure": _MEASURES[self.task],
            "rows": [
                {
                    "name": _name(self.kind, self.label, row.condition),
                    "spikes_from": row.spikes_from.value,
                    "accuracy": row.accuracy,
                    "by_kind": dict(row.by_kind),
                    "consistency": row.consistency,
                }
                for row in self.rows
            ],
            "answerable": self.answerable,
            "firing_rate": dict(self.firing_rate),
            "examples": [asdict(example) for example in self.examples],
            "weights_sha256": self.weights_sha256,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the evaluation that `to_json` wrote.

        Raises:
            DataError: the schema, the kind, the task, or the name of a row is unknown.
        """
        file: TaskFile = _parsed(values, TASK)
        kind, task = _kind(values), values["task"]
        if task not in _MEASURES:
            raise _unreadable("task", task, _MEASURES)
        label, identities = _identities(kind, values["rows"])
        return cls(
            task=task,
            kind=kind,
            split=values["split"],
            questions=values["questions"],
            pictures=values["pictures"],
            rows=tuple(
                TaskRow(condition, source, row["accuracy"], row["by_kind"], row["consistency"])
                for (condition, source), row in zip(identities, values["rows"], strict=True)
            ),
            answerable=values["answerable"],
            firing_rate=values["firing_rate"],
            examples=file.examples,
            weights_sha256=values.get("weights_sha256", ""),
            label=label,
        )


@dataclass(frozen=True)
class Directions:
    """Metrics in both directions, as in a file."""

    image_to_text: dict[str, float]
    text_to_image: dict[str, float]


@dataclass(frozen=True)
class RetrievalLine(Directions):
    """A row of an evaluation of retrieval, as in a file."""

    name: str
    spikes_from: str


@dataclass(frozen=True)
class RetrievalFile:
    """``evaluation.json``: `Evaluation`, with the names of its rows.

    Args:
        ratio: empty without an abstract encoder.
    """

    kind: str
    split: str
    images: int
    texts: int
    concepts: int
    rows: tuple[RetrievalLine, ...]
    chance: Directions
    ratio: FusionRatio | Annotated[dict[str, float], MaxLen(0)]
    firing_rate: dict[str, float]
    examples: tuple[RetrievalExample, ...]
    weights_sha256: str = ""
    shared_texts: int = 0


@dataclass(frozen=True)
class TaskLine:
    """A row of an evaluation of a task, as in a file."""

    name: str
    spikes_from: str
    accuracy: float
    by_kind: dict[str, float]
    consistency: float | None


@dataclass(frozen=True)
class TaskFile:
    """``vqa.json`` and so on: `TaskEvaluation`, with the names of its rows."""

    task: str
    kind: str
    split: str
    questions: int
    pictures: int
    rows: tuple[TaskLine, ...]
    answerable: float
    firing_rate: dict[str, float]
    examples: tuple[AnsweredQuestion, ...]
    weights_sha256: str = ""


RETRIEVAL = Format("ashneuro.evaluation", RetrievalFile)
TASK = Format("ashneuro.task-evaluation", TaskFile)


def load_evaluation(path: Path) -> Evaluation | TaskEvaluation:
    """Read an evaluation file of either schema.

    Raises:
        DataError: it is no JSON, or of another schema.
    """
    values = _read(path)
    return (TaskEvaluation if str(values.get("schema")).startswith(f"{TASK.name}/") else Evaluation).from_json(values)


def _name(kind: AbstractKind, label: str, condition: Condition) -> str:
    """Return the name of a row in files, e.g. ``"hybrid, A zeroed"``."""
    network = "" if condition is Condition.MOST_FREQUENT else label or _NETWORKS[kind]
    return ", ".join(part for part in (network, condition.value) if part)


def _identities(
    kind: AbstractKind, rows: Sequence[Mapping[str, Any]]
) -> tuple[str, list[tuple[Condition, SpikeSource]]]:
    """Return the label, and the condition and source of spikes of each row."""
    # The first row is the whole network: its name is the label, unless it is the word for the kind.
    whole: str = rows[0]["name"] if rows else _NETWORKS[kind]
    found = []
    for row in rows:
        word = row["name"].removeprefix(whole).removeprefix(", ")
        if word not in {condition.value for condition in Condition}:
            raise _unreadable("row", row["name"], [_name(kind, "", condition) for condition in Condition])
        if row["spikes_from"] not in {source.value for source in SpikeSource}:
            raise _unreadable("source of spikes", row["spikes_from"], [source.value for source in SpikeSource])
        found.append((Condition(word), SpikeSource(row["spikes_from"])))
    return "" if whole == _NETWORKS[kind] else whole, found


def _kind(values: Mapping[str, Any]) -> AbstractKind:
    kind: AbstractKind = values["kind"]
    if kind not in _NETWORKS:
        raise _unreadable("kind", kind, _NETWORKS)
    return kind


def _parsed(values: Mapping[str, Any], file: Format) -> Any:
    """Return values as those of a file of a format; a `DataError` if they are not."""
    try:
        return file.parse(values)
    except ValueError as error:
        do = remedy_of(error, "run `ashneuro evaluate` again")
        raise DataError("this evaluation cannot be read", str(error), do) from error


def _unreadable(field: str, value: object, known: Sequence[str] | Mapping[Any, Any]) -> DataError:
    return DataError(
        f"this evaluation has the {field} {value!r}",
        f"known are {', '.join(map(repr, known))}",
        "run `ashneuro evaluate` again",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
        if not isinstance(values, dict):
            raise ValueError("it is not an object of JSON")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}", reason_of(error), "run `ashneuro evaluate` again") from error
    return values
