"""The demo: the whole job on embedded data, step by step.

Each step continues where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ashneuro.config import ANNS, RunConfig, load_config
from ashneuro.errors import LavaError, need
from ashneuro.program.program import Precision
from ashneuro.sweep_config import load_sweep
from ashneuro.workflows.evaluate import evaluate
from ashneuro.workflows.export import Exported, export
from ashneuro.workflows.progress import Progress, silent
from ashneuro.workflows.report import report, write_report
from ashneuro.workflows.train import train

if TYPE_CHECKING:
    from ashneuro.config import AbstractKind
    from ashneuro.data.describe import Description
    from ashneuro.evaluation import Evaluation
    from ashneuro.reporting.summary import Report
    from ashneuro.training.checkpoint import Run
    from ashneuro.training.sweep import Cell

PLAN = "demo"  # the sweep whose runs these are
STARTS = "starts"
LAVA_SAMPLES = 64


@dataclass(frozen=True)
class Demo:
    """The runs of one demo: those of the sweep `PLAN`, with its first seed.

    Args:
        out: folder of the runs; what they start from is in ``starts`` below it.
        settings: single changes of every run, ``"train.epochs=3"``.
    """

    out: Path
    settings: Sequence[str] = ()

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The runs, each after those that it starts from."""
        plan = need("ashneuro.training.sweep", extra="train", purpose="the demo")
        found: tuple[Cell, ...] = plan.cells(load_sweep(Path(PLAN), self.settings))
        return tuple(cell for cell in found if cell.seed == found[0].seed)

    @property
    def hybrid(self) -> Path:
        """Folder of the hybrid whose report is printed."""
        return self.hybrids[0]

    @property
    def hybrids(self) -> tuple[Path, ...]:
        """Folders of the hybrids."""
        return tuple(self._folder(cell) for cell in self.cells if cell.compared and _spikes(cell))

    @property
    def controls(self) -> tuple[Path, ...]:
        """Folders of the controls."""
        return tuple(self._folder(cell) for cell in self.cells if cell.compared and not _spikes(cell))

    @property
    def epochs(self) -> int:
        """Passes over the training data that every hybrid and control has, starts included."""
        return max(cell.epochs for cell in self.cells)

    def configs(self) -> dict[Path, RunConfig]:
        """Return the settings of each run by folder, each after those that it starts from."""
        by_variant = {cell.variant: self._folder(cell) for cell in self.cells}
        return {self._folder(cell): cell.settings(by_variant.__getitem__) for cell in self.cells}

    def describe_data(self) -> Description:
        """Return the sizes of the data that the runs train and test on."""
        from ashneuro.data.describe import describe
        from ashneuro.data.sources import load_splits

        return describe(load_splits(load_config("tiny", list(self.settings)).data))

    def train(self, start_run: Callable[[Path, RunConfig], Callable[[Any], None]]) -> None:
        """Train every run that is not finished.

        Args:
            start_run: called with (folder, settings) before each run; returns the callback for its
                progress.
        """
        for folder, config in self.configs().items():
            resume = (folder / "config.json").exists()
            train(config, folder, resume=resume, on_progress=start_run(folder, config))

    def evaluate(self, progress: Progress = silent) -> list[Evaluation]:
        """Return retrieval of every hybrid and control, with spikes from torch."""
        return [
            replace(evaluate(folder, progress=progress).evaluation, label=folder.name)
            for folder in (*self.hybrids, *self.controls)
        ]

    def export(self, progress: Progress = silent) -> list[Exported]:
        """Export every hybrid; the first with as many reference samples as run on Lava later."""
        first, *others = self.hybrids
        exported = [export(first, samples=LAVA_SAMPLES, progress=progress)]
        return [*exported, *(export(folder, progress=progress) for folder in others)]

    def evaluate_deployed(self, progress: Progress = silent) -> tuple[list[Evaluation], str]:
        """Return retrieval of every network in the integers that are priced, of the first hybrid
        also with spikes from torch and Lava on a few images, and why Lava did not run.
        """
        from ashneuro.simulation.lava.environment import find_interpreter
        from ashneuro.workflows.runs import open_run

        found: list[Evaluation] = []

        def add(run: Path | Run, name: str, **options: Any) -> None:
            found.append(replace(evaluate(run, progress=progress, **options).evaluation, label=name))

        anns = (self._folder(cell) for cell in self.cells if cell.compared and _kind(cell) in ANNS)
        for folder in (*self.hybrids, *anns):
            add(folder, folder.name, abstract_on="loihi")
        run, name, missing = open_run(self.hybrid), self.hybrid.name, ""
        few = min(LAVA_SAMPLES, len(run.splits.test))
        add(run, name, samples=few)
        try:
            find_interpreter()
        except LavaError as error:
            missing = f"{error.what}; {error.do}"
        for precision in get_args(Precision) if not missing else ():
            add(run, name, abstract_on="lava", precision=precision, samples=few)
        return found, missing

    def report(self, progress: Progress = silent) -> tuple[Report, list[Path]]:
        """Return the first hybrid's report beside the others and the controls, and the files of the
        reports of all hybrids.
        """
        results = {
            hybrid: report(
                hybrid, *(other for other in self.hybrids if other != hybrid), *self.controls, progress=progress
            )
            for hybrid in self.hybrids
        }
        files = [file for hybrid, result in results.items() for file in write_report(result, hybrid)]
        return results[self.hybrid], files

    def _folder(self, cell: Cell) -> Path:
        return self.out / cell.variant if cell.compared else self.out / STARTS / cell.variant


def _spikes(cell: Cell) -> bool:
    return _kind(cell) == "spiking"


def _kind(cell: Cell) -> AbstractKind:
    return cell.config.model.abstract.kind
