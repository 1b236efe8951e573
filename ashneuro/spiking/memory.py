"""Memory of long trainings: freed blocks that stay with the process, and samples that are computed again in pieces."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Of glibc's malloc.h.
TRIM_THRESHOLD, MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees; whether that could be arranged.

    The C library gives large blocks back to the system, which clears them page by page when the next step of training
    asks for them again: with arrays of tens of MB that takes as long as the neurons themselves. A process that trains
    wants them back at once. Only glibc knows how (Linux).
    """
    if not sys.platform.startswith("linux"):
        return False
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    return adjust is not None and bool(adjust(MMAP_MAX, 0)) and bool(adjust(TRIM_THRESHOLD, -1))


def in_pieces(
    steps: Callable[[Tensor, Any], tuple[Tensor, Any]], inputs: Tensor, state: Any, length: int
) -> tuple[Tensor, Any]:
    """Return outputs (T, B, ...) and last state of ``steps`` over ``inputs`` (T, B, ...), so many steps at a time.

    What a piece keeps for its backward pass is dropped and computed again when the pass arrives there: memory for one piece
    and for a state per piece, at the price of a second forward pass. Outputs and gradients are those of one call. Batch norms
    in training mode would see pieces instead of whole samples, and see them twice: put none inside.

    Args:
        steps: takes inputs of some steps and the state before them; gives outputs and the state after them. Its state is
            what `ashneuro.spiking.lif` layers take and give, or any nest of tuples and dicts of tensors.
    """
    outputs = []
    for piece in torch.split(inputs, length):
        output, state = checkpoint(steps, piece, state, use_reentrant=False)
        outputs.append(output)
    return torch.cat(outputs), state
