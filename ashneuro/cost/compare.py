"""A hybrid against ANNs that do the same job: who needs less energy, at which boundary, and from which firing rate on.

The host part is on both sides. Only numbers of one node and one boundary decide; others are shown apart and say so.
Start at `compare`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ashneuro.cost.deployment import Deployment
from ashneuro.cost.estimate import estimate
from ashneuro.cost.processor import precisions, unpriced, why_unpriced
from ashneuro.cost.profile import HardwareProfile, Range
from ashneuro.cost.terms import NATIVE, CostEstimate, total
from ashneuro.cost.workload import Workload

CASES = ("low", "typical", "high")
ARITHMETIC = ("mac", "synop", "neuron update", "activation")


@dataclass(frozen=True)
class Contender:
    """One network on one set of hardware, per inference.

    Args:
        name: e.g. ``"hybrid, int8"``.
        host, deployed: the two parts, each with its own estimate; no ``host`` when the host does nothing.
        metric: the task metric of this network, in words; empty where none was measured.
    """

    name: str
    host: CostEstimate | None
    deployed: CostEstimate | None
    metric: str = ""

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
class Convention:
    """The same two networks under one convention of counting.

    Args:
        name: what is counted.
        ours, theirs: which network on what.
        ours_j, theirs_j: joules per inference; ``None`` where it is not estimable.
        comparable: one node, one boundary.
        note: why not, or what is missing.
    """

    name: str
    ours: str
    ours_j: Range | None
    theirs: str
    theirs_j: Range | None
    comparable: bool
    note: str = ""

    @property
    def ratio(self) -> tuple[float, float] | None:
        """Ours / theirs, smallest and largest: case by case on one node, of any with any elsewhere; ``None`` where a side is unknown."""
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


@dataclass(frozen=True)
class BreakEven:
    """The mean firing rate at which the spiking part costs as much as the ANN in its place.

    The counted spikes, and all that each of them causes, are scaled by one factor until both sides cost the same; neuron
    updates, and what the inputs cause, stay as they are.

    Args:
        spiking, ann: what is compared, with precision and profile.
        comparable: whether both are at one node and boundary.
        rates: spikes per neuron and step for the low, typical and high case; 0: at no rate, what does not scale costs more; 1: at
            every rate. ``None`` where a case has no number.
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
            return self.because.partition(";")[0] or "no typical value"
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
        winner: ``"hybrid"`` (or the SNN, where there is no host part), ``"ann"`` or ``"undecided"``.
        conventions: the same comparison counted in three ways: arithmetic alone, events of the chip, total with host and static power.
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
    conventions: tuple[Convention, ...] = ()


def compare(
    hybrid: Workload,
    twin: Workload,
    *,
    node: HardwareProfile,
    chips: Sequence[HardwareProfile] = (),
    machines: Sequence[HardwareProfile] = (),
    others: Mapping[str, Workload] | None = None,
    deployments: Mapping[str, Deployment] | None = None,
    metrics: Mapping[str, str] | None = None,
) -> Comparison:
    """Return ``hybrid`` against its ANN twins: fp32, int8 and ⌈log2(T+1)⌉ bits.

    Args:
        hybrid: host part and deployed part, counted.
        twin: the ANN of the same topology with the same host part (`ashneuro.cost.workload.ann_twin`).
        node: profile of kind ``"asic"`` on which both sides are priced alike; it decides.
        chips: neuromorphic profiles for the deployed part, each shown apart.
        machines: GPU and CPU profiles for host and twins, shown apart; the first is the host of the chips.
        others: further networks by name: the one without an abstract encoder, other runs.
        deployments: where the network lies, by name of the chip's profile.
        metrics: the task metric in words: of ``"hybrid"``, ``"relu"`` (the full-precision twin), ``"quantised-relu"`` (the low-bit twin)
            and of each name in ``others``.

    Raises:
        ProfileError: a profile is of the wrong kind, or lacks a number that both sides need.
    """
    sides = _Sides(hybrid, twin, dict(others or {}), dict(deployments or {}), dict(metrics or {}))
    groups = [_one_node(sides, node)]
    even = list(_node_break_even(hybrid, twin, node, sides.low_bit))
    alone: list[HardwareProfile | None] = [None] if machines else []
    for chip in chips or alone:
        groups.append(_two_machines(sides, chip, machines))
        if chip is not None:
            even += _chip_break_even(sides, chip, node, machines)
    winner, verdict = _verdict(groups[0], hybrid, node)
    notes = dict.fromkeys(
        note
        for group in groups
        for who in group.contenders
        for part in (who.host, who.deployed)
        if part
        for note in part.notes
    )
    conventions = tuple(_conventions(sides, groups[0], chips, machines))
    thresholds = tuple(_thresholds(hybrid))
    return Comparison(
        verdict, winner, tuple(groups), tuple(even), hybrid.firing_rate, thresholds, tuple(notes), conventions
    )


