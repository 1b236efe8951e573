"""Output of the verbs: rich tables at a terminal, plain aligned text elsewhere.

Every text passes `ashneuro.reporting.escape` here, whoever wrote it.
"""

from __future__ import annotations

import json as _json
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashneuro.errors import AshneuroError
from ashneuro.reporting import tables
from ashneuro.reporting.bars import bars
from ashneuro.reporting.epochs import TimeLeft, duration, epoch_line
from ashneuro.reporting.escape import visible, visible_json, visible_lines
from ashneuro.reporting.plain import plain
from ashneuro.reporting.tables.table import Cell, Mark, Table

if TYPE_CHECKING:
    from rich.console import Console

    from ashneuro.cost.compare import Comparison
    from ashneuro.cost.profile import HardwareProfile
    from ashneuro.cost.terms import CostEstimate
    from ashneuro.cost.workload import Workload
    from ashneuro.data.check import DataCheck
    from ashneuro.data.clip_check import ClipCheck
    from ashneuro.data.describe import Description
    from ashneuro.evaluation import Evaluation, TaskEvaluation
    from ashneuro.exchange import DryRun, EpochMetrics, StreamEvaluation
    from ashneuro.program.assumption import Assumptions
    from ashneuro.program.certificate import Certificate
    from ashneuro.program.quantise import LayerCost
    from ashneuro.program.rules.finding import Finding
    from ashneuro.program.source import ContractMatch
    from ashneuro.simulation.proof.silicon import SiliconReport
    from ashneuro.simulation.record import SpikeRecord

PLAIN_WIDTH = 120


@cache
def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    # Long lines stay whole, so that paths can be copied; colours mark states, not numbers.
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


_bars: list[None] = []
"""An entry for each bar or spinner on the screen. They are on standard error."""


@contextmanager
def _on_screen(bar: Any) -> Iterator[Any]:
    """Show a bar or a spinner of rich."""
    with bar as shown:
        _bars.append(None)
        try:
            yield shown
        finally:
            _bars.pop()


def line(text: str = "", style: str = "") -> None:
    """Print one line."""
    text = visible(text)
    if sys.stdout.isatty():
        from rich.text import Text

        # A bar redraws the line that it is on: what is printed beside it goes through its console.
        _console(stderr=bool(_bars)).print(Text(text, style))  # as a Text, names in [brackets] are no markup
    else:
        print(text)


def json(value: Any) -> None:
    """Print ``value`` as JSON; NaN and infinity become ``null``."""
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    print(visible_json(_json.dumps(plain(value), indent=2, ensure_ascii=ascii_only)))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], note: str = "") -> None:
    """Print rows under a title; ``>`` in front of a heading marks a column of numbers."""
    show(Table(title, tuple(columns), tuple(tuple(str(cell) for cell in row) for row in rows), note=note))


def show(what: Table) -> None:
    """Print one table."""
    what = _visible_table(what)
    if sys.stdout.isatty():
        _show_rich(what)
    else:
        print("\n".join(_plain_lines(what)))


def _visible_table(what: Table) -> Table:
    """Return a table whose cells and titles are each one line without control characters."""

    def cell(text: str) -> str:
        return Cell(visible(text), text.mark) if isinstance(text, Cell) else visible(text)

    return replace(
        what,
        title=visible(what.title),
        columns=tuple(map(visible, what.columns)),
        rows=tuple(tuple(map(cell, row)) for row in what.rows),
        how=visible(what.how),
        note=visible_lines(what.note, ""),
    )


def _show_rich(what: Table) -> None:
    from rich import box
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        title=Text(what.title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False
    )
    if what.basis_text:
        drawn.title = Text.assemble((what.title, "bold"), (f"  {what.basis_text}", "dim"))
    for heading, numeric in zip(what.headings, what.numeric, strict=True):
        drawn.add_column(Text(heading), justify="right" if numeric else "left", overflow="fold")
    colours = {Mark.GOOD: "green", Mark.WARNING: "yellow", Mark.BAD: "red"}
    for row in what.rows:
        drawn.add_row(*(Text(cell, colours[cell.mark] if isinstance(cell, Cell) else "") for cell in row))
    console = _console()
    console.print(drawn, soft_wrap=False)
    for paragraph in what.note.splitlines():
        console.print(Padding(Text(paragraph, "dim"), (0, 0, 0, 2)), soft_wrap=False)


