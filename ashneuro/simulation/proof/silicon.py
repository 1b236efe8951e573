"""Replay of recorded Loihi runs in the emulator, compared step by step.

The recordings of PilotNet-LIF (`ashneuro.simulation.proof.recordings`) hold u, v and spikes of
every neuron, read from a chip. lava-dl does not say which one; its hardware test requires Loihi 2
to reproduce them. They are interpreted so:

- Layer k (the input is layer 0) is reset in steps k + 17·n, when a sample's first spikes reach it.
  The steps between two resets are a sample, as are those from power-on, when all state is zero, to
  the first reset.
- u and v are in units of the chip, 64 per unit of weight.
- In the step of a spike, v reads 128 on the chip and is 0 in the arithmetic; both go on from 0. v
  is not compared there, but counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.loihi import LARGEST_DECAY, STATE_UNIT
from ashneuro.program.netx.read import read_netx
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.simulation.emulator.arrays import Backend
from ashneuro.simulation.proof.recordings import (
    DENSE,
    LICENCE,
    NTIDIGITS,
    PILOTNET,
    SHA256,
    TINY,
    WHEEL,
    Say,
    fetch_recordings,
    load_recording,
)
from ashneuro.simulation.proof.replay import (
    Emulator,
    Origin,
    Replay,
    Traces,
    Window,
    compare,
    later,
    time_first,
)
from ashneuro.simulation.proof.sigma_delta import pilotnet_sdnn, pilotnet_square, tinynet_sdnn

# Layers k = 1, 2, … of PilotNet-LIF whose u, v and spikes were recorded: name in the program and in
# the file.
RECORDED_LAYERS = {f"conv{n + 1}": f"conv-{n}" for n in range(5)} | {f"dense{n + 7}": f"fc-{n}" for n in range(3)}
PERIOD = 17  # steps between resets


@dataclass(frozen=True)
class SiliconReport:
    """Result of all replays.

    Args:
        source: origin of the recordings.
        licence: of the recordings.
        sha256: of the file that carries them.
        replays: one per recording and input.
        not_compared: networks of the same file that cannot be replayed, each with the reason.
    """

    source: str
    licence: str
    sha256: str
    replays: tuple[Replay, ...]
    not_compared: tuple[str, ...]

    def compared(self, origin: Origin) -> int:
        """Return the number of neuron-steps compared, over all replays of this origin."""
        return sum(replay.compared for replay in self.replays if replay.origin == origin)

    @property
    def mismatches(self) -> int:
        """Number of values that differ, over all replays."""
        return sum(replay.mismatches for replay in self.replays)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, with its totals."""
        plain = asdict(self)
        for entry, replay in zip(plain["replays"], self.replays, strict=True):
            entry |= {"compared": replay.compared, "mismatches": replay.mismatches}
            for item, layer in zip(entry["layers"], replay.layers, strict=True):
                item["compared"] = layer.compared
        plain["compared"] = {origin: self.compared(origin) for origin in ("silicon", "reference output")}
        plain["mismatches"] = self.mismatches
        return plain


def verify_silicon(*, backend: Backend = "auto", device: str = "cpu", say: Say = lambda text: None) -> SiliconReport:
    """Replay every recording; fetch them the first time.

    Args:
        backend, device: of the emulator, see `ashneuro.simulation.emulator.arrays`.
        say: called with a few words on each step.

    Raises:
        DataError: the recordings cannot be fetched or read.
    """
    folder = fetch_recordings(say)
    emulator = Emulator(backend, device)
    replays = []
    lif = (_pilotnet_layers, _pilotnet_chain, _pilotnet_end, _ntidigits, _dense_block, _tiny)
    for replay in (*lif, pilotnet_sdnn, pilotnet_square, tinynet_sdnn):
        replays.append(replay(folder, emulator))
        say(f"replayed {replays[-1].name}")
    return SiliconReport(
        f"{WHEEL} (PyPI)",
        LICENCE,
        SHA256,
        tuple(replays),
        (
            "complex_dense: resonate-and-fire neurons, not the neuron of a program",
            "mnist.net: it comes without a recording",
        ),
    )


