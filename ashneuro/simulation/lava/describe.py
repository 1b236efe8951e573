"""Description of a program in the terms of the Lava worker (`ashneuro.lava_worker.network`).

A population of n neurons that serves ``width`` samples side by side is n · width values, ordered by
neuron, then by sample. Batched synapses multiply all columns at once; otherwise each sample has a
copy of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, identity, kron

from ashneuro.lava_worker.frames import Arrays, Header
from ashneuro.loihi import DECAY_ONE, STATE_UNIT
from ashneuro.program.bounds import accumulation, largest_message
from ashneuro.program.program import Connection, Layer, Neuron, Program
from ashneuro.program.synapse import matrix
from ashneuro.simulation.lava.layout import is_lagged
from ashneuro.spiking.firing import LIF_FIRING
from ashneuro.spiking.message import Message

DENSE_ABOVE = 0.3  # fraction of non-zero weights above which Lava's Dense is faster than its Sparse
HOLD_MARGIN = 1.01  # on currents that hold neurons below their threshold, against rounding


@dataclass(frozen=True, eq=False)
class Description:
    """A network as the worker builds it.

    Args:
        header: sources, layers and connections, with their sizes.
        arrays: weights and neuron parameters, by name.
        holds: currents (depth, size) of the sources that hold layers silent before the sample
            arrives, by source name; see `hold_currents`.
    """

    header: Header
    arrays: Arrays
    holds: Mapping[str, NDArray[Any]]


def describe(
    program: Program,
    timesteps: int,
    *,
    width: int,
    batched: bool,
    request_steps: int,
    traces: Mapping[str, Sequence[int]],
) -> Description:
    """Return the description of ``program``.

    Args:
        timesteps: steps per sample, after which every layer is reset.
        width: number of samples side by side.
        batched: one synapse serves all of them; otherwise each has a copy.
        request_steps: largest number of machine steps per request.
        traces: neurons whose u and v are recorded, by layer.
    """
    number = np.int32 if program.precision == "integer" else np.float64
    arrays: Arrays = {}
    sources, connections = _describe_connections(program, width, batched, number, arrays)
    layers = [
        _describe_layer(program, index, width, number, arrays) | {"trace": [int(n) for n in traces.get(layer.name, ())]}
        for index, layer in enumerate(program.layers)
    ]
    holds = {}
    if is_lagged(program):
        for layer in program.layers:
            if (currents := hold_currents(layer, program.precision == "integer")) is not None:
                name = f"hold {layer.name}"
                holds[name] = np.repeat(currents, width, axis=1)
                sources.append({"name": name, "size": layer.size * width})
                connections.append(_direct(name, layer.name))
    header = {
        "precision": "fixed_pt" if program.precision == "integer" else "floating_pt",
        "interval": timesteps,
        "rows": request_steps,
        "width": width if batched else 1,
        "sources": sources,
        "layers": layers,
        "connections": connections,
    }
    return Description(header, arrays, holds)


def hold_currents(layer: Layer, integer: bool) -> NDArray[Any] | None:
    """Return currents (depth, neurons) that keep ``layer`` silent until the sample reaches it.

    A bias, or a threshold below the start, makes neurons spike without input. In the steps before
    the sample arrives such spikes are too early, and over a loop or an axonal delay they would
    arrive within the sample. Each step's current moves u so far below zero that v cannot rise; in
    ternary neurons, which spike below zero as well, so that v stays within half a unit of it.
    ``None`` if the layer is silent anyway.
    """
    neuron, unit = layer.neuron, STATE_UNIT if integer else 1
    bias, threshold, du, dv = (
        np.broadcast_to(value, layer.shape).ravel().astype(float)
        for value in (neuron.bias, neuron.v_threshold, neuron.du, neuron.dv)
    )
    bias *= 2.0**neuron.bias_exp
    keep_u, keep_v = (1 - (du + 1) / DECAY_ONE, 1 - dv / DECAY_ONE) if integer else (1 - du, 1 - dv)
    signed = neuron.message.signed
    # With u at −needed, v stays below the threshold and below its start.
    needed = bias if signed else HOLD_MARGIN * np.maximum(0, bias - np.minimum(unit * threshold, 0))
    # Neurons that send changes hold themselves until then.
    if not neuron.spiking or neuron.changes or not layer.depth or not needed.any():
        return None
    rows, u, v = [], np.zeros(layer.size), np.zeros(layer.size)
    for _ in range(layer.depth):
        u, v = (np.trunc(u * keep_u), np.trunc(v * keep_v)) if integer else (u * keep_u, v * keep_v)
        a = -(v + u + bias) / unit if signed else -np.maximum(0, needed + u) / unit
        if integer:
            a = np.rint(a) if signed else np.floor(a)
        u += a * unit
        v += u + bias
        rows.append(a)
    return np.array(rows, np.int32 if integer else np.float64)


def _describe_connections(
    program: Program, width: int, batched: bool, number: type, arrays: Arrays
) -> tuple[list[Header], list[Header]]:
    """Return the sources and the connections; weights go to ``arrays``."""
    sources: dict[str, Header] = {}
    connections: list[Header] = []
    for layer, connection in program.connections():
        source = _source(program, connection)
        if source is not None:
            sources[source["name"]] = {**source, "size": source["size"] * width}
        item = _direct(source["name"] if source else connection.source, layer.name)
        item |= {"weight_exp": connection.weight_exp, "largest": _largest(program, connection)}
        item["imaginary"] = connection.imaginary
        if connection.synapse is not None:
            copies, key = 1 if batched else width, f"connection.{len(connections)}"
            item |= _describe_weights(matrix(connection.synapse), copies, key, number, arrays)
            item["delay"] = connection.delay
        connections.append(item)
    return list(sources.values()), connections


def _direct(source: str, layer: str) -> Header:
    return {
        "source": source,
        "layer": layer,
        "kind": "direct",
        "delay": 0,
        "weight_exp": 0,
        "largest": 0,
        "imaginary": False,
    }


def _source(program: Program, connection: Connection) -> Header | None:
    """Return the source that plays an input port; ``None`` if the connection comes from a layer.

    A connection without a synapse has nothing that could delay it, so its source plays later.
    """
    port = program.port(connection.source)
    if port is None:
        return None
    late = connection.delay if connection.synapse is None else 0
    name = f"{port.name} +{late}" if late else port.name
    return {"name": name, "port": port.name, "late": late, "size": int(np.prod(port.shape))}


def _largest(program: Program, connection: Connection) -> int:
    """Return the largest magnitude that the connection carries, 0 if it is not known."""
    port = program.port(connection.source)
    if port is None:
        return largest_message(program.layer(connection.source).neuron)
    return 1 if port.coding == "spikes" else port.limit


def _describe_layer(program: Program, index: int, width: int, number: type, arrays: Arrays) -> Header:
    layer = program.layers[index]
    neuron = layer.neuron
    values = {name: getattr(neuron, name) for name in ("du", "dv", "v_threshold", "bias", "v_subtract")}
    for name, value in {**values, **neuron.parameters}.items():
        if value is None:
            continue
        value = np.asarray(value)
        if value.size > 1:
            value = np.repeat(np.broadcast_to(value, layer.shape).ravel(), width)
        arrays[f"layer.{index}.{name}"] = value.ravel().astype(number)
    return {
        "name": layer.name,
        "size": layer.size * width,
        "offset": layer.depth + 1,  # Lava counts steps from 1
        "bias_exp": layer.neuron.bias_exp if program.precision == "integer" else 0,
        "spiking": layer.neuron.spiking,
        "binary": layer.neuron.binary,
        "firing": _firing(layer),
        "graded": _graded(program, layer),
        "changes": _changes(program, layer),
        "count": {"limit": _limit(program, neuron)} if neuron.message.kind == "count" else None,
        "potential": {"limit": _limit(program, neuron)} if neuron.potential else None,
        "dynamics": None if neuron.dynamics == "lif" else neuron.dynamics,
        "parameters": list(neuron.parameters),
    }


def own_process(program: Program, layer: Layer) -> str | None:
    """Return the name of our own process for ``layer``; ``None``: Lava has one for its neurons."""
    if layer.neuron.dynamics != "lif":
        return layer.neuron.dynamics.capitalize()
    if layer.neuron.message.changes:
        return "Changes"
    graded = _graded(program, layer)
    if graded is not None and not graded["stock"]:
        return "Graded"
    if layer.neuron.message.kind == "count":
        return "Counted"
    if layer.neuron.potential:
        return "Potential"
    return None if _firing(layer) is None else "Fired"


def _graded(program: Program, layer: Layer) -> Header | None:
    """Return the messages of a layer that sends graded values; ``None`` for other layers.

    Lava's GradedReluVec is "stock". It has a model in integers alone, neither a bias nor a largest
    value, and it spikes at v > vth.
    """
    neuron = layer.neuron
    if not neuron.graded:
        return None
    inclusive = neuron.firing.comparison == "inclusive"
    stock = program.precision == "integer" and not inclusive and not np.any(neuron.bias)
    if stock:
        _, high = accumulation(program, layer)
        stock = int(high.max(initial=0)) <= largest_message(neuron)
    return {"limit": _limit(program, neuron), "inclusive": inclusive, "stock": stock}


def _limit(program: Program, neuron: Neuron) -> float | None:
    limit = neuron.message.limit
    return int(limit) if limit is not None and program.precision == "integer" else limit


def _changes(program: Program, layer: Layer) -> Header | None:
    """Return the changes that a layer sends, in the terms of Lava's SigmaDelta; else ``None``."""
    message = layer.neuron.message
    if not message.changes:
        return None
    return {
        "rectified": message.activation == "relu",
        "cumulative": message.cumulative,
        "exponent": layer.neuron.bias_exp,
        "shift": message.shift,
        "levels": _levels(program, message),
    }


def _levels(program: Program, message: Message) -> Header | None:
    """Return step, jump and number of the levels whose changes are sent; else ``None``."""
    if not message.levels:
        return None
    number: type = int if program.precision == "integer" else float
    return {"step": number(message.step), "jump": number(message.jump), "largest": message.largest}


def _firing(layer: Layer) -> Header | None:
    """Return the firing of a layer that needs a process of our own; ``None``: Lava's LIF has it."""
    kind = layer.neuron.firing
    if not layer.neuron.scale_free or kind == LIF_FIRING:
        return None
    return {"inclusive": kind.comparison == "inclusive", "late": bool(kind.reset_delay)}


def _describe_weights(weights: csr_matrix, copies: int, key: str, number: type, arrays: Arrays) -> Header:
    """Put ``copies`` of the weights into ``arrays``; return the kind of Lava process for them."""
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
