"""What a netx network must be so that a program can express it: each rule is a function whose docstring is the sentence shown.

As in `ashneuro.program.rules.graph`, all of them run and everything is reported at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.program.netx.file import (
    CONNECTED,
    EXPORT,
    LARGEST_THRESHOLD,
    NEEDED,
    SPATIAL,
    Network,
    Node,
    Numbers,
    whole,
    whole_each,
)
from ashneuro.program.program import Shape
from ashneuro.program.rules.finding import Finding
from ashneuro.program.rules.graph import Trouble, sentence

LARGEST_BIAS = 4095
LARGEST_DELAY = 62
EXPONENTS: tuple[int, ...] = (0, -1, 1, 2, 3, 4, 5, 6, 7)  # −1: odd weights of both signs, doubled
NEURON_TYPES = ("CUBA", "LOIHI")
NEURON_NUMBERS = ("iDecay", "vDecay", "vThMant")

Rule = Callable[[Network], Iterator[Trouble]]


def known_layers(network: Network) -> Iterator[Trouble]:
    """Every layer is an input, flatten, conv, pool, dense, dense_rec or average."""
    for node in network.nodes:
        if node.kind not in NEEDED:
            yield Trouble(node.name, f"its type is {node.kind!r}", "rebuild that part from the layers named")


def layer_order(network: Network) -> Iterator[Trouble]:
    """An input is the first layer, layers with weights follow, and an average or a layer without neurons is the last."""
    for node in network.nodes:
        if node.kind == "input" and node.index:
            yield Trouble(node.name, f"it is layer {node.index}", "split the file, one network each")
        if node.kind == "average" and node.index != len(network.nodes) - 1:
            yield Trouble(node.name, "layers follow it", "end the network there, or put a dense layer in its place")
        if node.kind in CONNECTED and node.neuron is None and not (node.kind == "dense" and node.last):
            yield Trouble(node.name, "it has no neurons", EXPORT)
    if not any(node.kind in CONNECTED for node in network.nodes):
        yield Trouble("network", "no layer has weights", EXPORT)


def needed_fields(network: Network) -> Iterator[Trouble]:
    """A layer has the fields that its type needs, as numbers: weights, geometry, decays and threshold."""
    for node in network.nodes:
        missing = [field for field in NEEDED.get(node.kind, ()) if field not in node.numbers]
        if "weight" in missing and "weight/imag" in node.numbers:
            yield Trouble(node.name, "its weights are complex", "train the layer with CUBA neurons")
        elif missing:
            yield Trouble(node.name, f"missing: {', '.join(missing)}", EXPORT)
        if node.neuron is not None and node.neuron.get("type") in NEURON_TYPES:
            absent = [f"neuron/{field}" for field in NEURON_NUMBERS if field not in node.neuron]
            if absent:
                yield Trouble(node.name, f"missing: {', '.join(absent)}", EXPORT)


def neuron_type(network: Network) -> Iterator[Trouble]:
    """Neurons are leaky integrate-and-fire with a current: CUBA, or LOIHI."""
    for node in network.nodes:
        if node.neuron is not None and node.neuron.get("type") not in NEURON_TYPES:
            yield Trouble(
                node.name, f"its neurons are {node.neuron.get('type')!r}", "train the layer with CUBA neurons"
            )


def binary_spikes(network: Network) -> Iterator[Trouble]:
    """Spikes are 0 or 1."""
    for node, neuron in _neurons(network):
        graded = [field for field in ("gradedSpike", "messageBits") if np.any(neuron.get(field, 0))]
        if graded:
            yield Trouble(
                node.name,
                f"neuron/{graded[0]} = {_range(neuron[graded[0]])}",
                "train the layer with graded_spike = False",
            )


def plain_neuron(network: Network) -> Iterator[Trouble]:
    """A neuron may spike in every step, and its weights have no exponent of their own."""
    for node, neuron in _neurons(network):
        for field, most in (("refDelay", 1), ("wgtExp", 0), ("weight_exp", 0)):
            value = neuron.get(field, np.zeros(()))
            if not ((value >= 0) & (value <= most)).all():
                remedy = "train with a refractory delay of 1" if field == "refDelay" else "multiply the weights instead"
                yield Trouble(node.name, f"neuron/{field} = {_range(value)}", remedy)


def one_value(network: Network) -> Iterator[Trouble]:
    """All neurons of a layer share one iDecay, one vDecay and one vThMant."""
    for node, neuron in _neurons(network):
        for field in NEURON_NUMBERS:
            if np.unique(neuron.get(field, 0)).size != 1:
                yield Trouble(node.name, f"neuron/{field} = {_range(neuron[field])}", "train with shared_param = True")


def decay_range(network: Network) -> Iterator[Trouble]:
    """Decays have 12 bits: iDecay is 1 to 4096 (du = iDecay − 1), vDecay 0 to 4095."""
    for node, neuron in _neurons(network):
        for field, low, high in (("iDecay", 1, 4096), ("vDecay", 0, 4095)):
            value = neuron.get(field)
            if value is not None and not ((value >= low) & (value <= high) & (value == np.rint(value))).all():
                yield Trouble(node.name, f"neuron/{field} = {_range(value)}", "train with a decay in that range")


def threshold_range(network: Network) -> Iterator[Trouble]:
    """A threshold has 17 bits: vThMant is 0 to 131071; more only in a last layer, which then is a read-out."""
    for node, neuron in _neurons(network):
        value = neuron.get("vThMant")
        if (
            value is not None
            and not node.read_out
            and not ((value >= 0) & (value <= LARGEST_THRESHOLD) & (value == np.rint(value))).all()
        ):
            yield Trouble(node.name, f"neuron/vThMant = {_range(value)}", "train with a lower threshold")


def analog_input(network: Network) -> Iterator[Trouble]:
    """Neurons that analog input enters have no current of their own: iDecay = 4096."""
    for node, neuron in _neurons(network):
        if node.kind == "input" and np.any(neuron.get("iDecay", 4096) != 4096):
            yield Trouble(
                node.name, f"neuron/iDecay = {_range(neuron['iDecay'])}", "train the input with current_decay = 1"
            )


def whole_numbers(network: Network) -> Iterator[Trouble]:
    """Weights, biases and delays are whole numbers."""
    for node in network.nodes:
        for field in ("weight", "weight_rec", "bias", "delay"):
            values = node.numbers.get(field)
            if values is None or node.kind not in NEEDED:
                continue
            bad = ~whole_each(values)
            if bad.any():
                actual = f"{int(bad.sum())} of {values.size} values of {field} are not, such as {values[bad].flat[0]:g}"
                yield Trouble(
                    node.name,
                    actual,
                    "train with a quantisation hook (pre_hook_fx), so that they are exported as integers",
                )


def weight_bits(network: Network) -> Iterator[Trouble]:
    """Weights have 8 bits and an exponent: even in [-256, 254] where both signs occur, else at most 255 in size, times a power of 2."""
    for node in network.of(*CONNECTED):
        if node.weight is None or not whole(node.weight) or (node.kind in SPATIAL and "delay" in node.numbers):
            continue
        parts = [part for _, part in node.parts()]
        again = node.numbers.get("weight_rec")
        if node.kind == "dense_rec" and again is not None and whole(again):
            parts.append(again.astype(np.int64))
        if any(exponent_of(part) is None for part in parts):
            yield Trouble(node.name, f"they lie in {_range(node.weight)}", "train with 8-bit weights (quantize_8bit)")


def bias_bits(network: Network) -> Iterator[Trouble]:
    """A bias has 13 bits: -4096 to 4095."""
    for node in network.nodes:
        bias = node.numbers.get("bias")
        if (
            bias is not None
            and node.kind in NEEDED
            and not ((bias >= -LARGEST_BIAS - 1) & (bias <= LARGEST_BIAS)).all()
        ):
            yield Trouble(node.name, f"it is {_range(bias)}", "train with a smaller bias")


def delays(network: Network) -> Iterator[Trouble]:
    """Delays are in a dense layer, 0 to 62 steps: one number, one per neuron, per input, or per synapse."""
    for node in network.nodes:
        delay = node.numbers.get("delay")
        if delay is None or node.kind not in NEEDED:
            continue
        if node.kind != "dense":
            yield Trouble(node.name, f"it is a {node.kind} layer", "train that layer without delays")
        elif not ((delay >= 0) & (delay <= LARGEST_DELAY)).all():
            yield Trouble(node.name, f"they are {_range(delay)}", "train with max_delay = 62")
        elif node.weight is not None and whole(delay) and node.delays() is None:
            yield Trouble(node.name, f"{_text(delay.shape)} delays for {_text(node.weight.shape)} weights", EXPORT)


def agreeing_shapes(network: Network) -> Iterator[Trouble]:
    """A layer takes what the layer before it gives, and gives what its shape says."""
    for node in network.nodes:
        if not node.complete:
            return  # what follows it cannot be known
        trouble = _misfit(node)
        if (
            not trouble
            and node.kind in CONNECTED
            and "shape" in node.numbers
            and _squeezed(node.said_shape) != _squeezed(node.out_shape)
        ):
            trouble = f"its shape is {_values(node.numbers['shape'])}, its weights give {_text(node.out_shape)}"
        if trouble:
            yield Trouble(node.name, trouble, EXPORT)
            return


def read_outs(network: Network) -> Iterator[Trouble]:
    """A last layer without neurons, or with the highest threshold, is read as a membrane potential; without neurons it never leaks."""
    for node in network.nodes:
        if node.read_out and node.last:
            why = "it has no neurons" if node.neuron is None else f"its vThMant is {_range(node.neuron['vThMant'])}"
            yield Trouble(node.name, f"{why}: the result is its membrane potential, not its spikes", "", "note")


def host_average(network: Network) -> Iterator[Trouble]:
    """An average at the end is the host's: the network's result is what goes into it."""
    for node in network.of("average"):
        if node.said_shape is not None:
            yield Trouble(
                node.name, f"the host averages over {math.prod(node.said_shape)} groups of neurons", "", "note"
            )


def undelayed_bias(network: Network) -> Iterator[Trouble]:
    """A delay acts on what comes in, as in lava-dl, and therefore not on a bias."""
    for node in network.of("dense"):
        if np.any(node.numbers.get("delay", 0)) and np.any(node.numbers.get("bias", 0)):
            yield Trouble(node.name, "its bias is not delayed, where a delay of its axons would delay it", "", "note")


NETX_RULES: Mapping[str, Rule] = {
    "known_layers": known_layers,
    "layer_order": layer_order,
    "needed_fields": needed_fields,
    "neuron_type": neuron_type,
    "binary_spikes": binary_spikes,
    "plain_neuron": plain_neuron,
    "one_value": one_value,
    "decay_range": decay_range,
    "threshold_range": threshold_range,
    "analog_input": analog_input,
    "whole_numbers": whole_numbers,
    "weight_bits": weight_bits,
    "bias_bits": bias_bits,
    "delays": delays,
    "agreeing_shapes": agreeing_shapes,
    "read_outs": read_outs,
    "host_average": host_average,
    "undelayed_bias": undelayed_bias,
}


def network_findings(network: Network) -> list[Finding]:
    """Return everything that `NETX_RULES` have to say about a network, in the rules' order."""
    kinds = {node.name: f"netx {node.kind}" for node in network.nodes}
    return [
        Finding(
            trouble.node,
            kinds.get(trouble.node, "netx"),
            rule,
            sentence(function),
            trouble.level,
            trouble.actual,
            trouble.remedy,
        )
        for rule, function in NETX_RULES.items()
        for trouble in function(network)
    ]


