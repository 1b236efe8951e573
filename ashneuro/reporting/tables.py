"""What a person reads, as plain tables: the terminal and the HTML page render the same ones.

Each function turns one result into one `Table`. Every table names the basis of its numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ashneuro.cost.measure import NotMeasured
from ashneuro.cost.profile import CHECKS, HardwareProfile, Quantity, Range
from ashneuro.evaluation import Condition, Evaluation, RetrievalRow, TaskEvaluation
from ashneuro.reporting import words

if TYPE_CHECKING:
    from ashneuro.cost.compare import Comparison
    from ashneuro.cost.comparison.contenders import Group
    from ashneuro.cost.measure import Measurement
    from ashneuro.cost.terms import CostEstimate
    from ashneuro.cost.workload import LayerWorkload, StepWorkload, Workload
    from ashneuro.program.certificate import Certificate
    from ashneuro.program.placement.placement import Placement
    from ashneuro.program.quantise import LayerCost
    from ashneuro.program.rules.finding import Finding
    from ashneuro.simulation.proof.silicon import SiliconReport
    from ashneuro.simulation.record import SpikeRecord

NOTHING = "–"
METRICS = ("R@1", "R@5", "R@10")


@dataclass(frozen=True)
class Table:
    """Rows of text under a title.

    Args:
        title: what the table answers.
        columns: headings; a heading that starts with ``>`` is a number's and stands to the right.
        rows: one text per column.
        basis: counted, measured (how), or estimated (with which profile).
        note: what a reader must know; printed below.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    basis: str = ""
    note: str = ""

    @property
    def headings(self) -> tuple[str, ...]:
        """The headings as they are shown."""
        return tuple(column.removeprefix(">") for column in self.columns)

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Whether each column holds numbers."""
        return tuple(column.startswith(">") for column in self.columns)


def number(value: float | None) -> str:
    """Return a count in full, a fraction in three digits, and ``–`` for what is unknown."""
    if value is None:
        return NOTHING
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")


def percent(value: float | None) -> str:
    """Return a fraction as per cent."""
    return NOTHING if value is None else f"{100 * value:.1f} %"


SCALES = ((1.0, "J"), (1e3, "mJ"), (1e6, "µJ"), (1e9, "nJ"), (1e12, "pJ"))


def common_unit(energies: Iterable[Range | None]) -> tuple[float, str]:
    """Return the factor and unit in which the largest typical energy (the largest low one, where none is typical) is 1 or more."""
    largest = max((abs(energy.typical or energy.low) for energy in energies if energy), default=0.0)
    return next(((factor, unit) for factor, unit in SCALES if largest * factor >= 1), SCALES[-1])


def joules(energy: Range | None, unit: tuple[float, str]) -> tuple[str, str]:
    """Return the typical value and the range of an energy, both in ``unit``."""
    if energy is None:
        return "not estimable", NOTHING
    factor = unit[0]
    typical = NOTHING if energy.typical is None else number(energy.typical * factor)
    return typical, NOTHING if energy.is_point else f"{number(energy.low * factor)} – {number(energy.high * factor)}"


def findings(items: Sequence[Finding]) -> Table:
    """Return what `check` found: errors first, then notes; nodes without remark are counted below."""
    order = {"error": 0, "note": 1}
    shown = sorted((item for item in items if item.level != "ok"), key=lambda item: order.get(item.level, 2))
    rows = tuple((item.node, item.nir_type, item.level, item.sentence, item.actual, item.remedy) for item in shown)
    errors = sum(item.level == "error" for item in items)
    passed = len(items) - len(shown)
    return Table(
        "Findings",
        ("node", "NIR type", "level", "rule", "found", "to do"),
        rows,
        note=f"{errors} error(s), {len(shown) - errors} note(s), {passed} check(s) passed",
    )


def activity(workload: Workload) -> Table:
    """Return spikes, rates, synops and updates of every deployed layer, per inference."""
    deployed = [layer for layer in workload.part("deployed").layers if layer.kind != "ann"]
    samples = workload.samples
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
        )
        for layer in deployed
    ]
    part = workload.part("deployed")
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
        )
    )
    ports = [layer for layer in deployed if layer.kind == "input"]
    crossing = ", ".join(f"{layer.name} {number(layer.bytes_in / samples)} bytes" for layer in ports)
    out = part.per_inference("bytes_out")
    return Table(
        "Activity per inference",
        ("layer", ">neurons", ">spikes", ">firing rate", ">synops", ">dense MACs", ">neuron updates", ">messages"),
        tuple(rows),
        basis=f"counted over {workload.samples} samples of {workload.timesteps} steps",
        note=f"From the host: {crossing or 'nothing'}; to the host: {number(out)} bytes. An input port's spikes are its non-zero values,"
        " and not in the last line. Updates are paid in every step; in brackets those with a state or an input.",
    )


def spikes(record: SpikeRecord) -> Table:
    """Return what a simulation counted, per input and layer."""
    rows = [
        (name, "input", number(activity.neurons), number(activity.events), NOTHING)
        for name, activity in record.inputs.items()
    ]
    for name, activity in record.layers.items():
        sent = (number(activity.events), percent(record.firing_rate(name))) if activity.binary else (NOTHING, NOTHING)
        rows.append((name, "spikes" if activity.binary else "read-out", number(activity.neurons), *sent))
    return Table(
        "Spikes",
        ("layer", "sends", ">neurons", ">spikes", ">firing rate"),
        tuple(rows),
        basis=f"counted over {record.samples} samples of {record.timesteps} steps, {record.source}, {record.precision}",
    )


def _updates(layer: LayerWorkload, samples: int) -> str:
    if layer.updates is None:
        return NOTHING
    whole = number(layer.updates / samples)
    return whole if layer.updates_active is None else f"{whole} ({percent(layer.updates_active / layer.updates)})"


def host(workload: Workload) -> Table | None:
    """Return the MACs of every layer on the host; ``None`` where no host part was counted."""
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
    return Table(
        "The host's part", ("layer", ">MACs", ">parameters", ">outputs"), tuple(rows), "counted from shapes", note
    )


def terms(cost: CostEstimate) -> Table:
    """Return one estimate by kind of event, then with static power at every boundary that the profile knows."""
    sums = cost.by_term()
    totals = [(whole, whole.total_j or whole.energy_j) for whole in cost.totals]
    unit = common_unit([*sums.values(), cost.dynamic_j] if cost.dynamic_j else [energy for _, energy in totals])
    rows = []
    for name in sorted(sums, key=lambda name: sums[name] is None):
        events = sum(term.events for term in cost.terms if term.name == name)
        because = next((term.because for term in cost.terms if term.name == name and term.because), "")
        formula = "; ".join(
            dict.fromkeys(term.formula for term in cost.terms if term.name == name and term.formula and term.events)
        )
        rows.append((name, number(events), *joules(sums[name], unit), because or formula or NOTHING))
    rows.append(
        ("all events", "", *joules(cost.dynamic_j, unit), "the dynamic energy" if cost.dynamic_j else "see above")
    )
    for whole, energy in totals:
        what = "events + static" if whole.total_j else "static alone"
        how = f"power × time. {whole.boundary}"
        if whole.overhead_j is not None:
            rows.append(
                (
                    f"running overhead: {whole.name.replace('_', ' ')}",
                    "",
                    *joules(whole.overhead_j, unit),
                    "power × time; in the line below",
                )
            )
        rows.append((f"{what}: {whole.name.replace('_', ' ')}", "", *joules(energy, unit), how))
    time = cost.time_s
    lasts = f" An inference lasts {_microseconds(time)} while samples follow one another" if time else ""
    if time:
        rate = cost.throughput_per_s
        lasts += f", {number(_three(rate.low))} – {number(_three(rate.high))} a second" if rate else ""
        lasts += f"; from first input to last output {_microseconds(cost.latency_s)}." if cost.latency_s else "."
    if cost.cores is not None:
        lasts += f" Placed on {number(cost.cores)} cores of {cost.chips} chip(s)."
    if cost.dynamic_j and not cost.headline:
        lasts += " No headline rests on it: sources of its prices were not opened."
    return Table(
        f"Energy on {cost.title}",
        ("term", ">events", f">{unit[1]}", ">low – high", "how"),
        tuple(rows),
        basis=cost.basis,
        note=f"Boundary: {cost.boundary}. Left out: {'; '.join(cost.excludes)}.{lasts}",
    )


def _microseconds(time: Range) -> str:
    typical = "" if time.typical is None else f"{number(_three(1e6 * time.typical))} µs, "
    return f"{typical}{number(_three(1e6 * time.low))} – {number(_three(1e6 * time.high))} µs"


def _three(value: float) -> float:
    """Return a number with three digits."""
    return float(f"{value:.3g}")


def layer_energy(cost: CostEstimate) -> Table:
    """Return one estimate by layer."""
    sums = cost.by_layer()
    unit = common_unit(sums.values())
    rows = tuple((name, *joules(energy, unit)) for name, energy in sums.items())
    return Table(f"Energy by layer on {cost.title}", ("layer", f">{unit[1]}", ">low – high"), rows, basis=cost.basis)


STEPS_SHOWN = 16


def synops_by_step(steps: Sequence[StepWorkload], samples: int) -> Table:
    """Return the synops of every layer in the first steps of a sample, as a mean over samples."""
    shown = min(STEPS_SHOWN, max(len(row.effective_acs) for row in steps))
    rows = tuple(
        (row.name, *(number(_three(float(value) / samples)) for value in row.effective_acs[:shown])) for row in steps
    )
    total = max(len(row.effective_acs) for row in steps)
    note = f"The first {shown} of {number(total)} steps; report.json has them all." if total > shown else ""
    columns = ("layer", *(f">{step + 1}" for step in range(shown)))
    return Table("Synops by step", columns, rows, basis=f"counted over {samples} samples", note=note)


def contenders(group: Group) -> Table:
    """Return the networks of one comparison side by side, per inference."""
    unit = common_unit([who.total_j for who in group.contenders])
    rows: list[tuple[str, ...]] = []
    for who in group.contenders:
        arithmetic = joules(who.arithmetic_j, unit)[0] if who.arithmetic_j else NOTHING
        parts = (joules(who.host_j, unit)[0], joules(who.deployed_j, unit)[0])
        rows.append((who.name, *parts, *joules(who.total_j, unit), arithmetic, who.metric or NOTHING))
    label = unit[1]
    columns: tuple[str, ...] = (
        "network",
        f">host, {label}",
        f">deployed or its twin, {label}",
        f">sum, {label}",
        ">low – high",
        f">arithmetic only, {label}",
        "task metric",
    )
    if not any(who.metric for who in group.contenders):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    profiles = dict.fromkeys(part.profile for who in group.contenders for part in (who.host, who.deployed) if part)
    return Table(
        group.title,
        columns,
        tuple(rows),
        basis=f"estimated ({', '.join(profiles)})",
        note=f"{group.note} Boundary: {group.boundary}.",
    )


def conventions(comparison: Comparison) -> Table:
    """Return the comparison counted in three ways."""
    rows = []
    for line in comparison.conventions:
        ratio = (
            NOTHING
            if line.ratio is None
            else " – ".join(dict.fromkeys(f"{number(float(f'{value:.2g}'))} ×" for value in line.ratio))
        )
        where = "one node" if line.comparable else "different boundaries"
        rows.append(
            (
                line.name,
                f"{line.ours}: {_energy(line.ours_j)}",
                f"{line.theirs}: {_energy(line.theirs_j)}",
                ratio,
                where,
                line.note,
            )
        )
    columns = ("what is counted", "spiking side", "ANN side", ">spiking / ANN", "comparable", "note")
    note = "Which side looks better depends on what is counted; only lines on one node may name a winner."
    return Table("Three conventions", columns, tuple(rows), basis="estimated from counted events", note=note)


def _energy(energy: Range | None) -> str:
    if energy is None:
        return "not estimable"
    unit = common_unit([energy])
    typical, spread = joules(energy, unit)
    return (
        f"{typical} {unit[1]}"
        if spread == NOTHING
        else f"{spread} {unit[1]}"
        if typical == NOTHING
        else f"{typical} {unit[1]} ({spread})"
    )


def placement(placed: Placement) -> Table:
    """Return the cores of every layer on one chip, and what limits it."""
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
        basis="computed",
        note=f"{cores}: {placed.chips} chip(s){boards}, {placed.tiles} tile(s). Per cent of what a core holds. "
        "The chip's own compiler may place otherwise; docs/placement.md compares these rules with printed partitions.",
    )


def break_even(comparison: Comparison) -> Table:
    """Return the firing rates below which the spiking part costs less than the ANN in its place."""
    rows = []
    for even in comparison.break_even:
        known = sorted(rate for rate in even.rates if rate is not None)
        ends = list(dict.fromkeys(_rate(rate) for rate in (known[:1] + known[-1:])))
        spread = " – ".join(ends) if len(ends) > 1 else NOTHING
        where = "one node" if even.comparable else "different boundaries"
        at = "not estimable" if even.because else even.sentence()
        rows.append((even.spiking.name, even.ann.name, at, spread, percent(comparison.firing_rate), where))
    return Table(
        "Break-even firing rate of the deployed part",
        ("spiking part on", "ANN in its place on", ">breaks even at", ">over the cases", ">this network", "comparable"),
        tuple(rows),
        basis="estimated from counted events",
        note=f"{_reasons(comparison)}Rates are spikes per neuron and step. Neurons' spikes, and all that they cause, scale with the "
        "rate; neuron updates, and what the inputs cause, do not."
        " “none”: these alone cost more than the ANN.",
    )


def _reasons(comparison: Comparison) -> str:
    """Return why some rates are not known, once each, and a line break."""
    found = dict.fromkeys(
        f"{even.spiking.name}: {even.because.partition(';')[0]}." for even in comparison.break_even if even.because
    )
    return "".join(f"{text}\n" for text in found)


def _rate(rate: float) -> str:
    return "none" if rate <= 0 else "any" if rate >= 1 else percent(rate)


def thresholds(comparison: Comparison) -> Table:
    """Return the published conditions, and where this network stands."""
    rows = tuple(
        (item.condition, f"{number(item.value)} {item.unit}", item.reading, item.source)
        for item in comparison.thresholds
    )
    return Table(
        "Against published conditions", ("condition", "this network", "reading", "source"), rows, basis="counted"
    )


def pools(evaluations: Iterable[Evaluation]) -> list[list[Evaluation]]:
    """Return the evaluations grouped by pool: the same split with the same numbers of images and texts."""
    found: dict[tuple[str, int, int], list[Evaluation]] = {}
    for item in evaluations:
        found.setdefault((item.split, item.images, item.texts), []).append(item)
    return list(found.values())


def retrieval_rows(evaluations: Iterable[Evaluation]) -> Iterator[tuple[str, RetrievalRow]]:
    """Yield the rows of evaluations by shown name, after the last of each pool its chance row."""
    for pool in pools(evaluations):
        for item in pool:
            yield from ((words.row(item, row), row) for row in item.rows)
        yield f"{words.CONDITIONS[Condition.CHANCE]} among {number(pool[0].images)} images", pool[-1].chance


def retrieval(evaluations: Iterable[Evaluation]) -> Table:
    """Return retrieval metrics image → text / text → image: a row per network, then chance, for each pool."""
    body = []
    for pool in pools(evaluations):
        where = f"{pool[0].split}: {number(pool[0].images)} images, {number(pool[0].texts)} texts"
        for name, row in retrieval_rows(pool):
            recalls = (" / ".join(_hundred(way.get(metric)) for way in row.directions) for metric in METRICS)
            ranks = " / ".join(number(way.get("median_rank")) for way in row.directions)
            basis = "computed" if row.condition is Condition.CHANCE else "measured"
            body.append((name, *recalls, ranks, f"{basis}, {where}"))
    columns = ("network", *(f">{metric}, %" for metric in METRICS), ">median rank", "basis")
    return Table("Retrieval, image → text / text → image", columns, tuple(body))


def tasks(evaluations: Iterable[TaskEvaluation]) -> tuple[Table, ...]:
    """Return a table for each task and set of questions.

    Networks that answered the same questions share a table, a row for each condition; the baseline of
    the most frequent answer comes last. The note has the number of questions and the share that can
    be answered at all.
    """
    found: dict[tuple[str, str, int, int], list[TaskEvaluation]] = {}
    for item in evaluations:
        found.setdefault((item.task, item.split, item.questions, item.pictures), []).append(item)
    return tuple(_task(items) for items in found.values())


def _task(evaluations: Sequence[TaskEvaluation]) -> Table:
    first = evaluations[0]
    every = [(item, row) for item in evaluations for row in item.rows]
    kinds = list(dict.fromkeys(kind for _, row in every for kind in row.by_kind))
    grouped = any(row.consistency is not None for _, row in every)
    # Equal rows stand once: the baseline is the same for every network.
    body: dict[tuple[object, ...], tuple[str, ...]] = {}
    baselines: dict[tuple[str, ...], None] = {}
    for item, row in every:
        values = [row.accuracy, *([row.consistency] if grouped else []), *(row.by_kind.get(kind) for kind in kinds)]
        shown = tuple(map(_hundred, values))
        line = (words.row(item, row), *shown)
        if row.condition is Condition.MOST_FREQUENT:
            baselines[line] = None
        else:
            body[item.kind, item.label, row.condition, row.spikes_from, shown] = line
    columns = (
        "network",
        f">{words.MEASURES[first.task]}, %",
        *([">consistency, %"] if grouped else []),
        *(f">{kind}, %" for kind in kinds),
    )
    heads = list(dict.fromkeys(percent(item.answerable) for item in evaluations))
    note = f"{first.split}: {number(first.questions)} questions about {number(first.pictures)} pictures; "
    note += f"{' / '.join(heads)} of them can be answered with the answers that the head knows. A zeroed, C zeroed, "
    note += "text alone: the trained network with its abstract branch, its concrete branch, or both left out."
    return Table(_title(first), columns, (*body.values(), *baselines), "measured", note)


def answers(evaluation: TaskEvaluation) -> Table:
    """Return the example questions of one evaluation with the network's answer and the right ones."""
    rows = tuple(
        (
            ", ".join(item.images),
            item.text,
            item.said,
            ", ".join(dict.fromkeys(item.answers)),
            f"{100 * item.score:.0f}",
        )
        for item in evaluation.examples
    )
    title = f"{_title(evaluation)}: questions, evenly spaced"
    return Table(title, ("picture", "question", "said", "right", ">score, %"), rows, "measured")


