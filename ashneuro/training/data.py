"""Training data of a run: pairs, vocabulary, questions and labels, read once for all stages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ashneuro.config import MAX_WORDS, RunConfig, StageConfig, TrainConfig, settled, stages, trained_tasks
from ashneuro.data.batches import (
    Batches,
    Captioned,
    Images,
    Pixels,
    incomplete_batch,
    load_pixels,
    map_images,
    texts_of,
)
from ashneuro.data.learnable import count_learnable, limit_words
from ashneuro.data.pairs import Pair, Questions, Splits
from ashneuro.data.question_batches import QuestionBatches, answerable, labels_of
from ashneuro.data.sources import load_splits
from ashneuro.data.splits import choose_labelled
from ashneuro.data.stream_batches import StreamBatches
from ashneuro.data.tasks import load_questions, pictures_of
from ashneuro.data.tokens import Words, extend_words
from ashneuro.errors import ConfigError
from ashneuro.model.network import AshNet
from ashneuro.training.checkpoint import Labels, build_words, load_run
from ashneuro.training.evaluate import Pool, recalls
from ashneuro.training.features import frozen_features
from ashneuro.training.processes import Processes
from ashneuro.training.task_evaluation import TaskPool, accuracy

TOWER_WORDS = 77
"""Largest ``data.max_words`` that follows from the data for a text tower: CLIP's positions."""

OnReading = Callable[[str, int, int], object]
"""Called with (what, pictures decoded, pictures in all), from one thread at a time."""


@dataclass(frozen=True)
class Validation:
    """Metrics on the validation part by name, and firing rates by population, in evaluation."""

    metrics: Mapping[str, float]
    firing_rates: Mapping[str, float]


