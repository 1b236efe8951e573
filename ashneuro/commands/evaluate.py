"""``ashneuro evaluate``: retrieval and tasks, with spikes from torch, the emulator or Lava."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ashneuro.commands.options import (
    AsJson,
    DataOptions,
    LavaOptions,
    PrecisionWord,
    SkipBroken,
    StreamOptions,
    Whole,
    precision_of,
)
from ashneuro.config import Task
from ashneuro.errors import ConfigError
from ashneuro.exchange import Shard
from ashneuro.reporting import terminal

if TYPE_CHECKING:
    from ashneuro.simulation.lava.pool import Seconds
    from ashneuro.simulation.record import SpikeRecord
    from ashneuro.workflows.lava import LavaSettings


def evaluate(
    run: Path,
    /,
    *,
    task: Annotated[
        Task, Parameter(help="Task of the evaluation; one other than retrieval must have been trained.")
    ] = "retrieval",
    abstract_on: Annotated[
        Literal["torch", "loihi", "lava"],
        Parameter(
            help="What computes the abstract encoder: torch, the integer emulator (loihi), or Lava. An ANN control "
            "on loihi: the integers that it is priced with."
        ),
    ] = "torch",
    lava_precision: Annotated[
        PrecisionWord, Parameter(help="Lava's arithmetic; fixed is an older name of integer.")
    ] = "integer",
    part: Annotated[Literal["train", "validation", "test"], Parameter(help="Part of the data.")] = "test",
    samples: Annotated[Whole | None, Parameter(help="Only this many pairs, evenly spaced. Default: all.")] = None,
    device: Annotated[str, Parameter(help="Device of the ANN branch and the emulator: cpu, cuda.")] = "cpu",
    where: DataOptions | None = None,
    stream: StreamOptions | None = None,
    frames_per_s: Annotated[
        str, Parameter(help="Frame rates of a stream, with commas; each is approached by leaving out frames.")
    ] = "8,4,2",
    lava: LavaOptions | None = None,
    predictions: Annotated[
        Path | None,
        Parameter(
            help="Write predictions to a file, without scores: .json (VQA), .csv (NLVR2), .jsonl (entailment), .trec "
            "(retrieval)."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        Parameter(help="i/n: compute only the spikes of this part of the pictures, as task i of a job array of n."),
    ] = None,
    merge: Annotated[
        bool, Parameter(help="Take the spikes of all shards in RUN/shards, and evaluate.", negative=())
    ] = False,
    skip_broken: SkipBroken = False,
    json: AsJson = False,
) -> None:
    """Evaluate a run: retrieval, VQA, visual entailment, NLVR2.

    The spikes come from torch, the emulator or Lava.

    Where --data has another name than the run's own data, its test part is evaluated, or all of
    it if it has no parts. For a task whose questions come from files, --data names a question file,
    or a folder of them. --predictions works without answers. To divide a long simulation, --shard
    i/n computes the spikes of a part of the pictures into RUN/shards, and --merge evaluates with
    all parts.

    Args:
        run: a folder that `ashneuro train` wrote.
    """
    from ashneuro.workflows import evaluate as workflow

    if (shard or merge) and (predictions or (stream and stream.stream is not None) or (shard and merge)):
        raise ConfigError(
            f"--{'shard' if shard else 'merge'} with another option",
            "a shard is a part of the spikes of an evaluation, and --merge joins them",
            "leave out --predictions, --stream, and one of --shard and --merge",
        )
    clips, place = stream or StreamOptions(), (where or DataOptions()).place()
    if clips.stream is not None:
        if task != "retrieval":
            raise ConfigError(f"--stream with --task {task}", "frames are queries of retrieval", "leave --task out")
        others = {"--data": place.data, "--images": place.images, "--predictions": predictions}
        if unused := [name for name, given in others.items() if given]:
            why = "a stream has pictures of its own, and is scored frame by frame"
            raise ConfigError(f"--stream with {', '.join(unused)}", why, "leave it out")
        # Integers are what is priced.
        simulator = "loihi" if abstract_on == "torch" else abstract_on
        _stream(run, clips, frames_per_s, simulator, samples, device, (lava or LavaOptions()).settings(), json)
        return
    clips.require_unused()
    how: dict[str, Any] = {
        "abstract_on": abstract_on,
        "precision": precision_of(lava_precision),
        "part": part,
        "samples": samples,
        "device": device,
        "lava": (lava or LavaOptions()).settings(),
        "skip_broken": skip_broken,
        "data": place.data,
        "images": place.images,
    }
    if shard:
        _compute_shard(run, Shard.parse(shard), task, how, json)
        return
    if predictions is not None:
        _predict(run, predictions, task, how, json)
        return
    with terminal.progress() as progress:
        result = (
            workflow.evaluate(run, **how, merge=merge, progress=progress)
            if task == "retrieval"
            else workflow.evaluate_task(run, task, **how, merge=merge, progress=progress)
        )
    if json:
        seconds = {"seconds": vars(result.seconds)} if result.seconds else {}
        terminal.json(result.evaluation.to_json() | seconds)
        return
    terminal.evaluations([result.evaluation])
    if result.seconds and result.record:
        terminal.line(_time_spent(result.seconds, result.record))
    for note in result.notes:
        terminal.line(note, "yellow")
    terminal.left_out(run)
    terminal.wrote(result.file)


def _compute_shard(run: Path, shard: Shard, task: Task, how: dict[str, Any], json: bool) -> None:
    from ashneuro.workflows.evaluate import EvaluationSettings, evaluate_shard
    from ashneuro.workflows.places import Place

    place = Place(how.pop("data"), how.pop("images"))
    skip_broken = how.pop("skip_broken")
    settings = EvaluationSettings(**how, place=place)
    with terminal.progress() as progress:
        file, record = evaluate_shard(run, shard, settings, task=task, skip_broken=skip_broken, progress=progress)
    if json:
        terminal.json({"file": file, "shard": str(shard)} | record.to_json())
        return
    terminal.spikes(record)
    terminal.wrote(file)


def _predict(run: Path, file: Path, task: Task, how: dict[str, Any], json: bool) -> None:
    from ashneuro.workflows.evaluate import EvaluationSettings
    from ashneuro.workflows.places import Place
    from ashneuro.workflows.predictions import predict

    place = Place(how.pop("data"), how.pop("images"))
    skip_broken = how.pop("skip_broken")
    with terminal.progress() as progress:
        count = predict(
            run, file, task, EvaluationSettings(**how, place=place), skip_broken=skip_broken, progress=progress
        )
    if json:
        terminal.json({"file": file, "predictions": count})
        return
    terminal.line(f"{count:,} {'rankings' if task == 'retrieval' else 'answers'} of the {how['part']} part, unscored")
    terminal.left_out(run)
    terminal.wrote(file)


def _stream(
    run: Path,
    clips: StreamOptions,
    frames_per_s: str,
    where: Literal["loihi", "lava"],
    samples: int | None,
    device: str,
    lava: LavaSettings,
    json: bool,
) -> None:
    from ashneuro.workflows.streams import evaluate_stream, stream_file

    assert clips.stream is not None
    settings = clips.settings()
    with terminal.progress() as progress:
        found = evaluate_stream(
            run,
            clips.stream,
            frames_per_s=_rates(frames_per_s),
            settings=settings,
            abstract_on=where,
            samples=samples,
            device=device,
            lava=lava,
            progress=progress,
        )
    if json:
        terminal.json(found.to_json())
        return
    terminal.stream(found)
    terminal.wrote(stream_file(run, found.source, settings, where))


def _rates(text: str) -> tuple[float, ...]:
    """Return the rates of a text such as ``8,4,2``."""
    try:
        return tuple(float(rate) for rate in text.split(","))
    except ValueError:
        why = "rates are numbers with commas between them"
        raise ConfigError(f"--frames-per-s {text}", why, "--frames-per-s 8,4,2") from None


def _time_spent(seconds: Seconds, record: SpikeRecord) -> str:
    """Return the time spent by host, transfer and Lava, in one sentence."""
    parts = (
        f"host {seconds.host:.1f} s, transfer {seconds.transfer:.1f} s, Lava {seconds.lava:.1f} s "
        f"(of it starting {seconds.start:.1f} s)"
    )
    stock = f"{record.stock_samples} of {record.samples} samples ran through Lava's own synapses alone"
    return f"spikes from Lava in {seconds.passed:.1f} s: {parts}; {stock}"