def _title(evaluation: TaskEvaluation) -> str:
    name = words.TASKS[evaluation.task]
    return name[0].upper() + name[1:]


def task_metric(evaluation: TaskEvaluation) -> str:
    """Return the metric of the whole network, e.g. ``"VQA accuracy 61.0 %"``."""
    return f"{words.METRICS[evaluation.task]} {percent(evaluation.rows[0].accuracy)}"


def evaluation_facts(evaluations: Iterable[Evaluation]) -> dict[str, str]:
    """Return the learned fusion ratio and the firing rates of each network that has them, by label."""
    facts: dict[tuple[str, str, str], tuple[str, str]] = {}
    for item in evaluations:
        name = words.network(item)
        if item.ratio:
            mean, low, high = map(number, (item.ratio.mean, item.ratio.min, item.ratio.max))
            text = f"mean {mean}, from {low} to {high} over {len(item.ratio.channels)} channels"
            facts.setdefault(("ratio", item.kind, item.label), (f"learned fusion ratio r, {name}", text))
        if item.firing_rate:
            text = ", ".join(f"{layer} {percent(rate)}" for layer, rate in item.firing_rate.items())
            facts.setdefault(("rates", item.kind, item.label), (f"firing rates, {name}", text))
    return dict(facts.values())


def _hundred(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"


def measurements(items: Iterable[Measurement | NotMeasured]) -> Table:
    """Return what instruments read, and what they could not; never beside estimates in one table."""
    rows, missing = [], []
    for item in items:
        if isinstance(item, NotMeasured):
            missing.append(f"{item.sentence}.")
            continue
        unit = common_unit([Range(item.low_j, item.energy_j, item.high_j)])
        energy, spread = joules(Range(item.low_j, item.energy_j, item.high_j), unit)
        idle = NOTHING if item.idle_w is None else f"{item.idle_w:.3g} W"
        whole = NOTHING if item.total_j is None else f"{number(item.total_j * unit[0])} {unit[1]}"
        time = f"{1e3 * item.seconds:.3g} ms"
        about = (
            str(item.batch),
            item.precision,
            idle,
            f"{item.method}; {item.boundary}" + (f"; {item.taken}" if item.taken else ""),
        )
        rows.append((item.network or NOTHING, item.device, f"{energy} {unit[1]}", spread, whole, time, *about))
    columns = (
        "network",
        "device",
        ">energy per inference",
        ">low – high",
        ">with idle",
        ">time",
        ">batch",
        "precision",
        ">idle, subtracted",
        "method",
    )
    return Table("Energy that was measured", columns, tuple(rows), basis="measured", note="\n".join(missing))


def quantisation(costs: Iterable[LayerCost]) -> Table:
    """Return what integers changed in every layer; what that did to the spikes, the certificate says."""
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
        basis="counted",
        note="Errors: weights root mean square, biases as a part of the threshold, an analog input's half step as a part of its peak.",
    )


