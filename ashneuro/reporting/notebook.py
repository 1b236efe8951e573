"""Results in a notebook: the tables, rows and figures behind `ashneuro.display`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashneuro.cost.compare import Comparison
from ashneuro.cost.profile import Range
from ashneuro.cost.terms import CostEstimate
from ashneuro.cost.workload import Workload
from ashneuro.errors import AshneuroError, need
from ashneuro.evaluation import Evaluation, TaskEvaluation
from ashneuro.program.certificate import Certificate, Computation
from ashneuro.program.rules.finding import Findings
from ashneuro.reporting import figures, tables, words
from ashneuro.reporting.summary import Report
from ashneuro.reporting.tables.table import Mark, Table
from ashneuro.simulation.record import SpikeRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from ashneuro.display import Plotted, Shown

Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class View:
    """One type of result.

    Args:
        tables: its tables.
        rows: its rows, by name of the column.
        figure: its figure; ``None`` for a type without one.
        text: a sentence above the tables.
    """

    tables: Callable[[Any], Iterable[Table]]
    rows: Callable[[Any], Rows]
    figure: Callable[[Any], Figure] | None = None
    text: Callable[[Any], str] = lambda value: ""


def html(value: Shown) -> str:
    """Return a result as HTML tables."""
    from jinja2 import Environment, FileSystemLoader

    view = VIEWS[type(value)]
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    colours = {Mark.GOOD: "#2b7a4b", Mark.WARNING: "#9a6b00", Mark.BAD: "#a53a32"}
    return environment.get_template("notebook.html.j2").render(
        text=view.text(value), tables=list(view.tables(value)), colours=colours
    )


def dataframe(value: Shown) -> DataFrame:
    """Return the rows of a result.

    Raises:
        MissingDependency: pandas is not installed.
        AshneuroError: the result has no rows.
    """
    pandas = need("pandas", extra="notebook", purpose=f"{type(value).__name__}.to_dataframe()")
    return pandas.DataFrame([dict(row) for row in VIEWS[type(value)].rows(value)])


def figure(value: Plotted) -> Figure:
    """Return the figure of a result.

    Raises:
        AshneuroError: there is nothing to draw.
    """
    draw = VIEWS[type(value)].figure
    assert draw is not None  # every Plotted type has one; a test goes through VIEWS
    return draw(value)


def _certificate_rows(certificate: Certificate) -> Iterator[dict[str, Any]]:
    if certificate.source:
        own = {"left": certificate.source.module, "right": Computation.GRAPH.value, "required": True}
        for population in certificate.source.populations:
            sample, step, neuron = population.first or (None, None, None)
            yield {
                **own,
                "status": "different" if population.mismatches else "equal",
                "layer": population.name,
                "compared": population.compared,
                "spikes": population.spikes,
                "mismatches": population.mismatches,
                "first_sample": sample,
                "first_timestep": step,
                "first_neuron": neuron,
            }
    for pair in certificate.comparisons:
        own = {"left": pair.left.value, "right": pair.right.value, "required": pair.required, "status": pair.status}
        for layer in pair.layers:
            sample, step, neuron = layer.first or (None, None, None)
            yield {
                **own,
                "layer": layer.layer,
                "compared": layer.compared,
                "spikes": layer.spikes,
                "mismatches": layer.mismatches,
                "first_sample": sample,
                "first_timestep": step,
                "first_neuron": neuron,
            }
        if not pair.layers:  # it was not run
            yield {**own, "reason": pair.reason}


def _finding_rows(findings: Findings) -> Iterator[dict[str, Any]]:
    return (asdict(finding) for finding in findings)


def _assumed(value: SpikeRecord | Comparison | Report) -> Iterator[Table]:
    if assumed := tables.network.assumptions(value.assumptions):
        yield assumed


def _spike_tables(record: SpikeRecord) -> Iterator[Table]:
    yield from _assumed(record)
    yield tables.network.spikes(record)


def _spike_rows(record: SpikeRecord) -> Iterator[dict[str, Any]]:
    populations = [("input", name, activity) for name, activity in record.inputs.items()]
    populations += [("layer", name, activity) for name, activity in record.layers.items()]
    for kind, name, activity in populations:
        yield {
            "kind": kind,
            "name": name,
            "neurons": activity.neurons,
            "events": activity.events,
            "firing_rate": record.firing_rate(name) if kind == "layer" and not activity.read_out else None,
            "active_updates": activity.active_updates,
            "samples": record.samples,
            "timesteps": record.timesteps,
        }


def _spike_figure(record: SpikeRecord) -> Figure:
    """Draw the first sample where rasters were kept, else the firing rates."""
    spiking = {name: activity for name, activity in record.layers.items() if activity.binary}
    rasters = {name: own.raster[:, 0] for name, own in spiking.items() if own.raster is not None}
    if rasters:
        return figures.network.raster(rasters)
    if not spiking:
        raise AshneuroError("this record has no figure", "no layer sends spikes", "to_dataframe()")
    steps = record.samples * record.timesteps
    mean = sum(own.events for own in spiking.values()) / (steps * sum(own.neurons for own in spiking.values()))
    return figures.network.firing_rates({name: record.firing_rate(name) for name in spiking}, mean)


def _workload_tables(workload: Workload) -> Iterator[Table]:
    if workload.part("deployed").layers:
        yield tables.network.activity(workload)
    if host := tables.network.host(workload):
        yield host


def _workload_rows(workload: Workload) -> Iterator[dict[str, Any]]:
    nested = ("acs_by_kind", "acs_from_ports")
    for layer in workload.layers:
        # Dicts by kind of synapse have no place in a cell.
        yield {name: value for name, value in asdict(layer).items() if name not in nested}


def _workload_figure(workload: Workload) -> Figure:
    rates = {layer.name: layer.firing_rate for layer in workload.layers if layer.firing_rate is not None}
    if workload.firing_rate is None:
        raise AshneuroError("this workload has no figure", "no layer sends spikes", "to_dataframe()")
    return figures.network.firing_rates(rates, workload.firing_rate)


def _estimate_rows(cost: CostEstimate) -> Iterator[dict[str, Any]]:
    for term in cost.terms:
        yield {
            "profile": cost.profile,
            "layer": term.layer,
            "term": term.name,
            "events": term.events,
            **_joules("energy", term.energy_j),
            "because": term.because,
        }


def _estimate_figure(cost: CostEstimate) -> Figure:
    if not cost.totals and cost.dynamic_j is None:
        raise AshneuroError(f"no energy on {cost.profile} can be drawn", cost.because, "another profile")
    return figures.energy.totals([cost])


def _comparison_tables(comparison: Comparison) -> Iterator[Table]:
    yield from _assumed(comparison)
    if comparison.matches:
        yield tables.energy.matches(comparison)
    yield from (tables.energy.contenders(group) for group in comparison.groups)
    yield tables.energy.break_even(comparison)
    for opinion in comparison.second_opinions:
        yield from tables.opinion.second_opinion(opinion)


def _comparison_rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for group in comparison.groups:
        for who in group.contenders:
            yield {
                "hardware": group.title,
                "network": who.title,
                "role": who.role.name.lower(),
                "precision": who.precision,
                "machine": who.machine,
                "chip": who.chip,
                **_joules("host", who.host_j),
                **_joules("deployed", who.deployed_j),
                **_joules("total", who.total_j),
                "metric": who.metric,
            }


def _joules(name: str, energy: Range | None) -> dict[str, float | None]:
    cases = ("low", "typical", "high")
    return {f"{name}_{case}_j": None if energy is None else getattr(energy, case) for case in cases}


def _retrieval_rows(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for row in (*evaluation.rows, evaluation.chance):
        for direction, metrics in zip(("image_to_text", "text_to_image"), row.directions, strict=True):
            yield {
                "network": evaluation.label or evaluation.kind,
                "condition": row.condition.name.lower(),
                "spikes_from": row.spikes_from.name.lower(),
                "direction": direction,
                **metrics,
                "images": evaluation.images,
                "split": evaluation.split,
            }


def _retrieval_figure(evaluation: Evaluation) -> Figure:
    return figures.tasks.recalls(list(tables.tasks.retrieval_rows([evaluation])))


def _task_rows(evaluation: TaskEvaluation) -> Iterator[dict[str, Any]]:
    for row in evaluation.rows:
        yield {
            "network": evaluation.label or evaluation.kind,
            "condition": row.condition.name.lower(),
            "spikes_from": row.spikes_from.name.lower(),
            "accuracy": row.accuracy,
            "consistency": row.consistency,
            **{f"accuracy_{kind}": value for kind, value in row.by_kind.items()},
            "questions": evaluation.questions,
            "split": evaluation.split,
        }


def _task_figure(evaluation: TaskEvaluation) -> Figure:
    rows = {words.row(evaluation, row): row.accuracy for row in evaluation.rows}
    return figures.tasks.accuracies(rows, words.MEASURES[evaluation.task])


def _report_tables(report: Report) -> Iterator[Table]:
    yield from _assumed(report)
    if report.comparison:
        yield tables.energy.contenders(report.comparison.groups[0])
    if report.evaluations:
        yield tables.tasks.retrieval(report.evaluations)
    yield from tables.tasks.by_task(report.tasks)
    yield from map(tables.streams.stream, report.streams)
    if report.workload:
        yield tables.network.activity(report.workload)
    if report.certificate:
        yield tables.proof.certificate(report.certificate)[0]


def _compared(report: Report) -> Comparison:
    if report.comparison is None:
        why = report.missing["comparison"]
        raise AshneuroError("this report has no comparison", why, "use a part of it: report.workload, .evaluations")
    return report.comparison


VIEWS: dict[type, View] = {
    Certificate: View(tables.proof.certificate, _certificate_rows),
    Findings: View(lambda findings: [tables.network.findings(findings)], _finding_rows),
    SpikeRecord: View(_spike_tables, _spike_rows, _spike_figure),
    Workload: View(_workload_tables, _workload_rows, _workload_figure),
    CostEstimate: View(lambda cost: [tables.energy.terms(cost)], _estimate_rows, _estimate_figure),
    Comparison: View(
        _comparison_tables,
        _comparison_rows,
        lambda comparison: figures.energy.contenders(comparison.groups[0]),
        lambda comparison: comparison.verdict,
    ),
    Evaluation: View(lambda item: [tables.tasks.retrieval([item])], _retrieval_rows, _retrieval_figure),
    TaskEvaluation: View(lambda item: tables.tasks.by_task([item]), _task_rows, _task_figure),
    Report: View(
        _report_tables,
        lambda report: _comparison_rows(_compared(report)),
        lambda report: figures.energy.contenders(_compared(report).groups[0]),
        lambda report: report.verdict,
    ),
}
