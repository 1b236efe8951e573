"""Reference of programs in plain Python numbers: one neuron, one weight, one step at a time.

Written from the docstrings of `ashneuro.program.program` alone. It shares nothing with the
simulators: no matrices, no `Program.lag`, no numpy arithmetic on state. Every sample runs by
itself, from a machine at rest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.program.program import Layer, Program, Synapse
from tests.reference import levels

Number = int | float


def run(program: Program, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the answers (T, B, *shape) of every layer: spikes, or unscaled v of a read-out."""
    timesteps, samples = next(iter(inputs.values())).shape[:2]
    sent = {layer.name: np.zeros((timesteps, samples, layer.size), object) for layer in program.layers}
    for sample in range(samples):
        for name, rows in _run_sample(
            program, {name: values[:, sample] for name, values in inputs.items()}, timesteps
        ).items():
            sent[name][:, sample] = rows
    return {
        layer.name: sent[layer.name].reshape(timesteps, samples, *layer.shape).astype(float) for layer in program.layers
    }


def _run_sample(program: Program, inputs: Mapping[str, NDArray[Any]], timesteps: int) -> dict[str, list[list[Number]]]:
    machine_steps = timesteps + max(layer.depth for layer in program.layers)
    sizes = {port.name: math.prod(port.shape) for port in program.inputs} | {
        layer.name: layer.size for layer in program.layers
    }
    weights = {id(c): _weights(c.synapse) for _, c in program.connections() if c.synapse is not None}
    # Values that each population sends in each machine step; 0 before its first and after its last.
    leaves: dict[str, list[list[Number]]] = {
        name: [[0] * size for _ in range(machine_steps)] for name, size in sizes.items()
    }
    for port in program.inputs:
        for t in range(timesteps):
            leaves[port.name][t] = [_encode(program, port, float(x)) for x in inputs[port.name][t].ravel()]
    u: dict[str, list[Number]] = {layer.name: [0] * layer.size for layer in program.layers}
    v: dict[str, list[Number]] = {layer.name: [0] * layer.size for layer in program.layers}
    more: dict[str, list[dict[str, Number]]] = {layer.name: [{} for _ in range(layer.size)] for layer in program.layers}
    for step in range(machine_steps):
        for layer in program.layers:
            # Input of the real part, and of the imaginary part that resonators have.
            arriving: list[list[Number]] = [[0] * layer.size, [0] * layer.size]
            for connection in layer.connections:
                left = step - connection.delay - (1 if connection.synapse is not None else 0)
                if left < 0:
                    continue
                values = leaves[connection.source][left]
                if connection.synapse is not None:
                    values = _matrix_times(weights[id(connection)], values, layer.size)
                    if program.precision == "integer":
                        e = connection.weight_exp
                        values = [int(x) * 2**e if e > 0 else math.floor(int(x) / 2**-e) for x in values]
                part = int(connection.imaginary)
                arriving[part] = [x + y for x, y in zip(arriving[part], values, strict=True)]
            if not layer.depth <= step < layer.depth + timesteps:
                continue
            for i in range(layer.size):
                state = u[layer.name][i], v[layer.name][i]
                if layer.neuron.dynamics in ("resonate", "izhikevich"):
                    after = _resonator(program, layer, i, state, (arriving[0][i], arriving[1][i]))
                else:
                    after = _neuron(program, layer, i, *state, arriving[0][i], more[layer.name][i])
                u[layer.name][i], v[layer.name][i], out = after
                leaves[layer.name][step][i] = out
    return {layer.name: leaves[layer.name][layer.depth : layer.depth + timesteps] for layer in program.layers}


