"""A network: findings, spikes, events per inference, cores, and quantisation errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ashneuro.program.rules.finding import some
from ashneuro.reporting import words
from ashneuro.reporting.tables.table import NOTHING, Cell, Mark, Table, number, percent, three_digits
from ashneuro.reporting.words import Basis

if TYPE_CHECKING:
    from ashneuro.cost.own.network import OwnAnn
    from ashneuro.cost.workload import LayerWorkload, StepWorkload, Workload
    from ashneuro.program.assumption import Assumptions
    from ashneuro.program.placement.placement import Placement
    from ashneuro.program.quantise import LayerCost
    from ashneuro.program.rules.finding import Finding
    from ashneuro.simulation.record import SpikeRecord


def findings(items: Sequence[Finding]) -> Table:
    """Return the findings of `check`, errors before notes; passed checks are only counted."""
    marks = {"error": Mark.BAD, "note": Mark.WARNING}
    shown = [item for level in marks for item in items if item.level == level]
    rows = tuple(
        (
            item.node,
            item.nir_type,
            Cell(words.LEVELS[item.level], marks[item.level]),
            item.sentence,
            item.actual,
            item.remedy,
        )
        for item in shown
    )
    errors = sum(item.level == "error" for item in items)
    passed = len(items) - len(shown)
    return Table(
        "Findings",
        ("node", "NIR type", "level", "rule", "found", "to do"),
        rows,
        note=f"{errors} error(s), {len(shown) - errors} note(s), {passed} check(s) passed",
    )


def assumptions(found: Assumptions) -> Table | None:
    """Return the assumptions about a network; ``None`` if there are none."""
    title = "Assumptions: what the source of this network does not say"
    columns = ("field", "assumed", "nodes that depend on it", "spikes depend on it", "stated with")
    if found is None:
        return Table(title, (), (), note="not recorded by the version that wrote this; it gave them as stated")
    rows = tuple(
        (
            item.field,
            Cell(str(item.value), Mark.WARNING),
            some(item.nodes),
            "yes" if item.spikes else "no",
            item.option,
        )
        for item in found
    )
    return Table(title, columns, rows) if rows else None


def activity(workload: Workload) -> Table:
    """Return spikes, firing rate, synops and updates of every deployed layer, per inference; where
    some send numbers, also products (MACs), messages that carry one, and bits of their payloads.
    """
    deployed = [layer for layer in workload.part("deployed").layers if layer.kind != "ann"]
    samples, part = workload.samples, workload.part("deployed")
    counts = {
        "effective_macs": ">effective MACs",
        "graded_messages": ">graded messages",
        "payload_bits": ">payload bits",
    }
    graded = [field for field in counts if any(getattr(layer, field) for layer in deployed if layer.kind == "snn")]
    rows = [
        (
            layer.name,
            number(layer.neurons),
            number(layer.spikes / samples),
            percent(layer.firing_rate),
            number(layer.effective_acs / samples) if layer.kind == "snn" else NOTHING,
            number(layer.dense_macs / samples) if layer.kind == "snn" else NOTHING,
            _updates(layer, samples),
            number(layer.messages / samples),
            *(number(getattr(layer, field) / samples) if layer.kind == "snn" else NOTHING for field in graded),
        )
        for layer in deployed
    ]
    # Values of an input port are no neuron's spikes: the sums are over spiking layers.
    rows.append(
        (
            "all",
            number(sum(layer.neurons for layer in part.layers if layer.kind == "snn")),
            number(sum(layer.spikes for layer in part.layers if layer.kind == "snn") / samples),
            percent(workload.firing_rate),
            number(part.per_inference("effective_acs")),
            number(part.per_inference("dense_macs")),
            number(part.per_inference("updates")),
            number(sum(layer.messages for layer in part.layers if layer.kind == "snn") / samples),
            *(number(part.per_inference(field)) for field in graded),
        )
    )
    ports = [layer for layer in deployed if layer.kind == "input"]
    crossing = ", ".join(f"{layer.name} {number(layer.bytes_in / samples)} bytes" for layer in ports)
    out = part.per_inference("bytes_out")
    return Table(
        "Activity per inference",
        (
            "layer",
            ">neurons",
            ">spikes",
            ">firing rate",
            ">synops",
            ">dense MACs",
            ">neuron updates",
            ">messages",
            *(counts[field] for field in graded),
        ),
        tuple(rows),
        basis=Basis.COUNTED,
        how=f"over {workload.samples} samples of {workload.timesteps} steps",
        note=f"From the host: {crossing or 'nothing'}; to the host: {number(out)} bytes. An input port's spikes are "
        "its non-zero values, and not in the last line. Updates are paid in every step; in brackets those with a state "
        "or an input.",
    )


def _updates(layer: LayerWorkload, samples: int) -> str:
    if layer.updates is None:
        return NOTHING
    whole = number(layer.updates / samples)
    return whole if layer.updates_active is None else f"{whole} ({percent(layer.updates_active / layer.updates)})"


def spikes(record: SpikeRecord) -> Table:
    """Return the spikes and firing rate of every input and layer of a simulation."""
    rows = [
        (name, "input", number(activity.neurons), number(activity.events), NOTHING)
        for name, activity in record.inputs.items()
    ]
    for name, activity in record.layers.items():
        sent = (NOTHING, NOTHING) if activity.read_out else (number(activity.events), percent(record.firing_rate(name)))
        kind = "read-out" if activity.read_out else "spikes" if activity.binary else "graded values"
        kind = kind if activity.ones is None else "whole numbers"
        rows.append((name, kind, number(activity.neurons), *sent))
    return Table(
        "Spikes",
        ("layer", "sends", ">neurons", ">spikes", ">firing rate"),
        tuple(rows),
        basis=Basis.COUNTED,
        how=f"over {record.samples} samples of {record.timesteps} steps, {record.source}, {record.precision}",
    )


def host(workload: Workload) -> Table | None:
    """Return the MACs of every layer on the host, or ``None`` if no host part was counted."""
    image, text = workload.part("host"), workload.part("text")
    if not image.layers and not text.layers:
        return None

    def row(name: str, part: Workload) -> tuple[str, ...]:
        return name, *(
            number(value)
            for value in (part.per_inference("dense_macs"), part.total("parameters"), part.total("neurons"))
        )

    rows = [row(layer.name, replace(image, layers=(layer,))) for layer in image.layers] + [row("all, per image", image)]
    rows += [row(f"{layer.name}, per text", replace(text, layers=(layer,))) for layer in text.layers]
    note = (
        "The text encoder is not in the sums: texts of a collection are encoded once, on either side."
        if text.layers
        else ""
    )
    columns = ("layer", ">MACs", ">parameters", ">outputs")
    return Table("The host's part", columns, tuple(rows), Basis.COUNTED, "from shapes", note)


def own_ann(ann: OwnAnn) -> Table:
    """Return the layers of the user's own ANN: products, and those without a zero."""
    work = ann.workload

    def row(name: str, part: Workload) -> tuple[str, ...]:
        dense = part.per_inference("dense_macs")
        known = all(layer.effective_macs is not None for layer in part.layers)
        effective = part.per_inference("effective_macs")
        zeros = percent(1 - effective / dense) if known and dense else NOTHING
        counts = (part.total("neurons"), part.total("parameters"), dense)
        return name, *map(number, counts), number(effective) if known else NOTHING, zeros

    rows = [row(layer.name, replace(work, layers=(layer,))) for layer in work.layers] + [row("all", work)]
    columns = ("layer", ">outputs", ">parameters", ">dense MACs", ">effective MACs", ">with a zero")
    how = f"per inference; zeros on {ann.measured_on}" if ann.measured_on else "per inference, from shapes"
    note = f"Not counted, on either side: {ann.uncounted}." if ann.uncounted else ""
    return Table(f"{ann.name} (your ANN)", columns, tuple(rows), Basis.COUNTED, how, note)


