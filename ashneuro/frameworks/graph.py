"""Assembly of a NIR graph from the operations and populations that a trace meets.

A value of k steps ago is an edge with a lag. A neuron that feeds itself receives its spikes of the
step before without further ado; every other lag is a nir.Delay, put in front of the linear nodes
behind which it was met, so that their biases are not late.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from ashneuro.frameworks.form import Population, Untranslatable
from ashneuro.frameworks.signals import Shape, Signal

INPUT = "input"
OUTPUT = "output"

Edge = tuple[str, str, int]  # source, target, lag in steps


@dataclass(frozen=True, eq=False)
class Elementwise:
    """``scale · x + offset`` per element: a batch norm, a constant factor or summand. It becomes
    part of the weights in front of it, or a node of its own.
    """

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


@dataclass(eq=False)
class GraphBuilder:
    """Nodes and edges of the graph so far."""

    nodes: dict[str, Any] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    populations: dict[str, Population] = field(default_factory=dict)
    _edges: dict[Edge, None] = field(default_factory=dict)
    _known: dict[Hashable, str] = field(default_factory=dict)
    _entering: dict[str, list[frozenset[tuple[str, int]]]] = field(default_factory=dict)

    def start(self, shape: Shape) -> None:
        """Begin with the Input of samples of ``shape``."""
        self.nodes[INPUT] = nir.Input({"input": np.array(shape)})
        self.shapes[INPUT] = shape

    def free(self, wanted: str) -> str:
        """Return a name that no node has yet."""
        taken = {*self.nodes, OUTPUT, "always-on"}
        names = (wanted if n == 1 else f"{wanted}_{n}" for n in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def operation(self, key: Hashable, name: str, source: Signal, make: Callable[[], Any], shape: Shape) -> Signal:
        """Return the values of an operation on ``source``; the same one of an earlier step is found
        again by ``key``.
        """
        now = source.step
        same_step = frozenset(term.node for term in source.terms if term.step in (now, None))
        full = (key, same_step)
        if full not in self._known:
            node = make()
            self._known[full] = name = self.free(name)
            self.nodes[name], self.shapes[name] = node, shape
        name = self._known[full]
        for node, lag in self._lagged(source, now):
            self._edges[node, name, lag] = None
        return source.at(name, shape)

    def population(self, name: str, own: Population, shape: Shape) -> None:
        """Add a population under its module's name."""
        self.populations[name] = own
        shape = shape if own.shape is None else own.shape
        for key, node in own.nodes.items():
            self.nodes[_inner(name, key)] = node
            self.shapes[_inner(name, key)] = shape
        for a, b in own.edges:
            self._edges[_inner(name, a), _inner(name, b), 0] = None
        self._entering[name] = []

    def enter(self, name: str, source: Signal, call: int) -> None:
        """Record what reaches a population in one call."""
        self._entering[name].append(frozenset(self._lagged(source, call if source.step is not None else None)))

    @staticmethod
    def _lagged(source: Signal, now: int | None) -> list[tuple[str, int]]:
        found = []
        for term in source.terms:
            lag = 0 if term.step is None or now is None else now - term.step
            if lag < 0:
                raise Untranslatable("it receives values of a later step", "feed each step with values of its own")
            found.append((term.node, lag))
        return found

    def leads_on(self, name: str) -> bool:
        """Return True if ``name`` feeds anything but itself."""
        own = {_inner(name, key) for key in self.populations[name].nodes} if name in self.populations else {name}
        entered = [(node, pop) for pop, calls in self._entering.items() for call in calls[-1:] for node, _ in call]
        edges = [*entered, *((a, b) for a, b, _ in self._edges)]
        reached, queue = set(own), list(own)
        while queue:
            node = queue.pop()
            for a, b in edges:
                if a == node and b not in reached:
                    reached.add(b)
                    queue.append(b)
        # Linear nodes behind it that end nowhere do not count.
        return any(b in self.populations and b not in own for b in reached)

    def finish(self, outputs: Sequence[frozenset[str]], dt_s: float) -> nir.NIRGraph:
        """Return the graph, without nodes that lead to neither a population nor an output.

        Args:
            outputs: for each output, the nodes whose sum it gives.

        Raises:
            Untranslatable: the connections change from step to step.
        """
        for name, calls in self._entering.items():
            # In the first step a recurrence has no spikes yet, and is a constant.
            if any(call != calls[-1] for call in calls[1:]):
                raise Untranslatable(f"the input of {name} changes from step to step", "connect each step alike")
            for node, lag in calls[-1]:
                self._edges[node, _inner(name, self.populations[name].enter), lag] = None
        self._prune(outputs)
        self._push_lags()
        self._own_loops()
        self._delays(dt_s)
        self._fold(outputs)
        edges = [(a, b) for a, b, _ in self._edges]
        ends = [OUTPUT] if len(outputs) == 1 else [f"{OUTPUT}_{number}" for number in range(1, len(outputs) + 1)]
        nodes = dict(self.nodes)
        for end, sources in zip(ends, outputs, strict=True):
            end = end if end not in nodes else self.free(end)
            nodes[end] = nir.Output({"output": np.array(self.shapes[next(iter(sources))])})
            edges += [(source, end) for source in sorted(sources)]
        return nir.NIRGraph(nodes, edges, type_check=False)

    def _prune(self, outputs: Sequence[frozenset[str]]) -> None:
        needed = {node for output in outputs for node in output}
        # Spikes of a neuron that is never reset are a node of their own, and may go unused.
        needed |= {_inner(name, "") for name in self.populations}
        queue = list(needed)
        while queue:
            name = queue.pop()
            for a, b, _ in self._edges:
                if b == name and a not in needed:
                    needed.add(a)
                    queue.append(a)
        self.nodes = {name: node for name, node in self.nodes.items() if name in needed or name == INPUT}
        self._edges = {edge: None for edge in self._edges if edge[0] in self.nodes and edge[1] in self.nodes}

    def _is_linear(self, name: str) -> bool:
        return name != INPUT and not any(
            name in {_inner(population, key) for key in own.nodes} for population, own in self.populations.items()
        )

    def _push_lags(self) -> None:
        changed = True
        while changed:
            changed = False
            for name in self.nodes:
                lags = {lag for a, _, lag in self._edges if a == name}
                if self._is_linear(name) and len(lags) == 1 and (lag := lags.pop()):
                    self._edges = {
                        (a, b, steps - lag if a == name else steps + lag if b == name else steps): None
                        for a, b, steps in self._edges
                    }
                    changed = True

    def _own_loops(self) -> None:
        for source, target, lag in list(self._edges):
            own = {_inner(name, key): name for name, p in self.populations.items() for key in p.nodes}
            if lag == 1 and source in own and self._reached(target, own) == {own[source]}:
                del self._edges[source, target, lag]
                self._edges[source, target, 0] = None

    def _reached(self, name: str, own: dict[str, str]) -> set[str]:
        """Return the populations that ``name`` leads to through linear nodes."""
        if name in own:
            return {own[name]}
        return {found for a, b, _ in self._edges if a == name for found in self._reached(b, own)}

    def _delays(self, dt_s: float) -> None:
        for source, target, lag in list(self._edges):
            if lag:
                del self._edges[source, target, lag]
                late = f"{source}.late" if lag == 1 else f"{source}.late{lag}"
                if late not in self.nodes:
                    self.nodes[late] = nir.Delay(np.full(self.shapes[source], lag * dt_s))
                    self.shapes[late] = self.shapes[source]
                    self._edges[source, late, 0] = None
                self._edges[late, target, 0] = None

    def _fold(self, outputs: Sequence[frozenset[str]]) -> None:
        """Make `Elementwise` nodes part of the weights in front of them, or nodes of NIR."""
        shown = {node for output in outputs for node in output}
        for name, node in list(self.nodes.items()):
            if not isinstance(node, Elementwise):
                continue
            before = [a for a, b, _ in self._edges if b == name]
            source = before[0] if len(before) == 1 else ""
            alone = sum(a == source for a, _, _ in self._edges) == 1 and not {source, name} & shown
            merged = _merged(self.nodes[source], node) if source and alone and self._is_linear(source) else None
            if merged is None:
                self.nodes[name] = _standing(node, self.shapes[name])
                continue
            # The weights keep their name, and what followed the factor follows them.
            self.nodes[source] = merged
            del self.nodes[name]
            self._edges = {
                (source if a == name else a, b, lag): None for a, b, lag in self._edges if (a, b) != (source, name)
            }


