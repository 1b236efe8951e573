"""A search of a sweep: trials, two objectives, several processes, and what a killed one leaves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ashneuro.config import dump_config
from ashneuro.errors import AshneuroError, ConfigError
from ashneuro.sweep_config import SearchRange, SweepConfig, load_sweep
from ashneuro.training.claims import claim
from ashneuro.training.sweep import Cell, Row
from ashneuro.workflows import study, sweep, sweep_runs, sweep_table

optuna = pytest.importorskip("optuna")

PLANNED = SweepConfig(
    seeds=(0, 1),
    search="optuna",
    trials=3,
    factors={"T": {"T = 1": ("model.abstract.timesteps=1",), "T = 8": ("model.abstract.timesteps=8",)}},
    ranges={
        "train.learning_rate": SearchRange(1e-4, 1e-2, log=True),
        "model.abstract.units": SearchRange(16, 64),
    },
)

Trained = list[str]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Measures follow from the settings, and nothing is trained; the names of runs in turn."""
    names: Trained = []

    def measure(cell: Cell, folder: Path, planned: object, profile: object, on_progress: object, mine: object) -> None:
        names.append(cell.name)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(dump_config(cell.config)))
        steps, units = cell.config.model.abstract.timesteps, cell.config.model.abstract.units
        energy = 1e-6 * steps * units
        measures = {
            "epochs": 1,
            "accuracy": 0.1 * math.log(steps * units) - abs(math.log10(cell.config.train.learning_rate) + 3) / 10,
            "energy_j": energy,
            "energy_low_j": energy / 2,
            "energy_high_j": energy * 2,
        }
        Row(cell.variant, dict(cell.levels), cell.seed, measures, folder).save(folder / "row.json")

    monkeypatch.setattr(sweep_runs, "_train_and_measure", measure)
    return names


