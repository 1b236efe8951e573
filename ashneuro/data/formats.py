"""Registry of the file formats: their descriptions and readers by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ashneuro.data.archives import read_huggingface, read_webdataset
from ashneuro.data.caption_files import read_flickr, read_karpathy
from ashneuro.data.pairs import Question
from ashneuro.data.question_files import QUESTION_READERS
from ashneuro.data.readers import Record, read_coco, read_csv, read_jsonl, read_records
from ashneuro.errors import ConfigError, DataError

CaptionReader = Callable[[Path], tuple[list[Record], list[str]]]


@dataclass(frozen=True)
class CaptionFormat:
    """A caption format; ``own_images``: the pictures are inside the file."""

    about: str
    read: CaptionReader
    own_images: bool = False


CAPTIONS: dict[str, CaptionFormat] = {
    "coco": CaptionFormat("COCO captions JSON", read_coco),
    "karpathy": CaptionFormat("Karpathy's split of COCO, Flickr30k or Flickr8k", read_karpathy),
    "flickr30k": CaptionFormat("Flickr30k/8k captions: .token, captions.txt or results.csv", read_flickr),
    "webdataset": CaptionFormat("WebDataset shards, .tar or .tar.gz", read_webdataset, own_images=True),
    "huggingface": CaptionFormat(
        "Hugging Face data set folder: save_to_disk, or parquet", read_huggingface, own_images=True
    ),
    "jsonl": CaptionFormat("one JSON object a line: image, caption, split?", read_jsonl),
    "csv": CaptionFormat("table with the columns image and caption", read_csv),
}
QUESTIONS: dict[str, str] = {
    "vqa2": "VQA v2 questions JSON, annotations beside it",
    "snli-ve": "SNLI-VE jsonl",
    "nlvr2": "NLVR2 JSON, one object a line",
    "easy-vqa": "easy-vqa's data folder",
}
FORMATS: tuple[str, ...] = (*CAPTIONS, *QUESTIONS)


def read_captions(path: Path, format: str = "") -> tuple[list[Record], list[str]]:
    """Return the records and problems of a caption file; without a ``format`` the file's suffix
    decides.

    Raises:
        ConfigError: there is no such format.
        DataError: the file cannot be read at all.
    """
    if not format:
        return read_records(path)
    if format not in CAPTIONS:
        why = (
            f"it holds {QUESTIONS[format]}, not captions" if format in QUESTIONS else f"there are {', '.join(CAPTIONS)}"
        )
        raise ConfigError(f"data.format = {format!r}", why, "choose another format")
    if not path.exists() and "{" not in path.name:
        raise DataError(f"cannot read {path}", "there is no such file or folder", "check the path")
    return CAPTIONS[format].read(path)


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


def guess_format(path: Path) -> str:
    """Return the format that the suffix of ``path`` stands for.

    Raises:
        ConfigError: it stands for none.
    """
    by_suffix = {
        ".json": "coco",
        ".jsonl": "jsonl",
        ".csv": "csv",
        ".tsv": "csv",
        ".token": "flickr30k",
        ".tar": "webdataset",
    }
    if (found := by_suffix.get(path.suffix.lower())) is None:
        raise ConfigError(
            f"{path}: which format is it?", f"its name does not say; there are {', '.join(FORMATS)}", "--format NAME"
        )
    return found
