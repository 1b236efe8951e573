"""Image files as RGB arrays."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import DataError, need

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
        raise DataError(f"cannot read the image {name}", reason(error), "restore the archive that it is in") from error
    return _decode(io.BytesIO(data), name)


def _decode(source: Path | IO[bytes], name: str) -> NDArray[np.uint8]:
    image = need("PIL.Image", extra="train", purpose="reading images")
    try:
        with image.open(source) as file:
            return np.asarray(flatten(file))
    except DAMAGE as error:
        raise DataError(
            f"cannot read the image {name}", reason(error), "replace the file, or remove its line from the captions"
        ) from error
    except image.DecompressionBombError as error:
        raise DataError(
            f"will not read the image {name}", str(error), "make it smaller: it is resized for training anyway"
        ) from error


DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError)
"""Exceptions of Pillow's decoders on damaged files."""


def header_problem(path: Path) -> str:
    """Return the reason why ``path`` is not an image, from its header alone; empty if it is one."""
    image = need("PIL.Image", extra="train", purpose="reading images")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", image.DecompressionBombWarning)
            image.open(path).close()
    except (*DAMAGE, image.DecompressionBombError) as error:
        return reason(error)
    return ""


def flatten(picture: Image) -> Image:
    """Return the picture as RGB: upright, 16 bits scaled to 8, transparency on white."""
    image: Any = need("PIL.Image", extra="train", purpose="reading images")
    turned: Any = need("PIL.ImageOps", extra="train", purpose="reading images").exif_transpose(picture)
    if turned.mode.startswith("I;16"):  # Pillow's conversion to RGB clips at 255
        turned = image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
    if "A" in turned.getbands() or "transparency" in turned.info:
        page = image.new("RGBA", turned.size, "white")
        page.alpha_composite(turned.convert("RGBA"))
        turned = page
    rgb: Image = turned.convert("RGB")
    return rgb


def reason(error: Exception) -> str:
    """Return an exception of Pillow or the system as one line."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is not an image, or not one of a format that Pillow knows"
    text = getattr(error, "strerror", None) or str(error)
    return text or type(error).__name__
