"""Small networks for tests: one with a skip, run in plain numpy, and single layers."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from ashneuro.cost.workload import LayerWorkload, Workload
from ashneuro.exchange import HostLayer
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.synapse import conv_shape, matrix
from ashneuro.simulation.record import Activity, SpikeRecord
from ashneuro.spiking.firing import Firing
from ashneuro.spiking.message import Message


def neuron(threshold=1.0, du=1.0, dv=0.5, bias=0.0, spiking=True):
    return Neuron(np.array(du), np.array(dv), np.array(threshold), np.array(bias), spiking=spiking)


def conv(rng, in_shape, channels, kernel=3, stride=1, padding=1, dilation=1, groups=1, zeros=0.2):
    weight = rng.normal(size=(channels, in_shape[0] // groups, kernel, kernel)) * (
        rng.random((channels, 1, kernel, kernel)) > zeros
    )
    pads, axes = ((padding, padding),) * 2, (stride,) * 2
    out = conv_shape(in_shape, (kernel, kernel), channels, axes, pads, (dilation,) * 2)
    return Synapse("conv", in_shape, out, weight, axes, pads, (dilation,) * 2, groups)


def dense(rng, in_shape, outputs, zeros=0.2):
    size = math.prod(in_shape)
    weight = rng.normal(size=(outputs, size)) * (rng.random((outputs, size)) > zeros) * 2 / math.sqrt(size)
    return Synapse("dense", in_shape, (outputs,), weight)


def tiny_program(seed=0, coding="current", channels=4, size=6, timesteps=4):
    """Return four LIF layers with a strided conv, a conv with a scaled skip, and a dense layer."""
    rng = np.random.default_rng(seed)
    shape = (channels, size, size)
    first = Connection("input", None) if coding == "current" else Connection("input", conv(rng, shape, channels))
    down = conv(rng, shape, channels + 2, stride=2)
    same = conv(rng, down.out_shape, channels + 2)
    skip = Synapse("scale", down.out_shape, down.out_shape, np.array(0.5))
    head = dense(rng, down.out_shape, 10)
    layers = (
        Layer("lif1", shape, neuron(0.7), (first,), 0),
        Layer("lif2", down.out_shape, neuron(0.8), (Connection("lif1", down),), 1),
        Layer("lif3", down.out_shape, neuron(0.8), (Connection("lif2", same), Connection("lif2", skip)), 2),
        Layer("lif4", (10,), neuron(0.5, bias=0.05), (Connection("lif3", head),), 3),
    )
    return Program("float", 1e-3, timesteps, (InputPort("input", shape, coding),), layers, ("lif4",))


def change_program(threshold=0.2, seed=0):
    """Return sigma-delta layers behind a delta encoder, and a LIF behind changes."""
    rng = np.random.default_rng(seed)
    shape = (2, 5, 5)

    def changes(sums, **message):
        kept = neuron(threshold, du=1.0 - sums, dv=1.0, bias=0.1 * sums)
        return replace(kept, message=Message("change", 16, **message))

    first, down = conv(rng, shape, 3), conv(rng, (3, 5, 5), 4, stride=2)
    relu = {"activation": "relu"}
    layers = (
        Layer("delta", shape, changes(0), (Connection("input", None),), 0),
        Layer("one", (3, 5, 5), changes(1, **relu), (Connection("delta", first),), 1),
        Layer("two", down.out_shape, changes(1, cumulative=True, **relu), (Connection("one", down),), 2),
        Layer("lif", (7,), neuron(0.8), (Connection("two", dense(rng, down.out_shape, 7)),), 3),
    )
    return Program("float", 1e-3, 6, (InputPort("input", shape, "current"),), layers, ("lif",))


def frames(program, samples=2, seed=1):
    """Return pictures (T, B, *shape) of which a third changes from one to the next."""
    rng = np.random.default_rng(seed)
    size = (program.timesteps, samples, *program.inputs[0].shape)
    return np.cumsum(rng.normal(size=size) * (rng.random(size) < 0.3), axis=0)


def graded_program(bits=6, seed=0):
    """Return two graded conv layers, both of which feed a LIF, and a graded output."""
    rng = np.random.default_rng(seed)
    shape = (2, 5, 5)
    first, down = conv(rng, shape, 3), conv(rng, (3, 5, 5), 4, stride=2)
    message = Message("graded", bits, 3.0)

    def graded(threshold, bias=0.0):
        return replace(neuron(threshold, dv=1.0, bias=bias), message=message)

    skip = Connection("one", dense(rng, (3, 5, 5), 7), 1)
    layers = (
        Layer("one", (3, 5, 5), graded(0.5), (Connection("input", first),), 1),
        Layer("two", down.out_shape, graded(0.0, bias=0.1), (Connection("one", down),), 2),
        Layer("lif", (7,), neuron(0.8), (Connection("two", dense(rng, down.out_shape, 7)), skip), 3),
        Layer("out", (4,), graded(0.0), (Connection("lif", dense(rng, (7,), 4)),), 4),
    )
    return Program("float", 1e-3, 4, (InputPort("input", shape, "spikes"),), layers, ("out",))


def counting_program(bits=6, seed=0):
    """Return two conv layers that send spike counts, both of which feed a LIF."""
    rng = np.random.default_rng(seed)
    shape = (2, 5, 5)
    first, down = conv(rng, shape, 3), conv(rng, (3, 5, 5), 4, stride=2)
    several = {"message": Message("count", bits, 5.0), "firing": Firing(reset="subtract"), "v_subtract": np.array(0.7)}
    skip = Connection("one", dense(rng, (3, 5, 5), 7), 1)
    layers = (
        Layer("one", (3, 5, 5), replace(neuron(0.7, dv=0.2), **several), (Connection("input", first),), 1),
        Layer("two", down.out_shape, replace(neuron(0.7, dv=0.2), **several), (Connection("one", down),), 2),
        Layer("lif", (7,), neuron(0.8), (Connection("two", dense(rng, down.out_shape, 7)), skip), 3),
    )
    return Program("float", 1e-3, 4, (InputPort("input", shape, "spikes"),), layers, ("two", "lif"))


def run(program, inputs, timesteps=None):
    """Simulate ``inputs`` (T, B, *shape) in numpy, without delays, and keep the rasters."""
    steps, samples = inputs.shape[:2]
    port = program.inputs[0]
    sent = {port.name: inputs}
    layers = {}
    for layer in program.layers:
        u, v = np.zeros((samples, *layer.shape)), np.zeros((samples, *layer.shape))
        raster, active = np.zeros((steps, samples, *layer.shape), np.uint8), 0
        for t in range(steps):
            a = np.zeros_like(u)
            for connection in layer.connections:
                x = sent[connection.source][t]
                if connection.synapse is None:
                    a += x
                else:
                    a += (matrix(connection.synapse) @ x.reshape(samples, -1).T).T.reshape(a.shape)
            active += int(((a != 0) | (v != 0) | (u != 0)).sum())
            u = u * (1 - layer.neuron.du) + a
            v = v * (1 - layer.neuron.dv) + u + layer.neuron.bias
            raster[t] = v > layer.neuron.v_threshold
            v = np.where(raster[t], 0, v)
        sent[layer.name] = raster
        layers[layer.name] = Activity(raster.sum((0, 1), dtype=np.int64), active, raster)
    binary = bool(np.isin(inputs, (0, 1)).all())
    return SpikeRecord(
        "torch",
        "float",
        steps,
        samples,
        layers,
        {port.name: Activity((inputs != 0).sum((0, 1), dtype=np.int64), None, None, binary)},
    )


def images(program, samples=3, seed=1, scale=1.5):
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.normal(size=(samples, *program.inputs[0].shape)), 0) * scale
    return np.broadcast_to(x, (program.timesteps, *x.shape)).copy()


def products(synapse):
    """Iterate over (output index, input index, weight) of every product of a synapse."""
    if synapse.kind == "scale":
        weight = np.broadcast_to(synapse.weight, synapse.in_shape)
        yield from ((index, index, weight[index]) for index in np.ndindex(synapse.in_shape))
    elif synapse.kind == "dense":
        for row, column in np.ndindex(synapse.weight.shape):
            yield (row,), np.unravel_index(column, synapse.in_shape), synapse.weight[row, column]
    elif synapse.kind == "sparse":
        for row in range(synapse.out_size):
            for entry in range(synapse.indptr[row], synapse.indptr[row + 1]):
                yield (
                    np.unravel_index(row, synapse.out_shape),
                    np.unravel_index(synapse.indices[entry], synapse.in_shape),
                    synapse.weight[entry],
                )
    else:
        out_channels, group_in, *kernel = synapse.weight.shape
        for (o, *out), i, tap in itertools.product(
            np.ndindex(synapse.out_shape), range(group_in), np.ndindex(tuple(kernel))
        ):
            pixel = tuple(
                p * s - before + k * d
                for p, s, (before, _), k, d in zip(
                    out, synapse.stride, synapse.padding, tap, synapse.dilation, strict=True
                )
            )
            if all(0 <= p < n for p, n in zip(pixel, synapse.in_shape[1:], strict=True)):
                channel = o // (out_channels // synapse.groups) * group_in + i
                yield (o, *out), (channel, *pixel), synapse.weight[(o, i, *tap)]


HOST = (
    HostLayer("stem.conv1", dense_macs=62208, parameters=216, outputs=864, inputs=3072),
    HostLayer("W_in", dense_macs=3456, parameters=100, outputs=144, inputs=864),
    HostLayer("text", dense_macs=5000, parameters=900, outputs=128, inputs=24, part="text"),
)

SNN = LayerWorkload(
    "lif",
    "deployed",
    neurons=10,
    parameters=100,
    dense_macs=8000,
    kind="snn",
    inputs=10,
    effective_macs=0,
    effective_acs=2000,
    updates=80,
    updates_active=50,
    updates_inactive=30,
    update_multiplies=1,
    update_adds=2,
    state_variables=1,
    spikes=40,
    messages=60,
    firing_rate=0.5,
)
WORK = Workload(2, 4, (SNN,))
ANN = Workload(
    2, 1, (LayerWorkload("fc", "host", neurons=10, parameters=100, dense_macs=200, inputs=10, update_adds=2),)
)
