"""The model against chips that somebody measured: predicted range, measured value, their ratio, and what the model lacks.

Cases are TOML files in ``hardware_profiles/measured/``: a network, its activity, and what was measured or printed. A term that was
fitted on one experiment is only ever shown on another. Start at `validate`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ashneuro.cost.cores import core_limits
from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import CLOSED, UNITS, Check, HardwareProfile, Range, load_profile, profile_folder
from ashneuro.cost.workload import LayerWorkload, Workload
from ashneuro.errors import ProfileError
from ashneuro.program.placement.place import place
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.synapse import conv_shape, dense_macs

Pair = int | tuple[int, int]


@dataclass(frozen=True)
class LayerOutline:
    """One layer of a measured network: ``"entry"`` neurons that take the input itself, a convolution, or a dense layer.

    Args:
        extra: its neurons exist already (a branch that ends in a layer of the rest of the network).
    """

    kind: Literal["entry", "conv", "dense"]
    channels: int = 0
    neurons: int = 0
    kernel: int = 0
    stride: Pair = 1
    padding: Pair = 0
    extra: bool = False

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED


@dataclass(frozen=True)
class NetworkOutline:
    """Shapes of a measured network; its weights are not known and all count as other than zero."""

    input: tuple[int, ...]
    layers: tuple[LayerOutline, ...]

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED


@dataclass(frozen=True)
class Partition:
    """What a compiler printed: cores of every layer, and neurons and 64-bit words of each of its cores."""

    cores: tuple[int, ...]
    neurons: tuple[int, ...] = ()
    words: tuple[int, ...] = ()
    note: str = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED


@dataclass(frozen=True)
class ActivityOutline:
    """Events of one inference, counted; or a firing rate (spikes per neuron and step) of every layer and of the input.

    A pair is the least and the most that is compatible with what is known.
    """

    basis: str
    firing_rate: tuple[float, float] | None = None
    synops: float | tuple[float, float] | None = None
    synops_by_kind: Mapping[str, int] = field(default_factory=dict)
    synops_by_layer: tuple[int, ...] = ()
    updates: int = 0
    updates_active: int | tuple[int, int] = 0
    spikes: int | tuple[int, int] = 0

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED


@dataclass(frozen=True)
class MeasuredEnergy:
    """One measured energy, and which terms of which profiles are to predict it.

    Args:
        predict: ``"events"``, ``"static.NAME"``, ``"overhead.NAME"``; the last two times ``seconds`` (and ``chips``).
        grade: A: sizes, activity, energy and boundary are known; B: one of them is bracketed or missing.
    """

    name: str
    value: float
    unit: str
    boundary: str
    grade: str
    predict: tuple[str, ...]
    profiles: tuple[str, ...]
    high: float | None = None
    seconds: float | None = None
    chips: int = 1
    note: str = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED

    @property
    def range_j(self) -> Range:
        """What was measured, joules."""
        factor = UNITS[self.unit][1]
        return Range(self.value * factor, self.value * factor, (self.high or self.value) * factor)


@dataclass(frozen=True)
class MeasuredStep:
    """The measured time of one step, and whose times per event are to predict it."""

    value: float
    unit: str
    profiles: tuple[str, ...]
    note: str = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED

    @property
    def seconds(self) -> float:
        """What was measured."""
        return self.value * UNITS[self.unit][1]


@dataclass(frozen=True)
class Skipped:
    """A measured workload that the model cannot be tried on, and why."""

    name: str
    reason: str

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED


@dataclass(frozen=True)
class Case:
    """One measured workload."""

    title: str
    chip: str
    source: str
    check: Check
    steps: int
    note: str = ""
    network: NetworkOutline | None = None
    partition: Partition | None = None
    activity: ActivityOutline | None = None
    measured: tuple[MeasuredEnergy, ...] = ()
    step: MeasuredStep | None = None
    skipped: tuple[Skipped, ...] = ()

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED


@dataclass(frozen=True)
class EnergyRow:
    """One prediction beside one measurement.

    Args:
        case, quantity: what was measured; ``boundary``: where.
        profile: whose numbers predicted it.
        terms: what was added up.
        predicted_j, measured_j: joules per inference.
        ratio: predicted / measured, lowest and highest.
        lacks: what is in the measurement and not in the prediction.
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
    def verdict(self) -> str:
        """``"inside"`` where the measurement lies in the predicted range, else which side it misses."""
        low, high = self.ratio
        return "too low" if high < 1 else "too high" if low > 1 else "inside"


@dataclass(frozen=True)
class StepRow:
    """The time of one step, predicted beside measured, seconds."""

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
    """One layer's partition, predicted beside printed; ``layer`` is ``"all"`` in the last row of a case."""

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


