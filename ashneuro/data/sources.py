"""Data sets by name or path, loaded as pairs in three parts."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ashneuro.config import DataConfig
from ashneuro.data.emoji import load_emoji
from ashneuro.data.fetch import TUXPAINT, fetched_folder
from ashneuro.data.formats import CAPTIONS, read_captions
from ashneuro.data.images import decode_image, header_problem, read_image
from ashneuro.data.pairs import Pair, Splits
from ashneuro.data.readers import READERS, Record, report
from ashneuro.data.splits import split_by_caption
from ashneuro.errors import ConfigError, DataError

__all__ = ["SOURCES", "Source", "Splits", "check_images", "load_splits"]


@dataclass(frozen=True)
class Source:
    """A named data set; ``splits`` are the values of ``data.split`` that it has."""

    about: str
    licence: str
    splits: tuple[str, ...]
    load: Callable[[DataConfig], Splits]


def load_splits(config: DataConfig) -> Splits:
    """Return the pairs of ``config.source``, a named data set or the path of a caption file.

    Raises:
        ConfigError: there is no such data set or file, or it has no such split or style.
        DataError: captions or images cannot be read; names all problems.
    """
    if source := SOURCES.get(config.source):
        return source.load(config)
    path = Path(config.source).expanduser()
    if config.format or path.is_file():
        return load_file(config, path)
    if path.suffix.lower() in READERS or path.exists():
        why = "it is a folder" if path.is_dir() else "there is no such file"
        file = f"give the path of a caption file ({', '.join(READERS)})"
        do = f"{file}, or set data.format to one of {', '.join(CAPTIONS)}"
        raise ConfigError(f"data.source = {config.source!r}", why, do)
    near = difflib.get_close_matches(config.source, SOURCES, n=1)
    raise ConfigError(
        f"data.source = {config.source!r}",
        f"there are {', '.join(SOURCES)}, and no file of that name" + (f" (did you mean {near[0]}?)" if near else ""),
        f"name a data set, or the path of a caption file ({', '.join(READERS)})",
    )


def load_file(config: DataConfig, path: Path) -> Splits:
    """Return the pairs of a caption file or folder.

    Images are in ``config.images``; default: the folder itself, or the folder of the file.
    """
    folder = Path(config.images).expanduser() if config.images else path if path.is_dir() else path.parent
    if not folder.is_dir():
        raise ConfigError(
            f"data.images = {config.images!r}",
            "there is no such folder",
            "give the folder that the captions' paths start from",
        )
    records, problems = read_captions(path, config.format)
    for record in records:
        if record.read is None and (problem := header_problem(folder / record.image)):
            problems.append(f"{record.where} ({record.image}): {problem}")
    report(path, problems)
    if not records:
        raise DataError(f"{path} has no pairs", "it holds no image with a caption", "check the path")
    if config.styles:
        known = {record.style for record in records}
        if wrong := sorted(set(config.styles) - known):
            there = ", ".join(sorted(known - {""})) or "none"
            raise ConfigError(
                f"data.styles: no style {', '.join(map(repr, wrong))}", f"{path} has: {there}", "correct data.styles"
            )
        records = [record for record in records if record.style in config.styles]
    return _split(config, path, records, _pairs(records, folder))


def check_images(pairs: Sequence[Pair]) -> None:
    """Decode every image to its end; loading checks headers only.

    Raises:
        DataError: images cannot be decoded; names all of them.
    """
    problems = []
    for pair in pairs:
        try:
            pair.load()
        except DataError as error:
            problems.append(f"{pair.key}: {error.why}")
    report(f"{len(pairs)} images", problems)


def _load_tuxpaint(config: DataConfig) -> Splits:
    folder = fetched_folder("tuxpaint")
    splits = load_file(replace(config, images=str(folder)), folder / "captions.json")
    return replace(
        splits, name=splits.name.replace("captions.json", "tuxpaint"), notes=(*splits.notes, *TUXPAINT.notes)
    )


SOURCES: dict[str, Source] = {
    "emoji": Source(
        "emoji in six drawing styles, with names and keywords; embedded",
        "Apache-2.0, MIT, CC-BY-4.0",
        ("style", "concept"),
        load_emoji,
    ),
    "tuxpaint": Source(TUXPAINT.about, TUXPAINT.licence, ("random",), _load_tuxpaint),
}


def _pairs(records: list[Record], folder: Path) -> list[Pair]:
    # Without a concept column, images with equal captions are one concept: they would be false
    # negatives.
    same: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for record in records:
        same[tuple(sorted(record.captions))].append(record.image)
    return [
        Pair(
            key=record.image,
            captions=tuple(record.captions),
            concept=record.concept or same[tuple(sorted(record.captions))][0],
            # Images are decoded when they are used: a data set need not fit into memory.
            load=partial(decode_image, record.read, record.image)
            if record.read
            else partial(read_image, folder / record.image),
            labels=record.labels,
            style=record.style,
        )
        for record in records
    ]


def _split(config: DataConfig, path: Path, records: list[Record], pairs: list[Pair]) -> Splits:
    if config.split == "random":
        note = "Pairs that share a caption are in the same part: test captions are unseen."
        return Splits(*split_by_caption(pairs), f"{path.name}, random split by caption", (note,))
    if config.split != "file":
        raise ConfigError(
            f"data.split = {config.split!r}",
            "that split belongs to the emoji",
            "set data.split = 'file' (the file's own) or 'random' (80/10/10)",
        )
    unmarked = [f"{record.where} ({record.image}): has no split" for record in records if not record.split]
    if len(unmarked) == len(records):
        raise ConfigError(
            "data.split = 'file'",
            f"{path} has no split column",
            "add one (train, validation, test), or set data.split = 'random'",
        )
    report(path, unmarked)
    parts: dict[str, list[Pair]] = {"train": [], "validation": [], "test": []}
    for record, pair in zip(records, pairs, strict=True):
        parts[record.split].append(pair)
    if empty := [name for name in ("train", "test") if not parts[name]]:
        raise DataError(
            f"{path}: no pair for {' and '.join(empty)}",
            "no split column says so",
            "mark some, or set data.split = 'random'",
        )
    return Splits(
        tuple(parts["train"]), tuple(parts["validation"]), tuple(parts["test"]), f"{path.name}, its own split"
    )