def exponent_of(weight: NDArray[np.int64]) -> int | None:
    """Return the smallest exponent with which the hardware holds ``weight`` exactly, ``None`` when there is none."""
    low, high = int(weight.min()), int(weight.max())
    mixed = low < 0 < high
    for exponent in EXPONENTS:
        unit: float = 2.0**exponent
        if mixed and -256 * unit <= low and high <= 254 * unit and not (weight % (2 * unit)).any():
            return exponent
        if not mixed and max(-low, high) <= 255 * unit and not (weight % unit).any():
            return exponent
    return None


def _misfit(node: Node) -> str:
    """Return in which way the numbers of a complete node do not fit its input or each other; empty when they do."""
    if node.kind in ("input", "average"):
        if node.said_shape is None:
            return f"its shape is {_values(node.numbers['shape'])}"
        several = [
            field
            for field in ("weight", "bias")
            if node.kind == "input" and node.numbers.get(field, np.zeros(1)).size != 1
        ]
        return f"its {several[0]} has {node.numbers[several[0]].size} values, not 1" if several else ""
    weight, shape = node.weight, node.in_shape
    if shape is None:
        return "the shape of its input is not known"
    if node.kind == "flatten":
        return ""
    if weight is None:
        return f"its weights have shape {_text(node.numbers['weight'].shape)}"
    bias = node.numbers.get("bias", np.zeros(1))
    if bias.size not in (1, len(weight)):
        return f"{bias.size} biases for {len(weight)} {'channels' if node.kind in SPATIAL else 'neurons'}"
    if node.kind in SPATIAL:
        return _spatial_misfit(node, weight, shape)
    if weight.shape[1] != math.prod(shape):
        return f"it takes {weight.shape[1]} inputs, {math.prod(shape)} come in"
    if node.kind == "dense_rec" and node.numbers["weight_rec"].size != len(weight) ** 2:
        return f"weight_rec has {node.numbers['weight_rec'].size} values for {len(weight)} neurons"
    return ""


