"""Energy and time of a computation on this machine, from counters of the GPU (NVML) or CPU (RAPL).

A measurement takes windows of at least 10 s and subtracts the power of the idle machine, read
before with everything loaded. Where no counter can be read, the result is `NotMeasured` with the
reason: there is no substitute. Start at `measure`.
"""

from __future__ import annotations

import datetime
import importlib
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from ashneuro.cost.profile import CLOSED
from ashneuro.errors import ConfigError, DataError, install_command
from ashneuro.files import parse_json, read_text, reason_of, write_text
from ashneuro.schemas import Format, remedy_of

SHORTEST_S = 10.0
POWERCAP = Path("/sys/class/powercap")
BATCHES = (1, 4, 16, 64, 256, 1024)


@dataclass(frozen=True)
class Measurement:
    """Joules and seconds read from an instrument; never added to an estimate.

    Args:
        device: the measured device.
        boundary: hardware inside the measurement.
        method: counter, number and length of windows, idle subtracted or not.
        energy_j, seconds: per inference; medians over the windows.
        low_j, high_j: least and largest energy over the windows.
        batch, precision: batch size and arithmetic.
        idle_w: idle power that was subtracted, in watts; ``None`` if none was.
        network: name of the network that ran.
        total_j: joules per inference with the idle power; ``None`` where it was not kept.
        taken: date, ``YYYY-MM-DD``.
    """

    device: str
    boundary: str
    method: str
    energy_j: float
    seconds: float
    low_j: float
    high_j: float
    batch: int
    precision: str
    idle_w: float | None = None
    network: str = ""
    total_j: float | None = None
    taken: str = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED

    @property
    def basis(self) -> str:
        """Basis of the numbers, as it is printed beside them."""
        return f"measured ({self.device}; {self.method})"


@dataclass(frozen=True)
class NotMeasured:
    """A measurement that could not be made, and the reason; never a number."""

    network: str
    device: str
    reason: str

    __pydantic_config__: ClassVar[dict[str, Any]] = CLOSED

    @property
    def sentence(self) -> str:
        """Network, device and reason, as a sentence."""
        return f"{self.network} on {self.device}: not measured, because {self.reason}"


class Counter(Protocol):
    """A monotonic energy counter."""

    device: str
    boundary: str
    method: str

    def joules(self) -> float:
        """Return the joules since an arbitrary start."""
        ...


class Unreadable(Exception):
    """A counter does not exist or cannot be read; the message says why."""


