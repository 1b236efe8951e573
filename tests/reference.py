"""Reference of every simulator, kernel and exporter: numpy, float64, one timestep at a time.

Arrays are time-first: (T, ...). State starts at v = v_leak and I = 0. Parameters broadcast to the
shape (...) of one timestep. Nothing here imports ashneuro.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import nir
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Inputs = ArrayLike | Mapping[str, ArrayLike]
Reset = Literal["value", "subtract"]
TIE = 2.0**-36  # a graph's potentials that are so near to the threshold, relative to it, are equal to it


def integrate(v: Array, x: Any, *, decay: Any, r: Any = 1.0, v_leak: Any = 0.0) -> Array:
    """Return a leaky potential one step later: v + decay · (v_leak − v + r·x)."""
    return v + decay * (np.asarray(v_leak) - v + np.asarray(r) * x)


def fire(v: Array, v_threshold: Any, v_reset: Any, reset: Reset = "value") -> tuple[NDArray[np.bool_], Array]:
    """Return spikes, and v after the reset: to v_reset, or by subtraction of v_threshold."""
    z = v > np.asarray(v_threshold)
    return z, np.where(z, v - np.asarray(v_threshold) if reset == "subtract" else v_reset, v)


def lif(
    x: ArrayLike,
    *,
    tau: ArrayLike,
    dt: float,
    v_threshold: ArrayLike = 1.0,
    r: ArrayLike = 1.0,
    v_leak: ArrayLike = 0.0,
    v_reset: ArrayLike = 0.0,
    reset: Reset = "value",
) -> tuple[Array, Array]:
    """Return spikes z and potentials v after reset, both (T, ...), of currents x (T, ...)."""
    x = np.asarray(x, np.float64)
    v = np.broadcast_to(np.asarray(v_leak, np.float64), x.shape[1:])
    spikes, potentials = np.zeros_like(x), np.zeros_like(x)
    for t, current in enumerate(x):
        v = integrate(v, current, decay=dt / np.asarray(tau), r=r, v_leak=v_leak)
        spikes[t], v = fire(v, v_threshold, v_reset, reset)
        potentials[t] = v
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
    reset: Reset = "value",
) -> tuple[Array, Array]:
    """Return spikes and potentials after reset, both (T, ...), of inputs x (T, ...).

    The membrane is driven by the synaptic current of the same timestep.
    """
    current = li(x, tau=tau_syn, dt=dt, r=w_in)
    return lif(current, tau=tau_mem, dt=dt, v_threshold=v_threshold, r=r, v_leak=v_leak, v_reset=v_reset, reset=reset)


def if_(
    x: ArrayLike, *, v_threshold: ArrayLike = 1.0, r: ArrayLike = 1.0, v_reset: ArrayLike = 0.0, reset: Reset = "value"
) -> tuple[Array, Array]:
    """Return spikes and potentials after reset, both (T, ...); v grows by r·x per timestep."""
    x = np.asarray(x, np.float64)
    v = np.zeros(x.shape[1:])
    spikes, potentials = np.zeros_like(x), np.zeros_like(x)
    for t, current in enumerate(x):
        spikes[t], v = fire(v + np.asarray(r) * current, v_threshold, v_reset, reset)
        potentials[t] = v
    return spikes, potentials


def li(x: ArrayLike, *, tau: ArrayLike, dt: float, r: ArrayLike = 1.0, v_leak: ArrayLike = 0.0) -> Array:
    """Return potentials (T, ...) of a leaky integrator that never spikes."""
    x = np.asarray(x, np.float64)
    v = np.broadcast_to(np.asarray(v_leak, np.float64), x.shape[1:])
    potentials = np.zeros_like(x)
    for t, current in enumerate(x):
        v = potentials[t] = integrate(v, current, decay=dt / np.asarray(tau), r=r, v_leak=v_leak)
    return potentials


def changes(x: ArrayLike, *, threshold: ArrayLike = 0.0, bias: ArrayLike = 0.0, sums: bool = True) -> Array:
    """Return the changes (T, ...) that neurons send: Lava's SigmaDelta with a ReLU, or its Delta.

    Args:
        sums: they sum their input, and send changes of max(sum + bias, 0); else of x itself.
    """
    x = np.asarray(x, np.float64)
    values = np.maximum(x.cumsum(0) + np.asarray(bias), 0) if sums else x
    state, sent = None, np.zeros_like(x)
    for t, value in enumerate(values):
        state, sent[t] = delta(state, value, np.asarray(threshold))
    return sent


def graded(x: ArrayLike, *, threshold: ArrayLike = 0.0, limit: float = np.inf) -> Array:
    """Return the values (T, ...) that stateless neurons send: min(x, limit) where x > threshold,
    else 0.
    """
    x = np.asarray(x, np.float64)
    return np.where(x > np.asarray(threshold), np.minimum(x, limit), 0.0)


def levels(x: ArrayLike, step: float, largest: int, jump: float = 0.0) -> Array:
    """Return x rounded to a multiple of ``step``, half up, at most ``largest`` of them.

    It is 0 where x is at most ``jump``. Quotients within 2^-30 of a half count as halves.
    """
    x = np.asarray(x, np.float64)
    rounded = np.clip(np.floor(x / step + 0.5 + 2.0**-30), 0, largest) * step
    return np.where(x > jump * (1 + TIE), rounded, 0.0)


def delta(state: Any, y: Array, threshold: Any, cumulative: bool = False) -> tuple[Any, Array]:
    """Return (state, changes sent) of Lava's Delta for the value y of one timestep.

    A state of None starts a sample. With a cumulative error, this decides what is sent.
    """
    before, residue, error = (np.zeros_like(y),) * 3 if state is None else state
    change = y - before + residue
    error = error + change
    sent = np.where(np.abs(error if cumulative else change) >= threshold, change, 0.0)
    return (y, change - sent, np.where(sent != 0, 0.0, error)), sent


def convolve(x: Array, weight: Array, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    """Return the cross-correlation of x with weight, product by product.

    Args:
        x: (B, C_in, *spatial).
        weight: (C_out, C_in / groups, *kernel).
        padding: a number per axis, "valid", or "same": the output is as large as the input, and odd
            padding has its extra element at the end, as in torch.
    """
    kernel = weight.shape[2:]
    axes = range(len(kernel))
    steps, gaps = (np.broadcast_to(value, len(kernel)).tolist() for value in (stride, dilation))
    if isinstance(padding, str):
        missing = [gaps[a] * (kernel[a] - 1) * (padding == "same") for a in axes]
        pads = [(n // 2, n - n // 2) for n in missing]
    else:
        pads = [(int(n), int(n)) for n in np.broadcast_to(padding, len(kernel))]
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    sizes = [(x.shape[2 + a] - gaps[a] * (kernel[a] - 1) - 1) // steps[a] + 1 for a in axes]
    y = np.zeros((len(x), len(weight), *sizes))
    for o in range(len(weight)):
        first = o // (len(weight) // groups) * weight.shape[1]
        for i, *tap in np.ndindex(weight.shape[1], *kernel):
            window = tuple(slice(tap[a] * gaps[a], tap[a] * gaps[a] + steps[a] * sizes[a], steps[a]) for a in axes)
            y[:, o] += (
                weight[(o, i, *tap)] * x[(slice(None), first + i, *window)][(slice(None), *(slice(n) for n in sizes))]
            )
    return y


def run_graph(
    graph: nir.NIRGraph,
    x: Inputs,
    *,
    dt: float,
    if_convention: Literal["per-step", "per-second"] = "per-step",
    integration: Literal["euler", "exponential"] = "euler",
    start: Literal["v_leak", "v_reset"] = "v_leak",
    comparison: Literal["strict", "inclusive"] = "strict",
    reset: Literal["value", "subtract"] = "value",
    reset_delay: int = 0,
    message: Literal["spike", "count"] = "spike",
    message_limit: int | None = None,
) -> Mapping[str, Array]:
    """Return the output (T, B, ...) of every node of `graph`, step by step.

    A node of a nested graph is called "graph.node". A neuron that feeds itself receives its spikes
    of the timestep before, or of k timesteps before through a Delay of k ≥ 1. A Delay gives 0 until
    its input arrives.

    Args:
        x: (T, B, *shape), or such arrays by name of the Input.
        if_convention: IF adds r·x or dt·r·x.
        integration: a leaky state has the decay dt/τ or 1 − e^(−dt/τ).
        start: v starts at v_leak (0 for IF) or at v_reset.
        comparison: a neuron spikes at v > v_threshold or at v ≥ v_threshold.
        reset: a spike sets v to v_reset, or subtracts v_threshold.
        reset_delay: 0, or 1: the reset acts on the potential of the next step, before it is
            compared.
            All three may be in a neuron's own metadata, as "ashneuro.reset" etc. A Threshold with
            "ashneuro.message" = "graded" sends min(x, "ashneuro.message_limit") instead of 1, and
            one with "change" sends changes, see `delta`.
        message, message_limit: "count": a neuron that resets by subtraction spikes once for each
            v_threshold in v, at most message_limit times. They may be in a neuron's metadata.
            "ashneuro.dynamics" = "refractory" holds v for "ashneuro.refractory_steps" steps after
            a spike; "ternary" sends −1 at v < v_reset − "ashneuro.threshold_below", and resets
            there, too; "adaptive" has "ashneuro.tau_threshold", "ashneuro.tau_refractory" and
            "ashneuro.threshold_step"; "resonate" and "izhikevich" have "ashneuro.period",
            and "ashneuro.imaginary": names of nodes that feed their imaginary part.
    """
    nodes, edges = _flat(graph)
    names = [
        name for name, node in nodes.items() if isinstance(node, nir.Input) and not any(b == name for _, b in edges)
    ]
    given = {
        name: np.asarray(values, np.float64)
        for name, values in (x if isinstance(x, Mapping) else {names[0]: x}).items()
    }
    steps, batch = next(iter(given.values())).shape[:2]
    sent: dict[tuple[str, int], Array] = {}
    decay = (lambda tau: dt / tau) if integration == "euler" else (lambda tau: 1 - np.exp(-dt / tau))
    state: dict[str, Any] = {}

    def output(name: str, t: int, asking: tuple[str, ...]) -> Array:
        """Return the output of `name` at step t; `asking`: neurons whose inputs are summed."""
        node = nodes[name]
        if name in given:
            return given[name][t]
        if isinstance(node, nir.Delay):
            late = np.rint(np.asarray(node.delay, np.float64) / dt).astype(int)
            result = np.zeros((batch, *late.shape))
            for k in np.unique(late[late <= t]):
                result = np.where(late == k, total(name, t - k, () if k else asking), result)
            return result
        if not isinstance(node, NEURONS):
            return _linear(node, total(name, t, asking))
        if name in asking:
            return sent[name, t - 1] if t else np.zeros((batch, *_population(node)))
        if (name, t) not in sent:
            arriving = total(name, t, (*asking, name))
            firing = {"comparison": comparison, "reset": reset, "reset_delay": reset_delay}
            firing |= {"message": message, "message_limit": message_limit}
            stated = {key.removeprefix("ashneuro."): value for key, value in (node.metadata or {}).items()}
            firing |= {key: stated[key] for key in firing if key in stated}
            state[name], sent[name, t] = _step(node, state.get(name), arriving, dt, if_convention, decay, start, firing)
        return sent[name, t]

    def total(name: str, t: int, asking: tuple[str, ...]) -> Array:
        stated = (getattr(nodes[name], "metadata", None) or {}).get("ashneuro.imaginary", "")
        inside = name[: name.rfind(".") + 1]
        turned = tuple(f"{inside}{one.strip()}." for one in stated.split(",") if one)
        return sum(
            (output(a, t, asking) * (1j if f"{a}.".startswith(turned) else 1) for a, b in edges if b == name),
            np.zeros(()),
        )

    rows = [{name: output(name, t, ()) for name in nodes} for t in range(steps)]
    return {name: np.stack([row[name] for row in rows]) for name in nodes}


NEURONS = (nir.LIF, nir.CubaLIF, nir.IF, nir.LI, nir.CubaLI, nir.I, nir.Threshold)


def _flat(graph: nir.NIRGraph) -> tuple[dict[str, nir.NIRNode], list[tuple[str, str]]]:
    """Return nodes and edges of `graph`, nested graphs flattened; their Input and Output stay."""
    nodes: dict[str, nir.NIRNode] = {}
    edges: list[tuple[str, str]] = []
    entry, leave = {}, {}
    for name, node in graph.nodes.items():
        entry[name] = leave[name] = name
        if not isinstance(node, nir.NIRGraph):
            nodes[name] = node
            continue
        inner, inside = _flat(node)
        nodes |= {f"{name}.{key}": value for key, value in inner.items()}
        edges += [(f"{name}.{a}", f"{name}.{b}") for a, b in inside]
        entry[name], leave[name] = (
            f"{name}.{next(key for key, value in node.nodes.items() if isinstance(value, kind))}"
            for kind in (nir.Input, nir.Output)
        )
    return nodes, edges + [(leave[a], entry[b]) for a, b in graph.edges]


def _population(node: nir.NIRNode) -> tuple[int, ...]:
    return np.shape(node.threshold if isinstance(node, nir.Threshold) else node.r)


def _step(
    node: nir.NIRNode,
    state: Any,
    x: Array,
    dt: float,
    if_convention: str,
    decay: Callable[[Array], Array],
    start: str,
    firing: Mapping[str, Any],
) -> tuple[Any, Array]:
    """Return (state, output) of a neuron after one step; a state of None starts a sample."""
    p = {name: np.asarray(value, np.float64) for name, value in vars(node).items() if isinstance(value, np.ndarray)}
    rest = p.get("v_leak", 0.0)
    first = p.get("v_reset", rest) if start == "v_reset" else rest
    stated = {key.removeprefix("ashneuro."): value for key, value in (getattr(node, "metadata", None) or {}).items()}
    dynamics = stated.get("dynamics", "lif")
    if dynamics in ("resonate", "izhikevich"):
        return _resonate(node, state, x, p, dt, if_convention, decay)
    current, v, *more = (0.0, np.zeros_like(x) + first, None) if state is None else state
    inclusive, before = firing["comparison"] == "inclusive", v

    def fires(v: Array, name: str = "v_threshold", times: int = 1) -> NDArray[np.bool_]:
        tie = TIE * np.maximum(np.abs(p[name]), np.maximum(np.abs(rest), np.abs(first)))
        return v >= times * p[name] - tie if inclusive else v > times * p[name] + tie

    def after(v: Array, z: NDArray[np.bool_]) -> Array:
        return np.where(z, v - p["v_threshold"] if firing["reset"] == "subtract" else p["v_reset"], v)

    match node:
        case nir.Threshold():
            z = fires(x, "threshold")
            if stated.get("message") == "graded":
                return None, np.where(z, np.minimum(x, stated.get("message_limit", np.inf)), 0.0)
            if stated.get("message") == "change":
                y = np.maximum(x, 0) if stated.get("message_activation", "none") == "relu" else x
                if stated.get("message_activation") == "levels":
                    largest = 2 ** (stated.get("message_bits", 16) - 1) - 1
                    y = levels(x, stated["message_limit"] / largest, largest, stated.get("message_jump", 0.0))
                return delta(state, y, p["threshold"] * (1 - TIE), cumulative=stated.get("message_cumulative", False))
            return None, z.astype(float)
        case nir.CubaLIF() | nir.CubaLI():
            current = integrate(current, x, decay=decay(p["tau_syn"]), r=p["w_in"])
            v = integrate(v, current, decay=decay(p["tau_mem"]), r=p["r"], v_leak=rest)
        case nir.LIF() | nir.LI():
            v = integrate(v, x, decay=decay(p["tau"]), r=p["r"], v_leak=rest)
        case nir.IF() | nir.I():
            v = v + p["r"] * x * (dt if if_convention == "per-second" else 1.0)
    if isinstance(node, nir.LI | nir.CubaLI | nir.I):
        return (current, v), v
    if dynamics == "refractory":
        quiet = np.zeros_like(x) if more[0] is None else more[0]  # steps that v is still held for
        v = np.where(quiet > 0, before, v)
        z = fires(v)
        quiet = np.where(z, stated["refractory_steps"], np.maximum(quiet - 1, 0))
        return (current, np.where(z, p["v_reset"], v), quiet), z.astype(float)
    if dynamics == "ternary":
        low = stated["threshold_below"] + TIE * np.maximum(
            np.abs(p["v_threshold"]), np.maximum(np.abs(rest), np.abs(first))
        )
        z = fires(v).astype(float) - (v < p["v_reset"] - low)
        return (current, np.where(z != 0, p["v_reset"], v)), z
    if dynamics == "adaptive":
        first = p["v_threshold"] - TIE * p["v_threshold"]
        theta, r = (first + 0 * x, 0 * x) if more[0] is None else more[0]
        theta = (1 - decay(np.asarray(stated["tau_threshold"]))) * (theta - first) + first
        r = (1 - decay(np.asarray(stated["tau_refractory"]))) * r
        z = v - r >= theta
        return (current, v, (theta + stated["threshold_step"] * z, r + 2 * theta * z)), z.astype(float)
    if firing["message"] == "count":
        n, most = np.zeros_like(x), firing["message_limit"]
        while (more_spikes := fires(v, times=int(n.max()) + 1)).any() and (most is None or n.max() < most):
            n = n + more_spikes
        return (current, v - n * p["v_threshold"]), n
    if firing["reset_delay"]:
        v = after(v, fires(before))
        return (current, v), fires(v).astype(float)
    z = fires(v)
    return (current, after(v, z)), z.astype(float)


def _resonate(
    node: nir.NIRNode,
    state: Array | None,
    x: Array,
    p: dict[str, Array],
    dt: float,
    if_convention: str,
    decay: Callable[[Array], Array],
) -> tuple[Array, Array]:
    """Return (complex state, output): Lava's RF and RF_IZ."""
    z = np.zeros_like(x, complex) if state is None else state
    before, lost = z, decay(p["tau"]) if "tau" in p else 0.0
    gain = lost if "tau" in p else dt if if_convention == "per-second" else 1.0
    turn = (1 - lost) * np.exp(2j * np.pi * dt / np.asarray(node.metadata["ashneuro.period"]))
    z = turn * z + gain * p["r"] * x
    threshold = p["v_threshold"] * (1 - TIE)
    if node.metadata["ashneuro.dynamics"] == "resonate":
        return z, ((z.real >= threshold) & (z.imag >= 0) & (before.imag < 0)).astype(float)
    spikes = z.imag >= threshold
    return np.where(spikes, 1j * (threshold - 1e-5), z), spikes.astype(float)


