"""Limits of SANA-FE's model of Loihi, as rules on float and integer programs.

Read from the sources of SANA-FE 2.2.9 (`src/models.cpp`, `src/mapped.cpp`, `src/netlist.cpp`) and
its `loihi.yaml`, and tried there. Its soma computes, in units of a weight's mantissa::

    u = input_decay·u + Σ w
    v = rz(64·leak_decay·v) / 64 + bias + u
    s = v > threshold;  v = 0 where s, or v − threshold

That is Loihi's arithmetic with v in 1/64, except that u keeps its fractions, and nothing wraps or
saturates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ashneuro.errors import GraphError
from ashneuro.loihi import DECAY_ONE
from ashneuro.program.placement.place import place
from ashneuro.program.placement.placement import CoreLimits
from ashneuro.program.program import InputPort, Layer, Program
from ashneuro.program.rules.finding import Violation
from ashneuro.program.synapse import fan_out

LARGEST_SANAFE_DELAY = 5  # of its delay dendrite, beyond the step that every spike takes
MANY_SYNAPSES = 2_000_000
BYTES_PER_SYNAPSE = 2450  # resident memory of SANA-FE 2.2.9, 10⁶ synapses
ELSEWHERE = "ashneuro simulate FILE --on loihi --inputs x.npy computes it; no second opinion on its energy"

SanafeRule = Callable[[Program, CoreLimits], Iterator[Violation]]


def known_dynamics(program: Program, limits: CoreLimits) -> Iterator[Violation]:
    """SANA-FE's soma for Loihi integrates LIF, CubaLIF and IF; other dynamics are not in it."""
    for layer in program.layers:
        if layer.neuron.dynamics != "lif":
            yield Violation(layer.name, f"{layer.neuron.dynamics} neurons", ELSEWHERE)


def binary_messages(program: Program, limits: CoreLimits) -> Iterator[Violation]:
    """A spike of SANA-FE has no value: messages that carry numbers are not in its model."""
    for layer in program.layers:
        if layer.neuron.payload:
            message = layer.neuron.message
            yield Violation(layer.name, f"{message.words} of {message.bits} bits", ELSEWHERE)


def reset_at_once(program: Program, limits: CoreLimits) -> Iterator[Violation]:
    """A reset of SANA-FE acts in the step of the spike, not one step later."""
    for layer in program.layers:
        if layer.neuron.firing.reset_delay:
            remedy = "train with a reset in the same step (snnTorch: reset_delay=False)"
            yield Violation(layer.name, f"reset {layer.neuron.firing.reset_delay} step late", remedy)


def subtracts_threshold(program: Program, limits: CoreLimits) -> Iterator[Violation]:
    """SANA-FE compares by > and subtracts the threshold that it compares with.

    Loihi's v ≥ v_threshold is v > v_threshold − 1/64 there, so a spike subtracts 1/64 too little.
    """
    for layer in program.layers:
        firing = layer.neuron.firing
        if firing.reset == "subtract" and firing.comparison == "inclusive":
            yield Violation(layer.name, "v ≥ v_threshold, reset by subtraction", "compare the spikes", "note")


def spikes_through_synapses(program: Program, limits: CoreLimits) -> Iterator[Violation]:
    """Inputs of SANA-FE are spikes, or a bias of the first neurons: an analog value does not pass a
    synapse.
    """
    for port in program.inputs:
        if port.coding == "graded":
            remedy = "encode the input as spikes, or compute the first weights on the host (a current)"
            yield Violation(port.name, "analog values through synapses", remedy)


def current_into_lif(program: Program, limits: CoreLimits) -> Iterator[Violation]:
    """A current of the host is a bias of SANA-FE's neurons, which the synaptic filter of a CubaLIF
    does not see.
    """
    for layer, connection in program.connections():
        if connection.synapse is None and filtered(layer, program):
            yield Violation(layer.name, f"{connection.source} enters a CubaLIF", "begin with LIF neurons")