def certificate(content: Certificate) -> tuple[Table, ...]:
    """Return the comparisons of a certificate, the mismatches of every layer, and the task metrics."""
    pairs = content.comparisons
    rows = []
    for pair in pairs:
        ran = pair.status != "not run"
        where = "{}: sample {}, step {}, neuron {}".format(pair.first[0], *pair.first[1]) if pair.first else ""
        rows.append(
            (
                f"{pair.left} – {pair.right}",
                pair.status,
                number(pair.compared) if ran else NOTHING,
                number(pair.mismatches) if ran else NOTHING,
                where or pair.reason,
                "yes" if pair.required else "no",
            )
        )
    state = "passed" if content.passed else "failed" if content.failed else "incomplete"
    versions = ", ".join(f"{name} {version}" for name, version in content.versions.items())
    summary = Table(
        f"Certificate: {state}",
        ("computations", "result", ">values compared", ">mismatches", "first mismatch, or why not", "must be equal"),
        tuple(rows),
        basis=f"measured on {content.samples} samples of {content.timesteps} steps",
        note=f"Not compared: {'; '.join(content.not_compared)}.\nComputed with {versions}.",
    )
    return summary, *_certified_layers(content), *_certified_accuracy(content)


def _certified_layers(content: Certificate) -> Iterator[Table]:
    ran = [pair for pair in content.comparisons if pair.layers]
    if not ran:
        return
    rows = []
    for index, layer in enumerate(ran[0].layers):
        spikes = NOTHING if layer.largest is not None else number(layer.spikes)
        differ = (number(pair.layers[index].mismatches) for pair in ran)
        rows.append((layer.layer, number(layer.compared), spikes, *differ))
    columns = ("layer", ">values compared", ">spikes", *(f">{pair.left} – {pair.right}" for pair in ran))
    yield Table("Mismatches by layer", columns, tuple(rows), basis="measured")


