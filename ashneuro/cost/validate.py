"""Predictions beside measurements: the error of the model on chips that others measured.

A price that was fitted on a workload predicts only others: `validate` leaves such rows out, and
with ``leave_one_out`` fits the price again on the other workloads that can determine it. Start at
`validate`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from pathlib import Path
from statistics import fmean, median

from ashneuro.cost.cases import (
    Case,
    MeasuredEnergy,
    Skipped,
    ann_workload,
    load_cases,
    outline_program,
    outline_synapses,
    outline_workloads,
)
from ashneuro.cost.cores import core_limits
from ashneuro.cost.estimate import estimate
from ashneuro.cost.fitting import Fit, fittable, refit, refitted
from ashneuro.cost.profile import HardwareProfile, Range, list_profiles, load_profile
from ashneuro.cost.running import term
from ashneuro.cost.terms import KnownError
from ashneuro.errors import ProfileError
from ashneuro.program.placement.place import place
from ashneuro.program.synapse import dense_macs

TOTAL = "all"
Load = Callable[[str], HardwareProfile]
# Measurements were printed with three or four digits, so a smaller difference is no miss.
ROUNDING = 5e-4


class Prediction(StrEnum):
    """A predicted range against the measured value."""

    INSIDE = "inside"
    TOO_LOW = "too low"
    TOO_HIGH = "too high"


@dataclass(frozen=True)
class EnergyRow:
    """One prediction beside one measurement.

    Args:
        case, quantity, boundary: the measurement: workload, quantity, hardware inside it.
        grade: as of `MeasuredEnergy`.
        profile: name of the predicting profile.
        terms: terms of the prediction.
        predicted_j, measured_j: joules per inference.
        lacks: costs in the measurement that the prediction leaves out.
        note: anything else that a reader must know.
        whole: False if it leaves costs out on purpose, to show them.
        fits: prices in it that were fitted on measurements, with the workloads behind them; never
            this one.
    """

    case: str
    quantity: str
    boundary: str
    grade: str
    profile: str
    terms: tuple[str, ...]
    predicted_j: Range
    measured_j: Range
    lacks: str
    note: str = ""
    whole: bool = True
    fits: Mapping[str, Fit] = field(default_factory=dict)

    @property
    def is_ann(self) -> bool:
        """True if the measured network is an ANN."""
        return "ann" in self.terms

    @property
    def ratio(self) -> tuple[float, float]:
        """Predicted / measured, lowest and highest."""
        return self.predicted_j.low / self.measured_j.high, self.predicted_j.high / self.measured_j.low

    @property
    def width(self) -> float:
        """Highest / lowest predicted value."""
        return self.predicted_j.high / self.predicted_j.low if self.predicted_j.low else math.inf

    @property
    def centre(self) -> float:
        """Predicted / measured, both at the geometric mean of their bounds."""
        return math.sqrt(math.prod(self.ratio))

    @property
    def verdict(self) -> Prediction:
        """``INSIDE`` if the measured value lies in the predicted range, else the direction."""
        low, high = self.ratio
        if high < 1 - ROUNDING:
            return Prediction.TOO_LOW
        return Prediction.TOO_HIGH if low > 1 + ROUNDING else Prediction.INSIDE


@dataclass(frozen=True)
class Score:
    """Share of a set of predictions that hold, and their width.

    Args:
        values: number of predictions.
        inside: of these, the ones whose range holds the measured value.
        median_width: median of highest / lowest predicted value; ``None`` without predictions.
        workloads: workloads behind them.
        share: mean over the workloads of the share of values inside, each weighing the same.
    """

    values: int
    inside: int
    median_width: float | None
    workloads: int
    share: float | None


def score(rows: Iterable[EnergyRow]) -> Score:
    """Return the score of the predictions that leave out nothing on purpose."""
    whole = [row for row in rows if row.whole]
    hits: dict[str, list[bool]] = {}
    for row in whole:
        hits.setdefault(row.case, []).append(row.verdict is Prediction.INSIDE)
    return Score(
        values=len(whole),
        inside=sum(map(sum, hits.values())),
        median_width=median(row.width for row in whole) if whole else None,
        workloads=len(hits),
        share=fmean(fmean(own) for own in hits.values()) if hits else None,
    )


# A wider prediction, as where no firing rate was published, says little about the model's error.
WIDEST = 4


@cache
def known_error(profile: str) -> KnownError | None:
    """Return the error of a bundled profile on measured workloads; ``None`` where none is known.

    Of a neuromorphic chip, counted are dynamic energies of events together with x86 cores or
    resets, predicted to within a factor of `WIDEST`; of others, all measured ANNs.
    """
    if profile not in list_profiles():
        return None
    rows = [
        row
        for row in energy_rows([profile])
        if row.is_ann or (row.whole and "events" in row.terms and row.fits and row.width <= WIDEST)
    ]
    if not rows:
        return None
    centres = [row.centre for row in rows]
    workloads = tuple(dict.fromkeys(row.case for row in rows))
    return KnownError(min(centres), max(centres), len(rows), workloads, any(row.is_ann for row in rows))


@dataclass(frozen=True)
class StepRow:
    """Seconds of one step, predicted and measured."""

    case: str
    profile: str
    predicted_s: Range
    measured_s: float
    note: str

    @property
    def ratio(self) -> tuple[float, float]:
        """Predicted / measured, lowest and highest."""
        return self.predicted_s.low / self.measured_s, self.predicted_s.high / self.measured_s


@dataclass(frozen=True)
class PartitionRow:
    """The partition of one layer, predicted and printed; the last row of a case is its total."""

    case: str
    chip: str
    layer: str
    shape: str
    cores: int
    printed_cores: int
    neurons: int | None = None
    printed_neurons: int | None = None
    words: int | None = None
    printed_words: int | None = None

    @property
    def is_total(self) -> bool:
        """True for the row of a whole network."""
        return self.layer == TOTAL


@dataclass(frozen=True)
class Validation:
    """All comparisons with measurements, and the measurements that could not be compared."""

    energies: tuple[EnergyRow, ...]
    steps: tuple[StepRow, ...]
    partitions: tuple[PartitionRow, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


def validate(
    profiles: Sequence[str] | None = None, folder: Path | None = None, *, leave_one_out: bool = False
) -> Validation:
    """Return predictions beside all measured workloads.

    Args:
        profiles: restricts the predictions to these profiles: names, or the user's own TOML files.
            By default each case names its profiles.
        folder: folder of the cases; by default the bundled ones.
        leave_one_out: predict every measurement that needs a fitted price, and only these, with
            prices fitted on all other workloads.
    """
    cases = load_cases(folder)
    load = cache(load_profile)
    others = cases if leave_one_out else ()
    energies = tuple(row for case in cases for row in _energy_rows(case, profiles, load, others))
    if leave_one_out:
        return Validation(energies, (), (), tuple(_undetermined(cases, profiles, load)), ())
    partitions = tuple(
        row for case in cases for row in _partition_rows(case) if profiles is None or case.chip in profiles
    )
    own = [load(name) for name in profiles or () if name.endswith(".toml")]
    skipped = tuple(replace(item, name=f"{case.title}: {item.name}") for case in cases for item in case.skipped)
    skipped += tuple(item for case in cases for profile in own for item in _unpriced(case, profile))
    notes = tuple(f"{case.title}: {case.note}" for case in cases if case.note)
    steps = tuple(row for case in cases for row in _step_rows(case, profiles, load))
    return Validation(energies, steps, partitions, skipped, notes)


def energy_rows(profiles: Sequence[str] | None = None, folder: Path | None = None) -> tuple[EnergyRow, ...]:
    """Return the energies of `validate` alone; arguments as there."""
    load = cache(load_profile)
    return tuple(row for case in load_cases(folder) for row in _energy_rows(case, profiles, load, ()))


def _energy_rows(case: Case, profiles: Sequence[str] | None, load: Load, cases: Sequence[Case]) -> Iterator[EnergyRow]:
    """Yield the predictions of one case.

    Args:
        load: returns a profile by name or path.
        cases: workloads to fit prices on, this one left out; none: the profiles' own prices.
    """
    for item in case.measured:
        for name in item.profiles if profiles is None else profiles:
            # A user's own profile is tried on every case that is predicted from events alone.
            if name not in item.profiles and not (name.endswith(".toml") and item.predict == ("events",)):
                continue
            profile = load(name)
            # A bundled profile without a price is a fault of the case; a user's own one is skipped.
            if name.endswith(".toml") and _why_unpriced(case, profile):
                continue
            fits = _fits(case, item, profile, cases)
            if fits is None or (cases and not fits) or any(case.name in fit.cases for fit in fits.values()):
                continue
            if cases:
                profile = refitted(profile, fits)
            parts = [_term(case, item, profile, path) for path in item.predict]
            predicted = parts[0]
            for part in parts[1:]:
                predicted = predicted + part
            notes = "; ".join(
                note
                for note in (item.note, case.activity.basis if case.activity and "events" in item.predict else "")
                if note
            )
            yield EnergyRow(
                case=case.title,
                quantity=item.name,
                boundary=item.boundary,
                grade=item.grade,
                profile=profile.name,
                terms=item.predict,
                predicted_j=predicted,
                measured_j=item.range_j(case),
                lacks=_lacks(item, profile),
                note=notes,
                whole=item.whole,
                fits=fits,
            )


def _fits(case: Case, item: MeasuredEnergy, profile: HardwareProfile, cases: Sequence[Case]) -> dict[str, Fit] | None:
    """Return the fitted prices of a prediction; ``None`` where no other workload determines one."""
    found: dict[str, Fit] = {}
    for path in item.predict:
        if path in ("events", "ann"):
            prices = {key: price for key, price in profile.energy.items() if price.fitted_on}
            if prices and cases:
                return None  # prices of events are not fitted here
            found |= {f"energy.{key}": Fit(price.range, price.fitted_on) for key, price in prices.items()}
            continue
        quantity = profile.quantity(path)
        if quantity is None or not quantity.fitted_on:
            continue
        if not cases:
            found[path] = Fit(quantity.range, quantity.fitted_on)
            continue
        fit = refit(profile, path, [other for other in cases if other.name != case.name and other.chip == case.chip])
        if fit is None:
            return None
        found[path] = fit
    return found


def _undetermined(cases: Sequence[Case], profiles: Sequence[str] | None, load: Load) -> Iterator[Skipped]:
    """Yield the fitted prices that only one workload determines."""
    for name in dict.fromkeys(name for case in cases for item in case.measured for name in item.profiles):
        if profiles is not None and name not in profiles:
            continue
        profile = load(name)
        for path, quantity in profile.quantities():
            if quantity.fitted_on and len(fittable(cases, path)) <= 1:
                only = ", ".join(quantity.fitted_on)
                yield Skipped(f"{name} {path}", f"only {only} determines it, so that one cannot be left out")


def _unpriced(case: Case, profile: HardwareProfile) -> Iterator[Skipped]:
    """Yield the measurements that a user's own profile cannot predict."""
    why = _why_unpriced(case, profile)
    names = [item.name for item in case.measured if item.predict == ("events",)]
    yield from (Skipped(f"{case.title}: {name}", f"{profile.name}: {why}") for name in names if why)


