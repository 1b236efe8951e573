"""Rules that a netx network keeps to become a program; their docstrings are shown to users.

As in `ashneuro.program.rules.graph`, all rules run and everything is reported at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.loihi import (
    BIAS_MANTISSA,
    DECAY_ONE,
    LARGEST_DECAY,
    LARGEST_DELAY,
    LARGEST_STATE,
    LARGEST_THRESHOLD,
    LARGEST_WEIGHT,
    MIXED_WEIGHTS,
    WEIGHT_EXP,
)
from ashneuro.program.netx.file import (
    CONNECTED,
    EXPORT,
    NEEDED,
    POOLS,
    RESONATORS,
    SPATIAL,
    NetxFile,
    NetxLayer,
    Numbers,
    shifted,
    squeezed,
    whole,
    whole_each,
)
from ashneuro.program.program import Shape
from ashneuro.program.rules.finding import Finding, Violation, apply_rules, range_text, shape_text, some
from ashneuro.spiking.message import BITS

GIVE_SHAPE = "--input-shape C,H,W, or ashneuro.read(path, input_shape=(C, H, W)), as it was trained"
EXPONENTS: tuple[int, ...] = (0, -1, *range(1, WEIGHT_EXP[1] + 1))  # −1: odd weights of both signs, doubled
LARGEST_MATRIX = 1 << 22  # neurons: several chips of Loihi 2, and what a matrix of this machine holds
NORM_EXPONENT = 3  # Slayer's default limit of weight_exp in training; a file does not say it
LARGEST_SHIFT = WEIGHT_EXP[1] + 1 + NORM_EXPONENT
NEURON_NUMBERS = ("iDecay", "vDecay", "vThMant")
TURN = ("sinDecay", "cosDecay")
# Fields of the neurons that each type needs.
NEURON_TYPES: Mapping[str, tuple[str, ...]] = {
    "CUBA": NEURON_NUMBERS,
    "LOIHI": NEURON_NUMBERS,
    "ALIF": (*NEURON_NUMBERS, "thDecay", "refDecay", "vThStep"),
    **dict.fromkeys(RESONATORS, (*TURN, "vThMant")),
    "SDNN": ("vThMant",),
}

Rule = Callable[[NetxFile], Iterator[Violation]]


def known_layers(netx: NetxFile) -> Iterator[Violation]:
    """Every layer is an input, flatten, conv, convT, pool, unpool, dense, dense_rec or average."""
    for layer in netx.layers:
        if layer.kind not in NEEDED:
            yield Violation(layer.name, f"its type is {layer.kind!r}", "rebuild that part from the layers named")


def layer_order(netx: NetxFile) -> Iterator[Violation]:
    """The first layer is an input, layers with weights follow; an average, or a layer without
    neurons, is the last.
    """
    for layer in netx.layers:
        if layer.kind == "input" and layer.index:
            yield Violation(layer.name, f"it is layer {layer.index}", "split the file, one network each")
        if layer.kind == "average" and layer.index != len(netx.layers) - 1:
            yield Violation(layer.name, "layers follow it", "end the network there, or put a dense layer in its place")
        if layer.kind in CONNECTED and layer.neuron is None and not (layer.kind == "dense" and layer.last):
            yield Violation(layer.name, "it has no neurons", f"give the layer CUBA neurons, and {EXPORT}")
    if not any(layer.kind in CONNECTED for layer in netx.layers):
        yield Violation("network", "no layer has weights", EXPORT)


def needed_fields(netx: NetxFile) -> Iterator[Violation]:
    """A layer has the numeric fields of its type: weights, geometry, decays and threshold."""
    for layer in netx.layers:
        missing = [field for field in NEEDED.get(layer.kind, ()) if field not in layer.numbers]
        if missing:
            no_shape = missing == ["shape"] and layer.kind == "input"
            yield Violation(layer.name, f"missing: {', '.join(missing)}", GIVE_SHAPE if no_shape else EXPORT)
        if layer.neuron is not None and layer.neuron.get("type") in NEURON_TYPES:
            needed = NEURON_TYPES[layer.neuron["type"]]
            absent = [f"neuron/{field}" for field in needed if field not in layer.neuron]
            if absent:
                yield Violation(layer.name, f"missing: {', '.join(absent)}", EXPORT)


def neuron_type(netx: NetxFile) -> Iterator[Violation]:
    """Neurons are current-based leaky integrate-and-fire (CUBA, LOIHI), have an adaptive threshold
    (ALIF), resonate (RF_PHASE, RF_IZHIKEVICH), or send changes (SDNN).
    """
    for layer in netx.layers:
        if layer.neuron is not None and layer.neuron.get("type") not in NEURON_TYPES:
            actual = f"its neurons are {layer.neuron.get('type')!r}"
            yield Violation(layer.name, actual, "train the layer with CUBA neurons")


def complex_weights(netx: NetxFile) -> Iterator[Violation]:
    """Neurons that resonate are in dense layers with real and imaginary weights, without biases,
    delays and exponents, as netx 0.6.0 reads them; other neurons have real weights.
    """
    for layer in netx.layers:
        has = "weight/imag" in layer.numbers
        if not layer.resonates:
            if has:
                yield Violation(layer.name, "its weights are complex", "train the layer with RF neurons")
            continue
        remedy = "train that layer as a dense one of Slayer's block.rf or block.rf_iz, without delays and norms"
        if layer.kind != "dense" or not has:
            actual = f"RF neurons in a {layer.kind} layer" + ("" if has else " with real weights")
            yield Violation(layer.name, actual, remedy)
        elif layer.weight is not None and layer.imaginary() is None and layer.in_shape is not None:
            sizes = f"{shape_text(layer.weight.shape)} real, {layer.numbers['weight/imag'].size} imaginary weights"
            yield Violation(layer.name, sizes, EXPORT)
        for field in ("bias", "delay"):
            if np.any(layer.numbers.get(field, 0)):
                yield Violation(layer.name, f"it has a {field}, which netx 0.6.0 ignores", remedy)
        for field in ("wgtExp", "weight_exp"):
            if np.any((layer.neuron or {}).get(field, 0)):
                yield Violation(layer.name, f"neuron/{field} = {range_text((layer.neuron or {})[field])}", remedy)


def sigma_delta(netx: NetxFile) -> Iterator[Violation]:
    """Sigma-delta neurons have a ReLU, no wgtExp or weight_exp, and messages of 2 to 16 bits. A sum
    of changes (sigma_output) is the last layer, and has no bias.
    """
    _, fewest, most = BITS["change"]
    for layer, neuron in _neurons(netx):
        if not layer.sigma_delta:
            continue
        if neuron.get("activation", "") not in ("", "relu"):
            actual = f"neuron/activation = {neuron['activation']}"
            yield Violation(layer.name, actual, "train with activation = torch.relu, the only one that netx reads")
        for field in ("wgtExp", "weight_exp"):
            if np.any(neuron.get(field, 0)):
                actual = f"neuron/{field} = {range_text(neuron[field])}"
                yield Violation(layer.name, actual, "train the layer without a norm")
        bits = neuron.get("messageBits", np.full(1, most))
        if not ((bits >= fewest) & (bits <= most) & (bits == np.rint(bits))).all():
            remedy = f"write 16 into neuron/messageBits, or {EXPORT}"
            yield Violation(layer.name, f"neuron/messageBits = {range_text(bits)}", remedy)
        if layer.sums and not layer.last:
            yield Violation(layer.name, "it sums changes, and layers follow it", "end the network there")
        if layer.sums and np.any(layer.numbers.get("bias", 0)):
            yield Violation(layer.name, "it sums changes, and has a bias", "train that layer without a bias")


def binary_spikes(netx: NetxFile) -> Iterator[Violation]:
    """Spikes are 0 or 1, without a payload, but for changes of sigma-delta neurons."""
    for layer, neuron in _neurons(netx):
        if layer.sigma_delta:
            continue
        graded = [field for field in ("gradedSpike", "messageBits") if np.any(neuron.get(field, 0))]
        if graded:
            actual = f"neuron/{graded[0]} = {range_text(neuron[graded[0]])}"
            yield Violation(layer.name, actual, "train the layer with graded_spike = False")


def plain_neuron(netx: NetxFile) -> Iterator[Violation]:
    """A refractory delay is a whole number of steps, one per layer; above 1 it needs CUBA or LOIHI
    neurons that spike at v > vThMant. An input's neurons have no weights to multiply by a wgtExp or
    a weight_exp.
    """
    for layer, neuron in _neurons(netx):
        value = neuron.get("refDelay", np.zeros(()))
        actual, remedy = f"neuron/refDelay = {range_text(value)}", "train with a refractory delay of 1"
        if not whole(value) or np.min(value) != np.max(value) or not 0 <= np.max(value) <= LARGEST_STATE:
            yield Violation(layer.name, actual, remedy)
        elif layer.refractory_steps and neuron["type"] not in ("CUBA", "LOIHI"):
            yield Violation(layer.name, f"{actual}, and {neuron['type']} neurons have dynamics of their own", remedy)
        elif layer.refractory_steps and netx.reading.comparison == "inclusive":
            remedy = "--comparison strict, if it was trained so, or a refractory delay of 1"
            yield Violation(layer.name, f"{actual}, read as v ≥ vThMant", remedy)
        for field in ("wgtExp", "weight_exp"):
            if layer.kind == "input" and np.any(neuron.get(field, 0)):
                actual = f"neuron/{field} = {range_text(neuron[field])}"
                yield Violation(layer.name, actual, "multiply the weight of the input instead")


def neuron_exponent(netx: NetxFile) -> Iterator[Violation]:
    """Neurons multiply their weights by 2^wgtExp, or divide u and bias by 2^weight_exp (a norm):
    both leave whole numbers, and weight_exp, within ±3, needs iDecay = 4096, so that u has no
    memory.
    """
    for layer, neuron in _neurons(netx):
        if layer.kind == "input" or layer.sigma_delta:
            continue
        for field, most in (("wgtExp", WEIGHT_EXP[1] + 1), ("weight_exp", NORM_EXPONENT)):
            value = neuron.get(field, np.zeros(1))
            actual = f"neuron/{field} = {range_text(value)}"
            exponent = layer.exponent(field)
            if (value != exponent).any() or abs(exponent) > most:
                yield Violation(layer.name, actual, "multiply the weights instead")
            elif exponent and not _whole_after(layer):
                yield Violation(layer.name, f"{actual}, which leaves fractions", "multiply the weights instead")
            elif exponent and field == "weight_exp" and np.any(neuron.get("iDecay", DECAY_ONE) != DECAY_ONE):
                actual += f", neuron/iDecay = {range_text(neuron['iDecay'])}"
                yield Violation(layer.name, actual, "train with current_decay = 1, or MeanOnlyBatchNorm")


def _whole_after(layer: NetxLayer) -> bool:
    """Return True if weights and bias are whole numbers after the neurons' exponents."""
    shifts = {
        "weight": layer.weight_shift,
        "weight_rec": layer.weight_shift,
        "bias": -layer.exponent("weight_exp"),
    }
    given = {field: layer.numbers[field] for field in shifts if field in layer.numbers}
    # Fractions that the file itself has are found by `whole_numbers`.
    return all(whole(np.ldexp(values, shifts[field])) for field, values in given.items() if whole(values))


