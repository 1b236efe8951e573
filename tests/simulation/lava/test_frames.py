"""Frames on the pipes, and damaged ones."""

import json
import struct

import numpy as np
import pytest

from ashneuro.lava_worker.frames import DTYPES, FrameError, read_frame, write_frame


def reader(data, most=7):
    """Return a reader that gives a few bytes at a time, as a pipe may."""
    left = memoryview(data)

    def read_into(buffer):
        nonlocal left
        count = min(len(buffer), len(left), most)
        buffer[:count] = left[:count]
        left = left[count:]
        return count

    return read_into


def written(header, arrays):
    data = bytearray()

    def write_from(part):
        data.extend(part[:5])
        return len(part[:5])

    write_frame(write_from, header, arrays)
    return bytes(data)


def raw(header):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<I", len(text)) + text


def test_frame_round_trip():
    rng = np.random.default_rng(0)
    arrays = {f"an {dtype}": rng.integers(0, 200, (3, 4)).astype(dtype) for dtype in DTYPES}
    arrays |= {"empty": np.zeros((0, 5)), "one": np.array(2.5), "turned": np.arange(6.0).reshape(2, 3).T}
    data = written({"request": "step", "steps": 3}, arrays)
    header, found = read_frame(reader(data + b"more"))
    assert header == {"request": "step", "steps": 3} and list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with pytest.raises(EOFError):
        read_frame(reader(data[:-1]))
    with pytest.raises(EOFError):
        read_frame(reader(b""))


def array(**change):
    return raw({"arrays": [{"name": "x", "dtype": "float64", "shape": [2]} | change]})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xff\xff\xff", "a header of 4294967295 bytes"),
        (raw(b"nothing"), "not a frame header"),
        (raw(b"\xff\xfe"), "not a frame header"),
        (raw([1]), "not a frame header"),
        (raw({}), "not a frame header"),
        (raw({"arrays": 3}), "not a frame header"),
        (raw({"arrays": [{"name": "x"}]}), "not a frame header"),
        (array(shape=["two"]), "not a frame header"),
        (array(shape=[-1]), "a frame carries"),
        (array(dtype="object"), "a frame carries"),
        (array(shape=[10**6, 10**6]), "arrays of 8000000000000 bytes"),
        (array(shape=[10**30]), "arrays of 8000"),
    ],
)
def test_damaged_frame_is_refused_before_allocation(data, message):
    with pytest.raises(FrameError, match=message):
        read_frame(reader(data))


def test_unsupported_dtype_is_refused():
    for wrong in (np.array(["text"]), np.array([1.0], np.float32), np.array([None])):
        with pytest.raises(FrameError, match="a frame carries"):
            written({}, {"x": wrong})
