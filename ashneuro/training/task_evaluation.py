"""How good a run is at a task: the field's metrics, with each branch left out, and beside what says nothing about pictures."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ashneuro.config import DataConfig
from ashneuro.data.answers import normalise_answer, soft_score
from ashneuro.data.batches import normalise, tensors
from ashneuro.data.pairs import Question, Questions
from ashneuro.data.question_batches import is_known
from ashneuro.data.tasks import pictures_of
from ashneuro.data.tokens import Words
from ashneuro.errors import DataError
from ashneuro.model.network import AshNet, Branch, Encoded
from ashneuro.training.checkpoint import replace_file
from ashneuro.training.evaluate import NAMES, SpikeEncoder, encode_elsewhere

SCHEMA = "ashneuro.task-evaluation/1"
BATCH = 128

MEASURES = {"vqa": "VQA accuracy", "entailment": "accuracy", "nlvr2": "accuracy"}


@dataclass(frozen=True)
class TaskRow:
    """What one network says, or one with a branch left out, or none at all.

    Args:
        accuracy: mean over the questions; for VQA the soft score.
        by_kind: the same per type of question.
        consistency: share of groups of which every question is right; ``None`` where there are no groups.
    """

    name: str
    spikes_from: str
    accuracy: float
    by_kind: Mapping[str, float]
    consistency: float | None


@dataclass(frozen=True)
class Answered:
    """One question with what was said."""

    images: tuple[str, ...]
    text: str
    said: str
    answers: tuple[str, ...]
    score: float


@dataclass(frozen=True)
class TaskEvaluation:
    """What one model answers on one split.

    Args:
        kind: ``model.abstract.kind``.
        measure: what ``accuracy`` is called in the field.
        rows: the model itself first, then with A, with C and with all of V zeroed (the text alone), then the most frequent answer
            of the training part to questions of the same type.
        answerable: share of the questions that have an answer which the head knows: no score can exceed it.
        firing_rate: spikes per neuron and step of each spiking layer that was observed, by name.
        examples: a dozen questions, evenly spaced.
        weights_sha256: of the run that was evaluated; empty: not said.
    """

    task: str
    kind: str
    split: str
    questions: int
    pictures: int
    measure: str
    rows: tuple[TaskRow, ...]
    answerable: float
    firing_rate: Mapping[str, float]
    examples: tuple[Answered, ...]
    weights_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, under the schema ``ashneuro.task-evaluation/1``."""
        return {"schema": SCHEMA, **asdict(self)}

    def save(self, path: Path) -> None:
        """Write the JSON form to ``path``."""
        replace_file(
            path,
            lambda file: file.write_text(
                json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            ),
        )


class TaskPool:
    """Questions made ready for answering.

    Attributes:
        images: (N, 3, S, S) uint8, each picture once; ``rows`` (Q, P) says which ones a question is about.
        tokens: (Q, M) word indices.
    """

    def __init__(
        self, questions: Questions, part: Sequence[Question], labels: Sequence[str], words: Words, data: DataConfig
    ) -> None:
        self.task, self.labels = questions.task, tuple(labels)
        self.questions = tuple(question for question in part if question.answers)
        pictures = pictures_of(questions, self.questions)
        numbers = {picture.key: number for number, picture in enumerate(pictures)}
        self.images = tensors(pictures, data).images
        self.rows = torch.tensor([[numbers[name] for name in question.images] for question in self.questions])
        self.tokens = torch.from_numpy(words.encode([question.text for question in self.questions], data.max_words))


