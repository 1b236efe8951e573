"""A comparison in brief as bars of text, one per network, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ashneuro.reporting.tables.table import common_unit, number, three_digits

if TYPE_CHECKING:
    from ashneuro.cost.comparison.brief import Brief
    from ashneuro.cost.comparison.contenders import Contender

WIDTH = 32
HOST, SPIKING, ANN = "█", "▓", "░"


def bars(found: Brief) -> Iterator[str]:
    """Yield a line per network: its parts as a bar of `WIDTH` characters at most, and the range.

    Bars are typical energies on one scale; a part that is not zero has one character at least. A
    network without a typical value has no bar.
    """
    unit = common_unit([who.total_j for _, who in found.rows])
    longest = max((_typical(who) for _, who in found.rows), default=0.0)
    names = found.names()
    width = max(map(len, names), default=0)
    yield f"Energy per inference, {HOST} host  {SPIKING} spiking part  {ANN} ANN in its place"
    for name, (_, who) in zip(names, found.rows, strict=True):
        yield f"  {name:<{width}}  {_bar(who, longest):<{WIDTH}}  {_text(who, unit)}".rstrip()
    if said := found.sentence():
        yield f"  {said}"


def _typical(who: Contender) -> float:
    return (who.total_j.typical or 0.0) if who.total_j else 0.0


def _bar(who: Contender, longest: float) -> str:
    if not _typical(who) or who.host_j is None or who.deployed_j is None:
        return ""
    parts = ((HOST, who.host_j.typical), (SPIKING if who.spiking else ANN, who.deployed_j.typical))
    return "".join(sign * max(1, round(WIDTH * joules / longest)) for sign, joules in parts if joules)[:WIDTH]


def _text(who: Contender, unit: tuple[float, str]) -> str:
    total = who.total_j
    if total is None:
        return "not estimable"
    low, high = (number(three_digits(value * unit[0])) for value in (total.low, total.high))
    if total.typical is None or total.is_point:
        return f"{low} – {high} {unit[1]}" if low != high else f"{low} {unit[1]}"
    return f"{number(three_digits(total.typical * unit[0]))} {unit[1]} ({low} – {high})"