def one_value(netx: NetxFile) -> Iterator[Violation]:
    """All neurons of a layer share one vThMant, thDecay, refDecay and vThStep; iDecay, vDecay,
    sinDecay and cosDecay are one value each, one per channel, or one per neuron.
    """
    for layer, neuron in _neurons(netx):
        for field in NEURON_TYPES[neuron["type"]]:
            value = np.asarray(neuron.get(field, 0))
            shape = layer.out_shape
            each = field in ("iDecay", "vDecay", *TURN) and shape is not None
            sizes = (1, shape[0], math.prod(shape)) if each and shape is not None else (1,)
            if np.unique(value).size != 1 and value.size not in sizes:
                actual = f"neuron/{field} = {range_text(value)}, {value.size} values for {shape_text(shape)} neurons"
                yield Violation(layer.name, actual, "train with shared_param = True")


def decay_range(netx: NetxFile) -> Iterator[Violation]:
    """Decays have 12 bits: iDecay is 1 to 4096 (du = iDecay − 1); vDecay, thDecay and refDecay are
    0 to 4095, sinDecay and cosDecay 0 to 4096.
    """
    others: tuple[tuple[str, int, int], ...] = (
        ("vDecay", 0, LARGEST_DECAY),
        ("thDecay", 0, LARGEST_DECAY),
        ("refDecay", 0, LARGEST_DECAY),
    )
    others = (*others, ("sinDecay", 0, DECAY_ONE), ("cosDecay", 0, DECAY_ONE))
    for layer, neuron in _neurons(netx):
        for field, low, high in (("iDecay", 1, DECAY_ONE), *others):
            value = neuron.get(field)
            if value is not None and not ((value >= low) & (value <= high) & (value == np.rint(value))).all():
                yield Violation(layer.name, f"neuron/{field} = {range_text(value)}", "train with a decay in that range")