def _why_unpriced(case: Case, profile: HardwareProfile) -> str:
    """Return the reason why a profile cannot price the events of a case; empty if it can."""
    if profile.kind != "neuromorphic":
        events = "the case has synops and neuron updates of a spiking chip"
        return f"{events}, and a profile of kind {profile.kind} prices none"
    return "" if case.activity is None else estimate(outline_workloads(case)[1], profile).because


def _term(case: Case, item: MeasuredEnergy, profile: HardwareProfile, path: str) -> Range:
    if path == "events":
        low, high = (estimate(work, profile).dynamic_j for work in outline_workloads(case, item.steps))
        if low is None or high is None:
            raise ProfileError(
                f"{profile.name} cannot price the events of {case.title}",
                "an event has no price in the profile",
                "leave the profile out",
            )
        # Copies on one chip take the same each, so events are not shared.
        return Range(low.low, None, high.high)
    if path == "ann":
        assert case.ann is not None
        whole = estimate(ann_workload(case), profile, case.ann.precision).dynamic_j
        if whole is None:
            raise ProfileError(f"{profile.name} cannot price {case.title}", "a price is missing", "leave it out")
        return whole
    energy = term(profile, path, item.usage(case))
    if energy is None:
        raise ProfileError(
            f"{case.title}, {item.name}",
            f"{profile.name} has no {path}, or the case no seconds, cores or x86 cores",
            "correct the case",
        )
    return energy


