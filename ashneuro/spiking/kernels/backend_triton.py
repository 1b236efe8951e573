"""Neurons as Triton kernels: a program per block of neurons, with the time loop inside.

State stays in registers. Per neuron and timestep the forward pass reads one number and writes two
(one if no margins are saved), the backward pass reads two and writes one. Products and sums are not
fused (``enable_fp_fusion=False``), so results equal those of the other back ends. With
``TRITON_INTERPRET=1`` set before the first import, the kernels run slowly on the CPU: for tests.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ashneuro.spiking.kernels.interface import (
    LEARNABLE,
    SECOND,
    BackwardInputs,
    BackwardResult,
    Block,
    ForwardInputs,
    ForwardResult,
    Kind,
)
from ashneuro.spiking.kernels.surrogate import SURROGATES

KINDS: dict[Kind, int] = {"lif": 0, "cuba-lif": 1, "if": 2, "li": 3, "graded": 4, "sigma-delta": 5, "delta": 6}
WARPS = 4


@triton.jit  # type: ignore[untyped-decorator]
def _parameter(at, lanes, mask, width, PER_NEURON: tl.constexpr):  # type: ignore[no-untyped-def]
    if PER_NEURON:
        return tl.load(at + lanes % width, mask=mask, other=1.0)
    return tl.load(at)


# Triton would recompile for steps = 1 and for multiples of 16.
@triton.jit(do_not_specialize=["steps"])  # type: ignore[untyped-decorator]
def forward_kernel(  # type: ignore[no-untyped-def]
    x, out, saved, v_first, i_first, v_last, i_last, decay, synapse, threshold, leak, reset, limit_at,
    steps, size, width, x_step,
    KIND: tl.constexpr, SUBTRACT: tl.constexpr, SAVE: tl.constexpr, FIRST_V: tl.constexpr, FIRST_I: tl.constexpr,
    PER_NEURON: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Compute LANES neurons over all timesteps; names as in `backend_torch.forward`."""
    lanes = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    mask = lanes < size
    lk = _parameter(leak, lanes, mask, width, PER_NEURON)
    k = _parameter(decay, lanes, mask, width, PER_NEURON)
    th = _parameter(threshold, lanes, mask, width, PER_NEURON)
    r = _parameter(reset, lanes, mask, width, PER_NEURON)
    zero = tl.zeros([LANES], v_last.dtype.element_ty)
    v = zero + lk
    if FIRST_V:
        v = tl.load(v_first + lanes, mask=mask, other=0.0)
    i = zero
    if KIND == 1:
        ks = _parameter(synapse, lanes, mask, width, PER_NEURON)
    if ((KIND == 1) or (KIND > 4)) and FIRST_I:
        i = tl.load(i_first + lanes, mask=mask, other=0.0)
    if KIND == 4:
        limit = tl.load(limit_at)
    x += lanes
    out += lanes
    saved += lanes
    for _ in range(steps):
        a = tl.load(x, mask=mask, other=0.0).to(v_last.dtype.element_ty)
        if KIND == 1:
            i = i + ks * (a - i)
            a = i
        if (KIND == 4) or (KIND == 6):
            h = a
        elif (KIND == 2) or (KIND == 5):
            h = v + a
        elif KIND == 3:
            h = v + k * ((lk - v) + a)
        else:
            h = v + k * ((a + lk) - v)
        if KIND == 3:
            v = h
            tl.store(out, h.to(out.dtype.element_ty), mask=mask)
        elif KIND > 4:
            # A sum of the input stands for a margin; i is what has been sent.
            y = h
            if KIND == 5:
                v = h
                y = tl.maximum(h, 0.0)
            change = y - i
            sends = tl.abs(change) >= th
            tl.store(out, tl.where(sends, change, zero).to(out.dtype.element_ty), mask=mask)
            if SAVE:
                tl.store(saved, h.to(saved.dtype.element_ty), mask=mask)
            i = tl.where(sends, y, i)
        else:
            margin = h - th
            # tl.where instead of a cast: the interpreter cannot cast bool to bf16.
            value = zero + 1.0
            if KIND == 4:
                value = tl.minimum(a, limit)
            tl.store(out, tl.where(margin > 0, value, zero).to(out.dtype.element_ty), mask=mask)
            if SAVE:
                tl.store(saved, margin.to(saved.dtype.element_ty), mask=mask)
            if KIND != 4:
                v = tl.where(margin > 0, margin if SUBTRACT else zero + r, h)
        x += x_step
        out += size
        saved += size
    tl.store(v_last + lanes, v, mask=mask)
    if (KIND == 1) or (KIND > 4):
        tl.store(i_last + lanes, i, mask=mask)


