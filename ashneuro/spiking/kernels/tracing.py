"""Guards for modes of torch in which a tensor has no memory, or a kernel has no derivative."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ashneuro.errors import ConfigError
from ashneuro.spiking.kernels.dispatch import VARIABLE


def is_traced(tensor: Tensor | None = None) -> bool:
    """Return True if tensors may have no memory here, or ``tensor`` has none.

    This is so under `torch.compile`, `torch.func`, a `FakeTensorMode`, and a mode that counts
    operations. Kernels then have nothing to read, and nothing made from a tensor may be cached.
    """
    active = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or is_in_torch_dispatch_mode()
    return active or isinstance(tensor, FakeTensor)


def refuse_forward_mode(*tensors: Tensor | None) -> None:
    """Raise if a tensor carries a forward-mode tangent, which kernels would drop silently.

    Raises:
        ConfigError: a tensor has a tangent.
    """
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:
        return
    unpack: Callable[[Tensor], Any] = forward_ad.unpack_dual
    if any(tensor is not None and unpack(tensor).tangent is not None for tensor in tensors):
        raise ConfigError(
            "a forward-mode derivative (jvp) of spiking layers",
            "their gradients are computed backwards only",
            "torch.autograd.grad",
        )


def first_derivative_only(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Make the ``backward`` of an autograd function raise where a second derivative is asked for.

    `torch.autograd.function.once_differentiable` would drop it silently, unless the incoming
    gradient has a graph itself.

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
