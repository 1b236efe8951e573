"""Settings of the Lava that a workflow runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ashneuro.errors import ConfigError

if TYPE_CHECKING:
    from ashneuro.simulation.lava.session import Lava


@dataclass(frozen=True)
class LavaSettings:
    """Lava's workers, and how many samples run through Lava's own synapses; see docs/lava.md.

    Args:
        workers: number of Lava processes that share the samples.
        command: command that starts a worker, e.g. over ssh, or one for each of several hosts,
            which share the samples; ``None``: the environment on this machine.
        timeout_s: seconds that one reply of a worker may take.
        stock: samples that run through Lava's own synapses; the rest runs through batched ones,
            which are compared on these. ``None``: the workflow's default.

    Raises:
        ConfigError: ``stock`` is below 0.
    """

    workers: int = 1
    command: str | Sequence[str] | None = None
    timeout_s: float = 300.0
    stock: int | Literal["all"] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.stock, int) and self.stock < 0:
            raise ConfigError(f"--stock {self.stock}", "it is a number of samples, or all", "--stock 1")

    def open(self) -> Lava:
        """Return a Lava session with these settings; a context manager.

        Raises:
            LavaError: no interpreter with Lava was found.
        """
        from ashneuro.simulation.lava.session import Lava

        return Lava(self.workers, self.command, self.timeout_s)

    def stock_samples(self, default: int) -> int | None:
        """Return the number of samples for Lava's own synapses, ``None`` for all of them."""
        if self.stock is None:
            return default
        return None if self.stock == "all" else self.stock


LOCAL_LAVA = LavaSettings()


def require_settings(lava: object) -> None:
    """Raise `ConfigError` if the argument ``lava`` of a proof is neither settings nor ``None``."""
    if lava is not None and not isinstance(lava, LavaSettings):
        why = "it takes LavaSettings, or None for a proof without Lava"
        do = "leave it out" if lava is True else "lava=None"
        raise ConfigError(f"lava={lava!r}", why, do)
