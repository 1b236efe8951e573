"""``ashneuro sweep``: interrupted, shared and failing runs; table, figure and files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from ashneuro.sweep_config import SweepConfig
from ashneuro.training.claims import claim
from ashneuro.workflows import sweep as workflow
from ashneuro.workflows import sweep_runs
from tests.commands.conftest import SMALL, Command


def test_sweep_resumes_and_summarises(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    changes = json.dumps([f"data.source={pairs}", *SMALL, "train.epochs=1"])
    levels = '"no encoder" = ["model.abstract.kind=none"]\n"low-bit" = ["model.abstract.kind=quantised-relu"]\n'
    config = tmp_path / "sweep.toml"
    config.write_text(f"seeds = [0, 1]\nset = {changes}\n[factors.kind]\n{levels}")
    out, elsewhere = tmp_path / "sweep", tmp_path / "elsewhere"
    assert "no run is finished" in ashneuro("sweep", config, "--out", out, "--limit", 0).out

    # A run that another process has claimed is left to it.
    with claim(out / "cells" / "no-encoder-0"):
        result = ashneuro("sweep", config, "--out", out, "--seeds", 0)
        assert result.code == 0 and "no encoder, seed 0 is being trained by process" in result.out
    assert [row["variant"] for row in json.loads((out / "sweep.json").read_text())["runs"]] == ["base", "low-bit"]
    assert "1 runs are still to come" in (out / "sweep.md").read_text()
    before = (out / "cells" / "base-0" / "model.safetensors").stat().st_mtime_ns

    # An unfinished run with settings of another cell is refused.
    shutil.copytree(out / "cells" / "base-0", out / "cells" / "no-encoder-0")
    (out / "cells" / "no-encoder-0" / "row.json").unlink()
    begun = ashneuro("sweep", config, "--out", out, "--seeds", 0)
    assert (
        begun.code == 2
        and "no-encoder-0 was made with other settings" in begun.err
        and "abstract.kind is 'spiking' there" in begun.err
    )
    shutil.rmtree(out / "cells" / "no-encoder-0")

    # A shard that was trained in another folder, or on another machine, counts when it is merged.
    assert ashneuro("sweep", config, "--out", elsewhere, "--seeds", 1, "--shard", "1/2").code == 0
    assert sorted(path.name for path in (elsewhere / "cells").iterdir()) == ["base-1", "low-bit-1"]
    none = ashneuro("sweep", config, "--out", out, "--merge", tmp_path / "nowhere")
    assert none.code == 2 and "holds no finished run of this sweep" in none.err
    wrong = ashneuro("sweep", config, "--out", out, "--shard", "3/2")
    assert wrong.code == 2 and "part i of n, counted from 1" in wrong.err
    result = ashneuro("sweep", config, "--out", out, "--seeds", 1, "--limit", 0, "--merge", elsewhere)
    assert result.code == 0 and "of other seeds too: --seeds 1 0" in result.out
    there = (out / "cells" / "base-1" / "model.safetensors").stat().st_mtime_ns
    result = ashneuro("sweep", config, "--out", out, "--json")
    assert result.code == 0, result.err
    assert (out / "cells" / "base-1" / "model.safetensors").stat().st_mtime_ns == there
    assert not list((out / "cells").glob("*.claim*"))
    content = json.loads(result.out)
    assert [(row["variant"], row["seed"]) for row in content["runs"]] == [
        (variant, seed) for seed in (0, 1) for variant in ("base", "no encoder", "low-bit")
    ]
    assert (out / "cells" / "base-0" / "model.safetensors").stat().st_mtime_ns == before, (
        "finished runs are not trained again"
    )

    base, none, low = content["summaries"]
    assert base["seeds"] == none["seeds"] == 2
    taken = {"accuracy_a_zeroed", "accuracy_c_zeroed", "accuracy_a_alone", "synops", "firing_rate"}
    assert taken <= base["mean"].keys()
    assert not {"accuracy_a_zeroed", "synops"} & none["mean"].keys() and "synops" not in low["mean"]
    assert none["mean"]["energy_j"] < low["mean"]["energy_j"], "an encoder that is left out costs nothing"
    assert base["mean"]["host_macs"] > none["mean"]["host_macs"]
    rows = json.loads((out / "sweep.json").read_text())["runs"]
    exact = [row["accuracy"] for row in rows if row["variant"] == "base"]
    assert base["mean"]["accuracy"] == pytest.approx(sum(exact) / 2)
    table = (out / "sweep.md").read_text()
    variants, comparison = table.split("| variant |")[1:]  # the second: beside the cheapest ANN
    assert variants.count("| base ") == comparison.count("| base ") == 1
    assert "±" in variants and "host MACs" in variants
    figure = (out / "sweep.svg").read_text()
    assert figure.startswith("<svg") and "var(--" not in figure and "no encoder" in figure
    assert (out / "sweep.csv").read_text().count("\n") == 7

    changed = ashneuro("sweep", config, "--out", out, "--set", "train.epochs=2")
    assert changed.code == 2 and "other settings" in changed.err and "train.epochs is 1 there and 2 now" in changed.err
    config.write_text(f'profile = "h100"\n{config.read_text()}')
    assert "on one node" in ashneuro("sweep", config, "--out", out).err
    assert "trains none" in ashneuro("sweep", config, "--out", out, "--limit", -1).err


def test_failed_run_does_not_stop_sweep(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    changes = json.dumps([f"data.source={pairs}", *SMALL, "train.epochs=1", "model.abstract.kind=none"])
    levels = '"wild" = ["train.learning_rate=1e30"]\n"slow" = ["train.learning_rate=1e-4"]\n'
    config = tmp_path / "sweep.toml"
    config.write_text(f"seeds = [0]\nset = {changes}\n[factors.rate]\n{levels}")
    for words in ((), ("--json",)):
        result = ashneuro("sweep", config, "--out", tmp_path / "sweep", *words)
        assert result.code == 2 and "wild, seed 0: training has diverged" in result.err
    content = json.loads(result.out)
    assert [row["variant"] for row in content["runs"]] == ["base", "slow"] and list(content["failed"]) == [
        "wild, seed 0"
    ]
    assert "1 runs are still to come" in (tmp_path / "sweep" / "sweep.md").read_text()


def test_runs_start_from_runs_of_the_sweep(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    changes = json.dumps([f"data.source={pairs}", *SMALL, "train.epochs=1", "model.abstract.kind=relu"])
    config = tmp_path / "sweep.toml"
    config.write_text(
        f'seeds = [0]\ndesign = "levels"\nset = {changes}\n'
        '[starts]\n"before" = []\n"wild" = ["train.learning_rate=1e30"]\n'
        '[factors.start]\n"after" = ["train.start=@before", "train.epochs=2"]\n"tame" = ["train.start=@wild"]\n'
    )
    out = tmp_path / "sweep"
    result = ashneuro("sweep", config, "--out", out)
    assert result.code == 2 and "wild, seed 0: training has diverged" in result.err
    assert "tame, seed 0: not trained" in result.err and "wild, seed 0, which failed" in result.err
    (row,) = json.loads((out / "sweep.json").read_text())["runs"]
    assert (row["variant"], row["epochs"]) == ("after", 3), "starts are no rows of the table"
    assert 0 <= row["accuracy"] <= 1 and 0 <= row["accuracy_float"] <= 1
    started = json.loads((out / "cells" / "after-0" / "config.json").read_text())
    assert started["train"]["start"] == str(out / "cells" / "before-0")

    # Elsewhere, finished runs count as they are.
    moved = out.rename(tmp_path / "moved")
    result = ashneuro("sweep", config, "--out", moved, "--limit", 0)
    assert result.code == 0 and "after" in result.out


def test_sweep_waits_for_a_start_that_is_trained_elsewhere(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_runs, "POLL_S", 0.0)
    planned = SweepConfig(
        seeds=(0,),
        design="levels",
        set=(f"data.source={pairs}", *SMALL, "train.epochs=1", "model.abstract.kind=none"),
        starts={"before": ()},
        factors={"start": {"after": ("train.start=@before",)}},
    )
    told: list[str] = []
    with ExitStack() as elsewhere:
        elsewhere.enter_context(claim(tmp_path / "cells" / "before-0"))

        def wait(run: str, who: str) -> None:
            told.append(run)
            elsewhere.close()

        result = workflow.sweep(planned, tmp_path, wait=wait)
    assert told == ["before, seed 0"]
    assert [row.variant for row in result.rows] == ["after"] and result.planned == 1


WORKERS = """
import json, multiprocessing, os, sys
from pathlib import Path
import torch
from ashneuro.sweep_config import SweepConfig
from ashneuro.workflows import sweep as workflow
from ashneuro.workflows import sweep_runs