def _step_rows(case: Case, profiles: Sequence[str] | None, load: Load) -> Iterator[StepRow]:
    """Yield step times: synops and updates of the busiest core in sequence, then the barrier."""
    if case.step is None:
        return
    for name in case.step.profiles:
        if profiles is not None and name not in profiles:
            continue
        profile = load(name)
        if "synop" not in profile.time:
            # Without times of events the profile has only the range of steps that were measured.
            step = profile.time["step"]
            yield StepRow(case.title, name, step.range, case.step.seconds, case.step.note)
            continue
        assert case.network is not None
        placement = place(outline_program(case.network), core_limits(profile))
        times = {key: quantity.range for key, quantity in profile.time.items()}
        low, high = (
            max(
                _core_seconds(case, index, end, layer.block_share, times)
                for index, layer in enumerate(placement.layers)
            )
            for end in (0, 1)
        )
        predicted = Range(low + times["barrier"].low, None, high + times["barrier"].high)
        yield StepRow(case.title, name, predicted, case.step.seconds, case.step.note)


def _core_seconds(case: Case, index: int, end: int, share: float, times: Mapping[str, Range]) -> float:
    """Return the busy seconds per step of a layer's fullest core, at the low (0) or high (1) end.

    Args:
        index: index of the layer.
        share: share of the layer's neurons on that core.
        times: the profile's times.
    """
    assert case.network is not None and case.activity is not None
    _, synapse = list(outline_synapses(case.network))[index]
    neurons = math.prod(case.network.input) if synapse is None else synapse.out_size
    if case.activity.firing_rate is not None:
        synops = case.activity.firing_rate[end] * (dense_macs(synapse) if synapse else 0)
    else:
        synops = case.activity.synops_by_layer[index] / case.steps
    update, synop = times["neuron_update_active"].high if end else times["neuron_update_inactive"].low, times["synop"]
    return share * (synops * (synop.high if end else synop.low) + neurons * update)


