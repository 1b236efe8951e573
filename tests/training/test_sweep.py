"""Runs of a sweep: their settings, claims, means and deviations."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from ashneuro.config import dump_config, load_config
from ashneuro.errors import ConfigError
from ashneuro.exchange import Shard
from ashneuro.sweep_config import SweepConfig, load_sweep
from ashneuro.training.sweep import Row, cells, shard_of, summarise

FACTORS = {
    "T": {"T = 1": ("model.abstract.timesteps=1",), "T = 8": ("model.abstract.timesteps=8",)},
    "L_STUA": {"with": ("train.stua=0.5",), "without": ("train.stua=0",)},
}


def test_too_many_combinations_are_refused() -> None:
    factors = {f"f{i}": {f"{i}{j}": () for j in range(9)} for i in range(9)}
    with pytest.raises(ConfigError, match="387,420,489 variants"):
        cells(SweepConfig(factors=factors, design="cross"))


def test_one_at_a_time_is_the_base_and_each_level_for_every_seed() -> None:
    found = cells(SweepConfig(set=("train.epochs=2",), seeds=(4, 5), factors=FACTORS))
    assert [(cell.variant, cell.seed) for cell in found] == [
        (variant, seed) for seed in (4, 5) for variant in ("base", "T = 1", "T = 8", "with", "without")
    ]
    assert {cell.config.train.epochs for cell in found} == {2}
    assert [cell.config.train.seed for cell in found] == [cell.seed for cell in found]
    assert [cell.config.model.abstract.timesteps for cell in found[:5]] == [4, 1, 8, 4, 4]
    assert [cell.config.train.stua for cell in found[:5]] == [0.3, 0.3, 0.3, 0.5, 0.0]
    assert found[1].levels == {"T": "T = 1"} and found[0].levels == {}
    assert len({cell.folder for cell in found}) == 10


def test_a_cross_is_every_combination() -> None:
    found = cells(SweepConfig(design="cross", seeds=(0,), factors=FACTORS))
    assert [cell.variant for cell in found] == ["T = 1, with", "T = 1, without", "T = 8, with", "T = 8, without"]
    assert [(cell.config.model.abstract.timesteps, cell.config.train.stua) for cell in found] == [
        (1, 0.5),
        (1, 0.0),
        (8, 0.5),
        (8, 0.0),
    ]
    assert found[1].levels == {"T": "T = 1", "L_STUA": "without"}
    some = cells(SweepConfig(design="cross", seeds=(0,), factors={"nothing yet": {}, **FACTORS}))
    assert [cell.levels for cell in some] == [cell.levels for cell in found], (
        "a factor without levels takes none of another's"
    )


CHAIN = SweepConfig(
    seeds=(3, 4),
    design="levels",
    factors={
        "a": {"late": ("train.start=@early", "train.epochs=2"), "later": ("train.start=@late", "train.epochs=1")},
        "b": {"fresh": ("train.epochs=8",)},
    },
    starts={"first": ("train.epochs=4",), "early": ("train.start=@first", "train.epochs=1")},
)


def test_variants_come_after_those_that_they_start_from(tmp_path: Path) -> None:
    turned = replace(CHAIN, starts=dict(reversed(CHAIN.starts.items())))
    for sweep in (CHAIN, turned):
        found = cells(sweep)
        assert [(cell.variant, cell.seed) for cell in found] == [
            (name, seed) for seed in (3, 4) for name in ("first", "early", "late", "later", "fresh")
        ]
        epochs = {"first": 4, "early": 5, "late": 7, "later": 8, "fresh": 8}
        assert {cell.variant: cell.epochs for cell in found} == epochs, "those of the starts included"
        assert {cell.variant for cell in found if not cell.compared} == {"first", "early"}
    late = found[7]
    assert (late.name, late.needs, late.config.train.start) == ("late, seed 4", ("early",), "@early")
    settings = late.settings(lambda variant: tmp_path / f"{variant}-4")
    assert settings.train.start == str(tmp_path / "early-4")
    assert late.settings_like(settings) == settings
    moved = replace(settings, train=replace(settings.train, start="/elsewhere/early-4"))
    assert late.settings_like(moved) == moved, "the folder of a sweep may be moved"
    other = replace(settings, train=replace(settings.train, start="/elsewhere/first-4"))
    assert late.settings_like(other).train.start == "@early"


def test_epochs_of_a_start_outside_of_the_sweep_count(tmp_path: Path) -> None:
    for name, start in (("one", ""), ("two", str(tmp_path / "one"))):
        (tmp_path / name).mkdir()
        config = load_config("tiny", ["train.epochs=5", f"train.start={start}"])
        (tmp_path / name / "config.json").write_text(json.dumps(dump_config(config)))
    changes = (f"train.start={tmp_path / 'two'}", "train.epochs=2")
    (cell,) = cells(SweepConfig(design="levels", seeds=(0,), factors={"a": {"x": changes}}))
    assert cell.epochs == 12


def test_mistakes_in_a_chain_are_said() -> None:
    equal = replace(CHAIN, equal_epochs=True)
    with pytest.raises(ConfigError, match=r"late: 7; later: 8; fresh: 8"):
        cells(equal)
    assert cells(
        replace(equal, factors={"a": {**CHAIN.factors["b"], "more": ("train.start=@early", "train.epochs=3")}})
    )
    with pytest.raises(ConfigError, match=r"'@earli' in 'late'[\s\S]*did you mean '@early'"):
        cells(replace(CHAIN, factors={"a": {"late": ("train.start=@earli",)}}))
    with pytest.raises(ConfigError, match=r"'first' of the sweep builds on itself\nwhy: first → early → first"):
        cells(replace(CHAIN, starts={**CHAIN.starts, "first": ("train.start=@early",)}))
    with pytest.raises(ConfigError, match=r"two variants of the sweep have one name\nwhy: early"):
        cells(replace(CHAIN, factors={"a": {"Early": ()}}))


def test_summaries_are_means_and_sample_deviations() -> None:
    values = [0.3, 0.5, 0.4]
    rows = [Row("a", {}, seed, {"accuracy": value, "synops": None}) for seed, value in enumerate(values)]
    one, other = summarise([*rows, Row("b", {"T": "b"}, 0, {"accuracy": 0.1, "energy_j": 2e-6})])
    assert (one.variant, one.seeds, one.mean["accuracy"]) == ("a", 3, pytest.approx(0.4))
    assert one.deviation["accuracy"] == pytest.approx(statistics.stdev(values))
    assert (one.least["accuracy"], one.most["accuracy"]) == (0.3, 0.5)
    assert "synops" not in one.mean, "what was not measured has no mean"
    assert other.deviation["accuracy"] is None and other.mean["energy_j"] == 2e-6


def test_mistakes_in_a_sweep_are_said(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text("seeds = [0]\nfactor = 1\n")
    with pytest.raises(ConfigError, match="unknown"):
        load_sweep(path)
    path.write_text("seeds = [0]\n")
    with pytest.raises(ConfigError, match="varies nothing"):
        load_sweep(path)
    path.write_text('seeds = []\n[factors.T]\n"T = 1" = ["model.abstract.timesteps=1"]\n')
    with pytest.raises(ConfigError, match="cannot be used"):
        load_sweep(path)
    path.write_text('[factors.T]\n"T = 1" = ["model.abstract.timestep=1"]\n')
    with pytest.raises(ConfigError, match=r"did you mean model\.abstract\.timesteps"):
        cells(load_sweep(path))
    with pytest.raises(ConfigError, match=r"'T = 1' of the sweep cannot be run"):
        cells(load_sweep(path))
    with pytest.raises(ConfigError, match=r"not trained by base, x[\s\S]*task = 'vqa'"):
        cells(SweepConfig(task="vqa", factors={"a": {"x": ()}}))
    assert (
        len(
            cells(
                SweepConfig(
                    task="vqa", seeds=(0,), set=('schedule=[{name="v",epochs=1,task="vqa"}]',), factors={"a": {"x": ()}}
                )
            )
        )
        == 2
    )
    with pytest.raises(ConfigError, match="one name"):
        cells(SweepConfig(factors={"a": {"x!": ()}, "b": {"x?": ()}}))
    path.write_text('[factors.T]\n"T = 1" = ["model.abstract.timesteps=1"]\n')
    assert load_sweep(path, ["train.epochs=1"]).set == ("train.epochs=1",)


def test_sweeps_of_earlier_versions_open(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    text = 'seeds = [0]\n[factors.T]\n"T = 1" = ["model.abstract.timesteps=1"]\n'
    path.write_text(text)
    now = load_sweep(path)
    path.write_text(f"energy_images = 4\n{text}")
    assert load_sweep(path) == now


def test_shards_are_the_compared_runs_in_turn_and_what_they_build_on() -> None:
    found = cells(CHAIN)
    parts = [shard_of(found, Shard(number, 3)) for number in (1, 2, 3)]
    compared = [cell.name for cell in found if cell.compared]
    for number, part in enumerate(parts):
        own = set(compared[number::3])
        assert own <= {cell.name for cell in part}
        for cell in part:
            assert {(name, cell.seed) for name in cell.needs} <= {(one.variant, one.seed) for one in part}
            assert cell.name in own or any(cell.variant in one.needs for one in part), "nothing is trained in vain"
    assert shard_of(found, Shard(1, 1)) == found
