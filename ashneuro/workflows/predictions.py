"""Predictions of a run in the formats that evaluation servers and scripts read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ashneuro.config import Task
from ashneuro.errors import ConfigError, need
from ashneuro.files import named, write_text
from ashneuro.workflows.evaluate import EvaluationSettings, open_session, questions_of
from ashneuro.workflows.places import run_on
from ashneuro.workflows.progress import Progress, silent
from ashneuro.workflows.runs import list_left_out, open_run, pairs_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.data.pairs import Question
    from ashneuro.training.checkpoint import Run

RANKED = 100
"""Items of each ranking that are written."""


def predict(
    run: str | Path | Run,
    file: str | Path,
    task: Task = "retrieval",
    settings: EvaluationSettings | None = None,
    *,
    skip_broken: bool = False,
    progress: Progress = silent,
) -> int:
    """Write the predictions of a run for a part of its data; return their number.

    Questions need no answers. The format is that of the task:

    - VQA v2: a JSON list of ``{"question_id", "answer"}``, as its evaluation server reads it.
    - NLVR2: lines ``identifier,True``, as its script ``metrics.py`` reads them; with ``.json`` an
      object of labels by identifier.
    - SNLI-VE: JSON lines of ``{"pairID", "gold_label"}``, with the label that is predicted.
    - retrieval: the best `RANKED` items of every query, as a TREC run, ``query Q0 item rank score
      ashneuro``, which trec_eval reads. Pictures have their keys, the texts of picture ``KEY`` are
      ``KEY#0``, ``KEY#1``, …; characters with a meaning in the format are escaped as in a URL. With
      ``.json`` an object of rankings by query, in each direction.

    Args:
        task: retrieval, or a task that the run was trained on.
        settings: source of the spikes, and the part of the data; default: torch, the test part.

    Raises:
        ConfigError: the file's suffix is that of another format.
        AshneuroError: as `ashneuro.workflows.evaluate.evaluate`.
    """
    file, settings = Path(file), settings or EvaluationSettings()
    _require_suffix(file, task)
    own = open_run(run, settings.device, skip_broken=skip_broken)
    if task == "retrieval":
        opened = run_on(own, settings.place)
        text, count = _rankings(opened, file, settings, progress)
    else:
        opened = own
        text, count = _answers(opened, file, task, settings, progress)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    list_left_out(opened)
    return count


def _answers(run: Run, file: Path, task: Task, settings: EvaluationSettings, progress: Progress) -> tuple[str, int]:
    """Return the text of a file of answers, and their number."""
    scoring = need("ashneuro.training.task_evaluation", extra="train", purpose="predicting")
    asked = questions_of(run, task, settings.part, settings.samples, settings.place, answered=False)
    pool = scoring.TaskPool(
        asked.questions, asked.chosen, run.labels[task], run.vocabulary, run.config.data, answered=False
    )
    with open_session(run, settings, len(asked.pictures), progress) as session:
        (said,), _ = scoring.answer(run.model, pool, [None], session.encoder)
    return _WRITERS[task](asked.chosen, said, file.suffix), len(said)


def vqa2(questions: Sequence[Question], said: Sequence[str], suffix: str = ".json") -> str:
    """Return answers as VQA v2's evaluation server reads them; its question ids are numbers."""
    rows = [
        {"question_id": int(question.key) if question.key.isdecimal() else question.key, "answer": answer}
        for question, answer in zip(questions, said, strict=True)
    ]
    return json.dumps(rows, ensure_ascii=False) + "\n"


def nlvr2(questions: Sequence[Question], said: Sequence[str], suffix: str = ".csv") -> str:
    """Return labels as NLVR2's script reads them."""
    labels = {question.key: answer.capitalize() for question, answer in zip(questions, said, strict=True)}
    if suffix == ".json":
        return json.dumps(labels, indent=1) + "\n"
    return "".join(f"{key},{label}\n" for key, label in labels.items())


def snli_ve(questions: Sequence[Question], said: Sequence[str], suffix: str = ".jsonl") -> str:
    """Return labels in the form of SNLI-VE's own files."""
    rows = ({"pairID": question.key, "gold_label": label} for question, label in zip(questions, said, strict=True))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


_WRITERS: Mapping[Task, Callable[[Sequence[Question], Sequence[str], str], str]] = {
    "vqa": vqa2,
    "nlvr2": nlvr2,
    "entailment": snli_ve,
}
SUFFIXES: Mapping[Task, tuple[str, ...]] = {
    "vqa": (".json",),
    "nlvr2": (".csv", ".json"),
    "entailment": (".jsonl",),
    "retrieval": (".trec", ".txt", ".json"),
}
"""Suffixes of files of predictions, by task; the customary one first."""


def _require_suffix(file: Path, task: Task) -> None:
    known = SUFFIXES[task]
    if file.suffix not in known:
        raise ConfigError(
            f"--predictions {file}",
            f"predictions of {task} are written as {' or '.join(known)}",
            f"--predictions {named(file).with_suffix(known[0])}",
        )


def _rankings(run: Run, file: Path, settings: EvaluationSettings, progress: Progress) -> tuple[str, int]:
    """Return the text of a file of rankings, and the number of queries."""
    batches = need("ashneuro.data.batches", extra="train", purpose="predicting")
    pairs, _ = pairs_of(run, settings.part, settings.samples)
    owned = [
        (f"{pair.key}#{number}", text)
        for pair in pairs
        for number, text in enumerate(batches.texts_of(pair, run.config.data.captions))
    ]
    with open_session(run, settings, len(pairs), progress) as session:
        images = session.embed_images(batches.load_images(pairs, run.config.data.image_size))
        texts = session.embed_texts([text for _, text in owned])
    scores = images @ texts.T
    keys, names = [pair.key for pair in pairs], [name for name, _ in owned]
    ways = {"image_to_text": rankings(scores, keys, names), "text_to_image": rankings(scores.T, names, keys)}
    if file.suffix == ".json":
        found = {
            way: {query: [item for item, _ in ranked] for query, ranked in each.items()} for way, each in ways.items()
        }
        return json.dumps(found, ensure_ascii=False, indent=1) + "\n", len(keys) + len(names)
    return trec_run(ways["image_to_text"] | ways["text_to_image"]), len(keys) + len(names)


def rankings(
    scores: NDArray[np.floating], queries: Sequence[str], items: Sequence[str]
) -> dict[str, list[tuple[str, float]]]:
    """Return the best `RANKED` items with their scores, best first, by query.

    Args:
        scores: (queries, items).
    """
    order = (-scores).argsort(1, kind="stable")[:, :RANKED].tolist()
    return {
        query: [(items[index], float(row[index])) for index in best]
        for query, row, best in zip(queries, scores, order, strict=True)
    }


def trec_run(ranked: Mapping[str, Sequence[tuple[str, float]]]) -> str:
    """Return rankings as lines ``query Q0 item rank score ashneuro``."""
    return "".join(
        f"{quote(query, safe='/#')} Q0 {quote(item, safe='/#')} {rank} {score:.6f} ashneuro\n"
        for query, best in ranked.items()
        for rank, (item, score) in enumerate(best, start=1)
    )
