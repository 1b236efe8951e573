"""The neuron as Triton kernels: one program per block of neurons, time inside it, state in registers.

Per neuron and step the forward pass reads one number and writes two (one where nothing is kept), the backward pass reads two
and writes one. Products and sums are not fused (``enable_fp_fusion=False``), so results are those of the other ways.
With ``TRITON_INTERPRET=1`` set before the first import the kernels run on the CPU, slowly: for tests.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ashneuro.spiking.kernels.interface import LEARNABLE, Backward, Block, Forward, Kind
from ashneuro.spiking.kernels.surrogate import SURROGATES

KINDS: dict[Kind, int] = {"lif": 0, "cuba-lif": 1, "if": 2, "li": 3}
WARPS = 4


@triton.jit  # type: ignore[untyped-decorator]
def _parameter(at, lanes, mask, width, PER_NEURON: tl.constexpr):  # type: ignore[no-untyped-def]
    if PER_NEURON:
        return tl.load(at + lanes % width, mask=mask, other=1.0)
    return tl.load(at)


# A number of steps is no reason to compile again, and 1 must not become a constant.
@triton.jit(do_not_specialize=["steps"])  # type: ignore[untyped-decorator]
def forward_kernel(  # type: ignore[no-untyped-def]
    x, out, saved, v_first, i_first, v_last, i_last, decay, synapse, threshold, leak, reset,
    steps, size, width, x_step,
    KIND: tl.constexpr, SAVE: tl.constexpr, FIRST_V: tl.constexpr, FIRST_I: tl.constexpr, PER_NEURON: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Compute LANES neurons over all steps; names as in `ashneuro.spiking.kernels.backend_torch.forward`."""
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
        if FIRST_I:
            i = tl.load(i_first + lanes, mask=mask, other=0.0)
    x += lanes
    out += lanes
    saved += lanes
    for _ in range(steps):
        a = tl.load(x, mask=mask, other=0.0).to(v_last.dtype.element_ty)
        if KIND == 1:
            i = i + ks * (a - i)
            a = i
        if KIND == 2:
            h = v + a
        elif KIND == 3:
            h = v + k * ((lk - v) + a)
        else:
            h = v + k * ((a + lk) - v)
        if KIND == 3:
            v = h
            tl.store(out, h.to(out.dtype.element_ty), mask=mask)
        else:
            margin = h - th
            # A cast of a truth value to bf16 fails in the interpreter.
            tl.store(out, tl.where(margin > 0, zero + 1.0, zero).to(out.dtype.element_ty), mask=mask)
            if SAVE:
                tl.store(saved, margin.to(saved.dtype.element_ty), mask=mask)
            v = tl.where(margin > 0, zero + r, h)
        x += x_step
        out += size
        saved += size
    tl.store(v_last + lanes, v, mask=mask)
    if KIND == 1:
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


