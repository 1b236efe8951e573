"""What Loihi's arithmetic can hold, as rules on programs. Lava checks none of these limits itself.

Each rule is a function whose docstring is the sentence the user sees. `FLOAT_RULES` say of a float program whether integers
can express it at all; `INTEGER_RULES` say of an integer program whether it is what the hardware would compute.

Sources: Lava 0.10.0 (``proc/lif/models.py``, ``proc/dense``, ``utils/weightutils.py``), lava-dl 0.6.0 (``netx``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.program.program import Connection, Layer, Program
from ashneuro.program.rules.finding import Finding
from ashneuro.program.rules.graph import Trouble, sentence
from ashneuro.program.synapse import signed_sums
from ashneuro.spiking.integers import (
    BIAS_MANTISSA,
    DECAY_ONE,
    LARGEST_BIAS_EXP,
    LARGEST_STATE,
    LARGEST_WEIGHT,
    MIXED_WEIGHTS,
    STATE_SHIFT,
    WEIGHT_EXP,
)

LARGEST_DECAY = 4095
LARGEST_THRESHOLD = (1 << 17) - 1
LARGEST_MESSAGE = (1 << 15) - 1
LARGEST_DELAY = 62

ProgramRule = Callable[[Program], Iterator[Trouble]]


def uniform_decay(program: Program) -> Iterator[Trouble]:
    """All neurons of a population decay alike: du and dv are one number each."""
    for layer in program.layers:
        for name, what in (("du", "dt/τ_syn"), ("dv", "dt/τ_mem")):
            values = getattr(layer.neuron, name)
            if np.size(values) > 1 and np.min(values) != np.max(values):
                remedy = "give all neurons of the layer one time constant, or split it into layers"
                yield Trouble(layer.name, f"{what} from {np.min(values):.6g} to {np.max(values):.6g}", remedy)


def full_decay(program: Program) -> Iterator[Trouble]:
    """v decays by at most 4095/4096 in a step: where τ_mem = dt, 1/4096 of it stays; a τ_mem below dt cannot be expressed."""
    for layer in program.layers:
        decay = float(np.max(layer.neuron.dv)) * DECAY_ONE
        if decay > DECAY_ONE + 0.5:
            yield Trouble(layer.name, f"dv = {decay:.6g}, at most {LARGEST_DECAY}", "train with τ_mem of at least dt")
        elif decay > LARGEST_DECAY + 0.5:
            yield Trouble(
                layer.name,
                f"dv = {decay:.6g} becomes {LARGEST_DECAY}",
                "nothing to do: less than rounding weights does",
                "note",
            )


def fast_enough(program: Program) -> Iterator[Trouble]:
    """A decay is a number of 1/4096: a time constant beyond some thousand steps is rounded away."""
    for layer in program.layers:
        for name, what in (("du", "τ_syn"), ("dv", "τ_mem")):
            decay = float(np.max(getattr(layer.neuron, name))) * DECAY_ONE
            steps = max(np.rint(decay), 1.0 if name == "du" else 0.0)
            error = abs(steps - decay) / decay if decay else 0.0
            if name == "du" and decay < 0.5:
                yield Trouble(
                    layer.name,
                    f"{what} = {DECAY_ONE / max(decay, 1e-300):.6g} steps",
                    "train with τ_syn of at most 8192 steps",
                )
            elif error > 0.5:
                yield Trouble(
                    layer.name, f"{what} = {DECAY_ONE / decay:.6g} steps", f"train with a shorter {what}, or IF neurons"
                )
            elif error > 0.05:
                yield Trouble(layer.name, f"{what} becomes {error:.0%} wrong", f"train with a shorter {what}", "note")


def positive_threshold(program: Program) -> Iterator[Trouble]:
    """A threshold lies above the resting potential: integers hold 0 < v_threshold < 2^17."""
    for layer in program.layers:
        threshold = layer.neuron.v_threshold
        if layer.neuron.spiking and np.min(threshold) <= 0:
            yield Trouble(
                layer.name, f"v_threshold = {np.min(threshold):.6g} above rest", "train with v_threshold > v_leak"
            )


def uniform_threshold(program: Program) -> Iterator[Trouble]:
    """Neurons that an analog input enters directly share one threshold, in units of their gain R·dt/τ: it cannot move into weights."""
    for layer in program.layers:
        direct = [connection.source for connection in layer.connections if connection.synapse is None]
        threshold = layer.neuron.v_threshold
        if direct and layer.neuron.spiking and np.min(threshold) != np.max(threshold):
            actual = f"from {np.min(threshold):.6g} to {np.max(threshold):.6g}, input {', '.join(direct)}"
            yield Trouble(
                layer.name,
                actual,
                "give all its neurons one v_threshold, R and τ, or put a layer with weights in front of it",
            )


def short_delays(program: Program) -> Iterator[Trouble]:
    """An axon delays by at most 62 steps."""
    for layer, connection in program.connections():
        if connection.delay > LARGEST_DELAY:
            yield Trouble(
                layer.name,
                f"{connection.source} arrives {connection.delay} steps late",
                "shorten the skip or the Delay",
            )


def samples_apart(program: Program) -> Iterator[Trouble]:
    """Samples stream through one network back to back; with recurrence or delays the last spikes of one reach the next."""
    for layer in program.layers:
        for source in dict.fromkeys(connection.source for connection in layer.connections):
            lags = [program.lag(layer, connection) for connection in layer.connections if connection.source == source]
            if late := sorted({lag for lag in lags if lag > 0}):
                steps = f"{late[0]}" if len(late) == 1 else f"{late[0]} to {late[-1]}"
                remedy = "nothing to do: samples run side by side instead, which needs copies of the network"
                yield Trouble(layer.name, f"{source} is heard {steps} step(s) later", remedy, "note")


def weights_in_range(program: Program) -> Iterator[Trouble]:
    """Weights of both signs are even and in [-256, 254]; weights of one sign are at most 255 in size."""
    for layer, connection in program.connections():
        if connection.synapse is None:
            continue
        weight = np.asarray(connection.synapse.weight)
        low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
        mixed = low < 0 < high
        if mixed and (low < MIXED_WEIGHTS[0] or high > MIXED_WEIGHTS[1] or bool((weight.astype(np.int64) & 1).any())):
            odd = int((weight.astype(np.int64) & 1).sum())
            yield Trouble(
                layer.name,
                f"from {connection.source}: {low} … {high}, {odd} of {weight.size} odd",
                "quantise the network again",
            )
        elif not mixed and max(-low, high) > LARGEST_WEIGHT:
            yield Trouble(layer.name, f"from {connection.source}: {low} … {high}", "quantise the network again")


def weight_exponent(program: Program) -> Iterator[Trouble]:
    """A weight exponent is in [-8, 7]."""
    for layer, connection in program.connections():
        if not WEIGHT_EXP[0] <= connection.weight_exp <= WEIGHT_EXP[1]:
            yield Trouble(
                layer.name, f"from {connection.source}: {connection.weight_exp}", "quantise with another scale"
            )


def decay_in_range(program: Program) -> Iterator[Trouble]:
    """du and dv are whole numbers from 0 to 4095, one per population; du is one less than the decay."""
    for layer in program.layers:
        for name in ("du", "dv"):
            values = np.asarray(getattr(layer.neuron, name))
            if (
                values.min() != values.max()
                or not 0 <= values.min() <= LARGEST_DECAY
                or values.min() != np.rint(values.min())
            ):
                yield Trouble(layer.name, f"{name} from {values.min()} to {values.max()}", "quantise the network again")


def threshold_in_range(program: Program) -> Iterator[Trouble]:
    """A threshold is a whole number from 1 to 131071 (17 bit), one per population."""
    for layer in program.layers:
        values = np.asarray(layer.neuron.v_threshold)
        if layer.neuron.spiking and (values.min() != values.max() or not 1 <= values.min() <= LARGEST_THRESHOLD):
            remedy = (
                "quantise with a smaller scale" if values.max() > LARGEST_THRESHOLD else "quantise with a larger scale"
            )
            yield Trouble(layer.name, f"{values.min()} … {values.max()}", remedy)


def bias_in_range(program: Program) -> Iterator[Trouble]:
    """A bias is a 13-bit mantissa, -4096 … 4095, shifted left by an exponent from 0 to 7."""
    for layer in program.layers:
        values, exponent = np.asarray(layer.neuron.bias), layer.neuron.bias_exp
        low, high = BIAS_MANTISSA
        if values.min() < low or values.max() > high or not 0 <= exponent <= LARGEST_BIAS_EXP:
            yield Trouble(
                layer.name,
                f"mantissa {values.min()} … {values.max()}, exponent {exponent}",
                "quantise with a smaller scale",
            )


def current_does_not_wrap(program: Program) -> Iterator[Trouble]:
    """u stays inside 24 bits for every possible input: it would change its sign, not saturate."""
    for layer in program.layers:
        largest = largest_current(program, layer)
        if largest > LARGEST_STATE:
            actual = f"|u| can reach {largest:.0f}, at most {LARGEST_STATE}"
            yield Trouble(layer.name, actual, "quantise with a smaller scale, or narrow the layer's fan-in")


def read_out_in_range(program: Program) -> Iterator[Trouble]:
    """The membrane of a read-out never reaches the largest threshold, where it would spike and be reset."""
    for layer in program.layers:
        if not layer.neuron.spiking:
            largest = largest_potential(program, layer)
            if largest > LARGEST_THRESHOLD << STATE_SHIFT:
                actual = f"|v| can reach {largest:.0f}, at most {LARGEST_THRESHOLD << STATE_SHIFT}"
                yield Trouble(layer.name, actual, "quantise with a smaller scale, or state the number of timesteps")


def input_in_range(program: Program) -> Iterator[Trouble]:
    """What the host sends fits a 16-bit message."""
    for port in program.inputs:
        if not port.constant and (port.limit > LARGEST_MESSAGE or port.limit < 1 or not port.scale > 0):
            yield Trouble(
                port.name,
                f"scale {port.scale:.6g}, limit {port.limit}, at most {LARGEST_MESSAGE}",
                "quantise with a smaller scale",
            )


def wide_accumulation(program: Program) -> Iterator[Trouble]:
    """a_in is declared with 16 bits; Lava computes with more, silicon may not."""
    for layer in program.layers:
        low, high = accumulation(program, layer)
        largest = max(-int(low.min(initial=0)), int(high.max(initial=0)))
        if largest > LARGEST_MESSAGE:
            yield Trouble(
                layer.name, f"|a| can reach {largest} if all sources fire, 16 bits hold {LARGEST_MESSAGE}", "", "note"
            )


FLOAT_RULES: Mapping[str, ProgramRule] = {
    "uniform_decay": uniform_decay,
    "full_decay": full_decay,
    "fast_enough": fast_enough,
    "positive_threshold": positive_threshold,
    "uniform_threshold": uniform_threshold,
    "short_delays": short_delays,
    "samples_apart": samples_apart,
}

INTEGER_RULES: Mapping[str, ProgramRule] = {
    "weights_in_range": weights_in_range,
    "weight_exponent": weight_exponent,
    "decay_in_range": decay_in_range,
    "threshold_in_range": threshold_in_range,
    "bias_in_range": bias_in_range,
    "current_does_not_wrap": current_does_not_wrap,
    "read_out_in_range": read_out_in_range,
    "input_in_range": input_in_range,
    "wide_accumulation": wide_accumulation,
    "short_delays": short_delays,
    "samples_apart": samples_apart,
}


def check_program(program: Program, types: Mapping[str, str] | None = None) -> list[Finding]:
    """Return everything that the rules for the program's precision have to say; ``types``: NIR primitive by layer name."""
    rules = FLOAT_RULES if program.precision == "float" else INTEGER_RULES
    kinds = {port.name: "Input" for port in program.inputs} | dict(types or {})
    return [
        Finding(
            trouble.node,
            kinds.get(trouble.node, "layer"),
            rule,
            sentence(function),
            trouble.level,
            trouble.actual,
            trouble.remedy,
        )
        for rule, function in rules.items()
        for trouble in function(program)
    ]


