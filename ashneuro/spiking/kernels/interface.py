"""Types of the neuron kernels: populations, blocks of memory, and the interface of a back end.

A block is a tensor [T, rows, width], or [rows, width] for one step. Parameters differ at most along
the width.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol, TypedDict

import torch
from torch import Tensor

from ashneuro.spiking.firing import Reset

Kind = Literal["lif", "cuba-lif", "if", "li", "graded", "sigma-delta", "delta"]
CHANGES: tuple[Kind, ...] = ("sigma-delta", "delta")  # kinds that send changes
SECOND: tuple[Kind, ...] = ("cuba-lif", *CHANGES)  # kinds whose state has an i
Kernels = Literal["auto", "triton", "native", "torch", "norse"]
Saves = Literal["full", "bf16"]
LEARNABLE = ("decay", "threshold", "leak", "reset")


class State(NamedTuple):
    """State between two steps, each (B, ...).

    Args:
        v: potential; of ``"sigma-delta"``, the sum of the input.
        i: synaptic current of ``"cuba-lif"``; of neurons that send changes, the sum of these.
    """

    v: Tensor
    i: Tensor | None = None


class Parameters(NamedTuple):
    """Parameters of a population, tensors that broadcast to its shape (...)."""

    decay: Tensor
    synapse: Tensor
    threshold: Tensor
    leak: Tensor
    reset: Tensor


class Options(TypedDict, total=False):
    """Keyword arguments of a layer that say how it is trained and computed; see `Neurons`."""

    surrogate: str
    slope: float | None
    detached: bool
    saves: Saves
    kernels: Kernels


@dataclass(frozen=True, eq=False)
class Neurons:
    """Neurons of one kind; parameters are numbers, or tensors that broadcast to the shape (...).

    Args:
        kind: ``"lif"``, ``"cuba-lif"``, ``"if"``, ``"li"``, ``"graded"``, ``"sigma-delta"`` or
            ``"delta"``; equations in `ashneuro.spiking.kernels.multi_step`.
        decay: k = dt/τ_mem; unused by ``"if"``.
        synapse: k_syn = dt/τ_syn; used by ``"cuba-lif"`` only.
        threshold, leak, reset: potentials; ``"graded"`` and ``"delta"`` have a threshold alone, θ,
            ``"sigma-delta"`` also a ``leak``, its bias.
        reset_kind: ``"value"``: a spike sets v to ``reset``. ``"subtract"``: it takes ``threshold``
            from v; ``reset`` is unused.
        surrogate: name in `ashneuro.spiking.kernels.surrogate.SURROGATES`.
        slope: α of the surrogate; ``None``: the default of the table.
        detached: stop gradients at the reset.
        saves: precision of the margins kept for the backward pass. ``"full"``: the computing type
            (or the input is kept instead); ``"bf16"``: half the memory of float32.
        kernels: back end; ``"auto"``: the fastest that works.
        limit: largest value that ``"graded"`` neurons send.
        blocks: cache of fitted parameters by memory layout, because fitting takes longer than
            computing a small population. Tensors among the parameters must then not change.
            ``None``: no cache.
    """

    kind: Kind
    decay: Tensor | float = 1.0
    synapse: Tensor | float = 1.0
    threshold: Tensor | float = 1.0
    leak: Tensor | float = 0.0
    reset: Tensor | float = 0.0
    reset_kind: Reset = "value"
    surrogate: str = "super"
    slope: float | None = None
    detached: bool = False
    saves: Saves = "full"
    kernels: Kernels = "auto"
    limit: float = math.inf
    blocks: dict[object, Block] | None = None

    def parameters(self) -> Parameters:
        """Return the parameters as tensors."""
        values = (self.decay, self.synapse, self.threshold, self.leak, self.reset)
        return Parameters(
            *(value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64) for value in values)
        )


class Settings(NamedTuple):
    """Settings of one forward and backward pass, in the order of the operators' arguments.

    Args:
        kind, reset_kind, surrogate, slope, detached: as in `Neurons`.
        save: precision of what is kept for the backward pass; ``""``: nothing is kept.
        backend: ``"triton"``, ``"native"`` or ``"torch"``.
        hold: number of timesteps for which the one step of input is held.
        limit: as in `Neurons`.
    """

    kind: Kind
    reset_kind: Reset
    surrogate: str
    slope: float
    detached: bool
    save: Literal["", "full", "bf16"]
    backend: str
    hold: int
    limit: float = math.inf


@dataclass(frozen=True, eq=False)
class Block:
    """Parameters of a block of neurons [rows, width], each () or (width,), of the computing type.

    Args:
        decay: k; unused by ``"if"``.
        synapse: k_syn; used by ``"cuba-lif"`` only.
        threshold, leak, reset: potentials; ``"li"`` uses neither threshold nor reset, ``"graded"``
            and ``"delta"`` the threshold alone, ``"sigma-delta"`` also leak.
        reset_kind: effect of a spike on v, as in `Neurons`.
        surrogate: name; ``slope``: its α.
        detached: stop gradients at the reset.
        limit: largest value that ``"graded"`` neurons send.
    """

    kind: Kind
    decay: Tensor
    synapse: Tensor
    threshold: Tensor
    leak: Tensor
    reset: Tensor
    reset_kind: Reset = "value"
    surrogate: str = "super"
    slope: float = 1.0
    detached: bool = False
    limit: float = math.inf

    @cached_property
    def parameters(self) -> tuple[Tensor, ...]:
        """decay, synapse, threshold, leak, reset: all (), or all (width,) and contiguous."""
        values = (self.decay, self.synapse, self.threshold, self.leak, self.reset)
        width = max(value.numel() for value in values)
        return (
            tuple(value.expand(width).contiguous() for value in values)
            if any(value.ndim for value in values)
            else values
        )

    @property
    def subtracts(self) -> bool:
        """True if a spike takes the threshold from v."""
        return self.reset_kind == "subtract"

    @property
    def per_neuron(self) -> bool:
        """True if the parameters are (width,)."""
        return self.parameters[0].ndim > 0


class ForwardInputs(NamedTuple):
    """Inputs of a back end's forward pass.

    Args:
        x: inputs [T, rows, width]; the stride between timesteps is arbitrary.
        v, i: first state [rows, width]; ``None``: v_leak and 0.
        save: type of the margins to keep for the backward pass; ``None``: keep none.
        last: whether the last state is wanted. A back end may give it all the same.
        weights: (width,), of the spikes of each neuron, for `ForwardResult.weighted`. Only the
            native back end adds them up.
    """

    x: Tensor
    v: Tensor | None
    i: Tensor | None
    save: torch.dtype | None
    last: bool = True
    weights: Tensor | None = None


class ForwardResult(NamedTuple):
    """Results of a forward pass.

    Args:
        output: spikes, values of ``"graded"``, changes, or potentials of ``"li"`` [T, rows, width].
        v, i: last state [rows, width]; ``v`` may be ``None`` if it was not wanted, ``i`` is of the
            kinds in `SECOND` only.
        saved: margins v' − v_threshold (x − θ of ``"graded"``, u of ``"sigma-delta"``), or the
            output of ``"li"`` [T, rows, width]; nothing of ``"delta"``.
        ones: number of spikes or graded messages, from back ends that count them in the same pass.
        weighted: sum of their weights, if these were given.
    """

    output: Tensor
    v: Tensor | None
    i: Tensor | None
    saved: Tensor | None
    ones: int | None = None
    weighted: float | None = None


class BackwardInputs(NamedTuple):
    """Inputs of a back end's backward pass. Only the native back end is given the last six.

    Args:
        shape: (T, rows, width) of the forward pass's input; ``dtype``: its type.
        g: gradient at the output [T, rows, width]; ``g_v``, ``g_i``: at the last state
            [rows, width]. ``None`` stands for 0.
        saved: `ForwardResult.saved`.
        v_first: first potential, ``None`` for v_leak; read only for the gradient of ``decay``.
        learned: names of the parameters whose gradients are wanted.
        held: every timestep had the same input, so one gradient [1, rows, width], the sum over
            timesteps, is wanted.
        x, i_first: input and first synaptic current, from which margins are computed again where
            none were saved.
        g_each: gradient added at every spike or graded message.
        first: whether gradients at the first state are wanted.
        g_weighted: gradient added at every spike or graded message, times the weight of its neuron.
        weights: as in `ForwardInputs`.
    """

    shape: tuple[int, int, int]
    dtype: torch.dtype
    g: Tensor | None
    g_v: Tensor | None
    g_i: Tensor | None
    saved: Tensor | None
    v_first: Tensor | None
    learned: Collection[str]
    held: bool = False
    x: Tensor | None = None
    i_first: Tensor | None = None
    g_each: float = 0.0
    first: bool = True
    g_weighted: float = 0.0
    weights: Tensor | None = None


class BackwardResult(NamedTuple):
    """Gradients of a backward pass.

    Args:
        input: [T, rows, width]; [1, rows, width] if the input was held.
        v, i: at the first state [rows, width]; ``None`` if not wanted.
        learned: per neuron [rows, width], by parameter name.
    """

    input: Tensor
    v: Tensor | None
    i: Tensor | None
    learned: dict[str, Tensor]


class Backend(Protocol):
    """Interface of the modules ``backend_triton``, ``backend_native`` and ``backend_torch``."""

    def forward(self, inputs: ForwardInputs, block: Block) -> ForwardResult:
        """Return outputs, last state and saved margins of all timesteps."""

    def backward(self, inputs: BackwardInputs, block: Block) -> BackwardResult:
        """Return gradients at inputs, first state and learned parameters."""
