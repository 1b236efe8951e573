"""How many samples a second the bit-exact emulator computes, against Lava's own execution of the same integer program.

Every round runs every computation once, one after the other, so that whatever else the machine does meets all of them;
ratios are taken within a round. All of them keep every layer's spikes, and those are compared: figures of computations
that differ would say nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.bench.measure import SCHEMA, Machine, Spread, cores, load, machine
from ashneuro.errors import ConfigError, LavaError
from ashneuro.program.bundle import Bundle
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.synapse import conv_shape
from ashneuro.simulation.emulator.arrays import Backend
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.inputs import Progress
from ashneuro.simulation.lava.network import ROWS
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.record import SpikeRecord

LAVA = "Lava, fixed_pt, streamed"
SEED = 7
RATE = 0.12  # spikes per input line and step
REQUESTS = 4  # that Lava answers in one round, at least: the first is start-up, the others are timed


@dataclass(frozen=True, eq=False)
class Network:
    """A program to run, and samples (T, B, *shape) for each of its ports."""

    title: str
    program: Program
    inputs: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Speed:
    """One computation of one network.

    Args:
        name: which.
        threads: that it was given; ``None``: not ours to say.
        samples: computed in each round.
        per_second: samples per second; ``None`` when it was not run, or spiked something else.
        ratio: ``per_second`` over Lava's in the same round.
        start_s: what comes before the first sample, every time, and is not in ``per_second``.
        spikes: that it sent, over all layers, in one round.
        mismatches: values that differ from the first computation's, over all layers and rounds.
        reason: why it was not run.
    """

    name: str
    threads: int | None
    samples: int = 0
    per_second: Spread | None = None
    ratio: Spread | None = None
    start_s: Spread | None = None
    spikes: int = 0
    mismatches: int = 0
    reason: str = ""


@dataclass(frozen=True)
class NetworkSpeeds:
    """Every computation of one network; ``compared``: values that were checked to be equal."""

    title: str
    timesteps: int
    firing_rate: float
    speeds: tuple[Speed, ...]
    compared: int

    @property
    def mismatches(self) -> int:
        """Values that differ, over all computations."""
        return sum(speed.mismatches for speed in self.speeds)


@dataclass(frozen=True)
class EmulatorBench:
    """One run of the benchmark."""

    machine: Machine
    rounds: int
    networks: tuple[NetworkSpeeds, ...]

    @property
    def passed(self) -> bool:
        """Whether all computations of each network agreed in every value."""
        return not any(network.mismatches for network in self.networks)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"schema": SCHEMA, "benchmark": "emulator", "passed": self.passed, **asdict(self)}


def dense_network(samples: int, *, sizes: Sequence[int] = (256, 512, 256), timesteps: int = 32) -> Network:
    """Return dense layers of LIF neurons with random 8-bit weights, and input spikes at a rate of `RATE`."""
    random = np.random.default_rng(SEED)
    synapses = [
        Synapse("dense", (lines,), (neurons,), _weights(random, (neurons, lines))) for lines, neurons in pairwise(sizes)
    ]
    return _network(f"{'-'.join(map(str, sizes))}, dense, LIF", random, synapses, 2, samples, timesteps)


def conv_network(
    samples: int, *, channels: Sequence[int] = (32, 64, 64), side: int = 16, units: int = 128, timesteps: int = 8
) -> Network:
    """Return convolutions of 3 × 3, of which the first halves the side, and a dense layer: LIF neurons, weights and spikes likewise."""
    random = np.random.default_rng(SEED)
    synapses: list[Synapse] = []
    shape: tuple[int, ...] = (channels[0], side, side)
    for depth, (before, after) in enumerate(pairwise(channels)):
        stride, padding, one = (1 if depth else 2,) * 2, ((1, 1), (1, 1)), (1, 1)
        out = conv_shape(shape, (3, 3), after, stride, padding, one)
        synapses.append(Synapse("conv", shape, out, _weights(random, (after, before, 3, 3)), stride, padding, one))
        shape = out
    synapses.append(Synapse("dense", shape, (units,), _weights(random, (units, math.prod(shape)))))
    sizes = "-".join(map(str, channels))
    return _network(f"{sizes}, 3×3 on {side}×{side}, dense {units}, LIF", random, synapses, 1, samples, timesteps)


def _weights(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int32]:
    # Weights of both signs are even.
    weights: NDArray[np.int32] = 2 * np.clip(np.rint(random.normal(0, 32, shape)), -128, 127).astype(np.int32)
    return weights


def _network(
    title: str, random: np.random.Generator, synapses: Sequence[Synapse], deviations: int, samples: int, timesteps: int
) -> Network:
    """Return LIF neurons behind each of ``synapses``, in a row, and input spikes."""
    layers: list[Layer] = []
    for depth, synapse in enumerate(synapses, start=1):
        # Once or twice the standard deviation of what arrives in one step: v, which keeps 90 % a step, gets there now and then.
        threshold = round(deviations * 64 * (RATE * math.prod(synapse.weight.shape[1:])) ** 0.5)
        du, dv, v_threshold, bias = (np.array(value, np.int32) for value in (4095, 410, threshold, 0))
        source = layers[-1].name if layers else "input"
        layers.append(
            Layer(
                f"lif{depth}",
                synapse.out_shape,
                Neuron(du, dv, v_threshold, bias),
                (Connection(source, synapse),),
                depth,
            )
        )
    shape = synapses[0].in_shape
    program = Program(
        "integer", 1e-3, timesteps, (InputPort("input", shape, "spikes"),), tuple(layers), (layers[-1].name,)
    )
    spikes = (random.random((timesteps, samples, *shape)) < RATE).astype(np.uint8)
    return Network(title, program, {"input": spikes})


def bundle_network(bundle: Bundle, samples: int) -> Network:
    """Return the integer program of ``bundle``, and its reference samples, over and over until there are ``samples``.

    Raises:
        BundleError: the bundle has no integer program.
    """
    inputs = {
        name: values.take(np.arange(samples) % values.shape[1], axis=1)
        for name, values in bundle.reference.inputs.items()
    }
    return Network(str(bundle.folder), bundle.program("integer"), inputs)


def bench_emulator(
    networks: Sequence[Network],
    *,
    rounds: int = 5,
    threads: int | None = None,
    lava: bool = True,
    lava_samples: int = 16,
    progress: Progress | None = None,
) -> EmulatorBench:
    """Return what each computation of each network reaches here.

    Args:
        networks: each is run on its own.
        rounds: how often every computation runs.
        threads: that torch may use at most; by default one per core. It is timed with one thread as well.
        lava: run Lava too. Where it cannot be started its row says why.
        lava_samples: the first so many samples run in Lava, or as many as it takes to time it, or all.
        progress: called with (runs done, runs in all).

    Raises:
        ConfigError: ``rounds``, ``threads``, ``lava_samples`` or the number of samples is not positive.
    """
    samples = min(next(iter(network.inputs.values())).shape[1] for network in networks)
    for name, value in (("rounds", rounds), ("threads", threads), ("lava_samples", lava_samples), ("samples", samples)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} = {value}", "a benchmark takes at least one", f"--{name.replace('_', '-')} 1")
    before, versions = load(), {}
    with ExitStack() as stack:
        worker, reason = None, "" if lava else "it was not asked for"
        if lava:
            try:
                worker = stack.enter_context(Lava())
                versions = {f"lava worker: {name}": version for name, version in worker.versions.items()}
            except LavaError as error:
                reason = f"{error.what} ({error.do})"
        plans = [
            (network, _computations(network, worker, reason, threads or cores(), lava_samples)) for network in networks
        ]
        total, done = rounds * sum(not c.reason for _, computations in plans for c in computations), 0

        def tick() -> None:
            nonlocal done
            done += 1
            if progress:
                progress(done, total)

        speeds = tuple(_bench(network, computations, rounds, tick) for network, computations in plans)
    return EmulatorBench(
        machine(("ashneuro", "numpy", "scipy", "torch"), also=versions, load_before=before), rounds, speeds
    )


@dataclass(frozen=True)
class _Figures:
    """Of one timed run."""

    samples: int
    spikes: int
    per_second: float
    start_s: float | None = None


@dataclass(frozen=True, eq=False)
class _Computation:
    """A way to run a network; ``run`` is not called where ``reason`` says why it cannot be."""

    name: str
    threads: int | None
    run: Callable[[], tuple[SpikeRecord, _Figures]]
    reason: str = ""


def _computations(
    network: Network, worker: Lava | None, reason: str, threads: int, lava_samples: int
) -> list[_Computation]:
    def emulated(
        name: str, backend: Backend, threads: int | None = None, device: str = "cpu", reason: str = ""
    ) -> _Computation:
        return _Computation(name, threads, lambda: _emulate(network, backend, threads, device), reason)

    def streamed() -> tuple[SpikeRecord, _Figures]:
        assert worker is not None
        return _stream(network, worker, lava_samples)

    program = network.program
    if any(program.lag(layer, connection) for layer, connection in program.connections()):
        reason = reason or "recurrence or axonal delays: its samples run side by side, there is no stream to time"
    missing = "" if find_spec("torch") else "torch is not installed (pip install 'ashneuro[train]')"
    computations = [_Computation(LAVA, None, streamed, reason)]
    computations += [
        emulated("emulator, torch", "torch", count, reason=missing) for count in dict.fromkeys((1, threads))
    ]
    if not missing and _has_cuda():
        computations.append(emulated("emulator, torch on the GPU", "torch", device="cuda"))
    return [*computations, emulated("emulator, numpy", "numpy")]


def _bench(
    network: Network, computations: Sequence[_Computation], rounds: int, tick: Callable[[], None]
) -> NetworkSpeeds:
    running = [computation for computation in computations if not computation.reason]
    # Every emulator once untimed, so that libraries have started their threads; the last one's spikes are the reference.
    reference = [computation.run()[0] for computation in running if computation.name != LAVA][-1]
    figures: dict[_Computation, list[_Figures]] = {computation: [] for computation in computations}
    mismatches, compared = dict.fromkeys(computations, 0), 0
    for _ in range(rounds):
        for computation in running:
            record, timed = computation.run()
            figures[computation].append(timed)
            for name, activity in record.layers.items():
                differ = activity.raster != reference.layers[name].raster[:, : record.samples]  # type: ignore[index]
                mismatches[computation] += int(np.count_nonzero(differ))
                compared += differ.size  # type: ignore[union-attr]
            tick()
    lava = next(figures[computation] for computation in computations if computation.name == LAVA)
    speeds = tuple(
        _speed(computation, figures[computation], mismatches[computation], lava) for computation in computations
    )
    spiking = [name for name, activity in reference.layers.items() if activity.binary]
    places = sum(reference.layers[name].neurons for name in spiking) * reference.timesteps * reference.samples
    rate = sum(reference.layers[name].events for name in spiking) / max(1, places)
    return NetworkSpeeds(network.title, reference.timesteps, rate, speeds, compared)


def _speed(computation: _Computation, figures: Sequence[_Figures], mismatches: int, lava: Sequence[_Figures]) -> Speed:
    if computation.reason:
        return Speed(computation.name, computation.threads, reason=computation.reason)
    starts = [timed.start_s for timed in figures if timed.start_s is not None]
    ratios = [ours.per_second / theirs.per_second for ours, theirs in zip(figures, lava, strict=False)]
    return Speed(
        computation.name,
        computation.threads,
        figures[0].samples,
        None if mismatches else Spread.of(timed.per_second for timed in figures),
        Spread.of(ratios) if ratios and not mismatches else None,
        Spread.of(starts) if starts else None,
        figures[0].spikes,
        mismatches,
    )


def _emulate(network: Network, backend: Backend, threads: int | None, device: str) -> tuple[SpikeRecord, _Figures]:
    names = [layer.name for layer in network.program.layers]
    with _torch_threads(threads):
        start = time.perf_counter()
        record = run_program(network.program, network.inputs, rasters=names, backend=backend, device=device)
        seconds = time.perf_counter() - start
    return record, _Figures(record.samples, _spikes(record), record.samples / seconds)


def _stream(network: Network, worker: Lava, samples: int) -> tuple[SpikeRecord, _Figures]:
    """Run the first samples in Lava: one network through which they stream, timed from the end of its first request on."""
    program = network.program
    timesteps, there = next(iter(network.inputs.values())).shape[:2]
    samples = min(there, max(samples, -(-REQUESTS * ROWS // timesteps)))
    inputs = {name: values[:, :samples] for name, values in network.inputs.items()}
    steps = timesteps * samples + program.depth
    if steps <= ROWS:
        raise ConfigError(
            f"{samples} samples of {timesteps} steps",
            "Lava is timed after its first request",
            f"--samples {2 * ROWS // timesteps}",
        )
    answers: list[float] = []
    start = time.perf_counter()
    record = worker.run(
        program,
        inputs,
        rasters=[layer.name for layer in program.layers],
        stock=None,
        progress=lambda done, total: answers.append(time.perf_counter()),
    )
    step_s = (answers[-1] - answers[0]) / (steps - ROWS)
    start_s = max(0.0, answers[0] - start - ROWS * step_s)
    return record, _Figures(samples, _spikes(record), 1 / (step_s * timesteps), start_s)


def _spikes(record: SpikeRecord) -> int:
    return sum(activity.events for activity in record.layers.values() if activity.binary)


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch use so many threads meanwhile; ``None`` leaves it as it is, and unimported."""
    if threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
