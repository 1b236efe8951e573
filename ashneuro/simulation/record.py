"""Spike counts and rasters of a simulation, in a form that adds up over samples."""

from __future__ import annotations

import errno
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ashneuro.arrays import NUMBERS, load_npz
from ashneuro.display import Plotted
from ashneuro.errors import ConfigError, DataError
from ashneuro.exchange import Shard
from ashneuro.files import parse_json, reason_of, replace_file
from ashneuro.program.assumption import Assumptions, from_json, to_json
from ashneuro.program.program import Precision
from ashneuro.schemas import Format, remedy_of
from ashneuro.simulation.units import Units

Where = Literal["torch", "loihi", "lava"]

HEADER = "record"


@dataclass(frozen=True, eq=False)
class Activity:
    """Events of one population, summed over samples and steps.

    Args:
        counts: int64, of the population's shape: spikes or graded messages per neuron; non-zero
            values per input line; 0 for a read-out.
        active_updates: neuron-steps in which the neuron had a state or an input other than zero;
            ``None`` if the simulator cannot observe it (Lava).
        sent: (T, B, *shape), what the population sent in each step, or v of a read-out: uint8
            spikes, or numbers as they were computed; ``None`` if not asked for. `raster` has them
            in units of the graph.
        binary: every value that the population sent was 0 or 1. A layer whose messages carry
            numbers is not binary, whatever it sent.
        read_out: the values are membrane potentials, and nothing is sent as an event.
        ones: int64, as ``counts``: of these messages, those of 1 or −1, where a population sends
            whole numbers (spike counts): a synapse adds or subtracts its weight, and multiplies for
            the others. ``None`` for all other populations.
        u, v: (T, B, *shape), current and membrane potential after each step and its reset, in the
            units of the arithmetic; ``None`` if not asked for.
        units: of ``sent``; ``None`` for spikes, and for numbers in units of the graph.
    """

    counts: NDArray[np.int64]
    active_updates: int | None = None
    sent: NDArray[np.generic] | None = None
    binary: bool = True
    u: NDArray[np.generic] | None = None
    v: NDArray[np.generic] | None = None
    read_out: bool = False
    ones: NDArray[np.int64] | None = None
    units: Units | None = None

    @cached_property
    def raster(self) -> NDArray[Any] | None:
        """(T, B, *shape), uint8 spikes or float64 values in units of the graph, computed once.

        ``None`` if not asked for.
        """
        return self.sent if self.sent is None or self.units is None else self.units.read(self.sent)

    def with_raster(self, raster: NDArray[Any] | None) -> Activity:
        """Return the activity with another raster, in units of the graph."""
        return replace(self, sent=raster, units=None)

    @classmethod
    def of_messages(
        cls, sent: NDArray[Any], active_updates: int | None, keep: bool, whole: bool, units: Units | None = None
    ) -> Activity:
        """Return the activity of a layer whose messages carry numbers.

        Args:
            sent: (T, B, *shape).
            whole: they are whole numbers; otherwise values.
        """
        counts = np.asarray(np.count_nonzero(sent, axis=(0, 1)), np.int64)
        ones = np.asarray(np.count_nonzero(np.abs(sent) == 1, axis=(0, 1)), np.int64) if whole else None
        return cls(counts, active_updates, sent if keep else None, binary=False, ones=ones, units=units)

    @classmethod
    def of_inputs(cls, sent: NDArray[Any]) -> Activity:
        """Return the activity of an input port that was sent ``sent`` (T, B, *shape)."""
        events = sent != 0
        return cls(counts=events.sum(axis=(0, 1), dtype=np.int64), binary=np.array_equal(events, sent))

    @property
    def neurons(self) -> int:
        """Number of neurons, or of input lines."""
        return math.prod(self.counts.shape)

    @property
    def events(self) -> int:
        """Number of spikes (or non-zero inputs) of the population."""
        return int(self.counts.sum())

    @property
    def added(self) -> NDArray[np.int64]:
        """Of the counts, messages for which a synapse adds its weight; it multiplies for others."""
        if self.binary:
            return self.counts
        return np.zeros_like(self.counts) if self.ones is None else self.ones

    @classmethod
    def joined(cls, parts: Sequence[Activity]) -> Activity:
        """Return the activity over the samples of all ``parts``, in order."""
        active = [part.active_updates for part in parts]
        return cls(
            counts=np.sum([part.counts for part in parts], axis=0, dtype=np.int64),
            active_updates=None if None in active else sum(active),  # type: ignore[arg-type]
            sent=_joined([part.sent for part in parts]),
            binary=all(part.binary for part in parts),
            u=_joined([part.u for part in parts]),
            v=_joined([part.v for part in parts]),
            read_out=any(part.read_out for part in parts),
            ones=_summed([part.ones for part in parts]),
            units=parts[0].units,
        )

    def __add__(self, other: Activity) -> Activity:
        return Activity.joined([self, other])


