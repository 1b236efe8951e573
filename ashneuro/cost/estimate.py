"""Energy and time of one inference, from counts and a hardware profile. Start at `estimate`.

Every number is a range (low, typical, high), and every estimate says what it leaves out. Measured
numbers have a type of their own, `ashneuro.cost.measure.Measurement`: the two are never added.
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

# Neuromorphic chips are not here: they have one arithmetic, their own.
WITH_PRECISION = {"asic": estimate_asic, "gpu": estimate_processor, "cpu": estimate_processor}


def estimate(
    workload: Workload,
    profile: HardwareProfile,
    precision: str = NATIVE,
    *,
    with_estimates: bool = False,
    step_time_s: float | None = None,
    deployment: Deployment | None = None,
    x86_cores: int | None = None,
) -> CostEstimate:
    """Return energy and time of one inference of ``workload`` on the hardware of ``profile``.

    The rules depend on the kind of hardware; its module has them: `ashneuro.cost.neuromorphic`,
    `ashneuro.cost.asic`, `ashneuro.cost.processor` (GPUs and CPUs).

    Args:
        workload: counts; a neuromorphic profile takes the deployed part alone.
        profile: the hardware.
        precision: ``"fp32"``, ``"fp16"``, ``"int8"``, or ``"intB"`` for B-bit activations with
            8-bit weights; not used for neuromorphic chips.
        with_estimates: also use unsourced estimates by the profile's author.
        step_time_s: seconds per time step, if known better than from the profile.
        deployment: placement and traffic on the chip (`ashneuro.cost.deployment.deploy`). Without
            it hops are unknown, and a step takes the profile's own range.
        x86_cores: x86 cores of a chip that the network uses, all chips together; by default the
            profile's own range.

    Raises:
        ProfileError: the profile cannot price this workload at this precision.
    """
    if profile.kind == "neuromorphic":
        return estimate_neuromorphic(
            workload,
            profile,
            with_estimates=with_estimates,
            step_time_s=step_time_s,
            deployment=deployment,
            x86_cores=x86_cores,
        )
    if precision == NATIVE:
        raise ProfileError(
            f"{profile.name}: no precision was given",
            "its energies are per arithmetic precision",
            "say fp32, fp16 or int8",
        )
    return WITH_PRECISION[profile.kind](workload, profile, precision)
