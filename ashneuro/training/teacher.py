"""Distillation: embeddings of a frozen teacher for the batches that its student learns from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from ashneuro.config import RunConfig, with_encoder
from ashneuro.data.pairs import Batch
from ashneuro.data.tokens import Words
from ashneuro.errors import ConfigError, DataError
from ashneuro.files import replace_file
from ashneuro.model.network import AshNet
from ashneuro.training.checkpoint import Labels, build_model, encoder_metadata, load_run, read_weights, shorten

START = "start"
"""``train.teacher`` of a student that learns from the network it started from."""

FILE = "teacher.safetensors"
"""Weights of that network, in the run's folder while it is trained."""


@dataclass(frozen=True, eq=False)
class Taught:
    """Embeddings of a batch by the teacher, without gradient.

    Args:
        images, texts: (B, E), unit length.
        scale: inverse temperature of their similarities.
    """

    images: Tensor
    texts: Tensor
    scale: Tensor


@final
class Teacher:
    """A frozen network in eval mode; it is no part of the learner, which is saved and wrapped.

    Args:
        digest: identifies its weights.
    """

    def __init__(self, model: AshNet, digest: str = "") -> None:
        self.model = model.eval().requires_grad_(False)
        self.digest = digest

    @torch.no_grad()
    def teach(self, batch: Batch) -> Taught:
        """Return the embeddings of a batch of pairs."""
        model = self.model
        images, texts = model.embed_images(batch.images), model.embed_texts(batch.tokens)
        return Taught(images.float(), texts.float(), model.log_scale.exp())


def copy_of(model: AshNet, config: RunConfig, words: Words, labels: Labels) -> Teacher:
    """Return a teacher with the weights and the neurons that ``model`` has now."""
    config = with_encoder(config, model.config.abstract)
    twin = build_model(config, words, labels, load=False)
    twin.load_state_dict(model.state_dict())
    return Teacher(_like(twin, model))


def run_as_teacher(path: str, student: AshNet, config: RunConfig, words: Words) -> Teacher:
    """Return the run in ``path`` as a teacher.

    Raises:
        DataError: it cannot be read.
        ConfigError: it reads other words or images, or its embeddings have another width.
    """
    run = load_run(path)
    what = f"train.teacher = {path!r}"
    remedy = "a run with the same [data], model.embedding and text tower"
    wanted = {
        "vocabulary": (run.vocabulary, words),
        "data.image_size": (run.config.data.image_size, config.data.image_size),
        "data.max_words": (run.config.data.max_words, config.data.max_words),
        "model.embedding": (run.config.model.embedding, config.model.embedding),
    }
    if config.train.cache_features:  # the student's batches hold features of its backbone
        wanted["model.concrete"] = (run.config.model.concrete, config.model.concrete)
    if different := [name for name, (one, other) in wanted.items() if one != other]:
        raise ConfigError(what, f"its {' and '.join(different)} differ from those of this run", remedy)
    return Teacher(_like(run.model, student), run.weights_sha256)


def save_teacher(teacher: Teacher, out: Path) -> None:
    """Write a teacher that `copy_of` made into the folder of its student's run."""
    weights = {name: value.detach().cpu().contiguous() for name, value in teacher.model.state_dict().items()}
    metadata = encoder_metadata(teacher.model.config.abstract)
    replace_file(out / FILE, lambda file: file.write_bytes(save(weights, metadata)))


def load_teacher(out: Path, student: AshNet, config: RunConfig, words: Words, labels: Labels) -> Teacher:
    """Return the teacher that `save_teacher` wrote.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        weights, abstract = read_weights(out / FILE)
        model = build_model(with_encoder(config, abstract or config.model.abstract), words, labels, load=False)
        model.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DataError(f"cannot read {out / FILE}", shorten(error), "train again in another folder") from error
    return Teacher(_like(model, student))


def _like(model: AshNet, student: AshNet) -> AshNet:
    """Return ``model`` on the student's device, with its kernels."""
    model.to(student.log_scale.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if model.abstract is not None and student.abstract is not None:
        model.abstract.use_kernels(student.abstract.dense.kernels)
    return model
