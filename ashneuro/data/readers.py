"""Caption files as records: COCO captions JSON, other JSON, JSON lines, tables.

A reader returns the records and all problems of a file; callers report the problems together.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ashneuro.data.columns import (
    CAPTION_NAMES,
    IMAGE_NAMES,
    OTHER_NAMES,
    Chosen,
    Columns,
    choose_columns,
    is_picture,
    needs_texts,
    texts_of_cell,
    texts_of_value,
)
from ashneuro.errors import DataError
from ashneuro.files import LARGEST_JSON, read_bytes

PARTS = {
    "train": "train",
    "training": "train",
    "restval": "train",  # Karpathy: the rest of COCO's validation images, used for training
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
SHOWN = 20
SAMPLE = 100
"""Number of rows from which the columns with pictures and captions are told."""

DELIMITERS = "\t,;|"
_CUSTOMARY = Columns()


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


def place(where: str, image: str) -> str:
    """Return the start of a problem with a picture; the picture's name is its place in a folder."""
    return where if where == image else f"{where} ({image})"


def report(subject: object, problems: list[str]) -> None:
    """Raise `DataError` with the first `SHOWN` problems and their number, unless there are none."""
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:SHOWN])
        more = f"\n  … and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(
            f"{subject}: {len(problems)} problem(s)",
            f"\n{shown}{more}",
            "correct or remove these entries, or leave them out with --skip-broken "
            "(in a config data.skip_broken = true), which lists them",
        )


def read_text(path: Path) -> str:
    """Return the file's text without byte-order mark: UTF-16 if the mark says so, else UTF-8.

    Raises:
        DataError: the file is missing, or in another encoding; names the first line that is.
    """
    try:
        data = read_bytes(path, LARGEST_JSON)
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
            f"iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(path.name)} > converted{path.suffix}",
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
    # Some exporters write ids as texts in one list and as numbers in the other.
    asked = {type(value_of(entry, "image_id")) for entry in content["annotations"]}
    as_text = asked in ({int}, {str}) and not asked & {type(number) for number in records}
    by_id = {str(number): record for number, record in records.items()} if as_text else dict(records)
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
        elif is_id(number) and (record := by_id.get(str(number) if as_text else number)):
            record.captions.append(caption.strip())
        else:
            if not (is_id(number) and number in lost):
                problems.append(f"{where}: there is no image with the id {number!r}")
    problems += [
        f"{record.where} ({record.image}): has no caption" for record in records.values() if not record.captions
    ]
    return merge(list(records.values()), problems), problems


def read_json_pairs(path: Path, columns: Columns = _CUSTOMARY) -> tuple[list[Record], list[str]]:
    """Return the records and problems of a JSON of pictures and captions.

    It is a list of objects with a picture and its captions, or of pairs; such a list, or one per
    part (``train``, ``val``, ``test``), inside an object; an object of captions, or of objects, by
    picture; or an object of columns, as pandas writes it. The names of keys are as for tables
    (`choose_columns`). Of a conversation about a picture, as LLaVA writes it, the first answer is
    the caption.
    """
    content = read_json(path)
    if (found := _json_entries(content)) is None:
        raise DataError(
            f"{path} holds no list of pictures and captions",
            f"it is {_described(content)}",
            'write [{"image": "a.jpg", "caption": "…"}, …]',
        )
    problems: list[str] = []
    entries = []
    for where, entry in found:
        if isinstance(entry, dict):
            entries.append((where, entry))
        else:
            problems.append(f"{where}: not an object")
    return _json_records(path, entries, columns, problems), problems


def read_jsonl(path: Path, columns: Columns = _CUSTOMARY) -> tuple[list[Record], list[str]]:
    """Return the records and problems of a file with one JSON object per line; empty lines are
    skipped.

    Objects are as in `read_json_pairs`.
    """
    problems: list[str] = []
    return _json_records(path, list(json_lines(path, problems)), columns, problems), problems


