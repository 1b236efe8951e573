"""The result of an estimate: joules per layer and kind of event, and their sums."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add

from ashneuro.cost.profile import HardwareProfile, Range
from ashneuro.display import Plotted

NATIVE = "native"
SCALES = ((1.0, "J"), (1e3, "mJ"), (1e6, "µJ"), (1e9, "nJ"), (1e12, "pJ"))


@dataclass(frozen=True)
class Term:
    """One kind of event in one layer, per inference.

    Args:
        layer: name of the layer.
        name: kind of event: ``"synop"``, ``"mac"``, ``"neuron update"``, ``"spike"``, ``"hop"``,
            ``"memory"``, ``"activation"``, ``"host I/O, bytes"`` …
        events: number of events.
        energy_j: joules; ``None`` where the profile has no price.
        because: reason for a missing price.
        needed: True if the dynamic energy is meaningless without this term.
        formula: the arithmetic, in words.
        quantities: paths of the profile's numbers in it, e.g. ``"energy.synop"``.
        bracket_j: joules by our own estimate, where the profile has no price; in no sum but
            `CostEstimate.bracketed_j`.
    """

    layer: str
    name: str
    events: float
    energy_j: Range | None
    because: str = ""
    needed: bool = True
    formula: str = ""
    quantities: tuple[str, ...] = ()
    bracket_j: Range | None = None


@dataclass(frozen=True)
class Addition:
    """A dynamic cost besides events, per inference.

    Args:
        name: ``"per inference"``, ``"x86 clock"``, ``"x86 code"``.
        energy_j: joules.
        formula: the arithmetic, in words.
        quantities: paths of the profile's numbers in it.
        fitted_on: measured workloads that its price was fitted on.
    """

    name: str
    energy_j: Range
    formula: str
    quantities: tuple[str, ...]
    fitted_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Total:
    """Dynamic energy plus static power × time, at one boundary.

    Args:
        name: key of the static power in the profile.
        boundary: hardware that draws that power.
        power_w: static power and running overhead of all chips.
        energy_j: static part alone, per inference.
        total_j: static and dynamic part; ``None`` where the dynamic part is not estimable.
        overhead_j: share of the static part that running adds on top of the events: step barriers,
            x86 cores, clocks.
        full_j: the same total with the costs besides events that its static part does not include;
            ``None`` where the profile has none or the dynamic part is not estimable.
        quantities: paths of the profile's numbers in the static part.
    """

    name: str
    boundary: str
    power_w: Range
    energy_j: Range
    total_j: Range | None
    overhead_j: Range | None = None
    full_j: Range | None = None
    quantities: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownError:
    """Predicted / measured on workloads of a chip that no price in the prediction was fitted on.

    Args:
        low, high: lowest and highest ratio, each at the middle of the predicted range.
        values: number of measured values.
        workloads: titles of the workloads.
        ann: True if they are ANNs on devices of this kind.
    """

    low: float
    high: float
    values: int
    workloads: tuple[str, ...]
    ann: bool = False

    @property
    def sentence(self) -> str:
        """The error in words."""
        if self.ann:
            ends = " to ".join(dict.fromkeys(f"{ratio:.2g}" for ratio in (self.low, self.high)))
            return (
                f"measured ANNs were predicted at {ends} × of what the whole device took ({self.values} value(s); "
                "`ashneuro profiles validate` has each)"
            )
        return (
            f"comparable networks were predicted at {self.low:.2g} to {self.high:.2g} × of what was measured, dynamic, "
            f"with x86 cores or resets ({self.values} values: {'; '.join(self.workloads)}); "
            "`ashneuro profiles validate` has each"
        )


@dataclass(frozen=True, repr=False)
class CostEstimate(Plotted):
    """Estimated energy and time of one inference on one chip.

    Args:
        profile, title: name and title of the profile.
        precision: arithmetic that was priced; ``"native"`` where the chip has only its own.
        boundary: hardware that the numbers include.
        excludes: costs that they leave out.
        terms: one per layer and kind of event.
        totals: dynamic energy with static power × time, one per boundary in the profile.
        time_s: seconds per inference while samples stream, T steps each; ``None`` where unknown.
        latency_s: seconds from a sample's first input to its last output: T steps, and one more per
            layer in a row.
        chips: chips of the placement; without one, the least number that holds the network.
        cores: cores of the placement.
        time_from: paths of the profile's numbers behind the seconds.
        headline: True if every number behind the energy comes from a source that was opened.
        notes: rules and caveats for the reader.
        additions: dynamic costs besides events, from prices fitted on measured chips; they are in
            no sum of events.
        error: error of the profile on measured workloads; ``None`` where none is known.
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
    additions: tuple[Addition, ...] = ()
    error: KnownError | None = None

    @classmethod
    def from_terms(
        cls,
        profile: HardwareProfile,
        precision: str,
        terms: Iterable[Term],
        notes: tuple[str, ...] = (),
    ) -> CostEstimate:
        """Return an estimate of the dynamic energy alone, without static power and time."""
        terms = tuple(terms)
        paths = dict.fromkeys(path for term in terms for path in term.quantities)
        return cls(
            profile.name,
            profile.title,
            precision,
            profile.boundary,
            profile.excludes,
            terms,
            headline=profile.headline(paths),
            notes=notes,
        )

    @property
    def basis(self) -> str:
        """Basis of the numbers, as it is printed beside them."""
        return f"estimated ({self.profile})"

    @property
    def missing(self) -> tuple[Term, ...]:
        """Terms without a price, one per kind of event."""
        seen: dict[str, Term] = {}
        for term in self.terms:
            if term.energy_j is None and term.events:
                seen.setdefault(term.name, term)
        return tuple(seen.values())

    @property
    def dynamic_j(self) -> Range | None:
        """Joules of all events, per inference; ``None`` where a needed term has no price."""
        # Without any price the sum would be 0 J, which reads as free.
        if any(term.needed for term in self.missing) or not any(term.energy_j for term in self.terms):
            return None
        return total(term.energy_j for term in self.terms)

    @property
    def bracketed_j(self) -> Range | None:
        """Joules of all events, with our own brackets where prices are missing.

        It is an estimate by this project; no verdict and no headline rests on it.
        """
        missing = [term for term in self.missing if term.needed]
        stand_in = [term for term in self.terms if term.energy_j is None and term.events and term.needed]
        if not missing or any(term.bracket_j is None for term in stand_in):
            return None
        return total(term.energy_j or term.bracket_j for term in self.terms)

    @property
    def running_j(self) -> Range | None:
        """Joules of all events and of the costs besides them; ``None`` where one is unknown."""
        if self.dynamic_j is None or not self.additions:
            return None
        return self.dynamic_j + total(item.energy_j for item in self.additions)

    @property
    def throughput_per_s(self) -> Range | None:
        """Inferences per second while samples stream."""
        if self.time_s is None:
            return None
        typical = None if self.time_s.typical is None else 1 / self.time_s.typical
        return Range(1 / self.time_s.high, typical, 1 / self.time_s.low)

    @property
    def because(self) -> str:
        """Reason for a missing dynamic energy; empty where there is one."""
        return "; ".join(dict.fromkeys(term.because for term in self.missing if term.needed))

    def by_term(self) -> dict[str, Range | None]:
        """Return joules per inference by kind of event; ``None`` where a price is missing."""
        names = dict.fromkeys(term.name for term in self.terms)
        return {name: self._sum(term for term in self.terms if term.name == name) for name in names}

    def by_layer(self) -> dict[str, Range | None]:
        """Return joules per inference by layer; ``None`` where a needed term has no price."""
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


def total(energies: Iterable[Range | None]) -> Range:
    """Return the sum of the known energies."""
    return reduce(add, (energy for energy in energies if energy is not None), Range(0.0, 0.0, 0.0))


def energy_text(energy: Range | None) -> str:
    """Return joules as text: ``"1.3 µJ (1.1–2)"``, or ``"1–3 µJ"`` without a typical value."""
    if energy is None:
        return "unknown"
    factor, unit = energy_scale(energy.high)
    low, high = (f"{number * factor:.3g}" for number in (energy.low, energy.high))
    if energy.typical is None:
        return f"{low}–{high} {unit}"
    typical = f"{energy.typical * factor:.3g}"
    return f"{typical} {unit}" if energy.is_point else f"{typical} {unit} ({low}–{high})"


def energy_scale(joules: float) -> tuple[float, str]:
    """Return factor and unit that show an energy as 1 or more; pJ for whatever is below 1 nJ."""
    return next(((factor, unit) for factor, unit in SCALES if joules * factor >= 1), SCALES[-1])