def _plain_lines(what: Table) -> Iterator[str]:
    yield what.title + (f"  [{what.basis_text}]" if what.basis_text else "")
    lines = [what.headings, *what.rows]
    widths = [max(len(row[index]) for row in lines) for index in range(len(what.columns))]
    for row in lines:
        cells = (
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(row, widths, what.numeric, strict=True)
        )
        yield ("  " + "  ".join(cells)).rstrip()
    for paragraph in what.note.splitlines():
        yield from textwrap.wrap(paragraph, PLAIN_WIDTH, initial_indent="  ", subsequent_indent="  ")
    yield ""


def print_error(error: AshneuroError) -> None:
    """Print the three parts of an error to standard error."""
    labelled = [(label, part) for label, part in (("why", error.why), ("do", error.do)) if part]
    if not sys.stderr.isatty():
        print(f"error: {visible_lines(error.what, ' ' * 5)}", file=sys.stderr)
        for label, part in labelled:
            print(f"{label + ':':<5}{visible_lines(part, ' ' * 5)}", file=sys.stderr)
        return
    from rich.text import Text

    console = _console(stderr=True)
    console.print(Text.assemble(("error  ", "bold red"), (visible_lines(error.what, " " * 7), "bold")))
    for label, part in labelled:
        console.print(Text.assemble((f"{label:<7}", "dim"), visible_lines(part, " " * 7)))