@dataclass(frozen=True, eq=False, repr=False)
class SpikeRecord(Plotted):
    """Activity of a program over ``samples`` samples of ``timesteps`` steps. Shards add with ``+``.

    Args:
        source: simulator that produced it.
        precision: arithmetic of the program.
        timesteps, samples: size of the inputs.
        layers: activity of every population, by layer name, in program order.
        inputs: activity of every input port, by name.
        stock_samples: number of samples that ran through Lava's own processes; the others ran
            through batched synapses, which were checked on these. ``None`` for other simulators.
        assumptions: what the network's source left open: the spikes are those of the values taken.
    """

    source: Where
    precision: Precision
    timesteps: int
    samples: int
    layers: Mapping[str, Activity]
    inputs: Mapping[str, Activity] = field(default_factory=dict)
    stock_samples: int | None = None
    assumptions: Assumptions = ()

    @property
    def rasters(self) -> dict[str, NDArray[Any]]:
        """Rasters (T, B, *shape) of the layers that keep one, by name."""
        kept = {name: activity.raster for name, activity in self.layers.items()}
        return {name: np.asarray(raster) for name, raster in kept.items() if raster is not None}

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain values."""
        return {
            "source": self.source,
            "precision": self.precision,
            "timesteps": self.timesteps,
            "samples": self.samples,
            "assumptions": to_json(self.assumptions),
            "layers": {
                name: {
                    "neurons": activity.neurons,
                    "spikes": activity.events if activity.binary else None,
                    "firing_rate": None if activity.read_out else self.firing_rate(name),
                    "active_updates": activity.active_updates,
                }
                | ({} if activity.binary or activity.read_out else {"graded_messages": activity.events})
                for name, activity in self.layers.items()
            },
            "inputs": {
                name: {"lines": activity.neurons, "events": activity.events} for name, activity in self.inputs.items()
            },
        }

    def firing_rate(self, layer: str) -> float:
        """Return spikes, or messages that carry numbers, per neuron and step."""
        activity = self.layers[layer]
        return activity.events / (activity.neurons * self.timesteps * self.samples)

    @classmethod
    def joined(cls, parts: Sequence[SpikeRecord]) -> SpikeRecord:
        """Return the record over the samples of all ``parts``, in order.

        Raises:
            ValueError: they are of different programs, simulators or lengths.
        """
        first = parts[0]
        for part in parts:
            facts, theirs = (
                (record.source, record.precision, record.timesteps, record.assumptions) for record in (first, part)
            )
            if facts != theirs or first.layers.keys() != part.layers.keys():
                raise ValueError("spike records of different programs, simulators or lengths do not add up")
        stock = [part.stock_samples for part in parts]
        return cls(
            first.source,
            first.precision,
            first.timesteps,
            sum(part.samples for part in parts),
            {name: Activity.joined([part.layers[name] for part in parts]) for name in first.layers},
            {name: Activity.joined([part.inputs[name] for part in parts]) for name in first.inputs},
            None if None in stock else sum(stock),  # type: ignore[arg-type]
            first.assumptions,
        )

    def __add__(self, other: SpikeRecord) -> SpikeRecord:
        return SpikeRecord.joined([self, other])


@dataclass(frozen=True)
class ActivityEntry:
    """Counts of a population in a file; its arrays are beside it."""

    active_updates: int | None
    binary: bool
    read_out: bool | None = None


@dataclass(frozen=True)
class CountsHeader:
    """Header of a file of spike counts, an ``.npz``."""

    source: Where
    precision: Precision
    timesteps: int
    samples: int
    layers: dict[str, ActivityEntry]
    inputs: dict[str, ActivityEntry]
    assumptions: Assumptions = None
    stock_samples: int | None = None
    shard: str | None = None


COUNTS = Format("ashneuro-counts", CountsHeader, version=2)
"""Version 1 has no assumptions."""


def save_rasters(record: SpikeRecord, path: str | Path) -> None:
    """Write the rasters (T, B, *shape) to an ``.npz``, by layer: uint8 spikes, float64 values.

    The archive's comment is JSON with the assumptions of the record, as
    ``zipfile.ZipFile(path).comment`` gives it.

    Raises:
        DataError: the record has no raster, or the file cannot be written.
    """
    rasters = record.rasters
    if not rasters:
        raise DataError(
            f"nothing to write to {path}", "this record counts spikes but keeps none", "simulate with rasters='all'"
        )
    try:
        replace_file(Path(path), lambda file: _write_rasters(file, rasters, _comment(record)))
    except OSError as error:
        raise DataError(
            f"cannot write {path}", error.strerror or str(error), "--save PATH in a folder that exists"
        ) from error


def _write_rasters(path: Path, rasters: Mapping[str, NDArray[Any]], comment: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = comment
        # Not numpy.savez(**rasters): a layer may be called "file", like its first parameter.
        for name, raster in rasters.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, raster, allow_pickle=False)


def _comment(record: SpikeRecord) -> bytes:
    """Return the assumptions without their nodes: a comment holds 65,535 bytes."""
    found = record.assumptions
    assumed = None if found is None else {item.field: item.value for item in found}
    return json.dumps({"assumed": assumed}).encode()


def pack(record: SpikeRecord, shard: Shard | None = None, *, rasters: bool = False) -> dict[str, Any]:
    """Return the counts of ``record`` as named arrays for an ``.npz``, of which one is a header.

    Args:
        shard: see `save_counts`.
        rasters: with the rasters that it keeps, in units of the graph.
    """
    header: dict[str, Any] = {
        "schema": COUNTS.schema,
        "source": record.source,
        "precision": record.precision,
        "timesteps": record.timesteps,
        "samples": record.samples,
        "assumptions": to_json(record.assumptions),
        "stock_samples": record.stock_samples,
    } | ({"shard": str(shard)} if shard else {})
    arrays: dict[str, Any] = {}
    for part, activities in (("layers", record.layers), ("inputs", record.inputs)):
        header[part] = {
            name: {"active_updates": a.active_updates, "binary": a.binary, "read_out": a.read_out}
            for name, a in activities.items()
        }
        for name, activity in activities.items():
            raster = activity.raster if rasters else None
            found = {"": activity.counts, "ones/": activity.ones, "raster/": raster}
            arrays |= {f"{kind}{part}/{name}": values for kind, values in found.items() if values is not None}
    return arrays | {HEADER: np.array(json.dumps(header))}


def _unpacked(arrays: Mapping[str, NDArray[Any]]) -> SpikeRecord:
    """Return the record that `pack` gave the arrays of.

    Raises:
        ValueError, KeyError, TypeError: they are not those of a record.
    """
    header = COUNTS.check(parse_json(str(arrays[HEADER])))
    layers, inputs = (
        {
            name: Activity(
                _whole(arrays[f"{part}/{name}"]),
                facts["active_updates"],
                arrays.get(f"raster/{part}/{name}"),
                binary=facts["binary"],
                # Files of earlier versions know no graded messages.
                read_out=facts.get("read_out", part == "layers" and not facts["binary"]),
                ones=_whole(arrays[key]) if (key := f"ones/{part}/{name}") in arrays else None,
            )
            for name, facts in header[part].items()
        }
        for part in ("layers", "inputs")
    )
    return SpikeRecord(
        header["source"],
        header["precision"],
        header["timesteps"],
        header["samples"],
        layers,
        inputs,
        header.get("stock_samples"),
        assumptions=from_json(header.get("assumptions")),
    )


def save_counts(record: SpikeRecord, path: str | Path, shard: Shard | None = None) -> None:
    """Write the counts of ``record`` to an ``.npz``, without rasters and traces.

    Args:
        shard: the part of all samples that the record is of; `merge_counts` joins them.

    Raises:
        DataError: the file cannot be written.
    """
    arrays = pack(record, shard)
    path = Path(path)
    try:
        if not path.name:
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
        # numpy appends the suffix to a name without it.
        path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
        replace_file(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
    except OSError as error:
        raise DataError(
            f"cannot write {path}", error.strerror or str(error), "name a file in a folder that exists"
        ) from error


def merge_counts(paths: Sequence[str | Path]) -> SpikeRecord:
    """Return the record over all samples from the files of every shard, in any order.

    Raises:
        DataError: a file cannot be read or is of no shard, a shard is missing or there twice, or
            they are of different programs, simulators or lengths.
    """
    parts = {path: (_shard_of(path), load_counts(path)) for path in paths}
    counts = {shard.count for shard, _ in parts.values()}
    indices = sorted(shard.index for shard, _ in parts.values())
    if len(counts) != 1 or indices != list(range(1, max(counts) + 1)):
        named = ", ".join(sorted(str(shard) for shard, _ in parts.values())) or "none"
        raise DataError("these are not all shards of one simulation", f"there are {named}", "name each of n once")
    try:
        return SpikeRecord.joined([record for _, record in sorted(parts.values(), key=lambda part: part[0].index)])
    except ValueError as error:
        raise DataError(
            "these shards do not belong together", str(error), "simulate them with the same options"
        ) from error


def _shard_of(path: str | Path) -> Shard:
    """Return the shard that a file of counts is of.

    Raises:
        DataError: it is of none.
    """
    try:
        return Shard.parse(parse_json(str(load_npz(path, NUMBERS + "U")[HEADER]))["shard"])
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise DataError(
            f"{path} holds no counts of a shard", reason_of(error), "ashneuro simulate … --shard i/n --counts FILE"
        ) from error


def load_counts(path: str | Path) -> SpikeRecord:
    """Return the record that `save_counts` wrote.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return _unpacked(load_npz(path, NUMBERS + "U"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"cannot read the spike counts in {path}",
            reason_of(error),
            remedy_of(error, "ashneuro evaluate RUN --abstract-on loihi"),
        ) from error


def _whole(counts: NDArray[Any]) -> NDArray[Any]:
    if counts.dtype.kind not in "iu":
        raise ValueError(f"counts of type {counts.dtype}")
    return counts


def _joined(parts: Sequence[NDArray[np.generic] | None]) -> NDArray[np.generic] | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None  # a raster of some samples only would be mistaken for one of all
    return known[0] if len(known) == 1 else np.concatenate(known, axis=1)


def _summed(parts: Sequence[NDArray[np.int64] | None]) -> NDArray[np.int64] | None:
    known = [part for part in parts if part is not None]
    return np.sum(known, axis=0, dtype=np.int64) if len(known) == len(parts) else None
