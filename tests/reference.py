"""The definition that every simulator, kernel and exporter is tested against: numpy, float64, one step at a time.

Arrays are time-first: (T, ...). State starts at v = v_leak and I = 0. Parameters broadcast to one step's shape (...).
Nothing here imports ashneuro.
"""

from __future__ import annotations

from collections.abc import Mapping

import nir
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def lif(
    x: ArrayLike,
    *,
    tau: ArrayLike,
    dt: float,
    v_threshold: ArrayLike = 1.0,
    r: ArrayLike = 1.0,
    v_leak: ArrayLike = 0.0,
    v_reset: ArrayLike = 0.0,
) -> tuple[Array, Array]:
    """Return spikes z and potentials v after reset, both (T, ...), of currents x (T, ...)."""
    x = np.asarray(x, np.float64)
    v = np.broadcast_to(np.asarray(v_leak, np.float64), x.shape[1:])
    spikes, potentials = np.zeros_like(x), np.zeros_like(x)
    for t, current in enumerate(x):
        v = v + dt / np.asarray(tau) * (np.asarray(v_leak) - v + np.asarray(r) * current)
        spikes[t] = v > np.asarray(v_threshold)
        v = potentials[t] = np.where(spikes[t] == 1, v_reset, v)
    return spikes, potentials


def cuba_lif(
    x: ArrayLike,
    *,
    tau_mem: ArrayLike,
    tau_syn: ArrayLike,
    dt: float,
    v_threshold: ArrayLike = 1.0,
    r: ArrayLike = 1.0,
    w_in: ArrayLike = 1.0,
    v_leak: ArrayLike = 0.0,
    v_reset: ArrayLike = 0.0,
) -> tuple[Array, Array]:
    """Return spikes and potentials after reset, both (T, ...), of inputs x (T, ...): the new current drives the membrane."""
    current = li(x, tau=tau_syn, dt=dt, r=w_in)
    return lif(current, tau=tau_mem, dt=dt, v_threshold=v_threshold, r=r, v_leak=v_leak, v_reset=v_reset)


def if_(x: ArrayLike, *, v_threshold: ArrayLike = 1.0, r: ArrayLike = 1.0, v_reset: ArrayLike = 0.0) -> tuple[Array, Array]:
    """Return spikes and potentials after reset, both (T, ...): v grows by r·x once per step."""
    x = np.asarray(x, np.float64)
    v = np.zeros(x.shape[1:])
    spikes, potentials = np.zeros_like(x), np.zeros_like(x)
    for t, current in enumerate(x):
        v = v + np.asarray(r) * current
        spikes[t] = v > np.asarray(v_threshold)
        v = potentials[t] = np.where(spikes[t] == 1, v_reset, v)
    return spikes, potentials


def li(x: ArrayLike, *, tau: ArrayLike, dt: float, r: ArrayLike = 1.0, v_leak: ArrayLike = 0.0) -> Array:
    """Return potentials (T, ...) of a leaky integrator that never spikes."""
    x = np.asarray(x, np.float64)
    v = np.broadcast_to(np.asarray(v_leak, np.float64), x.shape[1:])
    potentials = np.zeros_like(x)
    for t, current in enumerate(x):
        v = potentials[t] = v + dt / np.asarray(tau) * (np.asarray(v_leak) - v + np.asarray(r) * current)
    return potentials


def conv2d(x: Array, node: nir.Conv2d) -> Array:
    """Return cross-correlation plus bias of x (..., C_in, H, W), by one product per kernel position."""
    weight = np.asarray(node.weight, np.float64)
    c_out, per_group, kh, kw = weight.shape
    (ph, pw), (sh, sw), (dh, dw) = (np.broadcast_to(value, 2).tolist() for value in (node.padding, node.stride, node.dilation))
    x = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(ph, ph), (pw, pw)])
    height, width = (x.shape[-2] - dh * (kh - 1) - 1) // sh + 1, (x.shape[-1] - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((*x.shape[:-3], c_out, height, width))
    out_per_group = c_out // int(node.groups)
    for o in range(c_out):
        first = (o // out_per_group) * per_group
        for i, k, j in np.ndindex(per_group, kh, kw):
            window = x[..., first + i, k * dh : k * dh + sh * height : sh, j * dw : j * dw + sw * width : sw]
            y[..., o, :, :] += weight[o, i, k, j] * window[..., :height, :width]
    return y + np.asarray(node.bias, np.float64).reshape(-1, 1, 1)


def run_graph(graph: nir.NIRGraph, x: ArrayLike, *, dt: float) -> Mapping[str, Array]:
    """Return the output (T, B, ...) of every node of a feed-forward `graph`, whose one input gets x (T, B, *shape)."""
    outputs: dict[str, Array] = {}
    waiting = dict(graph.nodes)
    while waiting:
        ready = [name for name in waiting if all(source in outputs for source, target in graph.edges if target == name)]
        assert ready, f"the graph is recurrent, or a source is missing: {sorted(waiting)}"
        for name in ready:
            sources = [outputs[source] for source, target in graph.edges if target == name]
            outputs[name] = _run_node(waiting.pop(name), np.asarray(x, np.float64) if not sources else sum(sources), dt)
    return outputs


def _run_node(node: nir.NIRNode, x: Array, dt: float) -> Array:
    match node:
        case nir.Input() | nir.Output():
            return x
        case nir.Flatten():
            return x.reshape(*x.shape[:2], -1)
        case nir.Scale():
            return x * node.scale
        case nir.Linear():
            return x @ np.asarray(node.weight, np.float64).T
        case nir.Affine():
            return x @ np.asarray(node.weight, np.float64).T + node.bias
        case nir.Conv2d():
            return conv2d(x, node)
        case nir.LIF():
            return lif(x, tau=node.tau, dt=dt, v_threshold=node.v_threshold, r=node.r, v_leak=node.v_leak, v_reset=node.v_reset)[0]
        case nir.CubaLIF():
            return cuba_lif(
                x,
                tau_mem=node.tau_mem,
                tau_syn=node.tau_syn,
                dt=dt,
                v_threshold=node.v_threshold,
                r=node.r,
                w_in=node.w_in,
                v_leak=node.v_leak,
                v_reset=node.v_reset,
            )[0]
        case nir.IF():
            return if_(x, v_threshold=node.v_threshold, r=node.r, v_reset=node.v_reset)[0]
        case nir.LI():
            return li(x, tau=node.tau, dt=dt, r=node.r, v_leak=node.v_leak)
    raise NotImplementedError(type(node).__name__)
