"""Streams: accuracy, messages and energy per frame, by frame rate and coding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ashneuro.cost.profile import Range
from ashneuro.exchange import Joules, StreamCoding, StreamEvaluation, StreamRate
from ashneuro.reporting.tables.table import Table, common_unit, joules, number, percent
from ashneuro.reporting.words import Basis

NAMES = {
    "changes": "by changes",
    "afresh": "graded, afresh",
    "dense": "ANN, dense",
    "pixels": "ANN, where pixels changed",
    "layers": "ANN, where inputs changed",
}
SIMULATORS = {"torch": "float64", "loihi": "integer emulator", "lava": "Lava"}


def stream(evaluation: StreamEvaluation) -> Table:
    """Return a row per frame rate and coding: work of the deployed part, energy with the host."""
    totals = [
        rate.total_j(coding, skipping=skipping)
        for rate in evaluation.rates
        for coding in rate.codings
        for skipping in (False, True)
    ]
    unit = common_unit(map(_range, totals))
    rows = [row for rate in evaluation.rates for row in _rate_rows(rate, unit)]
    columns = (
        "stream",
        ">R@1, %",
        "coding",
        ">messages",
        ">operations",
        f">deployed, {unit[1]}",
        f">with host, {unit[1]}",
        ">low – high",
        f">host skips, {unit[1]}",
        ">low – high",
    )
    where = f"{evaluation.clips} clips of {evaluation.source}, {SIMULATORS[evaluation.spikes_from]}"
    return Table(
        f"Streams of {evaluation.network}, per frame",
        columns,
        tuple(rows),
        basis=Basis.MEASURED,
        how=f", {where}; energy is estimated ({evaluation.profile})",
        note=_note(evaluation),
    )


def codings(found: Sequence[StreamCoding], profile: str) -> Table:
    """Return a row per coding of a network without a host."""
    unit = common_unit(_range(coding.energy) for coding in found)
    rows = [(*_coding(coding), *joules(_range(coding.energy), unit)) for coding in found]
    return Table(
        "Work per frame",
        ("coding", ">messages", ">operations", f">{unit[1]}", ">low – high"),
        tuple(rows),
        basis=Basis.COUNTED,
        how=f"; energy is estimated ({profile})",
    )


def _rate_rows(rate: StreamRate, unit: tuple[float, str]) -> Iterable[tuple[str, ...]]:
    frames = f"{number(round(rate.frames_per_s, 1))}/s, {percent(rate.changed_pixels)} of pixels change"
    recall = number(round(100 * rate.metrics["R@1"], 1))
    for index, coding in enumerate(rate.codings):
        whole, part = (joules(_range(rate.total_j(coding, skipping=skips)), unit) for skips in (False, True))
        first = (frames, recall) if not index else ("", "")
        yield (*first, *_coding(coding), joules(_range(coding.energy), unit)[0], *whole, *part)


def _coding(coding: StreamCoding) -> tuple[str, str, str]:
    messages = None if coding.messages is None else round(coding.messages)
    return NAMES[coding.coding], number(messages), number(round(coding.operations))


def _note(evaluation: StreamEvaluation) -> str:
    own = ", ".join(f"{100 * rate.own_metrics['R@1']:.1f}" for rate in evaluation.rates)
    exact = (
        "All codings compute the same values"
        if evaluation.threshold <= 1
        else f"Changes below {evaluation.threshold:g} levels are not sent, so no other coding computes these values"
    )
    return (
        f"{exact}; levels have {evaluation.bits} bits. Without levels the network has R@1 {own} %. "
        "Operations are products of messages with weights, or those of the outputs that an ANN computes; first frames "
        "are included. The host computes each frame whole, or skips what no changed pixel reaches."
    )


def _range(energy: Joules | None) -> Range | None:
    return None if energy is None else Range(energy.low, energy.typical, energy.high)
