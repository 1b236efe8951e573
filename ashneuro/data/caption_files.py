"""Caption files of the benchmarks: Karpathy's splits of COCO and Flickr, and Flickr's own files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ashneuro.data.readers import Record, csv_rows, is_id, make_record, merge, read_json, read_text, value_of
from ashneuro.errors import DataError

FLICKR_TOKEN = re.compile(r"(?P<image>[^\t]*?)#(?P<number>\d+)\t(?P<caption>.*)")
_LISTS = {"train": ("train",), "validation": ("val", "dev"), "test": ("test",)}
_IMAGE = re.compile(r"\S+?(\.jpe?g|\.png)?", re.IGNORECASE)


def read_karpathy(path: Path) -> tuple[list[Record], list[str]]:
    """Return the records and problems of a Karpathy split (``dataset_coco.json``,
    ``dataset_flickr30k.json``).

    An image is ``filepath/filename`` (Flickr has no ``filepath``), its captions are the sentences'
    ``raw`` texts, and ``restval`` belongs to the training part.
    """
    content = read_json(path)
    images = value_of(content, "images")
    if not isinstance(images, list) or not any(isinstance(value_of(entry, "sentences"), list) for entry in images):
        raise DataError(
            f"{path} is not a Karpathy split",
            "it needs a list 'images' whose entries have 'sentences' and a 'split'",
            "--format coco",
        )
    problems: list[str] = []
    records = []
    seen: dict[Any, str] = {}
    sentences: dict[Any, str] = {}
    for index, entry in enumerate(images):
        where = f"images[{index}]"
        name = value_of(entry, "filename")
        if not isinstance(name, str) or not name:
            problems.append(f"{where}: needs a filename")
            continue
        image = f"{entry['filepath']}/{name}" if isinstance(entry.get("filepath"), str) and entry["filepath"] else name
        number = entry.get("imgid")
        if is_id(number) and number in seen:
            problems.append(f"{where} ({image}): imgid {number!r} is already that of {seen[number]}")
        elif is_id(number):
            seen[number] = image
        if not entry.get("split"):
            problems.append(f"{where} ({image}): needs a split")
        captions = []
        for position, sentence in enumerate(entry["sentences"] if isinstance(entry.get("sentences"), list) else []):
            text, own = value_of(sentence, "raw"), value_of(sentence, "sentid")
            if is_id(own) and own in sentences:
                problems.append(
                    f"{where}.sentences[{position}] ({image}): sentid {own!r} is already that of {sentences[own]}"
                )
            elif is_id(own):
                sentences[own] = f"{where}.sentences[{position}]"
            if isinstance(text, str) and text.strip():
                captions.append(text.strip())
            else:
                problems.append(f"{where}.sentences[{position}] ({image}): needs a raw text")
        if captions:
            records.append(make_record(where, image, captions, {"split": entry.get("split")}, problems))
        elif not isinstance(entry.get("sentences"), list) or not entry["sentences"]:
            problems.append(f"{where} ({image}): has no caption")
    return merge(records, problems), problems


def read_flickr(path: Path) -> tuple[list[Record], list[str]]:
    """Return the records and problems of a Flickr30k or Flickr8k caption file, one record per
    image.

    The first line tells three formats apart: ``1000092795.jpg#0<TAB>caption``
    (``results_20130124.token``, ``Flickr8k.token.txt``), the table ``image,caption``
    (``captions.txt``), and ``image_name| comment_number| comment`` (``results.csv``). Parts come
    from lists of image names beside the file, whose names contain ``train``, ``val``/``dev`` or
    ``test``.
    """
    lines = [(f"line {number}", line.rstrip("\r")) for number, line in enumerate(read_text(path).split("\n"), start=1)]
    first = next((line for _, line in lines if line.strip()), "")
    problems: list[str] = []
    if FLICKR_TOKEN.fullmatch(first):
        rows = list(_token_rows(lines, problems))
    elif re.match(r"\s*image_name\s*\|", first):
        rows = list(_bar_rows(lines, problems))
    elif [name.strip().lower() for name in first.split(",")] == ["image", "caption"]:
        rows = list(_comma_rows(path, problems))
    else:
        raise DataError(
            f"{path} is not a Flickr caption file",
            f"its first line is {first[:120]!r}, "
            "not NAME.jpg#0<TAB>caption, nor the header image,caption or image_name| …",
            "--format csv",
        )
    # Only the token and bar formats number their captions.
    numbers: dict[tuple[str, str], str] = {}
    for where, image, number, _ in rows:
        if number and (image, number) in numbers:
            problems.append(f"{where} ({image}): caption {number} is already in {numbers[image, number]}")
        numbers.setdefault((image, number), where)
    records = merge([Record(where, image, [caption]) for where, image, _, caption in rows], problems)
    _mark_parts(path, records, problems)
    return records, problems


def _token_rows(lines: list[tuple[str, str]], problems: list[str]) -> Iterator[tuple[str, str, str, str]]:
    for where, line in lines:
        if not line.strip():
            continue
        match = FLICKR_TOKEN.fullmatch(line)
        if not match or not match["image"].strip():
            problems.append(f"{where}: not NAME.jpg#NUMBER<TAB>caption")
        elif not match["caption"].strip():
            problems.append(f"{where} ({match['image']}): needs a caption")
        else:
            yield where, match["image"].strip(), match["number"], match["caption"].strip()


def _bar_rows(lines: list[tuple[str, str]], problems: list[str]) -> Iterator[tuple[str, str, str, str]]:
    for where, line in lines[1:]:
        if not line.strip():
            continue
        parts = [part.strip() for part in line.split("|", 2)]
        if len(parts) < 3 or not parts[0]:
            problems.append(f"{where}: not image_name| comment_number| comment")
        elif not parts[2]:
            problems.append(f"{where} ({parts[0]}): needs a comment")
        else:
            yield where, parts[0], parts[1], parts[2]


def _comma_rows(path: Path, problems: list[str]) -> Iterator[tuple[str, str, str, str]]:
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    next(rows)
    for where, row in csv_rows(rows, problems):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != 2 or not row[0].strip() or not row[1].strip():
            problems.append(f"{where}: needs an image and a caption, has {len(row)} fields")
        else:
            yield where, row[0].strip(), "", row[1].strip()


def _mark_parts(path: Path, records: list[Record], problems: list[str]) -> None:
    """Set the records' parts from lists of image names beside the file, if there are any."""
    # Flickr8k's lists have file names, those of Flickr30k only the stems.
    by_name = {record.image: record for record in records} | {Path(record.image).stem: record for record in records}
    for file in sorted(path.parent.glob("*.txt")):
        part = next((part for part, words in _LISTS.items() if any(word in file.stem.lower() for word in words)), "")
        if not part or file == path:
            continue
        names = [name for name in read_text(file).split("\n") if name.strip()]
        if not all(_IMAGE.fullmatch(name.strip()) for name in names):
            continue  # another text file, such as a README
        for number, name in enumerate((name.strip() for name in names), start=1):
            record = by_name.get(name)
            if record is None:
                problems.append(f"{file.name} line {number}: {name} has no caption in {path.name}")
            elif record.split and record.split != part:
                problems.append(f"{file.name} line {number}: {name} is already in the {record.split} part")
            else:
                record.split = part
