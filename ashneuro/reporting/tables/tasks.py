"""Retrieval and tasks: metrics of networks side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ashneuro.evaluation import Condition, Evaluation, RetrievalRow, TaskEvaluation
from ashneuro.reporting import words
from ashneuro.reporting.tables.table import NOTHING, Table, number, percent
from ashneuro.reporting.words import Basis

METRICS = ("R@1", "R@5", "R@10")


def pools(evaluations: Iterable[Evaluation]) -> list[list[Evaluation]]:
    """Return the evaluations by pool: the same split, number of images and number of texts."""
    found: dict[tuple[str, int, int], list[Evaluation]] = {}
    for item in evaluations:
        found.setdefault((item.split, item.images, item.texts), []).append(item)
    return list(found.values())


def retrieval_rows(evaluations: Iterable[Evaluation]) -> Iterator[tuple[str, RetrievalRow]]:
    """Yield the rows of evaluations by shown name, after the last of each pool its chance row."""
    for pool in pools(evaluations):
        for item in pool:
            yield from ((words.row(item, row), row) for row in item.rows)
        yield f"{words.CONDITIONS[Condition.CHANCE]} among {number(pool[0].images)} images", pool[-1].chance


def retrieval(evaluations: Iterable[Evaluation]) -> Table:
    """Return retrieval metrics in both directions: a row per network, then chance, per pool."""
    evaluations = list(evaluations)
    body = []
    for pool in pools(evaluations):
        where = f"{pool[0].split}: {number(pool[0].images)} images, {number(pool[0].texts)} texts"
        for name, row in retrieval_rows(pool):
            recalls = (" / ".join(_hundred(way.get(metric)) for way in row.directions) for metric in METRICS)
            ranks = " / ".join(number(way.get("median_rank")) for way in row.directions)
            basis = words.BASES[Basis.COMPUTED if row.condition is Condition.CHANCE else Basis.MEASURED]
            body.append((name, *recalls, ranks, f"{basis}, {where}"))
    columns = ("network", *(f">{metric}, %" for metric in METRICS), ">median rank", "basis")
    return Table("Retrieval, image → text / text → image", columns, tuple(body), note="\n".join(_shared(evaluations)))


def _shared(evaluations: Iterable[Evaluation]) -> Iterator[str]:
    """Yield a sentence for each pool in which texts are shared."""
    for pool in pools(evaluations):
        if count := max(item.shared_texts for item in pool):
            yield (
                f"{number(count)} of {number(pool[0].texts)} texts belong to several pictures; "
                "each of these pictures is a hit."
            )


def pool(evaluations: Sequence[Evaluation]) -> Table:
    """Return retrieval metrics of the evaluations of one pool, and chance."""
    first = evaluations[0]
    whole = retrieval(evaluations)
    return replace(
        whole,
        title=f"Retrieval among {number(first.images)} images, image → text / text → image",
        columns=whole.columns[:-1],
        rows=tuple(row[:-1] for row in whole.rows),
        basis=Basis.MEASURED,
        how=f", {first.split}, {number(first.texts)} texts",
        note=" ".join(["Chance is computed.", *_shared(evaluations)]),
    )


def by_task(evaluations: Iterable[TaskEvaluation]) -> tuple[Table, ...]:
    """Return a table for each task and set of questions.

    Networks that answered the same questions share a table, a row for each condition. The baseline
    of the most frequent answer comes last. The note has the number of questions and the share that
    can be answered at all.
    """
    found: dict[tuple[str, str, int, int], list[TaskEvaluation]] = {}
    for item in evaluations:
        found.setdefault((item.task, item.split, item.questions, item.pictures), []).append(item)
    return tuple(_task(items) for items in found.values())


def _task(evaluations: Sequence[TaskEvaluation]) -> Table:
    first = evaluations[0]
    every = [(item, row) for item in evaluations for row in item.rows]
    kinds = list(dict.fromkeys(kind for _, row in every for kind in row.by_kind))
    grouped = any(row.consistency is not None for _, row in every)
    # Equal rows stand once: the baseline is the same for every network.
    body: dict[tuple[object, ...], tuple[str, ...]] = {}
    baselines: dict[tuple[str, ...], None] = {}
    for item, row in every:
        values = [row.accuracy, *([row.consistency] if grouped else []), *(row.by_kind.get(kind) for kind in kinds)]
        shown = tuple(map(_hundred, values))
        line = (words.row(item, row), *shown)
        if row.condition is Condition.MOST_FREQUENT:
            baselines[line] = None
        else:
            body[item.kind, item.label, row.condition, row.spikes_from, shown] = line
    columns = (
        "network",
        f">{words.MEASURES[first.task]}, %",
        *([">consistency, %"] if grouped else []),
        *(f">{kind}, %" for kind in kinds),
    )
    heads = list(dict.fromkeys(percent(item.answerable) for item in evaluations))
    note = f"{first.split}: {number(first.questions)} questions about {number(first.pictures)} pictures; "
    note += f"{' / '.join(heads)} of them can be answered with the answers that the head knows. A zeroed, C zeroed, "
    note += "text alone: the trained network with its abstract branch, its concrete branch, or both left out."
    return Table(_title(first), columns, (*body.values(), *baselines), Basis.MEASURED, note=note)


def answers(evaluation: TaskEvaluation) -> Table:
    """Return the example questions of an evaluation, the network's answers and the right ones."""
    rows = tuple(
        (
            ", ".join(item.images),
            item.text,
            item.said,
            ", ".join(dict.fromkeys(item.answers)),
            f"{100 * item.score:.0f}",
        )
        for item in evaluation.examples
    )
    title = f"{_title(evaluation)}: questions, evenly spaced"
    return Table(title, ("picture", "question", "said", "right", ">score, %"), rows, Basis.MEASURED)


def _title(evaluation: TaskEvaluation) -> str:
    name = words.TASKS[evaluation.task]
    return name[0].upper() + name[1:]


def metric(evaluation: TaskEvaluation) -> str:
    """Return the metric of the whole network, e.g. ``"VQA accuracy 61.0 %"``."""
    return f"{words.METRICS[evaluation.task]} {percent(evaluation.rows[0].accuracy)}"


def facts(evaluations: Iterable[Evaluation]) -> dict[str, str]:
    """Return the learned fusion ratio and the firing rates of each network, label to text."""
    found: dict[tuple[str, str, str], tuple[str, str]] = {}
    for item in evaluations:
        name = words.network(item)
        if item.ratio:
            mean, low, high = map(number, (item.ratio.mean, item.ratio.min, item.ratio.max))
            text = f"mean {mean}, from {low} to {high} over {len(item.ratio.channels)} channels"
            found.setdefault(("ratio", item.kind, item.label), (f"learned fusion ratio r, {name}", text))
        if item.firing_rate:
            text = ", ".join(f"{layer} {percent(rate)}" for layer, rate in item.firing_rate.items())
            found.setdefault(("rates", item.kind, item.label), (f"firing rates, {name}", text))
    return dict(found.values())


def _hundred(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}"
