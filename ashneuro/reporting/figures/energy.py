"""Energy: networks side by side, and estimates with and without static power."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ashneuro.reporting.figures.style import (
    ANN,
    HOST,
    INK,
    MUTED,
    SMALL,
    SPIKE,
    beside,
    drawing,
    legend,
    log_energy,
    name_rows,
)
from ashneuro.reporting.tables.table import common_unit, number, three_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ashneuro.cost.comparison.brief import Brief
    from ashneuro.cost.comparison.contenders import Contender, Group
    from ashneuro.cost.terms import CostEstimate

ORDERS = 100  # a wider span of energies is drawn on a logarithmic axis
MICROJOULES = (1e6, "µJ")
SHOWN = 3  # times the largest typical energy, where ranges of a brief comparison are cut


def contenders(group: Group) -> Figure:
    """Return host part and deployed part of every network of a group, and the range of their sum.

    Energies that are more than a factor `ORDERS` apart are dots on a logarithmic axis, unless the
    networks are comparable: then bars show the sums that the verdict compares.
    """
    known = [who.total_j for who in group.contenders if who.total_j and who.total_j.low > 0]
    wide = bool(known) and max(energy.high for energy in known) > ORDERS * min(energy.low for energy in known)
    with drawing(0.95 + 0.33 * len(group.contenders)) as figure:
        axes = figure.subplots()
        if wide and not group.comparable:
            _dots(axes, group)
        else:
            _bars(axes, group)
    return figure


def _bars(axes: Axes, group: Group) -> None:
    unit = common_unit([who.total_j for who in group.contenders])
    for index, who in enumerate(group.contenders):
        _bar(axes, index, who, unit)
    legend(axes, (("host part", HOST), ("deployed spiking part", SPIKE), ("ANN in its place", ANN)))
    name_rows(axes, [who.name for who in group.contenders])
    reach = max([who.total_j.high * unit[0] for who in group.contenders if who.total_j], default=1.0)
    axes.set_xlim(0, 1.14 * reach)
    axes.set_xlabel(f"{unit[1]} per inference; line: low to high")


def _bar(axes: Axes, index: int, who: Contender, unit: tuple[float, str]) -> None:
    factor, name = unit
    total = who.total_j
    if total is None:
        beside(axes, 0, index, "not estimable")
        return
    _part_bars(axes, index, who, factor)
    low, high = total.low * factor, total.high * factor
    if not total.is_point:
        axes.plot([low, high], [index, index], color=INK, linewidth=1.1, marker="|", markersize=6)
    text = f"{low:.3g}–{high:.3g}" if total.typical is None else f"{total.typical * factor:.3g}"
    beside(axes, high, index, f"{text} {name}")


def _dots(axes: Axes, group: Group) -> None:
    """Draw a dot at each typical energy and a line for its range."""
    factor, unit = MICROJOULES
    for index, who in enumerate(group.contenders):
        total = who.total_j
        if total is None or total.low <= 0:
            across = axes.get_yaxis_transform()
            axes.text(0.008, index, "not estimable", transform=across, va="center", color=MUTED, fontsize=SMALL)
            continue
        colour = SPIKE if who.spiking else ANN
        low, high = total.low * factor, total.high * factor
        axes.plot([low, high], [index, index], color=colour, linewidth=2.2)
        text = f"{number(three_digits(low))} – {number(three_digits(high))}"
        if total.typical is not None:
            axes.plot(total.typical * factor, index, "o", color=colour, markersize=6)
            text = number(three_digits(total.typical * factor))
        beside(axes, high, index, f"{text} {unit}")
    legend(axes, (("with the spiking part", SPIKE), ("ANN", ANN)))
    name_rows(axes, [who.name for who in group.contenders])
    axes.set_ylim(len(group.contenders) - 0.4, -0.6)
    log_energy(axes, 0.2)
    axes.set_xlabel(f"{unit} per inference, logarithmic; dot: typical, line: low to high")


def brief(found: Brief) -> Figure:
    """Return at most four networks, by part, with the range of their sum and the break-even rate.

    The axis ends at `SHOWN` times the largest typical energy; a longer range ends in an arrow, and
    its text has the number.
    """
    unit = common_unit([who.total_j for _, who in found.rows])
    factor, name = unit
    known = [energy for _, who in found.rows if (energy := who.total_j) is not None]
    centres = [factor * (energy.high if energy.typical is None else energy.typical) for energy in known]
    reach = min(max((factor * energy.high for energy in known), default=1.0), SHOWN * max(centres, default=1.0))
    with drawing(1.15 + 0.42 * len(found.rows)) as figure:
        axes = figure.subplots()
        for index, (_, who) in enumerate(found.rows):
            _part_bars(axes, index, who, factor)
            total = who.total_j
            if total is None:
                beside(axes, 0, index, "not estimable")
                continue
            low, high = total.low * factor, total.high * factor
            if not total.is_point:
                axes.plot([low, min(high, reach)], [index, index], color=INK, linewidth=1.1)
                axes.plot(low, index, "|", color=INK, markersize=6)
                axes.plot(min(high, reach), index, ">" if high > reach else "|", color=INK, markersize=6)
            typical = "" if total.typical is None else f"{number(three_digits(total.typical * factor))} {name}, "
            spread = f"{number(three_digits(low))} – {number(three_digits(high))}"
            beside(axes, min(high, reach), index, f"{typical}{spread}")
        legend(axes, (("host part", HOST), ("spiking part", SPIKE), ("ANN in its place", ANN)))
        name_rows(axes, found.names())
        axes.set_xlim(0, 1.35 * reach)
        axes.set_xlabel("\n".join(filter(None, (f"{name} per inference; line: low to high", found.sentence()))))
    return figure


def _part_bars(axes: Axes, index: int, who: Contender, factor: float) -> None:
    """Draw the typical energy of the host part, and of what is deployed behind it."""
    host, deployed = who.host_j, who.deployed_j
    if host and deployed and host.typical is not None and deployed.typical is not None:
        axes.barh(index, host.typical * factor, height=0.6, color=HOST)
        colour = SPIKE if who.spiking else ANN
        axes.barh(index, deployed.typical * factor, height=0.6, left=host.typical * factor, color=colour)


def totals(costs: Sequence[CostEstimate]) -> Figure:
    """Return the dynamic energy of estimates and their totals with static power."""
    factor, unit = MICROJOULES
    rows = []
    for cost in costs:
        rows.append((cost.profile, "events only", cost.dynamic_j, SPIKE))
        for whole in cost.totals:
            what = "events + static" if whole.total_j else "static alone"
            rows.append(
                (cost.profile, f"{what}, {whole.name.replace('_', ' ')}", whole.total_j or whole.energy_j, HOST)
            )
    known = [(f"{profile}: {what}", energy, colour) for profile, what, energy, colour in rows if energy is not None]
    with drawing(0.7 + 0.3 * len(known)) as figure:
        axes = figure.subplots()
        for index, (_, energy, colour) in enumerate(known):
            low, high = energy.low * factor, energy.high * factor
            # A range narrower than a line's width would not be seen.
            axes.plot([low, max(high, low * 1.02)], [index, index], color=colour, linewidth=7, solid_capstyle="butt")
            if energy.typical is not None:
                axes.plot([energy.typical * factor] * 2, [index - 0.3, index + 0.3], color=INK, linewidth=1.4)
            text = f"{number(low)} – {number(high)}" if high > low else number(low)
            beside(axes, high, index, f"{text} {unit}")
        name_rows(axes, [name for name, _, _ in known])
        axes.set_ylim(len(known) - 0.4, -0.6)
        log_energy(axes, 0.25)
        axes.set_xlabel(f"{unit} per inference, logarithmic; mark: typical, where known")
    return figure
