"""Questions of a task: from the benchmark's own files, or derived from the image–text pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ashneuro.config import DataConfig, QuestionConfig, TasksConfig
from ashneuro.data.answers import normalise_answer
from ashneuro.data.broken import broken_pictures, count_left_out
from ashneuro.data.derive import derive_questions
from ashneuro.data.fetch import PACKAGES, fetched_folder
from ashneuro.data.formats import read_questions
from ashneuro.data.images import header_problem, read_image
from ashneuro.data.pairs import Pair, Question, Questions, Splits
from ashneuro.data.question_files import picture_path
from ashneuro.data.readers import report
from ashneuro.data.sources import load_splits
from ashneuro.errors import ConfigError, DataError
from ashneuro.files import user_path


def load_questions(task: str, tasks: TasksConfig, data: DataConfig, splits: Splits | None = None) -> Questions:
    """Return the questions of ``task``, in three parts.

    Args:
        splits: the pairs that ``data`` names, if they were loaded already.

    Raises:
        ConfigError: the settings name a format of another task, or no file.
        DataError: files or pictures cannot be read; names all problems.
    """
    config: QuestionConfig = getattr(tasks, task)
    if config.format:
        return _from_files(task, config, data.skip_broken)
    pairs = splits or load_splits(data)
    if pairs.stream is not None:
        raise ConfigError(
            f"tasks.{task} has no format",
            "questions are derived from all pairs, and those of a stream are not kept",
            f"set tasks.{task}.format, and files of questions",
        )
    return derive_questions(task, pairs, config.per_picture)


def answer_vocabulary(questions: Sequence[Question], size: int) -> tuple[str, ...]:
    """Return the ``size`` most frequent answers, most frequent first, ties in alphabetical order.

    Answers are normalised as in the metric (`ashneuro.data.answers`).
    """
    counts = Counter(normalise_answer(answer) for question in questions for answer in question.answers)
    return tuple(sorted(counts, key=lambda answer: (-counts[answer], answer))[:size])


def pictures_of(questions: Questions, part: Sequence[Question]) -> list[Pair]:
    """Return the pictures of the questions ``part``, each once, as pairs without captions."""
    names = dict.fromkeys(name for question in part for name in question.images)
    return [Pair(name, (), name, questions.pictures[name]) for name in names]


def _from_files(task: str, config: QuestionConfig, skip_broken: bool) -> Questions:
    given = {part: getattr(config, part) for part in ("train", "validation", "test") if getattr(config, part)}
    if not given and config.format in PACKAGES:
        given = {"train": str(fetched_folder(config.format))}
    if not given:
        raise ConfigError(
            f"tasks.{task}: format {config.format!r} without files",
            "train, validation and test name the files",
            f"set tasks.{task}.train",
        )
    parts: dict[str, list[Question]] = {"train": [], "validation": [], "test": []}
    files: dict[str, Path] = {}  # by the picture's name in the result
    problems: list[str] = []
    for part, name in given.items():
        path = user_path(name)
        of, questions, found = read_questions(path, config.format)
        if of != task:
            raise ConfigError(
                f"tasks.{task}.format = {config.format!r}", f"its questions are of the task {of!r}", f"[tasks.{of}]"
            )
        problems += found
        folder = user_path(config.images) if config.images else path if path.is_dir() else path.parent
        if not folder.is_dir():
            raise ConfigError(
                f"tasks.{task}.images = {config.images!r}", "there is no such folder", "give the folder of the pictures"
            )
        paths = {picture: picture_path(folder, picture) for question in questions for picture in question.images}
        if skip_broken:
            broken = broken_pictures(paths)
        else:
            broken = {picture: why for picture, file in paths.items() if (why := header_problem(file))}
        problems += [f"{picture}: {why}" for picture, why in broken.items()]
        questions = [question for question in questions if broken.keys().isdisjoint(question.images)]
        # Two parts may have different pictures of the same name, in folders of their own.
        names = {
            picture: picture if files.get(picture, file) == file else f"{part}/{picture}"
            for picture, file in paths.items()
        }
        files |= {names[picture]: file for picture, file in paths.items()}
        # With a file per part, all of a file belongs to its part. A single path may hold all parts.
        for question in questions:
            images = tuple(names[picture] for picture in question.images)
            parts[question.split or part if len(given) == 1 else part].append(replace(question, images=images))
    if not skip_broken:
        report(f"tasks.{task}", problems)
    for part in ("train", "test"):
        if not parts[part]:
            where = ", ".join(given.values())
            raise DataError(
                f"tasks.{task}: no question for {part}", f"none was found in {where}", f"set tasks.{task}.{part}"
            )
    notes = PACKAGES[config.format].notes if config.format in PACKAGES else ()
    notes += (count_left_out(tuple(problems)),) if problems else ()
    made = {name: tuple(replace(question, split=name) for question in questions) for name, questions in parts.items()}
    pictures: dict[str, Callable[[], NDArray[np.uint8]]] = {
        name: partial(read_image, file) for name, file in files.items()
    }
    return Questions(
        task, made["train"], made["validation"], made["test"], pictures, config.format, notes, tuple(problems)
    )