def threshold_range(netx: NetxFile) -> Iterator[Violation]:
    """A threshold has 17 bits: vThMant is 0 to 131071, or more in a read-out at the end; so does
    the vThStep of ALIF neurons. The vThMant of ALIF and RF neurons is at least 1.
    """
    for layer, neuron in _neurons(netx):
        if layer.read_out:
            continue
        for field in ("vThMant", "vThStep"):
            value = neuron.get(field)
            least = int(field == "vThMant" and neuron["type"] not in ("CUBA", "LOIHI", "SDNN"))
            if value is None or ((value >= least) & (value <= LARGEST_THRESHOLD) & (value == np.rint(value))).all():
                continue
            low = f"train with a {field} of at least {least}"
            remedy = low if np.min(value) < least else "train with a lower threshold"
            yield Violation(layer.name, f"neuron/{field} = {range_text(value)}", remedy)


def analog_input(netx: NetxFile) -> Iterator[Violation]:
    """Neurons that an analog input enters have no synaptic current: iDecay = 4096."""
    for layer, neuron in _neurons(netx):
        if layer.kind == "input" and np.any(neuron.get("iDecay", DECAY_ONE) != DECAY_ONE):
            actual = f"neuron/iDecay = {range_text(neuron['iDecay'])}"
            yield Violation(layer.name, actual, "train the input with current_decay = 1")