@dataclass(frozen=True)
class Validation:
    """Everything that could be compared, and everything that could not, with the reason."""

    energies: tuple[EnergyRow, ...]
    steps: tuple[StepRow, ...]
    partitions: tuple[PartitionRow, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


def measured_folder() -> Path:
    """Return the folder of the measured workloads."""
    return profile_folder() / "measured"


def load_cases(folder: Path | None = None) -> tuple[Case, ...]:
    """Return the measured workloads in a folder, by file name.

    Raises:
        ProfileError: a file cannot be read or is not valid; all faults of it at once.
    """
    return tuple(load_case(path) for path in sorted((folder or measured_folder()).glob("*.toml")))


def load_case(path: Path) -> Case:
    """Return the measured workload in a file; errors as in `load_cases`."""
    from pydantic import TypeAdapter, ValidationError

    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        case = TypeAdapter(Case).validate_python(values)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"cannot read {path}", str(error), "mend the file") from error
    except ValidationError as error:
        faults = "".join(f"\n  {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ProfileError(f"{path}: {error.error_count()} fault(s)", faults, "correct them") from error
    units = [item.unit for item in case.measured if UNITS.get(item.unit, ("",))[0] != "energy"]
    rows = len(case.network.layers) if case.network else 0
    bad = [*(f"{unit!r} is not a unit of energy" for unit in units)]
    if case.step is not None:
        if UNITS.get(case.step.unit, ("",))[0] != "time":
            bad.append(f"{case.step.unit!r} is not a unit of time")
        if case.activity is None or (case.activity.firing_rate is None and len(case.activity.synops_by_layer) != rows):
            bad.append("the time of a step needs a firing rate, or synops_by_layer for every layer")
    for name in ("cores", "neurons", "words"):
        given = getattr(case.partition, name) if case.partition else ()
        if given and len(given) != rows:
            bad.append(f"partition.{name} has {len(given)} entries, the network {rows} layers")
    if any("events" in item.predict for item in case.measured) and case.activity is None:
        bad.append("events are to be predicted and no activity is given")
    if bad:
        raise ProfileError(f"{path} is not valid", "; ".join(bad), "correct it")
    return case


def validate(profiles: Sequence[str] | None = None, folder: Path | None = None) -> Validation:
    """Return the model beside every measured workload.

    Args:
        profiles: only predictions of these, by name, or files of the user's own; by default all that a case asks for.
        folder: of the cases.
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
            # A profile of the user's own is tried on every case whose events alone are predicted.
            if name not in item.profiles and not (name.endswith(".toml") and item.predict == ("events",)):
                continue
            profile = load_profile(name)
            if name.endswith(".toml") and _why_unpriced(case, profile):
                continue
            parts = [_term(case, item, profile, term) for term in item.predict]
            predicted = parts[0]
            for part in parts[1:]:
                predicted = predicted + part
            lacks = _lacks(item, profile)
            notes = "; ".join(
                note
                for note in (item.note, case.activity.basis if case.activity and "events" in item.predict else "")
                if note
            )
            yield EnergyRow(
                case.title,
                item.name,
                item.boundary,
                item.grade,
                profile.name,
                item.predict,
                predicted,
                item.range_j,
                lacks,
                notes,
            )


def _unpriced(case: Case, profile: HardwareProfile) -> Iterator[Skipped]:
    """Yield the measurements of events that a profile of the user's own cannot be tried on."""
    why = _why_unpriced(case, profile)
    names = [item.name for item in case.measured if item.predict == ("events",)]
    yield from (Skipped(f"{case.title}: {name}", f"{profile.name}: {why}") for name in names if why)


def _why_unpriced(case: Case, profile: HardwareProfile) -> str:
    """Return why a profile cannot price the events of a case; empty where it can."""
    if profile.kind != "neuromorphic":
        return f"the case has synops and neuron updates of a spiking chip, and a profile of kind {profile.kind} prices none"
    return "" if case.activity is None else estimate(outline_workloads(case)[1], profile).because


def _term(case: Case, item: MeasuredEnergy, profile: HardwareProfile, term: str) -> Range:
    if term == "events":
        low, high = (estimate(work, profile).dynamic_j for work in outline_workloads(case))
        if low is None or high is None:
            raise ProfileError(
                f"{profile.name} cannot price the events of {case.title}",
                "it has no price of some event",
                "leave it out",
            )
        return Range(low.low, None, high.high)
    quantity = profile.quantity(term)
    if quantity is None or item.seconds is None:
        raise ProfileError(
            f"{case.title}, {item.name}", f"{profile.name} has no {term}, or the case no seconds", "correct the case"
        )
    return item.chips * item.seconds * quantity.range


def _step_rows(case: Case, profiles: Sequence[str] | None) -> Iterator[StepRow]:
    """Yield the time of a step: the busiest core's synops and updates one after the other, and the barrier."""
    if case.step is None or case.network is None:
        return
    for name in case.step.profiles:
        if profiles is not None and name not in profiles:
            continue
        profile = load_profile(name)
        placement = place(outline_program(case.network), core_limits(profile))
        times = {key: quantity.range for key, quantity in profile.time.items()}
        low = max(
            _core_seconds(case, index, 0, layer.block_share, times) for index, layer in enumerate(placement.layers)
        )
        high = max(
            _core_seconds(case, index, 1, layer.block_share, times) for index, layer in enumerate(placement.layers)
        )
        predicted = Range(low + times["barrier"].low, None, high + times["barrier"].high)
        yield StepRow(case.title, name, predicted, case.step.seconds, case.step.note)


def _core_seconds(case: Case, index: int, end: int, share: float, times: Mapping[str, Range]) -> float:
    """Return how long the fullest core of a layer is busy in a step, at the low (0) or the high (1) end."""
    assert case.network is not None and case.activity is not None
    _, synapse = list(_synapses(case.network))[index]
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
        lacking.append("making a spike")
    if "boot" in item.name:
        lacking.append("the idle power that rises once a model has run")
    return ", ".join(lacking)


def outline_workloads(case: Case) -> tuple[Workload, Workload]:
    """Return the least and the largest work of one inference that is compatible with what is known of a case."""
    assert case.activity is not None
    return _outline(case, 0), _outline(case, 1)


def _outline(case: Case, end: int) -> Workload:
    activity = case.activity
    assert activity is not None

    def at(value: Any) -> Any:
        return value[end] if isinstance(value, tuple) else value

    if activity.firing_rate is None:
        synops = round(at(activity.synops) or 0)
        kinds = {name.removeprefix("synop_"): count for name, count in activity.synops_by_kind.items()}
        busy = at(activity.updates_active)
        spikes = at(activity.spikes)
        kinds = kinds or {"conv": synops}
        row = _row("all", sum(kinds.values()), kinds, activity.updates, busy, spikes)
        return Workload(1, case.steps, (row,))
    rate = activity.firing_rate[end]
    rows = []
    assert case.network is not None
    for number, (outline, synapse) in enumerate(_synapses(case.network)):
        assert synapse is not None
        synops = round(rate * case.steps * dense_macs(synapse))
        updates = 0 if outline.extra else case.steps * synapse.out_size
        # At the low end no update counts as active, at the high end all do: which were which was not published.
        rows.append(
            _row(f"layer {number}", synops, {outline.kind: synops}, updates, updates * end, round(rate * updates))
        )
    return Workload(1, case.steps, tuple(rows))


def _row(name: str, synops: int, kinds: Mapping[str, int], updates: int, active: int, spikes: int) -> LayerWorkload:
    return LayerWorkload(
        name,
        "deployed",
        neurons=0,
        parameters=0,
        dense_macs=0,
        kind="snn",
        effective_acs=synops,
        acs_by_kind=kinds,
        updates=updates,
        updates_active=active,
        updates_inactive=updates - active,
        spikes=spikes,
        messages=spikes,
        firing_rate=spikes / updates if updates else None,
    )


def _synapses(network: NetworkOutline) -> Iterator[tuple[LayerOutline, Synapse | None]]:
    """Yield every layer with its synapse, all weights 1; shapes are (C, H, W)."""
    shape = network.input
    for outline in network.layers:
        if outline.kind == "entry":
            yield outline, None
            continue
        if outline.kind == "dense":
            synapse = Synapse("dense", shape, (outline.neurons,), np.ones((outline.neurons, math.prod(shape)), np.int8))
        else:
            stride, padding = (
                pair if isinstance(pair, tuple) else (pair, pair) for pair in (outline.stride, outline.padding)
            )
            pads, ones, kernel = tuple((size, size) for size in padding), (1, 1), (outline.kernel, outline.kernel)
            out = conv_shape(shape, kernel, outline.channels, stride, pads, ones)
            synapse = Synapse(
                "conv", shape, out, np.ones((outline.channels, shape[0], *kernel), np.int8), stride, pads, ones
            )
        yield outline, synapse
        shape = synapse.out_shape


def outline_program(network: NetworkOutline) -> Program:
    """Return a network of these shapes, with weights of 1: enough to place it."""
    zero = np.zeros((), np.int32)
    neuron = Neuron(zero, zero, zero + 1, zero)
    layers: list[Layer] = []
    for number, (_, synapse) in enumerate(_synapses(network), start=1):
        source = layers[-1].name if layers else "input"
        shape = synapse.out_shape if synapse else network.input
        layers.append(Layer(f"layer{number}", shape, neuron, (Connection(source, synapse),), number))
    coding: Literal["current", "spikes"] = "current" if network.layers[0].kind == "entry" else "spikes"
    return Program(
        "integer", 1e-3, None, (InputPort("input", network.input, coding),), tuple(layers), (layers[-1].name,)
    )


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
    yield PartitionRow(case.title, case.chip, "all", "", placement.cores, sum(printed.cores))
