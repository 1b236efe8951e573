"""Runs programs in Lava itself: the host's side of the worker in `ashneuro.lava_worker`.

Samples stream back to back through one running network. Every Lava synapse delivers one step late, so a layer at depth d
sees step t of sample b in machine step b·T + t + d; Lava's ``LIFReset`` clears each layer there (interval T, offset
d + 1, because Lava counts from 1), and what a layer sent is read d steps later. Around recurrent loops and real axonal
delays the last spikes of a sample would arrive in the next one: there samples run side by side, as copies of the network,
and what would spike on its own before the sample has reached it is held down until then.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, identity, kron

from ashneuro.errors import LavaError
from ashneuro.lava_worker.frames import VERSION, Arrays, FrameError, Header, read_frame, write_frame
from ashneuro.program.program import Connection, Layer, Precision, Program
from ashneuro.program.synapse import matrix
from ashneuro.simulate.inputs import Inputs, Progress, check_inputs, encode
from ashneuro.simulate.lava_env import SETUP, WORKER, find_interpreter
from ashneuro.simulate.neurons import read_out
from ashneuro.simulate.record import Activity, SpikeRecord

ROWS = 32  # machine steps per request: long enough to hide its cost (1–3 ms), short enough for progress and timeouts
DENSE_ABOVE = 0.3  # share of non-zero weights from which Lava's Dense is the faster process
COPIES_WEIGHTS = 4_000_000  # weights of one network of side-by-side copies, at most
TERMINATE_S, KILL_S = 5.0, 10.0


class Lava:
    """A Lava worker process; a context manager. Programs run in it one after another.

    Args:
        command: what starts the worker; the interpreter of `find_interpreter` by default. A command such as
            ``["ssh", "host", "python3.10", "/path/to/lava_worker/worker.py"]`` runs it on another machine.
        timeout_s: the longest that one reply may take: building a network, or `ROWS` steps of it.

    Raises:
        LavaError: no interpreter was found, Lava cannot be imported there, or the worker speaks another protocol.
    """

    def __init__(self, command: Sequence[str] | None = None, timeout_s: float = 300.0) -> None:
        self._command = list(command) if command else [str(find_interpreter()), "-B", str(WORKER / "worker.py")]
        self._timeout_s = timeout_s
        self.versions: dict[str, str] = {}

    def __enter__(self) -> Self:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        # One thread per Lava process: there is a process per layer already.
        clean |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._said: IO[bytes] = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                bufsize=0,
                start_new_session=True,
                env=clean,
            )
        except OSError as error:
            self._said.close()
            raise LavaError("the Lava worker cannot be started", f"{' '.join(self._command)}: {error.strerror}", SETUP) from error
        try:
            hello, _ = self._receive()
        except BaseException:
            self._end()
            raise
        if hello["protocol"] != VERSION:
            self._end()
            raise LavaError("the Lava worker is another version", f"it speaks protocol {hello['protocol']}, not {VERSION}", "update it")
        self.versions = hello["versions"]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and self._process.poll() is None:
                self._ask({"request": "close"})
                self._process.wait(TERMINATE_S)
        except (LavaError, subprocess.TimeoutExpired):
            pass  # it is ended below
        finally:
            self._end()

    def run(self, program: Program, inputs: Inputs, *, rasters: Collection[str] = (), progress: Progress | None = None) -> SpikeRecord:
        """Return what every layer of ``program`` sends, computed by Lava: ``floating_pt`` or ``fixed_pt``, as the program says.

        Args:
            program: a float or an integer program.
            inputs: (T, B, *shape), see `check_inputs`.
            rasters: names of the layers whose spikes, step by step, the record keeps.
            progress: called with (samples done, samples in all).

        Raises:
            DataError: the inputs do not fit.
            LavaError: Lava failed, or took longer than the timeout.
        """
        checked = check_inputs(program.inputs, program.timesteps, inputs)
        sent = {port.name: encode(port, checked[port.name], program.precision) for port in program.inputs}
        timesteps, samples = next(iter(sent.values())).shape[:2]
        record = None
        for first, last in _passes(program, samples):
            part = {name: values[:, first:last] for name, values in sent.items()}
            tell = progress and _shifted(progress, first, samples)
            done = self._run_pass(program, part, timesteps, last - first, rasters, tell)
            record = done if record is None else record + done
        assert record is not None
        return record

    def _run_pass(
        self,
        program: Program,
        sent: dict[str, NDArray[Any]],
        timesteps: int,
        samples: int,
        rasters: Collection[str],
        progress: Progress | None,
    ) -> SpikeRecord:
        copies = samples if _side_by_side(program) else 1
        description, arrays = _describe(program, timesteps, copies)
        # One row per machine step; samples one after another, or side by side.
        streams = {source["name"]: _stream(program, source, sent, copies) for source in description["sources"]}
        if _side_by_side(program):
            streams |= _hold(program, description, copies)
        self._ask({"request": "build", "network": description}, arrays)
        taps = [_Tap(layer, program.precision, samples, timesteps, copies, layer.name in rasters) for layer in program.layers]
        total = timesteps * (samples // copies) + program.depth
        for start in range(0, total, ROWS):
            steps = min(ROWS, total - start)
            rows = {name: _rows(stream, start, steps) for name, stream in streams.items()}
            _, results = self._ask({"request": "step", "steps": steps}, rows)
            for tap in taps:
                tap.take(start, results[tap.layer.name])
            if progress:
                progress(min(samples, (start + steps) * copies // timesteps), samples)
        self._ask({"request": "drop"})
        return SpikeRecord(
            "lava",
            program.precision,
            timesteps,
            samples,
            {tap.layer.name: tap.activity() for tap in taps},
            {port.name: Activity.of_inputs(sent[port.name]) for port in program.inputs},
        )

    def _ask(self, header: Header, arrays: Arrays | None = None) -> tuple[Header, Arrays]:
        assert self._process.stdin is not None
        try:
            write_frame(self._process.stdin.fileno(), header, arrays or {})
        except BrokenPipeError:
            raise self._died() from None
        return self._receive()

    def _receive(self) -> tuple[Header, Arrays]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + self._timeout_s
        try:
            header, arrays = read_frame(_reader(self._process.stdout.fileno(), deadline))
        except EOFError:
            raise self._died() from None
        except TimeoutError:
            raise LavaError(
                "Lava does not answer",
                f"no reply within {self._timeout_s:g} s{self._last_words()}",
                "run a smaller network",
            ) from None
        except FrameError as error:
            raise LavaError("the Lava worker's reply cannot be read", f"{error}{self._last_words()}", SETUP) from error
        if failure := header.get("error"):
            lines = [line for line in failure["traceback"].strip().splitlines() if line.strip().startswith("File")]
            where = f" ({lines[-1].strip()})" if lines else ""
            raise LavaError(f"Lava failed: {failure['type']}", f"{failure['message']}{where}{self._last_words()}", "ashneuro doctor")
        return header, arrays

    def _died(self) -> LavaError:
        status = self._process.wait()
        return LavaError("the Lava worker ended", f"exit status {status}{self._last_words()}", "ashneuro doctor")

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()[-12:]
        return "; it printed:\n" + "\n".join(lines) if lines else ""

    def _end(self) -> None:
        """Leave nothing of the worker's process group behind."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        # SIGTERM first: Python's resource tracker ignores it, and removes the shared-memory segments once all others ended.
        for number, patience_s in ((signal.SIGTERM, KILL_S), (signal.SIGKILL, TERMINATE_S)):
            if not _signal_group(self._process.pid, number):
                break
            deadline = time.monotonic() + patience_s
            while time.monotonic() < deadline and _signal_group(self._process.pid, 0):
                self._process.poll()
                time.sleep(0.01)
        self._process.wait()
        self._said.close()


