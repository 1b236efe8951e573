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
from ashneuro.simulation.emulator.compiled import KINDS, PARAMETERS, ChannelsLast, CompiledNeurons
from ashneuro.spiking.kernels.cpp import NativeError, load

SOURCE = Path(__file__).with_name("loihi.cpp")
VARIABLE = "ASHNEURO_KERNELS"
# As in loihi.cpp.
WIDTHS = (32, 64, 96)
ROWS, COPIED = 64, 16
LINE = 64  # bytes of a line of a cache
TYPES = (np.dtype(np.uint8), np.dtype(np.int8), np.dtype(np.int16), np.dtype(np.int32))  # of numbers; 0 is spikes
PIECE = 1 << 15  # neuron-steps whose input sums stay in the second-level cache until the neurons use them


class _Synapse(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("sent", "weights", "sources")),
        *(
            (name, ctypes.c_int64)
            for name in ("step", "sample", "positions", "groups", "channels", "out_positions", "taps", "outputs")
        ),
        *((name, ctypes.c_int32) for name in ("type", "width", "lag", "exponent", "block", "imaginary")),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("steps", "samples", "neurons")),
        *((name, ctypes.c_int32) for name in ("kind", "late", "connections", "spiking", "parts", "type", "subtract")),
        ("shared", ctypes.c_int32 * PARAMETERS),
        ("each", ctypes.c_void_p * PARAMETERS),
        *((name, ctypes.c_void_p) for name in ("synapses", "currents", "bias", "more", "u", "v", "sent")),
        *((name, ctypes.c_int64) for name in ("sent_step", "sent_sample")),
        *((name, ctypes.c_void_p) for name in ("trace_u", "trace_v", "counts", "ones")),
        *((name, ctypes.c_int64) for name in ("active", "beyond", "piece")),
        *((name, ctypes.c_void_p) for name in ("inputs", "lines", "values", "first", "reach", "gathered", "loads")),
    )


@cache
def _library() -> ctypes.CDLL:
    loaded = load(SOURCE)
    loaded.run.argtypes, loaded.run.restype = [ctypes.c_void_p], None
    address = ctypes.c_void_p
    loaded.count.argtypes, loaded.count.restype = [address, ctypes.c_int64, *[address] * 3], None
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


class MessageBeyondType(Exception):
    """The type of an array for messages does not hold one that was sent."""


