"""Rules that a NIR graph keeps to be lowered; their docstrings are shown to users.

A rule yields the nodes that break it, with the value found and the remedy. It skips what earlier
rules have reported (missing shapes, unknown nodes), so that all rules run and everything is
reported at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import nir
import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from ashneuro.program.filters import feeding_read_outs, filter_fault, filtered_by, synaptic_filters
from ashneuro.program.foreign import INSTEAD_OF_OTHERS, instead_of
from ashneuro.program.primitives import PARAMETERS, READ_OUT, WHOLE_PARAMETERS, delay_steps, nir_type, numbers, window
from ashneuro.program.program import Shape
from ashneuro.program.rules.finding import Finding, Violation, apply_rules, range_text, shape_text
from ashneuro.program.shapes import ELEMENTWISE, PORTS, WINDOWED, axes_in_front
from ashneuro.program.wiring import FIRING_FIELDS, Wiring, node_dynamics, node_imaginary, unreadable, walk, wire
from ashneuro.spiking.contract import PREFIX, Contract
from ashneuro.spiking.dynamics import DYNAMICS
from ashneuro.spiking.firing import LIF_FIRING

Rule = Callable[[Wiring, Contract], Iterator[Violation]]


def free_names(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """Node names are unique once nested graphs are opened; "always-on" is reserved for the line
    that carries biases.
    """
    for name in wiring.taken:
        yield Violation(name, "the name is taken", "rename the node")


def known_primitive(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """Every node is a primitive of NIR 1.0.8."""
    for name in wiring.named("unknown"):
        node = wiring.nodes[name]
        if unreadable(node):
            continue
        if node is None:
            actual = "the exporter left it empty: it has no NIR form for this module"
            yield Violation(name, actual, INSTEAD_OF_OTHERS)
        else:
            yield Violation(name, f"it is a {nir_type(node)}", instead_of(nir_type(node)))


def readable_parameters(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """Parameters are numeric; strides, kernels, groups, dimensions and shapes are whole numbers.
    Fields of ashneuro in a neuron's metadata are those that its kind has.
    """
    for name in wiring.named("unknown"):
        fault = unreadable(wiring.nodes[name])
        if fault is not None:
            yield Violation(name, fault.why, fault.remedy)


def edge_ends(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """Both ends of every edge are nodes of the graph."""
    remedy = "export the graph again, or name an existing node in the edge"
    for a, b in wiring.dangling:
        missing = ", ".join(name for name in (a, b) if name not in wiring.nodes)
        yield Violation(f"{a} → {b}", f"there is no node {missing}", remedy)


def single_edges(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """No edge occurs twice: a value added to itself is a Scale."""
    for a, b in wiring.doubled:
        yield Violation(f"{a} → {b}", "it occurs more than once", "keep one edge, or put a Scale between the two nodes")


def subgraph_ends(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """A nested graph has exactly one Input and one Output: edges to it lead nowhere else."""
    for name in wiring.broken_subgraphs:
        yield Violation(name, "it has none, or more than one", "give the nested graph one Input and one Output")


def ends(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """A graph has at least one Input and one Output; a missing one is added where a single node can
    be next to it.
    """
    for role, kind, way in (("input", "Input", "from it to"), ("output", "Output", "to it from")):
        unread = any(type(wiring.nodes[name]).__name__ == kind for name in wiring.named("unknown"))
        if role not in wiring.roles.values() and not unread:
            ends = {edge[role == "input"] for edge in wiring.edges}
            free = [name for name in wiring.nodes if name not in ends]
            actual = f"there is no {kind}" + (f", and {', '.join(free)} could be next to it" if free else "")
            yield Violation("graph", actual, f"add a nir.{kind} with the shape of the data, and an edge {way} its node")


def fed(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """Every node has an incoming edge, except an Input, which has none; an Output feeds no node."""
    fed_nodes = {b for _, b in wiring.edges} | {b for _, b in wiring.dangling}
    for name in wiring.nodes:
        if not isinstance(wiring.nodes[name], nir.Input) and name not in fed_nodes:
            yield Violation(name, "no edge leads to it", "add the edge that feeds it, or remove the node")
    for a, b in wiring.edges:
        if wiring.roles[b] == "input":
            yield Violation(f"{a} → {b}", f"{b} is an Input", "lead the edge to the node behind the Input")
        if wiring.roles[a] == "output":
            yield Violation(f"{a} → {b}", f"{a} is an Output", "start the edge at the node in front of the Output")


def used(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """Every node leads to a neuron or an Output; others are dropped. An Input must be used."""
    # Neurons stay even if nothing reads them: their spikes are part of the record.
    useful = set(walk(wiring, wiring.named("output", "neuron"), "sources"))
    for name in wiring.nodes:
        role = wiring.roles[name]
        if name not in useful and role != "unknown":
            remedy = "connect it, or remove it from the graph"
            yield Violation(name, "nothing follows it", remedy, "error" if role == "input" else "note")


def input_is_computed(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """An Output is fed by neurons or layers, not by an Input alone."""
    remedy = "put a layer between the Input and the Output, or remove the Output"
    for name in wiring.named("output"):
        sources = wiring.sources(name)
        if len(sources) == 1 and wiring.roles[sources[0]] == "input":
            yield Violation(name, f"it is fed by {sources[0]} alone", remedy)


def follows_from_graph(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """Shapes that a file leaves open follow from its edges; axes of batch and time (of size 1) are
    left out.
    """
    for mending in wiring.mended:
        yield Violation(mending.node, mending.what, "nothing to do", "note")


def population_shape(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """Parameters of neurons, delays and scales have the population's shape; single values are
    enough next to a node whose shape is known.
    """
    for name in wiring.named("neuron", "delay", "linear"):
        if wiring.in_shapes[name] is None and isinstance(wiring.nodes[name], ELEMENTWISE):
            first = PARAMETERS[type(wiring.nodes[name])][0]
            remedy = "write one value per neuron, or give the Input the shape of one sample at one step"
            yield Violation(name, f"{first} is a scalar, and no edge says how many there are", remedy)


def agreeing_shapes(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """Both ends of an edge have the same shape."""
    # Shapes that are not known are the subject of `known_shapes`.
    for a, b in wiring.edges:
        given, taken = wiring.out_shapes[a], wiring.in_shapes[b]
        if given is None or taken is None or given == taken:
            continue
        actual = f"{a} gives {shape_text(given)}, {b} takes {shape_text(taken)}"
        yield Violation(f"{a} → {b}", actual, _shape_remedy(wiring, a, b))


def _shape_remedy(wiring: Wiring, a: str, b: str) -> str:
    """Return the remedy where ``a`` gives another shape than ``b`` takes."""
    given, taken = wiring.out_shapes[a], wiring.in_shapes[b]
    assert given is not None and taken is not None
    mended = any(mending.node == a for mending in wiring.mended)
    if taken == (1, *given) and type(wiring.nodes[b]) in WINDOWED and not mended:
        return f"{b} has one channel: give {a} the shape {shape_text(taken)}"
    if isinstance(wiring.nodes[a], nir.Flatten) and taken == (math.prod(given),):
        return f"set start_dim of {a} to 0 and end_dim to -1"
    if isinstance(wiring.nodes[b], ELEMENTWISE) and len(given) > 1 and taken == given[:1]:
        shape = (*taken, *[1] * (len(given) - 1))
        return f"if {b} has one value per channel, give its parameters the shape {shape_text(shape)}"
    if isinstance(wiring.nodes[b], (*ELEMENTWISE, *PORTS)) and math.prod(given) == math.prod(taken) and len(taken) > 1:
        what = f"the parameters of {b}" if isinstance(wiring.nodes[b], ELEMENTWISE) else b
        return f"give {what} the shape {shape_text(given)}"
    longer, axes = (a, axes_in_front(given, taken)) if len(given) > len(taken) else (b, axes_in_front(taken, given))
    if axes:
        if len(axes) > 1:
            what, they, hold = f"axes {shape_text(axes)} of {longer} are axes of batch or time", "them", "they hold"
        else:
            what, they, hold = f"axis of {axes[0]} of {longer} is an axis of batch or time", "it", "it holds"
        return (
            f"if the leading {what}, remove {they} and export with one sample: shapes are those of one sample at one "
            f"step; if {hold} channels, give them to {a} and {b} alike"
        )
    if len(taken) == 1 and math.prod(given) == math.prod(taken):
        return f"put a Flatten between {a} and {b}"
    return f"correct the shape of {a} or {b}"


def known_shapes(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """The shapes of every node follow from its parameters and from the nodes next to it."""
    for name in wiring.named("linear", "input", "output", "pass"):
        node, taken = wiring.nodes[name], wiring.in_shapes[name]
        if isinstance(node, ELEMENTWISE):
            continue  # `population_shape`
        if taken is None and wiring.roles[name] == "input":
            remedy = "give it the shape of one sample at one step, without axes of batch and time"
            yield Violation(name, "the Input has no shape, and what follows it does not say one", remedy)
        elif isinstance(node, nir.Affine | nir.Linear) and np.ndim(node.weight) < 2:
            actual = f"the weight has shape {shape_text(np.shape(node.weight))}"
            yield Violation(name, actual, "give it the shape (out, in)")
        elif isinstance(node, nir.Flatten) and taken is not None and wiring.out_shapes[name] is None:
            actual = f"dimensions {node.start_dim} to {node.end_dim} of an input of shape {shape_text(taken)}"
            remedy = "set start_dim and end_dim to axes of the shape, which has none of batch or time: 0 and -1 for all"
            yield Violation(name, actual, remedy)
        elif taken is not None and wiring.out_shapes[name] is None:
            actual = f"nothing is left of an input of shape {shape_text(taken)}"
            yield Violation(name, actual, "correct its kernel, stride, padding or dimensions")
        elif taken is None and all(wiring.out_shapes[source] is not None for source in wiring.sources(name)):
            remedy = "write input_shape, or feed it from a node whose shape is known"
            yield Violation(name, "its input has no shape", remedy)


def numbers_fit(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """The parameters of a node fit each other: weight, bias, groups, kernel, stride, padding; those
    of a neuron have one shape.
    """
    for name, node in wiring.nodes.items():
        if wiring.roles[name] != "unknown" and (type(node) in PARAMETERS or type(node) in WHOLE_PARAMETERS):
            misfit = _misfit(node, wiring.in_shapes[name], wiring.out_shapes[name])
            if misfit is not None:
                yield Violation(name, *misfit)


def finite_numbers(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """Every parameter is finite."""
    for name, node in wiring.nodes.items():
        for parameter in PARAMETERS.get(type(node), ()) if wiring.roles[name] != "unknown" else ():
            count = int((~np.isfinite(numbers(node, parameter))).sum())
            if count:
                actual = f"{parameter} has {count} values that are NaN or infinite"
                remedy = "train again with a lower learning rate, or replace the values"
                if any(np.isposinf(numbers(node, tau)).any() for tau in ("tau", "tau_mem") if hasattr(node, tau)):
                    remedy = "write neurons that do not leak as an IF, or give them a finite time constant"
                yield Violation(name, actual, remedy)


def time_constants(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """Time constants are positive and, with Euler steps, at least dt: a step longer than τ
    oscillates.
    """
    # Files often hold τ and dt as float32 and float64 of the same number.
    shortest = contract.dt_s * (1 - 1e-6) if contract.integration == "euler" else 0.0
    for name in wiring.named("neuron"):
        node = wiring.nodes[name]
        for parameter in ("tau", "tau_mem", "tau_syn"):
            tau = numbers(node, parameter) if hasattr(node, parameter) else np.ones(0)
            if tau.size and not ((tau > 0) & (tau >= shortest)).all():
                actual = f"smallest {parameter} = {np.min(tau):.4g} s, dt = {contract.dt_s:.4g} s"
                remedy = "give time constants above 0"
                if np.min(tau) > 0:
                    remedy = "--dt SECONDS, no longer than the smallest time constant"
                yield Violation(name, actual, remedy)


def reset_in_time(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """A reset takes effect in the step of the spike, or one step later."""
    for name in wiring.named("neuron"):
        delay = wiring.firing(name, contract).reset_delay
        if delay > 1 and hasattr(wiring.nodes[name], "v_reset"):
            remedy = "train with a reset in the step of the spike or in the next one"
            yield Violation(name, f"the reset comes {delay} steps late", remedy)


def dynamics_parameters(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """Parameters of further dynamics are one number, or one per neuron: whole steps of at least 1,
    time constants of at least dt (Euler steps), amounts of v of at least 0, thresholds above 0,
    periods of at least 4 steps.
    """
    dt = contract.dt_s * (1 - 1e-6)
    least = {"steps": 1.0, "tau": dt if contract.integration == "euler" else 1e-300, "v": 0.0, "turn": 4 * dt}
    least["threshold"] = 1e-300
    for name in wiring.named("neuron"):
        dynamics, stated = node_dynamics(wiring.nodes[name])
        for key, values in stated.items():
            kind = DYNAMICS[dynamics].parameters[key].kind
            if values.shape not in ((), (1,), wiring.in_shapes[name]):
                remedy = f"write {PREFIX}{key} as one number, or as one per neuron"
                yield Violation(name, f"{key} has shape {shape_text(values.shape)}", remedy)
            elif not (np.isfinite(values) & (values >= least[kind])).all() or (
                kind == "steps" and (values != np.rint(values)).any()
            ):
                sense = {
                    "steps": "whole steps from 1 on",
                    "tau": "a time constant of at least dt",
                    "v": "at least 0",
                    "threshold": "above 0",
                    "turn": "a period of at least 4 steps",
                }
                remedy = f"correct {PREFIX}{key} in the node's metadata: {sense[kind]}"
                yield Violation(name, f"{key} = {range_text(values)}", remedy)


def dynamics_firing(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """A refractory or ternary neuron spikes at v > v_threshold and resets v to v_reset in the same
    step; the v_threshold of a ternary one is above v_reset. An adaptive, resonate or izhikevich
    neuron rests at 0: v_leak = v_reset = 0, v_threshold > 0, and it states no comparison or reset.
    The latter two have no synaptic current.
    """
    for name in wiring.named("neuron"):
        node, firing = wiring.nodes[name], wiring.firing(name, contract)
        dynamics, _ = node_dynamics(node)
        if dynamics != "lif" and DYNAMICS[dynamics].resets and firing != LIF_FIRING:
            actual = f"comparison {firing.comparison}, reset {firing.reset}, {firing.reset_delay} step(s) late"
            own = [PREFIX + field for field in FIRING_FIELDS if PREFIX + field in node.metadata]
            remedy = "--comparison strict --reset value --reset-delay 0"
            remedy = f"remove {', '.join(own)} from the node's metadata" if own else remedy
            yield Violation(name, actual, f"{remedy}, if it was trained so; else train LIF neurons")
        if DYNAMICS[dynamics].message.signed and not (numbers(node, "v_threshold") > numbers(node, "v_reset")).all():
            actual = f"v_threshold = {range_text(numbers(node, 'v_threshold'))}"
            yield Violation(name, actual, "train with v_threshold > v_reset")
        if DYNAMICS[dynamics].resonates and isinstance(node, nir.CubaLIF):
            yield Violation(name, f"{dynamics} of a CubaLIF", "write it as a LIF or an IF")
        if not DYNAMICS[dynamics].resets:
            for parameter in ("v_leak", "v_reset"):
                if hasattr(node, parameter) and numbers(node, parameter).any():
                    actual = f"{parameter} = {range_text(numbers(node, parameter))}"
                    yield Violation(name, actual, f"shift the membrane potential so that {parameter} is 0")
            if not (numbers(node, "v_threshold") > 0).all():
                actual = f"v_threshold = {range_text(numbers(node, 'v_threshold'))}"
                yield Violation(name, actual, "train with v_threshold > 0")
            for field in FIRING_FIELDS:
                if PREFIX + field in node.metadata:
                    yield Violation(name, f"its metadata has {PREFIX}{field}", f"remove {PREFIX}{field}")


def imaginary_input(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """The nodes that ashneuro.imaginary names feed that node, and its neurons resonate."""
    for name in wiring.named("neuron"):
        node = wiring.nodes[name]
        stated = node_imaginary(node)
        if stated and not DYNAMICS[node_dynamics(node)[0]].resonates:
            yield Violation(name, f"{PREFIX}imaginary = {', '.join(stated)}", f"remove {PREFIX}imaginary")
        elif len(wiring.imaginary(name)) < len(stated):
            feeding = ", ".join(wiring.sources(name))
            actual = f"{PREFIX}imaginary = {', '.join(stated)}; what feeds it is {feeding}"
            yield Violation(name, actual, f"correct {PREFIX}imaginary")


def start_value(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """A sample starts at v_reset, as in Lava, if spikes set v to it: v_reset equals v_leak, or the
    option --start v_reset is given.
    """
    for name in wiring.named("neuron"):
        node = wiring.nodes[name]
        if contract.start == "v_reset" or not hasattr(node, "v_reset"):
            continue
        if wiring.firing(name, contract).reset == "subtract":
            continue  # nothing sets v to v_reset
        reset = numbers(node, "v_reset")
        leak = numbers(node, "v_leak") if hasattr(node, "v_leak") else np.zeros_like(reset)
        if reset.shape == leak.shape and not (reset == leak).all():
            rest = f"v_leak = {range_text(leak)}" if hasattr(node, "v_leak") else "it rests at 0"
            remedy = "--start v_reset, if samples may start there, or train with v_reset = v_leak"
            yield Violation(name, f"v_reset = {range_text(reset)}, {rest}", remedy)


def count_firing(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """A neuron that spikes several times in a step subtracts v_threshold for each spike, in the
    same step; v_threshold is above 0.
    """
    for name in wiring.named("neuron"):
        if wiring.message(name, contract).kind != "count":
            continue
        node, firing = wiring.nodes[name], wiring.firing(name, contract)
        dynamics, _ = node_dynamics(node)
        if dynamics != "lif":
            remedy = f"write {PREFIX}message = spike into the node's metadata"
            yield Violation(name, f"its dynamics are {dynamics}", remedy)
        elif firing.reset != "subtract" or firing.reset_delay:
            actual = f"reset {firing.reset}, {firing.reset_delay} step(s) late"
            wanted = {"reset": "subtract", "reset_delay": 0}
            own = [f"{PREFIX}{field} = {value}" for field, value in wanted.items() if PREFIX + field in node.metadata]
            remedy = "--reset subtract --reset-delay 0"
            remedy = f"write {' and '.join(own)} into the node's metadata" if own else remedy
            yield Violation(name, actual, f"{remedy}, if it was trained so; else train with one spike per step")
        elif not (numbers(node, "v_threshold") > 0).all():
            actual = f"v_threshold = {range_text(numbers(node, 'v_threshold'))}"
            yield Violation(name, actual, "train with v_threshold > 0")


def graded_threshold(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """A Threshold that sends graded values has a threshold of 0 (a ReLU) or more (a jump); one that
    sends changes has one of 0 (every change) or more.
    """
    for name in wiring.named("neuron"):
        node, message = wiring.nodes[name], wiring.message(name, contract)
        if (message.graded or message.changes) and (numbers(node, "threshold") < 0).any():
            smallest = f"threshold = {numbers(node, 'threshold').min():.4g}"
            yield Violation(name, smallest, "train with thresholds of at least 0")


def loops_through_neurons(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """Every loop contains a neuron; in a loop through several neurons, a Delay says which edge is
    late.
    """
    neurons = set(wiring.named("neuron"))
    for members in _loops([(a, b) for a, b in wiring.edges if not {a, b} & neurons]):
        yield Violation(members[0], f"{', '.join(members)} feed each other", "put a neuron into the loop")
    one_step = contract.dt_s * 0.9999  # delays in files are float32
    delays = wiring.named("delay")
    late = {name for name in delays if (numbers(wiring.nodes[name], "delay") >= one_step).all()}
    for members in _loops([(a, b) for a, b in wiring.edges if a not in late]):
        several = [name for name in members if name in neurons]
        if len(several) > 1:
            remedy = "put a nir.Delay of one step or more on the edge that leads back"
            yield Violation(several[0], f"{', '.join(several)} feed each other", remedy)


def whole_delays(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """A delay is a whole number of steps, at least 0 and less than 2^31."""
    for name in wiring.named("delay"):
        steps = delay_steps(wiring.nodes[name], contract.dt_s)
        fits = (steps >= 0) & (steps < 2**31) & (steps == np.rint(steps))
        if not fits.all():
            actual = f"{steps[~fits].flat[0]:.4g} steps of {contract.dt_s:.4g} s"
            remedy = "--dt SECONDS, or delays that are multiples of dt"
            yield Violation(name, actual, remedy if (steps >= 0).all() else "give delays of at least 0")


def undelayed_bias(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """No bias, nor the v_leak of a read-out, passes through a Delay or comes back to the read-out:
    it would start late, and a neuron's bias cannot.
    """
    for name in wiring.named("delay"):
        before = [node for node in _between_neurons(wiring, name) if wiring.roles[node] == "linear"]
        biased = [node for node in before if hasattr(wiring.nodes[node], "bias")]
        biased = [node for node in biased if numbers(wiring.nodes[node], "bias").any()]
        if not np.any(numbers(wiring.nodes[name], "delay")):
            continue
        if biased:
            remedy = "put the Delay in front of the layer with the bias"
            yield Violation(name, f"the bias of {', '.join(biased)} passes it", remedy)
        resting = [source for source in _reaching(wiring, name) if _rests(wiring.nodes[source])]
        if resting:
            remedy = "train with v_leak = 0, or put the Delay in front of the read-out"
            yield Violation(name, f"v_leak of {', '.join(resting)} passes it", remedy)
    for name in wiring.named("neuron"):
        if _rests(wiring.nodes[name]) and name in _reaching(wiring, name):
            yield Violation(name, "its v_leak comes back to it a step late", "train with v_leak = 0")


def read_outs_end(wiring: Wiring, contract: Contract) -> Iterator[Violation]:
    """A read-out (LI, CubaLI, I) that feeds neurons is their synaptic current, where it can be:
    LI → LIF, and LI → Linear → LIF where all inputs have one τ, are a CubaLIF; I → Linear →
    Threshold with changes is a sigma-delta neuron, and I → Affine may end a graph. Others are
    populations that send their potential in every step (Loihi 2).
    """
    filters = synaptic_filters(wiring, contract)
    for name in wiring.named("neuron"):
        if not isinstance(wiring.nodes[name], READ_OUT) or not (behind := filtered_by(wiring, name)):
            continue
        if name in filters:
            kinds = sorted({_filtered_as(wiring, target) for target in behind})
            actual = f"the synaptic current of {', '.join(behind)}, which run as {' and '.join(kinds)}"
        else:
            # Why in the first place, or because of others that are none.
            fault = filter_fault(wiring, contract, name, feeding_read_outs(wiring))
            fault = fault or filter_fault(wiring, contract, name, {*filters, name})
            actual = f"a population that sends its potential to {', '.join(behind)}: {fault}"
        yield Violation(name, actual, "nothing to do", "note")


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
    "follows_from_graph": follows_from_graph,
    "population_shape": population_shape,
    "known_shapes": known_shapes,
    "agreeing_shapes": agreeing_shapes,
    "numbers_fit": numbers_fit,
    "finite_numbers": finite_numbers,
    "time_constants": time_constants,
    "reset_in_time": reset_in_time,
    "dynamics_parameters": dynamics_parameters,
    "dynamics_firing": dynamics_firing,
    "imaginary_input": imaginary_input,
    "start_value": start_value,
    "count_firing": count_firing,
    "graded_threshold": graded_threshold,
    "loops_through_neurons": loops_through_neurons,
    "whole_delays": whole_delays,
    "undelayed_bias": undelayed_bias,
    "read_outs_end": read_outs_end,
}


def graph_findings(graph: nir.NIRGraph | Wiring, contract: Contract) -> list[Finding]:
    """Return everything that `GRAPH_RULES` find in a graph, in the rules' order."""
    wiring = wire(graph)

    def kind(name: str) -> str:
        if name in wiring.nodes:
            return nir_type(wiring.nodes[name])
        return "edge" if "→" in name else "NIRGraph"

    return apply_rules(GRAPH_RULES, wiring, contract, nir_type=kind)


