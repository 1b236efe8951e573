"""Energy against quality of the variants of a sweep."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ashneuro.reporting.figures.style import ANN, HOST, INK, MUTED, SERIES, SPIKE, beside, drawing, legend, log_energy
from ashneuro.reporting.tables.table import common_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    from ashneuro.cost.profile import Range


@dataclass(frozen=True)
class Point:
    """One variant.

    Args:
        label: level of the varied factor, e.g. ``"T = 4"``; written beside the point.
        series: points of a series share a colour, e.g. ``"hybrid"``, ``"3-bit ReLU twin"``.
        energy_j: joules per inference.
        metric: quality, the larger the better, e.g. recall as a fraction; mean over seeds.
        metric_low, metric_high: extremes over seeds; ``None`` for one seed.
    """

    label: str
    series: str
    energy_j: Range
    metric: float
    metric_low: float | None = None
    metric_high: float | None = None

    @property
    def energy_centre_j(self) -> float:
        """Typical energy, or the middle of the range without one."""
        return (self.energy_j.low + self.energy_j.high) / 2 if self.energy_j.typical is None else self.energy_j.typical


def pareto_front(points: Sequence[Point]) -> tuple[int, ...]:
    """Return the indices of the points that no other point dominates.

    A point dominates another if its energy is at most as high, its metric at least as high, and one
    of the two is better.
    """
    return tuple(
        index
        for index, mine in enumerate(points)
        if not any(
            other.energy_centre_j <= mine.energy_centre_j
            and other.metric >= mine.metric
            and (other.energy_centre_j < mine.energy_centre_j or other.metric > mine.metric)
            for other in points
        )
    )


def pareto(points: Sequence[Point], metric: str) -> Figure:
    """Return energy (logarithmic x) against a metric (y), with the Pareto front as a line.

    Points of the front are labelled first; a label that would cover another is left out.

    Args:
        points: at least one; thin lines show the range of energy, and of the metric over seeds.
        metric: label of the vertical axis, with its unit.
    """
    factor, unit = common_unit([point.energy_j for point in points])
    front = sorted(pareto_front(points), key=lambda index: points[index].energy_centre_j)
    series = list(dict.fromkeys(point.series for point in points))
    colours = dict(zip(series, itertools.cycle((SPIKE, ANN, SERIES, INK, MUTED, HOST)), strict=False))
    with drawing(4.2) as figure:
        axes = figure.subplots()
        best = [(factor * points[index].energy_centre_j, points[index].metric) for index in front]
        axes.step(*zip(*best, strict=True), where="post", color=HOST, linewidth=1.1, zorder=1)
        for index, point in enumerate(points):
            _draw(axes, point, factor, colours[point.series], index in front)
        legend(axes, [(one, colours[one]) for one in series])
        log_energy(axes, 0)
        axes.set_xlabel(
            f"{unit} per inference, logarithmic; thin lines: low to high, and over seeds; "
            "dots: beaten by none, crosses: beaten"
        )
        axes.set_ylabel(metric)
        _label(figure, axes, points, factor, front)
    return figure


def _draw(axes: Axes, point: Point, factor: float, colour: str, best: bool) -> None:
    x, energy = factor * point.energy_centre_j, point.energy_j
    axes.plot([factor * energy.low, factor * energy.high], [point.metric] * 2, color=colour, linewidth=0.9, zorder=2)
    if point.metric_low is not None and point.metric_high is not None:
        axes.plot([x, x], [point.metric_low, point.metric_high], color=colour, linewidth=0.9, zorder=2)
    marker, size = ("o", 6.5) if best else ("x", 5)
    axes.plot(x, point.metric, marker, color=colour, markersize=size, zorder=3)


def _label(figure: Figure, axes: Axes, points: Sequence[Point], factor: float, front: Sequence[int]) -> None:
    """Write the labels of points, those of the front first, without overlaps."""
    figure.draw_without_rendering()  # extents of labels are known once the axes have their place
    taken: list[Bbox] = []
    for index in [*front, *(other for other in range(len(points)) if other not in front)]:
        point = points[index]
        label = beside(axes, factor * point.energy_centre_j, point.metric, point.label, above=6)
        extent = label.get_window_extent()
        if any(extent.overlaps(other) for other in taken):
            label.remove()
        else:
            taken.append(extent)
