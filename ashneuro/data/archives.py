"""Pictures inside archives and tables: WebDataset shards and Hugging Face data set folders.

Nothing is unpacked to disk, and nothing is unpickled.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from ashneuro.data.readers import PARTS, Record, lone_surrogate, make_record, merge, read_json, value_of
from ashneuro.errors import DataError, need

IMAGES = ("jpg", "jpeg", "png", "webp")
_BRACES = re.compile(r"(.*)\{(\d+)\.\.(\d+)\}(.*)")
_IMAGE_COLUMNS = ("image", "img", "jpg", "png", "image_path", "file_name")
_CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "sentence", "sentences", "raw")


def read_webdataset(path: Path) -> tuple[list[Record], list[str]]:
    """Return the records and problems of WebDataset shards.

    ``path`` is one ``.tar``, a folder of them, or ``shard-{000000..000009}.tar``. Members with the
    same name up to the first dot are one sample: a picture (``.jpg``, ``.png``, ``.webp``) and its
    caption in ``.txt``, or in ``.json`` under ``caption``. Of a plain tar only the offset of each
    picture is kept; the compressed pictures of a ``.tar.gz`` stay in memory. The part follows from
    the shard's name.
    """
    problems: list[str] = []
    records: list[Record] = []
    keys: dict[str, str] = {}
    for shard in _shards(path):
        part = next((PARTS[word] for word in re.split(r"[^a-z]+", shard.name.lower()) if word in PARTS), "")
        for key, members in _samples(shard, problems):
            where = f"{shard.name} {key}"
            if key in keys:
                problems.append(f"{where}: the key is already in {keys[key]}")
                continue
            keys[key] = shard.name
            kind = next((kind for kind in IMAGES if kind in members), "")
            if not kind:
                problems.append(f"{where}: has no picture ({', '.join(IMAGES)}), only {', '.join(sorted(members))}")
            elif (caption := _caption(where, members, problems)) is not None:
                records.append(Record(where, f"{key}.{kind}", [caption], split=part, read=members[kind]))
    return records, problems


def _shards(path: Path) -> list[Path]:
    if match := _BRACES.fullmatch(path.name):
        width = len(match[2])
        return [
            path.with_name(f"{match[1]}{number:0{width}}{match[4]}")
            for number in range(int(match[2]), int(match[3]) + 1)
        ]
    shards = sorted([*path.glob("*.tar"), *path.glob("*.tar.gz"), *path.glob("*.tgz")]) if path.is_dir() else [path]
    if not shards:
        raise DataError(f"{path} has no shards", "there is no .tar, .tar.gz or .tgz in it", "check the path")
    return shards


def _samples(shard: Path, problems: list[str]) -> Iterator[tuple[str, dict[str, Callable[[], bytes]]]]:
    """Iterate over the keys of a shard with a reader per extension.

    WebDataset requires the members of a key to be adjacent; if they are not, it is a problem.
    """
    # A compressed tar can only be streamed: its pictures have no offset to read from later.
    compressed = shard.suffix in (".gz", ".tgz")
    key = ""
    members: dict[str, Callable[[], bytes]] = {}
    done: set[str] = set()
    try:
        with tarfile.open(shard, "r|gz" if compressed else "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                if not _is_utf8(member.name):
                    shown = member.name.encode("ascii", "backslashreplace").decode()
                    problems.append(f"{shard.name} {shown}: its name is not UTF-8")
                    continue
                folder, _, name = member.name.rpartition("/")
                base, dot, extension = name.partition(".")
                if not dot or not base:
                    problems.append(f"{shard.name} {member.name}: its name has no key and extension")
                    continue
                found = f"{folder}/{base}" if folder else base
                if found != key:
                    if members:
                        yield key, members
                    done.add(key)
                    key, members = found, {}
                    if key in done:
                        problems.append(f"{shard.name} {key}: its members are not adjacent")
                extension = extension.lower()
                if extension in members:
                    problems.append(f"{shard.name} {member.name}: is in the shard twice")
                elif compressed:
                    file = tar.extractfile(member)
                    assert file is not None  # isfile() says so
                    members[extension] = partial(bytes, file.read())
                else:
                    members[extension] = partial(_read_at, shard, member.offset_data, member.size)
    except (OSError, EOFError, tarfile.TarError) as error:
        problems.append(f"{shard.name}: {getattr(error, 'strerror', None) or error}")
        members = {}  # the last sample may be truncated
    if members:
        yield key, members


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


def _caption(where: str, members: dict[str, Callable[[], bytes]], problems: list[str]) -> str | None:
    kind = "txt" if "txt" in members else "json"
    if kind not in members:
        problems.append(f"{where}: has no caption (.txt, or .json with caption)")
        return None
    try:
        text: Any = members[kind]().decode("utf-8-sig")
        if kind == "json":
            content = json.loads(text)
            if lone := lone_surrogate(text, content):
                problems.append(f"{where}: its .json holds half of a letter ({lone} without its other half)")
                return None
            text = value_of(content, "caption")
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{where}: its .{kind} cannot be read ({error})")
        return None
    if not isinstance(text, str) or not text.strip():
        problems.append(f"{where}: its .{kind} holds no caption")
        return None
    return text.strip()


def read_huggingface(path: Path) -> tuple[list[Record], list[str]]:
    """Return the records and problems of a Hugging Face data set folder.

    It holds the files of ``save_to_disk``, or parquet files. Pictures are a column ``image``
    (bytes, or a path inside the folder), captions a column of texts or lists of texts named
    ``caption``, ``text`` or ``sentences``. The part follows from the folder of the split, or from
    the file's name (``train-00000-of-00002.parquet``). pyarrow reads the tables; pictures are read
    when they are used.
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
        table = _table(file)
        image = next((name for name in _IMAGE_COLUMNS if name in table.column_names), "")
        caption = next((name for name in _CAPTION_COLUMNS if name in table.column_names), "")
        if not image or not caption:
            raise DataError(
                f"{file} needs a column of pictures and one of captions",
                f"its columns are {', '.join(table.column_names)}; "
                f"known are {', '.join(_IMAGE_COLUMNS)} and {', '.join(_CAPTION_COLUMNS)}",
                "rename_column() does it",
            )
        own = file.relative_to(path).as_posix() if file != path else file.name
        texts = table.column(caption).to_pylist()
        splits = table.column("split").to_pylist() if "split" in table.column_names else [part] * len(texts)
        for row, (value, split) in enumerate(zip(texts, splits, strict=True)):
            where = f"{own} row {row}"
            captions = [value] if isinstance(value, str) else value
            if (
                not isinstance(captions, list)
                or not captions
                or not all(isinstance(text, str) and text.strip() for text in captions)
            ):
                problems.append(f"{where}: needs a {caption} (a text, or a list of texts)")
                continue
            read = partial(_cell, file, image, row)
            record = make_record(where, f"{own}#{row}", [text.strip() for text in captions], {"split": split}, problems)
            record.read = read
            records.append(record)
    return merge(records, problems), problems


