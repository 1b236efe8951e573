"""Folder of a run in training: never overwritten, complete after every checkpoint, resumable."""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Any, NotRequired, TypedDict, cast

from torch import Tensor

from ashneuro.config import RunConfig, differences, dump_config, load_config, settled, stages, with_last_epochs
from ashneuro.data.broken import LEFT_OUT
from ashneuro.errors import ConfigError, DataError
from ashneuro.exchange import EpochMetrics, TrainingMetrics, TrainingTotals
from ashneuro.files import is_temporary, reason_of, replace_file
from ashneuro.schemas import remedy_of
from ashneuro.training.checkpoint import CONFIG, TRAINER, save_run, write_state
from ashneuro.training.claims import claim
from ashneuro.training.data import TrainingData
from ashneuro.training.learner import Learner
from ashneuro.training.loggers import Loggers
from ashneuro.training.processes import Processes
from ashneuro.training.state import STATE, read_state
from ashneuro.training.teacher import FILE as TEACHER
from ashneuro.training.teacher import START

CLAIMED = "training"
"""Name before the number in the name of a training's claim, see `ashneuro.training.claims`."""

# Settings that may differ when a run is resumed: they say where it is trained and where its data
# lie, not what it learns. Without broken pictures, leaving them out changes nothing. Other texts,
# labels or names of pictures have another digest, which a resumed run refuses.
MAY_DIFFER = {
    *(f"train.{name}" for name in ("device", "kernels", "loggers", "extended")),
    *(f"data.{name}" for name in ("skip_broken", "source", "images", "validation", "test")),
    *(
        f"tasks.{task}.{name}"
        for task in ("vqa", "entailment", "nlvr2")
        for name in ("train", "validation", "test", "images")
    ),
}


class StageState(TypedDict):
    """State of a stage between two optimiser steps.

    Keys:
        model, optimiser: state dicts.
        average, average_steps: averaged weights by name, and the number of averaged steps; empty
            without ``train.ema`` and in files of older versions.
        stage: index of the stage in the schedule.
        batch: number of finished batches in an unfinished epoch; 0 between epochs.
        sums: losses and firing rates summed over these batches, by name.
        random: states of torch's generators (CPU, then CUDA), each a list over the processes.
    """

    model: dict[str, Tensor]
    average: NotRequired[dict[str, Tensor]]
    average_steps: NotRequired[int]
    optimiser: dict[str, Any]
    stage: int
    batch: int
    sums: dict[str, Tensor]
    random: list[list[Tensor]]


class TrainerState(StageState):
    """Content of ``trainer.pt``, from which training resumes.

    Keys:
        schema: see `ashneuro.training.state.STATE`; missing in files of older versions.
        data: digest of the training data; missing in files of older versions.
        rows: metrics of the finished epochs as JSON.
        integers: the spiking encoder's integer units as JSON; empty without them.
        teacher: identifies the weights of a run that teaches; empty without one.
    """

    schema: NotRequired[str]
    data: NotRequired[str]
    rows: str
    integers: str
    teacher: NotRequired[str]


@contextmanager
def held(out: Path, resume: bool) -> Iterator[None]:
    """Hold the folder of a run for this process, so that no other one trains in it.

    A folder that was made here and is still empty at the end is taken away again.

    Raises:
        ConfigError: another process trains in it, it cannot be written, or see `open_folder`.
    """
    _require_free(out, resume)
    made = not out.exists()
    try:
        with ExitStack() as stack:
            try:
                mine = stack.enter_context(claim(out / CLAIMED))
            except OSError as error:
                raise _not_writable(out, error) from error
            if mine.holder:
                raise ConfigError(
                    f"{out} is in use",
                    f"{mine.holder} trains in it, and would write over the same checkpoints",
                    "wait until it has ended, or name another folder with --out",
                )
            yield
    finally:
        if made:
            with suppress(OSError):  # it holds something
                out.rmdir()


def open_folder(out: Path, config: RunConfig, resume: bool) -> TrainerState | None:
    """Create the folder; return the state to resume from, if there is one.

    Settings may only add epochs to the last stage, see `extended_epochs`.

    Raises:
        ConfigError: the folder holds a run and ``resume`` is not set; or it holds something else;
            or its run has other settings; or the teacher of a finished stage is no longer there.
        DataError: the state cannot be read.
    """
    holds_run = _require_free(out, resume)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path in list(out.iterdir()):  # half-written files of a killed process
            if is_temporary(path.name) and path.is_file():
                path.unlink()
    except OSError as error:
        raise _not_writable(out, error) from error
    if not holds_run:
        return None
    before = load_config(out / CONFIG)
    config = settled(config, before)
    if epochs := extended_epochs(before, config):
        before = with_last_epochs(before, epochs[1])
        if stages(before)[-1][1].teacher == START and not (out / TEACHER).exists():
            raise ConfigError(
                f"cannot train on {out}",
                "the network that taught its last stage is not kept once a run is finished",
                f"start another run from it:\n     ashneuro train {quote(str(out / CONFIG))} "
                f"--set train.start={quote(str(out))} --out OTHER",
            )
    # The result of a run follows from its settings, so a resumed run must not change them.
    if different := _differences(before, config):
        raise ConfigError(
            f"cannot resume {out}",
            f"its settings differ: {'; '.join(different)}; a resumed run ends as an uninterrupted one",
            f"resume with {out / CONFIG}, and --set train.epochs=N for more epochs; or train on from its weights, in "
            "another folder and with a learning rate that rises and falls anew:\n"
            f"     ashneuro train {quote(str(out / CONFIG))} "
            f"--set train.start={quote(str(out))} {_as_options(before, config)}--out OTHER",
        )
    try:
        return cast(TrainerState, read_state(out / TRAINER, config))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot resume from {out / TRAINER}",
            reason_of(error),
            remedy_of(error, "train again in another folder"),
        ) from error


