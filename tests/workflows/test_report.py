"""Names of runs in a report."""

from __future__ import annotations

from pathlib import Path

from ashneuro.workflows.report import untaken


def test_names_of_runs_are_unique() -> None:
    # Results are kept by name: under one, the second run's metric and energy would take the first one's place.
    taken = ["hybrid"]
    for path, name in (
        ("/a/one/hybrid", "one/hybrid"),
        ("/a/two/hybrid", "two/hybrid"),
        ("/b/two/hybrid", "b/two/hybrid"),
        ("/a/x", "x"),
    ):
        taken.append(untaken(Path(path).name, Path(path), taken))
        assert taken[-1] == name
    assert len(set(taken)) == len(taken) and untaken("hybrid", Path("/a/one/hybrid"), taken) not in taken
