"""Format of a data set, recognised from its content."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ashneuro.data.archives import is_tar
from ashneuro.data.caption_files import FLICKR_TOKEN
from ashneuro.data.columns import IMAGE_NAMES, SUFFIXES, is_picture
from ashneuro.data.picture_folders import metadata_in, pictures_in
from ashneuro.data.readers import DELIMITERS, part_of_file, read_csv, read_json_pairs, read_jsonl
from ashneuro.data.walk import files_below
from ashneuro.errors import DataError
from ashneuro.files import parse_json, read_bytes, require_regular

_TABLES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".token")
_HEAD = 1 << 16
BY_PART = ("coco", "csv", "json", "jsonl")
"""Formats of which a folder may hold a file for each part."""

_QUESTIONS = ("vqa2", "snli-ve", "nlvr2", "easy-vqa")


@dataclass(frozen=True)
class Recognised:
    """A data set and its format.

    Args:
        path: the data set: the path that was asked about, or the caption file in that folder.
        seen: what the format was told from, for messages.
    """

    path: Path
    format: str
    seen: str


def recognise(path: Path) -> Recognised:
    """Return the format of a file, of a folder, or of ``shard-{000000..000009}.tar``.

    Raises:
        DataError: there is no such path, or it is of no format; says what was seen and tried.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(path)):  # a path has lost one of the slashes
        raise DataError(
            f"{path} is an address",
            "files are recognised and checked on disk; training reads shards from an address as a stream",
            "download it, or set data.source to it and data.test to held-out shards (docs/data.md)",
        )
    if re.fullmatch(r".*\{\d+\.\.\d+\}.*", path.name):
        return Recognised(path, "webdataset", "its name counts shards")
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise DataError(f"cannot read {path}", "there is no such file or folder", "check the path")
    format, seen = _file(path)
    if not format and (packed := _packed(path)):
        raise DataError(f"{path} is packed", f"it is {packed}", "unpack it, and give the file or folder in it")
    if not format:
        raise _unknown(path, seen, _FILES)
    return Recognised(path, format, seen)


_FILES = "webdataset, huggingface, coco, karpathy, vqa2, easy-vqa, json, jsonl, nlvr2, snli-ve, flickr30k, csv"
_FOLDERS = "huggingface, imagefolder, webdataset, vqa2, easy-vqa, a caption file in it, folder"


_PACKED = {
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "compressed by gzip",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
}
"""First bytes of files to be unpacked."""


def _packed(path: Path) -> str:
    """Return the name of the packing of the file ``path``; empty if it is not packed."""
    with path.open("rb") as file:
        head = file.read(8)
    return next((name for mark, name in _PACKED.items() if head.startswith(mark)), "")


def _unknown(path: Path, seen: str, tried: str) -> DataError:
    return DataError(
        f"{path}: which format is it?",
        f"{seen}; tried: {tried}",
        "name it with --format NAME, in a config data.format (see ashneuro data formats)",
    )


def _folder(path: Path) -> Recognised:
    inside = files_below(path)
    if any(file.name == "state.json" for file in inside) and any(file.suffix == ".arrow" for file in inside):
        return Recognised(path, "huggingface", "it holds .arrow files with a state.json")
    if tables := metadata_in(path):
        return Recognised(path, "imagefolder", f"it holds {tables[0].relative_to(path)}")
    if any(file.suffix == ".parquet" for file in inside):
        return Recognised(path, "huggingface", "it holds .parquet files")
    if any(map(is_tar, inside)):
        return Recognised(path, "webdataset", "it holds .tar files")
    files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    if any(file.name == "questions.json" for file in (*files, *path.glob("*/questions.json"))):
        return Recognised(path, "easy-vqa", "it holds a questions.json")
    formats = _tables(path)
    asked = [found for found in formats.values() if found in _QUESTIONS]
    if (asked and len(set(formats.values())) == 1) or "vqa2" in asked:
        return Recognised(path, asked[0], f"it holds {next(iter(formats)).name}")
    if len(formats) == 1:
        ((file, format),) = formats.items()
        return Recognised(file, format, f"it holds {file.name}")
    if parts := _part_files(formats):
        names = ", ".join(file.name for file in parts)
        return Recognised(path, formats[parts[0]], f"it holds a file for each part: {names}")
    if len(formats) > 1:
        names = ", ".join(file.name for file in formats)
        raise DataError(
            f"{path}: which of its files holds the captions?", f"it holds {names}", "name one; pictures: --images"
        )
    if pictures := pictures_in(path):
        return Recognised(path, "folder", f"it holds {len(pictures):,} pictures and no table of captions")
    kinds = Counter(file.suffix or file.name for file in inside)
    most = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(5))
    seen = f"it holds {most}; pictures end in {', '.join(SUFFIXES)}" if most else "it is an empty folder"
    raise _unknown(path, seen, _FOLDERS)