@dataclass(frozen=True, eq=False)
class _Sides:
    """What is compared with what."""

    hybrid: Workload
    twin: Workload
    others: Mapping[str, Workload]
    deployments: Mapping[str, Deployment]
    metrics: Mapping[str, str]

    @property
    def low_bit(self) -> str | None:
        bits = math.ceil(math.log2(self.hybrid.timesteps + 1))
        return f"int{bits}" if bits < 8 else None

    def on_chip(self, chip: HardwareProfile) -> CostEstimate:
        """Return the deployed part on a neuromorphic chip, placed where it could be."""
        return estimate(self.hybrid.part("deployed"), chip, deployment=self.deployments.get(chip.name))

    def metric(self, key: str) -> str:
        return self.metrics.get(key, "")


def _contender(
    name: str,
    workload: Workload,
    host: tuple[HardwareProfile, str],
    deployed: tuple[HardwareProfile, str],
    metric: str = "",
) -> Contender:
    parts = []
    for place, (profile, precision) in (("host", host), ("deployed", deployed)):
        part = workload.part("host" if place == "host" else "deployed")
        parts.append(_priced(part, profile, precision) if part.layers else None)
    return Contender(name, parts[0], parts[1], metric)


def _priced(part: Workload, profile: HardwareProfile, precision: str) -> CostEstimate:
    """Return the estimate; one that says why there is none where a machine's profile has no price at all."""
    known = profile.kind == "asic" or precision in precisions(profile)
    return estimate(part, profile, precision) if known else unpriced(part, profile, precision)


def _on_machine(machine: HardwareProfile, family: str) -> str | None:
    """Return the precision of a family, ``"int"`` or ``"fp"``, in which a machine is shown; ``None``: it has no price of that family."""
    known = [key for key in precisions(machine) if key.startswith(family)]
    return known[0] if known else "fp32" if family == "fp" and not precisions(machine) else None


def _usual(profile: HardwareProfile) -> str:
    """Return the precision in which a node or a machine stands beside a chip: INT8 where it can be priced."""
    return "int8" if profile.kind == "asic" else _on_machine(profile, "int") or _on_machine(profile, "fp") or "fp32"


def _gaps(machines: Sequence[HardwareProfile]) -> Iterator[str]:
    """Yield what the profiles of machines have no price for, where others do."""
    for machine in machines:
        if "fp32" not in precisions(machine):
            yield f" {why_unpriced(machine, 'fp32')}."


def _ours(workload: Workload) -> str:
    """Return what to call the spiking side: without a host part it is no hybrid."""
    return "hybrid" if workload.part("host").layers else "SNN"


def _one_node(sides: _Sides, node: HardwareProfile) -> Group:
    def row(name: str, workload: Workload, host: str, deployed: str, metric: str) -> Contender:
        return _contender(name, workload, (node, host), (node, deployed), sides.metric(metric))

    hybrid, twin, low_bit = sides.hybrid, sides.twin, sides.low_bit
    skipping = _zero_skipping(twin)
    rows = [
        row(f"{_ours(hybrid)}, int8", hybrid, "int8", "int8", "hybrid"),
        row("ANN twin, int8", twin, "int8", "int8", "relu"),
        *([row(f"ANN twin, {low_bit[3:]}-bit", twin, "int8", low_bit, "quantised-relu")] if low_bit else []),
        *([row("ANN twin, int8, zero-skipping", skipping, "int8", "int8", "relu")] if skipping else []),
        *(row(f"{name}, int8", work, "int8", "int8", name) for name, work in sides.others.items()),
        row(f"{_ours(hybrid)}, fp32", hybrid, "fp32", "fp32", "hybrid"),
        row("ANN twin, fp32", twin, "fp32", "fp32", "relu"),
    ]
    note = (
        "Both sides follow the same rules, so cases are compared one by one: low with low (perfect reuse of data), typical with typical "
        "(the ANN reuses, the spiking part fetches per event), high with high (no reuse)."
    )
    return Group(f"Everything on {node.title}", node.boundary, True, tuple(rows), note)


