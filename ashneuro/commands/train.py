"""``ashneuro train``: learn from image–text pairs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ashneuro.commands.options import DataOptions, SkipBroken, Whole
from ashneuro.commands.shown import is_first_process, shown_training
from ashneuro.config import RunConfig, load_config
from ashneuro.errors import ConfigError
from ashneuro.files import named
from ashneuro.reporting import terminal


@Parameter(name="*")
@dataclass(frozen=True)
class Assume:
    """Sizes that a dry run takes for given.

    Args:
        pairs: --dry-run: training pairs, and questions of a task, in an epoch.
        words: --dry-run: size of the vocabulary.
        gpus: --dry-run: number of processes that share a batch.
        tflops: --dry-run: sustained rate of one GPU, in 10¹² floating-point operations a second.
            Data sheets say several times more.
    """

    pairs: Whole = 6000
    words: Whole = 10_000
    gpus: Whole = 1
    tflops: float = 50.0


def train(
    config: Path = Path("tiny"),
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Run folder. Default: runs/NAME of the config.")] = None,
    quantise_aware: Annotated[
        bool,
        Parameter(
            help="Fine-tune the run CONFIG through Loihi's integer arithmetic: a quarter of its epochs, a tenth of "
            "its learning rate.",
            negative=(),
        ),
    ] = False,
    resume: Annotated[
        bool,
        Parameter(
            help="Continue the interrupted run CONFIG or --out, with its own settings. A finished run continues with "
            "--set train.epochs=N, up to N epochs of its last stage.",
            negative=(),
        ),
    ] = False,
    where: DataOptions | None = None,
    device: Annotated[Literal["auto", "cpu", "cuda"] | None, Parameter(help="Short for --set train.device=…")] = None,
    skip_broken: SkipBroken = False,
    dry_run: Annotated[
        bool, Parameter(help="Estimate memory and time from a few steps, without training.", negative=())
    ] = False,
    schema: Annotated[
        bool, Parameter(help="Print the JSON schema of the settings, for an editor.", negative=())
    ] = False,
    assume: Assume | None = None,
    set_: Annotated[
        list[str] | None,
        Parameter(name="--set", help="Change one setting: --set train.epochs=3. Repeatable.", negative=()),
    ] = None,
    json: Annotated[bool, Parameter(help="--dry-run: print JSON instead of a table.", negative=())] = False,
) -> None:
    """Learn from image–text pairs on this GPU or CPU.

    Args:
        config: settings: a TOML, a run's config.json, or a preset's name: tiny (the demo's, a CPU),
            own_pairs (your pictures), pretrained-small (pretrained parts, a CPU), small (one GPU,
            all tasks), base (COCO, several GPUs).
    """
    if schema:
        from ashneuro.workflows.schema import settings_schema

        terminal.json(settings_schema())
        return
    from ashneuro.workflows import train as workflow

    overrides = list(set_ or []) + ([f"train.device={device}"] if device else [])
    if where is not None and where.data is not None:
        overrides += [f"data.source={dumps(where.data)}", f"data.images={dumps(where.images or '')}"]
    elif where is not None and where.images is not None:
        overrides.append(f"data.images={dumps(where.images)}")
    overrides += ["data.skip_broken=true"] if skip_broken else []
    if resume:
        out = out or (config if config.is_dir() else None)
        settings = workflow.resume_config(out, overrides)
    elif quantise_aware:
        settings = workflow.fine_tuning_config(config, overrides)
    else:
        settings = load_config(config, overrides)
    if dry_run:
        _show_estimate(settings, assume or Assume(), json)
        return
    if json:
        raise ConfigError(
            "--json without --dry-run", "training prints its progress", "read metrics.jsonl in the run's folder"
        )
    own = named(config)
    default = own.with_name(f"{own.name}-integers") if quantise_aware else Path("runs") / own.stem
    folder = out or default
    with shown_training(settings, folder) as shown:
        run = workflow.train(
            settings, folder, resume=resume, on_progress=shown, on_reading=shown.reading, on_note=_note
        )
    if is_first_process():
        terminal.left_out(folder)
        terminal.wrote(folder)
        terminal.next_steps(*workflow.next_steps(settings, folder, run.unanswered))


def _note(text: str) -> None:
    if is_first_process():
        terminal.line(text, "yellow")


def _show_estimate(config: RunConfig, assume: Assume, json: bool) -> None:
    """Print the memory and time that a run would take."""
    from ashneuro.workflows.train import estimate_training

    for name, value in vars(assume).items():
        if value <= 0:
            raise ConfigError(f"--{name} {value:g}", "it is a number above 0", f"--{name} {getattr(Assume(), name):g}")
    found = estimate_training(config, pairs=assume.pairs, words=assume.words, processes=assume.gpus)
    if json:
        seconds = {"seconds_here": found.seconds_here, "seconds_at_tflops": found.seconds_at(assume.tflops * 1e12)}
        stages = [{**asdict(stage), "memory_bytes": stage.memory_bytes} for stage in found.stages]
        terminal.json({**asdict(found), "stages": stages, "tflops": assume.tflops, **seconds})
        return
    terminal.dry_run(found, assume.tflops)