@dataclass(eq=False)
class Nvml:
    """Energy counter of an NVIDIA GPU, millijoules since the driver was loaded.

    Args:
        index: index of the GPU by NVML's count: all GPUs of the machine, in bus order.
        uuid: UUID of the GPU, used instead of the index: CUDA counts in another order, and only
            visible GPUs.

    Source: nvmlDeviceGetTotalEnergyConsumption, Volta and later.
    """

    index: int = 0
    uuid: str = ""
    boundary: str = "the GPU's board"
    method: str = "NVML, total energy counter"

    def __post_init__(self) -> None:
        try:
            self._nvml: Any = importlib.import_module("pynvml")
        except ImportError as error:
            raise Unreadable(f"the package nvidia-ml-py is not installed ({install_command('measure')})") from error
        try:
            self._nvml.nvmlInit()
            if self.uuid:
                self._handle = self._nvml.nvmlDeviceGetHandleByUUID(f"GPU-{self.uuid}")
            else:
                self._handle = self._nvml.nvmlDeviceGetHandleByIndex(self.index)
            name = self._nvml.nvmlDeviceGetName(self._handle)
            self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except Exception as error:  # NVML creates its error classes at run time
            raise Unreadable(f"NVML says: {error}") from error
        self.device = name.decode() if isinstance(name, bytes) else str(name)

    def joules(self) -> float:
        """Return the joules since the driver was loaded."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3


@dataclass(eq=False)
class Rapl:
    """Energy counters of a processor's packages, from Linux; overflows are accounted for.

    Source: Documentation/power/powercap/powercap.rst of the Linux kernel.
    """

    root: Path = POWERCAP
    boundary: str = "the processor's packages, without memory"
    method: str = "RAPL, powercap"
    device: str = ""

    def __post_init__(self) -> None:
        zones = sorted(zone for zone in self.root.glob("*-rapl:*") if zone.name.count(":") == 1)
        # Sub-zones (two colons) and psys overlap with packages, and would be counted twice.
        packages = [zone for zone in zones if self._text(zone / "name").startswith("package")]
        if not packages:
            raise Unreadable(
                f"{self.root} has no package counter (not Linux, a virtual machine, or a processor without RAPL)"
            )
        self._files = [zone / "energy_uj" for zone in packages]
        self._spans = [int(self._text(zone / "max_energy_range_uj") or 2**32) for zone in packages]
        try:
            self._last = [int(file.read_text()) for file in self._files]
        except (OSError, ValueError) as error:
            raise Unreadable(
                f"{self._files[0]} cannot be read ({error}); as root: chmod a+r {self.root}/*/energy_uj"
            ) from error
        self._sum = 0
        self.device = self.device or f"{len(packages)} processor package(s)"

    def joules(self) -> float:
        """Return the joules since this object was created."""
        now = [int(file.read_text()) for file in self._files]
        for index, (new, old, span) in enumerate(zip(now, self._last, self._spans, strict=True)):
            # A counter may wrap, but not twice within a window.
            self._sum += new - old if new >= old else new - old + span
            self._last[index] = new
        return self._sum / 1e6

    @staticmethod
    def _text(path: Path) -> str:
        try:
            return path.read_text().strip()
        except OSError:
            return ""


def parse_device(device: str) -> tuple[str, int]:
    """Return kind and index of ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        ConfigError: the device is none of these.
    """
    found = re.fullmatch(r"cpu|(cuda)(?::(\d+))?", device)
    if found is None:
        raise ConfigError(
            f"--device {device}", "it is neither cpu nor cuda nor cuda:NUMBER", "--device cpu, or --device cuda:0"
        )
    return found[1] or "cpu", int(found[2] or 0)


def counter_for(device: str, uuid: str = "") -> Counter:
    """Return the counter of ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.

    Args:
        device: the device, as torch names it.
        uuid: UUID of the GPU; it decides where given.

    Raises:
        Unreadable: the counter does not exist or cannot be read.
        ConfigError: the device is none of these.
    """
    kind, index = parse_device(device)
    return Nvml(index, uuid) if kind == "cuda" else Rapl()


def measure(
    run: Callable[[], object],
    counter: Counter,
    *,
    network: str,
    batch: int,
    precision: str,
    window_s: float = SHORTEST_S,
    windows: int = 3,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Measurement:
    """Return energy and time of one inference.

    ``E = (J_window − P_idle · t_window) / (runs · batch)`` per window; the result holds the median
    over windows, with the least and the largest as bounds. ``run`` is called once to warm up.

    Args:
        run: computes ``batch`` inferences and returns when they are done (GPU synchronised).
        counter: the energy counter.
        network, precision: labels of the result.
        batch: inferences per call of ``run``.
        window_s: seconds of a window, and of the idle window; at least 10.
        windows: number of windows; at least 3.
        clock, sleep: replaced in tests.

    Raises:
        ConfigError: the windows are too short or too few.
    """
    if window_s < SHORTEST_S or windows < 3:
        raise ConfigError(
            f"{windows} window(s) of {window_s:g} s", "energy counters need 3 windows of 10 s or more", "measure longer"
        )
    # The first run allocates and compiles; the model is loaded while idle power is read.
    run()
    before, start = counter.joules(), clock()
    sleep(window_s)
    idle_w = (counter.joules() - before) / (clock() - start)
    found = []
    for _ in range(windows):
        before, start, runs = counter.joules(), clock(), 0
        while clock() - start < window_s:
            run()
            runs += 1
        lasted, spent = clock() - start, counter.joules() - before
        found.append(((spent - idle_w * lasted) / (runs * batch), lasted / (runs * batch), spent / (runs * batch)))
    # The median of three windows ignores one that another process disturbed.
    energies, times, wholes = (sorted(values) for values in zip(*found, strict=True))
    middle = windows // 2
    method = f"{counter.method}; {windows} windows of {window_s:g} s, idle subtracted"
    return Measurement(
        device=counter.device,
        boundary=counter.boundary,
        method=method,
        energy_j=energies[middle],
        seconds=times[middle],
        low_j=energies[0],
        high_j=energies[-1],
        batch=batch,
        precision=precision,
        idle_w=idle_w,
        network=network,
        total_j=wholes[middle],
        taken=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    )


def best_batch(
    make: Callable[[int], Callable[[], object]],
    batches: Iterable[int] = BATCHES,
    *,
    probe_s: float = 0.5,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Return the batch size with the most inferences per second, by short probes.

    The first size that does not fit in memory ends the search.

    Args:
        make: returns a function that computes one batch of the given size.
        batches: sizes to try, in ascending order.
        probe_s: seconds per size.
        clock: replaced in tests.
    """
    rates: dict[int, float] = {}
    for batch in batches:
        try:
            run = make(batch)
            run()
            start, runs = clock(), 0
            while clock() - start < probe_s:
                run()
                runs += 1
        except (MemoryError, RuntimeError):  # torch.OutOfMemoryError is a RuntimeError
            if not rates:
                raise
            break
        rates[batch] = runs * batch / (clock() - start)
    return max(rates, key=lambda size: rates[size])


@dataclass(frozen=True)
class MeasurementsFile:
    """Measurements in a file, with what could not be measured."""

    measured: tuple[Measurement, ...]
    not_measured: tuple[NotMeasured, ...]


MEASUREMENTS = Format("ashneuro.measurement", MeasurementsFile)


def save_measurements(items: Sequence[Measurement | NotMeasured], path: Path) -> Path:
    """Write measurements to a JSON file that any machine can report, and return its path."""
    content = {
        "schema": MEASUREMENTS.schema,
        "measured": [asdict(item) for item in items if isinstance(item, Measurement)],
        "not_measured": [asdict(item) for item in items if isinstance(item, NotMeasured)],
    }
    try:
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise DataError(
            f"cannot write {path}", error.strerror or str(error), "name a file in a folder that exists"
        ) from error
    return path


def load_measurements(path: Path) -> tuple[Measurement | NotMeasured, ...]:
    """Return the measurements in a file of `save_measurements`.

    Raises:
        DataError: the file is missing, damaged, or of another schema.
    """
    try:
        # The model names the entry that is not finite.
        content: MeasurementsFile = MEASUREMENTS.parse(parse_json(read_text(path), finite=False))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read measurements from {path}",
            reason_of(error),
            remedy_of(error, "ashneuro report RUN --measure, on the machine with the GPU"),
        ) from error
    return (*content.measured, *content.not_measured)
