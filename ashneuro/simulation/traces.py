"""Current and membrane potential of chosen neurons, step by step, as the emulator and as Lava compute them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import DataError
from ashneuro.loihi import STATE_UNIT
from ashneuro.program.program import Program
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.inputs import Inputs, check_inputs
from ashneuro.simulation.lava.session import Lava

EMULATOR, LAVA = "emulator", "Lava"


@dataclass(frozen=True, eq=False)
class States:
    """One neuron in one simulator: u, v and spikes, (T,) each. v is what is left after a spike's reset."""

    u: NDArray[np.float64]
    v: NDArray[np.float64]
    spikes: NDArray[np.bool_]

    @property
    def shown_v(self) -> NDArray[np.float64]:
        """v, NaN in the step of a spike: there the arithmetic has 0 and a chip reads 128, and neither was ever compared."""
        return np.where(self.spikes, np.nan, self.v)


@dataclass(frozen=True, eq=False)
class NeuronTrace:
    """One neuron of one sample.

    Args:
        layer, neuron: its name and flat index.
        threshold: in v's units; ``None`` for a read-out.
        states: by simulator.
    """

    layer: str
    neuron: int
    threshold: float | None
    states: Mapping[str, States]

    @property
    def differing(self) -> int:
        """Steps in which u, v or the spike is not the same in all simulators (v but for the steps of spikes)."""
        first, *others = self.states.values()
        wrong = np.zeros(len(first.u), bool)
        for other in others:
            close = np.isclose(first.u, other.u, rtol=1e-9, atol=1e-9)
            close &= np.isclose(first.shown_v, other.shown_v, rtol=1e-9, atol=1e-9, equal_nan=True)
            wrong |= ~close | (first.spikes != other.spikes)
        return int(wrong.sum())


def parse_neurons(program: Program, texts: Sequence[str]) -> dict[str, list[int]]:
    """Return flat indices by layer for texts such as ``"lif1:3"``.

    Raises:
        DataError: there is no such layer or neuron.
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
    """Return u, v and spikes of ``neurons`` (flat indices by layer) in one sample, from the emulator and from an open Lava.

    Raises:
        DataError: the inputs do not fit, or have no such sample.
        LavaError: Lava failed.
    """
    checked = check_inputs(program.inputs, program.timesteps, inputs)
    samples = next(iter(checked.values())).shape[1]
    if not 0 <= sample < samples:
        raise DataError(f"--trace-sample {sample}", f"there are {samples} samples, counted from 0", "--trace-sample 0")
    one = {port.name: checked[port.name][:, sample : sample + 1] for port in program.inputs if not port.constant}
    here = run_program(program, one, rasters=list(neurons), traces=list(neurons))
    there = lava.trace(program, one, neurons) if lava is not None else {}
    found = []
    for name, chosen in neurons.items():
        layer, activity = program.layer(name), here.layers[name]
        for column, neuron in enumerate(chosen):
            sent = activity.raster if layer.neuron.spiking else None
            states = {
                EMULATOR: _states(
                    *(None if x is None else x.reshape(len(x), -1)[:, neuron] for x in (activity.u, activity.v, sent))
                )
            }
            if name in there:
                trace = there[name]
                sent = trace.sent if layer.neuron.spiking else None
                states[LAVA] = _states(*(None if x is None else x[:, 0, column] for x in (trace.u, trace.v, sent)))
            threshold = (
                np.broadcast_to(layer.neuron.v_threshold, layer.shape).ravel()[neuron]
                if layer.neuron.spiking
                else math.inf
            )
            unit = STATE_UNIT if program.precision == "integer" else 1
            found.append(
                NeuronTrace(name, neuron, float(threshold) * unit if math.isfinite(threshold) else None, states)
            )
    return tuple(found)


def _states(u: NDArray[Any] | None, v: NDArray[Any] | None, sent: NDArray[Any] | None) -> States:
    assert u is not None and v is not None, "traces were asked for"
    spikes = np.zeros(len(u), bool) if sent is None else sent.astype(bool)
    return States(u.astype(np.float64), v.astype(np.float64), spikes)
