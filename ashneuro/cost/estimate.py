"""Joules and seconds from counts and a profile: low, typical and high, per layer and term, with what is left out.

An estimate is never a measurement: `Measurement` is a type of its own, and the two do not add. Start at `estimate`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, ClassVar

from ashneuro.cost.deployment import STEP_TIMES, Deployment
from ashneuro.cost.profile import CHECKS, CLOSED, HardwareProfile, Quantity, Range
from ashneuro.cost.workload import LayerWorkload, Workload
from ashneuro.errors import ProfileError

NATIVE = "native"
SRAM_BITS = (("sram_8kb", 8 * 1024 * 8), ("sram_32kb", 32 * 1024 * 8), ("sram_1mb", 1024 * 1024 * 8))
WORD_BITS = 64
MESSAGE_BITS = 32


@dataclass(frozen=True)
class Term:
    """One kind of event of one layer, per inference.

    Args:
        layer: name of the layer.
        name: ``"synop"``, ``"mac"``, ``"neuron update"``, ``"spike"``, ``"hop"``, ``"memory"``, ``"activation"``, ``"host I/O, bytes"`` …
        events: how many, per inference.
        energy_j: joules per inference; ``None`` where the profile does not say.
        because: why it is ``None``.
        needed: whether the dynamic energy means nothing without it.
        formula: the arithmetic, in words.
        quantities: paths of the profile's numbers that were used.
    """

    layer: str
    name: str
    events: float
    energy_j: Range | None
    because: str = ""
    needed: bool = True
    formula: str = ""
    quantities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Total:
    """Dynamic energy plus static power × time, at one boundary.

    Args:
        name: which static power of the profile.
        boundary: what that power takes in.
        power_w: static power and running overhead of all chips.
        energy_j: static part alone, per inference.
        total_j: with the dynamic part; ``None`` where that is not estimable.
        overhead_j: of the static part, what running adds besides every event: the barrier of each step, x86 cores, clocks.
    """

    name: str
    boundary: str
    power_w: Range
    energy_j: Range
    total_j: Range | None
    overhead_j: Range | None = None


@dataclass(frozen=True)
class CostEstimate:
    """What one inference costs on one chip, estimated.

    Args:
        profile, title: which profile.
        precision: arithmetic that was priced; ``"native"`` where the chip has only its own.
        boundary: what is in the numbers; ``excludes``: what is not.
        terms: every term of every layer.
        totals: the dynamic energy with static power × time, one per boundary that the profile knows.
        time_s: seconds per inference while samples follow one another, T steps each; ``None`` where unknown.
        latency_s: seconds from a sample's first input to its last output: T steps and one more per layer in a row.
        chips: how many chips the network takes: by its placement, or at least.
        cores: how many cores its placement takes.
        time_from: paths of the profile's numbers that the seconds come from.
        headline: every number that was used is from a source that the profile's writer opened.
        notes: rules and flags that a reader must know.
    """

    profile: str
    title: str
    precision: str
    boundary: str
    excludes: tuple[str, ...]
    terms: tuple[Term, ...]
    totals: tuple[Total, ...] = ()
    time_s: Range | None = None
    latency_s: Range | None = None
    chips: int | None = None
    cores: int | None = None
    time_from: tuple[str, ...] = ()
    headline: bool = True
    notes: tuple[str, ...] = ()

    @property
    def basis(self) -> str:
        """How the numbers came about, for the line beside them."""
        return f"estimated ({self.profile})"

    @property
    def missing(self) -> tuple[Term, ...]:
        """Terms that the profile cannot price, one per kind."""
        seen: dict[str, Term] = {}
        for term in self.terms:
            if term.energy_j is None and term.events:
                seen.setdefault(term.name, term)
        return tuple(seen.values())

    @property
    def dynamic_j(self) -> Range | None:
        """Energy of all events, joules per inference; ``None`` where a needed term is unknown."""
        if any(term.needed for term in self.missing) or not any(term.energy_j for term in self.terms):
            return None
        return total(term.energy_j for term in self.terms)

    @property
    def throughput_per_s(self) -> Range | None:
        """Inferences per second while samples follow one another."""
        if self.time_s is None:
            return None
        typical = None if self.time_s.typical is None else 1 / self.time_s.typical
        return Range(1 / self.time_s.high, typical, 1 / self.time_s.low)

    @property
    def because(self) -> str:
        """Why there is no dynamic energy; empty where there is."""
        return "; ".join(dict.fromkeys(term.because for term in self.missing if term.needed))

    def by_term(self) -> dict[str, Range | None]:
        """Return joules per inference by kind of event; ``None`` where unknown."""
        names = dict.fromkeys(term.name for term in self.terms)
        return {name: self._sum(term for term in self.terms if term.name == name) for name in names}

    def by_layer(self) -> dict[str, Range | None]:
        """Return joules per inference by layer; ``None`` where a needed term is unknown."""
        names = dict.fromkeys(term.layer for term in self.terms)
        return {
            name: self._sum(term for term in self.terms if term.layer == name and (term.needed or term.energy_j))
            for name in names
        }

    @staticmethod
    def _sum(terms: Iterable[Term]) -> Range | None:
        found = [term for term in terms if term.events]
        if any(term.energy_j is None for term in found):
            return None
        return total(term.energy_j for term in found)


@dataclass(frozen=True)
class Measurement:
    """Joules and seconds that an instrument read. Never added to an estimate.

    Args:
        device, boundary: what was measured, and what was inside.
        method: counter, sampling, length and number of windows, idle subtracted or not.
        energy_j, seconds: per inference.
        low_j, high_j: spread over windows.
        batch, precision: how the device was run.
        idle_w: idle power that was subtracted, watts; ``None`` when nothing was.
        network: what ran.
        total_j: with the idle power, joules per inference; ``None`` where it was not kept.
        taken: the day, ``YYYY-MM-DD``.
    """

    device: str
    boundary: str
    method: str
    energy_j: float
    seconds: float
    low_j: float
    high_j: float
    batch: int
    precision: str
    idle_w: float | None = None
    network: str = ""
    total_j: float | None = None
    taken: str = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED

    @property
    def basis(self) -> str:
        """How the numbers came about, for the line beside them."""
        return f"measured ({self.device}; {self.method})"


@dataclass(frozen=True)
class NotMeasured:
    """What could not be measured, and why: never a number."""

    network: str
    device: str
    reason: str

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED

    @property
    def sentence(self) -> str:
        """Return what a reader is told."""
        return f"{self.network} on {self.device}: not measured, because {self.reason}"


def total(energies: Iterable[Range | None]) -> Range:
    """Return the sum of the known energies."""
    return reduce(add, (energy for energy in energies if energy is not None), Range(0.0, 0.0, 0.0))


def estimate(
    workload: Workload,
    profile: HardwareProfile,
    precision: str = NATIVE,
    *,
    with_estimates: bool = False,
    step_time_s: float | None = None,
    deployment: Deployment | None = None,
) -> CostEstimate:
    """Return what one inference of ``workload`` costs on ``profile``.

    neuromorphic: ``E = Σ_layers synops·e_synop + updates_active·e_active + updates_inactive·e_inactive + spikes·e_spike_out +
        messages·e_axon_out + messages within a tile·e_local + hops·e_hop``, then static power and running overhead × time.
        What the profile has no price for is named and left out; what is part of another price (`Quantity.includes`) is not added
        again; where active and inactive updates could not be told apart, low takes all as inactive and high all as active.
    asic: arithmetic, neuron updates or activation functions, and memory, each as its own term; rules in
        `mac_energy`, `ac_energy`, `update_energy`, `memory_energy`.
    gpu, cpu: ``E = dense MACs · e_mac`` of a measured workload, or ``2 · dense MACs · TDP / peak``: the best case of the data
        sheet. Spiking layers do their dense MACs every step.

    Args:
        workload: counts; host layers cannot be priced on a neuromorphic profile.
        profile: the chip.
        precision: ``"fp32"``, ``"fp16"``, ``"int8"``, or ``"intB"`` for B-bit activations with 8-bit weights; neuromorphic
            chips have only their own.
        with_estimates: also use numbers that are nobody's but the profile writer's estimate.
        step_time_s: seconds per time step, where it is known better than by the profile.
        deployment: where the network lies and what its spikes cause on the mesh (`deploy`); without it hops are unknown, and
            the time of a step is the profile's own range.

    Raises:
        ProfileError: the profile cannot price this workload at this precision.
    """
    if profile.kind == "neuromorphic":
        return _neuromorphic(workload, profile, with_estimates, step_time_s, deployment)
    if precision == NATIVE:
        raise ProfileError(
            f"{profile.name}: no precision was given",
            "its energies are per arithmetic precision",
            "say fp32, fp16 or int8",
        )
    priced = tuple(
        _asic_terms(workload, profile, precision)
        if profile.kind == "asic"
        else _processor_terms(workload, profile, precision)
    )
    notes = list(_asic_notes(precision)) if profile.kind == "asic" else []
    headline = _headline(profile, dict.fromkeys(path for term in priced for path in term.quantities))
    return CostEstimate(
        profile.name,
        profile.title,
        precision,
        profile.boundary,
        profile.excludes,
        priced,
        headline=headline,
        notes=tuple(notes),
    )


def _neuromorphic(
    workload: Workload,
    profile: HardwareProfile,
    with_estimates: bool,
    step_time_s: float | None,
    deployment: Deployment | None,
) -> CostEstimate:
    if any(layer.place == "host" or layer.kind == "ann" for layer in workload.layers):
        raise ProfileError(
            f"{profile.name}: ANN layers cannot be priced here",
            "a neuromorphic profile prices synops and neuron updates of spiking layers",
            "estimate workload.part('deployed') here and workload.part('host') on a GPU or CMOS profile",
        )
    pricing = _Pricing(profile, with_estimates)
    terms = [term for layer in workload.layers for term in _event_terms(layer, workload.samples, pricing, deployment)]
    chips = deployment.placement.chips if deployment else _chips(workload, profile)
    step, how, time_from = _step_time(profile, step_time_s, deployment)
    time = workload.timesteps * step if step else None
    latency = (workload.timesteps + deployment.depth) * step if step and deployment else None
    bare = CostEstimate(profile.name, profile.title, NATIVE, profile.boundary, profile.excludes, tuple(terms))
    whole = "static" in pricing.included
    totals = tuple(_totals(profile, bare.dynamic_j, time, chips)) if time and not whole else ()
    notes = list(_bound_notes(profile, bare))
    if whole:
        notes.append(f"{profile.name}: static power is in the price of an event; nothing is added for time")
    if totals and bare.dynamic_j:
        notes.append(
            "static power and energies per event come from different sources and voltages; a total adds them at the boundary it names"
        )
    notes.append(how)
    assumed = [
        key for key in ("cores_per_tile", "tiles_wide") if key in profile.limits and not profile.limits[key].citable
    ]
    if deployment is not None and assumed:
        notes.append(f"{profile.name}: hops are counted on an assumed mesh; none was found in print")
    paths = dict.fromkeys(path for term in terms for path in term.quantities)
    return replace(
        bare,
        totals=totals,
        time_s=time,
        latency_s=latency,
        chips=chips,
        cores=deployment.placement.cores if deployment else None,
        time_from=time_from,
        headline=_headline(profile, paths),
        notes=tuple(dict.fromkeys(note for note in notes if note)),
    )


def _headline(profile: HardwareProfile, paths: Iterable[str]) -> bool:
    """Whether every number at ``paths`` is from an opened source, and there is one."""
    found = [quantity for path in paths if (quantity := profile.quantity(path)) is not None]
    return bool(found) and all(quantity.headline for quantity in found)


@dataclass(frozen=True)
class _Pricing:
    """A profile's prices, and what each holds besides its own event."""

    profile: HardwareProfile
    with_estimates: bool

    def usable(self, key: str) -> Quantity | None:
        quantity = self.profile.energy.get(key)
        return quantity if quantity is not None and (quantity.citable or self.with_estimates) else None

    @property
    def included(self) -> dict[str, str]:
        """Terms that are in the price of another event: name to that event."""
        found = ((key, self.usable(key)) for key in self.profile.energy)
        return {name: key for key, quantity in found if quantity is not None for name in quantity.includes}

    def term(self, layer: str, name: str, key: str, events: float, needed: bool = True, family: str = "") -> Term:
        """Return ``events`` at the price of ``key``; zero where another price has it, unknown where nobody has it."""
        holder = self.included.get(family or name)
        if holder is not None:
            return Term(
                layer, name, events, Range(0.0, 0.0, 0.0), "", needed, f"in energy.{holder}", (f"energy.{holder}",)
            )
        quantity = self.usable(key)
        if quantity is not None:
            return Term(
                layer, name, events, events * quantity.range, "", needed, f"events × energy.{key}", (f"energy.{key}",)
            )
        return Term(layer, name, events, None, self.because(name, key), needed)

    def because(self, name: str, key: str) -> str:
        """Say why there is no price of ``key``."""
        quantity = self.profile.energy.get(key)
        if quantity is None:
            return f"no energy per {name} has been published for {self.profile.title}"
        if quantity.status == "estimate":
            return f"no energy per {name} has been published for {self.profile.title}; the profile's own estimate is used only when asked for"
        return f"the source of energy.{key} was not seen ({CHECKS[quantity.check]})"