def _two_machines(sides: _Sides, chip: HardwareProfile | None, machines: Sequence[HardwareProfile]) -> Group:
    rows = []
    hybrid, twin = sides.hybrid, sides.twin
    on_chip = sides.on_chip(chip) if chip is not None else None
    gpu = machines[0] if machines else None
    for family in ("int", "fp"):
        precision = _on_machine(gpu, family) if gpu is not None else "int8"
        if chip is not None and precision is not None:
            host = _priced(hybrid.part("host"), gpu, precision) if gpu and hybrid.part("host").layers else None
            name = (
                f"hybrid: host on {gpu.name} ({precision}), deployed on {chip.name}"
                if host and gpu
                else f"deployed part on {chip.name}"
            )
            rows.append(Contender(name, host, on_chip, sides.metric("hybrid")))
        for machine in machines:
            precision = _on_machine(machine, family)
            if precision is None:
                continue
            on = (machine, precision)
            rows.append(_contender(f"ANN twin on {machine.name}, {precision}", twin, on, on, sides.metric("relu")))
            for name, work in sides.others.items():
                if not any(layer.kind == "snn" for layer in work.layers):
                    rows.append(_contender(f"{name} on {machine.name}, {precision}", work, on, on, sides.metric(name)))
        if not machines:
            break
    profiles = [*([chip] if chip else []), *machines]
    names = " and ".join(profile.title for profile in profiles)
    boundary = "; ".join(f"{profile.name}: {profile.boundary}" for profile in profiles)
    note = "Estimates at different boundaries: a sum over two machines is an orientation, and no winner is named here."
    note += "".join(_gaps(machines))
    return Group(names, boundary, False, tuple(rows), note)


def _conventions(
    sides: _Sides, group: Group, chips: Sequence[HardwareProfile], machines: Sequence[HardwareProfile]
) -> Iterator[Convention]:
    """Yield the comparison under three conventions; per chip where several were chosen."""
    rows = {who.name: who for who in group.contenders}
    us = _ours(sides.hybrid)
    for precision in ("fp32", "int8"):
        mine, other = rows[f"{us}, {precision}"], rows[f"ANN twin, {precision}"]
        note = "the convention of most publications: no memory, no routing, no static power"
        if precision == "fp32":
            note = "4.6 pJ a MAC, 0.9 pJ a synop: " + note
        yield Convention(
            f"(i) arithmetic only, {precision}",
            mine.name,
            mine.arithmetic_j,
            other.name,
            other.arithmetic_j,
            True,
            note,
        )
    mine, best = rows[f"{us}, int8"], _rival(group)
    yield Convention(
        "(ii) events with memory, one node",
        mine.name,
        mine.total_j,
        best.name,
        best.total_j,
        True,
        "what the verdict rests on",
    )
    gpu = machines[0] if machines else None
    for chip in chips:
        cost = sides.on_chip(chip)
        rival = rows["ANN twin, int8"].deployed
        yield Convention(
            f"(ii) chip dynamic, {chip.name}",
            f"deployed part on {chip.name}",
            cost.dynamic_j,
            f"ANN in its place on {rival.profile}, int8" if rival else "–",
            rival.dynamic_j if rival else None,
            False,
            cost.because or "another node and boundary",
        )
        yield _whole(sides, chip, cost, gpu)


