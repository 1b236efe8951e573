"""Lower NIR graphs to float programs: neurons become layers, linear nodes become synapses.

With x_t the input through synapses, b the bias, ``du, dv`` = ``dt/τ_syn, dt/τ_mem``
(`Contract.decay`), and per neuron the gain ``g = dv · R · (w_in · du)`` (the last factor only with
a synaptic current; ``g = R`` for IF), a layer is::

    u = u·(1 − du) + x;   v = v·(1 − dv) + u + b;   spike: v > (v_threshold − v_reset)/g

That is the graph's neuron with v measured from where it starts (and resets, to v_reset), in units
of g. A reset by subtraction takes v_threshold/g from v. If the neuron rests elsewhere (v_leak), b
pulls it there. Read-outs in front of neurons become their synaptic current
(`ashneuro.program.filters`). So weights remain the user's own numbers, a convolution remains one
where its neurons differ, an analog input enters the first neurons without a multiplication, and
sums of weights are rounded as in the graph, not after a product with g. Read-outs give v itself;
for them g is in the weights.

A bias in front of a neuron with a synaptic current is filtered by it, a neuron's own bias is not:
such a bias arrives over a line that is always on (`InputPort.constant`). Paths of unequal depth
meet through `Connection.delay`. A neuron that feeds itself receives its spikes of the step before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import nir
import numpy as np
from numpy.typing import NDArray

from ashneuro.program.filters import Filter, merged_read_outs, senders, synaptic_filter, synaptic_filters
from ashneuro.program.linear_sums import Contribution, LinearSum, incoming_sum, linear_sums
from ashneuro.program.primitives import READ_OUT, numbers
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Shape, Synapse
from ashneuro.program.rules.finding import Finding, require
from ashneuro.program.rules.graph import graph_findings
from ashneuro.program.rules.open_fields import assumptions_of
from ashneuro.program.synapse import scale_outputs
from ashneuro.program.wiring import ALWAYS_ON, Wiring, node_dynamics, wire
from ashneuro.spiking.contract import Contract, ReadContract, as_read
from ashneuro.spiking.dynamics import AMOUNTS, DYNAMICS, Dynamics
from ashneuro.spiking.firing import LIF_FIRING, compared_with
from ashneuro.spiking.message import SPIKE

_Array = NDArray[np.float64]


def lower(graph: nir.NIRGraph | Wiring, contract: Contract | ReadContract) -> Program:
    """Return the float program that computes ``graph`` step by step under ``contract``.

    Every neuron node becomes a layer of the same name. A linear map that feeds an Output directly
    becomes a read-out with the Output's name. The program carries the assumptions of a
    `ReadContract`.

    Raises:
        GraphError: the graph breaks rules; all of them at once.
    """
    wiring, read = wire(graph), as_read(contract)
    require(graph_findings(wiring, read.contract), "this NIR graph cannot be lowered")
    return replace(lower_wiring(wiring, read.contract), assumptions=assumptions_of(wiring, read))


def lower_wiring(wiring: Wiring, contract: Contract) -> Program:
    """Return the float program of a graph that has no findings of level ``"error"``."""
    filters = synaptic_filters(wiring, contract)
    sending, merged = senders(wiring, filters), merged_read_outs(wiring, filters)
    resting = {
        name: numbers(node, "v_leak").ravel() for name in sending if hasattr(node := wiring.nodes[name], "v_leak")
    }
    sums = linear_sums(wiring, contract.dt_s, {name: rest for name, rest in resting.items() if rest.any()})
    populations = [
        _population(wiring, sums, name, contract, filters, sends=name in sending)
        for name in wiring.named("neuron")
        if name not in merged
    ]
    outputs = []
    for name in wiring.named("output"):
        neuron = wiring.only_neuron(name)
        if neuron is None:  # a linear map or a sum: it needs a layer of its own
            synaptic = synaptic_filter(wiring, sums, name, contract, filters)
            populations.append(_read_out(wiring, name, incoming_sum(wiring, sums, name), synaptic))
        outputs.append(neuron or name)
    ports = _ports(wiring, populations, contract)
    direct = {port.name for port in ports if port.coding == "current"}
    layers = [_layer(population, direct) for population in populations]
    layers = _in_order(_timed(layers, [population.lags for population in populations]))
    return Program("float", contract.dt_s, contract.timesteps, ports, tuple(layers), tuple(dict.fromkeys(outputs)))


@dataclass(frozen=True, eq=False)
class _Population:
    """A layer before it has connections.

    ``gain`` is multiplied into the synapses; ``None`` where it is 1, or the unit of v.
    """

    name: str
    shape: Shape
    neuron: Neuron
    gain: _Array | None
    terms: tuple[Contribution, ...]
    nir: tuple[str, ...]

    @property
    def alike(self) -> bool:
        """True if all neurons have one threshold, in units of their gain."""
        threshold = self.neuron.v_threshold
        return not self.neuron.scale_free or bool((threshold == np.min(threshold)).all())

    @property
    def lags(self) -> tuple[int, ...]:
        """Sample steps between each source and this layer: at least 1 where it feeds itself."""
        return tuple(max(term.lag, 1) if term.source == self.name else term.lag for term in self.terms)


def _population(
    wiring: Wiring,
    sums: dict[str, LinearSum],
    name: str,
    contract: Contract,
    filters: Collection[str],
    *,
    sends: bool,
) -> _Population:
    """Return the population of a neuron node; ``sends``: a read-out that sends its potential."""
    node, shape = wiring.nodes[name], wiring.in_shapes[name]
    assert shape is not None
    one, zero = np.ones(shape), np.zeros(shape)
    du, dv, gain = _dynamics(node, one, contract)
    total, unfiltered = incoming_sum(wiring, sums, name), zero
    synaptic = synaptic_filter(wiring, sums, name, contract, filters)
    if synaptic is not None:  # read-outs in front are the synaptic current
        total, unfiltered = synaptic.total, gain * synaptic.constant.reshape(shape)
        du, gain = one * synaptic.du, gain * synaptic.gain
    spiking = not isinstance(node, READ_OUT)
    threshold = np.full(shape, np.inf)
    if spiking:
        threshold = numbers(node, "threshold" if isinstance(node, nir.Threshold) else "v_threshold")
    rest = numbers(node, "v_leak") if hasattr(node, "v_leak") else zero
    dynamics, stated = node_dynamics(node)
    own = DYNAMICS[dynamics]
    firing = wiring.firing(name, contract) if spiking and dynamics == "lif" else LIF_FIRING
    origin = numbers(node, "v_reset") if contract.start == "v_reset" and hasattr(node, "v_reset") else rest
    size = np.maximum(np.abs(threshold), np.maximum(np.abs(rest), np.abs(origin)))
    compared = compared_with(threshold, size, own.compares(firing))
    # A gain of 0 is no unit, and a negative one would turn v > v_threshold around.
    message = wiring.message(name, contract) if spiking or sends else SPIKE
    scale_free = not own.resonates and not message.changes
    in_units_of_gain = spiking and scale_free and bool((gain > 0).all())
    unit = gain if in_units_of_gain else one
    constant = zero if total.constant is None else total.constant.reshape(shape)
    terms = total.terms
    bias = (dv * (rest - origin) + unfiltered) / unit
    if (du == 1).all() and not own.resonates:
        bias = bias + constant * (gain / unit)
    elif constant.any():
        line = Synapse("dense", (1,), shape, constant.reshape(-1, 1))
        terms = (*terms, Contribution(ALWAYS_ON, line, nir=total.nir))
    imaginary = incoming_sum(wiring, sums, name, imaginary=True)
    terms += tuple(replace(term, imaginary=True) for term in imaginary.terms)
    if imaginary.constant is not None and imaginary.constant.any():
        line = Synapse("dense", (1,), shape, imaginary.constant.reshape(-1, 1))
        terms += (Contribution(ALWAYS_ON, line, nir=imaginary.nir, imaginary=True),)
    neuron = Neuron(
        du=_compact(du),
        dv=_compact(dv),
        v_threshold=np.zeros(()) if sends else _compact((compared - origin) / unit),
        bias=_compact(bias),
        spiking=spiking or sends,
        firing=firing,
        v_subtract=_compact(threshold / unit) if firing.reset == "subtract" else None,
        message=message,
        dynamics=dynamics,
        parameters=_parameters(own, own.in_program(stated, contract, dv, size), unit),
        v_unit=_compact(unit),
        v_origin=_compact(origin),
    )
    remaining = None if in_units_of_gain or (gain == 1).all() else gain
    return _Population(name, shape, neuron, remaining, terms, (name, *total.nir, *imaginary.nir))


def _parameters(dynamics: Dynamics, values: Mapping[str, _Array], unit: _Array) -> dict[str, _Array]:
    """Return the parameters of a kind of neuron as a float program has them; ``unit``: of v."""
    kinds = dynamics.kinds
    return {name: _compact(value / unit if kinds[name] in AMOUNTS else value) for name, value in values.items()}


def _dynamics(node: Any, one: _Array, contract: Contract) -> tuple[_Array, _Array, _Array]:
    """Return (du, dv, gain) of a neuron node."""
    if isinstance(node, nir.Threshold):
        return one, one, one
    if isinstance(node, nir.IF | nir.I):
        return one, 0 * one, numbers(node, "r") * (1.0 if contract.if_convention == "per-step" else contract.dt_s)
    if isinstance(node, nir.CubaLIF | nir.CubaLI):
        du, dv = contract.decay(numbers(node, "tau_syn")), contract.decay(numbers(node, "tau_mem"))
        return du, dv, dv * numbers(node, "r") * (numbers(node, "w_in") * du)
    dv = contract.decay(numbers(node, "tau"))
    return one, dv, dv * numbers(node, "r")


def _read_out(wiring: Wiring, name: str, total: LinearSum, summed: Filter | None) -> _Population:
    """Return the read-out of a linear map at an Output: v is its value in the same step.

    ``summed``: the map takes sums (I), which commute with it: v is the sum of its values.
    """
    shape = wiring.in_shapes[name]
    assert shape is not None
    if summed is not None:
        one, gain, total = np.ones(()), np.ones(shape) * summed.gain, summed.total
        ramp = np.zeros(shape) if total.constant is None else gain * total.constant.reshape(shape)
        origin = _compact(summed.constant.reshape(shape))
        neuron = Neuron(one, 0 * one, np.inf * one, _compact(ramp), spiking=False, v_origin=origin)
        return _Population(name, shape, neuron, None if (gain == 1).all() else gain, total.terms, (name, *total.nir))
    bias = np.zeros(shape) if total.constant is None else total.constant.reshape(shape)
    neuron = Neuron(np.ones(()), np.ones(()), np.full((), np.inf), _compact(bias), spiking=False)
    return _Population(name, shape, neuron, None, total.terms, (name, *total.nir))


def _ports(wiring: Wiring, populations: Sequence[_Population], contract: Contract) -> tuple[InputPort, ...]:
    """Return the ports of the inputs in use.

    An analog input is ``"current"`` if none of its paths has weights, else ``"graded"``. It passes
    weights of 1 into neurons whose thresholds differ: integers have no other place for it.
    """
    ports = []
    for name in wiring.named("input"):
        uses = [(population, term) for population in populations for term in population.terms if term.source == name]
        shape = wiring.in_shapes[name]
        if not uses or shape is None:
            continue
        direct = all(term.synapse is None and population.gain is None and population.alike for population, term in uses)
        analog: Literal["current", "graded"] = "current" if direct else "graded"
        ports.append(InputPort(name, shape, "spikes" if contract.input_coding == "spikes" else analog))
    if any(term.source == ALWAYS_ON for population in populations for term in population.terms):
        ports.append(InputPort(ALWAYS_ON, (1,), "spikes", constant=True))
    return tuple(ports)


def _layer(population: _Population, direct: set[str]) -> Layer:
    connections = []
    for term in population.terms:
        synapse = term.synapse
        # Only analog input enters neurons directly; spikes of layers and inputs need a synapse.
        if synapse is None and term.source not in direct:
            synapse = Synapse("scale", population.shape, population.shape, np.ones(()))
        if synapse is not None and population.gain is not None:
            synapse = scale_outputs(synapse, population.gain.reshape(synapse.out_shape))
        connections.append(Connection(term.source, synapse, nir=term.nir, imaginary=term.imaginary))
    return Layer(population.name, population.shape, population.neuron, tuple(connections), 0, nir=population.nir)


def _timed(layers: Sequence[Layer], lags: Sequence[tuple[int, ...]]) -> list[Layer]:
    """Return ``layers`` with the depths and delays at which connections lag by ``lags`` steps.

    Depths are the smallest with depth(layer) ≥ depth(source) + 1 − lag (a synapse delivers one step
    late): longest paths, by Bellman–Ford. A depth that still grows after as many rounds as there
    are layers is in a loop without enough delay.
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
    require([_loop_without_delay(name) for name in sorted(late)], "this NIR graph cannot be lowered")

    def delayed(layer: Layer, connection: Connection, lag: int) -> Connection:
        own = depths.get(connection.source, 0) + (connection.synapse is not None)
        return replace(connection, delay=depths[layer.name] + lag - own)

    timed = []
    for layer, waits in zip(layers, lags, strict=True):
        pairs = zip(layer.connections, waits, strict=True)
        connections = tuple(delayed(layer, connection, lag) for connection, lag in pairs)
        timed.append(replace(layer, depth=depths[layer.name], connections=connections))
    return timed


