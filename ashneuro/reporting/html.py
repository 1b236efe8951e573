"""One self-contained page: the answer first, then what it rests on. Opens from a file, without a network."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ashneuro import __version__
from ashneuro.cost.comparison.contenders import Group
from ashneuro.cost.profile import Source
from ashneuro.cost.terms import CostEstimate, energy_text
from ashneuro.evaluation import RetrievalExample, TaskEvaluation
from ashneuro.exchange import EpochMetrics
from ashneuro.reporting import figures, tables, words
from ashneuro.reporting.figures.svg import inline
from ashneuro.reporting.summary import SCHEMA, Report
from ashneuro.reporting.tables.table import number, percent
from ashneuro.reporting.terminal import plain


@dataclass(frozen=True)
class Tile:
    """One number of the answer."""

    label: str
    value: str
    beside: str


def write_html(report: Report, path: Path) -> Path:
    """Write the page and return its path."""
    path.write_text(render(report), encoding="utf-8")
    return path


def render(report: Report) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    headline, _, detail = report.verdict.partition(": ")
    drawn = {name: Markup(svg) if svg else None for name, svg in _figures(report).items()}
    costs = list(_costs(report))
    context = {
        "title": report.title,
        "version": __version__,
        "schema": SCHEMA,
        "headline": headline,
        "detail": detail,
        "tiles": list(_tiles(report)),
        "missing": report.missing,
        "facts": {**tables.tasks.facts(report.evaluations), **report.facts},
        "about": report.about,
        "config": json.dumps(plain(report.config), indent=2, ensure_ascii=False) if report.config else None,
        "evaluations": tables.tasks.retrieval(report.evaluations) if report.evaluations else None,
        "tasks": tables.tasks.by_task(report.tasks),
        "answers": [tables.tasks.answers(item) for item in _first_of_each_task(report) if item.examples],
        "examples": [_example(example, report.pictures) for example in report.examples],
        "workload": tables.network.activity(report.workload) if report.workload else None,
        "host": tables.network.host(report.workload) if report.workload else None,
        "certificate": tables.proof.certificate(report.certificate) if report.certificate else None,
        "groups": [
            {
                "title": group.title,
                "table": replace(tables.energy.contenders(group), title="The same in numbers"),
                "figure": Markup(_group_figure(group, f"energy{index}")),
            }
            for index, group in enumerate(report.comparison.groups if report.comparison else ())
        ],
        "conventions": tables.energy.conventions(report.comparison) if report.comparison else None,
        "placements": [tables.network.placement(placed) for placed in report.placements],
        "break_even": tables.energy.break_even(report.comparison) if report.comparison else None,
        "thresholds": tables.energy.thresholds(report.comparison) if report.comparison else None,
        "estimates": [tables.energy.terms(cost) for cost in report.estimates],
        "by_layer": [tables.energy.by_layer(cost) for cost in report.estimates if cost.dynamic_j],
        "by_step": tables.network.synops_by_timestep(report.steps, report.step_samples) if report.steps else None,
        "measurements": tables.energy.measurements(report.measurements) if report.measurements else None,
        "rules": list(dict.fromkeys(note for cost in costs for note in cost.notes)),
        "excludes": {cost.profile: cost.excludes for cost in costs},
        "sources": tables.profiles.used(costs, report.profiles) if costs else None,
        "references": _references(report, costs),
        **drawn,
    }
    return environment.get_template("page.html.j2").render(context)


def _references(report: Report, costs: Sequence[CostEstimate]) -> dict[str, Source]:
    """Return the sources of the used profiles, by key.

    The key gets the profile's name where another profile uses it for another source.
    """
    used = {cost.profile for cost in costs}
    every = [
        (profile.name, key, source)
        for profile in report.profiles
        if profile.name in used
        for key, source in profile.sources.items()
    ]
    meanings: dict[str, set[Source]] = {}
    for _, key, source in every:
        meanings.setdefault(key, set()).add(source)
    return {key if len(meanings[key]) == 1 else f"{key} ({name})": source for name, key, source in every}


def _costs(report: Report) -> Iterator[CostEstimate]:
    yield from report.estimates
    for group in report.comparison.groups if report.comparison else ():
        for who in group.contenders:
            yield from (part for part in (who.host, who.deployed) if part)


def _tiles(report: Report) -> Iterator[Tile]:
    """Yield the numbers that answer the questions; a part that was not run yields none."""
    if report.evaluations:
        own = report.evaluations[0]
        recalls, luck = (
            " / ".join(f"{100 * way['R@1']:.1f}" for way in row.directions) for row in (own.rows[0], own.chance)
        )
        beside = f"R@1 image → text / text → image; chance {luck} %; measured, {own.split}"
        yield Tile(f"Retrieval, {words.network(own)}", f"{recalls} %", beside)
    for item in _first_of_each_task(report):
        others = ", ".join(f"{words.CONDITIONS[row.condition]} {percent(row.accuracy)}" for row in item.rows[1:])
        yield Tile(
            f"{words.METRICS[item.task]} {words.network(item)}",
            percent(item.rows[0].accuracy),
            f"{others}; measured, {item.split}",
        )
    if report.comparison:
        group = report.comparison.groups[0]
        ours, rivals = group.contenders[0], [who for who in group.contenders if who.is_integer_twin]
        unit = tables.table.common_unit([ours.total_j])
        against = ", ".join(f"{who.variant} {tables.table.joules(who.total_j, unit)[0]}" for who in rivals)
        beside = f"{ours.title} at one node; ANN twins: {against} {unit[1]}; estimated"
        yield Tile("Energy per inference", f"{tables.table.joules(ours.total_j, unit)[0]} {unit[1]}", beside)
    if report.workload:
        deployed = report.workload.part("deployed")
        if report.workload.firing_rate is not None:
            even = (
                report.comparison.break_even[0].sentence()
                if report.comparison and report.comparison.break_even
                else "not compared"
            )
            yield Tile(
                "Firing rate",
                percent(report.workload.firing_rate),
                f"of neuron-steps, counted; break-even with int8: {even}",
            )
        beside = f"per inference, counted; dense would be {number(deployed.per_inference('dense_macs'))}"
        yield Tile("Synops", number(deployed.per_inference("effective_acs")), beside)
    if report.certificate:
        required = report.certificate.required
        compared, wrong = sum(pair.compared for pair in required), sum(pair.mismatches for pair in required)
        skipped = sum(pair.status == "not run" for pair in required)
        beside = f"of {number(compared)} values that must be equal; measured"
        yield Tile("Mismatches", number(wrong), f"{beside}; {skipped} comparison(s) not run" if skipped else beside)
    for cost in report.estimates:
        if cost.dynamic_j and not cost.headline:
            continue  # a tile is a headline, and sources of these prices were not opened: the table below has them
        text = energy_text(cost.dynamic_j).partition(" (")[0] if cost.dynamic_j else "not estimable"
        beside = f"events of the deployed part; {cost.basis}" if cost.dynamic_j else cost.because.partition(";")[0]
        yield Tile(f"Deployed on {cost.profile}", text, beside)
    if report.placements:
        first, *rest = report.placements
        others = "".join(f"; {number(placed.cores)} of {placed.limits.chip}" for placed in rest)
        beside = f"of {first.limits.chip}, {first.chips} chip(s){others}; computed from published limits"
        yield Tile("Cores", number(first.cores), beside)


def _first_of_each_task(report: Report) -> list[TaskEvaluation]:
    """Return the first evaluation of each task: this network's own."""
    return list({item.task: item for item in reversed(report.tasks)}.values())[::-1]


