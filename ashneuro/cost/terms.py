"""Joules of one inference, term by term: the parts that every estimator fills in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add

from ashneuro.cost.profile import HardwareProfile, Range

NATIVE = "native"


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

    @classmethod
    def from_terms(
        cls,
        profile: HardwareProfile,
        precision: str,
        terms: Iterable[Term],
        notes: tuple[str, ...] = (),
    ) -> CostEstimate:
        """Return an estimate without static power and time."""
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


def total(energies: Iterable[Range | None]) -> Range:
    """Return the sum of the known energies."""
    return reduce(add, (energy for energy in energies if energy is not None), Range(0.0, 0.0, 0.0))


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
