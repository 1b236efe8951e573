"""Retrieval metrics of networks side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ashneuro.reporting.figures.style import ANN, LINE, SPIKE, beside, drawing, legend, name_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ashneuro.evaluation import RetrievalRow


def accuracies(rows: Mapping[str, float], measure: str) -> Figure:
    """Return a bar for each named accuracy (a fraction)."""
    with drawing(0.7 + 0.3 * len(rows)) as figure:
        axes = figure.subplots()
        for index, value in enumerate(rows.values()):
            axes.barh(index, 100 * value, height=0.62, color=SPIKE)
            beside(axes, 100 * value, index, f"{100 * value:.1f} %")
        name_rows(axes, list(rows))
        axes.set_xlim(0, max(1e-9, 112 * max(rows.values(), default=0)))
        axes.set_xlabel(f"{measure}, %")
    return figure


def recalls(rows: Sequence[tuple[str, RetrievalRow]]) -> Figure:
    """Return R@1 in both directions as dots, a line per named row."""
    with drawing(0.95 + 0.3 * len(rows)) as figure:
        axes = figure.subplots()
        for index, (_, row) in enumerate(rows):
            percents = [100 * metrics["R@1"] for metrics in row.directions]
            axes.plot([min(percents), max(percents)], [index, index], color=LINE, linewidth=2.5, zorder=1)
            for value, colour in zip(percents, (SPIKE, ANN), strict=True):
                axes.plot(value, index, "o", color=colour, markersize=6.5, zorder=2)
        legend(axes, (("image → text", SPIKE), ("text → image", ANN)))
        name_rows(axes, [name for name, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel("R@1, %")
    return figure
