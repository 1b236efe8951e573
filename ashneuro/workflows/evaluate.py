"""Evaluation of a run: retrieval and tasks, with the spikes from torch, the emulator or Lava."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from ashneuro.config import Task, cache_dir
from ashneuro.errors import AshneuroError, need
from ashneuro.program.program import Precision
from ashneuro.workflows.lava import LOCAL_LAVA, LavaSettings
from ashneuro.workflows.progress import Progress, silent
from ashneuro.workflows.runs import Part, list_left_out, open_run, pairs_of

if TYPE_CHECKING:
    from ashneuro.data.pairs import Question, Questions
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


@dataclass(frozen=True)
class EvaluationResult(Generic[Result]):
    """An evaluation and what it took.

    Args:
        evaluation: the result, which is also in ``file``.
        file: where it was written.
        record: counts of the simulator; ``None`` for torch.
        seconds: where Lava's time went.
    """

    evaluation: Result
    file: Path
    record: SpikeRecord | None = None
    seconds: Seconds | None = None


@dataclass(frozen=True)
class EvaluationSettings:
    """Source of the spikes and part of the data of an evaluation.

    Args:
        abstract_on: ``"torch"``: the model itself; ``"loihi"``: the integer emulator; ``"lava"``:
            Lava.
        precision: Lava's arithmetic.
        part: part of the data.
        samples: only this many pairs or questions, evenly spaced; ``None``: all.
        device: where the ANN branch runs.
        lava: settings of Lava.
    """

    abstract_on: Where = "torch"
    precision: Precision = "integer"
    part: Part = "test"
    samples: int | None = None
    device: str = "cpu"
    lava: LavaSettings = LOCAL_LAVA

    def file(self, run: Path, task: Task = "retrieval") -> Path:
        """Return the file of the result; its name omits the defaults: torch, the test part, all
        samples.
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
    progress: Progress = silent,
) -> EvaluationResult[Evaluation]:
    """Evaluate retrieval of a run, and write the result into its folder.

    Args:
        run: a folder that `ashneuro train` wrote, or a loaded run.
        abstract_on, precision, part, samples, device, lava: see `EvaluationSettings`.
        skip_broken: leave out pictures that cannot be read; RUN/left-out.txt lists them.
        progress: called with (phase, images done, images in all).

    Raises:
        AshneuroError: the run or its data cannot be read, or it has no bundle for spikes from
            elsewhere.
        LavaError: Lava is not there, or failed.
    """
    settings = EvaluationSettings(abstract_on, precision, part, samples, device, lava)
    opened = open_run(run, device, skip_broken=skip_broken)
    pairs, split = pairs_of(opened, part, samples)
    with _session(opened, settings, len(pairs), progress) as session:
        return _finished(session.evaluate(pairs, split), session, settings.file(opened.path))


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
    progress: Progress = silent,
) -> EvaluationResult[TaskEvaluation]:
    """Evaluate a run at VQA, entailment or NLVR2, and write the result into its folder.

    Arguments and errors as `evaluate`; the run must have been trained on the task.
    """
    settings = EvaluationSettings(abstract_on, precision, part, samples, device, lava)
    opened = open_run(run, device, skip_broken=skip_broken)
    asked = questions_of(opened, task, part, samples)
    with _session(opened, settings, len(asked.pictures), progress) as session:
        return _finished(answer_questions(session, asked), session, settings.file(opened.path, task))


@dataclass(frozen=True)
class AskedQuestions:
    """The answered questions of one part of a task, and the pictures they are about."""

    questions: Questions
    part: Part
    chosen: tuple[Question, ...]
    pictures: frozenset[str]


def questions_of(run: Run, task: Task, part: Part, samples: int | None = None) -> AskedQuestions:
    """Return the answered questions of ``part``; ``samples`` of them, evenly spaced.

    Raises:
        AshneuroError: the run was never trained on the task, or has fewer questions.
    """
    if task not in run.labels:
        known = ", ".join(run.labels) or "retrieval alone"
        raise AshneuroError(
            f"--task {task}",
            f"{run.path} was trained on {known}",
            f"train with a stage of the schedule whose task is {task!r}",
        )
    questions = run.questions(task)
    asked = [question for question in getattr(questions, part) if question.answers]
    if samples is not None:
        if not 0 < samples <= len(asked):
            raise AshneuroError(
                f"--samples {samples}",
                f"the {part} part has {len(asked)} answered questions",
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
def _session(run: Run, settings: EvaluationSettings, images: int, progress: Progress) -> Iterator[HybridSession]:
    """Open a session that resumes what an interrupted one left."""
    from ashneuro.simulation.lava.stock import RUN_STOCK

    hybrid = need("ashneuro.workflows.hybrid", extra="train", purpose="evaluating a run")
    with hybrid.HybridSession(
        run,
        settings.abstract_on,
        precision=settings.precision,
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
    return EvaluationResult(evaluation, file, session.record, session.seconds)
