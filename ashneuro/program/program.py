"""Programs: lowered networks, as ordered layers of neurons and the connections that feed them.

Simulators run a `Program`, bundles store it, costs are counted on it. Float and integer programs
have one structure. With ``a_t`` the sum over a layer's connections:

float (Lava ``floating_pt``; du, dv, v_threshold, bias may differ per neuron; v_threshold lies
beyond the ties of `ashneuro.spiking.firing`)::

    u = u·(1 − du) + a_t
    v = v·(1 − dv) + u + bias
    s = v > v_threshold;  v = 0 where s          (`Firing`: or ≥; or v − v_subtract; or a step late)
                                                 (`Message`: or a value; then v = 0 in every step;
                                                 or a change, of a value f(u + bias); or a
                                                 count, v_subtract apart from v_threshold on)

integer (Lava ``fixed_pt`` and the silicon; v_threshold is one number per layer; rz rounds toward
zero)::

    u = wrap24(rz(u·(4096 − (du + 1)) / 4096) + (a_t << 6))
    v = clip(rz(v·(4096 − dv) / 4096) + u + (bias << bias_exp), ±(2^23 − 1))
    s = v > v_threshold << 6;  v = 0 where s

Integers that send changes are not shifted by 6: u is the sum of all a (``du`` = −1) or a_t alone
(4095), and `ashneuro.spiking.message` has what follows. A read-out with such a message gives u.

State is zero at the start of every sample. `ashneuro.program.lower` makes float programs,
`ashneuro.program.quantise` integer ones; `ashneuro.loihi` has the bit widths.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ashneuro.loihi import DECAY_ONE, STATE_UNIT
from ashneuro.program.assumption import Assumptions
from ashneuro.spiking.dynamics import DYNAMICS, DynamicsName
from ashneuro.spiking.firing import LIF_FIRING, Firing
from ashneuro.spiking.message import SPIKE, Message

Shape = tuple[int, ...]
Precision = Literal["float", "integer"]


@dataclass(frozen=True, eq=False)
class Synapse:
    """A linear map ``y = W x`` from ``in_shape`` to ``out_shape``, without bias.

    Args:
        kind: ``"dense"``: weight (out, in) on the flattened arrays, or on the last axis when
            ``in_shape`` has more; ``"conv"``: weight (C_out, C_in / groups, *kernel),
            cross-correlation as in torch, 1-D or 2-D; ``"scale"``: weight of shape () or
            broadcastable to ``in_shape``, multiplied elementwise; ``"sparse"``: weight holds the
            values of a CSR matrix (N_out, N_in) with ``indices`` and ``indptr``.
        in_shape, out_shape: without batch and time.
        weight: float64, or int32 mantissas in integer programs.
        stride, padding, dilation: conv: one number per spatial axis; padding with zeros, (before,
            after).
        groups: conv: number of groups.
        indices, indptr: sparse: as in `scipy.sparse.csr_matrix`.
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
        """Number of input elements."""
        return math.prod(self.in_shape)

    @property
    def out_size(self) -> int:
        """Number of output elements."""
        return math.prod(self.out_shape)

    @cached_property
    def largest_row(self) -> int:
        """Largest sum of absolute weights of one output, if weights are whole numbers."""
        if self.kind == "scale":
            return int(np.abs(self.weight).max())
        if self.kind == "sparse":
            assert self.indptr is not None
            rows = np.repeat(np.arange(self.out_size), np.diff(self.indptr))
            return int(np.bincount(rows, np.abs(self.weight), 1).max())
        return int(np.abs(self.weight).reshape(len(self.weight), -1).sum(axis=1, dtype=np.int64).max())


