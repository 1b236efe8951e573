"""``ashneuro doctor``: what is installed here, and the command that mends what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ashneuro import __version__
from ashneuro.config import cache_dir
from ashneuro.report import terminal
from ashneuro.simulate import lava_env

EXTRAS = {
    "": ("numpy", "scipy", "nir", "h5py", "pydantic", "matplotlib"),
    "train": ("torch", "norse", "torchvision", "safetensors", "pillow"),
    "lava": ("uv",),
    "data": ("resvg-py",),
}


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report: what, how it is, and the command that mends it (empty when nothing needs it)."""

    name: str
    found: str
    ok: bool
    mend: str = ""


def doctor(
    *,
    setup: Annotated[Literal["lava"] | None, Parameter(help="Make the Python 3.10 environment that Lava needs.")] = None,
    json: Annotated[bool, Parameter(help="Print JSON instead of a table.", negative=())] = False,
) -> int:
    """What is installed here, and what mends what is missing? The block can be pasted into a bug report."""
    if setup == "lava":
        with terminal.status("making the Lava environment (Python 3.10)") as say:
            environment = lava_env.set_up(say)
        terminal.line(f"Lava environment ready: {environment}")
        return 0
    checks = examine()
    if json:
        terminal.json([asdict(check) for check in checks])
    else:
        terminal.table(
            f"ashneuro {__version__}",
            ("what", "found", "to mend"),
            [(check.name, check.found, check.mend) for check in checks],
        )
    return 0


def examine() -> list[Check]:
    """Return everything that an answer to "why does it not run here?" starts from."""
    return [
        Check("ashneuro", __version__, True),
        Check("python", f"{platform.python_version()} ({sys.executable})", True),
        Check("system", f"{platform.platform()}, {os.cpu_count()} CPUs", True),
        *(_package(name, extra) for extra, names in EXTRAS.items() for name in names),
        _gpu(),
        _nvml(),
        _rapl(),
        _lava(),
        _profiles(),
        Check("cache", f"{cache_dir()}", True),
    ]


def _package(name: str, extra: str) -> Check:
    try:
        return Check(name, importlib.metadata.version(name), True)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "not installed", False, f"pip install 'ashneuro[{extra}]'" if extra else "pip install ashneuro")


def _gpu() -> Check:
    try:
        import torch
    except ImportError:
        return Check("gpu", "unknown: torch is not installed", False, "pip install 'ashneuro[train]'")
    if not torch.cuda.is_available():
        return Check("gpu", "none that torch can use; everything runs on the CPU", True)
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return Check("gpu", f"{names} (CUDA {torch.version.cuda})", True)


def _nvml() -> Check:
    present = Path("/proc/driver/nvidia/version").exists()
    return Check("nvml", "driver present" if present else "no NVIDIA driver: GPU energy cannot be measured here", True)


def _rapl() -> Check:
    counters = sorted(Path("/sys/class/powercap").glob("intel-rapl:*/energy_uj"))
    if not counters:
        return Check("rapl", "no counter: CPU energy cannot be measured here", True)
    if not all(os.access(counter, os.R_OK) for counter in counters):
        return Check(
            "rapl", f"{len(counters)} counters, not readable by this user", False, f"sudo chmod a+r {counters[0].parent}/energy_uj"
        )
    return Check("rapl", f"{len(counters)} counters readable", True)


def _lava() -> Check:
    state = lava_env.describe()
    return Check("lava", state.text, state.ok, "" if state.ok else "ashneuro doctor --setup lava")


def _profiles() -> Check:
    from ashneuro.cost.profile import list_profiles

    names = list_profiles()
    return Check("profiles", ", ".join(names), bool(names))
