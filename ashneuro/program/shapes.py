"""Shapes of NIR nodes: those that a node states, and those that follow from the edges.

A shape is that of one sample at one step, without axes of batch or time. A neuron, Scale or Delay
whose parameters are single values has no size of its own: it takes that of the node before it, or,
where that is open too, of the node behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import nir
import numpy as np

from ashneuro.program.primitives import PARAMETERS, READ_OUT, SPIKING, window
from ashneuro.program.program import Shape
from ashneuro.program.synapse import conv_shape

Shapes = dict[str, Shape | None]
Edges = Sequence[tuple[str, str]]

# Nodes that give the shape that they take, element by element.
ELEMENTWISE = (nir.Scale, nir.Delay, *SPIKING, *READ_OUT)
PORTS = (nir.Input, nir.Output)
# Axes of the input of nodes that slide a window: channels, and the spatial ones.
WINDOWED: Mapping[type, int] = {nir.Conv1d: 2, nir.Conv2d: 3, nir.SumPool2d: 3, nir.AvgPool2d: 3}


def infer_shapes(nodes: Mapping[str, Any], edges: Edges) -> tuple[Shapes, Shapes]:
    """Return the input and the output shape of every node; ``None`` where they are not known.

    Args:
        nodes: by name; ``None`` for a node that cannot be read.
        edges: (source, target); ends that are no nodes are left out.
    """
    taken: Shapes = {name: stated_shape(node) for name, node in nodes.items()}
    given: Shapes = {name: output_shape(node, taken[name]) for name, node in nodes.items()}
    edges = [(a, b) for a, b in edges if nodes.get(a) is not None and nodes.get(b) is not None]

    def fill(name: str, shape: Shape) -> None:
        taken[name] = shape
        given[name] = output_shape(nodes[name], shape)

    def forward() -> bool:
        found = False
        for a, b in edges:
            shape = given[a]
            if taken[b] is None and shape is not None and isinstance(nodes[b], (*ELEMENTWISE, *PORTS, *_FOLLOWING)):
                fill(b, _windowed(nodes[b], shape))
                found = True
        return found

    def backward() -> bool:
        for a, b in edges:
            shape = taken[b]
            if taken[a] is None and shape is not None and isinstance(nodes[a], (*ELEMENTWISE, *PORTS)):
                fill(a, shape)
                return True
        return False

    def alone() -> bool:
        # Parameters of shape (1,) where no edge says more: a population of one.
        for name, node in nodes.items():
            own = parameter_shape(node) if taken[name] is None and isinstance(node, ELEMENTWISE) else None
            if own:
                fill(name, own)
                return True
        return False

    # Every round fills in at least one shape.
    while forward() or backward() or alone():
        pass
    return taken, given


_FOLLOWING = (*WINDOWED, nir.Flatten)


def stated_shape(node: Any) -> Shape | None:
    """Return the input shape that a node's own parameters give.

    ``None`` where there is none: single values for a whole population, a shape left out, or one
    without axes.
    """
    if isinstance(node, (*PORTS, nir.Flatten)):
        return _shape(node.input_type.get("input") if isinstance(node.input_type, Mapping) else node.input_type) or None
    if isinstance(node, nir.Affine | nir.Linear):
        shape = np.shape(node.weight)
        return (*shape[:-2], shape[-1]) if len(shape) >= 2 else None
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        spatial = _shape(node.input_shape)
        weight = np.shape(node.weight)
        fits = spatial is not None and len(weight) == 2 + len(spatial)
        return (int(weight[1] * node.groups), *spatial) if fits and spatial is not None else None
    if isinstance(node, ELEMENTWISE):
        shape = parameter_shape(node)
        return shape if shape and math.prod(shape) != 1 else None
    return None


def parameter_shape(node: Any) -> Shape:
    """Return the common shape of the parameters of a neuron, Scale or Delay; of the first where
    they have none.
    """
    shapes: list[Shape] = [np.shape(getattr(node, name)) for name in PARAMETERS[type(node)]]
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        return shapes[0]


def output_shape(node: Any, in_shape: Shape | None) -> Shape | None:
    """Return the shape that a node gives for the shape that it takes; ``None`` where nothing is
    left of it.
    """
    if node is None or in_shape is None or math.prod(in_shape) == 0:
        return None
    if isinstance(node, nir.Affine | nir.Linear):
        return (*in_shape[:-1], np.shape(node.weight)[-2])
    if type(node) in WINDOWED:
        try:
            slide = window(node)
            channels = in_shape[0] if isinstance(node, nir.SumPool2d | nir.AvgPool2d) else int(np.shape(node.weight)[0])
            shape = conv_shape(in_shape, slide.kernel, channels, slide.stride, slide.padding, slide.dilation)
        except (ValueError, TypeError, IndexError, ZeroDivisionError):
            return None
        return shape if all(size > 0 for size in shape) else None
    if isinstance(node, nir.Flatten):
        return flattened(in_shape, int(node.start_dim), int(node.end_dim))
    return in_shape


def flattened(shape: Shape, start: int, end: int) -> Shape | None:
    """Return ``shape`` with the axes from ``start`` to ``end`` as one; ``None`` if it has no such
    axes.
    """
    start, end = (dim + len(shape) * (dim < 0) for dim in (start, end))
    fits = 0 <= start <= end < len(shape)
    return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]) if fits else None


def axes_in_front(longer: Shape, shorter: Shape) -> Shape | None:
    """Return the leading axes that ``longer`` has and ``shorter`` does not; ``None`` if they differ
    elsewhere.
    """
    extra = len(longer) - len(shorter)
    return longer[:extra] if extra > 0 and shorter and longer[extra:] == shorter else None


def _windowed(node: Any, shape: Shape) -> Shape:
    """Return ``shape`` with as many axes as the node's window has: without leading ones in front of
    the channels.
    """
    axes = WINDOWED.get(type(node))
    while axes is not None and len(shape) > axes and shape[0] == 1:
        shape = shape[1:]
    return shape


def _shape(value: Any) -> Shape | None:
    return None if value is None else tuple(int(n) for n in np.asarray(value).ravel())
