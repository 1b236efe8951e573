"""Accuracy of a model at a task: whole, and with each branch zeroed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ashneuro.config import DataConfig, Task
from ashneuro.data.answers import normalise_answer, soft_score
from ashneuro.data.batches import load_pixels
from ashneuro.data.pairs import Pair, Question, Questions
from ashneuro.data.question_batches import is_answerable
from ashneuro.data.tasks import pictures_of
from ashneuro.data.tokens import Words
from ashneuro.errors import DataError
from ashneuro.evaluation import AnsweredQuestion, Condition, SpikeSource, TaskEvaluation, TaskRow
from ashneuro.model.network import AshNet, Branch
from ashneuro.training.evaluate import ZEROED, SpikeEncoder, encode_chunks, require_numbers, simulated_spikes

BATCH = 128


class TaskPool:
    """Answered questions as tensors.

    Args:
        answered: leave out questions without answers.
        read: returns the images of pictures.

    Attributes:
        pairs: N pictures, each once.
        images: (N, 3, S, S) uint8, or features of a frozen backbone (N, F, H, W) float16.
        rows: (Q, P) indices of the pictures of each question.
        tokens: (Q, M) word indices.
    """

    def __init__(
        self,
        questions: Questions,
        part: Sequence[Question],
        labels: Sequence[str],
        words: Words,
        data: DataConfig,
        *,
        answered: bool = True,
        read: Callable[[Sequence[Pair]], Tensor] | None = None,
    ) -> None:
        self.task, self.labels = questions.task, tuple(labels)
        self.questions = tuple(question for question in part if question.answers or not answered)
        self.pairs = pictures_of(questions, self.questions)
        numbers = {picture.key: number for number, picture in enumerate(self.pairs)}
        self.images = read(self.pairs) if read else load_pixels(self.pairs, data).images
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
    spikes_from: SpikeSource = SpikeSource.TORCH,
    examples: int = 12,
) -> TaskEvaluation:
    """Return the accuracy of ``model`` on the questions of ``part`` that have answers.

    Args:
        labels: answers or labels in the order of the head's scores.
        split: name of the split, kept in the result.
        encoder: computes the spikes instead of torch.
        spikes_from: the simulator behind ``encoder``, or `SpikeSource.ANN_INTEGERS`; kept in the
            result.
        examples: number of example questions.

    Raises:
        DataError: no question has an answer, or a picture cannot be read.
    """
    if not any(question.answers for question in part):
        raise DataError(
            f"the split {split!r} has no answered questions",
            "there is nothing to score",
            "choose another part, or write what it answers: --predictions FILE",
        )
    pool = TaskPool(questions, part, labels, words, data)
    conditions = [Condition.WHOLE, Condition.V_ZEROED]
    if model.abstract is not None:
        conditions = [Condition.WHOLE, Condition.A_ZEROED, Condition.C_ZEROED, Condition.V_ZEROED]
    said, firing = answer(model, pool, [ZEROED[condition] for condition in conditions], encoder)
    spiking = model.config.abstract.kind == "spiking"
    source = spikes_from if spiking or spikes_from is SpikeSource.ANN_INTEGERS else SpikeSource.NONE
    rows = [_row(condition, source, pool, answers) for condition, answers in zip(conditions, said, strict=True)]
    if questions.train:
        rows.append(_row(Condition.MOST_FREQUENT, SpikeSource.NONE, pool, _most_frequent(questions, pool)))
    labelled = frozenset(pool.labels)
    known = sum(is_answerable(pool.task, question, labelled) for question in pool.questions)
    return TaskEvaluation(
        task=cast(Task, pool.task),
        kind=model.config.abstract.kind,
        split=split,
        questions=len(pool.questions),
        pictures=len(pool.images),
        rows=tuple(rows),
        answerable=known / len(pool.questions),
        firing_rate=firing if spiking else {},
        examples=_examples(pool, said[0], examples),
    )


def _examples(pool: TaskPool, said: Sequence[str], count: int) -> tuple[AnsweredQuestion, ...]:
    """Return questions with their answers, evenly spaced over the pool."""
    chosen = []
    for number in range(min(count, len(pool.questions))):
        index = (2 * number + 1) * len(pool.questions) // (2 * count)
        question, answer = pool.questions[index], said[index]
        score = _score(pool.task, answer, question)
        chosen.append(AnsweredQuestion(question.images, question.text, answer, question.answers, score))
    return tuple(chosen)


def accuracy(model: AshNet, pool: TaskPool) -> tuple[float, dict[str, float]]:
    """Return the mean score of the whole model's answers, and firing rates by population."""
    (said,), firing = answer(model, pool, [None], None)
    return _row(Condition.WHOLE, SpikeSource.TORCH, pool, said).accuracy, firing


@torch.no_grad()
def answer(
    model: AshNet, pool: TaskPool, zeroed: Sequence[Branch | None], encoder: SpikeEncoder | None
) -> tuple[list[list[str]], dict[str, float]]:
    """Return the best answers for each zeroed branch, and firing rates by population."""
    device = model.log_scale.device
    spikes = None if encoder is None or model.abstract is None else simulated_spikes(model, pool.images, encoder)
    firing: dict[str, float] = {}
    found = list(encode_chunks(model, pool.images, spikes, BATCH, firing))
    tokens_of = {zero: torch.cat([model.visual_tokens(encoded, zero) for encoded in found]) for zero in zeroed}
    said: list[list[str]] = []
    for zero in zeroed:
        scores = [
            model.answer(pool.task, tokens_of[zero][rows.to(device)], tokens.to(device)).cpu()
            for rows, tokens in zip(torch.split(pool.rows, BATCH), torch.split(pool.tokens, BATCH), strict=True)
        ]
        require_numbers("questions", *(each.numpy() for each in scores))
        best = [each.argmax(1) for each in scores]
        said.append([pool.labels[number] for number in torch.cat(best).tolist()])
    return said, firing


def _score(task: str, said: str, question: Question) -> float:
    return soft_score(said, question.answers) if task == "vqa" else float(said in question.answers)


def _row(condition: Condition, spikes_from: SpikeSource, pool: TaskPool, said: Sequence[str]) -> TaskRow:
    scores = [_score(pool.task, answer, question) for answer, question in zip(said, pool.questions, strict=True)]
    kinds: dict[str, list[float]] = defaultdict(list)
    groups: dict[str, list[float]] = defaultdict(list)
    for score, question in zip(scores, pool.questions, strict=True):
        kinds[question.kind].append(score)
        if question.group:
            groups[question.group].append(score)
    return TaskRow(
        condition,
        spikes_from,
        float(np.mean(scores)),
        {kind: float(np.mean(found)) for kind, found in sorted(kinds.items()) if kind},
        float(np.mean([min(found) == 1.0 for found in groups.values()])) if groups else None,
    )


def _most_frequent(questions: Questions, pool: TaskPool) -> list[str]:
    """Return the most frequent answer to training questions of the same type: a blind baseline."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions.train:
        counts[question.kind].update(
            normalise_answer(text) if pool.task == "vqa" else text for text in question.answers
        )
    whole = sum(counts.values(), Counter())
    return [
        # Ties go to the last word of the alphabet, so that the baseline is the same every time.
        max((counts[question.kind] or whole).items(), key=lambda item: (item[1], item[0]))[0]
        for question in pool.questions
    ]
