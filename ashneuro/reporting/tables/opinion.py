"""Second opinions: another model's energy and time beside ours, and what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ashneuro.cost.profile import Range
from ashneuro.cost.second_opinion import parts
from ashneuro.reporting.tables.proof import sanafe
from ashneuro.reporting.tables.table import NOTHING, Table, common_unit, joules, number, three_digits
from ashneuro.reporting.words import Basis

if TYPE_CHECKING:
    from ashneuro.cost.second_opinion import SecondOpinion


def second_opinion(opinion: SecondOpinion) -> tuple[Table, ...]:
    """Return energy and time, the counted events, and the comparison of the spikes."""
    return _costs(opinion), _events(opinion), sanafe(opinion.spikes)


def _costs(opinion: SecondOpinion) -> Table:
    ours, same = parts(opinion.ours), parts(opinion.same_prices)
    unit = common_unit([opinion.ours.dynamic_j, Range(opinion.dynamic_j, opinion.dynamic_j, opinion.dynamic_j)])
    lines = [(part, ours.get(part), same.get(part), theirs) for part, theirs in opinion.parts_j.items()]
    lines.append(("all events", opinion.ours.dynamic_j, opinion.same_prices.dynamic_j, opinion.dynamic_j))
    rows = [(f"{name}, {unit[1]}", *_line(own, priced, theirs, unit)) for name, own, priced, theirs in lines]
    seconds = (1e6, "µs")
    rows += [
        (f"{name}, µs", *_line(own, priced, theirs, seconds))
        for name, own, priced, theirs in (
            ("time per inference", opinion.ours.time_s, opinion.same_prices.time_s, opinion.time_s),
            ("first input to last output", opinion.ours.latency_s, opinion.same_prices.latency_s, opinion.latency_s),
        )
    ]
    columns = (
        "per inference",
        f">{opinion.ours.profile}",
        ">low – high",
        f">our counts, {opinion.same_prices.profile}",
        f">{opinion.model}",
        ">ratio to ours",
    )
    return Table(
        f"A second opinion: {opinion.model}",
        columns,
        tuple(rows),
        basis=Basis.ESTIMATED,
        how=f"by two models, on the same {opinion.samples} samples; neither averaged nor added",
        note=f"Boundary of both: cores and mesh, dynamic energy. {_left_out(opinion)}Where the two columns on the "
        "right agree, the models differ in their prices alone (docs/validation.md).",
    )


def _left_out(opinion: SecondOpinion) -> str:
    text = ""
    if opinion.injected_j:
        unit = common_unit([Range(opinion.injected_j, opinion.injected_j, opinion.injected_j)])
        spent = f"{number(three_digits(opinion.injected_j * unit[0]))} {unit[1]}"
        text += (
            f"SANA-FE's energy of the inputs' messages, {spent}, lies outside and is in no line; their time is in it. "
        )
    share = f"{100 * opinion.fill:.2g}"
    return f"{text}In {share} % of its steps the network fills or empties: their idle updates are in its energy. "


def _line(
    own: Range | None, priced: Range | None, theirs: float, unit: tuple[float, str]
) -> tuple[str, str, str, str, str]:
    """Return typical value and bounds of ours, ours with their prices, theirs, and the ratio."""
    typical, spread = joules(own, unit)
    same = (
        NOTHING
        if priced is None
        else " ".join(joules(priced, unit)[:1] if priced.typical else joules(priced, unit)[1:])
    )
    ratio = NOTHING
    if own is not None and own.typical:
        ratio = f"{number(float(f'{theirs / own.typical:.3g}'))} ×"
    return typical, spread, same, number(three_digits(theirs * unit[0])), ratio


def _events(opinion: SecondOpinion) -> Table:
    rows = tuple(
        (name, number(ours), number(theirs), "equal" if ours == theirs else f"{theirs - ours:+,.4g}")
        for name, (ours, theirs) in opinion.events.items()
    )
    columns = ("per inference", ">ours", f">{opinion.model}", ">difference")
    return Table("Events that the two models counted", columns, rows, basis=Basis.COUNTED)
