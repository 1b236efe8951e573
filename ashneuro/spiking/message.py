"""Message of a population as data: the value that a neuron sends in a step.

With x_t the input of a stateless neuron (a nir.Threshold) in step t and θ its threshold::

    s_t = 1 if x_t > θ else 0                      kind "spike": every neuron of Lava's LIF
    s_t = min(x_t, limit) if x_t > θ else 0        kind "graded": a ReLU (θ = 0), or a jump (θ > 0)

θ is not negative, so that nothing negative is sent. A value of 0 is no message. In an integer
program the payload has ``bits`` bits, and ``limit`` is the largest one, at most 2^bits − 1. With a
the sum that arrives, in units of the layer::

    m_t = min(v_t >> 6, limit) if v_t > θ << 6 else 0,      v_t = (a_t << 6) + (bias << bias_exp)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

MessageKind = Literal["spike", "graded"]
MESSAGE_KINDS: tuple[MessageKind, ...] = ("spike", "graded")
GRADED_BITS = 8  # of a payload, where a graph states nothing
LARGEST_BITS = 15  # a message of 16 bits has a sign


@dataclass(frozen=True)
class Message:
    """Message of a population; the module docstring has the equations.

    Args:
        kind: ``"spike"``: 1; ``"graded"``: the value itself.
        bits: payload bits of a message on the machine; 0 for a spike.
        limit: largest value that is sent, in units of the threshold; ``None``: float programs send
            every value.
    """

    kind: MessageKind = "spike"
    bits: int = 0
    limit: float | None = None

    @property
    def graded(self) -> bool:
        """True if a message carries a value."""
        return self.kind == "graded"


SPIKE = Message()


def graded_values(x: Any, active: Any, limit: float | None, xp: Any) -> Any:
    """Return the values that neurons with input ``x`` send; ``active``: those above θ."""
    values = xp.where(active, x, xp.zeros_like(x))
    return values if limit is None else xp.clip(values, 0, limit)
