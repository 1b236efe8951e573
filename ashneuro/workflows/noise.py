"""Random inputs for networks that come without samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ashneuro.errors import AshneuroError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.program.program import InputPort

NOISE_TIMESTEPS = 16  # where neither the network nor its contract fixes the number of steps
LARGEST_NOISE = 1 << 28
"""Most values of noise, which are 2 GiB."""


@dataclass(frozen=True)
class Noise:
    """Seeded random inputs: spikes with a rate, analog values of unit variance.

    Args:
        samples: number of samples B.
        rate: probability of a spike per input line and timestep, above 0 and at most 1.
        seed: seed of numpy's generator.
        signed: analog values of both signs, scaled to a quarter of what the port's integers hold;
            otherwise magnitudes (half-normal), the same in every timestep.
    """

    samples: int
    rate: float
    seed: int = 0
    signed: bool = False

    def inputs(
        self, ports: Sequence[InputPort], timesteps: int | None, *, constant: bool = False
    ) -> dict[str, NDArray[np.generic]]:
        """Return (T, B, *shape) by port name.

        Args:
            timesteps: T; ``None``: `NOISE_TIMESTEPS`.
            constant: analog values are the same in every timestep.

        Raises:
            AshneuroError: the number of samples, or of values in all, or the rate is out of range.
        """
        import numpy as np

        if self.samples < 1 or not 0 < self.rate <= 1:
            raise AshneuroError(
                f"--noise {self.samples} --rate {self.rate}",
                "noise has 1 sample or more and a rate above 0, at most 1",
                "correct them",
            )
        steps = timesteps or NOISE_TIMESTEPS
        if (count := steps * self.samples * sum(math.prod(port.shape) for port in ports)) > LARGEST_NOISE:
            why = f"{steps:,} steps of it have {count:,} values; noise has at most {LARGEST_NOISE:,}"
            raise AshneuroError(f"--noise {self.samples}", why, "fewer samples or steps")
        random = np.random.default_rng(self.seed)
        found: dict[str, NDArray[np.generic]] = {}
        for port in ports:
            shape = (steps, self.samples, *port.shape)
            if port.coding == "spikes":
                found[port.name] = (random.random(shape) < self.rate).astype(np.uint8)
            elif not self.signed:
                found[port.name] = np.broadcast_to(np.abs(random.normal(size=shape[1:])), shape).copy()
            else:
                one = random.normal(size=shape[1:] if constant else shape)
                values = np.broadcast_to(one, shape).copy()
                found[port.name] = values * (port.limit / port.scale / 4) if port.limit else values
        return found


# A proof needs spikes of both signs' currents in every layer; a price needs an activity like that
# of real samples.
PROOF_NOISE = Noise(samples=16, rate=0.2, signed=True)
REPORT_NOISE = Noise(samples=8, rate=0.1)
