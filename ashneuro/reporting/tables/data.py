"""Data sets: their parts, and the result of a check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ashneuro.reporting.tables.table import NOTHING, Table, number, percent

if TYPE_CHECKING:
    from ashneuro.data.check import DataCheck
    from ashneuro.data.clip_check import ClipCheck
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


def clips(found: ClipCheck) -> Table:
    """Return the frames of clips, and how much changes between them, at every rate."""
    rows = tuple(
        (f"{rate.frames_per_s:.3g}", number(rate.frames), percent(rate.changed), percent(rate.same))
        for rate in found.rates
    )
    styles = f" in {len(found.styles)} styles ({', '.join(found.styles)})" if len(found.styles) > 1 else ""
    sizes = f", {', '.join(found.sizes)} pixels" if found.sizes else ""
    note = (
        f"{found.readable:,} of {found.clips:,} clips can be read{styles}{sizes}; {found.concepts:,} concepts, "
        f"{found.captions:,} captions; nothing moves in {found.still:,}. A pixel changes if its largest channel moves "
        "by more than 2 % of full scale between two frames; mean over the clips."
    )
    columns = (">frames/s", ">frames", ">pixels that change", ">pixels that stay the same")
    return Table(f"clips of {found.source}", columns, rows, note=note)
