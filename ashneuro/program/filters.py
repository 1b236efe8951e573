"""Read-outs in front of neurons: LI → LIF is one CubaLIF, whose synaptic current is the LI.

A read-out L computes ``f = f + d·(r·x − f)`` (LI) or ``f = f + r·x`` (I) beside its resting
potential v_leak. If neurons N have no synaptic current of their own, and all that reaches them
comes from such read-outs through weights W, then W f is N's synaptic current: a linear filter
commutes with weights where its decay is the same for all of their inputs. So L takes no neurons of
its own. N receives ``W v_leak`` and the biases behind L as a constant, and the biases in front of L
through the filter.

I → W → Output is W → I → Output, with the biases behind I as a constant.

I → W → Threshold with changes is Lava's SigmaDelta: its Σ is the synaptic current of a du of 0.

Other read-outs that feed neurons, or an Output behind weights, are populations of their own, which
send their potentials.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import nir
import numpy as np
from numpy.typing import NDArray

from ashneuro.program.linear_sums import Contribution, LinearSum, incoming_sum
from ashneuro.program.primitives import READ_OUT, nir_type, numbers
from ashneuro.program.program import Synapse
from ashneuro.program.synapse import compose, matrix
from ashneuro.program.wiring import Wiring, node_dynamics
from ashneuro.spiking.contract import Contract
from ashneuro.spiking.dynamics import DYNAMICS

FILTERS = (nir.LI, nir.I)  # CubaLI has two states: its filter is of second order
FILTERED = (nir.LIF, nir.IF, nir.Threshold, nir.LI, nir.I)

_Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Filter:
    """Synaptic current of a population, and what arrives beside it.

    Args:
        du: decay of the current per step, one or one per neuron.
        gain: factor of the terms in the current.
        total: sum that enters the current; its constant passes the filter.
        constant: flat constant behind the filter.
    """

    du: _Array
    gain: _Array
    total: LinearSum
    constant: _Array


def synaptic_filters(wiring: Wiring, contract: Contract) -> frozenset[str]:
    """Return the read-outs that are the synaptic current of all that they feed."""
    found = feeding_read_outs(wiring)
    # One that is none makes neurons that it feeds receive more than their filters.
    while unfit := next((name for name in found if filter_fault(wiring, contract, name, found)), None):
        found.remove(unfit)
    return frozenset(found)


def feeding_read_outs(wiring: Wiring) -> list[str]:
    """Return the read-outs that feed more than their Outputs, in the graph's order."""
    read_outs = (name for name in wiring.named("neuron") if isinstance(wiring.nodes[name], READ_OUT))
    return [name for name in read_outs if filtered_by(wiring, name)]


def senders(wiring: Wiring, filters: Collection[str]) -> list[str]:
    """Return the read-outs that send their potentials to further layers."""
    return [name for name in feeding_read_outs(wiring) if name not in filters]


def filter_fault(wiring: Wiring, contract: Contract, name: str, filters: Collection[str]) -> str:
    """Return why a read-out that feeds neurons cannot be their synaptic filter; "" if it can.

    The graph may be unsound. ``filters``: read-outs that are taken for filters.
    """
    if not isinstance(wiring.nodes[name], FILTERS):
        return f"{nir_type(wiring.nodes[name])} has two states, a synaptic current has one"
    if any(source in filters for source in _reaching(wiring, name)[0]):
        return "another read-out feeds it"
    for neuron in filtered_by(wiring, name):
        if wiring.roles[neuron] != "neuron":
            sources, between = _reaching(wiring, neuron)
            if not all(isinstance(wiring.nodes[source], nir.I) and source in filters for source in sources):
                return f"{neuron} gives its value behind weights"
            if any(wiring.roles[node] == "delay" for node in between):
                return f"a Delay lies between it and {neuron}"
            continue
        if not isinstance(wiring.nodes[neuron], FILTERED):
            return f"{neuron} has a synaptic current of its own"
        if isinstance(wiring.nodes[name], nir.I) and not wiring.message(neuron, contract).changes:
            return f"its sum never leaks, which a synaptic current of {neuron} does on Loihi"
        if DYNAMICS[node_dynamics(wiring.nodes[neuron])[0]].resonates:
            return f"{neuron} resonates, and has no synaptic current"
        if wiring.message(neuron, contract).graded:
            return f"{neuron} sends graded values, and its neurons are stateless"
        sources, between = _reaching(wiring, neuron)
        other = [source for source in sources if source not in filters]
        if other:
            return f"{', '.join(other)} reaches {neuron} as well, unfiltered"
        if wiring.message(neuron, contract).changes and not all(
            isinstance(wiring.nodes[source], nir.I) for source in sources
        ):
            return f"{neuron} sends the changes of a sum, which is an I"
        if any(wiring.roles[node] == "delay" for node in between):
            return f"a Delay lies between it and {neuron}"
        decays = [_decay(wiring.nodes[source], contract) for source in sources]
        if all(map(_elementwise, (wiring.nodes[node] for node in between))):
            alike = all(decay.size == decays[0].size and (decay == decays[0]).all() for decay in decays)
        else:
            alike = len(np.unique(np.concatenate(decays))) == 1
        if not alike:
            return f"time constants differ that weights mix in {neuron}"
    return ""


