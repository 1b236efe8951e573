"""Types of the data package: pairs, questions, data sets of either, batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from ashneuro.data.shards import Stream


@dataclass(frozen=True, eq=False)
class Pair:
    """An image and its captions.

    Args:
        key: unique name within its data set, e.g. ``"noto/1f436"`` or a file name.
        captions: one or more texts; the first one is shown.
        concept: pairs of one concept are never negatives of each other, and any of them counts as a
            hit in retrieval. Data sets without concepts use the key.
        load: reads the image, (H, W, 3) uint8 RGB. Raises `DataError` if it cannot be read.
        labels: labels by name, such as ``group`` and ``subgroup``.
        style: drawing style or source, shown in reports; may be empty.
    """

    key: str
    captions: tuple[str, ...]
    concept: str
    load: Callable[[], NDArray[np.uint8]]
    labels: Mapping[str, Any] = field(default_factory=dict)
    style: str = ""


@dataclass(frozen=True, eq=False)
class Question:
    """A question about a picture, or a statement about one or two.

    Args:
        key: unique name within its data set.
        images: names of its pictures in `Questions.pictures`: one, or for NLVR2 two, the left one
            first.
        text: the question, hypothesis or sentence.
        answers: ten answers of people in VQA v2, one label elsewhere; empty where they are not
            published.
        kind: type of the question, for separate scores; may be empty.
        group: questions of a group are right only together (consistency); may be empty.
        split: ``"train"``, ``"validation"``, ``"test"``, or empty where the file names none.
        where: line or entry of its file, for messages.
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
    """The questions of one task in three disjoint parts, and their pictures.

    Args:
        task: ``"vqa"``, ``"entailment"`` or ``"nlvr2"``.
        pictures: reads a picture by its name, as `Pair.load` does.
        name: the data and its split, for reports.
        notes: caveats for readers of the results, one sentence each.
        left_out: with ``data.skip_broken``: what was left out and why, one line each.
    """

    task: str
    train: tuple[Question, ...]
    validation: tuple[Question, ...]
    test: tuple[Question, ...]
    pictures: Mapping[str, Callable[[], NDArray[np.uint8]]]
    name: str
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Unpaired:
    """Images without texts and texts without images, drawn independently of each other.

    Args:
        images: (U, 3, H, W), not augmented; else as in `Batch`.
        views: an augmented view of each image.
        tokens: (U, M) word indices of whole texts.
        fragments: (U, M') word indices of the same texts, about half of each left out.
    """

    images: torch.Tensor
    views: torch.Tensor
    tokens: torch.Tensor
    fragments: torch.Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Input of a training step on pairs.

    Args:
        images: (B, 3, H, W) float32, mean near 0 and standard deviation near 1; or a frozen
            backbone's features (B, F, H, W).
        views: a second augmented view of each image, same shape; ``None`` if no objective needs it.
        tokens: (B, M) int64 word indices, 0 = padding.
        concepts: (B,) int64; pairs with equal numbers are not negatives of each other.
        keys: of the pairs.
        unpaired: unlabelled images and texts, if an objective needs them.
        texts: (B, 1 + C) int64, where pairs of several concepts have equal texts: the number of the
            pair's text in the batch, then those of all its texts, −1 = padding. A text that equals
            one of an image's own is not its negative.
    """

    images: torch.Tensor
    views: torch.Tensor | None
    tokens: torch.Tensor
    concepts: torch.Tensor
    keys: tuple[str, ...]
    unpaired: Unpaired | None = None
    texts: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set in three disjoint parts.

    Args:
        train: pairs to train on.
        validation: pairs to choose settings by; may be empty.
        test: pairs to report results on.
        name: the data set and its split, for reports.
        notes: caveats for readers of the results, one sentence each.
        left_out: with ``data.skip_broken``: what was left out and why, one line each.
        stream: reads all training pairs, where ``train`` holds only a few of them.
    """

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...]
    name: str
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    stream: Stream | None = None
