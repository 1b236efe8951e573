"""Workloads that others measured on a chip: files in ``hardware_profiles/measured/``.

A case holds the shapes of a network, its activity, and the energies, times or partitions that were
measured or printed. Start at `load_cases`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ashneuro.cost.profile import CLOSED, UNITS, Check, Range, profile_folder
from ashneuro.cost.running import ANY_SHARE, Usage
from ashneuro.cost.workload import LayerWorkload, Workload
from ashneuro.errors import ProfileError
from ashneuro.files import read_toml, reason_of
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.synapse import conv_shape, dense_macs

Pair = int | tuple[int, int]


@dataclass(frozen=True)
class LayerOutline:
    """One layer of a measured network.

    Args:
        kind: ``"entry"``: neurons that take the input itself; ``"conv"``; ``"dense"``.
        channels, kernel, stride, padding: of a convolution.
        neurons: of a dense layer.
        extra: True if its neurons belong to another part of the network, e.g. where a branch ends.
        recurrent: True if a dense layer's neurons also reach one another, all to all.
    """

    kind: Literal["entry", "conv", "dense"]
    channels: int = 0
    neurons: int = 0
    kernel: int = 0
    stride: Pair = 1
    padding: Pair = 0
    extra: bool = False
    recurrent: bool = False

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED


@dataclass(frozen=True)
class NetworkOutline:
    """Shapes of a measured network; its unknown weights all count as non-zero."""

    input: tuple[int, ...]
    layers: tuple[LayerOutline, ...]

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED


@dataclass(frozen=True)
class Partition:
    """Partition printed by a compiler, per layer: cores, and neurons and 64-bit words per core."""

    cores: tuple[int, ...]
    neurons: tuple[int, ...] = ()
    words: tuple[int, ...] = ()
    note: str = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED


@dataclass(frozen=True)
class AnnOutline:
    """Layers of a measured ANN.

    Args:
        precision: arithmetic of the measured inference, as of `ashneuro.cost.estimate.estimate`.
        layers: per layer products (padding excluded), parameters, inputs and outputs.
    """

    precision: str
    layers: tuple[tuple[int, int, int, int], ...]

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED


@dataclass(frozen=True)
class ActivityOutline:
    """Activity of one inference: counted events, or one firing rate for the input and all layers.

    A pair holds the least and the most that is compatible with the published facts. The firing
    rate is in spikes per neuron and step. ``neurons`` are updated in every step, and which of their
    updates were active is unknown; else ``updates`` has the number itself. Synops are those of
    ``synapse``, where ``synops_by_kind`` does not tell kinds apart.
    """

    basis: str
    firing_rate: tuple[float, float] | None = None
    synops: float | tuple[float, float] | None = None
    synapse: Literal["conv", "dense", "sparse"] = "conv"
    synops_by_kind: Mapping[str, int] = field(default_factory=dict)
    synops_by_layer: tuple[int, ...] = ()
    neurons: int = 0
    updates: int = 0
    updates_active: int | tuple[int, int] = 0
    spikes: int | tuple[int, int] = 0

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED


@dataclass(frozen=True)
class MeasuredEnergy:
    """One measured energy, and the terms and profiles that predict it.

    Args:
        name: the measured quantity.
        value, high, unit: the energy, or a power that was drawn over an inference; ``high`` where a
            range was measured.
        boundary: hardware inside the measurement.
        grade: A: sizes, activity, energy and boundary are known; B: one of them is bracketed or
            missing.
        predict: terms of the prediction: ``"events"``, and paths of `ashneuro.cost.running.term`;
            or ``"ann"``.
        profiles: names of the profiles to try.
        seconds: duration of an inference; or ``step_us``, microseconds of a step.
        steps: time steps of an inference, if not those of the case.
        chips, cores, x86_cores: number of each in use; a pair where only bounds are known.
        x86_active: share of time in which the x86 cores ran code, where it was printed.
        copies: equal networks that share the chips; the energy is that of one.
        branches: equal parts of the network, in a series that differs in them alone.
        fit: True if terms may be fitted on it.
        whole: False if costs that the measurement holds are left out on purpose, to show them.
        lacks: costs in the measurement that no prediction has, besides the usual ones.
        note: anything else that a reader must know.
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
    step_us: float | None = None
    steps: int | None = None
    chips: int = 1
    cores: int | tuple[int, int] | None = None
    x86_cores: int | tuple[int, int] | None = None
    x86_active: float | None = None
    copies: int = 1
    branches: int | None = None
    fit: bool = False
    whole: bool = True
    lacks: tuple[str, ...] = ()
    note: str = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED

    def duration(self, case: Case) -> float | None:
        """Return the seconds of an inference; ``None`` where unknown."""
        if self.step_us is None:
            return self.seconds
        return 1e-6 * self.step_us * (self.steps or case.steps)

    def range_j(self, case: Case) -> Range:
        """Return the measured energy in joules."""
        dimension, factor = UNITS[self.unit]
        if dimension == "power":
            factor *= self.duration(case) or math.nan
        return Range(self.value * factor, self.value * factor, (self.high or self.value) * factor)

    def usage(self, case: Case) -> Usage:
        """Return the use that the network made of its chips."""
        seconds = self.duration(case)
        return Usage(
            None if seconds is None else Range(seconds, seconds, seconds),
            _bounds(self.cores),
            self.chips,
            _bounds(self.x86_cores),
            ANY_SHARE if self.x86_active is None else Range(self.x86_active, self.x86_active, self.x86_active),
            copies=self.copies,
        )


