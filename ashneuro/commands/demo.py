"""``ashneuro demo``: the whole job on real data, in minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ashneuro.commands.shown import shown_training
from ashneuro.reporting import terminal

if TYPE_CHECKING:
    from ashneuro.config import RunConfig
    from ashneuro.training.loop import Progress


def demo(
    *,
    out: Annotated[Path, Parameter(help="Folder of the runs.")] = Path("runs/demo"),
    set_: Annotated[
        list[str] | None,
        Parameter(name="--set", help="Change one setting of all runs: --set train.epochs=3.", negative=()),
    ] = None,
) -> int:
    """The whole job on real data, in minutes: train, evaluate, export, run on Lava, report.

    Three hybrids (graded events, IF that resets by subtraction, LIF) beside ANNs and a host alone,
    all trained for the same number of epochs, those they started from included. An interrupted demo
    continues where it stopped.
    """
    from ashneuro.workflows.demo import Demo

    started = time.monotonic()
    runs = Demo(out, tuple(set_ or ()))
    with _step("Data: emoji in six drawing styles"):
        terminal.data_counts(runs.describe_data())
    with (
        _step(f"Train hybrids and, with the same budget of {runs.epochs} epochs, their controls"),
        ExitStack() as running,
    ):

        def start_run(folder: Path, config: RunConfig) -> Callable[[Progress], None]:
            running.close()
            return running.enter_context(shown_training(config, folder))

        runs.train(start_run)
    with _step("Evaluate retrieval on pictures of a style that training never saw"):
        terminal.evaluations(runs.evaluate())
    with _step("Export the spiking encoders: lower, quantise, and prove them equal on Lava"):
        with terminal.progress() as progress:
            certificates = [exported.certificate for exported in runs.export(progress)]
        for folder, certificate in zip(runs.hybrids, certificates, strict=True):
            terminal.line(folder.name, "bold")
            terminal.certificate(certificate)
    with _step("Run hybrids: the ANN branch in torch, the spiking encoder elsewhere"):
        with terminal.progress() as progress:
            evaluations, missing = runs.evaluate_deployed(progress)
        terminal.retrieval(evaluations)
        if missing:
            terminal.line(f"Lava: not run, {missing}", "yellow")
    with _step("Report: what it costs, against ANNs that do the same job"):
        result, files = runs.report()
        if result.workload:
            terminal.activity(result.workload)
        if result.comparison:
            terminal.comparison(result.comparison)
    terminal.line(f"done in {time.monotonic() - started:.0f} s")
    terminal.wrote(*runs.hybrids, *runs.controls, *(folder / "bundle" for folder in runs.hybrids), *files)
    terminal.next_steps(
        f"open {runs.hybrid / 'report.html'} in a browser",
        f"ashneuro verify {runs.hybrid}",
        f"ashneuro simulate {runs.hybrid} --on lava",
        "ashneuro profiles show loihi1",
        "ashneuro sweep front",
        "ashneuro data fetch tuxpaint",
        *(["ashneuro doctor --setup lava"] if missing else []),
    )
    return 1 if any(certificate.failed for certificate in certificates) else 0


@contextmanager
def _step(title: str) -> Iterator[None]:
    """Print the title of a step, then how long it took."""
    started = time.monotonic()
    terminal.heading(title)
    yield
    terminal.line(f"({time.monotonic() - started:.0f} s)", "dim")
    terminal.line()
