"""Runs of a sweep: claimed one by one, trained, measured, and read back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashneuro.config import differences, dump_config, load_config, settled
from ashneuro.cost.profile import HardwareProfile, Range
from ashneuro.cost.workload import count
from ashneuro.errors import AshneuroError, ConfigError, DataError, need
from ashneuro.evaluation import Condition
from ashneuro.sweep_config import SweepConfig
from ashneuro.workflows.ann_control import PRECISION, control_workload, deployed_precision
from ashneuro.workflows.calibration import integer_program
from ashneuro.workflows.evaluate import answer_questions, questions_of
from ashneuro.workflows.runs import pairs_of
from ashneuro.workflows.sweep_table import write_sweep
from ashneuro.workflows.train import train

if TYPE_CHECKING:
    from ashneuro.cost.workload import Workload
    from ashneuro.training.checkpoint import Run
    from ashneuro.training.claims import Claim
    from ashneuro.training.sweep import Cell, Row, Summary
    from ashneuro.workflows.hybrid import HybridSession

POLL_S = 2.0  # between looks at a run that others work at and ours wait for


@dataclass(frozen=True)
class SweepResult:
    """State of a sweep's folder.

    Args:
        planned: number of compared runs in the plan.
        rows: one per finished run that is compared, in the order of the plan.
        summaries: one per variant.
        elsewhere: runs that another process is training, by name, and which process.
        failed: errors of runs, by name.
        files: table, figure and data of the finished runs.
        other_seeds: seeds of finished runs in the folder that the plan does not name.
    """

    planned: int
    rows: tuple[Row, ...]
    summaries: tuple[Summary, ...]
    elsewhere: Mapping[str, str]
    failed: Mapping[str, AshneuroError]
    files: tuple[Path, ...]
    other_seeds: tuple[int, ...]


StartRun = Callable[["Cell", int, int], Callable[[Any], None]]
"""Called with (cell, its number, cells in all) before a run is trained; returns the callback for
its progress.
"""

Wait = Callable[[str, str], None]
"""Called once with (run, who works at it) when all that is left waits for that run."""


def work(
    cells: Sequence[Cell],
    every: Sequence[Cell],
    folder: Path,
    planned: SweepConfig,
    profile: HardwareProfile,
    limit: int | None,
    start_run: StartRun,
    wait: Wait,
) -> tuple[dict[str, str], dict[str, AshneuroError]]:
    """Train ``limit`` runs of ``cells`` at most; return what others work at, and what failed, by
    name. The table of ``every`` run is written after each; the figure is drawn at the end.

    The plan is repeated until nothing is left: by then, a run that another process had claimed may
    be free, and one to start from may be finished.
    """
    plan = need("ashneuro.training.sweep", extra="train", purpose="a sweep")
    claims = need("ashneuro.training.claims", extra="train", purpose="a sweep")
    by_run = {(cell.variant, cell.seed): cell for cell in cells}
    trained, told = 0, ""
    failed: dict[str, AshneuroError] = {}
    while True:
        before = trained
        elsewhere: dict[str, str] = {}
        waiting: set[str] = set()
        for number, cell in enumerate(cells, start=1):
            own = folder / "cells" / cell.folder
            if cell.name in failed or finished_row(own):
                continue
            needed = [by_run[name, cell.seed] for name in cell.needs]
            if lost := [one.name for one in needed if one.name in failed]:
                failed[cell.name] = AshneuroError(
                    "not trained", f"it builds on {lost[0]}, which failed", "correct that run first"
                )
                continue
            if missing := [one for one in needed if not finished_row(folder / "cells" / one.folder)]:
                waiting.add(missing[0].name)
                continue
            if trained == limit:
                return elsewhere, failed
            with claims.claim(own) as mine:
                if mine.holder:
                    elsewhere[cell.name] = mine.holder
                elif not finished_row(own):  # it may have been finished just now
                    trained += 1
                    shown = start_run(cell, number, len(cells))

                    def tell(now: Any, mine: Claim = mine, shown: Callable[[Any], None] = shown) -> None:
                        mine.require()
                        shown(now)

                    try:
                        _train_and_measure(cell, own, planned, profile, tell, mine)
                    except AshneuroError as error:
                        failed[cell.name] = error
                        continue
                    if rows := finished_rows(every, folder):
                        compared = sum(one.compared for one in every)
                        write_sweep(folder, planned, rows, compared, plan.summarise(rows), figure=False)
        if trained == before:
            awaited = sorted(waiting & elsewhere.keys())
            if not awaited:
                return elsewhere, failed
            if told != awaited[0]:
                told = awaited[0]
                wait(told, elsewhere[told])
            time.sleep(POLL_S)


def finished_rows(cells: Sequence[Cell], folder: Path) -> list[Row]:
    """Return the rows of finished runs that are compared, in the order of the plan.

    Raises:
        ConfigError: a run, finished or not, was made with other settings than its cell's.
    """
    found: list[Row] = []
    for cell in cells:
        own = folder / "cells" / cell.folder
        if not (own / "config.json").exists():
            continue
        made = load_config(own / "config.json")
        # The folder may have been moved since, or come from another machine, with those that the
        # run builds on.
        unlike = differences(dump_config(settled(cell.settings_like(made), made)), dump_config(made))
        if differ := [f"{name} is {theirs!r} there and {ours!r} now" for name, (ours, theirs) in unlike.items()]:
            raise ConfigError(
                f"{own} was made with other settings",
                f"the sweep has changed since: {'; '.join(differ[:5])}" + ("; …" if len(differ) > 5 else ""),
                "another folder with --out, or delete it",
            )
        if cell.compared and (row := finished_row(own)):
            found.append(row)
    return found


def finished_row(folder: Path) -> Row | None:
    """Return the row of a run's folder; ``None`` if it is not finished, or its row is damaged.

    Then the run is measured again.
    """
    plan = need("ashneuro.training.sweep", extra="train", purpose="a sweep")
    try:
        row: Row | None = plan.Row.load(folder / "row.json")
    except DataError:
        return None
    return row


def other_seeds(planned: SweepConfig, folder: Path) -> list[int]:
    """Return the seeds of finished runs in the folder that are not planned."""
    rows = filter(None, (finished_row(file.parent) for file in (folder / "cells").glob("*/row.json")))
    return sorted({row.seed for row in rows} - set(planned.seeds))


def _train_and_measure(
    cell: Cell,
    folder: Path,
    planned: SweepConfig,
    profile: HardwareProfile,
    on_progress: Callable[[Any], None],
    mine: Claim,
) -> None:
    """Train or resume one run, measure it if it is compared, and write its row."""
    plan = need("ashneuro.training.sweep", extra="train", purpose="a sweep")
    config = cell.settings(lambda variant: folder.parent / plan.folder_name(variant, cell.seed))
    train(config, folder, resume=(folder / "config.json").exists(), on_progress=on_progress)
    measures: dict[str, float | None] = {"epochs": cell.epochs}
    if cell.compared:
        # Loaded from its files, not taken from training: they are what anyone will measure again.
        run = need("ashneuro.training.checkpoint", extra="train", purpose="a sweep").load_run(folder)
        measures |= measure_run(run, planned, profile)
    mine.require()
    plan.Row(cell.variant, dict(cell.levels), cell.seed, measures, folder).save(folder / "row.json")


def measure_run(run: Run, planned: SweepConfig, profile: HardwareProfile) -> dict[str, float | None]:
    """Return accuracy in integers and in floats, activity, and the price of these integers.

    The abstract encoder computes the integers that are priced: the spiking one in the emulator, on
    every image of the part; an ANN in its place with 8-bit weights and the bits of its activations.
    """
    from ashneuro.model.deploy import host_layers
    from ashneuro.workflows.hybrid import HybridSession

    settings = run.config.model.abstract
    with HybridSession(run) as session:
        measures = _accuracies(session, planned)
    measures |= {"accuracy_float": measures["accuracy"], "synops": None}
    if settings.kind == "spiking":
        program = integer_program(run)
        with HybridSession(run, "loihi", program=program) as session:
            # The emulator returns the last layer's spikes; the rates of all layers are known.
            measures |= {**_accuracies(session, planned), "firing_rate": measures["firing_rate"]}
            assert session.record is not None
            workload = count(program, session.record, host_layers(run.model))
        measures["synops"] = _synops(workload)
    else:
        if settings.kind != "none":  # all of a host alone is in floats
            with HybridSession(run, "loihi") as session:
                measures |= _accuracies(session, planned)
        workload = control_workload(run)
    energy = _energy(workload, profile, deployed_precision(settings))
    return measures | {
        "host_macs": sum(layer.dense_macs for layer in workload.part("host").layers) / workload.samples,
        "energy_j": energy.typical,
        "energy_low_j": energy.low,
        "energy_high_j": energy.high,
    }


def _accuracies(session: HybridSession, planned: SweepConfig) -> dict[str, float | None]:
    """Return the metric of the whole network, with A and with C zeroed, by the STUA head alone, and
    the firing rate.
    """
    run = session.run
    more: dict[str, float | None] = {}
    if planned.task == "retrieval":
        retrieval = session.evaluate(*pairs_of(run, planned.part))
        rates = retrieval.firing_rate
        found = {row.condition: sum(way["R@1"] for way in row.directions) / 2 for row in retrieval.rows}
        more = {
            "R@1_image_to_text": retrieval.rows[0].image_to_text["R@1"],
            "R@1_text_to_image": retrieval.rows[0].text_to_image["R@1"],
        }
    else:
        answers = answer_questions(session, questions_of(run, planned.task, planned.part))
        rates = answers.firing_rate
        found = {row.condition: row.accuracy for row in answers.rows}
    return {
        "accuracy": found[Condition.WHOLE],
        "accuracy_a_zeroed": found.get(Condition.A_ZEROED),
        "accuracy_c_zeroed": found.get(Condition.C_ZEROED),
        "accuracy_a_alone": found.get(Condition.A_ALONE),
        "firing_rate": sum(rates.values()) / len(rates) if rates else None,
        **more,
    }


def _synops(workload: Workload) -> float:
    """Return events times weights per image; of graded messages, products."""
    layers = workload.part("deployed").layers
    return sum(layer.effective_acs + (layer.effective_macs or 0) for layer in layers) / workload.samples


def _energy(workload: Workload, profile: HardwareProfile, precision: str) -> Range:
    from ashneuro.cost.estimate import estimate
    from ashneuro.cost.terms import total

    parts = [(workload.part("host"), PRECISION), (workload.part("deployed"), precision)]
    return total(estimate(part, profile, used).dynamic_j for part, used in parts if part.layers)
