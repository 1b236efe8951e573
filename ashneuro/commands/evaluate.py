"""``ashneuro evaluate``: held-out retrieval and tasks, the spikes from torch, the emulator or Lava."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

from cyclopts import Parameter

from ashneuro.commands.lava_options import LavaOptions
from ashneuro.commands.targets import Kind, kind_of
from ashneuro.commands.tasks import answer_questions, open_task, result_file
from ashneuro.config import Task
from ashneuro.errors import AshneuroError, need
from ashneuro.evaluation import Evaluation, TaskEvaluation
from ashneuro.reporting import terminal

if TYPE_CHECKING:
    from ashneuro.data.pairs import Pair
    from ashneuro.hybrid import HybridSession
    from ashneuro.simulation.lava.pool import Seconds
    from ashneuro.simulation.record import SpikeRecord
    from ashneuro.training.checkpoint import Run

Part = Literal["train", "validation", "test"]
Where = Literal["torch", "loihi", "lava"]
Result = TypeVar("Result", "Evaluation", "TaskEvaluation")


def evaluate(
    run: Path,
    /,
    *,
    task: Annotated[
        Task, Parameter(help="What it is asked to do; another task than retrieval must have been trained.")
    ] = "retrieval",
    abstract_on: Annotated[
        Where, Parameter(help="What computes the spikes: the model in torch, the integer emulator, or Lava.")
    ] = "torch",
    lava_precision: Annotated[Literal["integer", "float", "fixed"], Parameter(help="Lava's arithmetic.")] = "integer",
    part: Annotated[Part, Parameter(help="Which part of the data.")] = "test",
    samples: Annotated[int | None, Parameter(help="Only this many pairs, evenly spaced. Default: all.")] = None,
    device: Annotated[str, Parameter(help="Where the ANN branch runs: cpu, cuda.")] = "cpu",
    lava: LavaOptions | None = None,
    json: Annotated[bool, Parameter(help="Print JSON instead of tables.", negative=())] = False,
) -> None:
    """How good is a run: retrieval, VQA, visual entailment, NLVR2? Spikes from torch, the emulator or Lava.

    Args:
        run: a folder that `ashneuro train` wrote.
    """
    measured: Measured[Any]
    precision: Literal["fixed", "float"] = "float" if lava_precision == "float" else "fixed"
    name = result_name(abstract_on, precision, part, samples)
    if task == "retrieval":
        file = run / name
        measured = measure(run, abstract_on, precision, part=part, samples=samples, device=device, lava=lava)
    else:
        file = result_file(run, task, name)
        measured = answer(run, task, abstract_on, precision, part=part, samples=samples, device=device, lava=lava)
    if json:
        found = measured.evaluation.to_json()
        terminal.json(found | ({"seconds": vars(measured.seconds)} if measured.seconds else {}))
        return
    if isinstance(measured.evaluation, Evaluation):
        terminal.retrieval([measured.evaluation])
        terminal.facts([measured.evaluation])
    else:
        terminal.tasks([measured.evaluation])
    if measured.seconds and measured.record:
        terminal.line(spent(measured.seconds, measured.record))
    terminal.wrote(file)


@dataclass(frozen=True)
class Measured(Generic[Result]):
    """An evaluation, what the simulator counted, where one was used, and where Lava's time went."""

    evaluation: Result
    record: SpikeRecord | None = None
    seconds: Seconds | None = None


def spent(seconds: Seconds, record: SpikeRecord) -> str:
    """Return one sentence on where Lava's time went."""
    parts = f"host {seconds.host:.1f} s, transfer {seconds.transfer:.1f} s, Lava {seconds.lava:.1f} s (of it starting {seconds.start:.1f} s)"
    stock = f"{record.stock_samples} of {record.samples} samples ran through Lava's own synapses alone"
    return f"spikes from Lava in {seconds.passed:.1f} s: {parts}; {stock}"