def _filtered_as(wiring: Wiring, name: str) -> str:
    """Return the form that a neuron has with a synaptic current."""
    if wiring.roles[name] == "output":
        return "I behind the weights"
    if isinstance(wiring.nodes[name], nir.LI | nir.I):
        return "CubaLI"
    return "SigmaDelta" if wiring.roles[name] == "neuron" and wiring.message(name).changes else "CubaLIF"


def _misfit(node: Any, in_shape: Shape | None, out_shape: Shape | None) -> tuple[str, str] | None:
    """Return the first inconsistency of a node's parameters, and its remedy; ``None`` if there is
    none.
    """
    try:
        if isinstance(node, nir.Conv1d | nir.Conv2d):
            return _conv_misfit(node, in_shape)
        if isinstance(node, nir.SumPool2d | nir.AvgPool2d):
            slide = window(node)
            if min(slide.kernel + slide.stride) < 1 or min(sum(slide.padding, ())) < 0:
                actual = f"kernel {slide.kernel}, stride {slide.stride}, padding {slide.padding}"
                return actual, "give a kernel and a stride of at least 1, and a padding of at least 0"
            if in_shape is not None and len(in_shape) != 3:
                actual = f"its input has shape {shape_text(in_shape)}, not (C, H, W)"
                return actual, "feed it channels with two spatial axes, without axes of batch and time"
            return None
        if isinstance(node, nir.Affine) and out_shape is not None:
            if not _broadcasts(np.shape(node.bias), out_shape):
                actual = f"a bias of shape {shape_text(np.shape(node.bias))} for outputs {shape_text(out_shape)}"
                return actual, "give one bias per output"
            return None
        shapes = {np.shape(getattr(node, name)) for name in PARAMETERS.get(type(node), ())}
        neuron = hasattr(node, "v_leak") or hasattr(node, "r")
        if neuron and len(shapes) > 1:
            actual = f"its parameters have shapes {', '.join(map(shape_text, sorted(shapes)))}"
            return actual, "give every parameter one value, or one per neuron"
        return None
    except (ValueError, TypeError, IndexError) as error:
        return str(error), "give one number for kernel, stride, padding and dilation, or one per spatial axis"


