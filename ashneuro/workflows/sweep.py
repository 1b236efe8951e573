"""Sweeps: train and measure every run of a plan, then summarise them over seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashneuro.config import SweepConfig, dump_config, load_config
from ashneuro.cost.profile import HardwareProfile, Range, load_profile
from ashneuro.errors import AshneuroError, ConfigError, need
from ashneuro.evaluation import Condition
from ashneuro.workflows.evaluate import answer_questions, questions_of
from ashneuro.workflows.runs import pairs_of, pictures_of_run
from ashneuro.workflows.sweep_table import write_sweep
from ashneuro.workflows.train import train

if TYPE_CHECKING:
    from ashneuro.cost.workload import Workload
    from ashneuro.model.network import AshNet
    from ashneuro.training.checkpoint import Run
    from ashneuro.training.sweep import Cell, Row, Summary

# Both sides on one node: 8-bit weights and activations, the quantised-ReLU control with the bits it
# was trained with.
PRECISION = "int8"


@dataclass(frozen=True)
class SweepResult:
    """State of a sweep's folder.

    Args:
        planned: number of runs in the plan.
        rows: one per finished run, in the order of the plan.
        summaries: one per variant.
        elsewhere: runs that another process works at, by name, and who that is.
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


def sweep(
    planned: SweepConfig,
    folder: str | Path,
    *,
    limit: int | None = None,
    start_run: StartRun = lambda cell, number, total: lambda now: None,
) -> SweepResult:
    """Train and measure every run of a plan that nobody has finished or claimed.

    Several processes may share a folder: each takes the next run that is free. A run that fails
    stops no other.

    Args:
        planned: factors, seeds, base settings and profile.
        folder: folder of the sweep; runs lie in ``cells`` below it.
        limit: train at most this many runs; 0: only gather what is there.
        start_run: called before each run.

    Raises:
        ConfigError: the profile is no node, or the folder holds runs of other settings.
    """
    if limit is not None and limit < 0:
        raise ConfigError(
            f"--limit {limit}", "it is a number of runs to train", "--limit 0 trains none and writes the table"
        )
    profile = load_profile(planned.profile)
    if profile.kind != "asic":
        raise ConfigError(
            f"profile = {planned.profile!r}",
            f"it is of kind {profile.kind!r}; a sweep prices both sides on one node",
            "one of kind 'asic': cmos45",
        )
    plan = need("ashneuro.training.sweep", extra="train", purpose="a sweep")
    cells, folder = plan.cells(planned), Path(folder)
    elsewhere, failed = _work(cells, folder, planned, profile, limit, start_run)
    rows = _rows(cells, folder)
    summaries = plan.summarise(rows)
    files = write_sweep(folder, planned, rows, len(cells), summaries) if rows else []
    seeds = tuple(_other_seeds(planned, folder))
    return SweepResult(len(cells), tuple(rows), summaries, elsewhere, failed, tuple(files), seeds)


def _work(
    cells: Sequence[Cell],
    folder: Path,
    planned: SweepConfig,
    profile: HardwareProfile,
    limit: int | None,
    start_run: StartRun,
) -> tuple[dict[str, str], dict[str, AshneuroError]]:
    """Train ``limit`` runs at most; return what others work at, and what failed, by name.

    The plan is gone through again until nothing is left: a run that another process had claimed may
    be free by then.
    """
    plan = need("ashneuro.training.sweep", extra="train", purpose="a sweep")
    _rows(cells, folder)  # a folder of another sweep is refused before anything is trained
    trained = 0
    failed: dict[str, AshneuroError] = {}
    while True:
        before = trained
        elsewhere: dict[str, str] = {}
        for number, cell in enumerate(cells, start=1):
            own = folder / "cells" / cell.folder
            if cell.name in failed or (own / "row.json").exists():
                continue
            if trained == limit:
                return elsewhere, failed
            with plan.claim(own) as holder:
                if holder:
                    elsewhere[cell.name] = holder
                elif not (own / "row.json").exists():  # it may have been finished just now
                    trained += 1
                    try:
                        _train_and_measure(cell, own, planned, profile, start_run(cell, number, len(cells)))
                    except AshneuroError as error:
                        failed[cell.name] = error
                        continue
                    rows = _rows(cells, folder)
                    write_sweep(folder, planned, rows, len(cells), plan.summarise(rows))
        if trained == before:
            return elsewhere, failed


def _rows(cells: Sequence[Cell], folder: Path) -> list[Row]:
    """Return the rows of finished runs, in the order of the plan.

    Raises:
        ConfigError: a run, finished or not, was made with other settings than its cell's.
    """
    plan = need("ashneuro.training.sweep", extra="train", purpose="a sweep")
    found: list[Row] = []
    for cell in cells:
        own = folder / "cells" / cell.folder
        if not (own / "config.json").exists():
            continue
        made = dump_config(load_config(own / "config.json"))
        if differ := _differences(dump_config(cell.config), made):
            raise ConfigError(
                f"{own} was made with other settings",
                f"the sweep has changed since: {'; '.join(differ[:5])}" + ("; …" if len(differ) > 5 else ""),
                "another folder with --out, or delete it",
            )
        if (own / "row.json").exists():
            found.append(plan.Row.load(own / "row.json"))
    return found


