"""``ashneuro sweep``: vary factors and seeds; one table and one figure."""

from __future__ import annotations

import csv
import io
import json as json_
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ashneuro.config import SweepConfig, load_sweep
from ashneuro.errors import AshneuroError, ConfigError, need
from ashneuro.reporting import terminal

if TYPE_CHECKING:
    from ashneuro.cost.profile import HardwareProfile, Range
    from ashneuro.training.checkpoint import Run
    from ashneuro.training.sweep import Cell, Summary

# Both sides on one node: 8-bit weights and activations, the quantised-ReLU control with the bits that it was trained with.
PRECISION = "int8"


def sweep(
    config: Path,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Folder of the sweep. Default: runs/NAME of the config.")] = None,
    set_: Annotated[
        list[str] | None,
        Parameter(name="--set", help="Change one setting of all runs: --set train.epochs=3. Repeatable.", negative=()),
    ] = None,
    seeds: Annotated[
        list[int] | None,
        Parameter(
            help="Other seeds than the config's: --seeds 3 4. All of them for one table.",
            negative=(),
            consume_multiple=True,
        ),
    ] = None,
    limit: Annotated[
        int | None, Parameter(help="Stop after this many runs; the next call goes on. 0: only the table.")
    ] = None,
    json: Annotated[bool, Parameter(help="Print JSON instead of a table.", negative=())] = False,
) -> int:
    """Vary factors and seeds: ablations, accuracy–energy trade-offs. Goes on where it was interrupted.

    Several of these commands may share one folder, on one machine or on a shared disk: each takes the next run that nobody has. Runs
    made elsewhere count too, once their folders lie in OUT/cells. A run that fails is named at the end, and stops no other.

    Args:
        config: a TOML of factors and seeds, or the name of one that comes with ashneuro: ablation, front.
    """
    from ashneuro.cost.profile import load_profile

    if limit is not None and limit < 0:
        raise ConfigError(
            f"--limit {limit}", "it is a number of runs to train", "--limit 0 trains none and writes the table"
        )
    planned = load_sweep(config, set_ or ())
    if seeds:
        planned = replace(planned, seeds=tuple(dict.fromkeys(seeds)))
    profile = load_profile(planned.profile)
    if profile.kind != "asic":
        raise ConfigError(
            f"profile = {planned.profile!r}",
            f"it is of kind {profile.kind!r}; a sweep prices both sides on one node",
            "one of kind 'asic': cmos45",
        )
    plan = need("ashneuro.training.sweep", extra="train", purpose="a sweep")
    cells = plan.cells(planned)
    folder = out or Path("runs") / config.stem
    with redirect_stdout(sys.stderr) if json else nullcontext():  # what training says is no part of the JSON
        elsewhere, failed = _work(cells, folder, planned, profile, limit)
    rows = _rows(cells, folder)
    code = max((error.exit_code for error in failed.values()), default=0)
    summaries = plan.summarise(rows)
    files = _write(folder, planned, rows, len(cells), summaries) if rows else []
    for error in {str(error): error for error in failed.values()}.values():
        alike = [name for name, other in failed.items() if str(other) == str(error)]
        terminal.print_error(AshneuroError(f"{'; '.join(alike)}: {error.what}", error.why, error.do))
    if json:
        failures = {name: str(error) for name, error in failed.items()}
        terminal.json({"runs": rows, "summaries": [asdict(summary) for summary in summaries], "failed": failures})
        return code
    if not rows:
        terminal.line(
            f"no run is finished in {folder}" + "".join(f"; {name}: {who}" for name, who in elsewhere.items())
        )
        return code
    terminal.table(
        _title(planned, rows),
        _COLUMNS,
        [_cells(summary) for summary in summaries],
        _note(planned, len(cells) - len(rows)),
    )
    for name, who in elsewhere.items():
        terminal.line(f"{name} is in the hands of {who}", "yellow")
    if others := _other_seeds(planned, folder):
        terminal.line(
            f"{folder / 'cells'} holds runs of other seeds too: --seeds {' '.join(map(str, (*planned.seeds, *others)))}",
            "yellow",
        )
    terminal.wrote(*files)
    return code


