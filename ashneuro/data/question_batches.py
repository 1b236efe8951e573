"""Questions as tensors: pictures held once, shuffled batches, targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ashneuro.config import DataConfig, TrainConfig
from ashneuro.data.answers import normalise_answer, soft_score
from ashneuro.data.batches import Images, augment, draw_changes, epoch_generator, local_rows, tensors
from ashneuro.data.pairs import Question, Questions
from ashneuro.data.question_files import ENTAILMENT
from ashneuro.data.tasks import answer_vocabulary, pictures_of
from ashneuro.data.tokens import Words, pad
from ashneuro.errors import DataError


@dataclass(frozen=True, eq=False)
class QuestionBatch:
    """What a training step on a task reads.

    Args:
        task: whose questions these are.
        images: (B, P, 3, H, W) of P pictures each, as `Batch.images`.
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
        labels: the answers or labels that the head knows, by index. Questions without any of them are left out.

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
        part: tuple[int, int] = (0, 1),
    ) -> None:
        labelled = frozenset(labels)
        known = [question for question in questions.train if is_known(questions.task, question, labelled)]
        if len(known) < train.batch_size:
            raise DataError(
                f"{len(known)} training questions of {questions.task} are fewer than one batch",
                f"train.batch_size is {train.batch_size}, and an epoch is made of whole batches",
                f"--set train.batch_size={max(2, len(known))}, or use more data",
            )
        self._task, self._train, self._part = questions.task, train, part
        pictures = pictures_of(questions, known)
        self._images = images or tensors(pictures, data)
        rows = {picture.key: row for row, picture in enumerate(pictures)}
        self._rows = torch.tensor([[rows[name] for name in question.images] for question in known])
        self._texts = [vocabulary.cut(vocabulary.indices(question.text), data.max_words) for question in known]
        self._targets = targets(questions.task, known, labels)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._texts) // self._train.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[QuestionBatch]:
        """Yield the batches of one epoch, counted from 0, from batch ``start`` on."""
        random = epoch_generator(self._train.seed, epoch)
        order = torch.randperm(len(self._texts), generator=random)
        for number, rows in enumerate(order[: len(self) * self._train.batch_size].reshape(len(self), -1)):
            pictures = self._rows[rows]
            changes = draw_changes(pictures.numel(), self._train.augment, random)
            if number < start:
                continue
            own = local_rows(len(rows), self._part)
            chosen = pictures[own].flatten()
            width = pictures.shape[1]
            part = slice(own.start * width, own.stop * width)
            images = augment(self._images.read(chosen), [change[part] for change in changes])
            texts = [self._texts[row] for row in rows[own].tolist()]
            yield QuestionBatch(
                self._task,
                images.reshape(-1, width, *images.shape[1:]),
                torch.from_numpy(pad(texts)),
                self._targets[rows[own]],
            )


def labels_of(questions: Questions, size: int) -> tuple[str, ...]:
    """Return the answers or labels of a task, in the order of their indices: of VQA the ``size`` most frequent training answers."""
    if questions.task == "vqa":
        return answer_vocabulary(questions.train, size)
    if questions.task == "nlvr2":
        return ("false", "true")
    there = {answer for question in questions.train for answer in question.answers}
    return tuple(label for label in ENTAILMENT if label in there)


def is_known(task: str, question: Question, labels: frozenset[str]) -> bool:
    """Whether a head with these ``labels`` could be right about ``question``."""
    answers = (normalise_answer(answer) for answer in question.answers) if task == "vqa" else question.answers
    return not labels.isdisjoint(answers)


def targets(task: str, questions: Sequence[Question], labels: Sequence[str]) -> Tensor:
    """Return what the head shall say: VQA's soft scores (N, L), else labels (N,)."""
    index = {label: number for number, label in enumerate(labels)}
    if task != "vqa":
        return torch.tensor([index[question.answers[0]] for question in questions])
    scores = torch.zeros(len(questions), len(labels))
    for row, question in zip(scores, questions, strict=True):
        for answer in {normalise_answer(answer) for answer in question.answers} & index.keys():
            row[index[answer]] = soft_score(answer, question.answers)
    return scores
