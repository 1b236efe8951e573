"""Loihi's neurons over many steps as a Triton kernel, for torch arrays on a GPU.

One kernel serves every kind of `ashneuro.simulation.emulator.compiled`: it loads and stores, and a
step function per kind computes. State and parameters stay in registers. Decays need no more than 32
bits, see `ashneuro/simulation/emulator/loihi.cpp`.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from ashneuro.loihi import DECAY_BITS, DECAY_ONE, STATE_RANGE, STATE_UNIT
from ashneuro.simulation.emulator.compiled import KINDS, PARAMETERS, CompiledNeurons
from ashneuro.simulation.emulator.population import Population, States, Steps

LANES, WARPS = 512, 4
BITS, ONE = tl.constexpr(DECAY_BITS), tl.constexpr(DECAY_ONE)
STATE, UNIT = tl.constexpr(STATE_RANGE), tl.constexpr(STATE_UNIT)
REFRACTORY, ADAPTIVE, RESONATE, IZHIKEVICH, TERNARY, GRADED, COUNT, CHANGE = (
    tl.constexpr(KINDS.index(kind)) for kind in KINDS[1:]
)


@triton.jit  # type: ignore[untyped-decorator]
def _decayed(x, keep):  # type: ignore[no-untyped-def]
    # Rounded toward zero: a negative product is raised before it is rounded down.
    return (x >> BITS) * keep + (((x & (ONE - 1)) * keep + ((x >> 31) & (ONE - 1))) >> BITS)


@triton.jit  # type: ignore[untyped-decorator]
def _saturated(v):  # type: ignore[no-untyped-def]
    return tl.minimum(tl.maximum(v, 1 - STATE), STATE - 1)


@triton.jit  # type: ignore[untyped-decorator]
def _wrapped(u):  # type: ignore[no-untyped-def]
    return ((u + (STATE - 1)) & (2 * STATE - 1)) - (STATE - 1)


@triton.jit  # type: ignore[untyped-decorator]
def _lif(now, v, before, limit, threshold, subtract, SPIKING, LATE, SUBTRACTS, COUNTS):  # type: ignore[no-untyped-def]
    """Return (v, messages) of integrated v; ``before``: it spiked in the last step."""
    sent = v
    if COUNTS:
        above = tl.maximum(v - threshold - 1, 0)
        sent = tl.where(v > threshold, tl.minimum(above // subtract + 1, limit), 0)
        v = v - sent * subtract
    elif SPIKING:
        if LATE:
            v = tl.where(before, v - subtract if SUBTRACTS else 0, v)
        fired = v > threshold
        sent = tl.where(fired, 1, 0)
        if not LATE:
            v = tl.where(fired, v - subtract if SUBTRACTS else 0, v)
    return v, sent


@triton.jit  # type: ignore[untyped-decorator]
def _further(next, v, m, n, threshold, first, second, third, KIND):  # type: ignore[no-untyped-def]
    """Return (v, further state, messages) of neurons that integrate to ``next``."""
    if KIND == TERNARY:
        above, below = next > threshold, next < -first
        sent = tl.where(above, 1, tl.where(below, -1, 0))
        v = tl.where(above | below, 0, next)
    elif KIND == REFRACTORY:
        kept = tl.where(m > 0, v, next)
        fired = kept > threshold
        sent = tl.where(fired, 1, 0)
        v = tl.where(fired, 0, kept)
        m = tl.where(fired, first, tl.where(m > 0, m - 1, m))
    else:
        theta, r = _decayed(m - threshold, first) + threshold, _decayed(n, second)
        fired = next - r >= theta
        sent = tl.where(fired, 1, 0)
        v = next
        m = tl.where(fired, theta + third, theta)
        n = tl.where(fired, r + 2 * theta, r)
    return v, m, n, sent


@triton.jit  # type: ignore[untyped-decorator]
def _resonator(a, y, w, v, threshold, sin, cos, KIND):  # type: ignore[no-untyped-def]
    """Return (imaginary part, real part, spikes)."""
    real = _saturated(_decayed(v, cos) - _decayed(w, sin) + a * UNIT)
    imaginary = _saturated(_decayed(v, sin) + _decayed(w, cos) + y * UNIT)
    if KIND == RESONATE:
        fired = (real >= threshold) & (imaginary >= 0) & (w < 0)
    else:
        fired = imaginary >= threshold
        real = tl.where(fired, 0, real)
        imaginary = tl.where(fired, threshold - 1, imaginary)
    return imaginary, real, tl.where(fired, 1, 0)


@triton.jit  # type: ignore[untyped-decorator]
def _change(sum, v, rest, error, threshold, lowest, most, rounded, shift, SPIKING, CUMULATIVE):  # type: ignore[no-untyped-def]
    """Return (y, rest, error, change)."""
    y = sum
    sent = sum
    if SPIKING:
        # Rounded values are not negative, where the sum wraps neither.
        half = tl.where(rounded > 0, 1 << tl.maximum(rounded - 1, 0), 0)
        level = tl.minimum((sum + half) >> rounded, most)
        level = tl.where(rounded > 0, tl.maximum(level, 0), level)
        y = tl.where(sum < lowest, 0, level)
        d = y - v + rest
        seen = d + error if CUMULATIVE else d
        change = tl.where(tl.abs(seen) >= threshold, d, 0)
        rest = d - change
        if CUMULATIVE:
            error = tl.where(change != 0, 0, seen)
        sent = (change << tl.maximum(-shift, 0)) >> tl.maximum(shift, 0)
    return y, rest, error, sent


# Otherwise Triton compiles anew for numbers that are 1 or divisible by 16.
@triton.jit(do_not_specialize=["steps", "subtract"])  # type: ignore[untyped-decorator]
def integer_kernel(  # type: ignore[no-untyped-def]
    currents, bias, parameters, u_at, v_at, more, sent, active, trace_u, trace_v, steps, size, width, subtract,
    KIND: tl.constexpr, SPIKING: tl.constexpr, TRACED: tl.constexpr, LATE: tl.constexpr, SUBTRACTS: tl.constexpr,
    MEMORY: tl.constexpr, PARTS: tl.constexpr, FURTHER: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Run all steps of LANES neurons; u, v and the FURTHER rows of ``more`` are overwritten.

    ``parameters`` are (PARAMETERS, width), and ``currents`` (steps, samples, PARTS, width).
    """
    lanes = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    mask = lanes < size
    u = tl.load(u_at + lanes, mask=mask, other=0)
    v = tl.load(v_at + lanes, mask=mask, other=0)
    neuron = lanes % width
    b = tl.load(bias + neuron, mask=mask, other=0)
    keep_u = tl.load(parameters + neuron, mask=mask, other=0)
    keep_v = tl.load(parameters + width + neuron, mask=mask, other=0)
    threshold = tl.load(parameters + 2 * width + neuron, mask=mask, other=0)
    first = tl.load(parameters + 3 * width + neuron, mask=mask, other=0)
    second = tl.load(parameters + 4 * width + neuron, mask=mask, other=0)
    third = tl.load(parameters + 5 * width + neuron, mask=mask, other=0)
    fourth = tl.load(parameters + 6 * width + neuron, mask=mask, other=0)
    m = tl.zeros([LANES], tl.int32)
    n = tl.zeros([LANES], tl.int32)
    if FURTHER > 0:
        m = tl.load(more + lanes, mask=mask, other=0)
    if FURTHER > 1:
        n = tl.load(more + size + lanes, mask=mask, other=0)
    awake = tl.zeros([LANES], tl.int32)
    y = tl.zeros([LANES], tl.int32)
    # Contiguous lanes are loaded 128 bits at a time.
    currents += lanes if PARTS == 1 else (lanes // width) * (PARTS * width) + neuron
    sent += lanes
    trace_u += lanes
    trace_v += lanes
    for _ in range(steps):
        a = tl.load(currents, mask=mask, other=0)
        if PARTS > 1:
            y = tl.load(currents + width, mask=mask, other=0)
        seen = a | y | b
        if KIND != GRADED:
            seen = seen | u | v | n
            seen = seen | (m - threshold if KIND == ADAPTIVE else m)
        awake += tl.where(seen != 0, 1, 0)
        if (KIND == RESONATE) | (KIND == IZHIKEVICH):
            u, v, out = _resonator(a, y, u, v, threshold, first, second, KIND)
        elif KIND == CHANGE:
            u = (u & keep_u) + a
            v, m, n, out = _change(u + b, v, m, n, threshold, first, second, third, fourth, SPIKING, LATE)
        elif KIND == GRADED:
            u = _wrapped(a * UNIT)
            value = _saturated(u + b)
            out = tl.where(value > threshold, tl.minimum(tl.maximum(value // UNIT, 0), first), 0)
        else:
            u = _wrapped(a * UNIT + _decayed(u, keep_u)) if MEMORY else _wrapped(a * UNIT)
            next = _saturated(_decayed(v, keep_v) + u + b)
            if (KIND == REFRACTORY) | (KIND == ADAPTIVE) | (KIND == TERNARY):
                v, m, n, out = _further(next, v, m, n, threshold, first, second, third, KIND)
            else:
                v, out = _lif(
                    next, next, v > threshold, first, threshold, subtract, SPIKING, LATE, SUBTRACTS, KIND == COUNT
                )
        tl.store(sent, out.to(sent.dtype.element_ty), mask=mask)
        if TRACED:
            tl.store(trace_u, u, mask=mask)
            tl.store(trace_v, v, mask=mask)
            trace_u += size
            trace_v += size
        currents += size * PARTS
        sent += size
    tl.store(u_at + lanes, u, mask=mask)
    tl.store(v_at + lanes, v, mask=mask)
    tl.store(active + lanes, awake, mask=mask)
    if FURTHER > 0:
        tl.store(more + lanes, m, mask=mask)
    if FURTHER > 1:
        tl.store(more + size + lanes, n, mask=mask)


# Parameters (PARAMETERS, neurons) of populations that have run.
_loaded: WeakKeyDictionary[Population[Any], tuple[CompiledNeurons | None, Tensor | None]] = WeakKeyDictionary()


def run(
    population: Population[Any],
    u: Tensor,
    v: Tensor,
    currents: Tensor,
    states: States | None,
    more: tuple[Tensor, ...] = (),
) -> Steps[Tensor] | None:
    """Return the steps of ``population``, or ``None`` if it is not compiled.

    Arguments as `Population.run`.
    """
    if population not in _loaded:
        _loaded[population] = _parameters(population)
    neurons, parameters = _loaded[population]
    if neurons is None or parameters is None:
        return None
    currents, u, v, bias = currents.contiguous(), u.contiguous(), v.contiguous(), population.bias.contiguous()
    kind, resonates, shape = neurons.kind, neurons.dynamics.resonates, (len(currents), *v.shape)
    sent = torch.empty(shape, dtype=torch.uint8 if neurons.binary else torch.int32, device=v.device)
    active = torch.empty_like(v)
    traces = [torch.empty(shape, dtype=torch.int32, device=v.device) if states is not None else v for _ in range(2)]
    further = neurons.further
    given = () if resonates else more
    rest = [torch.stack(given) if given else v.new_zeros((max(1, further), *v.shape))]
    if neurons.dynamics.adapts and not given:  # the threshold starts at θ_0
        rest[0][0] = parameters[2].reshape(v.shape[1:])
    grid = (triton.cdiv(v.numel(), LANES),)
    integer_kernel[grid](
        currents, bias, parameters, u, v, rest[0], sent, active, *traces, len(currents), v.numel(), bias.numel(),
        neurons.subtract,
        KIND=KINDS.index(kind), SPIKING=neurons.spiking, TRACED=states is not None, LATE=neurons.late,
        SUBTRACTS=neurons.subtract > 0, MEMORY=bool(parameters[0].any()), PARTS=currents.dim() - v.dim(),
        FURTHER=further, LANES=LANES, num_warps=WARPS,
    )  # fmt: skip
    if kind == "graded":
        u, traces[1] = torch.zeros_like(u), torch.zeros_like(traces[1])
    if states is not None:
        states.extend(zip(*traces, strict=True))
    after = (u,) if resonates else tuple(rest[0][:further])
    return Steps(sent, u, v, int(active.sum()), after)


def _parameters(population: Population[Any]) -> tuple[CompiledNeurons | None, Tensor | None]:
    """Return the population as data, and its parameters (PARAMETERS, neurons)."""
    neurons = CompiledNeurons.of(population, population.bias)
    if neurons is None:
        return None, None
    rows = torch.zeros((PARAMETERS, *population.bias.shape), dtype=torch.int32, device=population.bias.device)
    for row, values in zip(rows, neurons.own, strict=False):
        row[...] = values if isinstance(values, Tensor) else int(np.asarray(values))
    return neurons, rows.reshape(PARAMETERS, -1)