@dataclass(frozen=True, eq=False)
class EventSynapse:
    """A dense synapse or a convolution whose input is spikes, or messages that carry population.

    It is a convolution between positions, which are rows of channels; a dense layer has one
    position and one tap.

    Args:
        weights: int16, (groups, chunks of outputs, taps, channels, outputs of a chunk), with the
            channels and outputs of one group. Those of numbers are in the order of `_interleaved`.
        sources: (output positions, taps): input position of each tap; −1 is padding.
        positions: number of input positions.
        outputs: number of output channels of one group.
        layout: of the input, if it has to be channels-last.
        exponent, lag: of the connection; the lag in steps.
        block: number of weights of one output that add up to less than 2^15, whichever they are.
        payload: its input is numbers.
        imaginary: of the connection.
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
    imaginary: bool

    @classmethod
    def of(
        cls, connection: Connection, lag: int, layout: ChannelsLast | None, payload: bool = False
    ) -> EventSynapse | None:
        """Return the compiled form of a connection into a layer of ``layout``, if it has one."""
        synapse = connection.synapse
        if synapse is None or _largest(synapse.weight) > -MIXED_WEIGHTS[0]:
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
        if payload:
            padded = _interleaved(padded)
        chunks = padded.reshape(groups, -1, width, channels, taps).transpose(0, 1, 4, 3, 2)
        packed = _aligned(chunks.shape)
        packed[...] = chunks
        positions = synapse.in_size // (groups * channels)
        exponent, block = connection.weight_exp, _block(synapse, payload)
        return cls(packed, sources, positions, outputs, in_layout, exponent, lag, block, payload, connection.imaginary)


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
            payloads: those that carry numbers; the largest expected sums fit 32 bits.
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


def _largest(weight: NDArray[np.integer]) -> int:
    """Return the largest absolute weight."""
    return max(int(weight.max(initial=0)), -int(weight.min(initial=0)))


def _block(synapse: Synapse, payload: bool) -> int:
    """Return the number of weights per output (first axis) that add up to less than 2^15.

    Those of spikes are of different lines. Others, which are multiplied, may be the same.
    """
    weight, limit = synapse.weight, np.iinfo(np.int16).max
    if payload:
        return limit // max(1, _largest(weight))
    if synapse.largest_row <= limit:
        return np.iinfo(np.int32).max
    rows = weight.reshape(len(weight), -1)
    above = np.maximum(rows, 0).sum(axis=1, dtype=np.int64)
    reach = int(max(above.max(), (above - rows.sum(axis=1, dtype=np.int64)).max()))
    return np.iinfo(np.int32).max if reach <= limit else limit // _largest(weight)


def _aligned(shape: Shape) -> NDArray[np.int16]:
    """Return an array for weights whose rows do not straddle the lines of a cache."""
    bytes_ = np.empty(2 * math.prod(shape) + LINE, np.uint8)
    first = -bytes_.__array_interface__["data"][0] % LINE
    return bytes_[first : first + 2 * math.prod(shape)].view(np.int16).reshape(shape)


def _interleaved(weight: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return weights whose products come in the order of the outputs (axis 1).

    Of each vector, the kernel multiplies the first four of every 8 outputs, then the last four.
    """
    groups, outputs, *rest = weight.shape
    lanes = ctypes.c_int32.in_dll(_library(), "lanes").value
    blocks = weight.reshape(groups, outputs // lanes, 2, lanes // 8, 4, *rest)
    return blocks.swapaxes(2, 3).reshape(weight.shape)


@dataclass(frozen=True, eq=False)
class LayerResult:
    """Answers of one layer.

    Args:
        sent: (T, B, *shape): spikes as uint8, v as int32, or messages of `CompiledNeurons.message`.
        active: number of active neuron-steps.
        counts: messages of each neuron; 0 for a read-out.
        ones: of these, those of 1 or −1, if they are whole numbers.
        u, v: (T, B, *shape), if traced.
    """

    sent: NDArray[Any]
    active: int
    counts: NDArray[np.int64]
    ones: NDArray[np.int64] | None
    u: NDArray[np.int32] | None
    v: NDArray[np.int32] | None


def run_layer(
    population: CompiledNeurons,
    shape: Shape,
    currents: NDArray[np.int32] | None,
    inputs: Sequence[tuple[EventSynapse, NDArray[Any]]],
    layout: ChannelsLast | None,
    traced: bool,
    sent: NDArray[Any] | None = None,
) -> LayerResult:
    """Return the answers of a layer of neurons that start at rest.

    Args:
        shape: (T, B, *layer shape).
        currents: input that does not pass a compiled synapse, of ``shape``; (T, B, 2, *layer shape)
            if some of it is imaginary.
        inputs: compiled synapses, each with the messages (T, B, ...) of its source.
        layout: see `EventInputs`.
        sent: array of `CompiledNeurons.empty`, or some samples of one, to write to.

    Raises:
        MessageBeyondType: a change does not fit ``population.message``.
    """
    steps, samples, neurons = shape[0], shape[1], math.prod(shape[2:])
    sent = population.empty(shape, layout) if sent is None else sent
    traces = [np.empty(sent.shape, np.int32) if traced else None for _ in range(2)]
    messages = [_messages(values, synapse) for synapse, values in inputs]
    if currents is None and not inputs:
        currents = np.zeros(shape, np.int32)
    parts = 1 + (
        any(synapse.imaginary for synapse, _ in inputs) or (currents is not None and currents.ndim > len(shape))
    )
    currents = None if currents is None else _complex(currents, shape, parts)
    currents = None if currents is None else _rows(currents, layout, 2 + (parts > 1))
    alike, bias = population.alike, _rows(population.bias, layout)
    biased = not alike or population.kind == "change" or bias.any()
    own = [np.asarray(value, np.int32) for value in population.own]
    each = [_rows(np.broadcast_to(value, shape[2:]), layout) for value in own] if not alike else []
    synapses = (_Synapse * max(1, len(inputs)))(
        *(
            _Synapse(
                _at(values), _at(synapse.weights), _at(synapse.sources), *_strides(values),
                synapse.positions, len(synapse.weights), synapse.weights.shape[3], *synapse.sources.shape,
                synapse.outputs, _type(values, synapse.payload), synapse.weights.shape[4], synapse.lag,
                synapse.exponent, synapse.block, synapse.imaginary,
            )
            for (synapse, _), values in zip(inputs, messages, strict=True)
        )
    )  # fmt: skip
    piece = max(1, min(steps, PIECE // neurons))
    # The kernel writes eight lines before it knows which of them spiked, and copies vectors.
    lines = piece * max((values[0, 0].size for values in messages), default=0) + COPIED
    gathered = ROWS * max((one.taps * one.channels for one in synapses), default=0) + COPIED
    first = piece * max((one.positions * one.groups for one in synapses), default=0) + 1
    loads = any(synapse.payload for synapse, _ in inputs)
    sizes = (
        parts * (piece * neurons + WIDTHS[-1]), lines, lines if loads else 0, first, first if loads else 0,
        gathered, gathered if loads else 0,
    )  # fmt: skip
    work = [np.empty(size, np.int32) for size in sizes]
    more, u, v = np.empty((2, neurons), np.int32), np.empty(neurons, np.int32), np.empty(neurons, np.int32)
    counts = np.zeros(sent.shape[2:], np.int64)
    ones = np.zeros_like(counts) if population.whole else None
    layer = _Layer(
        steps, samples, neurons, KINDS.index(population.kind), population.late, len(inputs), population.spiking, parts,
        _type(sent, not population.binary), population.subtract, tuple(int(value.flat[0]) for value in own),
        tuple(map(_at, each)), ctypes.addressof(synapses), _at(currents), _at(bias) if biased else None,
        *map(_at, (more, u, v, sent)),
        *_strides(sent), *map(_at, traces), _at(counts) if population.spiking else None, _at(ones), 0, 0, piece,
        *map(_at, work),
    )  # fmt: skip
    _library().run(ctypes.byref(layer))
    if layer.beyond:
        raise MessageBeyondType

    def seen(values: NDArray[Any] | None, shape: Shape) -> NDArray[Any] | None:
        return None if values is None else in_program(values, layout, shape)

    return LayerResult(
        in_program(sent, layout, shape),
        layer.active,
        in_program(counts, layout, shape[2:]),
        seen(ones, shape[2:]),
        *(seen(trace, shape) for trace in traces),
    )


def _messages(values: NDArray[Any], synapse: EventSynapse) -> NDArray[Any]:
    """Return messages (T, B, ...) of a type of the kernel, every step of a sample contiguous."""
    if not synapse.payload:
        values = values.astype(np.uint8, copy=False)
    elif values.dtype not in TYPES:
        values = values.astype(np.int32)
    return _rows(values, synapse.layout, 2, steps=True)


def _complex(currents: NDArray[np.int32], shape: Shape, parts: int) -> NDArray[np.int32]:
    """Return input with an axis for its parts where there are two."""
    if parts == 1 or currents.ndim > len(shape):
        return currents
    return np.stack([currents, np.zeros_like(currents)], axis=2)


def _rows(values: NDArray[Any], layout: ChannelsLast | None, leading: int = 0, steps: bool = False) -> NDArray[Any]:
    """Return ``values`` (*leading axes, ...), contiguous, channels-last if there is a layout.

    Args:
        steps: only each index of the first two axes has to be contiguous.
    """
    flat = values.reshape(*values.shape[:leading], *(layout or (-1,)))
    rows = flat if layout is None else flat.swapaxes(-1, -2)
    if steps and rows.size and rows[0, 0].flags.c_contiguous:
        return rows
    return np.ascontiguousarray(rows)


def in_program(values: NDArray[Any], layout: ChannelsLast | None, shape: Shape) -> NDArray[Any]:
    """Return a view of ``values``, as they lie in memory, with the axes of the program."""
    return (values if layout is None else values.swapaxes(-1, -2)).reshape(shape)


def count(
    sent: NDArray[Any], whole: bool = False, *, numbers: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Return the messages per neuron, and those of 1 or −1 if they are ``whole`` numbers.

    Args:
        sent: (T, B, *shape) of spikes, or of a type of `TYPES` if they are ``numbers``; every step
            of a sample is contiguous.
    """
    totals = np.zeros(sent.shape[2:], np.int64)
    ones = np.zeros_like(totals) if whole else None
    if sent.size:
        size = (ctypes.c_int64 * 5)(*_strides(sent), *sent.shape[:2], totals.size)
        _library().count(_at(sent), _type(sent, numbers), ctypes.addressof(size), _at(totals), _at(ones))
    return totals, ones


def _type(values: NDArray[Any], numbers: bool) -> int:
    """Return the type of messages in loihi.cpp."""
    return 1 + TYPES.index(values.dtype) if numbers else 0


def _strides(values: NDArray[Any]) -> tuple[int, int]:
    """Return the elements from one step, and from one sample, to the next."""
    return values.strides[0] // values.itemsize, values.strides[1] // values.itemsize


def _at(values: NDArray[Any] | None) -> int | None:
    # `values.ctypes.data` is the same address, ten times slower.
    return None if values is None else values.__array_interface__["data"][0]
