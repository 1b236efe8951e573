"""Random NIR graphs, and two executors in plain numpy float64: of a NIR graph by definition, of a Program by its docstring.

The graph executor walks the graph node by node and step by step and shares nothing with the compiler: convolutions and
pooling are torch's, in float64, and every neuron is spelt out.
"""

from itertools import pairwise

import nir
import numpy as np
import torch

from ashneuro.program.synapse import matrix
from ashneuro.program.wiring import wire
from ashneuro.spiking.contract import Contract

NEURONS = (nir.LIF, nir.CubaLIF, nir.IF, nir.LI, nir.CubaLI, nir.I, nir.Threshold)


def run_graph(graph, contract, inputs):
    """Return {name: (T, B, *shape)} of every neuron and Output of a flat graph; ``inputs`` (T, B, *shape) by Input name."""
    steps, batch = next(iter(inputs.values())).shape[:2]
    sources = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}
    fired, state, busy = {}, {}, set()

    def value(name, t):
        node = graph.nodes[name]
        if t < 0:
            return 0.0
        if isinstance(node, nir.Input):
            return inputs[name][t]
        if isinstance(node, nir.Delay):
            late = np.rint(node.delay / contract.dt_s).astype(int)
            return sum(np.where(late == k, total(name, t - k), 0.0) for k in np.unique(late))
        if not isinstance(node, NEURONS):
            return linear(node, total(name, t))
        if name in busy:  # it hears itself: the step before
            return fired.get((name, t - 1), 0.0)
        if (name, t) not in fired:
            busy.add(name)
            x = np.broadcast_to(total(name, t), (batch, *neuron_shape(node)))
            busy.remove(name)
            fired[name, t] = neuron_step(node, x, state.setdefault(name, {}), contract)
        return fired[name, t]

    def total(name, t):
        return sum(value(source, t) for source in sources[name]) if t >= 0 else 0.0

    ends = [name for name, node in graph.nodes.items() if isinstance(node, (*NEURONS, nir.Output))]
    rows = [{name: value(name, t) for name in ends} for t in range(steps)]
    return {name: np.stack([row[name] for row in rows]) for name in ends}


def in_reference(graph, contract):
    """Whether tests/reference.py defines ``graph`` too: one input, no loops, no delays, numbers for padding, IF per step."""
    known = (nir.Input, nir.Output, nir.Flatten, nir.Scale, nir.Linear, nir.Affine, nir.Conv2d, nir.LIF, nir.CubaLIF, nir.IF, nir.LI)
    plain = all(isinstance(node, known) and not isinstance(getattr(node, "padding", 0), str) for node in graph.nodes.values())
    order, left = [], list(graph.nodes)
    while ready := [name for name in left if all(a in order for a, b in graph.edges if b == name)]:
        order += ready
        left = [name for name in left if name not in ready]
    return plain and not left and len(graph.inputs) == 1 and contract.if_convention == "per-step"


def neuron_shape(node):
    return np.shape(node.threshold if isinstance(node, nir.Threshold) else node.r)


def neuron_step(node, x, state, contract):
    dt = contract.dt_s
    f = {name: np.asarray(value, np.float64) for name, value in vars(node).items() if isinstance(value, np.ndarray)}
    if isinstance(node, nir.Threshold):
        return (x > f["threshold"]).astype(float)
    leak = f.get("v_leak", 0.0)
    v = state.get("v", leak + np.zeros_like(f["r"]))
    if isinstance(node, nir.CubaLIF | nir.CubaLI):
        i = state.get("i", 0.0)
        state["i"] = x = i + dt / f["tau_syn"] * (-i + f["w_in"] * x)
        v = v + dt / f["tau_mem"] * (leak - v + f["r"] * x)
    elif isinstance(node, nir.LIF | nir.LI):
        v = v + dt / f["tau"] * (leak - v + f["r"] * x)
    else:
        v = v + f["r"] * x * (1.0 if contract.if_convention == "per-step" else dt)
    if isinstance(node, nir.LI | nir.CubaLI | nir.I):
        state["v"] = v
        return v
    z = v > f["v_threshold"]
    state["v"] = np.where(z, f["v_reset"], v)
    return z.astype(float)


