"""GPUs and CPUs: dense MACs times the energy of one MAC.

The energy comes from one measured workload, ``E = dense MACs · e_mac``, or from the data sheet,
``E = 2 · dense MACs · TDP / peak``: the best case, at peak rate and nominal power. A spiking layer
does its dense MACs in every step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ashneuro.cost.profile import HardwareProfile, Range
from ashneuro.cost.terms import CostEstimate, Term
from ashneuro.cost.workload import Workload
from ashneuro.errors import ProfileError


def estimate_processor(workload: Workload, profile: HardwareProfile, precision: str) -> CostEstimate:
    """Return the estimate of one inference on a GPU or CPU.

    Raises:
        ProfileError: the profile has no price at this precision.
    """
    return CostEstimate.from_terms(profile, precision, _processor_terms(workload, profile, precision))


def precisions(profile: HardwareProfile) -> tuple[str, ...]:
    """Return the precisions that a GPU's or CPU's profile can price, the preferred one first."""
    # The measured workloads computed in floating point.
    measured = profile.energy.get("mac")
    if measured is not None and measured.citable:
        return ("fp32",)
    if profile.citable("power.tdp") is None:
        return ()
    return tuple(key for key in ("int8", "fp32", "fp16") if profile.citable(f"peak.{key}") is not None)


def unpriced(workload: Workload, profile: HardwareProfile, precision: str) -> CostEstimate:
    """Return an estimate without energies, for a precision that the profile cannot price."""
    because = why_unpriced(profile, precision)
    terms = tuple(
        Term(layer.name, "mac", layer.dense_macs / workload.samples, None, because) for layer in workload.layers
    )
    return CostEstimate.from_terms(profile, precision, terms)


def why_unpriced(profile: HardwareProfile, precision: str) -> str:
    """Return the reason why a profile cannot price a precision."""
    return f"{profile.name} cannot price {precision}: {_known_rates(profile)}"


def _known_rates(profile: HardwareProfile) -> str:
    rates = ", ".join(name for name, known in profile.peak.items() if known.citable) or "nothing"
    power = "no" if profile.citable("power.tdp") is None else "a"
    return (
        f"the profile has peak rates for {rates} and {power} thermal design power; what was recalled, and its "
        "writer's estimates, are not used"
    )


def _processor_terms(workload: Workload, profile: HardwareProfile, precision: str) -> Iterator[Term]:
    key = "int8" if re.fullmatch(r"int[1-8]", precision) else precision
    measured = profile.energy.get("mac")
    if measured is not None and measured.citable:
        for layer in workload.layers:
            macs = layer.dense_macs / workload.samples
            energy = macs * measured.range
            yield Term(layer.name, "mac", macs, energy, formula="dense MACs × energy.mac", quantities=("energy.mac",))
        return
    power, rate = profile.citable("power.tdp"), profile.citable(f"peak.{key}")
    if power is None or rate is None:
        raise ProfileError(
            f"{profile.name}: cannot price {precision}",
            _known_rates(profile),
            f"choose a precision that it has, or add power.tdp and peak.{key} to the profile",
        )
    # A data sheet gives one number each, so there is no spread; a MAC is two operations.
    joules = power.range.high / rate.range.low
    used = ("power.tdp", f"peak.{key}")
    for layer in workload.layers:
        macs = layer.dense_macs / workload.samples
        energy = 2 * macs * joules * Range(1.0, 1.0, 1.0)
        yield Term(layer.name, "mac", macs, energy, formula="2 · dense MACs · TDP / peak rate", quantities=used)
