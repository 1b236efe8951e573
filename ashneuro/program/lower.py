"""NIR to `Program`: neurons become layers, everything linear between them becomes one synapse per path.

With x_t what the synapses bring, b the bias, and per neuron the gain ``g = dv · R · (w_in · du)`` (the last factor only
with a synaptic current; ``g = R`` for IF), where ``du, dv`` are ``dt/τ_syn, dt/τ_mem`` (`Contract.decay`), a layer is::

    u = u·(1 − du) + x;   v = v·(1 − dv) + u + b;   spike: v > (v_threshold − v_reset)/g

the graph's neuron with v measured from where it starts and resets (v_reset), in units of g; where it rests elsewhere
(v_leak), b has the pull to there. So weights remain the user's own
numbers, a convolution remains one where its neurons differ, an analog input enters the first neurons without a
multiplication, and sums of weights are rounded as they are in the graph, not after a product with g. Read-outs give v
itself; for them g is in the weights.

A bias in front of a neuron with a synaptic current is filtered by it, a neuron's own bias is not: such a bias arrives over
a line that is always on (`InputPort.constant`). Paths of unequal depth meet through `Connection.delay`. A neuron that
feeds itself hears its spikes of the step before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import nir
import numpy as np
from numpy.typing import NDArray

from ashneuro.program.linear_sums import Sum, Term, incoming, linear_sums
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Shape, Synapse
from ashneuro.program.rules.finding import Finding, require
from ashneuro.program.rules.graph import graph_findings
from ashneuro.program.synapse import scale_outputs
from ashneuro.program.wiring import ALWAYS_ON, READ_OUT, Wiring, numbers, wire
from ashneuro.spiking.contract import Contract

_Array = NDArray[np.float64]


def lower(graph: nir.NIRGraph | Wiring, contract: Contract) -> Program:
    """Return the float program that computes ``graph``, step by step, as ``contract`` says.

    Layers carry the names of their neuron nodes; a linear map that feeds an Output directly becomes a read-out layer with
    the Output's name. Every neuron of the graph is in the program.

    Raises:
        GraphError: every rule that the graph breaks.
    """
    wiring = wire(graph)
    require(graph_findings(wiring, contract), "this NIR graph cannot be lowered")
    return lower_wiring(wiring, contract)


def lower_wiring(wiring: Wiring, contract: Contract) -> Program:
    """Return the float program of a graph that has no findings of level ``"error"``."""
    sums = linear_sums(wiring, contract.dt_s)
    cells = [_neuron_cell(wiring, name, incoming(wiring, sums, name), contract) for name in wiring.named("neuron")]
    outputs = []
    for name in wiring.named("output"):
        neuron = wiring.only_neuron(name)
        if neuron is None:
            cells.append(_read_out_cell(wiring, name, incoming(wiring, sums, name)))
        outputs.append(neuron or name)
    ports = _ports(wiring, cells, contract)
    direct = {port.name for port in ports if port.coding == "current"}
    layers = _in_order(_timed([_layer(cell, direct) for cell in cells], [cell.lags for cell in cells]))
    return Program("float", contract.dt_s, contract.timesteps, ports, tuple(layers), tuple(dict.fromkeys(outputs)))


@dataclass(frozen=True, eq=False)
class _Cell:
    """A layer before it has connections: ``gain`` is multiplied into what comes in (``None``: it is the unit of v)."""

    name: str
    shape: Shape
    neuron: Neuron
    gain: _Array | None
    terms: tuple[Term, ...]
    nir: tuple[str, ...]

    @property
    def lags(self) -> tuple[int, ...]:
        """Sample steps between a source and this layer; the step before, where it feeds itself without an own delay."""
        return tuple(max(term.lag, 1) if term.source == self.name else term.lag for term in self.terms)


def _neuron_cell(wiring: Wiring, name: str, total: Sum, contract: Contract) -> _Cell:
    node, shape = wiring.nodes[name], wiring.in_shapes[name]
    assert shape is not None
    one, zero = np.ones(shape), np.zeros(shape)
    if isinstance(node, nir.Threshold):
        du, dv, gain = one, one, one
    elif isinstance(node, nir.IF | nir.I):
        du, dv, gain = one, zero, numbers(node, "r") * (1.0 if contract.if_convention == "per-step" else contract.dt_s)
    elif isinstance(node, nir.CubaLIF | nir.CubaLI):
        du, dv = contract.decay(numbers(node, "tau_syn")), contract.decay(numbers(node, "tau_mem"))
        gain = dv * numbers(node, "r") * (numbers(node, "w_in") * du)
    else:
        du, dv = one, contract.decay(numbers(node, "tau"))
        gain = dv * numbers(node, "r")
    spiking = not isinstance(node, READ_OUT)
    threshold = (
        numbers(node, "threshold" if isinstance(node, nir.Threshold) else "v_threshold")
        if spiking
        else np.full(shape, np.inf)
    )
    rest = numbers(node, "v_leak") if hasattr(node, "v_leak") else zero
    origin = numbers(node, "v_reset") if contract.start == "v_reset" and hasattr(node, "v_reset") else rest
    in_units_of_gain = spiking and bool((gain > 0).all())
    unit = gain if in_units_of_gain else one
    constant = zero if total.constant is None else total.constant.reshape(shape)
    terms = total.terms
    bias = dv * (rest - origin) / unit
    if (du == 1).all():
        bias = bias + constant * (gain / unit)
    elif constant.any():
        line = Synapse("dense", (1,), shape, constant.reshape(-1, 1))
        terms = (*terms, Term(ALWAYS_ON, line, nir=total.nir))
    neuron = Neuron(
        du=_compact(du),
        dv=_compact(dv),
        v_threshold=_compact((threshold - origin) / unit),
        bias=_compact(bias),
        spiking=spiking,
        v_unit=_compact(unit),
        v_origin=_compact(origin),
    )
    return _Cell(
        name, shape, neuron, None if in_units_of_gain or (gain == 1).all() else gain, terms, (name, *total.nir)
    )


def _read_out_cell(wiring: Wiring, name: str, total: Sum) -> _Cell:
    """Return the read-out of a linear map that no neuron follows: v is its value in this step."""
    shape = wiring.in_shapes[name]
    assert shape is not None
    bias = np.zeros(shape) if total.constant is None else total.constant.reshape(shape)
    neuron = Neuron(np.ones(()), np.ones(()), np.full((), np.inf), _compact(bias), spiking=False)
    return _Cell(name, shape, neuron, None, total.terms, (name, *total.nir))


def _ports(wiring: Wiring, cells: Sequence[_Cell], contract: Contract) -> tuple[InputPort, ...]:
    """Return the inputs that are used; ``"current"`` where all paths of an analog input enter neurons as they are."""
    ports = []
    for name in wiring.named("input"):
        uses = [(cell, term) for cell in cells for term in cell.terms if term.source == name]
        shape = wiring.in_shapes[name]
        if not uses or shape is None:
            continue
        direct = all(term.synapse is None and cell.gain is None for cell, term in uses)
        ports.append(
            InputPort(name, shape, "spikes" if contract.input_coding == "spikes" else "current" if direct else "graded")
        )
    if any(term.source == ALWAYS_ON for cell in cells for term in cell.terms):
        ports.append(InputPort(ALWAYS_ON, (1,), "spikes", constant=True))
    return tuple(ports)


def _layer(cell: _Cell, direct: set[str]) -> Layer:
    connections = []
    for term in cell.terms:
        synapse = term.synapse
        if synapse is None and term.source not in direct:
            synapse = Synapse("scale", cell.shape, cell.shape, np.ones(()))
        if synapse is not None and cell.gain is not None:
            synapse = scale_outputs(synapse, cell.gain.reshape(synapse.out_shape))
        connections.append(Connection(term.source, synapse, nir=term.nir))
    return Layer(cell.name, cell.shape, cell.neuron, tuple(connections), 0, nir=cell.nir)


def _timed(layers: Sequence[Layer], lags: Sequence[tuple[int, ...]]) -> list[Layer]:
    """Return ``layers`` with depths and delays such that every connection lags by its ``lags`` in sample time.

    depth(layer) ≥ depth(source) + 1 (a synapse delivers late) − lag, as small as possible: longest paths.
    """
    depths = {layer.name: 0 for layer in layers}
    late: set[str] = set()
    for _ in range(len(layers) + 1):
        late.clear()
        for layer, waits in zip(layers, lags, strict=True):
            arrivals = (
                depths.get(connection.source, 0) + (connection.synapse is not None) - lag
                for connection, lag in zip(layer.connections, waits, strict=True)
            )
            depth = max(arrivals, default=0)
            if depth > depths[layer.name]:
                depths[layer.name] = depth
                late.add(layer.name)
        if not late:
            break
    require([_hasty_loop(name) for name in sorted(late)], "this NIR graph cannot be lowered")
    return [
        replace(
            layer,
            depth=depths[layer.name],
            connections=tuple(
                replace(
                    connection,
                    delay=depths[layer.name]
                    + lag
                    - depths.get(connection.source, 0)
                    - (connection.synapse is not None),
                )
                for connection, lag in zip(layer.connections, waits, strict=True)
            ),
        )
        for layer, waits in zip(layers, lags, strict=True)
    ]


def _hasty_loop(name: str) -> Finding:
    return Finding(
        name,
        "NIRGraph",
        "loop_delay",
        "The delays around a loop add up to at least one step per layer in it, because every synapse takes one.",
        "error",
        remedy="lengthen the Delay in the loop",
    )


def _in_order(layers: Sequence[Layer]) -> list[Layer]:
    """Return ``layers`` with sources first; a loop is entered at a layer whose undelayed sources are all there."""
    waiting: dict[str, Layer] = {layer.name: layer for layer in layers}
    depths: Mapping[str, int] = {layer.name: layer.depth for layer in layers}
    ordered = []

    def ready(layer: Layer, *, all_sources: bool) -> bool:
        return not any(
            connection.source in waiting
            and connection.source != layer.name
            and (all_sources or depths[connection.source] + 1 + connection.delay == layer.depth)
            for connection in layer.connections
        )

    while waiting:
        candidates = [layer for layer in waiting.values() if ready(layer, all_sources=True)]
        candidates = candidates or [next(layer for layer in waiting.values() if ready(layer, all_sources=False))]
        for layer in candidates:
            ordered.append(waiting.pop(layer.name))
    return ordered


def _compact(values: _Array) -> _Array:
    """Return ``values`` as one number, or one per channel, where that says the same."""
    if values.size and (values == values.flat[0]).all():
        return np.asarray(values.flat[0])
    if values.ndim > 1:
        per_channel = values.reshape(values.shape[0], -1)
        if (per_channel == per_channel[:, :1]).all():
            return per_channel[:, 0].reshape(-1, *[1] * (values.ndim - 1))
    return values
