"""Message of a population as data: the value that a neuron sends in a step.

With x_t the input of a stateless neuron (a nir.Threshold) in step t, v'_t the potential of another
neuron before any reset, and θ its threshold::

    s_t = 1 if x_t > θ else 0                      kind "spike": every neuron of Lava's LIF
    s_t = min(x_t, limit) if x_t > θ else 0        kind "graded": a ReLU (θ = 0), or a jump (θ > 0)

    y_t = f(x_t);  d_t = y_t − y_{t−1} + r_{t−1}   kind "change" (sigma-delta): Lava's Delta
    s_t = d_t if |d_t| ≥ θ else 0                  f: x (activation "none"), max(x, 0) ("relu"),
    r_t = d_t − s_t                                or levels; y_0 = r_0 = 0 where a sample starts

    s_t = min(number of k ≥ 1 with v'_t > k·θ, limit)               kind "count": several spikes in
    v_t = v'_t − s_t·θ                                              a step, as one message

    s_t = 1 if v'_t > θ, −1 if v'_t < θ_low, else 0                kind "ternary": Lava's TernaryLIF

    s_t = v_t − v_leak                                             kind "potential": a read-out (LI,
                                                                   I, CubaLI) that feeds layers

The neurons of ternary messages are a kind of their own, see `ashneuro.spiking.dynamics`. The
changes sent up to step t add up to y_t − r_t, with |r_t| < θ. A cumulative error e decides instead
of d (Lava's ``cum_error``)::

    e_t = e_{t−1} + d_t;  s_t = d_t if |e_t| ≥ θ else 0;  e_t = 0 where s_t ≠ 0

Levels are those of a quantised ReLU (jump 0, or half a step) or of graded values with few bits::

    f(x) = Δ · min(⌊x/Δ + 1/2⌋, L) if x > jump else 0        L = 2^(bits − 1) − 1,  Δ = limit/L

With θ ≤ Δ every change is sent, r stays 0, and the receiver's sums are those of f itself: what a
network computes by changes is what it computes from each frame afresh. Quotients within `TIE_LEVEL`
of a half count as equal to it.

θ is not negative, so that nothing negative is sent as a graded value; that of a count is above 0.
Counts are compared as spikes are, see `ashneuro.spiking.firing`: with ≥ in place of > they are
sinabs' MultiSpike and, with a limit, its MaxSpike. Potentials within its `TIE` of a multiple of θ
count as equal to it. A value of 0 is no message.

In an integer program the payload of a graded value has ``bits`` bits, and ``limit`` is the largest
one, at most 2^bits − 1. With a the sum that arrives, in units of the layer::

    m_t = min(v_t >> 6, limit) if v_t > θ << 6 else 0,      v_t = (a_t << 6) + (bias << bias_exp)

Counts and ternary messages are whole numbers, whatever the units of the layer. A change has
``bits`` bits with its sign. y is in units of a, and u the sum of all a (``du`` = −1) or a itself::

    y_t = f(u_t + (bias << bias_exp));  d, r and e as above, with θ << bias_exp;  m_t = s_t >> shift

What ``shift`` drops is not in r, as in Lava. Levels are rounded before they are compared, in units
of 2^shift; θ, d and r are in these units, the jump in those of u::

    y_t = min((x + 2^(shift − 1)) >> shift, L) if x > jump else 0,  x = u_t + (bias << bias_exp)
    m_t = s_t

A potential has ``bits`` bits with its sign, and ``limit`` is the largest magnitude. It is rounded,
half toward zero, in units of the layer::

    m_t = sign(v_t) · min((|v_t| + 31) >> 6, limit)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ashneuro.spiking.firing import TIE

MessageKind = Literal["spike", "graded", "change", "count", "ternary", "potential"]
MESSAGE_KINDS: tuple[MessageKind, ...] = ("spike", "graded", "change", "count")  # that metadata may state
Activation = Literal["none", "relu", "levels"]
ACTIVATIONS: tuple[Activation, ...] = ("none", "relu", "levels")
# Additions and comparisons of f; levels: with the jump and with L. Rounding is in the bias.
_ADDS: dict[Activation, int] = {"none": 0, "relu": 1, "levels": 2}
TIE_LEVEL = 2.0**-30  # of a step: far above float64's rounding of sums
GRADED_BITS = COUNT_BITS = 8  # of a payload, where a graph states nothing
LARGEST_BITS = 15  # a message of 16 bits has a sign
# Payload bits where a graph states nothing, and the fewest and the most that a message has.
BITS: dict[str, tuple[int, int, int]] = {
    "graded": (GRADED_BITS, 1, LARGEST_BITS),
    "change": (16, 2, 16),
    "count": (COUNT_BITS, 1, LARGEST_BITS),
    "ternary": (2, 2, 2),  # one of them the sign, as in Lava
    "potential": (16, 2, 16),
}
LARGEST_EXPONENT = 7  # of Lava's spike_exp and state_exp: 3 bits
LEVEL_EXPONENT = 12  # of the units of a level, so that weights of 8 bits meet levels of any step


@dataclass(frozen=True)
class Message:
    """Message of a population; the module docstring has the equations.

    Args:
        kind: ``"spike"``: 1; ``"graded"``: the value itself; ``"change"``: its change;
            ``"count"``: several spikes at once; ``"ternary"``: 1 or −1; ``"potential"``: v.
        bits: payload bits of a message on the machine, with the sign of a change; 0 for a spike.
        limit: largest value that is sent, in units of the threshold, or most spikes in a step;
            ``None``: float programs send every value. Of changes, the largest |y| that is
            expected, for which integers have room; nothing is clipped but levels, which need it.
            Of potentials likewise; integers clip them.
        activation: of changes: f.
        jump: of levels: largest x whose level is 0 in any case.
        cumulative: of changes: the error adds up until a change is sent.
        shift: of changes in integer programs: bits that y has beyond the message; negative where
            the message has more.
    """

    kind: MessageKind = "spike"
    bits: int = 0
    limit: float | None = None
    activation: Activation = "none"
    cumulative: bool = False
    shift: int = 0
    jump: float = 0.0

    @property
    def graded(self) -> bool:
        """True if a message is a value in units of the threshold, of a stateless neuron."""
        return self.kind == "graded"

    @property
    def changes(self) -> bool:
        """True if a message is the change of a value in units of the threshold."""
        return self.kind == "change"

    @property
    def potential(self) -> bool:
        """True if a message is the membrane potential of a read-out."""
        return self.kind == "potential"

    @property
    def levels(self) -> bool:
        """True if a message is the change of a rounded value."""
        return self.changes and self.activation == "levels"

    @property
    def step(self) -> float:
        """Distance Δ of two levels, in units of the threshold; 1 in integer programs."""
        assert self.limit is not None
        return self.limit / self.largest

    @property
    def whole(self) -> bool:
        """True if a message carries a whole number, whatever the units of the layer."""
        return self.kind in ("count", "ternary")

    @property
    def signed(self) -> bool:
        """True if a message may be negative."""
        return self.kind in ("change", "ternary", "potential")

    @property
    def payload(self) -> bool:
        """True if a message carries a number; a spike says only that there was one."""
        return self.kind != "spike"

    @property
    def words(self) -> str:
        """Name of the messages, as users read it."""
        words = {"graded": "graded messages", "change": "changes"}
        words |= {"count": "spike counts", "ternary": "ternary messages"}
        words |= {"potential": "potentials"}
        return words.get(self.kind, "spikes")

    @property
    def largest(self) -> int:
        """Largest magnitude that the payload holds."""
        return (1 << (self.bits - (self.changes or self.potential))) - 1

    @property
    def state(self) -> tuple[str, ...]:
        """State variables that a neuron needs to send its messages."""
        return ("y", "r", "e")[: 2 + self.cumulative] if self.changes else ()

    @property
    def adds(self) -> int:
        """Additions and comparisons of an update, beside that with the threshold: d, r, f and e."""
        return 3 + _ADDS[self.activation] + self.cumulative if self.changes else 0


SPIKE = Message()
POTENTIAL = Message("potential", BITS["potential"][0])
TERNARY = Message("ternary", 2, 1.0)


def graded_values(x: Any, active: Any, limit: float | None, xp: Any) -> Any:
    """Return the values that neurons with input ``x`` send; ``active``: those above θ."""
    values = xp.where(active, x, xp.zeros_like(x))
    return values if limit is None else xp.clip(values, 0, limit)


def changes(
    message: Message, x: Any, threshold: Any, state: tuple[Any, ...], xp: Any, *, integer: bool = False
) -> tuple[Any, tuple[Any, ...]]:
    """Return (changes sent, state) after a step of neurons with input ``x``.

    Args:
        state: (y, r), or (y, r, e) with a cumulative error; zeros where a sample starts.
        integer: x has the units of an integer program.
    """
    y, r, *e = state
    new = activated(message, x, xp, integer=integer)
    d = new - y + r
    error = e[0] + d if message.cumulative else d
    sent = xp.where(abs(error) >= threshold, d, xp.zeros_like(d))
    kept = (xp.where(sent != 0, xp.zeros_like(error), error),) if message.cumulative else ()
    return sent, (new, d - sent, *kept)


def activated(message: Message, x: Any, xp: Any, *, integer: bool = False) -> Any:
    """Return f(x), the values whose changes are sent; arguments as `changes`."""
    if message.activation == "none":
        return x
    none = xp.zeros_like(x)
    if message.activation == "relu":
        return xp.where(x > 0, x, none)
    if integer:
        level = xp.clip((x + ((1 << message.shift) >> 1)) >> message.shift, 0, message.largest)
        return xp.where(x > message.jump, level, none)
    level = xp.clip(xp.floor(x / message.step + (0.5 + TIE_LEVEL)), 0, message.largest)
    return xp.where(x > message.jump * (1 + TIE), level * message.step, none)


def rounded_potential(v: Any, limit: float | None, xp: Any) -> Any:
    """Return the payload of potentials ``v`` of an integer program, in units of 64."""
    rounded = xp.sign(v) * ((abs(v) + 31) >> 6)
    return rounded if limit is None else xp.clip(rounded, -int(limit), int(limit))


def spike_counts(v: Any, first: Any, v_subtract: Any, limit: float | None, xp: Any) -> Any:
    """Return the number of spikes that potentials ``v`` send in one step.

    Args:
        first: smallest v that spikes once; from there on, v spikes once more every ``v_subtract``.
    """
    return xp.clip((v - first) // v_subtract + 1, 0, limit)
