"""Reports of several networks as pages that lead to one another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ashneuro.errors import ConfigError
from ashneuro.reporting.pages import write_pages
from ashneuro.reporting.summary import Report
from ashneuro.workflows.networks import kind_of
from ashneuro.workflows.progress import Progress, silent
from ashneuro.workflows.report import report

NOT_EXPORTED = "it has no bundle, so nothing of it is counted; as a control it stands in the reports of the others"


def report_pages(
    paths: Sequence[str | Path], folder: str | Path, *, progress: Progress = silent, **options: Any
) -> list[Path]:
    """Write a report of each run, bundle or file, and an index; return the paths, the index first.

    Every run is reported beside all other runs. The pages link one another by relative paths, so
    ``folder`` can be moved as a whole.

    Args:
        paths: at least two; runs without a bundle are controls of the others.
        folder: where the pages go: ``runs.html``, and ``NAME/report.html`` for each.
        options: of `ashneuro.report`.

    Raises:
        ConfigError: none of them has a report.
        AshneuroError: one of them cannot be read.
    """
    named = _named([Path(path) for path in paths])
    runs = {path for path in named.values() if kind_of(path) == "run"}
    reports: dict[str, Report] = {}
    absent: dict[str, str] = {}
    for name, path in named.items():
        if path in runs and not (path / "bundle").is_dir():
            absent[name] = NOT_EXPORTED
            continue
        others = [other for other in named.values() if other in runs and other != path] if path in runs else []
        reports[name] = report(path, *others, progress=progress, **options)
    if not reports:
        remedy = f"ashneuro export {next(iter(named.values()))}"
        raise ConfigError(f"no report of {', '.join(named)}", "none of them was exported", remedy)
    return write_pages(reports, Path(folder), absent)


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the paths by the names of their pages: the last part, numbered where it is taken."""
    named: dict[str, Path] = {}
    for path in dict.fromkeys(paths):
        name, number = path.stem if path.is_file() else path.resolve().name, 1
        while (unique := name if number == 1 else f"{name}-{number}") in named:
            number += 1
        named[unique] = path
    return named