def _lacks(item: MeasuredEnergy, profile: HardwareProfile) -> str:
    if "events" not in item.predict:
        # A part that was measured on its own lacks nothing.
        return "; ".join(item.lacks)
    lacking = []
    if not any(path.startswith(("overhead", "x86")) for path in item.predict):
        lacking.append("x86 cores")
    if "inference.core" not in item.predict:
        lacking.append("reset and injected inputs")
    lacking += ["the barrier of a step", "hops"]
    if "spike_out" not in profile.energy:
        lacking.append("generating a spike")
    return ", ".join([*lacking, *item.lacks])


def _partition_rows(case: Case) -> Iterator[PartitionRow]:
    printed = case.partition
    if printed is None or case.network is None:
        return
    placement = place(outline_program(case.network), core_limits(load_profile(case.chip)))
    for index, placed in enumerate(placement.layers):
        shape = " × ".join(map(str, placed.shape))
        yield PartitionRow(
            case.title,
            case.chip,
            placed.layer,
            shape,
            placed.cores,
            printed.cores[index],
            min(placed.neurons, math.prod(placed.shape)) if len(placed.shape) == 1 else placed.neurons,
            printed.neurons[index] if printed.neurons else None,
            placed.synapse_words,
            printed.words[index] if printed.words else None,
        )
    yield PartitionRow(case.title, case.chip, TOTAL, "", placement.cores, sum(printed.cores))
