"""Bounds of an integer program: the largest sums, currents and potentials that any input can cause.

With ``a`` the sum of what arrives in one step, u and v as in `ashneuro.program.program`. Bounds
hold for every input that the ports admit, whether or not the network can produce it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ashneuro.loihi import DECAY_ONE, LARGEST_STATE, STATE_SHIFT, STATE_UNIT
from ashneuro.program.program import Connection, Layer, Neuron, Program
from ashneuro.program.synapse import signed_sums
from ashneuro.spiking.message import Message


def accumulation(program: Program, layer: Layer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the smallest and the largest a in one step, each (neurons,), of both complex parts."""
    # By part, real and imaginary.
    low, high = np.zeros((2, layer.size), np.int64), np.zeros((2, layer.size), np.int64)
    for connection in layer.connections:
        least, most = _sent(program, connection)
        part = int(connection.imaginary)
        if connection.synapse is None:
            low[part] += least
            high[part] += most
            continue
        negative, positive = signed_sums(connection.synapse)
        low[part] += _shift(positive * least + negative * most, connection.weight_exp)
        high[part] += _shift(positive * most + negative * least, connection.weight_exp)
    return low.min(axis=0), high.max(axis=0)


def largest_sum(program: Program, layer: Layer) -> float:
    """Return the largest |Σ a| over a sample: changes add up to their value, whatever the steps."""
    gain = leaky_gain(0.0, program.timesteps)
    total = np.zeros(layer.size)
    for connection in layer.connections:
        least, most = _sent(program, connection)
        source = _layer(program, connection)
        steps = gain
        if source is not None and source.neuron.changes:
            least, most, steps = -largest_value(source.neuron), largest_value(source.neuron), 1.0
        reach = np.full(layer.size, float(max(-least, most)))
        if connection.synapse is not None:
            negative, positive = signed_sums(connection.synapse)
            up, down = positive * most + negative * least, positive * least + negative * most
            reach = np.maximum(up, -down) * 2.0**connection.weight_exp
        total += np.where(reach > 0, reach, 0.0) * (steps if reach.any() else 0.0)
    return float(total.max(initial=0.0))


def largest_current(program: Program, layer: Layer) -> float:
    """Return the largest |u|: the largest |a| in every step."""
    low, high = accumulation(program, layer)
    decays = np.broadcast_to((np.asarray(layer.neuron.du, np.float64) + 1) / DECAY_ONE, layer.shape).ravel()
    largest = 0.0
    for decay in np.unique(decays):
        alike = decays == decay
        reach = max(-int(low[alike].min(initial=0)), int(high[alike].max(initial=0)))
        largest = max(largest, (reach << STATE_SHIFT) * leaky_gain(float(decay), program.timesteps))
    return largest


def largest_potential(program: Program, layer: Layer) -> float:
    """Return the largest |v| when no spike resets it."""
    bias = float(np.abs(np.asarray(layer.neuron.bias, np.int64) << layer.neuron.bias_exp).max())
    sources = [_layer(program, connection) for connection in layer.connections]
    changes = any(source is not None and source.neuron.changes for source in sources)
    if changes and not np.any(layer.neuron.dv) and np.all(np.asarray(layer.neuron.du) + 1 == DECAY_ONE):
        return STATE_UNIT * largest_sum(program, layer) + (bias and bias * leaky_gain(0.0, program.timesteps))
    gain = leaky_gain(float(np.min(layer.neuron.dv)) / DECAY_ONE, program.timesteps)
    return (largest_current(program, layer) + bias) * gain


def largest_adaptation(program: Program, layer: Layer) -> float:
    """Return the largest threshold or refractory state of an adaptive layer, in units of v."""
    neuron, own = layer.neuron, layer.neuron.parameters
    threshold, raised = (int(np.max(value)) << STATE_SHIFT for value in (neuron.v_threshold, own["threshold_step"]))
    gains = (leaky_gain(float(np.min(own[name])) / DECAY_ONE, program.timesteps) for name in ADAPTATION_DECAYS)
    return adaptation(min(largest_potential(program, layer), LARGEST_STATE), threshold, raised, *gains)


ADAPTATION_DECAYS = ("d_threshold", "d_refractory")


def adaptation(v: float, threshold: float, raised: float, threshold_gain: float, refractory_gain: float) -> float:
    """Return the largest threshold or refractory state of an adaptive neuron.

    A spike in every step is one bound. The other: at a spike θ' + r' ≤ v, hence θ ≤ v + raised and
    r = r' + 2·θ' ≤ 2·v.

    Args:
        v: the largest membrane potential.
        threshold, raised: v_threshold and threshold_step.
        threshold_gain, refractory_gain: `leaky_gain` of both.
    """
    theta = min(threshold + raised * threshold_gain, max(threshold, v) + raised)
    return max(theta, min(2 * theta * refractory_gain, 2 * v))


def largest_message(neuron: Neuron) -> int:
    """Return the largest magnitude that neurons of an integer program send: 1, or their payload's.

    Changes of values of both signs are up to twice the largest value.
    """
    if neuron.changes:
        return largest_value(neuron) * _signs(neuron.message)
    return int(neuron.message.limit or 0) if neuron.payload else 1


def largest_sendable(message: Message) -> int:
    """Return the largest magnitude of a value whose changes fit their payload."""
    return message.largest // _signs(message)


def _signs(message: Message) -> int:
    return 2 if message.activation == "none" else 1


def largest_value(neuron: Neuron) -> int:
    """Return the largest magnitude that changes are expected to add up to; it is not a limit."""
    return int(neuron.message.limit or largest_sendable(neuron.message))


def leaky_gain(decay: float, timesteps: int | None) -> float:
    """Return Σ (1 − decay)^k over a sample: the gain of a leaky sum for a constant input.

    Without ``timesteps`` the sum has no end: 1/decay, or inf without decay.
    """
    if decay <= 0:
        return math.inf if timesteps is None else float(timesteps)
    return 1 / decay if timesteps is None else (1 - (1 - decay) ** timesteps) / decay


def _layer(program: Program, connection: Connection) -> Layer | None:
    return next((layer for layer in program.layers if layer.name == connection.source), None)


def _sent(program: Program, connection: Connection) -> tuple[int, int]:
    """Return the smallest and the largest value that a connection's source sends."""
    port = program.port(connection.source)
    if port is None:
        neuron = program.layer(connection.source).neuron
        return -largest_message(neuron) if neuron.message.signed else 0, largest_message(neuron)
    if port.coding == "spikes":
        return (1, 1) if port.constant else (0, 1)
    return -port.limit, port.limit


def _shift(values: NDArray[np.int64], exponent: int) -> NDArray[np.int64]:
    return values << exponent if exponent >= 0 else values >> -exponent
