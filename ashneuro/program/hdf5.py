"""HDF5 files of networks, opened within limits.

HDF5 can keep an array in another file, show a part of another file, leave an array unwritten and
still give it any size, and let a group hold itself. None of it is in a network that an exporter
wrote: a file with such an entry is refused before an array of it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from ashneuro.files import require_regular, require_unpacked

DEEPEST = 64
"""Levels of groups that are read."""
MOST = 200_000
"""Groups and arrays that are read."""
KINDS = "biufSO"
"""Kinds of values (`numpy.dtype.kind`): numbers, and texts of fixed and of variable length."""

# What h5py raises for a damaged file.
DAMAGE = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
    IndexError,
    OverflowError,
    SystemError,
)


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open a regular HDF5 file for reading whose every array lies in it.

    Raises:
        OSError: it cannot be opened, or is no regular file.
        ValueError: it is damaged, or has an entry that is not read; the message names it.
    """
    size = require_regular(path)
    with h5py.File(path, "r") as file:
        try:
            require_unpacked(sum(_sizes(file, size)), size)
        except OSError:
            raise
        except DAMAGE as error:
            raise ValueError(" ".join(str(error).split())[:300]) from error
        yield file


def _sizes(file: Any, size: int) -> Iterator[int]:
    """Iterate over the bytes of all arrays, in memory.

    Raises:
        ValueError: an entry cannot be read.
    """
    seen: set[int] = set()
    waiting = [(file, "", 0)]
    while waiting:
        group, where, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"{where[:80]}…: groups of more than {DEEPEST} levels")
        for name in group:
            full = f"{where}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                target = getattr(link, "filename", "") or getattr(link, "path", "")
                raise ValueError(f"{full} is a link to {str(target)[:80]!r}, not an entry of the file")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if isinstance(item, h5py.Group):
                if address in seen:
                    raise ValueError(f"{full} is a group that the file holds elsewhere, too")
                waiting.append((item, full, depth + 1))
            elif isinstance(item, h5py.Dataset):
                yield _size_of(item, full, size)
            else:
                raise ValueError(f"{full} is neither a group nor an array")
            seen.add(address)
            if len(seen) > MOST:
                raise ValueError(f"it has more than {MOST:,} entries")


def _size_of(item: Any, where: str, size: int) -> int:
    """Return the bytes that an array has in memory.

    Raises:
        ValueError: it is not in the file, or not of a kind that is read.
    """
    if item.is_virtual:
        raise ValueError(f"{where} is a virtual dataset: a view of other files")
    if item.external:
        raise ValueError(f"{where} keeps its values in another file, {item.external[0][0]!r}")
    kind = item.dtype.kind
    if kind not in KINDS or (kind == "O" and h5py.check_string_dtype(item.dtype) is None):
        raise ValueError(f"{where} holds values of type {item.dtype}")
    if item.shape is None:  # an empty space, which `nir.write` makes of None
        return 0
    claimed = int(item.size) * int(item.dtype.itemsize)
    stored = int(item.id.get_storage_size())
    if claimed and not stored:
        raise ValueError(f"{where} claims {claimed:,} bytes, and was never written")
    if item.chunks is None:
        if stored < claimed or stored > size:
            raise ValueError(f"{where} claims {claimed:,} bytes, and has {stored:,}")
        return claimed
    pieces = 1
    for length, chunk in zip(item.shape, item.chunks, strict=True):
        pieces *= -(-length // chunk)
    if item.id.get_num_chunks() < pieces:
        raise ValueError(f"{where} claims {claimed:,} bytes, and was not written to its end")
    return claimed
