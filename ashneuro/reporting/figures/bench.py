"""Benchmarks of layers and networks (schema ``ashneuro.bench/1``): times relative to a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ashneuro.reporting.figures.style import ANN, HOST, INK, SPIKE, drawing, name_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def jobs(content: Mapping[str, Any]) -> Figure:
    """Return a bar for each implementation of each job: time over the baseline's, with range."""
    timed = [(job, [way for way in job["ways"] if not way["reason"]]) for job in content["jobs"]]
    heights = [len(ways) + 1.6 for _, ways in timed]
    with drawing(0.27 * sum(heights) + 0.3, width=8.2) as figure:
        column = figure.subplots(len(timed), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (job, ways) in zip(column, timed, strict=True):
            _job(axes, job["title"], job["baseline"], ways)
    return figure


def _job(axes: Axes, title: str, baseline: str, ways: Sequence[Mapping[str, Any]]) -> None:
    ratios = [way["ratio"] for way in ways]
    names = [way["name"] for way in ways]
    middle = [ratio["median"] for ratio in ratios]
    ends = [
        [ratio["median"] - ratio["low"] for ratio in ratios],
        [ratio["high"] - ratio["median"] for ratio in ratios],
    ]
    colours = [HOST if name == baseline else SPIKE if name.startswith(("ashneuro", "LIF")) else ANN for name in names]
    whiskers = {"ecolor": INK, "elinewidth": 0.8}
    axes.barh(range(len(ways)), middle, height=0.7, color=colours, xerr=ends, error_kw=whiskers)
    axes.axvline(1, color=INK, linewidth=0.8)
    name_rows(axes, names)
    axes.set_title(f"{title}: time, {baseline} = 1")
    axes.set_xlim(0, 1.12 * max(ratio["high"] for ratio in ratios))
    across = axes.get_yaxis_transform()
    for row, value in enumerate(middle):
        axes.text(0.01, row, f"{value:.2f}×", va="center", ha="left", color="white", fontsize=8, transform=across)
