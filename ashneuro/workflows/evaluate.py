"""Evaluation of a run: retrieval and tasks, with the spikes from torch, the emulator or Lava."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from ashneuro.config import QuestionConfig, Task, cache_dir
from ashneuro.display import Brief
from ashneuro.errors import AshneuroError, ConfigError, need
from ashneuro.evaluation import SpikeSource
from ashneuro.exchange import METRICS, Shard, read_metrics
from ashneuro.program.program import Precision
from ashneuro.workflows.evaluation_shards import merge_spikes, save_spikes
from ashneuro.workflows.lava import LOCAL_LAVA, LavaSettings
from ashneuro.workflows.places import HERE, Place, questions_on, require_questions, run_on
from ashneuro.workflows.progress import Progress, silent
from ashneuro.workflows.runs import Part, list_left_out, open_run, pairs_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.data.pairs import Pair, Question, Questions
    from ashneuro.evaluation import Evaluation, TaskEvaluation
    from ashneuro.simulation.lava.pool import Seconds
    from ashneuro.simulation.record import SpikeRecord
    from ashneuro.training.checkpoint import Run
    from ashneuro.workflows.hybrid import HybridSession

Where = Literal["torch", "loihi", "lava"]
Result = TypeVar("Result", "Evaluation", "TaskEvaluation")

# The names of files in a run's folder are a format: Lava's precisions are written there as Lava
# calls them.
_PRECISION_IN_NAMES: Mapping[Precision, str] = {"integer": "fixed", "float": "float"}


@dataclass(frozen=True, repr=False)
class EvaluationResult(Brief, Generic[Result]):
    """An evaluation and what it took.

    Args:
        evaluation: the result, which is also in ``file``.
        file: where it was written.
        record: counts of the simulator; ``None`` for torch.
        seconds: where Lava's time went.
        notes: remarks on the numbers.
    """

    evaluation: Result
    file: Path
    record: SpikeRecord | None = None
    seconds: Seconds | None = None
    notes: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """Return the evaluation as HTML tables, for notebooks."""
        return self.evaluation._repr_html_()


@dataclass(frozen=True)
class EvaluationSettings:
    """Source of the spikes and part of the data of an evaluation.

    Args:
        abstract_on: ``"torch"``: the model itself; ``"loihi"``: the integer emulator, or for an ANN
            control the integers that it is priced at; ``"lava"``: Lava.
        precision: Lava's arithmetic.
        part: part of the data.
        samples: only this many pairs or questions, evenly spaced; ``None``: all.
        device: where the ANN branch and the emulator run.
        lava: settings of Lava.
        place: data in another place, or other data.
    """

    abstract_on: Where = "torch"
    precision: Precision = "integer"
    part: Part = "test"
    samples: int | None = None
    device: str = "cpu"
    lava: LavaSettings = LOCAL_LAVA
    place: Place = HERE

    def file(self, run: Path, task: Task = "retrieval", *, other: bool = False) -> Path:
        """Return the file of the result; its name omits the defaults: torch, the test part, all
        samples.

        Args:
            other: the data are not the run's own; reports leave out such results.
        """
        words: list[str] = ["evaluation" if task == "retrieval" else task]
        if self.abstract_on != "torch":
            words.append(self.abstract_on)
        if self.abstract_on == "lava":
            words.append(_PRECISION_IN_NAMES[self.precision])
        if self.part != "test":
            words.append(self.part)
        if self.samples:
            words.append(str(self.samples))
        if other:
            words.insert(0, f"on-{re.sub(r'[^A-Za-z0-9._]+', '-', Path(self.place.data).stem).strip('-')}")
        return run / f"{'-'.join(words)}.json"


def evaluate(
    run: str | Path | Run,
    *,
    abstract_on: Where = "torch",
    precision: Precision = "integer",
    part: Part = "test",
    samples: int | None = None,
    device: str = "cpu",
    lava: LavaSettings = LOCAL_LAVA,
    skip_broken: bool = False,
    data: str | Path = "",
    images: str | Path = "",
    merge: bool = False,
    progress: Progress = silent,
) -> EvaluationResult[Evaluation]:
    """Evaluate retrieval of a run, and write the result into its folder.

    Args:
        run: a folder that `ashneuro train` wrote, or a loaded run.
        abstract_on, precision, part, samples, device, lava: see `EvaluationSettings`.
        skip_broken: leave out pictures that cannot be read; RUN/left-out.txt lists them.
        data, images: other data than the run's own, or these where they are now; see
            `ashneuro.workflows.places.run_on`.
        merge: take the spikes that `evaluate_shard` computed for all shards.
        progress: called with (phase, images done, images in all).

    Raises:
        AshneuroError: the run or its data cannot be read, or it has no bundle for spikes from
            elsewhere.
        LavaError: Lava is not there, or failed.
    """
    settings = EvaluationSettings(abstract_on, precision, part, samples, device, lava, Place(str(data), str(images)))
    own = open_run(run, device, skip_broken=skip_broken)
    file = settings.file(own.path, other=not settings.place.moves(own.config.data))
    opened = run_on(own, settings.place)
    pairs, split = pairs_of(opened, part, samples)
    known = merge_spikes(opened, file, pairs) if merge else None
    with open_session(opened, settings, len(pairs), progress, known) as session:
        return _finished(session.evaluate(pairs, split), session, file)


def evaluate_task(
    run: str | Path | Run,
    task: Task,
    *,
    abstract_on: Where = "torch",
    precision: Precision = "integer",
    part: Part = "test",
    samples: int | None = None,
    device: str = "cpu",
    lava: LavaSettings = LOCAL_LAVA,
    skip_broken: bool = False,
    data: str | Path = "",
    images: str | Path = "",
    merge: bool = False,
    progress: Progress = silent,
) -> EvaluationResult[TaskEvaluation]:
    """Evaluate a run at VQA, entailment or NLVR2, and write the result into its folder.

    Arguments and errors as `evaluate`; the run must have been trained on the task. ``data`` is a
    question file, or a folder of them, for a task whose questions come from files.
    """
    settings = EvaluationSettings(abstract_on, precision, part, samples, device, lava, Place(str(data), str(images)))
    opened = open_run(run, device, skip_broken=skip_broken)
    asked = questions_of(opened, task, part, samples, settings.place)
    file = settings.file(opened.path, task, other=not _are_own(opened, task, settings.place))
    known = merge_spikes(opened, file, _pictures(asked)) if merge else None
    with open_session(opened, settings, len(asked.pictures), progress, known) as session:
        return _finished(answer_questions(session, asked), session, file)


def evaluate_shard(
    run: str | Path | Run,
    shard: Shard,
    settings: EvaluationSettings,
    *,
    task: Task = "retrieval",
    skip_broken: bool = False,
    progress: Progress = silent,
) -> tuple[Path, SpikeRecord]:
    """Compute the spikes of a part of the pictures; return the file that holds them, and counts.

    The file is in ``shards`` in the run's folder. Where all parts are there, `evaluate` and
    `evaluate_task` take the spikes from them with ``merge``.

    Raises:
        ConfigError: torch computes the spikes, there are none, or fewer pictures than shards.
        AshneuroError: as `evaluate`.
    """
    if settings.abstract_on == "torch":
        why = "a shard is a part of the spikes, which the emulator or Lava computes"
        raise ConfigError(f"--shard {shard} with spikes from torch", why, "--abstract-on loihi, or lava")
    own = open_run(run, settings.device, skip_broken=skip_broken)
    if (kind := own.config.model.abstract.kind) != "spiking":
        why = f"{own.path} computes no spikes: its abstract encoder is {kind!r}"
        raise ConfigError(f"--shard {shard}", why, "evaluate it whole: leave --shard out")
    if task == "retrieval":
        other = not settings.place.moves(own.config.data)
        opened = run_on(own, settings.place)
        pictures: Sequence[Pair] = pairs_of(opened, settings.part, settings.samples)[0]
    else:
        other, opened = not _are_own(own, task, settings.place), own
        pictures = _pictures(questions_of(own, task, settings.part, settings.samples, settings.place))
    file = settings.file(own.path, task, other=other)
    if shard.count > len(pictures):
        raise ConfigError(
            f"--shard {shard}", f"there are {len(pictures)} pictures", f"--shard i/{len(pictures)} at most"
        )
    with open_session(opened, settings, len(range(len(pictures))[shard.rows(len(pictures))]), progress) as session:
        return save_spikes(session, file, pictures, shard)


def _pictures(asked: AskedQuestions) -> list[Pair]:
    """Return the pictures of questions in the order of an evaluation."""
    tasks = need("ashneuro.data.tasks", extra="train", purpose="evaluating a run")
    found: list[Pair] = tasks.pictures_of(asked.questions, asked.chosen)
    return found


@dataclass(frozen=True)
class AskedQuestions:
    """The answered questions of one part of a task, and the pictures they are about."""

    questions: Questions
    part: Part
    chosen: tuple[Question, ...]
    pictures: frozenset[str]


def _are_own(run: Run, task: Task, place: Place) -> bool:
    """Return True if questions in ``place`` are the run's own, by their name."""
    asked: QuestionConfig = getattr(run.config.tasks, task)
    if not asked.format:
        return place.moves(run.config.data)
    names = {Path(file).name for file in (asked.train, asked.validation, asked.test) if file}
    return not place.data or Path(place.data).name in names


