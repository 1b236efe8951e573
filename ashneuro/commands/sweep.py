"""``ashneuro sweep``: vary factors and seeds; one table and one figure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ashneuro.commands.options import Whole
from ashneuro.commands.shown import shown_training
from ashneuro.errors import AshneuroError
from ashneuro.exchange import Shard
from ashneuro.reporting import terminal
from ashneuro.sweep_config import load_sweep

if TYPE_CHECKING:
    from ashneuro.training.loop import Progress
    from ashneuro.training.sweep import Cell
    from ashneuro.workflows.sweep_runs import SweepResult


def sweep(
    config: Path,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Folder of the sweep. Default: runs/NAME of the config.")] = None,
    set_: Annotated[
        list[str] | None,
        Parameter(name="--set", help="Change one setting of all runs: --set train.epochs=3. Repeatable.", negative=()),
    ] = None,
    seeds: Annotated[
        list[Whole] | None,
        Parameter(
            help="Other seeds than the config's: --seeds 3 4. All of them for one table.",
            negative=(),
            consume_multiple=True,
        ),
    ] = None,
    limit: Annotated[
        Whole | None, Parameter(help="Stop after this many runs; the next call continues. 0: only write the table.")
    ] = None,
    shard: Annotated[
        str | None, Parameter(help="i/n: train only this part of the runs, as task i of a job array of n.")
    ] = None,
    merge: Annotated[
        tuple[Path, ...],
        Parameter(help="Folders of the same sweep; their runs are copied to OUT.", negative=(), consume_multiple=True),
    ] = (),
    workers: Annotated[
        Whole, Parameter(help="Processes that train runs at once and divide the cores; --limit is that of each.")
    ] = 1,
    json: Annotated[bool, Parameter(help="Print JSON instead of a table.", negative=())] = False,
) -> int:
    """Vary factors and seeds: ablations, accuracy–energy trade-offs.

    An interrupted sweep continues where it stopped.

    On a CPU, --workers 2 trains two runs at once on half of the cores each, which is faster than
    one on all of them; the output of the second is in OUT/worker-2.log.

    Several of these commands may share one folder, on one machine or on a shared disk: each takes
    the next free run, and waits for a run that the others start from. Without a shared disk, each
    trains a --shard into an --out of its own, and --merge joins the runs. A run that fails is named
    at the end, and stops only those that start from it.

    Args:
        config: a TOML of factors and seeds, or the name of one that comes with ashneuro: ablation,
            ablation-lif, demo, front, front-long, stua.
    """
    from ashneuro.workflows import sweep as workflow
    from ashneuro.workflows.sweep_table import matches_table, sweep_table
    from ashneuro.workflows.workers import workers as started

    planned = load_sweep(config, set_ or ())
    if seeds:
        planned = replace(planned, seeds=tuple(dict.fromkeys(seeds)))
    part = Shard.parse(shard) if shard else None
    folder = out or Path("runs") / config.stem
    # With --json, what training prints must not mix with the result.
    with redirect_stdout(sys.stderr) if json else nullcontext(), ExitStack() as running_workers, ExitStack() as running:

        def start_run(cell: Cell, number: int, total: int) -> Callable[[Progress], None]:
            running.close()  # takes the bars of the run before from the screen
            terminal.heading(f"{cell.name} ({number} of {total})")
            return running.enter_context(shown_training(cell.config, Path(cell.folder)))

        def wait(run: str, who: str) -> None:
            running.close()
            terminal.line(f"waiting for {run}, which others start from: {who} is training it", "yellow")

        def run(limit: int | None) -> SweepResult:
            return workflow.sweep(planned, folder, limit=limit, shard=part, merge=merge, start_run=start_run, wait=wait)

        words = _words(config, folder, set_ or (), seeds or (), limit, shard)
        helpers = running_workers.enter_context(started(workers, words, folder))
        result = run(limit)
        if helpers:  # runs that failed there are tried here, where their errors are shown
            result = run(limit if any([each.wait() for each in helpers]) else 0)
    code = _print_failures(result)
    if json:
        terminal.json(
            {
                "runs": [row.to_json() for row in result.rows],
                "summaries": [asdict(summary) for summary in result.summaries],
                "failed": {name: str(error) for name, error in result.failed.items()},
            }
        )
        return code
    if not result.rows:
        others = "".join(f"; {name}: {who}" for name, who in result.elsewhere.items())
        terminal.line(f"no run is finished in {folder}{others}")
        return code
    terminal.show(sweep_table(planned, len(result.rows), result.planned, result.summaries))
    if matched := matches_table(result.summaries):
        terminal.show(matched)
    for name, who in result.elsewhere.items():
        terminal.line(f"{name} is being trained by {who}", "yellow")
    if result.other_seeds:
        every = " ".join(map(str, (*planned.seeds, *result.other_seeds)))
        terminal.line(f"{folder / 'cells'} holds runs of other seeds too: --seeds {every}", "yellow")
    terminal.wrote(*result.files)
    return code


def _words(
    config: Path, out: Path, changes: Sequence[str], seeds: Sequence[int], limit: int | None, shard: str | None
) -> list[str]:
    """Return the arguments of another process of the same sweep."""
    words = ["sweep", str(config), "--out", str(out)]
    for change in changes:
        words += ["--set", change]
    if seeds:
        words += ["--seeds", *map(str, seeds)]
    if limit is not None:
        words += ["--limit", str(limit)]
    return [*words, "--shard", shard] if shard else words


def _print_failures(result: SweepResult) -> int:
    """Print the errors of failed runs, equal ones once; return the exit code."""
    for error in {str(error): error for error in result.failed.values()}.values():
        alike = [name for name, other in result.failed.items() if str(other) == str(error)]
        terminal.print_error(AshneuroError(f"{'; '.join(alike)}: {error.what}", error.why, error.do))
    return max((error.exit_code for error in result.failed.values()), default=0)
