"""The comparison under the three conventions of counting that publications use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from ashneuro.cost.comparison.contenders import ROLE_WORDS, Group, Role
from ashneuro.cost.comparison.groups import on_machine, preferred_precision
from ashneuro.cost.comparison.sides import Sides
from ashneuro.cost.comparison.verdict import rival
from ashneuro.cost.profile import CASES, HardwareProfile, Range
from ashneuro.cost.terms import CostEstimate


class Counting(Enum):
    """Events that a convention counts.

    ``ARITHMETIC``: no memory, as in most publications; ``NODE_EVENTS``: arithmetic and memory on
    one node; ``CHIP_EVENTS``: dynamic energy of the chip; ``WITH_STATIC``: also host and static
    power.
    """

    ARITHMETIC = auto()
    NODE_EVENTS = auto()
    CHIP_EVENTS = auto()
    WITH_STATIC = auto()


COUNTING_WORDS: dict[Counting, str] = {
    Counting.ARITHMETIC: "(i) arithmetic only, {}",
    Counting.NODE_EVENTS: "(ii) events with memory, one node",
    Counting.CHIP_EVENTS: "(ii) chip dynamic, {}",
    Counting.WITH_STATIC: "(iii) total with host and static, {}",
}


@dataclass(frozen=True)
class Convention:
    """The same two networks under one convention of counting.

    Args:
        counting: the convention.
        of: precision of the arithmetic, or profile of the chip; empty for the events of one node.
        ours, theirs: network and hardware of each side, in words.
        ours_j, theirs_j: joules per inference; ``None`` where not estimable.
        comparable: True on one node and boundary.
        note: reason why the sides are not comparable, or a missing part.
    """

    counting: Counting
    of: str
    ours: str
    ours_j: Range | None
    theirs: str
    theirs_j: Range | None
    comparable: bool
    note: str = ""

    @property
    def name(self) -> str:
        """The convention in words."""
        return COUNTING_WORDS[self.counting].format(self.of)

    @property
    def ratio(self) -> tuple[float, float] | None:
        """Ours / theirs, smallest and largest; ``None`` where a side is unknown.

        On one node each case is divided by the same case; elsewhere low by high and high by low.
        """
        mine, other = self.ours_j, self.theirs_j
        if mine is None or other is None or not other.low:
            return None
        if not self.comparable:
            return mine.low / other.high, mine.high / other.low
        cases = [
            getattr(mine, case) / getattr(other, case)
            for case in CASES
            if getattr(mine, case) is not None and getattr(other, case)
        ]
        return min(cases), max(cases)


def conventions(
    sides: Sides, group: Group, chips: Sequence[HardwareProfile], machines: Sequence[HardwareProfile]
) -> Iterator[Convention]:
    """Yield the comparison under each convention; those of chips once per chip.

    Args:
        sides: the networks.
        group: the contenders on one node.
        chips: profiles for the spiking part.
        machines: profiles for the ANNs; the first one hosts the chips.
    """
    ours = sides.spiking.role
    for precision in ("fp32", "int8"):
        mine, other = group.find(ours, precision), group.find(Role.ANN_TWIN, precision)
        note = "the convention of most publications: no memory, no routing, no static power"
        if precision == "fp32":
            note = "4.6 pJ a MAC, 0.9 pJ a synop: " + note
        yield Convention(
            Counting.ARITHMETIC, precision, mine.name, mine.arithmetic_j, other.name, other.arithmetic_j, True, note
        )
    mine, best = group.find(ours, "int8"), rival(group)
    note = "what the verdict rests on"
    yield Convention(Counting.NODE_EVENTS, "", mine.name, mine.total_j, best.name, best.total_j, True, note)
    for chip in chips:
        cost = sides.estimates.on_chip(sides.spiking.deployed, chip)
        ann = group.find(Role.ANN_TWIN, "int8").deployed
        yield Convention(
            Counting.CHIP_EVENTS,
            chip.name,
            f"deployed part on {chip.name}",
            cost.dynamic_j,
            f"ANN in its place on {ann.profile}, int8" if ann else "–",
            ann.dynamic_j if ann else None,
            False,
            cost.because or "another node and boundary",
        )
        yield _with_static(sides, chip, cost, machines[0] if machines else None)


def _with_static(sides: Sides, chip: HardwareProfile, cost: CostEstimate, gpu: HardwareProfile | None) -> Convention:
    """Return the total of a chip, its static power and its host, beside the ANN on that host."""

    def line(ours: str, ours_j: Range | None, theirs: str, theirs_j: Range | None, note: str) -> Convention:
        return Convention(Counting.WITH_STATIC, chip.name, ours, ours_j, theirs, theirs_j, False, note)

    ours, host = f"deployed part on {chip.name}", sides.spiking.host
    # Profiles list the boundary of the chip itself first.
    whole = next((total for total in cost.totals if total.total_j is not None), None)
    if whole is None or whole.total_j is None:
        return line(ours, None, "–", None, cost.because or "time or static power is unknown")
    energy = whole.total_j
    ours = f"{ours}, static power of {whole.name.replace('_', ' ')}"
    if gpu is None:
        missing = "no profile for the ANN's machine was chosen"
        if host.layers:
            missing = "no profile for the host was chosen, so its part is missing"
        return line(ours, energy, "–", None, missing)
    precision = preferred_precision(gpu)
    if host.layers:
        on_host = sides.estimates.of(host, gpu, precision)
        if on_host.dynamic_j is None:
            return line(f"{ours}; host on {gpu.name}", None, "–", None, on_host.because)
        energy, ours = energy + on_host.dynamic_j, f"{ours}; host on {gpu.name}, {precision}"
    ann = on_machine(sides, sides.twin, gpu, precision)
    if ann.total_j is None and ann.deployed is not None:
        return line(ours, energy, f"{ROLE_WORDS[Role.ANN_TWIN]} on {gpu.name}", None, ann.deployed.because)
    nominal = "the machine's static power is not in its side: nominal, at peak rate"
    return line(ours, energy, ann.name, ann.total_j, nominal if gpu.power else "above the machine's idle power")
