"""Energy: estimates by term and layer, comparisons with ANNs, and measurements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from ashneuro.cost.measure import NotMeasured
from ashneuro.cost.profile import CASES, Range
from ashneuro.cost.validate import known_error
from ashneuro.reporting.tables.table import NOTHING, Table, common_unit, joules, number, percent, three_digits
from ashneuro.reporting.words import Basis

if TYPE_CHECKING:
    from ashneuro.cost.compare import Comparison
    from ashneuro.cost.comparison.contenders import Contender, Group
    from ashneuro.cost.measure import Measurement
    from ashneuro.cost.terms import CostEstimate


def terms(cost: CostEstimate) -> Table:
    """Return one estimate by kind of event, then its totals with static power."""
    sums = cost.by_term()
    totals = [whole.total_j or whole.energy_j for whole in cost.totals]
    # Without a dynamic energy only the totals have numbers, and they choose the unit.
    if cost.dynamic_j:
        unit = common_unit([*sums.values(), cost.dynamic_j])
    else:
        unit = common_unit([cost.bracketed_j] if cost.bracketed_j else totals)
    whole = ("all events", "", *joules(cost.dynamic_j, unit), "the dynamic energy" if cost.dynamic_j else "see above")
    return Table(
        f"Energy on {cost.title}",
        ("term", ">events", f">{unit[1]}", ">low – high", "how"),
        (
            *_term_rows(cost, sums, unit),
            whole,
            *_bracket_rows(cost, unit),
            *_addition_rows(cost, unit),
            *_total_rows(cost, unit),
        ),
        basis=Basis.ESTIMATED,
        how=f"({cost.profile})",
        note=f"Boundary: {cost.boundary}. Left out: {'; '.join(cost.excludes)}.{_time_text(cost)}",
    )


def _term_rows(
    cost: CostEstimate, sums: Mapping[str, Range | None], unit: tuple[float, str]
) -> Iterator[tuple[str, ...]]:
    """Yield a row per kind of event, those without a price last."""
    for name in sorted(sums, key=lambda name: sums[name] is None):
        own = [term for term in cost.terms if term.name == name]
        because = next((term.because for term in own if term.because), "")
        # Layers may be priced by different formulas; those without events say nothing.
        formula = "; ".join(dict.fromkeys(term.formula for term in own if term.formula and term.events))
        events = number(sum(term.events for term in own))
        yield name, events, *joules(sums[name], unit), because or formula or NOTHING


def _bracket_rows(cost: CostEstimate, unit: tuple[float, str]) -> Iterator[tuple[str, ...]]:
    """Yield the events with our own brackets for graded values, where they stand in for prices."""
    energy = cost.bracketed_j
    if energy is not None:
        how = "our own estimate, in no verdict: a graded synop as 1 to as many synops as its payload has bits, "
        how += "a message as one without payload to one longer by it"
        yield "all events, graded values bracketed", "", *joules(energy, unit), how


def _addition_rows(cost: CostEstimate, unit: tuple[float, str]) -> Iterator[tuple[str, ...]]:
    """Yield a row per cost besides events, and their sum with the events."""
    for item in cost.additions:
        fitted = f"; fitted on {', '.join(item.fitted_on)}" if item.fitted_on else ""
        yield f"further: {item.name}", "", *joules(item.energy_j, unit), item.formula + fitted
    if cost.additions:
        names = ", ".join(item.name for item in cost.additions)
        how = f"dynamic, with {names}" if cost.running_j else "not estimable without the events"
        yield "events and further costs", "", *joules(cost.running_j, unit), how


def _total_rows(cost: CostEstimate, unit: tuple[float, str]) -> Iterator[tuple[str, ...]]:
    """Yield a row per boundary of static power, after the overhead that is part of it."""
    for whole in cost.totals:
        name = whole.name.replace("_", " ")
        if whole.overhead_j is not None:
            overhead = joules(whole.overhead_j, unit)
            yield f"running overhead: {name}", "", *overhead, "power × time; in the line below"
        what = "events + static" if whole.total_j else "static alone"
        energy = joules(whole.total_j or whole.energy_j, unit)
        yield f"{what}: {name}", "", *energy, f"power × time. {whole.boundary}"
        if whole.full_j is not None:
            full = joules(whole.full_j, unit)
            yield f"the same, with further costs: {name}", "", *full, "without those that the static power includes"


def _time_text(cost: CostEstimate) -> str:
    """Return the sentences about time, cores and sources below an estimate."""
    text = ""
    if time := cost.time_s:
        text += f" An inference lasts {_microseconds(time)} while samples follow one another"
        if rate := cost.throughput_per_s:
            text += f", {number(three_digits(rate.low))} – {number(three_digits(rate.high))} a second"
        text += f"; from first input to last output {_microseconds(cost.latency_s)}." if cost.latency_s else "."
    if cost.cores is not None:
        text += f" Placed on {number(cost.cores)} cores of {cost.chips} chip(s)."
    if cost.dynamic_j and not cost.headline:
        text += " No headline rests on it: sources of its prices were not opened."
    if cost.dynamic_j and cost.error is not None:
        text += f" {cost.error.sentence[0].upper()}{cost.error.sentence[1:]}."
    return text


def _microseconds(time: Range) -> str:
    typical = "" if time.typical is None else f"{number(three_digits(1e6 * time.typical))} µs, "
    return f"{typical}{number(three_digits(1e6 * time.low))} – {number(three_digits(1e6 * time.high))} µs"


def by_layer(cost: CostEstimate) -> Table:
    """Return one estimate by layer."""
    sums = cost.by_layer()
    unit = common_unit(sums.values())
    rows = tuple((name, *joules(energy, unit)) for name, energy in sums.items())
    columns = ("layer", f">{unit[1]}", ">low – high")
    return Table(f"Energy by layer on {cost.title}", columns, rows, Basis.ESTIMATED, f"({cost.profile})")


def contenders(group: Group) -> Table:
    """Return the networks of one group of a comparison side by side, per inference."""
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
    if not any(who.metric for who in group.contenders):  # a column of dashes says nothing
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    profiles = dict.fromkeys(part.profile for who in group.contenders for part in (who.host, who.deployed) if part)
    return Table(
        group.title,
        columns,
        tuple(rows),
        basis=Basis.ESTIMATED,
        how=f"({', '.join(profiles)})",
        note=f"{group.note} Boundary: {group.boundary}.{_ann_errors(profiles)}",
    )


def _ann_errors(profiles: Iterable[str]) -> str:
    """Return the errors of the profiles on measured ANNs, a sentence each."""
    found = ((name, known_error(name)) for name in profiles)
    return "".join(f" {name}: {error.sentence}." for name, error in found if error is not None and error.ann)


def matches(comparison: Comparison) -> Table:
    """Return each hybrid against the cheapest ANN that is as accurate, case by case."""
    rows = tuple(
        (
            each.spiking.title,
            _accuracy(each.spiking),
            f"{each.ann.title}, {each.ann.variant}" + ("" if each.reached else " (none is as accurate)"),
            _accuracy(each.ann),
            *(f"{number(float(f'{each.ratios[case]:.2g}'))} ×" if case in each.ratios else NOTHING for case in CASES),
        )
        for each in comparison.matches
    )
    return Table(
        "Each hybrid against the cheapest ANN that is as accurate",
        ("hybrid", ">accuracy, %", "ANN", ">accuracy, %", *(f">energy, {case}" for case in CASES)),
        rows,
        basis=Basis.ESTIMATED,
        how="hybrid / ANN, on one node",
        note="As accurate: lower by one standard deviation of the difference at most (of a run, over draws of queries; "
        "another seed moves a run by about as much). Among the ANNs shown here, the cheapest in the typical case; "
        "above 1 × the hybrid loses. A twin without an accuracy was not trained, or not evaluated in this arithmetic, "
        "and counts as accurate enough.",
    )


def _accuracy(who: Contender) -> str:
    if who.accuracy is None:
        return NOTHING
    return f"{100 * who.accuracy.value:.1f} ± {100 * who.accuracy.deviation:.1f}"


def conventions(comparison: Comparison) -> Table:
    """Return the comparison under the three conventions of counting."""
    rows = tuple(
        (
            line.name,
            f"{line.ours}: {_energy(line.ours_j)}",
            f"{line.theirs}: {_energy(line.theirs_j)}",
            _ratio(line.ratio),
            "one node" if line.comparable else "different boundaries",
            line.note,
        )
        for line in comparison.conventions
    )
    columns = ("what is counted", "spiking side", "ANN side", ">spiking / ANN", "comparable", "note")
    note = "Which side looks better depends on what is counted; only lines on one node may name a winner."
    return Table("Three conventions", columns, rows, Basis.ESTIMATED, "from counted events", note)


def _ratio(ratio: tuple[float, float] | None) -> str:
    if ratio is None:
        return NOTHING
    # A range that is one number in two digits is shown as one.
    return " – ".join(dict.fromkeys(f"{number(float(f'{value:.2g}'))} ×" for value in ratio))


def _energy(energy: Range | None) -> str:
    if energy is None:
        return "not estimable"
    unit = common_unit([energy])
    typical, spread = joules(energy, unit)
    if energy.is_point:
        return f"{typical} {unit[1]}"
    return f"{spread} {unit[1]}" if energy.typical is None else f"{typical} {unit[1]} ({spread})"


def break_even(comparison: Comparison) -> Table:
    """Return the firing rates at which the spiking part takes as much energy as its ANN."""
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
        basis=Basis.ESTIMATED,
        how="from counted events",
        note=f"{_reasons(comparison)}Rates are spikes, or graded messages, per neuron and step. These, and all that "
        "they cause, scale with the rate; neuron updates, and what the inputs cause, do not."
        " “no rate”: these alone cost more than the ANN.",
    )


def _reasons(comparison: Comparison) -> str:
    """Return the reasons for unknown rates, each once, on lines of their own."""
    found = dict.fromkeys(
        f"{even.spiking.name}: {even.because.partition(';')[0]}." for even in comparison.break_even if even.because
    )
    return "".join(f"{text}\n" for text in found)


def _rate(rate: float) -> str:
    return "none" if rate <= 0 else "any" if rate >= 1 else percent(rate)


def thresholds(comparison: Comparison) -> Table:
    """Return the published conditions for a spiking network to win, and this network's values."""
    rows = tuple(
        (item.condition, f"{number(item.value)} {item.unit}", item.reading, item.source)
        for item in comparison.thresholds
    )
    return Table(
        "Against published conditions", ("condition", "this network", "reading", "source"), rows, basis=Basis.COUNTED
    )


def measurements(items: Iterable[Measurement | NotMeasured]) -> Table:
    """Return the energies that instruments measured; reasons for missing ones are in the note."""
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
    return Table("Energy that was measured", columns, tuple(rows), basis=Basis.MEASURED, note="\n".join(missing))
