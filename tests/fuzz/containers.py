"""Damage to HDF5 files, weights, trainer states, pictures and archives of pictures."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.fuzz.mutations import (
    CLAIM,
    DEEP,
    DIGITS,
    PLACES,
    Must,
    Mutation,
    _sparse,
    _write,
    binary,
    json_file,
    replaced,
    zeros,
)

# HDF5


def _datasets(file: Any) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return sorted(found)


def _numeric(file: Any) -> list[str]:
    return [name for name in _datasets(file) if file[name].dtype.kind in "fiu" and file[name].shape]


def _hdf5(name: str, must: Must, change: Callable[[Any, random.Random], None]) -> Mutation:
    def apply(path: Path, rng: random.Random) -> None:
        with h5py.File(path, "r+") as file:
            change(file, rng)

    return Mutation(name, must, apply)


def _put(name: str, must: Must, make: Callable[[Any, str, random.Random], None]) -> Mutation:
    """Return the mutation that puts something else in the place of one array."""

    def change(file: Any, rng: random.Random) -> None:
        place = rng.choice(_numeric(file))
        del file[place]
        make(file, place, rng)

    return _hdf5(name, must, change)


def _external(file: Any, place: str, rng: random.Random) -> None:
    secret = Path(file.filename).parent / "secret.bin"
    secret.write_bytes(b"a secret of another file" * 1000)
    file.create_dataset(place, (10, 64), "<f4", external=[(str(secret), 0, 10 * 64 * 4)])


def _external_link(file: Any, place: str, rng: random.Random) -> None:
    other = Path(file.filename).parent / "other.h5"
    with h5py.File(other, "w") as written:
        written["data"] = np.ones((10, 64))
    file[place] = h5py.ExternalLink(str(other), "data")


def _virtual(file: Any, place: str, rng: random.Random) -> None:
    other = Path(file.filename).parent / "other.h5"
    with h5py.File(other, "w") as written:
        written["data"] = np.ones((10, 64))
    layout = h5py.VirtualLayout((10, 64), "<f8")
    layout[:] = h5py.VirtualSource(str(other), "data", (10, 64))
    file.create_virtual_dataset(place, layout)


def _unallocated(shape: tuple[int, ...], **options: Any) -> Callable[[Any, str, random.Random], None]:
    return lambda file, place, rng: file.create_dataset(place, shape, "<f8", **options) and None


def _mostly_zeros(file: Any, place: str, rng: random.Random) -> None:
    """Write one chunk of 3.2 GB, compressed a thousandfold."""
    made = file.create_dataset(place, (40, 10**7), "<f8", chunks=(1, 10**6), compression="gzip")
    for row in range(40):
        made[row, :1] = 1


def _cycle(file: Any, place: str, rng: random.Random) -> None:
    file[place] = h5py.SoftLink(f"/{place}")


def _to_parent(file: Any, place: str, rng: random.Random) -> None:
    file[place] = file[place.rpartition("/")[0] or "/"]


def _dangling(file: Any, place: str, rng: random.Random) -> None:
    file[place] = h5py.SoftLink("/nowhere")


def _value(value: Any) -> Callable[[Any, str, random.Random], None]:
    def make(file: Any, place: str, rng: random.Random) -> None:
        file[place] = value

    return make


def _filled(value: float) -> Mutation:
    def change(file: Any, rng: random.Random) -> None:
        place = rng.choice(_numeric(file))
        shape = file[place].shape
        del file[place]
        file[place] = np.full(shape, value)

    return _hdf5(f"{value} in an array", "refuse" if value != value else "any", change)


def _resized(file: Any, rng: random.Random) -> None:
    place = rng.choice(_numeric(file))
    shape = file[place].shape
    del file[place]
    file[place] = np.zeros((*shape, 2)) if rng.random() < 0.5 else np.zeros(shape[:-1])


def _without(file: Any, rng: random.Random) -> None:
    del file[rng.choice(_datasets(file))]


def _many_dimensions(file: Any, place: str, rng: random.Random) -> None:
    file[place] = np.zeros((1,) * 32)


def _group(file: Any, place: str, rng: random.Random) -> None:
    group = file.create_group(place)
    for _ in range(2000):
        group = group.create_group("g")


def _text(file: Any, rng: random.Random) -> None:
    texts = [name for name in _datasets(file) if file[name].dtype.kind in "SO"]
    place = rng.choice(texts)
    del file[place]
    words: tuple[Any, ...] = ("", "x" * 10**6, "\x1b]0;title\a", "../../x", b"\xff\xfe", 5, np.zeros(3))
    file[place] = rng.choice(words)


def _sizes(file: Any, rng: random.Random) -> None:
    """Write sizes of 10⁹ where the file states a shape."""
    places = [name for name in _numeric(file) if name.rpartition("/")[2] in ("shape", "input", "input_shape", "output")]
    places += [
        name for name in _datasets(file) if name.rpartition("/")[2] in ("stride", "padding", "groups", "dilation")
    ]
    place = rng.choice(places)
    shape = file[place].shape
    del file[place]
    file[place] = np.full(shape, rng.choice((0, -1, 10**9, 2**62)))


def _heap(length: int) -> Callable[[Path, random.Random], None]:
    """Return the damage of the free space in a heap of texts, which claims ``length`` bytes."""

    def change(path: Path, _: random.Random) -> None:
        with h5py.File(path, "r+") as file:
            file["text"] = "of variable length"
        data = bytearray(path.read_bytes())
        place = data.rindex(b"of variable length") + 24
        assert data[place : place + 2] == b"\0\0"  # the index of free space
        data[place + 8 : place + 16] = length.to_bytes(8, "little")
        path.write_bytes(data)

    return change


def _claimed_text(length: int) -> Callable[[Path, random.Random], None]:
    """Return the damage of an array's text of variable length, which claims ``length`` bytes."""

    def change(path: Path, _: random.Random) -> None:
        text = b"of variable length"
        with h5py.File(path, "r+") as file:
            file["text"] = text.decode()
        data = bytearray(path.read_bytes())
        heap = data.rindex(b"GCOL", 0, data.rindex(text))
        place = data.index(struct.pack("<IQ", len(text), heap))
        data[place : place + 4] = length.to_bytes(4, "little")
        path.write_bytes(data)

    return change


