"""Contact sheets: pictures of a data set with their captions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.data.clips import Clip
from ashneuro.data.pairs import Pair
from ashneuro.data.splits import hash_order
from ashneuro.errors import ConfigError, DataError, need
from ashneuro.files import replace_file

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE, GAP, COLUMNS = 160, 16, 6  # pixels, pixels, pictures per row
SIZE, LEADING, LINES = 13, 17, 7  # of the text: pixels, pixels, maximum number of lines


def contact_sheet(pairs: Sequence[Pair], n: int = 24, seed: int = 0) -> Image:
    """Return a page with ``n`` random pairs: the first caption in bold, then the others, then the
    style.

    Pictures keep their proportions and are scaled to 160 pixels. The same seed draws the same
    pairs.

    Raises:
        ConfigError: there are no pairs, or ``n`` is below 1.
        DataError: an image cannot be read.
    """
    if not pairs or n < 1:
        raise ConfigError(
            "nothing to show",
            f"{n} of {len(pairs)} pairs were asked for",
            "ask for at least one pair of a part that has some",
        )
    by_key = {pair.key: pair for pair in pairs}
    return page([by_key[key] for key in hash_order(by_key, str(seed))[:n]])


def clip_sheet(clips: Sequence[Clip]) -> Image:
    """Return a page with nine frames of each clip, evenly spaced in time and in reading order, and
    its captions.

    Raises:
        ConfigError: there are no clips.
    """
    if not clips:
        raise ConfigError("nothing to show", "there are no clips", "ask for at least one")
    return page(
        [
            Pair(
                clip.key, clip.captions, clip.concept, partial(_mosaic, clip), style=f"{clip.frames_per_s:.3g} frames/s"
            )
            for clip in clips
        ]
    )


def save_page(picture: Image, path: Path) -> None:
    """Write a page to ``path``.

    Raises:
        DataError: its suffix is not that of a picture format.
        OSError: the file cannot be written.
    """
    try:
        replace_file(path, lambda file: picture.save(file))
    except ValueError as error:
        raise DataError(f"cannot write {path}", str(error), "--out NAME.png") from error


def page(chosen: Sequence[Pair]) -> Image:
    """Return a page with the pairs ``chosen``, at least one, in order.

    Raises:
        DataError: an image cannot be read.
    """
    image: Any = need("PIL.Image", extra="train", purpose="a contact sheet")
    draw_on: Any = need("PIL.ImageDraw", extra="train", purpose="a contact sheet")
    bold, plain = _font("DejaVuSans-Bold.ttf"), _font("DejaVuSans.ttf")
    columns = min(COLUMNS, len(chosen))
    rows = [chosen[start : start + columns] for start in range(0, len(chosen), columns)]
    texts = [[_lines(pair, bold, plain) for pair in row] for row in rows]
    heights = [PICTURE + GAP // 2 + LEADING * max(map(len, row)) + GAP for row in texts]
    sheet = image.new("RGB", (GAP + columns * (PICTURE + GAP), GAP + sum(heights)), "white")
    draw = draw_on.Draw(sheet)
    top = GAP
    for row, lines, height in zip(rows, texts, heights, strict=True):
        for column, (pair, text) in enumerate(zip(row, lines, strict=True)):
            left = GAP + column * (PICTURE + GAP)
            picture = image.fromarray(pair.load())
            scale = PICTURE / max(picture.size)
            width, tall = (max(1, round(side * scale)) for side in picture.size)
            picture = picture.resize((width, tall), image.Resampling.LANCZOS)
            sheet.paste(picture, (left + (PICTURE - width) // 2, top + (PICTURE - tall) // 2))
            for number, (line, font, colour) in enumerate(text):
                draw.text((left, top + PICTURE + GAP // 2 + number * LEADING), line, font=font, fill=colour)
        top += height
    drawn: Image = sheet
    return drawn


def _mosaic(clip: Clip) -> NDArray[np.uint8]:
    chosen = clip.frames[np.linspace(0, len(clip.frames) - 1, 9).round().astype(int)]
    rows = [np.concatenate(chosen[start : start + 3], axis=1) for start in (0, 3, 6)]
    return np.concatenate(rows, axis=0)


def _font(name: str) -> Any:
    # matplotlib ships DejaVu, which covers most alphabets; Pillow's own font does not.
    matplotlib = need("matplotlib", extra="train", purpose="a contact sheet")
    fonts = need("PIL.ImageFont", extra="train", purpose="a contact sheet")
    return fonts.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), SIZE)


def _lines(pair: Pair, bold: Any, plain: Any) -> list[tuple[str, Any, str]]:
    lines = [(line, bold, "#111111") for line in _wrap(pair.captions[0], bold)]
    lines += [(line, plain, "#444444") for caption in pair.captions[1:] for line in _wrap(caption, plain)]
    # The last line that fits ends in an ellipsis, one line above the style.
    room = LINES - bool(pair.style)
    if len(lines) > room:
        text, font, colour = lines[room - 1]
        while text and font.getlength(text + " …") > PICTURE:
            text = text[:-1]
        lines[room - 1 :] = [(text + " …", font, colour)]
    return lines + ([(pair.style, plain, "#999999")] if pair.style else [])


def _wrap(text: str, font: Any) -> list[str]:
    """Return ``text`` in lines no wider than a picture; wider words are cut."""
    lines = [""]
    for word in text.split():
        while font.getlength(word) > PICTURE:
            cut = next(
                length for length in range(len(word), 0, -1) if length == 1 or font.getlength(word[:length]) <= PICTURE
            )
            lines += [word[:cut]]
            word = word[cut:]
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= PICTURE:
            lines[-1] = longer
        else:
            lines.append(word)
    return [line for line in lines if line]