def _event_terms(
    layer: LayerWorkload, samples: int, pricing: _Pricing, deployment: Deployment | None
) -> Iterator[Term]:
    if layer.kind == "input":
        yield _transfer(layer.name, layer.bytes_in / samples, pricing)
        return
    yield from _synop_terms(layer, samples, pricing)
    if layer.effective_macs:
        because = "the profile has no energy for a synapse that multiplies a graded value"
        yield Term(layer.name, "graded synop", layer.effective_macs / samples, None, because)
    yield _update_term(layer, samples, pricing)
    if "spike_out" in pricing.profile.energy:
        yield pricing.term(layer.name, "spike", "spike_out", layer.spikes / samples)
    yield from _mesh_terms(layer, samples, pricing, deployment)
    yield _transfer(layer.name, layer.bytes_out / samples, pricing)


def _transfer(layer: str, count: float, pricing: _Pricing) -> Term:
    if "io_byte" in pricing.profile.energy:
        return pricing.term(layer, "host I/O, byte", "io_byte", count, needed=False)
    return Term(
        layer, "host I/O, bytes", count, None, "no energy per byte between host and chip is known", needed=False
    )


def _synop_terms(layer: LayerWorkload, samples: int, pricing: _Pricing) -> Iterator[Term]:
    """Yield synops, by the kind of synapse where the profile tells them apart; a scaled copy is stored as a list."""
    if any(f"synop_{kind}" in pricing.profile.energy for kind in ("dense", "sparse", "conv")):
        for kind, events in (layer.acs_by_kind or {"sparse": layer.effective_acs}).items():
            yield pricing.term(layer.name, "synop", f"synop_{'sparse' if kind == 'scale' else kind}", events / samples)
    else:
        yield pricing.term(layer.name, "synop", "synop", layer.effective_acs / samples)