def accumulation(program: Program, layer: Layer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the least and the largest a (flat, per neuron) that any input can cause in one step of an integer ``program``."""
    low, high = np.zeros(layer.size, np.int64), np.zeros(layer.size, np.int64)
    for connection in layer.connections:
        least, most = _sent(program, connection)
        if connection.synapse is None:
            low, high = low + least, high + most
            continue
        negative, positive = signed_sums(connection.synapse)
        low = low + _shift(positive * least + negative * most, connection.weight_exp)
        high = high + _shift(positive * most + negative * least, connection.weight_exp)
    return low, high


def largest_current(program: Program, layer: Layer) -> float:
    """Return the largest |u| that any input can cause: the largest a in every step, on top of what has not decayed yet."""
    low, high = accumulation(program, layer)
    largest = max(-int(low.min(initial=0)), int(high.max(initial=0)))
    return (largest << STATE_SHIFT) * growth((float(np.max(layer.neuron.du)) + 1) / DECAY_ONE, program.timesteps)


def largest_potential(program: Program, layer: Layer) -> float:
    """Return the largest |v| that any input can cause when no spike resets it."""
    bias = float(np.abs(np.asarray(layer.neuron.bias, np.int64) << layer.neuron.bias_exp).max())
    return (largest_current(program, layer) + bias) * growth(
        float(np.max(layer.neuron.dv)) / DECAY_ONE, program.timesteps
    )


def growth(decay: float, timesteps: int | None) -> float:
    """Return Σ (1 − decay)^k over the steps of a sample: what a constant input adds up to; inf where nothing bounds it."""
    if decay <= 0:
        return float("inf") if timesteps is None else float(timesteps)
    return 1 / decay if timesteps is None else (1 - (1 - decay) ** timesteps) / decay


def _sent(program: Program, connection: Connection) -> tuple[int, int]:
    """Return the least and the largest value that a connection's source can send."""
    port: Any = next((port for port in program.inputs if port.name == connection.source), None)
    if port is None or port.coding == "spikes":
        return (1, 1) if port is not None and port.constant else (0, 1)
    return -port.limit, port.limit


def _shift(values: NDArray[np.int64], exponent: int) -> NDArray[np.int64]:
    return values << exponent if exponent >= 0 else values >> -exponent
