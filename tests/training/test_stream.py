"""Training on shards that are read as a stream."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ashneuro.config import RunConfig, StageConfig
from ashneuro.data.sources import load_splits
from ashneuro.errors import ConfigError, DataError
from ashneuro.training.checkpoint import load_run
from ashneuro.training.loop import train
from ashneuro.workflows.evaluate import evaluate
from ashneuro.workflows.places import require_data
from tests.data.shard_server import picture, serve, write_shard, write_shards
from tests.training import tiny

pytest.importorskip("webdataset")


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squares: None) -> None:
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("ashneuro.training.data.load_splits", load_splits)  # not the squares of the other tests


def settings(source: str, held: str, **train: Any) -> RunConfig:
    made = tiny.config(**{"epochs": 2, "batch_size": 4, **train})
    data = replace(made.data, source=source, validation=held, test=held, stream=True, max_words=0)
    return replace(made, data=data)


@pytest.fixture
def shards(tmp_path: Path) -> tuple[str, str]:
    """Names of 24 training pairs in 4 shards, and of 6 held-out ones."""
    folder = tmp_path / "shards"
    names = write_shards(folder, 4, 6), write_shards(folder, 1, 6, first=100, name="held")
    return str(folder / names[0]), str(folder / names[1])


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.name in ("model.safetensors", "vocabulary.json", "config.json")
    }


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from ashneuro.training.loop import train
from tests.training.test_stream import settings

count = 9

def kill(now):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
train(settings(*sys.argv[2:], save_every=1), Path(sys.argv[1]), on_progress=kill)
"""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums round differently with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_killed_run_goes_on_with_the_same_bytes(tmp_path: Path, shards: tuple[str, str], one_thread: None) -> None:
    """Killed within the second epoch; the shards come over HTTP."""
    with serve(tmp_path / "shards") as (address, _):
        named = [f"{address}/{Path(names).name}" for names in shards]
        words = [sys.executable, "-c", KILLED, str(tmp_path / "run"), *named]
        assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
        batches: list[int] = []
        train(
            settings(*named, save_every=1),
            tmp_path / "run",
            resume=True,
            on_progress=lambda now: batches.append(now.batch),
        )
        assert batches[0] > 1, "it goes on within the epoch"
        train(settings(*named, save_every=1), tmp_path / "whole")
    assert files(tmp_path / "run") == files(tmp_path / "whole")
    assert load_run(tmp_path / "run").config.data.epoch_pairs == 24, "counted once, and kept"


def test_a_run_is_evaluated_on_its_held_out_shards(tmp_path: Path, shards: tuple[str, str]) -> None:
    config = settings(*shards, epochs=1)
    trained = train(config, tmp_path / "run")
    assert "R@1_image_to_text" in (tmp_path / "run" / "metrics.jsonl").read_text()
    found = evaluate(tmp_path / "run").evaluation
    assert (found.images, found.texts) == (6, 6) and found.split.endswith("held out: held-{000..000}.tar, test")
    # Held-out shards are other data like any others.
    other = evaluate(tmp_path / "run", data=tmp_path / "shards" / "train-003.tar").evaluation
    assert other.images == 6 and "train-003.tar, all of it" in other.split
    with pytest.raises(DataError, match="as a stream, for training"):
        evaluate(tmp_path / "run", data="https://host/test.tar")
    again = train(replace(config, train=replace(config.train, start=str(trained.path), epochs=1)), tmp_path / "again")
    assert again.config.data.epoch_pairs == 24
    (tmp_path / "shards" / "held-000.tar").unlink()
    with pytest.raises(DataError, match=r"are not at .*held-000\.tar"):
        require_data(load_run(tmp_path / "run").config, tmp_path / "run")


def test_broken_pictures_are_listed(tmp_path: Path, shards: tuple[str, str]) -> None:
    good = {"b.png": picture(7), "b.txt": b"an old thing"}
    write_shard(tmp_path / "shards" / "train-004.tar", {"a.png": b"no picture", "a.txt": b"a thing", **good})
    config = settings(shards[0].replace("..003", "..004"), shards[1], epochs=1)
    with pytest.raises(DataError, match=r"train-004\.tar/a\.png: it is not an image"):
        train(config, tmp_path / "strict")
    train(replace(config, data=replace(config.data, skip_broken=True)), tmp_path / "run")
    (line,) = (tmp_path / "run" / "left-out.txt").read_text().splitlines()
    assert line.startswith("train-004.tar/a.png: ")


def test_settings_that_need_all_pairs_are_refused(tmp_path: Path, shards: tuple[str, str]) -> None:
    config = settings(*shards)
    derived = replace(config, schedule=(StageConfig("finetune", 1, task="vqa"),))
    derived = replace(derived, model=replace(config.model, multimodal=replace(config.model.multimodal, layers=1)))
    with pytest.raises(ConfigError, match=r"tasks\.vqa has no format"):
        train(derived, tmp_path / "run")
    few = replace(config, train=replace(config.train, batch_size=30))
    with pytest.raises(DataError, match="24 training pairs are fewer than one batch"):
        train(few, tmp_path / "few")