def _update_term(layer: LayerWorkload, samples: int, pricing: _Pricing) -> Term:
    active, inactive = (
        pricing.term(layer.name, "neuron update", f"neuron_update_{state}", 1) for state in ("active", "inactive")
    )
    updates = (layer.updates or 0) / samples
    if active.energy_j is None or inactive.energy_j is None:
        return replace(active if active.energy_j is None else inactive, events=updates)
    both = tuple(dict.fromkeys(active.quantities + inactive.quantities))
    if "neuron update" in pricing.included:
        return replace(active, events=updates)
    if layer.updates_active is None:
        spread = Range(updates * inactive.energy_j.low, None, updates * active.energy_j.high)
        formula = "neuron updates × (inactive … active): which were which was not seen"
        return Term(layer.name, "neuron update", updates, spread, "", True, formula, both)
    busy = layer.updates_active / samples
    energy = busy * active.energy_j + (updates - busy) * inactive.energy_j
    formula = "active updates × energy.neuron_update_active + inactive updates × energy.neuron_update_inactive"
    return Term(layer.name, "neuron update", updates, energy, "", True, formula, both)


def _mesh_terms(layer: LayerWorkload, samples: int, pricing: _Pricing, deployment: Deployment | None) -> Iterator[Term]:
    """Yield messages and hops: by the placement, or, without one, one message per layer that a spike goes to."""
    known = pricing.profile.energy
    traffic = deployment.traffic.get(layer.name) if deployment else None
    messages = (traffic.messages if traffic else layer.messages) / samples
    if "axon_out" in known:
        yield pricing.term(layer.name, "message", "axon_out", messages, family="axon")
    if "spike_local" in known:
        yield pricing.term(
            layer.name,
            "message within a tile",
            "spike_local",
            (traffic.local if traffic else layer.messages) / samples,
            False,
        )
    if traffic is None:
        because = "the network has not been placed on cores, so the number of hops is unknown"
        unknown = Term(layer.name, "hop", layer.messages / samples, None, because, needed=False)
        yield pricing.term(layer.name, "hop", "hop_ew", unknown.events, False) if "hop" in pricing.included else unknown
        return
    yield pricing.term(layer.name, "hop, east–west", "hop_ew", traffic.east_west / samples, False, family="hop")
    yield pricing.term(layer.name, "hop, north–south", "hop_ns", traffic.north_south / samples, False, family="hop")
    if traffic.crossings:
        because = "no energy per message between chips is known"
        yield Term(layer.name, "message between chips", traffic.crossings / samples, None, because, needed=False)


