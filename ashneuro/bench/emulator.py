"""Samples per second of the bit-exact emulator, and of Lava on the same integer program.

Every round runs every engine once, in turn, so that other load on the machine meets all of them;
ratios are taken within a round. All engines record every layer's spikes, and these are compared:
a speed means nothing if the spikes differ.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.bench.measure import (
    SCHEMA,
    Machine,
    Spread,
    count_runs,
    load,
    machine,
    require_positive,
    torch_threads,
)
from ashneuro.cores import usable_cores
from ashneuro.errors import ConfigError, LavaError, install_command
from ashneuro.loihi import LARGEST_DECAY
from ashneuro.program.bundle import Bundle
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.synapse import conv_shape
from ashneuro.simulation.emulator.arrays import Backend
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.inputs import Progress
from ashneuro.simulation.lava.layout import is_lagged
from ashneuro.simulation.lava.network import REQUEST_STEPS
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.record import SpikeRecord
from ashneuro.spiking.dynamics import DYNAMICS, DynamicsName
from ashneuro.spiking.firing import Firing
from ashneuro.spiking.message import Message

LAVA = "Lava, fixed_pt, streamed"
SEED = 7
RATE = 0.12  # spikes per input line and timestep
REQUESTS = 4  # minimum per round in Lava: the first one is start-up, the others are timed


@dataclass(frozen=True, eq=False)
class BenchNetwork:
    """An integer program and its samples (T, B, *shape), by input port."""

    title: str
    program: Program
    inputs: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Speed:
    """Speed of one engine on one network.

    Args:
        name: of the engine.
        threads: number of threads that it was given; ``None``: the engine decides itself.
        samples: number of samples per round.
        per_second: samples per second; ``None`` if it was not run, or its spikes differ.
        ratio: ``per_second`` over Lava's in the same round.
        start_s: start-up time before the first sample of every round, not part of ``per_second``.
        spikes: number of spikes over all layers, in one round.
        mismatches: number of values that differ from the reference, over all layers and rounds.
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
    """Speeds of all engines on one network.

    Args:
        firing_rate: spikes, or graded messages, per neuron and timestep.
        compared: number of values that were compared with the reference.
    """

    title: str
    timesteps: int
    firing_rate: float
    speeds: tuple[Speed, ...]
    compared: int

    @property
    def mismatches(self) -> int:
        """Number of values that differ, over all engines."""
        return sum(speed.mismatches for speed in self.speeds)


@dataclass(frozen=True)
class EmulatorBench:
    """Result of the benchmark."""

    machine: Machine
    rounds: int
    networks: tuple[NetworkSpeeds, ...]

    @property
    def passed(self) -> bool:
        """True if all engines agreed in every value of every network."""
        return not any(network.mismatches for network in self.networks)

    def to_json(self) -> dict[str, Any]:
        """Return the result under the schema ``ashneuro.bench/1``."""
        return {"schema": SCHEMA, "benchmark": "emulator", "passed": self.passed, **asdict(self)}


def dense_network(
    samples: int, *, neuron: str = "lif", sizes: Sequence[int] = (256, 512, 256), timesteps: int = 32
) -> BenchNetwork:
    """Return dense layers of neurons with random 8-bit weights, and input spikes at `RATE`.

    ``neuron``: a key of `NEURONS`.

    Raises:
        ConfigError: there is no such neuron.
    """
    if neuron not in NEURONS:
        raise ConfigError(f"neuron {neuron!r}", f"it is one of {', '.join(NEURONS)}", "--neuron lif")
    random = np.random.default_rng(SEED)
    synapses = [
        Synapse("dense", (lines,), (neurons,), _weights(random, (neurons, lines))) for lines, neurons in pairwise(sizes)
    ]
    kind = "LIF" if neuron == "lif" else neuron
    return _network(f"{'-'.join(map(str, sizes))}, dense, {kind}", random, synapses, 2, samples, timesteps, neuron)