def _bounds(number: float | tuple[float, float] | None) -> Range | None:
    if number is None:
        return None
    low, high = number if isinstance(number, tuple) else (number, number)
    return Range(low, low if low == high else None, high)


@dataclass(frozen=True)
class MeasuredStep:
    """The measured time of one step, and the profiles whose times per event predict it."""

    value: float
    unit: str
    profiles: tuple[str, ...]
    note: str = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED

    @property
    def seconds(self) -> float:
        """Measured time, seconds."""
        return self.value * UNITS[self.unit][1]


@dataclass(frozen=True)
class Skipped:
    """A measured workload that the model cannot predict, and the reason."""

    name: str
    reason: str

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED


@dataclass(frozen=True)
class Case:
    """One measured workload, as its file has it.

    Args:
        title: name of the network.
        chip: name of the profile of the measured chip; empty where several devices were measured.
        source, check: origin of the numbers, and how it was seen (`ashneuro.cost.profile.CHECKS`).
        steps: time steps of one inference.
        note: anything else that a reader must know.
        network, partition, activity: shapes, printed partition, events.
        ann: layers, where the network is an ANN.
        measured: energies.
        step: time of a step.
        skipped: measurements that the model cannot predict.
        name: name of the file, without ``.toml``.
    """

    title: str
    chip: str
    source: str
    check: Check
    steps: int
    note: str = ""
    network: NetworkOutline | None = None
    partition: Partition | None = None
    activity: ActivityOutline | None = None
    ann: AnnOutline | None = None
    measured: tuple[MeasuredEnergy, ...] = ()
    step: MeasuredStep | None = None
    skipped: tuple[Skipped, ...] = ()
    name: str = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED


def measured_folder() -> Path:
    """Return the folder of the measured workloads."""
    return profile_folder() / "measured"


def load_cases(folder: Path | None = None) -> tuple[Case, ...]:
    """Return the measured workloads in a folder, in the order of file names.

    Raises:
        ProfileError: a file cannot be read or is not valid; all of its faults at once.
    """
    return tuple(load_case(path) for path in sorted((folder or measured_folder()).glob("*.toml")))