def _whole(sides: _Sides, chip: HardwareProfile, cost: CostEstimate, gpu: HardwareProfile | None) -> Convention:
    """Return the total with host and static power of one chip, beside the ANN on the machine that hosts it."""
    name = f"(iii) total with host and static, {chip.name}"
    static = next((total_ for total_ in cost.totals if total_.total_j is not None), None)
    host = sides.hybrid.part("host")
    if static is None or static.total_j is None:
        return Convention(
            name,
            f"deployed part on {chip.name}",
            None,
            "–",
            None,
            False,
            cost.because or "time or static power is unknown",
        )
    precision = _usual(gpu) if gpu is not None else "fp32"
    energy, ours, note = (
        static.total_j,
        f"deployed part on {chip.name}, static power of {static.name.replace('_', ' ')}",
        "",
    )
    if host.layers and gpu is None:
        note = "no profile for the host was chosen, so its part is missing"
    elif host.layers and gpu is not None:
        part = _priced(host, gpu, precision)
        if part.dynamic_j is None:
            return Convention(name, f"{ours}; host on {gpu.name}", None, "–", None, False, part.because)
        energy, ours = energy + part.dynamic_j, f"{ours}; host on {gpu.name}, {precision}"
    if gpu is None:
        return Convention(name, ours, energy, "–", None, False, note or "no profile for the ANN's machine was chosen")
    on = (gpu, precision)
    rival = _contender("", sides.twin, on, on)
    if rival.total_j is None and rival.deployed is not None:
        return Convention(name, ours, energy, f"ANN twin on {gpu.name}", None, False, rival.deployed.because)
    nominal = (
        "the machine's static power is not in its side: nominal, at peak rate"
        if gpu.power
        else "above the machine's idle power"
    )
    return Convention(name, ours, energy, f"ANN twin on {gpu.name}, {precision}", rival.total_j, False, nominal)


def scaled(workload: Workload, factor: float) -> Workload:
    """Return the same network if every neuron had spiked ``factor`` times as often.

    Every update is still paid, and so is what the inputs cause: products with graded values, and synops of an input port's spikes.
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
            spikes=round(layer.spikes * factor),
            messages=round(layer.messages * factor),
            firing_rate=None if layer.firing_rate is None else layer.firing_rate * factor,
        )
        if layer.kind == "snn"
        else layer
        for layer in workload.layers
    )
    return replace(workload, layers=tuple(spiking))


def _zero_skipping(twin: Workload) -> Workload | None:
    """Return the twin on an accelerator that skips zero activations, or ``None`` where activations were not observed."""
    if any(layer.effective_macs is None for layer in twin.part("deployed").layers):
        return None
    layers = (
        replace(row, dense_macs=row.effective_macs)
        if row.place == "deployed" and row.effective_macs is not None
        else row
        for row in twin.layers
    )
    return replace(twin, layers=tuple(layers))


def _break_even(
    part: Workload, profile: HardwareProfile, precision: str, ann: CostEstimate, comparable: bool
) -> BreakEven:
    now, rate = estimate(part, profile, precision), part.firing_rate
    names = (f"{now.profile}, {now.precision}", f"{ann.profile}, {ann.precision}")
    target = ann.dynamic_j
    if now.dynamic_j is None or target is None:
        return BreakEven(*names, comparable, because=now.because or ann.because)
    if not rate:
        return BreakEven(*names, comparable, because="nothing spiked")
    rates = []
    for case in CASES:
        goal = getattr(target, case)
        known = goal is not None and getattr(now.dynamic_j, case) is not None
        rates.append(_rate_at(part, profile, precision, case, goal) if known else None)
    return BreakEven(*names, comparable, (rates[0], rates[1], rates[2]))


def _rate_at(part: Workload, profile: HardwareProfile, precision: str, case: str, goal: float) -> float:
    """Return the mean rate at which ``part`` costs ``goal`` joules, by bisection: energy never falls as spikes are added."""

    def energy(rate: float) -> float:
        assert part.firing_rate
        cost: float = getattr(estimate(scaled(part, rate / part.firing_rate), profile, precision).dynamic_j, case)
        return cost

    if energy(0.0) >= goal:
        return 0.0
    if energy(1.0) <= goal:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if energy(middle) < goal else (low, middle)
    return (low + high) / 2


def _node_break_even(
    hybrid: Workload, twin: Workload, node: HardwareProfile, low_bit: str | None
) -> Iterator[BreakEven]:
    for spiking, ann in (("int8", "int8"), *((("int8", low_bit),) if low_bit else ()), ("fp32", "fp32")):
        yield _break_even(hybrid.part("deployed"), node, spiking, estimate(twin.part("deployed"), node, ann), True)


def _chip_break_even(
    sides: _Sides, chip: HardwareProfile, node: HardwareProfile, machines: Sequence[HardwareProfile]
) -> Iterator[BreakEven]:
    """Yield where the chip's events cost what the ANN costs elsewhere; hops are left out, for they would have to be routed again."""
    for profile in (node, *machines):
        ann = _priced(sides.twin.part("deployed"), profile, _usual(profile))
        yield _break_even(sides.hybrid.part("deployed"), chip, NATIVE, ann, False)


