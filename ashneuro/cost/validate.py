"""Predictions beside measurements: the error of the model on chips that others measured.

A term that was fitted on one experiment is only shown on another. Start at `validate`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from ashneuro.cost.cases import (
    Case,
    MeasuredEnergy,
    Skipped,
    load_cases,
    outline_program,
    outline_synapses,
    outline_workloads,
)
from ashneuro.cost.cores import core_limits
from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import HardwareProfile, Range, load_profile
from ashneuro.errors import ProfileError
from ashneuro.program.placement.place import place
from ashneuro.program.synapse import dense_macs

TOTAL = "all"


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

    @property
    def ratio(self) -> tuple[float, float]:
        """Predicted / measured, lowest and highest."""
        return self.predicted_j.low / self.measured_j.high, self.predicted_j.high / self.measured_j.low

    @property
    def verdict(self) -> Prediction:
        """``INSIDE`` if the measured value lies in the predicted range, else the direction."""
        low, high = self.ratio
        return Prediction.TOO_LOW if high < 1 else Prediction.TOO_HIGH if low > 1 else Prediction.INSIDE


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


def validate(profiles: Sequence[str] | None = None, folder: Path | None = None) -> Validation:
    """Return predictions beside all measured workloads.

    Args:
        profiles: restricts the predictions to these profiles: names, or the user's own TOML files.
            By default each case names its profiles.
        folder: folder of the cases; by default the bundled ones.
    """
    cases = load_cases(folder)
    energies = tuple(row for case in cases for row in _energy_rows(case, profiles))
    partitions = tuple(
        row for case in cases for row in _partition_rows(case) if profiles is None or case.chip in profiles
    )
    own = [load_profile(name) for name in profiles or () if name.endswith(".toml")]
    skipped = tuple(replace(item, name=f"{case.title}: {item.name}") for case in cases for item in case.skipped)
    skipped += tuple(item for case in cases for profile in own for item in _unpriced(case, profile))
    notes = tuple(f"{case.title}: {case.note}" for case in cases if case.note)
    steps = tuple(row for case in cases for row in _step_rows(case, profiles))
    return Validation(energies, steps, partitions, skipped, notes)


def _energy_rows(case: Case, profiles: Sequence[str] | None) -> Iterator[EnergyRow]:
    for item in case.measured:
        for name in item.profiles if profiles is None else profiles:
            # A user's own profile is tried on every case that is predicted from events alone.
            if name not in item.profiles and not (name.endswith(".toml") and item.predict == ("events",)):
                continue
            profile = load_profile(name)
            # A bundled profile without a price is a fault of the case; a user's own one is skipped.
            if name.endswith(".toml") and _why_unpriced(case, profile):
                continue
            parts = [_term(case, item, profile, term) for term in item.predict]
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
                measured_j=item.range_j,
                lacks=_lacks(item, profile),
                note=notes,
            )


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


def _term(case: Case, item: MeasuredEnergy, profile: HardwareProfile, term: str) -> Range:
    if term == "events":
        low, high = (estimate(work, profile).dynamic_j for work in outline_workloads(case))
        if low is None or high is None:
            raise ProfileError(
                f"{profile.name} cannot price the events of {case.title}",
                "an event has no price in the profile",
                "leave the profile out",
            )
        return Range(low.low, None, high.high)
    quantity = profile.quantity(term)
    if quantity is None or item.seconds is None:
        raise ProfileError(
            f"{case.title}, {item.name}", f"{profile.name} has no {term}, or the case no seconds", "correct the case"
        )
    return item.chips * item.seconds * quantity.range


def _step_rows(case: Case, profiles: Sequence[str] | None) -> Iterator[StepRow]:
    """Yield step times: synops and updates of the busiest core in sequence, then the barrier."""
    if case.step is None or case.network is None:
        return
    for name in case.step.profiles:
        if profiles is not None and name not in profiles:
            continue
        profile = load_profile(name)
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
        return "every event"
    has_overhead = any(term.startswith("overhead") for term in item.predict)
    lacking = [] if has_overhead else ["the running overhead of the chip"]
    lacking += ["the barrier of a step", "spike injection and x86 cores", "hops"]
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
