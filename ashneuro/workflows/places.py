"""Data of a run where they are now, and other data for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashneuro.config import DataConfig, QuestionConfig, RunConfig, Task, trained_tasks
from ashneuro.errors import AshneuroError, DataError
from ashneuro.files import user_path

if TYPE_CHECKING:
    from ashneuro.data.pairs import Pair, Questions, Splits
    from ashneuro.training.checkpoint import Run


@dataclass(frozen=True)
class Place:
    """Place of data: a caption or question file, a folder or a named data set, and its pictures.

    Args:
        data: empty: that of the run's settings.
        images: folder of the pictures; empty: that of the settings, or with ``data`` the folder
            that the file lies in.
    """

    data: str = ""
    images: str = ""

    def moves(self, config: DataConfig) -> bool:
        """Return True if ``data`` are those of the settings elsewhere: the name is the same."""
        return not self.data or Path(self.data).name == Path(config.source).name


HERE = Place()
"""Data where the settings of their run say."""


def moved(config: RunConfig, place: Place) -> RunConfig:
    """Return the settings with the data of the run where they are now; all else stays.

    Question files of a task that was trained are found by their names: in the folder
    ``place.data``, or it is the one file or folder of that name. Else ``place.data`` are the pairs.
    """
    data, tasks = config.data, config.tasks
    for task in trained_tasks(config):
        tasks = replace(tasks, **{task: _questions_moved(getattr(tasks, task), place)})
    if place.data and (tasks == config.tasks or place.moves(data)):
        data = replace(data, source=place.data, images=place.images)
    elif place.images and not place.data:
        data = replace(data, images=place.images)
    return replace(config, data=data, tasks=tasks)


def _questions_moved(asked: QuestionConfig, place: Place) -> QuestionConfig:
    parts = {name: Path(file) for name in ("train", "validation", "test") if (file := getattr(asked, name))}
    there = user_path(place.data)
    if not (asked.format and parts):  # derived from the pairs, or from a named data set
        return asked
    if not place.data:
        return replace(asked, images=place.images) if place.images and asked.images else asked
    if all((there / file.name).exists() for file in parts.values()):
        files = {name: str(there / file.name) for name, file in parts.items()}
    elif {file.name for file in parts.values()} == {there.name}:
        files = dict.fromkeys(parts, str(there))
    else:
        return asked
    changes: dict[str, Any] = {**files, "images": place.images}
    return replace(asked, **changes)


def run_at(run: Run, place: Place) -> Run:
    """Return a run whose pairs are read where they are now."""
    return replace(run, config=moved(run.config, place)) if place != HERE else run


def run_on(run: Run, place: Place) -> Run:
    """Return a run whose pairs are other data, or its own where they are now.

    Data of the same name are its own. Other data have the settings of a file without any: the
    format is recognised, and parts are the file's own; a file without parts is a test part.

    Raises:
        DataError: the data cannot be read.
    """
    if place.moves(run.config.data):
        return run_at(run, place)
    from ashneuro.data.shards import is_address
    from ashneuro.data.sources import SOURCES

    data = replace(
        run.config.data,
        source=place.data,
        images=place.images,
        format="",
        image_column="",
        caption_column="",
        styles=(),
        stream=False,
        validation="",
        test="",
        epoch_pairs=0,
    )
    if is_address(place.data):
        why = "evaluation needs every picture and text: an address is read once, as a stream, for training"
        raise DataError(f"--data {place.data}", why, "train with data.test = 'SHARDS', or download the shards")
    if "{" not in place.data and place.data not in SOURCES and not user_path(place.data).exists():
        raise DataError(f"--data {place.data}", f"there is no such file or folder, seen from {Path.cwd()}", "check it")
    if (source := SOURCES.get(place.data)) is not None:
        split: Any = data.split if data.split in source.splits else source.splits[0]
        return replace(run, config=replace(run.config, data=replace(data, split=split)))
    pairs = _own_parts(data) or _one_part(data)
    return replace(run, config=replace(run.config, data=replace(data, split="file")), given=pairs)


def _own_parts(data: DataConfig) -> Splits | None:
    """Return the pairs in the parts that their file names; ``None``: it names none, or not all."""
    from ashneuro.data.sources import EmptyPart, NoParts, load_splits

    try:
        return load_splits(replace(data, split="file"))
    except (EmptyPart, NoParts):
        return None


def _one_part(data: DataConfig) -> Splits:
    """Return all pairs of a file without parts as a test part."""
    from ashneuro.data.sources import load_splits

    splits = load_splits(replace(data, split="picture"))
    pairs: tuple[Pair, ...] = (*splits.train, *splits.validation, *splits.test)
    return replace(splits, train=(), validation=(), test=pairs, name=f"{Path(data.source).name}, all of it", notes=())


def questions_at(config: RunConfig, task: Task, place: Place) -> RunConfig:
    """Return the settings with the questions of a task, from files, in another place.

    A folder holds all parts; a file is the test part.
    """
    asked: QuestionConfig = getattr(config.tasks, task)
    if not place.data:
        asked = replace(asked, images=place.images)
    elif user_path(place.data).is_dir():
        asked = replace(asked, train=place.data, validation="", test="", images=place.images)
    else:
        asked = replace(asked, train=place.data, validation="", test=place.data, images=place.images)
    return replace(config, tasks=replace(config.tasks, **{task: asked}))


def questions_on(run: Run, task: Task, place: Place) -> Questions:
    """Return the questions of a task; see `questions_at`.

    Without training questions there is no most frequent answer to compare with.
    """
    from ashneuro.data.tasks import load_questions

    if not getattr(run.config.tasks, task).format:  # derived from the pairs
        return run_on(run, place).questions(task) if place != HERE else run.questions(task)
    if place == HERE:
        return run.questions(task)
    settings = questions_at(run.config, task, place)
    questions = load_questions(task, settings.tasks, settings.data)
    asked: QuestionConfig = getattr(settings.tasks, task)
    return replace(questions, train=(), validation=()) if asked.test == asked.train else questions


def require_data(config: RunConfig, whose: str | Path) -> None:
    """Raise `DataError` if the file or folder of a run's data is not there.

    Args:
        whose: the run.
    """
    from ashneuro.data.shards import expand, is_address, is_streamed
    from ashneuro.data.sources import SOURCES

    source, images = config.data.source, config.data.images
    if is_streamed(config.data):
        held = expand(config.data.validation) + expand(config.data.test)
        for shard in (*expand(source), *held):
            if not is_address(shard) and not Path(shard).exists():
                raise _absent(whose, shard, "--set data.test=SHARDS" if shard in held else "--data SHARDS")
        return
    if source not in SOURCES and "{" not in source and not user_path(source).exists():
        raise _absent(whose, source, "--data PATH")
    if source not in SOURCES and images and not user_path(images).is_dir():
        raise _absent(whose, images, "--images FOLDER")


def require_questions(run: Run, task: Task) -> None:
    """Raise `DataError` if a file with questions of a task is not there."""
    asked: QuestionConfig = getattr(run.config.tasks, task)
    for file in filter(None, (asked.train, asked.validation, asked.test) if asked.format else ()):
        if not user_path(file).exists():
            raise _absent(run.path, file, f"--task {task} --data PATH")
    if asked.format and asked.images and not user_path(asked.images).is_dir():
        raise _absent(run.path, asked.images, f"--task {task} --images FOLDER")


def _absent(whose: str | Path, path: str, option: str) -> AshneuroError:
    relative = "" if user_path(path).is_absolute() else f", seen from {Path.cwd()}"
    return DataError(
        f"the data of {whose} are not at {path}",
        f"there is no such file or folder{relative}: they were moved, or the run was trained in another folder",
        f"{option}: where they are now",
    )