def _loop_without_delay(name: str) -> Finding:
    text = "The delays around a loop add up to at least one step per layer, because every synapse takes one."
    return Finding(name, "NIRGraph", "loop_delay", text, "error", remedy="lengthen the Delay in the loop")


def _in_order(layers: Sequence[Layer]) -> list[Layer]:
    """Return ``layers`` with sources first.

    A loop starts at a layer whose undelayed sources are done.
    """
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

    # If every remaining layer waits for another, there is a loop. Its delayed connections reach
    # the next step only, so a layer that waits for these alone may come first.
    while waiting:
        candidates = [layer for layer in waiting.values() if ready(layer, all_sources=True)]
        candidates = candidates or [next(layer for layer in waiting.values() if ready(layer, all_sources=False))]
        for layer in candidates:
            ordered.append(waiting.pop(layer.name))
    return ordered


def _compact(values: _Array) -> _Array:
    """Return ``values`` as a scalar, or one per channel, if they are equal there."""
    if values.size and (values == values.flat[0]).all():
        return np.asarray(values.flat[0])
    if values.ndim > 1:
        per_channel = values.reshape(values.shape[0], -1)
        if (per_channel == per_channel[:, :1]).all():
            return per_channel[:, 0].reshape(-1, *[1] * (values.ndim - 1))
    return values
