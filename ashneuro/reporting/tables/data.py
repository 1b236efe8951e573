"""Data sets: their parts, and the result of a check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ashneuro.reporting.tables.table import NOTHING, Table, number, percent

if TYPE_CHECKING:
    from ashneuro.data.check import DataCheck
    from ashneuro.data.describe import Description


def parts(description: Description) -> Table:
    """Return the images, concepts and captions of every part of a data set."""
    rows = []
    for name, part in description.parts.items():
        styles = ", ".join(f"{style} {count:,}" for style, count in part.images.items() if style) or NOTHING
        seen = percent(part.captions_in_train / part.distinct_captions) if part.distinct_captions else NOTHING
        rows.append(
            (
                name,
                number(sum(part.images.values())),
                styles,
                number(part.concepts),
                number(part.captions),
                number(part.distinct_captions),
                number(part.words),
                number(part.words_per_caption),
                seen,
            )
        )
    columns = (
        "part",
        ">images",
        "styles",
        ">concepts",
        ">captions",
        ">distinct",
        ">words",
        ">words per caption",
        ">captions also in train",
    )
    return Table(f"data set {description.name}", columns, tuple(rows), note="\n".join(description.notes))


def checked(found: DataCheck) -> Table:
    """Return the readable images and the texts of every part of a checked data set."""
    rows = []
    for name, part in found.parts.items():
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in part.kinds.items())
        rows.append((name, number(part.images), number(part.readable), number(part.texts), kinds))
    columns = ("part", ">images", ">readable", ">texts", "of which")
    return Table(f"{found.path}, {found.format}", columns, tuple(rows))
