"""Pictures inside archives and tables: WebDataset shards and Hugging Face data set folders.

Nothing is unpacked to disk, and nothing is unpickled.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import IO, Any

from ashneuro.config import cache_dir
from ashneuro.data.columns import (
    CAPTION_NAMES,
    SUFFIXES,
    Columns,
    choose_columns,
    is_picture,
    needs_texts,
    texts_of_value,
)
from ashneuro.data.readers import PARTS, Record, lone_surrogate, make_record, merge, read_json, value_of
from ashneuro.data.walk import files_below
from ashneuro.errors import DataError, need
from ashneuro.files import parse_json, read_bytes, reason_of, require_regular, require_unpacked

MOST_SHARDS, DIGITS = 100_000, 12
"""Shards that a pattern names at most, and digits of its numbers."""
LARGEST_MEMBER = 1 << 28
"""Bytes of the largest picture or text in a shard that is read."""
DEEPEST = 8
"""Levels of shards in one another."""

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_CUSTOMARY = Columns()
_BRACES = re.compile(r"(.*)\{(\d+)\.\.(\d+)\}(.*)")


def read_webdataset(path: Path, columns: Columns = _CUSTOMARY) -> tuple[list[Record], list[str]]:
    """Return the records and problems of WebDataset shards.

    ``path`` is one ``.tar``, a folder of them, also in its folders, or
    ``shard-{000000..000009}.tar``. Members of a shard with the same name up to the first dot are
    one sample, wherever they are in it: a picture and its captions, in ``.txt`` (one a line) or in
    ``.json`` (a text or list of texts under ``caption``, or instead of an object). A shard may hold
    shards. The part follows from the shard's name, or from its folder's.

    Nothing but captions and places stay in memory. The pictures of a compressed shard have no place
    that they could be read from: they are copied to a temporary file, which has no name and
    vanishes with the process.
    """
    problems: list[str] = []
    records: list[Record] = []
    keys: dict[str, str] = {}
    copies = Copies()
    for shard in _shards(path):
        own = shard.relative_to(path) if path.is_dir() else Path(shard.name)
        words = [shard.name, *(folder.name for folder in own.parents)]
        part = next((PARTS[word] for name in words for word in re.split(r"[^a-z]+", name.lower()) if word in PARTS), "")
        for name, members in _samples(shard, own.as_posix(), copies, problems).items():
            where = f"{own.as_posix()} {name}"
            # Shards of two folders may number their samples alike.
            key = f"{own.parent.as_posix()}/{name}" if own.parent.parts else name
            if key in keys:
                problems.append(f"{where}: the key is already in {keys[key]}")
                continue
            keys[key] = own.as_posix()
            for stem, named in pictures_of_sample(members).items():
                at = f"{where}.{stem}" if stem else where
                kind = next((kind for kind in named if is_picture(f".{kind}")), "")
                if not kind:
                    problems.append(f"{at}: has no picture ({', '.join(SUFFIXES)}), only {', '.join(sorted(named))}")
                elif captions := captions_of_sample(at, named, columns, problems):
                    records.append(Record(at, f"{key}.{kind}", captions, split=part, read=named[kind]))
    return records, problems


def is_tar(path: Path) -> bool:
    """Return True if the name of ``path`` is that of a tar, compressed or not."""
    return path.name.lower().endswith(_TARS)


def _shards(path: Path) -> list[Path]:
    if match := _BRACES.fullmatch(path.name):
        first, last = match[2], match[3]
        if max(len(first), len(last)) > DIGITS or not 0 <= int(last) - int(first) < MOST_SHARDS:
            raise DataError(
                f"{path.name[:80]} names no shards that can be read",
                f"{{{first[:20]}..{last[:20]}}} counts from the first to the last, {MOST_SHARDS:,} at most",
                "name them as shard-{000000..000009}.tar, or give their folder",
            )
        return [
            path.with_name(f"{match[1]}{number:0{len(first)}}{match[4]}") for number in range(int(first), int(last) + 1)
        ]
    shards = [file for file in files_below(path) if is_tar(file)] if path.is_dir() else [path]
    if not shards:
        raise DataError(f"{path} has no shards", f"there is no {', '.join(_TARS)} in it", "check the path")
    return shards


Members = dict[str, Callable[[], bytes]]
"""Readers of a sample's members by extension."""


def _samples(shard: Path, name: str, copies: Copies, problems: list[str]) -> dict[str, Members]:
    """Return the members of every sample of a shard, by key, in the order of their first member."""
    samples: dict[str, Members] = {}
    last = ""
    try:
        size = require_regular(shard)
        with shard.open("rb") as file:
            place = None if _is_compressed(file.peek(512)[:512]) else (shard, 0)
            for key, extension, read in _members(file, place, size, name, copies, problems):
                last = key
                members = samples.setdefault(key, {})
                if extension in members:
                    problems.append(f"{name} {key}.{extension}: is in the shard twice")
                else:
                    members[extension] = read
    except (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError, ValueError, RecursionError) as error:
        problems.append(f"{name}: {reason_of(error)}")
        samples.pop(last, None)  # it may be truncated
    return samples


