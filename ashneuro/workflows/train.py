"""Training: settings in, a run out."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from ashneuro.config import RunConfig, load_config, stages, with_last_epochs
from ashneuro.errors import ConfigError, need
from ashneuro.workflows.calibration import choose_integers
from ashneuro.workflows.places import require_data
from ashneuro.workflows.predictions import SUFFIXES
from ashneuro.workflows.progress import Progress, silent

if TYPE_CHECKING:
    from ashneuro.exchange import DryRun
    from ashneuro.training.checkpoint import Run


def train(
    config: RunConfig | str | Path,
    out: str | Path,
    *,
    settings: Sequence[str] = (),
    resume: bool = False,
    on_progress: Callable[[Any], None] = lambda now: None,
    on_reading: Progress = silent,
    on_note: Callable[[str], None] = lambda note: None,
) -> Run:
    """Train a run into a folder, and return it.

    Args:
        config: settings: a `RunConfig`, a TOML, a run's config.json, or a preset's name.
        out: folder of the run, which holds a whole checkpoint after every epoch.
        settings: single changes, ``"train.epochs=3"``.
        resume: continue an interrupted run in ``out``.
        on_progress: called after every batch with a `ashneuro.training.loop.Progress`.
        on_reading: called with (what, pictures read, pictures in all) while pictures are decoded.
        on_note: called with sentences about what will not be learned from the data.

    Raises:
        ConfigError: settings contradict each other, or ``out`` holds a run and ``resume`` is not
            set.
        DataError: the data, or the checkpoint to resume from, cannot be read.
    """
    loop = need("ashneuro.training.loop", extra="train", purpose="training")
    need("ashneuro.spiking.memory", extra="train", purpose="training").keep_freed_memory()
    chosen = config if isinstance(config, RunConfig) else load_config(config, list(settings))
    run: Run = loop.train(
        chosen,
        Path(out),
        resume=resume,
        choose_integers=choose_integers if chosen.train.quantise_aware else None,
        on_progress=on_progress,
        on_reading=on_reading,
        on_note=on_note,
    )
    return run


def describe_neurons(config: RunConfig) -> str:
    """Return the kernels that training would compute its spiking neurons with; empty for a run
    without any.

    Raises:
        ConfigError: the kernels that the settings ask for are not available here.
    """
    if config.model.abstract.kind != "spiking":
        return ""
    loop = need("ashneuro.training.loop", extra="train", purpose="training")
    from ashneuro.spiking.kernels.dispatch import choose_backend, describe_kernels

    device = loop.pick_device(config.train.device)
    choose_backend(config.train.kernels, device)
    return f"neurons on {device}: {describe_kernels(device, config.train.kernels)}"


def resume_config(out: Path | None, settings: Sequence[str]) -> RunConfig:
    """Return the settings of the run in ``out``, with single changes.

    ``train.epochs`` is the number of epochs of the last stage: more than before train the run on.

    Raises:
        ConfigError: there is no run.
        DataError: its data are not there.
    """
    if out is None or not (out / "config.json").exists():
        raise ConfigError(
            "--resume without a run", "resuming needs the folder of the run", "ashneuro train --resume runs/NAME"
        )
    config = load_config(out / "config.json", list(settings))
    require_data(config, out)
    before = load_config(out / "config.json").train.epochs
    if config.schedule and config.train.epochs != before:
        stages_as_before = replace(config, train=replace(config.train, epochs=before))
        config = with_last_epochs(stages_as_before, config.train.epochs)
    return config


def next_steps(config: RunConfig, folder: Path, unanswered: Collection[str] = ()) -> list[str]:
    """Return the commands that follow training: evaluation of each task that was learned, and the
    export of a spiking encoder.

    Args:
        unanswered: tasks whose test questions have no answers: there are predictions, and no score.
    """
    run = quote(str(folder))
    tasks = dict.fromkeys(stage.task for stage, _ in stages(config))
    steps = []
    for task in tasks:
        asked = f" --task {task}" if task != "retrieval" else ""
        file = quote(str(folder / f"{task}{SUFFIXES[task][0]}"))
        steps.append(f"ashneuro evaluate {run}{asked}" + (f" --predictions {file}" if task in unanswered else ""))
    if config.model.abstract.kind == "spiking":
        steps.append(f"ashneuro export {run} --target lava")
    return steps


def fine_tuning_config(run: Path, settings: Sequence[str]) -> RunConfig:
    """Return settings that fine-tune ``run`` through integers: a quarter of its epochs, a tenth of
    its learning rate. After a schedule they are those of its last stage of pairs, without a teacher
    and with the budget that it ended at.

    Single changes in ``settings`` win over these and over the run's.

    Raises:
        ConfigError: ``run`` is not a run.
    """
    if not (run / "config.json").exists():
        raise ConfigError(
            f"--quantise-aware {run}", "it fine-tunes a trained run", "ashneuro train runs/NAME --quantise-aware"
        )
    config = load_config(run / "config.json")
    pairs = [settings for stage, settings in stages(config) if stage.task == "retrieval"]
    before = (pairs or [config.train])[-1]
    changed = asdict(before) | {
        "epochs": max(1, before.epochs // 4),
        "learning_rate": before.learning_rate / 10,
        "teacher": "",
        "synops_from": 0.0,
        "ema": 0.0,
    }
    defaults = [
        f"train.{name}={json.dumps(value)}" for name, value in changed.items() if value != getattr(config.train, name)
    ]
    fixed = [f"train.start={json.dumps(str(run))}", "train.quantise_aware=true", "schedule=[]"]
    return load_config(run / "config.json", [*defaults, *settings, *fixed])


def estimate_training(config: RunConfig, *, pairs: int, words: int, processes: int) -> DryRun:
    """Return memory and time that training would take, without training.

    Args:
        pairs: training pairs, and questions of a task, in an epoch.
        words: size of the vocabulary.
        processes: number of processes that share a batch.
    """
    dry = need("ashneuro.training.dry_run", extra="train", purpose="training")
    found: DryRun = dry.dry_run(config, pairs=pairs, words=words, processes=processes)
    return found
