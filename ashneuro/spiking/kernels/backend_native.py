"""The neuron compiled for the CPU (``neurons.cpp``), on torch's memory and torch's number of threads."""

from __future__ import annotations

import ctypes
from collections.abc import Collection
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ashneuro.spiking.kernels.cpp import in_slices, load
from ashneuro.spiking.kernels.interface import Backward, Block, Forward, Kind
from ashneuro.spiking.kernels.surrogate import SURROGATES

SOURCE = Path(__file__).with_name("neurons.cpp")
KINDS: dict[Kind, str] = {"lif": "LIF", "cuba-lif": "CUBA_LIF", "if": "IF", "li": "LI"}
TYPES = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "Brain16"}
# Less work than this is done before a second thread has woken up.
NEURON_STEPS_PER_THREAD = 1 << 16

_PARAMETERS = ("decay", "synapse_decay", "threshold", "leak", "reset")
_POINTERS = (
    *("input", "output", "saved", "v_first", "i_first", "v_last", "i_last", *_PARAMETERS),
    *(
        "g_output",
        "g_v_last",
        "g_i_last",
        "g_input",
        "g_v_first",
        "g_i_first",
        "g_decay",
        "g_threshold",
        "g_leak",
        "g_reset",
    ),
)


class _Job(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "rows", "width", "input_step", "held")),
        *((name, ctypes.c_int32) for name in ("surrogate", "detached", "per_neuron")),
        ("slope", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in _POINTERS),
        ("g_each", ctypes.c_double),
        ("ones", ctypes.c_int64),
    ]
    # A thread may still be at work where Ctrl-C has taken its caller away: whoever holds the job holds what it points to.
    memory: object = None


@cache
def library(kind: Kind, dtype: torch.dtype, saved: torch.dtype) -> ctypes.CDLL:
    """Return the kernels of neurons of ``kind`` for inputs of ``dtype``; what the backward pass needs has the type ``saved``.

    Raises:
        NativeError: they cannot be compiled here.
    """
    computed = "double" if dtype == torch.float64 else "float"
    loaded = load(SOURCE, KIND=KINDS[kind], INPUT=TYPES[dtype], COMPUTED=computed, SAVED=TYPES[saved])
    for function in (loaded.forward, loaded.backward):
        function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64], None
    loaded.tiles.argtypes, loaded.tiles.restype = [ctypes.c_void_p, ctypes.c_bool], ctypes.c_int64
    return loaded


def forward(
    x: Tensor, v: Tensor | None, i: Tensor | None, block: Block, save: torch.dtype | None, last: bool = True
) -> Forward:
    """Return the `backend_torch.forward` of a block, without the last state unless ``last``.

    x may have any stride between times.

    Margins are kept only if they are to be rounded: otherwise the backward pass computes them again from x.
    """
    spiking, shape, computed = block.kind != "li", x.shape[1:], block.leak.dtype
    output = x.new_empty(x.shape)
    saved = x.new_empty(x.shape, dtype=save) if save and spiking and save != computed else None
    v_last = x.new_empty(shape, dtype=computed) if last else None
    i_last = x.new_empty(shape, dtype=computed) if last and block.kind == "cuba-lif" else None
    job = _run(
        "forward", block, x.shape, x.dtype, save or computed, input_step=x.stride(0),
        input=x, output=output, saved=saved, v_first=v, i_first=i, v_last=v_last, i_last=i_last,
    )  # fmt: skip
    return Forward(output, v_last, i_last, saved if spiking or not save else output, job.ones)


def backward(
    x_like: tuple[int, int, int],
    g: Tensor | None,
    g_v: Tensor | None,
    g_i: Tensor | None,
    saved: Tensor | None,
    v_first: Tensor | None,
    block: Block,
    dtype: torch.dtype,
    learned: Collection[str],
    held: bool = False,
    x: Tensor | None = None,
    i_first: Tensor | None = None,
    g_each: float = 0.0,
    first: bool = True,
) -> Backward:
    """Return the `backend_torch.backward` of a block; without ``saved``, x and the first state are those of the forward pass.

    Args:
        g_each: arrives at every spike, beside g.
        first: whether gradients at the first state are wanted.
    """
    computed, shape = block.leak.dtype, x_like[1:]
    g_input = torch.empty((1, *shape) if held else x_like, dtype=dtype)
    first_v = torch.empty(shape, dtype=computed) if first else None
    first_i = torch.empty(shape, dtype=computed) if first and block.kind == "cuba-lif" else None
    sums = {name: torch.empty(shape, dtype=computed) for name in learned}
    # What `library` calls SAVED is, for a leaky integrator, its output.
    kept = computed if saved is None or block.kind == "li" else saved.dtype
    if saved is not None and block.kind == "li":
        saved = saved.to(computed)
    _run(
        "backward", block, x_like, dtype, kept, input_step=0 if x is None else x.stride(0), held=held, g_each=g_each, input=x, saved=saved,
        v_first=v_first, i_first=i_first, g_output=g, g_v_last=g_v, g_i_last=g_i,
        g_input=g_input, g_v_first=first_v, g_i_first=first_i, **{f"g_{name}": values for name, values in sums.items()},
    )  # fmt: skip
    return Backward(g_input, first_v, first_i, sums)


def _run(
    name: str,
    block: Block,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    kept: torch.dtype,
    input_step: int,
    held: bool = False,
    g_each: float = 0.0,
    **memory: Tensor | None,
) -> _Job:
    steps, rows, width = shape
    loaded = library(block.kind, dtype, kept)
    job = _Job(
        steps, rows, width, input_step, held, SURROGATES[block.surrogate].code, block.detached, block.per_neuron, block.slope,
        g_each=g_each,
        **{key: values.data_ptr() for key, values in memory.items() if values is not None},
        **{key: values.data_ptr() for key, values in zip(_PARAMETERS, block.parameters, strict=True)},
    )  # fmt: skip
    job.memory = memory, block
    tiles = loaded.tiles(ctypes.byref(job), name == "backward")
    threads = min(torch.get_num_threads(), 1 + steps * rows * width // NEURON_STEPS_PER_THREAD)
    function = getattr(loaded, name)
    in_slices(lambda begin, end: function(ctypes.byref(job), begin, end), tiles, threads)
    return job