def _chips(workload: Workload, profile: HardwareProfile) -> int | None:
    """Return how many chips the capacities demand at least; a placement may need more."""
    neurons, bits = profile.limits.get("neurons_per_chip"), profile.limits.get("synapse_memory_per_chip")
    needs = []
    if neurons:
        needs.append(sum(layer.neurons for layer in workload.layers if layer.kind == "snn") / neurons.range.high)
    if bits:
        needs.append(8 * workload.total("parameters") / bits.range.high)
    return max(1, math.ceil(max(needs))) if needs else None


def _citable(profile: HardwareProfile, path: str) -> Quantity | None:
    """Return a number that estimates may use unasked, or ``None``."""
    quantity = profile.quantity(path)
    return quantity if quantity is not None and quantity.citable else None


def _step_time(
    profile: HardwareProfile, step_time_s: float | None, deployment: Deployment | None
) -> tuple[Range | None, str, tuple[str, ...]]:
    """Return seconds per time step, the note that says how it was found, and the numbers used."""
    if step_time_s is not None:
        return Range(step_time_s, step_time_s, step_time_s), "", ()
    step = _citable(profile, "time.step")
    measured = ("time.step",) if step is not None else ()
    computed = deployment.step_time(profile) if deployment else None
    if computed is not None:
        note = (
            f"{profile.name}: a step lasts as long as its busiest core needs, one event after the other, and then the barrier; "
            "contention on the mesh and what the host adds are not in it"
        )
        used = tuple(path for key in STEP_TIMES if _citable(profile, path := f"time.{key}") is not None)
        if step is not None:
            high = max(step.range.high, computed.high)
            bounds = Range(min(step.range.low, computed.low), computed.typical, high)
            return bounds, note + "; bounds: the profile's own measured steps", used + measured
        return computed, note, used
    if step is None:
        return None, "time per step is unknown, so static power × time is too", ()
    return step.range, "", measured