def part_files(folder: Path, format: str) -> list[Path]:
    """Return the caption files of ``folder`` that are one for each part, as their names say:
    ``train.csv`` and ``val.csv``; none if there are none.
    """
    return _part_files({file: format for file, found in _tables(folder).items() if found == format})


def _part_files(formats: dict[Path, str]) -> list[Path]:
    # COCO has captions_train2017.json beside instances_train2017.json.
    own = [file for file in formats if "caption" in file.name.lower()] or list(formats)
    parts = [part_of_file(file) for file in own]
    one_each = len(own) > 1 and all(parts) and len({*parts}) == len(parts)
    return own if one_each and any({formats[file] for file in own} == {format} for format in BY_PART) else []


def _tables(folder: Path) -> dict[Path, str]:
    """Return the caption files in a folder, with their formats; side-cars are left out."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
    pictured = {file.stem for file in files if is_picture(file.name)}
    tables = [file for file in files if file.suffix.lower() in _TABLES or file.name == "captions.txt"]
    tables = [file for file in tables if file.stem not in pictured]
    return {file: found for file in tables if (found := _file(file)[0]) and _holds_pairs(file, found)}


def _holds_pairs(file: Path, format: str) -> bool:
    """Return False for a table or JSON that has nothing to do with the pictures beside it."""
    readers = {"json": read_json_pairs, "jsonl": read_jsonl, "csv": read_csv}
    if format not in readers:
        return True
    try:
        return bool(readers[format](file)[0])
    except DataError:
        return False


def _file(path: Path) -> tuple[str, str]:
    """Return the format of a file, and what it was told from; no format if none fits."""
    require_regular(path)
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if is_tar(path) or head[257:262] == b"ustar":
        return "webdataset", "it is a tar"
    if head.startswith(b"PAR1"):
        return "huggingface", "it is a parquet file"
    if path.suffix == ".arrow":
        return "huggingface", "it is an arrow file"
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, "replace").lstrip()
    first = next(iter(text.splitlines()), "")
    if not first:
        # A reader says that it is empty.
        return {".jsonl": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "csv"}.get(path.suffix, ""), "it is empty"
    if "\0" in first:
        return "", "it is not a text"
    if first.startswith(("{", "[")):
        entry = _first_object(first)
        by_name = path.suffix.lower() in (".jsonl", ".ndjson")
        if isinstance(entry, dict):
            format = _of_line(entry)
            # A single line may be all of a JSON.
            if by_name or format != "jsonl" or len(text.split("\n", 2)) > 2 or len(head) == _HEAD:
                return format, f"its first line is {_short(entry)}"
        return ("jsonl", "its name says so") if by_name else _of_json(path, encoding)
    seen = f"its first line is {first.strip()[:120]!r}"
    if FLICKR_TOKEN.fullmatch(first) or re.match(r"\s*image_name\s*\|", first):
        return "flickr30k", seen
    if path.suffix.lower() == ".txt" and first.strip().lower() == "image,caption":
        return "flickr30k", seen
    few = text.splitlines()[:3]
    names = {
        name.strip().strip('"').lower().replace(" ", "_")
        for line in few
        for mark in DELIMITERS
        if mark in line
        for name in line.split(mark)
    }
    if path.suffix.lower() in (".csv", ".tsv") or names & {*IMAGE_NAMES} or any(map(is_picture, names)):
        return "csv", seen
    return "", seen


def _first_object(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _of_line(entry: dict[str, Any]) -> str:
    """Return the format of a file whose lines are objects such as ``entry``."""
    if "identifier" in entry and "sentence" in entry:
        return "nlvr2"
    if "gold_label" in entry and "sentence2" in entry:
        return "snli-ve"
    return "jsonl"


def _of_json(path: Path, encoding: str) -> tuple[str, str]:
    """Return the format of a JSON and what it was told from; what is not JSON is left to a
    reader.
    """
    try:
        content = parse_json(read_bytes(path).decode(encoding))
    except ValueError:
        # A reader names the line that is wrong.
        return "json" if path.suffix.lower() == ".json" else "", "it begins as JSON does, and is none"
    if isinstance(content, list):
        item = content[0] if content else None
        if isinstance(item, list) and len(item) == 3 and isinstance(item[2], int):
            return "easy-vqa", "it is a list of [question, answer, number]"
        return "json", f"it is a list whose first entry is {_short(item)}"
    if not isinstance(content, dict):
        return "", f"it is a {type(content).__name__}"
    keys = f"it is an object with {', '.join(map(repr, list(content)[:8])) or 'no key'}"
    images = content.get("images")
    if isinstance(images, list) and isinstance(content.get("annotations"), list):
        return "coco", keys
    if isinstance(images, list) and any(isinstance(entry, dict) and "sentences" in entry for entry in images[:9]):
        return "karpathy", keys
    return "vqa2" if isinstance(content.get("questions"), list) else "json", keys


def _short(entry: Any) -> str:
    return f"an object with {', '.join(map(repr, list(entry)[:8]))}" if isinstance(entry, dict) else repr(entry)[:80]
