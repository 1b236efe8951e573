"""The integer program of a float program again, at the scales that the integer program records.

An integer program states its own scales: of every layer, of every input port, and the limits of its
messages. Quantising the float program with them gives the same integers, so that whoever holds
both can tell whether they belong together. The samples that chose the scales are not needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from ashneuro.program.program import InputPort, Layer, Program
from ashneuro.program.quantise import Quantisation, quantise_unchecked
from ashneuro.program.scales import GRADED_LIMIT, message_in_units
from ashneuro.spiking.message import Message

# The largest value that an input or a message takes is recorded after rounding. Any value that
# rounds to what is recorded gives the same integers.
_SHARES = (0.0, 0.25, -0.25, 0.49, -0.49)
_ROUNDINGS = 4  # units in the last place by which 127 / (127 / x) may miss x


def quantise_again(program: Program, integer: Program) -> Quantisation:
    """Return the integer form of a float ``program`` at the scales of ``integer``.

    Rules of the hardware are not checked: ``integer`` was, when it was made.

    Args:
        program: the float program.
        integer: a program of the same layers and inputs, which records the scales.

    Raises:
        ValueError: the two have other layers or inputs, or a scale is no positive number.
    """
    recorded = {layer.name: layer for layer in integer.layers}
    ports = {port.name: port for port in integer.inputs}
    if {layer.name for layer in program.layers} != set(recorded):
        raise ValueError("the two programs have other layers")
    if {port.name for port in program.inputs} != set(ports):
        raise ValueError("the two programs have other inputs")
    scales = {name: layer.scale for name, layer in recorded.items()}
    if not all(math.isfinite(scale) and scale > 0 for scale in (*scales.values(), *(p.scale for p in ports.values()))):
        raise ValueError("a scale of the integer program is no positive number")
    layers = tuple(_with_limit(layer, recorded[layer.name]) for layer in program.layers)
    peaks = {name: _peak(port) for name, port in ports.items()}
    return quantise_unchecked(replace(program, layers=layers), peaks, scales)


def _peak(port: InputPort) -> float:
    """Return a largest magnitude that gives the recorded scale and limit of an analog port."""
    if port.coding == "graded":
        return _first(_neighbours(GRADED_LIMIT / port.scale), lambda peak: GRADED_LIMIT / peak == port.scale)
    # The limit is the next whole number; half a unit below it is far from the rounding of either.
    return max(port.limit - 0.5, 0.5) / port.scale


def _with_limit(layer: Layer, recorded: Layer) -> Layer:
    """Return a layer of the float program with the limit that calibration gave to its messages."""
    message = layer.neuron.message
    if not layer.neuron.payload or message.limit is not None or message.graded:
        return layer
    limit = float(recorded.neuron.message.limit or 1)
    if message.potential or (message.changes and not message.levels):
        shift = recorded.neuron.message.shift
        candidates = ((limit + share) * 2.0**shift / recorded.scale for share in _SHARES)
        limit = _first(candidates, lambda value: _rounded(value, recorded) == recorded.neuron.message)
    return replace(layer, neuron=replace(layer.neuron, message=replace(message, limit=limit)))


def _rounded(limit: float, recorded: Layer) -> Message:
    message = replace(recorded.neuron.message, limit=limit)
    return message_in_units(replace(recorded.neuron, message=message), recorded.scale)


def _neighbours(value: float) -> Iterator[float]:
    """Yield ``value``, then the floats around it."""
    yield value
    below = above = value
    for _ in range(_ROUNDINGS):
        below, above = math.nextafter(below, 0.0), math.nextafter(above, math.inf)
        yield below
        yield above


def _first(candidates: Iterator[float], fits: Callable[[float], bool]) -> float:
    """Return the first candidate that fits, or the first of all if none does."""
    first = next(candidates)
    return first if fits(first) else next(filter(fits, candidates), first)
