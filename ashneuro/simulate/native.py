"""Integer programs compiled for the CPU (``loihi.cpp``): whole layers of Loihi's neurons with the dense synapses before them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import ConfigError
from ashneuro.program.program import Connection
from ashneuro.simulate.neurons import IntegerPopulation
from ashneuro.spiking.native import NativeError, load

SOURCE = Path(__file__).with_name("loihi.cpp")
VARIABLE = "ASHNEURO_KERNELS"
LARGEST_WEIGHT = 256


class _Dense(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("spikes", "weights")),
        ("inputs", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("lag", "exponent", "block")),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("steps", "samples", "neurons")),
        *((name, ctypes.c_int32) for name in ("connections", "spiking", "keep_u", "keep_v", "threshold")),
        *((name, ctypes.c_void_p) for name in ("dense", "currents", "bias", "u", "v", "sent", "trace_u", "trace_v")),
        ("active", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("arriving", "lines", "first")),
    )


@cache
def _library() -> ctypes.CDLL:
    loaded = load(SOURCE)
    loaded.run.argtypes, loaded.run.restype = [ctypes.c_void_p], None
    loaded.count.argtypes, loaded.count.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p], None
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
            raise ConfigError("native kernels", str(error), f"{VARIABLE}=auto takes the fastest that work here") from error
        return False
    return True


@dataclass(frozen=True, eq=False)
class Spread:
    """A dense synapse from spikes: weights (tiles of neurons, inputs, neurons of a tile), int16; ``lag`` in steps.

    ``block``: as many weights as add up to less than 2^15.
    """

    weights: NDArray[np.int16]
    exponent: int
    lag: int
    block: int

    @classmethod
    def of(cls, connection: Connection, lag: int) -> Spread | None:
        """Return it, or ``None`` where ``connection`` is something else."""
        synapse = connection.synapse
        if synapse is None or synapse.kind != "dense" or synapse.weight.shape != (synapse.out_size, synapse.in_size):
            return None
        largest = int(np.abs(synapse.weight).max(initial=0))
        if largest > LARGEST_WEIGHT:
            return None
        tile = _library().tile()
        padded = np.zeros((-(-synapse.out_size // tile) * tile, synapse.in_size), np.int16)
        padded[: synapse.out_size] = synapse.weight
        tiles = np.ascontiguousarray(padded.reshape(-1, tile, synapse.in_size).swapaxes(1, 2))
        return cls(tiles, connection.weight_exp, lag, np.iinfo(np.int16).max // max(1, largest))


@dataclass(frozen=True, eq=False)
class Ran:
    """What a layer did: ``sent`` (T, B, neurons), spikes as uint8 or v; active neuron-steps; u and v (T, B, neurons) if traced."""

    sent: NDArray[Any]
    active: int
    u: NDArray[np.int32] | None
    v: NDArray[np.int32] | None


def run_layer(
    population: IntegerPopulation[Any],
    bias: NDArray[np.int32] | None,
    shape: tuple[int, int, int],
    currents: NDArray[np.int32] | None,
    arriving: Sequence[tuple[Spread, NDArray[np.uint8]]],
    traced: bool,
) -> Ran:
    """Return what a layer of neurons (T, B, neurons) that starts at rest does.

    Args:
        bias: (neurons,), already shifted; ``None``: zero everywhere.
        currents: what arrives otherwise, (T, B, neurons).
        arriving: dense synapses, each with the spikes (T, B, inputs) of its source.
    """
    steps, samples, neurons = shape
    sent = np.empty(shape, np.uint8 if population.spiking else np.int32)
    u, v = np.zeros((samples, neurons), np.int32), np.zeros((samples, neurons), np.int32)
    traces = [np.empty(shape, np.int32) if traced else None for _ in range(2)]
    spikes = [np.ascontiguousarray(values) for _, values in arriving]
    dense = (_Dense * max(1, len(arriving)))(
        *(
            _Dense(_at(values), _at(spread.weights), spread.weights.shape[1], spread.lag, spread.exponent, spread.block)
            for (spread, _), values in zip(arriving, spikes, strict=True)
        )
    )
    if currents is None and not arriving:
        currents = np.zeros(shape, np.int32)
    currents = None if currents is None else np.ascontiguousarray(currents)
    tiles = -(-neurons // _library().tile())
    # One line more than there can be: the kernel writes a line before it knows whether it spiked.
    most = steps * max((x.shape[-1] for x in spikes), default=0) + 1
    work = [np.empty(size, np.int32) for size in (steps * tiles * _library().tile(), most, steps + 1)]
    layer = _Layer(
        steps, samples, neurons, len(arriving), population.spiking, population.keep_u, population.keep_v, population.v_threshold,
        ctypes.addressof(dense), *(_at(values) for values in (currents, bias, u, v, sent, *traces)), 0, *map(_at, work),
    )  # fmt: skip
    _library().run(ctypes.byref(layer))
    return Ran(sent, layer.active, *traces)


def count(spikes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how often each neuron spiked, (neurons,), of contiguous ``spikes`` (..., neurons)."""
    totals = np.zeros(spikes.shape[-1], np.int64)
    if spikes.size:
        _library().count(_at(spikes), spikes.size // spikes.shape[-1], spikes.shape[-1], _at(totals))
    return totals


def _at(values: NDArray[Any] | None) -> int | None:
    # `values.ctypes.data` is the same, ten times slower.
    return None if values is None else values.__array_interface__["data"][0]
