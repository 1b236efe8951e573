"""One self-contained page: the answer first, then what it rests on. Opens from a file, without a network."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from ashneuro.reporting.summary import SCHEMA, Report
from ashneuro.reporting.tables import number, percent
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
        "facts": {**tables.evaluation_facts(report.evaluations), **report.facts},
        "about": report.about,
        "config": json.dumps(plain(report.config), indent=2, ensure_ascii=False) if report.config else None,
        "evaluations": tables.retrieval(report.evaluations) if report.evaluations else None,
        "tasks": tables.tasks(report.tasks),
        "answers": [tables.answers(item) for item in _first_of_each_task(report) if item.examples],
        "examples": [_example(example, report.pictures) for example in report.examples],
        "workload": tables.activity(report.workload) if report.workload else None,
        "host": tables.host(report.workload) if report.workload else None,
        "certificate": tables.certificate(report.certificate) if report.certificate else None,
        "groups": [
            {
                "title": group.title,
                "table": replace(tables.contenders(group), title="The same in numbers"),
                "figure": Markup(_group_figure(group, f"energy{index}")),
            }
            for index, group in enumerate(report.comparison.groups if report.comparison else ())
        ],
        "conventions": tables.conventions(report.comparison) if report.comparison else None,
        "placements": [tables.placement(placed) for placed in report.placements],
        "break_even": tables.break_even(report.comparison) if report.comparison else None,
        "thresholds": tables.thresholds(report.comparison) if report.comparison else None,
        "estimates": [tables.terms(cost) for cost in report.estimates],
        "by_layer": [tables.layer_energy(cost) for cost in report.estimates if cost.dynamic_j],
        "by_step": tables.synops_by_step(report.steps, report.step_samples) if report.steps else None,
        "measurements": tables.measurements(report.measurements) if report.measurements else None,
        "rules": list(dict.fromkeys(note for cost in costs for note in cost.notes)),
        "excludes": {cost.profile: cost.excludes for cost in costs},
        "sources": tables.numbers_used(costs, report.profiles) if costs else None,
        "references": _references(report, costs),
        **drawn,
    }
    return environment.get_template("page.html.j2").render(context)


def _references(report: Report, costs: Sequence[CostEstimate]) -> dict[str, Source]:
    """Return the sources of the profiles that were used, by key; with the profile's name where another calls another source so."""
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
        unit = tables.common_unit([ours.total_j])
        against = ", ".join(f"{who.variant} {tables.joules(who.total_j, unit)[0]}" for who in rivals)
        beside = f"{ours.title} at one node; ANN twins: {against} {unit[1]}; estimated"
        yield Tile("Energy per inference", f"{tables.joules(ours.total_j, unit)[0]} {unit[1]}", beside)
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
    drawn = dict.fromkeys(("recall", "raster", "rates", "totals", "curves"), "")
    rows = [
        (name, row.image_to_text.get("R@1"), row.text_to_image.get("R@1"))
        for name, row in tables.retrieval_rows(report.evaluations)
    ]
    if rows:
        said = "; ".join(f"{name}: {percent(forward)} and {percent(backward)}" for name, forward, backward in rows)
        drawn["recall"] = figures.recalls(rows, f"R@1 image to text and text to image. {said}.")
    if report.raster:
        drawn["raster"] = figures.spike_raster(
            report.raster, f"Spikes of one sample in {', '.join(report.raster)}: steps downwards, neurons across."
        )
    if report.workload and report.workload.firing_rate is not None:
        even = report.comparison.break_even[0].rates[1] if report.comparison and report.comparison.break_even else None
        said = ", ".join(
            f"{layer.name} {percent(layer.firing_rate)}"
            for layer in report.workload.layers
            if layer.firing_rate is not None
        )
        drawn["rates"] = figures.firing_rates(report.workload, even, f"Firing rate by layer: {said}.")
    if any(cost.totals or cost.dynamic_j for cost in report.estimates):
        said = "; ".join(f"{cost.profile}: {energy_text(cost.dynamic_j)}" for cost in report.estimates)
        drawn["totals"] = figures.total_ranges(
            report.estimates, f"Energy of events, and with static power, per inference. Events alone: {said}."
        )
    if report.training:
        drawn["curves"] = _curves(report.training)
    return drawn


def _curves(epochs: Sequence[EpochMetrics]) -> str:
    """Return the training curves: losses, validation recalls, firing rates (no label on layers)."""

    def curves(values: Callable[[EpochMetrics], Mapping[str, float]]) -> dict[str, figures.Points]:
        points: dict[str, figures.Points] = {}
        for metrics in epochs:
            for name, value in values(metrics).items():
                points.setdefault(name, []).append((metrics.epoch, value))
        return points

    losses = curves(lambda metrics: {"sum": metrics.loss, **metrics.losses})
    recalls = curves(lambda metrics: metrics.recall_at_1)
    means = curves(lambda metrics: {} if metrics.firing_rate is None else {"mean": metrics.firing_rate})
    layers = curves(lambda metrics: metrics.firing_rates)
    panels = {
        "loss": [*losses.items()],
        "R@1 on validation": [(name.replace("_to_", " → "), points) for name, points in recalls.items()],
        "firing rate, mean and layers": [*means.items(), *(("", points) for points in layers.values())],
    }
    ends = "; ".join(
        f"loss {name} from {number(points[0][1])} to {number(points[-1][1])}" for name, points in losses.items()
    )
    return figures.training_curves("epoch", panels, f"Curves over training. {ends}.")


def _group_figure(group: Group, name: str) -> str:
    said = "; ".join(f"{who.name}: {energy_text(who.total_j)}" for who in group.contenders)
    return figures.energy_bars(group, name, f"Energy per inference. {said}.")


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
