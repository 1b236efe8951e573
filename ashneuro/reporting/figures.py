"""Figures as inline SVG whose colours are the page's own, so that they follow light and dark.

Each function returns one ``<svg>`` with a text alternative. Nothing is drawn that was not given.
"""

from __future__ import annotations

import html
import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.reporting.tables import common_unit, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

    from ashneuro.cost.comparison.contenders import Group
    from ashneuro.cost.profile import Range
    from ashneuro.cost.terms import CostEstimate
    from ashneuro.cost.workload import Workload

# Drawn in these colours, shown in the page's CSS variables.
INK, MUTED, LINE = "#101418", "#6b7280", "#d9dde3"
SPIKE, ANN, HOST, SERIES = "#1d7a8c", "#c9772b", "#9aa5b1", "#7b5ea7"
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    SPIKE: "--spike",
    ANN: "--ann",
    HOST: "--host",
    SERIES: "--series",
}


@dataclass(frozen=True)
class Point:
    """One network in a plot of energy against quality.

    Args:
        label: what was varied, e.g. ``"T = 4"``; stands beside the point.
        series: points of one series share a colour, e.g. ``"hybrid"``, ``"3-bit ReLU twin"``.
        energy_j: joules per inference; from low to high where it is a range.
        metric: what is to be large, e.g. recall as a fraction; the mean over seeds.
        metric_low, metric_high: the smallest and the largest over seeds; ``None``: one seed.
    """

    label: str
    series: str
    energy_j: Range
    metric: float
    metric_low: float | None = None
    metric_high: float | None = None

    @property
    def energy_centre_j(self) -> float:
        """The typical energy; the middle of the range where none is typical."""
        return (self.energy_j.low + self.energy_j.high) / 2 if self.energy_j.typical is None else self.energy_j.typical


COLUMNS = 560  # of a raster: about one per pixel
ORDERS = 100  # a wider span of energies is drawn on a logarithmic axis
WIDTH = 9.2  # inches; at 72 units each about the width of the text
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
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.transparent": True,
}


Points = list[tuple[float, float]]
"""Points (x, y) of a curve."""


def training_curves(x: str, panels: Mapping[str, Sequence[tuple[str, Points]]], alt: str) -> str:
    """Return curves over training.

    Args:
        x: label of the horizontal axis.
        panels: (label, points) of every curve, by title of the panel. Panels without curves are
            left out; an empty label draws a thin line.
    """
    series = {title: lines for title, lines in panels.items() if lines}

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots(1, len(series), squeeze=False)[0]
        for axis, (title, lines) in zip(axes, series.items(), strict=True):
            colours = itertools.cycle((SPIKE, ANN, SERIES, HOST, INK, MUTED))
            for label, points in sorted(lines, key=lambda item: bool(item[0])):
                steps, values = zip(*points, strict=True)
                marker = "o" if len(points) < 3 else None
                look = (
                    {"color": next(colours), "linewidth": 1.6, "label": label}
                    if label
                    else {"color": HOST, "linewidth": 0.8}
                )
                axis.plot(steps, values, marker=marker, markersize=3, **look)
            axis.set_title(title)
            axis.set_xlabel(x)
            axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
            axis.set_ylim(bottom=0)
            if any(label for label, _ in lines) and len(lines) > 1:
                axis.legend(fontsize=8.5, labelcolor=MUTED)

    return _svg("training", draw, (WIDTH, 2.9), alt)


