"""Memory of training: keeping freed blocks, counting what is kept, and checkpointing over time."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Options of mallopt, from glibc's malloc.h.
TRIM_THRESHOLD, MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Make this process keep the memory that it frees; return True if that worked (glibc only).

    By default the C library returns large blocks to the system, which clears them page by page
    when the next training step allocates them again. For arrays of tens of MB that takes as long
    as the neurons themselves.
    """
    if not sys.platform.startswith("linux"):
        return False
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    return adjust is not None and bool(adjust(MMAP_MAX, 0)) and bool(adjust(TRIM_THRESHOLD, -1))


def kept_bytes(run: Callable[[], object], *, apart: Iterable[Tensor] = ()) -> int:
    """Return the bytes that ``run`` saves for its backward pass, each storage once.

    Args:
        apart: tensors whose storages do not count, as parameters, which are there anyway. What is
            saved may be another tensor in the same storage: transposed, or detached.
    """
    kept: dict[int, int] = {}
    left_out = {tensor.untyped_storage().data_ptr() for tensor in apart}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in left_out:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(kept.values())


def checkpointed_steps(
    steps: Callable[[Tensor, Any], tuple[Tensor, Any]], inputs: Tensor, state: Any, length: int
) -> tuple[Tensor, Any]:
    """Return outputs (T, B, ...) and last state of ``steps`` over inputs (T, B, ...), checkpointed.

    The activations of each chunk of ``length`` timesteps are dropped and computed again in the
    backward pass: memory for one chunk and for a state per chunk, at the price of a second forward
    pass. Outputs and gradients are those of one call. Keep batch norms in training mode outside:
    they would see chunks instead of samples, and each chunk twice.

    Args:
        steps: function of the inputs of some timesteps and the state before them, to outputs and
            the state after them. The state is that of `ashneuro.spiking.lif` layers, or any nest of
            tuples and dicts of tensors.
    """
    outputs = []
    for chunk in torch.split(inputs, length):
        output, state = checkpoint(steps, chunk, state, use_reentrant=False)
        outputs.append(output)
    return torch.cat(outputs), state
