"""What a NIR graph must be so that it can be lowered: each rule is a function whose docstring is the sentence the user sees.

A rule yields what breaks it: the node, the value found, and what to do. It looks only at what earlier rules leave known, so
all of them run and everything is reported at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from ashneuro.program.program import Shape
from ashneuro.program.rules.finding import Finding
from ashneuro.program.wiring import (
    COUNTS,
    PARAMETERS,
    READ_OUT,
    Wiring,
    delay_steps,
    nir_type,
    numbers,
    unreadable,
    walk,
    window,
    wire,
)
from ashneuro.spiking.contract import Contract


@dataclass(frozen=True)
class Trouble:
    """One node that breaks a rule: the value found with its limit, and the remedy."""

    node: str
    actual: str
    remedy: str
    level: str = "error"


Rule = Callable[[Wiring, Contract], Iterator[Trouble]]


def free_names(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """No node takes the name of the line that carries biases, or of a node inside a nested graph."""
    for name in wiring.taken:
        yield Trouble(name, "the name is taken", "rename the node")


def known_primitive(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """Every node is a primitive of NIR 1.0.8."""
    for name in wiring.named("unknown"):
        node = wiring.nodes[name]
        what = (
            "the exporter left it empty: it has no NIR form for this module"
            if node is None
            else f"it is a {nir_type(node)}"
        )
        if not unreadable(node):
            yield Trouble(name, what, "replace the module by layers that have a NIR primitive, and export again")


def readable_parameters(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """Parameters are numeric, and whole where they count something: strides, kernels, groups, dimensions, shapes."""
    for name in wiring.named("unknown"):
        actual = unreadable(wiring.nodes[name])
        if actual:
            yield Trouble(name, actual, "export the graph again")


def edge_ends(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """Both ends of every edge are nodes of the graph."""
    for a, b in wiring.dangling:
        missing = ", ".join(name for name in (a, b) if name not in wiring.nodes)
        yield Trouble(
            f"{a} → {b}", f"there is no node {missing}", "export the graph again, or name an existing node in the edge"
        )


def single_edges(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """No edge occurs twice: a sum of a value with itself is a Scale."""
    for a, b in wiring.doubled:
        yield Trouble(f"{a} → {b}", "it occurs more than once", "keep one edge, or put a Scale between the two nodes")


def subgraph_ends(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """A nested graph has exactly one Input and one Output, so that edges to it say where they lead."""
    for name in wiring.broken_subgraphs:
        yield Trouble(name, "it has none, or more than one", "give the nested graph one Input and one Output")


def ends(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """A graph has at least one Input and one Output."""
    for role, kind in (("input", "Input"), ("output", "Output")):
        if role not in wiring.roles.values():
            yield Trouble("graph", f"there is no {kind}", f"add a nir.{kind} with the shape of the data")


def fed(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """Something feeds every node except an Input, and no Output feeds anything."""
    fed_nodes = {b for _, b in wiring.edges} | {b for _, b in wiring.dangling}
    for name in wiring.nodes:
        if wiring.roles[name] != "input" and name not in fed_nodes:
            yield Trouble(name, "no edge leads to it", "add the edge that feeds it, or remove the node")
    for a, b in wiring.edges:
        if wiring.roles[b] == "input":
            yield Trouble(f"{a} → {b}", f"{b} is an Input", "lead the edge to the node behind the Input")
        if wiring.roles[a] == "output":
            yield Trouble(f"{a} → {b}", f"{a} is an Output", "start the edge at the node in front of the Output")


def used(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """What a node computes reaches a neuron or an Output; otherwise it is left out. An Input must be used."""
    useful = set(walk(wiring, wiring.named("output", "neuron"), "sources"))
    for name in wiring.nodes:
        if name not in useful and wiring.roles[name] != "unknown":
            level = "error" if wiring.roles[name] == "input" else "note"
            yield Trouble(name, "nothing follows it", "connect it, or remove it from the graph", level)


def input_is_computed(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """An Output gives what neurons or layers compute, not the input itself."""
    for name in wiring.named("output"):
        passed = [a for a in wiring.sources(name) if wiring.roles[a] == "input"]
        if passed and len(wiring.sources(name)) == 1:
            yield Trouble(
                name,
                f"it is fed by {passed[0]} alone",
                "put a layer between the Input and the Output, or remove the Output",
            )


def population_shape(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """The parameters of a neuron have the shape of its population: a scalar does not say how many neurons there are."""
    for name in wiring.named("neuron", "delay"):
        if wiring.in_shapes[name] is None:
            first = PARAMETERS[type(wiring.nodes[name])][0]
            yield Trouble(name, f"{first} is a scalar", "write every parameter with one value per neuron")


def agreeing_shapes(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """An edge joins equal shapes."""
    for a, b in wiring.edges:
        given, taken = wiring.out_shapes[a], wiring.in_shapes[b]
        if given is not None and taken is not None and given != taken:
            same_size = np.prod(given) == np.prod(taken)
            remedy = (
                f"put a Flatten between {a} and {b}"
                if same_size and len(taken) == 1
                else f"mend the shape of {a} or {b}"
            )
            yield Trouble(f"{a} → {b}", f"{a} gives {_text(given)}, {b} takes {_text(taken)}", remedy)


def known_shapes(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """The shape of what every node takes and gives follows from its parameters and from the nodes before it."""
    for name in wiring.named("linear", "input", "output", "pass"):
        node, taken = wiring.nodes[name], wiring.in_shapes[name]
        if taken is None and wiring.roles[name] == "input":
            yield Trouble(name, "the Input has no shape", "give it the shape of one sample at one step")
        elif isinstance(node, nir.Affine | nir.Linear) and np.ndim(node.weight) < 2:
            yield Trouble(name, f"the weight has shape {_text(np.shape(node.weight))}", "give it the shape (out, in)")
        elif taken is None and isinstance(node, nir.Scale):
            yield Trouble(name, "scale is a scalar", "write one value per element")
        elif taken is not None and wiring.out_shapes[name] is None:
            yield Trouble(
                name,
                f"nothing is left of an input of shape {_text(taken)}",
                "mend its kernel, stride, padding or dimensions",
            )
        elif taken is None and all(wiring.out_shapes[source] is not None for source in wiring.sources(name)):
            yield Trouble(
                name, "its input has no shape", "write input_shape, or feed it from a node whose shape is known"
            )


def numbers_fit(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """The parameters of a node fit each other: weights, bias, groups, kernel, stride, padding, and one shape for all of a neuron's."""
    for name, node in wiring.nodes.items():
        if wiring.roles[name] != "unknown" and (type(node) in PARAMETERS or type(node) in COUNTS):
            actual = _misfit(node, wiring.in_shapes[name], wiring.out_shapes[name])
            if actual:
                yield Trouble(name, actual, "mend the parameters and export again")