@triton.jit  # type: ignore[untyped-decorator]
def _derivative(m, slope, SURROGATE: tl.constexpr):  # type: ignore[no-untyped-def]
    size = tl.abs(m)
    if SURROGATE == 0:
        far = size * slope + 1.0
        return 1.0 / (far * far)
    elif SURROGATE == 1:
        far = slope * m * 1.5707963267948966
        return slope / 2 / (1.0 + far * far)
    elif SURROGATE == 2:
        e = tl.exp(-(size * slope))
        return slope * e / ((1.0 + e) * (1.0 + e))
    else:
        return slope * tl.maximum(1.0 - size, 0.0)


# Triton would recompile for steps = 1 and for multiples of 16.
@triton.jit(do_not_specialize=["steps"])  # type: ignore[untyped-decorator]
def backward_kernel(  # type: ignore[no-untyped-def]
    g, g_v, g_i, saved, v_first, decay, synapse, threshold, leak, reset, slope_at, limit_at,
    g_input, g_v_first, g_i_first, g_decay, g_threshold, g_leak, g_reset,
    steps, size, width,
    KIND: tl.constexpr, SUBTRACT: tl.constexpr, SURROGATE: tl.constexpr, DETACHED: tl.constexpr,
    G: tl.constexpr, G_V: tl.constexpr, G_I: tl.constexpr, FIRST_V: tl.constexpr, HELD: tl.constexpr,
    DECAY: tl.constexpr, THRESHOLD: tl.constexpr, LEAK: tl.constexpr, RESET: tl.constexpr,
    PER_NEURON: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of LANES neurons, from the last timestep to the first."""
    lanes = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    mask = lanes < size
    lk = _parameter(leak, lanes, mask, width, PER_NEURON)
    k = _parameter(decay, lanes, mask, width, PER_NEURON)
    th = _parameter(threshold, lanes, mask, width, PER_NEURON)
    r = _parameter(reset, lanes, mask, width, PER_NEURON)
    slope = tl.load(slope_at)
    if KIND == 4:
        limit = tl.load(limit_at)
    zero = tl.zeros([LANES], g_v_first.dtype.element_ty)
    dv, di = zero, zero
    if G_V:
        dv = tl.load(g_v + lanes, mask=mask, other=0.0)
    if KIND == 1:
        ks = _parameter(synapse, lanes, mask, width, PER_NEURON)
    if ((KIND == 1) or (KIND > 4)) and G_I:
        di = tl.load(g_i + lanes, mask=mask, other=0.0)
    s_decay, s_threshold, s_leak, s_reset, s_input = zero, zero, zero, zero, zero
    end = (steps - 1).to(tl.int64) * size
    g += end + lanes
    saved += end + lanes
    g_input += lanes
    if not HELD:
        g_input += end
    for back in range(steps):
        arriving = zero
        if G:
            arriving = tl.load(g, mask=mask, other=0.0).to(g_v_first.dtype.element_ty)
        if KIND == 3:
            g_charged = arriving + dv
            if DECAY:
                h = tl.load(saved, mask=mask, other=0.0).to(g_v_first.dtype.element_ty)
        elif KIND > 4:
            charge = arriving + di
            di = -arriving
            if KIND == 5:
                u = tl.load(saved, mask=mask, other=0.0).to(g_v_first.dtype.element_ty)
                dv = dv + tl.where(u > 0, charge, zero)
                charge = dv
        elif KIND == 4:
            m = tl.load(saved, mask=mask, other=0.0).to(g_v_first.dtype.element_ty)
            # Where θ = 0 there is no jump; 1 stands for θ there, so that nothing is divided by 0.
            jump = tl.where(th > 0, arriving * _derivative(m / tl.where(th > 0, th, 1.0), slope, SURROGATE), zero)
            if THRESHOLD:
                s_threshold -= jump
            charge = jump + tl.where((m > 0) & (m + th <= limit), arriving, zero)
        else:
            m = tl.load(saved, mask=mask, other=0.0).to(g_v_first.dtype.element_ty)
            fired = m > 0
            h = m + th
            if not DETACHED:
                arriving = arriving + dv * (-th if SUBTRACT else r - h)
            through = arriving * _derivative(m, slope, SURROGATE)
            g_charged = through + (dv if SUBTRACT else tl.where(fired, zero, dv))
            if THRESHOLD:
                s_threshold -= through
                if SUBTRACT:
                    s_threshold -= tl.where(fired, dv, zero)
            if RESET:
                s_reset += tl.where(fired, dv, zero)
        if DECAY:
            before = zero + lk
            if FIRST_V:
                before = tl.load(v_first + lanes, mask=mask, other=0.0)
            if back < steps - 1:
                last = tl.load(saved - size, mask=mask, other=0.0).to(g_v_first.dtype.element_ty)
                after = last if SUBTRACT else zero + r
                before = last if KIND == 3 else tl.where(last > 0, after, last + th)
            s_decay += g_charged * (h - before) / k
        if KIND == 2:
            charge = g_charged
            dv = g_charged
        elif KIND < 4:
            charge = k * g_charged
            if LEAK:
                s_leak += charge
            dv = g_charged - charge
        if KIND == 1:
            di = di + charge
            charge = ks * di
            di = di - charge
        if HELD:
            s_input += charge
        else:
            tl.store(g_input, charge.to(g_input.dtype.element_ty), mask=mask)
            g_input -= size
        g -= size
        saved -= size
    if HELD:
        tl.store(g_input, s_input.to(g_input.dtype.element_ty), mask=mask)
    tl.store(g_v_first + lanes, dv, mask=mask)
    if (KIND == 1) or (KIND > 4):
        tl.store(g_i_first + lanes, di, mask=mask)
    if DECAY:
        tl.store(g_decay + lanes, s_decay, mask=mask)
    if THRESHOLD:
        tl.store(g_threshold + lanes, s_threshold, mask=mask)
    if LEAK:
        tl.store(g_leak + lanes, s_leak, mask=mask)
    if RESET:
        tl.store(g_reset + lanes, s_reset, mask=mask)


def forward(inputs: ForwardInputs, block: Block) -> ForwardResult:
    """Return outputs, last state and margins of a block."""
    x, v, i, save, *_ = inputs
    spiking, shape, computed = block.kind != "li", x.shape[1:], block.leak.dtype
    steps, size = len(x), shape.numel()
    output = x.new_empty(x.shape)
    saved = x.new_empty(x.shape, dtype=save) if save and block.kind not in ("li", "delta") else None
    v_last = x.new_empty(shape, dtype=computed)
    i_last = x.new_empty(shape, dtype=computed) if block.kind in SECOND else None
    # Triton takes no null pointers: arguments that are not read point to some other array.
    memory = (
        x,
        output,
        *(output if part is None else part for part in (saved, v, i)),
        v_last,
        v_last if i_last is None else i_last,
    )
    limit = _number(block.limit, block) if block.kind == "graded" else block.leak
    with _on(x):
        forward_kernel[(triton.cdiv(size, lanes_of(x.dtype)),)](
            *memory, *block.parameters, limit, steps, size, shape[1], x.stride(0),
            KIND=KINDS[block.kind], SUBTRACT=block.subtracts,
            SAVE=saved is not None, FIRST_V=v is not None, FIRST_I=i is not None,
            PER_NEURON=block.per_neuron, LANES=lanes_of(x.dtype), num_warps=WARPS, enable_fp_fusion=False,
        )  # fmt: skip
    return ForwardResult(output, v_last, i_last, saved if spiking or not save else output)


def backward(inputs: BackwardInputs, block: Block) -> BackwardResult:
    """Return the gradients of a block."""
    computed, device, (steps, *shape) = block.leak.dtype, block.leak.device, inputs.shape
    size = shape[0] * shape[1]
    g_input = torch.empty((1, *shape) if inputs.held else inputs.shape, dtype=inputs.dtype, device=device)
    first_v = torch.empty(shape, dtype=computed, device=device)
    first_i = torch.empty(shape, dtype=computed, device=device) if block.kind in SECOND else None
    sums = {name: torch.empty(shape, dtype=computed, device=device) for name in inputs.learned}
    slope = _number(block.slope, block)
    limit = _number(block.limit, block) if block.kind == "graded" else slope
    g, g_v, g_i, saved, v_first = inputs.g, inputs.g_v, inputs.g_i, inputs.saved, inputs.v_first
    arriving = [g_input if part is None else part for part in (g, g_v, g_i, saved, v_first)]
    leaving = [first_v if part is None else part for part in (first_i, *(sums.get(name) for name in LEARNABLE))]
    with _on(g_input):
        backward_kernel[(triton.cdiv(size, lanes_of(inputs.dtype)),)](
            *arriving, *block.parameters, slope, limit, g_input, first_v, *leaving, steps, size, shape[1],
            KIND=KINDS[block.kind], SUBTRACT=block.subtracts,
            SURROGATE=SURROGATES[block.surrogate].code, DETACHED=block.detached,
            G=g is not None, G_V=g_v is not None, G_I=g_i is not None, FIRST_V=v_first is not None, HELD=inputs.held,
            DECAY="decay" in sums, THRESHOLD="threshold" in sums, LEAK="leak" in sums, RESET="reset" in sums,
            PER_NEURON=block.per_neuron, LANES=lanes_of(inputs.dtype), num_warps=WARPS, enable_fp_fusion=False,
        )  # fmt: skip
    return BackwardResult(g_input, first_v, first_i, sums)


def lanes_of(dtype: torch.dtype) -> int:
    """Return the neurons per program: 128 bits per thread, so 512 of 4 bytes or 1024 of 2."""
    return 32 * WARPS * 16 // max(2, min(4, dtype.itemsize))


def _number(value: float, block: Block) -> Tensor:
    """Return ``value`` as an argument: Triton would pass a Python number as float32."""
    return torch.full((), value, dtype=block.leak.dtype, device=block.leak.device)


def _on(tensor: Tensor) -> AbstractContextManager[Any]:
    """Return a context that makes the tensor's GPU current: Triton launches on the current one."""
    return torch.cuda.device(tensor.device) if tensor.device.type == "cuda" else nullcontext()
