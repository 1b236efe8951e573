"""Registry of the file formats: their descriptions and readers by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ashneuro.data.archives import read_huggingface, read_webdataset
from ashneuro.data.caption_files import read_flickr, read_karpathy
from ashneuro.data.columns import Columns
from ashneuro.data.pairs import Question
from ashneuro.data.picture_folders import read_file_names, read_folder, read_imagefolder
from ashneuro.data.question_files import QUESTION_READERS
from ashneuro.data.readers import Record, merge, part_of_file, read_coco, read_csv, read_json_pairs, read_jsonl
from ashneuro.data.recognise import BY_PART, Recognised, part_files, recognise
from ashneuro.errors import ConfigError, DataError

Read = tuple[list[Record], list[str]]
"""Records and problems."""


@dataclass(frozen=True)
class CaptionFormat:
    """A caption format.

    Args:
        read: its reader. With ``columns``, names of columns are the second argument.
        columns: the columns of pictures and captions can have any name.
    """

    about: str
    read: Callable[..., Read]
    columns: bool = False


CAPTIONS: dict[str, CaptionFormat] = {
    "coco": CaptionFormat("COCO captions JSON", read_coco),
    "karpathy": CaptionFormat("Karpathy's split of COCO, Flickr30k or Flickr8k", read_karpathy),
    "flickr30k": CaptionFormat("Flickr30k/8k captions: .token, captions.txt or results.csv", read_flickr),
    "webdataset": CaptionFormat("WebDataset shards: .tar, compressed or not, also in folders", read_webdataset, True),
    "huggingface": CaptionFormat("Hugging Face data set folder: save_to_disk, or parquet", read_huggingface, True),
    "imagefolder": CaptionFormat("folder of pictures with metadata.csv, .jsonl or .parquet", read_imagefolder, True),
    "folder": CaptionFormat(
        "folder of pictures: captions in .txt files of their names, or folders' names", read_folder
    ),
    "file-names": CaptionFormat("folder of pictures whose own names are the captions", read_file_names),
    "json": CaptionFormat("JSON list of objects with a picture and its captions", read_json_pairs, True),
    "jsonl": CaptionFormat("one JSON object a line: image, caption, split?", read_jsonl, True),
    "csv": CaptionFormat("table with a column of pictures and one of captions", read_csv, True),
}
QUESTIONS: dict[str, str] = {
    "vqa2": "VQA v2 questions JSON, annotations beside it",
    "snli-ve": "SNLI-VE jsonl",
    "nlvr2": "NLVR2 JSON, one object a line",
    "easy-vqa": "easy-vqa's data folder",
}
CLIPS: dict[str, str] = {
    "clips": "clips: an animated picture, or a folder of animated pictures or of sub-folders of frames",
}
FORMATS: tuple[str, ...] = (*CAPTIONS, *QUESTIONS, *CLIPS)


def read_captions(path: Path, format: str = "", columns: Columns | None = None) -> Read:
    """Return the records and problems of a caption file or folder.

    Args:
        format: a name of `CAPTIONS`; empty: recognised from the content.
        columns: names of the columns with pictures and captions; ``None``: customary ones.

    Raises:
        ConfigError: there is no such format, or its columns have fixed names.
        DataError: the file cannot be read at all; says as what it was read, or which format it
            looks like.
    """
    found = recognise(path) if not format else None
    chosen, path = (found.format, found.path) if found else (format, path)
    if chosen not in CAPTIONS:
        other = QUESTIONS | CLIPS
        why = f"it holds {other[chosen]}, not captions" if chosen in other else f"there are {', '.join(CAPTIONS)}"
        raise ConfigError(f"data.format = {chosen!r}", why, "choose another format")
    if not path.exists() and "{" not in path.name:
        raise DataError(f"cannot read {path}", "there is no such file or folder", "check the path")
    if columns not in (None, Columns()) and not CAPTIONS[chosen].columns:
        open_names = ", ".join(name for name, about in CAPTIONS.items() if about.columns)
        raise ConfigError(
            "data.image_column, data.caption_column",
            f"the format {chosen!r} has fixed names; those with names of your own are {open_names}",
            "leave them out, or choose another format",
        )
    try:
        if path.is_dir() and chosen in BY_PART:
            return _read_parts(path, chosen, columns)
        return _read(path, chosen, columns)
    except DataError as error:
        raise _explained(error, path, chosen, found) from error


def _read(path: Path, format: str, columns: Columns | None) -> Read:
    chosen = CAPTIONS[format]
    return chosen.read(path, columns or Columns()) if chosen.columns else chosen.read(path)


def _read_parts(folder: Path, format: str, columns: Columns | None) -> Read:
    """Return the records and problems of a folder with a caption file for each part.

    A part that an entry names itself goes before that of its file. A picture in two parts is a
    problem.
    """
    files = part_files(folder, format)
    if not files:
        raise DataError(
            f"{folder} is a folder", f"it holds no {format} files named after parts", "name the file that has captions"
        )
    records: list[Record] = []
    problems: list[str] = []
    for file in files:
        found, own = _read(file, format, columns)
        problems += [f"{file.name} {problem}" for problem in own]
        for record in found:
            record.where = f"{file.name} {record.where}"
            record.split = record.split or part_of_file(file)
        records += found
    return merge(records, problems), problems


def _explained(error: DataError, path: Path, format: str, found: Recognised | None) -> DataError:
    """Return the error of a reader with what its format was told from, or a better format."""
    if found:
        told = "" if found.seen in error.why else f", because {found.seen}"
        why = f"{error.why}; it was read as {format}{told}"
        return DataError(error.what, why, f"{error.do}; another format: --format NAME, in a config data.format")
    try:
        other = recognise(path)
    except DataError:
        return error
    if other.format == format:
        return error
    return DataError(error.what, f"{error.why}; {other.seen}", f"--format {other.format}, in a config data.format")


def read_questions(path: Path, format: str) -> tuple[str, list[Question], list[str]]:
    """Return the task, the questions and the problems of a question file.

    Raises:
        ConfigError: there is no such format.
        DataError: the file cannot be read at all.
    """
    if format not in QUESTION_READERS:
        raise ConfigError(
            f"format = {format!r}", f"questions are read as {', '.join(QUESTIONS)}", "choose one of these"
        )
    if not path.exists():
        raise DataError(f"cannot read {path}", "there is no such file or folder", "check the path")
    task, read = QUESTION_READERS[format]
    return task, *read(path)
