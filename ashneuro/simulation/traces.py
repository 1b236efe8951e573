"""Current and membrane potential of single neurons in each step, in the emulator and in Lava."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import DataError
from ashneuro.loihi import STATE_UNIT
from ashneuro.program.assumption import Assumptions
from ashneuro.program.program import Layer, Program
from ashneuro.simulation.compare import READ_OUT_TOLERANCE
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.inputs import Inputs, check_inputs
from ashneuro.simulation.lava.session import Lava

EMULATOR, LAVA = "emulator", "Lava"
Values = NDArray[np.generic] | None


@dataclass(frozen=True, eq=False)
class States:
    """u, v and spikes (T,) of one neuron in one simulator; v after the reset."""

    u: NDArray[np.float64]
    v: NDArray[np.float64]
    spikes: NDArray[np.bool_]

    @property
    def shown_v(self) -> NDArray[np.float64]:
        """v, with NaN in the steps of spikes: there the arithmetic has 0, but a chip reads 128."""
        return np.where(self.spikes, np.nan, self.v)


@dataclass(frozen=True, eq=False)
class NeuronTrace:
    """One neuron of one sample.

    Args:
        layer, neuron: name of the layer, and flat index in it.
        threshold: in the units of v; ``None`` for a read-out.
        states: by name of the simulator.
        assumptions: what the network's source left open.
    """

    layer: str
    neuron: int
    threshold: float | None
    states: Mapping[str, States]
    assumptions: Assumptions = ()

    @property
    def differing(self) -> int:
        """Number of steps in which simulators differ in u, in v (except at spikes) or in spikes."""
        first, *others = self.states.values()
        wrong = np.zeros(len(first.u), bool)
        for other in others:
            close = np.isclose(first.u, other.u, rtol=READ_OUT_TOLERANCE, atol=READ_OUT_TOLERANCE)
            v, other_v = first.shown_v, other.shown_v
            close &= np.isclose(v, other_v, rtol=READ_OUT_TOLERANCE, atol=READ_OUT_TOLERANCE, equal_nan=True)
            wrong |= ~close | (first.spikes != other.spikes)
        return int(wrong.sum())


def parse_neurons(program: Program, texts: Sequence[str]) -> dict[str, list[int]]:
    """Return flat indices by layer, for texts ``"LAYER:INDEX"``.

    Raises:
        DataError: no such layer or neuron.
    """
    sizes = {layer.name: layer.size for layer in program.layers}
    chosen: dict[str, list[int]] = {}
    for text in texts:
        name, _, neuron = text.rpartition(":")
        if name not in sizes or not neuron.isdecimal() or int(neuron) >= sizes[name]:
            layers = ", ".join(f"{layer}:0…{size - 1}" for layer, size in sizes.items())
            raise DataError(
                f"--trace {text}", f"the neurons of this network are {layers}", f"--trace {next(iter(sizes))}:0"
            )
        if int(neuron) not in chosen.setdefault(name, []):
            chosen[name].append(int(neuron))
    return chosen


def trace_neurons(
    program: Program, inputs: Inputs, neurons: Mapping[str, Sequence[int]], *, sample: int = 0, lava: Lava | None = None
) -> tuple[NeuronTrace, ...]:
    """Return traces of one sample, from the emulator and an open Lava.

    Args:
        neurons: flat indices, by layer.

    Raises:
        DataError: the inputs do not fit, or there is no such sample.
        LavaError: Lava failed.
    """
    checked = check_inputs(program.inputs, program.timesteps, inputs)
    samples = next(iter(checked.values())).shape[1]
    if not 0 <= sample < samples:
        raise DataError(f"--trace-sample {sample}", f"there are {samples} samples, counted from 0", "--trace-sample 0")
    one = {port.name: checked[port.name][:, sample : sample + 1] for port in program.fed_inputs}
    emulated = run_program(program, one, rasters=list(neurons), traces=list(neurons))
    traced = {} if lava is None else lava.trace(program, one, neurons)
    traces = []
    for name, indices in neurons.items():
        layer, activity = program.layer(name), emulated.layers[name]
        for column, index in enumerate(indices):
            states = {EMULATOR: _states(layer, activity.u, activity.v, activity.raster, index)}
            if name in traced:
                found = traced[name]
                states[LAVA] = _states(layer, found.u, found.v, found.sent, column)
            threshold = _threshold(program, layer, index)
            traces.append(NeuronTrace(name, index, threshold, states, program.assumptions))
    return tuple(traces)


def _threshold(program: Program, layer: Layer, index: int) -> float | None:
    if not layer.neuron.spiking:
        return None
    # Integer thresholds are in units of the input, u and v in units of the state.
    threshold = float(np.broadcast_to(layer.neuron.v_threshold, layer.shape).ravel()[index])
    if not math.isfinite(threshold):
        return None
    return threshold * (STATE_UNIT if program.precision == "integer" else 1)


def _states(layer: Layer, u: Values, v: Values, sent: Values, column: int) -> States:
    """Return the states of one column of arrays (T, 1, ...)."""
    assert u is not None and v is not None and sent is not None, "traces and rasters were asked for"
    u, v, sent = (values.reshape(len(values), -1)[:, column] for values in (u, v, sent))
    spikes = sent.astype(bool) if layer.neuron.spiking else np.zeros(len(u), bool)
    return States(u.astype(np.float64), v.astype(np.float64), spikes)
