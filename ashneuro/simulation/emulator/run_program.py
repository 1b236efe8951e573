"""Simulation of programs: integers bit for bit like Loihi's neurons and Lava, floats in float64.

Layers are computed one after another, each over all steps and samples of a chunk: a synapse is one
matrix product over T·B rows, only neurons go step by step. Layers in a loop go step by step
together. Compiled integer layers (`ashneuro.simulation.emulator.backend_native`) add up the weights
of spikes instead of the product.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import GraphError
from ashneuro.loihi import STATE_RANGE
from ashneuro.program.bounds import largest_message
from ashneuro.program.program import Connection, InputPort, Layer, Program, Synapse
from ashneuro.program.rules.finding import apply_rules, require
from ashneuro.program.rules.loihi import INTEGER_RULES
from ashneuro.simulation.emulator import backend_native
from ashneuro.simulation.emulator.arrays import Arrays, Backend, FloatType, Linear, arrays
from ashneuro.simulation.emulator.chunks import run_chunks
from ashneuro.simulation.emulator.compiled import CompiledNeurons
from ashneuro.simulation.emulator.neurons import population
from ashneuro.simulation.emulator.population import Population
from ashneuro.simulation.emulator.schedule import blocks, is_recurrent
from ashneuro.simulation.inputs import Inputs, Progress, check_inputs, encode
from ashneuro.simulation.record import Activity, SpikeRecord
from ashneuro.simulation.units import Units

EXACT_FLOAT32 = 1 << 24
EXACT_INT32 = 1 << 31
# Rules on numbers that the hardware cannot hold. State that wraps or saturates is not refused: it
# is computed as on the chip.
NUMBERS = (
    "weights_in_range",
    "weight_exponent",
    "decay_in_range",
    "threshold_in_range",
    "bias_in_range",
    "message_in_range",
    "parameters_in_range",
)
LARGEST_INPUT = 2 * STATE_RANGE  # of a neuron, in one step: beyond it u would wrap more than once


def run_program(
    program: Program,
    inputs: Inputs,
    *,
    rasters: Collection[str] = (),
    traces: Collection[str] = (),
    backend: Backend = "auto",
    device: str = "cpu",
    float_type: FloatType = "float64",
    progress: Progress | None = None,
) -> SpikeRecord:
    """Return the activity of every layer of an integer or a float ``program``.

    Args:
        program: its record has the source ``"loihi"`` (integer) or ``"torch"`` (float, whichever
            library computes it).
        inputs: (T, B, *shape) in the network's units, see `check_inputs`.
        rasters: layers whose raster the record keeps; read-outs always keep it.
        traces: layers whose u and v the record keeps, of every step.
        backend, device: see `ashneuro.simulation.emulator.arrays.arrays`.
        float_type: type of weights and state of a float program.
        progress: called with (samples done, samples in all).

    Raises:
        DataError: the inputs do not fit.
        GraphError: the program has numbers or delays that cannot be computed.
    """
    checked = check_inputs(program.inputs, program.timesteps, inputs)
    library = arrays(backend, device)
    timesteps, samples = next(iter(checked.values())).shape[:2]

    def attempt(loaded: _LoadedProgram) -> tuple[SpikeRecord, dict[str, NDArray[Any]]]:
        # Compiled layers write what is kept where it stays, over all chunks.
        kept = loaded.empty(timesteps, samples, rasters)
        record = run_chunks(
            lambda chunk, into: loaded.run(chunk, rasters, traces, into),
            checked,
            kept,
            library=library,
            widest=loaded.widest,
            progress=progress,
        )
        return record, kept

    loaded = _load(program, library, float_type)
    try:
        record, kept = attempt(loaded)
    except backend_native.MessageBeyondType:
        loaded = loaded.widened()
        record, kept = attempt(loaded)
    filled = {name: loaded.filled(record.layers[name], name, sent) for name, sent in kept.items()}
    return replace(record, layers={**record.layers, **filled})


class _LoadedProgram:
    """A program with its weights and parameters as arrays of one library.

    It does not keep the program alive.
    """

    def __init__(self, program: Program, library: Arrays, float_type: FloatType, compiled: bool) -> None:
        self._library, self._precision, self._ports = library, program.precision, program.inputs
        self._integer = program.precision == "integer"
        if self._integer:
            _check_numbers(program)
        self._kind = "int32" if self._integer else float_type
        self._blocks = blocks(program)
        self._layers = {layer.name: layer for layer in program.layers}
        self._lags = {
            layer.name: tuple(program.lag(layer, connection) for connection in layer.connections)
            for layer in program.layers
        }
        loops = {layer.name for block in self._blocks if is_recurrent(block) for layer in block}
        kernel = library.integer_kernel() if self._integer else None
        self._compiled: dict[str, backend_native.EventInputs] = {}  # by layer
        self._neurons: dict[str, CompiledNeurons] = {}
        self._populations: dict[str, Population[Any]] = {}
        self._linear: dict[tuple[str, int], tuple[Linear, FloatType]] = {}
        self.widest = max(layer.size for layer in program.layers)
        ports = {port.name: port for port in program.inputs}
        for layer in program.layers:
            made = population(layer, program.precision, library.xp, self._put, kernel)
            self._populations[layer.name] = made
            # The array library computes what is not compiled.
            known = CompiledNeurons.of(made, library.get(made.bias)) if compiled and layer.name not in loops else None
            if known is not None:
                self._neurons[layer.name] = known
                self._compiled[layer.name] = _event_inputs(program, layer, ports)
            worst = 0
            for index, connection in enumerate(layer.connections):
                kind = float_type
                if self._integer:
                    most = _largest_sum(connection, ports, program)
                    # Nothing clips changes: float64 holds whatever 32 bits do.
                    kind = "float32" if most < EXACT_FLOAT32 and not _changes(program, connection) else "float64"
                    worst += (
                        most << connection.weight_exp if connection.weight_exp > 0 else most >> -connection.weight_exp
                    )
                if connection.synapse is not None and index not in self._compiled_connections(layer):
                    self._linear[layer.name, index] = library.linear(connection.synapse, kind), kind
                    self.widest = max(self.widest, _width(connection.synapse))
            if worst >= LARGEST_INPUT and not layer.neuron.message.changes:
                raise GraphError(
                    f"layer {layer.name!r} can receive {worst} in one step",
                    f"neurons take less than {LARGEST_INPUT}: their 24-bit current would wrap more than once",
                    "export with a smaller scale or a smaller weight exponent",
                )

    def widened(self) -> _LoadedProgram:
        """Return the same program with arrays of 32 bits for changes."""
        wide = copy(self)
        wide._neurons = {
            name: replace(neurons, message=np.int32) if neurons.kind == "change" else neurons
            for name, neurons in self._neurons.items()
        }
        return wide

    def empty(self, timesteps: int, samples: int, rasters: Collection[str]) -> dict[str, NDArray[Any]]:
        """Return arrays for what compiled layers send, of those layers whose raster is kept."""
        kept = [layer for layer in self._layers.values() if layer.name in rasters or not layer.neuron.spiking]
        return {
            layer.name: self._neurons[layer.name].empty(
                (timesteps, samples, *layer.shape), self._compiled[layer.name].layout
            )
            for layer in kept
            if layer.name in self._neurons
        }

    def filled(self, activity: Activity, name: str, sent: NDArray[Any]) -> Activity:
        """Return the activity of a compiled layer with the filled array of `empty`."""
        layer, layout = self._layers[name], self._compiled[name].layout
        units = None if layer.neuron.binary else Units.of(layer, self._precision)
        sent = backend_native.in_program(sent, layout, (*sent.shape[:2], *layer.shape))
        return replace(activity, sent=sent, units=units)

    def run(
        self,
        inputs: Mapping[str, NDArray[Any]],
        rasters: Collection[str],
        traces: Collection[str],
        into: Mapping[str, NDArray[Any]],
    ) -> SpikeRecord:
        """Return the record of one chunk of samples.

        Args:
            into: parts of the arrays of `empty`, for these samples.
        """
        encoded = {port.name: self._encode(port, inputs[port.name]) for port in self._ports}
        sent = {name: self._enter(values) for name, values in encoded.items()}
        timesteps, samples = next(iter(encoded.values())).shape[:2]
        layers: dict[str, Activity] = {}
        for block in self._blocks:
            inside = {layer.name for layer in block} if is_recurrent(block) else set()
            if block[0].name in self._compiled:
                (layer,) = block
                layers[layer.name] = self._run_native(
                    layer, sent, timesteps, samples, layer.name in traces, into.get(layer.name)
                )
                continue
            currents = {layer.name: self._current(layer, sent, inside, timesteps, samples) for layer in block}
            states: dict[str, list[tuple[Any, Any]]] = {layer.name: [] for layer in block if layer.name in traces}
            active = self._step_through(block, currents, sent, inside, states)
            for layer in block:
                activity = self._activity(layer, sent[layer.name], active[layer.name], layer.name in rasters)
                layers[layer.name] = self._traced(activity, states[layer.name]) if layer.name in traces else activity
        return SpikeRecord(
            "loihi" if self._integer else "torch",
            self._precision,
            timesteps,
            samples,
            layers,
            {name: self._entered(values) for name, values in encoded.items()},
        )

    def _compiled_connections(self, layer: Layer) -> Collection[int]:
        """Return the numbers of the layer's connections that are compiled."""
        return self._compiled[layer.name].synapses if layer.name in self._compiled else ()

    def _encode(self, port: InputPort, values: NDArray[Any]) -> NDArray[Any]:
        if self._integer and port.coding == "spikes":
            return values.astype(np.uint8, copy=False)  # `check_inputs` has made sure of 0 and 1
        return encode(port, values, self._precision).astype(self._kind, copy=False)

    def _enter(self, values: NDArray[Any]) -> Any:
        # Bits may be in the caller's array, of any strides; other values are in a new one.
        if values.dtype != np.uint8:
            return self._library.wrap(values)
        return values if self._library.on_cpu else self._library.put(np.ascontiguousarray(values))

    def _put(self, values: NDArray[Any]) -> Any:
        return self._library.put(values.astype(self._kind))

    def _entered(self, values: NDArray[Any]) -> Activity:
        if self._compiled and values.dtype == np.uint8:
            rows = values if values[0, 0].flags.c_contiguous else np.ascontiguousarray(values)
            return Activity(backend_native.count(rows)[0])
        return Activity.of_inputs(values)

    def _numpy(self, values: Any) -> NDArray[Any]:
        """Return messages of a port or a layer as an array of numpy."""
        return values if isinstance(values, np.ndarray) else self._library.get(values)

    def _run_native(
        self,
        layer: Layer,
        sent: dict[str, Any],
        timesteps: int,
        samples: int,
        traced: bool,
        into: NDArray[Any] | None,
    ) -> Activity:
        """Run a compiled layer outside of loops; fill ``sent``, return its activity without it."""
        neurons, compiled = self._neurons[layer.name], self._compiled[layer.name]
        given = [
            (synapse, self._numpy(sent[layer.connections[index].source]))
            for index, synapse in compiled.synapses.items()
        ]
        shape = (timesteps, samples, *layer.shape)
        others = [index for index in range(len(layer.connections)) if index not in compiled.synapses]
        currents, only = None, layer.connections[others[0]] if len(others) == 1 else None
        if only and only.synapse is None and not self._lags[layer.name][others[0]] and not only.imaginary:
            currents = self._numpy(sent[only.source]).astype(np.int32, copy=False).reshape(shape)
        elif others:
            currents = self._library.get(self._current(layer, sent, set(), timesteps, samples))
        ran = backend_native.run_layer(neurons, shape, currents, given, compiled.layout, traced, into)
        sent[layer.name] = ran.sent
        binary, read_out = layer.neuron.binary, not layer.neuron.spiking
        return Activity(ran.counts, ran.active, None, binary, ran.u, ran.v, read_out, ran.ones)

    def _current(self, layer: Layer, sent: Mapping[str, Any], inside: set[str], timesteps: int, samples: int) -> Any:
        """Return the input (T, B, *shape) from outside the block, without compiled synapses.

        Complex input is (T, B, 2, *shape).
        """
        shape = (timesteps, samples, *layer.shape)
        total = self._library.zeros((timesteps, samples, 2, *layer.shape), self._kind) if layer.complex_input else None
        for index, connection in enumerate(layer.connections):
            lag = self._lags[layer.name][index]
            if connection.source in inside or lag >= timesteps or index in self._compiled_connections(layer):
                continue
            arriving = self._apply(layer, index, connection, sent[connection.source][: timesteps - lag])
            if total is None and not lag and connection.synapse is not None:
                total = arriving.reshape(shape)
                continue
            total = self._library.zeros(shape, self._kind) if total is None else total
            into = _part(layer, connection, total[lag:])
            into += arriving.reshape(into.shape)
        return self._library.zeros(shape, self._kind) if total is None else total

    def _apply(self, layer: Layer, index: int, connection: Connection, values: Any) -> Any:
        """Return ``values`` (T, B, …) after the synapse of the connection."""
        if connection.synapse is None:
            return self._library.wrap(values.astype(self._kind)) if isinstance(values, np.ndarray) else values
        linear, kind = self._linear[layer.name, index]
        if isinstance(values, np.ndarray):
            values = self._library.wrap(values.astype(kind))
        flat = self._library.cast(values, kind).reshape(values.shape[0] * values.shape[1], *connection.synapse.in_shape)
        arriving = self._library.cast(linear(flat), self._kind)
        if self._integer and connection.weight_exp:
            exponent = connection.weight_exp
            arriving = arriving << exponent if exponent > 0 else arriving >> -exponent
        return arriving

    def _step_through(
        self,
        block: list[Layer],
        currents: dict[str, Any],
        sent: dict[str, Any],
        inside: set[str],
        states: dict[str, list[tuple[Any, Any]]],
    ) -> dict[str, int]:
        """Run a block; fill ``sent`` and ``states``, return the active neuron-steps by layer."""
        zeros_like = self._library.xp.zeros_like
        firsts = {layer.name: _part(layer, None, currents[layer.name])[0] for layer in block}
        state = {name: (zeros_like(a), zeros_like(a)) for name, a in firsts.items()}
        if not inside:
            ((name, arriving),) = currents.items()
            steps = self._populations[name].run(*state[name], arriving, states.get(name))
            sent[name] = steps.sent
            return {name: steps.active}
        active = dict.fromkeys(state, 0)
        more: dict[str, tuple[Any, ...]] = dict.fromkeys(state, ())
        for layer in block:
            shape = tuple(_part(layer, None, currents[layer.name]).shape)
            sent[layer.name] = self._library.zeros(shape, "uint8" if layer.neuron.binary else self._kind)
        for t in range(len(next(iter(currents.values())))):
            for layer in block:
                name, now = layer.name, currents[layer.name][t : t + 1]
                for index, connection in enumerate(layer.connections):
                    lag = self._lags[layer.name][index]
                    if connection.source in inside and lag <= t:
                        values = sent[connection.source][t - lag : t - lag + 1]
                        into = _part(layer, connection, now)
                        into += self._apply(layer, index, connection, values).reshape(into.shape)
                steps = self._populations[name].run(*state[name], now, states.get(name), more[name])
                state[name], sent[name][t] = (steps.u, steps.v), steps.sent[0]
                more[name] = steps.more
                active[name] += steps.active
        return active

    def _traced(self, activity: Activity, states: list[tuple[Any, Any]]) -> Activity:
        u, v = (np.stack([self._library.get(state) for state in trace]) for trace in zip(*states, strict=True))
        return replace(activity, u=u, v=v)

    def _activity(self, layer: Layer, sent: Any, active: int, keep: bool) -> Activity:
        units = Units.of(layer, self._precision)
        if not layer.neuron.spiking:
            values, none = self._library.get(sent), np.zeros(layer.shape, np.int64)
            return Activity(none, active, values, binary=False, read_out=True, units=units)
        if layer.neuron.payload:
            values = self._library.get(sent)
            values = values.reshape(*values.shape[:2], *layer.shape)
            return Activity.of_messages(values, active, keep, layer.neuron.message.whole, units)
        counts = self._library.get(sent.sum((0, 1), dtype=self._library.xp.int32))
        raster = self._library.get(self._library.cast(sent, "uint8")) if keep else None
        return Activity(np.asarray(counts, np.int64).reshape(layer.shape), active, raster)