def _linear(node: nir.NIRNode, x: Array) -> Array:
    match node:
        case nir.Input() | nir.Output():
            return x
        case nir.Flatten():
            start, end = (int(axis) % (x.ndim - 1) + 1 for axis in (node.start_dim, node.end_dim))
            return x.reshape(*x.shape[:start], -1, *x.shape[end + 1 :])
        case nir.Scale():
            return x * np.asarray(node.scale, np.float64)
        case nir.Linear() | nir.Affine():
            y = np.einsum("...oi,b...i->b...o", np.asarray(node.weight, np.float64), x)
            return y + np.asarray(getattr(node, "bias", 0.0), np.float64)
        case nir.Conv1d() | nir.Conv2d():
            y = convolve(
                x, np.asarray(node.weight, np.float64), node.stride, node.padding, node.dilation, int(node.groups)
            )
            return y + np.asarray(node.bias, np.float64).reshape(-1, *[1] * (y.ndim - 2))
        case nir.SumPool2d() | nir.AvgPool2d():
            kernel = np.broadcast_to(node.kernel_size, 2)
            ones = np.ones((x.shape[1], 1, *kernel)) / (1 if isinstance(node, nir.SumPool2d) else kernel.prod())
            return convolve(x, ones, node.stride, node.padding, 1, x.shape[1])
    raise NotImplementedError(type(node).__name__)