def no_lag(program: Program, limits: CoreLimits) -> Iterator[Violation]:
    """Samples follow one another in one network: after recurrence or an axonal delay, the last
    spikes of a sample would reach the next.
    """
    for layer, connection in program.connections():
        if program.lag(layer, connection) > 0:
            yield Violation(layer.name, f"{connection.source} arrives {program.lag(layer, connection)} late", ELSEWHERE)


def delays_in_range(program: Program, limits: CoreLimits) -> Iterator[Violation]:
    """A connection of SANA-FE is at most 5 steps late."""
    for layer, connection in program.connections():
        if connection.synapse is not None and connection.delay > LARGEST_SANAFE_DELAY:
            yield Violation(layer.name, f"{connection.source} arrives {connection.delay} late", "shorten the skip")


def one_chip(program: Program, limits: CoreLimits) -> Iterator[Violation]:
    """SANA-FE's Loihi is one chip of 128 cores; the lines that send the inputs' spikes lie on cores
    of it, too.
    """
    try:
        placed = place(program, limits).cores
    except GraphError as error:
        yield Violation("graph", error.why, error.do)
        return
    needed = placed + input_cores(program, limits)
    if needed > limits.cores_per_chip:
        actual = f"{placed} cores and {needed - placed} for inputs, of {limits.cores_per_chip}"
        yield Violation("graph", actual, "make the network smaller")


def fine_currents(program: Program, limits: CoreLimits) -> Iterator[Violation]:
    """SANA-FE keeps the fractions of a synaptic current, which Loihi rounds: spikes may differ."""
    for layer in program.layers:
        if filtered(layer, program):
            yield Violation(layer.name, "CubaLIF: the current decays gradually", "compare the spikes", "note")
        elif any(connection.weight_exp < 0 for connection in layer.connections):
            yield Violation(layer.name, "a weight exponent below 0", "compare the spikes", "note")


def enough_memory(program: Program, limits: CoreLimits) -> Iterator[Violation]:
    """SANA-FE takes about 2.4 kB of memory per synapse, shared weights of a convolution one by
    one.
    """
    if (synapses := count_synapses(program)) > MANY_SYNAPSES:
        actual = f"{synapses:,} synapses, about {synapses * BYTES_PER_SYNAPSE / 1e9:.0f} GB"
        yield Violation("graph", actual, "run it where there is as much memory", "note")


SANAFE_RULES: Mapping[str, SanafeRule] = {
    "sanafe_dynamics": known_dynamics,
    "sanafe_messages": binary_messages,
    "sanafe_reset": reset_at_once,
    "sanafe_subtraction": subtracts_threshold,
    "sanafe_inputs": spikes_through_synapses,
    "sanafe_current": current_into_lif,
    "sanafe_lag": no_lag,
    "sanafe_delay": delays_in_range,
    "sanafe_chip": one_chip,
    "sanafe_rounding": fine_currents,
    "sanafe_memory": enough_memory,
}


def filtered(layer: Layer, program: Program) -> bool:
    """Return True if the layer's synaptic current outlasts a step (CubaLIF)."""
    gone = DECAY_ONE - 1 if program.precision == "integer" else 1.0
    return bool((np.asarray(layer.neuron.du) != gone).any())


def spiking_ports(program: Program) -> list[InputPort]:
    """Return the ports whose lines send spikes through synapses."""
    return [port for port in program.inputs if port.coding == "spikes"]


def input_cores(program: Program, limits: CoreLimits) -> int:
    """Number of cores that the lines of the inputs take."""
    return math.ceil(sum(math.prod(port.shape) for port in spiking_ports(program)) / limits.neurons)


def count_synapses(program: Program) -> int:
    """Number of pairs of neurons that a weight other than zero joins."""
    return sum(int(fan_out(c.synapse).sum()) for _, c in program.connections() if c.synapse is not None)