def filtered_by(wiring: Wiring, name: str) -> list[str]:
    """Return the nodes behind a read-out: neurons, and Outputs that give more than its value."""
    found: dict[str, None] = {}
    queue, seen = [(target, True) for target in wiring.targets(name)], set[str]()
    while queue:
        target, unchanged = queue.pop(0)
        if target in seen:
            continue
        seen.add(target)
        if wiring.roles[target] in ("linear", "pass", "delay"):
            same = unchanged and wiring.only_reshapes(target)
            queue += [(following, same) for following in wiring.targets(target)]
        elif wiring.roles[target] != "output" or wiring.only_neuron(target) != name:
            found[target] = None
    return list(found)


def merged_read_outs(wiring: Wiring, filters: Collection[str]) -> list[str]:
    """Return the read-outs of a sound graph that take no neurons of their own."""
    outputs = {wiring.only_neuron(name) for name in wiring.named("output")}
    return [name for name in wiring.named("neuron") if name not in outputs and name in filters]


def synaptic_filter(
    wiring: Wiring, sums: dict[str, LinearSum], name: str, contract: Contract, filters: Collection[str]
) -> Filter | None:
    """Return the filter in front of the neurons ``name`` of a sound graph, if there is one."""
    behind = incoming_sum(wiring, sums, name)
    if not behind.terms or not all(term.source in filters for term in behind.terms):
        return None
    shape = wiring.in_shapes[name]
    assert shape is not None
    constant = np.zeros(int(np.prod(shape))) if behind.constant is None else behind.constant.ravel()
    terms: list[Contribution] = []
    through = np.zeros_like(constant)
    origin = dict.fromkeys(behind.nir)
    du: _Array = np.ones(())
    gain = du
    for term in behind.terms:
        node, size = wiring.nodes[term.source], wiring.in_shapes[term.source]
        assert size is not None
        before = incoming_sum(wiring, sums, term.source)
        decay = _decay(node, contract)
        du = decay[0] if (decay == decay[0]).all() else decay.reshape(shape)
        gain = np.ones(()) if isinstance(node, nir.I) else du
        r = numbers(node, "r")
        if isinstance(node, nir.I) and contract.if_convention == "per-second":
            r = r * contract.dt_s
        weights = term.synapse
        if weights is None and len(behind.terms) == 1:
            gain = gain * r.reshape(shape)  # as w_in of CubaLIF: analog values still enter neurons directly
        elif (r != 1).any():
            scale = Synapse("scale", size, size, r)
            weights = scale if weights is None else compose(scale, weights)
        for source in before.terms:
            synapse = source.synapse if weights is None else compose(source.synapse, weights)
            path = (*source.nir, term.source, *term.nir)
            terms.append(Contribution(source.source, synapse, source.lag, path))
        if before.constant is not None:
            arriving = before.constant.ravel()
            through += arriving if weights is None else matrix(weights) @ arriving
            origin |= dict.fromkeys(before.nir)
        if isinstance(node, nir.LI):
            rest = numbers(node, "v_leak").ravel()
            constant = constant + (rest if term.synapse is None else matrix(term.synapse) @ rest)
    total = LinearSum(tuple(terms), through if through.any() else None, tuple(origin))
    return Filter(du, gain, total, constant)


def _decay(node: nir.LI | nir.I, contract: Contract) -> _Array:
    """Return the decays of a read-out, flat."""
    if isinstance(node, nir.I):
        return np.zeros(np.size(node.r))
    with np.errstate(all="ignore"):  # other rules refuse a τ of 0
        return contract.decay(numbers(node, "tau")).ravel()


def _elementwise(node: object) -> bool:
    return isinstance(node, nir.Scale | nir.Flatten | nir.Input | nir.Output)


def _reaching(wiring: Wiring, name: str) -> tuple[list[str], list[str]]:
    """Return the neurons and inputs that reach ``name``, and the nodes between."""
    sources: dict[str, None] = {}
    between: dict[str, None] = {}
    queue = wiring.sources(name)
    while queue:
        source = queue.pop()
        if wiring.roles[source] not in ("linear", "pass", "delay"):
            sources[source] = None
        elif source not in between:
            between[source] = None
            queue += wiring.sources(source)
    return list(sources), list(between)
