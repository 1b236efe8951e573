"""Colours, style and helpers that all figures share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ashneuro.reporting.tables.table import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

INK, MUTED, LINE = "#101418", "#6b7280", "#d9dde3"
SPIKE, ANN, HOST, SERIES = "#1d7a8c", "#c9772b", "#9aa5b1", "#7b5ea7"

WIDTH = 9.2  # inches; at 72 points each about the width of the page's text
SMALL = 8.5  # points
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,  # names come from files: a $ is a dollar
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
}


@contextmanager
def drawing(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """Yield an empty figure in our style, without pyplot; sizes in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        # An axis makes its first tick on demand, in the style of that moment. The figure may be
        # shown after the block, so ask now; further ticks are copies of the first.
        for axes in figure.axes:
            axes.xaxis.get_major_ticks(1)
            axes.yaxis.get_major_ticks(1)


def beside(axes: Axes, x: float, y: float, text: str, above: float = 0) -> Annotation:
    """Write ``text`` to the right of a point, ``above`` points higher."""
    return axes.annotate(
        text, (x, y), xytext=(6, above), textcoords="offset points", va="center", color=MUTED, fontsize=SMALL
    )


def legend(axes: Axes, entries: Sequence[tuple[str, str]]) -> None:
    """Write a legend of (label, colour) above the axes."""
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=label) for label, colour in entries]
    axes.legend(
        handles=handles,
        fontsize=SMALL,
        labelcolor=MUTED,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=len(handles),
        handlelength=1.0,
    )


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Label one row per name, the first at the top, without horizontal grid lines."""
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


def log_energy(axes: Axes, room: float) -> None:
    """Make x logarithmic, with ``room`` (a share of its span) for text on the right."""
    axes.set_xscale("log")
    left, right = axes.get_xlim()
    axes.set_xlim(left, right * (right / left) ** room)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