# A number of steps is no reason to compile again, and 1 must not become a constant.
@triton.jit(do_not_specialize=["steps"])  # type: ignore[untyped-decorator]
def backward_kernel(  # type: ignore[no-untyped-def]
    g, g_v, g_i, saved, v_first, decay, synapse, threshold, leak, reset, slope_at,
    g_input, g_v_first, g_i_first, g_decay, g_threshold, g_leak, g_reset,
    steps, size, width,
    KIND: tl.constexpr, SURROGATE: tl.constexpr, DETACHED: tl.constexpr, G: tl.constexpr, G_V: tl.constexpr, G_I: tl.constexpr,
    FIRST_V: tl.constexpr, HELD: tl.constexpr, DECAY: tl.constexpr, THRESHOLD: tl.constexpr, LEAK: tl.constexpr, RESET: tl.constexpr,
    PER_NEURON: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of LANES neurons, from the last step to the first."""
    lanes = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    mask = lanes < size
    lk = _parameter(leak, lanes, mask, width, PER_NEURON)
    k = _parameter(decay, lanes, mask, width, PER_NEURON)
    th = _parameter(threshold, lanes, mask, width, PER_NEURON)
    r = _parameter(reset, lanes, mask, width, PER_NEURON)
    slope = tl.load(slope_at)
    zero = tl.zeros([LANES], g_v_first.dtype.element_ty)
    dv, di = zero, zero
    if G_V:
        dv = tl.load(g_v + lanes, mask=mask, other=0.0)
    if KIND == 1:
        ks = _parameter(synapse, lanes, mask, width, PER_NEURON)
        if G_I:
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
            risen = arriving + dv
            if DECAY:
                h = tl.load(saved, mask=mask, other=0.0).to(g_v_first.dtype.element_ty)
        else:
            m = tl.load(saved, mask=mask, other=0.0).to(g_v_first.dtype.element_ty)
            fired = m > 0
            h = m + th
            if not DETACHED:
                arriving = arriving + dv * (r - h)
            through = arriving * _derivative(m, slope, SURROGATE)
            risen = through + tl.where(fired, zero, dv)
            if THRESHOLD:
                s_threshold -= through
            if RESET:
                s_reset += tl.where(fired, dv, zero)
        if DECAY:
            before = zero + lk
            if FIRST_V:
                before = tl.load(v_first + lanes, mask=mask, other=0.0)
            if back < steps - 1:
                last = tl.load(saved - size, mask=mask, other=0.0).to(g_v_first.dtype.element_ty)
                before = last if KIND == 3 else tl.where(last > 0, zero + r, last + th)
            s_decay += risen * (h - before) / k
        if KIND == 2:
            charge = risen
            dv = risen
        else:
            charge = k * risen
            if LEAK:
                s_leak += charge
            dv = risen - charge
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
    if KIND == 1:
        tl.store(g_i_first + lanes, di, mask=mask)
    if DECAY:
        tl.store(g_decay + lanes, s_decay, mask=mask)
    if THRESHOLD:
        tl.store(g_threshold + lanes, s_threshold, mask=mask)
    if LEAK:
        tl.store(g_leak + lanes, s_leak, mask=mask)
    if RESET:
        tl.store(g_reset + lanes, s_reset, mask=mask)


def forward(x: Tensor, v: Tensor | None, i: Tensor | None, block: Block, save: torch.dtype | None) -> Forward:
    """Return what `ashneuro.spiking.kernels.backend_torch.forward` returns; x may have any step from one time to the next."""
    spiking, shape, computed = block.kind != "li", x.shape[1:], block.leak.dtype
    steps, size = len(x), shape.numel()
    output = x.new_empty(x.shape)
    saved = x.new_empty(x.shape, dtype=save) if save and spiking else None
    v_last = x.new_empty(shape, dtype=computed)
    i_last = x.new_empty(shape, dtype=computed) if block.kind == "cuba-lif" else None
    # Pointers that are not followed have to point somewhere.
    memory = (
        x,
        output,
        *(output if part is None else part for part in (saved, v, i)),
        v_last,
        v_last if i_last is None else i_last,
    )
    with _on(x):
        forward_kernel[(triton.cdiv(size, lanes_of(x.dtype)),)](
            *memory, *block.parameters, steps, size, shape[1], x.stride(0),
            KIND=KINDS[block.kind], SAVE=saved is not None, FIRST_V=v is not None, FIRST_I=i is not None, PER_NEURON=block.per_neuron,
            LANES=lanes_of(x.dtype), num_warps=WARPS, enable_fp_fusion=False,
        )  # fmt: skip
    return Forward(output, v_last, i_last, saved if spiking or not save else output)


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
) -> Backward:
    """Return what `ashneuro.spiking.kernels.backend_torch.backward` returns."""
    computed, device, (steps, *shape) = block.leak.dtype, block.leak.device, x_like
    size = shape[0] * shape[1]
    g_input = torch.empty((1, *shape) if held else x_like, dtype=dtype, device=device)
    first_v = torch.empty(shape, dtype=computed, device=device)
    first_i = torch.empty(shape, dtype=computed, device=device) if block.kind == "cuba-lif" else None
    sums = {name: torch.empty(shape, dtype=computed, device=device) for name in learned}
    slope = torch.full((), block.slope, dtype=computed, device=device)
    arriving = [g_input if part is None else part for part in (g, g_v, g_i, saved, v_first)]
    leaving = [first_v if part is None else part for part in (first_i, *(sums.get(name) for name in LEARNABLE))]
    with _on(g_input):
        backward_kernel[(triton.cdiv(size, lanes_of(dtype)),)](
            *arriving, *block.parameters, slope, g_input, first_v, *leaving, steps, size, shape[1],
            KIND=KINDS[block.kind], SURROGATE=SURROGATES[block.surrogate].code, DETACHED=block.detached,
            G=g is not None, G_V=g_v is not None, G_I=g_i is not None, FIRST_V=v_first is not None, HELD=held,
            DECAY="decay" in sums, THRESHOLD="threshold" in sums, LEAK="leak" in sums, RESET="reset" in sums,
            PER_NEURON=block.per_neuron, LANES=lanes_of(dtype), num_warps=WARPS, enable_fp_fusion=False,
        )  # fmt: skip
    return Backward(g_input, first_v, first_i, sums)


def lanes_of(dtype: torch.dtype) -> int:
    """Return the neurons of a program: as many as its threads read in 128 bits each, 512 of 4 bytes or 1024 of 2."""
    return 32 * WARPS * 16 // max(2, min(4, dtype.itemsize))


def _on(tensor: Tensor) -> AbstractContextManager[Any]:
    """Launch on the GPU that the tensor is on, whichever is current."""
    return torch.cuda.device(tensor.device) if tensor.device.type == "cuda" else nullcontext()
