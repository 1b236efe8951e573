"""Cached features of a frozen backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ashneuro.config import ConcreteConfig, QuestionConfig, RunConfig, StageConfig, TasksConfig
from ashneuro.data.batches import load_pixels, normalise
from ashneuro.data.pairs import Questions
from ashneuro.data.question_batches import QuestionBatches
from ashneuro.exchange import METRICS, read_metrics
from ashneuro.training import features, loop
from ashneuro.training.checkpoint import build_model, build_words, load_run
from ashneuro.training.data import TrainingData
from ashneuro.training.features import frozen_features
from ashneuro.training.processes import SingleProcess
from tests.training import tasks_tiny, tiny


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def frozen(**train: object) -> RunConfig:
    settings = tiny.config(epochs=1, augment=0.0, contrast=0.0, **train)
    concrete = ConcreteConfig(backbone="test_resnet.r160_in1k", stage=1, width=8, tune=False)
    data = replace(settings.data, image_size=32)
    return replace(settings, data=data, model=replace(settings.model, concrete=concrete))


def test_features_are_computed_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    settings = frozen()
    pairs = tiny.load_splits(settings.data).train
    model = build_model(settings, build_words(settings, ["red"]))
    found = frozen_features(model, pairs, settings, SingleProcess(torch.device("cpu")))
    rows = torch.tensor([3, 0, 7])
    with torch.no_grad():
        expected = model.concrete.trunk(normalise(load_pixels(pairs, settings.data).images[rows]))
    torch.testing.assert_close(found.read(rows), expected, atol=5e-3, rtol=5e-3)
    (file,) = (home / "features").iterdir()
    monkeypatch.setattr(features, "_fill", lambda *arguments: pytest.fail("computed again"))
    frozen_features(model, pairs, settings, SingleProcess(torch.device("cpu")))
    with torch.no_grad():
        next(model.concrete.trunk.parameters()).add_(1)
    with pytest.raises(pytest.fail.Exception):
        frozen_features(model, pairs, settings, SingleProcess(torch.device("cpu")))
    assert np.load(file).dtype == np.float16


def test_training_on_features_equals_training_on_images(tmp_path: Path, home: Path) -> None:
    for name, cached in (("pictures", False), ("features", True)):
        # Features are float16. Rounding flips spikes, and AdamW's first step is the sign of the
        # gradient, hence ReLUs and a tiny learning rate.
        settings = frozen(cache_features=cached, learning_rate=1e-6)
        relu = replace(settings.model.abstract, kind="relu")
        loop.train(replace(settings, model=replace(settings.model, abstract=relu)), tmp_path / name)
    pictures, cached = (
        read_metrics(tmp_path / name / METRICS).epochs[0].losses["itc"] for name in ("pictures", "features")
    )
    assert cached == pytest.approx(pictures, rel=1e-3)
    # Validation reads features too: two files, of training and of validation pictures.
    assert len(list((home / "features").glob("*.npy"))) == 2
    one_query = 1 / 12
    first, second = (read_metrics(tmp_path / name / METRICS).epochs[0].validation for name in ("pictures", "features"))
    assert first == pytest.approx(second, abs=one_query + 1e-9) and len(first) == 2
    run = load_run(tmp_path / "features")
    assert run.model.concrete.trunk.channels == run.model.concrete.features


def test_cached_features_of_questions_belong_to_their_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first picture has only a question that the head cannot answer, and is left out."""

    def questions(*given: Any, **named: Any) -> Questions:
        found = tasks_tiny.load_questions(*given, **named)
        unknown = replace(found.train[0], answers=("purple",) * 10)
        return replace(found, train=(unknown, *found.train[2:]))

    monkeypatch.setattr("ashneuro.training.data.load_questions", questions)
    stage = StageConfig("finetune", 1, task="vqa", batch_size=6)
    settings = replace(frozen(cache_features=True), schedule=(stage,), tasks=TasksConfig(vqa=QuestionConfig(answers=7)))
    settings = replace(settings, model=replace(settings.model, multimodal=tasks_tiny.WIDE))
    torch.manual_seed(0)
    data = TrainingData(settings, SingleProcess(torch.device("cpu")))
    assert "purple" not in data.labels["vqa"]
    model = build_model(settings, data.words, data.labels).eval()
    cached = data.batches(stage, settings.train, model)
    plain = QuestionBatches(data.questions["vqa"], data.labels["vqa"], data.words, settings.data, settings.train)
    for features_of, pictures in zip(cached.epoch(0), plain.epoch(0), strict=True):
        with torch.no_grad():
            expected = model.concrete.trunk(pictures.images[:, 0])
        torch.testing.assert_close(features_of.images[:, 0], expected, atol=5e-3, rtol=5e-3)
