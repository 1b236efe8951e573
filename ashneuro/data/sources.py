"""Data sets by name or path, loaded as pairs in three parts."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ashneuro.config import DataConfig
from ashneuro.data.broken import broken_pictures, count_left_out
from ashneuro.data.columns import Columns
from ashneuro.data.emoji import load_emoji
from ashneuro.data.fetch import TUXPAINT, fetched_folder
from ashneuro.data.formats import read_captions
from ashneuro.data.images import decode_image, header_problem, read_image
from ashneuro.data.pairs import Pair, Splits
from ashneuro.data.picture_folders import find_picture
from ashneuro.data.readers import Record, place, report
from ashneuro.data.shards import is_streamed, load_streamed
from ashneuro.data.splits import split_by_caption, split_by_picture
from ashneuro.errors import ConfigError, DataError
from ashneuro.files import user_path

__all__ = ["SOURCES", "Source", "Splits", "check_images", "load_splits"]


@dataclass(frozen=True)
class Source:
    """A named data set; ``splits`` are the values of ``data.split`` that it has."""

    about: str
    licence: str
    splits: tuple[str, ...]
    load: Callable[[DataConfig], Splits]


class NoParts(ConfigError):
    """A file does not say which part its pairs are of."""


class EmptyPart(DataError):
    """A file says so, and has no pair for training or none for the test."""


def load_splits(config: DataConfig) -> Splits:
    """Return the pairs of ``config.source``: a named data set, the path of a caption file, or
    shards that are read as a stream.

    Raises:
        ConfigError: there is no such data set or file, or it has no such split or style.
        DataError: captions or images cannot be read; names all problems.
    """
    if source := SOURCES.get(config.source):
        return source.load(config)
    if is_streamed(config):
        return load_streamed(config)
    for name in ("validation", "test", "epoch_pairs"):
        if getattr(config, name):
            raise ConfigError(
                f"data.{name} = {getattr(config, name)!r}",
                "it belongs to shards that are read as a stream; other data have parts of their own",
                "set data.stream = true, or leave it out",
            )
    path = user_path(config.source)
    if path.exists() or config.format or "{" in path.name:
        return load_file(config, path)
    near = difflib.get_close_matches(config.source, SOURCES, n=1)
    raise ConfigError(
        f"data.source = {config.source!r}",
        f"it is neither a data set ({', '.join(SOURCES)}) nor a file or folder"
        + (f" (did you mean {near[0]}?)" if near else ""),
        "name a data set, or the path of a caption file or a folder of pictures (ashneuro data formats)",
    )


def load_file(config: DataConfig, path: Path) -> Splits:
    """Return the pairs of a caption file or folder.

    Images are in ``config.images``; default: the folder itself, or the folder of the file. With
    ``config.skip_broken`` every image is decoded, and what cannot be read is left out.
    """
    folder = user_path(config.images) if config.images else path if path.is_dir() else path.parent
    if not folder.is_dir():
        raise ConfigError(
            f"data.images = {config.images!r}",
            "there is no such folder",
            "give the folder that the captions' paths start from",
        )
    records, problems = read_captions(path, config.format, Columns(config.image_column, config.caption_column))
    files = {record.image: find_picture(folder, record.image) for record in records if record.read is None}
    broken = _broken(records, files, config.skip_broken)
    problems += [
        f"{place(record.where, record.image)}: {broken[record.image]}" for record in records if record.image in broken
    ]
    if not config.skip_broken:
        report(path, problems)
    found, records = len(records), [record for record in records if record.image not in broken]
    if not records:
        raise DataError(
            f"{path} has no pairs",
            f"all of its {found} are broken, such as {problems[0]}" if found else "it holds no image with a caption",
            "check the path",
        )
    if config.styles:
        known = {record.style for record in records}
        if wrong := sorted(set(config.styles) - known):
            there = ", ".join(sorted(known - {""})) or "none"
            raise ConfigError(
                f"data.styles: no style {', '.join(map(repr, wrong))}",
                f"{path} has: {there}",
                "correct data.styles; [] takes all",
            )
        records = [record for record in records if record.style in config.styles]
    splits = _split(config, path, records, _pairs(records, files))
    if not problems:
        return splits
    return replace(splits, notes=(*splits.notes, count_left_out(tuple(problems))), left_out=tuple(problems))


def _broken(records: Sequence[Record], files: Mapping[str, Path], decode: bool) -> dict[str, str]:
    """Return why pictures cannot be read, by name: from the headers of files, or all decoded."""
    web = "it is an address: download the pictures, for instance with img2dataset"
    broken = {name: web for name in files if name.startswith(("http://", "https://"))}
    if decode:
        whole = {record.image: record.read or files[record.image] for record in records if record.image not in broken}
        return broken | broken_pictures(whole)
    return broken | {name: why for name, file in files.items() if name not in broken and (why := header_problem(file))}


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


def _pairs(records: list[Record], files: Mapping[str, Path]) -> list[Pair]:
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
            else partial(read_image, files[record.image]),
            labels=record.labels,
            style=record.style,
        )
        for record in records
    ]


def _split(config: DataConfig, path: Path, records: list[Record], pairs: list[Pair]) -> Splits:
    if config.split == "auto":
        if any(record.split for record in records):
            return _split(replace(config, split="file"), path, records, pairs)
        try:
            return _split(replace(config, split="random"), path, records, pairs)
        except DataError:  # too few captions, or some that too many pictures share
            return _split(replace(config, split="picture"), path, records, pairs)
    if config.split == "random":
        note = "Pairs that share a caption are in the same part: test captions are unseen."
        return Splits(*split_by_caption(pairs), f"{path.name}, random split by caption", (note,))
    if config.split == "picture":
        note = "Parts share captions: those of test pictures may have been learned from others."
        return Splits(*split_by_picture(pairs), f"{path.name}, random split by picture", (note,))
    if config.split != "file":
        raise ConfigError(
            f"data.split = {config.split!r}",
            "that split belongs to the emoji",
            "set data.split = 'auto', or 'file' (the file's own), 'random' (80/10/10 by caption), 'picture' (80/10/10)",
        )
    unmarked = [f"{record.where} ({record.image}): has no split" for record in records if not record.split]
    if len(unmarked) == len(records):
        raise NoParts(
            "data.split = 'file'",
            f"{path} has no split column, and no folders named after parts",
            "add one (train, validation, test), or set data.split = 'random' or 'auto'",
        )
    report(path, unmarked)
    parts: dict[str, list[Pair]] = {"train": [], "validation": [], "test": []}
    for record, pair in zip(records, pairs, strict=True):
        parts[record.split].append(pair)
    if empty := [name for name in ("train", "test") if not parts[name]]:
        raise EmptyPart(
            f"{path}: no pair for {' and '.join(empty)}",
            "no split column says so",
            "mark some, or set data.split = 'random'",
        )
    return Splits(
        tuple(parts["train"]), tuple(parts["validation"]), tuple(parts["test"]), f"{path.name}, its own split"
    )
