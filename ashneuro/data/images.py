"""Image files as RGB arrays."""

from __future__ import annotations

import io
import math
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import DataError, need
from ashneuro.files import require_regular

if TYPE_CHECKING:
    from PIL.Image import Image


def read_image(path: Path) -> NDArray[np.uint8]:
    """Return the picture as (H, W, 3) uint8 RGB, upright by its EXIF tag, transparency on white.

    Raises:
        DataError: the file is missing, damaged, or not an image.
    """
    return _decode(path, str(path))


def decode_image(read: Callable[[], bytes], name: str) -> NDArray[np.uint8]:
    """Return the picture in the bytes that ``read`` returns, as `read_image` does.

    Args:
        read: reads the bytes, e.g. of a member of an archive.
        name: of the picture in error messages.

    Raises:
        DataError: the bytes cannot be read, are damaged, or not an image.
    """
    try:
        data = read()
    except OSError as error:
        raise DataError(
            f"cannot read the image {name}", reason(error), "restore the archive that it is in, or --skip-broken"
        ) from error
    return _decode(io.BytesIO(data), name)


def _decode(source: Path | IO[bytes], name: str) -> NDArray[np.uint8]:
    image = need("PIL.Image", extra="train", purpose="reading images")
    try:
        with _open(source) as file:
            limit = image.MAX_IMAGE_PIXELS
            if limit is None or file.width * file.height <= limit:
                return np.asarray(flatten(file))
            with _LARGE:
                return np.asarray(flatten(_reduced(file)))
    except DAMAGE as error:
        raise DataError(
            f"cannot read the image {name}",
            reason(error),
            "replace the file, or leave out what is broken with --skip-broken (in a config data.skip_broken = true)",
        ) from error
    except image.DecompressionBombError as error:
        raise DataError(
            f"will not read the image {name}", str(error), "make it smaller: it is resized for training anyway"
        ) from error


_OPENING, _LARGE = threading.Lock(), threading.Lock()
"""Held while warnings are silenced, and while one large picture is in memory."""

LARGEST_FILE = 1 << 28
"""Bytes of the largest picture file that is read."""

LARGE_TO = 2**24
"""Number of pixels that a picture above Pillow's `MAX_IMAGE_PIXELS` (89 million) is reduced to."""


def _open(source: Path | IO[bytes]) -> Any:
    """Open a picture without Pillow's warning of large ones, which names no file.

    Up to twice `MAX_IMAGE_PIXELS` they are read reduced; above that Pillow raises an error.
    """
    image = need("PIL.Image", extra="train", purpose="reading images")
    if isinstance(source, Path):
        require_regular(source, LARGEST_FILE)
    with _OPENING, warnings.catch_warnings():  # filters belong to the process, not to a thread
        warnings.simplefilter("ignore", image.DecompressionBombWarning)
        return image.open(source, formats=_formats(image))


@cache
def _formats(image: Any) -> list[str]:
    """Return the formats that Pillow decodes itself: EPS would be run by Ghostscript."""
    image.init()
    return [name for name in image.OPEN if name != "EPS"]


def _reduced(file: Any) -> Any:
    """Return an opened picture with at most `LARGE_TO` pixels, its sides divided by a whole number.

    A JPEG is decoded at a half, a quarter or an eighth of its size, so that it is never in memory
    as a whole.
    """
    info = dict(file.info)
    factor = math.ceil(math.sqrt(file.width * file.height / LARGE_TO))
    file.draft(None, (file.width // factor, file.height // factor))
    left = math.ceil(math.sqrt(file.width * file.height / LARGE_TO))
    if left > 1:
        exif = file.getexif()
        if "A" in file.getbands() or "transparency" in info:
            file = file.convert("RGBA")
        elif file.mode in ("P", "1"):  # these cannot be averaged
            file = file.convert("RGB")
        file = file.reduce(left)
        file.getexif().update(exif)  # the orientation, which is applied later
    return file


DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    NotImplementedError,
    struct.error,
    zlib.error,
)
"""Exceptions of Pillow's decoders on damaged files."""


def header_problem(path: Path) -> str:
    """Return the reason why ``path`` is not an image, from its header alone; empty if it is one."""
    image = need("PIL.Image", extra="train", purpose="reading images")
    try:
        _open(path).close()
    except (*DAMAGE, image.DecompressionBombError) as error:
        return reason(error)
    return ""


def picture_problem(source: Path | Callable[[], bytes]) -> str:
    """Return the reason why a picture, a file or its bytes, cannot be decoded to its end; empty if
    it can.
    """
    try:
        if isinstance(source, Path):
            read_image(source)
        else:
            decode_image(source, "")
    except DataError as error:
        return error.why
    return ""


def is_large(data: bytes) -> bool:
    """Return True if the picture in ``data`` has more pixels than are read: it is read reduced."""
    image = need("PIL.Image", extra="train", purpose="reading images")
    with _open(io.BytesIO(data)) as file:
        return image.MAX_IMAGE_PIXELS is not None and file.width * file.height > image.MAX_IMAGE_PIXELS


def flatten(picture: Image) -> Image:
    """Return the picture as RGB: upright, 16 bits and numbers scaled to 8 bits, transparency on
    white.

    Raises:
        ValueError: it holds numbers of an unknown range.
    """
    image: Any = need("PIL.Image", extra="train", purpose="reading images")
    turned: Any = need("PIL.ImageOps", extra="train", purpose="reading images").exif_transpose(picture)
    if turned.mode.startswith("I;16"):  # Pillow's conversion to RGB clips at 255
        turned = image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
    elif turned.mode in ("F", "I"):  # it clips these, too: values from 0 to 1 would be black
        turned = image.fromarray(_eight_bits(np.asarray(turned)))
    if "A" in turned.getbands() or "transparency" in turned.info:
        page = image.new("RGBA", turned.size, "white")
        page.alpha_composite(turned.convert("RGBA"))
        turned = page
    rgb: Image = turned.convert("RGB")
    return rgb


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return numbers (H, W), float32 or int32, as bytes.

    Files do not say which number is white. Floats up to 1 are shares of it; others are of 8 bits if
    they fit, else of 16.

    Raises:
        ValueError: they are negative, above 65,535, or not numbers.
    """
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 65535:
        raise ValueError(f"its pixels are numbers from {low:g} to {high:g}; those from 0 to 1, 255 or 65,535 are read")
    if values.dtype.kind == "f" and high <= 1:
        return (values * 255 + 0.5).astype(np.uint8)
    return (values if high <= 255 else values / 256).astype(np.uint8)


def reason(error: Exception) -> str:
    """Return an exception of Pillow or the system as one line."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is not an image, or not one of a format that Pillow knows"
    text = getattr(error, "strerror", None) or str(error)
    return text or type(error).__name__
