"""Results that `ashneuro evaluate` left in a run's folder, for a report on the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from ashneuro.config import Task, trained_tasks
from ashneuro.cost.comparison.accuracy import Accuracy
from ashneuro.cost.workload import record_problems
from ashneuro.errors import AshneuroError, DataError
from ashneuro.evaluation import Evaluation, TaskEvaluation, load_evaluation
from ashneuro.exchange import StreamEvaluation
from ashneuro.program.program import Program
from ashneuro.reporting.tables import tasks as task_tables
from ashneuro.workflows.ann_control import TWINS
from ashneuro.workflows.evaluate import EvaluationSettings, evaluate_task
from ashneuro.workflows.progress import Progress, silent
from ashneuro.workflows.streams import current_stream, stream_files

if TYPE_CHECKING:
    from ashneuro.simulation.record import SpikeRecord
    from ashneuro.training.checkpoint import Run

Read = TypeVar("Read")
Evaluated = TypeVar("Evaluated", Evaluation, TaskEvaluation)


@dataclass(frozen=True)
class Measured:
    """Data and arithmetic of an accuracy; those of other data or arithmetic are not compared.

    Args:
        split: name of the data set and its part.
        queries: number of queries or questions.
        integers: True: the abstract encoder computed the integers that are priced; False: floats.
    """

    split: str
    queries: int
    integers: bool


@dataclass(frozen=True, eq=False)
class SavedResults:
    """Evaluations in a run's folder that were made with its present weights.

    Args:
        evaluations: of retrieval: the whole test part in torch first, then the others.
        tasks: of each task that the run was trained on.
        not_run: part of a report to the reason why it is absent.
        counts: the emulator's counts over the whole test part, where it was run.
        streams: of clips.
    """

    evaluations: tuple[Evaluation, ...]
    tasks: tuple[TaskEvaluation, ...]
    not_run: Mapping[str, str]
    counts: SpikeRecord | None
    streams: tuple[StreamEvaluation, ...] = ()

    @classmethod
    def of(cls, run: Run, progress: Progress = silent) -> SavedResults:
        """Read what `ashneuro evaluate` left in the folder; answer the questions of tasks that were
        not answered yet.

        A task is answered with spikes from torch on the test part, or on the validation part where
        the test part has no answers.
        """
        from ashneuro.simulation.record import load_counts

        path, tasks = run.path, trained_tasks(run.config)
        unanswered = {task: _answer(run, task, progress) for task in tasks}
        not_run = {f"{task} of {path.name}": why for task, why in unanswered.items() if why}
        found = {task: result_files(path, task) for task in ("retrieval", *tasks)}
        files = {
            task: [file for file in each if read_or_name(not_run, file, load_evaluation, None)]
            for task, each in found.items()
        }
        # Results of earlier weights are named, not shown: they are another network's.
        current = {task: [file for file in each if _is_current(file, run)] for task, each in files.items()}
        if old := [file.name for task, each in files.items() for file in each if file not in current[task]]:
            not_run[f"earlier results of {path.name}"] = (
                f"{', '.join(old)}: the run was trained on since; `ashneuro evaluate` makes them anew"
            )
        evaluations = tuple(Evaluation.load(file) for file in current["retrieval"])
        answered = tuple(TaskEvaluation.load(file) for task in tasks for file in current[task])
        emulated = (EvaluationSettings("loihi").file(path, task) for task in get_args(Task))
        kept = [file for each in current.values() for file in each]
        beside = [file.with_suffix(".npz") for file in emulated if file in kept]
        counted = next((file for file in beside if file.exists()), None)
        counts = read_or_name(not_run, counted, load_counts, None) if counted else None
        streams: list[StreamEvaluation] = []
        for file in stream_files(run):
            streams += read_or_name(not_run, file, lambda file: current_stream(file, run), ())
        return cls(evaluations, answered, not_run, counts, tuple(streams))

    def fitting(self, program: Program, run: Path) -> SavedResults:
        """Return these results; counts that are not those of a program are named, not kept."""
        if self.counts is None or not (problems := record_problems(program, self.counts)):
            return self
        why = f"{'; '.join(problems)}: `ashneuro evaluate --abstract-on loihi` counts them again"
        return replace(self, counts=None, not_run={**self.not_run, f"spike counts of {run.name}": why})

    def accuracies(self) -> dict[Measured, Accuracy]:
        """Return the accuracy of each evaluation of `priced`, in that order, by what it was
        measured on: the mean of R@1 in both directions, or without retrieval the first task's.

        Of a host alone, which is in floats on every side, it counts in both arithmetics.
        """
        evaluations, tasks = self.priced()
        found: dict[Measured, Accuracy] = {}
        answered = [item for item in tasks if item.task == tasks[0].task]
        measured: Sequence[Evaluation | TaskEvaluation] = evaluations or answered
        for one in measured:
            queries, value = _accuracy(one)
            both = (True, False) if one.kind == "none" else (one.rows[0].spikes_from.is_integer,)
            for integers in both:
                found.setdefault(Measured(one.split, queries, integers), Accuracy.of_queries(value, queries))
        return found

    def priced(self) -> tuple[list[Evaluation], list[TaskEvaluation]]:
        """Return the evaluations with those first whose arithmetic is priced: integers, where they
        were evaluated on the queries of the first.
        """
        return _integers_first(self.evaluations), _integers_first(self.tasks)

    def metric(self) -> str:
        """Return the first evaluation's R@1 and the metric of the first evaluation of each task, in
        words. Those of an abstract encoder in floats, not in the integers that are priced, are
        marked.
        """
        evaluations, tasks = self.priced()
        said = []
        if evaluations:
            recalls = " / ".join(f"{100 * way['R@1']:.1f}" for way in evaluations[0].rows[0].directions)
            said.append(f"R@1 {recalls} %{_in_float(evaluations[0])}")
        first = {item.task: item for item in reversed(tasks)}
        said += [task_tables.metric(item) + _in_float(item) for item in reversed(first.values())]
        return ", ".join(said)

    def without_integers(self, run: Path) -> dict[str, str]:
        """Return the missing part of a report on a run that was evaluated in floats alone, and its
        remedy.
        """
        found = self.accuracies()
        if not found or next(iter(found)).integers:
            return {}
        task = "" if self.evaluations else f" --task {self.tasks[0].task}"
        why = "evaluated in floats alone, so it is compared with no accuracy of integers"
        do = f"`ashneuro evaluate {quote(str(run))}{task} --abstract-on loihi` evaluates the integers that are priced"
        return {f"accuracy of {run.name} in integers": f"{why}; {do}"}

    def labelled(self, name: str) -> SavedResults:
        """Return the results with ``name`` as the label of hybrids, and of ANNs that are no twins,
        which tells them from the first run's.
        """

        def label(item: Any) -> Any:
            return replace(item, label=name) if item.kind == "spiking" or name not in TWINS else item

        return replace(self, evaluations=tuple(map(label, self.evaluations)), tasks=tuple(map(label, self.tasks)))


def _answer(run: Run, task: Task, progress: Progress) -> str:
    """Answer the questions of a task unless that was done; return the reason why it cannot be."""
    reason = ""
    for part in ("test", "validation"):
        file = EvaluationSettings(part=part).file(run.path, task)
        if read_or_name({}, file, lambda file: _is_current(file, run), False):
            return ""
        if file.exists() and not file.is_file():
            reason = f"{file} is not a regular file; remove it"
            continue
        try:
            progress(f"{run.path.name} answers questions of {task}, {part} part", 0, 0)
            evaluate_task(run, task, part=part)
            return ""
        except AshneuroError as error:
            # Questions of a test part often have no answers; those of the validation part may.
            reason = reason or f"{error.what}: {error.why}"
    return reason


def read_or_name(lost: dict[str, str], file: Path, read: Callable[[Path], Read], nothing: Read) -> Read:
    """Return the content of a file that a report can do without, by ``read``; a damaged one is
    added to ``lost``, with the reason.
    """
    if not file.exists():
        return nothing
    try:
        return read(file)
    except DataError as error:
        lost[file.name] = f"{error.what}: {error.why}; {error.do}"
        return nothing


def _accuracy(one: Evaluation | TaskEvaluation) -> tuple[int, float]:
    """Return the number of queries and the accuracy."""
    if isinstance(one, TaskEvaluation):
        return one.questions, one.rows[0].accuracy
    return one.images, sum(way["R@1"] for way in one.rows[0].directions) / 2


def _in_float(evaluation: Evaluation | TaskEvaluation) -> str:
    if evaluation.kind == "none":  # all of it is host, which is in floats on every side
        return ""
    return "" if evaluation.rows[0].spikes_from.is_integer else " (in float)"


def _integers_first(evaluations: Sequence[Evaluated]) -> list[Evaluated]:
    """Return evaluations with integers before floats, within those of the same queries."""

    def queries(one: Evaluation | TaskEvaluation) -> tuple[object, ...]:
        return (one.split, one.images) if isinstance(one, Evaluation) else (one.task, one.split, one.questions)

    order = list(dict.fromkeys(map(queries, evaluations)))
    return sorted(evaluations, key=lambda one: (order.index(queries(one)), not one.rows[0].spikes_from.is_integer))


def _is_current(file: Path, run: Run) -> bool:
    """Return True if an evaluation was made with the run's present weights; files without a hash
    pass.
    """
    return load_evaluation(file).weights_sha256 in ("", run.weights_sha256)


def result_files(path: Path, task: Task) -> list[Path]:
    """Return the files of a task's evaluations in a run's folder: the whole test part in torch
    first.
    """
    stem = "evaluation" if task == "retrieval" else task
    return sorted(
        [*path.glob(f"{stem}.json"), *path.glob(f"{stem}-*.json")],
        key=lambda file: (len(file.stem.split("-")), file.stem),
    )
