"""Integer programs compiled for the CPU (``loihi.cpp``): whole layers of Loihi's neurons with the synapses before them.

Behind a convolution, channels are the innermost axis in memory; outside, axes are those of the program.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Mapping, Sequence
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
from ashneuro.simulation.emulator.neurons import IntegerPopulation
from ashneuro.spiking.kernels.cpp import NativeError, load

SOURCE = Path(__file__).with_name("loihi.cpp")
VARIABLE = "ASHNEURO_KERNELS"
Turned = tuple[int, int]
# As in loihi.cpp.
WIDTHS = (32, 64, 96)
ROWS, COPIED = 64, 16
# Neuron-steps whose input stays in a second-level cache until the neurons take it.
PIECE = 1 << 15


class _Synapse(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("spikes", "weights", "sources")),
        *((name, ctypes.c_int64) for name in ("places", "groups", "channels", "out_places", "taps", "outputs")),
        *((name, ctypes.c_int32) for name in ("width", "lag", "exponent", "block")),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("steps", "samples", "neurons")),
        *((name, ctypes.c_int32) for name in ("connections", "spiking", "keep_u", "keep_v", "threshold")),
        *((name, ctypes.c_void_p) for name in ("synapses", "currents", "bias", "u", "v", "sent", "trace_u", "trace_v")),
        *((name, ctypes.c_int64) for name in ("active", "piece")),
        *((name, ctypes.c_void_p) for name in ("arriving", "lines", "first", "gathered")),
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


def wanted() -> bool:
    """Whether integer programs on the CPU are computed here: ``$ASHNEURO_KERNELS`` leaves it open or says ``native``, and it works.

    Raises:
        ConfigError: ``native`` is asked for and cannot be had.
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
class Spread:
    """A dense synapse or a convolution from spikes, which adds up the weights of those lines that spiked.

    Args:
        weights: (groups, chunks of outputs, taps, channels, outputs of a chunk), int16; channels and outputs are a group's.
        sources: (places of the output, taps): the place of the input that each tap meets there, or −1: padding.
        places: of the input; a dense layer has one, and one tap.
        outputs: of a group.
        turned: (channels, places) of an input that must have its channels innermost.
        lag: in steps.
        block: as many weights as add up to less than 2^15.
    """

    weights: NDArray[np.int16]
    sources: NDArray[np.int32]
    places: int
    outputs: int
    turned: Turned | None
    exponent: int
    lag: int
    block: int

    @classmethod
    def of(cls, connection: Connection, lag: int, turned: Turned | None) -> Spread | None:
        """Return it, or ``None`` where the connection is something else; ``turned`` is how its layer lies."""
        synapse = connection.synapse
        if synapse is None or np.abs(synapse.weight).max(initial=0) > -MIXED_WEIGHTS[0]:
            return None
        weight, groups, inside = synapse.weight, synapse.groups, None
        if synapse.kind == "conv" and _outside(synapse) == turned:
            inside = synapse.in_shape[0], synapse.in_size // synapse.in_shape[0]
            sources = np.full((turned[1], math.prod(weight.shape[2:])), -1, np.int32)
            position, tap, pixel = conv_pairs(synapse)
            sources[position, tap] = pixel
        elif synapse.kind == "dense" and (turned is None or weight.shape == (math.prod(turned), synapse.in_size)):
            sources = np.arange(synapse.in_size // weight.shape[1], dtype=np.int32).reshape(-1, 1)
            weight = weight if turned is None else weight.reshape(*turned, -1).swapaxes(0, 1).reshape(weight.shape)
        else:
            return None
        outputs, channels, taps = len(weight) // groups, weight.shape[1], sources.shape[1]
        width = min(WIDTHS, key=lambda width: (-outputs % width, -width))
        padded = np.zeros((groups, -(-outputs // width) * width, channels, taps), np.int16)
        padded[:, :outputs] = weight.reshape(groups, outputs, channels, taps)
        packed = np.ascontiguousarray(padded.reshape(groups, -1, width, channels, taps).transpose(0, 1, 4, 3, 2))
        places = synapse.in_size // (groups * channels)
        return cls(packed, sources, places, outputs, inside, connection.weight_exp, lag, _block(weight))


@dataclass(frozen=True, eq=False)
class Arriving:
    """What brings spikes to a layer: compiled synapses by the number of their connection.

    Args:
        turned: (channels, places) of a layer behind a convolution, whose channels are innermost in memory.
    """

    spreads: Mapping[int, Spread]
    turned: Turned | None

    @classmethod
    def of(cls, layer: Layer, lags: Mapping[int, int]) -> Arriving:
        """Return it for the connections of ``layer`` that carry spikes, given by their number and their lag."""
        connections = {index: layer.connections[index] for index in lags}
        convolutions = (one.synapse for one in connections.values() if one.synapse and one.synapse.kind == "conv")
        turned = next(map(_outside, convolutions), None)
        found = {index: Spread.of(connection, lags[index], turned) for index, connection in connections.items()}
        return cls({index: spread for index, spread in found.items() if spread is not None}, turned)


def _outside(synapse: Synapse) -> Turned:
    return synapse.out_shape[0], math.prod(synapse.out_shape[1:])


def _block(weight: NDArray[np.integer]) -> int:
    """Return how many of the weights (outputs, ...) of one output add up to less than 2^15, whichever these are."""
    rows, limit = weight.reshape(len(weight), -1), np.iinfo(np.int16).max
    above = np.maximum(rows, 0).sum(axis=1, dtype=np.int64)
    reach = int(max(above.max(), (above - rows.sum(axis=1, dtype=np.int64)).max()))
    return np.iinfo(np.int32).max if reach <= limit else limit // int(np.abs(rows).max())


@dataclass(frozen=True, eq=False)
class Ran:
    """What a layer did.

    Args:
        sent: (T, B, *shape): spikes as uint8, or v.
        active: neuron-steps.
        counts: spikes of each neuron; of a read-out 0.
        u, v: (T, B, *shape), if traced.
    """

    sent: NDArray[Any]
    active: int
    counts: NDArray[np.int64]
    u: NDArray[np.int32] | None
    v: NDArray[np.int32] | None


def run_layer(
    population: IntegerPopulation[Any],
    bias: NDArray[np.int32],
    shape: Shape,
    currents: NDArray[np.int32] | None,
    arriving: Sequence[tuple[Spread, NDArray[np.uint8]]],
    turned: Turned | None,
    traced: bool,
) -> Ran:
    """Return what a layer of neurons that starts at rest does; arrays are views of memory with channels innermost if ``turned``.

    Args:
        bias: (*shape of the layer), already shifted.
        shape: (T, B, *shape of the layer).
        currents: what arrives otherwise, of that shape.
        arriving: synapses, each with the spikes (T, B, ...) of its source.
        turned: see `Arriving`.
    """
    steps, samples, neurons = shape[0], shape[1], math.prod(shape[2:])
    inside = (neurons,) if turned is None else turned[::-1]
    sent = np.empty((steps, samples, *inside), np.uint8 if population.spiking else np.int32)
    u, v = np.zeros((samples, neurons), np.int32), np.zeros((samples, neurons), np.int32)
    traces = [np.empty(sent.shape, np.int32) if traced else None for _ in range(2)]
    spikes = [_rows(values, spread.turned, 2) for spread, values in arriving]
    if currents is None and not arriving:
        currents = np.zeros(shape, np.int32)
    currents = None if currents is None else _rows(currents, turned, 2)
    bias = _rows(bias, turned)
    synapses = (_Synapse * max(1, len(arriving)))(
        *(
            _Synapse(
                *map(_at, (values, spread.weights, spread.sources)),
                spread.places, len(spread.weights), spread.weights.shape[3], *spread.sources.shape, spread.outputs,
                spread.weights.shape[4], spread.lag, spread.exponent, spread.block,
            )
            for (spread, _), values in zip(arriving, spikes, strict=True)
        )
    )  # fmt: skip
    piece = max(1, min(steps, PIECE // neurons))
    sizes = (
        piece * neurons + WIDTHS[-1],
        # The kernel writes eight lines before it knows which of them spiked, and copies whole vectors of them.
        piece * max((values[0, 0].size for values in spikes), default=0) + COPIED,
        piece * max((one.places * one.groups for one in synapses), default=0) + 1,
        ROWS * max((one.taps * one.channels for one in synapses), default=0) + COPIED,
    )
    work = [np.empty(size, np.int32) for size in sizes]
    layer = _Layer(
        steps, samples, neurons, len(arriving), population.spiking, population.keep_u, population.keep_v, population.v_threshold,
        ctypes.addressof(synapses), _at(currents), _at(bias) if bias.any() else None, *map(_at, (u, v, sent, *traces)), 0, piece,
        *map(_at, work),
    )  # fmt: skip
    _library().run(ctypes.byref(layer))
    counts = count(sent.reshape(steps, samples, neurons)) if population.spiking else np.zeros(neurons, np.int64)
    outside = [
        _outer(values, turned).reshape(shape) for values in (sent, *(trace for trace in traces if trace is not None))
    ]
    counts = _outer(counts.reshape(inside), turned).reshape(shape[2:])
    return Ran(outside[0], layer.active, counts, *(outside[1:] or (None, None)))


def _rows(values: NDArray[Any], turned: Turned | None, leading: int = 0) -> NDArray[Any]:
    """Return ``values`` (*leading axes, ...), contiguous, with channels innermost where they are ``turned``."""
    flat = values.reshape(*values.shape[:leading], *(turned or (-1,)))
    return np.ascontiguousarray(flat if turned is None else flat.swapaxes(-1, -2))


def _outer(values: NDArray[Any], turned: Turned | None) -> NDArray[Any]:
    return values if turned is None else values.swapaxes(-1, -2)


def count(spikes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how often each neuron spiked, (neurons,), of contiguous ``spikes`` (..., neurons)."""
    totals = np.zeros(spikes.shape[-1], np.int64)
    if spikes.size:
        _library().count(_at(spikes), spikes.size // spikes.shape[-1], spikes.shape[-1], _at(totals))
    return totals


def _at(values: NDArray[Any] | None) -> int | None:
    # `values.ctypes.data` is the same, ten times slower.
    return None if values is None else values.__array_interface__["data"][0]