def _differences(ours: Any, theirs: Any, name: str = "") -> list[str]:
    """Return the settings in which two configs differ, in words."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return [
            text
            for key in dict.fromkeys((*ours, *theirs))
            for text in _differences(ours.get(key), theirs.get(key), f"{name}.{key}".strip("."))
        ]
    return [] if ours == theirs else [f"{name} is {theirs!r} there and {ours!r} now"]


def _other_seeds(planned: SweepConfig, folder: Path) -> list[int]:
    """Return the seeds of finished runs in the folder that are not planned."""
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in (folder / "cells").glob("*/row.json")]
    return sorted({row["seed"] for row in rows} - set(planned.seeds))


def _train_and_measure(
    cell: Cell, folder: Path, planned: SweepConfig, profile: HardwareProfile, on_progress: Callable[[Any], None]
) -> None:
    """Train one run or go on with it, measure it, and write its row."""
    plan = need("ashneuro.training.sweep", extra="train", purpose="a sweep")
    train(cell.config, folder, resume=(folder / "config.json").exists(), on_progress=on_progress)
    # Loaded from its files, not taken from training: they are what anyone will measure again.
    run = need("ashneuro.training.checkpoint", extra="train", purpose="a sweep").load_run(folder)
    measures = _accuracies(run, planned) | _costs(run, planned, profile)
    plan.Row(cell.variant, dict(cell.levels), cell.seed, measures, folder).save(folder / "row.json")


def _accuracies(run: Run, planned: SweepConfig) -> dict[str, float | None]:
    """Return the metric of the whole network, with A and with C zeroed, by the STUA head alone, and
    the firing rate.
    """
    from ashneuro.workflows.hybrid import HybridSession

    more: dict[str, float | None] = {}
    with HybridSession(run) as session:
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


def _costs(run: Run, planned: SweepConfig, profile: HardwareProfile) -> dict[str, float | None]:
    """Return events per image, counted on some of the part's images, and their price, host
    included.
    """
    from ashneuro.model.abstract import spike_count_bits

    settings = run.config.model.abstract
    workload = _workload(run, planned)
    spiking = settings.kind == "spiking"
    precision = f"int{spike_count_bits(settings.timesteps)}" if settings.kind == "quantised-relu" else PRECISION
    energy = _energy(workload, profile, precision)
    return {
        "synops": sum(layer.effective_acs for layer in workload.layers) / workload.samples if spiking else None,
        "host_macs": sum(layer.dense_macs for layer in workload.part("host").layers) / workload.samples,
        "energy_j": energy.typical,
        "energy_low_j": energy.low,
        "energy_high_j": energy.high,
    }


def _workload(run: Run, planned: SweepConfig) -> Workload:
    """Return the work of one image: counted for a hybrid, by topology for an ANN control."""
    import numpy as np

    from ashneuro.cost.workload import ann_twin, count, host_workload
    from ashneuro.data.batches import load_images
    from ashneuro.model.deploy import deployed_graph, host_layers
    from ashneuro.program.lower import lower
    from ashneuro.simulation.run import simulate
    from ashneuro.spiking.contract import read_contract
    from ashneuro.training.evaluate import input_currents

    kind, host = run.config.model.abstract.kind, host_layers(run.model)
    if kind == "none":
        return host_workload(host)
    graph = deployed_graph(run.model if kind == "spiking" else _same_topology(run))
    program = lower(graph, read_contract(graph.metadata).contract)
    if kind != "spiking":
        return ann_twin(program, host_layers=host)
    pairs = pictures_of_run(run, planned.part)
    some = pairs[:: max(1, len(pairs) // planned.energy_images)][: planned.energy_images]
    images = load_images(some, run.config.data.image_size)
    currents = np.concatenate(list(input_currents(run.model, images)), axis=1)
    return count(program, simulate(program, currents, on="torch"), host)


def _energy(workload: Workload, profile: HardwareProfile, precision: str) -> Range:
    from ashneuro.cost.estimate import estimate
    from ashneuro.cost.terms import total

    parts = [(workload.part("host"), PRECISION), (workload.part("deployed"), precision)]
    return total(estimate(part, profile, used).dynamic_j for part, used in parts if part.layers)


def _same_topology(run: Run) -> AshNet:
    """Return a spiking model of the run's topology: an ANN control is priced by its layers,
    whatever its weights.
    """
    from ashneuro.training.checkpoint import build_model

    model = run.config.model
    spiking = replace(run.config, model=replace(model, abstract=replace(model.abstract, kind="spiking")))
    return build_model(spiking, run.vocabulary, run.labels, load=False).eval()