def _neuron(
    program: Program, layer: Layer, i: int, u: Number, v: Number, a: Number, more: dict[str, Number]
) -> tuple[Number, Number, Number]:
    """Return (u, v, value sent); ``more``: further state, which is updated."""
    neuron = layer.neuron
    du, dv, threshold, bias = (
        np.broadcast_to(x, layer.shape).ravel()[i].item()
        for x in (neuron.du, neuron.dv, neuron.v_threshold, neuron.bias)
    )
    firing, before, unit = neuron.firing, v, 1
    if neuron.spiking and neuron.message.kind == "graded":
        x = a + bias if program.precision == "float" else a * 64 + bias * 2**neuron.bias_exp
        one = 1 if program.precision == "float" else 64
        active = x >= threshold * one if firing.comparison == "inclusive" else x > threshold * one
        value = x if one == 1 else x // 64
        largest = math.inf if neuron.message.limit is None else neuron.message.limit
        return 0, 0, min(value, largest) if active else 0
    if neuron.message.kind == "change":
        keeps = du == 0 if program.precision == "float" else du == -1
        u = u + a if keeps else a
        y = u + bias * 2**neuron.bias_exp
        if not neuron.spiking:
            return u, y, y
        y = max(y, 0) if neuron.message.activation == "relu" else y
        unit, shift = 2**neuron.bias_exp, neuron.message.shift
        if neuron.message.activation == "levels":
            largest = 2 ** (neuron.message.bits - 1) - 1
            if program.precision == "float":
                y = float(levels(y, neuron.message.limit / largest, largest, neuron.message.jump))
            else:
                level = min(max(math.floor(y / 2**shift + 0.5), 0), largest)
                y = level if y > neuron.message.jump else 0
            unit, shift = 1, 0
        change = y - v + more.get("r", 0)
        error = change + more.get("e", 0) if neuron.message.cumulative else change
        sent = change if abs(error) >= threshold * unit else 0
        more["r"], more["e"] = change - sent, 0 if sent else error
        return u, y, math.floor(sent / 2**shift) if shift else sent
    if program.precision == "float":
        u = u * (1 - du) + a
        v = v * (1 - dv) + u + bias
    else:
        assert isinstance(u, int) and isinstance(v, int) and isinstance(a, int)
        u = _toward_zero(u * (4096 - (du + 1))) + a * 64
        if u > 2**23:
            u -= 2**24
        elif u <= -(2**23):
            u += 2**24
        v = _toward_zero(v * (4096 - dv)) + u + bias * 2**neuron.bias_exp
        v = max(-(2**23 - 1), min(2**23 - 1, v))
        unit = 64
    if not neuron.spiking:
        return u, v, v
    if neuron.message.kind == "potential":
        if unit == 1:
            return u, v, v
        size = min((abs(v) + 31) // unit, neuron.message.limit)
        return u, v, size if v > 0 else -size
    own = {name: np.broadcast_to(x, layer.shape).ravel()[i].item() for name, x in neuron.parameters.items()}
    if neuron.dynamics == "refractory":
        left = more.get("n", 0)
        v = before if left > 0 else v
        spike = v > threshold * unit
        more["n"] = own["refractory_steps"] if spike else max(left - 1, 0)
        return u, 0 if spike else v, int(spike)
    if neuron.dynamics == "ternary":
        sign = 1 if v > threshold * unit else -1 if v < -own["threshold_below"] * unit else 0
        return u, 0 if sign else v, sign
    if neuron.dynamics == "adaptive":
        base = threshold * unit
        away, r = more.get("theta", base) - base, more.get("r", 0)
        if unit == 1:
            away, r = (1 - own["d_threshold"]) * away, (1 - own["d_refractory"]) * r
        else:
            away, r = _toward_zero((4096 - own["d_threshold"]) * away), _toward_zero((4096 - own["d_refractory"]) * r)
        theta = base + away
        spike = v - r >= theta
        more["theta"] = theta + own["threshold_step"] * unit * spike
        more["r"] = r + 2 * theta * spike
        return u, v, int(spike)
    subtract = neuron.v_subtract
    amount = None if subtract is None else np.broadcast_to(subtract, layer.shape).ravel()[i].item()

    def fires(v: Number) -> bool:
        return v >= threshold * unit if firing.comparison == "inclusive" else v > threshold * unit

    def after(v: Number) -> Number:
        return 0 if amount is None else v - amount * unit

    if neuron.message.kind == "count":
        n, limit = 0, neuron.message.limit
        while (limit is None or n < limit) and fires(v - n * amount * unit):
            n += 1
        return u, v - n * amount * unit, n
    if firing.reset_delay:
        v = after(v) if fires(before) else v
        return u, v, int(fires(v))
    return (u, after(v), 1) if fires(v) else (u, v, 0)


def _resonator(
    program: Program, layer: Layer, i: int, state: tuple[Number, Number], a: tuple[Number, Number]
) -> tuple[Number, Number, Number]:
    """Return (imaginary part, real part, spike) after a step.

    Args:
        state: (imaginary part, real part) before it.
        a: input of the real part and of the imaginary part.
    """
    own = layer.neuron.parameters
    sin, cos, threshold = (
        np.broadcast_to(values, layer.shape).ravel()[i].item()
        for values in (own["sin"], own["cos"], layer.neuron.v_threshold)
    )
    last, real = state
    if program.precision == "float":
        smallest, unit, limit = 1e-5, 1, math.inf
        real, imag = cos * real - sin * last + a[0], sin * real + cos * last + a[1]
    else:
        smallest, unit, limit = 1, 64, 2**23 - 1
        real, imag = (
            _toward_zero(cos * real) - _toward_zero(sin * last) + 64 * a[0],
            _toward_zero(sin * real) + _toward_zero(cos * last) + 64 * a[1],
        )
    real, imag = (max(-limit, min(limit, value)) for value in (real, imag))
    if layer.neuron.dynamics == "resonate":
        return imag, real, int(real >= threshold * unit and imag >= 0 and last < 0)
    return (threshold * unit - smallest, 0, 1) if imag >= threshold * unit else (imag, real, 0)


def _toward_zero(product: int) -> int:
    return product // 4096 if product >= 0 else -(-product // 4096)


def _encode(program: Program, port: Any, x: float) -> Number:
    if program.precision == "float":
        return x
    if port.coding == "spikes":
        return int(x)
    return max(-port.limit, min(port.limit, round(x * port.scale)))


def _matrix_times(weights: list[tuple[int, int, Number]], values: list[Number], size: int) -> list[Number]:
    result: list[Number] = [0] * size
    for row, column, weight in weights:
        if values[column]:
            result[row] += weight * values[column]
    return result


def _weights(synapse: Synapse) -> list[tuple[int, int, Number]]:
    """Return (output, input, weight) of every connection, on flattened populations."""
    w = synapse.weight
    if synapse.kind == "dense":
        copies = synapse.in_size // w.shape[1]
        return [
            (copy * w.shape[0] + o, copy * w.shape[1] + i, w[o, i].item())
            for copy in range(copies)
            for o in range(w.shape[0])
            for i in range(w.shape[1])
        ]
    if synapse.kind == "scale":
        return [(i, i, np.broadcast_to(w, synapse.in_shape).ravel()[i].item()) for i in range(synapse.in_size)]
    if synapse.kind == "sparse":
        assert synapse.indptr is not None and synapse.indices is not None
        rows = range(synapse.out_size)
        return [
            (o, int(synapse.indices[k]), w[k].item())
            for o in rows
            for k in range(synapse.indptr[o], synapse.indptr[o + 1])
        ]
    found = []
    out_per_group, in_per_group = w.shape[0] // synapse.groups, w.shape[1]
    spatial_in, spatial_out = synapse.in_shape[1:], synapse.out_shape[1:]
    for o, place in itertools.product(range(w.shape[0]), itertools.product(*map(range, spatial_out))):
        for c, tap in itertools.product(range(in_per_group), itertools.product(*map(range, w.shape[2:]))):
            where = [
                p * s - before + k * d
                for p, s, (before, _), k, d in zip(
                    place, synapse.stride, synapse.padding, tap, synapse.dilation, strict=True
                )
            ]
            if all(0 <= x < n for x, n in zip(where, spatial_in, strict=True)):
                out = int(np.ravel_multi_index((o, *place), synapse.out_shape))
                channel = (o // out_per_group) * in_per_group + c
                found.append(
                    (out, int(np.ravel_multi_index((channel, *where), synapse.in_shape)), w[(o, c, *tap)].item())
                )
    return found
