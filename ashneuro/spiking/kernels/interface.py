"""What a way of computing neurons is given, and what it gives back: blocks of memory, and parameters that fit them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from torch import Tensor

Kind = Literal["lif", "cuba-lif", "if", "li"]
LEARNABLE = ("decay", "threshold", "leak", "reset")


class State(NamedTuple):
    """A population between two steps: potential v and (CubaLIF) synaptic current i, each (B, ...)."""

    v: Tensor
    i: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Block:
    """Parameters of a block of neurons [rows, width], each a tensor () or (width,) of the type that is computed with.

    Args:
        kind: which equation.
        decay: k; not read for ``"if"``.
        synapse: k_syn; read for ``"cuba-lif"``.
        threshold, leak, reset: potentials; threshold and reset are not read for ``"li"``.
        surrogate: a name; ``slope`` is its α.
        detached: no gradient through the reset.
    """

    kind: Kind
    decay: Tensor
    synapse: Tensor
    threshold: Tensor
    leak: Tensor
    reset: Tensor
    surrogate: str = "super"
    slope: float = 1.0
    detached: bool = False

    @cached_property
    def parameters(self) -> tuple[Tensor, ...]:
        """decay, synapse, threshold, leak and reset: numbers all of them, or all of them (width,), contiguous."""
        values = (self.decay, self.synapse, self.threshold, self.leak, self.reset)
        width = max(value.numel() for value in values)
        return (
            tuple(value.expand(width).contiguous() for value in values)
            if any(value.ndim for value in values)
            else values
        )

    @property
    def per_neuron(self) -> bool:
        """Whether they are (width,)."""
        return self.parameters[0].ndim > 0


@dataclass(frozen=True, eq=False)
class Forward:
    """``output`` [T, rows, width], the last state ``v`` and (CubaLIF) ``i`` [rows, width], and what was ``saved``, [T, rows, width].

    ``v`` may be left out where nobody asked for it; ``ones`` is the number of spikes, of those who count them on the way.
    """

    output: Tensor
    v: Tensor | None
    i: Tensor | None
    saved: Tensor | None
    ones: int | None = None


@dataclass(frozen=True, eq=False)
class Backward:
    """Gradients at the input [T, rows, width], at the first state, and at learned parameters, per neuron [rows, width], by name.

    At an input that was held it is [1, rows, width], the sum over steps; ``v`` may be left out where nobody asked for it.
    """

    input: Tensor
    v: Tensor | None
    i: Tensor | None
    learned: dict[str, Tensor]
