"""Random NIR graphs, and a plain numpy executor of programs, after `Program`'s docstring."""

from itertools import pairwise

import nir
import numpy as np

from ashneuro.program.synapse import matrix
from ashneuro.program.wiring import wire
from ashneuro.spiking.contract import Contract
from tests import reference

FIELDS = (
    *("if_convention", "integration", "start", "comparison", "reset", "reset_delay"),
    *("message", "message_limit"),
)


def define(graph, contract, inputs):
    """Return the values of every node of ``graph``, by definition, under ``contract``."""
    open_ends = {name: getattr(contract, name) for name in FIELDS}
    return reference.run_graph(graph, inputs, dt=contract.dt_s, **open_ends)


def run_program(program, inputs):
    """Return {layer: (T, B, *shape)} in sample time, by connections with their `Program.lag`."""
    steps, batch = next(iter(inputs.values())).shape[:2]
    integer = program.precision == "integer"
    sent = {port.name: port_values(port, inputs, steps, batch) for port in program.inputs}
    matrices = {id(c): matrix(c.synapse) for _, c in program.connections() if c.synapse is not None}
    for layer in program.layers:
        sent[layer.name] = np.zeros((steps, batch, layer.size), np.int64 if integer else np.float64)
    u = {layer.name: np.zeros((batch, layer.size), np.int64 if integer else np.float64) for layer in program.layers}
    v = {name: array.copy() for name, array in u.items()}
    for t in range(steps):
        for layer in program.layers:
            a = np.zeros((batch, layer.size), np.int64 if integer else np.float64)
            for connection in layer.connections:
                then = t - program.lag(layer, connection)
                if then < 0:
                    continue
                x = sent[connection.source][then]
                y = x if connection.synapse is None else (matrices[id(connection)] @ x.T).T
                exp = connection.weight_exp
                a += (y << exp if exp >= 0 else y >> -exp) if integer else y
            step = integer_step if integer else float_step
            u[layer.name], v[layer.name], out = step(layer, u[layer.name], v[layer.name], a)
            sent[layer.name][t] = out
    return {layer.name: sent[layer.name].reshape(steps, batch, *layer.shape) for layer in program.layers}


def port_values(port, inputs, steps, batch):
    if port.constant:
        return np.ones((steps, batch, 1), np.int64)
    values = inputs[port.name].reshape(steps, batch, -1)
    return values if not port.limit else np.clip(np.rint(values * port.scale), -port.limit, port.limit).astype(np.int64)


def parameters(layer):
    n = layer.neuron
    return (np.broadcast_to(p, layer.shape).ravel() for p in (n.du, n.dv, n.v_threshold, n.bias))


def graded(layer, x, active):
    """Return the values that a stateless layer sends where `active`."""
    limit = layer.neuron.message.limit
    return np.where(active, x if limit is None else np.minimum(x, int(limit) if x.dtype == int else limit), 0)


def float_step(layer, u, v, a):
    du, dv, threshold, bias = parameters(layer)
    if layer.neuron.graded:
        x = a + bias
        return (
            u,
            v,
            graded(layer, x, x >= threshold if layer.neuron.firing.comparison == "inclusive" else x > threshold),
        )
    before, u = v, u * (1 - du) + a
    v = v * (1 - dv) + u + bias
    if not layer.neuron.spiking:
        return u, v, v + np.broadcast_to(layer.neuron.v_origin, layer.shape).ravel()
    return u, *fire(layer, before, v, threshold, 1)


def fire(layer, before, v, threshold, unit):
    """Return (v after its reset, spikes); `before`: v of the last step."""
    firing, amount = layer.neuron.firing, layer.neuron.v_subtract

    def fires(v):
        return v >= threshold * unit if firing.comparison == "inclusive" else v > threshold * unit

    def after(v, spikes):
        lower = 0 if amount is None else v - np.broadcast_to(amount, layer.shape).ravel() * unit
        return np.where(spikes, lower, v)

    if layer.neuron.message.kind == "count":
        rows = [fires(v - k * amount * unit) for k in range(int(layer.neuron.message.limit or 50))]
        n = np.sum(rows, axis=0)
        return v - n * amount * unit, n
    if firing.reset_delay:
        v = after(v, fires(before))
        return v, fires(v)
    return after(v, fires(v)), fires(v)


def integer_step(layer, u, v, a):
    du, dv, threshold, bias = parameters(layer)

    def decay(x, d):
        return np.sign(x) * ((np.abs(x) * (4096 - d)) >> 12)

    if layer.neuron.graded:
        x = (a << 6) + (bias << layer.neuron.bias_exp)
        inclusive = layer.neuron.firing.comparison == "inclusive"
        return u, v, graded(layer, x >> 6, x >= threshold << 6 if inclusive else x > threshold << 6)
    u = decay(u, du + 1) + (a << 6)
    assert (np.abs(u) < 1 << 23).all(), "u wraps"
    before = v
    v = np.clip(decay(v, dv) + u + (bias << layer.neuron.bias_exp), -(2**23) + 1, 2**23 - 1)
    if not layer.neuron.spiking:
        return u, v, v
    return u, *fire(layer, before, v, threshold, 64)


