"""A comparison in at most four networks: hybrid, twin, small ANN, own ANN. Start at `brief`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from ashneuro.cost.comparison.break_even import BreakEven
from ashneuro.cost.comparison.contenders import Contender, Group, Role


class Part(Enum):
    """Role of a network beside the spiking one in a comparison in brief."""

    OURS = auto()
    TWIN = auto()
    OTHER = auto()
    OWN = auto()


# Shown in front of the names of networks that do not say what they are.
PREFIXES = {Part.OTHER: "other ANN: ", Part.OWN: "your ANN: "}


@dataclass(frozen=True)
class Brief:
    """The networks that answer what a spiking network costs, on one node.

    Args:
        rows: each part with its network; parts that the comparison lacks are absent.
        break_even: firing rate at which our spiking part costs as much as the twin's; ``None``
            where it was not computed.
        firing_rate: our spikes per neuron and step.
    """

    rows: tuple[tuple[Part, Contender], ...]
    break_even: BreakEven | None
    firing_rate: float | None

    def names(self) -> tuple[str, ...]:
        """Return the networks in words, in the order of the rows."""
        return tuple(PREFIXES.get(part, "") + who.name for part, who in self.rows)

    def sentence(self) -> str:
        """Return the break-even rate beside our own rate in words; empty without one."""
        if self.break_even is None or self.break_even.because:
            return ""
        rate, ours = self.break_even.rates[1], ""
        if self.firing_rate is not None:
            ours = f"; this network: {100 * self.firing_rate:.2g} %"
        if rate is None:
            return ""
        if rate <= 0:
            return f"break-even with the twin: at no firing rate, updates and inputs alone cost more{ours}"
        if rate >= 1:
            return f"break-even with the twin: the spiking part costs less at every firing rate{ours}"
        return f"break-even with the twin: {100 * rate:.2g} % of neurons spiking per step{ours}"


def brief(group: Group, break_even: Iterable[BreakEven], firing_rate: float | None) -> Brief:
    """Return the networks of a group that tell it in brief, the cheapest of each part.

    Args:
        group: the contenders on one node, ours first. Other ANNs must be as accurate as ours, where
            its accuracy is known.
        break_even: break-even rates of the comparison.
        firing_rate: our spikes per neuron and step.
    """
    ours, *others = group.contenders
    parts: tuple[tuple[Part, Sequence[Contender]], ...] = (
        (Part.OURS, (ours,)),
        (Part.TWIN, [who for who in others if who.is_integer_twin]),
        (Part.OTHER, [who for who in others if _does_the_job(who, ours)]),
        (Part.OWN, [who for who in others if who.role in (Role.OWN_ANN, Role.OWN_ZERO_SKIPPING)]),
    )
    rows = tuple((part, min(found, key=_typical)) for part, found in parts if found)
    twin = next((who for part, who in rows if part is Part.TWIN), None)
    # A twin that skips zeros has no rate of its own: its zeros change with the rate.
    known = [even for even in break_even if even.comparable and twin and even.ann.precision == twin.precision]
    return Brief(rows, known[0] if known else None, firing_rate)


def _does_the_job(who: Contender, ours: Contender) -> bool:
    """Return True for another ANN that is as accurate, or where nothing is known of ours."""
    if who.role is not Role.OTHER or who.spiking:
        return False
    return ours.accuracy is None or (who.accuracy is not None and who.accuracy.reaches(ours.accuracy))


def _typical(who: Contender) -> float:
    energy = who.total_j
    return math.inf if energy is None else energy.high if energy.typical is None else energy.typical