def _work(
    cells: Sequence[Cell], folder: Path, planned: SweepConfig, profile: HardwareProfile, limit: int | None
) -> tuple[dict[str, str], dict[str, AshneuroError]]:
    """Train what nobody has finished or claimed, ``limit`` runs at most; return what others are at, and what failed, by name.

    It looks again until nothing is left: what another process had claimed may have been given up.
    """
    plan = need("ashneuro.training.sweep", extra="train", purpose="a sweep")
    _rows(cells, folder)  # a folder of another sweep is refused before anything is trained
    trained = 0
    failed: dict[str, AshneuroError] = {}
    while True:
        before = trained
        elsewhere: dict[str, str] = {}
        for number, cell in enumerate(cells, start=1):
            own, name = folder / "cells" / cell.folder, f"{cell.variant}, seed {cell.seed}"
            if name in failed or (own / "row.json").exists():
                continue
            if trained == limit:
                return elsewhere, failed
            with plan.claim(own) as holder:
                if holder:
                    elsewhere[name] = holder
                elif not (own / "row.json").exists():  # it may have been finished just now
                    trained += 1
                    try:
                        _one(cell, own, planned, profile, f"{number} of {len(cells)}")
                    except AshneuroError as error:
                        failed[name] = error
                        continue
                    rows = _rows(cells, folder)
                    _write(folder, planned, rows, len(cells), plan.summarise(rows))
        if trained == before:
            return elsewhere, failed


def _rows(cells: Sequence[Cell], folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the runs that are finished, in the order of the plan; also those that are not must have its settings."""
    from ashneuro.config import dump_config, load_config

    found: list[dict[str, Any]] = []
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
            found.append(json_.loads((own / "row.json").read_text(encoding="utf-8")) | {"folder": str(own)})
    return found


def _differences(ours: Any, theirs: Any, name: str = "") -> list[str]:
    """Return the settings in which two configs differ."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return [
            text
            for key in dict.fromkeys((*ours, *theirs))
            for text in _differences(ours.get(key), theirs.get(key), f"{name}.{key}".strip("."))
        ]
    return [] if ours == theirs else [f"{name} is {theirs!r} there and {ours!r} now"]


def _other_seeds(planned: SweepConfig, folder: Path) -> list[int]:
    """Return the seeds of finished runs in the folder that are not planned."""
    rows = [json_.loads(file.read_text(encoding="utf-8")) for file in (folder / "cells").glob("*/row.json")]
    return sorted({row["seed"] for row in rows} - set(planned.seeds))


def _one(cell: Cell, folder: Path, planned: SweepConfig, profile: HardwareProfile, place: str) -> None:
    """Train and measure one run, and write its row."""
    from ashneuro.commands.train import learn
    from ashneuro.files import replace_file

    terminal.heading(f"{cell.variant}, seed {cell.seed} ({place})")
    learn(cell.config, folder, resume=(folder / "config.json").exists())
    checkpoint = need("ashneuro.training.checkpoint", extra="train", purpose="a sweep")
    run = checkpoint.load_run(folder)
    row = {"variant": cell.variant, "levels": dict(cell.levels), "seed": cell.seed}
    row |= _accuracies(run, planned) | _costs(run, planned, profile)
    replace_file(folder / "row.json", lambda file: file.write_text(json_.dumps(row, indent=1), encoding="utf-8"))


