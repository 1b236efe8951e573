"""Quantise float programs to Loihi's integers, with the smallest change of the network.

A layer has one unit: ``scale`` integer units of a per float unit, chosen by
`ashneuro.program.scales`. All its numbers are in it::

    weights    W_int · 2^weight_exp · (unit of the source) = W · scale
               rounded, to even numbers where signs are mixed
    threshold  v_threshold_int = v_threshold · scale;  v_int = 64 · scale · v
    bias       bias_int · 2^bias_exp = bias · scale · 64

A spike has unit 1, and so has a count of spikes; an analog value has the scale of its input port, a
graded message that of the layer that sends it, so that its largest value fills the payload. A layer
that sends changes has a unit of 1 instead of 64, and its messages have 2^shift units, so that the
largest value that is expected fills their payload. Connections that meet in a layer, as in a
residual join, share its unit and differ in their weight exponents, so that each uses at least half
of the 8-bit range.

What cannot be represented is an error, never a clip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import GraphError
from ashneuro.loihi import (
    BIAS_MANTISSA,
    DECAY_ONE,
    LARGEST_DECAY,
    LARGEST_THRESHOLD,
    STATE_UNIT,
    WEIGHT_EXP,
)
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program
from ashneuro.program.rules.finding import Finding, require
from ashneuro.program.rules.loihi import check_program
from ashneuro.program.scales import (
    GRADED_LIMIT,
    choose_scales,
    current_decay,
    grid_scale,
    message_in_units,
    on_grid,
    sums_input,
    weight_span,
    with_limits,
)
from ashneuro.program.synapse import scale_outputs
from ashneuro.spiking.dynamics import AMOUNTS, DYNAMICS, ParameterKind
from ashneuro.spiking.firing import LIF_FIRING
from ashneuro.spiking.integers import round_bias, round_weights, weight_exponent
from ashneuro.spiking.message import LARGEST_EXPONENT

# Rules on what sums of rounded weights can reach.
LIMITS = ("current_does_not_wrap", "read_out_in_range", "adaptation_in_range")


@dataclass(frozen=True)
class LayerCost:
    """Quantisation errors of one layer, relative to the float values.

    Args:
        layer: name of the layer.
        scale: integer units of a per float unit.
        weights: RMS error of the weights over their RMS; of the worst connection.
        weight_bits: log2 of the number of levels up to the largest weight; of the worst connection.
        threshold: error of the threshold.
        bias: largest error of a bias, over the threshold.
        du, dv: errors of the decays.
        input_step: half a step of an analog input over its peak; 0 without one.
    """

    layer: str
    scale: float
    weights: float = 0.0
    weight_bits: float = 8.0
    threshold: float = 0.0
    bias: float = 0.0
    du: float = 0.0
    dv: float = 0.0
    input_step: float = 0.0


@dataclass(frozen=True, eq=False)
class Quantisation:
    """An integer program, its quantisation errors per layer, and findings."""

    program: Program
    costs: tuple[LayerCost, ...]
    findings: tuple[Finding, ...]


def quantise(
    program: Program, *, input_peak: Mapping[str, float], scales: Mapping[str, float] | None = None
) -> Quantisation:
    """Return the integer form of a float ``program``.

    Args:
        program: what `ashneuro.program.lower` returns.
        input_peak: largest magnitude that each analog input takes; larger values saturate.
        scales: integer units of a per float unit, by layer name; those of `default_scales` for
            layers without one.

    Raises:
        GraphError: integers cannot hold the program, at these scales; every reason at once.
    """
    require_form(program, input_peak)
    result = quantise_unchecked(program, input_peak, scales or {})
    require(result.findings, "this network does not fit Loihi's integers")
    return result


def quantise_unchecked(program: Program, input_peak: Mapping[str, float], scales: Mapping[str, float]) -> Quantisation:
    """Return the integer form of a sound float program, with errors among its findings.

    `quantise` raises them; `ashneuro.program.check` lists them.
    """
    even = _even(program)
    chosen = dict(scales)
    for _ in range(20):
        result = _at_scales(even, input_peak, choose_scales(even, input_peak, chosen))
        # Rounding can lift a sum over its bound by some per cent. Then take a smaller scale, but
        # never change one that the caller asked for.
        over = {finding.node for finding in result.findings if not finding.ok and finding.rule in LIMITS}
        if not over or over & set(scales):
            break
        chosen |= {layer.name: 0.97 * layer.scale for layer in result.program.layers if layer.name in over}
    return result


def _at_scales(program: Program, input_peak: Mapping[str, float], scales: Mapping[str, float]) -> Quantisation:
    ports = _ports(program, input_peak, scales)
    program = with_limits(program, input_peak)
    graded = {
        layer.name: message_in_units(layer.neuron, scales[layer.name])
        for layer in program.layers
        if layer.neuron.payload
    }
    sources = {port.name: port.scale for port in ports}
    sources |= {name: scales[name] * 2.0**-one.shift for name, one in graded.items() if not one.whole}
    steps = {port.name: 0.5 / port.limit for port in ports if port.coding != "spikes"}
    steps |= {name: 0.5 / one.limit for name, one in graded.items() if one.limit and not one.whole}
    layers, costs = zip(*(_layer(layer, scales[layer.name], sources, steps) for layer in program.layers), strict=True)
    integer = replace(program, precision="integer", inputs=ports, layers=tuple(layers))
    return Quantisation(integer, tuple(costs), tuple(check_program(integer)))


def default_scales(program: Program, *, input_peak: Mapping[str, float]) -> dict[str, float]:
    """Return the scale per layer that `quantise` takes: the start of a search for better ones."""
    require_form(program, input_peak)
    return {layer.name: layer.scale for layer in quantise_unchecked(program, input_peak, {}).program.layers}


def layers_on_grid(program: Program, scales: Mapping[str, float]) -> frozenset[str]:
    """Return the layers of a float program that keep their integers at these ``scales``."""
    even = [_with_one_threshold(layer) for layer in program.layers]
    return frozenset(layer.name for layer in even if scales[layer.name] == grid_scale(program, layer))


def require_form(program: Program, input_peak: Mapping[str, float]) -> None:
    """Raise `GraphError` with every reason why a float program has no form in integers."""
    if program.precision != "float":
        raise GraphError(
            "this program is already in integers",
            "only a float program can be quantised",
            "quantise what `lower` returns",
        )
    require(check_program(program), "this network has no form in Loihi's integers")
    missing = [port.name for port in program.inputs if port.coding != "spikes" and not input_peak.get(port.name, 0) > 0]
    if missing:
        raise GraphError(
            f"input {', '.join(missing)}: its range is not known",
            "integers need the largest magnitude that an analog input takes, above 0",
            "give inputs to calibrate on, or a peak",
        )


def _even(program: Program) -> Program:
    return replace(program, layers=tuple(_with_one_threshold(layer) for layer in program.layers))


def _with_one_threshold(layer: Layer) -> Layer:
    """Return ``layer`` with one threshold for all neurons.

    The unit of v in a spiking neuron is free, so differences move into the weights.
    """
    threshold = layer.neuron.v_threshold
    if not layer.neuron.scale_free or np.min(threshold) == np.max(threshold):
        return layer
    common = float(np.exp(np.mean(np.log(threshold))))  # geometric mean: factors around 1
    factor = common / threshold
    neuron = replace(
        layer.neuron,
        v_threshold=np.asarray(common),
        bias=layer.neuron.bias * factor,
        v_unit=layer.neuron.v_unit / factor,
    )
    if neuron.v_subtract is not None:
        neuron = replace(neuron, v_subtract=neuron.v_subtract * factor)
    kinds = DYNAMICS[neuron.dynamics].kinds
    amounts = {name: values * factor for name, values in neuron.parameters.items() if kinds[name] in AMOUNTS}
    neuron = replace(neuron, parameters={**neuron.parameters, **amounts})
    connections = []
    for connection in layer.connections:
        assert connection.synapse is not None  # rule uniform_threshold
        factors = np.broadcast_to(factor, layer.shape).reshape(connection.synapse.out_shape)
        connections.append(replace(connection, synapse=scale_outputs(connection.synapse, factors)))
    return replace(layer, neuron=neuron, connections=tuple(connections))


def _ports(program: Program, input_peak: Mapping[str, float], scales: Mapping[str, float]) -> tuple[InputPort, ...]:
    ports = []
    for port in program.inputs:
        scale, limit = 1.0, 1
        if port.coding == "graded":
            scale, limit = GRADED_LIMIT / input_peak[port.name], GRADED_LIMIT
        elif port.coding == "current":
            scale = next(
                scales[layer.name] for layer, connection in program.connections() if connection.source == port.name
            )
            limit = math.ceil(scale * input_peak[port.name])
        ports.append(replace(port, scale=scale, limit=limit))
    return tuple(ports)


def _layer(
    layer: Layer, scale: float, sources: Mapping[str, float], steps: Mapping[str, float]
) -> tuple[Layer, LayerCost]:
    old = layer.neuron
    # A sum that is shifted right in every step would drift from that of fresh values.
    least = 0 if old.message.levels and sums_input(old) else WEIGHT_EXP[0]
    pairs = [
        _connection(connection, scale / sources.get(connection.source, 1.0), least) for connection in layer.connections
    ]
    neuron = _neuron(old, scale)
    unit = 1.0  # of the threshold
    if neuron.changes:
        unit = 2.0 ** (neuron.message.shift if neuron.message.levels else neuron.bias_exp)
    # A ReLU has no threshold; its errors are relative to the largest message.
    threshold = float(np.max(old.v_threshold)) or (neuron.message.limit or 1) * 2.0**neuron.message.shift / scale
    bias = (np.asarray(neuron.bias, np.float64) * 2.0**neuron.bias_exp) / (scale * neuron.state_unit)
    cost = LayerCost(
        layer=layer.name,
        scale=scale,
        weights=max((error for _, error, _ in pairs), default=0.0),
        weight_bits=min((bits for _, _, bits in pairs), default=8.0),
        threshold=_relative(neuron.v_threshold * unit / scale, np.max(old.v_threshold)) if old.spiking else 0.0,
        bias=float(np.abs(bias - old.bias).max() / threshold) if old.spiking else 0.0,
        du=_relative((neuron.du + 1) / DECAY_ONE, old.du),
        dv=_relative(neuron.dv / DECAY_ONE, old.dv),
        input_step=max((steps.get(connection.source, 0.0) for connection in layer.connections), default=0.0),
    )
    connections = tuple(connection for connection, _, _ in pairs)
    return replace(layer, neuron=neuron, connections=connections, scale=scale), cost


def _connection(connection: Connection, factor: float, least: int) -> tuple[Connection, float, float]:
    """Return (integer connection with ``factor`` times the weights, weight error, bits used).

    Args:
        least: smallest exponent.
    """
    synapse = connection.synapse
    if synapse is None or not synapse.weight.any():
        empty = synapse and replace(synapse, weight=np.zeros(synapse.weight.shape, np.int32))
        return replace(connection, synapse=empty), 0.0, 8.0
    # Whole weights stay as they are, rather than shifted by an exponent.
    exponent = 0 if on_grid(synapse.weight * factor) else max(least, weight_exponent(*weight_span(synapse), factor))
    exact = synapse.weight * (factor * 2.0**-exponent)
    weight = round_weights(exact).astype(np.int32)
    power = np.mean(exact**2)  # 0 where weights are so small that their squares underflow
    error = float(np.sqrt(np.mean((weight - exact) ** 2) / power)) if power else 1.0
    bits = math.log2(np.abs(weight).max(initial=0) + 1)
    return replace(connection, synapse=replace(synapse, weight=weight), weight_exp=exponent), error, bits


def _changing(neuron: Neuron, scale: float) -> Neuron:
    """Return neurons that send changes in integers."""
    message = message_in_units(neuron, scale)
    threshold, bias = float(np.max(neuron.v_threshold)) * scale, np.asarray(neuron.bias * scale)
    exponent, most = max(message.shift, 0), message.shift + LARGEST_EXPONENT
    if message.levels:  # the threshold is in units of the message
        exponent, most = 0, 2 * LARGEST_EXPONENT
        threshold /= 2.0**message.shift
    while exponent < most and (
        threshold > LARGEST_THRESHOLD << exponent or np.abs(bias).max() > BIAS_MANTISSA[1] << exponent
    ):
        exponent += 1
    unit = 1 if message.levels else 2**exponent
    return replace(
        neuron,
        du=np.asarray(-1 if sums_input(neuron) else LARGEST_DECAY, np.int32),
        dv=np.asarray(LARGEST_DECAY, np.int32),
        # d is whole: it reaches a fractional threshold where it reaches the next whole number.
        v_threshold=np.asarray(math.ceil(threshold / unit - 1e-9), np.int32),
        bias=np.rint(bias / 2**exponent).astype(np.int32),
        bias_exp=exponent,
        message=message,
    )


def _neuron(neuron: Neuron, scale: float) -> Neuron:
    if neuron.changes:
        return _changing(neuron, scale)
    du, dv = current_decay(neuron), np.minimum(np.rint(np.asarray(neuron.dv, np.float64) * DECAY_ONE), LARGEST_DECAY)
    threshold = float(np.max(neuron.v_threshold)) * scale if neuron.spiking else float(LARGEST_THRESHOLD)
    # Without decay v is a whole number: it exceeds a fractional threshold exactly where it exceeds
    # its whole part.
    stateless = neuron.graded or not dv.any()
    whole = stateless and (du == DECAY_ONE).all()
    own = DYNAMICS[neuron.dynamics]
    exact = whole and neuron.firing == LIF_FIRING and own.resets and "threshold" not in own.kinds.values()
    subtract = neuron.v_subtract
    if subtract is not None:
        # Equal to the threshold in floats: equal in integers.
        subtract = np.asarray(round(float(np.max(subtract)) * scale), np.int32)
    kinds = DYNAMICS[neuron.dynamics].kinds
    mantissa, exponent = round_bias(np.asarray(neuron.bias * (scale * STATE_UNIT)))
    return replace(
        neuron,
        du=np.asarray(du - 1, np.int32),
        dv=np.asarray(dv, np.int32),
        v_threshold=np.asarray(math.floor(threshold) if exact else round(threshold), np.int32),
        bias=mantissa.astype(np.int32),
        bias_exp=exponent,
        v_subtract=subtract,
        message=message_in_units(neuron, scale),
        parameters={name: _parameter(values, kinds[name], scale) for name, values in neuron.parameters.items()},
    )


def _parameter(values: NDArray[Any], kind: ParameterKind, scale: float) -> NDArray[np.int32]:
    """Return a parameter of further dynamics in integers; the rules say which are one number."""
    if kind == "turn":  # rounded toward 0 as by Lava's RF, so that the state never grows
        return np.asarray(np.trunc(np.asarray(values) * DECAY_ONE), np.int32)
    value = float(np.max(values))
    if kind == "tau":
        return np.asarray(min(int(np.rint(value * DECAY_ONE)), LARGEST_DECAY), np.int32)
    return np.asarray(round(value * scale) if kind in AMOUNTS else round(value), np.int32)


def _relative(values: NDArray[Any], exact: NDArray[Any]) -> float:
    """Return the largest relative error of ``values``; 0 where ``exact`` is 0."""
    values, exact = np.broadcast_arrays(values, exact)
    return float(np.abs(values[exact != 0] / exact[exact != 0] - 1).max(initial=0.0))
