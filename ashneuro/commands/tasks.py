"""What ``ashneuro evaluate --task`` does for tasks other than retrieval."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ashneuro.config import Task, trained_tasks
from ashneuro.errors import AshneuroError, need

if TYPE_CHECKING:
    from ashneuro.data.pairs import Pair, Question, Questions
    from ashneuro.evaluation import TaskEvaluation
    from ashneuro.hybrid import HybridSession
    from ashneuro.training.checkpoint import Run

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Asked:
    """The questions of a task that are put to a run: those of one ``part`` that have answers, and the pictures they are about."""

    questions: Questions
    part: Part
    chosen: tuple[Question, ...]
    pictures: frozenset[str]


def open_task(run: Run, task: Task, part: Part, samples: int | None) -> Asked:
    """Return the questions of ``part``; ``samples`` of them, evenly spaced.

    Raises:
        AshneuroError: the run was never trained on the task, or has fewer questions.
    """
    from ashneuro.data.tasks import load_questions

    if task not in run.labels:
        known = ", ".join(run.labels) or "retrieval alone"
        raise AshneuroError(
            f"--task {task}",
            f"{run.path} was trained on {known}",
            f"train with a stage of the schedule whose task is {task!r}",
        )
    questions = load_questions(task, run.config.tasks, run.config.data)
    asked = [question for question in getattr(questions, part) if question.answers]
    if samples is not None:
        if not 0 < samples <= len(asked):
            raise AshneuroError(
                f"--samples {samples}",
                f"the {part} part has {len(asked)} answered questions",
                f"give 1 to {len(asked)}",
            )
        asked = [asked[index * len(asked) // samples] for index in range(samples)]
    return Asked(questions, part, tuple(asked), frozenset(name for question in asked for name in question.images))


def answer_questions(session: HybridSession, asked: Asked) -> TaskEvaluation:
    """Return how well the session's run answers, with the spikes from where the session has them."""
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


def pictures_for(run: Run, part: Part) -> list[Pair]:
    """Return pictures of ``part`` like those that the run is for: of its pairs, of the tasks that bring pictures of their own, in turn.

    A run that never learned from pairs is for its tasks' pictures alone.
    """
    from ashneuro.data.sources import load_splits
    from ashneuro.data.tasks import load_questions, pictures_of

    own = [task for task in trained_tasks(run.config) if getattr(run.config.tasks, task).format]
    asked = [load_questions(task, run.config.tasks, run.config.data) for task in own]
    sets = [pictures_of(questions, getattr(questions, part)) for questions in asked]
    if not own or any(stage.task not in own for stage in run.config.schedule):
        sets.insert(0, list(getattr(load_splits(run.config.data), part)))
    return [picture for row in zip_longest(*sets) for picture in row if picture is not None]


def result_file(run: Path, task: Task, evaluation_name: str) -> Path:
    """Return where the result of a task goes: beside the retrieval result of the same options, under the task's name."""
    return run / evaluation_name.replace("evaluation", task, 1)