@dataclass(frozen=True, eq=False)
class Connection:
    """A connection from ``source`` to the layer that holds it.

    Through a synapse, values sent at machine step t arrive at machine step t + 1 + ``delay``,
    because every synapse of Lava delivers one step late. Without a synapse they enter the neurons
    ``delay`` steps later. A layer lags behind the input by its depth, so the lag in sample time is
    `Program.lag`: 0 except for recurrence and axonal delays. Where the shapes of source, synapse
    and target differ, elements keep their row-major order.

    Args:
        source: name of an `InputPort` or of a `Layer`.
        synapse: weights; ``None`` only from an input port.
        delay: extra steps, which let paths of unequal depth arrive together.
        weight_exp: integer programs: the weighted sum is shifted left by it (right when negative).
        nir: names of the NIR nodes that became this connection.
        imaginary: it enters the imaginary part of neurons that resonate.
    """

    source: str
    synapse: Synapse | None
    delay: int = 0
    weight_exp: int = 0
    nir: tuple[str, ...] = ()
    imaginary: bool = False


@dataclass(frozen=True, eq=False)
class Neuron:
    """Parameters of the neurons of a layer; the module docstring has the equations.

    Arrays broadcast to the layer's shape.

    Args:
        du, dv: decay per step: a fraction in [0, 1] (float), or 0 … 4095 (integer; ``du`` is the
            decay minus 1).
        v_threshold: float units, or the 17-bit mantissa; ``inf`` for a read-out of a float program.
        bias: added to v in every step; float units, or the 13-bit mantissa.
        bias_exp: integer programs: the bias is ``bias << bias_exp``.
        spiking: ``False`` for a read-out (NIR ``LI``, ``CubaLI``, ``I``, or a linear map at an
            Output), whose output is its membrane potential. Other neurons send messages.
        firing: comparison with the threshold, and the reset.
        v_subtract: subtracted from v by a spike where ``firing.reset`` is ``"subtract"``; in units
            of v_threshold. ``None`` otherwise.
        message: what a neuron sends. Neurons that send graded values are stateless: u and v are 0
            before every step, whatever du and dv are. Those that send changes keep u where du is 0.
            Those that send counts reset by subtraction.
        dynamics: kind of neuron; `ashneuro.spiking.dynamics` has the equations. A kind other than
            ``"lif"`` has its own firing, and ``firing`` is the default.
        parameters: what the kind needs beside the fields above, by name: decays like ``dv``,
            amounts of v in units of v_threshold, whole numbers of steps.
        v_unit, v_origin: the membrane potential in the graph's own units is ``v_unit · v +
            v_origin``, with ``v / (64 · scale)`` in place of v in an integer program.
    """

    du: NDArray[Any]
    dv: NDArray[Any]
    v_threshold: NDArray[Any]
    bias: NDArray[Any]
    bias_exp: int = 0
    spiking: bool = True
    firing: Firing = LIF_FIRING
    v_subtract: NDArray[Any] | None = None
    message: Message = SPIKE
    dynamics: DynamicsName = "lif"
    parameters: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    v_unit: NDArray[Any] = field(default_factory=lambda: np.ones(()))
    v_origin: NDArray[Any] = field(default_factory=lambda: np.zeros(()))

    @property
    def graded(self) -> bool:
        """True if the neurons are stateless and send values in units of their threshold."""
        return self.spiking and self.message.graded

    @property
    def changes(self) -> bool:
        """True if the neurons send changes of values in units of their threshold."""
        return self.spiking and self.message.changes

    @property
    def potential(self) -> bool:
        """True if the neurons are read-outs that send their potential to further layers."""
        return self.spiking and self.message.potential

    @property
    def payload(self) -> bool:
        """True if messages carry numbers."""
        return self.spiking and self.message.payload

    @property
    def scale_free(self) -> bool:
        """True if what the neurons send does not depend on the unit of v."""
        return self.spiking and not (self.message.graded or self.message.changes or self.message.potential)

    @property
    def binary(self) -> bool:
        """True if all that the neurons send is 0 or 1."""
        return self.spiking and not self.message.payload

    @property
    def state_unit(self) -> int:
        """Units of u and v per unit of a, in an integer program."""
        return 1 if self.message.changes else STATE_UNIT