def whole_numbers(netx: NetxFile) -> Iterator[Violation]:
    """Weights, biases and delays are whole numbers."""
    remedy = "train with a quantisation hook (pre_hook_fx), so that they are exported as integers"
    for layer in netx.layers:
        for field in ("weight", "weight/imag", "weight_rec", "bias", "delay"):
            values = layer.numbers.get(field)
            if values is None or layer.kind not in NEEDED:
                continue
            bad = ~whole_each(values)
            if bad.any():
                actual = f"{int(bad.sum())} of {values.size} values of {field} are not, such as {values[bad].flat[0]:g}"
                yield Violation(layer.name, actual, remedy)


def weight_bits(netx: NetxFile) -> Iterator[Violation]:
    """Weights are 8-bit numbers times 2^k: even in [-256, 254] if signs mix, else within ±255."""
    for layer in netx.complete(*CONNECTED):
        if layer.weight is None or not whole(layer.weight) or abs(layer.weight_shift) > LARGEST_SHIFT:
            continue
        if not _shape_misfit(layer):
            parts = [synapse.weight for _, synapse in layer.synapses()]
        elif "delay" not in layer.numbers:
            parts = [shifted(layer.weight, layer.weight_shift)]
        else:
            continue  # weights of one delay have their own exponent
        again = layer.numbers.get("weight_rec")
        imaginary = layer.numbers.get("weight/imag")
        if imaginary is not None and whole(imaginary):
            parts.append(shifted(imaginary, layer.weight_shift))
        if layer.kind == "dense_rec" and again is not None and whole(again):
            parts.append(shifted(again, layer.weight_shift))
        if any(exponent_of(part) is None for part in parts):
            actual = f"they lie in {range_text(layer.weight)}"
            yield Violation(layer.name, actual, "train with 8-bit weights (quantize_8bit)")


def bias_bits(netx: NetxFile) -> Iterator[Violation]:
    """A bias has 13 bits: -4096 to 4095."""
    for layer in netx.layers:
        bias = layer.numbers.get("bias")
        if bias is None or layer.kind not in NEEDED:
            continue
        acting = np.ldexp(bias, -layer.exponent("weight_exp"))
        if not ((acting >= BIAS_MANTISSA[0]) & (acting <= BIAS_MANTISSA[1])).all():
            yield Violation(layer.name, f"it is {range_text(bias)}", "train with a smaller bias")


