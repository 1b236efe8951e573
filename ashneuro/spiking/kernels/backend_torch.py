"""The neuron in torch's own in-place operations: needs nothing else, runs on any device."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ashneuro.spiking.kernels.interface import Backward, Block, Forward
from ashneuro.spiking.kernels.surrogate import SURROGATES


def forward(x: Tensor, v: Tensor | None, i: Tensor | None, block: Block, save: torch.dtype | None) -> Forward:
    """Return what the neurons of ``block`` do with inputs x [T, rows, width], started at v and i (v_leak and 0)."""
    spiking, computed = block.kind != "li", block.leak.dtype
    shape = x.shape[1:]
    v = block.leak.expand(shape).clone() if v is None else v.clone()
    if block.kind == "cuba-lif":
        i = torch.zeros(shape, dtype=computed, device=x.device) if i is None else i.clone()
    output = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    saved = torch.empty(x.shape, dtype=save, device=x.device) if save and spiking else None
    change, margin = (
        torch.empty(shape, dtype=computed, device=x.device),
        torch.empty(shape, dtype=computed, device=x.device),
    )
    for t, current in enumerate(x.unbind(0)):
        current = current.to(computed)
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
        torch.where(fired, block.reset, v, out=v)
        if saved is not None:
            saved[t] = margin
    return Forward(output, v, i, saved if spiking or not save else output)


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
    """Return gradients, of those that arrive at the output (g) and at the last state.

    Args:
        x_like: the shape of the input, ``dtype`` its type.
        saved: what `forward` kept.
        v_first: the state it started from, if not v_leak; read for the gradient of ``decay`` alone.
        learned: names of the parameters whose gradients are wanted.
        held: every step had the same input: its gradient [1, rows, width] is wanted, the sum over steps.
    """
    spiking, computed, device = block.kind != "li", block.leak.dtype, block.leak.device
    steps, *shape = x_like

    def start(values: Tensor | None) -> Tensor:
        return torch.zeros(shape, dtype=computed, device=device) if values is None else values.to(computed, copy=True)

    dv, di = start(g_v), start(g_i) if block.kind == "cuba-lif" else None
    g_input = (
        torch.zeros((1, *shape), dtype=computed, device=device)
        if held
        else torch.empty(x_like, dtype=dtype, device=device)
    )
    sums = {name: torch.zeros(shape, dtype=computed, device=device) for name in learned}
    nothing = torch.zeros((), dtype=computed, device=device)
    derivative = SURROGATES[block.surrogate].derivative
    for t in reversed(range(steps)):
        arriving = nothing if g is None else g[t].to(computed)
        if spiking:
            assert saved is not None
            margin = saved[t].to(computed)
            fired = margin > 0
            at_spike = arriving if block.detached else arriving + dv * (block.reset - (margin + block.threshold))
            through = derivative(margin, block.slope).mul_(at_spike)
            if "threshold" in sums:
                sums["threshold"] -= through
            if "reset" in sums:
                sums["reset"] += dv * fired
            risen = dv.masked_fill_(fired, 0).add_(through)
        else:
            risen = dv.add_(arriving)
        if "decay" in sums:
            assert saved is not None
            now = margin + block.threshold if spiking else saved[t].to(computed)
            sums["decay"] += risen * (now - _before(t, saved, v_first, block, spiking)) / block.decay
        if block.kind == "if":
            charge, dv = risen, risen
        else:
            charge = risen * block.decay
            if "leak" in sums:
                sums["leak"] += charge
            dv = risen.sub_(charge)
        if di is not None:
            di += charge
            charge = di * block.synapse
            di -= charge
        if held:
            g_input[0] += charge
        else:
            g_input[t] = charge
    return Backward(g_input.to(dtype), dv, di, sums)


def _before(t: int, saved: Tensor, v_first: Tensor | None, block: Block, spiking: bool) -> Tensor:
    """Return v_{t-1}."""
    if t == 0:
        return block.leak if v_first is None else v_first
    last = saved[t - 1].to(block.leak.dtype)
    return torch.where(last > 0, block.reset, last + block.threshold) if spiking else last
