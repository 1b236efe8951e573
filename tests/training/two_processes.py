"""Program of each process of `test_processes` under torchrun: train the squares into folders."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ashneuro.config import RunConfig, StageConfig, StageNeuron
from ashneuro.data import batches
from ashneuro.training import data, loop
from tests.training import tasks_tiny, tiny

decode = batches._decoded


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
        pairs, questions = StageConfig("pretrain", 2), StageConfig("finetune", 1, task="entailment", batch_size=6)
        found = tasks_tiny.config(pairs, questions, save_every=1, synops=300.0, accumulate=2, batch_size=4, **few)
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


def train_all(out: Path) -> dict[str, Any]:
    """Train one run after the other; return what this process saw."""
    decoded: list[str] = []

    def counted(pairs: Any, size: int) -> Iterator[Any]:
        decoded.extend(pair.key for pair in pairs)
        return decode(pairs, size)

    batches._decoded = counted
    loop.train(settings("ddp"), out / "ddp")
    seen: dict[str, Any] = {"decoded": sorted(decoded)}
    loop.train(settings("stages"), out / "stages")
    with suppress(KeyboardInterrupt):
        loop.train(settings("resumed"), out / "parts", on_progress=stop)
    loop.train(settings("resumed"), out / "parts", resume=True)
    loop.train(settings("resumed"), out / "whole")
    try:
        loop.train(settings("ddp"), out / "ddp")  # it holds a run
    except BaseException as error:
        seen["error"] = type(error).__name__
    return seen


if __name__ == "__main__":
    torch.set_num_threads(1)
    data.load_splits = tiny.load_splits
    data.load_questions = tasks_tiny.load_questions
    kind, out = sys.argv[1], Path(sys.argv[2])
    if kind == "all":
        seen = train_all(out)
        (out / f"seen-{torch.distributed.get_rank()}.json").write_text(json.dumps(seen))
    else:
        loop.train(settings(kind), out)
