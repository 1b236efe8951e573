"""Firing rates in training and in evaluation, and why they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ashneuro.model.network import AshNet

FACTOR = 2.0
"""Rates differ when one is more than this many times the other,"""

LEAST = 0.02
"""and their difference is at least this many spikes per neuron and timestep."""

MOMENTUM = 0.1
"""Share of a batch's statistics in the running ones, per step: PyTorch's default."""

SETTLED = 50
"""Steps after which running statistics have forgotten 99.5 % of their initial values."""


def differing_rates(training: Mapping[str, float], evaluation: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return the rates (training, evaluation) of the layers where they differ, by name.

    ::

        |r_t − r_e| ≥ LEAST   and   max(r_t, r_e) > FACTOR · min(r_t, r_e)

    Layers that one of the two does not know are left out.
    """
    both = {name: (rate, evaluation[name]) for name, rate in training.items() if name in evaluation}
    return {
        name: rates
        for name, rates in both.items()
        if max(rates) - min(rates) >= LEAST and max(rates) > FACTOR * min(rates)
    }


def norm_steps(model: AshNet) -> int:
    """Return the number of batches that every batch norm of the abstract encoder has seen."""
    encoder = model.abstract
    buffers = [] if encoder is None else list(encoder.named_buffers())
    return min((int(value) for name, value in buffers if name.endswith("num_batches_tracked")), default=0)


def rates_note(training: Mapping[str, float], evaluation: Mapping[str, float], steps: int) -> str:
    """Return a line about firing rates that differ, and why; empty if none do.

    In training a batch norm uses the statistics of the batch, in evaluation running ones, which
    start at mean 0 and variance 1 and keep ``(1 − MOMENTUM)^steps`` of that.

    Args:
        training: mean firing rates over the last epoch, by layer.
        evaluation: firing rates in evaluation, by layer.
        steps: batches that the running statistics have seen.
    """
    differing = differing_rates(training, evaluation)
    if not differing:
        return ""
    name, (before, now) = max(differing.items(), key=lambda item: abs(item[1][0] - item[1][1]))
    others = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
    why = f"the batch norms have settled ({steps:,} steps): docs/learning.md has the causes"
    if steps < SETTLED:
        left = 100 * (1 - MOMENTUM) ** steps
        why = (
            f"{left:.0f} % of the batch norms' running statistics are still their initial values after {steps} steps: "
            "train for more steps"
        )
    rates = f"{name} {100 * before:.1f} % / {100 * now:.1f} %{others}"
    return f"firing rates differ between training and evaluation: {rates}; {why}"
