"""A network on a chip's cores: what its spikes cause on the mesh, and how long its busiest core works in a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ashneuro.cost.cores import core_limits
from ashneuro.cost.profile import HardwareProfile, Range
from ashneuro.program.placement.place import place
from ashneuro.program.placement.placement import Placement
from ashneuro.program.placement.route import Traffic, received, traffic
from ashneuro.program.program import Program
from ashneuro.program.synapse import fan_out
from ashneuro.simulation.record import SpikeRecord

# What the time of a step is made of, keys of a profile's [time].
STEP_TIMES = ("synop", "neuron_update_active", "neuron_update_inactive", "spike_out", "axon_out", "axon_in", "barrier")


@dataclass(frozen=True, eq=False)
class CoreLoad:
    """What the busiest core of one layer does in a mean step of a sample.

    Args:
        neurons: neurons on it; ``active``: the share of their updates that were active, ``None`` where that was not seen.
        synops: spikes served by its synapses.
        spikes: spikes that its neurons send.
        messages_in, messages_out: messages that it receives and sends.
    """

    neurons: float
    active: float | None
    synops: float
    spikes: float
    messages_in: float
    messages_out: float


@dataclass(frozen=True, eq=False)
class Deployment:
    """A placed network and what one run of it caused.

    Args:
        placement: layers on cores.
        traffic: messages and hops by layer, over all samples and steps of the run.
        loads: the busiest core's work by layer.
        depth: machine steps by which the last layer lags behind the input.
    """

    placement: Placement
    traffic: Mapping[str, Traffic]
    loads: Mapping[str, CoreLoad]
    depth: int

    def step_time(self, profile: HardwareProfile) -> Range | None:
        """Return seconds of a mean time step; ``None`` where the profile lacks the time of a synop, an update or the barrier.

        ``t = max over cores (neurons·t_update + synops·t_synop + spikes·t_spike_out + messages·t_axon) + t_barrier``
        """
        times = {key: quantity.range for key, quantity in profile.time.items() if quantity.citable}
        if not {"synop", "neuron_update_active", "neuron_update_inactive", "barrier"} <= times.keys():
            return None
        none = Range(0.0, 0.0, 0.0)
        longest = [
            load.synops * times["synop"]
            + load.neurons * _update(times, load.active)
            + load.spikes * times.get("spike_out", none)
            + load.messages_out * times.get("axon_out", none)
            + load.messages_in * times.get("axon_in", none)
            for load in self.loads.values()
        ]
        typical = [load.typical for load in longest]
        middle = (
            None if any(value is None for value in typical) else max(value for value in typical if value is not None)
        )
        busiest = Range(max(load.low for load in longest), middle, max(load.high for load in longest))
        barrier = times["barrier"]
        used = (
            barrier
            if barrier.typical is not None
            else Range(barrier.low, (barrier.low + barrier.high) / 2, barrier.high)
        )
        return busiest + used


def deploy(program: Program, record: SpikeRecord, profile: HardwareProfile) -> Deployment:
    """Return ``program`` on the cores of ``profile``, with the traffic and load of the run that ``record`` counted.

    Synops of a layer are spread over its cores as its neurons are.

    Raises:
        ProfileError: the profile does not know what a core holds.
        GraphError: the network does not fit.
    """
    placement = place(program, core_limits(profile))
    counts = {name: own.counts for name, own in record.layers.items()}
    spiking = {layer.name for layer in program.layers if layer.neuron.spiking}
    counts = {name: value if name in spiking else np.zeros_like(value) for name, value in counts.items()}
    sent = traffic(program, placement, counts)
    steps = record.timesteps * record.samples
    incoming = received(program, placement, counts)
    loads = {}
    for layer in program.layers:
        placed, own = placement.layer(layer.name), record.layers[layer.name]
        synops = 0
        for connection in layer.connections:
            if connection.synapse is not None:
                source = {**record.inputs, **record.layers}[connection.source]
                synops += int((source.counts.ravel() * fan_out(connection.synapse).ravel()).sum())
        spikes = max(int(counts[layer.name].reshape(placed.shape)[block].sum()) for block in placed.blocks())
        share = placed.block_share
        active = None if own.active_updates is None else own.active_updates / (layer.size * steps)
        sends = sent[layer.name].messages / placed.cores
        loads[layer.name] = CoreLoad(
            layer.size * share,
            active,
            synops * share / steps,
            spikes / steps,
            incoming[layer.name] / steps,
            sends / steps,
        )
    return Deployment(placement, sent, loads, program.depth)


def _update(times: Mapping[str, Range], active: float | None) -> Range:
    busy, idle = times["neuron_update_active"], times["neuron_update_inactive"]
    return Range(idle.low, None, busy.high) if active is None else active * busy + (1 - active) * idle
