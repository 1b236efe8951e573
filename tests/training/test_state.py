"""States of training that cannot be resumed from, and that can."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ashneuro.training import data
from ashneuro.training.loop import train
from ashneuro.training.state import read_state
from tests.fuzz.containers import trainer_file
from tests.fuzz.mutations import Mutation
from tests.training import tiny

REFUSED = [one for one in trainer_file(1) if one.must == "refuse" and one.name[0] not in "/"]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load_splits", tiny.load_splits)
        train(tiny.config(epochs=1), folder)
    return (folder / "trainer.pt").read_bytes()


def test_a_sound_state_is_read(state: bytes, tmp_path: Path) -> None:
    (tmp_path / "trainer.pt").write_bytes(state)
    assert read_state(tmp_path / "trainer.pt", tiny.config(epochs=1))["stage"] == 0


@pytest.mark.parametrize("mutation", REFUSED, ids=lambda one: one.name[:40])
def test_a_damaged_state_is_refused(
    mutation: Mutation, state: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "trainer.pt"
    path.write_bytes(state)
    mutation.apply(path, random.Random(1))
    if mutation.name in ("a weight left out", "a weight of another shape"):
        read_state(path, tiny.config(epochs=1))  # the model refuses its weights
        return
    with pytest.raises((OSError, ValueError)) as error:
        read_state(path, tiny.config(epochs=1))
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "EXECUTED").exists()
