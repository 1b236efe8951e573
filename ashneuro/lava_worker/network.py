"""Lava networks from a description, run step by step.

The description is in Lava's terms, so that nothing is decided here::

    {"precision": "fixed_pt" | "floating_pt",
     "interval": steps per sample,
     "rows": largest number of steps per call,
     "width": samples side by side in batched synapses; 1: only Lava's own synapses,
     "sources": [{"name", "size"}],
     "layers": [{"name", "size", "offset", "bias_exp", "spiking", "trace": [neurons to record],
                 "binary": all that it sends is 0 or 1,
                 "firing": {"inclusive", "late"} or null: Lava's own,
                 "graded": {"limit": number or null, "inclusive", "stock"} or null,
                 "changes": {"rectified", "cumulative", "exponent", "shift", "levels"} or null,
                 "count": {"limit": number or null} or null: neurons spike once in a step,
                 "potential": {"limit": number or null} or null: read-outs that feed layers,
                 "dynamics": a key of `processes.DYNAMICS` or null: LIF,
                 "parameters": [names]}],
     "connections": [{"source", "layer", "kind": "direct" | "dense" | "sparse",
                      "delay", "weight_exp", "largest",
                      "imaginary": it enters the imaginary part of resonators}]}

with the arrays::

    layer i:       "layer.i.du", "layer.i.dv", "layer.i.v_threshold", "layer.i.bias";
                   "layer.i.v_subtract" where a spike subtracts;
                   "layer.i.NAME" for each of "parameters"
    connection i:  "connection.i.weight" (out, in), or of a CSR matrix
                   "connection.i.data", ".indices", ".indptr"

A layer or a source of n neurons has the size n · width, ordered by neuron, then by sample.
"""

from __future__ import annotations

import mmap
import os
import warnings

import numpy as np
from batched import BatchedDense, BatchedSparse
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense
from lava.proc.graded.process import GradedReluVec
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.process import Sparse
from processes import DYNAMICS, Changes, Counted, Fired, Graded, Potential, ReadOut, Sink, Source, Traced, input_of
from scipy.sparse import csr_matrix, eye
from scipy.sparse.csgraph import connected_components

# Above 0, Lava's synapses multiply their matrix with the message. At 0 they add up the columns
# where it is not 0: for spikes the same sums, 2–4 times slower; for analog values other sums.
MESSAGE_BITS = 24
# Messages per channel, in shared memory. Lava's default is 64, but only one is ever on its way.
CHANNEL = 2
SHARED_MEMORY = "/dev/shm"


