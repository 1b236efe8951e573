"""Compiled integer layers for the CPU (``loihi.cpp``): Loihi's neurons with synapses before them.

A synapse with spikes as input adds up the weights of those lines that spiked. Layers behind a
convolution are channels-last in memory; their arrays are views with the axes of the program.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import ConfigError
from ashneuro.loihi import MIXED_WEIGHTS
from ashneuro.program.program import Connection, Layer, Shape, Synapse
from ashneuro.program.synapse import conv_pairs
from ashneuro.simulation.emulator.neurons import IntegerPopulation, OtherPopulation
from ashneuro.simulation.emulator.population import Population
from ashneuro.spiking.dynamics import DynamicsName
from ashneuro.spiking.kernels.cpp import NativeError, load

SOURCE = Path(__file__).with_name("loihi.cpp")
VARIABLE = "ASHNEURO_KERNELS"
ChannelsLast = tuple[int, int]  # (channels, positions) of an array that is channels-last in memory
# As in loihi.cpp.
WIDTHS = (32, 64, 96)
ROWS, COPIED = 64, 16
PIECE = 1 << 15  # neuron-steps whose input sums stay in the second-level cache until the neurons use them


class _Synapse(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("spikes", "values", "weights", "sources")),
        *((name, ctypes.c_int64) for name in ("positions", "groups", "channels", "out_positions", "taps", "outputs")),
        *((name, ctypes.c_int32) for name in ("width", "lag", "exponent", "block")),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("steps", "samples", "neurons")),
        *(
            (name, ctypes.c_int32)
            for name in ("kind", "late", "connections", "spiking", "keep_u", "keep_v", "threshold", "subtract")
        ),
        *((name, ctypes.c_void_p) for name in ("synapses", "currents", "bias", "keep_us", "keep_vs")),
        ("own", ctypes.c_int32 * 3),
        *((name, ctypes.c_void_p) for name in ("more", "u", "v", "sent", "trace_u", "trace_v")),
        *((name, ctypes.c_int64) for name in ("active", "piece")),
        *((name, ctypes.c_void_p) for name in ("inputs", "lines", "values", "first", "gathered", "loads")),
    )


@cache
def _library() -> ctypes.CDLL:
    loaded = load(SOURCE)
    loaded.run.argtypes, loaded.run.restype = [ctypes.c_void_p], None
    loaded.count.argtypes, loaded.count.restype = (
        [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p],
        None,
    )
    return loaded


def enabled() -> bool:
    """Return True if ``$ASHNEURO_KERNELS`` allows compiled layers, and they compile.

    Raises:
        ConfigError: ``native`` is asked for and cannot be compiled.
    """
    asked = os.environ.get(VARIABLE, "auto")
    if asked not in ("auto", "native"):
        return False
    try:
        _library()
    except NativeError as error:
        if asked == "native":
            raise ConfigError(
                "native kernels", str(error), f"{VARIABLE}=auto takes the fastest that work here"
            ) from error
        return False
    return True


@dataclass(frozen=True, eq=False)
class EventSynapse:
    """A dense synapse or a convolution whose input is spikes, or messages that carry numbers.

    It is a convolution between positions, which are rows of channels; a dense layer has one
    position and one tap.

    Args:
        weights: int16, (groups, chunks of outputs, taps, channels, outputs of a chunk), with the
            channels and outputs of one group.
        sources: (output positions, taps): input position of each tap; −1 is padding.
        positions: number of input positions.
        outputs: number of output channels of one group.
        layout: of the input, if it has to be channels-last.
        exponent, lag: of the connection; the lag in steps.
        block: number of weights of one output that add up to less than 2^15, whichever they are.
        payload: its input is numbers.
    """

    weights: NDArray[np.int16]
    sources: NDArray[np.int32]
    positions: int
    outputs: int
    layout: ChannelsLast | None
    exponent: int
    lag: int
    block: int
    payload: bool

    @classmethod
    def of(
        cls, connection: Connection, lag: int, layout: ChannelsLast | None, payload: bool = False
    ) -> EventSynapse | None:
        """Return the compiled form of a connection into a layer of ``layout``, if it has one."""
        synapse = connection.synapse
        if synapse is None or np.abs(synapse.weight).max(initial=0) > -MIXED_WEIGHTS[0]:
            return None
        weight, groups, in_layout = synapse.weight, synapse.groups, None
        if synapse.kind == "conv" and _output_layout(synapse) == layout:
            in_layout = synapse.in_shape[0], synapse.in_size // synapse.in_shape[0]
            sources = np.full((layout[1], math.prod(weight.shape[2:])), -1, np.int32)
            position, tap, pixel = conv_pairs(synapse)
            sources[position, tap] = pixel
        elif synapse.kind == "dense" and (layout is None or weight.shape == (math.prod(layout), synapse.in_size)):
            sources = np.arange(synapse.in_size // weight.shape[1], dtype=np.int32).reshape(-1, 1)
            weight = weight if layout is None else weight.reshape(*layout, -1).swapaxes(0, 1).reshape(weight.shape)
        else:
            return None
        outputs, channels, taps = len(weight) // groups, weight.shape[1], sources.shape[1]
        # Chunks of equal width: the one that wastes the fewest lanes, then the widest.
        width = min(WIDTHS, key=lambda width: (-outputs % width, -width))
        padded = np.zeros((groups, -(-outputs // width) * width, channels, taps), np.int16)
        padded[:, :outputs] = weight.reshape(groups, outputs, channels, taps)
        packed = np.ascontiguousarray(padded.reshape(groups, -1, width, channels, taps).transpose(0, 1, 4, 3, 2))
        positions = synapse.in_size // (groups * channels)
        exponent, block = connection.weight_exp, _block(weight)
        return cls(packed, sources, positions, outputs, in_layout, exponent, lag, block, payload)


@dataclass(frozen=True, eq=False)
class EventInputs:
    """Compiled synapses into one layer.

    Args:
        synapses: by number of the connection.
        layout: of the layer; ``None`` if it has the axes of the program.
    """

    synapses: Mapping[int, EventSynapse]
    layout: ChannelsLast | None

    @classmethod
    def of(cls, layer: Layer, lags: Mapping[int, int], payloads: Collection[int] = ()) -> EventInputs:
        """Return the compiled synapses among connections of ``layer``.

        Args:
            lags: by number of the connection.
            payloads: those that carry numbers; their sums fit 32 bits.
        """
        connections = {index: layer.connections[index] for index in lags}
        convolutions = (one.synapse for one in connections.values() if one.synapse and one.synapse.kind == "conv")
        layout = next(map(_output_layout, convolutions), None)
        found = {
            index: EventSynapse.of(connection, lags[index], layout, index in payloads)
            for index, connection in connections.items()
        }
        return cls({index: synapse for index, synapse in found.items() if synapse is not None}, layout)


def _output_layout(synapse: Synapse) -> ChannelsLast:
    return synapse.out_shape[0], math.prod(synapse.out_shape[1:])


def _block(weight: NDArray[np.integer]) -> int:
    """Return the number of weights per output (first axis) that add up to less than 2^15."""
    rows, limit = weight.reshape(len(weight), -1), np.iinfo(np.int16).max
    above = np.maximum(rows, 0).sum(axis=1, dtype=np.int64)
    reach = int(max(above.max(), (above - rows.sum(axis=1, dtype=np.int64)).max()))
    return np.iinfo(np.int32).max if reach <= limit else limit // int(np.abs(rows).max())


@dataclass(frozen=True)
class _Numbers:
    """Parameters that all neurons of a population share, as the kernel takes them.

    Args:
        kind: index in `KINDS`.
        late: spikes reset v one step later.
        keep_u, keep_v: factors of the decays, in 1/4096; 0 where they differ between neurons.
        threshold: largest v that does not spike, or v_threshold of further dynamics.
        subtract: from v at a spike; 0: a spike sets v to 0.
        own: parameters of further dynamics, in the order of `OWN`.
    """

    kind: int
    late: bool
    keep_u: int
    keep_v: int
    threshold: int
    subtract: int = 0
    own: tuple[int, ...] = ()


KINDS = ("lif", "refractory", "adaptive", "resonate", "izhikevich", "graded", "count")  # as in loihi.cpp
NO_LIMIT = np.iinfo(np.int32).max
OWN: Mapping[DynamicsName, tuple[str, ...]] = {
    "lif": (),
    "refractory": ("refractory_steps",),
    "adaptive": ("d_threshold", "d_refractory", "threshold_step"),
    "resonate": ("sin", "cos"),
    "izhikevich": ("sin", "cos"),
}


def compiles(population: Population[Any], layer: Layer) -> bool:
    """Return True if the neurons of ``layer`` have a compiled form: those of `KINDS`.

    Neurons with further dynamics share their parameters, and resonators have no imaginary input.
    """
    if layer.neuron.message.kind not in ("spike", "graded", "count") or layer.complex_input:
        return False
    return isinstance(population, IntegerPopulation) or _numbers(population) is not None


def _numbers(population: Population[Any]) -> _Numbers | None:
    """Return the parameters that neurons share; ``None`` if some differ that must be alike."""
    if isinstance(population, IntegerPopulation):
        decays = (population.keep_u, population.keep_v) if population.decays is None else (0, 0)
        if population.message.graded:
            limit = population.message.limit
            largest = NO_LIMIT if limit is None else int(limit)
            return _Numbers(KINDS.index("graded"), False, 0, 0, population.fires_above, 0, (largest,))
        late, subtract = bool(population.firing.reset_delay), population.v_subtract or 0
        if population.message.kind == "count":
            most = int(population.message.limit or 0)
            return _Numbers(KINDS.index("count"), False, *decays, population.fires_above, subtract, (most,))
        return _Numbers(0, late, *decays, population.fires_above, subtract)
    if not isinstance(population, OtherPopulation) or not population.integer or population.kind not in OWN:
        return None
    given = population.neurons.parameters
    wanted = (population.neurons.v_threshold, *(given[name] for name in OWN[population.kind]))
    decays = (population.keep_u, population.keep_v)
    values = [np.unique(np.asarray(value)) for value in (*decays, *wanted)]
    if any(value.size != 1 for value in values):
        return None
    keep_u, keep_v, threshold, *own = (int(value[0]) for value in values)
    return _Numbers(KINDS.index(population.kind), False, keep_u, keep_v, threshold, 0, tuple(own))


@dataclass(frozen=True, eq=False)
class LayerResult:
    """Answers of one layer.

    Args:
        sent: (T, B, *shape): spikes as uint8, or v, or other messages.
        active: number of active neuron-steps.
        counts: messages of each neuron; 0 for a read-out.
        u, v: (T, B, *shape), if traced.
    """

    sent: NDArray[Any]
    active: int
    counts: NDArray[np.int64]
    u: NDArray[np.int32] | None
    v: NDArray[np.int32] | None


def run_layer(
    population: Population[Any],
    bias: NDArray[np.int32],
    shape: Shape,
    currents: NDArray[np.int32] | None,
    inputs: Sequence[tuple[EventSynapse, NDArray[Any]]],
    layout: ChannelsLast | None,
    traced: bool,
) -> LayerResult:
    """Return the answers of a layer of neurons that start at rest.

    Args:
        bias: (*layer shape), shifted by its exponent.
        shape: (T, B, *layer shape).
        currents: input that does not pass a compiled synapse, of ``shape``.
        inputs: compiled synapses, each with the spikes or values (T, B, ...) of its source.
        layout: see `EventInputs`.
    """
    steps, samples, neurons = shape[0], shape[1], math.prod(shape[2:])
    numbers = _numbers(population)
    assert numbers is not None
    in_memory = (neurons,) if layout is None else layout[::-1]
    binary = population.spiking and KINDS[numbers.kind] not in ("graded", "count")
    sent = np.empty((steps, samples, *in_memory), np.uint8 if binary else np.int32)
    u, v = np.zeros((samples, neurons), np.int32), np.zeros((samples, neurons), np.int32)
    traces = [np.empty(sent.shape, np.int32) if traced else None for _ in range(2)]
    spikes = [
        _rows(values.astype(np.int32 if synapse.payload else np.uint8, copy=False), synapse.layout, 2)
        for synapse, values in inputs
    ]
    if currents is None and not inputs:
        currents = np.zeros(shape, np.int32)
    currents = None if currents is None else _rows(currents, layout, 2)
    bias = _rows(bias, layout)
    decays = population.decays if isinstance(population, IntegerPopulation) else None
    keeps = (None, None) if decays is None else tuple(_rows(np.asarray(values), layout) for values in decays)
    synapses = (_Synapse * max(1, len(inputs)))(
        *(
            _Synapse(
                *((None, _at(values)) if synapse.payload else (_at(values), None)),
                _at(synapse.weights), _at(synapse.sources),
                synapse.positions, len(synapse.weights), synapse.weights.shape[3], *synapse.sources.shape,
                synapse.outputs, synapse.weights.shape[4], synapse.lag, synapse.exponent, synapse.block,
            )
            for (synapse, _), values in zip(inputs, spikes, strict=True)
        )
    )  # fmt: skip
    piece = max(1, min(steps, PIECE // neurons))
    # The kernel writes eight lines before it knows which of them spiked, and copies vectors.
    lines = piece * max((values[0, 0].size for values in spikes), default=0) + COPIED
    gathered = ROWS * max((one.taps * one.channels for one in synapses), default=0) + COPIED
    first = piece * max((one.positions * one.groups for one in synapses), default=0) + 1
    loads = any(synapse.payload for synapse, _ in inputs)
    sizes = (
        piece * neurons + WIDTHS[-1], lines, lines if loads else 0, first, gathered, gathered if loads else 0
    )  # fmt: skip
    work = [np.empty(size, np.int32) for size in sizes]
    more = np.zeros((samples, 2, neurons), np.int32) if isinstance(population, OtherPopulation) else None
    if more is not None and KINDS[numbers.kind] == "adaptive":
        more[:, 0] = numbers.threshold
    layer = _Layer(
        steps, samples, neurons, numbers.kind, numbers.late, len(inputs),
        binary, numbers.keep_u, numbers.keep_v, numbers.threshold, numbers.subtract,
        ctypes.addressof(synapses), _at(currents), _at(bias) if decays or bias.any() else None,
        *map(_at, keeps), numbers.own, *map(_at, (more, u, v, sent, *traces)), 0, piece, *map(_at, work),
    )  # fmt: skip
    _library().run(ctypes.byref(layer))
    counts = np.zeros(neurons, np.int64)
    if population.spiking:
        events = sent if binary else (sent != 0).view(np.uint8)
        counts = count(events.reshape(steps, samples, neurons))
    seen = [
        _program_axes(values, layout).reshape(shape)
        for values in (sent, *(trace for trace in traces if trace is not None))
    ]
    counts = _program_axes(counts.reshape(in_memory), layout).reshape(shape[2:])
    return LayerResult(seen[0], layer.active, counts, *(seen[1:] or (None, None)))


def _rows(values: NDArray[Any], layout: ChannelsLast | None, leading: int = 0) -> NDArray[Any]:
    """Return ``values`` (*leading axes, ...), contiguous, channels-last if there is a layout."""
    flat = values.reshape(*values.shape[:leading], *(layout or (-1,)))
    return np.ascontiguousarray(flat if layout is None else flat.swapaxes(-1, -2))


def _program_axes(values: NDArray[Any], layout: ChannelsLast | None) -> NDArray[Any]:
    return values if layout is None else values.swapaxes(-1, -2)


def count(spikes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the spikes per neuron (neurons,) of contiguous ``spikes`` (..., neurons)."""
    totals = np.zeros(spikes.shape[-1], np.int64)
    if spikes.size:
        _library().count(_at(spikes), spikes.size // spikes.shape[-1], spikes.shape[-1], _at(totals))
    return totals


def _at(values: NDArray[Any] | None) -> int | None:
    # `values.ctypes.data` is the same address, ten times slower.
    return None if values is None else values.__array_interface__["data"][0]