def spike_raster(layers: Mapping[str, NDArray[np.generic]], alt: str) -> str:
    """Return the spikes of one sample: per layer a strip, steps downwards, neurons across.

    Args:
        layers: (T, neurons…) per layer, in order; 0 or 1.
    """
    steps = max(len(raster) for raster in layers.values())
    row = max(0.34, min(0.13 * steps, 1.2))

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(layers), 1, squeeze=False)[:, 0]
        for axis, (name, raster) in zip(axes, layers.items(), strict=True):
            flat = np.asarray(raster).reshape(len(raster), -1) != 0
            rgba = np.zeros((len(flat), min(COLUMNS, flat.shape[1]), 4), np.uint8)
            rgba[..., :3] = [int(SPIKE[i : i + 2], 16) for i in (1, 3, 5)]
            for column, neurons in enumerate(np.array_split(flat, rgba.shape[1], axis=1)):
                rgba[:, column, 3] = 18 + 237 * neurons.mean(axis=1)
            axis.imshow(rgba, aspect="auto", interpolation="none", extent=(0, rgba.shape[1], len(flat), 0))
            axis.grid(False)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            axis.text(-0.012, 0.5, name, transform=axis.transAxes, ha="right", va="center")
            beside = f"{flat.shape[1]:,} neurons, {percent(float(flat.mean()))}"
            axis.text(1.012, 0.5, beside, transform=axis.transAxes, ha="left", va="center", color=MUTED, fontsize=8.5)
        below = f"↓ {steps} steps   → neurons"
        if any(raster[0].size > COLUMNS for raster in layers.values()):
            below += "; where several share a column, its shade is the part of them that spiked"
        axes[-1].text(0, -0.12, below, transform=axes[-1].transAxes, ha="left", va="top", color=MUTED, fontsize=8.5)

    return _svg("raster", draw, (WIDTH, 0.35 + len(layers) * (row + 0.14)), alt)


def firing_rates(workload: Workload, break_even: float | None, alt: str) -> str:
    """Return firing rates per layer, the mean over neurons, and the break-even rate where it lies below 1."""
    layers = [layer for layer in workload.layers if layer.firing_rate is not None]
    mean = workload.firing_rate or 0.0

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        rates = [100 * (layer.firing_rate or 0.0) for layer in layers]
        axis.barh(range(len(layers)), rates, height=0.62, color=SPIKE)
        for index, rate in enumerate(rates):
            _beside(axis, rate, index, f"{rate:.1f} %")
        shown = [(mean, INK, "mean over neurons")]
        if break_even is not None and 0 < break_even < 1:
            shown.append((break_even, ANN, "breaks even with the int8 ANN twin"))
        for rate, colour, label in shown:
            axis.axvline(100 * rate, color=colour, linewidth=1.2, linestyle="--", label=f"{label}: {percent(rate)}")
        axis.set_yticks(range(len(layers)), [layer.name for layer in layers])
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_xlim(0, 1.18 * max([*rates, *(100 * rate for rate, _, _ in shown), 1e-9]))
        axis.set_xlabel("spikes per neuron and step, %")
        axis.legend(fontsize=8.5, labelcolor=MUTED, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)

    return _svg("rates", draw, (WIDTH, 0.9 + 0.3 * len(layers)), alt)


def energy_bars(group: Group, name: str, alt: str) -> str:
    """Return the contenders of one comparison: host part and deployed part, and the range of their sum; ``name`` is unique on the page."""
    known = [who.total_j for who in group.contenders if who.total_j and who.total_j.low > 0]
    if (
        known
        and max(energy.high for energy in known) > ORDERS * min(energy.low for energy in known)
        and not group.comparable
    ):
        return _energy_dots(group, name, alt)
    unit = common_unit([who.total_j for who in group.contenders])

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        reach = max([who.total_j.high * unit[0] for who in group.contenders if who.total_j], default=1.0)
        for index, who in enumerate(group.contenders):
            total, host, deployed = who.total_j, who.host_j, who.deployed_j
            if total is None:
                _beside(axis, 0, index, "not estimable")
                continue
            if host and deployed and host.typical is not None and deployed.typical is not None:
                colour = SPIKE if who.spiking else ANN
                axis.barh(index, host.typical * unit[0], height=0.6, color=HOST)
                axis.barh(index, deployed.typical * unit[0], height=0.6, left=host.typical * unit[0], color=colour)
            low, high = total.low * unit[0], total.high * unit[0]
            if not total.is_point:
                axis.plot([low, high], [index, index], color=INK, linewidth=1.1, marker="|", markersize=6)
            text = (
                f"{total.typical * unit[0]:.3g} {unit[1]}"
                if total.typical is not None
                else f"{low:.3g}–{high:.3g} {unit[1]}"
            )
            _beside(axis, high, index, text)
        _legend(axis, (("host part", HOST), ("deployed spiking part", SPIKE), ("ANN in its place", ANN)))
        axis.set_yticks(range(len(group.contenders)), [who.name for who in group.contenders])
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_xlim(0, 1.14 * reach)
        axis.set_xlabel(f"{unit[1]} per inference; line: low to high")

    return _svg(name, draw, (WIDTH, 0.95 + 0.33 * len(group.contenders)), alt)


