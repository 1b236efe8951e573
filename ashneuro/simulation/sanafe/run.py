"""Run a network in SANA-FE, and compare its spikes with those of the integer program."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import AshneuroError
from ashneuro.program.certificate import LayerComparison
from ashneuro.program.placement.route import Traffic
from ashneuro.program.program import Layer, Program
from ashneuro.simulation.compare import compare_layer
from ashneuro.simulation.interpreters import clean_environment
from ashneuro.simulation.record import Activity, SpikeRecord
from ashneuro.simulation.sanafe.environment import find_environment
from ashneuro.simulation.sanafe.netlist import PLAN, RESULT, SCRIPT, STATE_UNIT
from ashneuro.simulation.units import read_out

TIMEOUT_S = 1800.0


@dataclass(frozen=True, eq=False)
class SanafeRun:
    """Result of SANA-FE, over all samples.

    Args:
        version: version of SANA-FE.
        samples, timesteps: size of the inputs.
        steps: steps of the chip: T per sample, and the depth of the network once.
        layers: spikes, or potentials of read-outs, by layer.
        energy_j: joules by part: ``"synapse"``, ``"dendrite"``, ``"soma"``, ``"network"``, and
            ``"total"``.
        injected_j: joules of the messages that carry the inputs' spikes to the neurons; in
            ``"network"``.
        injected_messages: number of these messages.
        synops, updates, spikes: synaptic events, active neuron updates, and spikes of neurons and
            input lines.
        traffic: messages and hops of each layer.
        time_s: seconds.
    """

    version: str
    samples: int
    timesteps: int
    steps: int
    layers: Mapping[str, Activity]
    energy_j: Mapping[str, float]
    injected_j: float
    injected_messages: int
    synops: int
    updates: int
    spikes: int
    traffic: Mapping[str, Traffic]
    time_s: float


def run(folder: Path, program: Program) -> SanafeRun:
    """Run the network that `write_network` wrote into ``folder``.

    Raises:
        MissingDependency: SANA-FE is not installed.
        AshneuroError: it failed.
    """
    environment = find_environment()
    command = [str(environment.interpreter), str(folder / SCRIPT), str(folder)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise AshneuroError(
            f"SANA-FE did not finish within {TIMEOUT_S:.0f} s", "the network or its samples are large", "fewer samples"
        ) from error
    result = folder / RESULT
    if done.returncode or not result.exists():
        reason = " ".join(done.stderr.strip().splitlines()[-1:]) or f"exit status {done.returncode}"
        raise AshneuroError("SANA-FE failed", reason, f"look at it: {' '.join(command)}")
    return _read(folder, program)


def _read(folder: Path, program: Program) -> SanafeRun:
    plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    size = (plan["samples"], plan["timesteps"])
    layers = {layer.name: _activity(layer, found, size) for layer in program.layers}
    counts, injected = found["counts"], found["injected"]
    # Messages over tiles of one chip: none to another.
    traffic = {name: Traffic(**sent, crossings=0) for name, sent in found["sent"].items()}
    return SanafeRun(
        version=found["sanafe"],
        samples=size[0],
        timesteps=size[1],
        steps=found["steps"],
        layers=layers,
        energy_j=found["energy_j"],
        injected_j=injected["energy_j"],
        injected_messages=injected["message"],
        synops=counts["spikes"],
        updates=counts["neurons_updated"],
        spikes=counts["neurons_fired"],
        traffic=traffic,
        time_s=found["time_s"],
    )


def _activity(layer: Layer, found: Mapping[str, Any], size: tuple[int, int]) -> Activity:
    """Return the raster (T, B, *shape) of one layer."""
    samples, timesteps = size
    if layer.neuron.spiking:
        flat: NDArray[Any] = np.zeros((samples * timesteps, layer.size), np.uint8)
        if events := found["spikes"][layer.name]:
            flat[tuple(np.array(events).T)] = 1
    else:
        potentials = np.array(found["potentials"][layer.name], np.float64).reshape(-1, *layer.shape)
        flat = read_out(layer, potentials * STATE_UNIT, "integer")
    raster = flat.reshape(samples, timesteps, *layer.shape).swapaxes(0, 1)
    spiking = layer.neuron.spiking
    counts = raster.sum(axis=(0, 1), dtype=np.int64) if spiking else np.zeros(layer.shape, np.int64)
    return Activity(np.asarray(counts, np.int64), None, raster, binary=spiking, read_out=not spiking)


def compare_spikes(record: SpikeRecord, run: SanafeRun) -> tuple[LayerComparison, ...]:
    """Return one comparison per layer of the integer program's ``record``, with its rasters."""
    return tuple(compare_layer(name, own, run.layers[name], True) for name, own in record.layers.items())