def _require_free(out: Path, resume: bool) -> bool:
    """Return True if the folder holds a run.

    Raises:
        ConfigError: it holds a run and ``resume`` is not set, or something else.
    """
    holds_run = (out / CONFIG).exists()
    if holds_run and not resume:
        raise ConfigError(
            f"{out} already holds a run",
            "a run is never overwritten",
            f"--resume, or another folder with --out, or delete {out}",
        )
    if not holds_run and out.exists() and (not out.is_dir() or any(_foreign(out))):
        raise ConfigError(f"{out} is not empty", "a run gets a folder of its own", "name another folder with --out")
    return holds_run


def _not_writable(out: Path, error: OSError) -> ConfigError:
    return ConfigError(f"cannot write to {out}", error.strerror or str(error), "name another folder with --out")


def extended_epochs(before: RunConfig, now: RunConfig) -> tuple[int, int] | None:
    """Return the epochs of the last stage before and now, where ``now`` only adds some."""
    (_, old), (_, new) = stages(before)[-1], stages(now)[-1]
    if new.epochs <= old.epochs:
        return None
    longer = with_last_epochs(before, new.epochs)
    alike = not _differences(longer, now)
    return (old.epochs, new.epochs) if alike else None


class Checkpoints:
    """Checkpoints of a run in training. The first process writes; every process must call.

    Attributes:
        epochs: metrics of the finished epochs of all stages.
        teacher: identifies the run that teaches in this stage.
    """

    teacher = ""

    def __init__(
        self,
        out: Path,
        config: RunConfig,
        data: TrainingData,
        learner: Learner,
        processes: Processes,
        epochs: list[EpochMetrics],
    ) -> None:
        self.out, self.config, self.data, self.learner = out, config, data, learner
        self.processes, self.epochs = processes, epochs
        self._weights: dict[str, Tensor] | None = None
        self._loggers: Loggers | None = None

    @property
    def exists(self) -> bool:
        """True after the first checkpoint."""
        return (self.out / TRAINER).exists()

    def save(self, stage: StageState) -> None:
        """Write the run and the state to resume from."""
        integers = self.learner.model.abstract and self.learner.model.abstract.integers
        state: TrainerState = {
            **stage,
            "schema": STATE.schema,
            "data": self.data.digest,
            "rows": json.dumps([metrics.to_json() for metrics in self.epochs]),
            "integers": integers.dumps() if integers else "",
            "teacher": self.teacher,
        }
        weights = {**state["model"], **state.get("average", {})}
        self._weights = {
            name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")
        }
        if self.processes.rank == 0:
            with uninterrupted():
                replace_file(self.out / TRAINER, lambda file: write_state(file, state))
                self._save_run(TrainingMetrics(tuple(self.epochs)))
                if self.config.train.loggers and not state["batch"]:
                    *before, metrics = self.epochs
                    self._loggers = self._loggers or Loggers(self.config.train.loggers, self.out, before)
                    self._loggers.log(metrics)
        self.processes.barrier()

    def finish(self, kernels: str) -> None:
        """Write the finished run; ``kernels`` names the back end that computed its neurons."""
        seconds = round(sum(metrics.seconds or 0.0 for metrics in self.epochs), 1)
        if self.processes.rank == 0:
            with uninterrupted():
                totals = TrainingTotals(len(self.epochs), seconds, kernels)
                self._save_run(TrainingMetrics(tuple(self.epochs), totals))
                (self.out / TEACHER).unlink(missing_ok=True)
                if self._loggers is not None:
                    self._loggers.finish()
        self.processes.barrier()

    def _save_run(self, metrics: TrainingMetrics) -> None:
        # A sharded model has only its part of the weights; the last state has gathered all of them.
        save_run(self.out, self.config, self.data.words, self.learner.model, metrics, self.data.labels, self._weights)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C until the block has ended."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    pressed = False

    def remember(signal_number: int, frame: object) -> None:
        nonlocal pressed
        pressed = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _foreign(out: Path) -> Iterator[Path]:
    """Yield files that training did not write, in a folder without a complete run.

    A process killed during its first checkpoint leaves its claim, the state and a teacher, or half
    of them, and the list of what was left out of the data.
    """
    written = (TRAINER, TEACHER, LEFT_OUT)
    for path in out.iterdir():
        own = (
            path.name in written
            or is_temporary(path.name)
            or path.name.startswith((f"{CLAIMED}.claim-", f".{CLAIMED}.claim-"))
        )
        if not own:
            yield path


def _as_options(before: RunConfig, now: RunConfig) -> str:
    """Return the single settings of ``[train]`` that differ, as options of `ashneuro train`."""
    old, new = dataclasses.asdict(before.train), dataclasses.asdict(now.train)
    words = {name: value if isinstance(value, str) else json.dumps(value) for name, value in new.items()}
    return "".join(f"--set train.{name}={quote(words[name])} " for name in new if new[name] != old[name])


def _differences(before: RunConfig, now: RunConfig) -> list[str]:
    unlike = differences(dump_config(before), dump_config(now))
    return [f"{name} was {old!r}, now {new!r}" for name, (old, new) in unlike.items() if name not in MAY_DIFFER]