def _energy_dots(group: Group, name: str, alt: str) -> str:
    """Return the same on a logarithmic axis, where bars would hide most contenders: a dot at the typical value, a line for the range."""
    unit = (1e6, "µJ")

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for index, who in enumerate(group.contenders):
            total = who.total_j
            if total is None or total.low <= 0:
                axis.text(
                    0.008,
                    index,
                    "not estimable",
                    transform=axis.get_yaxis_transform(),
                    va="center",
                    color=MUTED,
                    fontsize=8.5,
                )
                continue
            colour = SPIKE if who.spiking else ANN
            low, high = total.low * unit[0], total.high * unit[0]
            axis.plot([low, high], [index, index], color=colour, linewidth=2.2)
            if total.typical is not None:
                axis.plot(total.typical * unit[0], index, "o", color=colour, markersize=6)
            text = (
                number(_digits(total.typical * unit[0]))
                if total.typical is not None
                else f"{number(_digits(low))} – {number(_digits(high))}"
            )
            _beside(axis, high, index, f"{text} {unit[1]}")
        _legend(axis, (("with the spiking part", SPIKE), ("ANN", ANN)))
        axis.set_xscale("log")
        left, right = axis.get_xlim()
        axis.set_xlim(left, right * (right / left) ** 0.2)
        axis.set_yticks(range(len(group.contenders)), [who.name for who in group.contenders])
        axis.set_ylim(len(group.contenders) - 0.4, -0.6)
        axis.grid(axis="y", visible=False)
        axis.minorticks_off()
        axis.xaxis.set_major_formatter(lambda value, _: number(value))
        axis.set_xlabel(f"{unit[1]} per inference, logarithmic; dot: typical, line: low to high")

    return _svg(name, draw, (WIDTH, 0.95 + 0.33 * len(group.contenders)), alt)


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


