"""A command opens a run, reads its data, wires a graph and prices a chip once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import pytest

from ashneuro.cost import estimate as estimators
from ashneuro.data import sources
from ashneuro.program import lower, wiring
from ashneuro.simulation.emulator import run_graph
from ashneuro.training import checkpoint
from ashneuro.workflows import export, report


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], list[tuple[Any, ...]]]:
    """A function that records the positional arguments of every call of another, in all modules."""

    def watch(function: Callable[..., Any]) -> list[tuple[Any, ...]]:
        seen: list[tuple[Any, ...]] = []

        def recorded(*args: Any, **named: Any) -> Any:
            seen.append(args)
            return function(*args, **named)

        for module in [module for name, module in sys.modules.items() if name.startswith("ashneuro")]:
            for name, value in list(vars(module).items()):
                if value is function:
                    monkeypatch.setattr(module, name, recorded)
        return seen

    return watch


def test_export_opens_a_run_once(old: Path, calls: Any) -> None:
    opened, read = calls(checkpoint.load_run), calls(sources.load_splits)
    wired, lowered, ran = calls(wiring.wire), calls(lower.lower), calls(run_graph.run_graph)
    export.export(old / "runs" / "hybrid", old / "again.bundle", samples=4, lava=None)
    assert (len(opened), len(read), len(lowered), len(ran)) == (1, 1, 1, 1)
    # The run's own graph, and the one that is read back from the bundle.
    assert sum(isinstance(graph, nir.NIRGraph) for (graph,) in wired) == 2


def test_report_opens_each_run_once_and_prices_a_chip_once(old: Path, calls: Any) -> None:
    opened, read, priced = calls(checkpoint.load_run), calls(sources.load_splits), calls(estimators.estimate)
    result = report.report(old / "runs" / "hybrid", old / "runs" / "relu", profiles=["loihi1", "cmos45"])
    assert [Path(path).name for path, *_ in opened] == ["hybrid", "relu"] and len(read) == 1
    deployed = result.workload.part("deployed")
    placed = [args for args in priced if args[1].name == "loihi1" and args[0] == deployed]
    assert len(placed) == 2, "one on its cores, and one without hops for the break-even rate"