def _broadcasts(shape: Shape, wanted: Shape) -> bool:
    try:
        return np.broadcast_shapes(shape, wanted) == wanted
    except ValueError:
        return False


def _conv_misfit(node: nir.Conv1d | nir.Conv2d, in_shape: Shape | None) -> tuple[str, str] | None:
    axes = 1 if isinstance(node, nir.Conv1d) else 2
    shape, groups = np.shape(node.weight), int(node.groups)
    if len(shape) != 2 + axes:
        wanted = f"(C_out, C_in / groups, {'length' if axes == 1 else 'height, width'})"
        return f"the weight has shape {shape_text(shape)}, not {wanted}", f"give the weight the axes {wanted}"
    if groups < 1 or shape[0] % groups:
        actual = f"{shape[0]} output channels do not divide into {groups} groups"
        return actual, "give a number of groups that divides the output channels"
    slide = window(node)
    if min(slide.stride + slide.dilation) < 1 or min(sum(slide.padding, ())) < 0:
        actual = f"stride {slide.stride}, dilation {slide.dilation}, padding {slide.padding}"
        return actual, "give a stride and a dilation of at least 1, and a padding of at least 0"
    if str(node.padding) == "same" and max(slide.stride) > 1:
        return f"padding 'same' with stride {slide.stride}", "give the padding as numbers, or stride 1"
    if np.shape(node.bias) not in ((), (1,), (shape[0],)):
        actual = f"biases of shape {shape_text(np.shape(node.bias))} for {shape[0]} output channels"
        return actual, "give one bias per output channel"
    if in_shape is not None and in_shape[0] != shape[1] * groups:
        actual = f"it takes {shape[1] * groups} channels ({groups} groups of {shape[1]}), its input has {in_shape[0]}"
        return actual, "give it weights for as many channels as come in, or another number of groups"
    return None


