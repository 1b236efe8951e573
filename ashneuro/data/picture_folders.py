"""Folders of pictures with captions: in side-car files, in the folders' names, or in a table."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePath

from ashneuro.data.archives import captions_of, read_table
from ashneuro.data.columns import SUFFIXES, Columns, choose_columns, is_picture
from ashneuro.data.readers import (
    PARTS,
    SAMPLE,
    Record,
    merge,
    read_csv,
    read_json,
    read_jsonl,
    read_text,
    records_of_rows,
)
from ashneuro.data.walk import files_below
from ashneuro.errors import DataError
from ashneuro.files import is_file

SIDE_CARS = (".txt", ".text", ".caption", ".json")
"""Suffixes, in any case, of files that hold the captions of the picture of the same name: one a
line, or as in the ``.json`` of a WebDataset. The first that is there counts.
"""

MOST_FOLDERS = 16
"""Folders that pictures are looked for in, where a caption file does not name them."""

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_CUSTOMARY = Columns()


def pictures_in(folder: Path) -> list[Path]:
    """Return the picture files in ``folder`` and below, sorted; hidden ones are left out."""
    return [file for file in files_below(folder) if is_picture(file.name) and not _is_hidden(file.relative_to(folder))]


def metadata_in(folder: Path) -> list[Path]:
    """Return the tables of an imagefolder: in ``folder``, or in its folders."""
    return [file for file in files_below(folder) if file.name in _METADATA and not _is_hidden(file.relative_to(folder))]


def find_picture(folder: Path, name: str) -> Path:
    """Return the picture ``name`` of a caption file, in ``folder`` or at an absolute path.

    If it is not there: with slashes for backslashes, under ``images/``, with the suffix that it
    lacks, or without the first of its folders, which the captions' author may have had elsewhere;
    then in the one folder of ``folder`` that has it, such as COCO's ``train2017``; then the only
    file whose name differs in case, or in how its accents are composed, which archives and file
    systems change. If it is nowhere, the first path is returned.
    """
    first = folder / name
    if is_file(first):
        return first
    parts = PurePath(name.replace("\\", "/")).parts
    names = [PurePath(*parts[start:]) for start in range(len(parts))]
    paths = [place / own for own in names for place in (folder, folder / "images")]
    if not is_picture(name):
        paths += [Path(f"{path}{suffix}") for path in paths for suffix in SUFFIXES]
    if found := next((path for path in paths if is_file(path)), None):
        return found
    if names and len(inside := [path for other in _folders_in(folder) if is_file(path := other / names[0])]) == 1:
        return inside[0]
    return _alike(paths) or first


def _folders_in(folder: Path) -> list[Path]:
    """Return the folders in ``folder``; none where they are so many that they are no parts."""
    try:
        return _cached_folders(folder, folder.stat().st_mtime_ns)
    except (OSError, ValueError):
        return []


@lru_cache(maxsize=256)
def _cached_folders(folder: Path, changed: int) -> list[Path]:
    found = sorted(Path(entry) for entry in os.scandir(folder) if entry.is_dir())
    return found if len(found) <= MOST_FOLDERS else []


def _alike(paths: Iterable[Path]) -> Path | None:
    """Return the first path that is a file but for the case and the accents of its name."""
    for path in paths:
        try:
            names = _names_in(path.parent, path.parent.stat().st_mtime_ns)
        except (OSError, ValueError):
            continue
        found = names.get(_plain(path.name), [])
        if len(found) == 1 and is_file(path.parent / found[0]):
            return path.parent / found[0]
    return None


@lru_cache(maxsize=256)
def _names_in(folder: Path, changed: int) -> dict[str, list[str]]:
    """Return the names in a folder as it was at the time ``changed``, by `_plain`."""
    names: dict[str, list[str]] = defaultdict(list)
    for name in os.listdir(folder):
        names[_plain(name)].append(name)
    return names


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def part_of(folders: Iterable[str]) -> str:
    """Return the part that one of the folders is named after, empty if none is."""
    return next((PARTS[name.lower()] for name in folders if name.lower() in PARTS), "")


def read_imagefolder(path: Path, columns: Columns = _CUSTOMARY) -> tuple[list[Record], list[str]]:
    """Return the records and problems of an imagefolder of Hugging Face's datasets.

    ``metadata.csv``, ``.jsonl`` or ``.parquet``, in the folder or in folders of it, have a column
    ``file_name``, a path from the table's own folder, and one of captions (`choose_columns`). The
    part follows from a column ``split``, or from a folder of its name.
    """
    tables = metadata_in(path) if path.is_dir() else [path]
    root = path if path.is_dir() else path.parent
    if not tables:
        raise DataError(f"{path} is not an imagefolder", f"it holds no {', '.join(_METADATA)}", "check the path")
    problems: list[str] = []
    records: list[Record] = []
    for table in tables:
        read = {".csv": read_csv, ".jsonl": read_jsonl}.get(table.suffix, _read_parquet)
        found, own = read(table, columns)
        folder = table.parent.relative_to(root)
        shown = f"{folder / table.name}" if len(tables) > 1 else ""
        problems += [f"{shown} {problem}".strip() for problem in own]
        for record in found:
            record.where = f"{shown} {record.where}".strip()
            record.image = (folder / record.image).as_posix()
            record.split = record.split or part_of(PurePath(record.image).parts[:-1])
        records += found
    return merge(records, problems), problems


def _read_parquet(path: Path, columns: Columns) -> tuple[list[Record], list[str]]:
    table = read_table(path)
    few = table.slice(0, SAMPLE).to_pylist()
    chosen = choose_columns(path, table.column_names, few, columns)
    problems: list[str] = []
    rows = ((f"row {number}", row) for number, row in enumerate(table.to_pylist()))
    # Not labels: a column of that name holds numbers of classes here.
    records = records_of_rows(rows, chosen, ("split", "concept", "style"), problems)
    return merge(records, problems), problems


def read_folder(path: Path, columns: Columns = _CUSTOMARY) -> tuple[list[Record], list[str]]:
    """Return the records and problems of a folder of pictures.

    Captions are in files of the pictures' names, beside them or elsewhere in the folder (``a.txt``
    for ``a.jpg``, one caption a line). Without any such file the name of the picture's folder is
    its caption: ``red_flower/1.jpg`` is "red flower". The part follows from a folder named after
    it: ``train/red_flower/1.jpg``. A side-car that cannot be read is a problem.
    """
    files = _require_pictures(path)
    problems: list[str] = []
    texts = _side_cars(path, files)
    records = []
    for file in files:
        name = file.relative_to(path)
        if not texts:
            captions = _folder_caption(name)
        elif car := texts.get(file):
            try:
                captions = _side_car_captions(car)
            except DataError as error:
                problems.append(f"{name.as_posix()}: {error.what.replace(str(car), car.name)}: {error.why}")
                continue
        else:
            captions = []
        if captions:
            records.append(Record(name.as_posix(), name.as_posix(), captions, split=part_of(name.parts[:-1])))
        elif texts:
            empty = f"{texts[file].name} holds none" if file in texts else f"there is no {file.stem}{SIDE_CARS[0]}"
            problems.append(f"{name.as_posix()}: has no caption: {empty}")
        else:
            missing = f"neither {file.stem}{SIDE_CARS[0]} nor a folder's name (its own: --format file-names)"
            problems.append(f"{name.as_posix()}: has no caption: {missing}")
    return records, problems


def read_file_names(path: Path) -> tuple[list[Record], list[str]]:
    """Return the records and problems of a folder of pictures whose own names are their captions.

    ``03_a_red-car (2).jpg`` is "a red car": underscores and hyphens become spaces, and numbers that
    count pictures are left out. A name without letters is a problem. The part is as in
    `read_folder`.
    """
    records, problems = [], []
    for file in _require_pictures(path):
        name = file.relative_to(path)
        uncounted = re.sub(r"^\d+[._ -]+|[ _-]*\(\d+\)$|[_-]\d+$", "", name.stem)
        words = " ".join(re.sub(r"[_-]", " ", uncounted).split())
        if re.search(r"[^\W\d]", words):
            records.append(Record(name.as_posix(), name.as_posix(), [words], split=part_of(name.parts[:-1])))
        else:
            problems.append(f"{name.as_posix()}: has no caption: its name has no words")
    return records, problems


def _require_pictures(path: Path) -> list[Path]:
    """Return the pictures of a folder.

    Raises:
        DataError: there are none.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder of pictures", "there is no such folder", "check the path")
    if not (files := pictures_in(path)):
        raise DataError(f"{path} is not a folder of pictures", "no file in it ends as a picture does", "check the path")
    return files


