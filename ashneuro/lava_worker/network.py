"""Builds the Lava network that a header and its arrays describe, and runs it step by step.

The description is in Lava's own terms, so that nothing is decided here::

    {"precision": "fixed_pt" | "floating_pt", "interval": steps per sample, "rows": steps per call, at most
     "sources": [{"name", "size"}],
     "layers": [{"name", "size", "offset", "bias_exp", "spiking"}],
     "connections": [{"source", "layer", "kind": "direct" | "dense" | "sparse", "delay", "weight_exp"}]}

    layer i:       "layer.i.du", "layer.i.dv", "layer.i.v_threshold", "layer.i.bias"
    connection i:  "connection.i.weight" (out, in), or "connection.i.data", ".indices", ".indptr" of a CSR matrix
"""

from __future__ import annotations

import mmap
import warnings

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.process import Sparse
from processes import ReadOut, Sink, Source
from scipy.sparse import csr_matrix, identity
from scipy.sparse.csgraph import connected_components

# Above 0, Lava's synapses multiply what they receive. With 0 they test it for 0 instead and gather the columns of their
# matrix in every step: for spikes the same sums, 2–4 times slower; for analog values other sums.
MESSAGE_BITS = 24


class Network:
    """A running Lava network. `step` takes what the sources send and gives what the layers sent."""

    def __init__(self, description: dict, arrays: dict) -> None:
        self.fixed = description["precision"] == "fixed_pt"
        self.rows = description["rows"]
        self._config = Loihi2SimCfg(select_tag=description["precision"])
        number = np.int32 if self.fixed else np.float64
        self._sources = {item["name"]: _shared(self.rows, item["size"], number) for item in description["sources"]}
        self._sinks = {
            item["name"]: _shared(self.rows, item["size"], np.uint8 if item["spiking"] else number) for item in description["layers"]
        }
        ports = {name: Source(values, f"source {name}").s_out for name, values in self._sources.items()}
        layers = {}
        for index, item in enumerate(description["layers"]):
            layer = layers[item["name"]] = self._layer(item, index, arrays, description["interval"])
            layer.s_out.connect(Sink(self._sinks[item["name"]], f"sink {item['name']}").a_in)
            ports[item["name"]] = layer.s_out
        for index, item in enumerate(description["connections"]):
            self._connect(item, f"connection.{index}", arrays, ports[item["source"]], layers[item["layer"]].a_in)
        self._any = next(iter(layers.values()))
        for name in _islands(description):
            # Lava runs what is connected with the process that is told to run, and nothing else: a weight of 0 connects.
            nothing = csr_matrix(([0], ([0], [0])), shape=(*layers[name].a_in.shape, *self._any.s_out.shape), dtype=self._weight_type)
            synapse = Sparse(weights=nothing, num_message_bits=MESSAGE_BITS, weight_exp=0)
            self._any.s_out.connect(synapse.s_in)
            synapse.a_out.connect(layers[name].a_in)
        self._steps = 0

    def step(self, steps: int, inputs: dict) -> dict:
        """Run ``steps`` (``rows``, or fewer in the last call) and return, per layer, what it sent: (steps, size)."""
        if self._steps % self.rows or not 0 < steps <= self.rows:
            raise ValueError(f"{steps} steps after {self._steps}: every call but the last runs {self.rows}")
        for name, values in inputs.items():
            self._sources[name][:steps] = values
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lava warns of its own sources while it compiles
            self._any.run(condition=RunSteps(num_steps=steps), run_cfg=self._config)
        self._steps += steps
        return {name: values[:steps] for name, values in self._sinks.items()}

    def ended(self) -> dict | None:
        """Return the failure of a process that has ended, as an error frame says it; ``None`` while all of them run."""
        runtime = self._any.runtime
        actors = runtime._messaging_infrastructure.actors if runtime is not None and runtime._messaging_infrastructure else []
        for actor in actors:
            if actor.exitcode is not None:
                if actor.exception:
                    error, trace = actor.exception
                    return {"type": type(error).__name__, "message": str(error), "traceback": trace}
                return {"type": "ProcessEnded", "message": f"a process of Lava ended with exit status {actor.exitcode}", "traceback": ""}
        return None

    def stop(self) -> None:
        """End every process of the network."""
        self._any.stop()

    def _layer(self, item: dict, index: int, arrays: dict, interval: int) -> LIFReset:
        value = {name: arrays[f"layer.{index}.{name}"] for name in ("du", "dv", "v_threshold", "bias")}
        return (LIFReset if item["spiking"] else ReadOut)(
            shape=(item["size"],),
            du=_one(value["du"]),
            dv=_one(value["dv"]),
            vth=_one(value["v_threshold"]),
            bias_mant=value["bias"],
            bias_exp=item["bias_exp"],
            reset_interval=interval,
            # The first step's number is 1: a layer at depth d sees the first step of a sample in step d + 1.
            reset_offset=item["offset"] % interval,
            name=item["name"],
        )

    def _connect(self, item: dict, key: str, arrays: dict, out, a_in) -> None:
        if item["kind"] == "direct":
            out.connect(a_in)
            return
        for _ in range(item["delay"]):
            # One step later, unchanged: Lava's DelaySparse would build its delayed matrix again in every step.
            relay = Sparse(weights=identity(out.shape[0], self._weight_type, format="csr"), num_message_bits=MESSAGE_BITS, weight_exp=0)
            out.connect(relay.s_in)
            out = relay.a_out
        if item["kind"] == "dense":
            synapse = Dense(weights=arrays[f"{key}.weight"], num_message_bits=MESSAGE_BITS, weight_exp=item["weight_exp"])
        else:
            parts = tuple(arrays[f"{key}.{part}"] for part in ("data", "indices", "indptr"))
            weights = csr_matrix(parts, shape=(a_in.shape[0], out.shape[0]))
            synapse = Sparse(weights=weights, num_message_bits=MESSAGE_BITS, weight_exp=item["weight_exp"])
        out.connect(synapse.s_in)
        synapse.a_out.connect(a_in)

    @property
    def _weight_type(self) -> type:
        return np.int32 if self.fixed else np.float64


def _islands(description: dict) -> list:
    """Return a layer of every part of the network that no connection joins with the first layer."""
    layers = [item["name"] for item in description["layers"]]
    index = {name: i for i, name in enumerate(layers + [item["name"] for item in description["sources"]])}
    joins = np.zeros((len(index), len(index)), bool)
    for item in description["connections"]:
        joins[index[item["source"]], index[item["layer"]]] = True
    _, part = connected_components(joins, directed=False)
    return [name for i, name in enumerate(layers) if part[i] not in part[:i] and i > 0]


def _shared(rows: int, size: int, dtype: type) -> np.ndarray:
    """Return zeros in anonymous memory that forked processes share; it has no name, so it cannot outlive them."""
    values = np.frombuffer(mmap.mmap(-1, max(1, rows * size * np.dtype(dtype).itemsize)), dtype)
    return values[: rows * size].reshape(rows, size)


def _one(value: np.ndarray):
    """Return a scalar where all neurons have the same value: what Lava's fixed-point model takes."""
    return value.item() if value.size == 1 else value