def _spatial_misfit(node: Node, weight: Numbers, shape: Shape) -> str:
    if len(shape) != 3:
        return f"its input has shape {_text(shape)}, not (C, H, W)"
    window = node.window
    if window is None or len(weight) % window.groups:
        fields = [field for field in ("stride", "padding", "dilation", "groups") if field in node.numbers]
        return ", ".join(f"{field} {_values(node.numbers[field])}" for field in fields)
    if weight.shape[1] * window.groups != shape[0]:
        return f"it takes {weight.shape[1] * window.groups} channels, {shape[0]} come in"
    return "" if node.out_shape and min(node.out_shape) > 0 else "nothing is left of its input"


def _neurons(network: Network) -> Iterator[tuple[Node, Mapping[str, Any]]]:
    """Yield every layer with neurons of a known type, and their fields."""
    for node in network.nodes:
        if node.neuron is not None and node.neuron.get("type") in NEURON_TYPES:
            yield node, node.neuron


def _squeezed(shape: Shape | None) -> Shape | None:
    return None if shape is None else tuple(size for size in shape if size != 1)


def _range(values: Any) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:g}" if low == high else f"{low:g} … {high:g}"


def _values(values: Numbers) -> str:
    return "×".join(f"{value:g}" for value in values.ravel())


def _text(shape: Shape | None) -> str:
    return "×".join(map(str, shape)) if shape else "()"
