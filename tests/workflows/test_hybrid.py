"""Hybrid sessions with spikes from torch, the emulator and Lava."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ashneuro.data.batches import load_images
from ashneuro.errors import AshneuroError, ConfigError, DataError
from ashneuro.evaluation import SpikeSource
from ashneuro.training.evaluate import input_currents
from ashneuro.training.loop import train
from ashneuro.workflows import hybrid
from ashneuro.workflows.export import export
from ashneuro.workflows.hybrid import HybridSession
from tests.training import tiny

TEST = tiny.load_splits(tiny.CONFIG.data).test


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run with its bundle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ashneuro.training.data.load_splits", tiny.load_splits)
        trained = train(tiny.config(epochs=15), tmp_path_factory.mktemp("hybrid") / "squares")
        inputs = np.concatenate(list(input_currents(trained.model, pixels())), axis=1)
        patch.setattr("ashneuro.data.sources.load_splits", tiny.load_splits)
        export(trained.path, inputs=inputs, samples=4, lava=None)
    return trained.path


def pixels() -> torch.Tensor:
    return load_images(TEST, 8)


def test_torch_needs_no_bundle(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "bare", ignore=shutil.ignore_patterns("bundle"))
    with HybridSession(tmp_path / "bare") as session:
        assert session.source is SpikeSource.TORCH and session.encoder is None and session.seconds is None
        embedded = session.embed_images(pixels())
        with torch.no_grad():
            expected = session.run.model.embed_images((pixels().float() - 127.5) / 63.75).numpy()
        np.testing.assert_allclose(embedded, expected, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(session.embed_texts(["red square", "top"]), axis=1), 1, atol=1e-6)
    with pytest.raises(AshneuroError, match=r"no bundle yet\n.*\ndo:  ashneuro export"):
        HybridSession(tmp_path / "bare", "loihi")


def test_wrong_images_are_rejected_unchanged(run: Path) -> None:
    given = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    before = given.copy()
    with HybridSession(run) as session:
        assert session.embed_images(np.zeros((0, 3, 8, 8), np.uint8)).shape == (0, 8)
        for wrong in (
            given,
            np.zeros((2, 3, 7, 7), np.uint8),
            np.zeros((2, 8, 8, 3), np.uint8),
            np.zeros((3, 8, 8), np.uint8),
        ):
            with pytest.raises(DataError, match="images of") as error:
                session.embed_images(wrong)
            assert "uint8, (N, 3, 8, 8)" in error.value.why and error.value.do
    np.testing.assert_array_equal(given, before)


@pytest.mark.lava
def test_lava_equals_emulator(run: Path) -> None:
    done: list[int] = []
    with (
        HybridSession(run, "loihi") as here,
        HybridSession(run, "lava", stock=3, progress=done.append) as there,
        HybridSession(run, "lava", precision="float") as floating,
        HybridSession(run) as torch_alone,
    ):
        np.testing.assert_array_equal(here.embed_images(pixels()), there.embed_images(pixels()))
        assert here.record is not None and there.record is not None and there.seconds is not None
        for name, activity in here.record.layers.items():
            np.testing.assert_array_equal(activity.counts, there.record.layers[name].counts)
        assert there.record.stock_samples == 3 and there.record.samples == 12 and done[-1] == 12
        assert there.seconds.lava > 0 and there.seconds.start > 0
        np.testing.assert_allclose(floating.embed_images(pixels()), torch_alone.embed_images(pixels()), atol=1e-5)
        rows = there.evaluate(TEST, "squares").rows
        assert [row.spikes_from for row in rows] == [SpikeSource.LAVA_INTEGER] * 4, "whole, A zeroed, C zeroed, A alone"
        assert [replace(row, spikes_from=rows[0].spikes_from) for row in here.evaluate(TEST, "squares").rows] == list(
            rows
        )


def test_session_rejects_bad_arguments(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="they come from torch, loihi, lava"):
        HybridSession(run, "gpu")  # type: ignore[arg-type]
    session = HybridSession(run, "lava")
    with pytest.raises(ConfigError, match="Lava runs while the session is open"):
        session.embed_images(pixels())
    shutil.copytree(run, tmp_path / "stale")
    weights = bytearray((run / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "stale" / "model.safetensors").write_bytes(bytes(weights))
    with pytest.raises(AshneuroError, match="is stale"):
        HybridSession(tmp_path / "stale", "loihi")


def test_the_emulator_runs_where_the_model_is(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[str] = []
    whole = hybrid.run_program

    def spy(*words: object, device: str, **names: object) -> object:
        devices.append(device)
        return whole(*words, **names)  # type: ignore[arg-type]

    monkeypatch.setattr(hybrid, "run_program", spy)
    with HybridSession(run, "loihi") as session:
        session.embed_images(pixels())
    assert devices == ["cpu"]


@pytest.mark.gpu
def test_the_emulator_counts_the_same_on_a_gpu(run: Path) -> None:
    """The currents of a GPU may differ in their last bits: both emulators get those of the CPU."""
    currents = np.concatenate(list(input_currents(HybridSession(run).run.model, pixels())), axis=1)
    spikes = []
    for device in ("cpu", "cuda"):
        with HybridSession(run, "loihi", device=device) as session:
            spikes.append(np.concatenate(list(session.encode([currents])), axis=1))
    np.testing.assert_array_equal(*spikes)
