"""A hybrid against ANNs that do the same job: who needs less energy, at which boundary, and from which firing rate on.

The host part is on both sides. Only numbers of one node and one boundary decide; others are shown apart and say so.
Start at `compare`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ashneuro.cost.estimate import CostEstimate, estimate, total
from ashneuro.cost.profile import HardwareProfile, Range
from ashneuro.cost.workload import Workload

CASES = ("low", "typical", "high")
ARITHMETIC = ("mac", "synop", "neuron update", "activation")


@dataclass(frozen=True)
class Contender:
    """One network on one set of hardware, per inference.

    Args:
        name: e.g. ``"hybrid, int8"``.
        host, deployed: the two parts, each with its own estimate; no ``host`` when the host does nothing.
    """

    name: str
    host: CostEstimate | None
    deployed: CostEstimate | None

    @property
    def host_j(self) -> Range | None:
        """Dynamic energy of the host part."""
        return self.host.dynamic_j if self.host else Range(0.0, 0.0, 0.0)

    @property
    def deployed_j(self) -> Range | None:
        """Dynamic energy of the deployed part, or of the ANN in its place."""
        return self.deployed.dynamic_j if self.deployed else Range(0.0, 0.0, 0.0)

    @property
    def total_j(self) -> Range | None:
        """Both parts; ``None`` where one is not estimable."""
        return None if self.host_j is None or self.deployed_j is None else self.host_j + self.deployed_j

    @property
    def arithmetic_j(self) -> Range | None:
        """Both parts without memory: the convention of most publications; ``None`` where a profile has no such terms."""
        parts = [part for part in (self.host, self.deployed) if part]
        if any("memory" not in part.by_term() for part in parts):
            return None
        return total(term.energy_j for part in parts for term in part.terms if term.name in ARITHMETIC)


@dataclass(frozen=True)
class Group:
    """Contenders that are shown together.

    Args:
        title: what they share.
        boundary: what is in the numbers.
        comparable: one node, one boundary: a winner may be named.
        note: what a reader must know before comparing.
    """

    title: str
    boundary: str
    comparable: bool
    contenders: tuple[Contender, ...]
    note: str = ""


@dataclass(frozen=True)
class BreakEven:
    """The mean firing rate at which the spiking part costs as much as the ANN in its place.

    Spikes, and all that each of them causes, scale with the rate; neuron updates do not::

        rate* = rate · (E_ann − E(no spikes)) / (E − E(no spikes))

    Args:
        spiking, ann: what is compared, with precision and profile.
        comparable: whether both are at one node and boundary.
        rates: spikes per neuron and step for the low, typical and high case; below 0: at no rate, the updates alone cost more;
            above 1: at every rate. ``None`` where a case has no number.
        because: why there is none at all.
    """

    spiking: str
    ann: str
    comparable: bool
    rates: tuple[float | None, float | None, float | None] = (None, None, None)
    because: str = ""

    def sentence(self) -> str:
        """Return the typical rate in words."""
        rate = self.rates[1]
        if rate is None:
            return self.because or "no typical value"
        if rate <= 0:
            return "no rate"
        return "every rate" if rate >= 1 else f"{100 * rate:.2g} %"


@dataclass(frozen=True)
class Threshold:
    """A published condition for a spiking network to win, and where this one stands."""

    condition: str
    value: float | None
    unit: str
    reading: str
    source: str


@dataclass(frozen=True)
class Comparison:
    """The whole answer.

    Args:
        verdict: one sentence: who wins, by how much, at which boundary, on which basis.
        winner: ``"hybrid"``, ``"ann"`` or ``"undecided"``.
        groups: like with like first.
        break_even: per platform and twin.
        firing_rate: this model's spikes per neuron and step.
        thresholds: published conditions.
        notes: rules that the numbers follow.
    """

    verdict: str
    winner: str
    groups: tuple[Group, ...]
    break_even: tuple[BreakEven, ...]
    firing_rate: float | None
    thresholds: tuple[Threshold, ...]
    notes: tuple[str, ...] = ()


def compare(
    hybrid: Workload,
    twin: Workload,
    *,
    node: HardwareProfile,
    chip: HardwareProfile | None = None,
    gpu: HardwareProfile | None = None,
    control: Workload | None = None,
) -> Comparison:
    """Return ``hybrid`` against its ANN twins: fp32, int8 and ⌈log2(T+1)⌉ bits.

    Args:
        hybrid: host part and deployed part, counted.
        twin: the ANN of the same topology with the same host part (`ashneuro.cost.workload.ann_twin`).
        node: profile of kind ``"asic"`` on which both sides are priced alike; it decides.
        chip: neuromorphic profile for the deployed part, shown apart.
        gpu: GPU profile for host and twins, shown apart.
        control: the network without a deployed part.

    Raises:
        ProfileError: a profile is of the wrong kind, or lacks a number that both sides need.
    """
    bits = math.ceil(math.log2(hybrid.timesteps + 1))
    low_bit = f"int{bits}" if bits < 8 else None
    groups = [_one_node(hybrid, twin, node, low_bit, control)]
    even = list(_node_break_even(hybrid, twin, node, low_bit))
    if chip is not None:
        groups.append(_two_machines(hybrid, twin, chip, gpu, control))
        even += _chip_break_even(hybrid, twin, chip, node, gpu)
    elif gpu is not None:
        groups.append(_two_machines(hybrid, twin, None, gpu, control))
    winner, verdict = _verdict(groups[0], hybrid, node)
    notes = dict.fromkeys(
        note for group in groups for who in group.contenders for part in (who.host, who.deployed) if part for note in part.notes
    )
    return Comparison(verdict, winner, tuple(groups), tuple(even), hybrid.firing_rate, tuple(_thresholds(hybrid)), tuple(notes))


def _contender(name: str, workload: Workload, host: tuple[HardwareProfile, str], deployed: tuple[HardwareProfile, str]) -> Contender:
    parts = []
    for place, (profile, precision) in (("host", host), ("deployed", deployed)):
        part = workload.part("host" if place == "host" else "deployed")
        parts.append(estimate(part, profile, precision) if part.layers else None)
    return Contender(name, parts[0], parts[1])


def _one_node(hybrid: Workload, twin: Workload, node: HardwareProfile, low_bit: str | None, control: Workload | None) -> Group:
    def row(name: str, workload: Workload, host: str, deployed: str) -> Contender:
        return _contender(name, workload, (node, host), (node, deployed))

    skipping = _zero_skipping(twin)
    rows = [
        row("hybrid, int8", hybrid, "int8", "int8"),
        row("ANN twin, int8", twin, "int8", "int8"),
        *([row(f"ANN twin, {low_bit[3:]}-bit", twin, "int8", low_bit)] if low_bit else []),
        *([row("ANN twin, int8, zero-skipping", skipping, "int8", "int8")] if skipping else []),
        *([row("no abstract encoder, int8", control, "int8", "int8")] if control else []),
        row("hybrid, fp32", hybrid, "fp32", "fp32"),
        row("ANN twin, fp32", twin, "fp32", "fp32"),
    ]
    note = "Both sides follow the same rules, so the low case of one is compared with the low case of the other."
    return Group(f"Everything on {node.title}", node.boundary, True, tuple(rows), note)


def _two_machines(
    hybrid: Workload, twin: Workload, chip: HardwareProfile | None, gpu: HardwareProfile | None, control: Workload | None
) -> Group:
    rows = []
    for precision in ("int8", "fp32"):
        if chip is not None:
            host = estimate(hybrid.part("host"), gpu, precision) if gpu and hybrid.part("host").layers else None
            name = f"hybrid: host on {gpu.name} ({precision}), deployed on {chip.name}" if host and gpu else f"deployed part on {chip.name}"
            rows.append(Contender(name, host, estimate(hybrid.part("deployed"), chip)))
        if gpu is not None:
            rows.append(_contender(f"ANN twin on {gpu.name}, {precision}", twin, (gpu, precision), (gpu, precision)))
            if control is not None:
                rows.append(_contender(f"no abstract encoder on {gpu.name}, {precision}", control, (gpu, precision), (gpu, precision)))
        if gpu is None:
            break
    names = " and ".join(profile.title for profile in (chip, gpu) if profile)
    boundary = "; ".join(f"{profile.name}: {profile.boundary}" for profile in (chip, gpu) if profile)
    note = "Estimates at different boundaries: a sum over two machines is an orientation, and no winner is named here."
    return Group(names, boundary, False, tuple(rows), note)


def _silent(workload: Workload) -> Workload:
    """Return the same network if nothing had spiked: every update is still paid."""
    return replace(
        workload,
        layers=tuple(
            replace(layer, effective_acs=0, effective_macs=0 if layer.effective_macs is not None else None, spikes=0, messages=0)
            if layer.kind == "snn"
            else layer
            for layer in workload.layers
        ),
    )


def _zero_skipping(twin: Workload) -> Workload | None:
    """Return the twin on an accelerator that skips zero activations, or ``None`` where activations were not observed."""
    if any(layer.effective_macs is None for layer in twin.part("deployed").layers):
        return None
    layers = (
        replace(row, dense_macs=row.effective_macs) if row.place == "deployed" and row.effective_macs is not None else row
        for row in twin.layers
    )
    return replace(twin, layers=tuple(layers))


def _break_even(rate: float | None, spiking: CostEstimate, silent: CostEstimate, ann: CostEstimate, comparable: bool) -> BreakEven:
    names = (f"{spiking.profile}, {spiking.precision}", f"{ann.profile}, {ann.precision}")
    now, rest, other = spiking.dynamic_j, silent.dynamic_j, ann.dynamic_j
    if now is None or rest is None or other is None:
        return BreakEven(*names, comparable, because=spiking.because or ann.because)
    if not rate:
        return BreakEven(*names, comparable, because="nothing spiked")
    rates = []
    for case in CASES:
        a, b, c = getattr(now, case), getattr(rest, case), getattr(other, case)
        rates.append(None if a is None or b is None or c is None or a <= b else rate * (c - b) / (a - b))
    return BreakEven(*names, comparable, (rates[0], rates[1], rates[2]))


def _node_break_even(hybrid: Workload, twin: Workload, node: HardwareProfile, low_bit: str | None) -> Iterator[BreakEven]:
    part, other = hybrid.part("deployed"), twin.part("deployed")
    for spiking, ann in (("int8", "int8"), *((("int8", low_bit),) if low_bit else ()), ("fp32", "fp32")):
        now, silent = estimate(part, node, spiking), estimate(_silent(part), node, spiking)
        yield _break_even(hybrid.firing_rate, now, silent, estimate(other, node, ann), True)


def _chip_break_even(
    hybrid: Workload, twin: Workload, chip: HardwareProfile, node: HardwareProfile, gpu: HardwareProfile | None
) -> Iterator[BreakEven]:
    part, other = hybrid.part("deployed"), twin.part("deployed")
    now, silent = estimate(part, chip), estimate(_silent(part), chip)
    for profile in (node, gpu):
        if profile is not None:
            yield _break_even(hybrid.firing_rate, now, silent, estimate(other, profile, "int8"), False)


def _verdict(group: Group, hybrid: Workload, node: HardwareProfile) -> tuple[str, str]:
    ours = group.contenders[0]
    rivals = [who for who in group.contenders if who.name.startswith("ANN twin") and "fp32" not in who.name]
    rival = min(rivals, key=lambda who: getattr(who.total_j, "typical", None) or math.inf)
    mine, theirs = ours.total_j, rival.total_j
    if mine is None or theirs is None or not hybrid.samples:
        return "undecided", f"Undecided: {node.name} cannot price both sides."
    ratios = [getattr(mine, case) / getattr(theirs, case) for case in CASES if getattr(mine, case) is not None and getattr(theirs, case)]
    factors = sorted(max(ratio, 1 / ratio) for ratio in ratios)
    name = rival.name.removeprefix("ANN twin, ")
    sides = (
        f"the hybrid takes {energy_text(mine)} per inference, its {name} ANN twin {energy_text(theirs)}, "
        f"of which the host part, the same on both sides, takes {energy_text(ours.host_j).partition(' (')[0]}; "
        f"estimated from counted events on {node.name} ({group.boundary})"
    )
    if all(ratio > 1 for ratio in ratios):
        return "ann", f"The ANN wins by {factors[0]:.2g}–{factors[-1]:.2g} times: {sides}."
    if all(ratio < 1 for ratio in ratios):
        return "hybrid", f"The hybrid wins by {factors[0]:.2g}–{factors[-1]:.2g} times: {sides}."
    return "undecided", f"Undecided, the low and the high case name different winners: {sides}."


def _thresholds(hybrid: Workload) -> Iterator[Threshold]:
    density = hybrid.part("deployed").spikes_per_synapse
    if density is not None:
        reading = "below the whole band" if density < 0.15 else "above the whole band: no ANN considered there is beaten"
        if 0.15 <= density <= 1.38:
            reading = "inside the band: it depends on how the ANN is implemented"
        yield Threshold(
            "an IF network competes at 0.15–1.38 spikes per synapse and inference, depending on the ANN's implementation",
            density,
            "spikes per synapse and inference",
            reading,
            "Dampfhoffer et al., IEEE TETCI 7(3):731–741, 2023 (abstract)",
        )
    rate = hybrid.firing_rate
    if rate is not None:
        steps = hybrid.timesteps
        reading = ("below" if rate < 0.057 else "not below") + (
            "" if steps == 5 else f"; stated for T = 5 and a VGG-16, this network has T = {steps}"
        )
        yield Threshold(
            "a spiking network needs a mean rate below 5.7 % at T = 5 to beat a quantised ANN with data movement counted",
            rate,
            "spikes per neuron and step",
            reading,
            "Yan, Bai, Wong, arXiv 2409.08290 v4 (abstract as listed)",
        )


def energy_text(energy: Range | None) -> str:
    """Return joules in words: ``"1.3 µJ (1.1–2.0)"``, bounds alone where no typical value is known, ``"unknown"`` for ``None``."""
    if energy is None:
        return "unknown"
    factor, unit = _unit(energy.high)
    low, high = (f"{number * factor:.3g}" for number in (energy.low, energy.high))
    if energy.typical is None:
        return f"{low}–{high} {unit}"
    typical = f"{energy.typical * factor:.3g}"
    return f"{typical} {unit}" if energy.is_point else f"{typical} {unit} ({low}–{high})"


def _unit(joules: float) -> tuple[float, str]:
    for factor, unit in ((1.0, "J"), (1e3, "mJ"), (1e6, "µJ"), (1e9, "nJ")):
        if joules * factor >= 1:
            return factor, unit
    return 1e12, "pJ"