@pytest.fixture
def no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes longest."""
    monkeypatch.setattr(sweep_table, "_figure", lambda summaries, planned: "")


def stored(folder: Path) -> list[Any]:
    found: list[Any] = study._open_study(optuna, folder).trials
    return found


def test_trials_have_levels_and_values_and_two_objectives(trained: Trained, tmp_path: Path) -> None:
    result = sweep.sweep(PLANNED, tmp_path)
    assert trained == [f"trial {number}, seed {seed}" for number in range(3) for seed in (0, 1)]
    assert (result.planned, len(result.rows), len(result.summaries)) == (6, 6, 3) and not result.failed
    trials = stored(tmp_path)
    for trial, summary in zip(trials, result.summaries, strict=True):
        assert trial.values == pytest.approx([summary.mean["accuracy"], summary.mean["energy_j"]])
        assert 1e-4 <= trial.params["train.learning_rate"] <= 1e-2 and trial.params["T"] in ("T = 1", "T = 8")
        assert isinstance(trial.params["model.abstract.units"], int)
        assert summary.levels["T"] == trial.params["T"]
    assert len({trial.params["train.learning_rate"] for trial in trials}) == 3
    table = (tmp_path / "sweep.md").read_text()
    assert "| trial 2: T = " in table and "train.learning_rate = " in table
    on_front = {
        line.split(":")[0].split()[-1] for line in table.splitlines() if "typical" in line and "| trial" in line
    }
    best = study._open_study(optuna, tmp_path).best_trials
    assert on_front == {str(trial.number) for trial in best}, "the front of the table is Optuna's"
    assert "trial" in (tmp_path / "sweep.svg").read_text()
    assert sweep.sweep(PLANNED, tmp_path).rows == result.rows and len(trained) == 6, "nothing is trained twice"


def test_choices_follow_from_what_was_measured(trained: Trained, no_figure: None, tmp_path: Path) -> None:
    sweep.sweep(PLANNED, tmp_path / "one")
    sweep.sweep(PLANNED, tmp_path / "parts", limit=1)
    assert len(stored(tmp_path / "parts")) == 1
    sweep.sweep(PLANNED, tmp_path / "parts")
    assert [trial.params for trial in stored(tmp_path / "one")] == [
        trial.params for trial in stored(tmp_path / "parts")
    ]


def test_a_trial_that_a_killed_process_left_is_gone_on_with(
    trained: Trained, no_figure: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: Callable[..., None] = sweep_runs._train_and_measure

    def stop(cell: Cell, *words: Any) -> None:
        if cell.name == "trial 1, seed 1":
            raise KeyboardInterrupt
        whole(cell, *words)

    monkeypatch.setattr(sweep_runs, "_train_and_measure", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(PLANNED, tmp_path)
    left = stored(tmp_path)[1]
    assert left.state == optuna.trial.TrialState.RUNNING
    monkeypatch.setattr(sweep_runs, "_train_and_measure", whole)
    with claim(tmp_path / "cells" / "trial-1"):  # as long as its process lives, others leave it alone
        result = sweep.sweep(PLANNED, tmp_path, limit=1)
        assert list(result.elsewhere) == ["trial 1"] and "trial 2, seed 0" in trained
    sweep.sweep(PLANNED, tmp_path)
    assert stored(tmp_path)[1].params == left.params and trained.count("trial 1, seed 0") == 1
    assert {trial.state for trial in stored(tmp_path)} == {optuna.trial.TrialState.COMPLETE}


def test_a_trial_that_fails_stops_no_other(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Callable[..., None] = sweep_runs._train_and_measure

    def fail(cell: Cell, *words: Any) -> None:
        if cell.variant == "trial 1":
            raise AshneuroError("training has diverged")
        whole(cell, *words)

    monkeypatch.setattr(sweep_runs, "_train_and_measure", fail)
    result = sweep.sweep(PLANNED, tmp_path)
    assert set(result.failed) == {"trial 1, seed 0", "trial 1, seed 1"} and len(result.summaries) == 2
    assert stored(tmp_path)[1].state == optuna.trial.TrialState.FAIL


def test_trials_may_start_from_runs(trained: Trained, no_figure: None, tmp_path: Path) -> None:
    changes = {"late": ("train.start=@first",)}
    planned = replace(
        PLANNED, trials=2, seeds=(0,), ranges=PLANNED.ranges, starts={"first": ()}, factors={"start": changes}
    )
    planned = replace(planned, ranges={"train.learning_rate": SearchRange(1e-4, 1e-2)})
    sweep.sweep(planned, tmp_path)
    assert trained == ["first, seed 0", "trial 0, seed 0", "trial 1, seed 0"]


def test_mistakes_in_a_search(trained: Trained, no_figure: None, tmp_path: Path) -> None:
    sweep.sweep(PLANNED, tmp_path, limit=1)
    fewer = {"T": {"T = 2": ("model.abstract.timesteps=2",)}}
    with pytest.raises(ConfigError, match="a trial has T = "):
        sweep.sweep(replace(PLANNED, factors=fewer), tmp_path)
    with pytest.raises(ConfigError, match="a search with --shard"):
        sweep.sweep(PLANNED, tmp_path, merge=[tmp_path])
    path = tmp_path / "sweep.toml"
    path.write_text('[ranges]\n"train.learning_rate" = {low = 0.1, high = 0.2}\n')
    with pytest.raises(ConfigError, match="a search chooses from ranges"):
        load_sweep(path)
    path.write_text('search = "optuna"\n[ranges]\n"train.learning_rate" = {low = 0.0, high = 0.2, log = true}\n')
    with pytest.raises(ConfigError, match=r"the range of train\.learning_rate is empty"):
        load_sweep(path)
    path.write_text('search = "optuna"\ntrials = 3\n[ranges]\n"train.epochs" = {low = 1, high = 3}\n')
    assert load_sweep(path).ranges["train.epochs"].is_whole
