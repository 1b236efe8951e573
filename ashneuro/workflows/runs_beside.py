"""Runs that a report shows beside its own: controls, other hybrids."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashneuro.cost.comparison.accuracy import Accuracy
from ashneuro.cost.comparison.contenders import Role
from ashneuro.cost.comparison.sides import OtherNetwork
from ashneuro.cost.workload import count
from ashneuro.errors import ConfigError, need
from ashneuro.program.program import Program
from ashneuro.workflows.ann_control import TWINS, control_workload, deployed_precision, twin_role
from ashneuro.workflows.networks import open_bundle
from ashneuro.workflows.progress import Progress, silent
from ashneuro.workflows.saved_results import Measured, SavedResults

if TYPE_CHECKING:
    from ashneuro.cost.workload import Workload
    from ashneuro.training.checkpoint import Run


@dataclass(frozen=True, eq=False)
class RunsBeside:
    """Runs beside that of a report.

    A control of the same layers and bits is the twin, which is priced anyway. Any other run stands
    in the tables with its own work.

    Args:
        networks: runs with their own work.
        metrics, accuracies: of the twins, by role.
        results: evaluations of every run, with its label.
        not_run: part of a report to the reason why it is absent.
    """

    networks: tuple[OtherNetwork, ...]
    metrics: Mapping[Role, str]
    accuracies: Mapping[Role, Accuracy]
    results: tuple[SavedResults, ...]
    not_run: Mapping[str, str]


def runs_beside(
    run: Run, program: Program, others: Sequence[Run], measured_on: Measured | None, progress: Progress = silent
) -> RunsBeside:
    """Return ``others`` as a report on ``run`` shows them.

    Args:
        program: integer program of ``run``.
        measured_on: data and arithmetic of the accuracy that theirs are compared with.

    Raises:
        ConfigError: two of them are the same twin.
    """
    deployed = need("ashneuro.model.deploy", extra="train", purpose="reading a run")
    networks: list[OtherNetwork] = []
    metrics: dict[Role, str] = {}
    accuracies: dict[Role, Accuracy] = {}
    results: list[SavedResults] = []
    not_run: dict[str, str] = {}
    taken = {"hybrid", *TWINS}
    for other in others:
        theirs = SavedResults.of(other, progress)
        metric = theirs.metric()
        accuracy = theirs.accuracies().get(measured_on) if measured_on else None
        not_run |= theirs.without_integers(other.path)
        kind = other.config.model.abstract.kind
        role = twin_role(run, program, other)
        if role is None:
            name, work, theirs = _own_work(other, theirs, deployed)
            name = untaken(name, other.path, taken)
            taken.add(name)
            precision = deployed_precision(other.config.model.abstract) if kind != "spiking" else "int8"
            networks.append(OtherNetwork(name, work, metric, accuracy, precision))
        elif role in metrics:
            raise ConfigError(
                f"{other.path} is the second {kind} twin",
                "one twin's metric stands beside its energy",
                "name one of them",
            )
        else:
            name, metrics[role] = kind, metric
            if accuracy is not None:
                accuracies[role] = accuracy
        theirs = theirs.labelled(name)
        results.append(theirs)
        not_run |= theirs.not_run
    return RunsBeside(tuple(networks), metrics, accuracies, tuple(results), not_run)


def _own_work(run: Run, results: SavedResults, deployed: Any) -> tuple[str, Workload, SavedResults]:
    """Return the name and the work of a run beside the first, and its results without counts that
    are not its own.
    """
    from ashneuro.simulation.run import simulate

    kind = run.config.model.abstract.kind
    if kind == "none":
        return "no abstract encoder", control_workload(run), results
    if kind != "spiking":
        return run.path.name, control_workload(run), results
    bundle = open_bundle(run.path)
    program = bundle.program("integer")
    results = results.fitting(program, run.path)
    record = results.counts or simulate(bundle, bundle.reference.inputs, on="loihi")
    return run.path.name, count(program, record, deployed.host_layers(run.model)), results


def untaken(name: str, path: Path, taken: Collection[str]) -> str:
    """Return ``name``, prefixed with parent folders of ``path`` until it is unique."""
    parents = path.resolve().parts
    longer = (f"{'/'.join(parents[start:-1])}/{name}" for start in range(len(parents) - 2, -1, -1))
    return next((each for each in (name, *longer) if each not in taken), f"{name}, {len(taken) + 1}")
