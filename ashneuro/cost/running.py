"""Costs of a running chip besides events: resets, x86 cores, powered cores.

``E = cores·e_core + t·n_x86·(P_clock + a·P_code) + t·(chips·P_chip + cores·P_core)`` per inference,
with ``t`` its seconds, ``n_x86`` the x86 cores in use and ``a`` the share of time in which they run
code. Every price is a `Quantity` of the profile; a price that it lacks adds nothing. Reports
(`ashneuro.cost.neuromorphic`) and the comparison with measured chips (`ashneuro.cost.validate`)
use the same functions. Start at `additions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ashneuro.cost.profile import HardwareProfile, Range
from ashneuro.cost.terms import Addition

# Shares of time lie in 0…1, where nobody measured one.
ANY_SHARE = Range(0.0, None, 1.0)
# Terms by the path of their price.
NAMES = {"inference.core": "per inference", "x86.clock": "x86 clock", "x86.code": "x86 code"}


@dataclass(frozen=True)
class Usage:
    """Use of the chips by one network.

    Args:
        seconds: of one inference; ``None`` where unknown.
        cores: neuromorphic cores in use; ``None`` where it was not placed.
        chips: chips in use.
        x86_cores: x86 cores in use, all chips together; ``None``: the profile's own range.
        x86_active: share of time in which they run code, 0 to 1.
        copies: equal networks that share the chips, each with ``cores`` of its own. What is per
            chip is divided by them.
    """

    seconds: Range | None
    cores: Range | None = None
    chips: int = 1
    x86_cores: Range | None = None
    x86_active: Range = ANY_SHARE
    copies: int = field(default=1, kw_only=True)


def additions(profile: HardwareProfile, usage: Usage) -> Iterator[Addition]:
    """Yield the dynamic costs besides events that a profile has a price for, per inference."""
    for path, name in NAMES.items():
        quantity = profile.citable(path)
        energy = None if quantity is None else term(profile, path, usage)
        if quantity is not None and energy is not None:
            used = (path, "usage.x86_cores") if path.startswith("x86") and usage.x86_cores is None else (path,)
            yield Addition(name, energy, _formula(path, usage), used, quantity.fitted_on)


def term(profile: HardwareProfile, path: str, usage: Usage) -> Range | None:
    """Return joules per inference of the price at ``path``; ``None`` without price, time or cores.

    Args:
        path: ``inference.core``, ``x86.clock``, ``x86.code``, ``powered.core``, ``powered.chip``,
            ``static.NAME`` or ``overhead.NAME``.
    """
    quantity, factor = profile.quantity(path), coefficient(profile, path, usage)
    return None if quantity is None or factor is None else factor * quantity.range


def coefficient(profile: HardwareProfile, path: str, usage: Usage) -> Range | None:
    """Return the factor of the price at ``path``: cores, or seconds × what draws the power."""
    table, _, key = path.partition(".")
    per_chip = 1 / usage.copies
    if table == "inference":
        return usage.cores
    if usage.seconds is None:
        return None
    if path == "powered.core":
        return None if usage.cores is None else usage.seconds * usage.cores
    # A running overhead was measured for a whole board, so it is not multiplied by chips.
    if table != "x86":
        return (per_chip if table == "overhead" else per_chip * usage.chips) * usage.seconds
    cores, assumed = usage.x86_cores, profile.citable("usage.x86_cores")
    if cores is None and assumed is not None:
        cores = usage.chips * assumed.range
    if cores is None:
        return None
    if key == "clock":
        return per_chip * (usage.seconds * cores)
    # Whether one of them or all of them run code depends on the network's own snippets.
    busy = Range(min(1.0, cores.low), cores.typical if cores.typical == 1 else None, cores.high)
    return per_chip * (usage.seconds * busy * usage.x86_active)


def _formula(path: str, usage: Usage) -> str:
    if path == "inference.core":
        return "cores in use × inference.core"
    number = "x86 cores" if usage.x86_cores is None else f"{usage.x86_cores.high:g} x86 core(s), as stated,"
    return f"time × {number} × {path}" + (" × share of time" if path == "x86.code" else "")