def _accuracies(run: Run, planned: SweepConfig) -> dict[str, Any]:
    """Return the metric as it is, with A and with C zeroed, and the firing rate."""
    from ashneuro.commands.evaluate import open_run
    from ashneuro.commands.tasks import answer_questions, open_task
    from ashneuro.evaluation import Condition
    from ashneuro.hybrid import HybridSession

    with HybridSession(run) as session:
        if planned.task == "retrieval":
            _, pairs, split = open_run(run.path, planned.part, None)
            retrieval = session.evaluate(pairs, split)
            found = {row.condition: sum(way["R@1"] for way in row.directions) / 2 for row in retrieval.rows}
            rates: Mapping[str, float] = retrieval.firing_rate
            more = {
                "R@1_image_to_text": retrieval.rows[0].image_to_text["R@1"],
                "R@1_text_to_image": retrieval.rows[0].text_to_image["R@1"],
            }
        else:
            answers = answer_questions(session, open_task(run, planned.task, planned.part, None))
            found = {row.condition: row.accuracy for row in answers.rows}
            rates, more = answers.firing_rate, {}
    return {
        "accuracy": found[Condition.WHOLE],
        "accuracy_a_zeroed": found.get(Condition.A_ZEROED),
        "accuracy_c_zeroed": found.get(Condition.C_ZEROED),
        "firing_rate": sum(rates.values()) / len(rates) if rates else None,
        **more,
    }


