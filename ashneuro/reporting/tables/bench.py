"""Benchmarks (schema ``ashneuro.bench/1``): speeds and their ratio to a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ashneuro.reporting.tables.table import NOTHING, Table, not_run, number, percent
from ashneuro.reporting.words import Basis


def jobs(content: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return the times and memory of a benchmark of layers or networks, a table for each job."""
    where = (
        f"{_machine(content)}.\ndevice {content['device']}, {content['threads']} thread(s); "
        f"kernels by default: {content['kernels']}.\n{_versions(content)}."
    )
    clock = "wall-clock time" if content["clock"] == "wall" else "processor time"
    how = f", {content['rounds']} rounds in turn, medians of {clock}, forward and backward"
    tables = []
    for job in content["jobs"]:
        tables.append(_job(job, how, where))
        # Files of earlier versions have no parts.
        split = [way for way in job["ways"] if way.get("parts")]
        if split:
            tables.append(_parts(split, where))
    return tuple(tables)


def _job(job: Mapping[str, Any], how: str, where: str) -> Table:
    rows, notes = [], []
    # Peak memory is known on CUDA alone.
    peaks = any(way["peak_bytes"] for way in job["ways"])
    items = job.get("items", 0)  # files of earlier versions have none
    for way in job["ways"]:
        if way["reason"]:
            rows.append((way["name"], not_run(), *[NOTHING] * (3 + peaks + bool(items))))
            notes.append(f"{way['name']}: not run, because {way['reason']}.")
            continue
        ratio = way["ratio"]
        rows.append(
            (
                way["name"],
                number(way["seconds"]["median"] * 1e3),
                *([f"{items / way['seconds']['median']:,.0f}"] if items else []),
                f"{ratio['median']:.2f}×",
                f"{ratio['low']:.2f} – {ratio['high']:.2f}",
                *(f"{way[name] / 1e6:.1f}" for name in ("kept_bytes", "peak_bytes")[: 1 + peaks]),
            )
        )
    rate = [">pairs/s"] if items else []
    columns = (
        "implementation",
        ">ms",
        *rate,
        f">of {job['baseline']}",
        ">min – max",
        ">kept, MB",
        *[">peak, MB"] * peaks,
    )
    return Table(job["title"], columns, tuple(rows), Basis.MEASURED, how, "\n".join([*notes, where]))


def _parts(ways: Sequence[Mapping[str, Any]], where: str) -> Table:
    names = list(ways[0]["parts"])
    rows = []
    for way in ways:
        parts, whole = way["parts"], sum(way["parts"].values())
        rows.append((way["name"], *(f"{1e3 * parts[name]:.1f} ({parts[name] / whole:.0%})" for name in names)))
    columns = ("implementation", *(f">{name}" for name in names))
    how = "with a profiler, which adds to it"
    return Table("Time by part, ms", columns, tuple(rows), Basis.MEASURED, how, where)


def beside(content: Mapping[str, Any]) -> Table:
    """Return the speeds of trainings beside other work."""
    rows = [
        (
            each["name"],
            str(each["threads"]),
            f"{each['pairs_per_s']['median']:,.0f}",
            f"{each['ratio']['median']:.2f}×",
            f"{each['ratio']['low']:.2f} – {each['ratio']['high']:.2f}",
        )
        for each in content["situations"]
    ]
    how = f", {content['rounds']} rounds in turn of {content['seconds']:g} s, medians, all trainings together"
    columns = ("trainings", ">threads of each", ">pairs/s", ">of alone", ">min – max")
    where = f"{_machine(content)}.\n{_versions(content)}."
    return Table("Training beside other work", columns, tuple(rows), Basis.MEASURED, how, where)


def emulator(content: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return the speeds of the emulator and of Lava, a table for each network."""
    how = f", {content['rounds']} rounds in turn, medians"
    where = f"{_machine(content)}.\n{_versions(content)}."
    return tuple(_emulated(network, how, where) for network in content["networks"])


def _emulated(network: Mapping[str, Any], how: str, where: str) -> Table:
    rows, notes = [], []
    for speed in network["speeds"]:
        threads = NOTHING if speed["threads"] is None else str(speed["threads"])
        if speed["reason"]:
            rows.append((speed["name"], threads, not_run(), *[NOTHING] * 5))
            notes.append(f"{speed['name']}: not run, because {speed['reason']}.")
            continue
        rates = (*_spread(speed["per_second"]), *_spread(speed["ratio"], "×"))
        differ = number(speed["mismatches"]) if speed["mismatches"] else "none"
        rows.append((speed["name"], threads, *rates, number(speed["samples"]), differ))
        if start := speed["start_s"]:
            middle, ends = _spread(start, " s")
            notes.append(f"{speed['name']}: {middle} ({ends}) to start each time, not in its samples/s.")
    mismatches = sum(speed["mismatches"] for speed in network["speeds"])
    equal = f"{number(mismatches)} differ: the speeds of what differs mean nothing" if mismatches else "all equal"
    notes.append(
        f"{number(network['compared'])} values compared, {equal}; firing rate {percent(network['firing_rate'])}."
    )
    columns = (
        "computation",
        ">threads",
        ">samples/s",
        ">min – max",
        ">of Lava",
        ">min – max",
        ">samples",
        ">mismatches",
    )
    title = f"Emulator, {network['title']}, {network['timesteps']} steps"
    return Table(title, columns, tuple(rows), Basis.MEASURED, how, "\n".join([*notes, where]))


def lava(content: Mapping[str, Any]) -> Table:
    """Return the time of a sample in Lava, by order of the samples."""
    rows = []
    for way in content["ways"]:
        times = _spread({key: 1e3 * seconds for key, seconds in way["per_sample_s"].items()})
        rows.append((way["name"], number(way["samples"]), *times, *_spread(way["gain"], "×")))
    columns = ("schedule", ">samples", ">ms per sample", ">min – max", ">gain", ">min – max")
    mismatches = content["mismatches"]
    equal = f"spike counts of {number(mismatches)} neurons differ" if mismatches else "all spike counts are equal"
    note = f"Gain over a network per sample; {equal}.\n{_machine(content)}.\n{_versions(content)}."
    title = f"Lava, {content['title']}, {content['timesteps']} steps"
    how = f", {content['rounds']} rounds in turn, medians"
    return Table(title, columns, tuple(rows), Basis.MEASURED, how, note)


def _machine(content: Mapping[str, Any]) -> str:
    machine = content["machine"]
    load = " before, ".join(f"{value:.1f}" for value in machine["load"]) + " after" if machine["load"] else "not known"
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; load average {load}"


def _versions(content: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in content["machine"]["versions"].items())


def _spread(spread: Mapping[str, float] | None, unit: str = "") -> tuple[str, str]:
    """Return the median, and the range over all rounds, as text."""
    if spread is None:
        return NOTHING, NOTHING
    middle, low, high = (
        number(round(spread[key]) if spread[key] >= 100 else spread[key]) for key in ("median", "low", "high")
    )
    return middle + unit, f"{low} – {high}"
