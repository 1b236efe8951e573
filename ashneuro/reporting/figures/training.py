"""Training curves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ashneuro.reporting.figures.style import ANN, HOST, INK, MUTED, SERIES, SMALL, SPIKE, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ashneuro.exchange import EpochMetrics

Points = list[tuple[int, float]]


def curves(epochs: Sequence[EpochMetrics]) -> Figure:
    """Return losses, validation R@1 and firing rates over the epochs, without empty panels."""
    from matplotlib.ticker import MaxNLocator

    means = _series(epochs, lambda each: {} if each.firing_rate is None else {"mean": each.firing_rate})
    layers = _series(epochs, lambda each: each.firing_rates)
    panels = {
        "loss": [*losses(epochs).items()],
        "R@1 on validation": [
            (name.replace("_to_", " → "), points)
            for name, points in _series(epochs, lambda each: each.recall_at_1).items()
        ],
        # An empty label draws a thin line: layers are many, and their names are in the table.
        "firing rate, mean and layers": [*means.items(), *(("", points) for points in layers.values())],
    }
    panels = {title: lines for title, lines in panels.items() if lines}
    with drawing(2.9) as figure:
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, lines) in zip(row, panels.items(), strict=True):
            _panel(axes, lines)
            axes.set_title(title)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
            axes.set_ylim(bottom=0)
    return figure


def losses(epochs: Sequence[EpochMetrics]) -> dict[str, Points]:
    """Return (epoch, value) of the loss, named ``"sum"``, and of each of its terms."""
    return _series(epochs, lambda each: {"sum": each.loss, **each.losses})


def _panel(axes: Axes, lines: Sequence[tuple[str, Points]]) -> None:
    colours = itertools.cycle((SPIKE, ANN, SERIES, HOST, INK, MUTED))
    for label, points in sorted(lines, key=lambda item: bool(item[0])):
        steps, values = zip(*points, strict=True)
        marker = "o" if len(points) < 3 else None
        if label:
            axes.plot(steps, values, marker=marker, markersize=3, color=next(colours), linewidth=1.6, label=label)
        else:
            axes.plot(steps, values, marker=marker, markersize=3, color=HOST, linewidth=0.8)
    if any(label for label, _ in lines) and len(lines) > 1:
        axes.legend(fontsize=SMALL, labelcolor=MUTED)


def _series(epochs: Sequence[EpochMetrics], values: Callable[[EpochMetrics], Mapping[str, float]]) -> dict[str, Points]:
    """Return (epoch, value) of every metric, by name; epochs without the metric are left out."""
    points: dict[str, Points] = {}
    for metrics in epochs:
        for name, value in values(metrics).items():
            points.setdefault(name, []).append((metrics.epoch, value))
    return points