def delays(netx: NetxFile) -> Iterator[Violation]:
    """Delays are at least 0 steps: in dense layers for all, or per neuron, input or synapse; in
    convolutions and pools for all, or per output channel.
    """
    for layer in netx.layers:
        delay = layer.numbers.get("delay")
        if delay is None or layer.kind not in NEEDED:
            continue
        if layer.kind not in ("dense", *SPATIAL):
            yield Violation(layer.name, f"it is a {layer.kind} layer", "train that layer without delays")
        elif not (delay >= 0).all():
            yield Violation(layer.name, f"they are {range_text(delay)}", "train with delays of at least 0")
        elif layer.weight is not None and layer.outputs and whole(delay) and layer.delays() is None:
            of = f"{layer.outputs} channels" if layer.kind in SPATIAL else f"{shape_text(layer.weight.shape)} weights"
            actual = f"{shape_text(delay.shape)} delays for {of}"
            yield Violation(layer.name, actual, f"correct the delays in the file, or {EXPORT}")


def input_shape(netx: NetxFile) -> Iterator[Violation]:
    """The shape of the input is that of the input layer, follows from a dense layer that comes
    first, or is given with --input-shape; a given shape agrees with the file's.
    """
    first, given = netx.layers[0], netx.reading.input_shape
    if given is not None:
        stated = first.stated_shape if first.kind == "input" else None
        if stated is not None and squeezed(stated) != squeezed(given):
            actual = f"the file says {shape_text(stated)}, --input-shape says {shape_text(given)}"
            yield Violation(first.name, actual, "leave --input-shape out")
    elif netx.input_shape is None and first.kind in NEEDED and first.complete and first.kind != "input":
        yield Violation(first.name, "it comes first, and the file has no shape of its input", GIVE_SHAPE)


def agreeing_shapes(netx: NetxFile) -> Iterator[Violation]:
    """A layer takes the output shape of the layer before it, and gives the shape that it states."""
    for layer in netx.layers:
        if not layer.complete or (netx.input_shape is None and layer.kind != "input"):
            return  # the shapes behind it are unknown
        if actual := _shape_misfit(layer):
            given = netx.reading.input_shape is not None
            flat = layer.index < 2 and layer.kind in SPATIAL and len(layer.in_shape or ()) < 3
            yield Violation(layer.name, actual, GIVE_SHAPE if given or flat else f"correct it in the file, or {EXPORT}")
            return


def comparison(netx: NetxFile) -> Iterator[Violation]:
    """A file does not say how v is compared with vThMant. Lava spikes at v > vThMant, and so do
    SLAYER's LOIHI neurons, and CUBA neurons of Slayer since lava-dl 0.3.0; before, those were
    trained with v ≥ vThMant. Sigma-delta neurons send changes of vThMant or more.
    """
    if {neuron["type"] for _, neuron in _neurons(netx)} == {"SDNN"}:
        return
    reading, undecided = netx.reading, some(netx.undecided)
    if reading.comparison == "inclusive":
        remedy = "nothing to do in Lava, where ashneuro's process computes it; Loihi's own neuron compares v > vThMant"
        yield Violation("network", "read as v ≥ vThMant", remedy, "note")
    elif undecided and not reading.stated:
        origin = "assumed for" if reading.stated is False else "assumed or stated, which was not recorded, for"
        remedy = "--comparison strict; --comparison inclusive for a network that was trained with v ≥ vThMant"
        yield Violation("network", f"read as v > vThMant, {origin} {undecided}", remedy, "note")


def read_outs(netx: NetxFile) -> Iterator[Violation]:
    """A last layer without neurons, or with the highest threshold, is a read-out: without neurons
    it never leaks.
    """
    for layer in netx.layers:
        if layer.read_out and layer.last:
            why = "it sums changes (sigma_output)"
            if not layer.sums:
                why = "it has no neurons"
                if layer.neuron is not None:
                    why = f"its vThMant is {range_text(layer.neuron['vThMant'])}"
            result = "that sum" if layer.sums else "its membrane potential, not its spikes"
            yield Violation(layer.name, f"{why}: the result is {result}", "", "note")


