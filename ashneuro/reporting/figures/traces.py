"""Current and membrane potential of neurons over the timesteps of a sample, by simulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ashneuro.reporting.figures.style import ANN, INK, MUTED, SPIKE, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ashneuro.simulation.traces import NeuronTrace

# The emulator is a broad line and Lava a thin one on it: where they are equal, both are seen.
LINES: tuple[dict[str, Any], ...] = (
    {"color": SPIKE, "linewidth": 3.5, "alpha": 0.55},
    {"color": ANN, "linewidth": 1.2},
)


def traces(neurons: Sequence[NeuronTrace]) -> Figure:
    """Return u and v of each neuron, a row each.

    v has a gap in the timestep of a spike. Spikes are ticks at the top, the threshold is dashed.
    """
    with drawing(2.1 * len(neurons) + 0.5) as figure:
        rows = figure.subplots(len(neurons), 2, squeeze=False, sharex=True)
        for (left, right), trace in zip(rows, neurons, strict=True):
            _draw(left, right, trace)
        for axes in rows[-1]:
            axes.set_xlabel("step")
        handles, labels = rows[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
    return figure


def _draw(left: Axes, right: Axes, trace: NeuronTrace) -> None:
    left.set_title(f"{trace.layer}:{trace.neuron}, current u")
    right.set_title("membrane potential v")
    for (name, states), line in zip(trace.states.items(), LINES, strict=False):
        steps = np.arange(len(states.u))
        left.plot(steps, states.u, label=name, marker=".", **line)
        right.plot(steps, states.shown_v, marker=".", **line)
    if trace.threshold is not None:
        right.axhline(trace.threshold, color=MUTED, linewidth=0.8, linestyle="--")
    spikes = np.flatnonzero(next(iter(trace.states.values())).spikes)
    if len(spikes):
        # From 94 to 100 % of the height, whatever the values are.
        right.vlines(spikes, 0.94, 1.0, color=INK, linewidth=1.2, transform=right.get_xaxis_transform())