class TrainingData:
    """Pairs, questions, vocabulary and labels of a run.

    Args:
        config: settings of the run.
        processes: training processes, which share every batch.
        on_reading: called while pictures are decoded.

    Attributes:
        config: the settings, with the ``data.max_words`` that follows from the data.

    Raises:
        DataError: pairs, questions, or the run that ``train.start`` names cannot be read.
    """

    def __init__(
        self, config: RunConfig, processes: Processes, on_reading: OnReading = lambda what, done, total: None
    ) -> None:
        self.processes, self._on_reading = processes, on_reading
        self.splits: Splits = load_splits(config.data)
        self.questions: dict[str, Questions] = {
            task: load_questions(task, config.tasks, config.data, self.splits) for task in trained_tasks(config)
        }
        own = {
            task: labels_of(questions, getattr(config.tasks, task).answers)
            for task, questions in self.questions.items()
        }
        # A run that starts from another keeps that run's heads, trained here or not.
        start = load_run(config.train.start) if config.train.start else None
        self.labels: Labels = {**(start.labels if start else {}), **own}
        # Only the first pairs of a stream are known before it is read.
        self._stream = self.splits.stream
        # Kept in the cache folder: of several processes one reads the shards.
        self._survey = processes.in_turn(self._stream.survey) if self._stream is not None else None
        texts = [text for text, _ in self._owned(config)]
        texts += [question.text for questions in self.questions.values() for question in questions.train]
        self.config = settled(config, start.config) if start else config
        self.words: Words = build_words(self.config, texts)
        if start:  # which knows words by their index
            self.words = extend_words(start.vocabulary, self.words)
        if not self.config.data.max_words:
            lengths = [len(self.words.indices(text)) for text in texts]
            limit = limit_words(lengths, TOWER_WORDS if config.model.text.tower else MAX_WORDS)
            self.config = replace(self.config, data=replace(self.config.data, max_words=limit))
        pairs = self._survey.pairs if self._survey is not None else 0  # not those of the run that it starts from
        self.config = replace(self.config, data=replace(self.config.data, epoch_pairs=pairs))
        self._pools: dict[str, Pool | TaskPool | None] = {}

    @property
    def left_out(self) -> tuple[str, ...]:
        """Lines about what ``data.skip_broken`` left out."""
        read: list[Splits | Questions] = [self.splits, *self.questions.values()]
        streamed = tuple(self._stream.left_out) if self._stream is not None else ()
        return tuple(dict.fromkeys((*(line for data in read for line in data.left_out), *streamed)))

    @property
    def unanswered(self) -> tuple[str, ...]:
        """Tasks that have test questions, and answers to none of them."""
        return tuple(
            task
            for task, questions in self.questions.items()
            if questions.test and not any(question.answers for question in questions.test)
        )

    def notes(self) -> list[str]:
        """Return sentences about what will not be learned from the data."""
        data = self.config.data
        owned = self._owned(self.config)
        texts, owners = [text for text, _ in owned], [owner for _, owner in owned]
        found = count_learnable(texts, owners, self.words, data.max_words).sentences()
        for stage, settings in stages(self.config):
            if stage.task == "retrieval":
                count = self._survey.pairs if self._survey else len(self.splits.train)
                what = "training pairs"
            else:
                count = len(answerable(self.questions[stage.task], self.labels[stage.task]))
                what = f"training questions of {stage.task}"
            found.append(incomplete_batch(count, what, settings.batch_size))
        return list(dict.fromkeys(note for note in found if note))

    def _owned(self, config: RunConfig) -> list[tuple[str, str]]:
        """Return the training texts that are known before training, each with its concept."""
        known: Sequence[tuple[Captioned, str]] = [(pair, pair.concept) for pair in self.splits.train]
        if self._survey is not None:
            known = [(sample, sample.concept) for sample in self._survey.samples]
        return [(text, concept) for pair, concept in known for text in texts_of(pair, config.data.captions)]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the training texts, labels and image names, in order.

        The indices of words and labels follow from this order, so a checkpoint fits no other.
        """
        pairs: list[tuple[object, ...]] = [(pair.key, pair.captions, pair.concept) for pair in self.splits.train]
        if self._survey is not None:  # the pictures of a run may have another place when it is resumed
            pairs = [(self._survey.pairs,), *((sample.key, sample.captions) for sample in self._survey.samples)]
        questions = [
            (question.images, question.text, question.answers)
            for task in self.questions.values()
            for question in task.train
        ]
        return hashlib.sha256(json.dumps([pairs, questions, self.labels]).encode()).hexdigest()

    def batches(
        self, stage: StageConfig, settings: TrainConfig, model: AshNet
    ) -> Batches | StreamBatches | QuestionBatches:
        """Return the training batches of a stage; this process gets its part of each.

        Raises:
            ConfigError: ``train.cache_features`` is set and features change from step to step.
            DataError: there are fewer pairs than a batch holds, or an image cannot be read.
        """
        shard = (self.processes.rank, self.processes.size)
        data = self.config.data
        if model.text.tower is not None:
            # Words that are left out or masked make a new text of every one.
            model.text.tower.remembers = settings.cache_features and not (settings.word_dropout or settings.mlm)
        if stage.task == "retrieval":
            views = self.config.model.abstract.kind != "none" and settings.contrast > 0
            if self._stream is not None and self._survey is not None:
                return StreamBatches(self._stream, self._survey, self.words, data, settings, views=views, shard=shard)
            labelled = self._labelled(settings)
            images = self._features(self.splits.train, settings, model) or self._pixels(self.splits.train)
            return Batches(
                self.splits.train,
                self.words,
                data,
                settings,
                views=views,
                images=images,
                labelled=labelled,
                shard=shard,
            )
        questions = self.questions[stage.task]
        pictures = pictures_of(questions, answerable(questions, self.labels[stage.task]))
        images = self._features(pictures, settings, model) or self._pixels(pictures)
        return QuestionBatches(questions, self.labels[stage.task], self.words, data, settings, images, shard=shard)

    def _labelled(self, settings: TrainConfig) -> list[int] | None:
        """Return the numbers of the labelled training pairs; ``None``: all.

        Raises:
            ConfigError: ``train.unlabelled`` is set, and every pair is labelled.
        """
        share, pairs = self.config.data.labelled, self.splits.train
        chosen = choose_labelled(pairs, share, settings.seed) if share < 1 else None
        if settings.unlabelled and (chosen is None or len(chosen) == len(pairs)):
            raise ConfigError(
                f"train.unlabelled = {settings.unlabelled:g}",
                f"all {len(pairs)} training pairs are labelled: data.labelled is {share:g}",
                "set data.labelled = 0.1, say, or train.unlabelled = 0",
            )
        return chosen

    def validate(self, model: AshNet, task: str) -> Validation:
        """Return the metrics of ``task`` on the validation part; empty without one."""
        if task not in self._pools:
            self._pools[task] = self._pool(task, model)
        pool = self._pools[task]
        if pool is None:
            return Validation({}, {})
        if isinstance(pool, TaskPool):
            score, firing = accuracy(model, pool)
            return Validation({f"{task}_accuracy": score}, firing)
        image_to_text, text_to_image, firing = recalls(model, pool)
        return Validation(
            {"R@1_image_to_text": image_to_text["R@1"], "R@1_text_to_image": text_to_image["R@1"]}, firing
        )

    def _pool(self, task: str, model: AshNet) -> Pool | TaskPool | None:
        pool: Pool | TaskPool
        if task == "retrieval":
            if not self.splits.validation:
                return None
            pairs = self.splits.validation
            pool = Pool(pairs, self.words, self.config.data, self._pictures(pairs, model))
        else:
            questions = self.questions[task]
            if not any(question.answers for question in questions.validation):
                return None
            read = partial(self._pictures, model=model)
            pool = TaskPool(questions, questions.validation, self.labels[task], self.words, self.config.data, read=read)
        return pool

    def _pictures(self, pictures: Sequence[Pair], model: AshNet) -> Tensor:
        """Return the pictures of an evaluation, or their features."""
        if self.config.train.cache_features and self._is_frozen:
            return frozen_features(model, pictures, self.config, self.processes).tensor
        return self._pixels(pictures).images

    def _pixels(self, pictures: Sequence[Pair]) -> Pixels:
        """Return the pictures, decoded and counted.

        Of several processes one decodes them into the cache folder, which the others map.
        """
        data, found = self.config.data, counted(pictures, "reading pictures", self._on_reading)
        if self.processes.size == 1:
            return load_pixels(found, data)
        return Pixels(self.processes.in_turn(partial(map_images, found, data.image_size)))

    def _features(self, pictures: Sequence[Pair], settings: TrainConfig, model: AshNet) -> Images | None:
        if not settings.cache_features:
            return None
        if not self._is_frozen or settings.augment:
            why = "images are augmented" if settings.augment else "they do not come from a frozen backbone"
            raise ConfigError(
                "train.cache_features",
                f"features would differ from step to step: {why}",
                "set model.concrete.tune = false, train.augment = 0",
            )
        return frozen_features(model, pictures, self.config, self.processes)

    @property
    def _is_frozen(self) -> bool:
        concrete = self.config.model.concrete
        return bool(concrete.backbone) and not concrete.tune


def counted(pictures: Sequence[Pair], what: str, on_reading: OnReading) -> list[Pair]:
    """Return pictures that call ``on_reading`` whenever one of them was decoded."""
    done, lock = 0, Lock()

    def load(pair: Pair) -> NDArray[np.uint8]:
        nonlocal done
        pixels = pair.load()
        with lock:  # several threads decode
            done += 1
            on_reading(what, min(done, len(pictures)), len(pictures))
        return pixels

    return [replace(pair, load=partial(load, pair)) for pair in pictures]
