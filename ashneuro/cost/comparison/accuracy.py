"""Accuracy of a network in a comparison: a value, and its deviation."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one network on the data that all networks of a comparison share.

    Args:
        value: a fraction.
        deviation: standard deviation of the value: over seeds, or of one run over draws of queries.
    """

    value: float
    deviation: float

    @classmethod
    def of_queries(cls, value: float, queries: int) -> Accuracy:
        """Return the accuracy of one run; its deviation is binomial, ``√(p·(1 − p)/n)``."""
        return cls(value, math.sqrt(value * (1 - value) / queries))

    def reaches(self, other: Accuracy) -> bool:
        """Return True if this network is as accurate as the other one.

        It may be lower by one standard deviation of the difference, ``√(σ² + σ'²)``.
        """
        return self.value + math.hypot(self.deviation, other.deviation) >= other.value
