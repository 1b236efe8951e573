"""How Lava is run, as options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from ashneuro.simulation.lava.session import Lava


@Parameter(name="*")
@dataclass(frozen=True)
class LavaWorkers:
    """Where Lava runs; see docs/lava.md."""

    workers: Annotated[int, Parameter(help="Lava workers that share the samples.")] = 1
    lava_command: Annotated[
        str | None,
        Parameter(help="What starts a worker, e.g. 'ssh host python3.10 lava_worker/worker.py'. Default: here."),
    ] = None
    lava_timeout: Annotated[float, Parameter(help="Seconds that one reply of a worker may take.")] = 300.0

    @property
    def opened(self) -> Callable[[], Lava]:
        """What makes the Lava that runs."""
        from ashneuro.simulation.lava.session import Lava

        return lambda: Lava(self.workers, self.lava_command, self.lava_timeout)


@Parameter(name="*")
@dataclass(frozen=True)
class LavaOptions(LavaWorkers):
    """How Lava is run; see docs/lava.md."""

    stock: Annotated[
        int | Literal["all"] | None,
        Parameter(help="Samples that run through Lava's own synapses; the rest is batched, and proved on these."),
    ] = None

    def stock_samples(self, default: int | None = None) -> int | None:
        """Return how many samples run through Lava's own synapses, ``None`` for all; ``default`` where nothing was asked for."""
        from ashneuro.simulation.lava.stock import RUN_STOCK

        if self.stock is None:
            return default or RUN_STOCK
        return None if self.stock == "all" else self.stock