def answer(
    path: Path,
    task: Task,
    where: Where,
    precision: Literal["fixed", "float"],
    *,
    part: Part,
    samples: int | None,
    device: str,
    lava: LavaOptions | None,
) -> Measured[TaskEvaluation]:
    """Evaluate a run at a task other than retrieval and write the result into it; return it with the counts of the simulator."""
    require_kind(path, "run")
    run = need("ashneuro.training.checkpoint", extra="train", purpose="reading a run").load_run(path, device)
    asked = open_task(run, task, part, samples)
    file = result_file(path, task, result_name(where, precision, part, samples))
    with running(run, where, precision, lava, len(asked.pictures)) as session:
        return finished(answer_questions(session, asked), session, file)


def measure(
    path: Path,
    where: Where = "torch",
    precision: Literal["fixed", "float"] = "fixed",
    *,
    part: Part = "test",
    samples: int | None = None,
    device: str = "cpu",
    lava: LavaOptions | None = None,
) -> Measured[Evaluation]:
    """Evaluate a run and write the result into it; return it with the counts of the simulator, where one was used."""
    run, pairs, split = open_run(path, part, samples, device)
    with running(run, where, precision, lava, len(pairs)) as session:
        return finished(session.evaluate(pairs, split), session, path / result_name(where, precision, part, samples))


@contextmanager
def running(
    run: Run, where: Where, precision: Literal["fixed", "float"], lava: LavaOptions | None, pictures: int
) -> Iterator[HybridSession]:
    """Open a session that goes on with what an interrupted one left, and shows how many of the pictures have their spikes."""
    from ashneuro.config import cache_dir

    hybrid = need("ashneuro.hybrid", extra="train", purpose="evaluating a run")
    options = lava or LavaOptions()
    with terminal.counting(f"spikes from {where}") as tick:
        session = hybrid.HybridSession(
            run,
            where,
            precision="float" if precision == "float" else "integer",
            worker=options.opened,
            stock=options.stock_samples(),
            resume=cache_dir() / "finished-chunks",
            progress=lambda done: tick(done, pictures),
        )
        with session:
            yield session


def finished(evaluation: Result, session: HybridSession, file: Path) -> Measured[Result]:
    """Write an evaluation into its run, with whose weights it was made, and beside it what a simulator counted."""
    from ashneuro.simulation.record import save_counts
    from ashneuro.training.provenance import weights_sha256

    evaluation = replace(evaluation, weights_sha256=weights_sha256(file.parent))
    evaluation.save(file)
    if session.record is not None:
        save_counts(session.record, file.with_suffix(".npz"))
    return Measured(evaluation, session.record, session.seconds)


def result_name(where: Where, precision: str, part: Part, samples: int | None) -> str:
    """Return the file name of an evaluation: what is not said is torch, the test part, all of it."""
    words = ["evaluation"]
    words += [where] if where == "loihi" else [where, precision] if where == "lava" else []
    words += [part] if part != "test" else []
    words += [str(samples)] if samples else []
    return "-".join(words) + ".json"


def open_run(path: Path, part: Part, samples: int | None, device: str = "cpu") -> tuple[Run, tuple[Pair, ...], str]:
    """Return the run, its pairs of ``part`` (``samples`` of them, evenly spaced), and the name of the split."""
    from ashneuro.data.sources import load_splits

    require_kind(path, "run")
    run = need("ashneuro.training.checkpoint", extra="train", purpose="reading a run").load_run(path, device)
    splits = load_splits(run.config.data)
    pairs: tuple[Pair, ...] = getattr(splits, part)
    if samples is not None:
        if not 0 < samples <= len(pairs):
            raise AshneuroError(
                f"--samples {samples}", f"the {part} part has {len(pairs)} pairs", f"give 1 to {len(pairs)}"
            )
        pairs = tuple(pairs[index * len(pairs) // samples] for index in range(samples))
    return run, pairs, f"{splits.name}, {part}"


def require_kind(path: Path, wanted: Kind) -> None:
    """Raise `AshneuroError` unless ``path`` is a run (a bundle, a NIR file)."""
    kind = kind_of(path)
    if kind != wanted:
        raise AshneuroError(
            f"{path} is a {kind}", f"a {wanted} is needed here", "name a folder that `ashneuro train` wrote"
        )