def finite_numbers(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """Every parameter is a finite number."""
    for name, node in wiring.nodes.items():
        for parameter in PARAMETERS.get(type(node), ()) if wiring.roles[name] != "unknown" else ():
            count = int((~np.isfinite(numbers(node, parameter))).sum())
            if count:
                yield Trouble(
                    name, f"{parameter} has {count} values that are NaN or infinite", "train again, or mend the values"
                )


def time_constants(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """Every time constant is longer than 0, and with Euler steps at least one step: a step longer than τ oscillates."""
    euler = contract.integration == "euler"
    for name in wiring.named("neuron"):
        node = wiring.nodes[name]
        for parameter in ("tau", "tau_mem", "tau_syn"):
            if hasattr(node, parameter):
                tau = numbers(node, parameter)
                if tau.size and not ((tau > 0) & ((tau >= contract.dt_s * (1 - 1e-6)) | (not euler))).all():
                    unit = f"smallest {parameter} = {np.min(tau):.4g} s, dt = {contract.dt_s:.4g} s"
                    remedy = (
                        "--dt SECONDS, no longer than the smallest time constant"
                        if np.min(tau) > 0
                        else "mend the time constants"
                    )
                    yield Trouble(name, unit, remedy)


def resets_at_once(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """A spike sets v to v_reset in its own step, as in Lava: no reset by subtraction, and none that comes later."""
    said = "reset by subtraction" if contract.reset == "subtract" else ""
    said = said or (f"the reset comes {contract.reset_delay} step(s) late" if contract.reset_delay else "")
    for name in wiring.named("neuron") if said else []:
        if hasattr(wiring.nodes[name], "v_reset"):
            yield Trouble(
                name, said, "train with a reset to a value in the step of the spike (see docs/nir.md), or --reset value"
            )


def start_value(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """A neuron starts every sample where its spikes reset it to, as Lava's does: where it rests, or anywhere with --start v_reset."""
    for name in wiring.named("neuron"):
        node = wiring.nodes[name]
        if contract.start == "v_reset" or not hasattr(node, "v_reset"):
            continue
        reset = numbers(node, "v_reset")
        leak = numbers(node, "v_leak") if hasattr(node, "v_leak") else np.zeros_like(reset)
        if reset.shape == leak.shape and not (reset == leak).all():
            actual = f"v_reset = {_range(reset)}, " + (
                f"v_leak = {_range(leak)}" if hasattr(node, "v_leak") else "it rests at 0"
            )
            yield Trouble(name, actual, "--start v_reset, if samples may start there, or train with v_reset = v_leak")


def loops_through_neurons(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """A loop passes through a neuron, and a loop through several neurons says with a Delay which of its edges is late."""
    neurons = set(wiring.named("neuron"))
    for members in _loops([(a, b) for a, b in wiring.edges if not {a, b} & neurons]):
        yield Trouble(members[0], f"{', '.join(members)} feed each other", "put a neuron into the loop")
    late = {
        name for name in wiring.named("delay") if (numbers(wiring.nodes[name], "delay") >= contract.dt_s * 0.9999).all()
    }
    for members in _loops([(a, b) for a, b in wiring.edges if a not in late]):
        several = [name for name in members if name in neurons]
        if len(several) > 1:
            remedy = "put a nir.Delay of one step or more on the edge that leads back"
            yield Trouble(several[0], f"{', '.join(several)} feed each other", remedy)


def whole_delays(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """A delay is a whole number of steps, neither negative nor more than 2^31."""
    for name in wiring.named("delay"):
        steps = delay_steps(wiring.nodes[name], contract.dt_s)
        fits = (steps >= 0) & (steps < 2**31) & (steps == np.rint(steps))
        if not fits.all():
            actual = f"{steps[~fits].flat[0]:.4g} steps of {contract.dt_s:.4g} s"
            yield Trouble(name, actual, "--dt SECONDS, or a delay that is a multiple of dt")


def undelayed_bias(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """No bias passes a Delay: it would start late, and a neuron's bias cannot."""
    for name in wiring.named("delay"):
        before = [source for source in _linear_before(wiring, name) if hasattr(wiring.nodes[source], "bias")]
        before = [
            source
            for source in before
            if wiring.roles[source] == "linear" and numbers(wiring.nodes[source], "bias").any()
        ]
        if before and np.any(numbers(wiring.nodes[name], "delay")):
            yield Trouble(
                name, f"the bias of {', '.join(before)} passes it", "put the Delay in front of the layer with the bias"
            )


def read_outs_end(wiring: Wiring, contract: Contract) -> Iterator[Trouble]:
    """A read-out (LI, CubaLI, I) is all that reaches its Output: its membrane potential goes nowhere else, and into no sum."""
    for name in wiring.named("neuron"):
        if isinstance(wiring.nodes[name], READ_OUT):
            after = [
                target
                for target in _after(wiring, name)
                if wiring.roles[target] != "output" or wiring.only_neuron(target) != name
            ]
            if after:
                yield Trouble(
                    name, f"it feeds {', '.join(after)}", "let the host compute what follows the read-out, or use LIF"
                )


GRAPH_RULES: Mapping[str, Rule] = {
    "free_names": free_names,
    "known_primitive": known_primitive,
    "readable_parameters": readable_parameters,
    "edge_ends": edge_ends,
    "single_edges": single_edges,
    "subgraph_ends": subgraph_ends,
    "ends": ends,
    "fed": fed,
    "used": used,
    "input_is_computed": input_is_computed,
    "population_shape": population_shape,
    "known_shapes": known_shapes,
    "agreeing_shapes": agreeing_shapes,
    "numbers_fit": numbers_fit,
    "finite_numbers": finite_numbers,
    "time_constants": time_constants,
    "resets_at_once": resets_at_once,
    "start_value": start_value,
    "loops_through_neurons": loops_through_neurons,
    "whole_delays": whole_delays,
    "undelayed_bias": undelayed_bias,
    "read_outs_end": read_outs_end,
}


def graph_findings(graph: nir.NIRGraph | Wiring, contract: Contract) -> list[Finding]:
    """Return everything that `GRAPH_RULES` have to say about a graph, in the rules' order."""
    wiring = wire(graph)
    return [
        Finding(
            trouble.node,
            nir_type(wiring.nodes[trouble.node])
            if trouble.node in wiring.nodes
            else "edge"
            if "→" in trouble.node
            else "NIRGraph",
            rule,
            sentence(function),
            trouble.level,
            trouble.actual,
            trouble.remedy,
        )
        for rule, function in GRAPH_RULES.items()
        for trouble in function(wiring, contract)
    ]


def sentence(function: Callable[..., Any]) -> str:
    """Return the first paragraph of a rule's docstring as one line."""
    return " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())


def _misfit(node: Any, in_shape: Shape | None, out_shape: Shape | None) -> str:
    try:
        if isinstance(node, nir.Conv1d | nir.Conv2d):
            return _conv_misfit(node, in_shape)
        if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
            slide = window(node)
            if min(slide.kernel + slide.stride) < 1 or min(sum(slide.padding, ())) < 0:
                return f"kernel {slide.kernel}, stride {slide.stride}, padding {slide.padding}"
            return (
                f"its input has shape {_text(in_shape)}, not (C, H, W)"
                if in_shape is not None and len(in_shape) != 3
                else ""
            )
        if isinstance(node, nir.Flatten):
            dims = f"dimensions {node.start_dim} to {node.end_dim} of shape {_text(in_shape)}"
            return dims if in_shape is not None and out_shape is None else ""
        if isinstance(node, nir.Affine) and out_shape is not None:
            np.broadcast_to(np.asarray(node.bias), out_shape)
            return ""
        shapes = {np.shape(getattr(node, name)) for name in PARAMETERS[type(node)]}
        neuron = type(node) in PARAMETERS and hasattr(node, "v_leak") | hasattr(node, "r")
        return (
            f"its parameters have shapes {', '.join(map(_text, sorted(shapes)))}" if neuron and len(shapes) > 1 else ""
        )
    except (ValueError, TypeError, IndexError) as error:
        return str(error)


def _conv_misfit(node: nir.Conv1d | nir.Conv2d, in_shape: Shape | None) -> str:
    axes = 1 if isinstance(node, nir.Conv1d) else 2
    shape, groups = np.shape(node.weight), int(node.groups)
    if len(shape) != 2 + axes:
        return f"the weight has shape {_text(shape)}, not (C_out, C_in / groups, {axes} kernel axes)"
    if groups < 1 or shape[0] % groups:
        return f"{shape[0]} output channels do not divide into {groups} groups"
    slide = window(node)
    if min(slide.stride + slide.dilation) < 1 or min(sum(slide.padding, ())) < 0:
        return f"stride {slide.stride}, dilation {slide.dilation}, padding {slide.padding}"
    if str(node.padding) == "same" and max(slide.stride) > 1:
        return f"padding 'same' with stride {slide.stride}"
    if np.shape(node.bias) not in ((), (1,), (shape[0],)):
        return f"biases of shape {_text(np.shape(node.bias))} for {shape[0]} output channels"
    if in_shape is not None and in_shape[0] != shape[1] * groups:
        return f"it takes {shape[1] * groups} channels ({groups} groups of {shape[1]}), its input has {in_shape[0]}"
    return ""


def _linear_before(wiring: Wiring, name: str) -> list[str]:
    """Return the nodes between ``name`` and the neurons and inputs that it comes from."""
    found: dict[str, None] = {}
    queue = wiring.sources(name)
    while queue:
        source = queue.pop()
        if source not in found and wiring.roles[source] not in ("neuron", "input"):
            found[source] = None
            queue.extend(wiring.sources(source))
    return list(found)


def _after(wiring: Wiring, name: str) -> list[str]:
    """Return what ``name`` feeds, seen through the ends of nested graphs and reshaping."""
    found: dict[str, None] = {}
    queue, seen = wiring.targets(name), set[str]()
    while queue:
        target = queue.pop()
        if target in seen:
            continue
        seen.add(target)
        if wiring.only_passes(target):
            queue.extend(wiring.targets(target))
        else:
            found[target] = None
    return list(found)


def _loops(edges: list[tuple[str, str]]) -> Iterator[list[str]]:
    """Yield the nodes of every knot of loops."""
    names = list(dict.fromkeys(name for edge in edges for name in edge))
    if not names:
        return
    index = {name: i for i, name in enumerate(names)}
    joins = csr_matrix(
        (np.ones(len(edges)), ([index[a] for a, _ in edges], [index[b] for _, b in edges])), shape=(len(names),) * 2
    )
    _, knot = connected_components(joins, directed=True, connection="strong")
    alone = {a for a, b in edges if a == b}
    for number, size in enumerate(np.bincount(knot)):
        members = [names[i] for i in np.flatnonzero(knot == number)]
        if size > 1 or members[0] in alone:
            yield members


def _text(shape: tuple[int, ...] | None) -> str:
    return "×".join(map(str, shape)) if shape else "()"


def _range(values: Any) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:.6g}" if low == high else f"{low:.6g} … {high:.6g}"
