"""Scale of every layer of an integer program: integer units of a per float unit.

A layer whose numbers are whole in some unit already keeps these integers (`grid_scale`). Otherwise
the scale is the largest useful one, at which the best resolved connection fills its 8 bits, or the
largest that breaks no rule of `ashneuro.program.rules.loihi` for any possible input.

What a layer is expected to send is a choice: its limit, or the largest that any input can cause. A
count without a limit saturates at the most spikes that any input can cause in a step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
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
from ashneuro.program.program import Layer, Neuron, Program, Synapse
from ashneuro.program.synapse import signed_sums
from ashneuro.spiking.dynamics import AMOUNTS, DYNAMICS
from ashneuro.spiking.integers import full_range
from ashneuro.spiking.message import LARGEST_EXPONENT, LEVEL_EXPONENT, Message

GRADED_LIMIT = 127  # analog values that pass a synapse are sent with 8 bits
MANY_STEPS = 256.0
WHOLE = 1e-4  # distance from a whole number that is rounding of float32 parameters
MOST_LEVELS = 4096  # distinct weights of a layer on the hardware's grid, over all its connections


def choose_scales(program: Program, input_peak: Mapping[str, float], wanted: Mapping[str, float]) -> dict[str, float]:
    """Return the scale of every layer; layers that an input enters directly share one."""
    graded = {port.name: GRADED_LIMIT / input_peak[port.name] for port in program.inputs if port.coding == "graded"}
    layers = {layer.name: layer for layer in program.layers if layer.neuron.payload and not layer.neuron.message.whole}
    peaks = _peaks(program, input_peak)
    graded |= {name: wanted.get(name) or layer.neuron.message.largest / peaks[name] for name, layer in layers.items()}
    program = with_limits(program, input_peak)
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


def with_limits(program: Program, input_peak: Mapping[str, float]) -> Program:
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
    sums = sums_input(layer.neuron)
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


def sums_input(neuron: Neuron) -> bool:
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
        full = full_range(*weight_span(connection.synapse)) * graded.get(connection.source, 1.0)
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
    if sums_input(neuron):
        potential = current + largest_bias * (gain if math.isfinite(gain) else MANY_STEPS)
        changing = {other.name for other in program.layers if other.neuron.changes}
        if any(connection.source in changing for connection in layer.connections):
            current *= 2  # one change may lead from a value to its negative
    limits = [coarse, (LARGEST_STATE >> STATE_SHIFT) / current]
    if neuron.spiking:
        threshold = float(np.max(neuron.v_threshold))
        limits.append(LARGEST_THRESHOLD / threshold if threshold else math.inf)
        kinds = DYNAMICS[neuron.dynamics].kinds
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
    return leaky_gain(float(np.min(current_decay(neuron))) / DECAY_ONE, program.timesteps)


def weight_span(synapse: Synapse) -> tuple[float, float]:
    """Return the smallest and the largest weight, 0 between them."""
    return float(synapse.weight.min(initial=0)), float(synapse.weight.max(initial=0))


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
    kinds = DYNAMICS[neuron.dynamics].kinds
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
            all(on_grid(level * scale) for level in levels)
            and all(_whole(np.asarray(value) * scale) for value in others if value is not None)
            and _whole(np.asarray(neuron.bias) * (scale * STATE_UNIT))
        ):
            return scale
    return None


def _whole(values: NDArray[Any]) -> bool:
    """Return True if ``values`` are whole up to the rounding of float32 parameters."""
    return bool((np.abs(values - np.rint(values)) <= np.maximum(WHOLE, WHOLE / 64 * np.abs(values))).all())


def on_grid(weights: NDArray[np.float64]) -> bool:
    """Return True if ``weights`` are mantissas of the hardware already."""
    low, high = weights.min(initial=0), weights.max(initial=0)
    mixed = low < 0 < high
    least, most = MIXED_WEIGHTS if mixed else (-LARGEST_WEIGHT, LARGEST_WEIGHT)
    return bool(least <= round(low) and round(high) <= most) and _whole(weights / 2 if mixed else weights)


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


def current_decay(neuron: Neuron) -> NDArray[np.float64]:
    """Return the decay of the current in 1/4096; the hardware stores it minus 1."""
    return np.maximum(np.rint(np.asarray(neuron.du, np.float64) * DECAY_ONE), 1.0)
