"""Damage to a file, by its format. Everything random follows from the seed that a case names.

A mutation is a name, whether what it makes must be refused, and a function that damages a file in
place. ``must``: ``"refuse"``: no reader may accept it; ``"any"``: it may still be sound.
"""

from __future__ import annotations

import io
import json
import os
import random
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

Must = Literal["refuse", "any"]
DEEP = 100_000
"""Levels of nested JSON, TOML and pictures of it."""
DIGITS = 5_000
"""Digits of an integer; Python converts 4,300."""
CLAIM = 10**12
"""Elements that a header claims."""


@dataclass(frozen=True)
class Mutation:
    """One kind of damage."""

    name: str
    must: Must
    apply: Callable[[Path, random.Random], None]


def replaced(name: str, data: bytes, must: Must = "refuse") -> Mutation:
    """Return the mutation that replaces all of a file by ``data``."""
    return Mutation(name, must, lambda path, _: _write(path, data))


def _write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


# Not a file, or nothing of the format


def _fifo(path: Path, _: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _device(path: Path, _: random.Random) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _loop(path: Path, _: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _sparse(path: Path, _: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 40)


PLACES = (
    Mutation("a named pipe", "refuse", _fifo),
    Mutation("a folder", "refuse", _folder),
    Mutation("/dev/zero", "refuse", _device),
    Mutation("a link to itself", "refuse", _loop),
    Mutation("a file of 1 TiB without content", "any", _sparse),
)
FOREIGN = (
    replaced("empty", b""),
    replaced("one zero byte", b"\0"),
    replaced("random bytes", random.Random(5).randbytes(3000)),
    replaced("a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"),
    replaced("an HTML page", b"<!DOCTYPE html><html><body>404</body></html>\n" * 20),
)


def _truncated(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    _write(path, data[: rng.randrange(1, max(2, len(data) - 1))])


def _flipped(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 2, 8))):
        data[rng.randrange(min(len(data), 256))] ^= 1 << rng.randrange(8)
    _write(path, bytes(data))


def _flipped_anywhere(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 4, 32))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    _write(path, bytes(data))