def _certified_accuracy(content: Certificate) -> Iterator[Table]:
    if content.accuracy:
        metrics = list(dict.fromkeys(name for row in content.accuracy.values() for name in row))
        rows = tuple((name, *(number(row.get(metric)) for metric in metrics)) for name, row in content.accuracy.items())
        yield Table(
            "The task with each computation's spikes",
            ("spikes from", *(f">{metric}" for metric in metrics)),
            rows,
            basis="measured",
        )


def silicon(report: SiliconReport) -> Table:
    """Return what replaying recordings found, one row per recording."""
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
        basis=f"measured; {report.source}, {report.licence}",
        note="In the step of a spike the chip's v reads 128 and the arithmetic's 0; there v is masked.\n"
        f"Not compared: {'; '.join(left_out)}.",
    )


def bench_emulator(content: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return the speeds of the emulator and of Lava (schema ``ashneuro.bench/1``), a table for each network."""
    machine = content["machine"]
    load = " before, ".join(f"{value:.1f}" for value in machine["load"]) + " after" if machine["load"] else "not known"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; load average {load}.\n{versions}."
    tables = []
    for network in content["networks"]:
        rows, notes = [], []
        for speed in network["speeds"]:
            threads = NOTHING if speed["threads"] is None else str(speed["threads"])
            if speed["reason"]:
                rows.append((speed["name"], threads, "not run", *[NOTHING] * 5))
                notes.append(f"{speed['name']}: not run, because {speed['reason']}.")
                continue
            differ = number(speed["mismatches"]) if speed["mismatches"] else "none"
            rows.append(
                (
                    speed["name"],
                    threads,
                    *_spread(speed["per_second"]),
                    *_spread(speed["ratio"], "×"),
                    number(speed["samples"]),
                    differ,
                )
            )
            if start := speed["start_s"]:
                middle, ends = _spread(start, " s")
                notes.append(f"{speed['name']}: {middle} ({ends}) to start each time, not in its samples/s.")
        mismatches = sum(speed["mismatches"] for speed in network["speeds"])
        equal = (
            "all equal" if not mismatches else f"{number(mismatches)} differ: the speeds of what differs mean nothing"
        )
        notes.append(
            f"{number(network['compared'])} values compared, {equal}; firing rate {percent(network['firing_rate'])}."
        )
        columns = (
            "computation",
            ">threads",
            ">samples/s",
            ">min – max",
            ">of Lava",
            ">min – max",
            ">samples",
            ">mismatches",
        )
        title = f"Emulator, {network['title']}, {network['timesteps']} steps"
        basis = f"measured, {content['rounds']} rounds in turn, medians"
        tables.append(Table(title, columns, tuple(rows), basis, "\n".join([*notes, where])))
    return tuple(tables)


def _spread(spread: Mapping[str, float] | None, unit: str = "") -> tuple[str, str]:
    """Return the median, and the range over all rounds."""
    if spread is None:
        return NOTHING, NOTHING
    middle, low, high = (
        number(round(spread[key]) if spread[key] >= 100 else spread[key]) for key in ("median", "low", "high")
    )
    return middle + unit, f"{low} – {high}"


def profile_list(profiles: Iterable[HardwareProfile]) -> Table:
    """Return the profiles that are known."""
    rows = []
    for profile in profiles:
        numbers = [quantity for _, quantity in profile.quantities()]
        checks = " ".join(
            f"{level}{sum(q.check == level for q in numbers)}"
            for level in CHECKS
            if any(q.check == level for q in numbers)
        )
        rows.append((profile.name, profile.title, profile.kind, str(len(numbers)), checks, profile.boundary))
    note = "Checks: " + "; ".join(f"{level} {meaning}" for level, meaning in CHECKS.items()) + "."
    return Table(
        "Hardware profiles", ("name", "chip", "kind", ">numbers", "checks", "boundary"), tuple(rows), note=note
    )


def profile_numbers(profile: HardwareProfile) -> Table:
    """Return every number of a profile with its source."""
    rows = tuple((path, *_quantity(quantity)) for path, quantity in profile.quantities())
    columns = ("number", ">value", ">low – high", "unit", "covers", "boundary", "basis", "check", "source, locator")
    notes = [profile.reads.replace("\n", " ").strip(), f"Left out: {'; '.join(profile.excludes)}."]
    notes += [f"{path}: {quantity.bounds_from}." for path, quantity in profile.quantities() if quantity.bounds_from]
    notes += [f"{key}: {source.title}. {source.link}" for key, source in profile.sources.items()]
    return Table(
        f"{profile.name}: {profile.title}", columns, rows, basis=f"boundary: {profile.boundary}", note="\n".join(notes)
    )


def _quantity(quantity: Quantity) -> tuple[str, ...]:
    low = quantity.low if quantity.low is not None else quantity.value
    high = quantity.high if quantity.high is not None else quantity.value
    spread = NOTHING if low == high else f"{_exact(low)} – {_exact(high)}"
    value = NOTHING if quantity.value is None else _exact(quantity.value)
    basis = f"{quantity.basis}, {quantity.status}"
    where = f"{quantity.source}: {quantity.locator}"
    return value, spread, quantity.unit, quantity.covers, quantity.boundary, basis, quantity.check, where


def _exact(value: float | None) -> str:
    """Return a profile's number with every digit that it has."""
    return NOTHING if value is None else f"{value:,.12g}"


def numbers_used(costs: Iterable[CostEstimate], profiles: Iterable[HardwareProfile]) -> Table:
    """Return every number of a profile that an estimate used, with its source."""
    known = {profile.name: profile for profile in profiles}
    used: dict[tuple[str, str], None] = {}
    for cost in costs:
        paths = [path for term in cost.terms for path in term.quantities]
        paths += cost.time_from
        for whole in cost.totals:
            paths += [f"static.{whole.name}", *([f"overhead.{whole.name}"] if whole.overhead_j else [])]
        used |= dict.fromkeys((cost.profile, path) for path in paths)
    rows = []
    for name, path in used:
        quantity = known[name].quantity(path)
        if quantity is not None:
            value, spread, unit, covers, _, basis, check, where = _quantity(quantity)
            rows.append((name, path, value, spread, unit, covers, basis, check, where))
    columns = ("profile", "number", ">value", ">low – high", "unit", "covers", "basis", "check", "source, locator")
    note = "Checks: " + "; ".join(f"{level} {meaning}" for level, meaning in CHECKS.items()) + "."
    return Table("Every number that the estimates used", columns, tuple(rows), note=note)