def _is_compressed(head: bytes) -> bool:
    """Return True if a file begins as gzip, bzip2 or xz does, and has no tar's mark."""
    return head[257:262] != b"ustar" and head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ"))


def _members(
    file: IO[bytes],
    place: tuple[Path, int] | None,
    size: int,
    name: str,
    copies: Copies,
    problems: list[str],
    depth: int = 0,
) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """Iterate over (key, extension, reader) of the members of a tar, and of the tars in it.

    Args:
        file: at the tar's first byte.
        place: the file on disk and the tar's offset in it; ``None`` if it is compressed.
        size: bytes of the file on disk.

    Raises:
        ValueError: a compressed tar claims too much (`require_unpacked`).
    """
    claimed = 0
    with tarfile.open(fileobj=file, mode="r:" if place else "r|*") as tar:
        for member in tar:
            claimed += member.size
            if not place:  # to pass a member by, all of it is unpacked
                require_unpacked(claimed, size)
            if not member.isfile():
                continue
            if not _is_utf8(member.name):
                shown = member.name.encode("ascii", "backslashreplace").decode()
                problems.append(f"{name} {shown}: its name is not UTF-8")
                continue
            if member.size > LARGEST_MEMBER and not is_tar(Path(member.name)):
                problems.append(f"{name} {member.name[:80]}: it has {member.size:,} bytes; {LARGEST_MEMBER:,} are read")
                continue
            if member.issparse():
                problems.append(f"{name} {member.name[:80]}: it is sparse")
                continue
            folder, _, own = member.name.removeprefix("./").rpartition("/")
            if own.startswith("._"):  # macOS: attributes of the member of that name
                continue
            inner = tar.extractfile(member) if not place or is_tar(Path(own)) else None
            if is_tar(Path(own)) and inner is not None:
                start = (place[0], place[1] + member.offset_data) if place and own.lower().endswith(".tar") else None
                if depth == DEEPEST:
                    raise ValueError(f"shards in one another, more than {DEEPEST} levels")
                yield from _members(inner, start, size, f"{name}/{own}", copies, problems, depth + 1)
                continue
            base, dot, extension = own.partition(".")
            if not dot or not base:
                problems.append(f"{name} {member.name}: its name has no key and extension")
                continue
            key = f"{folder}/{base}" if folder else base
            read: Callable[[], bytes]
            if place:
                read = partial(_read_at, place[0], place[1] + member.offset_data, member.size)
            else:
                assert inner is not None  # isfile() says so
                read = copies.keep(inner, small=not is_picture(own))
            yield key, extension.lower(), read


