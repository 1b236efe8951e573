"""A second opinion: energy and time of one inference in another group's model, beside ours.

The two are shown side by side, at one boundary and on the same samples. They are never averaged and
never added. Counts of events and estimates with the other model's own prices stand beside them, so
that a reader sees what a difference comes from: counts, prices or time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ashneuro.cost.deployment import deploy
from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import Range, load_profile
from ashneuro.cost.terms import CostEstimate
from ashneuro.cost.workload import count
from ashneuro.program.certificate import LayerComparison
from ashneuro.program.program import Program
from ashneuro.simulation.record import SpikeRecord
from ashneuro.simulation.sanafe.run import SanafeRun, compare_spikes

OURS, SAME_PRICES = "loihi1", "loihi1-sanafe"
SYNAPSES, NEURONS, NETWORK = "synapses", "neurons", "messages and hops"
# Parts of a chip's energy, by the kind of event of an estimate.
PARTS = {
    "synop": SYNAPSES,
    "neuron update": NEURONS,
    "spike": NEURONS,
    "message": NETWORK,
    "message within a tile": NETWORK,
    "hop, east–west": NETWORK,
    "hop, north–south": NETWORK,
}


@dataclass(frozen=True)
class SecondOpinion:
    """Energy and time of one inference in another model, and ours on the same samples.

    Args:
        model: name and version of the other model, and its chip.
        samples, timesteps: size of the inputs.
        parts_j: joules of `SYNAPSES`, `NEURONS` and `NETWORK`.
        injected_j: joules of the messages that bring the inputs' spikes to the neurons, which our
            boundary leaves out; in no part.
        time_s: seconds per inference while samples follow one another.
        latency_s: seconds from the first input to the last output.
        fill: share of the run's steps in which the network fills and empties; their idle updates
            are in the energy.
        ours: our estimate, `OURS`.
        same_prices: our counts with the other model's prices, `SAME_PRICES`.
        events: per inference, ours and theirs, by kind.
        spikes: the other model's spikes against the integer program's, by layer.
    """

    model: str
    samples: int
    timesteps: int
    parts_j: Mapping[str, float]
    injected_j: float
    time_s: float
    latency_s: float
    fill: float
    ours: CostEstimate
    same_prices: CostEstimate
    events: Mapping[str, tuple[float, float]]
    spikes: tuple[LayerComparison, ...]

    @property
    def dynamic_j(self) -> float:
        """Joules of all events inside our boundary."""
        return sum(self.parts_j.values())

    @property
    def basis(self) -> str:
        """Basis of the numbers, as it is printed beside them."""
        return f"estimated by another model ({self.model})"

    @property
    def mismatches(self) -> int:
        """Number of values in which the two computations differ."""
        return sum(layer.mismatches for layer in self.spikes)


def parts(cost: CostEstimate) -> dict[str, Range | None]:
    """Return the energy of an estimate by part; ``None`` where a term has no price."""
    found: dict[str, Range | None] = {}
    for name, energy in cost.by_term().items():
        if (part := PARTS.get(name)) is not None:
            known = found.get(part, Range(0.0, 0.0, 0.0))
            found[part] = None if energy is None or known is None else known + energy
    return found


def sanafe_opinion(program: Program, record: SpikeRecord, run: SanafeRun) -> SecondOpinion:
    """Return the second opinion of SANA-FE.

    Args:
        program: the integer program.
        record: its spikes on the samples that SANA-FE ran, with every raster.
        run: what SANA-FE found.
    """
    workload = count(program, record)
    ours, same = (
        estimate(workload.part("deployed"), profile, deployment=deploy(program, record, profile))
        for profile in map(load_profile, (OURS, SAME_PRICES))
    )
    sent = deploy(program, record, load_profile(OURS)).traffic.values()
    theirs = run.traffic.values()
    samples, energy = run.samples, run.energy_j
    spikes = sum(own.events for own in run.layers.values())
    of_inputs = run.spikes - spikes  # SANA-FE counts a spike of an input line as an update, too
    layers = [layer for layer in workload.layers if layer.kind == "snn"]
    events = {
        "synops": (workload.total("effective_acs"), run.synops),
        "spikes of neurons": (sum(layer.spikes for layer in layers), spikes),
        "active neuron updates": (sum(layer.updates_active or 0 for layer in layers), run.updates - of_inputs),
        "neuron updates": (
            sum(layer.updates or 0 for layer in layers),
            run.steps * sum(each.neurons for each in layers),
        ),
        "messages": (sum(each.messages for each in sent), sum(each.messages for each in theirs)),
        "hops, east–west": (sum(each.east_west for each in sent), sum(each.east_west for each in theirs)),
        "hops, north–south": (sum(each.north_south for each in sent), sum(each.north_south for each in theirs)),
        "messages of inputs": (0, run.injected_messages),
    }
    if not of_inputs:
        del events["messages of inputs"]
    step = run.time_s / run.steps
    # Where inputs alone send messages, the difference of the two sums is rounding.
    all_injected = math.isclose(energy["network"], run.injected_j, rel_tol=1e-9)
    return SecondOpinion(
        model=f"SANA-FE {run.version}, its Loihi",
        samples=samples,
        timesteps=run.timesteps,
        parts_j={
            SYNAPSES: energy["synapse"] / samples,
            NEURONS: (energy["soma"] + energy["dendrite"]) / samples,
            NETWORK: 0.0 if all_injected else (energy["network"] - run.injected_j) / samples,
        },
        injected_j=run.injected_j / samples,
        time_s=run.timesteps * step,
        latency_s=(run.timesteps + program.depth) * step,
        fill=1 - samples * run.timesteps / run.steps,
        ours=ours,
        same_prices=same,
        events={name: (own / samples, other / samples) for name, (own, other) in events.items()},
        spikes=compare_spikes(record, run),
    )
