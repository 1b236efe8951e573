"""The report as one self-contained HTML page: the answer first, then its evidence."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ashneuro import __version__
from ashneuro.cost.comparison.brief import Brief
from ashneuro.cost.comparison.contenders import Group
from ashneuro.cost.profile import Source
from ashneuro.cost.terms import CostEstimate, energy_text
from ashneuro.cost.workload import Workload
from ashneuro.evaluation import Evaluation, RetrievalExample, TaskEvaluation
from ashneuro.exchange import EpochMetrics
from ashneuro.files import write_text
from ashneuro.reporting import figures, tables, words
from ashneuro.reporting.figures.svg import inline
from ashneuro.reporting.plain import plain
from ashneuro.reporting.summary import SCHEMA, Report
from ashneuro.reporting.tables.table import number, percent
from ashneuro.reporting.words import Basis

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.figure import Figure

    from ashneuro.reporting.pages import Pages


@dataclass(frozen=True)
class Tile:
    """One number at the top of the page."""

    label: str
    value: str
    beside: str


@dataclass(frozen=True)
class Chart:
    """A figure of the page.

    Args:
        title: heading.
        basis, how: origin of the numbers, as in `Table`.
        svg: the inline figure.
    """

    title: str
    basis: Basis
    how: str
    svg: str

    @property
    def basis_text(self) -> str:
        """Basis in words."""
        return words.basis_text(self.basis, self.how)


def write_html(report: Report, path: Path) -> Path:
    """Write the page and return its path."""
    write_text(path, render(report))
    return path


def template(name: str) -> Template:
    """Return a template of this package."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)


def render(report: Report, pages: Pages | None = None) -> str:
    """Return the page, with links to those of other runs where there are any."""
    headline, _, detail = report.verdict.partition(": ")
    return template("page.html.j2").render(
        pages=pages,
        title=report.title,
        version=__version__,
        schema=SCHEMA,
        headline=headline,
        detail=detail,
        tiles=list(_tiles(report)),
        missing=report.missing,
        assumptions=tables.network.assumptions(report.assumptions),
        about=report.about,
        config=json.dumps(plain(report.config), indent=2, ensure_ascii=False) if report.config else None,
        curves=_curves(report.training) if report.training else None,
        certificate=tables.proof.certificate(report.certificate) if report.certificate else None,
        **_quality(report),
        **_activity(report),
        **_cost(report),
        **_sources(report),
    )


def _quality(report: Report) -> dict[str, Any]:
    """Return retrieval with a figure and a table per pool, tasks, and examples."""
    return {
        "pools": [
            {"chart": _recalls(pool, f"recall{index}"), "table": tables.tasks.pool(pool)}
            for index, pool in enumerate(tables.tasks.pools(report.evaluations))
        ],
        "tasks": tables.tasks.by_task(report.tasks),
        "streams": [tables.streams.stream(item) for item in report.streams],
        "answers": [tables.tasks.answers(item) for item in _first_of_each_task(report) if item.examples],
        "facts": {**tables.tasks.facts(report.evaluations), **report.facts},
        "examples": [_example(example, report.pictures) for example in report.examples],
    }


def _activity(report: Report) -> dict[str, Any]:
    """Return spikes, and the work that they cause."""
    workload = report.workload
    return {
        "raster": _raster(report.raster) if report.raster else None,
        "rates": _rates(report, workload) if workload else None,
        "workload": tables.network.activity(workload) if workload else None,
        "host": tables.network.host(workload) if workload else None,
        "own_ann": tables.network.own_ann(report.own_ann) if report.own_ann else None,
        "by_step": tables.network.synops_by_timestep(report.steps, report.step_samples) if report.steps else None,
    }


def _cost(report: Report) -> dict[str, Any]:
    """Return comparison (the verdict's group first), estimates, placements and measurements."""
    comparison = report.comparison
    return {
        "brief": _brief(comparison.brief) if comparison else None,
        "groups": [
            _group(group, f"energy{index}") for index, group in enumerate(comparison.groups if comparison else ())
        ],
        "matches": tables.energy.matches(comparison) if comparison and comparison.matches else None,
        "conventions": tables.energy.conventions(comparison) if comparison else None,
        "break_even": tables.energy.break_even(comparison) if comparison else None,
        "thresholds": tables.energy.thresholds(comparison) if comparison else None,
        "opinions": [
            table
            for opinion in (comparison.second_opinions if comparison else ())
            for table in tables.opinion.second_opinion(opinion)
        ],
        "totals": _totals(report.estimates) if report.estimates else None,
        "estimates": [tables.energy.terms(cost) for cost in report.estimates],
        "by_layer": [tables.energy.by_layer(cost) for cost in report.estimates if cost.dynamic_j],
        "placements": [tables.network.placement(placed) for placed in report.placements],
        "measurements": tables.energy.measurements(report.measurements) if report.measurements else None,
    }


