"""NIR's primitives: which there are, their parameters, and the numbers of one node."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from ashneuro.program.program import Shape
from ashneuro.program.synapse import Window

LINEAR = (nir.Affine, nir.Linear, nir.Scale, nir.Conv1d, nir.Conv2d, nir.SumPool2d, nir.AvgPool2d, nir.Flatten)
SPIKING = (nir.LIF, nir.CubaLIF, nir.IF, nir.Threshold)
READ_OUT = (nir.LI, nir.CubaLI, nir.I)

PRIMITIVES: dict[str, type] = {
    kind.__name__: kind for kind in (nir.Input, nir.Output, *LINEAR, nir.Delay, *SPIKING, *READ_OUT, nir.NIRGraph)
}

# Parameters of each primitive that are real numbers, and must be finite.
PARAMETERS: dict[type, tuple[str, ...]] = {
    nir.Affine: ("weight", "bias"),
    nir.Linear: ("weight",),
    nir.Scale: ("scale",),
    nir.Conv1d: ("weight", "bias"),
    nir.Conv2d: ("weight", "bias"),
    nir.Delay: ("delay",),
    nir.LIF: ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    nir.CubaLIF: ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
    nir.IF: ("r", "v_threshold", "v_reset"),
    nir.LI: ("tau", "r", "v_leak"),
    nir.CubaLI: ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    nir.I: ("r",),
    nir.Threshold: ("threshold",),
}

# Parameters that are whole numbers. A padding may also be "same" or "valid"; a missing input_shape
# follows from the edges.
WHOLE_PARAMETERS: dict[type, tuple[str, ...]] = {
    nir.Conv1d: ("stride", "padding", "dilation", "groups", "input_shape"),
    nir.Conv2d: ("stride", "padding", "dilation", "groups", "input_shape"),
    nir.SumPool2d: ("kernel_size", "stride", "padding"),
    nir.AvgPool2d: ("kernel_size", "stride", "padding"),
    nir.Flatten: ("start_dim", "end_dim"),
}
SCALARS = ("groups", "start_dim", "end_dim")


def nir_type(node: Any) -> str:
    """Return the name of a node's NIR primitive."""
    return type(node).__name__


def numbers(node: Any, name: str) -> NDArray[np.float64]:
    """Return one parameter of ``node`` as float64."""
    return np.asarray(getattr(node, name), np.float64)


def delay_steps(node: nir.Delay, dt_s: float) -> NDArray[np.float64]:
    """Return the delay of every element in steps.

    Delays that are whole up to the rounding of float32 are whole.
    """
    steps = numbers(node, "delay") / dt_s
    whole = np.rint(steps)
    return np.where(np.abs(steps - whole) <= 1e-4 * np.maximum(1.0, whole), whole, steps)


def window(node: Any) -> Window:
    """Return the geometry of a Conv1d, Conv2d, SumPool2d or AvgPool2d.

    Raises:
        ValueError: a number is missing, or there are more numbers than spatial axes.
    """
    pooling = isinstance(node, nir.SumPool2d | nir.AvgPool2d)
    kernel = _axes(node.kernel_size, 2) if pooling else tuple(int(n) for n in np.shape(node.weight)[2:])
    axes = len(kernel)
    dilation = (1,) * axes if pooling else _axes(node.dilation, axes)
    padding = node.padding
    if isinstance(padding, bytes):  # as h5py reads it
        padding = padding.decode()
    if isinstance(padding, str):
        total = [gap * (taps - 1) if padding == "same" else 0 for gap, taps in zip(dilation, kernel, strict=True)]
        pads = tuple((n // 2, n - n // 2) for n in total)  # the odd element at the end, as in torch
    else:
        pads = tuple((n, n) for n in _axes(padding, axes))
    return Window(kernel, _axes(node.stride, axes), pads, dilation)


def _axes(value: Any, axes: int) -> Shape:
    items = np.asarray(value).ravel()
    if items.size not in (1, axes):
        raise ValueError(f"{items.size} numbers for {axes} spatial axes")
    return tuple(int(n) for n in np.broadcast_to(items, axes))
