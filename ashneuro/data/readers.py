"""Caption files as records: COCO captions JSON, JSON lines, CSV.

A reader returns the records and all problems of a file; callers report the problems together.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ashneuro.errors import DataError

PARTS = {
    "train": "train",
    "restval": "train",  # Karpathy: the rest of COCO's validation images, used for training
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}
SHOWN = 20


@dataclass
class Record:
    """An image of a caption file and its captions.

    Args:
        where: line or entry of the file, for messages.
        image: path of the image, or its name where it is inside the file.
        split: ``"train"``, ``"validation"``, ``"test"``, or empty.
        read: reads the image's bytes, if it is a member of an archive or a cell of a table.
    """

    where: str
    image: str
    captions: list[str]
    split: str = ""
    concept: str = ""
    style: str = ""
    labels: dict[str, Any] = field(default_factory=dict)
    read: Callable[[], bytes] | None = None


def read_records(path: Path) -> tuple[list[Record], list[str]]:
    """Return the file's records, one per image, and its problems, one line each.

    ``.json``: COCO captions. ``.jsonl``: ``{"image", "caption": str | [str], "split"?}`` per line.
    ``.csv``/``.tsv``: the same columns, one caption per row. Rows of one image are merged.
        ``concept`` and
    ``style`` are optional.

    Raises:
        DataError: the file cannot be read at all.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"cannot read {path}", f"captions are read from {', '.join(READERS)}", "rename or convert the file"
        )
    return reader(path)


def report(subject: object, problems: list[str]) -> None:
    """Raise `DataError` with the first `SHOWN` problems and their number, unless there are none."""
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:SHOWN])
        more = f"\n  … and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(
            f"{subject}: {len(problems)} problem(s)",
            f"\n{shown}{more}",
            "correct or remove these entries; nothing is left out silently",
        )


def read_text(path: Path) -> str:
    """Return the file's text without byte-order mark: UTF-16 if the mark says so, else UTF-8.

    Raises:
        DataError: the file is missing, or in another encoding; names the first line that is.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}", error.strerror or str(error), "check the path") from error
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte {data[error.start]:#04x} in line {line}" if encoding == "utf-8-sig" else str(error)
        raise DataError(
            f"{path} is not {encoding.removesuffix('-sig').upper()}",
            f"{byte} does not belong to it; Latin-1 or Windows-1252 perhaps",
            f"iconv -f WINDOWS-1252 -t UTF-8 {path.name} > converted{path.suffix}",
        ) from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataError: it cannot be read, or is not JSON; names the line.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
        if lone := lone_surrogate(text, content):
            raise DataError(
                f"{path} holds half of a letter", f"{lone} stands without its other half", "write that text again"
            )
        return content
    except json.JSONDecodeError as error:
        hint = "; one object a line belongs into a .jsonl" if error.msg == "Extra data" else ""
        raise DataError(f"{path} is not JSON", f"{error}{hint}", "correct the line that the message names") from error
    except ValueError as error:
        raise DataError(f"{path} cannot be read", str(error), "correct the number that is too long") from error
    except RecursionError as error:
        raise DataError(f"{path} is not a caption file", "its JSON is nested too deeply", "check the path") from error


def json_lines(path: Path, problems: list[str], name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Iterate over (line, object) of a file with one JSON object per line.

    Empty lines are skipped; other lines are problems. ``name`` precedes the line number in
    messages, for data sets of several files.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):  # splitlines would split at U+2028
        if not line.strip():
            continue
        where = f"{name} line {number}".strip()
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:  # ValueError: also numbers of thousands of digits
            problems.append(f"{where}: not JSON ({error})")
            continue
        if lone := lone_surrogate(line, entry):
            problems.append(f"{where}: holds half of a letter ({lone} without its other half)")
        elif isinstance(entry, dict):
            yield where, entry
        else:
            problems.append(f"{where}: not an object")


def lone_surrogate(text: str, content: Any) -> str:
    """Return the first lone surrogate of a JSON ``text``, escaped; empty if there is none.

    A string with half of a surrogate pair can be neither printed nor saved as UTF-8.
    """
    if "\\ud" not in text and "\\uD" not in text:
        return ""
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(error.object[error.start]):x}"
    return ""


def read_coco(path: Path) -> tuple[list[Record], list[str]]:
    """Return the records and problems of a COCO captions file.

    Images need ``id`` and ``file_name``, annotations ``image_id`` and ``caption``.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(name), list) for name in ("images", "annotations")
    ):
        raise DataError(
            f"{path} is not a COCO captions file",
            "it needs the lists 'images' and 'annotations'",
            "see cocodataset.org/#format-data",
        )
    problems: list[str] = []
    records: dict[int | str, Record] = {}
    for index, entry in enumerate(content["images"]):
        where = f"images[{index}]"
        name, number = value_of(entry, "file_name"), value_of(entry, "id")
        if not isinstance(name, str) or not name or not is_id(number):
            problems.append(f"{where}: needs a file_name and an id")
        elif number in records:
            problems.append(f"{where} ({name}): id {number!r} is already that of {records[number].image}")
        else:
            records[number] = make_record(where, name, [], entry, problems)
    seen: set[int | str] = set()
    # Images that were problems themselves: their annotations are not reported again.
    lost = {value_of(entry, "id") for entry in content["images"] if is_id(value_of(entry, "id"))} - records.keys()
    for index, entry in enumerate(content["annotations"]):
        where = f"annotations[{index}]"
        number, caption, own = value_of(entry, "image_id"), value_of(entry, "caption"), value_of(entry, "id")
        if is_id(own) and own in seen:
            problems.append(f"{where}: id {own!r} is used twice")
        elif is_id(own):
            seen.add(own)
        if not isinstance(caption, str) or not caption.strip():
            problems.append(f"{where}: needs a caption")
        elif not is_id(number) or number not in records:
            if not (is_id(number) and number in lost):
                problems.append(f"{where}: there is no image with the id {number!r}")
        else:
            records[number].captions.append(caption.strip())
    problems += [
        f"{record.where} ({record.image}): has no caption" for record in records.values() if not record.captions
    ]
    return merge(list(records.values()), problems), problems


