"""Types of the neurons of a layer: every kind of population computes any number of steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Array = TypeVar("Array")
States = list[tuple[Any, Any]]
# (population, arguments of `Population.run`) → steps; `None`: the array library computes them.
Kernel = Callable[..., "Steps[Any] | None"]


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
    """Neurons of one layer, with parameters as arrays of the module ``xp``.

    Args:
        kernel: computes the steps in place of the array library.
    """

    xp: Any
    spiking: bool
    bias: Array
    kernel: Kernel | None = field(default=None, kw_only=True)

    def run(
        self,
        u: Array,
        v: Array,
        currents: Array,
        states: States | None = None,
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
        steps = None if self.kernel is None else self.kernel(self, u, v, currents, states, more)
        return self._run(u, v, currents, states, more) if steps is None else steps

    @abstractmethod
    def _run(self, u: Any, v: Any, currents: Any, states: States | None, more: tuple[Any, ...]) -> Steps[Any]:
        """Run the steps with the array library, see `run`."""
