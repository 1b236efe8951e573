"""Frames between the host and the Lava worker: a JSON header and raw arrays.

A frame is the length of the header (4 bytes, little-endian), the header (JSON, UTF-8), and the
bytes of its arrays one after another, C order, little-endian. The header's entry ``arrays`` has the
name, dtype and shape of each. Nothing is pickled: each side may have its own Python and numpy, and
a damaged frame cannot run code.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

VERSION = 2
DTYPES = ("uint8", "int32", "int64", "float64")
_LENGTH = struct.Struct("<I")
_LARGEST_HEADER = 1 << 24
_LARGEST_FRAME = 1 << 33  # bytes of all arrays; a larger sum is a damaged header

Header = dict[str, Any]
Arrays = dict[str, "np.ndarray[Any, Any]"]
# Reads one or more bytes into the buffer and returns their number; 0 at the end of the stream.
ReadInto = Callable[[memoryview], int]
# Writes one or more bytes of the buffer and returns their number.
WriteFrom = Callable[[memoryview], int]


class FrameError(Exception):
    """The bytes on the pipe are not a frame."""


def write_frame(write_from: WriteFrom, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write one frame, completely."""
    packed = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    for name, array in packed.items():
        if array.dtype.name not in DTYPES:
            raise FrameError(f"array {name!r} is {array.dtype}; a frame carries {', '.join(DTYPES)}")
    described = [
        {"name": name, "dtype": array.dtype.name, "shape": list(array.shape)} for name, array in packed.items()
    ]
    text = json.dumps({**header, "arrays": described}).encode()
    _require_size(len(text), sum(array.nbytes for array in packed.values()))
    _write(write_from, memoryview(_LENGTH.pack(len(text)) + text))
    for array in packed.values():
        if array.size:
            _write(write_from, memoryview(array.astype(array.dtype.newbyteorder("<"), copy=False)).cast("B"))  # type: ignore[arg-type]


def read_frame(read_into: ReadInto) -> tuple[Header, Arrays]:
    """Return header and arrays of the next frame.

    Raises:
        EOFError: the stream ended before the frame began, or inside it.
        FrameError: the bytes are not a frame.
    """
    (length,) = _LENGTH.unpack(_read(read_into, _LENGTH.size))
    _require_size(length, 0)
    try:
        header = json.loads(_read(read_into, length))
        described = [
            (str(item["name"]), str(item["dtype"]), [int(size) for size in item["shape"]])
            for item in header.pop("arrays")
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FrameError(f"not a frame header: {error}") from error
    for name, dtype, shape in described:
        if dtype not in DTYPES or min(shape, default=0) < 0:
            raise FrameError(f"array {name!r} is {dtype} {shape}; a frame carries {', '.join(DTYPES)}")
    _require_size(length, sum(math.prod(shape) * np.dtype(dtype).itemsize for _, dtype, shape in described))
    arrays: Arrays = {}
    for name, dtype, shape in described:
        array = np.empty(shape, np.dtype(dtype).newbyteorder("<"))
        if array.size:
            _fill(read_into, memoryview(array).cast("B"))  # type: ignore[arg-type]
        arrays[name] = array.astype(dtype, copy=False)
    return header, arrays


def _require_size(header: int, arrays: int) -> None:
    if header > _LARGEST_HEADER:
        raise FrameError(f"a header of {header} bytes: the stream is out of step")
    if arrays > _LARGEST_FRAME:
        raise FrameError(f"arrays of {arrays} bytes in one frame, at most {_LARGEST_FRAME}")


def _write(write_from: WriteFrom, data: memoryview) -> None:
    while data:
        data = data[write_from(data) :]


def _read(read_into: ReadInto, length: int) -> bytes:
    buffer = bytearray(length)
    _fill(read_into, memoryview(buffer))
    return bytes(buffer)


def _fill(read_into: ReadInto, buffer: memoryview) -> None:
    while buffer:
        count = read_into(buffer)
        if count == 0:
            raise EOFError("the pipe was closed")
        buffer = buffer[count:]
