"""Traces of neurons as a picture: each simulator's u and v over the steps of a sample, in one plot per neuron."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ashneuro.errors import DataError
from ashneuro.reporting.figures import ANN, INK, MUTED, SPIKE, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ashneuro.simulation.traces import NeuronTrace

# The emulator as a broad line, Lava as a thin one on it: where they are equal, both are seen.
LINES: tuple[dict[str, Any], ...] = (
    {"color": SPIKE, "linewidth": 3.5, "alpha": 0.55},
    {"color": ANN, "linewidth": 1.2},
)


def save_traces(traces: Sequence[NeuronTrace], path: Path) -> None:
    """Draw ``traces`` into ``path``: .svg, .png or .pdf.

    v has a gap in the step of a spike; spikes are ticks above the threshold (dashed).

    Raises:
        DataError: the file cannot be written, or its ending names no picture.
    """
    import matplotlib
    from matplotlib.figure import Figure

    if not path.suffix:  # matplotlib would write another file, with an ending of its choice
        raise DataError(f"cannot write {path}", "its ending says which kind of picture it is", f"--figure {path}.svg")
    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white", "savefig.transparent": False}):
        figure = Figure(figsize=(9.2, 2.1 * len(traces) + 0.5), layout="constrained")
        axes = figure.subplots(len(traces), 2, squeeze=False, sharex=True)
        for (left, right), trace in zip(axes, traces, strict=True):
            _draw(left, right, trace)
        for axis in axes[-1]:
            axis.set_xlabel("step")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
        try:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
        except (OSError, ValueError) as error:
            raise DataError(
                f"cannot write {path}", str(error), "--figure traces.svg, in a folder that exists"
            ) from error


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
        # Between 94 and 100 % of the height, whatever the values are.
        right.vlines(spikes, 0.94, 1.0, color=INK, linewidth=1.2, transform=right.get_xaxis_transform())
