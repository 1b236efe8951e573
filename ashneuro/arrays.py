"""Arrays in ``.npy`` and ``.npz`` files, read within limits.

numpy allocates what a header claims and lets the errors of many libraries pass. Here a claim is
compared with the file first, and whatever is wrong is an `OSError` or a `ValueError`.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ashneuro.files import make_room, replace_file, require_regular
from ashneuro.zips import DAMAGE, require_members

NUMBERS = "biuf"
"""Kinds of real numbers (`numpy.dtype.kind`)."""
_DAMAGE = (
    *DAMAGE,
    tokenize.TokenError,
    SyntaxError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    RecursionError,
)


def load_arrays(path: str | Path, kinds: str = NUMBERS) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Return the array of a ``.npy``, or the arrays of a ``.npz`` by name; the content decides.

    Raises:
        OSError, ValueError: see `load_npz`.
    """
    require_regular(path)
    with Path(path).open("rb") as file:
        packed = file.read(2) == b"PK"
    return load_npz(path, kinds) if packed else load_npy(path, kinds)


def load_npy(path: str | Path, kinds: str = NUMBERS) -> NDArray[Any]:
    """Return the array of a ``.npy``.

    Raises:
        OSError, ValueError: see `load_npz`.
    """
    size = require_regular(path)
    try:
        with Path(path).open("rb") as file:
            return _read(file, size, kinds, "it")
    except _DAMAGE as error:
        raise ValueError(f"it is not a sound .npy ({_first_line(error)})") from error


def load_npz(path: str | Path, kinds: str = NUMBERS) -> dict[str, NDArray[Any]]:
    """Return the arrays of a ``.npz`` by name.

    Args:
        kinds: the kinds of numbers that are read (`numpy.dtype.kind`); never objects, which would
            be unpickled.

    Raises:
        OSError: the file cannot be read, or is no regular file.
        ValueError: it is damaged, claims more than it holds, or holds arrays of other kinds.
    """
    size = require_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            found = archive.infolist()
            require_members(found, size)
            return {info.filename.removesuffix(".npy"): _member(archive, info, kinds) for info in found}
    except _DAMAGE as error:
        raise ValueError(f"it is not a sound .npz ({_first_line(error)})") from error


def kept_array(
    path: Path, shape: tuple[int, ...], dtype: type[np.generic], fill: Callable[[NDArray[Any]], object]
) -> NDArray[Any]:
    """Return an array that is kept in a ``.npy`` of the cache folder, mapped copy-on-write.

    A file that is missing, cut off, of another shape or no file is made again.

    Args:
        fill: writes the values into an array of zeros.

    Raises:
        OSError: it cannot be written.
    """

    def write(file: Path) -> None:
        mapped = npy.open_memmap(file, "w+", np.dtype(dtype), shape)
        fill(mapped)
        mapped.flush()

    if not _holds(path, shape, np.dtype(dtype)):
        make_room(path)
        replace_file(path, write)
    # torch requires writable memory.
    return npy.open_memmap(path, "c")


def _holds(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Return True for a ``.npy`` of this shape and type that is as long as it says."""
    try:
        size = require_regular(path)
        with path.open("rb") as file:
            found = _header(file, size, dtype.kind, "it")
            return found == (shape, False, dtype) and size == file.tell() + math.prod(shape) * dtype.itemsize
    except (OSError, ValueError, *_DAMAGE):
        return False


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, kinds: str) -> NDArray[Any]:
    with archive.open(info) as file:
        array = _read(file, info.file_size, kinds, info.filename)
        if file.read(1):  # at its end the checksum is compared
            raise ValueError(f"{info.filename} goes on behind its array")
    return array


def _read(file: IO[bytes], size: int, kinds: str, name: str) -> NDArray[Any]:
    """Return the array in an open file of ``size`` bytes."""
    shape, fortran, dtype = _header(file, size, kinds, name)
    claimed = math.prod(shape) * dtype.itemsize
    data = file.read(claimed)
    if len(data) < claimed:
        raise ValueError(f"{name} ends {claimed - len(data):,} bytes early")
    # The bytes belong to the array alone: numpy may write to it.
    return np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if fortran else "C")


def _header(file: IO[bytes], size: int, kinds: str, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, Fortran order and type of an array that an open file has room for."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"{name} has the version {version} of numpy's format")
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = header(file)
    if dtype.hasobject or dtype.kind not in kinds:
        raise ValueError(f"{name} holds values of type {dtype}; {'numbers' if kinds == NUMBERS else kinds} are read")
    if any(not isinstance(length, int) or length < 0 for length in shape):
        raise ValueError(f"{name} has the shape {shape}")
    claimed, left = math.prod(shape) * dtype.itemsize, size - file.tell()
    if claimed > left:
        raise ValueError(f"{name} claims {claimed:,} bytes for its shape {shape}, and has {left:,}")
    return shape, fortran, dtype


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
