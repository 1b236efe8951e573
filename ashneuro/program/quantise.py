"""Quantise float programs to Loihi's integers, with the smallest change of the network.

A layer has one unit: ``scale`` integer units of a per float unit. All its numbers are in it::

    weights    W_int · 2^weight_exp · (unit of the source) = W · scale
               rounded, to even numbers where signs are mixed
    threshold  v_threshold_int = v_threshold · scale;  v_int = 64 · scale · v
    bias       bias_int · 2^bias_exp = bias · scale · 64

A spike has unit 1, and so has a count of spikes; an analog value has the scale of its input port, a
graded message that of the layer that sends it, so that its largest value fills the payload. A layer
that sends changes has a unit of 1 instead of 64, and its messages have 2^shift units, so that the
largest value that is expected fills their payload; only what it is expected to be, a limit or the
largest that any input can cause, is a choice. A count without a limit saturates at the most spikes
that any input can cause in a step. Connections that meet in a layer, as in a residual join, share
its unit and differ in their weight exponents, so that each uses at least half of the 8-bit range.

A layer whose numbers are whole in some unit already keeps these integers (`grid_scale`). Otherwise
the scale is the largest useful one, at which the best resolved connection fills its 8 bits, or the
largest that breaks no rule of `ashneuro.program.rules.loihi` for any possible input. What cannot be
represented is an error, never a clip.
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
    LARGEST_BIAS_EXP,
    LARGEST_DECAY,
    LARGEST_MESSAGE,
    LARGEST_STATE,
    LARGEST_THRESHOLD,
    LARGEST_WEIGHT,
    MIXED_WEIGHTS,
    STATE_SHIFT,
    STATE_UNIT,
    WEIGHT_EXP,
)
from ashneuro.program.bounds import ADAPTATION_DECAYS, adaptation, largest_sendable, leaky_gain
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.rules.finding import Finding, require
from ashneuro.program.rules.loihi import check_program
from ashneuro.program.synapse import scale_outputs, signed_sums
from ashneuro.spiking.dynamics import AMOUNTS, DYNAMICS, ParameterKind
from ashneuro.spiking.firing import LIF_FIRING
from ashneuro.spiking.integers import full_range, round_bias, round_weights, weight_exponent
from ashneuro.spiking.message import LARGEST_EXPONENT, LEVEL_EXPONENT, Message

GRADED_LIMIT = 127  # analog values that pass a synapse are sent with 8 bits
MANY_STEPS = 256.0
# Rules on what sums of rounded weights can reach.
LIMITS = ("current_does_not_wrap", "read_out_in_range", "adaptation_in_range")
WHOLE = 1e-4  # distance from a whole number that is rounding of float32 parameters
MOST_LEVELS = 4096  # distinct weights of a layer on the hardware's grid, over all its connections


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
        result = _at_scales(even, input_peak, _scales(even, input_peak, chosen))
        # Rounding can lift a sum over its bound by some per cent. Then take a smaller scale, but
        # never change one that the caller asked for.
        over = {finding.node for finding in result.findings if not finding.ok and finding.rule in LIMITS}
        if not over or over & set(scales):
            break
        chosen |= {layer.name: 0.97 * layer.scale for layer in result.program.layers if layer.name in over}
    return result


def _at_scales(program: Program, input_peak: Mapping[str, float], scales: Mapping[str, float]) -> Quantisation:
    ports = _ports(program, input_peak, scales)
    program = _with_limits(program, input_peak)
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


def grid_scale(program: Program, layer: Layer) -> float | None:
    """Return the smallest scale at which all numbers of ``layer`` are integers of the hardware.

    Weights are whole and in range, even where signs are mixed; thresholds and biases are whole,
    decays multiples of 1/4096. ``None`` if there is no such scale, or an analog value arrives.
    """
    neuron, synapses = layer.neuron, [connection.synapse for connection in layer.connections]
    analog = {port.name for port in program.inputs if port.coding != "spikes"}
    analog |= {other.name for other in program.layers if other.neuron.payload and not other.neuron.message.whole}
    if (neuron.payload and not neuron.scale_free) or None in synapses:
        return None
    if any(connection.source in analog for connection in layer.connections):
        return None
    kinds = _kinds(neuron)
    rates = [values for name, values in neuron.parameters.items() if kinds[name] == "tau"]
    decays = [np.asarray(value, np.float64) * DECAY_ONE for value in (neuron.du, neuron.dv, *rates)]
    if (
        not all(_whole(value) for value in decays)
        or decays[0].min() < 0.5
        or max(map(np.max, decays[1:])) > LARGEST_DECAY + 0.5
    ):
        return None
    # The sign of the smallest weight is kept: mixed signs need even weights.
    levels = [np.unique(synapse.weight) for synapse in synapses if synapse is not None]
    levels = [level for level in levels if level.any()]
    largest = max((float(np.abs(level).max()) for level in levels), default=0.0)
    if not largest or sum(level.size for level in levels) > MOST_LEVELS:
        return None
    others = [neuron.v_threshold, neuron.v_subtract] if neuron.spiking else []
    others += [values for name, values in neuron.parameters.items() if kinds[name] in AMOUNTS]
    factors = [values for name, values in neuron.parameters.items() if kinds[name] == "turn"]
    if not all(_whole(np.asarray(values) * DECAY_ONE) for values in factors):
        return None
    for whole in range(1, -MIXED_WEIGHTS[0] + 1):
        scale = whole / largest
        if (
            all(_on_grid(level * scale) for level in levels)
            and all(_whole(np.asarray(value) * scale) for value in others if value is not None)
            and _whole(np.asarray(neuron.bias) * (scale * STATE_UNIT))
        ):
            return scale
    return None


def _whole(values: NDArray[Any]) -> bool:
    """Return True if ``values`` are whole up to the rounding of float32 parameters."""
    return bool((np.abs(values - np.rint(values)) <= np.maximum(WHOLE, WHOLE / 64 * np.abs(values))).all())


def _on_grid(weights: NDArray[np.float64]) -> bool:
    """Return True if ``weights`` are mantissas of the hardware already."""
    low, high = weights.min(initial=0), weights.max(initial=0)
    mixed = low < 0 < high
    least, most = MIXED_WEIGHTS if mixed else (-LARGEST_WEIGHT, LARGEST_WEIGHT)
    return bool(least <= round(low) and round(high) <= most) and _whole(weights / 2 if mixed else weights)


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
    kinds = _kinds(neuron)
    amounts = {name: values * factor for name, values in neuron.parameters.items() if kinds[name] in AMOUNTS}
    neuron = replace(neuron, parameters={**neuron.parameters, **amounts})
    connections = []
    for connection in layer.connections:
        assert connection.synapse is not None  # rule uniform_threshold
        factors = np.broadcast_to(factor, layer.shape).reshape(connection.synapse.out_shape)
        connections.append(replace(connection, synapse=scale_outputs(connection.synapse, factors)))
    return replace(layer, neuron=neuron, connections=tuple(connections))


def _scales(program: Program, input_peak: Mapping[str, float], wanted: Mapping[str, float]) -> dict[str, float]:
    """Return the scale of every layer; layers that an input enters directly share one."""
    graded = {port.name: GRADED_LIMIT / input_peak[port.name] for port in program.inputs if port.coding == "graded"}
    layers = {layer.name: layer for layer in program.layers if layer.neuron.payload and not layer.neuron.message.whole}
    peaks = _peaks(program, input_peak)
    graded |= {name: wanted.get(name) or layer.neuron.message.largest / peaks[name] for name, layer in layers.items()}
    program = _with_limits(program, input_peak)
    scales: dict[str, float] = {}
    # The unit of a message may still shrink with the scale of its layer: the second pass has it.
    for _ in range(2 if layers else 1):
        for layer in program.layers:
            scale = scales[layer.name] = wanted.get(layer.name) or _best_scale(program, layer, graded, peaks)
            if layer.neuron.changes:
                graded[layer.name] = scale * 2.0 ** -message_in_units(layer.neuron, scale).shift
        _share_direct(program, scales)
        graded |= {name: scales[name] for name, layer in layers.items() if not layer.neuron.changes}
    return scales


def _peaks(program: Program, input_peak: Mapping[str, float]) -> dict[str, float]:
    """Return the largest value that each source sends, where it is not 1; of changes, their sum."""
    sending = [layer for layer in program.layers if layer.neuron.payload]
    limits = {layer.name: layer.neuron.message.limit for layer in sending}
    peaks = dict(input_peak) | {name: limit for name, limit in limits.items() if limit is not None}
    for layer in sending:
        neuron = layer.neuron
        if limits[layer.name] is None:  # the largest value that can reach it; in loops it has a limit
            gain = _current_gain(program, neuron) if neuron.message.whole else 1.0
            largest = _largest_sum(program, layer, peaks) * gain + float(np.abs(neuron.bias).max())
            if neuron.v_subtract is not None:  # a count: v was below the threshold before
                largest = math.floor(largest / float(np.min(neuron.v_subtract))) + 1
            if neuron.potential:
                steps = leaky_gain(float(np.min(neuron.dv)), program.timesteps)
                largest += _largest_sum(program, layer, peaks) * (_current_gain(program, neuron) - 1.0)
                largest *= steps if math.isfinite(steps) else MANY_STEPS
            if neuron.changes:  # smaller ones are never sent
                largest = max(largest, float(np.max(neuron.v_threshold)))
            peaks[layer.name] = largest
        if neuron.message.whole:
            peaks[layer.name] = min(peaks[layer.name], neuron.message.largest)
    return peaks


def _with_limits(program: Program, input_peak: Mapping[str, float]) -> Program:
    """Return ``program`` with a limit of all changes, counts and potentials: integers have room for
    it.
    """
    limited_kinds = (layer for layer in program.layers if layer.neuron.payload and not layer.neuron.graded)
    unlimited = {layer.name for layer in limited_kinds}
    if not unlimited:
        return program
    peaks = _peaks(program, input_peak)

    def limited(layer: Layer) -> Layer:
        message = replace(layer.neuron.message, limit=peaks[layer.name])
        return replace(layer, neuron=replace(layer.neuron, message=message))

    return replace(program, layers=tuple(limited(one) if one.name in unlimited else one for one in program.layers))


def _share_direct(program: Program, scales: dict[str, float]) -> None:
    """Give layers that an input enters directly one scale, in place."""
    # The host sends one number to all layers that it enters directly, so these share the coarsest
    # unit. A layer with two inputs joins both groups, hence the repetition.
    changed = True
    while changed:
        changed = False
        for port in program.inputs:
            fed = [
                layer.name
                for layer in program.layers
                if any(c.source == port.name and c.synapse is None for c in layer.connections)
            ]
            common = min((scales[name] for name in fed), default=0.0)
            messages = [layer.neuron.message for layer in program.layers if layer.name in fed]
            common = min([common, *(_level_scale(one, common) for one in messages if one.levels)])
            changed |= any(scales[name] != common for name in fed)
            scales |= dict.fromkeys(fed, common)


def _largest_sum(program: Program, layer: Layer, peaks: Mapping[str, float]) -> float:
    """Return the largest a of a layer; the largest Σ a where it sums its input.

    ``peaks``: largest values of its sources, 1 where missing.
    """
    changing = {other.name for other in program.layers if other.neuron.changes}
    sums = _sums(layer.neuron)
    steps = leaky_gain(0.0, program.timesteps) if sums else 1.0
    reach = np.zeros((2, layer.size))  # of the real and the imaginary part
    for connection in layer.connections:
        # Changes add up to their value. One alone may lead from a value to its negative.
        factor = steps if math.isfinite(steps) else MANY_STEPS
        if connection.source in changing:
            factor = 1.0 if sums else 2.0
        part = int(connection.imaginary)
        if connection.synapse is None:
            reach[part] += peaks[connection.source] * factor
            continue
        negative, positive = signed_sums(connection.synapse)
        reach[part] += (positive - negative) * peaks.get(connection.source, 1.0) * factor
    return float(reach.max(initial=0.0)) * 1.01 + 1e-12  # 1 %: what rounding can add


def _sums(neuron: Neuron) -> bool:
    """Return True for neurons that sum their input: sigma-delta neurons, and read-outs (I)."""
    if neuron.message.changes:
        return bool(np.all(neuron.du == 0))
    return not neuron.spiking and bool(np.all(neuron.du == 1) and np.all(neuron.dv == 0))


def _best_scale(program: Program, layer: Layer, graded: Mapping[str, float], peaks: Mapping[str, float]) -> float:
    """Return the largest useful scale of ``layer`` that keeps every limit.

    Args:
        graded: integer units of the values that analog inputs and graded layers send.
        peaks: the largest of these values.
    """
    neuron, useful = layer.neuron, []
    coarse = math.inf
    for connection in layer.connections:
        if connection.synapse is None:
            coarse = min(coarse, LARGEST_MESSAGE / (1.01 * peaks[connection.source]))
            continue
        full = full_range(*_span(connection.synapse)) * graded.get(connection.source, 1.0)
        if math.isfinite(full):
            useful.append(full)
            # Beyond it, the weights would need a larger exponent than there is.
            coarse = min(coarse, full * 2.0 ** WEIGHT_EXP[1])
    largest_a = _largest_sum(program, layer, peaks)
    largest_bias = float(np.abs(neuron.bias).max())
    if neuron.changes:
        # The largest value fills the payload at the largest shift; u has twice its room.
        most = largest_sendable(neuron.message) / peaks[layer.name]
        finest = most * 2.0 ** (LEVEL_EXPONENT if neuron.message.levels else LARGEST_EXPONENT)
        if neuron.message.levels:
            # A level has 2^shift units, so that it is rounded where the float program rounds.
            return _level_scale(neuron.message, min(max(useful, default=finest), coarse, finest))
        return min(max(useful, default=most), coarse, finest)
    current = largest_a * _current_gain(program, neuron)
    # Without decay and timesteps nothing bounds v: assume the gain of many steps.
    gain = leaky_gain(float(np.min(neuron.dv)), program.timesteps)
    potential = (current + largest_bias) * (gain if math.isfinite(gain) else MANY_STEPS)
    if _sums(neuron):
        potential = current + largest_bias * (gain if math.isfinite(gain) else MANY_STEPS)
        changing = {other.name for other in program.layers if other.neuron.changes}
        if any(connection.source in changing for connection in layer.connections):
            current *= 2  # one change may lead from a value to its negative
    limits = [coarse, (LARGEST_STATE >> STATE_SHIFT) / current]
    if neuron.spiking:
        threshold = float(np.max(neuron.v_threshold))
        limits.append(LARGEST_THRESHOLD / threshold if threshold else math.inf)
        kinds = _kinds(neuron)
        amounts = [float(np.max(values)) for name, values in neuron.parameters.items() if kinds[name] in AMOUNTS]
        limits += [LARGEST_THRESHOLD / amount for amount in amounts if amount]
        if DYNAMICS[neuron.dynamics].adapts:
            gains = (
                leaky_gain(float(np.min(neuron.parameters[name])), program.timesteps) for name in ADAPTATION_DECAYS
            )
            largest = adaptation(potential, threshold, *amounts, *gains)
            limits.append((LARGEST_STATE >> STATE_SHIFT) / largest)
    else:
        limits.append(LARGEST_THRESHOLD / potential)
    if largest_bias:
        limits.append((BIAS_MANTISSA[1] << LARGEST_BIAS_EXP >> STATE_SHIFT) / largest_bias)
    if neuron.graded or neuron.potential:
        return min(neuron.message.largest / peaks[layer.name], *limits)
    if not useful:
        # Without weights nothing else bounds the scale. v may not saturate below rest either.
        limits += [LARGEST_MESSAGE / largest_a, (LARGEST_STATE >> STATE_SHIFT) / potential]
    kept = grid_scale(program, layer)
    return kept if kept is not None and kept <= min(limits) else min(max(useful, default=math.inf), *limits)


def _current_gain(program: Program, neuron: Neuron) -> float:
    return leaky_gain(float(np.min(_du(neuron))) / DECAY_ONE, program.timesteps)


def _span(synapse: Synapse) -> tuple[float, float]:
    """Return the smallest and the largest weight, 0 between them."""
    return float(synapse.weight.min(initial=0)), float(synapse.weight.max(initial=0))


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
    least = 0 if old.message.levels and _sums(old) else WEIGHT_EXP[0]
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
    exponent = 0 if _on_grid(synapse.weight * factor) else max(least, weight_exponent(*_span(synapse), factor))
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
        du=np.asarray(-1 if _sums(neuron) else LARGEST_DECAY, np.int32),
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
    du, dv = _du(neuron), np.minimum(np.rint(np.asarray(neuron.dv, np.float64) * DECAY_ONE), LARGEST_DECAY)
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
    kinds = _kinds(neuron)
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


def message_in_units(neuron: Neuron, scale: float) -> Message:
    """Return the message with its limit in integer units, at which a payload saturates."""
    message, largest = neuron.message, neuron.message.largest
    if neuron.changes:
        assert message.limit is not None
        if message.levels:
            shift = _level_shift(message, scale)
            return replace(message, limit=message.largest, jump=math.floor(message.jump * scale + 1e-9), shift=shift)
        reach = message.limit * scale / largest_sendable(message)
        shift = min(max(0, math.ceil(math.log2(reach) - 1e-9)), LARGEST_EXPONENT)
        return replace(message, limit=max(1, round(message.limit * scale * 2.0**-shift)), shift=shift)
    if not neuron.payload:
        return message
    unit = 1.0 if message.whole else scale
    limit = largest if message.limit is None else max(1, min(largest, round(message.limit * unit)))
    return replace(message, limit=limit)


def _level_scale(message: Message, scale: float) -> float:
    """Return the largest scale up to ``scale`` at which a level has 1, 2, 4 … units."""
    return 2.0 ** max(0, math.floor(math.log2(scale * message.step) + 1e-9)) / message.step


def _level_shift(message: Message, scale: float) -> int:
    """Return log2 of the units of a level at this ``scale``.

    Raises:
        GraphError: it is not whole.
    """
    exact = math.log2(scale * message.step)
    if abs(exact - round(exact)) > 1e-6 or not 0 <= round(exact) <= LEVEL_EXPONENT:
        raise GraphError(
            f"a level of {message.step:g} has {scale * message.step:g} units",
            "it has 1, 2, 4 … 4096, so that integers round where floats do; neurons that one input enters share units",
            "give the scale 2^n / step, and such neurons one step",
        )
    return round(exact)


def _kinds(neuron: Neuron) -> dict[str, ParameterKind]:
    return DYNAMICS[neuron.dynamics].kinds


def _parameter(values: NDArray[Any], kind: ParameterKind, scale: float) -> NDArray[np.int32]:
    """Return a parameter of further dynamics in integers; the rules say which are one number."""
    if kind == "turn":  # rounded toward 0 as by Lava's RF, so that the state never grows
        return np.asarray(np.trunc(np.asarray(values) * DECAY_ONE), np.int32)
    value = float(np.max(values))
    if kind == "tau":
        return np.asarray(min(int(np.rint(value * DECAY_ONE)), LARGEST_DECAY), np.int32)
    return np.asarray(round(value * scale) if kind in AMOUNTS else round(value), np.int32)


def _du(neuron: Neuron) -> NDArray[np.float64]:
    """Return the decay of the current in 1/4096; the hardware stores it minus 1."""
    return np.maximum(np.rint(np.asarray(neuron.du, np.float64) * DECAY_ONE), 1.0)


def _relative(values: NDArray[Any], exact: NDArray[Any]) -> float:
    """Return the largest relative error of ``values``; 0 where ``exact`` is 0."""
    values, exact = np.broadcast_arrays(values, exact)
    return float(np.abs(values[exact != 0] / exact[exact != 0] - 1).max(initial=0.0))