def load_case(path: Path) -> Case:
    """Return the measured workload in a file.

    Raises:
        ProfileError: the file cannot be read or is not valid; all faults at once.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        values = read_toml(path)
        case = replace(TypeAdapter(Case).validate_python(values), name=path.stem)
    except ValidationError as error:
        faults = "".join(f"\n  {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ProfileError(f"{path}: {error.error_count()} fault(s)", faults, "correct them") from error
    except (OSError, ValueError) as error:
        raise ProfileError(f"cannot read {path}", reason_of(error), "fix the file") from error
    # Faults that types do not catch.
    units = [item.unit for item in case.measured if UNITS.get(item.unit, ("",))[0] not in ("energy", "power")]
    rows = len(case.network.layers) if case.network else 0
    bad = [f"{unit!r} is not a unit of energy or power" for unit in units]
    bad += [
        f"{item.name}: a power needs seconds, or step_us"
        for item in case.measured
        if UNITS.get(item.unit, ("",))[0] == "power" and item.duration(case) is None
    ]
    if case.step is not None:
        if UNITS.get(case.step.unit, ("",))[0] != "time":
            bad.append(f"{case.step.unit!r} is not a unit of time")
        rates = case.activity is not None and case.activity.firing_rate is not None
        layers = len(case.activity.synops_by_layer) if case.activity else 0
        if case.network is not None and not rates and layers != rows:
            bad.append("the time of a step needs a firing rate, or synops_by_layer for every layer")
    for name in ("cores", "neurons", "words"):
        given = getattr(case.partition, name) if case.partition else ()
        if given and len(given) != rows:
            bad.append(f"partition.{name} has {len(given)} entries, the network {rows} layers")
    if any("events" in item.predict for item in case.measured) and case.activity is None:
        bad.append("events are to be predicted and no activity is given")
    if any("ann" in item.predict for item in case.measured) and case.ann is None:
        bad.append("an ANN is to be predicted and its layers are not given")
    if bad:
        raise ProfileError(f"{path} is not valid", "; ".join(bad), "correct it")
    return case


def ann_workload(case: Case) -> Workload:
    """Return the work of one inference of a measured ANN."""
    assert case.ann is not None
    rows = (
        LayerWorkload(
            f"layer {number}",
            "host",
            neurons=outputs,
            parameters=parameters,
            parameter_bytes=parameters,
            dense_macs=macs,
            inputs=inputs,
            update_adds=2,
        )
        for number, (macs, parameters, inputs, outputs) in enumerate(case.ann.layers)
    )
    return Workload(1, 1, tuple(rows))


def outline_workloads(case: Case, steps: int | None = None) -> tuple[Workload, Workload]:
    """Return the least and the largest work of one inference that the published facts allow.

    Args:
        steps: time steps of the inference, if not those of the case.
    """
    assert case.activity is not None
    return _outline(case, 0, steps or case.steps), _outline(case, 1, steps or case.steps)


def _outline(case: Case, end: int, steps: int) -> Workload:
    activity = case.activity
    assert activity is not None

    def at(value: Any) -> Any:
        return value[end] if isinstance(value, tuple) else value

    if activity.firing_rate is None:
        synops = round(at(activity.synops) or 0)
        kinds = {name.removeprefix("synop_"): count for name, count in activity.synops_by_kind.items()}
        updates = activity.neurons * steps or activity.updates
        # Active updates of neurons were not published: none at the low end, all at the high end.
        busy = updates * end if activity.neurons else at(activity.updates_active)
        spikes = at(activity.spikes)
        kinds = kinds or {activity.synapse: synops}
        row = _row("all", sum(kinds.values()), kinds, updates, busy, spikes)
        return Workload(1, steps, (row,))
    rate = activity.firing_rate[end]
    rows = []
    assert case.network is not None
    for number, (outline, synapse) in enumerate(outline_synapses(case.network)):
        size = math.prod(case.network.input) if synapse is None else synapse.out_size
        products = (dense_macs(synapse) if synapse else 0) + (size**2 if outline.recurrent else 0)
        synops = round(rate * steps * products)
        updates = 0 if outline.extra else steps * size
        rows.append(
            _row(
                f"layer {number}",
                synops,
                {outline.kind: synops} if synapse else {},
                updates,
                updates * end,
                round(rate * updates),
            )
        )
    return Workload(1, steps, tuple(rows))


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


def outline_synapses(network: NetworkOutline) -> Iterator[tuple[LayerOutline, Synapse | None]]:
    """Iterate over the layers with their synapses, all weights 1; shapes are (C, H, W)."""
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
    """Return a network of these shapes with weights of 1, to place it."""
    zero = np.zeros((), np.int32)
    neuron = Neuron(zero, zero, zero + 1, zero)
    layers: list[Layer] = []
    for number, (_, synapse) in enumerate(outline_synapses(network), start=1):
        source = layers[-1].name if layers else "input"
        shape = synapse.out_shape if synapse else network.input
        layers.append(Layer(f"layer{number}", shape, neuron, (Connection(source, synapse),), number))
    coding: Literal["current", "spikes"] = "current" if network.layers[0].kind == "entry" else "spikes"
    return Program(
        "integer", 1e-3, None, (InputPort("input", network.input, coding),), tuple(layers), (layers[-1].name,)
    )
