"""Neurons that send changes (sigma-delta), for numpy and torch, in floats and in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ashneuro.simulation.emulator.population import Array, Population, States, Steps
from ashneuro.spiking.message import Message, changes


@dataclass(frozen=True, eq=False)
class ChangePopulation(Population[Array]):
    """Lava's SigmaDelta and Delta, or its Sigma where the neurons are a read-out.

    Args:
        keep_u: 1 where u is the sum of all input, 0 where it is that of the step; one number, or
            one per neuron.
        v_threshold: in units of u.
    """

    keep_u: Any
    v_threshold: Any
    message: Message
    integer: bool = False

    def _run(self, u: Any, v: Any, currents: Any, states: States | None, more: tuple[Any, ...]) -> Steps[Any]:
        """Run the steps; v is y, the value whose changes are sent.

        Args:
            more: (r,), or (r, e) with a cumulative error.
        """
        xp, message = self.xp, self.message
        more = more or tuple(xp.zeros_like(v) for _ in message.state[1:])
        awake = (currents != 0) | (self.bias != 0)
        sent = xp.zeros_like(currents)
        for t, a in enumerate(currents):
            for one in (u, v, *more):
                awake[t] |= one != 0
            u = u * self.keep_u + a
            if self.spiking:
                x, state = u + self.bias, (v, *more)
                sent[t], (v, *rest) = changes(message, x, self.v_threshold, state, xp, integer=self.integer)
                more = tuple(rest)
            else:
                sent[t] = v = u + self.bias
            if states is not None:
                states.append((u, v))
        if self.spiking and message.shift and not message.levels:
            sent = sent >> message.shift if message.shift > 0 else sent << -message.shift
        return Steps(sent, u, v, int(xp.count_nonzero(awake)), more)
