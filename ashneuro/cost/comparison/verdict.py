"""The verdict: the side that needs less energy on one node, by how much, or why it is undecided."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum, StrEnum, auto

from ashneuro.cost.comparison.contenders import Contender, Group, Role
from ashneuro.cost.profile import CASES, HardwareProfile
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
    NOT_PRICED = auto()
    SOURCES_NOT_OPENED = auto()
    SILENT_LAYERS = auto()

    @property
    def winner(self) -> Winner:
        """The winner in this case."""
        return WINNERS.get(self, Winner.UNDECIDED)


WINNERS = {VerdictCase.HYBRID_WINS: Winner.HYBRID, VerdictCase.ANN_WINS: Winner.ANN}
REUSE = {"low": "with perfect reuse", "typical": "in the typical case", "high": "without reuse"}


def rival(group: Group) -> Contender:
    """Return the cheapest of the integer ANN twins."""
    twins = [who for who in group.contenders if who.is_integer_twin]
    # A twin without a typical value is never the cheapest.
    return min(twins, key=lambda who: getattr(who.total_j, "typical", None) or math.inf)


def decide(group: Group, hybrid: Workload, node: HardwareProfile) -> tuple[VerdictCase, str]:
    """Return the verdict on one node, and its sentence.

    Args:
        group: the contenders on the node, ours first.
        hybrid: our workload.
        node: profile of the node.
    """
    ours, twin = group.contenders[0], rival(group)
    mine, theirs = ours.total_j, twin.total_j
    if mine is None or theirs is None:
        return VerdictCase.NOT_PRICED, f"Undecided: {node.name} cannot price both sides."
    known = [case for case in CASES if getattr(mine, case) is not None and getattr(theirs, case)]
    ratios = {case: getattr(mine, case) / getattr(theirs, case) for case in known}
    sides = _sides(group, ours, twin, node)
    if not all(part.headline for who in (ours, twin) for part in (who.host, who.deployed) if part):
        because = f"sources of {node.name}'s numbers were not opened"
        return VerdictCase.SOURCES_NOT_OPENED, f"Undecided, because {because}: {sides}."
    # A silent layer saves energy by doing nothing: its ANN twin would have to work.
    silent = [layer.name for layer in hybrid.layers if layer.kind == "snn" and layer.firing_rate == 0]
    if silent:
        because = f"{', '.join(silent)} never spiked and did no work that an ANN would have to do"
        return VerdictCase.SILENT_LAYERS, f"Undecided, because {because}: {sides}."
    if all(ratio > 1 for ratio in ratios.values()):
        return VerdictCase.ANN_WINS, f"The ANN wins by {_times(ratios.values())} times: {sides}."
    if all(ratio < 1 for ratio in ratios.values()):
        return VerdictCase.HYBRID_WINS, f"The {ours.title} wins by {_times(ratios.values())} times: {sides}."
    cases = ", ".join(f"{REUSE[case]} the {'ANN' if ratio > 1 else ours.title}" for case, ratio in ratios.items())
    because = f"it depends on how data are reused: {cases} wins"
    return VerdictCase.DEPENDS_ON_REUSE, f"Undecided, because {because}; {sides}."


def _sides(group: Group, ours: Contender, twin: Contender, node: HardwareProfile) -> str:
    shared = ""
    if ours.host is not None:
        share = energy_text(ours.host_j).partition(" (")[0]
        shared = f", of which the host part, the same on both sides, takes {share}"
    text = (
        f"the {ours.title} takes {energy_text(ours.total_j)} per inference, "
        f"its {twin.variant} {twin.title} {energy_text(twin.total_j)}{shared}; "
        f"estimated from counted events on {node.name} ({group.boundary})"
    )
    own = next((who for who in group.contenders if who.role is Role.OWN_ANN), None)
    if own is not None:
        text = f"{text}; {own.name} takes {energy_text(own.total_j)}"
    metric = ", ".join(f"{who.title} {who.metric}" for who in (ours, twin) if who.metric)
    return f"{text}; task metric: {metric}" if metric else text


def _times(ratios: Iterable[float]) -> str:
    """Return the smallest and the largest factor between the sides, with two digits each."""
    factors = sorted(max(ratio, 1 / ratio) for ratio in ratios)
    return "–".join(dict.fromkeys(f"{float(f'{factor:.2g}'):,.10g}" for factor in (factors[0], factors[-1])))
