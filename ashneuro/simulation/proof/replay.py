"""Replays: recorded runs of networks, run again in the emulator and compared step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ashneuro.program.program import Program
from ashneuro.simulation.emulator.arrays import Backend
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.proof.recordings import load_recording

Origin = Literal["silicon", "reference output"]
# Recorded or emulated values of a layer, each (steps, *shape): "u", "v", "s" (spikes or messages).
Traces = Mapping[str, NDArray[Any]]
# First step of a sample, and the one after its last.
Window = tuple[int, int]


@dataclass(frozen=True)
class LayerReplay:
    """One layer, recorded and emulated.

    Args:
        layer: its name in the program.
        neurons: number of neurons.
        steps: number of steps compared.
        mismatches: neuron-steps that differ, by recorded quantity: ``"u"``, ``"v"``, ``"s"``
            (spikes, or messages).
        v_masked: neuron-steps with a spike, in which v is not compared.
        v_at_spikes: values of the recorded v there.
        first: the first difference, in words; empty if there is none.
    """

    layer: str
    neurons: int
    steps: int
    mismatches: Mapping[str, int]
    v_masked: int = 0
    v_at_spikes: tuple[int, ...] = ()
    first: str = ""

    @property
    def compared(self) -> int:
        """Number of neuron-steps compared, each in all recorded quantities."""
        return self.neurons * self.steps


@dataclass(frozen=True)
class Replay:
    """One recording, run again.

    Args:
        name: the network.
        origin: ``"silicon"``: read from a chip. ``"reference output"``: expected by lava-dl's
            tests, made by an unknown chip or simulator.
        fed: the input of the replay, in words.
        layers: comparison of each layer.
        not_compared: recorded and left out, each with the reason.
    """

    name: str
    origin: Origin
    fed: str
    layers: tuple[LayerReplay, ...]
    not_compared: tuple[str, ...] = ()

    @property
    def compared(self) -> int:
        """Number of neuron-steps compared."""
        return sum(layer.compared for layer in self.layers)

    @property
    def mismatches(self) -> int:
        """Number of values of u, v and s that differ."""
        return sum(sum(layer.mismatches.values()) for layer in self.layers)


@dataclass(frozen=True)
class Emulator:
    """The emulator, with the library and device of all replays."""

    backend: Backend
    device: str

    def run(
        self, program: Program, inputs: NDArray[Any], windows: Mapping[str, Sequence[Window]], steps: int
    ) -> Mapping[str, Traces]:
        """Return u, v and s (steps, *shape) of some layers, and which steps are ``"covered"``.

        Args:
            inputs: (T, B, *shape).
            windows: by layer, the recorded steps that each of the B samples stands for.
            steps: number of recorded steps.
        """
        record = run_program(program, inputs, rasters=windows, traces=windows, backend=self.backend, device=self.device)
        lines: dict[str, Traces] = {}
        for name, spans in windows.items():
            activity = record.layers[name]
            found = {"u": activity.u, "v": activity.v, "s": activity.raster}
            line = {"covered": np.zeros(steps, bool)}
            for key, values in found.items():
                assert values is not None, "traces and rasters were asked for"
                line[key] = np.zeros((steps, *values.shape[2:]), values.dtype)
                for sample, (first, last) in enumerate(spans):
                    line[key][first:last] = values[: last - first, sample]
                    line["covered"][first:last] = True
            lines[name] = line
        return lines


def compare(name: str, emulated: Mapping[str, Traces], recorded: Traces) -> LayerReplay:
    """Return the comparison of a layer in all recorded quantities."""
    covered = emulated[name]["covered"]
    shape = next(iter(recorded.values())).shape
    spikes = np.zeros(shape, bool)
    if "s" in recorded and "v" in recorded:
        spikes = (recorded["s"] != 0) & covered.reshape(-1, *[1] * (len(shape) - 1))
    mismatches, first = {}, ""
    for key, values in recorded.items():
        ours = emulated[name][key]
        differ = ours != values
        differ[~covered] = False
        if key == "v":
            differ &= ~spikes
        mismatches[key] = int(differ.sum())
        if differ.any() and not first:
            step, *neuron = index = tuple(int(i) for i in np.argwhere(differ)[0])
            first = f"{key} of neuron {tuple(neuron)} in step {step}: {int(ours[index])}, recorded {int(values[index])}"
    at_spikes = np.unique(recorded["v"][spikes]) if spikes.any() else ()
    steps, neurons = int(covered.sum()), math.prod(shape[1:])
    return LayerReplay(
        name, neurons, steps, mismatches, int(spikes.sum()), tuple(int(value) for value in at_spikes), first
    )


def time_first(folder: Path, name: str) -> NDArray[Any]:
    """Return a recording as (steps, C, H, W) or (steps, neurons); its axes are reversed."""
    return np.ascontiguousarray(load_recording(folder, name).T)


def later(values: NDArray[Any], steps: int) -> NDArray[Any]:
    """Return ``values`` that arrive so many steps later, 0 before."""
    return np.concatenate([np.zeros_like(values[:steps]), values[:-steps]])
