"""What a spiking network is once it is lowered: ordered layers of neurons, and the connections that feed them.

A `Program` is what every simulator runs, what a bundle stores, and what costs are counted on. It has two precisions,
one structure. With ``a_t`` the sum over a layer's connections:

float (Lava ``floating_pt``; du, dv, v_threshold, bias may differ per neuron)::

    u = u·(1 − du) + a_t
    v = v·(1 − dv) + u + bias
    s = v > v_threshold;  v = 0 where s

integer (Lava ``fixed_pt`` and the silicon; du, dv, v_threshold are one number per layer; rz rounds toward zero)::

    u = wrap24(rz(u·(4096 − (du + 1)) / 4096) + (a_t << 6))
    v = clip(rz(v·(4096 − dv) / 4096) + u + (bias << bias_exp), ±(2^23 − 1))
    s = v > v_threshold << 6;  v = 0 where s

State is zero at the start of every sample. Start at `Program`, then `ashneuro.program.lower`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Precision = Literal["float", "integer"]


@dataclass(frozen=True, eq=False)
class Synapse:
    """A linear map ``y = W x`` from ``in_shape`` to ``out_shape``, without bias.

    Args:
        kind: ``"dense"``: weight (out, in) on the flattened arrays, or on the last axis when ``in_shape`` has more;
            ``"conv"``: weight (C_out, C_in / groups, *kernel), cross-correlation as in torch, 1-D or 2-D;
            ``"scale"``: weight of shape (), or broadcastable to ``in_shape``: element by element;
            ``"sparse"``: weight holds the values of a CSR matrix (N_out, N_in) with ``indices`` and ``indptr``.
        stride, padding, dilation: one number per spatial axis (conv); padding is zeros on (before, after).
        groups: convolution groups.
    """

    kind: Literal["dense", "conv", "scale", "sparse"]
    in_shape: Shape
    out_shape: Shape
    weight: NDArray[Any]
    stride: Shape = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: Shape = ()
    groups: int = 1
    indices: NDArray[np.int32] | None = None
    indptr: NDArray[np.int32] | None = None

    @property
    def in_size(self) -> int:
        """Number of elements that come in."""
        return math.prod(self.in_shape)

    @property
    def out_size(self) -> int:
        """Number of elements that go out."""
        return math.prod(self.out_shape)


@dataclass(frozen=True, eq=False)
class Connection:
    """Feeds a layer from ``source`` (a layer's or an input's name).

    With a synapse, what the source sends at machine step t arrives at machine step t + 1 + ``delay`` (every Lava
    synapse delivers one step late). Without one, the source's values enter the neurons ``delay`` steps later. Layers
    lag behind the input by their depth, so the lag in sample time is what `Program.lag` says: 0 but for recurrence
    and axonal delays. Where shapes differ between source, synapse and target, elements keep their row-by-row order.

    Args:
        source: name of an `InputPort` or of another `Layer`.
        synapse: the weights; ``None`` only from an input port.
        delay: extra steps, so that paths of unequal depth arrive together.
        weight_exp: integer programs: the weighted sum is shifted left by it (right when negative) before it arrives.
        nir: names of the NIR nodes that became this connection.
    """

    source: str
    synapse: Synapse | None
    delay: int = 0
    weight_exp: int = 0
    nir: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Neuron:
    """Parameters of the one neuron (module docstring).

    Args:
        du, dv: decay per step: a fraction in [0, 1] (float), or 0…4095 (integer; ``du`` is one less than the decay).
        v_threshold: float units, or the 17-bit mantissa. ``inf`` (float) for a read-out that never spikes.
        bias: added to v in every step; float units, or the 13-bit mantissa, broadcastable to the layer's shape.
        bias_exp: integer programs: the bias is ``bias << bias_exp``.
        spiking: ``False`` for a read-out (NIR ``LI``, ``I``, or a linear map at an Output): it gives its membrane
            potential instead of spikes.
        v_unit, v_origin: the membrane potential in the graph's own units is ``v_unit · v + v_origin``; in an integer
            program that of ``v / (64 · scale)``.
    """

    du: NDArray[Any]
    dv: NDArray[Any]
    v_threshold: NDArray[Any]
    bias: NDArray[Any]
    bias_exp: int = 0
    spiking: bool = True
    v_unit: NDArray[Any] = field(default_factory=lambda: np.ones(()))
    v_origin: NDArray[Any] = field(default_factory=lambda: np.zeros(()))


@dataclass(frozen=True, eq=False)
class Layer:
    """A population of neurons and everything that feeds it.

    Args:
        name: name of the NIR neuron node, unique in the program.
        shape: shape of the population, without batch and time.
        neuron: parameters.
        connections: what is summed into ``a_t``.
        depth: synapses with delay on the way from the input: this layer sees sample step t at machine step t + depth.
        scale: integer programs: integer units of ``a`` per float unit of current; 1 in a float program.
        nir: names of the NIR nodes that became this layer (neuron, bias, batch norm …).
    """

    name: str
    shape: Shape
    neuron: Neuron
    connections: tuple[Connection, ...]
    depth: int
    scale: float = 1.0
    nir: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class InputPort:
    """Where samples come in.

    Args:
        name: name of the NIR ``Input`` node.
        shape: shape of one sample at one step.
        coding: ``"current"``: analog values that enter neurons directly; ``"graded"``: analog values that pass a synapse;
            ``"spikes"``: 0 or 1.
        scale: integer programs: the host sends ``round(scale · x)``, saturated at ±``limit``.
        limit: integer programs: largest magnitude that is sent.
        constant: every value is 1 in every step; no data comes from outside. It carries a bias through synapses that
            filter it (CubaLIF), which a neuron's own bias would bypass.
    """

    name: str
    shape: Shape
    coding: Literal["current", "graded", "spikes"]
    scale: float = 1.0
    limit: int = 0
    constant: bool = False


@dataclass(frozen=True, eq=False)
class Program:
    """A lowered network: layers in an order in which every layer comes after its sources (recurrence excepted).

    Args:
        precision: which arithmetic the numbers are meant for.
        dt_s: duration of one step, seconds.
        timesteps: steps per sample, ``None`` when the input decides.
        inputs: where samples come in.
        layers: the populations, in order.
        outputs: names of the layers whose spikes (or read-outs) are the result.
    """

    precision: Precision
    dt_s: float
    timesteps: int | None
    inputs: tuple[InputPort, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    def layer(self, name: str) -> Layer:
        """Return the layer called ``name``."""
        return next(layer for layer in self.layers if layer.name == name)

    def connections(self) -> Iterator[tuple[Layer, Connection]]:
        """Yield every connection with the layer that it feeds."""
        return ((layer, connection) for layer in self.layers for connection in layer.connections)

    def lag(self, layer: Layer, connection: Connection) -> int:
        """Return by how many *sample* steps ``connection`` delays what it brings to ``layer``: 0 in a feed-forward net."""
        source = next((other.depth for other in self.layers if other.name == connection.source), 0)
        return source + (connection.synapse is not None) + connection.delay - layer.depth

    @property
    def depth(self) -> int:
        """Machine steps by which the last layer lags behind the input."""
        return max((layer.depth for layer in self.layers), default=0)