# Of integer programs on a CPU, by library and whether layers are compiled: the batches of a data
# set run one by one.
_LOADED: WeakKeyDictionary[Program, dict[tuple[type[Arrays], bool], _LoadedProgram]] = WeakKeyDictionary()


def _load(program: Program, library: Arrays, float_type: FloatType) -> _LoadedProgram:
    """Return ``program`` for ``library``; an integer program is made ready for a CPU once.

    Raises:
        GraphError: it has numbers or delays that cannot be computed.
    """
    if program.precision != "integer" or not library.on_cpu:
        return _LoadedProgram(program, library, float_type, compiled=False)
    compiled = backend_native.enabled()
    known = _LOADED.setdefault(program, {})
    if (type(library), compiled) not in known:
        known[type(library), compiled] = _LoadedProgram(program, library, float_type, compiled)
    return known[type(library), compiled]


def _event_inputs(program: Program, layer: Layer, ports: Mapping[str, InputPort]) -> backend_native.EventInputs:
    """Return the compiled synapses of ``layer``: those from spikes and other messages."""
    lags, payloads = {}, []
    for index, connection in enumerate(layer.connections):
        binary, port = _binary(program, connection), connection.source in ports
        # The library holds sums beyond 32 bits, and multiplies dense input faster.
        fits = not port and _largest_sum(connection, ports, program) < EXACT_INT32
        if connection.synapse is not None and (binary or fits):
            lags[index] = program.lag(layer, connection)
            payloads += [] if binary else [index]
    return backend_native.EventInputs.of(layer, lags, payloads)