def _inner(population: str, key: str) -> str:
    return f"{population}.{key}" if key else population


def _merged(before: Any, node: Elementwise) -> Any:
    """Return the weights ``before`` with ``node`` in them; ``None`` where they cannot hold it."""
    if isinstance(before, nir.Linear | nir.Affine) and before.weight.ndim == 2 and node.scale.ndim == 1:
        bias = before.bias if isinstance(before, nir.Affine) else np.zeros(len(before.weight))
        bias = bias * node.scale + node.offset
        weight = before.weight * node.scale[:, None]
        return nir.Affine(weight, bias) if bias.any() else nir.Linear(weight)
    if isinstance(before, nir.Conv1d | nir.Conv2d) and (channels := _channels(node)) is not None:
        scale, offset = channels
        weight = before.weight * scale.reshape(-1, *[1] * (before.weight.ndim - 1))
        kind: Any = type(before)
        geometry = (before.stride, before.padding, before.dilation, before.groups)
        return kind(before.input_shape, weight, *geometry, before.bias * scale + offset)
    return None


def _channels(node: Elementwise) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return scale and offset per channel; ``None`` if they differ within one."""
    flat = [values.reshape(len(values), -1) for values in (node.scale, node.offset)]
    if any((values != values[:, :1]).any() for values in flat):
        return None
    return flat[0][:, 0], flat[1][:, 0]


def _standing(node: Elementwise, shape: Shape) -> Any:
    if not node.offset.any():
        return nir.Scale(node.scale)
    if len(shape) == 1:
        return nir.Affine(np.diag(node.scale), node.offset)
    channels = _channels(node)
    if channels is None or len(shape) > 3:
        raise Untranslatable("a constant that differs within a channel is added", "add it as the bias of a layer")
    scale, offset = channels
    # One weight per channel: a convolution of each channel on its own.
    count = len(scale)
    if len(shape) == 2:
        return nir.Conv1d(shape[1], scale.reshape(count, 1, 1), 1, 0, 1, count, offset)
    return nir.Conv2d((shape[1], shape[2]), scale.reshape(count, 1, 1, 1), 1, 0, 1, count, offset)