def _hf_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    arrow = []
    # The state names the files that belong to the data set; caches of `datasets` may lie beside
    # them.
    for state in sorted(path.rglob("state.json")):
        named = value_of(read_json(state), "_data_files")
        names = [value_of(entry, "filename") for entry in named] if isinstance(named, list) else [None]
        if not all(isinstance(name, str) for name in names):
            raise DataError(
                f"{state} is not what save_to_disk writes",
                "it needs a list '_data_files' of objects with a 'filename'",
                "save it again",
            )
        arrow += [state.parent / str(name) for name in names]
    return arrow or sorted(path.rglob("*.parquet"))


def _hf_part(file: Path, root: Path) -> str:
    words = [
        *re.split(r"[^a-z]+", file.stem.lower()),
        *(folder.name.lower() for folder in file.parents if root in (folder, *folder.parents)),
    ]
    return next((word for word in words if word in PARTS), "")


@cache
def _table(file: Path) -> Any:
    """Return the table of a file; arrow files are mapped into memory.

    Cached: every picture is read from it.
    """
    arrow = need("pyarrow", extra="hub", purpose="reading Hugging Face data sets")
    try:
        if file.suffix == ".parquet":
            return need("pyarrow.parquet", extra="hub", purpose="reading parquet").read_table(file)
        # save_to_disk writes arrow's stream format, not its file format.
        ipc = need("pyarrow.ipc", extra="hub", purpose="reading arrow files")
        return ipc.open_stream(arrow.memory_map(str(file))).read_all()
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"cannot read {file}", str(error).splitlines()[0], "download it again") from error


def _cell(file: Path, column: str, row: int) -> bytes:
    value = _table(file).column(column)[row].as_py()
    # datasets' Image feature is {bytes, path}; plain columns hold bytes or a path.
    if isinstance(value, dict) and value.get("bytes"):
        return bytes(value["bytes"])
    if isinstance(value, bytes) and value:
        return value
    name = value.get("path") if isinstance(value, dict) else value
    if not isinstance(name, str) or not name:
        raise OSError("the cell holds neither bytes nor a path")
    return (file.parent / name).read_bytes()