folder, settings = Path(sys.argv[1]), tuple(json.loads(sys.argv[2]))
torch.set_num_threads(1)
planned = SweepConfig(seeds=(0, 1, 2), design="levels", set=settings, factors={"kind": {"none": ()}})
context = multiprocessing.get_context("fork")
together, train = context.Barrier(2), sweep_runs.train

def work():
    begun = False

    def recorded(config, out, **options):
        nonlocal begun
        if not begun:  # both processes are in a run of their own
            begun = True
            together.wait(20)
        with (folder / "trained").open("a") as file:
            file.write(f"{Path(out).name} {os.getpid()}\\n")
        return train(config, out, **options)

    sweep_runs.train, sweep_runs.POLL_S = recorded, 0.0
    together.wait(20)
    workflow.sweep(planned, folder)

processes = [context.Process(target=work) for _ in range(2)]
for process in processes:
    process.start()
for process in processes:
    process.join()
sys.exit(any(process.exitcode for process in processes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
def test_two_processes_share_the_runs_of_a_folder(pairs: Path, tmp_path: Path) -> None:
    changes = [f"data.source={pairs}", *SMALL, "train.epochs=1", "model.abstract.kind=none"]
    subprocess.run([sys.executable, "-c", WORKERS, str(tmp_path), json.dumps(changes)], check=True, timeout=120)
    trained = [line.split() for line in (tmp_path / "trained").read_text().splitlines()]
    assert sorted(name for name, _ in trained) == ["none-0", "none-1", "none-2"], "each run once"
    assert len({process for _, process in trained}) == 2, "by both"
    assert not list((tmp_path / "cells").glob("*.claim*"))
    planned = SweepConfig(seeds=(0, 1, 2), design="levels", set=tuple(changes), factors={"kind": {"none": ()}})
    result = workflow.sweep(planned, tmp_path, limit=0)
    assert [(row.variant, row.seed) for row in result.rows] == [("none", 0), ("none", 1), ("none", 2)]
