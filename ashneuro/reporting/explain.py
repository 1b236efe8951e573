"""A hardware profile and each of its numbers, in sentences."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ashneuro.cost.profile import CHECKS, EVENTS, INFERENCE, LIMITS, POWERED, USAGE, X86
from ashneuro.errors import ProfileError

if TYPE_CHECKING:
    from ashneuro.cost.profile import HardwareProfile, Quantity

MEANINGS = {
    "energy": EVENTS,
    "inference": INFERENCE,
    "x86": X86,
    "powered": POWERED,
    "usage": USAGE,
    "limits": LIMITS,
}
NEEDED = {
    "neuromorphic": (("synop", "synop_dense"), ("neuron_update_active",), ("neuron_update_inactive",)),
    "asic": (("mult_int8",), ("add_int8",), ("add_int32",), ("mult_fp32",), ("add_fp32",), ("sram_8kb",)),
    "gpu": (),
    "cpu": (),
}


def profile(chip: HardwareProfile) -> Iterator[str]:
    """Yield sentences about a profile: boundary, omissions, and the numbers that may be used."""
    yield f"{chip.name}: {chip.title}"
    yield f"boundary: {chip.boundary}"
    yield f"left out: {'; '.join(chip.excludes)}"
    yield chip.reads.replace("\n", " ").strip()
    included = {term for quantity in chip.energy.values() for term in quantity.includes}
    for keys in NEEDED[chip.kind]:
        found = next((chip.energy[key] for key in keys if key in chip.energy), None)
        if found is None and keys[0].startswith("neuron_update") and "neuron update" in included:
            continue
        if found is None:
            yield f"not estimable: energy.{keys[0]} ({EVENTS[keys[0]]}) is not known, so no dynamic energy is given"
        elif not found.citable:
            yield f"not used unasked: energy.{keys[0]}, because {_kept_out(found)}"
    quantities = dict(chip.quantities())
    unopened = [path for path, quantity in quantities.items() if not quantity.headline]
    yield f"{len(quantities)} numbers, {len(quantities) - len(unopened)} from sources that were opened"
    if unopened:
        yield f"kept out of headlines: {', '.join(unopened)}"
    yield f"one number in full: ashneuro profiles explain {chip.name} {next(iter(quantities), 'energy.synop')}"


def number(chip: HardwareProfile, path: str) -> Iterator[str]:
    """Yield sentences about one number of a profile: value, source, conditions, use.

    Raises:
        ProfileError: it has no such number.
    """
    quantities = dict(chip.quantities())
    quantity = quantities.get(path)
    if quantity is None:
        near = difflib.get_close_matches(path, quantities, n=1)
        raise ProfileError(
            f"{chip.name} has no number {path!r}",
            f"it has {', '.join(quantities)}" + (f"; did you mean {near[0]}?" if near else ""),
            f"ashneuro profiles show {chip.name}",
        )
    table, key = path.split(".", 1)
    meaning = MEANINGS.get(table, {}).get(key)
    yield f"{chip.name} {path}" + (f": {meaning}" if meaning else "")
    yield f"value: {_text(quantity.value)} {quantity.unit}, from {_text(quantity.low)} to {_text(quantity.high)}"
    yield f"covers: {quantity.covers}"
    if quantity.excludes:
        yield f"excludes: {quantity.excludes}"
    if quantity.includes:
        yield f"includes, and so is not added again: {', '.join(quantity.includes)}"
    yield f"boundary: {quantity.boundary}; basis: {quantity.basis}; status: {quantity.status}"
    if quantity.fitted_on:
        yield f"fitted on: {', '.join(quantity.fitted_on)} (hardware_profiles/measured); it predicts none of these"
    if quantity.conditions:
        yield f"conditions: {quantity.conditions}"
    source = chip.sources[quantity.source]
    yield f"source: {source.title}. {source.link}"
    yield f"where: {quantity.locator}"
    yield f"check {quantity.check}: {CHECKS[quantity.check]}"
    if quantity.bounds_from:
        yield f"bounds: {quantity.bounds_from}"
    if quantity.note:
        yield f"note: {quantity.note}"
    if not quantity.citable:
        yield f"estimates leave it out, because {_kept_out(quantity)}"
    elif not quantity.headline:
        yield "estimates use it; no headline rests on it, because its source was not opened"


def _kept_out(quantity: Quantity) -> str:
    return "it is an estimate of the profile's writer" if quantity.status == "estimate" else CHECKS[quantity.check]


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:,.12g}"
