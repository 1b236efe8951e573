"""Program of each process of `test_processes` under torchrun: train the squares into a folder."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from ashneuro.config import RunConfig, StageConfig, StageNeuron
from ashneuro.training import data, loop
from tests.training import tasks_tiny, tiny


def settings(kind: str) -> RunConfig:
    """Return settings by kind; without dropout, which every process draws for itself."""
    if kind == "resumed":
        return tiny.config(epochs=1, batch_size=4, save_every=1)  # with dropout
    if kind == "stages":
        found = stages_of_other_neurons()
    elif kind == "fsdp":
        found = tiny.config(epochs=2, strategy="fsdp", stua_stops_at_concrete=False)
    else:
        few = {"unlabelled": 0.5, "stua_reading": "soft", "momentum_text": 0.9}
        found = tasks_tiny.config(
            StageConfig("pretrain", 2), StageConfig("finetune", 1, task="entailment"), save_every=1, synops=300.0, **few
        )
        found = replace(found, data=replace(found.data, labelled=0.5))
    return replace(found, model=replace(found.model, text=replace(found.model.text, dropout=0.0)))


def stages_of_other_neurons() -> RunConfig:
    """Return a schedule from an ANN to spikes, taught by the ANN, with averaged weights."""
    schedule = (
        StageConfig("relu", 1, abstract=StageNeuron(kind="relu")),
        StageConfig("3-bit", 1, abstract=StageNeuron(kind="quantised-relu", bits=3)),
        StageConfig("spikes", 1, teacher="start", synops=100.0, synops_from=400.0),
    )
    found = replace(tiny.config(ema=0.9), schedule=schedule)
    abstract = replace(found.model.abstract, neuron="if", reset="subtract")
    return replace(found, model=replace(found.model, abstract=abstract))


def stop(now: loop.Progress) -> None:
    if now.batch == 3:
        raise KeyboardInterrupt


if __name__ == "__main__":
    torch.set_num_threads(1)
    data.load_splits = tiny.load_splits
    data.load_questions = tasks_tiny.load_questions
    kind, out = sys.argv[1], Path(sys.argv[2])
    if kind == "resumed":
        with suppress(KeyboardInterrupt):
            loop.train(settings(kind), out / "parts", on_progress=stop)
        loop.train(settings(kind), out / "parts", resume=True)
        out /= "whole"
    loop.train(settings(kind), out)