def evaluate_task(
    model: AshNet,
    words: Words,
    questions: Questions,
    part: Sequence[Question],
    labels: Sequence[str],
    data: DataConfig,
    *,
    split: str,
    encoder: SpikeEncoder | None = None,
    spikes_from: str = "torch",
    examples: int = 12,
) -> TaskEvaluation:
    """Return how well ``model`` answers the questions of ``part``; those without answers are left out.

    Args:
        labels: answers or labels in the order of the head's scores.
        split: name of the split, for the record.
        encoder: makes the spikes instead of torch, ``spikes_from`` is its name.

    Raises:
        DataError: no question has an answer, or a picture cannot be read.
    """
    if not any(question.answers for question in part):
        raise DataError(
            f"the split {split!r} has no answered questions", "there is nothing to evaluate", "choose another split"
        )
    pool = TaskPool(questions, part, labels, words, data)
    zeros: dict[str, Branch | None] = {"": None, ", text alone": "both"}
    if model.abstract is not None:
        zeros = {"": None, ", A zeroed": "abstract", ", C zeroed": "concrete", ", text alone": "both"}
    said, firing = answer(model, pool, tuple(zeros.values()), encoder)
    spiking = model.config.abstract.kind == "spiking"
    source = spikes_from if spiking else "none"
    rows = [
        _row(NAMES[model.config.abstract.kind] + suffix, source, pool, answers)
        for suffix, answers in zip(zeros, said, strict=True)
    ]
    rows.append(_row("most frequent answer", "none", pool, _most_frequent(questions, pool)))
    labelled = frozenset(pool.labels)
    known = sum(is_known(pool.task, question, labelled) for question in pool.questions)
    chosen = [
        (2 * number + 1) * len(pool.questions) // (2 * examples) for number in range(min(examples, len(pool.questions)))
    ]
    return TaskEvaluation(
        task=pool.task,
        kind=model.config.abstract.kind,
        split=split,
        questions=len(pool.questions),
        pictures=len(pool.images),
        measure=MEASURES[pool.task],
        rows=tuple(rows),
        answerable=known / len(pool.questions),
        firing_rate=firing if spiking else {},
        examples=tuple(
            Answered(
                question.images,
                question.text,
                said[0][index],
                question.answers,
                _score(pool.task, said[0][index], question),
            )
            for index in chosen
            for question in (pool.questions[index],)
        ),
    )


def accuracy(model: AshNet, pool: TaskPool) -> float:
    """Return the mean score of the model's answers."""
    (said,), _ = answer(model, pool, (None,), None)
    return _row("", "", pool, said).accuracy


@torch.no_grad()
def answer(
    model: AshNet, pool: TaskPool, zeros: Sequence[Branch | None], encoder: SpikeEncoder | None
) -> tuple[list[list[str]], dict[str, float]]:
    """Return the best answer to each question for each way of leaving a branch out, and what the populations fired."""
    model.eval()
    device = model.log_scale.device
    spikes = None if encoder is None or model.abstract is None else encode_elsewhere(model, pool.images, encoder)
    firing: dict[str, float] = defaultdict(float)
    found: list[Encoded] = []
    for start in range(0, len(pool.images), BATCH):
        part = None if spikes is None else spikes[:, start : start + BATCH]
        pixels = normalise(pool.images[start : start + BATCH]).to(device)
        encoded = model.encode(pixels, spikes=part)
        layers = encoded.layers if part is None else {"semantic.lif": torch.as_tensor(part)}
        for name, sent in layers.items():
            firing[name] += float(sent.double().mean()) * len(pixels) / len(pool.images)
        found.append(encoded)
    places = {zero: torch.cat([model.places(encoded, zero) for encoded in found]) for zero in zeros}
    said: list[list[str]] = []
    for zero in zeros:
        best = [
            model.answer(pool.task, places[zero][rows.to(device)], tokens.to(device)).argmax(1).cpu()
            for rows, tokens in zip(torch.split(pool.rows, BATCH), torch.split(pool.tokens, BATCH), strict=True)
        ]
        said.append([pool.labels[number] for number in torch.cat(best).tolist()])
    return said, dict(firing)


def _score(task: str, said: str, question: Question) -> float:
    return soft_score(said, question.answers) if task == "vqa" else float(said in question.answers)


def _row(name: str, spikes_from: str, pool: TaskPool, said: Sequence[str]) -> TaskRow:
    scores = [_score(pool.task, answer, question) for answer, question in zip(said, pool.questions, strict=True)]
    kinds: dict[str, list[float]] = defaultdict(list)
    groups: dict[str, list[float]] = defaultdict(list)
    for score, question in zip(scores, pool.questions, strict=True):
        kinds[question.kind].append(score)
        if question.group:
            groups[question.group].append(score)
    return TaskRow(
        name,
        spikes_from,
        float(np.mean(scores)),
        {kind: float(np.mean(found)) for kind, found in sorted(kinds.items()) if kind},
        float(np.mean([min(found) == 1.0 for found in groups.values()])) if groups else None,
    )


def _most_frequent(questions: Questions, pool: TaskPool) -> list[str]:
    """Return the answer that training questions of the same type get most often: what a model without eyes can know at least."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions.train:
        counts[question.kind].update(
            normalise_answer(text) if pool.task == "vqa" else text for text in question.answers
        )
    whole = sum(counts.values(), Counter())
    return [
        max((counts[question.kind] or whole).items(), key=lambda item: (item[1], item[0]))[0]
        for question in pool.questions
    ]
