"""Back end of a layer: its ``kernels``, else ``$ASHNEURO_KERNELS``, else the fastest that works."""

from __future__ import annotations

import os
import textwrap
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import cast, get_args

import torch

from ashneuro.errors import ConfigError
from ashneuro.spiking.kernels import backend_native
from ashneuro.spiking.kernels.cpp import NativeError
from ashneuro.spiking.kernels.interface import Backend, Kernels

VARIABLE = "ASHNEURO_KERNELS"


# Read while torch.compile traces, and then a constant of the compiled graph.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _variable() -> str:
    return os.environ.get(VARIABLE, "auto")


def choose_backend(kernels: Kernels, device: torch.device) -> str:
    """Return the back end of ``kernels`` on ``device``: triton, native, torch or norse.

    Raises:
        ConfigError: it is unknown, or does not work there.
    """
    wanted: str = kernels if kernels != "auto" else _variable()
    if wanted == "torch" or wanted == "norse":
        return wanted
    chosen: str = _available(wanted, device.type)
    return chosen


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _available(wanted: str, device: str) -> str:
    if wanted not in get_args(Kernels):
        raise ConfigError(
            f"{VARIABLE}={wanted}" if wanted == _variable() else f"kernels = {wanted!r}",
            f"it must be one of {', '.join(get_args(Kernels))}",
            f"{VARIABLE}=auto",
        )
    reasons = {"triton": _no_triton(device), "native": _no_native(device)}
    if wanted == "auto":
        return next((name for name, reason in reasons.items() if not reason), "torch")
    if reasons[wanted]:
        auto = f"{VARIABLE}=auto" if wanted == _variable() else "kernels = 'auto'"
        raise ConfigError(f"{wanted} kernels", reasons[wanted], f"{auto} takes the fastest that work here")
    return wanted


@cache
def load_backend(name: str) -> Backend:
    """Return the module of the back end ``name``: triton, native or torch."""
    return cast(Backend, import_module(f"ashneuro.spiking.kernels.backend_{name}"))


def find_device(name: str | torch.device) -> torch.device:
    """Return the device called ``name`` after a test allocation on it.

    Raises:
        ConfigError: there is no such device here.
    """
    remedy = "--device cpu, or --device cuda"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {str(name)!r}", "torch knows no such device", remedy) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name}", "torch finds no CUDA device here", "--device cpu")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"device {name}", f"torch says: {textwrap.shorten(str(error), 120, placeholder=' …')}", remedy
        ) from error
    return device


def _no_triton(device: str) -> str:
    """Return the reason why Triton kernels cannot run on ``device``; ``""`` if they can."""
    if device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"they run on CUDA, not on {device}"
    return "" if find_spec("triton") else "triton is not installed"


def _no_native(device: str) -> str:
    """Return the reason why native kernels cannot run on ``device``; ``""`` if they can."""
    if device != "cpu":
        return f"they run on the CPU, not on {device}"
    try:
        backend_native.library("lif", torch.float32, torch.float32)
    except NativeError as error:
        return str(error)
    return ""


def describe_kernels(device: torch.device | str = "cpu", kernels: Kernels = "auto") -> str:
    """Return one line: the back end of ``kernels`` on ``device``, and why not a faster one."""
    device = torch.device(device)
    try:
        backend = choose_backend(kernels, device)
    except ConfigError as error:
        return str(error).replace("\n", "; ")
    by_variable = f", because {VARIABLE}={_variable()}" if _variable() != "auto" else ""
    forced = by_variable if kernels == "auto" else ", as asked for"
    if backend == "native":
        return f"native, compiled for this CPU{forced}"
    if backend == "torch" and not forced:
        return f"torch ({_no_native(device.type) or _no_triton(device.type)})"
    return backend + forced
