"""Values of a traced run: the graph node that a tensor holds, and the meaning of its axes.

A tensor of signals has leading axes of time and batch, then the axes of one sample at one step::

    ("B",)        one step           (B, *shape)
    ("T", "B")    whole samples      (T, B, *shape)
    ("B", "T")    whole samples      (B, T, *shape)
    ("TB",)       both in one axis   (T·B, *shape), and ("BT",) with the batch outside
    ("1", "B")    one step, with an axis of size 1 that a module repeats over time
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

Shape = tuple[int, ...]
Axes = tuple[str, ...]


@dataclass(frozen=True)
class Term:
    """Values of a graph node.

    Args:
        node: its name.
        step: the step that they belong to; ``None``: every step.
    """

    node: str
    step: int | None = None


@dataclass(frozen=True)
class Signal:
    """A tensor that holds a sum of graph nodes' values.

    Args:
        terms: the nodes.
        axes: leading axes.
        shape: shape of one sample at one step.
    """

    terms: tuple[Term, ...]
    axes: Axes
    shape: Shape

    @property
    def sources(self) -> frozenset[str]:
        """Names of the nodes."""
        return frozenset(term.node for term in self.terms)

    def at(self, node: str, shape: Shape | None = None) -> Signal:
        """Return the values of ``node`` for the same samples and steps."""
        return Signal((Term(node, self.step),), self.axes, self.shape if shape is None else shape)

    @property
    def step(self) -> int | None:
        """The last step of its terms; ``None``: every step."""
        return max((term.step for term in self.terms if term.step is not None), default=None)


@dataclass(frozen=True)
class State:
    """State that a neuron returned after one of its calls, and that no node sends."""

    neuron: str
    call: int

    @property
    def sources(self) -> frozenset[str]:
        """Name of the neuron."""
        return frozenset({self.neuron})


@dataclass(frozen=True)
class Opaque:
    """A tensor that was computed from signals in a way that no graph expresses.

    Args:
        sources: the nodes that it was computed from.
        function: the first such function, and the module that called it, in words.
        remedy: what helps.
    """

    sources: frozenset[str]
    function: str
    remedy: str


Value = Signal | State | Opaque


def relaid(signal: Signal, new: Shape, sizes: Mapping[str, int]) -> tuple[Axes, Shape] | None:
    """Return leading axes and sample shape of a tensor of ``signal`` that is reshaped to ``new``.

    Args:
        sizes: T and B.

    Returns:
        ``None`` if the new axes mix samples or steps with neurons. Where several readings fit
        (T = 1 or B = 1), the one that leaves the sample's shape alone.
    """
    found = [
        (axes, tuple(new[len(axes) :]))
        for axes in _groupings([axis for group in signal.axes for axis in group])
        if tuple(new[: len(axes)]) == tuple(math.prod(sizes[axis] for axis in group) for group in axes)
        and math.prod(new[len(axes) :]) == math.prod(signal.shape)
    ]
    unchanged = [reading for reading in found if reading[1] == signal.shape]
    return next(iter(unchanged or found), None)


def _groupings(atoms: Sequence[str]) -> Iterator[Axes]:
    """Iterate over the ways to merge neighbouring axes."""
    for cuts in product((True, False), repeat=max(len(atoms) - 1, 0)):
        groups = [atoms[0]] if atoms else []
        for atom, cut in zip(atoms[1:], cuts, strict=True):
            groups = [*groups, atom] if cut else [*groups[:-1], groups[-1] + atom]
        yield tuple(groups)


def merged_axes(old: Shape, new: Shape) -> tuple[int, int] | None:
    """Return the first and the last axis of ``old`` that ``new`` merges into one; ``None``: it does
    something else.
    """
    count = len(old) - len(new) + 1
    for start in range(len(new)) if count > 1 else ():
        end = start + count
        if new == (*old[:start], math.prod(old[start:end]), *old[end:]):
            return start, end - 1
    return None


def permuted(signal: Signal, order: Sequence[int]) -> Signal | None:
    """Return ``signal`` with its axes in another order; ``None`` if neurons' axes move."""
    count = len(signal.axes)
    if list(order[count:]) != list(range(count, len(order))):
        return None
    return replace(signal, axes=tuple(signal.axes[axis] for axis in order[:count]))


def unsqueezed(signal: Signal, axis: int) -> Signal | None:
    """Return ``signal`` with a leading axis of size 1; ``None`` for an axis of neurons."""
    if axis > len(signal.axes):
        return None
    return replace(signal, axes=(*signal.axes[:axis], "1", *signal.axes[axis:]))


def repeated(signal: Signal, times: Sequence[int], timesteps: int) -> Signal | None:
    """Return ``signal`` with its axis of size 1 repeated over all steps.

    Args:
        times: number of repetitions of each axis.

    Returns:
        ``None`` if anything else is repeated.
    """
    if "1" not in signal.axes or len(times) != len(signal.axes) + len(signal.shape):
        return None
    axis = signal.axes.index("1")
    if times[axis] != timesteps or any(n != 1 for index, n in enumerate(times) if index != axis):
        return None
    return replace(signal, axes=tuple("T" if name == "1" else name for name in signal.axes))


def selected(signal: Signal, axis: int, index: int, timesteps: int) -> Signal | None:
    """Return one step of ``signal``, or one sample; ``None`` if ``axis`` is one of neurons."""
    if axis >= len(signal.axes) or signal.axes[axis] not in ("T", "B"):
        return None
    rest = (*signal.axes[:axis], *signal.axes[axis + 1 :])
    if signal.axes[axis] == "B":
        return replace(signal, axes=rest)
    step = index + timesteps * (index < 0)
    return Signal(tuple(Term(term.node, step) for term in signal.terms), rest, signal.shape)


def stacked(parts: Sequence[Signal], axis: int, timesteps: int) -> Signal | None:
    """Return the signal of all steps, stacked along ``axis``; ``None`` if they are not that."""
    first = parts[0]
    if len(parts) != timesteps or axis > len(first.axes):
        return None
    for step, part in enumerate(parts):
        if part.axes != first.axes or part.shape != first.shape or part.sources != first.sources:
            return None
        if any(term.step not in (step, None) for term in part.terms):
            return None
    terms = tuple(Term(term.node) for term in first.terms)
    return Signal(terms, (*first.axes[:axis], "T", *first.axes[axis:]), first.shape)