class _Tap:
    """Collects what one layer sent, machine step by machine step, as counts and, when asked for, as a raster."""

    def __init__(self, layer: Layer, precision: Precision, samples: int, timesteps: int, copies: int, keep: bool) -> None:
        self.layer, self._precision, self._copies = layer, precision, copies
        self._shape = (samples // copies, timesteps, copies, layer.size)
        self._counts = np.zeros(layer.size, np.int64)
        self._kept = np.empty((samples // copies * timesteps, copies * layer.size), np.uint8 if layer.neuron.spiking else np.float64)
        self._keep = keep or not layer.neuron.spiking
        if not self._keep:
            self._kept = self._kept[:0]

    def take(self, start: int, sent: NDArray[Any]) -> None:
        """Add the rows that the layer sent from machine step ``start`` on."""
        first = start - self.layer.depth
        total = self._shape[0] * self._shape[1]
        rows = sent[max(0, -first) : max(0, total - first)]
        if self.layer.neuron.spiking:
            self._counts += rows.reshape(-1, self._copies, self.layer.size).sum(axis=(0, 1), dtype=np.int64)
        if self._keep:
            self._kept[max(0, first) : max(0, first) + len(rows)] = rows

    def activity(self) -> Activity:
        """Return all of it; a raster is (T, B, *shape)."""
        raster = None
        if self._keep:
            sequence, timesteps, copies, _ = self._shape
            raster = self._kept.reshape(self._shape).transpose(1, 0, 2, 3).reshape(timesteps, sequence * copies, *self.layer.shape)
            if not self.layer.neuron.spiking:
                raster = read_out(self.layer, raster, self._precision)
        return Activity(self._counts.reshape(self.layer.shape), None, raster, binary=self.layer.neuron.spiking)


def _side_by_side(program: Program) -> bool:
    return any(program.lag(layer, connection) for layer, connection in program.connections())


def _passes(program: Program, samples: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last) sample of every network that is built."""
    if not _side_by_side(program):
        yield 0, samples
        return
    weights = sum(connection.synapse.weight.size for _, connection in program.connections() if connection.synapse)
    most = max(1, COPIES_WEIGHTS // max(1, weights))
    for first in range(0, samples, most):
        yield first, min(samples, first + most)


def _describe(program: Program, timesteps: int, copies: int) -> tuple[Header, Arrays]:
    """Return ``program`` in the worker's terms (see `ashneuro.lava_worker.network`)."""
    fixed = program.precision == "integer"
    number = np.int32 if fixed else np.float64
    arrays: Arrays = {}
    sources: dict[str, Header] = {}
    connections: list[Header] = []
    for layer in program.layers:
        for connection in layer.connections:
            source = _source(program, connection)
            if source is not None:
                sources[source["name"]] = {**source, "size": source["size"] * copies}
            item = {
                "source": source["name"] if source else connection.source,
                "layer": layer.name,
                "kind": "direct",
                "delay": 0,
                "weight_exp": connection.weight_exp,
            }
            if connection.synapse is not None:
                item["delay"] = connection.delay
                item |= _weights(matrix(connection.synapse), copies, f"connection.{len(connections)}", number, arrays)
            connections.append(item)
    layers = []
    for index, layer in enumerate(program.layers):
        neuron = layer.neuron
        for name in ("du", "dv", "v_threshold", "bias"):
            value = np.asarray(getattr(neuron, name))
            if value.size > 1:
                value = np.tile(np.broadcast_to(value, layer.shape).ravel(), copies)
            arrays[f"layer.{index}.{name}"] = value.ravel().astype(number)
        layers.append(
            {
                "name": layer.name,
                "size": layer.size * copies,
                "offset": layer.depth + 1,
                "bias_exp": neuron.bias_exp if fixed else 0,
                "spiking": neuron.spiking,
            }
        )
    return {
        "precision": "fixed_pt" if fixed else "floating_pt",
        "interval": timesteps,
        "rows": ROWS,
        "sources": list(sources.values()),
        "layers": layers,
        "connections": connections,
    }, arrays


def _hold(program: Program, description: Header, copies: int) -> dict[str, NDArray[Any]]:
    """Add to ``description`` a source for each layer that spikes on its own, and return what they play: it keeps them silent
    until the first step of the sample reaches them.

    A bias, or a threshold below the start, makes neurons spike without input. Spikes sent too early arrive too early, but
    over a recurrent loop or an axonal delay they arrive when the sample has begun.
    """
    integer = program.precision == "integer"
    unit = 64 if integer else 1  # units of state in one of input
    streams: dict[str, NDArray[Any]] = {}
    for layer in program.layers:
        neuron = layer.neuron
        bias, threshold, du = (
            np.broadcast_to(value, layer.shape).ravel().astype(float) for value in (neuron.bias, neuron.v_threshold, neuron.du)
        )
        keep = 1 - (du + 1) / 4096 if integer else 1 - du
        # With u at −needed, v stays below the threshold and below the start; 1 % more than it takes, against rounding.
        needed = 1.01 * np.maximum(0, bias * 2.0**neuron.bias_exp - np.minimum(unit * threshold, 0))
        if not neuron.spiking or not layer.depth or not needed.any():
            continue
        rows, u = [], np.zeros(layer.size)
        for _ in range(layer.depth):
            u = np.trunc(u * keep) if integer else u * keep
            a = -np.maximum(0, needed + u) / unit
            a = np.floor(a) if integer else a
            u += a * unit
            rows.append(np.tile(a, copies))
        name = f"hold {layer.name}"
        streams[name] = np.array(rows, np.int32 if integer else np.float64)
        description["sources"].append({"name": name, "size": layer.size * copies})
        description["connections"].append({"source": name, "layer": layer.name, "kind": "direct", "delay": 0, "weight_exp": 0})
    return streams


def _source(program: Program, connection: Connection) -> Header | None:
    """Return the Lava source that plays an input port, later by the delay of a connection that has no synapse to delay it."""
    port = next((port for port in program.inputs if port.name == connection.source), None)
    if port is None:
        return None
    late = connection.delay if connection.synapse is None else 0
    return {
        "name": f"{port.name} +{late}" if late else port.name,
        "port": port.name,
        "late": late,
        "size": int(np.prod(port.shape)),
    }


def _weights(weights: csr_matrix, copies: int, key: str, number: type, arrays: Arrays) -> Header:
    """Put the weights of a connection into ``arrays`` and return which Lava process holds them."""
    rows, columns = weights.shape
    if copies == 1 and weights.nnz > DENSE_ABOVE * rows * columns:
        arrays[f"{key}.weight"] = weights.toarray().astype(number)
        return {"kind": "dense"}
    if copies > 1:
        weights = kron(identity(copies, dtype=weights.dtype, format="csr"), weights, format="csr")
    arrays[f"{key}.data"] = weights.data.astype(number)
    arrays[f"{key}.indices"] = weights.indices.astype(np.int32)
    arrays[f"{key}.indptr"] = weights.indptr.astype(np.int32)
    return {"kind": "sparse"}


def _stream(program: Program, source: Header, sent: dict[str, NDArray[Any]], copies: int) -> NDArray[Any]:
    """Return what a source plays, one row per machine step: samples one after another, ``copies`` of them side by side."""
    values = sent[source["port"]]
    timesteps, samples = values.shape[:2]
    sequence = values.reshape(timesteps, samples // copies, -1).swapaxes(0, 1).reshape(timesteps * (samples // copies), -1)
    return np.concatenate([np.zeros((source["late"], sequence.shape[1]), sequence.dtype), sequence])


def _rows(stream: NDArray[Any], start: int, steps: int) -> NDArray[Any]:
    """Return ``steps`` rows from ``start`` on, zeros after the end."""
    rows = stream[start : start + steps]
    return np.concatenate([rows, np.zeros((steps - len(rows), stream.shape[1]), stream.dtype)])


def _shifted(progress: Progress, first: int, samples: int) -> Progress:
    return lambda done, _: progress(first + done, samples)


def _reader(fd: int, deadline: float) -> Callable[[memoryview], int]:
    """Return a function that reads from ``fd`` into a buffer, and raises TimeoutError at the deadline."""

    def read_into(buffer: memoryview) -> int:
        with selectors.DefaultSelector() as ready:
            ready.register(fd, selectors.EVENT_READ)
            if not ready.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
        return os.readv(fd, [buffer])

    return read_into


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; False when nobody is left in it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True
