"""A network on the cores of a chip: traffic on the mesh, load of the busiest core, step time."""

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

# Keys of a profile's [time] that make up the time of a step.
STEP_TIMES = ("synop", "neuron_update_active", "neuron_update_inactive", "spike_out", "axon_out", "axon_in", "barrier")


@dataclass(frozen=True, eq=False)
class CoreLoad:
    """Load of the busiest core of one layer, per step and sample in the mean.

    Args:
        neurons: neurons on the core.
        active: share of their updates that were active; ``None`` where states were not seen.
        synops: synaptic operations.
        spikes: spikes of its neurons.
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
    """A placed network, with traffic and load of one run.

    Args:
        placement: cores of each layer.
        traffic: messages and hops by layer, over all samples and steps of the run.
        loads: load of the busiest core by layer.
        depth: machine steps by which the last layer lags behind the input.
        graded: messages of some layer carry numbers; their time no profile has.
    """

    placement: Placement
    traffic: Mapping[str, Traffic]
    loads: Mapping[str, CoreLoad]
    depth: int
    graded: bool = False

    def step_time(self, profile: HardwareProfile) -> Range | None:
        """Return seconds of a mean time step; ``None`` where the profile lacks a needed time.

        ``t = max over cores (neurons·t_update + synops·t_synop + spikes·t_spike_out
        + messages·t_axon) + t_barrier``. Needed are synop, updates and barrier.
        """
        times = {key: quantity.range for key, quantity in profile.time.items() if quantity.citable}
        if self.graded or not {"synop", "neuron_update_active", "neuron_update_inactive", "barrier"} <= times.keys():
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
        known = [load.typical for load in longest if load.typical is not None]
        typical = max(known) if len(known) == len(longest) else None
        busiest = Range(max(load.low for load in longest), typical, max(load.high for load in longest))
        barrier = times["barrier"]
        if barrier.typical is None:
            # Published for meshes of 1 to 32 tiles; the mean stands for those in between.
            barrier = Range(barrier.low, (barrier.low + barrier.high) / 2, barrier.high)
        return busiest + barrier


def deploy(program: Program, record: SpikeRecord, profile: HardwareProfile) -> Deployment:
    """Return ``program`` placed on the cores of ``profile``, with traffic and load of a run.

    A layer's synops are spread over its cores like its neurons.

    Args:
        program: the network.
        record: the run; its counts of spikes per neuron.
        profile: the chip.

    Raises:
        ProfileError: the profile lacks a capacity that a placement needs.
        GraphError: the network does not fit.
    """
    placement = place(program, core_limits(profile))
    counts = {name: own.counts for name, own in record.layers.items()}
    spiking = {layer.name for layer in program.layers if layer.neuron.spiking}
    # Read-out layers send values to the host, not messages over the mesh.
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
        # Spikes are counted per neuron, so their busiest core is known; synops only per layer.
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
    graded = any(layer.neuron.payload for layer in program.layers)
    return Deployment(placement, sent, loads, program.depth, graded)


def _update(times: Mapping[str, Range], active: float | None) -> Range:
    busy, idle = times["neuron_update_active"], times["neuron_update_inactive"]
    return Range(idle.low, None, busy.high) if active is None else active * busy + (1 - active) * idle