STEPS_SHOWN = 16


def synops_by_timestep(steps: Sequence[StepWorkload], samples: int) -> Table:
    """Return the synops of every layer in the first timesteps, as a mean over samples."""
    shown = min(STEPS_SHOWN, max(len(row.effective_acs) for row in steps))
    rows = tuple(
        (row.name, *(number(three_digits(float(value) / samples)) for value in row.effective_acs[:shown]))
        for row in steps
    )
    total = max(len(row.effective_acs) for row in steps)
    note = f"The first {shown} of {number(total)} steps; report.json has them all." if total > shown else ""
    columns = ("layer", *(f">{step + 1}" for step in range(shown)))
    return Table("Synops by step", columns, rows, basis=Basis.COUNTED, how=f"over {samples} samples", note=note)


def placement(placed: Placement) -> Table:
    """Return the cores of every layer on one chip, and the resource that limits it."""
    limits = placed.limits
    rows = []
    for layer in placed.layers:
        block = " × ".join(map(str, layer.block))
        full = {
            "neurons": layer.neurons / limits.neurons,
            "synapse words": layer.synapse_words / limits.synapse_words,
            "input axons": layer.in_axons / limits.in_axons if limits.in_axons else None,
            "output axons": layer.out_axons / limits.out_axons if limits.out_axons else None,
        }
        cells = (percent(value) for value in full.values())
        rows.append(
            (
                layer.layer,
                " × ".join(map(str, layer.shape)),
                number(layer.cores),
                block,
                *cells,
                layer.limited_by or NOTHING,
            )
        )
    cores = f"{number(placed.cores)} cores of {number(limits.cores_per_chip)} a chip"
    boards = "" if placed.boards is None else f", {placed.boards} board(s)"
    return Table(
        f"Placement on {limits.chip}",
        (
            "layer",
            "shape",
            ">cores",
            "neurons of a core",
            ">neurons",
            ">synapse words",
            ">input axons",
            ">output axons",
            "limited by",
        ),
        tuple(rows),
        basis=Basis.COMPUTED,
        note=f"{cores}: {placed.chips} chip(s){boards}, {placed.tiles} tile(s). Per cent of what a core holds. "
        "The chip's own compiler may place otherwise; docs/placement.md compares these rules with printed partitions.",
    )


def quantisation(costs: Iterable[LayerCost]) -> Table:
    """Return the quantisation errors of every layer; the certificate has their effect."""
    rows = [
        (
            cost.layer,
            number(cost.scale),
            f"{cost.weight_bits:.1f}",
            percent(cost.weights),
            percent(cost.threshold),
            percent(cost.bias),
            percent(max(cost.du, cost.dv)),
            percent(cost.input_step) if cost.input_step else NOTHING,
        )
        for cost in costs
    ]
    columns = ("layer", ">units of 1", ">weight bits", ">weights", ">threshold", ">bias", ">decays", ">input step")
    return Table(
        "What integers changed",
        columns,
        tuple(rows),
        basis=Basis.COUNTED,
        note="Errors: weights root mean square, biases as a part of the threshold, an analog input's half step as a "
        "part of its peak.",
    )
