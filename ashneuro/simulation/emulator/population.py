"""Types of the neurons of a layer: every kind of population computes any number of steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Array = TypeVar("Array")
# (population, u, v, currents, states), as of `Population.run` → fields of `Steps`.
Kernel = Callable[..., tuple[Any, Any, Any, int]]


@dataclass(frozen=True, eq=False)
class Steps(Generic[Array]):
    """Answers of a population over some steps.

    Args:
        sent: (T, B, *shape): spikes 0 and 1 as uint8, other messages, or v of a read-out.
        u, v: (B, *shape): state after the last step.
        active: number of neuron-steps with a state or an input other than zero; a bias is input.
        more: further state of other neurons than LIF after the last step.
    """

    sent: Array
    u: Array
    v: Array
    active: int
    more: tuple[Array, ...] = ()


@dataclass(frozen=True, eq=False)
class Population(ABC, Generic[Array]):
    """Neurons of one layer, with parameters as arrays of the module ``xp``."""

    xp: Any
    spiking: bool
    bias: Array

    @abstractmethod
    def run(
        self,
        u: Array,
        v: Array,
        currents: Array,
        states: list[tuple[Array, Array]] | None = None,
        more: tuple[Array, ...] = (),
    ) -> Steps[Array]:
        """Run the T steps of ``currents``.

        Args:
            u, v: (B, *shape): state before the first step; overwritten.
            currents: (T, B, *shape): input of each step; overwritten. Complex input of resonators
                is (T, B, 2, *shape).
            states: list to append (u, v) to after each step.
            more: further state of other neurons than LIF; empty at the start of a sample.
        """
