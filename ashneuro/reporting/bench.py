"""Benchmarks of layers and networks (schema ``ashneuro.bench/1``): tables for the terminal, and one plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ashneuro.reporting.figures import ANN, HOST, INK, SPIKE, STYLE
from ashneuro.reporting.tables import NOTHING, Table, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def job_tables(content: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return a table for each job."""
    machine = content["machine"]
    load = " before, ".join(f"{value:.1f}" for value in machine["load"]) + " after" if machine["load"] else "not known"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; load average {load}.\n"
        f"device {content['device']}, {content['threads']} thread(s); kernels by default: {content['kernels']}.\n{versions}."
    )
    clock = "wall-clock time" if content["clock"] == "wall" else "processor time"
    basis = f"measured, {content['rounds']} rounds in turn, medians of {clock}, forward and backward"
    tables = []
    for job in content["jobs"]:
        rows, notes = [], []
        peaks = any(way["peak_bytes"] for way in job["ways"])
        for way in job["ways"]:
            if way["reason"]:
                rows.append((way["name"], "not run", *[NOTHING] * (3 + peaks)))
                notes.append(f"{way['name']}: not run, because {way['reason']}.")
                continue
            seconds, ratio = way["seconds"], way["ratio"]
            memory = [f"{way[name] / 1e6:.1f}" for name in ("kept_bytes", "peak_bytes")[: 1 + peaks]]
            rows.append(
                (
                    way["name"],
                    number(seconds["median"] * 1e3),
                    f"{ratio['median']:.2f}×",
                    f"{ratio['low']:.2f} – {ratio['high']:.2f}",
                    *memory,
                )
            )
        columns = ("way", ">ms", f">of {job['baseline']}", ">min – max", ">kept, MB", *[">peak, MB"] * peaks)
        tables.append(Table(job["title"], columns, tuple(rows), basis, "\n".join([*notes, where])))
        # Files of earlier versions have no parts.
        split = [way for way in job["ways"] if way.get("parts")]
        if split:
            tables.append(_parts(split, where))
    return tuple(tables)


def _parts(ways: Sequence[Mapping[str, Any]], where: str) -> Table:
    names = list(ways[0]["parts"])
    rows = []
    for way in ways:
        whole = sum(way["parts"].values())
        rows.append(
            (way["name"], *(f"{1e3 * way['parts'][name]:.1f} ({way['parts'][name] / whole:.0%})" for name in names))
        )
    return Table(
        "Where it goes, ms",
        ("way", *(f">{name}" for name in names)),
        tuple(rows),
        "measured with a profiler, which adds to it",
        where,
    )


def job_plot(content: Mapping[str, Any]) -> str:
    """Return an SVG with a bar for every way of every job: its time over the baseline's, with the range over the rounds."""
    import io

    import matplotlib
    from matplotlib.figure import Figure

    jobs = [
        (job["title"], job["baseline"], [way for way in job["ways"] if not way["reason"]]) for job in content["jobs"]
    ]
    heights = [len(ways) + 1.6 for _, _, ways in jobs]
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": content["benchmark"]}):
        figure = Figure(figsize=(8.2, 0.27 * sum(heights) + 0.3), layout="constrained", facecolor="white")
        for axes, (title, baseline, ways) in zip(
            figure.subplots(len(jobs), 1, squeeze=False, height_ratios=heights)[:, 0], jobs, strict=True
        ):
            middle = [way["ratio"]["median"] for way in ways]
            ends = [[m - way["ratio"]["low"] for m, way in zip(middle, ways, strict=True)]]
            ends.append([way["ratio"]["high"] - m for m, way in zip(middle, ways, strict=True)])
            names = [way["name"] for way in ways]
            colours = [
                HOST if name == baseline else SPIKE if name.startswith(("ashneuro", "LIF")) else ANN for name in names
            ]
            axes.barh(names, middle, color=colours, xerr=ends, error_kw={"ecolor": INK, "elinewidth": 0.8}, height=0.7)
            axes.axvline(1, color=INK, linewidth=0.8)
            axes.invert_yaxis()
            axes.set_title(f"{title}: time, {baseline} = 1")
            axes.grid(visible=False, axis="y")
            axes.set_xlim(0, 1.12 * max(m + e for m, e in zip(middle, ends[1], strict=True)))
            for place, value in enumerate(middle):
                axes.text(
                    0.01,
                    place,
                    f"{value:.2f}×",
                    va="center",
                    ha="left",
                    color="white",
                    fontsize=8,
                    transform=axes.get_yaxis_transform(),
                )
        return _svg(figure, io.StringIO())


def _svg(figure: Figure, buffer: Any) -> str:
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text: str = buffer.getvalue()
    return text[text.index("<svg") :]
