"""Neurons compiled for the CPU (``neurons.cpp``), with torch's memory and number of threads."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ashneuro.spiking.firing import Reset
from ashneuro.spiking.kernels.cpp import in_slices, load
from ashneuro.spiking.kernels.interface import (
    SECOND,
    BackwardInputs,
    BackwardResult,
    Block,
    ForwardInputs,
    ForwardResult,
    Kind,
)
from ashneuro.spiking.kernels.surrogate import SURROGATES

SOURCE = Path(__file__).with_name("neurons.cpp")
KINDS: dict[Kind, str] = {
    "lif": "LIF",
    "cuba-lif": "CUBA_LIF",
    "if": "IF",
    "li": "LI",
    "graded": "GRADED",
    "sigma-delta": "SIGMA_DELTA",
    "delta": "DELTA",
}
RESETS: dict[Reset, str] = {"value": "VALUE", "subtract": "SUBTRACT"}
TYPES = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "BFloat16"}
# Less work than this is done before a second thread has woken up.
NEURON_STEPS_PER_THREAD = 1 << 16

_PARAMETERS = ("decay", "synapse_decay", "threshold", "leak", "reset")
_POINTERS = (
    *("input", "output", "saved", "v_first", "i_first", "v_last", "i_last", *_PARAMETERS),
    *("g_output", "g_v_last", "g_i_last", "g_input", "g_v_first", "g_i_first"),
    *("g_decay", "g_threshold", "g_leak", "g_reset", "weights", "weighted"),
)


class _Job(ctypes.Structure):
    """``Job`` of neurons.cpp, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "rows", "width", "input_step", "held")),
        *((name, ctypes.c_int32) for name in ("surrogate", "detached", "per_neuron")),
        *((name, ctypes.c_double) for name in ("slope", "limit")),
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_double) for name in ("g_each", "g_weighted")),
        ("ones", ctypes.c_int64),
    ]
    # After Ctrl-C a thread may still be running without its caller, so the job itself keeps the
    # memory alive that it points to.
    memory: object = None
    sums: Tensor  # weighted spikes by tile


@cache
def library(kind: Kind, dtype: torch.dtype, saved: torch.dtype, reset: Reset = "value") -> ctypes.CDLL:
    """Return the compiled kernels for inputs of type ``dtype`` and margins of type ``saved``.

    Raises:
        NativeError: they cannot be compiled here.
    """
    computed = "double" if dtype == torch.float64 else "float"
    loaded = load(
        SOURCE, KIND=KINDS[kind], RESET=RESETS[reset], INPUT=TYPES[dtype], COMPUTED=computed, SAVED=TYPES[saved]
    )
    for function in (loaded.forward, loaded.backward):
        function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64], None
    loaded.tiles.argtypes, loaded.tiles.restype = [ctypes.c_void_p, ctypes.c_bool], ctypes.c_int64
    return loaded


def forward(inputs: ForwardInputs, block: Block) -> ForwardResult:
    """Return outputs, last state if wanted, margins, and the number of spikes.

    Margins are kept only in a narrower type: otherwise the backward pass recomputes them from x.
    """
    x, v, i, save, last, weights = inputs
    spiking, shape, computed = block.kind != "li", x.shape[1:], block.leak.dtype
    output = x.new_empty(x.shape)
    keeps = save and save != computed and block.kind not in ("li", "delta")
    saved = x.new_empty(x.shape, dtype=save) if keeps else None
    v_last = x.new_empty(shape, dtype=computed) if last else None
    i_last = x.new_empty(shape, dtype=computed) if last and block.kind in SECOND else None
    job = _run(
        "forward", block, x.shape, x.dtype, save or computed, input_step=x.stride(0),
        input=x, output=output, saved=saved, v_first=v, i_first=i, v_last=v_last, i_last=i_last,
        weights=weights,
    )  # fmt: skip
    weighted = None if weights is None else float(job.sums.sum())
    return ForwardResult(output, v_last, i_last, saved if spiking or not save else output, job.ones, weighted)


def backward(inputs: BackwardInputs, block: Block) -> BackwardResult:
    """Return the gradients of a block.

    Without saved margins, they are recomputed from ``inputs.x`` and the first state.
    """
    computed, shape, x, saved = block.leak.dtype, inputs.shape[1:], inputs.x, inputs.saved
    g_input = torch.empty((1, *shape) if inputs.held else inputs.shape, dtype=inputs.dtype)
    first_v = torch.empty(shape, dtype=computed) if inputs.first else None
    first_i = torch.empty(shape, dtype=computed) if inputs.first and block.kind in SECOND else None
    sums = {name: torch.empty(shape, dtype=computed) for name in inputs.learned}
    # Template argument SAVED; a leaky integrator saves its output, read here in the computing type.
    kept = computed if saved is None or block.kind == "li" else saved.dtype
    if saved is not None and block.kind == "li":
        saved = saved.to(computed)
    _run(
        "backward", block, inputs.shape, inputs.dtype, kept,
        input_step=0 if x is None else x.stride(0), held=inputs.held, g_each=inputs.g_each,
        g_weighted=inputs.g_weighted, weights=inputs.weights,
        input=x, saved=saved, v_first=inputs.v_first, i_first=inputs.i_first,
        g_output=inputs.g, g_v_last=inputs.g_v, g_i_last=inputs.g_i,
        g_input=g_input, g_v_first=first_v, g_i_first=first_i, **{f"g_{name}": values for name, values in sums.items()},
    )  # fmt: skip
    return BackwardResult(g_input, first_v, first_i, sums)


def _run(
    name: str,
    block: Block,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    kept: torch.dtype,
    input_step: int,
    held: bool = False,
    g_each: float = 0.0,
    g_weighted: float = 0.0,
    **memory: Tensor | None,
) -> _Job:
    """Run the library's function ``name`` over all tiles; ``memory``: tensors by field name."""
    steps, rows, width = shape
    loaded = library(block.kind, dtype, kept, block.reset_kind)
    job = _Job(
        steps, rows, width, input_step, held, SURROGATES[block.surrogate].code, block.detached, block.per_neuron,
        block.slope, block.limit, g_each=g_each, g_weighted=g_weighted,
        **{key: values.data_ptr() for key, values in memory.items() if values is not None},
        **{key: values.data_ptr() for key, values in zip(_PARAMETERS, block.parameters, strict=True)},
    )  # fmt: skip
    job.memory = memory, block
    tiles = loaded.tiles(ctypes.byref(job), name == "backward")
    if name == "forward" and memory["weights"] is not None:
        job.sums = torch.empty(tiles, dtype=torch.float64)
        job.weighted = job.sums.data_ptr()
    threads = min(torch.get_num_threads(), 1 + steps * rows * width // NEURON_STEPS_PER_THREAD)
    in_slices(getattr(loaded, name), job, tiles, threads)
    return job