class Copies:
    """Pictures of compressed shards, or from an address, in a temporary file without a name."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None

    def keep(self, source: IO[bytes], small: bool) -> Callable[[], bytes]:
        """Copy ``source``, into memory if it is small; return its reader."""
        if small:
            return partial(bytes, source.read())
        if self._file is None:
            folder = cache_dir()
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open while its readers live)
        start = self._file.seek(0, 2)
        shutil.copyfileobj(source, self._file)
        self._file.flush()
        return partial(_read_copy, self._file, start, self._file.tell() - start)


def _read_copy(file: IO[bytes], start: int, size: int) -> bytes:
    return os.pread(file.fileno(), size, start)  # threads share the file's position


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # tarfile decodes invalid bytes to surrogates
        return False
    return True


def _read_at(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise OSError(f"{path} ends {size - len(data)} bytes early")
    return data


def pictures_of_sample(members: Members) -> dict[str, Members]:
    """Return the members of each picture of a sample, by what their names have in common after its
    key.

    A sample is one picture, and the result has the key ``""``, unless it has several which have
    captions each: those of ``photo.2024.jpg``, ``photo.2024.txt``, ``photo.2025.jpg``,
    ``photo.2025.txt``, whose key ends at the first dot.
    """
    stems: dict[str, Members] = {}
    for kind, read in members.items():
        stems.setdefault(kind.rpartition(".")[0], {})[kind] = read
    captioned = [
        any(is_picture(f".{kind}") for kind in own) and not all(is_picture(f".{kind}") for kind in own)
        for own in stems.values()
    ]
    return stems if len(stems) > 1 and all(captioned) else {"": members}


def captions_of_sample(where: str, members: Members, columns: Columns, problems: list[str]) -> list[str]:
    """Return the captions of a sample; none are a problem."""
    texts = [kind for kind in members if kind.rpartition(".")[2] in ("txt", "text", "caption")]
    objects = [kind for kind in members if kind.rpartition(".")[2] == "json"]
    kind = next(iter((*objects, *texts) if columns.caption else (*texts, *objects)), "")
    if not kind:
        problems.append(f"{where}: has no caption (.txt, or .json with caption)")
        return []
    try:
        text = members[kind]().decode("utf-8-sig")
        if kind in texts:
            captions: list[str] | None = [line.strip() for line in text.splitlines() if line.strip()]
        else:
            content = parse_json(text)
            if lone := lone_surrogate(text, content):
                problems.append(f"{where}: its .json holds half of a letter ({lone} without its other half)")
                return []
            captions = captions_of(content, columns)
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{where}: its .{kind} cannot be read ({error})")
        return []
    if not captions:
        problems.append(f"{where}: its .{kind} holds no {columns.caption or 'caption'}")
    return captions or []


def captions_of(content: Any, columns: Columns) -> list[str] | None:
    """Return the captions in the JSON of a sample: of an object's key, or all of it; ``None`` if it
    holds none.
    """
    if not isinstance(content, dict):
        return texts_of_value(content)
    names = [columns.caption] if columns.caption else CAPTION_NAMES
    return texts_of_value(next((content[name] for name in names if content.get(name)), None))


def read_huggingface(path: Path, columns: Columns = _CUSTOMARY) -> tuple[list[Record], list[str]]:
    """Return the records and problems of a Hugging Face data set folder.

    It holds the files of ``save_to_disk``, or parquet files. Pictures are a column ``image``
    (bytes, or a path inside the folder), captions a column of texts or lists of texts named
    ``caption``, ``text`` or ``sentences``; other names are as for tables (`choose_columns`). The
    part follows from the folder of the split, or from the file's name
    (``train-00000-of-00002.parquet``). pyarrow reads the tables; pictures are read when they are
    used.
    """
    tables = [(file, _hf_part(file, path)) for file in _hf_files(path)]
    if not tables:
        raise DataError(
            f"{path} is not a Hugging Face data set",
            "it holds neither data-*.arrow with a state.json nor .parquet files",
            "check the path",
        )
    problems: list[str] = []
    records: list[Record] = []
    # A missing column is an error at once: it is the same for all rows, which would be as many
    # problems.
    for file, part in tables:
        table = read_table(file)
        chosen = choose_columns(file, table.column_names, [], columns)
        own = file.relative_to(path).as_posix() if file != path else file.name
        texts = [table.column(name).to_pylist() for name in chosen.captions]
        splits = table.column("split").to_pylist() if "split" in table.column_names else [part] * table.num_rows
        for row, (values, split) in enumerate(zip(zip(*texts, strict=True), splits, strict=True)):
            where = f"{own} row {row}"
            captions = [texts_of_value(value) for value in values if value is not None]
            if not captions or None in captions:
                problems.append(f"{where}: {needs_texts(chosen.captions)}")
                continue
            read = partial(_cell, file, chosen.image, row)
            flat = [text for given in captions for text in given or ()]
            record = make_record(where, f"{own}#{row}", flat, {"split": split}, problems)
            record.read = read
            records.append(record)
    return merge(records, problems), problems


def _hf_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    arrow = []
    # The state names the files that belong to the data set; caches of `datasets` may lie beside
    # them.
    inside = files_below(path)
    for state in (file for file in inside if file.name == "state.json"):
        named = value_of(read_json(state), "_data_files")
        names = [value_of(entry, "filename") for entry in named] if isinstance(named, list) else [None]
        if not all(isinstance(name, str) for name in names):
            raise DataError(
                f"{state} is not what save_to_disk writes",
                "it needs a list '_data_files' of objects with a 'filename'",
                "save it again",
            )
        arrow += [state.parent / str(name) for name in names]
    return arrow or [file for file in inside if file.suffix == ".parquet"]


def _hf_part(file: Path, root: Path) -> str:
    words = [
        *re.split(r"[^a-z]+", file.stem.lower()),
        *(folder.name.lower() for folder in file.parents if root in (folder, *folder.parents)),
    ]
    return next((word for word in words if word in PARTS), "")


@cache
def read_table(file: Path) -> Any:
    """Return the table of a file; arrow files are mapped into memory.

    Cached: every picture is read from it.
    """
    arrow = need("pyarrow", extra="hub", purpose="reading Hugging Face data sets")
    try:
        size = require_regular(file)
        if file.suffix == ".parquet":
            parquet = need("pyarrow.parquet", extra="hub", purpose="reading parquet")
            with parquet.ParquetFile(file) as opened:
                groups = (opened.metadata.row_group(number) for number in range(opened.metadata.num_row_groups))
                require_unpacked(sum(max(group.total_byte_size, 0) for group in groups), size)
                table = opened.read()
        else:
            # save_to_disk writes arrow's stream format, not its file format.
            ipc = need("pyarrow.ipc", extra="hub", purpose="reading arrow files")
            table = ipc.open_stream(arrow.memory_map(str(file))).read_all()
        table.validate(full=True)  # places outside the file would end the process when they are read
        return table
    except (OSError, ValueError, OverflowError, arrow.ArrowException) as error:
        raise DataError(f"cannot read {file}", reason_of(error)[:300], "download it again") from error


def _cell(file: Path, column: str, row: int) -> bytes:
    value = read_table(file).column(column)[row].as_py()
    # datasets' Image feature is {bytes, path}; plain columns hold bytes or a path.
    if isinstance(value, dict) and value.get("bytes"):
        return bytes(value["bytes"])
    if isinstance(value, bytes) and value:
        return value
    name = value.get("path") if isinstance(value, dict) else value
    if not isinstance(name, str) or not name:
        raise OSError("the cell holds neither bytes nor a path")
    return read_bytes(file.parent / name, LARGEST_MEMBER)
