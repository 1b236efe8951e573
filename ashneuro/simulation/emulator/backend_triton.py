"""Loihi's neurons over many steps as a Triton kernel, for torch arrays on a GPU.

The state stays in registers. Decays need no more than 32 bits:
``|x|·keep >> 12 = (|x| >> 12)·keep + ((|x| & 4095)·keep >> 12)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ashneuro.loihi import DECAY_BITS, DECAY_ONE, STATE_RANGE, STATE_UNIT

if TYPE_CHECKING:
    from ashneuro.simulation.emulator.neurons import IntegerPopulation

LANES, WARPS = 512, 4
BITS, ONE = tl.constexpr(DECAY_BITS), tl.constexpr(DECAY_ONE)
STATE, UNIT = tl.constexpr(STATE_RANGE), tl.constexpr(STATE_UNIT)


@triton.jit  # type: ignore[untyped-decorator]
def _decayed(x, keep):  # type: ignore[no-untyped-def]
    size = tl.abs(x)
    kept = (size >> BITS) * keep + (((size & (ONE - 1)) * keep) >> BITS)
    return tl.where(x < 0, -kept, kept)


# Otherwise Triton compiles anew for numbers that are 1 or divisible by 16.
@triton.jit(do_not_specialize=["steps", "keep_u", "keep_v", "fires_above", "v_subtract"])  # type: ignore[untyped-decorator]
def integer_kernel(  # type: ignore[no-untyped-def]
    currents, bias, keep_us, keep_vs, u_at, v_at, sent, active, trace_u, trace_v, steps, size, width,
    keep_u, keep_v, fires_above, v_subtract,
    MEMORY: tl.constexpr, SPIKING: tl.constexpr, TRACED: tl.constexpr, PER_NEURON: tl.constexpr,
    LATE: tl.constexpr, SUBTRACTS: tl.constexpr, DECAYS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Run all steps of LANES neurons; u and v are overwritten. DECAYS: each neuron has its own."""
    lanes = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    mask = lanes < size
    u = tl.load(u_at + lanes, mask=mask, other=0)
    v = tl.load(v_at + lanes, mask=mask, other=0)
    b = tl.zeros([LANES], tl.int32)
    if PER_NEURON:
        b = tl.load(bias + lanes % width, mask=mask, other=0)
    if DECAYS:
        keep_u = tl.load(keep_us + lanes % width, mask=mask, other=0)
        keep_v = tl.load(keep_vs + lanes % width, mask=mask, other=0)
    awake = tl.zeros([LANES], tl.int32)
    currents += lanes
    sent += lanes
    trace_u += lanes
    trace_v += lanes
    for _ in range(steps):
        a = tl.load(currents, mask=mask, other=0)
        awake += tl.where((a | b | u | v) != 0, 1, 0)
        now = a * UNIT
        if MEMORY:
            now += _decayed(u, keep_u)
        u = ((now + (STATE - 1)) & (2 * STATE - 1)) - (STATE - 1)
        before = v > fires_above  # spiked in the last step
        v = _decayed(v, keep_v) + u + b
        v = tl.minimum(tl.maximum(v, 1 - STATE), STATE - 1)
        if SPIKING:
            if LATE:
                v = tl.where(before, v - v_subtract if SUBTRACTS else 0, v)
            fired = v > fires_above
            tl.store(sent, tl.where(fired, 1, 0).to(sent.dtype.element_ty), mask=mask)
            if not LATE:
                v = tl.where(fired, v - v_subtract if SUBTRACTS else 0, v)
        else:
            tl.store(sent, v, mask=mask)
        if TRACED:
            tl.store(trace_u, u, mask=mask)
            tl.store(trace_v, v, mask=mask)
            trace_u += size
            trace_v += size
        currents += size
        sent += size
    tl.store(u_at + lanes, u, mask=mask)
    tl.store(v_at + lanes, v, mask=mask)
    tl.store(active + lanes, awake, mask=mask)


def run(
    population: IntegerPopulation[Any],
    u: Tensor,
    v: Tensor,
    currents: Tensor,
    states: list[tuple[Tensor, Tensor]] | None,
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return the fields of `Steps`; arguments as `Population.run`."""
    currents, u, v = currents.contiguous(), u.contiguous(), v.contiguous()
    sent = torch.empty(currents.shape, dtype=torch.uint8 if population.spiking else torch.int32, device=currents.device)
    active = torch.empty_like(v)
    traces = [torch.empty_like(currents) if states is not None else sent for _ in range(2)]
    grid = (triton.cdiv(v.numel(), LANES),)
    bias, decays = population.bias.contiguous(), population.decays
    integer_kernel[grid](
        currents, bias, *(bias, bias) if decays is None else decays, u, v, sent, active, *traces,
        len(currents), v.numel(), bias.numel(),
        *(population.keep_u, population.keep_v) if decays is None else (0, 0),
        population.fires_above, population.v_subtract or 0,
        MEMORY=population.keeps_u, SPIKING=population.spiking, TRACED=states is not None, PER_NEURON=True,
        LATE=bool(population.firing.reset_delay), SUBTRACTS=population.v_subtract is not None,
        DECAYS=decays is not None, LANES=LANES, num_warps=WARPS,
    )  # fmt: skip
    if states is not None:
        states.extend(zip(*traces, strict=True))
    return sent, u, v, int(active.sum())
