"""NIR form of the neurons of one module, from decays and gains per step.

Frameworks write their neurons as sums per step. With decay d, gain g and input x_t::

    v_t = v_{t−1} + d·(v_leak − v_{t−1}) + g·x_t     LIF:  τ = dt/d,  r = g/d
    v_t = v_{t−1} + g·x_t                            d = 0: IF with r = g
    I_t = (1 − d_syn)·I_{t−1} + g_syn·x_t            τ_syn = dt/d_syn,  w_in = g_syn/d_syn

Graphs made from them are integrated with Euler steps, so that dt/τ is the decay that a module
computes, whatever it calls its time constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from ashneuro.spiking.contract import PREFIX, Start
from ashneuro.spiking.firing import Firing

Shape = tuple[int, ...]


class Untranslatable(Exception):
    """A module has no NIR form: why, and what helps."""

    def __init__(self, why: str, do: str) -> None:
        super().__init__(why, do)
        self.why, self.do = why, do


@dataclass(frozen=True, eq=False)
class Population:
    """NIR nodes of one neuron module.

    Args:
        nodes: by name within the population; ``""`` are the neurons themselves.
        edges: between these nodes.
        enter: the node that the module's input reaches.
        gives: for each tensor that the module returns, the node whose values it holds; ``None``:
            state that no node sends. States that a list does not name are ``None``.
        start: v at the start of a sample, where it matters.
        shape: the population's shape; ``None``: that of its input.
        caveat: where the nodes may differ from the module, and what helps.
    """

    nodes: Mapping[str, Any]
    edges: tuple[tuple[str, str], ...] = ()
    enter: str = ""
    gives: tuple[str | None, ...] = ("",)
    start: Start | None = None
    shape: Shape | None = None
    caveat: tuple[str, str] | None = None


@dataclass(frozen=True, eq=False)
class Membrane:
    """Membrane potentials per step, each value a number or one per neuron.

    Args:
        decay: d, from 0 (no leak) to 1.
        gain: g.
        leak: resting potential.
        syn_decay, syn_gain: of a synaptic current that drives it; ``None``: the input does.
    """

    decay: Any
    gain: Any = 1.0
    leak: Any = 0.0
    syn_decay: Any = None
    syn_gain: Any = 1.0


@dataclass(frozen=True, eq=False)
class Spiking:
    """Threshold and reset of neurons that spike; values as in `Membrane`.

    Args:
        most: largest number of spikes in one step; ``None``: as many as the threshold fits into v.
    """

    threshold: Any
    firing: Firing
    v_reset: Any = 0.0
    most: int | None = 1


def array(value: Any) -> NDArray[np.float64]:
    """Return a number or tensor as float64."""
    return np.asarray(value.detach().cpu().double().numpy() if hasattr(value, "detach") else value, np.float64)


def spread(value: Any, shape: Shape) -> NDArray[np.float64]:
    """Return ``value`` with one number per neuron.

    Raises:
        Untranslatable: it does not broadcast to the population's shape.
    """
    numbers = array(value)
    # A parameter may be stored with an axis for the batch, (1, n).
    while numbers.ndim > len(shape) and numbers.shape[0] == 1:
        numbers = numbers[0]
    try:
        return np.broadcast_to(numbers, shape).copy()
    except ValueError:
        why = f"a parameter has shape {numbers.shape}, the neurons have {shape}"
        raise Untranslatable(why, "give one number, or one per neuron") from None


def population(shape: Shape, dt_s: float, membrane: Membrane, spiking: Spiking | None, **others: Any) -> Population:
    """Return the form of neurons; of a read-out without ``spiking``.

    Args:
        shape: shape of the population, without batch and time.
        dt_s: duration of a step, seconds.
        others: ``start`` and ``gives`` of `Population`.

    Raises:
        Untranslatable: some neurons leak and some do not, or a synaptic current never decays.
    """
    decay, gain, leak = (spread(value, shape) for value in (membrane.decay, membrane.gain, membrane.leak))
    filtered = membrane.syn_decay is not None
    leaks = bool((decay > 0).all())
    if not leaks and (decay > 0).any():
        raise Untranslatable("some of its neurons leak, and some do not", "split it into two modules")
    if not leaks and leak.any():
        raise Untranslatable("a resting potential without a leak", "give every neuron a decay below 1")
    fields: dict[str, Any] = {"r": gain / decay if leaks else gain}
    if leaks:
        fields |= {"v_leak": leak}
    current = {}
    if filtered:
        syn_decay, syn_gain = spread(membrane.syn_decay, shape), spread(membrane.syn_gain, shape)
        if not (syn_decay > 0).all():
            raise Untranslatable("its synaptic current never decays", "give the current a decay below 1")
        current = {"tau_syn": dt_s / syn_decay, "w_in": syn_gain / syn_decay}
    if spiking is not None:
        fields |= {"v_threshold": spread(spiking.threshold, shape), "v_reset": spread(spiking.v_reset, shape)}
        fields |= {"metadata": firing_metadata(spiking.firing) | count_metadata(spiking.most)}
    if not leaks:
        neurons = nir.IF(**fields) if spiking else nir.I(**fields)
        if not filtered:
            return Population({"": neurons}, **others)
        # The current of an IF is a leaky integrator in front of it.
        front = nir.LI(current["tau_syn"], current["w_in"], np.zeros(shape))
        return Population({"syn": front, "": neurons}, (("syn", ""),), "syn", **others)
    tau = dt_s / decay
    if filtered:
        kind: Any = nir.CubaLIF if spiking else nir.CubaLI
        return Population({"": kind(tau_mem=tau, **current, **fields)}, **others)
    kind = nir.LIF if spiking else nir.LI
    return Population({"": kind(tau=tau, **fields)}, **others)


def firing_metadata(firing: Firing) -> dict[str, Any]:
    """Return comparison and reset of a neuron as metadata of its node."""
    return {
        PREFIX + "comparison": firing.comparison,
        PREFIX + "reset": firing.reset,
        PREFIX + "reset_delay": firing.reset_delay,
    }


def count_metadata(most: int | None) -> dict[str, Any]:
    """Return the message of neurons that spike up to ``most`` times in a step, as metadata."""
    if most == 1:
        return {}
    limit = {} if most is None else {PREFIX + "message_limit": most}
    return {PREFIX + "message": "count", **limit}


def without_reset(readout: Population, threshold: Any, states: int, shape: Shape) -> Population:
    """Return neurons that spike while v > ``threshold`` and are never reset: the read-out of v, and
    a Threshold behind it.

    Args:
        readout: a population that sends v.
        states: number of states that the module returns behind its spikes; v is the last.
    """
    nodes = {**readout.nodes, "spikes": nir.Threshold(spread(threshold, shape))}
    gives = ("spikes", *[None] * (states - 1), "")
    return Population(nodes, (*readout.edges, ("", "spikes")), readout.enter, gives)


def recurrent(own: Population, weights: Any) -> Population:
    """Return ``own`` with a node that carries its spikes back to its input, one step late."""
    edges = (*own.edges, ("", "w_rec"), ("w_rec", own.enter))
    return replace(own, nodes={**own.nodes, "w_rec": weights}, edges=edges)


def behind(weights: Any, own: Population, shape: Shape) -> Population:
    """Return ``own``, of ``shape``, with its module's input weights in front."""
    edges = (*own.edges, ("w_in", own.enter))
    return replace(own, nodes={**own.nodes, "w_in": weights}, edges=edges, enter="w_in", shape=shape)