def _totals(profile: HardwareProfile, dynamic: Range | None, time: Range, chips: int | None) -> Iterator[Total]:
    for name, static in profile.static.items():
        if not static.citable:
            continue
        power, overhead = (chips or 1) * static.range, _citable(profile, f"overhead.{name}")
        extra = overhead.range * time if overhead is not None else None
        power = power + overhead.range if overhead is not None else power
        energy = power * time
        yield Total(
            name, f"{static.boundary}: {static.covers}", power, energy, dynamic + energy if dynamic else None, extra
        )


def _bound_notes(profile: HardwareProfile, cost: CostEstimate) -> Iterator[str]:
    used = dict.fromkeys(path for term in cost.terms for path in term.quantities)
    for path in (*used, *(("time.step",) if "step" in profile.time else ())):
        quantity = profile.quantity(path)
        if quantity is not None and quantity.bounds_from:
            yield f"{profile.name} {path}: {quantity.bounds_from}"


def precisions(profile: HardwareProfile) -> tuple[str, ...]:
    """Return the precisions at which a GPU or CPU can be priced; a price per MAC of a measured workload is one of floats."""
    measured = profile.energy.get("mac")
    if measured is not None and measured.citable:
        return ("fp32",)
    if _citable(profile, "power.tdp") is None:
        return ()
    return tuple(key for key in ("int8", "fp32", "fp16") if _citable(profile, f"peak.{key}") is not None)