# Graphs


def lif(shape, rng, uniform=False, **more):
    def draw(low, high):
        return np.full(shape, rng.uniform(low, high)) if uniform else rng.uniform(low, high, shape)

    values = {"tau": draw(2e-3, 1e-2), "r": draw(0.5, 2), "v_threshold": draw(0.1, 0.5)}
    return nir.LIF(**values | {"v_leak": np.zeros(shape), "v_reset": np.zeros(shape)} | more)


def cuba(shape, rng, **more):
    values = {name: rng.uniform(2e-3, 1e-2, shape) for name in ("tau_syn", "tau_mem")}
    values |= {"r": rng.uniform(0.5, 2, shape), "v_leak": np.zeros(shape), "v_threshold": rng.uniform(0.1, 0.5, shape)}
    return nir.CubaLIF(**values | {"v_reset": np.zeros(shape), "w_in": rng.uniform(0.5, 3, shape)} | more)


def population(rng, make, shape):
    """Return parameters that all neurons of a population share, as Loihi's integers need them."""
    names = {"tau": (3e-3, 1e-2)} if make is lif else {"tau_syn": (3e-3, 1e-2), "tau_mem": (3e-3, 1e-2), "w_in": (1, 3)}
    names |= {"r": (0.5, 2), "v_threshold": (0.1, 0.5)}
    return {name: np.full(shape, rng.uniform(*span)) for name, span in names.items()}


def affine(inputs, outputs, rng, gain=4.0):
    return nir.Affine(
        rng.standard_normal((outputs, inputs)) * gain / np.sqrt(inputs), rng.standard_normal(outputs) * 0.3
    )


def conv2d(channels_in, channels_out, spatial, rng, kernel=(3, 3), stride=1, padding=1, dilation=1, groups=1):
    weight = (
        rng.standard_normal((channels_out, channels_in // groups, *kernel))
        * 4
        / np.sqrt(channels_in * kernel[0] * kernel[1])
    )
    return nir.Conv2d(spatial, weight, stride, padding, dilation, groups, rng.standard_normal(channels_out) * 0.2)


def sending(node, message, **stated):
    """Return ``node`` with a kind of message, and what its metadata states of it."""
    node.metadata = {"ashneuro.message": message} | {f"ashneuro.message_{key}": value for key, value in stated.items()}
    return node


def chain(shape, *nodes, type_check=True):
    """Return the graph Input → nodes → Output, nodes called n0, n1, …"""
    names = [f"n{i}" for i in range(len(nodes))]
    path = ["input", *names, "output"]
    edges = list(pairwise(path))
    return graph_of({"input": shape, **dict(zip(names, nodes, strict=True))}, edges, type_check)


def foreign_graph(random):
    """Return a convolution, a dense layer and LIF neurons, without a word of ours."""

    def same(*shape):
        ones = np.ones(shape)
        return nir.LIF(tau=4e-3 * ones, r=2 * ones, v_leak=0 * ones, v_threshold=ones, v_reset=0 * ones)

    nodes = {
        "input": nir.Input(np.array([2, 8, 8])),
        "conv": nir.Conv2d((8, 8), random.normal(0, 0.5, (4, 2, 3, 3)), 2, 1, 1, 1, random.normal(0, 0.1, 4)),
        "lif1": same(4, 4, 4),
        "flat": nir.Flatten({"input": np.array([4, 4, 4])}, 0, -1),
        "fc": nir.Affine(random.normal(0, 0.3, (10, 64)), random.normal(0, 0.1, 10)),
        "lif2": same(10),
        "output": nir.Output(np.array([10])),
    }
    return nir.NIRGraph(nodes, list(pairwise(nodes)))


def graph_of(nodes, edges, type_check=False):
    """Return a graph; a tuple in place of a node is the shape of an Input."""
    made = {name: nir.Input(np.array(node)) if isinstance(node, tuple) else node for name, node in nodes.items()}
    wiring = wire(nir.NIRGraph(made | {"output": nir.Output(None)}, edges, type_check=False))
    made["output"] = nir.Output(np.array(wiring.in_shapes["output"]))
    return nir.NIRGraph(made, edges, type_check=type_check)


def analog(rng, steps, batch, shape, size=2.0):
    return rng.standard_normal((steps, batch, *shape)) * size


def spikes(rng, steps, batch, shape, rate=0.4):
    return (rng.random((steps, batch, *shape)) < rate).astype(float)


CONTRACT = Contract(dt_s=1e-3, timesteps=None)
