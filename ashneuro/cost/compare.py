"""A hybrid against ANNs that do the same job: who needs less energy, at which boundary, and from which firing rate on.

The host part is on both sides. Only numbers of one node and one boundary decide; others are shown apart and say so.
Start at `compare`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ashneuro.cost.comparison.break_even import BreakEven, chip_break_even, node_break_even
from ashneuro.cost.comparison.contenders import Group, Role
from ashneuro.cost.comparison.conventions import Convention, conventions
from ashneuro.cost.comparison.groups import one_node, two_machines
from ashneuro.cost.comparison.sides import OtherNetwork, Sides
from ashneuro.cost.comparison.thresholds import Threshold, thresholds
from ashneuro.cost.comparison.verdict import VerdictCase, Winner, decide
from ashneuro.cost.profile import HardwareProfile
from ashneuro.cost.terms import CostEstimate
from ashneuro.cost.workload import Workload


@dataclass(frozen=True)
class Comparison:
    """The whole answer.

    Args:
        verdict: one sentence: who wins, by how much, at which boundary, on which basis.
        winner: who needs less energy on one node.
        case: why the verdict is what it is.
        groups: contenders; like with like first.
        break_even: per platform and twin.
        firing_rate: this model's spikes per neuron and step.
        thresholds: published conditions.
        notes: rules that the numbers follow.
        conventions: the same comparison counted in three ways: arithmetic alone, events, total with host and static power.
    """

    verdict: str
    winner: Winner
    case: VerdictCase
    groups: tuple[Group, ...]
    break_even: tuple[BreakEven, ...]
    firing_rate: float | None
    thresholds: tuple[Threshold, ...]
    notes: tuple[str, ...] = ()
    conventions: tuple[Convention, ...] = ()


def compare(
    hybrid: Workload,
    twin: Workload,
    *,
    node: HardwareProfile,
    chips: Sequence[HardwareProfile] = (),
    machines: Sequence[HardwareProfile] = (),
    others: Iterable[OtherNetwork] = (),
    estimates: Mapping[str, CostEstimate] | None = None,
    metrics: Mapping[Role, str] | None = None,
) -> Comparison:
    """Return ``hybrid`` against its ANN twins: fp32, int8 and ⌈log2(T+1)⌉ bits.

    Args:
        hybrid: host part and deployed part, counted.
        twin: the ANN of the same topology with the same host part (`ashneuro.cost.workload.ann_twin`).
        node: profile of kind ``"asic"`` on which both sides are priced alike; it decides.
        chips: neuromorphic profiles for the deployed part, each shown apart.
        machines: GPU and CPU profiles for host and twins, shown apart; the first is the host of the chips.
        others: further networks: the one without an abstract encoder, other runs.
        estimates: of the hybrid's deployed part, by name of the chip's profile; with a placement they hold hops and the time of a
            step. What is not given is estimated without a placement.
        metrics: the task metric in words, by role: `Role.HYBRID` (with or without a host part), `Role.ANN_TWIN`,
            `Role.LOW_BIT_TWIN`.

    Raises:
        ProfileError: a profile is of the wrong kind, or lacks a number that both sides need.
    """
    sides = Sides.of(hybrid, twin, others, metrics or {}, estimates or {})
    groups = [one_node(sides, node)]
    even = list(node_break_even(sides, node))
    for chip in chips:
        groups.append(two_machines(sides, chip, machines))
        even += chip_break_even(sides, chip, node, machines)
    if machines and not chips:
        groups.append(two_machines(sides, None, machines))
    case, verdict = decide(groups[0], hybrid, node)
    parts = [part for group in groups for who in group.contenders for part in (who.host, who.deployed) if part]
    return Comparison(
        verdict=verdict,
        winner=case.winner,
        case=case,
        groups=tuple(groups),
        break_even=tuple(even),
        firing_rate=hybrid.firing_rate,
        thresholds=tuple(thresholds(hybrid)),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        conventions=tuple(conventions(sides, groups[0], chips, machines)),
    )