def _pilotnet_layers(folder: Path, emulator: Emulator) -> Replay:
    program = _pilotnet(folder)
    before = time_first(folder, f"{PILOTNET}/input")
    steps = len(before)
    layers = []
    for k, name in enumerate(RECORDED_LAYERS, start=1):
        recorded = _recorded_layer(folder, name)
        windows = _windows(k, PERIOD, steps)
        # Spikes that reach a layer in step t left the one before it in step t − 1.
        arriving = _side_by_side(later(before, 1), windows)
        layers.append(
            compare(name, emulator.run(_part(program, name, name), arriving, {name: windows}, steps), recorded)
        )
        before = recorded["s"]
    return Replay(
        "PilotNet-LIF, layer by layer",
        "silicon",
        "each layer with the recorded spikes of the one before",
        tuple(layers),
    )


def _pilotnet_chain(folder: Path, emulator: Emulator) -> Replay:
    program = _pilotnet(folder)
    recorded: dict[str, Traces] = {"input0": {"s": time_first(folder, f"{PILOTNET}/input")}}
    recorded |= {name: _recorded_layer(folder, name) for name in RECORDED_LAYERS}
    steps = len(recorded["input0"]["s"])
    windows = {
        name: [window for window in _windows(k, PERIOD, steps) if window[0] >= k] for k, name in enumerate(recorded)
    }
    emulated = emulator.run(
        program, _still(_pilotnet_image(folder, program), PERIOD, len(windows["input0"])), windows, steps
    )
    return Replay(
        "PilotNet-LIF, chained",
        "silicon",
        "the image, nothing else",
        tuple(compare(name, emulated, recorded[name]) for name in recorded),
        (
            "layer k before step k, its first reset: the layers are not yet in step with each other"
            " (compared layer by layer)",
            "u and v of input0: not recorded",
        ),
    )


def _pilotnet_end(folder: Path, emulator: Emulator) -> Replay:
    """Replay the input and the last layer of two other runs, which are reset every 16 steps.

    The last layer's run resets layer k in steps k − 1 + 16·n: its v does not leak and yet is 0
    again in steps 8 and 24. Its first sample would have begun a step before power-on, without a
    spike.
    """
    program, period = _pilotnet(folder), 16
    spikes = time_first(folder, f"{PILOTNET}/input-s")
    windows = _windows(0, period, len(spikes))
    image = _still(_pilotnet_image(folder, program), period, len(windows))
    entry = emulator.run(
        replace(program, layers=program.layers[:1], outputs=("input0",)), image, {"input0": windows}, len(spikes)
    )
    recorded = {key: time_first(folder, f"{PILOTNET}/fc-3-{key}") for key in ("u", "v")}
    steps = len(recorded["v"])
    samples = np.stack([later(spikes[:period], 1), spikes[:period]], axis=1)
    end = emulator.run(_part(program, "conv1", "dense10"), samples, {"dense10": [(8, 24), (24, steps)]}, steps)
    return Replay(
        "PilotNet-LIF, first and last layer",
        "silicon",
        "the image; the recorded input spikes, through all layers",
        (compare("input0", entry, {"s": spikes}), compare("dense10", end, recorded)),
        (
            "dense10 before step 8, its first reset: what reached it then was not recorded in that run",
            "conv1 to dense9 in that run: not recorded",
        ),
    )


def _ntidigits(folder: Path, emulator: Emulator) -> Replay:
    program = replace(read_netx(folder / NTIDIGITS / "ntidigits.net"), timesteps=None)
    name = program.outputs[0]
    spikes, expected = time_first(folder, f"{NTIDIGITS}/input"), time_first(folder, f"{NTIDIGITS}/output")
    # The recorded output lags by one step per layer, and by one step of injecting the input.
    arriving = later(spikes, 1 + program.depth).reshape(len(spikes), 1, *program.inputs[0].shape)
    emulated = emulator.run(program, arriving, {name: [(0, len(spikes))]}, len(spikes))
    return Replay(
        "NTIDIGITS, dense layers with axonal delays",
        "reference output",
        "the input spikes, through all layers",
        (compare(name, emulated, {"s": expected}),),
        ("dense2, dense3: not recorded", "average5: a job of the host"),
    )


