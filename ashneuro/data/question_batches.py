"""Questions as tensors: each picture held once, shuffled batches, targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ashneuro.config import DataConfig, TrainConfig
from ashneuro.data.answers import normalise_answer, soft_score
from ashneuro.data.batches import (
    CPU,
    Images,
    augment,
    draw_augmentation,
    epoch_generator,
    load_pixels,
    local_rows,
    place,
    require_batch,
    shuffled_rows,
)
from ashneuro.data.pairs import Question, Questions
from ashneuro.data.question_files import ENTAILMENT
from ashneuro.data.tasks import answer_vocabulary, pictures_of
from ashneuro.data.tokens import Words, pad


@dataclass(frozen=True, eq=False)
class QuestionBatch:
    """Input of a training step on a task.

    Args:
        task: ``"vqa"``, ``"entailment"`` or ``"nlvr2"``.
        images: (B, P, 3, H, W), P pictures per question, scaled as `Batch.images`.
        tokens: (B, M) int64 word indices, 0 = padding.
        targets: VQA: soft scores of all answers, (B, L) float32; else labels, (B,) int64.
    """

    task: str
    images: Tensor
    tokens: Tensor
    targets: Tensor


class QuestionBatches:
    """Training batches of a task's questions, epoch by epoch.

    Args:
        labels: answers or labels of the head, by index. Questions without any of them are left out.
        images: used instead of the pictures that `answerable` questions name, in the order of their
            first use.
        shard: this process's rank and the number of processes; each gives its rows of every batch.

    Raises:
        DataError: there are fewer questions than a batch holds, or a picture cannot be read.
    """

    def __init__(
        self,
        questions: Questions,
        labels: Sequence[str],
        vocabulary: Words,
        data: DataConfig,
        train: TrainConfig,
        images: Images | None = None,
        *,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        known = answerable(questions, labels)
        require_batch(len(known), f"training questions of {questions.task}", train.batch_size)
        self._task, self._train, self._shard = questions.task, train, shard
        pictures = pictures_of(questions, known)
        self._images = images or load_pixels(pictures, data)
        rows = {picture.key: row for row, picture in enumerate(pictures)}
        self._rows = torch.tensor([[rows[name] for name in question.images] for question in known])
        self._texts = [vocabulary.cut(vocabulary.indices(question.text), data.max_words) for question in known]
        self._targets = targets(questions.task, known, labels)

    def __len__(self) -> int:
        """Return the number of whole batches in an epoch."""
        return len(self._texts) // self._train.batch_size

    def epoch(self, epoch: int, start: int = 0, device: torch.device = CPU) -> Iterator[QuestionBatch]:
        """Iterate over the batches of an epoch as `Batches.epoch` does."""
        random = epoch_generator(self._train.seed, epoch)
        for number, rows in enumerate(shuffled_rows(len(self._texts), self._train.batch_size, random)):
            pictures = self._rows[rows]
            augmentation = draw_augmentation(pictures.numel(), self._train.augment, random)
            if number < start:
                continue
            own = local_rows(len(rows), self._shard)
            chosen = pictures[own].flatten()
            width = pictures.shape[1]
            flat = slice(own.start * width, own.stop * width)  # rows of pictures, ``width`` per question
            images = augment(self._images.read(chosen, device), [values[flat] for values in augmentation])
            texts = [self._texts[row] for row in rows[own].tolist()]
            yield QuestionBatch(
                self._task,
                images.reshape(-1, width, *images.shape[1:]),
                place(torch.from_numpy(pad(texts)), device),
                place(self._targets[rows[own]], device),
            )


def labels_of(questions: Questions, size: int) -> tuple[str, ...]:
    """Return the answers or labels of a task by index; for VQA the ``size`` most frequent training
    answers.
    """
    if questions.task == "vqa":
        return answer_vocabulary(questions.train, size)
    if questions.task == "nlvr2":
        return ("false", "true")
    there = {answer for question in questions.train for answer in question.answers}
    return tuple(label for label in ENTAILMENT if label in there)


def answerable(questions: Questions, labels: Sequence[str]) -> list[Question]:
    """Return the training questions that one of ``labels`` answers; the others teach nothing."""
    labelled = frozenset(labels)
    return [question for question in questions.train if is_answerable(questions.task, question, labelled)]


def is_answerable(task: str, question: Question, labels: frozenset[str]) -> bool:
    """Return True if one of ``labels`` is a right answer to ``question``."""
    answers = (normalise_answer(answer) for answer in question.answers) if task == "vqa" else question.answers
    return not labels.isdisjoint(answers)


def targets(task: str, questions: Sequence[Question], labels: Sequence[str]) -> Tensor:
    """Return the targets of the head: VQA's soft scores (N, L) float32, else label indices (N,)
    int64.
    """
    index = {label: number for number, label in enumerate(labels)}
    if task != "vqa":
        return torch.tensor([index[question.answers[0]] for question in questions])
    scores = torch.zeros(len(questions), len(labels))
    for row, question in zip(scores, questions, strict=True):
        for answer in {normalise_answer(answer) for answer in question.answers} & index.keys():
            row[index[answer]] = soft_score(answer, question.answers)
    return scores
