"""The types that leave this room: an image with its captions, a question about images, data sets of either, a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Pair:
    """One image and what is said about it.

    Args:
        key: unique name within its data set, e.g. ``"noto/1f436"`` or a file name.
        captions: one or more texts; the first is the one that is shown.
        concept: pairs with the same concept are never each other's negatives, and any of them counts as a hit in
            retrieval. Data sets without the notion use the key.
        load: reads the image: (H, W, 3) uint8, RGB. Raises `DataError` when it cannot be read.
        labels: task labels by task name.
        style: drawing style or source, shown in reports; empty when there is none.
    """

    key: str
    captions: tuple[str, ...]
    concept: str
    load: Callable[[], NDArray[np.uint8]]
    labels: Mapping[str, Any] = field(default_factory=dict)
    style: str = ""


@dataclass(frozen=True, eq=False)
class Question:
    """One question about a picture, or one statement about a picture or two.

    Args:
        key: unique name within its data set.
        images: names of its pictures in `Questions.pictures`: one, or for NLVR2 two, the left one first.
        text: the question, hypothesis or sentence.
        answers: what people answered: ten answers in VQA v2, one label elsewhere; empty where they are kept secret.
        kind: type of the question, reported apart; empty when there is none.
        group: questions of one group count as right together (consistency); empty when there is none.
        split: ``"train"``, ``"validation"``, ``"test"``, or empty where the file does not say.
        where: line or entry of the file that it came from.
    """

    key: str
    images: tuple[str, ...]
    text: str
    answers: tuple[str, ...]
    kind: str = ""
    group: str = ""
    split: str = ""
    where: str = ""


@dataclass(frozen=True, eq=False)
class Questions:
    """The questions of one task in three disjoint parts, and the pictures that they are about.

    Args:
        task: ``"vqa"``, ``"entailment"`` or ``"nlvr2"``.
        pictures: reads a picture by its name, as `Pair.load` does.
        name: the data and its split in a few words, for reports.
        notes: what a reader of the results has to know, one sentence each.
    """

    task: str
    train: tuple[Question, ...]
    validation: tuple[Question, ...]
    test: tuple[Question, ...]
    pictures: Mapping[str, Callable[[], NDArray[np.uint8]]]
    name: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Batch:
    """What a training step reads.

    Args:
        images: (B, 3, H, W) float32, scaled to mean 0 and standard deviation about 1; or what a frozen backbone made of them.
        views: a second augmented view of each image, same shape, or ``None`` when no objective asks for it.
        tokens: (B, M) int64 word indices, 0 = padding.
        concepts: (B,) int64; equal numbers mark pairs that are not negatives of each other.
        keys: the pairs' keys.
    """

    images: torch.Tensor
    views: torch.Tensor | None
    tokens: torch.Tensor
    concepts: torch.Tensor
    keys: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set in three disjoint parts.

    Args:
        train: what the model learns from.
        validation: what choices are made on; may be empty when a file has no such part.
        test: what is reported.
        name: the data set and its split in a few words, for reports.
        notes: what a reader of the results has to know, one sentence each.
    """

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...]
    name: str
    notes: tuple[str, ...] = ()
