"""Training beside other work: what is compared, and that it is all measured."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from ashneuro.bench import beside
from ashneuro.bench.beside import bench_beside, situations
from ashneuro.bench.measure import Spread
from ashneuro.config import RunConfig, dump_config, load_config
from ashneuro.errors import AshneuroError, ConfigError
from ashneuro.reporting import tables

SMALL = ["model.abstract.channels=[4, 6]", "model.abstract.units=8", "train.batch_size=4", "data.image_size=16"]


def test_ratios_are_of_a_training_alone_in_the_same_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings that pretend: as fast as their threads, the second half as fast as the first."""
    started: list[float] = []
    asked: list[tuple[int, float]] = []

    @contextmanager
    def pretend(config: RunConfig) -> Iterator[beside.StartRun]:
        started.append(1.0 / (1 + len(started)))
        speed = started[-1]

        def run(threads: int, seconds: float) -> Callable[[], float]:
            asked.append((threads, seconds))
            return lambda: 100.0 * threads * speed

        yield run

    monkeypatch.setattr(beside, "_training", pretend)
    monkeypatch.setattr(beside, "usable_cores", lambda: 2)
    told: list[tuple[int, int]] = []
    result = bench_beside(load_config("tiny"), busy=1, rounds=2, seconds=0.5, progress=lambda *now: told.append(now))
    assert [each.ratio for each in result.situations] == [
        Spread(value, value, value) for value in (1.0, 0.5, 1.5, 0.75, 1.0)
    ]
    assert asked == [(2, 0.5), (1, 0.5), (2, 0.5), (2, 0.5), (1, 0.5), (1, 0.5), (2, 0.5)] * 2
    assert told == [(number, 10) for number in range(1, 11)]
    table = tables.bench.beside(result.to_json())
    assert [row[2:4] for row in table.rows][:2] == [("200", "1.00×"), ("100", "0.50×")]


def test_training_answers_with_pairs_per_second(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    asked = f"{json.dumps(dump_config(load_config('tiny', SMALL)))}\n1 0.01\n1 0.01\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(asked))
    try:
        beside._serve()
    finally:
        torch.set_num_threads(threads)
    ready, *speeds = map(float, capsys.readouterr().out.split())
    assert ready == 0 and len(speeds) == 2 and min(speeds) > 0


def test_two_trainings_share_the_cores() -> None:
    names = {each.name: (each.trainings, each.threads, each.busy) for each in situations(8, 4)}
    assert names["alone"] == (1, 8, 0) and names["alone, one thread"] == (1, 1, 0)
    assert names["two at once, each with its share"] == (2, 4, 0)
    assert names["beside 4 busy processes"] == (1, 8, 4)
    assert "alone, one thread" not in {each.name for each in situations(1, 4)}


def test_training_that_ends_is_an_error(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="beside = 0"):
        bench_beside(load_config("tiny"), busy=0)
    monkeypatch.setattr(beside, "dump_config", lambda config: {"no": "settings"})
    with pytest.raises(AshneuroError, match="a training of the benchmark ended"):
        bench_beside(load_config("tiny", SMALL))
    assert "ConfigError" in capfd.readouterr().err
