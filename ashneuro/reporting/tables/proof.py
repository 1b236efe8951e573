"""Proofs: certificates of exported networks, and replays of recorded silicon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ashneuro.reporting import words
from ashneuro.reporting.tables import network
from ashneuro.reporting.tables.table import NOTHING, Cell, Mark, Table, number, percent
from ashneuro.reporting.words import Basis

if TYPE_CHECKING:
    from ashneuro.program.certificate import Certificate, Comparison, LayerComparison
    from ashneuro.program.source import ContractMatch, Source
    from ashneuro.simulation.proof.silicon import SiliconReport


def certificate(content: Certificate) -> tuple[Table, ...]:
    """Return the checks and comparisons of a certificate, what it assumes, the mismatches by layer,
    and the task metrics.
    """
    pairs = content.comparisons
    rows = [_source(content.source)] if content.source else []
    for pair in pairs:
        ran = pair.status != "not run"
        where = "{}: sample {}, step {}, neuron {}".format(pair.first[0], *pair.first[1]) if pair.first else ""
        rows.append(
            (
                _pair(pair),
                Cell(words.STATUS[pair.status], _mark(pair)),
                number(pair.compared) if ran else NOTHING,
                number(pair.mismatches) if ran else NOTHING,
                where or pair.reason,
                "yes" if pair.required else "no",
            )
        )
    versions = ", ".join(f"{name} {version}" for name, version in content.versions.items())
    summary = Table(
        f"Certificate: {content.verdict}",
        ("computations", "result", ">values compared", ">mismatches", "first mismatch, or why not", "must be equal"),
        tuple(rows),
        basis=Basis.MEASURED,
        how=f"on {content.samples} samples of {content.timesteps} steps",
        note=f"Not compared: {'; '.join(content.not_compared)}.\nComputed with {versions}.",
    )
    assumed = network.assumptions(content.assumptions)
    if content.checks and not pairs:  # its parts do not belong together, so nothing was run
        return (_checks(content),)
    checked = [_checks(content)] if content.checks else []
    return (
        *checked,
        summary,
        *([assumed] if assumed else ()),
        *_certified_layers(content),
        *_certified_accuracy(content),
    )


def _checks(content: Certificate) -> Table:
    """Return the parts of a bundle, each compared with what follows from the others."""
    marks = {"consistent": Mark.GOOD, "not checked": Mark.WARNING, "different": Mark.BAD}
    rows = tuple(
        (
            check.what,
            Cell(check.status, marks[check.status]),
            number(check.compared) if check.compared else NOTHING,
            number(check.differing) if check.compared else NOTHING,
            check.detail,
        )
        for check in content.checks
    )
    columns = ("part – compared with", "result", ">values compared", ">values that differ", "first, or how")
    title = "The files of this bundle " + (
        "do not belong together: nothing was run"
        if not content.comparisons
        else "are consistent"
        if all(check.status == "consistent" for check in content.checks)
        else "that could be checked are consistent"
        if all(check.status != "different" for check in content.checks)
        else "differ from what was computed"
    )
    note = "Consistent files may still all be another network's: only a digest tells (verify --digest)."
    return Table(title, columns, rows, basis=Basis.COMPUTED, note=note)


def match(found: ContractMatch) -> tuple[Table, ...]:
    """Return the contract with which a file spikes as its module does, population by population."""
    source = found.source
    rows = tuple(
        (
            population.name,
            number(population.compared),
            number(population.spikes),
            number(population.mismatches),
            number(population.ties),
            "sample {}, step {}, neuron {}".format(*population.first) if population.first else "",
        )
        for population in source.populations
    )
    words = found.options or "no option"
    title = f"The file spikes as {source.module} does, with {words}"
    if not found.found:
        title = f"No contract reproduces {source.module}; the closest is read with {words}"
    either = f"On this sample {', '.join(found.either)} may have either value." if found.either else ""
    note = f"{found.tried} contracts compared. {either}".strip()
    if not found.found:
        note += " The file lacks something of the module: ashneuro.from_torch(module, sample) reads the module itself."
    columns = ("population", ">values compared", ">spikes", ">mismatches", ">float32 ties", "first mismatch")
    how = f"on {source.samples} samples of {source.timesteps} steps"
    return (Table(title, columns, rows, basis=Basis.MEASURED, how=how, note=note),)


def _source(source: Source) -> tuple[Any, ...]:
    """Return the row of the module that a graph came from."""
    frameworks = ", ".join(f"{name} {version}" for name, version in source.frameworks.items())
    where = "{}: sample {}, step {}, neuron {}".format(source.first[0], *source.first[1]) if source.first else ""
    said = [
        where,
        f"{len(source.populations)} population(s), {source.samples} samples of {source.timesteps} steps",
        f"float32 ties: {number(source.ties)}" if source.ties else "",
        f"silent: {', '.join(source.silent)}" if source.silent else "",
    ]
    return (
        f"{source.module} ({frameworks}) – graph, float64",
        Cell("different", Mark.BAD) if source.mismatches else Cell("equal", Mark.GOOD),
        number(source.compared),
        number(source.mismatches),
        "; ".join(part for part in said if part),
        "yes",
    )


def _mark(comparison: Comparison) -> Mark:
    if comparison.status == "equal":
        return Mark.GOOD
    # Integers may spike otherwise than floats; only a required comparison fails by a difference.
    return Mark.BAD if comparison.status == "different" and comparison.required else Mark.WARNING


def _pair(comparison: Comparison) -> str:
    return f"{words.COMPUTATIONS[comparison.left]} – {words.COMPUTATIONS[comparison.right]}"


def _certified_layers(content: Certificate) -> Iterator[Table]:
    ran = [pair for pair in content.comparisons if pair.layers]
    if not ran:
        return
    rows = []
    for index, layer in enumerate(ran[0].layers):
        spikes = NOTHING if layer.largest is not None else number(layer.spikes)
        differ = (number(pair.layers[index].mismatches) for pair in ran)
        rows.append((layer.layer, number(layer.compared), spikes, *differ))
    columns = ("layer", ">values compared", ">spikes", *(f">{_pair(pair)}" for pair in ran))
    yield Table("Mismatches by layer", columns, tuple(rows), basis=Basis.MEASURED)


def _certified_accuracy(content: Certificate) -> Iterator[Table]:
    if content.accuracy:
        metrics = list(dict.fromkeys(name for row in content.accuracy.values() for name in row))
        rows = tuple(
            (name, *(_metric(metric, row.get(metric)) for metric in metrics)) for name, row in content.accuracy.items()
        )
        yield Table(
            "The task with each computation's spikes",
            ("spikes from", *(f">{metric}" for metric in metrics)),
            rows,
            basis=Basis.MEASURED,
        )


def _metric(name: str, value: float | None) -> str:
    """Return a metric in words; R@1 is a share of the queries."""
    return percent(value) if name.endswith("R@1") else number(value)


def sanafe(layers: Sequence[LayerComparison]) -> Table:
    """Return SANA-FE's spikes against those of the integer program, a row per layer."""
    rows = []
    for layer in layers:
        where = "sample {}, step {}, neuron {}".format(*layer.first) if layer.first else ""
        spikes = NOTHING if layer.largest is not None else number(layer.spikes)
        mark = Mark.WARNING if layer.mismatches else Mark.GOOD
        differ = Cell(number(layer.mismatches), mark)
        rows.append((layer.layer, number(layer.compared), spikes, differ, where))
    columns = ("layer", ">values compared", ">spikes", ">mismatches", "first mismatch")
    return Table("SANA-FE's spikes and the integer program's", columns, tuple(rows), basis=Basis.MEASURED)


def silicon(report: SiliconReport) -> Table:
    """Return the result of replaying recorded silicon, a row per recording."""
    rows = []
    for replay in report.replays:
        masked = sum(layer.v_masked for layer in replay.layers)
        rows.append(
            (replay.name, replay.origin, replay.fed, number(replay.compared), number(masked), number(replay.mismatches))
        )
    left_out = dict.fromkeys(
        [*(item for replay in report.replays for item in replay.not_compared), *report.not_compared]
    )
    return Table(
        "Replay of recordings",
        ("recording", "made by", "fed with", ">neuron-steps", ">v masked", ">values that differ"),
        tuple(rows),
        basis=Basis.MEASURED,
        how=f"; {report.source}, {report.licence}",
        note="In the step of a spike the chip's v reads 128 and the arithmetic's 0; there v is masked.\n"
        f"Not compared: {'; '.join(left_out)}.",
    )
