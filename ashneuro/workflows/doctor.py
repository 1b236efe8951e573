"""Doctor: the state of this installation, and the commands that mend what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ashneuro import __version__
from ashneuro.config import cache_dir
from ashneuro.cores import usable_cores
from ashneuro.errors import AshneuroError, ConfigError, install_command
from ashneuro.simulation.lava import environment

NEEDED = ("base", "train", "lava")  # packages missing from other extras are no fault
CHOSEN = ("mlflow", "wandb")  # services that some people log to: nothing to mend where they are not installed
NOT_SHOWN = ("all", "dev", "test", "docs", "notebooks", "frameworks", "counters")  # for developers of ashneuro


@dataclass(frozen=True)
class Check:
    """One line of the report: a name, its state, and the command that mends it (empty where nothing
    needs mending).
    """

    name: str
    found: str
    ok: bool = True
    mend: str = ""


def examine(lava_command: str | None = None) -> list[Check]:
    """Return the facts about this machine that a bug report needs; never raises."""
    return [
        Check("ashneuro", __version__),
        Check("python", f"{platform.python_version()} ({sys.executable})"),
        Check("system", f"{platform.platform()}; {_cpus()} CPUs; {_memory()}"),
        Check("limits", _limits()),
        *_packages(),
        _frameworks(),
        *_part("lava", lambda: _lava(lava_command)),
        *_part("sanafe", lambda: [_sanafe()]),
        _gpu(),
        *_part("kernels", _kernels),
        *_energy(),
        _profiles(),
        *_part("cache", lambda: [_caches()]),
    ]


def _part(name: str, find: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Yield checks; where they need the cache and there can be none, the reason."""
    try:
        yield from find()
    except ConfigError as error:
        yield Check(name, f"{error.what}: {error.why}", False, error.do)


def _packages() -> Iterator[Check]:
    """Yield the state of the packages that ashneuro requires, by extra."""
    try:
        required = importlib.metadata.requires("ashneuro") or []
    except importlib.metadata.PackageNotFoundError:
        yield Check("packages", "ashneuro runs from a folder and is not installed", False, install_command())
        return
    extras: dict[str, list[str]] = {}
    for line in required:
        name, marker = re.match(r"[\w.-]+", line), re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        assert name, "a requirement begins with a name"
        extras.setdefault(marker[1] if marker else "base", []).append(name[0])
    for extra, names in extras.items():
        if extra in NOT_SHOWN:
            continue
        versions = {name: _version(name) for name in names}
        found = ", ".join(f"{name} {version or '–'}" for name, version in versions.items())
        missing = not all(versions.values())
        mend = install_command("" if extra == "base" else extra) if missing and extra not in CHOSEN else ""
        yield Check(f"packages, {extra}", found, not missing or extra not in NEEDED, mend)


def _frameworks() -> Check:
    """Return the frameworks whose modules `ashneuro.from_torch` reads, and their versions here."""
    from ashneuro.frameworks.registry import installed

    found = ", ".join(f"{name} {version or '–'}" for name, version in installed().items() if name != "ashneuro")
    return Check("frameworks", f"{found} (from_torch reads their modules)")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cpus() -> str:
    usable, there = usable_cores(), os.cpu_count()
    return f"{there}" if usable == there else f"{usable} of {there}"


