"""``ashneuro bench``: speed on this machine, as ratios within one run."""

from __future__ import annotations

import json as _json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from ashneuro.commands.options import LavaWorkers, Whole
from ashneuro.errors import ConfigError, DataError, need
from ashneuro.files import write_text
from ashneuro.reporting import terminal
from ashneuro.reporting.plain import plain

if TYPE_CHECKING:
    import torch

    from ashneuro.bench.timing import Job
    from ashneuro.config import RunConfig

bench = App(name="bench")

Bundle = Annotated[Path | None, Parameter(help="A bundle or an exported run to measure, with its own samples.")]
Rounds = Annotated[Whole, Parameter(help="Number of rounds; every implementation runs once in each.")]
Threads = Annotated[Whole | None, Parameter(help="Number of torch's threads. Default: torch's own.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], Parameter(help="auto: the GPU where there is one.")]
Clock = Annotated[
    Literal["wall", "cpu"], Parameter(help="wall, or cpu: processor time, which other processes do not affect.")
]
Json = Annotated[Path | None, Parameter(help="Write all figures to this file.")]
Plot = Annotated[Path | None, Parameter(help="Draw the times as an SVG.")]


@bench.command
def emulator(
    *,
    bundle: Annotated[
        Path | None, Parameter(help="A bundle or an exported run to measure as well, with its own samples.")
    ] = None,
    neuron: Annotated[
        tuple[str, ...],
        Parameter(
            help="Kinds of neurons of the dense network, one network each: lif, lif-subtract, refractory, adaptive,"
            " resonate, izhikevich, ternary, count, graded or sigma-delta. The convolutional network is timed"
            " beside lif."
        ),
    ] = ("lif",),
    samples: Annotated[Whole, Parameter(help="Number of samples that the emulator computes per round.")] = 256,
    lava_samples: Annotated[Whole, Parameter(help="Number of these samples that run in Lava.")] = 16,
    rounds: Rounds = 5,
    threads: Annotated[Whole | None, Parameter(help="Maximum number of threads. Default: one per core.")] = None,
    lava: Annotated[bool, Parameter(help="Run Lava too.")] = True,
    json: Json = None,
) -> int:
    """Time the bit-exact emulator against Lava, on the same dense and convolutional programs.

    Exit code 1 when their spikes differ.
    """
    from ashneuro.bench.emulator import bench_emulator, bundle_network, conv_network, dense_network
    from ashneuro.workflows.networks import open_bundle

    networks = [dense_network(samples, neuron=kind) for kind in neuron]
    networks += [conv_network(samples)] if "lif" in neuron else []
    if bundle:
        networks.append(bundle_network(open_bundle(bundle), samples))
    with terminal.counting("timing") as tick:
        result = bench_emulator(
            networks, rounds=rounds, threads=threads, lava=lava, lava_samples=lava_samples, progress=tick
        )
    content = result.to_json()
    terminal.bench_emulator(content)
    _write_json(content, json)
    return 0 if result.passed else 1


@bench.command(name="lava")
def bench_lava(
    *,
    bundle: Bundle = None,
    samples: Annotated[Whole, Parameter(help="Number of samples side by side.")] = 256,
    rounds: Rounds = 3,
    options: LavaWorkers | None = None,
    json: Json = None,
) -> int:
    """Time a sample in Lava: with a network of its own, streamed, and side by side.

    Exit code 1 when their spikes differ.
    """
    from ashneuro.bench.emulator import bundle_network, dense_network
    from ashneuro.bench.lava import bench_lava as time_schedules
    from ashneuro.reporting import tables
    from ashneuro.workflows.networks import open_bundle

    network = bundle_network(open_bundle(bundle), samples) if bundle else dense_network(samples)
    with terminal.counting("timing") as tick:
        result = time_schedules(network, rounds=rounds, lava=(options or LavaWorkers()).settings().open, progress=tick)
    content = result.to_json()
    terminal.show(tables.bench.lava(content))
    _write_json(content, json)
    return 1 if result.mismatches else 0


@bench.command
def lif(
    *,
    timesteps: Annotated[tuple[Whole, ...], Parameter(help="Numbers of timesteps, one table for each.")] = (16, 32),
    batch: Annotated[Whole, Parameter(help="Number of samples.")] = 64,
    width: Annotated[Whole, Parameter(help="Number of neurons, and of their inputs.")] = 768,
    neuron: Annotated[
        str, Parameter(help="lif; or beside it lif-subtract, which resets by subtraction, graded or sigma-delta.")
    ] = "lif",
    rounds: Rounds = 7,
    threads: Threads = None,
    device: Device = "auto",
    clock: Clock = "wall",
    json: Json = None,
    plot: Plot = None,
) -> int:
    """Time a dense layer of LIF or other neurons, forward and backward.

    It stands beside its matrix product alone, other libraries, and a copy of its memory; neurons
    other than LIF also beside LIF.
    """
    if min(timesteps, default=0) < 1:
        raise ConfigError(f"timesteps = {timesteps}", "a sample lasts at least one step", "--timesteps 16")
    for name, value in (("batch", batch), ("width", width)):
        if value < 1:
            raise ConfigError(f"{name} = {value}", "a layer has at least one", f"--{name} 64")
    chosen = _device(device)  # before the import below, which needs torch
    from ashneuro.bench.layers import lif_jobs

    jobs = lif_jobs(chosen, timesteps=timesteps, batch=batch, width=width, neuron=neuron)
    return _run(neuron, jobs, chosen, rounds, threads, clock, json, plot)


@bench.command
def conv(
    *,
    rounds: Rounds = 7,
    threads: Threads = None,
    device: Device = "auto",
    clock: Clock = "wall",
    json: Json = None,
    plot: Plot = None,
) -> int:
    """Time a small convolutional network with LIF neurons, forward and backward.

    It runs 16 timesteps at batch 16, and stands beside its synapses alone.
    """
    chosen = _device(device)  # before the import below, which needs torch
    from ashneuro.bench.layers import conv_jobs

    return _run("conv", conv_jobs(chosen), chosen, rounds, threads, clock, json, plot)


@bench.command
def model(
    config: Annotated[str, Parameter(help="A settings file, or the name of a preset.")] = "tiny",
    *,
    neuron: Annotated[
        str | None,
        Parameter(
            help="lif, lif-subtract, cubalif, if or graded (in one timestep). Default: that of the settings; "
            "--set changes it further."
        ),
    ] = None,
    set: Annotated[tuple[str, ...], Parameter(help="Change one setting: --set section.key=value. Repeatable.")] = (),
    rounds: Rounds = 5,
    threads: Threads = None,
    device: Device = "auto",
    clock: Clock = "wall",
    beside: Annotated[
        int | None,
        Parameter(
            help="Measure instead how trainings share the cores: two at once, and one beside so many busy processes."
        ),
    ] = None,
    json: Json = None,
    plot: Plot = None,
) -> int:
    """Time one training step of a whole network on random pairs, with every kernel back end."""
    chosen = _device(device)  # before the import below, which needs torch
    from ashneuro.bench.model import model_jobs, settings_of
    from ashneuro.config import load_config

    settings = load_config(config, (*(settings_of(neuron) if neuron else ()), *set))
    if beside is not None:
        return _run_beside(settings, beside, rounds, json)
    return _run("model", model_jobs(chosen, settings), chosen, rounds, threads, clock, json, plot)


@bench.command
def feed(
    config: Annotated[str, Parameter(help="A settings file, or the name of a preset.")] = "tiny",
    *,
    set: Annotated[tuple[str, ...], Parameter(help="Change one setting: --set section.key=value. Repeatable.")] = (),
    rounds: Rounds = 5,
    threads: Threads = None,
    device: Device = "auto",
    clock: Clock = "wall",
    json: Json = None,
    plot: Plot = None,
) -> int:
    """Time what feeds one training process beside the step that consumes it, in pairs per second:
    batches read and augmented, and pictures decoded.
    """
    chosen = _device(device)  # before the import below, which needs torch
    from ashneuro.bench.model import feed_jobs
    from ashneuro.config import load_config

    return _run("feed", feed_jobs(chosen, load_config(config, set)), chosen, rounds, threads, clock, json, plot)


def _run_beside(config: RunConfig, busy: int, rounds: int, json: Path | None) -> int:
    from ashneuro.bench.beside import bench_beside
    from ashneuro.reporting import tables

    with terminal.counting("measuring") as tick:
        content = bench_beside(config, busy=busy, rounds=rounds, progress=tick).to_json()
    terminal.show(tables.bench.beside(content))
    _write_json(content, json)
    return 0


def _run(
    name: str,
    jobs: Sequence[Job],
    device: torch.device,
    rounds: int,
    threads: int | None,
    clock: Literal["wall", "cpu"],
    json: Path | None,
    plot: Path | None,
) -> int:
    from ashneuro.bench.timing import time_jobs
    from ashneuro.reporting import figures, tables

    with terminal.counting("timing") as tick:
        result = time_jobs(name, jobs, device=device, rounds=rounds, threads=threads, clock=clock, progress=tick)
    content = result.to_json()
    for table in tables.bench.jobs(content):
        terminal.show(table)
    _write_json(content, json)
    if plot:
        figure = figures.bench.jobs(plain(content))
        _write(plot, figures.svg.alone(figure, name, f"times of {name} relative to the baselines"), "--plot")
    return 0


def _device(name: str) -> torch.device:
    """Return the device that ``--device`` names; raise `MissingDependency` without torch."""
    found: torch.device = need("ashneuro.training.loop", extra="train", purpose="timing layers").pick_device(name)
    return found


def _write_json(content: Mapping[str, Any], path: Path | None) -> None:
    if path:
        _write(path, _json.dumps(plain(content), indent=2, ensure_ascii=False) + "\n", "--json")


def _write(path: Path, text: str, option: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise DataError(
            f"cannot write {path}", error.strerror or str(error), f"{option} FILE in a folder that exists"
        ) from error
    terminal.wrote(path)
