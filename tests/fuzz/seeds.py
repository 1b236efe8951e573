"""Sound inputs of every format, which the mutations damage."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import nir
import numpy as np

from ashneuro.training.claims import CLAIM, Holder
from tests.fuzz import further_seeds
from tests.fuzz.pictures import pictures
from tests.program.networks import foreign_graph

Run = Callable[..., None]
"""Runs one command line, which must succeed: a working directory, then the words."""
FIXTURES = Path(__file__).parent.parent / "formats"
SMALL = (
    "data.source=shapes",
    "data.format=webdataset",
    "data.split=file",
    "data.styles=[]",
    "data.image_size=16",
    "data.max_words=2",
    "model.concrete.channels=[6]",
    "model.concrete.width=8",
    "model.abstract.channels=[4,6]",
    "model.abstract.units=16",
    "model.abstract.timesteps=3",
    "model.text.width=8",
    "model.text.heads=1",
    "model.embedding=16",
    "model.multimodal.layers=1",
    "model.multimodal.width=8",
    "model.multimodal.heads=1",
    "train.batch_size=12",
    "train.device=cpu",
    "train.stua=0",
)
SCHEDULE = 'schedule=[{name="pretrain",epochs=1},{name="finetune",epochs=1,task="entailment"}]'


def settings(*more: str) -> list[str]:
    """Return the options that train a small model on ``shapes`` in the working directory."""
    return [word for item in (*SMALL, *more) for word in ("--set", item)]


def make(folder: Path, run: Run) -> None:
    """Write all seeds into ``folder``, each scene into a folder of its own.

    Args:
        run: runs the commands that make runs, bundles and sweeps.
    """
    shapes = FIXTURES / "before_2026_11" / "shapes"
    _networks(folder / "network", run)
    pictures(folder / "data")
    scene = folder / "run"
    scene.mkdir(parents=True)
    shutil.copytree(shapes, scene / "shapes")
    run(scene, "train", "tiny", "--out", "hybrid", *settings(SCHEDULE))
    (scene / "settings.toml").write_text(
        '[data]\nsource = "shapes"\nformat = "webdataset"\nsplit = "file"\nstyles = []\nimage_size = 16\n'
        "[model.abstract]\nunits = 16\nv_threshold = 1.0\n[train]\nepochs = 1\nbatch_size = 12\nstua = 0.3\n"
    )
    run(scene, "evaluate", "hybrid")
    run(scene, "evaluate", "hybrid", "--task", "entailment")
    run(scene, "export", "hybrid", "--samples", 2, "--no-lava")
    run(scene, "evaluate", "hybrid", "--abstract-on", "loihi")
    for index in (1, 2):
        run(scene, "evaluate", "hybrid", "--abstract-on", "loihi", "--shard", f"{index}/2")
    further_seeds.stream(scene / "hybrid" / "stream-shapes.json")
    further_seeds.questions(scene / "questions")
    _hub(folder / "hub", scene / "hybrid")
    further_seeds.clips(folder / "clips")
    further_seeds.tables(folder / "tables")
    shutil.copytree(shapes, folder / "sweep" / "shapes")
    changes = json.dumps([*SMALL, "train.epochs=1"])
    (folder / "sweep" / "sweep.toml").write_text(
        f'base = "tiny"\nseeds = [0]\nset = {changes}\n[factors.kind]\n"no encoder" = ["model.abstract.kind=none"]\n'
    )
    run(folder / "sweep", "sweep", "sweep.toml", "--out", "out")
    claim = CLAIM.stamped(asdict(Holder(1, "another", "pid:[0]")))
    (folder / "sweep" / "out" / "cells" / "base-0.claim-1").write_text(json.dumps(claim))


def _hub(folder: Path, run: Path) -> None:
    """Write a run, and the same run in a folder in the place of the hub."""
    for place in (folder / "hybrid", folder / "hub" / "me" / "hybrid"):
        place.mkdir(parents=True)
        for name in ("README.md", "config.json", "vocabulary.json", "labels.json", "model.safetensors"):
            shutil.copy(run / name, place / name)


def files(folder: Path) -> None:
    """Write a NIR file, a lava-dl network, inputs, a profile and measurements."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    nir.write(folder / "network.nir", foreign_graph(random))
    spikes = (random.random((6, 3, 2, 8, 8)) < 0.3).astype(np.uint8)
    np.save(folder / "x.npy", spikes)
    np.savez_compressed(folder / "x.npz", input=spikes)
    with tarfile.open(FIXTURES / "before_2026_11" / "conv_delays.bundle.tar.gz") as tar:
        tar.extractall(folder, filter="data")
    shutil.move(folder / "conv_delays.bundle" / "network.net", folder / "network.net")
    shutil.rmtree(folder / "conv_delays.bundle")
    profiles = Path(sys.modules["ashneuro"].__file__ or "").parent.parent / "hardware_profiles"
    shutil.copy(profiles / "cmos45.toml", folder / "profile.toml")
    measured = {
        "schema": "ashneuro.measurement/1",
        "measured": [],
        "not_measured": [{"network": "ANN", "device": "cpu", "reason": "no counter"}],
    }
    (folder / "gpu.json").write_text(json.dumps(measured))


def _networks(folder: Path, run: Run) -> None:
    files(folder)
    words = "--inputs x.npy --samples 2 --no-lava --dt 0.001 --reset value --reset-delay 0 --comparison strict"
    stated = "--integration euler --input-coding spikes --start v_leak"
    run(folder, "export", "network.nir", "--out", "bundle", *words.split(), *stated.split())
    shutil.copy(folder / "bundle" / "network.nir", folder / "network.nir")  # with what it depends on
    for index in (1, 2):
        part = ("--shard", f"{index}/2", "--counts", f"part-{index}.npz")
        run(folder, "simulate", "bundle", "--inputs", "x.npy", "--on", "loihi", *part)
