"""Contract of a NIR graph: what NIR leaves open about time and neurons.

NIR describes neurons in continuous time. A file says neither the timestep, nor the timesteps per
sample, nor when a reset takes effect, nor whether ``IF`` integrates its input per step or per
second, so two simulators may spike differently on the same file. Exports write a `Contract` into
the graph's metadata, and readers check it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ashneuro.errors import GraphError
from ashneuro.spiking.firing import Comparison, Firing, Reset
from ashneuro.spiking.message import COUNT_BITS, SPIKE, Message

PREFIX = "ashneuro."
ASSUMED = f"{PREFIX}assumed."
"""Prefix of values that were assumed when the graph was written, in place of `PREFIX`."""
UNRECORDED = f"{PREFIX}assumptions"
"""Entry of a graph that was written by a version which stated what it had assumed."""

Start = Literal["v_leak", "v_reset"]
Integration = Literal["euler", "exponential"]
IFConvention = Literal["per-step", "per-second"]
InputCoding = Literal["constant-current", "current", "spikes"]
Sent = Literal["spike", "count"]

CHOICES: Mapping[str, tuple[str, ...]] = {
    "comparison": ("strict", "inclusive"),
    "reset": ("value", "subtract"),
    "start": ("v_leak", "v_reset"),
    "integration": ("euler", "exponential"),
    "if_convention": ("per-step", "per-second"),
    "input_coding": ("constant-current", "current", "spikes"),
    "message": ("spike", "count"),
}


@dataclass(frozen=True)
class Contract:
    """Conventions on which a graph's spikes depend.

    Args:
        dt_s: duration of a timestep, seconds.
        timesteps: timesteps per sample; ``None``: the length of the input.
        comparison: ``"strict"``: a neuron spikes at v > v_threshold (Norse, snnTorch, Lava).
            ``"inclusive"``: at v ≥ v_threshold (sinabs, SpikingJelly, Slayer).
        reset: ``"value"``: a spike sets v to v_reset. ``"subtract"``: it subtracts v_threshold.
        reset_delay: timesteps between a spike and its reset: 0, or 1 (snnTorch).
        start: v at the start of a sample: ``"v_leak"`` (0 for IF) or ``"v_reset"``.
        integration: discretisation of a leaky neuron. ``"euler"``: v moves by dt/τ of the distance
            to its steady state (Norse, snnTorch, SpikingJelly). ``"exponential"``: by
            1 − e^(−dt/τ), exact for a constant input (sinabs).
        if_convention: ``"per-step"``: v += R·x in each timestep (Norse, sinabs, snnTorch).
            ``"per-second"``: v += dt·R·x (SpikingJelly, which writes R = 1/dt).
        input_coding: ``"constant-current"``: one analog value per neuron for all timesteps;
            ``"current"``: analog, changing with time; ``"spikes"``: 0 or 1.
        message: ``"spike"``: a neuron spikes at most once per timestep. ``"count"``: as often as
            v_threshold fits into v (sinabs).
        message_limit: largest number of spikes per timestep of a ``"count"``; ``None``: no limit.
    """

    dt_s: float = 1e-3
    timesteps: int | None = None
    reset: Reset = "value"
    reset_delay: int = 0
    comparison: Comparison = "strict"
    start: Start = "v_leak"
    integration: Integration = "euler"
    if_convention: IFConvention = "per-step"
    input_coding: InputCoding = "current"
    message: Sent = "spike"
    message_limit: int | None = None

    def __post_init__(self) -> None:
        for name, values in CHOICES.items():
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in values:
                raise GraphError(
                    f"{name} = {getattr(self, name)!r}",
                    f"it must be one of {', '.join(values)}",
                    " or ".join(f"--{name.replace('_', '-')} {value}" for value in values),
                )
        if not 0 < self.dt_s < math.inf:
            raise GraphError(f"dt = {self.dt_s} s", "a time step must be longer than 0 s, and finite", "--dt SECONDS")
        if self.timesteps is not None and self.timesteps < 1:
            raise GraphError(f"timesteps = {self.timesteps}", "a sample lasts at least one step", "--timesteps N")
        if self.message_limit is not None and self.message_limit < 1:
            why = "a neuron that may spike sends at least one spike"
            raise GraphError(f"message_limit = {self.message_limit}", why, "--message-limit N")
        if self.reset_delay < 0:
            raise GraphError(
                f"reset_delay = {self.reset_delay}", "a reset cannot come before its spike", "--reset-delay STEPS"
            )

    @property
    def firing(self) -> Firing:
        """Comparison and reset of every neuron that does not state its own."""
        return Firing(self.comparison, self.reset, self.reset_delay)

    @property
    def sent(self) -> Message:
        """Message of every neuron with a reset that does not state its own."""
        return SPIKE if self.message == "spike" else Message("count", COUNT_BITS, self.message_limit)

    def decay(self, tau: ArrayLike) -> NDArray[np.float64]:
        """Return the decay per timestep of a state with time constant ``tau`` (seconds)."""
        steps = self.dt_s / np.asarray(tau, np.float64)
        return steps if self.integration == "euler" else -np.expm1(-steps)

    def to_metadata(self) -> dict[str, Any]:
        """Return the entries of an exported graph's metadata; unset fields are left out."""
        return {PREFIX + name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class ReadContract:
    """Contract that a graph is read with, and the origin of its fields.

    Args:
        contract: all fields.
        assumed: names of the fields that the file leaves open.
        given: names of the fields that an option or an argument stated.
        recorded: False for a file of an earlier version, which stated what it had assumed.
    """

    contract: Contract
    assumed: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    recorded: bool = True

    def to_metadata(self) -> dict[str, Any]:
        """Return the entries of a graph's metadata, with assumed fields apart from stated ones."""
        entries = {}
        for name, value in asdict(self.contract).items():
            if value is not None:
                entries[(ASSUMED if name in self.assumed else PREFIX) + name] = value
        return entries if self.recorded else entries | {UNRECORDED: "not recorded"}


def as_read(contract: Contract | ReadContract) -> ReadContract:
    """Return a contract as it is read from a file that states all of it."""
    return contract if isinstance(contract, ReadContract) else ReadContract(contract)


def contract_option(field: str, value: Any) -> str:
    """Return a field as it is written on the command line, e.g. ``--dt 0.001``."""
    name = "dt" if field == "dt_s" else field.replace("_", "-")
    return f"--{name} {','.join(map(str, value)) if isinstance(value, tuple | list) else value}"


def read_contract(metadata: Mapping[str, Any], **overrides: Any) -> ReadContract:
    """Return the contract in a graph's ``metadata``.

    Overrides that are not ``None`` win over the metadata; defaults fill the rest.

    Raises:
        GraphError: a value has the wrong type.
    """
    values: dict[str, Any] = {}
    assumed, given = [], []
    # Versions before these were fields wrote graphs that spike once, at v > v_threshold.
    later = ("comparison", "message") if PREFIX + "reset" in metadata else ()
    for field in fields(Contract):
        name = field.name
        if overrides.get(name) is not None:
            values[name] = overrides[name]
            given.append(name)
        elif PREFIX + name in metadata:
            values[name] = plain(metadata[PREFIX + name])
        elif ASSUMED + name in metadata:
            values[name] = plain(metadata[ASSUMED + name])
            assumed.append(name)
        elif name not in ("timesteps", "message_limit", *later):
            assumed.append(name)
    casts: Mapping[str, Callable[[Any], float]] = {
        "dt_s": float,
        "timesteps": _whole,
        "reset_delay": _whole,
        "message_limit": _whole,
    }
    for name, cast in casts.items():
        if name in values:
            try:
                values[name] = cast(values[name])
            except (TypeError, ValueError, OverflowError) as error:
                raise GraphError(
                    f"metadata {PREFIX}{name} = {values[name]!r}",
                    f"it is not such a number ({error})",
                    contract_option(name, "SECONDS" if name == "dt_s" else "N"),
                ) from error
    return ReadContract(Contract(**values), tuple(assumed), tuple(given), UNRECORDED not in metadata)


def _whole(value: Any) -> int:
    whole = int(value)
    if isinstance(value, float) and whole != value:
        raise ValueError("a number of steps is whole")
    return whole


def plain(value: Any) -> Any:
    """Return HDF5's array scalars and bytes as Python numbers and strings."""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    return value.decode() if isinstance(value, bytes) else value


def message_metadata(message: Message) -> dict[str, Any]:
    """Return the metadata with which a Threshold sends ``message``; none for a spike."""
    if not message.payload:
        return {}
    stated: dict[str, Any] = {"message": message.kind, "message_bits": message.bits, "message_limit": message.limit}
    if message.activation != "none":
        stated["message_activation"] = message.activation
    if message.cumulative:
        stated["message_cumulative"] = True
    if message.jump:
        stated["message_jump"] = message.jump
    return {PREFIX + name: value for name, value in stated.items() if value is not None}