def unpriced(workload: Workload, profile: HardwareProfile, precision: str) -> CostEstimate:
    """Return what stands in the place of an estimate that a GPU's or CPU's profile has no price for."""
    because = why_unpriced(profile, precision)
    terms = tuple(
        Term(layer.name, "mac", layer.dense_macs / workload.samples, None, because) for layer in workload.layers
    )
    return CostEstimate(
        profile.name, profile.title, precision, profile.boundary, profile.excludes, terms, headline=False
    )


def why_unpriced(profile: HardwareProfile, precision: str) -> str:
    """Say why a GPU's or CPU's profile cannot price a precision."""
    return f"{profile.name} cannot price {precision}: {_what_rates(profile)}"


def _what_rates(profile: HardwareProfile) -> str:
    rates = ", ".join(name for name, known in profile.peak.items() if known.citable) or "nothing"
    power = "no" if _citable(profile, "power.tdp") is None else "a"
    return (
        f"the profile has peak rates for {rates} and {power} thermal design power; what was recalled, and its "
        "writer's estimates, are not used"
    )


def _processor_terms(workload: Workload, profile: HardwareProfile, precision: str) -> Iterator[Term]:
    key = "int8" if re.fullmatch(r"int[1-8]", precision) else precision
    measured = profile.energy.get("mac")
    if measured is not None and measured.citable:
        for layer in workload.layers:
            macs = layer.dense_macs / workload.samples
            yield Term(
                layer.name, "mac", macs, macs * measured.range, "", True, "dense MACs × energy.mac", ("energy.mac",)
            )
        return
    power, rate = _citable(profile, "power.tdp"), _citable(profile, f"peak.{key}")
    if power is None or rate is None:
        raise ProfileError(
            f"{profile.name}: cannot price {precision}",
            _what_rates(profile),
            f"choose a precision that it has, or add power.tdp and peak.{key} to the profile",
        )
    joules = power.range.high / rate.range.low
    for layer in workload.layers:
        macs = layer.dense_macs / workload.samples
        energy = 2 * macs * joules * Range(1.0, 1.0, 1.0)
        yield Term(
            layer.name, "mac", macs, energy, "", True, "2 · dense MACs · TDP / peak rate", ("power.tdp", f"peak.{key}")
        )


def _asic_terms(workload: Workload, profile: HardwareProfile, precision: str) -> Iterator[Term]:
    for layer in workload.layers:
        if layer.kind == "input":
            because = "transfers between host and chip are not part of this profile"
            yield Term(layer.name, "host I/O, bytes", layer.bytes_in / workload.samples, None, because, needed=False)
            continue
        scale = 1 / workload.samples
        if layer.kind == "ann":
            macs, acs, updates = layer.dense_macs * scale, 0.0, float(layer.neurons)
        else:
            macs, acs, updates = (
                (layer.effective_macs or 0) * scale,
                layer.effective_acs * scale,
                (layer.updates or 0) * scale,
            )
        if macs:
            energy, used = mac_energy(profile, precision)
            yield Term(layer.name, "mac", macs, macs * energy, "", True, "MACs × (product + addition)", used)
        if acs:
            energy, used = ac_energy(profile, precision)
            yield Term(layer.name, "synop", acs, acs * energy, "", True, "synops × addition", used)
        energy, used = update_energy(profile, precision, layer)
        name = "activation" if layer.kind == "ann" else "neuron update"
        yield Term(
            layer.name, name, updates, updates * energy, "", True, f"{name}s × their products and additions", used
        )
        accesses, energy, used = memory_energy(profile, precision, layer, workload.samples, workload.timesteps)
        yield Term(
            layer.name,
            "memory",
            accesses,
            energy,
            "",
            True,
            "accesses × bits / 64 × energy of the memory that holds them",
            used,
        )