def read_jsonl(path: Path) -> tuple[list[Record], list[str]]:
    """Return the records and problems of a file with one JSON object per line; empty lines are
    skipped.
    """
    problems: list[str] = []
    records = []
    for where, entry in json_lines(path, problems):
        image, caption = entry.get("image"), entry.get("caption")
        captions = [caption] if isinstance(caption, str) else caption
        if not isinstance(image, str) or not image.strip():
            problems.append(f"{where}: needs an image (a path)")
        elif (
            not isinstance(captions, list)
            or not captions
            or not all(isinstance(text, str) and text.strip() for text in captions)
        ):
            problems.append(f"{where} ({image}): needs a caption (a text, or a list of texts)")
        else:
            records.append(make_record(where, image.strip(), [text.strip() for text in captions], entry, problems))
    return merge(records, problems), problems


def read_csv(path: Path) -> tuple[list[Record], list[str]]:
    """Return the records and problems of a table with the columns ``image`` and ``caption``.

    The delimiter is a comma, semicolon, tab or bar.
    """
    text = read_text(path)
    header = next(iter(text.splitlines()), "")
    delimiter = next((mark for mark in ",;\t|" if {"image", "caption"} <= set(columns_of(header, mark))), "")
    if not delimiter:
        raise DataError(
            f"{path} needs the columns image and caption",
            f"its first line is {header.strip()[:200]!r}",
            "add a header line",
        )
    columns = columns_of(header, delimiter)
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise DataError(
            f"{path} has columns of the same name", ", ".join(map(repr, twice)), "give several captions in several rows"
        )
    problems: list[str] = []
    records = []
    # strict: an unclosed quote is an error; otherwise it would swallow the rest of the file.
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    next(rows)
    for where, row in csv_rows(rows, problems):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(columns):
            problems.append(
                f'{where}: {len(row)} fields, the header has {len(columns)}; quote fields that hold {delimiter!r} ("…")'
            )
            continue
        entry = {name: cell.strip() for name, cell in zip(columns, row, strict=True) if cell.strip()}
        if missing := [name for name in ("image", "caption") if name not in entry]:
            problems.append(f"{where}: needs {' and '.join(missing)}")
        else:
            records.append(make_record(where, entry["image"], [entry["caption"]], entry, problems))
    return merge(records, problems), problems


READERS: dict[str, Callable[[Path], tuple[list[Record], list[str]]]] = {
    ".json": read_coco,
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
}


def value_of(entry: Any, name: str) -> Any:
    """Return ``entry[name]``, or ``None`` if ``entry`` is not an object that has it."""
    return entry.get(name) if isinstance(entry, dict) else None


def is_id(value: Any) -> bool:
    """Return True if ``value`` can be an id: an integer or a string."""
    return isinstance(value, int | str) and not isinstance(value, bool)


def columns_of(header: str, delimiter: str) -> list[str]:
    """Return the column names of a table's first line, in lower case."""
    return [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter), [])]


def csv_rows(rows: Iterator[list[str]], problems: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Iterate over (line, row) of a ``csv.reader``; a malformed row is a problem, and the next one
    is read.
    """
    while True:
        line = getattr(rows, "line_num", 0) + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            problems.append(f"line {line}: {error}")
            continue
        yield f"line {line}", row


def make_record(where: str, image: str, captions: list[str], entry: dict[str, Any], problems: list[str]) -> Record:
    """Return a record with the split, concept, style and labels of ``entry``; wrong types are
    problems.
    """
    texts = {}
    for name in ("split", "concept", "style"):
        value = entry.get(name)
        if value is not None and not isinstance(value, str):
            problems.append(f"{where} ({image}): {name} is {value!r}, not a text")
            value = None
        texts[name] = (value or "").strip()
    if texts["split"] and (part := PARTS.get(texts["split"].lower())) is None:
        problems.append(f"{where} ({image}): split is {texts['split']!r}, not one of {', '.join(PARTS)}")
    elif texts["split"]:
        texts["split"] = str(part)
    labels = entry.get("labels")
    if labels is not None and not isinstance(labels, dict):
        problems.append(f"{where} ({image}): labels is not an object")
        labels = None
    return Record(where, image, captions, texts["split"], texts["concept"], texts["style"], labels or {})


def merge(records: list[Record], problems: list[str]) -> list[Record]:
    """Return one record per image with all its captions; its rows must agree on everything else."""
    merged: dict[str, Record] = {}
    for record in records:
        first = merged.setdefault(record.image, record)
        if first is record:
            continue
        first.captions += record.captions
        for name in ("split", "concept", "style", "labels"):
            ours, theirs = getattr(first, name), getattr(record, name)
            if ours != theirs:
                problems.append(f"{record.where} ({record.image}): {name} is {theirs!r}, but {ours!r} in {first.where}")
    for record in merged.values():
        record.captions = list(dict.fromkeys(record.captions))
    return list(merged.values())