def _dense_block(folder: Path, emulator: Emulator) -> Replay:
    spikes, expected = time_first(folder, f"{DENSE}/in"), time_first(folder, f"{DENSE}/out")
    weight = load_recording(folder, f"{DENSE}/weight")
    out, into = weight.shape
    # There is no netx file: the numbers are those of test_dense in lava-dl's
    # tests/lava/lib/dl/netx/test_blocks.py.
    du, dv, threshold, bias = (np.asarray(value, np.int32) for value in (LARGEST_DECAY, 415, 6, 0))
    connection = Connection("input", Synapse("dense", (into,), (out,), weight))
    layer = Layer("dense", (out,), Neuron(du, dv, threshold, bias), (connection,), 1)
    program = Program("integer", 1e-3, None, (InputPort("input", (into,), "spikes"),), (layer,), ("dense",))
    emulated = emulator.run(program, later(spikes, 1)[:, None], {"dense": [(0, len(spikes))]}, len(spikes))
    return Replay("dense block", "reference output", "the input spikes", (compare("dense", emulated, {"s": expected}),))


def _tiny(folder: Path, emulator: Emulator) -> Replay:
    program = replace(read_netx(folder / "tiny.net"), timesteps=None)
    files = {"input0": {"s": "input"}, "conv1": {"s": "layer1", "u": "current"}, "conv2": {"s": "output"}}
    # In the files: (1, C, H, W, steps).
    recorded = {
        name: {key: np.moveaxis(load_recording(folder, f"{TINY}/{file}")[0], -1, 0) for key, file in each.items()}
        for name, each in files.items()
    }
    recorded["conv1"]["u"] = recorded["conv1"]["u"] * STATE_UNIT  # in the file: sums of weights
    steps = len(recorded["input0"]["s"])
    image = _image(program, load_recording(folder, f"{TINY}/input_bias").T)
    emulated = emulator.run(program, _still(image, steps - 1, 1), {name: [(1, steps)] for name in files}, steps)
    return Replay(
        "tiny.net",
        "reference output",
        "the image, nothing else",
        tuple(compare(name, emulated, recorded[name]) for name in files),
        ("step 0: it lies before the run, everything is 0", "v, and u of input0 and conv2: not recorded"),
    )


def _pilotnet(folder: Path) -> Program:
    return replace(read_netx(folder / PILOTNET / "network.net"), timesteps=None)


def _pilotnet_image(folder: Path, program: Program) -> NDArray[np.float64]:
    return _image(program, load_recording(folder, f"{PILOTNET}/image").T)


def _image(program: Program, sent: NDArray[Any]) -> NDArray[np.float64]:
    """Return the image x (C, H, W) of the values scale·x + bias that the host sent."""
    image: NDArray[np.float64] = (sent - int(program.layers[0].neuron.bias)) / program.inputs[0].scale
    return image


def _still(image: NDArray[Any], steps: int, samples: int) -> NDArray[Any]:
    return np.broadcast_to(image, (steps, samples, *image.shape))


def _recorded_layer(folder: Path, name: str) -> Traces:
    file = f"{PILOTNET}/{RECORDED_LAYERS[name]}"
    return {
        "s": time_first(folder, file),
        "u": time_first(folder, f"{file}-u"),
        "v": time_first(folder, f"{file}-v"),
    }


def _part(program: Program, first: str, last: str) -> Program:
    """Return the layers of a chain from ``first`` to ``last``, with the layer before as input."""
    names = [layer.name for layer in program.layers]
    before = program.layers[names.index(first) - 1]
    layers = program.layers[names.index(first) : names.index(last) + 1]
    return replace(
        program,
        inputs=(InputPort(before.name, before.shape, "spikes"),),
        layers=tuple(replace(layer, depth=layer.depth - before.depth) for layer in layers),
        outputs=(last,),
    )


def _windows(first_reset: int, period: int, steps: int) -> list[Window]:
    """Return the windows between resets, from power-on to the end of the recording."""
    return [(a, b) for a, b in pairwise([0, *range(first_reset, steps, period), steps]) if a < b]


def _side_by_side(values: NDArray[Any], windows: Sequence[Window]) -> NDArray[Any]:
    """Return the windows of ``values`` as samples (T, B, *shape), zeros after the shorter ones."""
    result = np.zeros((max(b - a for a, b in windows), len(windows), *values.shape[1:]), values.dtype)
    for sample, (a, b) in enumerate(windows):
        result[: b - a, sample] = values[a:b]
    return result
