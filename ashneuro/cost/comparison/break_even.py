"""The firing rate at which the spiking part costs as much as the ANN in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from ashneuro.cost.comparison.groups import preferred_precision
from ashneuro.cost.comparison.sides import Sides
from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import CASES, HardwareProfile, Range
from ashneuro.cost.terms import CostEstimate
from ashneuro.cost.workload import Workload

BISECTIONS = 24


@dataclass(frozen=True)
class Hardware:
    """Name of a profile, and the precision in which it computes."""

    profile: str
    precision: str

    @property
    def name(self) -> str:
        """Both in words, e.g. ``"loihi1, native"``."""
        return f"{self.profile}, {self.precision}"


@dataclass(frozen=True)
class BreakEven:
    """The mean firing rate at which the spiking part costs as much as the ANN in its place.

    The neurons' spikes or graded messages, and all events that they cause, are scaled by one factor
    until both sides cost the same. Neuron updates, and the events that inputs cause, stay as
    counted.

    Args:
        spiking, ann: hardware of the two sides.
        comparable: True if both are at one node and boundary.
        rates: spikes or graded messages per neuron and step in the low, typical and high case. 0:
            at no rate, because events that do not scale cost more than the ANN; 1: at every rate;
            ``None``: unknown.
        because: reason why no rate is known.
    """

    spiking: Hardware
    ann: Hardware
    comparable: bool
    rates: tuple[float | None, float | None, float | None] = (None, None, None)
    because: str = ""

    def sentence(self) -> str:
        """Return the typical rate in words."""
        rate = self.rates[1]
        if rate is None:
            return self.because.partition(";")[0] or "no typical value"
        if rate <= 0:
            return "no rate"
        return "every rate" if rate >= 1 else f"{100 * rate:.2g} %"


def node_break_even(sides: Sides, node: HardwareProfile) -> Iterator[BreakEven]:
    """Yield the rates on one node: int8 against the int8 and low-bit twins, fp32 against fp32."""
    part, twin, estimates = sides.spiking.deployed, sides.twin.deployed, sides.estimates
    integers = ("int8", sides.low_bit_precision) if sides.low_bit else ("int8",)
    for precision, against in (("int8", integers), ("fp32", ("fp32",))):
        anns = [estimates.priced(twin, node, ann) for ann in against]
        yield from _break_even(part, estimates.priced(part, node, precision), node, anns, comparable=True)


def chip_break_even(
    sides: Sides, chip: HardwareProfile, node: HardwareProfile, machines: Sequence[HardwareProfile]
) -> Iterator[BreakEven]:
    """Yield the rates on a chip against the ANN on the node and on each machine.

    Hops are left out: at another rate the spikes would have to be routed again.
    """
    part = sides.spiking.deployed
    anns = [sides.estimates.of(sides.twin.deployed, at, preferred_precision(at)) for at in (node, *machines)]
    yield from _break_even(part, sides.estimates.unplaced(part, chip), chip, anns, comparable=False)


def scaled(workload: Workload, factor: float) -> Workload:
    """Return the workload of a network whose neurons send ``factor`` times as many messages, spikes
    or graded ones.

    Neuron updates stay, and so do the events that inputs cause.
    """

    def at(events: int, fixed: int) -> int:
        return fixed + round((events - fixed) * factor)

    spiking = (
        replace(
            layer,
            effective_acs=at(layer.effective_acs, sum(layer.acs_from_ports.values())),
            acs_by_kind={
                kind: at(events, layer.acs_from_ports.get(kind, 0)) for kind, events in layer.acs_by_kind.items()
            },
            acs_from_counts=round(layer.acs_from_counts * factor),
            effective_macs=layer.effective_macs and at(layer.effective_macs, layer.macs_from_ports),
            graded_events=at(layer.graded_events, layer.graded_from_ports),
            spikes=round(layer.spikes * factor),
            graded_messages=round(layer.graded_messages * factor),
            messages=round(layer.messages * factor),
            firing_rate=None if layer.firing_rate is None else layer.firing_rate * factor,
        )
        if layer.kind == "snn"
        else layer
        for layer in workload.layers
    )
    return replace(workload, layers=tuple(spiking))


def _break_even(
    part: Workload, now: CostEstimate, profile: HardwareProfile, anns: Iterable[CostEstimate], comparable: bool
) -> Iterator[BreakEven]:
    """Yield the rates of ``part`` against each ANN; it costs ``now`` at its counted rate."""

    # The bisections of all cases and ANNs begin at the same rates.
    @cache
    def energy(rate: float) -> Range | None:
        assert part.firing_rate
        return estimate(scaled(part, rate / part.firing_rate), profile, now.precision).dynamic_j

    for ann in anns:
        hardware = Hardware(now.profile, now.precision), Hardware(ann.profile, ann.precision)
        target = ann.dynamic_j
        if now.dynamic_j is None or target is None:
            yield BreakEven(*hardware, comparable, because=now.because or ann.because)
        elif not part.firing_rate:
            yield BreakEven(*hardware, comparable, because="nothing spiked")
        else:
            rates = []
            for case in CASES:
                goal = getattr(target, case)
                known = goal is not None and getattr(now.dynamic_j, case) is not None
                rates.append(_rate_at(energy, case, goal) if known else None)
            yield BreakEven(*hardware, comparable, (rates[0], rates[1], rates[2]))


def _rate_at(energy: Callable[[float], Range | None], case: str, goal: float) -> float:
    """Return the rate at which ``energy`` reaches ``goal`` joules in one case, by bisection."""

    # Bisection is safe: energy never falls as spikes are added.
    def at(rate: float) -> float:
        joules: float = getattr(energy(rate), case)
        return joules

    if at(0.0) >= goal:
        return 0.0
    if at(1.0) <= goal:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) < goal else (low, middle)
    return (low + high) / 2