def _part(layer: Layer, connection: Connection | None, values: Any) -> Any:
    """Return the view of input (T, B, …) that a connection adds to; ``None``: the real part."""
    if not layer.complex_input:
        return values
    return values[:, :, int(connection is not None and connection.imaginary)]


def _binary(program: Program, connection: Connection) -> bool:
    """Return True if ``connection`` carries only 0 and 1."""
    port = program.port(connection.source)
    return program.layer(connection.source).neuron.binary if port is None else port.coding == "spikes"


def _changes(program: Program, connection: Connection) -> bool:
    """Return True if ``connection`` carries changes."""
    return any(layer.neuron.changes for layer in program.layers if layer.name == connection.source)


def _largest_sum(connection: Connection, ports: Mapping[str, InputPort], program: Program) -> int:
    """Return the largest input through an integer connection per step, before its exponent."""
    port = ports.get(connection.source)
    if port is None:
        largest = largest_message(program.layer(connection.source).neuron)
    else:
        largest = port.limit if port.coding != "spikes" else 1
    return largest if connection.synapse is None else connection.synapse.largest_row * largest


def _check_numbers(program: Program) -> None:
    """Raise `GraphError` if a number of an integer program does not fit the hardware."""
    rules = {name: INTEGER_RULES[name] for name in NUMBERS}
    broken = apply_rules(rules, program, nir_type=lambda name: "layer")
    require(broken, "this program cannot run in Loihi's arithmetic")


def _width(synapse: Synapse) -> int:
    """Return the number of elements of the largest array in one application of ``synapse``."""
    if synapse.kind == "conv":
        return max(
            synapse.in_size, math.prod(synapse.weight.shape[1:]) * synapse.groups * math.prod(synapse.out_shape[1:])
        )
    return max(synapse.in_size, synapse.out_size)