def _rests(node: Any) -> bool:
    """Return True for a read-out whose resting potential is not 0."""
    return isinstance(node, READ_OUT) and hasattr(node, "v_leak") and bool(numbers(node, "v_leak").any())


def _reaching(wiring: Wiring, name: str) -> list[str]:
    """Return the neurons in front of ``name``, behind the nodes between."""
    near = [name, *_between_neurons(wiring, name)]
    return list(
        dict.fromkeys(source for node in near for source in wiring.sources(node) if wiring.roles[source] == "neuron")
    )


def _between_neurons(wiring: Wiring, name: str) -> list[str]:
    """Return the nodes between ``name`` and the neurons and inputs in front of it."""
    found: dict[str, None] = {}
    queue = wiring.sources(name)
    while queue:
        source = queue.pop()
        if source not in found and wiring.roles[source] not in ("neuron", "input"):
            found[source] = None
            queue.extend(wiring.sources(source))
    return list(found)


def _loops(edges: list[tuple[str, str]]) -> Iterator[list[str]]:
    """Iterate over the strongly connected components that contain a loop, as lists of nodes."""
    names = list(dict.fromkeys(name for edge in edges for name in edge))
    if not names:
        return
    index = {name: i for i, name in enumerate(names)}
    rows, columns = [index[a] for a, _ in edges], [index[b] for _, b in edges]
    # A component of one node is a loop only if the node feeds itself.
    joins = csr_matrix((np.ones(len(edges)), (rows, columns)), shape=(len(names),) * 2)
    _, component = connected_components(joins, directed=True, connection="strong")
    self_loops = {a for a, b in edges if a == b}
    for number, size in enumerate(np.bincount(component)):
        members = [names[i] for i in np.flatnonzero(component == number)]
        if size > 1 or members[0] in self_loops:
            yield members