def conv_network(
    samples: int, *, channels: Sequence[int] = (32, 64, 64), side: int = 16, units: int = 128, timesteps: int = 8
) -> BenchNetwork:
    """Return 3×3 convolutions and a dense layer of LIF neurons; the first convolution has stride 2.

    Weights and input spikes are drawn as in `dense_network`.
    """
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
    title = f"{sizes}, 3×3 on {side}×{side}, dense {units}, LIF"
    return _network(title, random, synapses, 1, samples, timesteps, "lif")


def _weights(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int32]:
    # Loihi's mixed-sign weights have 8 bits with a step of 2.
    weights: NDArray[np.int32] = 2 * np.clip(np.rint(random.normal(0, 32, shape)), -128, 127).astype(np.int32)
    return weights


def _lif(threshold: int, **changed: Any) -> Neuron:
    # du 4095: the current lasts one step, as in LIF without synaptic filter. dv 410: v keeps 90 %
    # per step.
    du, dv, v_threshold, bias = (np.array(value, np.int32) for value in (LARGEST_DECAY, 410, threshold, 0))
    return Neuron(du, dv, v_threshold, bias, **changed)


def _further(name: DynamicsName, threshold: int, **parameters: int) -> Neuron:
    values = {key: np.asarray(value, np.int32) for key, value in parameters.items()}
    return _lif(threshold, dynamics=name, parameters=values, message=DYNAMICS[name].message)


