"""The verdict: the side that needs less energy on one node, by how much, or why it is undecided."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto

from ashneuro.cost.comparison.contenders import Contender, Group, Role
from ashneuro.cost.profile import CASES, Case, HardwareProfile
from ashneuro.cost.terms import energy_text
from ashneuro.cost.workload import Workload


class Winner(StrEnum):
    """The side that needs less energy; an SNN without a host part wins as ``HYBRID``."""

    HYBRID = "hybrid"
    ANN = "ann"
    UNDECIDED = "undecided"


class VerdictCase(Enum):
    """Reason for a verdict."""

    HYBRID_WINS = auto()
    ANN_WINS = auto()
    DEPENDS_ON_REUSE = auto()
    MORE_ACCURATE = auto()
    NOT_PRICED = auto()
    SOURCES_NOT_OPENED = auto()
    SILENT_LAYERS = auto()

    @property
    def winner(self) -> Winner:
        """The winner in this case."""
        return WINNERS.get(self, Winner.UNDECIDED)


WINNERS = {VerdictCase.HYBRID_WINS: Winner.HYBRID, VerdictCase.ANN_WINS: Winner.ANN}
REUSE = {"low": "with perfect reuse", "typical": "in the typical case", "high": "without reuse"}


@dataclass(frozen=True)
class Match:
    """One spiking network against the cheapest ANN that is as accurate, on one node.

    Args:
        spiking, ann: the networks. Where no ANN is as accurate, the most accurate one.
        reached: True if the ANN is as accurate.
        ratios: energy of the spiking network / that of the ANN, by case; without unknown cases.
    """

    spiking: Contender
    ann: Contender
    reached: bool
    ratios: Mapping[Case, float]


def match(group: Group, ours: Contender) -> Match:
    """Return ``ours`` against its rival among the integer ANNs of a group.

    Where the accuracy of ours is known, it is the cheapest ANN that is as accurate: any whose
    accuracy is known, or a twin of the first network whose accuracy is not. Else it is the cheapest
    twin.
    """
    anns = [who for who in group.contenders if who.is_integer_twin or (ours.accuracy and who.is_measured_ann)]
    able = [who for who in anns if who.accuracy is None or ours.accuracy is None or who.accuracy.reaches(ours.accuracy)]
    # A network without a typical value is never the cheapest.
    ann = (
        min(able, key=lambda who: getattr(who.total_j, "typical", None) or math.inf)
        if able
        else max(anns, key=lambda who: who.accuracy.value if who.accuracy else 0.0)
    )
    mine, theirs = ours.total_j, ann.total_j
    ratios: dict[Case, float] = {}
    if mine is not None and theirs is not None:
        known = [case for case in CASES if getattr(mine, case) is not None and getattr(theirs, case)]
        ratios = {case: getattr(mine, case) / getattr(theirs, case) for case in known}
    return Match(ours, ann, bool(able), ratios)


def matches(group: Group) -> tuple[Match, ...]:
    """Return a match per spiking network in integers whose accuracy is known.

    Twins are of the first network's topology: another one meets those whose accuracy is known.
    """
    first, *further = group.contenders
    found = [match(group, first)] if first.accuracy else []
    measured = replace(group, contenders=tuple(who for who in group.contenders if who is first or who.accuracy))
    if any(who.is_integer_twin or who.is_measured_ann for who in measured.contenders):
        others = (who for who in further if who.role is Role.OTHER and who.spiking and who.accuracy)
        found += [match(measured, who) for who in others]
    return tuple(found)


def rival(group: Group) -> Contender:
    """Return the ANN that the verdict compares the first network with."""
    return match(group, group.contenders[0]).ann


def decide(group: Group, hybrid: Workload, node: HardwareProfile) -> tuple[VerdictCase, str]:
    """Return the verdict on one node, and its sentence.

    Args:
        group: the contenders on the node, ours first.
        hybrid: our workload.
        node: profile of the node.
    """
    ours = group.contenders[0]
    found = match(group, ours)
    twin, ratios = found.ann, found.ratios
    if ours.total_j is None or twin.total_j is None:
        return VerdictCase.NOT_PRICED, f"Undecided: {node.name} cannot price both sides."
    sides = _sides(group, found, node)
    if not all(part.headline for who in (ours, twin) for part in (who.host, who.deployed) if part):
        because = f"sources of {node.name}'s numbers were not opened"
        return VerdictCase.SOURCES_NOT_OPENED, f"Undecided, because {because}: {sides}."
    # A silent layer saves energy by doing nothing: its ANN twin would have to work.
    silent = [layer.name for layer in hybrid.layers if layer.kind == "snn" and layer.firing_rate == 0]
    if silent:
        because = f"{', '.join(silent)} never spiked and did no work that an ANN would have to do"
        return VerdictCase.SILENT_LAYERS, f"Undecided, because {because}: {sides}."
    if not found.reached and any(ratio >= 1 for ratio in ratios.values()):
        because = f"no ANN here is as accurate as the {ours.title}, which takes more energy than the most accurate one"
        return VerdictCase.MORE_ACCURATE, f"Undecided, because {because}: {sides}."
    if all(ratio > 1 for ratio in ratios.values()):
        return VerdictCase.ANN_WINS, f"The ANN wins by {_times(ratios.values())} times: {sides}."
    if all(ratio < 1 for ratio in ratios.values()):
        return VerdictCase.HYBRID_WINS, f"The {ours.title} wins by {_times(ratios.values())} times: {sides}."
    cases = ", ".join(f"{REUSE[case]} the {'ANN' if ratio > 1 else ours.title}" for case, ratio in ratios.items())
    because = f"it depends on how data are reused: {cases} wins"
    return VerdictCase.DEPENDS_ON_REUSE, f"Undecided, because {because}; {sides}."


def _sides(group: Group, found: Match, node: HardwareProfile) -> str:
    ours, twin = found.spiking, found.ann
    shared = ""
    if ours.host is not None and ours.host_j == twin.host_j:
        share = energy_text(ours.host_j).partition(" (")[0]
        shared = f", of which the host part, the same on both sides, takes {share}"
    text = (
        f"the {ours.title} takes {energy_text(ours.total_j)} per inference, "
        f"{_named(found)} {energy_text(twin.total_j)}{shared}; "
        f"estimated from counted events on {node.name} ({group.boundary})"
    )
    own = next((who for who in group.contenders if who.role is Role.OWN_ANN), None)
    if own is not None:
        text = f"{text}; {own.name} takes {energy_text(own.total_j)}"
    metric = ", ".join(f"{who.title} {who.metric}" for who in (ours, twin) if who.metric)
    return f"{text}; task metric: {metric}" if metric else text


def _named(found: Match) -> str:
    """Return the ANN in words, with the reason why it is this one."""
    ann = found.ann
    name = f"its {ann.variant} {ann.title}" if ann.is_integer_twin else ann.name
    if found.spiking.accuracy is None:
        return name
    if not found.reached:
        return f"{name}, the most accurate ANN here,"
    if ann.accuracy is None:
        return f"{name}, the cheapest ANN here and of unmeasured accuracy,"
    return f"{name}, the cheapest ANN here that is as accurate,"


def _times(ratios: Iterable[float]) -> str:
    """Return the smallest and the largest factor between the sides, with two digits each."""
    factors = sorted(max(ratio, 1 / ratio) for ratio in ratios)
    return "–".join(dict.fromkeys(f"{float(f'{factor:.2g}'):,.10g}" for factor in (factors[0], factors[-1])))
