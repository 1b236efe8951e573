"""``simulate`` and ``evaluate`` in shards: all of them together are the whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ashneuro.simulation.record import load_counts
from tests.commands.conftest import Command

SPIKES = ("--dt", "1e-3", "--input-coding", "spikes")


@pytest.mark.parametrize("on", ["torch", "loihi"])
def test_shards_of_a_simulation_add_up(ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path, on: str) -> None:
    words = ("simulate", foreign, "--inputs", spikes, "--on", on, *SPIKES)
    whole = ashneuro(*words, "--json", "--counts", tmp_path / "whole.npz")
    assert whole.code == 0, whole.err
    files = [tmp_path / f"{number}.npz" for number in (1, 2, 3, 4)]
    for number, file in enumerate(files, start=1):
        part = ashneuro(*words, "--json", "--shard", f"{number}/4", "--counts", file)
        assert part.code == 0 and json.loads(part.out)["samples"] == (1, 2, 1, 2)[number - 1]
    merged = ashneuro("simulate", foreign, "--merge", *reversed(files), "--json", "--counts", tmp_path / "all.npz")
    assert merged.code == 0 and json.loads(merged.out) == json.loads(whole.out)
    one, other = load_counts(tmp_path / "all.npz"), load_counts(tmp_path / "whole.npz")
    for name, activity in other.layers.items():
        np.testing.assert_array_equal(one.layers[name].counts, activity.counts)
    assert "wrote" not in ashneuro("simulate", foreign, "--merge", *files).out


def test_mistakes_with_shards_of_a_simulation(ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path) -> None:
    words = ("simulate", foreign, "--inputs", spikes, *SPIKES)
    for shard, told in (("0/2", "counted from 1"), ("a", "counted from 1"), ("1/7", "there are 6 samples")):
        result = ashneuro(*words, "--shard", shard)
        assert result.code == 2 and told in result.err
    assert "needs all samples" in ashneuro(*words, "--shard", "1/2", "--trace", "lif1:0").err
    first, whole = tmp_path / "first.npz", tmp_path / "whole.npz"
    assert ashneuro(*words, "--shard", "1/2", "--counts", first).code == 0
    assert ashneuro(*words, "--counts", whole).code == 0
    assert "there are 1/2" in ashneuro("simulate", foreign, "--merge", first).err
    assert "holds no counts of a shard" in ashneuro("simulate", foreign, "--merge", whole).err
    assert "holds no counts of a shard" in ashneuro("simulate", foreign, "--merge", spikes).err
    assert "cannot write" in ashneuro(*words, "--counts", tmp_path / "no" / "x.npz").err


@pytest.mark.parametrize("task", ["retrieval", "entailment"])
def test_shards_of_an_evaluation_are_the_whole(ashneuro: Command, exported_run: Path, task: str) -> None:
    name = "evaluation" if task == "retrieval" else task
    words = ("evaluate", exported_run, "--task", task, "--abstract-on", "loihi")
    assert ashneuro(*words).code == 0
    file = exported_run / f"{name}-loihi.json"
    whole, counted = file.read_bytes(), load_counts(file.with_suffix(".npz"))
    file.unlink()
    early = ashneuro(*words, "--merge")
    assert early.code == 2 and "there are: none" in early.err
    for number in (3, 1, 2):
        result = ashneuro(*words, "--shard", f"{number}/3", "--json")
        assert result.code == 0 and json.loads(result.out)["shard"] == f"{number}/3", result.err
        assert not file.exists()
    merged = ashneuro(*words, "--merge")
    assert merged.code == 0 and file.read_bytes() == whole, merged.err
    again = load_counts(file.with_suffix(".npz"))
    assert again.samples == counted.samples
    for layer, activity in counted.layers.items():
        np.testing.assert_array_equal(again.layers[layer].counts, activity.counts)
        assert again.layers[layer].active_updates == activity.active_updates
    second = exported_run / "shards" / f"{name}-loihi-2-of-3.npz"
    with np.load(second) as archive:
        np.savez(second.with_name("cut.npz"), header=archive["header"], spikes=archive["spikes"][:, :, 0])
    second.with_name("cut.npz").replace(second)
    assert "do not belong together" in ashneuro(*words, "--merge").err
    second.write_bytes(b"damaged")
    assert "cannot read" in ashneuro(*words, "--merge").err
    (exported_run / "shards" / f"{name}-loihi-2-of-3.npz").unlink()
    assert "there are: 1/3, 3/3" in ashneuro(*words, "--merge").err


def test_mistakes_with_shards_of_an_evaluation(ashneuro: Command, exported_run: Path, tmp_path: Path) -> None:
    words = ("evaluate", exported_run)
    assert "--abstract-on loihi, or lava" in ashneuro(*words, "--shard", "1/2").err
    assert "pictures" in ashneuro(*words, "--abstract-on", "loihi", "--shard", "1/99").err
    assert "leave out" in ashneuro(*words, "--shard", "1/2", "--predictions", tmp_path / "x.trec").err
