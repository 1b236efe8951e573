"""What Lava is told of a program, and how samples become its time steps and back.

Samples stream back to back through one running network. Every Lava synapse delivers one step late, so a layer at depth d
sees step t of round r in machine step r·T + t + d; Lava's ``LIFReset`` clears each layer there (interval T, offset
d + 1, because Lava counts from 1), and what a layer sent is read d steps later. A round is one sample, or ``width`` of them
side by side: as copies of the network, or, batched, as columns that one synapse multiplies at once. A population of n neurons
is then n · width values, sample by sample within a neuron.

Around recurrent loops and real axonal delays the last spikes of a sample would arrive in the next one: there a network runs
one round only, and what would spike on its own before the sample has reached it is held down until then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, identity, kron

from ashneuro.lava_worker.frames import Arrays, Header
from ashneuro.loihi import DECAY_ONE, STATE_UNIT
from ashneuro.program.program import Connection, Layer, Program
from ashneuro.program.rules.lava import channel_bytes
from ashneuro.program.synapse import matrix
from ashneuro.simulation.emulator.neurons import read_out
from ashneuro.simulation.record import Activity

ROWS = 32  # machine steps per request: long enough to hide its cost (1–3 ms), short enough for progress and timeouts
FEWEST_ROWS = 4
ROWS_BYTES = 1 << 26  # what one request may carry each way
DENSE_ABOVE = 0.3  # share of non-zero weights from which Lava's Dense is the faster process
WIDTH = 256  # samples side by side in batched synapses, at most: beyond it a step costs in proportion
MESSAGE = 1 << 19  # values in one message: beyond it wider messages cost in proportion
COPIES_WEIGHTS = 4_000_000  # weights of one network of side-by-side copies, at most


@dataclass(frozen=True, eq=False)
class Network:
    """A program in the worker's terms (see `ashneuro.lava_worker.network`).

    Args:
        width: samples side by side.
        batched: one synapse serves them all; otherwise each has a copy of the network, made of Lava's own processes.
        traces: neurons whose u and v are watched, by layer.
    """

    program: Program
    timesteps: int
    width: int = 1
    batched: bool = False
    traces: Mapping[str, Sequence[int]] | None = None

    @cached_property
    def _described(self) -> tuple[Header, Arrays, dict[str, NDArray[Any]]]:
        return _describe(self)

    @property
    def description(self) -> Header:
        """What the worker builds."""
        return self._described[0]

    @property
    def arrays(self) -> Arrays:
        """The numbers that go with it."""
        return self._described[1]

    @property
    def held(self) -> dict[str, NDArray[Any]]:
        """What holds layers down before the sample reaches them: rows, by source."""
        return self._described[2]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that decides what this network answers: Lava's part, and the host's units before and after it."""
        program = self.program
        host = {
            "inputs": [
                (port.name, port.shape, port.coding, port.scale, port.limit, port.constant) for port in program.inputs
            ],
            "layers": [(layer.shape, layer.scale) for layer in program.layers],
        }
        digest = hashlib.sha256(json.dumps([self.description, host], sort_keys=True).encode())
        units = {
            f"host.{index}.{name}": np.asarray(getattr(layer.neuron, name), np.float64)
            for index, layer in enumerate(program.layers)
            for name in ("v_unit", "v_origin")
        }
        for name, array in sorted({**self.arrays, **units}.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @property
    def rows(self) -> int:
        """Machine steps per request."""
        if not self.batched:
            return ROWS
        values = sum(8 * np.prod(port.shape) for port in self.program.inputs) + sum(
            layer.size for layer in self.program.layers
        )
        return max(FEWEST_ROWS, min(ROWS, ROWS_BYTES // int(values * self.width)))

    def steps(self, samples: int) -> int:
        """Return how many machine steps ``samples`` take, until the last layer has answered."""
        return self.timesteps * -(-samples // self.width) + self.program.depth

    def idle(self, steps: int) -> int:
        """Return how many more steps there have to be until the resets are where they were at the start."""
        return -steps % self.timesteps

    def feed(self, sent: Mapping[str, NDArray[Any]], start: int, steps: int) -> Arrays:
        """Return what the sources play from machine step ``start`` on: (steps, size) each; ``sent`` is (T, B, *shape)."""
        played: Arrays = {}
        for source in self.description["sources"]:
            name, size = source["name"], source["size"]
            if (held := self.held.get(name)) is not None:
                rows = np.zeros((steps, size), held.dtype)
                rows[: max(0, len(held) - start)] = held[start : start + steps]
            else:
                values = sent[source["port"]]
                rows = np.zeros((steps, size // self.width, self.width), values.dtype)
                for row in range(steps):
                    turn, t = divmod(start + row - source["late"], self.timesteps)
                    side = values[t, turn * self.width : (turn + 1) * self.width] if turn >= 0 else values[t, :0]
                    if len(side):
                        rows[row, :, : len(side)] = side.reshape(len(side), -1).T
            played[name] = rows.reshape(steps, size)
        return played


def is_lagged(program: Program) -> bool:
    """Whether spikes of a sample can arrive when the next one has begun: loops, and axonal delays."""
    return any(program.lag(layer, connection) for layer, connection in program.connections())


def best_width(program: Program, samples: int, shared_memory: int | None) -> int:
    """Return how many samples batched synapses should serve at once.

    Args:
        shared_memory: bytes for Lava's channels; ``None`` where there is no such limit.
    """
    widest = max([layer.size for layer in program.layers] + [int(np.prod(port.shape)) for port in program.inputs])
    width = min(WIDTH, samples, max(1, MESSAGE // widest))
    if shared_memory is not None:
        width = min(width, shared_memory // channel_bytes(program))
    return max(1, width)


def copies_at_most(program: Program) -> int:
    """Return how many copies of the network go side by side in Lava's own processes."""
    weights = sum(connection.synapse.weight.size for _, connection in program.connections() if connection.synapse)
    return max(1, COPIES_WEIGHTS // max(1, weights))


class Tap:
    """Collects what one layer sent, machine step by machine step, as counts and, when asked for, as a raster.

    Args:
        keep: keep the raster of all samples.
        proof: samples whose raster is kept in any case.
    """

    def __init__(self, network: Network, layer: Layer, samples: int, keep: bool, proof: Sequence[int]) -> None:
        self.layer, self._network, self._samples = layer, network, samples
        self._rounds = -(-samples // network.width)
        self._counts = np.zeros(layer.size, np.int64)
        self._keep = keep or not layer.neuron.spiking
        dtype = np.uint8 if layer.neuron.spiking else np.float64
        self._kept = np.empty((self._rounds if self._keep else 0, network.timesteps, layer.size, network.width), dtype)
        self._places = [(index, *divmod(sample, network.width)) for index, sample in enumerate(proof)]
        self._proof = np.empty((network.timesteps, len(proof), layer.size), dtype)

    def take(self, start: int, sent: NDArray[Any]) -> None:
        """Add the rows that the layer sent from machine step ``start`` on."""
        timesteps, width = self._network.timesteps, self._network.width
        for row, values in enumerate(sent.reshape(len(sent), self.layer.size, width), start - self.layer.depth):
            turn, t = divmod(row, timesteps)
            if not 0 <= turn < self._rounds:
                continue
            if self.layer.neuron.spiking:
                filled = values[:, : self._samples - turn * width]
                self._counts += np.count_nonzero(filled, axis=1) if width > 1 else filled[:, 0]
            if self._keep:
                self._kept[turn, t] = values
            for index, place, column in self._places:
                if place == turn:
                    self._proof[t, index] = values[:, column]

    def activity(self) -> Activity:
        """Return all of it; a raster is (T, B, *shape)."""
        raster = None
        if self._keep:
            ordered = self._kept.transpose(1, 0, 3, 2).reshape(self._network.timesteps, -1, *self.layer.shape)
            raster = self._seen(ordered[:, : self._samples])
        return Activity(self._counts.reshape(self.layer.shape), None, raster, binary=self.layer.neuron.spiking)

    def proof(self) -> NDArray[Any]:
        """Return the raster of the samples of ``proof``: (T, len(proof), *shape)."""
        return self._seen(self._proof.reshape(*self._proof.shape[:2], *self.layer.shape))

    def _seen(self, raster: NDArray[Any]) -> NDArray[Any]:
        return raster if self.layer.neuron.spiking else read_out(self.layer, raster, self._network.program.precision)


def _describe(network: Network) -> tuple[Header, Arrays, dict[str, NDArray[Any]]]:
    program, width = network.program, network.width
    fixed = program.precision == "integer"
    number = np.int32 if fixed else np.float64
    arrays: Arrays = {}
    sources: dict[str, Header] = {}
    connections: list[Header] = []
    for layer in program.layers:
        for connection in layer.connections:
            source = _source(program, connection)
            if source is not None:
                sources[source["name"]] = {**source, "size": source["size"] * width}
            item = {
                "source": source["name"] if source else connection.source,
                "layer": layer.name,
                "kind": "direct",
                "delay": 0,
                "weight_exp": connection.weight_exp,
                "largest": _largest(program, connection),
            }
            if connection.synapse is not None:
                item["delay"] = connection.delay
                copies = 1 if network.batched else width
                item |= _weights(matrix(connection.synapse), copies, f"connection.{len(connections)}", number, arrays)
            connections.append(item)
    layers = []
    for index, layer in enumerate(program.layers):
        neuron = layer.neuron
        for name in ("du", "dv", "v_threshold", "bias"):
            value = np.asarray(getattr(neuron, name))
            if value.size > 1:
                value = np.repeat(np.broadcast_to(value, layer.shape).ravel(), width)
            arrays[f"layer.{index}.{name}"] = value.ravel().astype(number)
        layers.append(
            {
                "name": layer.name,
                "size": layer.size * width,
                "offset": layer.depth + 1,
                "bias_exp": neuron.bias_exp if fixed else 0,
                "spiking": neuron.spiking,
                "trace": [int(neuron) for neuron in (network.traces or {}).get(layer.name, ())],
            }
        )
    description = {
        "precision": "fixed_pt" if fixed else "floating_pt",
        "interval": network.timesteps,
        "rows": network.rows,
        "width": width if network.batched else 1,
        "sources": list(sources.values()),
        "layers": layers,
        "connections": connections,
    }
    held = _hold(program, description, width) if is_lagged(program) else {}
    return description, arrays, held


def _hold(program: Program, description: Header, width: int) -> dict[str, NDArray[Any]]:
    """Add to ``description`` a source for each layer that spikes on its own, and return what they play: it keeps them silent
    until the first step of the sample reaches them.

    A bias, or a threshold below the start, makes neurons spike without input. Spikes sent too early arrive too early, but
    over a recurrent loop or an axonal delay they arrive when the sample has begun.
    """
    integer = program.precision == "integer"
    unit = STATE_UNIT if integer else 1  # units of state in one of input
    streams: dict[str, NDArray[Any]] = {}
    for layer in program.layers:
        neuron = layer.neuron
        bias, threshold, du = (
            np.broadcast_to(value, layer.shape).ravel().astype(float)
            for value in (neuron.bias, neuron.v_threshold, neuron.du)
        )
        keep = 1 - (du + 1) / DECAY_ONE if integer else 1 - du
        # With u at −needed, v stays below the threshold and below the start; 1 % more than it takes, against rounding.
        needed = 1.01 * np.maximum(0, bias * 2.0**neuron.bias_exp - np.minimum(unit * threshold, 0))
        if not neuron.spiking or not layer.depth or not needed.any():
            continue
        rows, u = [], np.zeros(layer.size)
        for _ in range(layer.depth):
            u = np.trunc(u * keep) if integer else u * keep
            a = -np.maximum(0, needed + u) / unit
            a = np.floor(a) if integer else a
            u += a * unit
            rows.append(np.repeat(a, width))
        name = f"hold {layer.name}"
        streams[name] = np.array(rows, np.int32 if integer else np.float64)
        description["sources"].append({"name": name, "size": layer.size * width})
        description["connections"].append(
            {"source": name, "layer": layer.name, "kind": "direct", "delay": 0, "weight_exp": 0, "largest": 0}
        )
    return streams


def _source(program: Program, connection: Connection) -> Header | None:
    """Return the Lava source that plays an input port, later by the delay of a connection that has no synapse to delay it."""
    port = next((port for port in program.inputs if port.name == connection.source), None)
    if port is None:
        return None
    late = connection.delay if connection.synapse is None else 0
    return {
        "name": f"{port.name} +{late}" if late else port.name,
        "port": port.name,
        "late": late,
        "size": int(np.prod(port.shape)),
    }


def _largest(program: Program, connection: Connection) -> int:
    """Return the largest magnitude that a connection carries, 0 where it is not known."""
    for port in program.inputs:
        if port.name == connection.source:
            return 1 if port.coding == "spikes" else port.limit
    return int(program.layer(connection.source).neuron.spiking)


def _weights(weights: csr_matrix, copies: int, key: str, number: type, arrays: Arrays) -> Header:
    """Put the weights of a connection into ``arrays`` and return which Lava process holds them."""
    rows, columns = weights.shape
    if copies == 1 and weights.nnz > DENSE_ABOVE * rows * columns:
        arrays[f"{key}.weight"] = weights.toarray().astype(number)
        return {"kind": "dense"}
    if copies > 1:
        weights = kron(weights, identity(copies, dtype=weights.dtype, format="csr"), format="csr")
    arrays[f"{key}.data"] = weights.data.astype(number)
    arrays[f"{key}.indices"] = weights.indices.astype(np.int32)
    arrays[f"{key}.indptr"] = weights.indptr.astype(np.int32)
    return {"kind": "sparse"}
