"""Contenders on one node, which decide, and on the chosen machines, which do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ashneuro.cost.comparison.contenders import Contender, Group
from ashneuro.cost.comparison.sides import Side, Sides
from ashneuro.cost.processor import precisions, why_unpriced
from ashneuro.cost.profile import HardwareProfile
from ashneuro.errors import ProfileError

Family = Literal["int", "fp"]
FAMILIES: tuple[Family, ...] = ("int", "fp")


def one_node(sides: Sides, node: HardwareProfile) -> Group:
    """Return all networks on one CMOS node; both sides are priced by the same rules."""

    def on_node(side: Side, precision: str) -> Contender:
        # Beside a low-bit ANN the host stays at 8 bits: only the ANN in place of spikes has fewer.
        host = precision if precision.startswith("fp") else "int8"
        return _contender(sides, side, node, host, precision)

    def priced(side: Side, precision: str) -> bool:
        try:
            sides.estimates.priced(side.deployed, node, precision)
        except ProfileError:
            return False
        return True

    rows = [
        on_node(sides.spiking, "int8"),
        on_node(sides.twin, "int8"),
        *([on_node(sides.low_bit, sides.low_bit_precision)] if sides.low_bit else []),
        *([on_node(sides.zero_skipping, "int8")] if sides.zero_skipping else []),
        *(on_node(own, "int8") for own in sides.own),
        *(on_node(other, other.precision) for other in sides.others),
        on_node(sides.spiking, "fp32"),
        on_node(sides.twin, "fp32"),
        *(on_node(own, precision) for precision in ("fp32", "fp16") for own in sides.own[:1] if priced(own, precision)),
    ]
    note = (
        "Both sides follow the same rules, so cases are compared one by one: low with low (perfect reuse of data), "
        "typical with typical (the ANN reuses, the spiking part fetches per event), high with high (no reuse)."
    )
    return Group(f"Everything on {node.title}", node.boundary, True, tuple(rows), note)


def two_machines(sides: Sides, chip: HardwareProfile | None, machines: Sequence[HardwareProfile]) -> Group:
    """Return the spiking part on a chip hosted by the first machine, and ANNs on all of them."""
    rows: list[Contender] = []
    for family in FAMILIES:
        if chip is not None:
            rows += _on_chip(sides, chip, machines[0] if machines else None, family)
        for machine in machines:
            precision = _shown_precision(machine, family)
            if precision is None:
                continue
            dense = [sides.twin, *sides.own[:1], *(other for other in sides.others if not other.spiking)]
            rows += [on_machine(sides, side, machine, precision) for side in dense]
        if not machines:
            break  # without a host there is one row: the chip has a single precision
    profiles = [*([chip] if chip else []), *machines]
    names = " and ".join(profile.title for profile in profiles)
    boundary = "; ".join(f"{profile.name}: {profile.boundary}" for profile in profiles)
    note = "Estimates at different boundaries: a sum over two machines is an orientation, and no winner is named here."
    gaps = (f" {why_unpriced(machine, 'fp32')}." for machine in machines if "fp32" not in precisions(machine))
    return Group(names, boundary, False, tuple(rows), note + "".join(gaps))


def on_machine(sides: Sides, side: Side, machine: HardwareProfile, precision: str) -> Contender:
    """Return a network that runs on a GPU or CPU as a whole."""
    return _contender(sides, side, machine, precision, precision, machine.name)


def preferred_precision(profile: HardwareProfile) -> str:
    """Return the precision for a comparison with a chip: integers where they have a price."""
    if profile.kind == "asic":
        return "int8"
    return _shown_precision(profile, "int") or _shown_precision(profile, "fp") or "fp32"


def _shown_precision(machine: HardwareProfile, family: Family) -> str | None:
    """Return the precision of a family that a machine shows; ``None`` if the family has no price.

    A machine without any price is shown once, in fp32, without energies.
    """
    known = [key for key in precisions(machine) if key.startswith(family)]
    return known[0] if known else "fp32" if family == "fp" and not precisions(machine) else None


def _on_chip(sides: Sides, chip: HardwareProfile, host: HardwareProfile | None, family: Family) -> list[Contender]:
    precision = _shown_precision(host, family) if host is not None else "int8"
    if precision is None:
        return []
    side = sides.spiking
    on_host = sides.estimates.of(side.host, host, precision) if host and side.host.layers else None
    machine = host.name if host and on_host else ""
    on_chip = sides.estimates.on_chip(side.deployed, chip)
    return [Contender(side.role, precision, on_host, on_chip, side.spiking, machine, chip.name, metric=side.metric)]


def _contender(
    sides: Sides,
    side: Side,
    profile: HardwareProfile,
    host_precision: str,
    precision: str,
    machine: str = "",
) -> Contender:
    host = sides.estimates.of(side.host, profile, host_precision) if side.host.layers else None
    deployed = sides.estimates.of(side.deployed, profile, precision) if side.deployed.layers else None
    return Contender(
        side.role,
        precision,
        host,
        deployed,
        side.spiking,
        machine,
        network=side.network,
        metric=side.metric,
        accuracy=side.accuracy,
    )
