"""Calibration: integer scales chosen on samples for the fewest spikes that differ from float ones.

`ashneuro.program.quantise` has a rule for every scale that needs no data. Here, layer by layer, a
few smaller scales are tried, and the one with the fewest differing spikes is kept; earlier layers
have their final scales by then, later ones do not matter. A layer that is in integers already keeps
them. The search is deterministic, and never ends worse than the rule.

Graded values without a limit are taken to be at most `ROOM` times what the samples show, layer by
layer: the largest possible value grows with the largest possible sum of every layer before, and
after a few layers a unit that admits it would round all real values to 0.

Spike counts without a limit get one: the smallest of 1, 3, 7, 15 … that no sample exceeds in
floats. What is above it stays in v, and is sent in the next step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import GraphError
from ashneuro.program.program import Layer, Neuron, Program
from ashneuro.program.quantise import Quantisation, default_scales, layers_on_grid, quantise, require_form
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.inputs import Inputs, Progress, check_inputs, input_peaks
from ashneuro.spiking.message import MessageKind

FACTORS = (1.0, 0.85, 0.7, 0.55)  # of the largest scale that fits
# A graded payload is fine where large values saturate.
GRADED_FACTORS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
ROOM = 1.25  # of the largest values that samples show, for those of others
BUDGET = 40_000_000  # largest number of neuron-steps simulated in a search, which uses fewer samples instead
FEWEST_SAMPLES = 8


@dataclass(frozen=True, eq=False)
class Calibration:
    """An integer program with its scales.

    Args:
        quantisation: the integer program, the cost of each layer, and findings.
        input_peak: largest magnitude of each analog input, over all samples.
        scales: integer units per float unit of a, by layer.
        mismatches: fraction of neuron-steps whose spike differs from the float program's, by
            spiking layer; errors of earlier layers included.
        rule_mismatches: the same with the scales of the rule.
        samples: number of samples that were simulated.
    """

    quantisation: Quantisation
    input_peak: Mapping[str, float]
    scales: Mapping[str, float]
    mismatches: Mapping[str, float]
    rule_mismatches: Mapping[str, float]
    samples: int

    @property
    def program(self) -> Program:
        """The integer program."""
        return self.quantisation.program


def calibrate(program: Program, inputs: Inputs, *, progress: Progress | None = None) -> Calibration:
    """Return the integer program whose spikes on ``inputs`` differ least from those of ``program``.

    Args:
        program: a float program, see `ashneuro.program.lower`.
        inputs: (T, B, *shape), representative samples.
        progress: called with (layers done, layers in all).

    Raises:
        DataError: the inputs do not fit, or an analog input is zero everywhere.
        GraphError: the network cannot be expressed in integers.
    """
    checked = check_inputs(program.inputs, program.timesteps, inputs)
    peak = input_peaks(program.inputs, checked)
    require_form(program, peak)  # before limits of these samples stand in for those that a loop states
    fed = {port.name: checked[port.name] for port in program.fed_inputs}
    few = _samples(program, fed)
    wanted = _rasters(program, few)
    program = _with_limits(program, wanted, "change")
    program = _with_limits(program, wanted, "count")
    program = _with_limits(program, wanted, "potential")
    first = scales = default_scales(_with_limits(program, wanted, "graded"), input_peak=peak)
    rule = _mismatches(program, few, wanted, peak, scales)
    names = [layer.name for layer in program.layers]
    # The unit of levels is a power of two of their step, which nothing but the step says.
    kept = layers_on_grid(program, scales) | {one.name for one in program.layers if one.neuron.message.levels}
    for index, name in enumerate(names):
        head = _head(program, index + 1)
        if name in wanted and name not in kept and head is not None:
            scales = _best(head, name, few, wanted, peak, scales)
        if progress:
            progress(index + 1, len(names))
    mismatches = _mismatches(program, few, wanted, peak, scales)
    if sum(mismatches.values()) > sum(rule.values()):
        scales, mismatches = first, rule
    quantisation = quantise(program, input_peak=peak, scales=scales)
    return Calibration(quantisation, peak, scales, mismatches, rule, len(next(iter(few.values()))[0]))


def _best(
    head: Program,
    name: str,
    inputs: Mapping[str, NDArray[Any]],
    wanted: Mapping[str, NDArray[Any]],
    peak: Mapping[str, float],
    scales: dict[str, float],
) -> dict[str, float]:
    """Return ``scales`` with the best one for the last layer of ``head``; on a tie, the largest."""
    best, least = scales, np.inf
    for factor in GRADED_FACTORS if head.layer(name).neuron.message.kind in ("graded", "potential") else FACTORS:
        tried = scales | {name: scales[name] * factor}
        try:
            wrong = _mismatches(head, inputs, {name: wanted[name]}, peak, tried)[name]
        except GraphError:
            continue  # with this scale, a number does not fit
        if wrong < least:
            best, least = tried, wrong
    return best


def _mismatches(
    program: Program,
    inputs: Mapping[str, NDArray[Any]],
    wanted: Mapping[str, NDArray[Any]],
    peak: Mapping[str, float],
    scales: Mapping[str, float],
) -> dict[str, float]:
    used = {layer.name: scales[layer.name] for layer in program.layers}
    integer = quantise(program, input_peak=peak, scales=used).program
    rasters = _rasters(integer, inputs, wanted)
    return {name: _differing(rasters[name], wanted[name], program.layer(name).neuron) for name in wanted}


def _differing(found: NDArray[Any], wanted: NDArray[Any], neuron: Neuron) -> float:
    """Return the share of differing spikes; of graded values, the mean error over the mean.

    Changes are compared by the values that they add up to.
    """
    if neuron.scale_free:
        return float((found != wanted).mean())
    if neuron.changes:
        found, wanted = found.cumsum(axis=0), wanted.cumsum(axis=0)
    error, size = float(np.abs(found - wanted).mean()), float(np.abs(wanted).mean())
    return min(1.0, error / size) if size else float(error > 0)


def _with_limits(program: Program, sent: Mapping[str, NDArray[Any]], kind: MessageKind) -> Program:
    """Return ``program`` with a limit for all messages of a kind that state none.

    Args:
        sent: messages on samples. Nothing else bounds them but the largest sum of all inputs, which
            is far above: integers would be coarse.
    """

    def limited(layer: Layer) -> Layer:
        message = layer.neuron.message
        if message.kind != kind or message.limit is not None:
            return layer
        values = sent[layer.name]
        if message.changes:  # the value is within the threshold of their sum
            values = np.abs(values.cumsum(axis=0)) + float(np.max(layer.neuron.v_threshold))
        if message.potential:  # what is sent is relative to v_leak
            values = np.abs(values - layer.neuron.v_origin)
        largest = float(values.max(initial=0.0))
        limit = (1 << max(1, int(largest)).bit_length()) - 1 if message.whole else ROOM * largest
        return replace(layer, neuron=replace(layer.neuron, message=replace(message, limit=limit or None)))

    return replace(program, layers=tuple(limited(layer) for layer in program.layers))


def _rasters(
    program: Program, inputs: Mapping[str, NDArray[Any]], names: Mapping[str, Any] | None = None
) -> dict[str, NDArray[Any]]:
    kept = [layer.name for layer in program.layers if layer.neuron.spiking and (names is None or layer.name in names)]
    fed = {port.name: inputs[port.name] for port in program.fed_inputs}
    record = run_program(program, fed, rasters=kept)
    return {name: np.asarray(record.layers[name].raster) for name in kept}


def _head(program: Program, length: int) -> Program | None:
    """Return the first layers of ``program``; ``None`` if a later layer feeds back to them."""
    layers = program.layers[:length]
    sources = {connection.source for layer in layers for connection in layer.connections}
    ports = tuple(port for port in program.inputs if port.name in sources)
    if sources - {port.name for port in ports} - {layer.name for layer in layers}:
        return None
    return replace(program, layers=layers, inputs=ports, outputs=(layers[-1].name,))


def _samples(program: Program, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return as many samples as the budget allows, evenly spread."""
    timesteps, samples = next(iter(inputs.values())).shape[:2]
    # Layer k is simulated again in the search of each later layer.
    neurons = sum(layer.size * (len(program.layers) - index) for index, layer in enumerate(program.layers))
    most = max(FEWEST_SAMPLES, BUDGET // (timesteps * neurons * len(FACTORS)))
    chosen = np.unique(np.linspace(0, samples - 1, min(samples, most)).astype(int))
    return {name: values[:, chosen] for name, values in inputs.items()}
