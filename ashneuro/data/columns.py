"""Columns of a table, or keys of JSON objects, that hold pictures and captions."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ashneuro.errors import DataError

SUFFIXES = (".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Suffixes of picture files, in lower case."""

IMAGE_NAMES = (
    *("image", "image_path", "img", "img_path", "image_file", "image_name", "image_filename"),
    *("file_name", "filename", "filepath", "file_path", "file", "path", "picture", "photo", "jpg", "png"),
)
"""Customary names of a column of pictures; those of Hugging Face, OpenCLIP and LAVIS among them."""

CAPTION_NAMES = (
    *("caption", "captions", "text", "texts", "sentence", "sentences", "raw", "title"),
    *("description", "descriptions", "alt_text", "alt", "comment", "comments"),
)
"""Customary names of a column of captions."""

OTHER_NAMES = ("split", "concept", "style", "labels")
_NUMBERED = re.compile(r"(caption|text|sentence|title|description|comment)_?\d+")


@dataclass(frozen=True)
class Columns:
    """Names of the columns with pictures and captions. Empty: customary names, or the content.

    Args:
        caption: one name, or several with commas between them.
    """

    image: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Chosen:
    """The column of pictures, and those of captions, of one table."""

    image: str
    captions: tuple[str, ...]


def choose_columns(what: object, names: Sequence[str], rows: Sequence[Mapping[str, Any]], columns: Columns) -> Chosen:
    """Return the columns with pictures and captions.

    Without names: customary ones (`IMAGE_NAMES`, `CAPTION_NAMES`, captions also as ``caption_1``,
    ``caption_2``, …) in any case; among several, the one whose values end as picture files do. If
    there is none, that of such values, and the only other column.

    Args:
        what: the table, for messages.
        names: of its columns.
        rows: a few rows, which tell what columns hold.

    Raises:
        DataError: there are no such columns, or which ones they are is not clear.
    """
    image = _given(what, names, columns.image, "image") if columns.image else _image(names, rows)
    captions: tuple[str, ...]
    if columns.caption:
        # A name may hold commas itself.
        several = [columns.caption] if _find(names, columns.caption) else columns.caption.split(",")
        captions = tuple(_given(what, names, name.strip(), "caption") for name in several)
    else:
        captions = _captions(names, rows, image)
    if not image or not captions:
        lacking = " and ".join(word for word, found in (("pictures", image), ("captions", captions)) if not found)
        web = next((name for name in names if _plain(name) in ("url", "image_url")), "")
        download = f"; {web!r} has addresses: download the pictures, for instance with img2dataset"
        raise DataError(
            f"{what}: which column holds the {lacking}?",
            f"its columns are {_shown(names)}{download if web and not image else ''}",
            "name them: --image-column NAME --caption-column NAME, in a config data.image_column, data.caption_column",
        )
    return Chosen(image, captions)


def texts_of_value(value: Any) -> list[str] | None:
    """Return the captions in a value: a text, a list of texts, or of objects that have one.

    ``None`` if it holds none, or anything else.
    """
    values = value if isinstance(value, list) else [value]
    texts = []
    for item in values:
        text = next((item[name] for name in CAPTION_NAMES if name in item), None) if isinstance(item, dict) else item
        if not isinstance(text, str) or not text.strip():
            return None
        texts.append(text.strip())
    return texts or None


def texts_of_cell(cell: str) -> list[str]:
    """Return the captions in the cell of a text table: one, or a list of them, as JSON or pandas
    write it.
    """
    if cell.startswith("[") and cell.endswith("]"):
        for read in (json.loads, ast.literal_eval):
            try:
                return texts_of_value(read(cell)) or [cell]
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    return [cell]


def needs_texts(names: Sequence[str]) -> str:
    """Return the end of a problem: an entry without captions, or with an empty one."""
    return f"needs {' or '.join(names)}: a text, or a list of texts, none of them empty"


def is_picture(name: Any) -> bool:
    """Return True if ``name`` ends as the name of a picture file does."""
    return isinstance(name, str) and name.strip().lower().endswith(SUFFIXES)


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _find(names: Sequence[str], wanted: str) -> str:
    """Return the column of that name: exactly so, else in any case."""
    return next((name for same in (str, _plain) for name in names if same(name) == same(wanted)), "")


def _given(what: object, names: Sequence[str], wanted: str, kind: str) -> str:
    if found := _find(names, wanted):
        return found
    raise DataError(
        f"{what} has no column {wanted!r}",
        f"its columns are {_shown(names)}",
        f"--{kind}-column NAME, in a config data.{kind}_column",
    )


def _image(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    known = [found for wanted in IMAGE_NAMES if (found := _find(names, wanted))]
    shown = [name for name in (*known, *names) if _mostly_pictures(name, rows)]
    return next(iter((*shown, *known)), "")


def _mostly_pictures(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    values = [row[name] for row in rows if row.get(name)]
    return bool(values) and 2 * sum(map(is_picture, values)) > len(values)


def _captions(names: Sequence[str], rows: Sequence[Mapping[str, Any]], image: str) -> tuple[str, ...]:
    others = [name for name in names if name != image]
    if numbered := tuple(name for name in others if _NUMBERED.fullmatch(_plain(name))):
        return numbered
    if known := next((found for wanted in CAPTION_NAMES if (found := _find(others, wanted))), ""):
        return (known,)
    # Nothing is guessed from one name alone: both columns unknown, or the picture's by its values.
    left = [name for name in others if _plain(name) not in OTHER_NAMES and not _mostly_pictures(name, rows)]
    return tuple(left) if len(left) == 1 and _mostly_pictures(image, rows) else ()


def _shown(names: Sequence[str], most: int = 20) -> str:
    """Return the names of columns, quoted, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
