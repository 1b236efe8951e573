"""Workloads that others measured on a chip: files in ``hardware_profiles/measured/``.

A case holds the shapes of a network, its activity, and the energies, times or partitions that were
measured or printed. Start at `load_cases`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ashneuro.cost.profile import CLOSED, UNITS, Check, Range, profile_folder
from ashneuro.cost.workload import LayerWorkload, Workload
from ashneuro.errors import ProfileError
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
class ActivityOutline:
    """Activity of one inference: counted events, or one firing rate for the input and all layers.

    A pair holds the least and the most that is compatible with the published facts. The firing
    rate is in spikes per neuron and step.
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
    """One measured energy, and the terms and profiles that predict it.

    Args:
        name: the measured quantity.
        value, high, unit: the energy; ``high`` where a range was measured.
        boundary: hardware inside the measurement.
        grade: A: sizes, activity, energy and boundary are known; B: one of them is bracketed or
            missing.
        predict: terms of the prediction: ``"events"``; ``"static.NAME"`` or ``"overhead.NAME"``,
            times ``seconds`` and ``chips``.
        profiles: names of the profiles to try.
        seconds: duration of an inference.
        chips: number of chips.
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
    chips: int = 1
    lacks: tuple[str, ...] = ()
    note: str = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED

    @property
    def range_j(self) -> Range:
        """Measured energy, joules."""
        factor = UNITS[self.unit][1]
        return Range(self.value * factor, self.value * factor, (self.high or self.value) * factor)


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
        chip: name of the profile of the measured chip.
        source, check: origin of the numbers, and how it was seen (`ashneuro.cost.profile.CHECKS`).
        steps: time steps of one inference.
        note: anything else that a reader must know.
        network, partition, activity: shapes, printed partition, events.
        measured: energies.
        step: time of a step.
        skipped: measurements that the model cannot predict.
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
    measured: tuple[MeasuredEnergy, ...] = ()
    step: MeasuredStep | None = None
    skipped: tuple[Skipped, ...] = ()

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
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        case = TypeAdapter(Case).validate_python(values)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"cannot read {path}", str(error), "fix the file") from error
    except ValidationError as error:
        faults = "".join(f"\n  {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ProfileError(f"{path}: {error.error_count()} fault(s)", faults, "correct them") from error
    # Faults that types do not catch.
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


def outline_workloads(case: Case) -> tuple[Workload, Workload]:
    """Return the least and the largest work of one inference that the published facts allow."""
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
    for number, (outline, synapse) in enumerate(outline_synapses(case.network)):
        assert synapse is not None
        synops = round(rate * case.steps * dense_macs(synapse))
        updates = 0 if outline.extra else case.steps * synapse.out_size
        # Active updates were not published: none at the low end, all at the high end.
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
