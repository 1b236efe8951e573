"""What a NIR graph leaves open about time and neurons, written down.

NIR describes neurons in continuous time: a file says neither the time step, nor how many steps a sample lasts, nor when
a reset takes effect, nor whether ``IF`` integrates its input per step or per second. Two simulators that read the same
file therefore spike differently. A `Contract` says it; exports carry it in the graph's metadata, and readers check it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from ashneuro.errors import GraphError

PREFIX = "ashneuro."

InputCoding = Literal["constant-current", "current", "spikes"]
IFConvention = Literal["per-step", "per-second"]


@dataclass(frozen=True)
class Contract:
    """The behaviour that a graph's spikes depend on.

    Args:
        dt_s: duration of one step, seconds.
        timesteps: steps per sample; ``None`` when the length of the input decides.
        reset: ``"value"``: v becomes v_reset in the step of the spike.
        reset_delay: steps between a spike and its reset; 0 is the only one that Lava can run.
        if_convention: ``"per-step"``: v += R·x once a step (Norse, sinabs, snnTorch). ``"per-second"``: v += dt·R·x
            (SpikingJelly, which writes R = 1/dt).
        input_coding: ``"constant-current"``: one analog value per neuron, repeated in every step; ``"current"``: analog,
            changing with time; ``"spikes"``: 0 or 1.
    """

    dt_s: float = 1e-3
    timesteps: int | None = None
    reset: Literal["value"] = "value"
    reset_delay: int = 0
    if_convention: IFConvention = "per-step"
    input_coding: InputCoding = "current"

    def __post_init__(self) -> None:
        allowed = {
            "reset": ("value",),
            "if_convention": ("per-step", "per-second"),
            "input_coding": ("constant-current", "current", "spikes"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise GraphError(
                    f"{name} = {getattr(self, name)!r}", f"it must be one of {', '.join(values)}", f"--{name.replace('_', '-')}"
                )
        if not self.dt_s > 0:
            raise GraphError(f"dt = {self.dt_s} s", "a time step must be longer than 0 s", "--dt SECONDS")
        if self.timesteps is not None and self.timesteps < 1:
            raise GraphError(f"timesteps = {self.timesteps}", "a sample lasts at least one step", "--timesteps N")
        if self.reset_delay != 0:
            raise GraphError(
                f"reset_delay = {self.reset_delay}",
                "the neuron here resets in the step of its spike; a delayed reset is another neuron",
                "train the network with reset_delay = 0",
            )

    def to_metadata(self) -> dict[str, Any]:
        """Return the entries that an export writes into a graph's metadata (unset fields are left out)."""
        return {PREFIX + name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class ReadContract:
    """A contract as read from a file: the contract, and the fields that the file did not say."""

    contract: Contract
    assumed: tuple[str, ...]


def read_contract(metadata: Mapping[str, Any], **overrides: Any) -> ReadContract:
    """Return the contract in a graph's ``metadata``; ``overrides`` (not ``None``) win, defaults fill the rest.

    Raises:
        GraphError: a value is not of the kind that the field takes.
    """
    values: dict[str, Any] = {}
    assumed = []
    for field in fields(Contract):
        if overrides.get(field.name) is not None:
            values[field.name] = overrides[field.name]
        elif PREFIX + field.name in metadata:
            values[field.name] = _plain(metadata[PREFIX + field.name])
        elif field.name != "timesteps":
            assumed.append(field.name)
    casts = {"dt_s": float, "timesteps": int, "reset_delay": int}
    for name, cast in casts.items():
        if name in values:
            try:
                values[name] = cast(values[name])
            except (TypeError, ValueError) as error:
                raise GraphError(
                    f"metadata {PREFIX}{name} = {values[name]!r}", f"it is not a number ({error})", "export the graph again"
                ) from error
    return ReadContract(Contract(**values), tuple(assumed))


def _plain(value: Any) -> Any:
    """Undo what HDF5 does to scalars and strings."""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    return value.decode() if isinstance(value, bytes) else value