@contextmanager
def status(what: str) -> Iterator[Callable[[str], None]]:
    """Show that something is under way; the yielded function takes a sentence about the step."""
    what = visible(what)
    if sys.stderr.isatty():
        from rich.markup import escape

        with _on_screen(_console(stderr=True).status(escape(what))) as spinner:
            yield lambda text: spinner.update(escape(f"{what}: {visible(text)}"))
    else:
        print(f"{what} …", file=sys.stderr)
        yield lambda text: print(f"  {visible(text)}", file=sys.stderr)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar, at a terminal only; the yielded function takes (done, total)."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import Progress

    with _on_screen(Progress(console=_console(stderr=True), transient=True)) as bar:
        task = bar.add_task(_label(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of a workflow; the yielded function takes (phase, done, total).

    At a terminal each phase has a bar. Elsewhere a phase that cannot be counted (total 0) leaves
    one line on stderr.
    """
    if not sys.stderr.isatty():
        seen: set[str] = set()

        def announce(phase: str, done: int, total: int) -> None:
            if not total and phase not in seen:
                print(f"{visible(phase)} …", file=sys.stderr)
            seen.add(phase)

        yield announce
        return
    from rich.progress import Progress

    with _on_screen(Progress(console=_console(stderr=True), transient=True)) as bar:
        tasks: dict[str, Any] = {}

        def update(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                for old in tasks.values():
                    bar.update(old, visible=False)
                tasks[phase] = bar.add_task(_label(phase), total=None)
            bar.update(tasks[phase], completed=done, total=total or None)

        yield update


@contextmanager
def epochs(what: str) -> Iterator[Callable[[int, int, int, int, float, EpochMetrics | None], None]]:
    """Show training; the yielded function takes (epoch, epochs, batch, batches, loss, metrics).

    ``metrics`` are those of a finished epoch, else ``None``. Each finished epoch leaves one line;
    at a terminal a bar with the time left runs below, from the first batch on.
    """
    left = TimeLeft()
    if not sys.stderr.isatty():

        def say(epoch: int, total: int, batch: int, batches: int, loss: float, metrics: EpochMetrics | None) -> None:
            seconds = left.after((epoch - 1 + batch / batches) / total)
            if metrics:
                print(visible(epoch_line(epoch, total, metrics, seconds)), file=sys.stderr)

        yield say
        return
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}  loss {task.fields[loss]:.3f}{task.fields[left]}"),
    )
    with _on_screen(Progress(*columns, console=_console(stderr=True), transient=True)) as bar:
        task: Any = None

        def update(epoch: int, total: int, batch: int, batches: int, loss: float, metrics: EpochMetrics | None) -> None:
            nonlocal task
            done = (epoch - 1 + batch / batches) / total
            seconds = left.after(done)
            now: dict[str, Any] = {"epoch": epoch, "epochs": total, "loss": loss}
            now["left"] = "" if seconds is None else f"  {duration(seconds)} left"
            if task is None:
                task = bar.add_task(_label(what), total=1.0, **now)
            bar.update(task, completed=done, **now)
            if metrics:
                bar.console.print(Text(visible(epoch_line(epoch, total, metrics))), highlight=False)

        yield update


def _label(text: str) -> str:
    """Return the label of a bar: names in [brackets] are no markup."""
    from rich.markup import escape

    return escape(visible(text))


def heading(text: str) -> None:
    """Print the title of a step."""
    text = visible(text)
    line(text, "bold cyan")
    line("─" * len(text), "cyan")


def wrote(*paths: Path | str) -> None:
    """Print the paths of written files."""
    for path in paths:
        line(f"wrote {path}")


def next_steps(*commands: str) -> None:
    """Print commands to try next."""
    line("next:")
    for command in commands:
        line(f"  {command}")


def findings(items: Sequence[Finding]) -> None:
    """Print the findings of `check`."""
    what = tables.network.findings(items)
    if what.rows:
        show(what)
    else:
        line(f"nothing stands in the way: {what.note}")


def assumptions(found: Assumptions) -> None:
    """Print the assumptions about a network; nothing if there are none."""
    what = tables.network.assumptions(found)
    if what and what.rows:
        show(what)
    elif what:
        line(f"{what.title}: {what.note}")


def spikes(record: SpikeRecord) -> None:
    """Print the assumptions of a simulation, then its spikes, per layer."""
    assumptions(record.assumptions)
    show(tables.network.spikes(record))


def activity(workload: Workload) -> None:
    """Print spikes, rates, synops and updates per layer, and the host's MACs."""
    show(tables.network.activity(workload))
    host = tables.network.host(workload)
    if host:
        show(host)


def costs(estimates: Iterable[CostEstimate]) -> None:
    """Print estimates, one table each."""
    for cost in estimates:
        show(tables.energy.terms(cost))


def comparison(result: Comparison) -> None:
    """Print the verdict and a bar per network, then the contenders, the break-even rates and the
    published conditions.
    """
    line(result.verdict, "bold")
    line()
    for text in bars(result.brief):
        line(text)
    line()
    if result.matches:
        show(tables.energy.matches(result))
    for group in result.groups:
        show(tables.energy.contenders(group))
    show(tables.energy.break_even(result))
    show(tables.energy.thresholds(result))
    for opinion in result.second_opinions:
        for table in tables.opinion.second_opinion(opinion):
            show(table)


def facts(evaluations: Iterable[Evaluation]) -> None:
    """Print the learned fusion ratio and the firing rates of evaluations."""
    for name, text in tables.tasks.facts(evaluations).items():
        line(f"{name}: {text}")


def retrieval(evaluations: Iterable[Evaluation]) -> None:
    """Print the retrieval metrics of evaluations, a table for each set of pictures and texts."""
    for pool in tables.tasks.pools(evaluations):
        show(tables.tasks.pool(pool))


def quantisation(costs: Iterable[LayerCost]) -> None:
    """Print the quantisation errors of every layer."""
    show(tables.network.quantisation(costs))


def certificate(content: Certificate) -> None:
    """Print the comparisons of a certificate."""
    for what in tables.proof.certificate(content):
        show(what)


def match(found: ContractMatch) -> None:
    """Print the contract with which a file spikes as its module does."""
    for what in tables.proof.match(found):
        show(what)


def silicon(report: SiliconReport) -> None:
    """Print the result of replaying recorded silicon."""
    show(tables.proof.silicon(report))


def bench_emulator(content: Mapping[str, Any]) -> None:
    """Print the speeds of the emulator and of Lava."""
    for what in tables.bench.emulator(content):
        show(what)


def profile_list(profiles: Iterable[HardwareProfile]) -> None:
    """Print the known profiles."""
    show(tables.profiles.overview(profiles))


def profile_show(profile: HardwareProfile) -> None:
    """Print every number of a profile with its source."""
    show(tables.profiles.numbers(profile))


def data_counts(description: Description) -> None:
    """Print the number of images, concepts and captions of every part of a data set."""
    show(tables.data.parts(description))


def data_check(found: DataCheck) -> None:
    """Print the parts of a checked data set, then every problem."""
    show(tables.data.checked(found))
    for sentence in found.learnable.sentences() if found.learnable else ():
        line(sentence, "yellow")
    if found.reduced:
        names = ", ".join(found.reduced[:5]) + (", …" if len(found.reduced) > 5 else "")
        line(f"{len(found.reduced):,} pictures are so large that they are read reduced: {names}", "yellow")
    _problems(found.problems)


def _problems(problems: Sequence[str]) -> None:
    for problem in problems:
        line(problem, "yellow")
    if problems:
        line(f"{len(problems):,} problem(s)")
    else:
        line("no problem found", "green")


def left_out(place: Path) -> None:
    """Print the number of pictures and entries that were left out as broken, from their list.

    Args:
        place: the list, or a folder with one; without it nothing is printed.
    """
    from ashneuro.data.broken import LEFT_OUT, count_left_out

    file = place / LEFT_OUT if place.is_dir() else place
    if file.is_file():
        listed = tuple(file.read_text(encoding="utf-8").splitlines())
        line(f"{count_left_out(listed)} They are listed in {file}", "yellow")


def clip_check(found: ClipCheck) -> None:
    """Print the counts of checked clips, then every problem."""
    show(tables.data.clips(found))
    _problems(found.problems)


def evaluations(items: Iterable[Evaluation | TaskEvaluation]) -> None:
    """Print evaluations: retrieval with its facts, then tasks."""
    from ashneuro.evaluation import Evaluation, TaskEvaluation

    items = list(items)
    if retrieved := [item for item in items if isinstance(item, Evaluation)]:
        retrieval(retrieved)
        facts(retrieved)
    tasks(item for item in items if isinstance(item, TaskEvaluation))


def stream(found: StreamEvaluation) -> None:
    """Print accuracy, messages and energy per frame of a stream."""
    show(tables.streams.stream(found))


def tasks(evaluations: Iterable[TaskEvaluation]) -> None:
    """Print the accuracy of evaluations at tasks, a table per task and set of questions."""
    for what in tables.tasks.by_task(evaluations):
        show(what)


def dry_run(found: DryRun, tflops: float) -> None:
    """Print memory and time of a training run, at this machine's pace and at ``tflops``."""
    show(tables.training.dry_run(found))
    parts = ", ".join(f"{name} {count:,}" for name, count in found.parameters.items())
    line(f"parameters: {parts}; {found.learning:,} of them trained")
    share = f", {found.processes} of them sharing each batch" if found.processes > 1 else ""
    timed = ", ".join(f"{stage.timed}" for stage in found.stages)
    line(
        f"time on {found.device}{share}: {_hours(found.seconds_here)}, from one timed step per stage (pairs: {timed}); "
        "reading data and evaluation come on top"
    )
    there = _hours(found.seconds_at(tflops * 1e12))
    gpus = f"{found.processes} GPUs" if found.processes > 1 else "a GPU"
    line(
        f"time on {gpus} at {tflops:g} TFLOP/s sustained: {there}, products alone; neurons, norms, reading data and "
        "evaluation come on top"
    )


def _hours(seconds: float) -> str:
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 1 else "less than a second"
