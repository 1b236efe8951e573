"""Search of a sweep: Optuna chooses the settings of each trial from those that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashneuro.errors import AshneuroError, ConfigError, need
from ashneuro.sweep_config import SweepConfig
from ashneuro.workflows.sweep_runs import StartRun, SweepResult, Wait, finished_rows, other_seeds, work
from ashneuro.workflows.sweep_table import write_sweep

if TYPE_CHECKING:
    from ashneuro.cost.profile import HardwareProfile
    from ashneuro.training.sweep import Cell

JOURNAL = "study.journal"
"""File of a sweep's folder that holds the study."""

NAME = "sweep"
DIRECTIONS = ("maximize", "minimize")
"""Of accuracy and of energy (typical), means over the seeds."""


def search(
    planned: SweepConfig,
    folder: Path,
    profile: HardwareProfile,
    limit: int | None,
    start_run: StartRun,
    wait: Wait,
) -> SweepResult:
    """Train and measure ``planned.trials`` trials, and return all of the folder.

    A trial is one level of every factor and one value of every range, trained with every seed. The
    study is a journal in the folder, which processes on a shared disk append to in turn. A trial
    that a killed process left is continued. Choices follow from the number of the trial and from
    those that were measured before it.

    Args:
        limit: train at most this many trials; 0: only gather what is there.

    Raises:
        ConfigError: the folder holds a study of other factors, ranges or settings.
    """
    optuna: Any = need("optuna", extra="search", purpose="search = 'optuna' in a sweep")
    claims: Any = need("ashneuro.training.claims", extra="train", purpose="a sweep")
    plan: Any = need("ashneuro.training.sweep", extra="train", purpose="a sweep")
    study = _open_study(optuna, folder)
    running, fail = optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.FAIL
    elsewhere: dict[str, str] = {}
    failed: dict[str, AshneuroError] = {}
    done = 0
    skipped: set[int] = set()  # trials that others work at, or that start from runs of others
    known: dict[int, tuple[Cell, ...]] = {}

    def cells_of(trials: Sequence[Any]) -> list[Cell]:
        """Return the runs of trials, each once: several may start from one."""
        for trial in trials:
            if not known.get(trial.number):
                known[trial.number] = _cells(planned, trial)
        return list({cell.name: cell for trial in trials for cell in known[trial.number]}.values())

    finished_rows(cells_of(study.get_trials(deepcopy=False)), folder)  # other settings are refused first
    while limit is None or done < limit:
        trials = study.get_trials(deepcopy=False)
        waiting = [trial for trial in trials if trial.state == running and trial.number not in skipped]
        if not waiting:
            if len(trials) >= planned.trials:
                break
            asked = study.ask()
            if asked.number >= planned.trials:  # several processes asked for the last one
                study.tell(asked, state=fail)
            continue  # the next round claims it, like one that a killed process left
        number = waiting[0].number
        with claims.claim(folder / "cells" / f"trial-{number}") as mine:
            if mine.holder:
                elsewhere[f"trial {number}"] = mine.holder
                skipped.add(number)
                continue
            found = study.get_trials(deepcopy=False)[number]
            if found.state != running:  # it was finished just now
                continue
            done += 1
            _choose(optuna, study, found, planned)
            trials = study.get_trials(deepcopy=False)
            own, every = cells_of(trials[number : number + 1]), cells_of(trials)
            others, lost = work(own, every, folder, planned, profile, None, start_run, wait)
            elsewhere, failed = elsewhere | others, failed | lost
            rows = [row for row in finished_rows(own, folder) if row.variant == f"trial {number}"]
            if lost:
                study.tell(number, state=fail)
            elif len(rows) == len(planned.seeds):
                mean = plan.summarise(rows)[0].mean
                study.tell(number, [mean["accuracy"], mean["energy_j"]])
            else:
                skipped.add(number)
    rows = finished_rows(cells_of(study.get_trials(deepcopy=False)), folder)
    summaries = plan.summarise(rows)
    total = planned.trials * len(planned.seeds)
    files = write_sweep(folder, planned, rows, total, summaries) if rows else []
    return SweepResult(
        total, tuple(rows), summaries, elsewhere, failed, tuple(files), tuple(other_seeds(planned, folder))
    )


def _open_study(optuna: Any, folder: Path) -> Any:
    """Return the study of a folder; a new one where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    journal = need("optuna.storages.journal", extra="search", purpose="search = 'optuna' in a sweep")
    path = str(folder / JOURNAL)
    # Its lock is a file that is created exclusively, as our claims are.
    backend = journal.JournalFileBackend(path, lock_obj=journal.JournalFileOpenLock(path))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.create_study(study_name=NAME, storage=storage, directions=list(DIRECTIONS), load_if_exists=True)


def _choose(optuna: Any, study: Any, trial: Any, planned: SweepConfig) -> None:
    """Choose the settings of a trial that have not been chosen yet.

    Raises:
        ConfigError: they were chosen from other factors or ranges.
    """
    study.sampler = optuna.samplers.TPESampler(seed=trial.number)
    chosen = optuna.trial.Trial(study, trial._trial_id)  # gives back what was chosen before a process was killed
    try:
        for factor, levels in planned.factors.items():
            if levels:
                chosen.suggest_categorical(factor, list(levels))
        for key, limits in planned.ranges.items():
            if limits.is_whole:
                chosen.suggest_int(key, int(limits.low), int(limits.high), log=limits.log)
            else:
                chosen.suggest_float(key, limits.low, limits.high, log=limits.log)
    except ValueError as error:
        raise ConfigError(
            f"trial {trial.number} of {JOURNAL} was chosen from other factors or ranges",
            str(error),
            "another folder with --out",
        ) from error


def _cells(planned: SweepConfig, trial: Any) -> tuple[Cell, ...]:
    """Return the runs of a trial, with what they start from; none until its settings are chosen."""
    plan: Any = need("ashneuro.training.sweep", extra="train", purpose="a sweep")
    names = {*(factor for factor, levels in planned.factors.items() if levels), *planned.ranges}
    if not names <= set(trial.params):
        return ()
    factors = {"trial": {f"trial {trial.number}": _changes(planned, trial.params)}}
    found = plan.cells(replace(planned, search="", ranges={}, design="levels", factors=factors))
    levels = _levels(planned, trial.params)
    return tuple(replace(cell, levels=levels) if cell.compared else cell for cell in found)


def _changes(planned: SweepConfig, chosen: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings of a trial, ``"section.key=value"`` each.

    Raises:
        ConfigError: a level was chosen that the sweep no longer has.
    """
    found: list[str] = []
    for factor, levels in planned.factors.items():
        if levels and chosen[factor] not in levels:
            why = f"{factor!r} has {', '.join(levels)} now"
            raise ConfigError(f"a trial has {factor} = {chosen[factor]!r}", why, "another folder with --out")
        found += levels[chosen[factor]] if levels else ()
    return (*found, *(f"{key}={chosen[key]!r}" for key in planned.ranges))


def _levels(planned: SweepConfig, chosen: Mapping[str, Any]) -> dict[str, str]:
    """Return the choices of a trial in words, by factor or setting."""
    named = {factor: str(chosen[factor]) for factor, levels in planned.factors.items() if levels}
    return named | {key: f"{key} = {chosen[key]:.3g}" for key in planned.ranges}
