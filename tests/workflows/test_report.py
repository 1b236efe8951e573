"""Names of runs in a report."""

from __future__ import annotations

from pathlib import Path

from ashneuro.workflows.runs_beside import untaken


def test_run_names_are_unique() -> None:
    # Results are kept by name: a second run of the same name would replace the first one's.
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