class Network:
    """A running Lava network. `step` takes values of sources and gives those of layers."""

    def __init__(self, description: dict, arrays: dict) -> None:
        self.fixed = description["precision"] == "fixed_pt"
        self.rows, self._width = description["rows"], description["width"]
        number = np.int32 if self.fixed else np.float64
        self._sources = {item["name"]: _shared(self.rows, item["size"], number) for item in description["sources"]}
        self._sinks = {
            item["name"]: _shared(self.rows, item["size"], np.uint8 if item["binary"] else number)
            for item in description["layers"]
        }
        self._traces = {
            item["name"]: _shared(self.rows, 2 * len(item["trace"]), number) for item in description["layers"]
        }
        ports = {name: Source(values, f"source {name}").s_out for name, values in self._sources.items()}
        layers = {}
        for index, item in enumerate(description["layers"]):
            layer = layers[item["name"]] = self._layer(item, index, arrays, description["interval"])
            layer.s_out.connect(Sink(self._sinks[item["name"]], f"sink {item['name']}").a_in)
            ports[item["name"]] = layer.s_out
        connections = [
            _Connection(item, f"connection.{index}", arrays) for index, item in enumerate(description["connections"])
        ]
        self._values = sum(2 * port.shape[0] for port in ports.values())
        # By name of a line: ports that together send one array, and how many past steps it holds.
        lines = {name: ([port], 0) for name, port in ports.items()}
        for connection in connections:
            if connection.line not in lines:
                longest = max(other.delay for other in connections if other.source == connection.source)
                lines[connection.line] = self._delay_line(ports[connection.source], longest), longest
        for group in _groups(connections):
            self._connect(group, *lines[group[0].line], input_of(layers[group[0].layer], group[0].imaginary))
        self._any = next(iter(layers.values()))
        for name in _islands(description):
            # Lava runs only processes that are connected with the one it is told to run. A synapse
            # of weight 0 connects the others.
            a_in = input_of(layers[name])
            nothing = csr_matrix(
                ([0], ([0], [0])), shape=(*a_in.shape, *self._any.s_out.shape), dtype=self._weight_type
            )
            synapse = Sparse(weights=nothing, num_message_bits=MESSAGE_BITS, weight_exp=0)
            self._any.s_out.connect(synapse.s_in)
            synapse.a_out.connect(a_in)
        self.steps = 0
        _require_shared_memory(self._values * np.dtype(number).itemsize * CHANNEL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lava warns about its own sources while it compiles
            config = Loihi2SimCfg(select_tag=description["precision"])
            self._any.create_runtime(run_cfg=config, compile_config={"pypy_channel_size": CHANNEL})

    def step(self, steps: int, inputs: dict) -> dict:
        """Run ``steps``, at most ``rows``; return the values (steps, size) of each layer.

        Recorded neurons are in "trace NAME": (steps, 2 · neurons), u then v.
        """
        if not 0 < steps <= self.rows:
            raise ValueError(f"{steps} steps in one call, at most {self.rows}")
        rows = (self.steps + np.arange(steps)) % self.rows
        for name, values in self._sources.items():
            values[rows] = inputs.get(name, 0)
        self._any.run(condition=RunSteps(num_steps=steps))
        self.steps += steps
        sent = {name: values[rows] for name, values in self._sinks.items()}
        return sent | {f"trace {name}": values[rows] for name, values in self._traces.items() if values.size}

    def processes(self) -> int:
        """Return the number of Lava's operating-system processes that run."""
        return sum(actor.exitcode is None for actor in self._actors())

    def ended(self) -> dict | None:
        """Return the error frame of a process that has ended; ``None`` if all of them run."""
        for actor in self._actors():
            if actor.exitcode is not None:
                if actor.exception:
                    error, trace = actor.exception
                    return {"type": type(error).__name__, "message": str(error), "traceback": trace}
                return {
                    "type": "ProcessEnded",
                    "message": f"a process of Lava ended with exit status {actor.exitcode}",
                    "traceback": "",
                }
        return None

    def _actors(self) -> list:
        runtime = self._any.runtime
        return (
            runtime._messaging_infrastructure.actors
            if runtime is not None and runtime._messaging_infrastructure
            else []
        )

    def stop(self) -> None:
        """End every process of the network."""
        self._any.stop()

    def _layer(self, item: dict, index: int, arrays: dict, interval: int) -> LIFReset:
        value = {name: arrays[f"layer.{index}.{name}"] for name in ("du", "dv", "v_threshold", "bias")}
        parameters = {
            "shape": (item["size"],),
            "du": _one(value["du"]),
            "dv": _one(value["dv"]),
            "vth": _one(value["v_threshold"]),
            "bias_mant": value["bias"],
            "bias_exp": item["bias_exp"],
            "reset_interval": interval,
            # Lava counts from 1: a layer at depth d computes a sample's first step in step d + 1.
            "reset_offset": item["offset"] % interval,
            "name": item["name"],
        }
        if item["graded"] and item["graded"]["stock"] and not item["trace"]:
            return GradedReluVec(shape=(item["size"],), vth=_one(value["v_threshold"]))
        own = item["firing"] or item["graded"] or item["dynamics"] or item["changes"] or item["potential"]
        if item["spiking"] and not item["trace"] and not own:
            return LIFReset(**parameters)
        trace = self._traces[item["name"]].reshape(self.rows, 2, -1)
        if item["changes"]:
            parameters["first_step"] = item["offset"]
            return Changes(trace, np.array(item["trace"], int), item["spiking"], item["changes"], **parameters)
        if item["graded"]:
            inclusive, limit = item["graded"]["inclusive"], item["graded"]["limit"]
            return Graded(trace, np.array(item["trace"], int), inclusive, _limit(limit), **parameters)
        if item["dynamics"]:
            given = {name: _one(arrays[f"layer.{index}.{name}"]) for name in item["parameters"]}
            return DYNAMICS[item["dynamics"]](trace, np.array(item["trace"], int), given, **parameters)
        if item["potential"]:
            limit = item["potential"]["limit"]
            return Potential(trace, np.array(item["trace"], int), _limit(limit), **parameters)
        if item["firing"]:
            subtract = arrays.get(f"layer.{index}.v_subtract")
            subtract = None if subtract is None else _one(subtract)
            if item["count"]:
                inclusive, limit = item["firing"]["inclusive"], item["count"]["limit"]
                return Counted(trace, np.array(item["trace"], int), inclusive, subtract, _limit(limit), **parameters)
            return Fired(trace, np.array(item["trace"], int), **item["firing"], subtract=subtract, **parameters)
        return (Traced if item["spiking"] else ReadOut)(trace, np.array(item["trace"], int), **parameters)

    def _delay_line(self, out, longest: int) -> list:
        """Return ports that together send the last ``longest`` arrays of ``out``, newest first.

        They are a shift register of Lava's own synapses: the first puts an array at the front, the
        second takes both outputs and moves every array on by one. Lava's DelayDense and DelaySparse
        would build their delayed matrix again in every step.
        """
        size = out.shape[0]
        self._values += 3 * longest * size
        front = eye(longest * size, size, dtype=self._weight_type, format="csr")
        first = Sparse(weights=front, num_message_bits=MESSAGE_BITS, weight_exp=0)
        out.connect(first.s_in)
        if longest == 1:
            return [first.a_out]
        on = eye(longest * size, longest * size, -size, dtype=self._weight_type, format="csr")
        shift = Sparse(weights=on, num_message_bits=MESSAGE_BITS, weight_exp=0)
        for port in (first.a_out, shift.a_out):
            port.connect(shift.s_in)
        return [first.a_out, shift.a_out]

    def _connect(self, group: list, outs: list, longest: int, a_in) -> None:
        """Connect the ports ``outs`` with ``a_in``, by one synapse for the whole ``group``."""
        first = group[0]
        if first.kind == "direct":
            outs[0].connect(a_in)
            return
        self._values += a_in.shape[0]
        shape = (a_in.shape[0] // self._width, outs[0].shape[0] // self._width)
        parameters = {"num_message_bits": MESSAGE_BITS, "weight_exp": first.weight_exp}
        if longest:
            size = shape[1] // longest
            own, batched, weights = Sparse, BatchedSparse, sum(connection.at(size, longest) for connection in group)
        elif first.kind == "dense":
            own, batched, weights = Dense, BatchedDense, first.dense
        else:
            own, batched, weights = Sparse, BatchedSparse, first.sparse(shape)
        if self._width > 1:
            synapse = batched(
                weights=weights, width=self._width, largest=max(item.largest for item in group), **parameters
            )
        else:
            synapse = own(weights=weights, **parameters)
        for out in outs:
            out.connect(synapse.s_in)
        synapse.a_out.connect(a_in)

    @property
    def _weight_type(self) -> type:
        return np.int32 if self.fixed else np.float64


class _Connection:
    """One connection of the description, with its weights."""

    def __init__(self, item: dict, key: str, arrays: dict) -> None:
        self.source, self.layer, self.kind = item["source"], item["layer"], item["kind"]
        self.delay = 0 if self.kind == "direct" else item["delay"]
        self.weight_exp, self.largest = item["weight_exp"], item["largest"]
        self.imaginary = item["imaginary"]
        self.dense = arrays.get(f"{key}.weight")
        self._parts = tuple(arrays.get(f"{key}.{part}") for part in ("data", "indices", "indptr"))

    @property
    def line(self) -> str:
        """Name of the line that it takes its input from."""
        return f"late {self.source}" if self.delay else self.source

    def sparse(self, shape: tuple) -> csr_matrix:
        """Return the weights, (out, in)."""
        return csr_matrix(self.dense) if self.kind == "dense" else csr_matrix(self._parts, shape=shape)

    def at(self, size: int, longest: int) -> csr_matrix:
        """Return the weights for a delay line of ``longest`` arrays of ``size``."""
        outputs = len(self.dense) if self.kind == "dense" else len(self._parts[2]) - 1
        weights = self.sparse((outputs, size))
        return csr_matrix(
            (weights.data, weights.indices + (self.delay - 1) * size, weights.indptr), shape=(outputs, longest * size)
        )

    def signs(self) -> tuple:
        """Return True for negative and for positive weights: with both, Lava truncates them."""
        values = self.dense if self.kind == "dense" else self._parts[0]
        return bool((values < 0).any()), bool((values > 0).any())


def _groups(connections: list) -> list:
    """Return the connections in groups that one synapse can serve: same line, layer, exponent.

    Below 0, an exponent rounds the sum of its synapse, so each connection has its own. So has a
    second connection of the same delay.
    """
    groups: dict = {}
    for number, connection in enumerate(connections):
        key: tuple = (number,)
        if connection.delay and connection.weight_exp >= 0:
            ends = (connection.source, connection.layer, connection.imaginary)
            alike = (*ends, connection.weight_exp, connection.signs())
            key = next(
                (*alike, n)
                for n in range(number + 1)
                if connection.delay not in {c.delay for c in groups.get((*alike, n), [])}
            )
        groups.setdefault(key, []).append(connection)
    return list(groups.values())


def _islands(description: dict) -> list:
    """Return one layer of every part of the network that is not connected with the first layer."""
    layers = [item["name"] for item in description["layers"]]
    index = {name: i for i, name in enumerate(layers + [item["name"] for item in description["sources"]])}
    joins = np.zeros((len(index), len(index)), bool)
    for item in description["connections"]:
        joins[index[item["source"]], index[item["layer"]]] = True
    _, part = connected_components(joins, directed=False)
    return [name for i, name in enumerate(layers) if part[i] not in part[:i] and i > 0]


def _require_shared_memory(needed: int) -> None:
    """Raise if Lava's channels do not fit; otherwise it would die of a bus error within a step."""
    if os.path.isdir(SHARED_MEMORY):
        found = os.statvfs(SHARED_MEMORY)
        free = found.f_bavail * found.f_frsize
        if needed > free:
            raise MemoryError(
                f"Lava's channels need {needed / 1e6:.0f} MB in {SHARED_MEMORY}, which has {free / 1e6:.0f} MB left"
            )


def _shared(rows: int, size: int, dtype: type) -> np.ndarray:
    """Return zeros in anonymous memory, which forked processes share, and which ends with them."""
    values = np.frombuffer(mmap.mmap(-1, max(1, rows * size) * np.dtype(dtype).itemsize), dtype)
    return values[: rows * size].reshape(rows, size)


def _limit(value):
    return np.inf if value is None else value


def _one(value: np.ndarray):
    """Return a scalar if all neurons share the value, as Lava's fixed-point model requires."""
    return value.item() if value.size == 1 else value
