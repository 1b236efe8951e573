"""Moving average of weights, which is evaluated and saved in place of the last ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn

STATISTICS = ("running_mean", "running_var")
"""Buffers that are averaged with the weights: those of batch norms."""


@final
class Average:
    """Exponential moving average of what a module learns: parameters and statistics of batch norms.

    ::

        w̄ ← d w̄ + (1 − d) w      after step n = 0, 1, …;   d = min(decay, (1 + n) / (10 + n))

    The smaller d of the first steps forgets the weights that the average started from.

    Args:
        module: module in training. Parameters that do not learn are not averaged.
        decay: d after many steps, below 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._live = {name: weight.data for name, weight in module.named_parameters() if weight.requires_grad}
        self._live |= {name: value for name, value in module.named_buffers() if name.endswith(STATISTICS)}
        self.values = {name: value.clone() for name, value in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in self.values.items():
            value.lerp_(self._live[name], share)
        self.steps += 1

    @torch.no_grad()
    def adopt(self) -> None:
        """Give the module the averaged weights."""
        for name, value in self._live.items():
            value.copy_(self.values[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the module the averaged weights while the block runs."""
        kept = {name: value.clone() for name, value in self._live.items()}
        self.adopt()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._live.items():
                    value.copy_(kept[name])

    def restore(self, values: dict[str, Tensor], steps: int) -> None:
        """Continue from ``values`` after ``steps`` steps."""
        for name, value in self.values.items():
            value.copy_(values[name])
        self.steps = steps
