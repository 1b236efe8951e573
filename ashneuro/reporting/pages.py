"""Reports of several runs as pages that lead to one another: an index, and a page for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from ashneuro import __version__
from ashneuro.cost.terms import energy_text
from ashneuro.files import write_text
from ashneuro.reporting import html
from ashneuro.reporting.summary import Report, write_json
from ashneuro.reporting.tables.table import number, percent

INDEX = "runs.html"
HEADINGS = ("run", "R@1 image → text, %", "R@1 text → image, %", "energy", "cheapest ANN twin", "synops", "firing rate")


@dataclass(frozen=True)
class Pages:
    """Links on the page of a run.

    Args:
        index: of the table of all runs.
        others: of every run by its name; empty for the page itself.
    """

    index: str
    others: Mapping[str, str]


def write_pages(reports: Mapping[str, Report], folder: Path, absent: Mapping[str, str] | None = None) -> list[Path]:
    """Write the pages, which can be moved together, and return their paths: the index first.

    Args:
        reports: by name of the run, which names its folder below ``folder``.
        absent: runs that have no report, and why.
    """
    paths = []
    for name, report in reports.items():
        own = folder / name
        own.mkdir(parents=True, exist_ok=True)
        links = {other: "" if other == name else f"../{quote(other)}/report.html" for other in reports}
        page = own / "report.html"
        write_text(page, html.render(report, Pages(f"../{INDEX}", links)))
        paths += [write_json(report, own / "report.json"), page]
    index = folder / INDEX
    write_text(index, render_index(reports, absent or {}))
    return [index, *paths]


def render_index(reports: Mapping[str, Report], absent: Mapping[str, str]) -> str:
    """Return the page with one row per run."""
    runs = [
        {"name": name, "link": f"{quote(name)}/report.html", "verdict": report.verdict, "cells": _cells(report)}
        for name, report in reports.items()
    ]
    return html.template("runs.html.j2").render(
        title=f"{len(runs)} runs",
        version=__version__,
        headings=HEADINGS,
        runs=runs,
        chart=_chart(reports),
        absent=absent,
    )


def _chart(reports: Mapping[str, Report]) -> html.Chart | None:
    """Return the energy of every run on the node that they share; ``None`` if none was compared."""
    groups = {name: report.comparison.groups[0] for name, report in reports.items() if report.comparison}
    if not groups:
        return None
    contenders = tuple(replace(group.contenders[0], network=name) for name, group in groups.items())
    group = replace(next(iter(groups.values())), title="Energy per inference", contenders=contenders)
    return html.group_chart(group, "runs")


def _cells(report: Report) -> list[str]:
    """Return the cells of a run in the index; a dash where a part was not run."""
    cells = ["–"] * (len(HEADINGS) - 1)
    if report.evaluations:
        cells[:2] = (number(100 * way["R@1"]) for way in report.evaluations[0].rows[0].directions)
    if report.comparison:
        contenders = report.comparison.groups[0].contenders
        twins = [who.total_j for who in contenders if who.is_integer_twin and who.total_j is not None]
        cells[2] = energy_text(contenders[0].total_j)
        cells[3] = energy_text(min(twins, key=lambda energy: energy.high)) if twins else "–"
    if report.workload:
        cells[4] = number(report.workload.part("deployed").per_inference("effective_acs"))
        if report.workload.firing_rate is not None:
            cells[5] = percent(report.workload.firing_rate)
    return cells