def _sigma_delta(threshold: int) -> Neuron:
    # A change is sent in units of 16, as the threshold is.
    du, dv, v_threshold, bias = (np.array(value, np.int32) for value in (-1, LARGEST_DECAY, threshold // 16, 0))
    return Neuron(du, dv, v_threshold, bias, bias_exp=4, message=Message("change", 16, activation="relu", shift=4))


# Neurons by threshold. Those of the same input spike at rates of a few per cent, up to a quarter.
NEURONS: Mapping[str, Callable[[int], Neuron]] = {
    "lif": _lif,
    "lif-subtract": lambda v: _lif(v, firing=Firing(reset="subtract"), v_subtract=np.asarray(v, np.int32)),
    "refractory": lambda v: _further("refractory", v, refractory_steps=2),
    "adaptive": lambda v: _further("adaptive", v, d_threshold=300, d_refractory=900, threshold_step=v // 2),
    "resonate": lambda v: _further("resonate", v // 3, sin=2600, cos=2600),
    "izhikevich": lambda v: _further("izhikevich", 3 * v // 4, sin=2600, cos=2600),
    "ternary": lambda v: _further("ternary", v, threshold_below=v),
    "count": lambda v: _lif(
        v // 2,
        firing=Firing(reset="subtract"),
        v_subtract=np.asarray(v // 2, np.int32),
        message=Message("count", 8, 255),
    ),
    "graded": lambda v: _lif(3 * v // 4, message=Message("graded", bits=8, limit=255)),
    "sigma-delta": _sigma_delta,
}
# Messages are values up to 255, and changes of about 50, in place of 1.
EXPONENTS: Mapping[str, int] = {"graded": -7, "sigma-delta": -6}


def _network(
    title: str,
    random: np.random.Generator,
    synapses: Sequence[Synapse],
    deviations: int,
    samples: int,
    timesteps: int,
    neuron: str,
) -> BenchNetwork:
    """Return a chain of layers, one behind each of ``synapses``, and input spikes."""
    layers: list[Layer] = []
    for depth, synapse in enumerate(synapses, start=1):
        # One or two standard deviations of the input current of a step. v decays by 10 % per step
        # and crosses this often enough for rates of a few per cent.
        threshold = round(deviations * 64 * (RATE * math.prod(synapse.weight.shape[1:])) ** 0.5)
        exponent = EXPONENTS.get(neuron, 0) if layers else 0
        source = layers[-1].name if layers else "input"
        layers.append(
            Layer(
                f"lif{depth}",
                synapse.out_shape,
                NEURONS[neuron](threshold),
                (Connection(source, synapse, weight_exp=exponent),),
                depth,
            )
        )
    shape = synapses[0].in_shape
    program = Program(
        "integer", 1e-3, timesteps, (InputPort("input", shape, "spikes"),), tuple(layers), (layers[-1].name,)
    )
    spikes = (random.random((timesteps, samples, *shape)) < RATE).astype(np.uint8)
    return BenchNetwork(title, program, {"input": spikes})


def bundle_network(bundle: Bundle, samples: int) -> BenchNetwork:
    """Return the integer program of ``bundle``, and its reference samples repeated to ``samples``.

    Raises:
        BundleError: the bundle has no integer program.
    """
    # A bundle has few reference samples; repeated, they still time the network on its own data.
    inputs = {
        name: values.take(np.arange(samples) % values.shape[1], axis=1)
        for name, values in bundle.reference.inputs.items()
    }
    return BenchNetwork(str(bundle.folder), bundle.program("integer"), inputs)


def bench_emulator(
    networks: Sequence[BenchNetwork],
    *,
    rounds: int = 5,
    threads: int | None = None,
    lava: bool = True,
    lava_samples: int = 16,
    progress: Progress | None = None,
) -> EmulatorBench:
    """Time every engine on every network.

    Args:
        networks: timed one after the other.
        rounds: number of timed runs per engine.
        threads: maximum for torch; default: one per core. It is timed with one thread as well.
        lava: run Lava too. If it cannot start, its row gives the reason.
        lava_samples: number of samples that run in Lava, raised to what timing needs, at most all.
        progress: called with (runs done, runs in all).

    Raises:
        ConfigError: ``rounds``, ``threads``, ``lava_samples`` or the number of samples is not
            positive.
    """
    samples = min(next(iter(network.inputs.values())).shape[1] for network in networks)
    require_positive(rounds=rounds, threads=threads, lava_samples=lava_samples, samples=samples)
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
            (network, _engines(network, worker, reason, threads or usable_cores(), lava_samples))
            for network in networks
        ]
        tick = count_runs(progress, rounds * sum(not engine.reason for _, engines in plans for engine in engines))
        speeds = tuple(_bench(network, engines, rounds, tick) for network, engines in plans)
    return EmulatorBench(
        machine(("ashneuro", "numpy", "scipy", "torch"), also=versions, load_before=before), rounds, speeds
    )


@dataclass(frozen=True)
class _Timing:
    """Figures of one timed run."""

    samples: int
    spikes: int
    per_second: float
    start_s: float | None = None


@dataclass(frozen=True, eq=False)
class _Engine:
    """An implementation that runs a network; ``run`` is not called if there is a ``reason`` why it
    cannot.
    """

    name: str
    threads: int | None
    run: Callable[[], tuple[SpikeRecord, _Timing]]
    reason: str = ""
    is_lava: bool = False


def _engines(network: BenchNetwork, worker: Lava | None, reason: str, threads: int, lava_samples: int) -> list[_Engine]:
    def emulated(name: str, backend: Backend, threads: int | None = None, device: str = "cpu") -> _Engine:
        missing = torch_missing if backend == "torch" else ""
        return _Engine(name, threads, lambda: _emulate(network, backend, threads, device), missing)

    def streamed() -> tuple[SpikeRecord, _Timing]:
        assert worker is not None
        return _stream(network, worker, lava_samples)

    if is_lagged(network.program):
        reason = reason or "recurrence or axonal delays: its samples run side by side, there is no stream to time"
    torch_missing = "" if find_spec("torch") else f"torch is not installed ({install_command('train')})"
    engines = [_Engine(LAVA, None, streamed, reason, is_lava=True)]
    engines += [emulated("emulator, torch", "torch", count) for count in dict.fromkeys((1, threads))]
    if not torch_missing and _has_cuda():
        engines.append(emulated("emulator, torch on the GPU", "torch", device="cuda"))
    return [*engines, emulated("emulator, numpy", "numpy")]


def _bench(network: BenchNetwork, engines: Sequence[_Engine], rounds: int, tick: Callable[[], None]) -> NetworkSpeeds:
    running = [engine for engine in engines if not engine.reason]
    # One untimed run of every emulator starts the libraries' threads. The last one, numpy, is the
    # reference.
    reference = [engine.run()[0] for engine in running if not engine.is_lava][-1]
    timings: dict[_Engine, list[_Timing]] = {engine: [] for engine in engines}
    mismatches, compared = dict.fromkeys(engines, 0), 0
    for _ in range(rounds):
        for engine in running:
            timing, wrong, values = _turn(engine, reference)
            timings[engine].append(timing)
            mismatches[engine] += wrong
            compared += values
            tick()
    lava = next(timings[engine] for engine in engines if engine.is_lava)
    speeds = tuple(_speed(engine, timings[engine], mismatches[engine], lava) for engine in engines)
    spiking = [name for name, activity in reference.layers.items() if not activity.read_out]
    neuron_steps = sum(reference.layers[name].neurons for name in spiking) * reference.timesteps * reference.samples
    rate = sum(reference.layers[name].events for name in spiking) / max(1, neuron_steps)
    return NetworkSpeeds(network.title, reference.timesteps, rate, speeds, compared)


def _turn(engine: _Engine, reference: SpikeRecord) -> tuple[_Timing, int, int]:
    """Return the timing of one run, the number of its values that differ, and of all.

    Its record is freed before the next engine runs, which would have to get new memory otherwise.
    """
    record, timing = engine.run()
    mismatches = compared = 0
    for name, activity in record.layers.items():
        differ = activity.raster != reference.layers[name].raster[:, : record.samples]  # type: ignore[index]
        mismatches += int(np.count_nonzero(differ))
        compared += differ.size  # type: ignore[union-attr]
    return timing, mismatches, compared


def _speed(engine: _Engine, timings: Sequence[_Timing], mismatches: int, lava: Sequence[_Timing]) -> Speed:
    if engine.reason:
        return Speed(engine.name, engine.threads, reason=engine.reason)
    starts = [timing.start_s for timing in timings if timing.start_s is not None]
    ratios = [ours.per_second / theirs.per_second for ours, theirs in zip(timings, lava, strict=False)]
    return Speed(
        engine.name,
        engine.threads,
        timings[0].samples,
        None if mismatches else Spread.of(timing.per_second for timing in timings),
        Spread.of(ratios) if ratios and not mismatches else None,
        Spread.of(starts) if starts else None,
        timings[0].spikes,
        mismatches,
    )


def _emulate(network: BenchNetwork, backend: Backend, threads: int | None, device: str) -> tuple[SpikeRecord, _Timing]:
    names = [layer.name for layer in network.program.layers]
    with torch_threads(threads):
        start = time.perf_counter()
        record = run_program(network.program, network.inputs, rasters=names, backend=backend, device=device)
        seconds = time.perf_counter() - start
    return record, _Timing(record.samples, _spikes(record), record.samples / seconds)


def _stream(network: BenchNetwork, worker: Lava, samples: int) -> tuple[SpikeRecord, _Timing]:
    """Stream the first samples through one network in Lava, timed from the end of its first
    request.

    The first request covers building and starting; its own share of computing is estimated from the
    others and the rest reported as start-up time.
    """
    program = network.program
    timesteps, there = next(iter(network.inputs.values())).shape[:2]
    samples = min(there, max(samples, -(-REQUESTS * REQUEST_STEPS // timesteps)))
    inputs = {name: values[:, :samples] for name, values in network.inputs.items()}
    steps = timesteps * samples + program.depth
    if steps <= REQUEST_STEPS:
        raise ConfigError(
            f"{samples} samples of {timesteps} steps",
            "Lava is timed after its first request",
            f"--samples {2 * REQUEST_STEPS // timesteps}",
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
    step_s = (answers[-1] - answers[0]) / (steps - REQUEST_STEPS)
    start_s = max(0.0, answers[0] - start - REQUEST_STEPS * step_s)
    return record, _Timing(samples, _spikes(record), 1 / (step_s * timesteps), start_s)


def _spikes(record: SpikeRecord) -> int:
    return sum(activity.events for activity in record.layers.values() if not activity.read_out)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
