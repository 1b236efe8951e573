"""Neurons in torch's in-place operations: for any device, without a compiler."""

from __future__ import annotations

import torch
from torch import Tensor

from ashneuro.spiking.kernels.interface import (
    CHANGES,
    SECOND,
    BackwardInputs,
    BackwardResult,
    Block,
    ForwardInputs,
    ForwardResult,
)
from ashneuro.spiking.kernels.surrogate import SURROGATES


def forward(inputs: ForwardInputs, block: Block) -> ForwardResult:
    """Return outputs, last state and margins of a block.

    Operations and their order are those of Norse's steps, so results agree to the last bit.
    """
    x, v, i, save, *_ = inputs
    spiking, computed = block.kind != "li", block.leak.dtype
    shape = x.shape[1:]
    v = block.leak.expand(shape).clone() if v is None else v.clone()
    if block.kind in SECOND:
        i = torch.zeros(shape, dtype=computed, device=x.device) if i is None else i.clone()
    output = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    keeps = save and block.kind not in ("li", "delta")
    saved = torch.empty(x.shape, dtype=save, device=x.device) if keeps else None
    change = torch.empty(shape, dtype=computed, device=x.device)
    margin = torch.empty(shape, dtype=computed, device=x.device)
    for t, current in enumerate(x.unbind(0)):
        current = current.to(computed)
        if block.kind == "graded":
            torch.sub(current, block.threshold, out=margin)
            output[t] = current.clamp(max=block.limit).masked_fill_(margin <= 0, 0)
            if saved is not None:
                saved[t] = margin
            continue
        if block.kind in CHANGES:
            assert i is not None
            value = current
            if block.kind == "sigma-delta":
                v += current
                value = v.clamp(min=0)
                if saved is not None:
                    saved[t] = v
            torch.sub(value, i, out=change)
            sends = change.abs() >= block.threshold
            output[t] = change.masked_fill_(~sends, 0)
            torch.where(sends, value, i, out=i)
            continue
        if i is not None:
            i += torch.sub(current, i, out=change).mul_(block.synapse)
            current = i
        if block.kind == "if":
            v += current
        elif spiking:
            v += torch.add(current, block.leak, out=change).sub_(v).mul_(block.decay)
        else:
            v += torch.sub(block.leak, v, out=change).add_(current).mul_(block.decay)
        if not spiking:
            output[t] = v
            continue
        torch.sub(v, block.threshold, out=margin)
        fired = margin > 0
        output[t] = fired
        torch.where(fired, margin if block.subtracts else block.reset, v, out=v)
        if saved is not None:
            saved[t] = margin
    return ForwardResult(output, v, i, saved if spiking or not save else output)


def backward(inputs: BackwardInputs, block: Block) -> BackwardResult:
    """Return the gradients of a block, computed from the last timestep to the first."""
    spiking, computed, device = block.kind != "li", block.leak.dtype, block.leak.device
    (steps, *shape), g, saved = inputs.shape, inputs.g, inputs.saved

    def start(values: Tensor | None) -> Tensor:
        return torch.zeros(shape, dtype=computed, device=device) if values is None else values.to(computed, copy=True)

    dv, di = start(inputs.g_v), start(inputs.g_i) if block.kind in SECOND else None
    g_input = (
        torch.zeros((1, *shape), dtype=computed, device=device)
        if inputs.held
        else torch.empty(inputs.shape, dtype=inputs.dtype, device=device)
    )
    sums = {name: torch.zeros(shape, dtype=computed, device=device) for name in inputs.learned}
    nothing = torch.zeros((), dtype=computed, device=device)
    derivative = SURROGATES[block.surrogate].derivative
    for t in reversed(range(steps)):
        arriving = nothing if g is None else g[t].to(computed)
        if block.kind in CHANGES:
            assert di is not None
            charge, di = arriving + di, -arriving.expand(shape)
            if block.kind == "sigma-delta":
                assert saved is not None
                charge = dv.add_(charge * (saved[t] > 0))
            if inputs.held:
                g_input[0] += charge
            else:
                g_input[t] = charge
            continue
        if block.kind == "graded":
            assert saved is not None
            margin = saved[t].to(computed)
            jump = derivative(margin / block.threshold, block.slope).mul_(arriving)
            jump = torch.where(block.threshold > 0, jump, nothing)
            passes = (margin > 0) & (margin + block.threshold <= block.limit)
            if "threshold" in sums:
                sums["threshold"] -= jump
            charge = jump + arriving * passes
            if inputs.held:
                g_input[0] += charge
            else:
                g_input[t] = charge
            continue
        if spiking:
            assert saved is not None
            margin = saved[t].to(computed)
            fired = margin > 0
            jump = -block.threshold if block.subtracts else block.reset - (margin + block.threshold)
            at_spike = arriving if block.detached else arriving + dv * jump
            through = derivative(margin, block.slope).mul_(at_spike)
            if "threshold" in sums:
                sums["threshold"] -= through + dv * fired if block.subtracts else through
            if "reset" in sums:
                sums["reset"] += dv * fired
            g_charged = (dv if block.subtracts else dv.masked_fill_(fired, 0)).add_(through)
        else:
            g_charged = dv.add_(arriving)
        if "decay" in sums:
            assert saved is not None
            now = margin + block.threshold if spiking else saved[t].to(computed)
            before = _potential_before(t, saved, inputs.v_first, block, spiking)
            # v' − v_{t-1} = k · (drive − v_{t-1}), so the drive need not be kept.
            sums["decay"] += g_charged * (now - before) / block.decay
        if block.kind == "if":
            charge, dv = g_charged, g_charged
        else:
            charge = g_charged * block.decay
            if "leak" in sums:
                sums["leak"] += charge
            dv = g_charged.sub_(charge)
        if di is not None:
            di += charge
            charge = di * block.synapse
            di -= charge
        if inputs.held:
            g_input[0] += charge
        else:
            g_input[t] = charge
    return BackwardResult(g_input.to(inputs.dtype), dv, di, sums)


def _potential_before(t: int, saved: Tensor, v_first: Tensor | None, block: Block, spiking: bool) -> Tensor:
    """Return v_{t-1}, the potential after the reset of the timestep before."""
    if t == 0:
        return block.leak if v_first is None else v_first
    last = saved[t - 1].to(block.leak.dtype)
    if not spiking:
        return last
    return torch.where(last > 0, last if block.subtracts else block.reset, last + block.threshold)