def _json_entries(content: Any) -> list[tuple[str, Any]] | None:
    """Return the entries of a JSON of pictures and captions, with their places; ``None`` if it is
    none.
    """
    if isinstance(content, list):
        return [(f"[{number}]", _pair(entry)) for number, entry in enumerate(content)]
    if not isinstance(content, dict) or not content:
        return None
    parts = {name: entries for name, entries in content.items() if isinstance(entries, list)}
    if parts.keys() == content.keys() and all(name.lower() in PARTS for name in parts):
        return [
            (f"{name}[{number}]", {"split": name, **entry} if isinstance(entry, dict) else entry)
            for name, entries in parts.items()
            for number, entry in enumerate(entries)
        ]
    if columns := _columns(content):
        return columns
    if all(_is_text(value) or (isinstance(value, list) and all(map(_is_text, value))) for value in content.values()):
        return [(f"{name!r}", {"image": name, "caption": value}) for name, value in content.items()]
    if all(isinstance(value, dict) for value in content.values()) and not {*map(str.lower, content)} & {*PARTS}:
        return [(f"{name!r}", _named(name, value)) for name, value in content.items()]
    lists = {name: entries for name, entries in parts.items() if any(isinstance(entry, dict) for entry in entries)}
    if len(lists) > 1:  # licences, categories, …
        lists = {name: entries for name, entries in lists.items() if _has_pairs(entries)}
    if len(lists) == 1:
        ((name, entries),) = lists.items()
        return [(f"{name}[{number}]", entry) for number, entry in enumerate(entries)]
    return None


def _pair(entry: Any) -> Any:
    """Return ``[picture, captions]`` as an object; anything else as it is."""
    if isinstance(entry, list) and len(entry) == 2 and is_picture(entry[0]):
        return {"image": entry[0], "caption": entry[1]}
    return entry


