"""Which way neurons are computed: asked for by a layer or by ``$ASHNEURO_KERNELS``, or the fastest that works."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ashneuro.errors import ConfigError
from ashneuro.spiking.kernels import backend_native
from ashneuro.spiking.kernels.cpp import NativeError

Kernels = Literal["auto", "triton", "native", "torch", "norse"]
VARIABLE = "ASHNEURO_KERNELS"


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _asked() -> str:
    return os.environ.get(VARIABLE, "auto")


def choose(kernels: Kernels, device: torch.device) -> str:
    """Return the way that ``kernels`` means on ``device``.

    Raises:
        ConfigError: it is unknown, or cannot be had there.
    """
    asked: str = kernels if kernels != "auto" else _asked()
    if asked == "torch" or asked == "norse":
        return asked
    chosen: str = _chosen(asked, device.type)
    return chosen


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _chosen(asked: str, device: str) -> str:
    if asked not in get_args(Kernels):
        raise ConfigError(
            f"{VARIABLE}={asked}" if asked == _asked() else f"kernels = {asked!r}",
            f"it must be one of {', '.join(get_args(Kernels))}",
            f"{VARIABLE}=auto",
        )
    reasons = {"triton": _no_triton(device), "native": _no_native(device)}
    if asked == "auto":
        return next((way for way, reason in reasons.items() if not reason), "torch")
    if reasons[asked]:
        auto = f"{VARIABLE}=auto" if asked == _asked() else "kernels = 'auto'"
        raise ConfigError(f"{asked} kernels", reasons[asked], f"{auto} takes the fastest that work here")
    return asked


def stands_in(tensor: Tensor | None = None) -> bool:
    """Whether a tensor may stand for others here, or for none: under `torch.compile`, `torch.func`, a `FakeTensorMode` or a counting mode.

    It has then no memory that kernels could read, and nothing that is made of it is to be kept.
    """
    active = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or is_in_torch_dispatch_mode()
    return active or isinstance(tensor, FakeTensor)


def refuse_tangents(*tensors: Tensor | None) -> None:
    """Raise where forward-mode derivatives arrive: nothing of them would come out of a kernel.

    Raises:
        ConfigError: a tensor has a tangent.
    """
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return
    known: Callable[[Tensor], Any] = forward_ad.unpack_dual
    if any(tensor is not None and known(tensor).tangent is not None for tensor in tensors):
        raise ConfigError(
            "a forward-mode derivative (jvp) of spiking layers",
            "their gradients are computed backwards only",
            "torch.autograd.grad",
        )


def once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Let ``backward``, of an autograd function, give numbers and no graph; where a graph is asked for it raises.

    With `torch.autograd.function.once_differentiable` what a second derivative loses here is lost without a word, unless the gradient
    that arrives has a graph itself.

    Raises:
        ConfigError: ``create_graph`` is set.
    """

    @wraps(backward)
    def checked(ctx: Any, *gradients: Tensor | None) -> Any:
        if torch.is_grad_enabled():
            raise ConfigError(
                "a second derivative (create_graph=True) of spiking layers",
                "their kernels compute the first one, and no graph of it",
                f"kernels = 'norse', or {VARIABLE}=norse: slow, and under autograd",
            )
        return backward(ctx, *gradients)

    return checked


def find_device(name: str | torch.device) -> torch.device:
    """Return the device called ``name``, on which torch can compute.

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
    if device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"they run on CUDA, not on {device}"
    return "" if find_spec("triton") else "triton is not installed"


def _no_native(device: str) -> str:
    if device != "cpu":
        return f"they run on the CPU, not on {device}"
    try:
        backend_native.library("lif", torch.float32, torch.float32)
    except NativeError as error:
        return str(error)
    return ""


def describe_kernels(device: torch.device | str = "cpu", kernels: Kernels = "auto") -> str:
    """Return in one line which kernels spiking layers that ask for ``kernels`` use on ``device``, and why not faster ones."""
    device = torch.device(device)
    try:
        way = choose(kernels, device)
    except ConfigError as error:
        return str(error).replace("\n", "; ")
    by_variable = f", because {VARIABLE}={_asked()}" if _asked() != "auto" else ""
    forced = by_variable if kernels == "auto" else ", as asked for"
    if way == "native":
        return f"native, compiled for this CPU{forced}"
    if way == "torch" and not forced:
        return f"torch ({_no_native(device.type) or _no_triton(device.type)})"
    return way + forced


@cache
def backend(name: str) -> ModuleType:
    """Return the module with ``forward`` and ``backward`` of the back end ``name``: triton, native or torch."""
    return import_module(f"ashneuro.spiking.kernels.backend_{name}")
