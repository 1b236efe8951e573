"""``ashneuro bench``: how fast is it here, in ratios within one run."""

from __future__ import annotations

import json as _json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from ashneuro.errors import ConfigError, DataError, need
from ashneuro.reporting import terminal

if TYPE_CHECKING:
    import torch

    from ashneuro.bench.timing import Job

bench = App(name="bench", help="How fast is it here? Ratios within one run.")
bench.command(
    "ashneuro.commands.bench_lava:lava",
    name="lava",
    help="What a sample costs in Lava: a network built for each, streamed, and side by side. Exit code 1 when their spikes differ.",
)


@bench.command
def emulator(
    *,
    bundle: Annotated[
        Path | None, Parameter(help="A bundle, or a run that was exported: its network too, on its own samples.")
    ] = None,
    samples: Annotated[int, Parameter(help="Samples that the emulator computes in a round.")] = 256,
    lava_samples: Annotated[int, Parameter(help="The first so many of them run in Lava.")] = 16,
    rounds: Annotated[int, Parameter(help="How often everything runs, in turn.")] = 5,
    threads: Annotated[int | None, Parameter(help="Threads at most. Default: one per core.")] = None,
    lava: Annotated[bool, Parameter(help="Run Lava too.")] = True,
    json: Annotated[Path | None, Parameter(help="Write all figures to this file.")] = None,
) -> int:
    """The bit-exact emulator against Lava's own execution of the same integer programs: dense layers, and convolutions.

    Exit code 1 when their spikes differ.
    """
    from ashneuro.bench.emulator import bench_emulator, bundle_network, conv_network, dense_network
    from ashneuro.workflows.networks import open_bundle

    networks = [dense_network(samples), conv_network(samples)]
    if bundle:
        networks.append(bundle_network(open_bundle(bundle), samples))
    with terminal.counting("timing") as tick:
        result = bench_emulator(
            networks, rounds=rounds, threads=threads, lava=lava, lava_samples=lava_samples, progress=tick
        )
    content = result.to_json()
    terminal.bench_emulator(content)
    _keep(content, json)
    return 0 if result.passed else 1


Rounds = Annotated[int, Parameter(help="How often every way has its turn.")]
Threads = Annotated[int | None, Parameter(help="Threads of torch. Default: as many as it takes.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], Parameter(help="auto: the GPU where there is one.")]
Clock = Annotated[Literal["wall", "cpu"], Parameter(help="cpu: processor time, which other processes have no part in.")]
Json = Annotated[Path | None, Parameter(help="Write all figures to this file.")]
Plot = Annotated[Path | None, Parameter(help="Draw them as an SVG.")]


@bench.command
def lif(
    *,
    timesteps: Annotated[tuple[int, ...], Parameter(help="Steps, one job for each.")] = (16, 32),
    batch: Annotated[int, Parameter(help="Samples.")] = 64,
    width: Annotated[int, Parameter(help="Neurons of the layer, and lines that arrive at it.")] = 768,
    rounds: Rounds = 7,
    threads: Threads = None,
    device: Device = "auto",
    clock: Clock = "wall",
    json: Json = None,
    plot: Plot = None,
) -> int:
    """A dense layer of LIF neurons, forward and backward: against its matrix product alone, other libraries, and copying memory."""
    if min(timesteps, default=0) < 1:
        raise ConfigError(f"timesteps = {timesteps}", "a sample lasts at least one step", "--timesteps 16")
    for name, value in (("batch", batch), ("width", width)):
        if value < 1:
            raise ConfigError(f"{name} = {value}", "a layer has at least one", f"--{name} 64")
    where = pick_device(device)
    from ashneuro.bench.layers import lif_jobs

    return _run(
        "lif", lif_jobs(where, timesteps=timesteps, batch=batch, width=width), where, rounds, threads, clock, json, plot
    )


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
    """A small convolutional network with LIF neurons, 16 steps, batch 16, forward and backward: against its synapses alone."""
    where = pick_device(device)
    from ashneuro.bench.layers import conv_jobs

    return _run("conv", conv_jobs(where), where, rounds, threads, clock, json, plot)


@bench.command
def model(
    config: Annotated[str, Parameter(help="A settings file, or the name of one that comes with ashneuro.")] = "tiny",
    *,
    set: Annotated[tuple[str, ...], Parameter(help="section.key=value")] = (),
    rounds: Rounds = 5,
    threads: Threads = None,
    device: Device = "auto",
    clock: Clock = "wall",
    json: Json = None,
    plot: Plot = None,
) -> int:
    """One step of training a whole network on made-up pairs, forward and backward, with every kind of kernels."""
    where = pick_device(device)
    from ashneuro.bench.model import model_jobs
    from ashneuro.config import load_config

    return _run("model", model_jobs(where, load_config(config, set)), where, rounds, threads, clock, json, plot)


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
    _keep(content, json)
    if plot:
        figure = figures.bench.jobs(terminal.plain(content))
        _write(plot, figures.svg.alone(figure, name, f"times of {name} relative to the baselines"), "--plot")
    return 0


def pick_device(name: str) -> torch.device:
    """Return the device that ``--device`` names; what is imported after this may rely on torch."""
    found: torch.device = need("ashneuro.training.loop", extra="train", purpose="timing layers").pick_device(name)
    return found


def _keep(content: Mapping[str, Any], path: Path | None) -> None:
    if path:
        _write(path, _json.dumps(terminal.plain(content), indent=2, ensure_ascii=False) + "\n", "--json")


def _write(path: Path, text: str, option: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"cannot write {path}", error.strerror or str(error), f"{option} FILE in a folder that exists"
        ) from error
    terminal.wrote(path)
