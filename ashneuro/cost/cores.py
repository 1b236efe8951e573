"""Core capacities of hardware profiles, for the placement."""

from __future__ import annotations

from ashneuro.cost.profile import HardwareProfile
from ashneuro.errors import ProfileError
from ashneuro.program.placement.placement import CoreLimits

NEEDED = ("cores_per_chip", "neurons_per_core", "synapse_words_per_core", "synapse_bits", "shared_weight_bits")


def can_place(profile: HardwareProfile) -> bool:
    """Return True if the profile knows enough of a core to place a network on it."""
    return all(key in profile.limits for key in NEEDED)


def core_limits(profile: HardwareProfile) -> CoreLimits:
    """Return the capacities of one core and the mesh, at their typical values.

    Raises:
        ProfileError: the profile lacks a capacity that a placement needs.
    """
    if not can_place(profile):
        missing = ", ".join(f"limits.{key}" for key in NEEDED if key not in profile.limits)
        raise ProfileError(
            f"{profile.name}: networks cannot be placed on it",
            f"the profile lacks {missing}",
            "choose loihi1 or loihi2",
        )

    def number(key: str) -> float | None:
        quantity = profile.limits.get(key)
        if quantity is None:
            return None
        # Of a capacity known only between bounds, the smaller one surely exists.
        return quantity.range.low if quantity.range.typical is None else quantity.range.typical

    def whole(key: str) -> int | None:
        found = number(key)
        return None if found is None else round(found)

    return CoreLimits(
        chip=profile.title,
        neurons=whole("neurons_per_core") or 0,
        synapse_words=whole("synapse_words_per_core") or 0,
        synapse_bits=number("synapse_bits") or 0.0,
        axon_bits=number("axon_bits") or 0.0,
        shared_weight_bits=number("shared_weight_bits") or 0.0,
        in_axons=whole("in_axons_per_core"),
        out_axons=whole("out_axons_per_core"),
        shared_in_axons="shared_in_axons" in profile.limits,
        cores_per_tile=whole("cores_per_tile") or 1,
        tiles_wide=whole("tiles_wide") or whole("cores_per_chip") or 1,
        cores_per_chip=whole("cores_per_chip") or 1,
        chips_per_board=whole("chips_per_board"),
    )