def _memory() -> str:
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        total, free = (int(lines[name].split()[0]) / 1e6 for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return "memory unknown"
    return f"{total:.1f} GB memory, {free:.1f} GB free"


def _limits() -> str:
    """Return the system limits that Lava reaches first (see `ashneuro.program.rules.lava`)."""
    shown = {}
    for name, kind in (("open files", resource.RLIMIT_NOFILE), ("processes", resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(kind)[1]
        shown[name] = "any number of" if hard == resource.RLIM_INFINITY else f"{hard:,}"
    folder = Path("/dev/shm")
    shared = f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free in {folder}" if folder.is_dir() else "no /dev/shm"
    return ", ".join(f"{value} {name}" for name, value in shown.items()) + f"; {shared}"


def _lava(command: str | None) -> Iterator[Check]:
    state = environment.describe()
    named = environment.PYTHON_VARIABLE
    mend = (
        f"unset {named}; {environment.SETUP}" if os.environ.get(named) else environment.SETUP
    )  # set, it hides what is set up
    yield Check("lava", state.text, state.ok, "" if state.ok else mend)
    if command:
        from ashneuro.simulation.lava.worker import Worker, worker_command

        try:
            worker = Worker(worker_command(command), timeout_s=60.0)
        except AshneuroError as error:
            yield Check("lava elsewhere", f"{error.what}: {error.why}", False, error.do)
            return
        worker.close()
        versions = ", ".join(f"{name} {version}" for name, version in worker.versions.items())
        yield Check("lava elsewhere", f"{worker.machine['host']}: {versions}; {worker.machine['cpus']} CPUs")


def _sanafe() -> Check:
    from ashneuro.simulation.sanafe.environment import find_environment

    try:
        found = find_environment()
    except AshneuroError as error:
        # Optional: a second opinion on energy, under another licence.
        return Check("sanafe", f"{error.what} (optional): {error.why}; {error.do}", False)
    return Check("sanafe", f"{found.version} ({found.interpreter}), in a process of its own")


def _gpu() -> Check:
    driver = Path("/proc/driver/nvidia/version")
    driven = f"; driver: {' '.join(driver.read_text().split()[:8])}" if driver.exists() else ""
    try:
        import torch
    except ImportError:
        return Check("gpu", f"unknown: torch is not installed{driven}", False)
    if not torch.cuda.is_available():
        built = torch.version.cuda or "no CUDA"
        return Check("gpu", f"none that torch can use (built for {built}); everything runs on the CPU{driven}")
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return Check("gpu", f"{names}; CUDA {torch.version.cuda}{driven}")


def _kernels() -> Iterator[Check]:
    """Yield the kernels that the spiking layers would use, by device."""
    try:
        import torch

        from ashneuro.spiking.kernels.dispatch import describe_kernels
    except ImportError:
        return
    yield Check("kernels, cpu", describe_kernels("cpu"), mend=_no_compiler())
    if torch.cuda.is_available():
        yield Check("kernels, cuda", describe_kernels("cuda"))


def _no_compiler() -> str:
    """Return the command that mends a missing or broken C++ compiler; empty if it works."""
    from ashneuro.spiking.kernels.cpp import NativeError, compiler, load
    from ashneuro.spiking.kernels.sparse_synapses import SOURCE

    try:
        compiler()
    except NativeError:
        return "unset CXX" if os.environ.get("CXX") else "apt-get install g++, or another C++ compiler"
    if os.environ.get("CXX") and not _caches().mend:
        try:
            load(SOURCE)
        except NativeError:
            return "unset CXX"
    return ""


def _energy() -> Iterator[Check]:
    from ashneuro.cost.measure import Nvml, Rapl, Unreadable

    counters: tuple[tuple[str, Callable[[], Nvml | Rapl]], ...] = (("gpu energy", Nvml), ("cpu energy", Rapl))
    for name, counter in counters:
        try:
            found = counter()
        except Unreadable as error:
            text = str(error)
            mend = text.partition("as root: ")[2].rstrip(")")
            yield Check(name, f"not measured here: {text}", mend=f"sudo {mend}" if mend else "")
        else:
            yield Check(name, f"{found.device}, {found.method}")


def _profiles() -> Check:
    from ashneuro.cost.profile import list_profiles

    broken = []
    for name, path in list_profiles().items():
        try:
            tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            broken.append(f"{name} cannot be read: {error}")
    names = ", ".join(list_profiles()) or "none"
    return Check(
        "profiles", "; ".join([names, *broken]), not broken, f"{install_command()} --force-reinstall" if broken else ""
    )


def _caches() -> Check:
    folder = cache_dir()
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        return Check("cache", f"{folder} cannot be a folder: {there} is a file", False, "export ASHNEURO_HOME=FOLDER")
    if not folder.exists():
        writable = os.access(there, os.W_OK)
        found = "nothing in it yet" if writable else f"which cannot be made: {there} is not writable"
        return Check("cache", f"{folder}, {found}", writable, "" if writable else "export ASHNEURO_HOME=FOLDER")
    sizes = {entry.name: _size(entry) for entry in sorted(folder.iterdir()) if entry.is_dir()}
    held = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sizes.items())
    writable = os.access(folder, os.W_OK)
    mend = "" if writable else f"chmod u+w {folder}, or set ASHNEURO_HOME"
    return Check("cache", f"{folder}: {held or 'empty'}{'' if writable else '; not writable'}", writable, mend)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
