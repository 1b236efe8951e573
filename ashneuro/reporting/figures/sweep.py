"""Energy against quality of the variants of a sweep, in each case of energy."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ashneuro.cost.profile import CASES
from ashneuro.reporting.figures.style import (
    ANN,
    HOST,
    INK,
    MUTED,
    SERIES,
    SPIKE,
    beside,
    drawing,
    legend,
    log_energy,
)
from ashneuro.reporting.tables.table import common_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    from ashneuro.cost.profile import Case, Range


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

    def energy_in(self, case: Case) -> float:
        """Return the energy in one case; without a typical value, the middle of the range."""
        if case == "typical" and self.energy_j.typical is None:
            return (self.energy_j.low + self.energy_j.high) / 2
        return float(getattr(self.energy_j, case))


def pareto_front(points: Sequence[Point], case: Case = "typical") -> tuple[int, ...]:
    """Return the indices of the points that no other point dominates in one case of energy.

    A point dominates another if its energy is at most as high, its metric at least as high, and one
    of the two is better.
    """
    energies = [point.energy_in(case) for point in points]
    return tuple(
        index
        for index, (mine, energy) in enumerate(zip(points, energies, strict=True))
        if not any(
            spent <= energy and other.metric >= mine.metric and (spent < energy or other.metric > mine.metric)
            for other, spent in zip(points, energies, strict=True)
        )
    )


def pareto(points: Sequence[Point], metric: str) -> Figure:
    """Return energy (logarithmic x) against a metric (y): a panel per case of energy, with the
    Pareto front of that case as a line.

    Low with low, typical with typical, high with high: networks are compared under one assumption
    on the reuse of data. Points of the front are labelled first; a label that would cover another
    is left out.

    Args:
        points: at least one; thin lines show the range of the metric over seeds.
        metric: label of the vertical axis, with its unit.
    """
    factor, unit = common_unit([point.energy_j for point in points])
    series = list(dict.fromkeys(point.series for point in points))
    colours = dict(zip(series, itertools.cycle((SPIKE, ANN, SERIES, INK, MUTED, HOST)), strict=False))
    with drawing(9.6) as figure:
        panels = figure.subplots(len(CASES), sharex=True, sharey=True)
        for axes, case in zip(panels, CASES, strict=True):
            _panel(axes, points, case, factor, colours)
            axes.set_ylabel(metric)
        legend(panels[0], [(one, colours[one]) for one in series])
        log_energy(panels[0], 0.1)
        panels[-1].set_xlabel(
            f"{unit} per inference, logarithmic; thin lines: over seeds; dots: beaten by none, crosses: beaten"
        )
        for axes, case in zip(panels, CASES, strict=True):
            _label(figure, axes, points, case, factor)
    return figure


def _panel(axes: Axes, points: Sequence[Point], case: Case, factor: float, colours: Mapping[str, str]) -> None:
    front = sorted(pareto_front(points, case), key=lambda index: points[index].energy_in(case))
    best = [(factor * points[index].energy_in(case), points[index].metric) for index in front]
    axes.step(*zip(*best, strict=True), where="post", color=HOST, linewidth=1.1, zorder=1)
    for index, point in enumerate(points):
        x, colour = factor * point.energy_in(case), colours[point.series]
        if point.metric_low is not None and point.metric_high is not None:
            axes.plot([x, x], [point.metric_low, point.metric_high], color=colour, linewidth=0.9, zorder=2)
        marker, size = ("o", 6.5) if index in front else ("x", 5)
        axes.plot(x, point.metric, marker, color=colour, markersize=size, zorder=3)
    axes.text(0.01, 0.96, f"energy: {case}", transform=axes.transAxes, va="top", color=INK)


def _label(figure: Figure, axes: Axes, points: Sequence[Point], case: Case, factor: float) -> None:
    """Write the labels of points, those of the front first, without overlaps."""
    figure.draw_without_rendering()  # extents of labels are known once the axes have their place
    front = sorted(pareto_front(points, case), key=lambda index: points[index].energy_in(case))
    taken: list[Bbox] = []
    for index in [*front, *(other for other in range(len(points)) if other not in front)]:
        point = points[index]
        label = beside(axes, factor * point.energy_in(case), point.metric, point.label, above=6)
        extent = label.get_window_extent()
        if any(extent.overlaps(other) for other in taken):
            label.remove()
        else:
            taken.append(extent)
