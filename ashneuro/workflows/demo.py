"""The demo: the whole job on embedded data, step by step.

Each step goes on where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ashneuro.config import RunConfig, load_config
from ashneuro.errors import LavaError
from ashneuro.program.program import Precision
from ashneuro.workflows.evaluate import evaluate
from ashneuro.workflows.export import Exported, export
from ashneuro.workflows.progress import Progress, silent
from ashneuro.workflows.report import report, write_report
from ashneuro.workflows.train import train

if TYPE_CHECKING:
    from ashneuro.data.describe import Description
    from ashneuro.evaluation import Evaluation
    from ashneuro.reporting.summary import Report

# The hybrid and its controls: same data, same budget, another abstract encoder.
HYBRID = "hybrid"
CONTROLS = {"no-abstract": "none", "quantised-relu": "quantised-relu"}
LAVA_SAMPLES = 64


@dataclass(frozen=True)
class Demo:
    """The runs of one demo.

    Args:
        out: folder of the runs.
        settings: single changes of every run, ``"train.epochs=3"``.
    """

    out: Path
    settings: Sequence[str] = ()

    @property
    def hybrid(self) -> Path:
        """Folder of the hybrid."""
        return self.out / HYBRID

    @property
    def controls(self) -> tuple[Path, ...]:
        """Folders of the controls."""
        return tuple(self.out / name for name in CONTROLS)

    def configs(self) -> dict[Path, RunConfig]:
        """Return the settings of each run by folder, the hybrid's first."""
        changes: dict[Path, list[str]] = {self.hybrid: []}
        changes |= {self.out / name: [f"model.abstract.kind={kind}"] for name, kind in CONTROLS.items()}
        return {folder: load_config("tiny", [*self.settings, *more]) for folder, more in changes.items()}

    def describe_data(self) -> Description:
        """Return the sizes of the data that the runs train and test on."""
        from ashneuro.data.describe import describe
        from ashneuro.data.sources import load_splits

        return describe(load_splits(load_config("tiny", list(self.settings)).data))

    def train(self, start_run: Callable[[Path, RunConfig], Callable[[Any], None]]) -> None:
        """Train every run, or go on with it.

        Args:
            start_run: called with (folder, settings) before each run; returns the callback for its
                progress.
        """
        for folder, config in self.configs().items():
            resume = (folder / "config.json").exists()
            train(config, folder, resume=resume, on_progress=start_run(folder, config))

    def evaluate(self, progress: Progress = silent) -> list[Evaluation]:
        """Return retrieval of every run, with spikes from torch."""
        return [evaluate(folder, progress=progress).evaluation for folder in (self.hybrid, *self.controls)]

    def export(self, progress: Progress = silent) -> Exported:
        """Export the hybrid, with as many reference samples as run on Lava later."""
        return export(self.hybrid, samples=LAVA_SAMPLES, progress=progress)

    def evaluate_deployed(self, progress: Progress = silent) -> tuple[list[Evaluation], str]:
        """Return retrieval of the hybrid with spikes from the emulator, torch and Lava, and why
        Lava did not run.
        """
        from ashneuro.simulation.lava.environment import find_interpreter
        from ashneuro.workflows.runs import open_run

        run, rows, missing = open_run(self.hybrid), [], ""
        rows.append(evaluate(run, abstract_on="loihi", progress=progress))
        rows.append(evaluate(run, samples=LAVA_SAMPLES, progress=progress))
        try:
            find_interpreter()
        except LavaError as error:
            missing = f"{error.what}; {error.do}"
        for precision in get_args(Precision) if not missing else ():
            rows.append(evaluate(run, abstract_on="lava", precision=precision, samples=LAVA_SAMPLES, progress=progress))
        return [row.evaluation for row in rows], missing

    def report(self, progress: Progress = silent) -> tuple[Report, list[Path]]:
        """Return the hybrid's report beside its controls, and the files it was written to."""
        result = report(self.hybrid, *self.controls, progress=progress)
        return result, write_report(result, self.hybrid)
