"""Fixtures: the command line in this process, a NIR file with inputs, image–text pairs, runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nir
import numpy as np
import pytest

from ashneuro import cli
from tests.program.networks import foreign_graph


@dataclass(frozen=True)
class Result:
    """Exit code and output of one command."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def ashneuro(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A function that runs one command line."""

    def run(*words: object) -> Result:
        monkeypatch.setattr("sys.argv", ["ashneuro", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return Result(int(stop.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A NIR file of a convolution, a dense layer and LIF neurons, written with nir alone."""
    path = tmp_path_factory.mktemp("foreign") / "foreign.nir"
    nir.write(path, foreign_graph(np.random.default_rng(0)))
    return path


@pytest.fixture(scope="session")
def spikes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Input spikes of `foreign`, (T, B, *shape) = (16, 6, 2, 8, 8)."""
    path = tmp_path_factory.mktemp("spikes") / "x.npy"
    np.save(path, (np.random.default_rng(1).random((16, 6, 2, 8, 8)) < 0.3).astype(np.uint8))
    return path


SMALL = (
    "data.split=file",
    "data.styles=[]",
    "data.image_size=16",
    "model.concrete.channels=[8]",
    "model.concrete.width=8",
    "model.abstract.channels=[8,8]",
    "model.abstract.units=16",
    "model.embedding=16",
    "train.epochs=2",
    "train.batch_size=8",
    "train.device=cpu",
)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A jsonl of 36 pictures of the embedded pack with their captions."""
    from PIL import Image

    from ashneuro.config import DataConfig
    from ashneuro.data.sources import load_splits

    folder = tmp_path_factory.mktemp("pairs")
    lines = []
    for index, pair in enumerate(load_splits(DataConfig()).test[:1440:40]):
        Image.fromarray(pair.load()).save(folder / f"{index}.png")
        part = ("train", "train", "validation", "test")[index % 4]
        lines.append(json.dumps({"image": f"{index}.png", "caption": list(pair.captions), "split": part}))
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(lines))
    return path


def settings(pairs: Path, *more: str) -> list[str]:
    """Return the options that train a small model on ``pairs``."""
    return [word for item in (f"data.source={pairs}", *SMALL, *more) for word in ("--set", item)]


TASK_SETTINGS = (
    *SMALL,
    "model.multimodal.layers=1",
    "model.multimodal.width=16",
    "model.multimodal.heads=2",
    'schedule=[{name="pretrain",epochs=1},{name="finetune",epochs=1,task="entailment"}]',
)


@pytest.fixture(scope="session")
def task_run(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hybrid trained on retrieval and visual entailment with `pairs`."""
    from ashneuro.workflows.train import train

    return train(
        "tiny", tmp_path_factory.mktemp("tasks") / "run", settings=[f"data.source={pairs}", *TASK_SETTINGS]
    ).path


@pytest.fixture(scope="session")
def exported_run(task_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `task_run` with a bundle, without results of `evaluate`."""
    from ashneuro.workflows.export import export

    folder = tmp_path_factory.mktemp("exported") / "hybrid"
    shutil.copytree(task_run, folder, ignore=shutil.ignore_patterns("entailment*", "evaluation*"))
    export(folder, samples=2)
    return folder
