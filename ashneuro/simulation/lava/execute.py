"""Samples through a Lava network on one worker, request by request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.lava_worker.frames import Arrays
from ashneuro.program.program import Program
from ashneuro.simulation.inputs import encode
from ashneuro.simulation.lava.collect import LayerCollector
from ashneuro.simulation.lava.layout import Samples, is_lagged
from ashneuro.simulation.lava.network import LavaNetwork
from ashneuro.simulation.lava.pool import Slot
from ashneuro.simulation.lava.stock import require_equal
from ashneuro.simulation.record import Activity, SpikeRecord

Tell = Callable[[int], object]


@dataclass(frozen=True)
class Trace:
    """``u``, ``v`` and ``sent`` (T, B, neurons) of some neurons, in the units of the arithmetic."""

    neurons: tuple[int, ...]
    u: NDArray[Any]
    v: NDArray[Any]
    sent: NDArray[Any]

    @classmethod
    def joined(cls, parts: Sequence[Trace]) -> Trace:
        """Return the trace over the samples of all ``parts``, in order."""
        u, v, sent = (np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("u", "v", "sent"))
        return cls(parts[0].neurons, u, v, sent)


def run_chunk(
    slot: Slot, network: LavaNetwork, chunk: Samples, rasters: Collection[str], stock: int, tell: Tell
) -> SpikeRecord:
    """Return the record of one chunk.

    Args:
        stock: number of samples that Lava's own processes compute first, if the network is batched.
        tell: called with the samples done.

    Raises:
        LavaError: Lava failed, or batched synapses send other values than Lava's own.
    """
    program = network.program
    sent = encode_all(program, chunk)
    timesteps, samples = next(iter(sent.values())).shape[:2]
    # The last chunk of a stream may have fewer samples, and parts of a stream other lengths.
    network = network.for_chunk(timesteps, samples)
    # Evenly spread, so that they stand in many columns of the batch.
    stocked = [index * samples // stock for index in range(min(stock, samples))] if network.batched else []
    expected = _stock_rasters(slot, program, timesteps, {name: values[:, stocked] for name, values in sent.items()})
    collectors = _run(slot, network, sent, rasters, stocked, tell)
    for collector in collectors if stocked else ():
        layer = collector.layer
        require_equal(layer, expected[layer.name], collector.selection(), network.width)
    return SpikeRecord(
        "lava",
        program.precision,
        timesteps,
        samples,
        {collector.layer.name: collector.activity() for collector in collectors},
        {port.name: Activity.of_inputs(sent[port.name]) for port in program.inputs},
        len(stocked) if network.batched else samples,
    )


def trace_samples(
    slot: Slot, program: Program, sent: Samples, neurons: Mapping[str, Sequence[int]]
) -> dict[str, Trace]:
    """Return the traces of ``neurons`` (flat indices by layer), from Lava's own processes.

    Args:
        sent: encoded samples (T, B, *shape); of a lagged program a single one.
    """
    timesteps, samples = next(iter(sent.values())).shape[:2]
    network = LavaNetwork(program, timesteps, traces=neurons)
    states: dict[str, list[NDArray[Any]]] = {name: [] for name in neurons}
    answers: dict[str, list[NDArray[Any]]] = {name: [] for name in neurons}
    for _, results in _requests(slot, network, sent):
        for name, chosen in neurons.items():
            states[name].append(results[f"trace {name}"].reshape(len(results[name]), 2, -1))
            answers[name].append(results[name][:, list(chosen)])
    traces = {}
    for name, chosen in neurons.items():
        # A layer at depth d answers d machine steps later.
        first = program.layer(name).depth
        rows = slice(first, first + timesteps * samples)
        state = np.concatenate(states[name])[rows].reshape(samples, timesteps, 2, -1).transpose(2, 1, 0, 3)
        answer = np.concatenate(answers[name])[rows].reshape(samples, timesteps, -1).swapaxes(0, 1)
        traces[name] = Trace(tuple(chosen), state[0], state[1], answer)
    return traces


def encode_all(program: Program, samples: Samples) -> dict[str, NDArray[Any]]:
    """Return the values that the host sends into each port."""
    return {port.name: encode(port, samples[port.name], program.precision) for port in program.inputs}


def _stock_rasters(slot: Slot, program: Program, timesteps: int, sent: Samples) -> dict[str, NDArray[Any]]:
    """Return the answers (T, B, *shape) of Lava's own processes, by layer."""
    samples = next(iter(sent.values())).shape[1]
    if not samples:
        return {}
    network = LavaNetwork(program, timesteps, samples if is_lagged(program) else 1)
    collectors = _run(slot, network, sent, (), range(samples), lambda done: None)
    return {collector.layer.name: collector.selection() for collector in collectors}


def _run(
    slot: Slot,
    network: LavaNetwork,
    sent: Samples,
    rasters: Collection[str],
    selected: Sequence[int],
    tell: Tell,
) -> list[LayerCollector]:
    samples = next(iter(sent.values())).shape[1]
    collectors = [
        LayerCollector(network, layer, samples, layer.name in rasters, selected) for layer in network.program.layers
    ]
    for start, results in _requests(slot, network, sent):
        steps = 0
        for collector in collectors:
            answer = results[collector.layer.name]
            collector.take(start, answer)
            steps = len(answer)
        tell(min(samples, (start + steps) * network.width // network.timesteps))
    return collectors


def _requests(slot: Slot, network: LavaNetwork, sent: Samples) -> Iterator[tuple[int, Arrays]]:
    """Run all of ``sent``; yield the first machine step of each request, and its answers."""
    slot.build(network)
    total = network.machine_steps(next(iter(sent.values())).shape[1])
    for start in range(0, total, network.request_steps):
        steps = min(network.request_steps, total - start)
        yield start, slot.step(steps, network.feed(sent, start, steps))