def hdf5_file(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to a NIR file or a network of lava-dl."""
    yield _put("external storage", "refuse", _external)
    yield _put("an external link", "refuse", _external_link)
    yield _put("a virtual dataset", "refuse", _virtual)
    yield _put("4.8 GB that were never written", "refuse", _unallocated((600, 10**6)))
    yield _put("8 TB that were never written", "refuse", _unallocated((10**6, 10**6)))
    yield _put(
        "10¹² numbers in chunks", "refuse", _unallocated((10**6, 10**6), chunks=(1000, 1000), compression="gzip")
    )
    yield _put("3.2 GB of zeros, compressed", "refuse", _mostly_zeros)
    yield _put("a soft link to itself", "refuse", _cycle)
    yield _put("a link to its group", "refuse", _to_parent)
    yield _put("a link to nothing", "refuse", _dangling)
    yield _put("2,000 nested groups", "refuse", _group)
    yield _put("32 dimensions", "any", _many_dimensions)
    yield _put("a text for an array", "refuse", _value("text"))
    yield _put("complex numbers", "refuse", _value(np.full((10, 64), 1j)))
    yield _put("records", "refuse", _value(np.zeros(5, [("a", "<i4"), ("b", "<f8")])))
    yield _put("nothing in an array", "any", _value(np.zeros((0, 3))))
    yield _put("an empty space", "any", _value(h5py.Empty("f")))
    yield _put(
        "references",
        "refuse",
        lambda file, place, rng: file.create_dataset(place, data=np.array([file["/"].ref], h5py.ref_dtype)) and None,
    )
    yield _hdf5("an attribute of 60 kB", "any", lambda file, rng: file.attrs.update({"x": "y" * 60000}))
    yield Mutation("a free space of no bytes in a heap", "refuse", _heap(0))
    yield Mutation("a free space of 2⁶⁴ - 16 bytes in a heap", "refuse", _heap(2**64 - 16))
    for _ in range(rounds):
        yield _filled(float("nan"))
        yield _filled(float("inf"))
        yield _filled(1e300)
        yield _filled(-1.0)
        yield _filled(0.0)
        yield _hdf5("an array of another shape", "any", _resized)
        yield _hdf5("an entry left out", "any", _without)
        yield _hdf5("another text", "any", _text)
        yield _hdf5("sizes of 10⁹", "any", _sizes)
    yield from binary(rounds)
    yield Mutation("a file of 1 TiB behind its end", "any", _sparse)
    for length in (1, 10**6, 2**32 - 1):
        yield Mutation(f"a text that claims {length:,} bytes", "refuse", _claimed_text(length))


# Weights


def _tensors(path: Path, change: Callable[[dict[str, Any], random.Random], None], rng: random.Random) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        content = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    change(content, rng)
    path.unlink()
    save_file(content, path, metadata)


def _weights(name: str, must: Must, change: Callable[[dict[str, Any], random.Random], None]) -> Mutation:
    return Mutation(name, must, lambda path, rng: _tensors(path, change, rng))


def _fill(value: float, every: bool) -> Callable[[dict[str, Any], random.Random], None]:
    def change(content: dict[str, Any], rng: random.Random) -> None:
        floats = sorted(name for name, tensor in content.items() if tensor.is_floating_point())
        for name in floats if every else [rng.choice(floats)]:
            content[name].fill_(value)

    return change


def _remove(content: dict[str, Any], rng: random.Random) -> None:
    del content[rng.choice(sorted(content))]


def _reshape(content: dict[str, Any], rng: random.Random) -> None:
    import torch

    content[rng.choice(sorted(content))] = torch.zeros(3, 5, 7)


def _header(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


def weights_file(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to a run's weights."""
    yield _weights("NaN in all weights", "refuse", _fill(float("nan"), True))
    yield _weights("an unknown tensor", "refuse", lambda content, rng: content.update(x=content[min(content)].clone()))
    claim = json.dumps({"a": {"dtype": "F32", "shape": [CLAIM], "data_offsets": [0, 4 * CLAIM]}}).encode()
    yield replaced("claims 10¹² numbers", _header(claim))
    yield replaced("a header of 10¹² bytes", _header(b"{}", CLAIM))
    yield replaced("a nested header", _header(b"[" * DEEP))
    yield replaced("no tensors", _header(b"{}"))
    for _ in range(rounds):
        yield _weights("NaN in some weights", "refuse", _fill(float("nan"), False))
        yield _weights("infinity in some weights", "refuse", _fill(float("inf"), False))
        yield _weights("a tensor left out", "refuse", _remove)
        yield _weights("a tensor of another shape", "refuse", _reshape)
    yield from binary(rounds)


# Trainer state


class _Runs:
    def __reduce__(self) -> Any:
        return os.mkdir, ("EXECUTED",)


def _state(name: str, must: Must, change: Callable[[dict[str, Any], random.Random], Any]) -> Mutation:
    def apply(path: Path, rng: random.Random) -> None:
        import torch

        state = torch.load(path, weights_only=True)
        other = change(state, rng)
        path.unlink()
        torch.save(state if other is None else other, path)

    return Mutation(name, must, apply)


def _in_itself(state: dict[str, Any], rng: random.Random) -> None:
    state["optimiser"]["state"] = state["optimiser"]


def _doubled(state: dict[str, Any], rng: random.Random) -> None:
    """Write a list of a list of …, each of which is held twice."""
    held: list[Any] = [1.0]
    for _ in range(100):
        held = [held, held]
    state["optimiser"]["state"] = held


def _fill_state(value: float) -> Callable[[dict[str, Any], random.Random], None]:
    def change(state: dict[str, Any], rng: random.Random) -> None:
        _fill(value, False)(state["model"], rng)

    return change


def _fill_moments(state: dict[str, Any], rng: random.Random) -> None:
    for moments in state["optimiser"]["state"].values():
        moments["exp_avg"].fill_(float("nan"))


def _drop(state: dict[str, Any], key: str) -> None:
    del state[key]


STATE_KEYS = ("model", "optimiser", "stage", "batch", "sums", "random", "rows", "integers")


def trainer_file(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to ``trainer.pt``."""
    for key in STATE_KEYS:
        yield _state(f"without {key}", "refuse", lambda state, rng, key=key: _drop(state, key))
        yield _state(f"{key} of another type", "refuse", lambda state, rng, key=key: state.update({key: 3.5}))
        yield _state(f"{key} is null", "refuse", lambda state, rng, key=key: state.update({key: None}))
    for value in (-1, 99, 10**9):
        yield _state(f"stage {value}", "refuse", lambda state, rng, value=value: state.update(stage=value))
        yield _state(f"batch {value}", "refuse", lambda state, rng, value=value: state.update(batch=value))
    for rows in (
        "",
        "null",
        "{}",
        "[1]",
        "[{}]",
        "[" * DEEP,
        '[{"epoch": NaN, "loss": 1}]',
        '[{"epoch": "x", "loss": 1}]',
    ):
        yield _state(f"rows {rows[:30]}", "refuse", lambda state, rng, rows=rows: state.update(rows=rows))
    yield _state("an empty object", "refuse", lambda state, rng: {})
    yield _state("a list", "refuse", lambda state, rng: [1, 2])
    yield _state("null", "refuse", lambda state, rng: _Null())
    yield _state("code that runs", "refuse", lambda state, rng: _Runs())
    yield _state("code in it", "refuse", lambda state, rng: state.update(model=_Runs()))
    yield _state("NaN in the moments", "refuse", _fill_moments)
    for _ in range(rounds):
        yield _state("NaN in its weights", "refuse", _fill_state(float("nan")))
        yield _state("infinity in its weights", "refuse", _fill_state(float("inf")))
        yield _state("a weight left out", "refuse", lambda state, rng: _remove(state["model"], rng))
        yield _state("a weight of another shape", "refuse", lambda state, rng: _reshape(state["model"], rng))
        yield _state("a sum of another type", "any", lambda state, rng: state.update(sums={"loss": "x"}))
    yield from binary(rounds)
    yield _state("an optimiser that holds itself", "refuse", _in_itself)
    yield _state("2¹⁰⁰ entries in an optimiser", "refuse", _doubled)


def _Null() -> Any:
    return ()


# Pictures


def _png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + data
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def _text_bomb() -> bytes:
    body = b"Comment\0\0" + zlib.compress(b"\0" * (200 << 20), 9)
    return struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))


def picture_file(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to a picture."""
    yield replaced("a PNG of 2³¹ × 2³¹", _png(2**31 - 1, 2**31 - 1))
    yield replaced("a PNG of 30,000 × 30,000", _png(30_000, 30_000))
    yield replaced("a PNG of 12,000 × 9,000 without pixels", _png(12_000, 9_000))
    yield replaced("a PNG of 0 × 0", _png(0, 0))
    yield Mutation("a PNG with a text of 200 MB", "refuse", lambda path, rng: _write(path, _png(4, 4, _text_bomb())))
    yield replaced(
        "a BMP of 10⁹ × 10⁹",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 10**9, 10**9, 1, 24, 0, 0, 0, 0, 0, 0),
    )
    yield replaced("a PPM of 10⁹ × 10⁹", b"P6 1000000000 1000000000 255\n" + b"\0" * 100)
    yield replaced("a GIF without frames", b"GIF89a" + struct.pack("<HHBBB", 60000, 60000, 0, 0, 0) + b";")
    yield replaced("an SVG", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    yield replaced(
        "an EPS that runs", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(EXECUTED) (w) file\nshowpage\n"
    )
    yield replaced(
        "a TIFF of 10⁹ × 10⁹", b"II*\0\x08\0\0\0\x02\0\0\1\4\0\1\0\0\0\0\xca\x9a;\1\1\4\0\1\0\0\0\0\xca\x9a;\0\0\0\0"
    )
    yield from binary(rounds)


# Archives of pictures


def _tar(name: str, must: Must, make: Callable[[tarfile.TarFile], None]) -> Mutation:
    def apply(path: Path, rng: random.Random) -> None:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            make(tar)
        packed = gzip.compress(data.getvalue(), 1) if path.suffix == ".gz" else data.getvalue()
        _write(path, packed)

    return Mutation(name, must, apply)


def _member(tar: tarfile.TarFile, name: str, data: bytes = b"x", **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(data) if info.isreg() else None)


def _claims(tar: tarfile.TarFile) -> None:
    for name in ("000.png", "000.txt"):
        info = tarfile.TarInfo(name)
        info.size = CLAIM
        tar.addfile(info)  # without its content


def _nested(tar: tarfile.TarFile) -> None:
    inner = b""
    for _ in range(60):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as one:
            _member(one, "inner.tar", inner)
        inner = data.getvalue()
    _member(tar, "inner.tar", inner)


def _sparse_member(tar: tarfile.TarFile) -> None:
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(CLAIM)}
    info = tarfile.TarInfo("000.png")
    info.pax_headers = headers
    data = b"1\n0\n1\n".ljust(512, b"\0") + b"x" * 512
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _pax(tar: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("000.png")
    info.pax_headers = {"path": "x" * 10**6 + ".png", "size": "-5"}
    tar.addfile(info)


def _pair(tar: tarfile.TarFile, text: bytes) -> None:
    """Write a picture that is none, and its JSON."""
    _member(tar, "0.png")
    _member(tar, "0.json", text)


def _bomb_in_gzip(path: Path, rng: random.Random) -> None:
    """Write a shard whose text is 2 GiB of zeros; compressed if the shard is."""
    info = tarfile.TarInfo("000.txt")
    info.size = 2 << 30
    head = info.tobuf()
    stored, _ = zeros(2 << 30)
    first = zlib.compressobj(9, zlib.DEFLATED, -15)
    begin = first.compress(head) + first.flush(zlib.Z_FULL_FLUSH)
    total = zlib.crc32(head)
    block = bytes(1 << 20)
    for _ in range(2 << 10):
        total = zlib.crc32(block, total)
    gz = b"\x1f\x8b\x08\0\0\0\0\0\2\xff" + begin + stored + struct.pack("<II", total, ((2 << 30) + 512) % 2**32)
    _write(path, gz)


def tar_file(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to a WebDataset shard."""
    yield _tar("members that claim 10¹² bytes", "refuse", _claims)
    yield _tar("a member of 10¹² bytes, sparse", "refuse", _sparse_member)
    yield _tar("60 shards in one another", "refuse", _nested)
    yield _tar("headers of 1 MB", "refuse", _pax)
    yield _tar(
        "names that lead out",
        "any",
        lambda tar: [_member(tar, f"../../out.{kind}") for kind in ("png", "txt")] and None,
    )
    yield _tar(
        "links", "refuse", lambda tar: _member(tar, "000.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    )
    yield _tar("a device", "refuse", lambda tar: _member(tar, "000.png", b"", type=tarfile.CHRTYPE))
    yield _tar("no members", "refuse", lambda tar: None)
    yield _tar("deep JSON", "refuse", lambda tar: _pair(tar, b"[" * DEEP))
    yield _tar("JSON of 5,000 digits", "refuse", lambda tar: _pair(tar, b'{"caption": ' + b"9" * DIGITS + b"}"))
    yield Mutation("a text of 2 GiB, compressed", "refuse", _bomb_in_gzip)
    yield from binary(rounds)
    yield Mutation("a file of 1 TiB behind its end", "any", _sparse)


def _in_tar(name: str, apply: Callable[[Path, random.Random], None]) -> Callable[[Path, random.Random], None]:
    """Return the damage ``apply`` done to one member of a shard."""

    def change(path: Path, rng: random.Random) -> None:
        with tarfile.open(path) as tar:
            content = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / name
            file.write_bytes(content[name])
            apply(file, rng)
            content[name] = file.read_bytes()
        path.unlink()
        with tarfile.open(path, "w") as tar:
            for member, data in content.items():
                _member(tar, member, data)

    return change


def shard_json(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to the JSON of one sample of a shard."""
    for mutation in json_file(rounds):
        if mutation not in PLACES:
            yield Mutation(mutation.name, mutation.must, _in_tar("000.json", mutation.apply))
