"""A hybrid against ANNs that do the same job: energy, verdict, break-even. Start at `compare`.

The host part is on both sides. Only numbers of one node and one boundary decide; all others are
shown apart and say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ashneuro.cost.comparison.accuracy import Accuracy
from ashneuro.cost.comparison.break_even import BreakEven, chip_break_even, node_break_even
from ashneuro.cost.comparison.brief import Brief, brief
from ashneuro.cost.comparison.contenders import Group, Role
from ashneuro.cost.comparison.conventions import Convention, conventions
from ashneuro.cost.comparison.groups import one_node, two_machines
from ashneuro.cost.comparison.sides import OtherNetwork, Sides
from ashneuro.cost.comparison.thresholds import Threshold, thresholds
from ashneuro.cost.comparison.verdict import Match, VerdictCase, Winner, decide, matches
from ashneuro.cost.own.network import OwnAnn
from ashneuro.cost.profile import HardwareProfile
from ashneuro.cost.second_opinion import SecondOpinion
from ashneuro.cost.terms import CostEstimate
from ashneuro.cost.workload import Workload
from ashneuro.display import Plotted
from ashneuro.program.assumption import Assumptions


@dataclass(frozen=True, repr=False)
class Comparison(Plotted):
    """The result of a comparison.

    Args:
        verdict: one sentence: winner, factor, boundary, basis.
        winner: the side that needs less energy on one node.
        case: reason for the verdict.
        groups: contenders; the group on one node, which decides, comes first.
        break_even: break-even firing rates, per hardware and twin.
        firing_rate: this network's spikes per neuron and step.
        thresholds: published conditions.
        notes: rules that the numbers follow.
        conventions: the comparison under each convention of counting.
        assumptions: what the spiking network's source left open.
        second_opinions: estimates of the deployed part by other models; no verdict rests on them.
        matches: each spiking network whose accuracy is known, against the cheapest ANN as accurate.
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
    assumptions: Assumptions = ()
    second_opinions: tuple[SecondOpinion, ...] = ()
    matches: tuple[Match, ...] = ()

    @property
    def brief(self) -> Brief:
        """The comparison on the node in at most four networks."""
        return brief(self.groups[0], self.break_even, self.firing_rate)


def compare(
    hybrid: Workload,
    twin: Workload,
    *,
    node: HardwareProfile,
    chips: Sequence[HardwareProfile] = (),
    machines: Sequence[HardwareProfile] = (),
    others: Iterable[OtherNetwork] = (),
    estimates: Mapping[str, CostEstimate] | None = None,
    own: OwnAnn | None = None,
    metrics: Mapping[Role, str] | None = None,
    accuracies: Mapping[Role, Accuracy] | None = None,
) -> Comparison:
    """Compare ``hybrid`` with its twins in fp32, int8 and ⌈log2(T+1)⌉ bits, and with other ANNs.

    Args:
        hybrid: counts of the host part and the deployed part.
        twin: the ANN of the same topology with the same host part
            (`ashneuro.cost.workload.ann_twin`).
        node: profile of kind ``"asic"``; both sides are priced on it by the same rules, and it
            decides.
        chips: neuromorphic profiles for the deployed part, each shown apart.
        machines: GPU and CPU profiles for host and twins, shown apart; the first one hosts the
            chips.
        others: further networks, such as other runs or one without an abstract encoder.
        estimates: estimates of the hybrid's deployed part that were made already, by name of the
            chip's profile, e.g. with a placement. The others are made here, without one.
        own: the user's own ANN, which does the whole job; shown beside the twins, which decide.
        metrics: task metrics in words: of `Role.HYBRID` (with or without a host part),
            `Role.ANN_TWIN` and `Role.LOW_BIT_TWIN`.
        accuracies: accuracies of the same. With that of the hybrid, the verdict is against the
            cheapest ANN that is as accurate (`Accuracy.reaches`), whatever its topology; a twin
            whose accuracy is not known counts as accurate enough.

    Raises:
        ProfileError: a profile is of the wrong kind, or lacks a number that both sides need.
    """
    sides = Sides.of(hybrid, twin, others, metrics or {}, estimates or {}, own, accuracies)
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
        matches=matches(groups[0]),
        groups=tuple(groups),
        break_even=tuple(even),
        firing_rate=hybrid.firing_rate,
        thresholds=tuple(thresholds(hybrid)),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        conventions=tuple(conventions(sides, groups[0], chips, machines)),
    )