def _cut_out(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    start = rng.randrange(len(data))
    _write(path, data[:start] + data[start + rng.randrange(1, 64) :])


def binary(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to any binary file, ``rounds`` times."""
    yield from PLACES[:4]
    yield from FOREIGN
    for _ in range(rounds):
        yield Mutation("truncated", "any", _truncated)
        yield Mutation("bits flipped in the header", "any", _flipped)
        yield Mutation("bits flipped", "any", _flipped_anywhere)
        yield Mutation("bytes left out", "any", _cut_out)


# JSON and JSON lines


def _leaves(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*at, key)
        yield from _leaves(item, (*at, key))


def _at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def _edit(
    path: Path, rng: random.Random, new: Callable[[Any, random.Random], Any], fits: Callable[[Any], bool]
) -> None:
    """Replace one value that ``fits`` by ``new`` of it; a `_Raw` is written without quotes."""
    text = path.read_text()
    lines = path.suffix == ".jsonl" or (text[0] == "{" and "\n{" in text)  # NLVR2 calls such a file .json
    content = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
    places = [place for place in _leaves(content) if fits(_at(content, place))]
    if not places:
        _write(path, b"{}")
        return
    *parents, last = rng.choice(places)
    owner = _at(content, tuple(parents))
    value = new(owner[last], rng)
    raw = isinstance(value, _Raw)
    if value is _GONE:
        del owner[last]
    else:
        owner[last] = "@@raw@@" if raw else value
    # An element of a list of lines is a line.
    written = "".join(json.dumps(line) + "\n" for line in content) if lines else json.dumps(content, indent=1)
    _write(path, (written.replace('"@@raw@@"', value) if raw else written).encode())


class _Raw(str):
    pass


_GONE = object()


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _any_value(value: Any) -> bool:
    return True


def _another_type(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict):
        return rng.choice((7, "text", [1]))
    if isinstance(value, list):
        return rng.choice((7, "text", {"a": 1}))
    if isinstance(value, str):
        return rng.choice(([1, 2], {"a": 1}))
    return rng.choice(({"x": 1}, [[1]], "a text"))


def _replace_value(
    name: str, must: Must, new: Callable[[Any, random.Random], Any], fits: Callable[[Any], bool]
) -> Mutation:
    return Mutation(name, must, lambda path, rng: _edit(path, rng, new, fits))


def json_file(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to a JSON file, or to one of JSON lines."""
    yield from PLACES
    yield from FOREIGN
    yield replaced("null", b"null")
    yield replaced("a number", b"5")
    yield replaced("a text", b'"text"')
    yield replaced("an empty object", b"{}")
    yield replaced("a list of nothing", b"[]", "any")
    yield replaced("nested lists", b"[" * DEEP + b"]" * DEEP)
    yield replaced("nested objects", b'{"a":' * DEEP + b"1" + b"}" * DEEP)
    yield replaced("open lists", b"[" * DEEP)
    yield replaced("an integer of 5,000 digits", b"9" * DIGITS)
    yield replaced("UTF-16", '{"schema": "ä"}'.encode("utf-16"))
    yield replaced("half of a letter", b'{"schema": "\\ud800"}')
    for _ in range(rounds):
        yield Mutation("truncated", "any", _truncated)
        yield Mutation("bits flipped", "any", _flipped_anywhere)
        yield _replace_value("another type", "any", _another_type, _any_value)
        yield _replace_value("a key left out", "any", lambda value, rng: _GONE, _any_value)
        yield _replace_value("null in it", "any", lambda value, rng: None, _any_value)
        yield _replace_value("NaN in it", "refuse", lambda value, rng: _Raw("NaN"), _number)
        yield _replace_value("1e999 in it", "refuse", lambda value, rng: _Raw("1e999"), _number)
        yield _replace_value("5,000 digits in it", "refuse", lambda value, rng: _Raw("9" * DIGITS), _number)
        yield _replace_value(
            "nested lists in it", "refuse", lambda value, rng: _Raw("[" * DEEP + "]" * DEEP), _any_value
        )
        yield _replace_value("a large number", "any", lambda value, rng: rng.choice((10**9, 10**12, 10**18)), _number)
        yield _replace_value("a negative number", "any", lambda value, rng: -1 - abs(value), _number)
        yield _replace_value(
            "an empty value", "any", lambda value, rng: type(value)(), lambda v: isinstance(v, dict | list | str)
        )


# Tables and texts


def csv_file(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to a table of captions."""
    yield from PLACES
    yield from FOREIGN
    yield replaced("a field of 1 MB", b"image,caption\n0.png," + b"x" * 10**6 + b"\n", "any")
    yield replaced("an open quote", b'image,caption\n0.png,"a thing\n1.png,b\n')
    yield replaced("zero bytes", b"image,caption\n0.png,a\0b\n1.png,b\n")
    yield replaced("100,000 columns", b",".join([b"a"] * DEEP) + b"\n")
    yield replaced("a name that leads out", b"image,caption\n../../../etc/passwd,a\n")
    yield replaced("a device as picture", b"image,caption\n/dev/zero,a\n")
    yield replaced("a name of 5,000 letters", b"image,caption\n" + b"x" * 5000 + b".png,a\n")
    yield replaced("a zero byte in a name", b"image,caption\n0\0.png,a\n")
    yield replaced("Latin-1", "image,caption\n0.png,\xe4\n".encode("latin-1"))
    for _ in range(rounds):
        yield Mutation("truncated", "any", _truncated)
        yield Mutation("bits flipped", "any", _flipped_anywhere)


def text_file(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to a text."""
    yield from PLACES
    yield from FOREIGN
    yield replaced("Latin-1", "# \xe4\n".encode("latin-1"))
    yield replaced("UTF-16", "# \xe4\n".encode("utf-16"))
    yield replaced("a line of 10 MB", b"x" * 10**7, "any")
    yield replaced("10⁶ lines", b"x\n" * 10**6, "any")
    yield replaced("terminal sequences", b"\x1b]0;title\a\x1b[31m\rerror: x\n", "any")
    for _ in range(rounds):
        yield Mutation("bits flipped", "any", _flipped_anywhere)


# TOML


def _toml_line(path: Path, rng: random.Random, change: Callable[[str, random.Random], str]) -> None:
    lines = path.read_text().splitlines()
    places = [number for number, line in enumerate(lines) if " = " in line and not line.lstrip().startswith("#")]
    place = rng.choice(places)
    lines[place] = change(lines[place], rng)
    _write(path, ("\n".join(lines) + "\n").encode())


def _toml_value(name: str, must: Must, value: Callable[[random.Random], str]) -> Mutation:
    def change(line: str, rng: random.Random) -> str:
        return f"{line.partition(' = ')[0]} = {value(rng)}"

    return Mutation(name, must, lambda path, rng: _toml_line(path, rng, change))


def toml_file(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to a TOML file."""
    yield from PLACES
    yield from FOREIGN[1:]
    yield replaced("nested lists", b"a = " + b"[" * DEEP + b"]" * DEEP)
    yield replaced("nested tables", b"a = " + b"{a=" * DEEP + b"1" + b"}" * DEEP)
    yield replaced("nested keys", b".".join([b"a"] * DEEP) + b" = 1")
    yield replaced("a nested table name", b"[" + b".".join([b"a"] * DEEP) + b"]")
    yield replaced("an integer of 5,000 digits", b"a = " + b"9" * DIGITS)
    yield replaced("UTF-16", "a = 'ä'".encode("utf-16"))
    yield replaced("Latin-1", "a = 'ä'".encode("latin-1"))
    for _ in range(rounds):
        yield Mutation("truncated", "any", _truncated)
        yield Mutation("bits flipped", "any", _flipped_anywhere)
        yield _toml_value("another type", "any", lambda rng: rng.choice(("[[1]]", "{x = 1}", "'text'", "7", "true")))
        yield _toml_value("NaN in it", "refuse", lambda rng: "nan")
        yield _toml_value("infinity in it", "refuse", lambda rng: "inf")
        yield _toml_value("5,000 digits in it", "refuse", lambda rng: "9" * DIGITS)
        yield _toml_value("nested lists in it", "refuse", lambda rng: "[" * DEEP + "]" * DEEP)
        yield _toml_value("a large number", "any", lambda rng: rng.choice(("1000000000", "1000000000000000000")))
        yield _toml_value("a date", "refuse", lambda rng: "1979-05-27T07:32:00Z")


# numpy


def npy(shape: tuple[int, ...] | str, dtype: str = "|u1", data: bytes = b"", order: str = "False") -> bytes:
    """Return the bytes of a .npy whose header may claim anything."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def _as_saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _pickled() -> bytes:
    class Runs:
        def __reduce__(self) -> Any:
            return os.mkdir, ("EXECUTED",)

    return _as_saved(np.array([Runs()], object))


BAD_NPY: tuple[tuple[str, bytes, Must], ...] = (
    ("claims 10¹² bytes", npy((CLAIM,)), "refuse"),
    ("claims 10¹² numbers", npy((10**6, 10**6), "<f8", b"\0" * 64), "refuse"),
    ("claims 10³⁰ elements", npy((10**15, 10**15)), "refuse"),
    ("a negative shape", npy((-5, 3), "<f8", b"\0" * 64), "refuse"),
    ("a shape of text", npy("('a', 3)"), "refuse"),
    ("an item of 10⁹ letters", npy((1,), "<U1000000000"), "refuse"),
    ("a pickled object", _pickled(), "refuse"),
    ("nested header", npy("(" * 5000 + ")" * 5000), "refuse"),
    ("a header of 60,000 bytes", npy("(1," + " " * 60000 + ")"), "any"),
    ("a header that computes", npy("(__import__('os').mkdir('EXECUTED'),)"), "refuse"),
    ("an unknown type", npy((4,), "<q9", b"\0" * 64), "refuse"),
    ("text", _as_saved(np.array(["a", "b"])), "refuse"),
    ("dates", _as_saved(np.array(["2020-01-01"], "datetime64[D]")), "refuse"),
    ("complex numbers", _as_saved(np.ones((6, 3, 2, 8, 8), complex) * 1j), "refuse"),
    ("records", _as_saved(np.zeros(5, [("a", "<i4"), ("b", "<f8")])), "refuse"),
    ("a single number", _as_saved(np.float64(3)), "refuse"),
    ("no elements", _as_saved(np.zeros((0, 3, 2, 8, 8))), "refuse"),
    ("no samples", _as_saved(np.zeros((6, 0, 2, 8, 8))), "refuse"),
    ("NaN", _as_saved(np.full((6, 3, 2, 8, 8), np.nan)), "refuse"),
    ("infinity", _as_saved(np.full((6, 3, 2, 8, 8), np.inf)), "refuse"),
    ("1e300", _as_saved(np.full((6, 3, 2, 8, 8), 1e300)), "any"),
    ("of another shape", _as_saved(np.ones((6, 3, 5))), "refuse"),
    ("Fortran order", _as_saved(np.asfortranarray(np.ones((6, 3, 2, 8, 8)))), "any"),
    ("true and false", _as_saved(np.ones((6, 3, 2, 8, 8), bool)), "any"),
)


def npy_file(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to a .npy of samples (6, 3, 2, 8, 8)."""
    yield from (replaced(name, data, must) for name, data, must in BAD_NPY)
    yield from binary(rounds)
    yield Mutation("a file of 1 TiB without content", "any", _sparse)


def members(path: Path) -> dict[str, bytes]:
    """Return the members of a zip by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _packed(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    path.unlink()
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, method)


def _one_member(path: Path, rng: random.Random, data: bytes) -> None:
    content = members(path)
    content[rng.choice(sorted(content))] = data
    _packed(path, content)


def _zip_field(path: Path, rng: random.Random, local: int, central: int, value: bytes) -> None:
    """Overwrite a field of one member, in its own header and in the archive's directory."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        chosen = rng.choice(archive.infolist())
    data[chosen.header_offset + local : chosen.header_offset + local + len(value)] = value
    place = data.find(b"PK\x01\x02")
    while place >= 0:
        if struct.unpack_from("<I", data, place + 42)[0] == chosen.header_offset:
            data[place + central : place + central + len(value)] = value
        place = data.find(b"PK\x01\x02", place + 4)
    _write(path, bytes(data))


def zeros(size: int) -> tuple[bytes, int]:
    """Return ``size`` zero bytes as a raw deflate stream of a thousandth of that, and their CRC-32.

    ``size`` is a multiple of 1 MiB.
    """
    block = bytes(1 << 20)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    one = deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)  # independent of what is before
    crc = 0
    for _ in range(size >> 20):
        crc = zlib.crc32(block, crc)
    return one * (size >> 20) + zlib.compressobj(9, zlib.DEFLATED, -15).flush(), crc


_BOMBS: dict[str, bytes] = {}


def _bomb(path: Path, rng: random.Random) -> None:
    """Replace one member by 3 GiB of zeros, a .npy by its header; the archive stays small."""
    size = 3 << 30
    if "npy" not in _BOMBS:
        header = npy((size - 128,), data=b"").ljust(128, b"\0")
        stored, _ = zeros(size - (1 << 20))
        first = header + bytes((1 << 20) - len(header))
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        begin = deflate.compress(first) + deflate.flush(zlib.Z_FULL_FLUSH)
        total = zlib.crc32(first)
        block = bytes(1 << 20)
        for _ in range((size >> 20) - 1):
            total = zlib.crc32(block, total)
        _BOMBS["npy"] = begin + stored
        _BOMBS["crc"] = struct.pack("<I", total)
    content = members(path)
    name = rng.choice(sorted(content))
    rest = {key: value for key, value in content.items() if key != name}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in rest.items():
            archive.writestr(key, value)
        # Written as stored, then declared deflated: the directory is patched afterwards.
        archive.writestr(zipfile.ZipInfo(name), _BOMBS["npy"], zipfile.ZIP_STORED)
    _write(path, data.getvalue())
    with zipfile.ZipFile(path) as archive:
        chosen = archive.getinfo(name)
    whole = bytearray(path.read_bytes())
    for signature, shift, at in ((b"PK\x03\x04", 0, chosen.header_offset), (b"PK\x01\x02", 2, None)):
        place = at if at is not None else whole.rfind(signature)
        struct.pack_into("<H", whole, place + 8 + shift, zipfile.ZIP_DEFLATED)
        whole[place + 14 + shift : place + 18 + shift] = _BOMBS["crc"]
        struct.pack_into("<I", whole, place + 22 + shift, size)
    _write(path, bytes(whole))


def _left_out(path: Path, rng: random.Random) -> None:
    content = members(path)
    del content[rng.choice(sorted(content))]
    _packed(path, content)


def _nan_member(path: Path, rng: random.Random) -> None:
    content = members(path)
    name = rng.choice(sorted(content))
    array = np.load(io.BytesIO(content[name]), allow_pickle=False)
    content[name] = _as_saved(np.full(array.shape, np.nan))
    _packed(path, content)


def _other_shape(path: Path, rng: random.Random) -> None:
    content = members(path)
    name = rng.choice(sorted(content))
    array = np.load(io.BytesIO(content[name]), allow_pickle=False)
    content[name] = _as_saved(np.zeros((*array.shape, 2), array.dtype))
    _packed(path, content)


def _twice(path: Path, rng: random.Random) -> None:
    content = members(path)
    name = rng.choice(sorted(content))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(name, content[name])


def _in_member(name: str, apply: Callable[[Path, random.Random], None]) -> Callable[[Path, random.Random], None]:
    """Return the damage ``apply`` done to one member of an archive.

    A member ``x.npy`` is taken for the text that it holds.
    """

    def change(path: Path, rng: random.Random) -> None:
        content = members(path)
        is_array = name.endswith(".npy")
        text = str(np.load(io.BytesIO(content[name]), allow_pickle=False)).encode() if is_array else content[name]
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "member.json"
            file.write_bytes(text)
            apply(file, rng)
            data = file.read_bytes()
        if is_array:
            data = _as_saved(np.array(data.decode("utf-8", "replace")))
        content[name] = data
        _packed(path, content)

    return change


def json_member(name: str, rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to the JSON in one member of an archive."""
    for mutation in json_file(rounds):
        if mutation not in PLACES:
            yield Mutation(f"{name}: {mutation.name}", mutation.must, _in_member(name, mutation.apply))


def counts_file(header: str, rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to an .npz with JSON in the member ``header``."""
    for mutation in npz_file(rounds):
        # The header is text, and counts of zero are counts.
        own: Must = "any" if mutation.name in ("member: text", "a member left out", "no elements") else mutation.must
        yield Mutation(mutation.name, own, mutation.apply)
    yield from json_member(header, rounds)


def npz_file(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to a .npz."""
    for name, data, must in BAD_NPY:
        if name not in ("of another shape", "Fortran order", "no samples", "1e300", "true and false"):
            sure: Must = "refuse" if "claims" in name or "pickled" in name or "computes" in name else "any"
            yield Mutation(
                f"member: {name}", min(must, sure), lambda path, rng, data=data: _one_member(path, rng, data)
            )
    yield Mutation("a bomb of 3 GiB", "refuse", _bomb)
    yield Mutation("an unknown method", "refuse", lambda path, rng: _zip_field(path, rng, 8, 10, struct.pack("<H", 97)))
    yield Mutation("method LZMA", "refuse", lambda path, rng: _zip_field(path, rng, 8, 10, struct.pack("<H", 14)))
    yield Mutation("encrypted", "refuse", lambda path, rng: _zip_field(path, rng, 6, 8, struct.pack("<H", 1)))
    yield Mutation("a wrong checksum", "refuse", lambda path, rng: _zip_field(path, rng, 14, 16, b"\1\2\3\4"))
    yield Mutation(
        "claims 4 GB", "refuse", lambda path, rng: _zip_field(path, rng, 22, 24, struct.pack("<I", 2**32 - 2))
    )
    yield Mutation("claims 0 bytes", "refuse", lambda path, rng: _zip_field(path, rng, 22, 24, struct.pack("<I", 0)))
    yield replaced("an empty zip", b"PK\x05\x06" + bytes(18))
    for _ in range(max(1, rounds // 3)):
        yield Mutation("a member left out", "any", _left_out)
        yield Mutation("NaN in a member", "any", _nan_member)
        yield Mutation("a member of another shape", "any", _other_shape)
        yield Mutation("a member twice", "any", _twice)
    yield from binary(rounds)
