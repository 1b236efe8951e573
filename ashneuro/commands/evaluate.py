"""``ashneuro evaluate``: retrieval and tasks, with spikes from torch, the emulator or Lava."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ashneuro.commands.options import AsJson, LavaOptions, PrecisionWord, SkipBroken, precision_of
from ashneuro.config import Task
from ashneuro.reporting import terminal

if TYPE_CHECKING:
    from ashneuro.simulation.lava.pool import Seconds
    from ashneuro.simulation.record import SpikeRecord


def evaluate(
    run: Path,
    /,
    *,
    task: Annotated[
        Task, Parameter(help="Task of the evaluation; one other than retrieval must have been trained.")
    ] = "retrieval",
    abstract_on: Annotated[
        Literal["torch", "loihi", "lava"],
        Parameter(help="Simulator of the spikes: the model in torch, the integer emulator, or Lava."),
    ] = "torch",
    lava_precision: Annotated[PrecisionWord, Parameter(help="Lava's arithmetic. fixed: integer.")] = "integer",
    part: Annotated[Literal["train", "validation", "test"], Parameter(help="Part of the data.")] = "test",
    samples: Annotated[int | None, Parameter(help="Only this many pairs, evenly spaced. Default: all.")] = None,
    device: Annotated[str, Parameter(help="Device of the ANN branch: cpu, cuda.")] = "cpu",
    lava: LavaOptions | None = None,
    skip_broken: SkipBroken = False,
    json: AsJson = False,
) -> None:
    """Evaluate a run: retrieval, VQA, visual entailment, NLVR2.

    The spikes come from torch, the emulator or Lava.

    Args:
        run: a folder that `ashneuro train` wrote.
    """
    from ashneuro.workflows import evaluate as workflow

    how: dict[str, Any] = {
        "abstract_on": abstract_on,
        "precision": precision_of(lava_precision),
        "part": part,
        "samples": samples,
        "device": device,
        "lava": (lava or LavaOptions()).settings(),
        "skip_broken": skip_broken,
    }
    with terminal.progress() as progress:
        result = (
            workflow.evaluate(run, **how, progress=progress)
            if task == "retrieval"
            else workflow.evaluate_task(run, task, **how, progress=progress)
        )
    if json:
        seconds = {"seconds": vars(result.seconds)} if result.seconds else {}
        terminal.json(result.evaluation.to_json() | seconds)
        return
    terminal.evaluations([result.evaluation])
    if result.seconds and result.record:
        terminal.line(_time_spent(result.seconds, result.record))
    terminal.left_out(run)
    terminal.wrote(result.file)


def _time_spent(seconds: Seconds, record: SpikeRecord) -> str:
    """Return the time spent by host, transfer and Lava, in one sentence."""
    parts = (
        f"host {seconds.host:.1f} s, transfer {seconds.transfer:.1f} s, Lava {seconds.lava:.1f} s "
        f"(of it starting {seconds.start:.1f} s)"
    )
    stock = f"{record.stock_samples} of {record.samples} samples ran through Lava's own synapses alone"
    return f"spikes from Lava in {seconds.passed:.1f} s: {parts}; {stock}"