def _side_cars(folder: Path, files: list[Path]) -> dict[Path, Path]:
    """Return the file of captions by picture: ``a.txt`` or ``a.jpg.txt`` for ``a.jpg``."""
    found = [file for file in files_below(folder) if file.suffix.lower() in SIDE_CARS]
    found.sort(key=lambda car: SIDE_CARS.index(car.suffix.lower()))
    by_name: dict[Path, Path] = {}
    for each in found:
        by_name.setdefault(each.with_suffix(""), each)
    if beside := {file: car for file in files if (car := by_name.get(file.with_suffix("")) or by_name.get(file))}:
        return beside
    # In a folder of their own: images/a.jpg and captions/a.txt.
    cars: dict[str, list[Path]] = defaultdict(list)
    for car in found:
        if not any(other.suffix.lower() != car.suffix.lower() for other in cars[car.stem]):
            cars[car.stem].append(car)
    pictures: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        pictures[file.stem].append(file)
    return {
        found[0]: cars[stem][0] for stem, found in pictures.items() if len(found) == 1 and len(cars.get(stem, ())) == 1
    }


def _side_car_captions(car: Path) -> list[str]:
    if car.suffix.lower() == ".json":
        return captions_of(read_json(car), _CUSTOMARY) or []
    return [line.strip() for line in read_text(car).splitlines() if line.strip()]


def _folder_caption(name: Path) -> list[str]:
    """Return the name of the picture's folder as a caption; none for the top folder and for parts.

    ``001.Black_footed_Albatross`` is "Black footed Albatross".
    """
    folders = [folder for folder in name.parts[:-1] if folder.lower() not in PARTS]
    words = " ".join(re.sub(r"^\d+[._-]+(?=\D)", "", folders[-1]).replace("_", " ").split()) if folders else ""
    return [words] if words else []


def _is_hidden(name: PurePath) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.parts)