def _sources(report: Report) -> dict[str, Any]:
    """Return the rules and numbers that the estimates rest on."""
    costs = list(_costs(report))
    return {
        "rules": list(dict.fromkeys(note for cost in costs for note in cost.notes)),
        "excludes": {cost.profile: cost.excludes for cost in costs},
        "sources": tables.profiles.used(costs, report.profiles) if costs else None,
        "references": _references(report, costs),
    }


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
        products = deployed.per_inference("effective_macs")
        counted = "counted, products of graded values included" if products else "counted"
        beside = f"per inference, {counted}; dense would be {number(deployed.per_inference('dense_macs'))}"
        yield Tile("Synops", number(deployed.per_inference("effective_acs") + products), beside)
    if report.certificate:
        required = report.certificate.required
        compared, wrong = sum(pair.compared for pair in required), sum(pair.mismatches for pair in required)
        if source := report.certificate.source:
            compared, wrong = compared + source.compared, wrong + source.mismatches
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


def _chart(title: str, basis: Basis, how: str, figure: Figure, name: str, alt: str) -> Chart:
    """Return a figure for the page; ``name`` is unique on it, ``alt`` the text alternative."""
    from markupsafe import Markup

    return Chart(title, basis, how, Markup(inline(figure, name, alt)))


def _recalls(pool: Sequence[Evaluation], name: str) -> Chart:
    rows = list(tables.tasks.retrieval_rows(pool))
    said = "; ".join(f"{name}: {' and '.join(percent(way['R@1']) for way in row.directions)}" for name, row in rows)
    title = f"Right answer in first place, among {number(pool[0].images)} images"
    alt = f"R@1 image to text and text to image. {said}."
    return _chart(title, Basis.MEASURED, f", {pool[0].split}", figures.tasks.recalls(rows), name, alt)


def _raster(layers: Mapping[str, NDArray[np.generic]]) -> Chart:
    alt = f"Spikes of one sample in {', '.join(layers)}: steps downwards, neurons across."
    return _chart("Spikes of one sample", Basis.COUNTED, "", figures.network.raster(layers), "raster", alt)


def _rates(report: Report, workload: Workload) -> Chart | None:
    if workload.firing_rate is None:
        return None
    comparison = report.comparison
    even = comparison.break_even[0].rates[1] if comparison and comparison.break_even else None
    rates = {layer.name: layer.firing_rate for layer in workload.layers if layer.firing_rate is not None}
    said = ", ".join(f"{name} {percent(rate)}" for name, rate in rates.items())
    figure = figures.network.firing_rates(rates, workload.firing_rate, even)
    return _chart("Firing rate by layer", Basis.COUNTED, "", figure, "rates", f"Firing rate by layer: {said}.")


def group_chart(group: Group, name: str) -> Chart:
    """Return the energy of contenders as a figure; ``name`` is unique on the page."""
    said = "; ".join(f"{who.name}: {energy_text(who.total_j)}" for who in group.contenders)
    figure, alt = figures.energy.contenders(group), f"Energy per inference. {said}."
    return _chart(group.title, Basis.ESTIMATED, tables.energy.contenders(group).how, figure, name, alt)


def _group(group: Group, name: str) -> dict[str, Any]:
    table = replace(tables.energy.contenders(group), title="The same in numbers")
    return {"title": group.title, "chart": group_chart(group, name), "table": table}


def _brief(found: Brief) -> Chart:
    named = zip(found.names(), found.rows, strict=True)
    said = "; ".join(f"{name}: {energy_text(who.total_j)}" for name, (_, who) in named)
    rate = found.sentence()
    alt = f"Energy per inference, host part and deployed part. {said}." + (
        f" {rate[0].upper()}{rate[1:]}." if rate else ""
    )
    profiles = dict.fromkeys(part.profile for _, who in found.rows for part in (who.host, who.deployed) if part)
    how = f"({', '.join(profiles)})"
    return _chart("Energy per inference, in brief", Basis.ESTIMATED, how, figures.energy.brief(found), "brief", alt)


def _totals(costs: Sequence[CostEstimate]) -> Chart | None:
    if not any(cost.totals or cost.dynamic_j for cost in costs):
        return None
    said = "; ".join(f"{cost.profile}: {energy_text(cost.dynamic_j)}" for cost in costs)
    alt = f"Energy of events, and with static power, per inference. Events alone: {said}."
    title = "Deployed part: events alone, and with static power"
    return _chart(title, Basis.ESTIMATED, "", figures.energy.totals(costs), "totals", alt)


def _curves(epochs: Sequence[EpochMetrics]) -> Chart:
    said = "; ".join(
        f"loss {name} from {number(points[0][1])} to {number(points[-1][1])}"
        for name, points in figures.training.losses(epochs).items()
    )
    figure = figures.training.curves(epochs)
    return _chart("Training", Basis.MEASURED, "", figure, "training", f"Curves over training. {said}.")


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
