"""Options of Lava, and whole numbers."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from ashneuro.commands.options import LavaOptions, LavaWorkers
from ashneuro.errors import ConfigError
from ashneuro.simulation.lava.environment import WORKER, find_interpreter
from ashneuro.simulation.lava.session import Lava
from ashneuro.workflows.lava import LavaSettings
from tests.commands.conftest import Command


@pytest.fixture
def bundle(ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path) -> Path:
    words = ("--inputs", spikes, "--out", tmp_path / "net.bundle", "--no-lava", "--accept-assumptions")
    assert ashneuro("export", foreign, *words).code == 0
    return tmp_path / "net.bundle"


def test_stock_is_a_number_or_all() -> None:
    options = [LavaOptions(stock=given).settings() for given in (None, 3, "all")]
    assert [settings.stock_samples(32) for settings in options] == [32, 3, None]
    assert LavaOptions(LavaWorkers(2, ["ssh host"]), 3).settings() == LavaSettings(2, ("ssh host",), stock=3)


def test_stock_and_workers_out_of_range() -> None:
    with pytest.raises(ConfigError, match="--stock -1"):
        LavaOptions(stock=-1).settings()
    for workers in (0, 10**9):
        with pytest.raises(ConfigError, match=f"--workers {workers}"):
            Lava(workers)


@pytest.mark.parametrize(
    "words",
    [
        ("search", "run", "text", "--n"),
        ("export", "run", "--samples"),
        ("check", "net.nir", "--timesteps"),
        ("verify", "bundle", "--stock"),
        ("evaluate", "run", "--samples"),
        ("sweep", "front", "--workers"),
        ("bench", "lif", "--batch"),
        ("train", "tiny", "--gpus"),
    ],
)
@pytest.mark.parametrize("given", ["1.5", "2.0", "1e3", "x", ""])
def test_numbers_that_are_not_whole(ashneuro: Command, words: tuple[str, ...], given: str) -> None:
    """cyclopts would round 1.5 to 2."""
    result = ashneuro(*words, given)
    assert result.code == 2 and f"Invalid value for {words[-1]}" in result.err
    assert "is not a whole number" in result.err


@pytest.mark.lava
def test_lava_options_and_traces(ashneuro: Command, bundle: Path, spikes: Path, tmp_path: Path) -> None:
    here = json.loads(ashneuro("simulate", bundle, "--on", "loihi", "--inputs", spikes, "--json").out)["layers"]
    command = shlex.join(["nice", str(find_interpreter()), "-B", str(WORKER / "worker.py")])
    words = ("--workers", 2, "--lava-command", command, "--stock", 2, "--lava-timeout", 60)
    result = ashneuro(
        "simulate", bundle, "--on", "lava", "--inputs", spikes, *words, "--save", tmp_path / "s.npz", "--json"
    )
    assert result.code == 0, result.err
    there = json.loads(result.out)["layers"]
    assert {name: layer["spikes"] for name, layer in there.items()} == {
        name: layer["spikes"] for name, layer in here.items()
    }
    with np.load(tmp_path / "s.npz") as saved:
        assert saved["lif1"].shape == (16, 6, 4, 4, 4)
    result = ashneuro(
        "simulate", bundle, "--on", "lava", "--trace", "lif1:33", "--trace", "lif2:3", "--figure", tmp_path / "t.svg"
    )
    assert result.code == 0, result.err
    rows = [line.split() for line in result.out.splitlines() if "emulator and Lava" in line]
    assert [(row[0], row[-1]) for row in rows] == [("lif1:33", "0"), ("lif2:3", "0")]
    assert (tmp_path / "t.svg").stat().st_size > 10_000
    assert ashneuro("simulate", bundle, "--trace", "lif9:3").code == 2


def test_traces_without_lava(ashneuro: Command, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASHNEURO_LAVA_PYTHON", "/no/such/python")
    result = ashneuro("simulate", bundle, "--on", "loihi", "--trace", "lif1:33", "--figure", tmp_path / "t.svg")
    assert result.code == 0 and "Lava was not run" in result.out and (tmp_path / "t.svg").exists()


def test_bench_lava_rejects_stock(ashneuro: Command) -> None:
    result = ashneuro("bench", "lava", "--stock", "all")
    assert result.code == 2 and "--stock" in result.err
    assert ashneuro("bench", "lava", "--workers", 2, "--samples", 4).code == 2