@dataclass(frozen=True, eq=False)
class Layer:
    """A population of neurons and the connections that feed it.

    Args:
        name: name of the NIR neuron node, unique in the program.
        shape: shape of the population, without batch and time.
        neuron: parameters.
        connections: summed into ``a_t``.
        depth: machine steps behind the input: the layer computes sample step t at machine step t +
            depth.
        scale: integer programs: integer units of ``a`` per float unit of current; 1 in a float
            program.
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

    @property
    def synapses(self) -> tuple[Synapse, ...]:
        """Synapses of its connections; an analog input may enter without one."""
        return tuple(connection.synapse for connection in self.connections if connection.synapse is not None)

    @property
    def complex_input(self) -> bool:
        """True if a connection enters the imaginary part."""
        return any(connection.imaginary for connection in self.connections)


@dataclass(frozen=True, eq=False)
class InputPort:
    """An input of a program.

    Args:
        name: name of the NIR ``Input`` node.
        shape: shape of one sample at one step.
        coding: ``"current"``: analog values that enter neurons directly; ``"graded"``: analog
            values that pass a synapse; ``"spikes"``: 0 or 1.
        scale: integer programs: the host sends ``round(scale · x)``, saturated at ±``limit``.
        limit: integer programs: largest magnitude that is sent.
        constant: the value is 1 in every step, without data from outside: a line that carries a
            bias through the synaptic filter of CubaLIF, which a neuron's own bias would bypass.
    """

    name: str
    shape: Shape
    coding: Literal["current", "graded", "spikes"]
    scale: float = 1.0
    limit: int = 0
    constant: bool = False


@dataclass(frozen=True, eq=False)
class Program:
    """A lowered network: every layer comes after its sources, except in recurrence.

    Neither it nor its arrays change: simulators keep what they derive from them. A program with
    other numbers is another one.

    Args:
        precision: arithmetic that the numbers are meant for.
        dt_s: duration of one step, seconds.
        timesteps: steps per sample; ``None`` when the input decides.
        inputs: input ports.
        layers: populations, in order.
        outputs: names of the layers whose spikes (or read-outs) are the result.
        notes: remarks on how the network was read, for users.
        assumptions: what the network's source left open.
    """

    precision: Precision
    dt_s: float
    timesteps: int | None
    inputs: tuple[InputPort, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())
    assumptions: Assumptions = ()

    @property
    def fed_inputs(self) -> tuple[InputPort, ...]:
        """Input ports that samples feed: all but constant lines."""
        return tuple(port for port in self.inputs if not port.constant)

    def layer(self, name: str) -> Layer:
        """Return the layer called ``name``."""
        return next(layer for layer in self.layers if layer.name == name)

    def port(self, name: str) -> InputPort | None:
        """Return the input port called ``name``; ``None`` where a layer, or nothing, is."""
        return next((port for port in self.inputs if port.name == name), None)

    def connections(self) -> Iterator[tuple[Layer, Connection]]:
        """Iterate over (layer, connection that feeds it)."""
        return ((layer, connection) for layer in self.layers for connection in layer.connections)

    def lag(self, layer: Layer, connection: Connection) -> int:
        """Return the delay of a connection in *sample* steps: 0 in a feed-forward network."""
        source = next((other.depth for other in self.layers if other.name == connection.source), 0)
        return source + (connection.synapse is not None) + connection.delay - layer.depth

    @property
    def streams(self) -> bool:
        """True if some layer sends changes: timesteps are then the frames of a stream."""
        return any(layer.neuron.changes for layer in self.layers)

    @property
    def depth(self) -> int:
        """Machine steps by which the deepest layer lags behind the input."""
        return max((layer.depth for layer in self.layers), default=0)


def decay_groups(layer: Layer, precision: Precision) -> list[int]:
    """Return the number of neurons of each pair (du, dv) in 1/4096 that occurs in ``layer``.

    Hardware has one pair per population. Neurons that resonate have sin and cos as well.
    """
    neuron, kinds = layer.neuron, DYNAMICS[layer.neuron.dynamics].kinds
    rates = (neuron.du, neuron.dv, *(value for name, value in neuron.parameters.items() if kinds[name] == "turn"))
    if all(np.size(rate) == 1 for rate in rates):
        return [layer.size]
    unit = 1 if precision == "integer" else DECAY_ONE
    decays = [np.broadcast_to(np.rint(rate * unit), layer.shape).ravel() for rate in rates]
    _, counts = np.unique(np.stack(decays, axis=1), axis=0, return_counts=True)
    return [int(count) for count in counts]
