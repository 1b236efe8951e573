"""CMOS at one process node: arithmetic, neuron updates and memory accesses, each as its own term.

Both sides of a comparison are priced by the same rules: `mac_energy`, `ac_energy`,
`update_energy` and `memory_energy`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ashneuro.cost.profile import CHECKS, HardwareProfile, Quantity, Range
from ashneuro.cost.terms import CostEstimate, Term
from ashneuro.cost.workload import LayerWorkload, Workload
from ashneuro.errors import ProfileError

# Memories of the published table, smallest first, with their capacities.
SRAM_BITS = (("sram_8kb", 8 * 1024 * 8), ("sram_32kb", 32 * 1024 * 8), ("sram_1mb", 1024 * 1024 * 8))
WORD_BITS = 64
# A spike in memory is the address of its neuron.
MESSAGE_BITS = 32
# Of one kind of data: accesses, bits of one access, bits of all that is held.
Traffic = tuple[float, int, int]


def estimate_asic(workload: Workload, profile: HardwareProfile, precision: str) -> CostEstimate:
    """Return the estimate of one inference at a process node.

    Raises:
        ProfileError: the precision is unknown, or the profile lacks a price that it needs.
    """
    terms = _asic_terms(workload, profile, precision)
    notes = [*_asic_notes(precision)]
    passes = max((layer.passes for layer in workload.layers), default=1)
    if passes > 1:
        notes.append(f"an ANN runs once per frame of the stream: {passes} passes per inference, none shared")
    return CostEstimate.from_terms(profile, precision, terms, tuple(notes))


def _asic_terms(workload: Workload, profile: HardwareProfile, precision: str) -> Iterator[Term]:
    for layer in workload.layers:
        if layer.kind == "input":
            because = "transfers between host and chip are not part of this profile"
            yield Term(layer.name, "host I/O, bytes", layer.bytes_in / workload.samples, None, because, needed=False)
            continue
        scale = 1 / workload.samples
        if layer.kind == "ann":
            macs, acs, updates = layer.dense_macs * scale, 0.0, float(layer.neurons * layer.passes)
            if layer.accesses is not None:
                updates = (layer.updates or 0) * scale
        else:
            macs, acs, updates = (
                (layer.effective_macs or 0) * scale,
                layer.effective_acs * scale,
                (layer.updates or 0) * scale,
            )
        if macs:
            energy, used = mac_energy(profile, precision)
            formula = "MACs × (product + addition)"
            yield Term(layer.name, "mac", macs, macs * energy, formula=formula, quantities=used)
        if acs:
            energy, used = ac_energy(profile, precision)
            yield Term(layer.name, "synop", acs, acs * energy, formula="synops × addition", quantities=used)
        energy, used = update_energy(profile, precision, layer)
        name = "activation" if layer.kind == "ann" else "neuron update"
        formula = f"{name}s × their products and additions"
        yield Term(layer.name, name, updates, updates * energy, formula=formula, quantities=used)
        accesses, energy, used = memory_energy(profile, precision, layer, workload.samples, workload.timesteps)
        formula = "accesses × bits / 64 × energy of the memory that holds them"
        yield Term(layer.name, "memory", accesses, energy, formula=formula, quantities=used)


def _asic_notes(precision: str) -> Iterator[str]:
    yield (
        "memory: low, both sides move every number once; high, both fetch every operand of every operation; "
        "typical, the ANN reuses as dense accelerators do and the spiking part fetches per event"
    )
    yield (
        "memory: data lie in the smallest listed SRAM that holds them, "
        "more than 1 MB in several banks of 1 MB (high: in DRAM)"
    )
    if precision.startswith("int"):
        yield "integer accumulation: low and typical 8-bit additions, the usual convention; high 32-bit additions"
    if precision.startswith("int") and precision != "int8":
        yield (
            f"{precision}: no product of that width was published; it is the 8-bit product scaled by the "
            "operands' bits (8 → 32 bits costs 15.5× for 16× the bits in the same table); high: the 8-bit product"
        )


def _bits(precision: str) -> tuple[int, int, int]:
    """Return the bits of a weight, an activation, and an accumulator or state variable."""
    if precision == "fp32":
        return 32, 32, 32
    if precision == "fp16":
        return 16, 16, 16
    match = re.fullmatch(r"int([1-8])", precision)
    if match is None:
        raise ProfileError(
            f"precision {precision!r} is unknown", "it is fp32, fp16, int8, or intB with B from 1 to 7", "choose one"
        )
    return 8, int(match[1]), 32


def _price(profile: HardwareProfile, key: str) -> Range:
    quantity: Quantity | None = profile.energy.get(key)
    if quantity is not None and quantity.citable:
        return quantity.range
    if quantity is None:
        why = f"energy.{key} is not in the profile"
    else:
        kept_out = "an estimate by the profile's author" if quantity.status == "estimate" else CHECKS["R"]
        why = f"energy.{key} is in the profile, but estimates do not use it ({kept_out})"
    raise ProfileError(f"{profile.name} cannot price this", why, "choose another precision or profile")


def mac_energy(profile: HardwareProfile, precision: str) -> tuple[Range, tuple[str, ...]]:
    """Return joules of one multiply–accumulate, and the numbers used.

    Floating point: product + addition. int8: product + 8-bit addition (high: 32-bit addition).
    B-bit activations with 8-bit weights: the 8-bit product × B/8, an interpolation (high: the whole
    8-bit product).
    """
    if precision.startswith("fp"):
        keys = (f"mult_{precision}", f"add_{precision}")
        return _price(profile, keys[0]) + _price(profile, keys[1]), _paths(*keys)
    _, bits, _ = _bits(precision)
    product, narrow, wide = (_price(profile, key) for key in ("mult_int8", "add_int8", "add_int32"))
    # One operand keeps 8 bits, so the product scales with the bits of the other one.
    packed = product * (bits / 8) + narrow
    return Range(packed.low, packed.typical, product.high + wide.high), _paths("mult_int8", "add_int8", "add_int32")


def ac_energy(profile: HardwareProfile, precision: str) -> tuple[Range, tuple[str, ...]]:
    """Return joules of one accumulate, and the numbers used.

    It is one addition; integers: 8 bits wide (high: 32 bits).
    """
    if precision.startswith("fp"):
        return _price(profile, f"add_{precision}"), _paths(f"add_{precision}")
    _bits(precision)
    narrow, wide = _price(profile, "add_int8"), _price(profile, "add_int32")
    return Range(narrow.low, narrow.typical, wide.high), _paths("add_int8", "add_int32")


def update_energy(profile: HardwareProfile, precision: str, layer: LayerWorkload) -> tuple[Range, tuple[str, ...]]:
    """Return joules of one neuron update or ANN activation, and the numbers used.

    Neuron: a product per decaying state variable (low: a shift, priced as an addition) and its
    additions; integers have 32 bits. ANN: bias and comparison; integers also rescale the
    accumulator, a 32-bit product (low: a shift).
    """
    add_key, mult_key = (
        ("add_int32", "mult_int32") if precision.startswith("int") else (f"add_{precision}", f"mult_{precision}")
    )
    products = layer.update_multiplies + (layer.kind == "ann" and precision.startswith("int"))
    energy = layer.update_adds * _price(profile, add_key)
    if not products:
        return energy, _paths(add_key)
    product = _price(profile, mult_key)
    if precision.startswith("int"):
        # Decays and scales that are powers of two need a shift only.
        product = Range(_price(profile, add_key).low, product.typical, product.high)
    return energy + products * product, _paths(add_key, mult_key)


def memory_energy(
    profile: HardwareProfile, precision: str, layer: LayerWorkload, samples: int, timesteps: int
) -> tuple[float, Range, tuple[str, ...]]:
    """Return memory accesses of a layer per inference, their joules, and the numbers used.

    Perfect reuse moves every number once; no reuse fetches every operand of every operation (after
    Lemaire et al. 2022)::

                  perfect reuse                        no reuse
        ANN       weights, inputs and outputs once     weight and input per MAC; outputs once
                  per pass (frame of a stream)         per pass
        spiking   weights once; spikes in and out as   weight, and accumulator read and written, per
                  one bit per neuron and step;         synop; state variables read and written per
                  graded inputs in the bits of an      update; each spike 32 bits, written and read
                  activation; a neuron's steps         once; each graded input read once, in the
                  together, so no state moves;         bits of an activation, as the ANN reads it;
                  graded outputs in the bits of an     a graded message 32 bits as a spike, and
                  activation                           its payload, written once

    low: perfect reuse, or no reuse where that is less (few spikes can cost less than a bit per
    neuron and step). high: no reuse. typical: the dataflow that each side is built for, reuse in a
    dense ANN accelerator, fetches per event in a spiking one; the accesses are those of this case.

    Where values last from one inference to the next (`LayerWorkload.accesses`), they move in any
    case: an ANN reads and writes those of the outputs that it computes, and its weights once per
    inference that computes something.

    An access of n bits costs n/64 of a 64-bit one. Each kind of data lies in the smallest SRAM of
    the profile that holds it all; more than 1 MB lies in several banks of 1 MB (high: in DRAM).
    """
    reused, fetched = (
        _ann_traffic(precision, layer, samples)
        if layer.kind == "ann"
        else _spiking_traffic(precision, layer, samples, timesteps)
    )
    typical_case = reused if layer.kind == "ann" else fetched
    low, used = _traffic(profile, reused)
    high, more = _traffic(profile, fetched)
    typical, _ = _traffic(profile, typical_case)
    energy = Range(min(low.low, high.low), typical.typical, high.high)
    return sum(accesses for accesses, _, _ in typical_case), energy, tuple(dict.fromkeys(used + more))


def _ann_traffic(precision: str, layer: LayerWorkload, samples: int) -> tuple[list[Traffic], list[Traffic]]:
    """Return the traffic of an ANN layer per inference, with perfect reuse and with none."""
    weight_bits, activation_bits, _ = _bits(precision)
    macs = layer.dense_macs / samples
    weights = (weight_bits, layer.parameters * weight_bits)
    inputs = (activation_bits, layer.inputs * activation_bits)
    passes = layer.passes
    outputs = (float(layer.neurons * passes), activation_bits, layer.neurons * activation_bits)
    reused: list[Traffic] = [
        (min(macs, layer.parameters * passes), *weights),
        (min(macs, layer.inputs * passes), *inputs),
        outputs,
    ]
    if layer.accesses is not None:
        outputs = (layer.accesses.outputs / samples, *outputs[1:])
        reused = [
            (layer.accesses.weights / samples, *weights),
            (layer.accesses.inputs / samples, *inputs),
            outputs,
        ]
    fetched: list[Traffic] = [(macs, *weights), (macs, *inputs), outputs]
    return reused, fetched


def _spiking_traffic(
    precision: str, layer: LayerWorkload, samples: int, timesteps: int
) -> tuple[list[Traffic], list[Traffic]]:
    """Return the traffic of a spiking layer per inference, with perfect reuse and with none."""
    weight_bits, activation_bits, state_bits = _bits(precision)
    synops = (layer.effective_acs + (layer.effective_macs or 0)) / samples
    updates = (layer.updates or 0) / samples
    weights = (weight_bits, layer.parameters * weight_bits)
    spiking, graded = layer.inputs - layer.graded_inputs, layer.graded_inputs * timesteps
    sent_bits = activation_bits if layer.message_bits else 1
    reused: list[Traffic] = [
        # A weight that no spike meets is not read.
        (min(synops, layer.parameters), *weights),
        (float(spiking * timesteps), 1, spiking * timesteps),
        (float(graded), activation_bits, graded * activation_bits),
        (float(layer.neurons * timesteps), sent_bits, layer.neurons * timesteps * sent_bits),
    ]
    if layer.accesses is not None:
        variables = layer.neurons * (1 + layer.state_variables)  # the sum, which is the accumulator
        reused.append((layer.accesses.states / samples, state_bits, variables * state_bits))
    fetched: list[Traffic] = [
        (synops, *weights),
        (2 * synops, state_bits, layer.neurons * state_bits),
        (2 * updates * layer.state_variables, state_bits, layer.neurons * state_bits * layer.state_variables),
        (2 * (layer.spikes + layer.graded_messages) / samples, MESSAGE_BITS, layer.neurons),
        (layer.graded_messages / samples, activation_bits, layer.neurons * activation_bits),
        (layer.graded_events / samples, activation_bits, layer.graded_inputs * activation_bits),
    ]
    return reused, fetched


def _traffic(profile: HardwareProfile, traffic: Iterable[Traffic]) -> tuple[Range, tuple[str, ...]]:
    """Return joules of accesses, and the numbers used."""
    used: dict[str, None] = {}
    energy = Range(0.0, 0.0, 0.0)
    for accesses, bits, held in traffic:
        if not accesses:
            continue
        key = next((name for name, size in SRAM_BITS if held <= size), SRAM_BITS[-1][0])
        used[key] = None
        word = _price(profile, key)
        if held > SRAM_BITS[-1][1]:
            # Whether the data stay on the chip is not known, so DRAM is the high bound alone.
            used["dram"] = None
            word = Range(word.low, word.typical, _price(profile, "dram").high)
        energy = energy + accesses * bits / WORD_BITS * word
    return energy, _paths(*used)


def _paths(*keys: str) -> tuple[str, ...]:
    return tuple(f"energy.{key}" for key in keys)