def _asic_notes(precision: str) -> Iterator[str]:
    yield (
        "memory: low, both sides move every number once; high, both fetch every operand of every operation; typical, the ANN reuses "
        "as dense accelerators do and the spiking part fetches per event"
    )
    yield "memory: data lie in the smallest listed SRAM that holds them, more than 1 MB in several banks of 1 MB (high: in DRAM)"
    if precision.startswith("int"):
        yield "integer accumulation: low and typical 8-bit additions, the usual convention; high 32-bit additions"
    if precision.startswith("int") and precision != "int8":
        yield (
            f"{precision}: no product of that width was published; it is the 8-bit product scaled by the operands' bits "
            "(8 → 32 bits costs 15.5× for 16× the bits in the same table); high: the 8-bit product"
        )


def _bits(precision: str) -> tuple[int, int, int]:
    """Return bits of a weight, of an activation, and of an accumulator or state variable."""
    if precision == "fp32":
        return 32, 32, 32
    if precision == "fp16":
        return 16, 16, 16
    match = re.fullmatch(r"int([1-8])", precision)
    if match is None:
        raise ProfileError(
            f"precision {precision!r} is unknown", "it is fp32, fp16, int8, or intB with B from 1 to 7", "choose one"
        )
    return 8, int(match[1]), 32


def _event(profile: HardwareProfile, key: str) -> Range:
    quantity: Quantity | None = profile.energy.get(key)
    if quantity is None or not quantity.citable:
        kept_out = "the profile writer's estimate" if quantity and quantity.status == "estimate" else CHECKS["R"]
        why = (
            f"energy.{key} is unknown there"
            if quantity is None
            else f"energy.{key} is there, but not used unasked ({kept_out})"
        )
        raise ProfileError(f"{profile.name} cannot price this", why, "choose another precision or profile")
    return quantity.range


def mac_energy(profile: HardwareProfile, precision: str) -> tuple[Range, tuple[str, ...]]:
    """Return joules of one multiply–accumulate, and the numbers used.

    float: product + addition. int8: product + 8-bit addition (high: 32-bit addition). B-bit activations and 8-bit weights:
    the 8-bit product × B/8, an interpolation (high: the whole 8-bit product).
    """
    if precision.startswith("fp"):
        keys = (f"mult_{precision}", f"add_{precision}")
        return _event(profile, keys[0]) + _event(profile, keys[1]), _paths(*keys)
    _, bits, _ = _bits(precision)
    product, narrow, wide = (_event(profile, key) for key in ("mult_int8", "add_int8", "add_int32"))
    packed = product * (bits / 8) + narrow
    return Range(packed.low, packed.typical, product.high + wide.high), _paths("mult_int8", "add_int8", "add_int32")


def ac_energy(profile: HardwareProfile, precision: str) -> tuple[Range, tuple[str, ...]]:
    """Return joules of one accumulate, and the numbers used: an addition (integer high: 32 bits wide)."""
    if precision.startswith("fp"):
        return _event(profile, f"add_{precision}"), _paths(f"add_{precision}")
    _bits(precision)
    narrow, wide = _event(profile, "add_int8"), _event(profile, "add_int32")
    return Range(narrow.low, narrow.typical, wide.high), _paths("add_int8", "add_int32")


def update_energy(profile: HardwareProfile, precision: str, layer: LayerWorkload) -> tuple[Range, tuple[str, ...]]:
    """Return joules of one neuron update, or of one activation function of an ANN layer, and the numbers used.

    Neuron: a product per decaying state variable (low: a shift, priced as an addition) and its additions; integers at 32 bits.
    ANN: bias and comparison; integers also rescale the accumulator, a 32-bit product (low: a shift).
    """
    add_key, mult_key = (
        ("add_int32", "mult_int32") if precision.startswith("int") else (f"add_{precision}", f"mult_{precision}")
    )
    products = layer.update_multiplies + (layer.kind == "ann" and precision.startswith("int"))
    energy = layer.update_adds * _event(profile, add_key)
    if not products:
        return energy, _paths(add_key)
    product = _event(profile, mult_key)
    if precision.startswith("int"):
        product = Range(_event(profile, add_key).low, product.typical, product.high)
    return energy + products * product, _paths(add_key, mult_key)


