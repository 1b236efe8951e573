"""Joules and seconds from counts and a profile: low, typical and high, per layer and term, with what is left out.

An estimate is never a measurement: `Measurement` is a type of its own, and the two do not add. Start at `estimate`.
"""

from __future__ import annotations

from ashneuro.cost.asic import estimate_asic
from ashneuro.cost.deployment import Deployment
from ashneuro.cost.neuromorphic import estimate_neuromorphic
from ashneuro.cost.processor import estimate_processor
from ashneuro.cost.profile import HardwareProfile
from ashneuro.cost.terms import NATIVE, CostEstimate
from ashneuro.cost.workload import Workload
from ashneuro.errors import ProfileError

# Machines that compute in a precision of the caller's choice; neuromorphic chips have only their own.
WITH_PRECISION = {"asic": estimate_asic, "gpu": estimate_processor, "cpu": estimate_processor}


def estimate(
    workload: Workload,
    profile: HardwareProfile,
    precision: str = NATIVE,
    *,
    with_estimates: bool = False,
    step_time_s: float | None = None,
    deployment: Deployment | None = None,
) -> CostEstimate:
    """Return what one inference of ``workload`` costs on ``profile``.

    neuromorphic: ``E = Σ_layers synops·e_synop + updates_active·e_active + updates_inactive·e_inactive + spikes·e_spike_out +
        messages·e_axon_out + messages within a tile·e_local + hops·e_hop``, then static power and running overhead × time.
        What the profile has no price for is named and left out; what is part of another price (`Quantity.includes`) is not added
        again; where active and inactive updates could not be told apart, low takes all as inactive and high all as active.
    asic: arithmetic, neuron updates or activation functions, and memory, each as its own term; rules in
        `mac_energy`, `ac_energy`, `update_energy`, `memory_energy`.
    gpu, cpu: ``E = dense MACs · e_mac`` of a measured workload, or ``2 · dense MACs · TDP / peak``: the best case of the data
        sheet. Spiking layers do their dense MACs every step.

    Args:
        workload: counts; host layers cannot be priced on a neuromorphic profile.
        profile: the chip.
        precision: ``"fp32"``, ``"fp16"``, ``"int8"``, or ``"intB"`` for B-bit activations with 8-bit weights; neuromorphic
            chips have only their own.
        with_estimates: also use numbers that are nobody's but the profile writer's estimate.
        step_time_s: seconds per time step, where it is known better than by the profile.
        deployment: where the network lies and what its spikes cause on the mesh (`deploy`); without it hops are unknown, and
            the time of a step is the profile's own range.

    Raises:
        ProfileError: the profile cannot price this workload at this precision.
    """
    if profile.kind == "neuromorphic":
        return estimate_neuromorphic(workload, profile, with_estimates, step_time_s, deployment)
    if precision == NATIVE:
        raise ProfileError(
            f"{profile.name}: no precision was given",
            "its energies are per arithmetic precision",
            "say fp32, fp16 or int8",
        )
    return WITH_PRECISION[profile.kind](workload, profile, precision)