def _told(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of LLaVA, a conversation about a picture, with its first answer as its
    caption; anything else as it is.
    """
    turns = entry.get("conversations")
    if not isinstance(turns, list) or {*map(str.lower, entry)} & {*CAPTION_NAMES}:
        return entry
    answers = (value_of(turn, "value") for turn in turns if value_of(turn, "from") in ("gpt", "assistant"))
    return {**entry, "caption": next(answers, None)}


def _columns(content: dict[str, Any]) -> list[tuple[str, Any]] | None:
    """Return the rows of an object of columns, lists or objects by row; ``None`` if it is none."""
    plain = {name.lower() for name in content}
    if not (plain & {*IMAGE_NAMES} and plain & {*CAPTION_NAMES}):
        return None
    if not all(isinstance(values, list | dict) for values in content.values()):
        return None
    tables = {name: values if isinstance(values, dict) else dict(enumerate(values)) for name, values in content.items()}
    rows = next(iter(tables.values())).keys()
    if any(values.keys() != rows for values in tables.values()):
        return None
    return [(f"row {row}", {name: values[row] for name, values in tables.items()}) for row in rows]


def _named(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry with its key as its picture, unless it names a picture itself."""
    return entry if {*map(str.lower, entry)} & {*IMAGE_NAMES} else {"image": name, **entry}


def _has_pairs(entries: Sequence[Any]) -> bool:
    names = {name.lower() for entry in entries[:SAMPLE] if isinstance(entry, dict) for name in entry}
    return bool(names & {*IMAGE_NAMES}) and bool(names & {*CAPTION_NAMES})


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _described(content: Any) -> str:
    if isinstance(content, dict):
        return f"an object with the keys {', '.join(map(repr, list(content)[:8]))}" if content else "an empty object"
    return f"a {type(content).__name__}"


def _json_records(
    path: Path, entries: Sequence[tuple[str, dict[str, Any]]], columns: Columns, problems: list[str]
) -> list[Record]:
    if not entries:
        return []
    entries = [(where, _told(entry)) for where, entry in entries]
    few = [entry for _, entry in entries[:SAMPLE]]
    chosen = choose_columns(path, list(dict.fromkeys(name for entry in few for name in entry)), few, columns)
    records = records_of_rows(entries, chosen, OTHER_NAMES, problems)
    problems.sort(key=_line)
    return merge(records, problems)


def records_of_rows(
    rows: Iterable[tuple[str, Mapping[str, Any]]], chosen: Chosen, others: Collection[str], problems: list[str]
) -> list[Record]:
    """Return a record per row, each with its place; rows without a picture or a text are problems.

    Args:
        chosen: keys of the picture and its captions.
        others: further keys that a record has.
    """
    records = []
    for where, row in rows:
        image = row.get(chosen.image)
        if isinstance(image, dict):  # {"path": …, "bytes": null}, as datasets writes it
            image = next((image[name] for name in IMAGE_NAMES if name in image), None)
        values = [row[name] for name in chosen.captions if row.get(name) is not None]
        captions = [texts_of_value(value) for value in values]
        if not isinstance(image, str) or not image.strip():
            problems.append(f"{where}: needs {chosen.image}: a path")
        elif not captions or None in captions:
            problems.append(f"{where} ({image}): {needs_texts(chosen.captions)}")
        else:
            texts = [text for given in captions for text in given or ()]
            other = {name: row[name] for name in others if name in row and name not in chosen.captions}
            records.append(make_record(where, image.strip(), texts, other, problems))
    return records


def read_csv(path: Path, columns: Columns = _CUSTOMARY) -> tuple[list[Record], list[str]]:
    """Return the records and problems of a table with a column of pictures and one of captions.

    The delimiter is a tab, comma, semicolon or bar, and the first line has the names of the
    columns. A table of two columns needs no such line if its first value is the name of a picture.
    """
    text = read_text(path)
    try:
        delimiter, names, rows = _table(text)
    except csv.Error as error:
        why = f"its first line has a quote that nothing closes ({error})"
        raise DataError(
            f"{path} cannot be read", why, "close the quote, or write it twice inside a quoted text"
        ) from error
    if not names:
        raise DataError(
            f"{path} is not a table with the columns image and caption",
            f"its first line is {next(iter(text.splitlines()), '').strip()[:200]!r}",
            "add a header line, such as image,caption",
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"{path} has columns of the same name", ", ".join(map(repr, twice)), "give several captions in several rows"
        )
    problems: list[str] = []
    entries: list[tuple[str, dict[str, str]]] = []
    for where, row in csv_rows(rows, problems):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(names):
            problems.append(
                f'{where}: {len(row)} fields, the header has {len(names)}; quote fields that hold {delimiter!r} ("…")'
            )
            continue
        entries.append((where, {name: cell.strip() for name, cell in zip(names, row, strict=True) if cell.strip()}))
    chosen = choose_columns(path, names, [entry for _, entry in entries[:SAMPLE]], columns)
    records = []
    for where, entry in entries:
        captions = [text for name in chosen.captions if name in entry for text in texts_of_cell(entry[name])]
        missing = [] if chosen.image in entry else [chosen.image]
        if missing := [*missing, *([] if captions else [" or ".join(chosen.captions)])]:
            problems.append(f"{where}: needs {' and '.join(missing)}")
            continue
        other: dict[str, Any] = {
            name: entry[name] for name in OTHER_NAMES if name in entry and name not in chosen.captions
        }
        if "labels" in other:
            other["labels"] = {"labels": other["labels"]}
        records.append(make_record(where, entry[chosen.image], captions, other, problems))
    problems.sort(key=_line)
    return merge(records, problems), problems


def _line(problem: str) -> int:
    found = re.match(r"line (\d+)", problem)
    return int(found[1]) if found else 0


def _fields(line: str, delimiter: str) -> list[str]:
    """Return the fields of a line; none if one of them is longer than Python's csv reads."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _table(text: str) -> tuple[str, list[str], Iterator[list[str]]]:
    """Return the delimiter of a text table, the names of its columns, and its rows; no names if it
    is none.

    ``split``, ``concept``, ``style`` and ``labels`` are in lower case.
    """
    header = next(iter(text.splitlines()), "")
    found = {mark: _fields(header, mark) for mark in DELIMITERS}

    def known(mark: str) -> tuple[int, int]:
        """Return the number of customary names, then of all names."""
        plain = {name.strip().lower().replace(" ", "_") for name in found[mark]}
        return len(plain & {*IMAGE_NAMES}) + len(plain & {*CAPTION_NAMES}), len(found[mark])

    delimiter = max(DELIMITERS, key=known)  # the first of equal ones
    names = [name.strip() for name in found[delimiter]]
    names = [name.lower() if name.lower() in OTHER_NAMES else name for name in names]
    # strict: an unclosed quote is an error; otherwise it would swallow the rest of the file. Where
    # the header has spaces after its delimiters, quotes may have too.
    spaced = delimiter != "\t" and len(names) > 1 and all(name.startswith(" ") for name in found[delimiter][1:])
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=spaced)
    if len(names) < 2:
        return delimiter, [], rows
    if len(names) == 2 and is_picture(names[0]):  # no header: a row
        return delimiter, ["image", "caption"], rows
    next(rows)
    return delimiter, names, rows


def part_of_file(path: Path) -> str:
    """Return the part that a word of the file's name stands for, empty if none does."""
    return next((PARTS[word] for word in re.split(r"[^a-z]+", path.stem.lower()) if word in PARTS), "")


def value_of(entry: Any, name: str) -> Any:
    """Return ``entry[name]``, or ``None`` if ``entry`` is not an object that has it."""
    return entry.get(name) if isinstance(entry, dict) else None


def is_id(value: Any) -> bool:
    """Return True if ``value`` can be an id: an integer or a string."""
    return isinstance(value, int | str) and not isinstance(value, bool)


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