def memory_energy(
    profile: HardwareProfile, precision: str, layer: LayerWorkload, samples: int, timesteps: int
) -> tuple[float, Range, tuple[str, ...]]:
    """Return memory accesses of a layer per inference in its usual dataflow, their joules, and the numbers used.

    Perfect reuse moves everything once; no reuse fetches every operand of every operation (after Lemaire et al. 2022)::

                        perfect reuse                         no reuse
        ANN layer       weights, inputs, outputs once         weight and input per MAC; outputs once
        spiking layer   weights once, all steps of a neuron   weight, accumulator read and written per synop; state variables
                        together; spikes in and out           read and written per update; each spike 32 bits, written and
                        as one bit per neuron and step,       read once; each graded input read once, in the bits of an
                        graded inputs in an activation's      activation, as the ANN reads its input

    low: perfect reuse on either side, or no reuse where that is less: where hardly anything spikes, a bit per neuron and step is more
    than the events. high: no reuse on either side. typical: each side's usual dataflow, reuse in a dense ANN accelerator, fetches per
    event in a spiking one.

    An access of n bits costs n/64 of a 64-bit one. Each kind of data lies in the smallest SRAM of the profile that holds it all;
    more than 1 MB lies in several banks of 1 MB (high: in DRAM).
    """
    weight_bits, activation_bits, state_bits = _bits(precision)
    if layer.kind == "ann":
        macs = layer.dense_macs / samples
        weights = (weight_bits, layer.parameters * weight_bits)
        inputs = (activation_bits, layer.inputs * activation_bits)
        outputs = (float(layer.neurons), activation_bits, layer.neurons * activation_bits)
        reused = [(min(macs, layer.parameters), *weights), (min(macs, layer.inputs), *inputs), outputs]
        fetched = [(macs, *weights), (macs, *inputs), outputs]
        usual = reused
    else:
        synops = (layer.effective_acs + (layer.effective_macs or 0)) / samples
        updates = (layer.updates or 0) / samples
        weights = (weight_bits, layer.parameters * weight_bits)
        spiking, graded = layer.inputs - layer.graded_inputs, layer.graded_inputs * timesteps
        reused = [
            (min(synops, layer.parameters), *weights),
            (float(spiking * timesteps), 1, spiking * timesteps),
            (float(graded), activation_bits, graded * activation_bits),
            (float(layer.neurons * timesteps), 1, layer.neurons * timesteps),
        ]
        fetched = [
            (synops, *weights),
            (2 * synops, state_bits, layer.neurons * state_bits),
            (2 * updates * layer.state_variables, state_bits, layer.neurons * state_bits * layer.state_variables),
            (2 * layer.spikes / samples, MESSAGE_BITS, layer.neurons),
            (layer.graded_events / samples, activation_bits, layer.graded_inputs * activation_bits),
        ]
        usual = fetched
    low, used = _traffic(profile, reused)
    high, more = _traffic(profile, fetched)
    typical, _ = _traffic(profile, usual)
    energy = Range(min(low.low, high.low), typical.typical, high.high)
    return sum(accesses for accesses, _, _ in usual), energy, tuple(dict.fromkeys(used + more))


def _traffic(profile: HardwareProfile, traffic: Iterable[tuple[float, int, int]]) -> tuple[Range, tuple[str, ...]]:
    """Return joules of (accesses, bits of one, bits of all data of that kind), and the numbers used."""
    used: dict[str, None] = {}
    energy = Range(0.0, 0.0, 0.0)
    for accesses, bits, held in traffic:
        if not accesses:
            continue
        key = next((name for name, size in SRAM_BITS if held <= size), SRAM_BITS[-1][0])
        used[key] = None
        word = _event(profile, key)
        if held > SRAM_BITS[-1][1]:
            used["dram"] = None
            word = Range(word.low, word.typical, _event(profile, "dram").high)
        energy = energy + accesses * bits / WORD_BITS * word
    return energy, _paths(*used)


def _paths(*keys: str) -> tuple[str, ...]:
    return tuple(f"energy.{key}" for key in keys)