def unlike_netx(netx: NetxFile) -> Iterator[Violation]:
    """netx 0.6.0 ignores a refDelay above 1, reads no ALIF neurons, and computes sinDecay and
    cosDecay again from a period and a decay, which may be one less. It reads a delay above 62 as
    62, and so does ashneuro.
    """
    for layer in netx.complete("dense", *SPATIAL):
        delay = layer.numbers.get("delay", np.zeros(1))
        if (delay > LARGEST_DELAY).any():
            actual = f"{int((delay > LARGEST_DELAY).sum())} delays of up to {np.max(delay):g} steps, read as 62"
            yield Violation(layer.name, actual, "", "note")
    for layer, neuron in _neurons(netx):
        if neuron["type"] == "ALIF":
            actual = "ALIF neurons, as Slayer and Lava's ATRLIF compute them; netx 0.6.0 does not read them"
            yield Violation(layer.name, actual, "", "note")
        elif layer.refractory_steps:
            steps = layer.refractory_steps
            actual = f"v stays at 0 for {steps} step(s) after a spike (refDelay {steps + 1}), which netx 0.6.0 ignores"
            yield Violation(layer.name, actual, "", "note")
        elif layer.resonates:
            parts = [np.ravel(neuron.get(field, 0)).astype(float) for field in TURN]
            if len({part.size for part in parts} - {1}) > 1:
                continue  # `one_value` tells
            unlike = []
            for given in zip(*np.broadcast_arrays(*parts), strict=True):
                again = computed_again(*given) if np.isfinite(given).all() else given
                if given != again:
                    unlike.append((given, again))
            if unlike:
                (sin, cos), again = unlike[0]
                actual = f"sinDecay {sin:g}, cosDecay {cos:g} as the file says"
                actual += f"; netx 0.6.0 computes {again[0]:g} and {again[1]:g}"
                actual += f", and others for {len(unlike) - 1} more neuron(s)" if len(unlike) > 1 else ""
                yield Violation(layer.name, actual, "", "note")


def computed_again(sin: float, cos: float) -> tuple[float, float]:
    """Return sinDecay and cosDecay as netx and Lava's RF make them from a period and a decay."""
    radius = np.sqrt((sin / DECAY_ONE) ** 2 + (cos / DECAY_ONE) ** 2)
    frequency = np.arctan2(sin / DECAY_ONE, cos / DECAY_ONE) / 2 / np.pi
    if not frequency or not np.isfinite(radius):
        return sin, cos
    angle, decay = np.pi * 2 * 1 / (1 / frequency), 1 - radius
    factors = np.trunc((1 - decay) * np.array([np.sin(angle), np.cos(angle)]) * DECAY_ONE)
    return float(factors[0]), float(factors[1])


def host_average(netx: NetxFile) -> Iterator[Violation]:
    """The host computes a final average: the network's result is the input of the average."""
    for layer in netx.complete("average"):
        if layer.stated_shape is not None:
            actual = f"the host averages over {math.prod(layer.stated_shape)} groups of neurons"
            yield Violation(layer.name, actual, "", "note")


def undelayed_bias(netx: NetxFile) -> Iterator[Violation]:
    """A delay acts on the input of a layer, as in lava-dl, and therefore not on its bias."""
    for layer in netx.complete("dense", *SPATIAL):
        if np.any(layer.numbers.get("delay", 0)) and np.any(layer.numbers.get("bias", 0)):
            actual = "its bias is not delayed, where a delay of its axons would delay it"
            yield Violation(layer.name, actual, "", "note")


NETX_RULES: Mapping[str, Rule] = {
    "known_layers": known_layers,
    "layer_order": layer_order,
    "needed_fields": needed_fields,
    "neuron_type": neuron_type,
    "complex_weights": complex_weights,
    "sigma_delta": sigma_delta,
    "binary_spikes": binary_spikes,
    "plain_neuron": plain_neuron,
    "neuron_exponent": neuron_exponent,
    "one_value": one_value,
    "decay_range": decay_range,
    "threshold_range": threshold_range,
    "analog_input": analog_input,
    "whole_numbers": whole_numbers,
    "weight_bits": weight_bits,
    "bias_bits": bias_bits,
    "delays": delays,
    "input_shape": input_shape,
    "agreeing_shapes": agreeing_shapes,
    "comparison": comparison,
    "read_outs": read_outs,
    "unlike_netx": unlike_netx,
    "host_average": host_average,
    "undelayed_bias": undelayed_bias,
}


def check_netx(netx: NetxFile) -> list[Finding]:
    """Return everything that `NETX_RULES` find in a file, in the rules' order."""
    kinds = {layer.name: f"netx {layer.kind}" for layer in netx.layers}
    return apply_rules(NETX_RULES, netx, nir_type=lambda name: kinds.get(name, "netx"))


