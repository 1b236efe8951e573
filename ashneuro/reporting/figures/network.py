"""Spikes of a network: a raster, and firing rates by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ashneuro.reporting.figures.style import ANN, INK, MUTED, SMALL, SPIKE, beside, drawing, name_rows
from ashneuro.reporting.tables.table import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 560  # of a raster: about one per pixel


def raster(layers: Mapping[str, NDArray[np.generic]]) -> Figure:
    """Return the spikes of one sample, a strip per layer: timesteps downwards, neurons across.

    Args:
        layers: (T, neurons…) by name, in order; 0 or 1.
    """
    steps = max(len(spikes) for spikes in layers.values())
    height = max(0.34, min(0.13 * steps, 1.2))
    below = f"↓ {steps} steps   → neurons"
    if any(spikes[0].size > COLUMNS for spikes in layers.values()):
        below += "; where several share a column, its shade is the part of them that spiked"
    with drawing(0.35 + len(layers) * (height + 0.14)) as figure:
        strips = figure.subplots(len(layers), 1, squeeze=False)[:, 0]
        for axes, (name, spikes) in zip(strips, layers.items(), strict=True):
            _strip(axes, name, np.asarray(spikes).reshape(len(spikes), -1) != 0)
        last = strips[-1]
        last.text(0, -0.12, below, transform=last.transAxes, ha="left", va="top", color=MUTED, fontsize=SMALL)
    return figure


def _strip(axes: Axes, name: str, spikes: NDArray[np.bool_]) -> None:
    """Draw spikes (T, neurons) of one layer, with at most `COLUMNS` columns."""
    rgba = np.zeros((len(spikes), min(COLUMNS, spikes.shape[1]), 4), np.uint8)
    rgba[..., :3] = [int(SPIKE[i : i + 2], 16) for i in (1, 3, 5)]
    for column, neurons in enumerate(np.array_split(spikes, rgba.shape[1], axis=1)):
        rgba[:, column, 3] = 18 + 237 * neurons.mean(axis=1)
    axes.imshow(rgba, aspect="auto", interpolation="none", extent=(0, rgba.shape[1], len(spikes), 0))
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.text(-0.012, 0.5, name, transform=axes.transAxes, ha="right", va="center")
    size = f"{spikes.shape[1]:,} neurons, {percent(float(spikes.mean()))}"
    axes.text(1.012, 0.5, size, transform=axes.transAxes, ha="left", va="center", color=MUTED, fontsize=SMALL)


def firing_rates(rates: Mapping[str, float], mean: float, break_even: float | None = None) -> Figure:
    """Return firing rates by layer, their mean over neurons, and the break-even rate if below 1.

    Args:
        rates: spikes per neuron and timestep, by layer.
        mean: over all neurons.
        break_even: rate at which the spiking part takes the energy of the int8 ANN in its place.
    """
    percents = [100 * rate for rate in rates.values()]
    lines = [(mean, INK, "mean over neurons")]
    if break_even is not None and 0 < break_even < 1:
        lines.append((break_even, ANN, "breaks even with the int8 ANN twin"))
    with drawing(0.9 + 0.3 * len(rates)) as figure:
        axes = figure.subplots()
        axes.barh(range(len(rates)), percents, height=0.62, color=SPIKE)
        for index, rate in enumerate(percents):
            beside(axes, rate, index, f"{rate:.1f} %")
        for rate, colour, label in lines:
            axes.axvline(100 * rate, color=colour, linewidth=1.2, linestyle="--", label=f"{label}: {percent(rate)}")
        name_rows(axes, list(rates))
        axes.set_xlim(0, 1.18 * max([*percents, *(100 * rate for rate, _, _ in lines), 1e-9]))
        axes.set_xlabel("spikes per neuron and step, %")
        axes.legend(fontsize=SMALL, labelcolor=MUTED, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    return figure
