"""Limits of Loihi's arithmetic as rules on programs; Lava checks none of them.

`FLOAT_RULES` decide whether integers can express a float program at all, `INTEGER_RULES` whether an
integer program is what the hardware would compute. Each rule's docstring is the sentence that users
see.

Sources: Lava 0.10.0 (``proc/lif/models.py``, ``proc/dense``, ``utils/weightutils.py``), lava-dl
0.6.0 (``netx``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ashneuro.loihi import (
    BIAS_MANTISSA,
    DECAY_ONE,
    LARGEST_BIAS_EXP,
    LARGEST_DECAY,
    LARGEST_DELAY,
    LARGEST_MESSAGE,
    LARGEST_STATE,
    LARGEST_THRESHOLD,
    LARGEST_WEIGHT,
    MIXED_WEIGHTS,
    STATE_SHIFT,
    WEIGHT_EXP,
)
from ashneuro.program.bounds import (
    accumulation,
    largest_adaptation,
    largest_current,
    largest_message,
    largest_potential,
    largest_sum,
)
from ashneuro.program.program import Program, decay_groups
from ashneuro.program.rules.finding import Finding, Violation, apply_rules
from ashneuro.spiking.dynamics import AMOUNTS, DYNAMICS
from ashneuro.spiking.message import BITS, LARGEST_EXPONENT, LEVEL_EXPONENT

ProgramRule = Callable[[Program], Iterator[Violation]]

LONGEST_TAU_SYN = 6000  # steps: du is at least 1/4096, which is 46 % too fast then
AGAIN = 'quantise the float network again: ashneuro.lower(network, "integer", inputs=x)'
SMALLER_SCALE = "quantise with a smaller scale, or without scales of your own"
LARGER_SCALE = "quantise with a larger scale, or without scales of your own"
BOUNDED = f"{SMALLER_SCALE}, or state the number of timesteps (--timesteps N)"
SMALLER_WEIGHTS = f"{SMALLER_SCALE}; train a lava-dl network with smaller weights"


def uniform_decay(program: Program) -> Iterator[Violation]:
    """Hardware has one du and one dv per population: a layer whose neurons differ becomes one
    population for each pair. Lava computes it as it is.
    """
    for layer in program.layers:
        count = len(decay_groups(layer, program.precision))
        if count > 1:
            remedy = "nothing to do; give all neurons of the layer one time constant for fewer cores"
            yield Violation(layer.name, f"{count} pairs of decays", remedy, "note")


def full_decay(program: Program) -> Iterator[Violation]:
    """v decays by at most 4095/4096 per step: at τ_mem = dt, 1/4096 of v remains; τ_mem below dt
    has no integer form.
    """
    for layer in program.layers:
        if layer.neuron.graded or layer.neuron.changes:
            continue  # nothing decays
        decay = float(np.max(layer.neuron.dv)) * DECAY_ONE
        if decay > DECAY_ONE + 0.5:
            actual = f"dv = {decay:.6g}, at most {LARGEST_DECAY}"
            yield Violation(layer.name, actual, "train with τ_mem of at least dt")
        elif decay > LARGEST_DECAY + 0.5:
            actual = f"dv = {decay:.6g} becomes {LARGEST_DECAY}"
            yield Violation(layer.name, actual, "nothing to do: less than rounding weights does", "note")


def fast_enough(program: Program) -> Iterator[Violation]:
    """Decays are multiples of 1/4096: time constants of several thousand steps are rounded away."""
    for layer in program.layers:
        if layer.neuron.graded or layer.neuron.changes:
            continue  # nothing decays
        for name, what in (("du", "τ_syn"), ("dv", "τ_mem")):
            decays = np.unique(np.asarray(getattr(layer.neuron, name), np.float64)) * DECAY_ONE
            # The hardware stores du − 1, so that du is at least 1; dv may be 0.
            rounded = np.maximum(np.rint(decays), 1.0 if name == "du" else 0.0)
            errors = np.abs(rounded - decays) / np.where(decays > 0, decays, 1.0)
            error, decay = float(errors.max()), float(decays[errors.argmax()])
            if name == "du" and decay < 0.5:
                actual = (
                    f"{what} = {DECAY_ONE / decay:.6g} steps" if decay else "its synaptic current, an I, never decays"
                )
                yield Violation(layer.name, actual, f"train with τ_syn of at most {LONGEST_TAU_SYN} steps")
            elif error > 0.5:
                actual = f"{what} = {DECAY_ONE / decay:.6g} steps"
                yield Violation(layer.name, actual, f"train with a shorter {what}, or IF neurons")
            elif error > 0.05:
                yield Violation(layer.name, f"{what} becomes {error:.0%} wrong", f"train with a shorter {what}", "note")


def positive_threshold(program: Program) -> Iterator[Violation]:
    """A threshold lies above the resting potential: integers hold 0 < v_threshold < 2^17."""
    for layer in program.layers:
        threshold = layer.neuron.v_threshold
        if layer.neuron.scale_free and np.min(threshold) <= 0:
            actual = f"v_threshold = {np.min(threshold):.6g} above rest"
            yield Violation(layer.name, actual, "train with v_threshold > v_leak")


def uniform_threshold(program: Program) -> Iterator[Violation]:
    """Neurons that an analog input enters directly share one threshold, in units of their gain
    R·dt/τ: there are no weights to absorb a difference. A graph whose neurons differ gets weights
    of 1 there.
    """
    # Elsewhere the weights absorb the differences, see `ashneuro.program.quantise`.
    for layer in program.layers:
        direct = [connection.source for connection in layer.connections if connection.synapse is None]
        threshold = layer.neuron.v_threshold
        if direct and layer.neuron.scale_free and np.min(threshold) != np.max(threshold):
            actual = f"from {np.min(threshold):.6g} to {np.max(threshold):.6g}, input {', '.join(direct)}"
            remedy = "give all its neurons one v_threshold, R and τ, or put a layer with weights in front of it"
            yield Violation(layer.name, actual, remedy)


def uniform_graded_threshold(program: Program) -> Iterator[Violation]:
    """Neurons of a population that sends graded values or changes share one threshold: the values
    that they send depend on the unit of their weights.
    """
    for layer in program.layers:
        low, high = np.min(layer.neuron.v_threshold), np.max(layer.neuron.v_threshold)
        if layer.neuron.spiking and not layer.neuron.scale_free and low != high:
            yield Violation(layer.name, f"from {low:.6g} to {high:.6g}", "train with one threshold per layer")


def limit_in_loops(program: Program) -> Iterator[Violation]:
    """Graded messages, changes and spike counts that come back to their layer have a stated limit:
    nothing else bounds them.
    """
    seen: set[str] = set()
    for layer in program.layers:
        for connection in layer.connections:
            source = next((other for other in program.layers if other.name == connection.source), None)
            if source is None or source.name in seen or not source.neuron.payload:
                continue
            if source.neuron.message.limit is None:
                remedy = "write ashneuro.message_limit, the largest value that it sends, into the node's metadata"
                yield Violation(source.name, f"it feeds {layer.name}, which comes before it", remedy)
        seen.add(layer.name)


def message_in_range(program: Program) -> Iterator[Violation]:
    """The payload of a message has 1 to 15 bits, and its limit fits them. Changes have 2 to 16
    bits, and Lava's spike_exp and state_exp, up to 7 each.
    """
    for layer in program.layers:
        message = layer.neuron.message
        if not layer.neuron.payload:
            continue
        _, fewest, most = BITS[message.kind]
        if not fewest <= message.bits <= most:
            yield Violation(layer.name, f"{message.bits} bits", AGAIN)
        elif layer.neuron.changes:
            spike_exp = 0 if message.levels else layer.neuron.bias_exp - message.shift
            most = LEVEL_EXPONENT if message.levels else LARGEST_EXPONENT
            if abs(message.shift) > most or not 0 <= spike_exp <= LARGEST_EXPONENT:
                yield Violation(layer.name, f"shift {message.shift}, exponent {layer.neuron.bias_exp}", AGAIN)
            elif message.limit is not None and not 1 <= largest_message(layer.neuron) <= message.largest:
                yield Violation(layer.name, f"{message.bits} bits, values up to {message.limit}", AGAIN)
        else:
            limit = message.limit or 0
            if not 1 <= limit <= message.largest or limit != int(limit):
                yield Violation(layer.name, f"{message.bits} bits, limit {limit}", AGAIN)


def uniform_subtraction(program: Program) -> Iterator[Violation]:
    """All neurons of a population subtract one amount at a spike, in units of their threshold:
    v_threshold / (v_threshold − v_leak) is the same for all.
    """
    for layer in program.layers:
        if layer.neuron.v_subtract is not None:
            ratio = np.asarray(layer.neuron.v_subtract / layer.neuron.v_threshold)
            if not np.allclose(ratio, ratio.flat[0], rtol=1e-9, atol=0):
                actual = f"from {ratio.min():.6g} to {ratio.max():.6g} thresholds"
                yield Violation(layer.name, actual, "train with one v_leak for all neurons of the layer")


def uniform_parameters(program: Program) -> Iterator[Violation]:
    """All neurons of a population share the parameters of further dynamics, but for periods; an
    amount of v, in units of their threshold.
    """
    for layer in program.layers:
        kinds = DYNAMICS[layer.neuron.dynamics].kinds
        for name, values in layer.neuron.parameters.items():
            in_thresholds = np.asarray(values / layer.neuron.v_threshold if kinds[name] in AMOUNTS else values)
            if kinds[name] != "turn" and not np.allclose(in_thresholds, in_thresholds.flat[0], rtol=1e-9, atol=0):
                actual = f"{name} from {in_thresholds.min():.6g} to {in_thresholds.max():.6g}"
                yield Violation(layer.name, actual, "give all neurons of the layer one value, or split it into layers")


def parameters_in_range(program: Program) -> Iterator[Violation]:
    """Parameters of further dynamics are whole numbers: steps from 1 on, decays from 0 to 4095, and
    amounts of v from 0 (thresholds from 1) to 131071, one per population; sin and cos from 0 to
    4096.
    """
    spans = {
        "steps": (1, LARGEST_STATE),
        "tau": (0, LARGEST_DECAY),
        "v": (0, LARGEST_THRESHOLD),
        "threshold": (1, LARGEST_THRESHOLD),
        "turn": (0, DECAY_ONE),
    }
    for layer in program.layers:
        kinds = DYNAMICS[layer.neuron.dynamics].kinds
        for name, values in layer.neuron.parameters.items():
            low, high = np.min(values), np.max(values)
            least, most = spans[kinds[name]]
            alike = low == high or kinds[name] == "turn"
            if not alike or low < least or high > most or (values != np.rint(values)).any():
                yield Violation(layer.name, f"{name} from {low} to {high}", SMALLER_SCALE)


def subtraction_in_range(program: Program) -> Iterator[Violation]:
    """The amount that a spike subtracts is a whole number from 1 to 131071, like a threshold; a
    spike count needs it.
    """
    for layer in program.layers:
        values = layer.neuron.v_subtract
        if values is None and layer.neuron.message.kind == "count":
            yield Violation(layer.name, "there is none", AGAIN)
        if values is not None and (np.size(values) != 1 or not 1 <= int(values) <= LARGEST_THRESHOLD):
            yield Violation(layer.name, f"{np.min(values)} … {np.max(values)}", SMALLER_SCALE)


def short_delays(program: Program) -> Iterator[Violation]:
    """An axonal delay is at most 62 steps."""
    for layer, connection in program.connections():
        if connection.delay > LARGEST_DELAY:
            actual = f"{connection.source} arrives {connection.delay} steps late"
            yield Violation(layer.name, actual, "shorten the skip or the Delay")


def samples_apart(program: Program) -> Iterator[Violation]:
    """Samples stream through one network back to back; recurrence or a delay carries the last
    spikes of one sample into the next.
    """
    for layer in program.layers:
        for source in dict.fromkeys(connection.source for connection in layer.connections):
            lags = [program.lag(layer, connection) for connection in layer.connections if connection.source == source]
            if late := sorted({lag for lag in lags if lag > 0}):
                steps = f"{late[0]}" if len(late) == 1 else f"{late[0]} to {late[-1]}"
                remedy = "nothing to do: samples run side by side instead, which needs copies of the network"
                yield Violation(layer.name, f"{source} arrives {steps} step(s) late", remedy, "note")


def weights_in_range(program: Program) -> Iterator[Violation]:
    """Weights of both signs are even and in [-256, 254]; those of one sign are within ±255."""
    for layer, connection in program.connections():
        if connection.synapse is None:
            continue
        weight = np.asarray(connection.synapse.weight)
        low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
        actual = f"from {connection.source}: {low} … {high}"
        if low < 0 < high:
            odd = int(np.count_nonzero(weight.astype(np.int64, copy=False) & 1))
            if low < MIXED_WEIGHTS[0] or high > MIXED_WEIGHTS[1] or odd:
                yield Violation(layer.name, f"{actual}, {odd} of {weight.size} odd", AGAIN)
        elif max(-low, high) > LARGEST_WEIGHT:
            yield Violation(layer.name, actual, AGAIN)


def weight_exponent(program: Program) -> Iterator[Violation]:
    """A weight exponent is in [-8, 7]."""
    for layer, connection in program.connections():
        if not WEIGHT_EXP[0] <= connection.weight_exp <= WEIGHT_EXP[1]:
            actual = f"from {connection.source}: {connection.weight_exp}"
            yield Violation(layer.name, actual, "quantise with another scale, or without scales of your own")


def decay_in_range(program: Program) -> Iterator[Violation]:
    """du and dv are whole numbers from 0 to 4095; du is the decay minus 1. Neurons that send
    changes keep u (du = −1), or do not (4095).
    """
    for layer in program.layers:
        for name in ("du", "dv"):
            values = np.asarray(getattr(layer.neuron, name))
            low, high = values.min(), values.max()
            if name == "du" and layer.neuron.message.changes and low == high == -1:
                continue
            if low < 0 or high > LARGEST_DECAY or (values != np.rint(values)).any():
                yield Violation(layer.name, f"{name} from {low} to {high}", AGAIN)


def threshold_in_range(program: Program) -> Iterator[Violation]:
    """A threshold is a whole number from 1 to 131071 (17 bits), one per population; that of a
    graded layer, or of one that sends changes, may be 0.
    """
    for layer in program.layers:
        values = np.asarray(layer.neuron.v_threshold)
        low, high = values.min(), values.max()
        least = 1 if layer.neuron.scale_free else 0
        if layer.neuron.spiking and (low != high or not least <= low <= LARGEST_THRESHOLD):
            remedy = SMALLER_SCALE if high > LARGEST_THRESHOLD else LARGER_SCALE
            yield Violation(layer.name, f"{low} … {high}", remedy)


def bias_in_range(program: Program) -> Iterator[Violation]:
    """A bias is a 13-bit mantissa, -4096 … 4095, shifted left by an exponent from 0 to 7; by up to
    14 where changes are sent.
    """
    for layer in program.layers:
        most = 2 * LARGEST_EXPONENT if layer.neuron.message.changes else LARGEST_BIAS_EXP
        values, exponent = np.asarray(layer.neuron.bias), layer.neuron.bias_exp
        low, high = values.min(), values.max()
        if low < BIAS_MANTISSA[0] or high > BIAS_MANTISSA[1] or not 0 <= exponent <= most:
            yield Violation(layer.name, f"mantissa {low} … {high}, exponent {exponent}", SMALLER_SCALE)


def current_does_not_wrap(program: Program) -> Iterator[Violation]:
    """u stays within 24 bits for every possible input: beyond, it changes its sign instead of
    saturating.
    """
    for layer in program.layers:
        if layer.neuron.message.changes:
            continue  # Lava does not wrap it
        largest = largest_current(program, layer)
        if largest > LARGEST_STATE:
            actual = f"|u| can reach {largest:.0f}, at most {LARGEST_STATE}"
            yield Violation(layer.name, actual, SMALLER_WEIGHTS)


def adaptation_in_range(program: Program) -> Iterator[Violation]:
    """Threshold and refractory state of adaptive neurons stay within 24 bits: Lava does not clip
    them.
    """
    for layer in program.layers:
        if DYNAMICS[layer.neuron.dynamics].adapts:
            largest = largest_adaptation(program, layer)
            if largest > LARGEST_STATE:
                actual = f"they can reach {largest:.0f}, at most {LARGEST_STATE}"
                yield Violation(layer.name, actual, BOUNDED)


def read_out_in_range(program: Program) -> Iterator[Violation]:
    """The v of a read-out stays below the largest threshold, where it would spike and be reset."""
    for layer in program.layers:
        if not layer.neuron.spiking and not layer.neuron.message.changes:
            largest = largest_potential(program, layer)
            if largest > LARGEST_THRESHOLD << STATE_SHIFT:
                actual = f"|v| can reach {largest:.0f}, at most {LARGEST_THRESHOLD << STATE_SHIFT}"
                yield Violation(layer.name, actual, BOUNDED)


def input_in_range(program: Program) -> Iterator[Violation]:
    """Input values fit a 16-bit message."""
    for port in program.inputs:
        if not port.constant and (port.limit > LARGEST_MESSAGE or port.limit < 1 or not port.scale > 0):
            actual = f"scale {port.scale:.6g}, limit {port.limit}, at most {LARGEST_MESSAGE}"
            yield Violation(port.name, actual, SMALLER_SCALE)


def wide_accumulation(program: Program) -> Iterator[Violation]:
    """The sum a_in is declared with 16 bits; Lava computes with more, silicon may not."""
    for layer in program.layers:
        if layer.neuron.message.changes:
            continue
        low, high = accumulation(program, layer)
        largest = max(-int(low.min(initial=0)), int(high.max(initial=0)))
        if largest > LARGEST_MESSAGE:
            actual = f"|a| can reach {largest} if all sources fire, 16 bits hold {LARGEST_MESSAGE}"
            yield Violation(layer.name, actual, "", "note")


def wide_changes(program: Program) -> Iterator[Violation]:
    """Sigma-delta neurons have 24 bits for u and the payload's for a change on a chip. Lava has 32:
    both are equal while no value is larger than expected.
    """
    for layer in program.layers:
        message = layer.neuron.message
        if not message.changes:
            continue
        largest = largest_sum(program, layer) if np.all(np.asarray(layer.neuron.du) < 0) else 0.0
        if largest > LARGEST_STATE:
            actual = f"|u| can reach {largest:.0f} for inputs of any kind, 24 bits hold {LARGEST_STATE}"
            yield Violation(layer.name, actual, "nothing to do for inputs that keep u smaller", "note")
        elif layer.neuron.spiking and message.limit is None:
            actual = f"no largest value is stated, {message.bits} bits hold {message.largest}"
            yield Violation(layer.name, actual, "nothing to do for inputs whose changes fit", "note")


FLOAT_RULES: Mapping[str, ProgramRule] = {
    "full_decay": full_decay,
    "fast_enough": fast_enough,
    "positive_threshold": positive_threshold,
    "uniform_threshold": uniform_threshold,
    "uniform_graded_threshold": uniform_graded_threshold,
    "limit_in_loops": limit_in_loops,
    "uniform_subtraction": uniform_subtraction,
    "uniform_parameters": uniform_parameters,
    "short_delays": short_delays,
    "samples_apart": samples_apart,
}

INTEGER_RULES: Mapping[str, ProgramRule] = {
    "weights_in_range": weights_in_range,
    "weight_exponent": weight_exponent,
    "decay_in_range": decay_in_range,
    "uniform_decay": uniform_decay,
    "threshold_in_range": threshold_in_range,
    "bias_in_range": bias_in_range,
    "subtraction_in_range": subtraction_in_range,
    "message_in_range": message_in_range,
    "parameters_in_range": parameters_in_range,
    "current_does_not_wrap": current_does_not_wrap,
    "adaptation_in_range": adaptation_in_range,
    "read_out_in_range": read_out_in_range,
    "input_in_range": input_in_range,
    "wide_accumulation": wide_accumulation,
    "wide_changes": wide_changes,
    "short_delays": short_delays,
    "samples_apart": samples_apart,
}


def check_program(program: Program, types: Mapping[str, str] | None = None) -> list[Finding]:
    """Return everything that the rules for the program's precision find.

    ``types``: NIR primitives by layer name.
    """
    kinds = {port.name: "Input" for port in program.inputs} | dict(types or {})
    rules = FLOAT_RULES if program.precision == "float" else INTEGER_RULES
    return apply_rules(rules, program, nir_type=lambda name: kinds.get(name, "layer"))