def linear_node(weight: Any, bias: Any = None) -> Any:
    """Return an Affine, or a Linear if there is no bias."""
    return nir.Linear(array(weight)) if bias is None else nir.Affine(array(weight), array(bias))


def conv_node(weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int, shape: Shape) -> Any:
    """Return a Conv1d or Conv2d on inputs of ``shape`` (C, \\*spatial)."""
    kernel = array(weight)
    offset = np.zeros(len(kernel)) if bias is None else array(bias)
    if kernel.ndim == 3:
        stride, dilation = _first(stride), _first(dilation)
        padding = padding if isinstance(padding, str) else _first(padding)
        return nir.Conv1d(int(shape[1]), kernel, stride, padding, dilation, groups, offset)
    padding = padding if isinstance(padding, str) else pair(padding)
    size = (int(shape[1]), int(shape[2]))
    return nir.Conv2d(size, kernel, pair(stride), padding, pair(dilation), groups, offset)


def pair(value: Any) -> tuple[int, int]:
    """Return the values for rows and columns of a size that may be one number for both."""
    values = [int(v) for v in np.ravel(value)]
    return (values[0], values[-1])


def _first(value: Any) -> int:
    return int(np.ravel(value)[0])


def module_node(module: Any, shape: Shape) -> Any:
    """Return the node of a torch.nn.Linear or Conv on its own.

    Raises:
        Untranslatable: it is another module.
    """
    kind = type(module).__name__
    if kind == "Linear":
        return linear_node(module.weight, module.bias)
    if kind in ("Conv1d", "Conv2d") and module.padding_mode == "zeros":
        geometry = (module.stride, module.padding, module.dilation, module.groups)
        return conv_node(module.weight, module.bias, *geometry, shape)
    raise Untranslatable(f"its recurrent connection is a {kind}", "use torch.nn.Linear or Conv2d there")


@dataclass(frozen=True, eq=False)
class Adapter:
    """A framework: its neurons, and how they are called.

    Args:
        package: its top-level package.
        name: its name in words.
        distribution: its name among installed packages.
        neurons: by class name, a function (module, shape, dt_s) → `Population`. It may raise
            `Untranslatable`.
        marks: class names that mark any neuron of the framework, in a module's base classes.
        layout: axes of a neuron's input, from the module: ``("B",)`` one step, ``("T", "B")``,
            ``("B", "T")`` or ``("BT",)`` whole samples.
        reset: put a neuron's state back to its start.
        dt_s: duration of a step that a neuron states itself; ``None``: it counts steps.
        fits: why a neuron cannot run over samples of these sizes (T and B); empty if it can.
        double: turn what ``module.double()`` misses into float64.
        state_argument: a step of the whole network takes the state of the step before, and returns
            it.
        refused: why neurons of a class have no form, and what helps, by class name.
    """

    package: str
    name: str
    distribution: str
    neurons: Mapping[str, Any]
    marks: frozenset[str]
    layout: Any
    reset: Any = lambda module: None
    dt_s: Any = lambda module: None
    fits: Any = lambda module, sizes: ""
    double: Any = lambda module: None
    state_argument: bool = False
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
