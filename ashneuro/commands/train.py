"""``ashneuro train``: learn from image–text pairs."""

from __future__ import annotations

import json as json_
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ashneuro.config import RunConfig, load_config
from ashneuro.errors import ConfigError, GraphError, need
from ashneuro.reporting import terminal
from ashneuro.spiking.integers import IntegerLayer, Integers

if TYPE_CHECKING:
    from ashneuro.model.network import AshNet
    from ashneuro.program.program import Program


@Parameter(name="*")
@dataclass(frozen=True)
class Assume:
    """What a dry run takes for given.

    Args:
        pairs: --dry-run: training pairs, and questions of a task, in an epoch.
        words: --dry-run: size of the vocabulary.
        gpus: --dry-run: how many processes share a batch.
        tflops: --dry-run: what one GPU sustains, in 10¹² floating-point operations a second. Data sheets say several times more.
    """

    pairs: int = 6000
    words: int = 10_000
    gpus: int = 1
    tflops: float = 50.0


def train(
    config: Path = Path("tiny"),
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Run folder. Default: runs/NAME of the config.")] = None,
    quantise_aware: Annotated[
        bool,
        Parameter(
            help="Fine-tune the run CONFIG through Loihi's integer arithmetic: a quarter of its epochs, a tenth of its rate.",
            negative=(),
        ),
    ] = False,
    resume: Annotated[
        bool, Parameter(help="Go on with an interrupted run; settings come from the run.", negative=())
    ] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"] | None, Parameter(help="Short for --set train.device=…")] = None,
    dry_run: Annotated[
        bool, Parameter(help="Train nothing; say what memory and time it would take.", negative=())
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
        config: settings: a TOML, a run's config.json, or a preset's name: tiny (the demo's, a CPU), small (one GPU, all tasks),
            base (COCO, several GPUs).
    """
    overrides = list(set_ or []) + ([f"train.device={device}"] if device else [])
    if resume:
        if out is None or not (out / "config.json").exists():
            raise ConfigError(
                "--resume without a run",
                "resuming needs the folder of the run",
                "ashneuro train --resume --out runs/NAME",
            )
        settings = load_config(out / "config.json", overrides)
    elif quantise_aware:
        settings = fine_tuning(config, overrides)
    else:
        settings = load_config(config, overrides)
    if dry_run:
        show_estimate(settings, assume or Assume(), json)
        return
    if json:
        raise ConfigError(
            "--json without --dry-run", "training prints how far it is", "read metrics.jsonl in the run's folder"
        )
    folder = out or (config.with_name(f"{config.name}-integers") if quantise_aware else Path("runs") / config.stem)
    learn(settings, folder, resume=resume)
    if _first_process():
        terminal.wrote(folder)
        terminal.next_steps(f"ashneuro evaluate {folder}", f"ashneuro export {folder} --target lava")


def fine_tuning(run: Path, overrides: list[str]) -> RunConfig:
    """Return the settings that fine-tune ``run`` through integers; ``overrides`` win over the run's and over the defaults here."""
    if not (run / "config.json").exists():
        raise ConfigError(
            f"--quantise-aware {run}", "it fine-tunes a trained run", "ashneuro train runs/NAME --quantise-aware"
        )
    before = load_config(run / "config.json").train
    defaults = [f"train.epochs={max(1, before.epochs // 4)}", f"train.learning_rate={before.learning_rate / 10}"]
    set_here = [f"train.start={json_.dumps(str(run))}", "train.quantise_aware=true", "schedule=[]"]
    return load_config(run / "config.json", [*defaults, *overrides, *set_here])


def learn(config: RunConfig, folder: Path, *, resume: bool = False) -> None:
    """Train ``config`` into ``folder``, with a progress bar."""
    loop = need("ashneuro.training.loop", extra="train", purpose="training")
    need("ashneuro.spiking.memory", extra="train", purpose="training").keep_freed_memory()
    from ashneuro.spiking.kernels.dispatch import choose_backend, describe_kernels

    integers = choose_integers(config) if config.train.quantise_aware else None
    if not _first_process():  # under torchrun one process speaks for all
        loop.train(config, folder, resume=resume, choose_integers=integers)
        return
    if config.model.abstract.kind == "spiking":
        device = loop.pick_device(config.train.device)
        choose_backend(config.train.kernels, device)  # or says why it cannot be
        terminal.line(f"neurons on {device}: {describe_kernels(device, config.train.kernels)}")
    with terminal.epochs(f"training {folder.name}") as show:
        loop.train(
            config,
            folder,
            resume=resume,
            choose_integers=integers,
            on_progress=lambda now: show(now.epoch, now.epochs, now.batch, now.batches, now.loss, now.metrics),
        )


def _first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def show_estimate(config: RunConfig, assume: Assume, json: bool) -> None:
    """Print what a run would take."""
    for name, value in vars(assume).items():
        if value <= 0:
            raise ConfigError(f"--{name} {value:g}", "it is a number above 0", f"--{name} {getattr(Assume(), name):g}")
    estimate = need("ashneuro.training.dry_run", extra="train", purpose="training")
    found = estimate.dry_run(config, pairs=assume.pairs, words=assume.words, processes=assume.gpus)
    if json:
        seconds = {"seconds_here": found.seconds_here, "seconds_at_tflops": found.seconds_at(assume.tflops * 1e12)}
        stages = [{**asdict(stage), "memory_bytes": stage.memory_bytes} for stage in found.stages]
        terminal.json({**asdict(found), "stages": stages, "tflops": assume.tflops, **seconds})
        return
    terminal.dry_run(found, assume.tflops)


def choose_integers(config: RunConfig) -> Callable[[AshNet, Integers | None], Integers]:
    """Return what gives a model its integer units: calibrated on training images at first, then kept while they hold its weights."""
    from ashneuro.commands.export import CALIBRATION_IMAGES, first_currents
    from ashneuro.data.sources import load_splits
    from ashneuro.model.deploy import deployed_graph
    from ashneuro.program.lower import lower
    from ashneuro.program.quantise import default_scales, quantise
    from ashneuro.simulation.calibrate import calibrate
    from ashneuro.spiking.contract import read_contract

    pairs = load_splits(config.data).train

    def choose(model: AshNet, before: Integers | None) -> Integers:
        graph = deployed_graph(model)
        program = lower(graph, read_contract(graph.metadata).contract)
        if before is None:
            currents = first_currents(model, pairs[:: len(pairs) // CALIBRATION_IMAGES + 1], config.data.image_size)
            calibration = calibrate(program, currents)
            return _integers(calibration.program, calibration.input_peak)
        peak = {port.name: before.input_peak for port in program.inputs}
        try:
            chosen = quantise(program, input_peak=peak, scales=before.scales).program
        except GraphError:
            # Weights have grown until a sum of them could overflow: a coarser unit holds them.
            largest = default_scales(program, input_peak=peak)
            chosen = quantise(
                program, input_peak=peak, scales={name: min(old, largest[name]) for name, old in before.scales.items()}
            ).program
        return _integers(chosen, peak)

    return choose


def _integers(program: Program, peak: Mapping[str, float]) -> Integers:
    (port,) = program.inputs
    layers = {
        layer.name: IntegerLayer(layer.scale, int(layer.neuron.v_threshold), int(layer.neuron.dv))
        for layer in program.layers
    }
    return Integers(layers, peak[port.name], port.limit)