def linear(node, x):
    if isinstance(node, nir.Output):
        return x
    if isinstance(node, nir.Affine | nir.Linear):
        x = np.zeros((1, node.weight.shape[-1])) + x  # before the first step x is a bare 0
        y = np.einsum("...oi,b...i->b...o", np.asarray(node.weight, np.float64), x)
        return y + np.asarray(getattr(node, "bias", 0.0), np.float64)
    if isinstance(node, nir.Scale):
        return x * np.asarray(node.scale, np.float64)
    if isinstance(node, nir.Flatten):
        return x.reshape(len(x), *np.asarray(node.output_type["output"]).astype(int))
    x = torch.from_numpy(np.ascontiguousarray(x, np.float64))
    if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
        kernel, stride, padding = (tuple(int(n) for n in values) for values in (node.kernel_size, node.stride, node.padding))
        factor = 1 if isinstance(node, nir.AvgPool2d) else kernel[0] * kernel[1]
        return torch.nn.functional.avg_pool2d(x, kernel, stride, padding).numpy() * factor
    weight, bias = (torch.from_numpy(np.asarray(values, np.float64)) for values in (node.weight, node.bias))
    function = torch.nn.functional.conv1d if isinstance(node, nir.Conv1d) else torch.nn.functional.conv2d
    return function(x, weight, bias, node.stride, node.padding, node.dilation, node.groups).numpy()


def run_program(program, inputs):
    """Return {layer: (T, B, *shape)} in sample time: connection by connection with `Program.lag`."""
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


def float_step(layer, u, v, a):
    du, dv, threshold, bias = parameters(layer)
    u = u * (1 - du) + a
    v = v * (1 - dv) + u + bias
    if not layer.neuron.spiking:
        return u, v, v + np.broadcast_to(layer.neuron.v_origin, layer.shape).ravel()
    spikes = v > threshold
    return u, np.where(spikes, 0.0, v), spikes


def integer_step(layer, u, v, a):
    du, dv, threshold, bias = parameters(layer)

    def decay(x, d):
        return np.sign(x) * ((np.abs(x) * (4096 - d)) >> 12)

    u = decay(u, du + 1) + (a << 6)
    assert (np.abs(u) < 1 << 23).all(), "u wraps"
    v = np.clip(decay(v, dv) + u + (bias << layer.neuron.bias_exp), -(2**23) + 1, 2**23 - 1)
    if not layer.neuron.spiking:
        return u, v, v
    spikes = v > threshold << 6
    return u, np.where(spikes, 0, v), spikes


# Graphs --------------------------------------------------------------------------------------------------------------


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
    return nir.Affine(rng.standard_normal((outputs, inputs)) * gain / np.sqrt(inputs), rng.standard_normal(outputs) * 0.3)


def conv2d(channels_in, channels_out, spatial, rng, kernel=(3, 3), stride=1, padding=1, dilation=1, groups=1):
    weight = rng.standard_normal((channels_out, channels_in // groups, *kernel)) * 4 / np.sqrt(channels_in * kernel[0] * kernel[1])
    return nir.Conv2d(spatial, weight, stride, padding, dilation, groups, rng.standard_normal(channels_out) * 0.2)


def chain(shape, *nodes, type_check=True):
    """Return the graph Input → nodes → Output, nodes called n0, n1, …"""
    names = [f"n{i}" for i in range(len(nodes))]
    path = ["input", *names, "output"]
    edges = list(pairwise(path))
    return graph_of({"input": shape, **dict(zip(names, nodes, strict=True))}, edges, type_check)


def graph_of(nodes, edges, type_check=False):
    """Return a graph; a tuple for a node is the shape of an Input; an Output takes the shape of what feeds it."""
    made = {name: nir.Input(np.array(node)) if isinstance(node, tuple) else node for name, node in nodes.items()}
    wiring = wire(nir.NIRGraph(made | {"output": nir.Output(None)}, edges, type_check=False))
    made["output"] = nir.Output(np.array(wiring.in_shapes["output"]))
    return nir.NIRGraph(made, edges, type_check=type_check)


def analog(rng, steps, batch, shape, size=2.0):
    return rng.standard_normal((steps, batch, *shape)) * size


def spikes(rng, steps, batch, shape, rate=0.4):
    return (rng.random((steps, batch, *shape)) < rate).astype(float)


CONTRACT = Contract(dt_s=1e-3, timesteps=None)