def exponent_of(weight: NDArray[np.int64]) -> int | None:
    """Return the exponent with which the hardware holds ``weight`` exactly; else ``None``."""
    low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
    mixed = low < 0 < high
    # Exponent 0 first, so that weights stay the file's own numbers where they can.
    for exponent in EXPONENTS:
        unit: float = 2.0**exponent
        if (
            mixed
            and MIXED_WEIGHTS[0] * unit <= low
            and high <= MIXED_WEIGHTS[1] * unit
            and not (weight % (2 * unit)).any()
        ):
            return exponent
        if not mixed and max(-low, high) <= LARGEST_WEIGHT * unit and not (weight % unit).any():
            return exponent
    return None


def _shape_misfit(layer: NetxLayer) -> str:
    """Return the first inconsistency of a complete layer with its input and its own shape."""
    actual = _misfit(layer)
    stated = layer.kind in CONNECTED and "shape" in layer.numbers
    if not actual and stated and squeezed(layer.stated_shape or ()) != squeezed(layer.out_shape or ()):
        return f"its shape is {_values(layer.numbers['shape'])}, its weights give {shape_text(layer.out_shape)}"
    return actual


def _misfit(layer: NetxLayer) -> str:
    """Return the first inconsistency of a complete layer; "" if there is none."""
    if layer.kind in ("input", "average"):
        if layer.stated_shape is None:
            return f"its shape is {_values(layer.numbers['shape'])}"
        fields = ("weight", "bias") if layer.kind == "input" else ()
        sizes = {field: layer.numbers[field].size for field in fields if field in layer.numbers}
        return next((f"its {field} has {size} values, not 1" for field, size in sizes.items() if size != 1), "")
    weight, shape = layer.weight, layer.in_shape
    if shape is None:
        return "the shape of its input is not known"
    if layer.kind == "flatten":
        return ""
    if weight is None:
        return f"its weights have shape {shape_text(layer.numbers['weight'].shape)}"
    if layer.kind in SPATIAL and (actual := _spatial_misfit(layer, weight, shape)):
        return actual
    bias = layer.numbers.get("bias", np.zeros(1))
    if bias.size not in (1, layer.outputs):
        return f"{bias.size} biases for {layer.outputs} {'channels' if layer.kind in SPATIAL else 'neurons'}"
    if layer.kind in SPATIAL:
        return ""
    if weight.shape[1] != math.prod(shape):
        return f"it takes {weight.shape[1]} inputs, {math.prod(shape)} come in"
    if layer.kind == "dense_rec" and layer.numbers["weight_rec"].size != len(weight) ** 2:
        return f"weight_rec has {layer.numbers['weight_rec'].size} values for {len(weight)} neurons"
    return ""


def _spatial_misfit(layer: NetxLayer, weight: Numbers, shape: Shape) -> str:
    if len(shape) != 3:
        return f"its input has shape {shape_text(shape)}, not (C, H, W)"
    window = layer.window
    if window is None or len(weight) % layer.groups:
        fields = [field for field in ("stride", "padding", "dilation", "groups") if field in layer.numbers]
        return ", ".join(f"{field} {_values(layer.numbers[field])}" for field in fields)
    into = len(weight) if layer.kind == "convT" else weight.shape[1] * layer.groups
    if layer.kind in POOLS:
        if layer.out_shape is None:
            return f"the rows that it gives are no multiple of its {shape[0]} channels"
    elif into != shape[0]:
        return f"it takes {into} channels, {shape[0]} come in"
    if layer.out_shape is None or min(layer.out_shape) < 1:
        return "nothing is left of its input"
    # Pools and transposed convolutions become matrices.
    too_large = layer.kind != "conv" and math.prod(layer.out_shape) > LARGEST_MATRIX
    return f"it has {math.prod(layer.out_shape)} neurons, at most {LARGEST_MATRIX} are read" if too_large else ""


def _neurons(netx: NetxFile) -> Iterator[tuple[NetxLayer, Mapping[str, Any]]]:
    """Iterate over (layer, fields of its neurons) of the layers with neurons of a known type."""
    for layer in netx.layers:
        if layer.neuron is not None and layer.neuron.get("type") in NEURON_TYPES:
            yield layer, layer.neuron


def _values(values: Numbers) -> str:
    return "×".join(f"{value:g}" for value in values.ravel())
