"""Neuromorphic chips: events times energy per event, and static power times time.

``E = Σ_layers synops·e_synop + updates_active·e_active + updates_inactive·e_inactive
+ spikes·e_spike_out + messages·e_axon_out + messages within a tile·e_local + hops·e_hop``,
and per boundary ``(static power + running overhead) · T · step``. Costs besides events, such as
x86 cores, are additions of their own (`ashneuro.cost.running`).

A term without a price is named and left out. A term that another price includes
(`Quantity.includes`) is not added again. Where active and inactive updates were not told apart,
low takes all of them as inactive and high all as active.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ashneuro.cost.deployment import STEP_TIMES, Deployment
from ashneuro.cost.profile import CHECKS, HardwareProfile, Quantity, Range
from ashneuro.cost.running import Usage, additions, term
from ashneuro.cost.terms import NATIVE, Addition, CostEstimate, Term, Total, total
from ashneuro.cost.workload import LayerWorkload, Workload
from ashneuro.errors import ProfileError

# Bits of a spike's message on Loihi (Davies et al. 2018); a payload is taken to lengthen it.
SPIKE_BITS = 32


def estimate_neuromorphic(
    workload: Workload,
    profile: HardwareProfile,
    *,
    with_estimates: bool = False,
    step_time_s: float | None = None,
    deployment: Deployment | None = None,
    x86_cores: int | None = None,
) -> CostEstimate:
    """Return the estimate of one inference on a chip; arguments as of `estimate`.

    Raises:
        ProfileError: the workload has ANN layers.
    """
    if any(layer.place == "host" or layer.kind == "ann" for layer in workload.layers):
        raise ProfileError(
            f"{profile.name}: ANN layers cannot be priced here",
            "a neuromorphic profile prices synops and neuron updates of spiking layers",
            "estimate workload.part('deployed') here and workload.part('host') on a GPU or CMOS profile",
        )
    prices = _Prices(profile, with_estimates)
    # Bits of the values at synapses: those of the network's messages, 8 for inputs alone.
    payload = max((layer.message_bits for layer in workload.layers), default=0) or 8
    terms = [
        term for layer in workload.layers for term in _event_terms(layer, workload.samples, prices, deployment, payload)
    ]
    chips = deployment.placement.chips if deployment else _least_chips(workload, profile)
    step, step_note, time_from = _step_time(profile, step_time_s, deployment)
    time = workload.timesteps * step if step else None
    latency = (workload.timesteps + deployment.depth) * step if step and deployment else None
    bare = CostEstimate.from_terms(profile, NATIVE, terms)
    # Prices that were fitted to a whole chip hold its static power already.
    static_included = "static" in prices.included
    cores = deployment.placement.cores if deployment else None
    usage = Usage(
        time,
        None if cores is None else Range(cores, cores, cores),
        chips or 1,
        None if x86_cores is None else Range(x86_cores, x86_cores, x86_cores),
    )
    besides = () if static_included else tuple(additions(profile, usage))
    totals = tuple(_totals(profile, bare.dynamic_j, usage, besides)) if time and not static_included else ()
    notes = list(_bound_notes(profile, bare))
    if static_included:
        notes.append(f"{profile.name}: static power is in the price of an event; nothing is added for time")
    if totals and bare.dynamic_j:
        notes.append(
            "static power and energies per event come from different sources and voltages; "
            "a total adds them at the boundary it names"
        )
    notes.append(step_note)
    assumed = [
        key for key in ("cores_per_tile", "tiles_wide") if key in profile.limits and not profile.limits[key].citable
    ]
    if deployment is not None and assumed:
        notes.append(f"{profile.name}: hops are counted on an assumed mesh; none was found in print")
    return replace(
        bare,
        totals=totals,
        additions=besides,
        time_s=time,
        latency_s=latency,
        chips=chips,
        cores=cores,
        time_from=time_from,
        notes=tuple(dict.fromkeys(note for note in notes if note)),
    )


@dataclass(frozen=True)
class _Prices:
    """The prices of a profile, and the further terms that each of them includes."""

    profile: HardwareProfile
    with_estimates: bool

    def usable(self, key: str) -> Quantity | None:
        quantity = self.profile.energy.get(key)
        return quantity if quantity is not None and (quantity.citable or self.with_estimates) else None

    @property
    def included(self) -> dict[str, str]:
        """Events whose prices include other terms, by the names of these terms."""
        found = ((key, self.usable(key)) for key in self.profile.energy)
        return {name: key for key, quantity in found if quantity is not None for name in quantity.includes}

    def term(self, layer: str, name: str, key: str, events: float, needed: bool = True, family: str = "") -> Term:
        """Return the term of ``events`` at the price ``key``; zero where another price includes it.

        Args:
            family: name under which `Quantity.includes` lists the term, if it differs.
        """
        holder = self.included.get(family or name)
        if holder is not None:
            energy, formula, path = Range(0.0, 0.0, 0.0), f"in energy.{holder}", f"energy.{holder}"
        elif (quantity := self.usable(key)) is not None:
            energy, formula, path = events * quantity.range, f"events × energy.{key}", f"energy.{key}"
        else:
            return Term(layer, name, events, None, self.why_missing(name, key), needed)
        return Term(layer, name, events, energy, needed=needed, formula=formula, quantities=(path,))

    def why_missing(self, name: str, key: str) -> str:
        """Return the reason why ``key`` has no usable price."""
        quantity = self.profile.energy.get(key)
        unpublished = f"no energy per {name} has been published for {self.profile.title}"
        if quantity is None:
            return unpublished
        if quantity.status == "estimate":
            return f"{unpublished}; the profile's own estimate is used only when asked for"
        return f"the source of energy.{key} was not seen ({CHECKS[quantity.check]})"


def _event_terms(
    layer: LayerWorkload, samples: int, prices: _Prices, deployment: Deployment | None, payload: int
) -> Iterator[Term]:
    if layer.kind == "input":
        yield _transfer(layer.name, layer.bytes_in / samples, prices)
        return
    yield from _synop_terms(layer, samples, prices)
    if layer.effective_macs:
        yield _graded_synop(layer, samples, prices, payload)
    yield _update_term(layer, samples, prices)
    # Some published sets have no energy for generating a spike; their profiles exclude it by name.
    if "spike_out" in prices.profile.energy:
        yield prices.term(layer.name, "spike", "spike_out", layer.spikes / samples)
    if layer.graded_messages:
        yield _graded_message(layer, samples, prices, deployment)
    else:
        yield from _mesh_terms(layer, samples, prices, deployment)
    yield _transfer(layer.name, layer.bytes_out / samples, prices)


def _transfer(layer: str, count: float, prices: _Prices) -> Term:
    if "io_byte" in prices.profile.energy:
        return prices.term(layer, "host I/O, byte", "io_byte", count, needed=False)
    return Term(
        layer, "host I/O, bytes", count, None, "no energy per byte between host and chip is known", needed=False
    )


def _synop_terms(layer: LayerWorkload, samples: int, prices: _Prices) -> Iterator[Term]:
    """Yield synops, by kind of synapse where the profile has a price for each kind."""
    if any(f"synop_{kind}" in prices.profile.energy for kind in ("dense", "sparse", "conv")):
        # A scaled identity has one synapse per neuron, which a core stores as a list.
        for kind, events in (layer.acs_by_kind or {"sparse": layer.effective_acs}).items():
            yield prices.term(layer.name, "synop", f"synop_{'sparse' if kind == 'scale' else kind}", events / samples)
    else:
        yield prices.term(layer.name, "synop", "synop", layer.effective_acs / samples)


def _graded_synop(layer: LayerWorkload, samples: int, prices: _Prices, payload: int) -> Term:
    """Return the term of products with graded values, of ``payload`` bits.

    A profile may have a price per payload bit. Without one, the term has our own bracket: from the
    price of a spike's synop to that of an int8 product, taken as a synop per payload bit.
    """
    events = (layer.effective_macs or 0) / samples
    keys = [key for key in ("synop", "synop_dense", "synop_sparse", "synop_conv") if prices.usable(key)]
    found = [quantity.range for key in keys if (quantity := prices.usable(key)) is not None]
    synop = Range(min(price.low for price in found), None, max(price.high for price in found)) if found else None
    bit = prices.usable("synop_payload_bit")
    if synop is not None and bit is not None:
        one = found[0] if len(found) == 1 else synop
        paths = (*(f"energy.{key}" for key in keys), "energy.synop_payload_bit")
        formula = f"products × (synop + {payload} bits × energy.synop_payload_bit)"
        return Term(layer.name, "graded synop", events, events * (one + payload * bit.range), "", True, formula, paths)
    because = "the profile has no energy for a synapse that multiplies a graded value"
    # A price that holds more than the synop says nothing about a product.
    if synop is None or any(prices.profile.energy[key].includes for key in keys):
        return Term(layer.name, "graded synop", events, None, because)
    bracket = Range(events * synop.low, None, events * payload * synop.high)
    return Term(layer.name, "graded synop", events, None, because, bracket_j=bracket)


def _graded_message(layer: LayerWorkload, samples: int, prices: _Prices, deployment: Deployment | None) -> Term:
    """Return the term of a layer's messages with a payload, and of their way over the mesh.

    A profile may have a price per payload bit. Without one, the term has our own bracket: from the
    price of as many spikes to that of messages longer by the payload.
    """
    events = layer.graded_messages / samples
    parts = [part for part in _mesh_terms(layer, samples, prices, deployment) if part.energy_j is not None]
    if "spike_out" in prices.profile.energy:
        parts.append(prices.term(layer.name, "spike", "spike_out", events))
    known = [part.energy_j for part in parts if part.energy_j is not None and part.quantities]
    way = total(known) if known else None
    bit = prices.usable("message_payload_bit")
    if way is not None and bit is not None:
        paths = (*dict.fromkeys(path for part in parts for path in part.quantities), "energy.message_payload_bit")
        formula = f"messages and their way as of spikes + {layer.message_bits} bits × energy.message_payload_bit"
        energy = way + events * layer.message_bits * bit.range
        return Term(layer.name, "graded message", events, energy, "", True, formula, paths)
    because = "the profile has no energy for a message with a payload, and for its way over the mesh"
    if way is None:
        return Term(layer.name, "graded message", events, None, because)
    bracket = Range(way.low, None, way.high * (SPIKE_BITS + layer.message_bits) / SPIKE_BITS)
    return Term(layer.name, "graded message", events, None, because, bracket_j=bracket)


def _update_term(layer: LayerWorkload, samples: int, prices: _Prices) -> Term:
    # One update of each state: their prices are combined below.
    active, inactive = (
        prices.term(layer.name, "neuron update", f"neuron_update_{state}", 1) for state in ("active", "inactive")
    )
    updates = (layer.updates or 0) / samples
    if active.energy_j is None or inactive.energy_j is None:
        return replace(active if active.energy_j is None else inactive, events=updates)
    both = tuple(dict.fromkeys(active.quantities + inactive.quantities))
    if "neuron update" in prices.included:
        return replace(active, events=updates)
    if layer.updates_active is None:
        spread = Range(updates * inactive.energy_j.low, None, updates * active.energy_j.high)
        formula = "neuron updates × (inactive … active): which were which was not seen"
        return Term(layer.name, "neuron update", updates, spread, "", True, formula, both)
    busy = layer.updates_active / samples
    energy = busy * active.energy_j + (updates - busy) * inactive.energy_j
    formula = "active updates × energy.neuron_update_active + inactive updates × energy.neuron_update_inactive"
    return Term(layer.name, "neuron update", updates, energy, "", True, formula, both)


def _mesh_terms(layer: LayerWorkload, samples: int, prices: _Prices, deployment: Deployment | None) -> Iterator[Term]:
    """Yield messages and hops; without a placement, one message per spike and target layer."""
    known = prices.profile.energy
    traffic = deployment.traffic.get(layer.name) if deployment else None
    messages = (traffic.messages if traffic else layer.messages) / samples
    if "axon_out" in known:
        yield prices.term(layer.name, "message", "axon_out", messages, family="axon")
    if "spike_local" in known:
        local = (traffic.local if traffic else layer.messages) / samples
        yield prices.term(layer.name, "message within a tile", "spike_local", local, needed=False)
    if traffic is None:
        because = "the network has not been placed on cores, so the number of hops is unknown"
        hops = layer.messages / samples
        if "hop" in prices.included:
            yield prices.term(layer.name, "hop", "hop_ew", hops, needed=False)
        else:
            yield Term(layer.name, "hop", hops, None, because, needed=False)
        return
    yield prices.term(layer.name, "hop, east–west", "hop_ew", traffic.east_west / samples, needed=False, family="hop")
    yield prices.term(
        layer.name, "hop, north–south", "hop_ns", traffic.north_south / samples, needed=False, family="hop"
    )
    if traffic.crossings:
        because = "no energy per message between chips is known"
        yield Term(layer.name, "message between chips", traffic.crossings / samples, None, because, needed=False)


def _least_chips(workload: Workload, profile: HardwareProfile) -> int | None:
    """Return the least number of chips by neurons and memory; a placement may need more."""
    neurons, bits = profile.limits.get("neurons_per_chip"), profile.limits.get("synapse_memory_per_chip")
    # The high bound of a capacity gives the least number; parameters take 8 bits each.
    needs = []
    if neurons:
        needs.append(sum(layer.neurons for layer in workload.layers if layer.kind == "snn") / neurons.range.high)
    if bits:
        needs.append(8 * workload.total("parameters") / bits.range.high)
    return max(1, math.ceil(max(needs))) if needs else None


def _step_time(
    profile: HardwareProfile, step_time_s: float | None, deployment: Deployment | None
) -> tuple[Range | None, str, tuple[str, ...]]:
    """Return seconds per time step, a note on how they were found, and the numbers used."""
    if step_time_s is not None:
        return Range(step_time_s, step_time_s, step_time_s), "", ()
    step = profile.citable("time.step")
    measured = ("time.step",) if step is not None else ()
    computed = deployment.step_time(profile) if deployment else None
    if computed is not None:
        note = (
            f"{profile.name}: a step lasts as long as its busiest core needs, one event after the other, "
            "and then the barrier; contention on the mesh and what the host adds are not in it"
        )
        used = tuple(path for key in STEP_TIMES if profile.citable(path := f"time.{key}") is not None)
        if step is not None:
            # Measured steps include what the computation leaves out, so they widen its range.
            low, high = min(step.range.low, computed.low), max(step.range.high, computed.high)
            return (
                Range(low, computed.typical, high),
                note + "; bounds: the profile's own measured steps",
                used + measured,
            )
        return computed, note, used
    if step is None:
        return None, "time per step is unknown, so static power × time is too", ()
    return step.range, "", measured


def _totals(
    profile: HardwareProfile, dynamic: Range | None, usage: Usage, besides: tuple[Addition, ...]
) -> Iterator[Total]:
    assert usage.seconds is not None
    for name, static in profile.static.items():
        if not static.citable:
            continue
        energy, paths, included = term(profile, f"static.{name}", usage), [f"static.{name}"], set(static.includes)
        assert energy is not None
        power, overhead = usage.chips * static.range, profile.citable(f"overhead.{name}")
        overhead_j = None
        if overhead is not None:
            power, overhead_j = power + overhead.range, term(profile, f"overhead.{name}", usage)
            assert overhead_j is not None
            energy, included = energy + overhead_j, included | set(overhead.includes)
            paths.append(f"overhead.{name}")
        yield _total(
            name, f"{static.boundary}: {static.covers}", power, energy, dynamic, besides, included, paths, overhead_j
        )
    core, chip = (term(profile, f"powered.{key}", usage) for key in ("core", "chip"))
    if core is not None and chip is not None and usage.cores is not None:
        power = usage.chips * profile.powered["chip"].range + usage.cores * profile.powered["core"].range
        covers = f"chip: {profile.powered['chip'].covers}; and {profile.powered['core'].covers}"
        paths = ["powered.chip", "powered.core"]
        yield _total("chips_and_cores_in_use", covers, power, core + chip, dynamic, besides, set(), paths)


def _total(
    name: str,
    boundary: str,
    power: Range,
    energy: Range,
    dynamic: Range | None,
    besides: tuple[Addition, ...],
    included: set[str],
    paths: list[str],
    overhead_j: Range | None = None,
) -> Total:
    """Return a total, with and without the additions that its static part does not include."""
    further = [item.energy_j for item in besides if item.name not in included]
    return Total(
        name,
        boundary,
        power,
        energy,
        total_j=dynamic + energy if dynamic else None,
        overhead_j=overhead_j,
        full_j=dynamic + energy + total(further) if dynamic and further else None,
        quantities=tuple(paths),
    )


def _bound_notes(profile: HardwareProfile, cost: CostEstimate) -> Iterator[str]:
    used = dict.fromkeys(path for term in cost.terms for path in term.quantities)
    for path in (*used, *(("time.step",) if "step" in profile.time else ())):
        quantity = profile.quantity(path)
        if quantity is not None and quantity.bounds_from:
            yield f"{profile.name} {path}: {quantity.bounds_from}"
