"""ZIP archives, read within limits."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ashneuro.files import require_regular, require_unpacked

DEFLATE = 1032
"""Most bytes that one byte of deflate expands to."""
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Methods of packing that are read."""
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,  # an encrypted member
    NotImplementedError,
)
"""Exceptions of zipfile for a damaged archive, beside `OSError` and `ValueError`."""


@contextmanager
def open_zip(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """Open a regular file as an archive whose members claim no more than it can hold.

    Raises:
        OSError: the file cannot be read, or is no regular file.
        ValueError: it is damaged, or a member claims too much or is packed in another way; also if
            reading a member inside the ``with`` block shows the damage.
    """
    size = require_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            require_members(archive.infolist(), size)
            yield archive
    except DAMAGE as error:
        raise ValueError(" ".join(str(error).split())[:200] or type(error).__name__) from error


def require_members(found: list[zipfile.ZipInfo], size: int) -> None:
    """Raise `ValueError` if members of an archive cannot be what they say, without reading them.

    Args:
        size: bytes of the archive.
    """
    names: set[str] = set()
    for info in found:
        if info.filename in names:
            raise ValueError(f"it holds {info.filename} twice")
        names.add(info.filename)
        if info.compress_type not in PACKED:
            raise ValueError(f"{info.filename} is packed by method {info.compress_type}; stored and deflated are read")
        if info.flag_bits & 1:
            raise ValueError(f"{info.filename} is encrypted")
        if info.file_size > DEFLATE * info.compress_size + 64 or info.compress_size > size:
            raise ValueError(f"{info.filename} claims {info.file_size:,} bytes in {info.compress_size:,}")
    require_unpacked(sum(info.file_size for info in found), size)
