"""``ashneuro demo``: the whole job on real data, in minutes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ashneuro.commands.evaluate import measure
from ashneuro.commands.export import export_graph
from ashneuro.commands.lava_options import LavaOptions
from ashneuro.commands.report import report_run
from ashneuro.commands.train import learn
from ashneuro.config import RunConfig, load_config
from ashneuro.program.certificate import Certificate
from ashneuro.reporting import terminal

if TYPE_CHECKING:
    from ashneuro.evaluation import Evaluation

# The hybrid and its controls: same data, same budget, another abstract encoder.
CONTROLS = {"no-abstract": "none", "quantised-relu": "quantised-relu"}
PROFILES = ("loihi1", "cmos45", "h100")
LAVA_SAMPLES = 64


def demo(
    *,
    out: Annotated[Path, Parameter(help="Folder of the runs.")] = Path("runs/demo"),
    set_: Annotated[
        list[str] | None,
        Parameter(name="--set", help="Change one setting of all runs: --set train.epochs=3.", negative=()),
    ] = None,
) -> int:
    """The whole job on real data, in minutes: train, evaluate, export, run on Lava, report. Goes on where it was interrupted."""
    started = time.monotonic()
    lava_missing = False
    hybrid = out / "hybrid"
    settings = list(set_ or [])
    with step("Data: emoji in six drawing styles"):
        show_data(load_config("tiny", settings))
    with step("Train the hybrid and, with the same budget, its controls"):
        train_or_resume(load_config("tiny", settings), hybrid)
        for name, kind in CONTROLS.items():
            train_or_resume(load_config("tiny", [*settings, f"model.abstract.kind={kind}"]), out / name)
    with step("Evaluate retrieval on pictures of a style that training never saw"):
        results = [measure(folder).evaluation for folder in (hybrid, *(out / name for name in CONTROLS))]
        terminal.retrieval(results)
        terminal.facts(results)
    with step("Export the spiking encoder: lower, quantise, and prove it equal on Lava"):
        certificate = export_run(hybrid)
        terminal.certificate(certificate)
    with step("Run hybrid: the ANN branch in torch, the spiking encoder elsewhere"):
        rows = [
            measure(hybrid, "loihi").evaluation,
            measure(hybrid, samples=LAVA_SAMPLES).evaluation,
        ]
        lava_rows, reason = on_lava(hybrid)
        lava_missing = bool(reason)
        terminal.retrieval([*rows, *lava_rows])
        if reason:
            terminal.line(f"Lava: not run, {reason}", "yellow")
    with step("Report: what it costs, against ANNs that do the same job"):
        files = write_report(hybrid, [out / name for name in CONTROLS])
    terminal.line(f"done in {time.monotonic() - started:.0f} s")
    terminal.wrote(hybrid, *(out / name for name in CONTROLS), hybrid / "bundle", *files)
    terminal.next_steps(
        f"open {hybrid / 'report.html'} in a browser",
        f"ashneuro verify {hybrid}",
        f"ashneuro simulate {hybrid} --on lava",
        "ashneuro profiles show loihi1",
        "ashneuro data fetch tuxpaint",
        *(["ashneuro doctor --setup lava"] if lava_missing else []),
    )
    return 1 if certificate.failed else 0


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step, and say how long it took."""
    started = time.monotonic()
    terminal.heading(title)
    yield
    terminal.line(f"({time.monotonic() - started:.0f} s)", "dim")
    terminal.line()


def show_data(config: RunConfig) -> None:
    """Print what the demo trains and tests on."""
    from ashneuro.data.describe import describe
    from ashneuro.data.sources import load_splits

    terminal.data_counts(describe(load_splits(config.data)))


def train_or_resume(config: RunConfig, folder: Path) -> None:
    """Train, or go on with the same run where it stopped."""
    learn(config, folder, resume=(folder / "config.json").exists())


def export_run(run: Path) -> Certificate:
    """Export a run with as many reference samples as run on Lava later; return the certificate."""
    from ashneuro.commands.targets import ContractOptions

    exported = export_graph(
        run, "run", None, ContractOptions(), run / "bundle", samples=LAVA_SAMPLES, lava=LavaOptions()
    )
    return exported.certificate


def on_lava(run: Path) -> tuple[list[Evaluation], str]:
    """Return retrieval from Lava's spikes, float and fixed, or why there is none."""
    from ashneuro.errors import LavaError
    from ashneuro.simulation.lava.environment import find_interpreter

    try:
        find_interpreter()
    except LavaError as error:
        return [], f"{error.what}; {error.do}"
    return [measure(run, "lava", precision, samples=LAVA_SAMPLES).evaluation for precision in ("float", "fixed")], ""


def write_report(run: Path, controls: list[Path]) -> list[Path]:
    """Write the report of ``run`` beside its controls, and print its answer."""
    from ashneuro.cost.profile import load_profile
    from ashneuro.reporting.html import write_html
    from ashneuro.reporting.summary import write_json

    result = report_run(run, [load_profile(name) for name in PROFILES], controls)
    if result.workload:
        terminal.activity(result.workload)
    if result.comparison:
        terminal.comparison(result.comparison)
    return [write_json(result, run / "report.json"), write_html(result, run / "report.html")]
