"""HDF5 files of networks, opened within limits.

HDF5 can keep an array in another file, show a part of another file, leave an array unwritten and
still give it any size, and let a group hold itself. None of it is in a network that an exporter
wrote: a file with such an entry is refused before an array of it is read.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import h5py

from ashneuro.files import require_regular, require_unpacked

DEEPEST = 64
"""Levels of groups that are read."""
MOST = 200_000
"""Groups and arrays that are read, and texts of variable length."""
HEAP = b"GCOL\x01"
"""Signature and version of a heap of texts of variable length."""
TEXT = struct.Struct("<IQI")
"""A text of variable length in an array: its bytes, the address of its heap, its index there."""
Heaps = Mapping[tuple[int, int], int]
"""Bytes of each text, by the address of its heap and its index there."""
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
            heaps = _heaps(path, file.id.get_create_plist().get_sizes())
            require_unpacked(sum(_sizes(file, path, heaps)), size)
        except OSError:
            raise
        except DAMAGE as error:
            raise ValueError(" ".join(str(error).split())[:300]) from error
        yield file


def _heaps(path: Path, widths: tuple[int, int]) -> Heaps:
    """Return the texts of variable length in a file.

    HDF5 walks a heap of texts from object to object by their sizes, and never ends at a size of 0.
    The layout is that of the HDF5 File Format Specification 3.0, III.E. "Global Heap": a header of
    16 bytes with the heap's size, then objects, each a header (index 2, references 2, reserved 4,
    size 8 bytes) and data that end at a multiple of 8. The size of object 0, the free space,
    includes its header.

    Args:
        widths: bytes of an address and of a size in this file.

    Raises:
        ValueError: an object does not lie in its heap.
    """
    if widths != (8, 8):
        raise ValueError(f"its addresses and sizes have {widths[0]} and {widths[1]} bytes; 8 are read")
    found: dict[tuple[int, int], int] = {}
    walked = 0
    with path.open("rb") as file:
        for begin, end in _written(file, path.stat().st_size):
            first = begin - begin % mmap.ALLOCATIONGRANULARITY
            # Not the whole file: its holes would count against a limit of memory.
            with mmap.mmap(file.fileno(), end - first, offset=first, access=mmap.ACCESS_READ) as data:
                start = data.find(HEAP)
                while start >= 0:
                    for index, length in _objects(data, start, first):
                        found[first + start, index] = length
                        walked += 1
                        if walked > MOST:  # heaps may begin in one another
                            raise ValueError(f"its heaps hold more than {MOST:,} texts")
                    start = data.find(HEAP, start + 1)
    return found


def _objects(data: mmap.mmap, start: int, first: int) -> Iterator[tuple[int, int]]:
    """Iterate over the objects (index, bytes) of the heap at byte ``start`` of a part of a file,
    which begins at byte ``first``.

    Raises:
        ValueError: one does not lie in it, or the heap not in that part: the file ends, or has a
            hole, which reads as objects of size 0.
    """
    claimed = int.from_bytes(data[start + 8 : start + 16], "little")
    end = start + claimed
    if end > len(data):
        raise ValueError(f"a heap of texts at byte {first + start:,} claims {claimed:,} bytes, which were not written")
    place = start + 16
    while place + 16 <= end:
        index = int.from_bytes(data[place : place + 2], "little")
        length = int.from_bytes(data[place + 8 : place + 16], "little")
        step = 16 + -(-length // 8) * 8 if index else length
        if not 16 <= step <= end - place:
            raise ValueError(f"a text at byte {first + place:,} claims {length:,} bytes, which its heap does not have")
        yield index, length
        place += step


def _written(file: IO[bytes], size: int) -> Iterator[tuple[int, int]]:
    """Iterate over the bytes (first, end) of a file that are on disk: a file of 1 TiB may be one
    hole.
    """
    begin = 0
    while begin < size:
        try:
            begin = os.lseek(file.fileno(), begin, os.SEEK_DATA)
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
        except AttributeError:  # a system that does not tell
            end = size
        except OSError:  # nothing more was written
            return
        yield begin, end
        begin = end


def _sizes(file: Any, path: Path, heaps: Heaps) -> Iterator[int]:
    """Iterate over the bytes of all arrays, in memory.

    Raises:
        ValueError: an entry cannot be read.
    """
    size = path.stat().st_size
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
                if item.dtype.kind == "O":
                    yield _require_texts(item, full, path, heaps)
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


def _require_texts(item: Any, where: str, path: Path, heaps: Heaps) -> int:
    """Return the bytes of the texts of variable length of an array.

    HDF5 allocates what each claims before it looks for its heap, up to 4 GiB, and copies what the
    heap has.

    Raises:
        ValueError: one is not in a heap of the file, or of another size there.
    """
    if item.shape is None or not item.size:
        return 0
    place = item.id.get_offset()
    if place is None:
        raise ValueError(f"{where} holds texts of variable length, packed or in chunks")
    with path.open("rb") as file:
        file.seek(place)
        stored = file.read(item.size * TEXT.size)
    if len(stored) < item.size * TEXT.size:
        raise ValueError(f"{where} claims {item.size:,} texts, which the file does not have")
    userblock = item.file.userblock_size  # addresses count from its end
    texts = 0
    for length, heap, index in TEXT.iter_unpack(stored):
        if length and heaps.get((heap + userblock, index)) != length:
            raise ValueError(f"{where} claims a text of {length:,} bytes, which no heap of the file has")
        texts += length
    return texts