def total_ranges(costs: Sequence[CostEstimate], alt: str) -> str:
    """Return, on a logarithmic axis, dynamic energy and the totals with static power, per profile and boundary."""
    rows = [(f"{cost.profile}: events only", cost.dynamic_j, SPIKE) for cost in costs]
    for cost in costs:
        for whole in cost.totals:
            name = f"{cost.profile}: {'events + static' if whole.total_j else 'static alone'}, {whole.name.replace('_', ' ')}"
            rows.append((name, whole.total_j or whole.energy_j, HOST))
    rows = sorted((row for row in rows if row[1] is not None), key=lambda row: row[0].partition(":")[0])
    unit = (1e6, "µJ")

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for index, (_, energy, colour) in enumerate(rows):
            assert energy is not None
            low, high = energy.low * unit[0], energy.high * unit[0]
            axis.plot([low, max(high, low * 1.02)], [index, index], color=colour, linewidth=7, solid_capstyle="butt")
            if energy.typical is not None:
                axis.plot([energy.typical * unit[0]] * 2, [index - 0.3, index + 0.3], color=INK, linewidth=1.4)
            text = f"{number(low)} – {number(high)}" if high > low else number(low)
            _beside(axis, high, index, f"{text} {unit[1]}")
        axis.set_xscale("log")
        left, right = axis.get_xlim()
        axis.set_xlim(left, right * (right / left) ** 0.25)
        axis.set_yticks(range(len(rows)), [row[0] for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.grid(axis="y", visible=False)
        axis.minorticks_off()
        axis.xaxis.set_major_formatter(lambda value, _: number(value))
        axis.set_xlabel(f"{unit[1]} per inference, logarithmic; mark: typical, where known")

    return _svg("totals", draw, (WIDTH, 0.7 + 0.3 * len(rows)), alt)


def pareto_front(points: Sequence[Point]) -> tuple[int, ...]:
    """Return the indices of points that no other beats: none needs at most as much energy for at least the metric, and is better in one."""
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


def pareto(points: Sequence[Point], metric: str, alt: str, name: str = "pareto") -> str:
    """Return energy (logarithmic, to the right) against a metric (upwards), and the line of points that no other beats.

    Points of the line are named first; a name that would cover another is left out.

    Args:
        points: at least one; ranges of energy and of the metric over seeds are drawn as thin lines.
        metric: name of the vertical axis, with its unit.
        alt: the text alternative.
        name: unique on the page.
    """
    factor, unit = common_unit([point.energy_j for point in points])
    front = sorted(pareto_front(points), key=lambda index: points[index].energy_centre_j)

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        best = [(factor * points[index].energy_centre_j, points[index].metric) for index in front]
        axis.step(*zip(*best, strict=True), where="post", color=HOST, linewidth=1.1, zorder=1)
        series = list(dict.fromkeys(point.series for point in points))
        colours = dict(zip(series, itertools.cycle((SPIKE, ANN, SERIES, INK, MUTED, HOST)), strict=False))
        for index, point in enumerate(points):
            x, colour = factor * point.energy_centre_j, colours[point.series]
            axis.plot(
                [factor * point.energy_j.low, factor * point.energy_j.high],
                [point.metric] * 2,
                color=colour,
                linewidth=0.9,
                zorder=2,
            )
            if point.metric_low is not None and point.metric_high is not None:
                axis.plot([x, x], [point.metric_low, point.metric_high], color=colour, linewidth=0.9, zorder=2)
            axis.plot(
                x,
                point.metric,
                "o" if index in front else "x",
                color=colour,
                markersize=6.5 if index in front else 5,
                zorder=3,
            )
        _legend(axis, [(one, colours[one]) for one in series])
        axis.set_xscale("log")
        axis.minorticks_off()
        axis.xaxis.set_major_formatter(lambda value, _: number(value))
        axis.set_xlabel(
            f"{unit} per inference, logarithmic; thin lines: low to high, and over seeds; dots: beaten by none, crosses: beaten"
        )
        axis.set_ylabel(metric)
        figure.draw_without_rendering()  # where names fall is known once the axes have their place
        named: list[Bbox] = []
        for index in [*front, *(other for other in range(len(points)) if other not in front)]:
            label = _beside(
                axis, factor * points[index].energy_centre_j, points[index].metric, points[index].label, above=6
            )
            place = label.get_window_extent()
            if any(place.overlaps(other) for other in named):
                label.remove()
            else:
                named.append(place)

    return _svg(name, draw, (WIDTH, 4.2), alt)


def recalls(rows: Sequence[tuple[str, float | None, float | None]], alt: str) -> str:
    """Return R@1 of every evaluation as dots, both directions.

    Args:
        rows: name, image→text, text→image, as fractions.
    """

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for index, (_, forward, backward) in enumerate(rows):
            known = [100 * value for value in (forward, backward) if value is not None]
            if known:
                axis.plot([min(known), max(known)], [index, index], color=LINE, linewidth=2.5, zorder=1)
            for value, colour in ((forward, SPIKE), (backward, ANN)):
                if value is not None:
                    axis.plot(100 * value, index, "o", color=colour, markersize=6.5, zorder=2)
        _legend(axis, (("image → text", SPIKE), ("text → image", ANN)))
        axis.set_yticks(range(len(rows)), [row[0] for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.grid(axis="y", visible=False)
        axis.set_xlim(left=0)
        axis.set_xlabel("R@1, %")

    return _svg("recall", draw, (WIDTH, 0.95 + 0.3 * len(rows)), alt)


def _beside(axis: Axes, x: float, y: float, text: str, above: float = 0) -> Annotation:
    return axis.annotate(
        text, (x, y), xytext=(6, above), textcoords="offset points", va="center", color=MUTED, fontsize=8.5
    )


def _legend(axis: Axes, entries: Sequence[tuple[str, str]]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=label) for label, colour in entries]
    axis.legend(
        handles=handles,
        fontsize=8.5,
        labelcolor=MUTED,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=len(handles),
        handlelength=1.0,
    )


def _svg(name: str, draw: Callable[[Figure], None], size: tuple[float, float], alt: str) -> str:
    """Return the drawing as an SVG for the page: its own ids, the page's colours and font, a text alternative."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font-family: [^;\"]+", "font-family: inherit", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    width, height = (72 * side for side in size)
    label = html.escape(alt)
    head = f'<svg class="figure" role="img" aria-label="{label}" viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg"'
    head += ' xmlns:xlink="http://www.w3.org/1999/xlink">'
    return head + f"<title>{label}</title>" + text[text.index(">", text.index("<svg")) + 1 :].strip()
