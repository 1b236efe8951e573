"""Hardware profiles: every number with its source."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ashneuro.cost.profile import CHECKS, HardwareProfile, Quantity
from ashneuro.reporting.tables.table import NOTHING, Table

if TYPE_CHECKING:
    from ashneuro.cost.terms import CostEstimate


def overview(profiles: Iterable[HardwareProfile]) -> Table:
    """Return the profiles, a row each."""
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


def numbers(profile: HardwareProfile) -> Table:
    """Return every number of a profile with its source."""
    rows = tuple((path, *_quantity(quantity)) for path, quantity in profile.quantities())
    columns = ("number", ">value", ">low – high", "unit", "covers", "boundary", "basis", "check", "source, locator")
    notes = [profile.reads.replace("\n", " ").strip(), f"Left out: {'; '.join(profile.excludes)}."]
    notes += [f"{path}: {quantity.bounds_from}." for path, quantity in profile.quantities() if quantity.bounds_from]
    notes += [f"{key}: {source.title}. {source.link}" for key, source in profile.sources.items()]
    return Table(
        f"{profile.name}: {profile.title}", columns, rows, how=f"boundary: {profile.boundary}", note="\n".join(notes)
    )


def used(costs: Iterable[CostEstimate], profiles: Iterable[HardwareProfile]) -> Table:
    """Return every number of ``profiles`` that one of the estimates used, with its source."""
    known = {profile.name: profile for profile in profiles}
    paths: dict[tuple[str, str], None] = {}
    for cost in costs:
        own = [path for term in cost.terms for path in term.quantities]
        own += cost.time_from
        for whole in cost.totals:
            own += whole.quantities
        own += [path for item in cost.additions for path in item.quantities]
        paths |= dict.fromkeys((cost.profile, path) for path in own)
    rows = []
    for name, path in paths:
        quantity = known[name].quantity(path)
        if quantity is not None:
            value, spread, unit, covers, _, basis, check, where = _quantity(quantity)
            rows.append((name, path, value, spread, unit, covers, basis, check, where))
    columns = ("profile", "number", ">value", ">low – high", "unit", "covers", "basis", "check", "source, locator")
    note = "Checks: " + "; ".join(f"{level} {meaning}" for level, meaning in CHECKS.items()) + "."
    return Table("Every number that the estimates used", columns, tuple(rows), note=note)


def _quantity(quantity: Quantity) -> tuple[str, ...]:
    low = quantity.low if quantity.low is not None else quantity.value
    high = quantity.high if quantity.high is not None else quantity.value
    spread = NOTHING if low == high else f"{_exact(low)} – {_exact(high)}"
    value = NOTHING if quantity.value is None else _exact(quantity.value)
    basis = f"{quantity.basis}, {quantity.status}"
    where = f"{quantity.source}: {quantity.locator}"
    return value, spread, quantity.unit, quantity.covers, quantity.boundary, basis, quantity.check, where


def _exact(value: float | None) -> str:
    """Return a profile's number with all its digits."""
    return NOTHING if value is None else f"{value:,.12g}"