def questions_of(
    run: Run, task: Task, part: Part, samples: int | None = None, place: Place = HERE, *, answered: bool = True
) -> AskedQuestions:
    """Return the answered questions of ``part``; ``samples`` of them, evenly spaced.

    Args:
        place: other questions, or the run's own where they are now.
        answered: leave out questions without answers.

    Raises:
        AshneuroError: the run was never trained on the task, or has fewer questions.
    """
    if task not in run.labels:
        known = ", ".join(run.labels) or "retrieval alone"
        raise AshneuroError(
            f"--task {task}",
            f"{run.path} was trained on {known}",
            "train with a stage of that task: --set model.multimodal.layers=2 --set "
            f'\'schedule=[{{name="{task}",epochs=8,task="{task}"}}]\' (docs/learning.md, Tasks)',
        )
    if place == HERE:
        require_questions(run, task)
    questions = questions_on(run, task, place)
    asked = [question for question in getattr(questions, part) if question.answers or not answered]
    if samples is not None:
        if not 0 < samples <= len(asked):
            raise AshneuroError(
                f"--samples {samples}",
                f"the {part} part has {len(asked)} {'answered ' if answered else ''}questions",
                f"give 1 to {len(asked)}",
            )
        # Evenly spaced: questions of one picture and of one type stand next to each other.
        asked = [asked[index * len(asked) // samples] for index in range(samples)]
    return AskedQuestions(
        questions, part, tuple(asked), frozenset(name for question in asked for name in question.images)
    )


def answer_questions(session: HybridSession, asked: AskedQuestions) -> TaskEvaluation:
    """Return the scores of the session's run on the questions, with the session's spikes."""
    run, questions = session.run, asked.questions
    scoring = need("ashneuro.training.task_evaluation", extra="train", purpose="evaluating a run")
    result: TaskEvaluation = scoring.evaluate_task(
        run.model,
        run.vocabulary,
        questions,
        asked.chosen,
        run.labels[questions.task],
        run.config.data,
        split=f"{questions.name}, {asked.part}",
        encoder=session.encoder,
        spikes_from=session.source,
    )
    return result


@contextmanager
def open_session(
    run: Run,
    settings: EvaluationSettings,
    images: int,
    progress: Progress,
    known: tuple[NDArray[np.generic], SpikeRecord] | None = None,
) -> Iterator[HybridSession]:
    """Open a session that resumes what an interrupted one left.

    Args:
        known: spikes that were computed before, see `HybridSession`.
    """
    from ashneuro.simulation.lava.stock import RUN_STOCK

    hybrid = need("ashneuro.workflows.hybrid", extra="train", purpose="evaluating a run")
    with hybrid.HybridSession(
        run,
        settings.abstract_on,
        precision=settings.precision,
        known=known,
        worker=settings.lava.open,
        stock=settings.lava.stock_samples(RUN_STOCK),
        resume=cache_dir() / "finished-chunks",
        progress=lambda done: progress(f"spikes from {settings.abstract_on}", done, images),
    ) as session:
        yield session


def _finished(evaluation: Result, session: HybridSession, file: Path) -> EvaluationResult[Result]:
    """Write an evaluation with the hash of the weights, and the simulator's counts beside it."""
    from ashneuro.simulation.record import save_counts

    # The report leaves out results of other weights, by this hash.
    evaluation = replace(evaluation, weights_sha256=session.run.weights_sha256)
    evaluation.save(file)
    if session.record is not None:
        save_counts(session.record, file.with_suffix(".npz"))
    list_left_out(session.run)
    return EvaluationResult(evaluation, file, session.record, session.seconds, _notes(evaluation, session.run))


def _notes(evaluation: Evaluation | TaskEvaluation, run: Run) -> tuple[str, ...]:
    """Return a sentence about firing rates that differ from those of training, if any do.

    The spikes of other simulators are those of integers, whose rates differ for other reasons.
    """
    rates = need("ashneuro.training.rates", extra="train", purpose="evaluating a run")
    epochs = [epoch for epoch in read_metrics(run.path / METRICS).epochs if epoch.firing_rates]
    if not epochs or evaluation.rows[0].spikes_from is not SpikeSource.TORCH:
        return ()
    note = rates.rates_note(epochs[-1].firing_rates, evaluation.firing_rate, rates.norm_steps(run.model))
    return (note,) if note else ()