def _costs(run: Run, planned: SweepConfig, profile: HardwareProfile) -> dict[str, Any]:
    """Return events per image, counted on some of the part's images, and their price, host included."""
    import numpy as np

    from ashneuro.commands.tasks import pictures_for
    from ashneuro.cost.workload import ann_twin, count, host_workload
    from ashneuro.model.deploy import deployed_graph, host_layers
    from ashneuro.program.lower import lower
    from ashneuro.simulation.run import simulate
    from ashneuro.spiking.contract import read_contract

    host = host_layers(run.model)
    kind = run.config.model.abstract.kind
    synops = None
    precision = PRECISION
    if kind == "none":
        workload = host_workload(host)
    else:
        graph = deployed_graph(run.model if kind == "spiking" else _same_topology(run))
        program = lower(graph, read_contract(graph.metadata).contract)
        if kind == "spiking":
            from ashneuro.data.batches import load_images
            from ashneuro.training.evaluate import input_currents

            pairs = pictures_for(run, planned.part)
            some = pairs[:: max(1, len(pairs) // planned.energy_images)][: planned.energy_images]
            currents = np.concatenate(
                list(input_currents(run.model, load_images(some, run.config.data.image_size))), axis=1
            )
            workload = count(program, simulate(program, currents, on="torch"), host)
            synops = sum(layer.effective_acs for layer in workload.layers) / workload.samples
        else:
            workload = ann_twin(program, host_layers=host)
            if kind == "quantised-relu":
                from ashneuro.model.abstract import bits_of

                precision = f"int{bits_of(run.config.model.abstract.timesteps)}"
    energy = _energy(workload, profile, precision)
    return {
        "synops": synops,
        "host_macs": sum(layer.dense_macs for layer in workload.part("host").layers) / workload.samples,
        "energy_j": energy.typical,
        "energy_low_j": energy.low,
        "energy_high_j": energy.high,
    }


def _energy(workload: Any, profile: HardwareProfile, precision: str) -> Range:
    from ashneuro.cost.estimate import estimate
    from ashneuro.cost.terms import total

    parts = [(workload.part("host"), PRECISION), (workload.part("deployed"), precision)]
    return total(estimate(part, profile, used).dynamic_j for part, used in parts if part.layers)


def _same_topology(run: Run) -> Any:
    """Return a spiking model of the run's topology: an ANN control is priced by its layers, whatever its weights."""
    from ashneuro.training.checkpoint import build_model

    model = run.config.model
    spiking = replace(run.config, model=replace(model, abstract=replace(model.abstract, kind="spiking")))
    return build_model(spiking, run.vocabulary, run.labels, load=False).eval()


_COLUMNS = (
    "variant",
    ">seeds",
    ">accuracy, %",
    ">A zeroed, %",
    ">C zeroed, %",
    ">firing rate, %",
    ">synops per image",
    ">host MACs per image",
    ">energy, µJ (low–high)",
)


def _cells(summary: Summary) -> tuple[str, ...]:
    def spread(name: str, factor: float, digits: int) -> str:
        if name not in summary.mean:
            return "–"
        deviation = summary.deviation[name]
        text = f"{factor * summary.mean[name]:,.{digits}f}"
        return text if deviation is None else f"{text} ± {factor * deviation:,.{digits}f}"

    energy = spread("energy_j", 1e6, 2)
    if "energy_low_j" in summary.mean:
        energy += f" ({1e6 * summary.mean['energy_low_j']:,.2f}–{1e6 * summary.mean['energy_high_j']:,.2f})"
    percents = [spread(name, 100, 1) for name in ("accuracy", "accuracy_a_zeroed", "accuracy_c_zeroed", "firing_rate")]
    return (summary.variant, str(summary.seeds), *percents, spread("synops", 1, 0), spread("host_macs", 1, 0), energy)


def _title(planned: SweepConfig, rows: Sequence[Mapping[str, Any]]) -> str:
    what = "mean of R@1 image → text and text → image" if planned.task == "retrieval" else planned.task
    return f"{len(rows)} runs of {planned.base}; accuracy: {what}, {planned.part} part"


def _note(planned: SweepConfig, missing: int) -> str:
    text = "mean ± standard deviation over seeds. Accuracy and firing rate are measured, synops and MACs counted, "
    text += f"energy estimated ({planned.profile}, int8 on host and chip; the host is in the sum; the low-bit control at its own bits)."
    return text + (f" {missing} runs are still to come." if missing else "")


def _write(
    folder: Path,
    planned: SweepConfig,
    rows: Sequence[Mapping[str, Any]],
    planned_runs: int,
    summaries: Sequence[Summary],
) -> list[Path]:
    """Write all runs as JSON and CSV, the table as Markdown, and the figure."""
    from ashneuro.files import replace_file

    table = [_COLUMNS, *map(_cells, summaries)]
    lines = ["| " + " | ".join(cell.removeprefix(">") for cell in row) + " |" for row in table]
    lines.insert(1, "|" + "|".join("---:" if name.startswith(">") else "---" for name in _COLUMNS) + "|")
    text = f"{_title(planned, rows)}\n\n" + "\n".join(lines) + f"\n\n{_note(planned, planned_runs - len(rows))}\n"
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "levels"))
    flat = io.StringIO()
    writer = csv.DictWriter(flat, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    content = json_.dumps(
        {"sweep": asdict(planned), "runs": list(rows), "summaries": [asdict(one) for one in summaries]}, indent=1
    )
    files = {"sweep.json": content, "sweep.csv": flat.getvalue(), "sweep.md": text}
    if drawn := _figure(summaries, planned):
        files["sweep.svg"] = drawn
    for name, written in files.items():
        replace_file(folder / name, lambda file, written=written: file.write_text(written, encoding="utf-8"))  # type: ignore[misc]
    return [folder / name for name in files]


def _figure(summaries: Sequence[Summary], planned: SweepConfig) -> str:
    """Return energy against accuracy as an SVG that stands alone; empty when nothing has a price."""
    from ashneuro.cost.profile import Range
    from ashneuro.reporting.figures.svg import alone
    from ashneuro.reporting.figures.sweep import Point, pareto

    points = [
        Point(
            summary.variant,
            next(iter(summary.levels), "base"),
            Range(summary.mean["energy_low_j"], summary.mean.get("energy_j"), summary.mean["energy_high_j"]),
            100 * summary.mean["accuracy"],
            100 * summary.least["accuracy"] if summary.seeds > 1 else None,
            100 * summary.most["accuracy"] if summary.seeds > 1 else None,
        )
        for summary in summaries
        if "energy_low_j" in summary.mean
    ]
    if not points:
        return ""
    text = f"estimated energy ({planned.profile}) against accuracy of {len(points)} variants"
    return alone(pareto(points, "accuracy, %"), "pareto", text)
