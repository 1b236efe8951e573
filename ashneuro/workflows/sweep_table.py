"""A sweep's results as files: table, figure, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ashneuro.cost.comparison.accuracy import Accuracy
from ashneuro.cost.profile import CASES, Range
from ashneuro.files import write_text
from ashneuro.reporting.tables.table import Table
from ashneuro.sweep_config import SweepConfig

if TYPE_CHECKING:
    from ashneuro.reporting.figures.sweep import Point
    from ashneuro.training.sweep import Row, Summary

COLUMNS = (
    "variant",
    ">seeds",
    ">epochs",
    ">accuracy, %",
    ">in floats, %",
    ">A zeroed, %",
    ">C zeroed, %",
    ">A alone, %",
    ">firing rate, %",
    ">synops per image",
    ">host MACs per image",
    ">energy, µJ (low–high)",
    "on the front",
)


def sweep_table(planned: SweepConfig, runs: int, planned_runs: int, summaries: Sequence[Summary]) -> Table:
    """Return one row per variant: mean and spread over its seeds."""
    what = "mean of R@1 image → text and text → image" if planned.task == "retrieval" else planned.task
    title = f"{runs} runs of {planned.base}; accuracy: {what}, {planned.part} part"
    note = (
        "mean ± standard deviation over seeds. A alone: through the STUA head, where it was trained. Accuracy is "
        "measured in the integers that are priced, on the host in floats; epochs include those of the runs that a run "
        "started from; firing rate is measured in floats, synops (products of graded messages included) and MACs are "
        f"counted, energy is estimated ({planned.profile}, 8-bit weights, values between layers of the abstract "
        "encoder with their own bits; the host, in int8, is in the sum). On the front: no other variant is at least "
        "as accurate and as cheap, in that case of energy."
    )
    if missing := planned_runs - runs:
        note += f" {missing} runs are still to come."
    fronts = _fronts(summaries)
    return Table(
        title,
        COLUMNS,
        tuple(_cells(one, fronts.get(one.variant, ()), bool(planned.search)) for one in summaries),
        note=note,
    )


def matches_table(summaries: Sequence[Summary]) -> Table | None:
    """Return each spiking variant against the cheapest ANN that is as accurate over seeds.

    ``None`` without spiking variants, or without ANNs.
    """
    priced = [summary for summary in summaries if "energy_j" in summary.mean]
    spiking = [summary for summary in priced if "synops" in summary.mean]
    anns = [summary for summary in priced if "synops" not in summary.mean]
    if not spiking or not anns:
        return None
    note = (
        "As accurate: lower by one standard deviation of the difference at most, √(σ² + σ'²), σ over seeds. Of these "
        "the cheapest in the typical case. Above 1 × the spiking variant loses."
    )
    rows = tuple(_match(mine, anns) for mine in spiking)
    columns = ("variant", ">accuracy, %", "ANN", ">accuracy, %", *(f">energy, {case}" for case in CASES))
    return Table("Each spiking variant against the cheapest ANN that is as accurate", columns, rows, note=note)


def _match(mine: Summary, anns: Sequence[Summary]) -> tuple[str, ...]:
    able = [ann for ann in anns if _accuracy(ann).reaches(_accuracy(mine))]
    shown = (mine.variant, _spread(mine, "accuracy", 100, 1))
    if not able:
        return (*shown, "none is as accurate", *["–"] * (1 + len(CASES)))
    ann = min(able, key=lambda one: one.mean["energy_j"])
    keys = ("energy_low_j", "energy_j", "energy_high_j")
    ratios = (f"{float(f'{mine.mean[key] / ann.mean[key]:.2g}'):g} ×" for key in keys)
    return (*shown, ann.variant, _spread(ann, "accuracy", 100, 1), *ratios)


def _accuracy(summary: Summary) -> Accuracy:
    return Accuracy(summary.mean["accuracy"], summary.deviation["accuracy"] or 0.0)


def _points(summaries: Sequence[Summary]) -> list[Point]:
    """Return the variants that have a price."""
    from ashneuro.reporting.figures.sweep import Point

    return [
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


def _fronts(summaries: Sequence[Summary]) -> dict[str, list[str]]:
    """Return the cases of energy in which a variant is on the Pareto front, by variant."""
    from ashneuro.reporting.figures.sweep import pareto_front

    points = _points(summaries)
    found: dict[str, list[str]] = {}
    for case in CASES:
        for index in pareto_front(points, case):
            found.setdefault(points[index].label, []).append(case)
    return found


def _spread(summary: Summary, name: str, factor: float, digits: int) -> str:
    """Return mean ± standard deviation of a measure, in words."""
    if name not in summary.mean:
        return "–"
    deviation = summary.deviation[name]
    text = f"{factor * summary.mean[name]:,.{digits}f}"
    return text if deviation is None else f"{text} ± {factor * deviation:,.{digits}f}"


def _cells(summary: Summary, front: Sequence[str], is_trial: bool) -> tuple[str, ...]:
    name = f"{summary.variant}: {', '.join(summary.levels.values())}" if is_trial else summary.variant
    energy = _spread(summary, "energy_j", 1e6, 2)
    if "energy_low_j" in summary.mean:
        energy += f" ({1e6 * summary.mean['energy_low_j']:,.2f}–{1e6 * summary.mean['energy_high_j']:,.2f})"
    epochs = f"{summary.mean['epochs']:.0f}" if "epochs" in summary.mean else "–"
    shares = ("accuracy", "accuracy_float", "accuracy_a_zeroed", "accuracy_c_zeroed", "accuracy_a_alone", "firing_rate")
    percents = [_spread(summary, name, 100, 1) for name in shares]
    counts = [_spread(summary, name, 1, 0) for name in ("synops", "host_macs")]
    return (name, str(summary.seeds), epochs, *percents, *counts, energy, ", ".join(front) or "–")


def write_sweep(
    folder: Path,
    planned: SweepConfig,
    rows: Sequence[Row],
    planned_runs: int,
    summaries: Sequence[Summary],
    *,
    figure: bool = True,
) -> list[Path]:
    """Write all runs as JSON and CSV, the table as Markdown, and the figure as SVG; return the
    paths.

    Args:
        figure: False: leave the figure as it is; drawing it takes as long as a small run.
    """
    files = {
        "sweep.json": json.dumps(
            {
                "sweep": asdict(planned),
                "runs": [row.to_json() for row in rows],
                "summaries": [asdict(one) for one in summaries],
            },
            indent=1,
        ),
        "sweep.csv": _csv(rows),
        "sweep.md": _markdown(sweep_table(planned, len(rows), planned_runs, summaries)),
    }
    if matched := matches_table(summaries):
        files["sweep.md"] += "\n" + _markdown(matched)
    if figure and (drawn := _figure(summaries, planned)):
        files["sweep.svg"] = drawn
    for name, content in files.items():
        write_text(folder / name, content)
    return [folder / name for name in files]


def _csv(rows: Sequence[Row]) -> str:
    plain = [row.to_json() for row in rows]
    columns = list(dict.fromkeys(key for row in plain for key in row if key != "levels"))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(plain)
    return text.getvalue()


def _markdown(table: Table) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (table.headings, *table.rows)]
    lines.insert(1, "|" + "|".join("---:" if numeric else "---" for numeric in table.numeric) + "|")
    return f"{table.title}\n\n" + "\n".join(lines) + f"\n\n{table.note}\n"


def _figure(summaries: Sequence[Summary], planned: SweepConfig) -> str:
    """Return energy against accuracy as a standalone SVG; empty when nothing has a price."""
    from ashneuro.reporting.figures.svg import alone
    from ashneuro.reporting.figures.sweep import pareto

    points = _points(summaries)
    if not points:
        return ""
    title = f"estimated energy ({planned.profile}) against accuracy of {len(points)} variants"
    return alone(pareto(points, "accuracy, %"), "pareto", title)