def _figures(report: Report) -> dict[str, str]:
    """Return every figure of the page as SVG, by its place; empty where there is nothing to draw."""
    drawn = dict.fromkeys(("recall", "raster", "rates", "totals", "curves"), "")
    if rows := list(tables.tasks.retrieval_rows(report.evaluations)):
        said = "; ".join(f"{name}: {' and '.join(percent(way['R@1']) for way in row.directions)}" for name, row in rows)
        drawn["recall"] = inline(figures.tasks.recalls(rows), "recall", f"R@1 image to text and text to image. {said}.")
    if report.raster:
        said = f"Spikes of one sample in {', '.join(report.raster)}: steps downwards, neurons across."
        drawn["raster"] = inline(figures.network.raster(report.raster), "raster", said)
    if report.workload and report.workload.firing_rate is not None:
        even = report.comparison.break_even[0].rates[1] if report.comparison and report.comparison.break_even else None
        rates = {layer.name: layer.firing_rate for layer in report.workload.layers if layer.firing_rate is not None}
        said = ", ".join(f"{name} {percent(rate)}" for name, rate in rates.items())
        figure = figures.network.firing_rates(rates, report.workload.firing_rate, even)
        drawn["rates"] = inline(figure, "rates", f"Firing rate by layer: {said}.")
    if any(cost.totals or cost.dynamic_j for cost in report.estimates):
        said = "; ".join(f"{cost.profile}: {energy_text(cost.dynamic_j)}" for cost in report.estimates)
        said = f"Energy of events, and with static power, per inference. Events alone: {said}."
        drawn["totals"] = inline(figures.energy.totals(report.estimates), "totals", said)
    if report.training:
        drawn["curves"] = inline(figures.training.curves(report.training), "training", _curves_text(report.training))
    return drawn


def _curves_text(epochs: Sequence[EpochMetrics]) -> str:
    said = "; ".join(
        f"loss {name} from {number(points[0][1])} to {number(points[-1][1])}"
        for name, points in figures.training.losses(epochs).items()
    )
    return f"Curves over training. {said}."


def _group_figure(group: Group, name: str) -> str:
    said = "; ".join(f"{who.name}: {energy_text(who.total_j)}" for who in group.contenders)
    return inline(figures.energy.contenders(group), name, f"Energy per inference. {said}.")


def _example(example: RetrievalExample, pictures: Mapping[str, bytes]) -> dict[str, Any]:
    by_text = example.kind == "text"
    hits = [
        {"text": hit.text, "correct": hit.correct, "picture": _picture(pictures.get(hit.key)) if by_text else None}
        for hit in example.hits
    ]
    picture = None if by_text else _picture(pictures.get(example.key))
    return {"kind": example.kind, "query": example.text, "picture": picture, "hits": hits}


def _picture(png: bytes | None) -> str | None:
    return None if png is None else "data:image/png;base64," + base64.b64encode(png).decode()
