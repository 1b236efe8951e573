"""Simulation of a NIR graph as it stands, in float64: the reference of every lowered program.

Nodes are computed one after another over all steps, loops step by step. Nothing is lowered: each
neuron has its own equation. With step dt, input x_t, and v_0 = v_leak, I_0 = 0 at the start of
every sample (v_0 = v_reset if the contract says so; 1 − e^(−dt/τ) for dt/τ if it integrates
exponentially)::

    I_t = I_{t−1} + dt/τ_syn · (−I_{t−1} + w_in·x_t)         CubaLIF, CubaLI; elsewhere I_t = x_t
    v_t = v_{t−1} + dt/τ_mem · (v_leak − v_{t−1} + R·I_t)    LIF, CubaLIF, LI, CubaLI
    v_t = v_{t−1} + R·x_t                                    IF, I ("per-second": dt·R·x_t)
    z_t = v_t > v_threshold;  v_t = v_reset where z_t        Threshold: z_t = x_t > threshold
    s_t = min(x_t, limit) · z_t                              Threshold with graded messages
    s_t = y_t − y_{t−1} + r_{t−1}, or 0;  y_t = f(x_t)       Threshold with changes, see `changes`

and where neurons send spike counts n_t in place of z_t, see `ashneuro.spiking.message`::

    v_t −= n_t · v_threshold

A neuron receives its own spikes one step late; a loop of several neurons has a Delay node.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import nir
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ashneuro.program.filters import senders, synaptic_filters
from ashneuro.program.linear_sums import linear_synapse
from ashneuro.program.primitives import READ_OUT, delay_steps, numbers
from ashneuro.program.program import InputPort, Shape
from ashneuro.program.rules.finding import require
from ashneuro.program.rules.graph import graph_findings
from ashneuro.program.wiring import Wiring, node_dynamics, wire
from ashneuro.simulation.emulator.arrays import Arrays, Backend, arrays
from ashneuro.simulation.emulator.chunks import run_chunks
from ashneuro.simulation.emulator.dynamics import STEPS, Neurons
from ashneuro.simulation.inputs import Inputs, Progress, check_inputs
from ashneuro.simulation.record import Activity, SpikeRecord
from ashneuro.simulation.units import Units
from ashneuro.spiking.contract import Contract
from ashneuro.spiking.dynamics import DYNAMICS
from ashneuro.spiking.firing import compared_with
from ashneuro.spiking.message import SPIKE, Message, changes, graded_values, spike_counts

# Rules on deployment: graphs that break them can be simulated all the same.
DEPLOYMENT = {"start_value", "undelayed_bias", "read_outs_end"}


def run_graph(
    graph: nir.NIRGraph | Wiring,
    contract: Contract,
    inputs: Inputs,
    *,
    rasters: Collection[str] = (),
    backend: Backend = "auto",
    device: str = "cpu",
    progress: Progress | None = None,
) -> SpikeRecord:
    """Return the activity of every neuron node of ``graph``, computed in float64.

    An Output that is not fed by exactly one neuron is in the record, too, as a read-out. Arguments
    as `ashneuro.simulation.emulator.run_program.run_program`.

    Raises:
        GraphError: the graph breaks rules; the message has all of them.
        DataError: the inputs do not fit.
    """
    wiring = wire(graph)
    findings = [finding for finding in graph_findings(wiring, contract) if finding.rule not in DEPLOYMENT]
    require(findings, "this NIR graph cannot be simulated")
    ports = graph_ports(wiring, contract)
    checked = check_inputs(ports, contract.timesteps, inputs)
    library = arrays(backend, device)
    loaded = _LoadedGraph(wiring, contract, library)
    return run_chunks(
        lambda chunk, kept: loaded.run(chunk, rasters),
        checked,
        {},
        library=library,
        widest=loaded.widest,
        progress=progress,
    )


def graph_ports(graph: nir.NIRGraph | Wiring, contract: Contract) -> list[InputPort]:
    """Return the inputs of the graph as ports."""
    wiring = wire(graph)
    coding: Literal["spikes", "current"] = "spikes" if contract.input_coding == "spikes" else "current"
    return [InputPort(name, _known(wiring.in_shapes[name]), coding) for name in wiring.named("input")]


def graph_layers(graph: nir.NIRGraph | Wiring) -> tuple[list[str], list[str]]:
    """Return the names of a record's layers, and those of its outputs."""
    wiring = wire(graph)
    ends = {name: wiring.only_neuron(name) for name in wiring.named("output")}
    read_outs = [name for name, neuron in ends.items() if neuron is None]
    return wiring.named("neuron") + read_outs, list(dict.fromkeys(neuron or name for name, neuron in ends.items()))