def _rival(group: Group) -> Contender:
    """Return the cheapest of the integer ANN twins."""
    rivals = [who for who in group.contenders if who.name.startswith("ANN twin") and "fp32" not in who.name]
    return min(rivals, key=lambda who: getattr(who.total_j, "typical", None) or math.inf)


def _verdict(group: Group, hybrid: Workload, node: HardwareProfile) -> tuple[str, str]:
    ours, rival = group.contenders[0], _rival(group)
    mine, theirs = ours.total_j, rival.total_j
    if mine is None or theirs is None or not hybrid.samples:
        return "undecided", f"Undecided: {node.name} cannot price both sides."
    known = [case for case in CASES if getattr(mine, case) is not None and getattr(theirs, case)]
    ratios = {case: getattr(mine, case) / getattr(theirs, case) for case in known}
    factors = sorted(max(ratio, 1 / ratio) for ratio in ratios.values())
    name = rival.name.removeprefix("ANN twin, ")
    us = _ours(hybrid)
    shared = ""
    if hybrid.part("host").layers:
        shared = (
            f", of which the host part, the same on both sides, takes {energy_text(ours.host_j).partition(' (')[0]}"
        )
    sides = (
        f"the {us} takes {energy_text(mine)} per inference, its {name} ANN twin {energy_text(theirs)}{shared}; "
        f"estimated from counted events on {node.name} ({group.boundary})"
    )
    metric = ", ".join(f"{who.name.partition(',')[0]} {who.metric}" for who in (ours, rival) if who.metric)
    if metric:
        sides += f"; task metric: {metric}"
    if not all(part.headline for who in (ours, rival) for part in (who.host, who.deployed) if part):
        return "undecided", f"Undecided, because sources of {node.name}'s numbers were not opened: {sides}."
    silent = [layer.name for layer in hybrid.layers if layer.kind == "snn" and layer.firing_rate == 0]
    if silent:
        return (
            "undecided",
            f"Undecided, because {', '.join(silent)} never spiked and did no work that an ANN would have to do: {sides}.",
        )
    if all(ratio > 1 for ratio in ratios.values()):
        return "ann", f"The ANN wins by {_times(factors)} times: {sides}."
    if all(ratio < 1 for ratio in ratios.values()):
        return "hybrid", f"The {us} wins by {_times(factors)} times: {sides}."
    reuse = {"low": "with perfect reuse", "typical": "as usual", "high": "without reuse"}
    cases = ", ".join(f"{reuse[case]} the {'ANN' if ratio > 1 else us}" for case, ratio in ratios.items())
    return "undecided", f"Undecided, because it depends on how data are reused: {cases} wins; {sides}."


def _times(factors: Sequence[float]) -> str:
    """Return the smallest and the largest of sorted factors, two digits each."""
    return "–".join(dict.fromkeys(f"{float(f'{factor:.2g}'):,.10g}" for factor in (factors[0], factors[-1])))


def _thresholds(hybrid: Workload) -> Iterator[Threshold]:
    density = hybrid.part("deployed").spikes_per_synapse
    if density is not None:
        reading = (
            "below the whole band" if density < 0.15 else "above the whole band: no ANN considered there is beaten"
        )
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
