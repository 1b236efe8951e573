"""Random NIR graphs of all supported features: structure by choices, numbers by a seed.

Choices come from hypothesis, which can shrink the structure of a failing graph, or from a seeded
generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from ashneuro.program.primitives import window
from ashneuro.program.synapse import conv_shape
from ashneuro.spiking.contract import Contract
from ashneuro.spiking.dynamics import DYNAMICS

Choose = Callable[[Sequence[Any]], Any]
Shape = tuple[int, ...]

SHAPES = [(5,), (9,), (2, 8), (4, 6), (2, 6, 6), (1, 7, 5)]
SYNAPSES = {
    1: ["affine", "linear", "scale affine", "linear scale", "affine linear"],
    2: ["conv1d", "conv1d conv1d", "scale conv1d", "flatten affine"],
    3: ["conv2d", "conv2d conv2d", "conv2d scale", "sumpool", "avgpool conv2d", "conv2d sumpool", "flatten affine"],
}


@dataclass(frozen=True, eq=False)
class Drawn:
    """A graph, its contract, and inputs (T, B, *shape) by Input node."""

    graph: nir.NIRGraph
    contract: Contract
    inputs: dict[str, NDArray[Any]]


def seeded(seed: int) -> Choose:
    rng = np.random.default_rng(seed)
    return lambda options: options[int(rng.integers(len(options)))]


def draw(choose: Choose, *, integers: bool) -> Drawn:
    """Return a graph.

    Args:
        integers: it can be quantised: thresholds above the start, equal neurons where analog input
            enters them.
    """
    return _Draw(choose, integers).graph()


class _Draw:
    def __init__(self, choose: Choose, integers: bool) -> None:
        self.choose, self.integers = choose, integers
        self.rng = np.random.default_rng(choose(range(1000)))
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.entries: dict[str, str] = {}  # the read-out in front of a population
        self.senders = 0  # of these, those that are populations of their own
        self.contract = Contract(
            dt_s=choose([1e-3, 1e-4]),
            timesteps=choose([8, 12]),
            start=choose(["v_leak", "v_leak", "v_reset"]),
            integration=choose(["euler", "euler", "exponential"]),
            if_convention=choose(["per-step", "per-second"]),
            input_coding=choose(["spikes", "current"]),
        )

    def graph(self) -> Drawn:
        choose, shape = self.choose, self.choose(SHAPES)
        self.nodes["input"] = nir.Input(np.array(shape))
        tap, first = "input", shape
        taps = [(tap, shape)]
        for number in range(choose([1, 2, 3, 4])):
            direct = choose([False, False, True])
            before, shape = (tap, shape) if direct else self.synapse(tap, shape, f"{number}")
            sources = [before, *self.skips(taps[:-1], shape, f"{number}")]
            analog = "input" in sources and self.contract.input_coding != "spikes"
            tap = self.block(shape, f"{number}", alike=analog and self.integers)
            stated = getattr(self.nodes[tap], "metadata", None) or {}
            if len(set(sources)) > 1 and DYNAMICS[stated.get("ashneuro.dynamics", "lif")].resonates:
                stated["ashneuro.imaginary"] = sources[-1]
            self.edges += [(source, self.entries.get(tap, tap)) for source in dict.fromkeys(sources)]
            taps.append((tap, shape))
        self.long_loop(taps)
        self.end(tap, shape, taps)
        size = (self.contract.timesteps, 3, *first)
        spikes = (self.rng.random(size) < 0.4).astype(float)
        x = spikes if self.contract.input_coding == "spikes" else self.rng.standard_normal(size) * 2
        return Drawn(nir.NIRGraph(self.nodes, self.edges, type_check=False), self.contract, {"input": x})

    def add(self, name: str, node: nir.NIRNode, source: str) -> str:
        self.nodes[name] = node
        self.edges.append((source, name))
        return name

    # ---- nodes between neurons ------------------------------------------------------------------

    def synapse(self, source: str, shape: Shape, tag: str, end: Shape | None = None) -> tuple[str, Shape]:
        """Add linear nodes behind ``source``; return the last one and its shape (``end``)."""
        if self.choose([False, False, False, True]):
            source = self.add(f"delay{tag}", self.delay(shape, 0), source)
        kinds = self.choose(SYNAPSES[len(shape)]) if end is None else "affine" if len(shape) == 1 else "flatten affine"
        for number, kind in enumerate(kinds.split()):
            node, shape = self.linear(kind, shape, end)
            source = self.add(f"{kind}{tag}.{number}", node, source)
        return source, shape

    def linear(self, kind: str, shape: Shape, end: Shape | None = None) -> tuple[nir.NIRNode, Shape]:
        rng, choose = self.rng, self.choose
        if kind in ("affine", "linear"):
            out = end[0] if end else choose([4, 5, 9])
            weight = self.weights((out, shape[0]))
            return nir.Affine(weight, rng.normal(0, 0.2, out)) if kind == "affine" else nir.Linear(weight), (out,)
        if kind == "scale":
            return nir.Scale(rng.uniform(0.5, 1.5, shape)), shape
        if kind == "flatten":
            return nir.Flatten({"input": np.array(shape)}, 0, -1), (int(np.prod(shape)),)
        if kind.endswith("pool"):
            size, steps, pad = (
                np.array(pair)
                for pair in choose([((2, 2), (2, 2), (0, 0)), ((2, 3), (1, 2), (0, 1)), ((1, 2), (2, 1), (0, 0))])
            )
            node = (nir.SumPool2d if kind == "sumpool" else nir.AvgPool2d)(size, steps, pad)
            after = self.slide(node, shape, shape[0])
            return (
                (node, after) if after else (nir.SumPool2d(np.ones(2, int), np.ones(2, int), np.zeros(2, int)), shape)
            )
        return self.convolution(shape)

    def convolution(self, shape: Shape) -> tuple[nir.NIRNode, Shape]:
        choose, axes = self.choose, len(shape) - 1
        groups = choose([g for g in (1, 1, 2, 4) if shape[0] % g == 0])
        out = groups * choose([1, 2]) if choose([True, False]) else shape[0]
        padding = choose([0, 1, (1,) * axes, "same", "valid"])
        stride = 1 if padding == "same" else choose([1, 1, 2])
        for kernel, gap in ((choose([1, 2, 3]), choose([1, 1, 2])), (1, 1)):
            weight = self.weights((out, shape[0] // groups, *(kernel,) * (axes - 1), choose([1, kernel])))
            make = nir.Conv1d if axes == 1 else nir.Conv2d
            spatial = shape[1] if axes == 1 else shape[1:]
            node = make(spatial, weight, stride, padding, gap, groups, self.rng.normal(0, 0.2, out))
            after = self.slide(node, shape, out)
            if after:
                break
        return node, after

    def slide(self, node: nir.NIRNode, shape: Shape, channels: int) -> Shape | None:
        slides = window(node)
        after = conv_shape(shape, slides.kernel, channels, slides.stride, slides.padding, slides.dilation)
        return after if min(after) > 0 else None

    def weights(self, shape: Shape) -> NDArray[np.float64]:
        return np.asarray(self.rng.normal(0.3, 1.0, shape) * 4 / np.sqrt(np.prod(shape[1:])))

    def delay(self, shape: Shape, least: int) -> nir.Delay:
        steps = self.choose([np.full(shape, least + 1), self.rng.integers(least, least + 3, shape)])
        return nir.Delay((steps * self.contract.dt_s).astype(self.choose([np.float32, np.float64])))

    def skips(self, taps: list[tuple[str, Shape]], shape: Shape, tag: str) -> list[str]:
        """Return nodes that lead from earlier layers than the last one to a layer of ``shape``."""
        found = []
        for name, size in taps:
            way = self.choose(["no", "no", "edge", "scale", "affine"])
            if way == "edge" and size == shape:
                found.append(name)
            elif way == "scale" and size == shape:
                found.append(self.add(f"skip{tag}{name}", nir.Scale(self.rng.normal(0, 1, shape)), name))
            elif way == "affine" and len(shape) == 1:
                found.append(self.synapse(name, size, f"skip{tag}{name}", shape)[0])
        return found

    # ---- neurons --------------------------------------------------------------------------------

    def block(self, shape: Shape, tag: str, alike: bool) -> str:
        """Add a population, perhaps recurrent, perhaps in a nested graph; return its name."""
        neuron = self.neuron(shape, alike)
        back = self.choose(["no", "no", "no", "scale", "weights"])
        sends = (neuron.metadata or {}).get("ashneuro.message", "spike")
        back = "no" if sends == "change" else back  # changes would grow from step to step
        filters = back == "no" and not isinstance(neuron, nir.CubaLIF) and sends != "graded"
        if filters and self.choose([False, False, True]):
            return self.filtered(neuron, shape, tag, alike)
        loop: list[nir.NIRNode] = []
        if back == "weights" and len(shape) == 1:
            loop = [nir.Affine(self.weights((shape[0], shape[0])) / 3, self.rng.normal(0, 0.1, shape))]
        elif back == "weights" and len(shape) == 3:
            weight = self.weights((shape[0], shape[0], 3, 3)) / 3
            loop = [nir.Conv2d(shape[1:], weight, 1, 1, 1, 1, np.zeros(shape[0]))]
        elif back != "no":
            loop = [nir.Scale(self.rng.normal(0, 0.7, shape))]
        if loop and self.choose([False, False, True]):
            loop.insert(0, self.delay(shape, 0))
        names = [f"neuron{tag}", *(f"back{tag}{i}" for i in range(len(loop)))]
        made = dict(zip(names, [neuron, *loop], strict=True))
        edges = [(names[i], names[(i + 1) % len(names)]) for i in range(len(names))] if loop else []
        if not self.choose([False, False, True]):
            self.nodes |= made
            self.edges += edges
            return names[0]
        ends = {"in": nir.Input(np.array(shape)), "out": nir.Output(np.array(shape))}
        self.nodes[f"nest{tag}"] = nir.NIRGraph(
            ends | made, [("in", names[0]), (names[0], "out"), *edges], type_check=False
        )
        return f"nest{tag}"

    def filtered(self, neuron: nir.NIRNode, shape: Shape, tag: str, alike: bool) -> str:
        """Add a population behind a read-out, which is its synaptic current; return its name."""
        if DYNAMICS[neuron.metadata.get("ashneuro.dynamics", "lif")].resonates:
            neuron.metadata = {}  # a resonator has no synaptic current
        changes = neuron.metadata.get("ashneuro.message") == "change"  # of a sum, Lava's Sigma
        kind = "I" if changes else self.choose(["LI", "LI", "I"] if not self.integers else ["LI"])
        through = self.choose(["nothing", "scale", "affine"] if len(shape) == 1 and not alike else ["nothing"])
        rates = self.rates(kind, shape, each=not alike and through != "affine")
        stated = {}
        if kind == "LI" and through == "affine":  # weights mix only filters that are equal
            rates["tau"] = np.full(shape, rates["tau"].flat[0])
            # From digits that are drawn already, as in `neuron`: others send their potential.
            if int(rates["tau"].flat[0] * 1e9) % 3:
                rates["tau"] = rates["tau"] * (1 + np.arange(*shape) % 3 / 2)
                stated = {"ashneuro.message_limit": 40.0}  # a long loop could let it grow
                self.senders += 1
        self.senders += kind == "I" and not changes
        rest = {} if kind == "I" else {"v_leak": self.rng.normal(0, 0.1, shape)}
        made = {f"filter{tag}": getattr(nir, kind)(**rates, **rest, metadata=stated), f"neuron{tag}": neuron}
        names = list(made)
        if through != "nothing":
            weight = nir.Scale(self.rng.uniform(0.5, 1.5, shape))
            if through == "affine":
                weight = nir.Affine(self.weights((shape[0], shape[0])), self.rng.normal(0, 0.1, shape))
            made[f"between{tag}"] = weight
            names.insert(1, f"between{tag}")
        self.nodes |= made
        self.edges += list(pairwise(names))
        self.entries[names[-1]] = names[0]
        return names[-1]

    def neuron(self, shape: Shape, alike: bool) -> nir.NIRNode:
        kind = self.choose(["LIF", "LIF", "CubaLIF", "IF", "Threshold", "graded"])
        if kind == "graded":
            return self.graded(shape)
        if kind == "Threshold":
            low = 0.05 if self.integers else -0.5
            return nir.Threshold(
                np.full(shape, self.rng.uniform(low, 0.5)) if alike else self.rng.uniform(low, 0.5, shape)
            )
        # Where analog input enters directly, thresholds must be equal in units of the gain.
        rates = self.rates(kind, shape, each=not alike and self.choose([False, True]))
        low = self.choose([0.0, 0.0, -0.3])
        rest = np.zeros(shape) if kind == "IF" else np.full(shape, low)
        reset = rest.copy() if self.contract.start == "v_leak" else np.full(shape, self.choose([low, -0.2]))
        spread = np.full(shape, self.rng.uniform(0.1, 0.5)) if alike else self.rng.uniform(0.1, 0.5, shape)
        threshold = np.maximum(rest, reset) + spread * (3 if kind == "IF" else 1)
        leak = {} if kind == "IF" else {"v_leak": rest}
        node = getattr(nir, kind)(**rates, **leak, v_reset=reset, v_threshold=threshold)
        start = rest if self.contract.start == "v_leak" else reset
        # Integers subtract one positive amount per layer, in units of v_threshold above the start.
        subtracts = (alike or not start.any()) and bool((threshold > 0).all())
        node.metadata = self.firing(subtracts=subtracts or not self.integers)
        # From digits that are drawn already: one choice more would change every seed's graph.
        digits = int(spread.flat[0] * 1e6)
        if not node.metadata and digits % 4:
            self.further(node, spread * (3 if kind == "IF" else 1), digits // 4)
        at_once = node.metadata.get("ashneuro.reset") == "subtract" and not node.metadata["ashneuro.reset_delay"]
        if at_once and (threshold > 0).all() and digits % 3:  # counts have a limit: loops could let them grow
            node.metadata |= {"ashneuro.message": "count", "ashneuro.message_limit": (2, 3, 7)[digits // 3 % 3]}
        return node

    def further(self, node: nir.NIRNode, height: NDArray[np.float64], digits: int) -> None:
        """Give a neuron other dynamics than LIF's; ``height``: of v_threshold above the start."""
        has_current = isinstance(node, nir.CubaLIF)
        kinds = [name for name, kind in DYNAMICS.items() if name != "lif" and not (kind.resonates and has_current)]
        kind, digits = kinds[digits % len(kinds)], digits // len(kinds)
        node.metadata = {"ashneuro.dynamics": kind}
        if kind == "refractory":
            node.metadata["ashneuro.refractory_steps"] = 1 + digits % 3
        if kind in ("resonate", "izhikevich"):
            node.metadata["ashneuro.period"] = (4 + digits % 50 / 20) * (1 + height - height.min()) * self.contract.dt_s
        if kind == "ternary":
            node.metadata["ashneuro.threshold_below"] = (0.5 + digits % 4 / 4) * (node.v_threshold - node.v_reset)
        if kind not in ("refractory", "ternary"):
            node.v_reset, node.v_threshold = np.zeros_like(height), height / (6 if kind == "resonate" else 1)
            if hasattr(node, "v_leak"):
                node.v_leak = np.zeros_like(height)
        if kind == "adaptive":
            taus = {"tau_threshold": 1 + digits % 10, "tau_refractory": 1.3 + digits // 10 % 5}
            node.metadata |= {f"ashneuro.{name}": steps * self.contract.dt_s for name, steps in taus.items()}
            node.metadata["ashneuro.threshold_step"] = (0.3 + digits // 50 % 3) * height

    def graded(self, shape: Shape) -> nir.Threshold:
        """Return a ReLU or a jump, with a limit: in a loop, its values could grow without bound. Or
        changes.
        """
        jump = self.rng.uniform(0.1, 0.6, () if self.integers else shape)
        node = nir.Threshold(np.zeros(shape) + self.choose([0.0, 1.0]) * jump)
        # From digits that are drawn already, as in `neuron`.
        digits = int(jump.flat[0] * 1e6) if np.ndim(jump) else int(jump * 1e6)
        if digits % 2:
            node.metadata = {
                "ashneuro.message": "change",
                "ashneuro.message_activation": ["none", "relu"][digits // 2 % 2],
                "ashneuro.message_cumulative": digits // 4 % 3 == 0,
                "ashneuro.message_limit": 200.0,  # above all that comes up
            }
            if digits // 12 % 3 == 0:
                node.metadata |= {"ashneuro.message_activation": "levels", "ashneuro.message_limit": 2.1}
                node.metadata |= {"ashneuro.message_bits": 4, "ashneuro.message_jump": [0.0, 0.4][digits // 36 % 2]}
            return node
        node.metadata = {
            "ashneuro.message": "graded",
            "ashneuro.message_bits": self.choose([8, 8, 4, 12]),
            "ashneuro.message_limit": self.choose([1.0, 2.5]),
        }
        return node

    def firing(self, subtracts: bool) -> dict[str, Any]:
        """Return node metadata: nothing, or a comparison, a reset and its delay."""
        if self.choose([True, False, False]):
            return {}
        return {
            "ashneuro.comparison": self.choose(["strict", "inclusive"]),
            "ashneuro.reset": self.choose(["value", "subtract", "subtract"] if subtracts else ["value"]),
            "ashneuro.reset_delay": self.choose([0, 1]),
        }

    def rates(self, kind: str, shape: Shape, each: bool = False) -> dict[str, NDArray[np.float64]]:
        """Return time constants of 1 to 10 steps, and gains, negative only in float graphs.

        Args:
            each: one per neuron in graphs for integers, too.
        """

        def one(low: float, high: float) -> NDArray[np.float64]:
            return (
                self.rng.uniform(low, high, shape)
                if each or not self.integers
                else np.full(shape, self.rng.uniform(low, high))
            )

        dt = self.contract.dt_s
        if kind in ("IF", "I"):
            rates = {"r": one(0.5, 1.5) / (1.0 if self.contract.if_convention == "per-step" else dt)}
        elif kind in ("LIF", "LI"):
            rates = {"tau": dt * self.choose([np.ones(shape), one(2, 10), one(2, 10)]), "r": one(0.5, 2)}
        else:
            rates = {"tau_syn": dt * one(2, 6), "tau_mem": dt * one(2, 10), "r": one(0.5, 2), "w_in": one(1, 3)}
        if not self.integers and self.choose([False, False, False, True]):
            rates["r"] *= self.rng.choice([1, 1, -1], shape)
        return rates

    def long_loop(self, taps: list[tuple[str, Shape]]) -> None:
        """Perhaps lead the last population back to the first, delayed by a step per layer."""
        (_, _), (first, shape), *_, (last, size) = [*taps, taps[-1]]
        if first == last or len(shape) > 1 or len(size) > 1 or not self.choose([False, False, True]):
            return
        layers = len(taps) - 1 + self.senders
        back = self.add("late", self.delay(size, layers), last)
        back = self.add("return", nir.Linear(self.weights((shape[0], size[0])) / 2), back)
        self.edges.append((back, self.entries.get(first, first)))

    def end(self, tap: str, shape: Shape, taps: list[tuple[str, Shape]]) -> None:
        """Add Outputs: behind spikes, a read-out or weights; perhaps another within the graph."""
        kind = self.choose(["spikes", "LI", "CubaLI", "I", "weights"])
        if kind != "spikes":
            tap, shape = self.synapse(tap, shape, "end")
            if kind != "weights":
                rest = {} if kind == "I" else {"v_leak": self.rng.normal(0, 0.3, shape)}
                tap = self.add(
                    "reading",
                    getattr(nir, kind)(**self.rates(kind, shape, each=self.choose([False, True])), **rest),
                    tap,
                )
        self.add("output", nir.Output(np.array(shape)), tap)
        middle, size = self.choose(taps[1:])
        if middle != tap and self.choose([False, True]):
            self.add("output2", nir.Output(np.array(size)), middle)


# ---- damage -------------------------------------------------------------------------------------

JUNK: list[Callable[[NDArray[Any]], Any]] = [
    lambda a: np.full(a.shape, np.nan),
    lambda a: np.full(a.shape, np.inf),
    lambda a: np.full(a.shape, 1e300),
    lambda a: a * 1e-300,
    lambda a: a * 0,
    lambda a: -a,
    lambda a: a.astype(np.int32),
    lambda a: a.astype(complex),
    lambda a: a.astype(object),
    lambda a: np.ones((*a.shape, 1)),
    lambda a: np.ones(3),
    lambda a: np.zeros(0),
    lambda a: np.float64(1.0),
    lambda a: "zero",
    lambda a: None,
    lambda a: -1,
    lambda a: 10**6,
    lambda a: (1, 2, 3, 4),
    lambda a: [[1, 2], [3]],
]
TYPES: list[Any] = [None, {}, {"input": None}, {"input": "a"}, *({"input": np.array([n])} for n in (0, -2, 2.5, 3))]


def damage(choose: Choose, graph: nir.NIRGraph) -> str:
    """Change one thing in ``graph``, which may then be invalid; return its name."""
    names, edges = list(graph.nodes), list(graph.edges)
    kind = choose(["node", "edge in", "edge out", "nothing", "parameter", "parameter", "parameter", "parameter"])
    name = choose(names) if names else ""
    if kind == "edge in" or not names:
        graph.edges.append((name, choose([*names, "ghost"])))
    elif kind == "edge out" and edges:
        graph.edges.remove(choose(edges))
    elif kind == "node":
        del graph.nodes[name]
    elif kind == "nothing":
        graph.nodes[name] = choose([None, "x", np.ones(3)])
    elif isinstance(graph.nodes[name], nir.NIRGraph):
        return f"in {name}: {damage(choose, graph.nodes[name])}"
    elif (
        fields := [field for field in vars(graph.nodes[name] or ()) if field != "metadata"]
        if hasattr(graph.nodes[name], "metadata")
        else []
    ):
        field = choose(sorted(fields))
        old = getattr(graph.nodes[name], field)
        try:
            numbers = np.asarray(old, np.float64)
        except (TypeError, ValueError):
            numbers = np.ones(2)
        setattr(graph.nodes[name], field, choose(TYPES) if field.endswith("_type") else choose(JUNK)(numbers))
        return f"{field} of {name}"
    return f"{kind} {name}"