@dataclass(frozen=True, eq=False)
class _Neuron:
    """One neuron node.

    Args:
        start: x → state.
        step: state, x → state, answer, number of active neurons.
    """

    start: Callable[[Any], tuple[Any, ...]]
    step: Callable[[tuple[Any, ...], Any], tuple[tuple[Any, ...], Any, Any]]
    spiking: bool
    message: Message = SPIKE


class _LoadedGraph:
    """A graph with its weights and parameters as arrays of one library."""

    def __init__(self, wiring: Wiring, contract: Contract, library: Arrays) -> None:
        self._wiring, self._contract, self._library = wiring, contract, library
        self._groups = _in_order(list(wiring.nodes), wiring.edges)
        self._linear = {name: self._linear_node(name) for name in wiring.named("linear")}
        self._imaginary = {name: set(wiring.imaginary(name)) for name in wiring.named("neuron")}
        self._senders = set(senders(wiring, synaptic_filters(wiring, contract)))
        self._neurons = {name: self._neuron_node(name) for name in wiring.named("neuron")}
        self._delays = {
            name: np.broadcast_to(
                delay_steps(wiring.nodes[name], contract.dt_s), _known(wiring.in_shapes[name])
            ).astype(int)
            for name in wiring.named("delay")
        }
        self._read_outs = [name for name in wiring.named("output") if wiring.only_neuron(name) is None]
        self.widest = max(self._width(name) for name in wiring.nodes)

    def run(self, inputs: Mapping[str, NDArray[Any]], rasters: Collection[str]) -> SpikeRecord:
        """Return the record of one chunk of samples."""
        timesteps, samples = next(iter(inputs.values())).shape[:2]
        values = {name: self._library.put(array.astype(np.float64)) for name, array in inputs.items()}
        active = dict.fromkeys(self._neurons, 0)
        for group in self._groups:
            if group[0] in values:
                continue
            if len(group) == 1 and group[0] not in self._wiring.sources(group[0]):
                values[group[0]] = self._over_time(
                    group[0], self._arriving(group[0], values, timesteps, samples), active
                )
            else:
                self._loop(group, values, active, timesteps, samples)
        layers = {name: self._activity(name, values[name], active[name], name in rasters) for name in self._neurons}
        zero = np.int64(0)
        for name in self._read_outs:
            raster = self._library.get(values[name])
            layers[name] = Activity(np.full(raster.shape[2:], zero), None, raster, binary=False, read_out=True)
        return SpikeRecord(
            "torch",
            "float",
            timesteps,
            samples,
            layers,
            {name: Activity.of_inputs(array) for name, array in inputs.items()},
        )

    def _arriving(self, name: str, values: Mapping[str, Any], timesteps: int, samples: int) -> Any:
        """Return the input (T, B, *shape) of ``name`` from nodes that were computed already."""
        shape = (timesteps, samples, *_known(self._wiring.in_shapes[name]))
        total = self._library.zeros(shape, "float64")
        for source in self._wiring.sources(name):
            if source in values:
                total = total + self._entering(name, source, values[source])
        return total

    def _entering(self, name: str, source: str, values: Any) -> Any:
        """Return the share of ``source`` in the input of ``name``: its values, or i times these."""
        return 1j * values if source in self._imaginary.get(name, ()) else values

    def _over_time(self, name: str, x: Any, active: dict[str, int]) -> Any:
        """Return the output of ``name`` for input ``x`` (T, B, *shape)."""
        if name in self._neurons:
            neuron = self._neurons[name]
            state, sent = neuron.start(x[0]), []
            for step in x:
                state, out, awake = neuron.step(state, step)
                sent.append(out)
                active[name] += int(awake)
            return self._library.xp.stack(sent)
        if name in self._delays:
            return self._delayed(name, x)
        return self._linear[name](x) if name in self._linear else x

    def _delayed(self, name: str, x: Any) -> Any:
        steps, late = self._delays[name], self._library.zeros(tuple(x.shape), "float64")
        for length in np.unique(steps):
            if length < len(x):
                mask = self._library.put((steps == length).astype(np.float64))
                late[length:] += x[: len(x) - length] * mask
        return late

    def _loop(
        self, group: Sequence[str], values: dict[str, Any], active: dict[str, int], timesteps: int, samples: int
    ) -> None:
        """Run nodes that feed each other, step by step; fill ``values``."""
        library, wiring = self._library, self._wiring
        outside = {name: self._arriving(name, values, timesteps, samples) for name in group}
        for name in group:
            shape = (timesteps, samples, *_known(wiring.out_shapes[name]))
            values[name] = library.zeros(shape, "float64")
        # The output of a Delay is known before the step begins. Without those edges, each remaining
        # loop has one neuron.
        inner = [(a, b) for a, b in wiring.edges if a in outside and b in outside]
        late = {name for name in group if name in self._delays and self._delays[name].min() > 0}
        order = _in_order(list(group), [(a, b) for a, b in inner if a not in late])
        states = {name: self._neurons[name].start(outside[name][0]) for name in group if name in self._neurons}

        def compute(name: str, t: int) -> None:
            x = outside[name][t]
            for a, b in inner:
                if b == name:
                    x = x + self._entering(name, a, values[a][t])
            if name in self._neurons:
                states[name], values[name][t], awake = self._neurons[name].step(states[name], x)
                active[name] += int(awake)
            elif name in self._delays:
                for length in np.unique(self._delays[name]):
                    if t + length < timesteps:
                        mask = library.put(self._delays[name] == length)
                        values[name][t + length] = library.xp.where(mask, x, values[name][t + length])
            else:
                values[name][t] = self._over_time(name, x[None], active)[0]

        for t in range(timesteps):
            for names in order:
                neurons = [name for name in names if name in self._neurons]
                if len(names) == 1 and names[0] not in wiring.sources(names[0]):
                    compute(names[0], t)
                    continue
                (neuron,) = neurons
                rest = [name for (name,) in _in_order([n for n in names if n != neuron], inner)]
                # The neuron receives its answer of the step before, other nodes its present one.
                values[neuron][t] = values[neuron][t - 1] if t else 0.0
                for name in rest:
                    compute(name, t)
                compute(neuron, t)
                for name in rest:
                    compute(name, t)

    def _activity(self, name: str, sent: Any, active: int, keep: bool) -> Activity:
        values = self._library.get(sent)
        if name in self._senders:  # as in a program: what differs from v_leak is sent
            node = self._wiring.nodes[name]
            rest = numbers(node, "v_leak") if hasattr(node, "v_leak") else np.zeros(())
            return Activity.of_messages(values - rest, active, keep, False, Units(v_origin=rest))
        if not self._neurons[name].spiking:
            return Activity(np.zeros(values.shape[2:], np.int64), active, values, binary=False, read_out=True)
        message = self._neurons[name].message
        if message.payload:
            return Activity.of_messages(values, active, keep, message.whole)
        return Activity(values.sum((0, 1)).astype(np.int64), active, values.astype(np.uint8) if keep else None)

    def _linear_node(self, name: str) -> Callable[[Any], Any]:
        node, in_shape, out_shape = (self._wiring.nodes[name], *(_known(shapes[name]) for shapes in self._shapes()))
        if isinstance(node, nir.Flatten):
            return lambda x: x.reshape(*x.shape[:2], *out_shape)
        linear = self._library.linear(linear_synapse(node, in_shape, out_shape), "float64")
        bias = numbers(node, "bias") if hasattr(node, "bias") else np.zeros(())
        if isinstance(node, nir.Conv1d | nir.Conv2d) and bias.ndim == 1:
            bias = bias.reshape(-1, *[1] * (len(out_shape) - 1))
        offset = self._library.put(np.broadcast_to(bias, out_shape))
        return lambda x: linear(x.reshape(-1, *in_shape)).reshape(*x.shape[:2], *out_shape) + offset

    def _neuron_node(self, name: str) -> _Neuron:
        node, xp = self._wiring.nodes[name], self._library.xp
        if isinstance(node, nir.Threshold):
            return self._threshold_node(name)
        shape = _known(self._wiring.in_shapes[name])

        def parameter(field: str, otherwise: float = 0.0) -> Any:
            values = numbers(node, field) if hasattr(node, field) else np.float64(otherwise)
            return self._library.put(np.broadcast_to(values, shape).astype(np.float64))

        spiking = not isinstance(node, READ_OUT)
        message = self._wiring.message(name, self._contract)

        def decay(field: str) -> Any:
            return self._library.put(np.broadcast_to(self._contract.decay(numbers(node, field)), shape).copy())

        filtered = isinstance(node, nir.CubaLIF | nir.CubaLI)
        leaking = not isinstance(node, nir.IF | nir.I)
        r, leak, w_in = parameter("r"), parameter("v_leak"), parameter("w_in", 1.0)
        threshold, reset = parameter("v_threshold", np.inf), parameter("v_reset")
        firing = self._wiring.firing(name, self._contract)
        du = decay("tau_syn") if filtered else 1.0
        dv = decay("tau_mem" if filtered else "tau") if leaking else 0.0
        rest = reset if spiking and self._contract.start == "v_reset" else leak
        size = xp.maximum(abs(threshold), xp.maximum(abs(leak), abs(rest)))
        dynamics, stated = node_dynamics(node)
        compared = compared_with(threshold, size, DYNAMICS[dynamics].compares(firing))
        gain = 1.0 if leaking or self._contract.if_convention == "per-step" else self._contract.dt_s

        own, v_decay = DYNAMICS[dynamics], np.zeros(())
        if leaking:
            v_decay = self._contract.decay(numbers(node, "tau_mem" if filtered else "tau"))
        parameters = {
            key: self._library.put(np.broadcast_to(values, shape).copy())
            for key, values in own.in_program(stated, self._contract, v_decay, self._library.get(size)).items()
        }
        keep = {key: 1 - values if own.kinds[key] == "tau" else values for key, values in parameters.items()}
        neurons = Neurons(xp, lambda x, name: keep[name] * x, compared, reset, parameters)
        other = None if dynamics == "lif" else STEPS[dynamics]
        turned = bool(self._imaginary[name])

        def fires(v: Any) -> Any:
            return v >= compared if firing.comparison == "inclusive" else v > compared

        def after(v: Any, z: Any) -> Any:
            return xp.where(z, v - threshold if firing.reset == "subtract" else reset, v)

        def step(state: tuple[Any, ...], x: Any) -> Any:
            current, v, more = state[0], state[1], state[2:]
            before = fires(v) if spiking and firing.reset_delay else None
            before_v, awake = v, (current != 0) | (v != leak) | (x != 0)
            if other:
                for value, first in zip(more, other.start(neurons, xp.zeros_like(v)), strict=True):
                    awake = awake | (value != first)
            awake = awake.sum()
            if filtered:
                x = current = current + du * (w_in * x - current)
            if other and not other.integrates:
                v = (dv if leaking else gain) * (r * x)
                v = (v.real, v.imag) if turned else v
            else:
                v = v + dv * (leak - v + r * x) if leaking else v + gain * (r * x)
            if other:
                v, more, z = other.step(neurons, before_v, v, more)
                return (current, v, *more), self._library.cast(z, "float64"), awake
            if not spiking:
                return (current, v), v, awake
            if message.kind == "count":
                n = spike_counts(v, compared, threshold, message.limit, xp)
                return (current, v - n * threshold), n, awake
            if before is not None:
                v = after(v, before)
                return (current, v), self._library.cast(fires(v), "float64"), awake
            z = fires(v)
            return (current, after(v, z)), self._library.cast(z, "float64"), awake

        def start(x: Any) -> tuple[Any, ...]:
            zero = xp.zeros_like(x.real)
            return (zero, zero + rest, *(other.start(neurons, zero) if other else ()))

        return _Neuron(start, step, spiking, message)

    def _threshold_node(self, name: str) -> _Neuron:
        """Return a Threshold: it sends a spike, its input, or changes of it."""
        xp, message = self._library.xp, self._wiring.message(name, self._contract)
        values = numbers(self._wiring.nodes[name], "threshold")
        shape = _known(self._wiring.in_shapes[name])
        threshold = self._library.put(np.broadcast_to(values, shape).astype(np.float64))
        comparison = self._wiring.firing(name, self._contract).comparison
        threshold = compared_with(threshold, abs(threshold), comparison)

        def fire(state: tuple[Any, ...], x: Any) -> Any:
            z = x >= threshold if comparison == "inclusive" else x > threshold
            sent = graded_values(x, z, message.limit, xp) if message.graded else self._library.cast(z, "float64")
            return state, sent, (x != 0).sum()

        def send(state: tuple[Any, ...], x: Any) -> Any:
            awake = x != 0
            for value in state:
                awake = awake | (value != 0)
            sent, state = changes(message, x, threshold, state, xp)
            return state, sent, awake.sum()

        if message.changes:
            return _Neuron(lambda x: tuple(xp.zeros_like(x) for _ in message.state), send, True, message)
        return _Neuron(lambda x: (), fire, True, message)

    def _shapes(self) -> tuple[dict[str, Shape | None], dict[str, Shape | None]]:
        return self._wiring.in_shapes, self._wiring.out_shapes

    def _width(self, name: str) -> int:
        """Return the number of elements of the largest array for ``name``, per sample and step."""
        node, (in_shape, out_shape) = self._wiring.nodes[name], (_known(shapes[name]) for shapes in self._shapes())
        size = int(max(np.prod(in_shape), np.prod(out_shape)))
        if isinstance(node, nir.Conv1d | nir.Conv2d):
            return max(size, int(np.prod(node.weight.shape[1:]) * node.groups * np.prod(out_shape[1:])))
        return size


def _in_order(names: Sequence[str], edges: Collection[tuple[str, str]]) -> list[list[str]]:
    """Return ``names`` with sources first, in groups; names that feed each other are one group."""
    index = {name: i for i, name in enumerate(names)}
    pairs = [(index[a], index[b]) for a, b in edges if a in index and b in index]
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    graph = coo_matrix((np.ones(len(pairs)), (rows, columns)), shape=(len(names), len(names)))
    count, label = connected_components(graph, directed=True, connection="strong")
    groups: list[list[str]] = [[] for _ in range(count)]
    for name, i in index.items():
        groups[label[i]].append(name)
    waits = [{label[a] for a, b in pairs if label[b] == i and label[a] != i} for i in range(count)]
    ordered: list[int] = []
    while len(ordered) < count:
        ordered.extend([i for i in range(count) if i not in ordered and waits[i] <= set(ordered)])
    return [groups[i] for i in ordered]


def _known(shape: Shape | None) -> Shape:
    assert shape is not None, "a graph without findings has shapes everywhere"
    return shape
