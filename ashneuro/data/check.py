"""Check of a whole data set: files, captions or questions, and every picture, decoded to its
end.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ashneuro.data.columns import Columns
from ashneuro.data.formats import CAPTIONS, CLIPS, FORMATS, QUESTIONS, read_captions, read_questions
from ashneuro.data.images import LARGEST_FILE, decode_image, is_large, reason
from ashneuro.data.learnable import Learnable, count_learnable
from ashneuro.data.pairs import Question
from ashneuro.data.picture_folders import find_picture
from ashneuro.data.pieces import choose_words
from ashneuro.data.question_files import picture_path
from ashneuro.data.readers import Record, place
from ashneuro.data.recognise import recognise
from ashneuro.errors import ConfigError, DataError
from ashneuro.files import read_bytes

ONE_COLOUR = 3
"""Largest difference within a channel of a picture that counts as all of one colour; a JPEG's."""

Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class PartCheck:
    """Counts of one part.

    Args:
        images: number of distinct pictures that are named.
        readable: number of those that decode.
        texts: number of captions or questions.
        kinds: number of texts by kind: answer type, label, or captions per image.
    """

    images: int
    readable: int
    texts: int
    kinds: Mapping[str, int]


@dataclass(frozen=True)
class DataCheck:
    """Result of `check`.

    Args:
        parts: counts by part, in the order train, validation, test; ``"-"`` where the file names
            none.
        problems: one line each.
        left_out: what ``skip_broken`` leaves out, one line each; not among the problems.
        learnable: counts of what will not be learned from it; no problems either.
        reduced: names of pictures that are so large that they are read reduced.
    """

    path: str
    format: str
    parts: Mapping[str, PartCheck]
    problems: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    learnable: Learnable | None = None
    reduced: tuple[str, ...] = ()


def check(
    path: Path,
    format: str = "",
    images: Path | None = None,
    tick: Tick | None = None,
    *,
    columns: Columns | None = None,
    skip_broken: bool = False,
    tokeniser: str = "auto",
    max_words: int = 0,
) -> DataCheck:
    """Return the counts and all problems of a data set.

    Args:
        path: file or folder.
        format: one of `FORMATS` without ``clips`` (see `check_clips`); empty: recognised from the
            content.
        images: folder of the pictures; default: that of the file. Not used by formats with pictures
            inside.
        tick: called with (pictures read, pictures in all).
        columns: names of the columns with pictures and captions.
        skip_broken: entries and pictures that cannot be read are no problems, but left out.
        tokeniser, max_words: of ``[data]``, with which a run would learn from it.

    Raises:
        ConfigError: there is no such format, or no such image folder.
        DataError: the file cannot be read at all.
    """
    if not format:
        found = recognise(path)
        path, format = found.path, found.format
    if format not in FORMATS:
        raise ConfigError(f"--format {format}", f"there are {', '.join(FORMATS)}", "choose one of these")
    if format in CLIPS:
        raise ConfigError(f"--format {format}", "clips have counts of their own", "use check_clips")
    folder = images or (path if path.is_dir() else path.parent)
    if not folder.is_dir():
        raise ConfigError(
            f"--images {folder}", "there is no such folder", "give the folder that the pictures' names start from"
        )
    pictures: dict[str, tuple[str, Callable[[], bytes]]] = {}  # by name: where it is first named, and its bytes
    parts: dict[str, set[str]] = defaultdict(set)
    if format in CAPTIONS:
        records, unread = read_captions(path, format, columns)
        for record in records:
            read = record.read or partial(read_bytes, find_picture(folder, record.image), LARGEST_FILE)
            pictures.setdefault(record.image, (record.where, read))
            parts[record.split or "-"].add(record.image)
        kinds, texts = _of_captions(records), Counter[str]()
        for record in records:
            texts[record.split or "-"] += len(record.captions)
        owned = [(record.image, text) for record in records for text in record.captions]
        garbled = _garbled((record.where, text) for record in records for text in record.captions)
    else:
        _, questions, unread = read_questions(path, format)
        for question in questions:
            for name in question.images:
                read = partial(read_bytes, picture_path(folder, name), LARGEST_FILE)
                pictures.setdefault(name, (question.where, read))
            parts[question.split or "-"] |= set(question.images)
        kinds, texts = _of_questions(questions), Counter(question.split or "-" for question in questions)
        owned = [("", question.text) for question in questions]  # many pictures have a question in common
        garbled = _garbled((question.where, question.text) for question in questions)
    empty = [] if parts or unread else [f"{path.name}: holds no picture with a text"]
    undecodable: list[str] = []
    reduced: list[str] = []
    digests, one_colour = _decode(pictures, undecodable, reduced, tick or (lambda done, total: None))
    leaks = _leaks(parts, digests)
    if skip_broken:
        problems, left_out = [*garbled, *empty, *leaks], [*unread, *undecodable]
    else:
        problems, left_out = [*unread, *garbled, *empty, *undecodable, *leaks], []
    words = choose_words(tokeniser, [text for _, text in owned])
    learnable = count_learnable(
        [text for _, text in owned], [owner for owner, _ in owned], words, max_words, one_colour
    )
    order = [*(name for name in ("train", "validation", "test") if name in parts), *(["-"] if "-" in parts else [])]
    counts = {
        name: PartCheck(
            len(parts[name]), sum(picture in digests for picture in parts[name]), texts[name], kinds.get(name, {})
        )
        for name in order
    }
    return DataCheck(str(path), format, counts, tuple(problems), tuple(left_out), learnable, tuple(reduced))


def about(format: str) -> str:
    """Return the short description of a format."""
    return CAPTIONS[format].about if format in CAPTIONS else (QUESTIONS | CLIPS)[format]


def _of_captions(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        kinds[record.split or "-"][f"images with {len(record.captions)} caption(s)"] += 1
    return {part: dict(sorted(counts.items())) for part, counts in kinds.items()}


def _of_questions(questions: Sequence[Question]) -> dict[str, dict[str, int]]:
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions:
        label = question.kind or (question.answers[0] if len(question.answers) == 1 else "")
        kinds[question.split or "-"][label or ("answered" if question.answers else "without answers")] += 1
    return {part: dict(counts.most_common(8)) for part, counts in kinds.items()}


def _garbled(texts: Iterable[tuple[str, str]]) -> list[str]:
    """Return a problem for each text with lost letters, control characters, or the wrong
    encoding.
    """
    problems = []
    for where, text in texts:
        if "\ufffd" in text:
            problems.append(f"{where}: {text[:60]!r} has letters that were lost (U+FFFD)")
            continue
        if any(ord(letter) < 32 and letter not in "\t\n\r" for letter in text):
            problems.append(f"{where}: {text[:60]!r} has control characters")
            continue
        # Text that is valid UTF-8 after this round trip, and different, was almost surely decoded
        # wrongly.
        try:
            mended = text.encode("windows-1252").decode("utf-8")
        except (UnicodeEncodeError, UnicodeDecodeError):
            continue
        if mended != text:
            problems.append(f"{where}: {text[:60]!r} is UTF-8 that was read as Windows-1252: {mended[:60]!r} perhaps")
    return problems


def _decode(
    pictures: Mapping[str, tuple[str, Callable[[], bytes]]], problems: list[str], reduced: list[str], tick: Tick
) -> tuple[dict[str, bytes], int]:
    """Return the digest of every picture that decodes to its end, and the number of those of one
    colour; the others are problems, and large ones are ``reduced``.
    """
    digests, one_colour = {}, 0
    for number, (name, (where, read)) in enumerate(pictures.items(), start=1):
        try:
            data = read()
            pixels = decode_image(lambda data=data: data, name)  # type: ignore[misc]
            one_colour += bool(np.ptp(pixels.reshape(-1, 3), axis=0).max() <= ONE_COLOUR)
            digests[name] = hashlib.sha256(data).digest()
            if is_large(data):
                reduced.append(name)
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte
            problems.append(
                f"{where} ({name!r}): {reason(error)}" if "\0" in name else f"{place(where, name)}: {reason(error)}"
            )
        except DataError as error:
            problems.append(f"{place(where, name)}: {error.why}")
        tick(number, len(pictures))
    return digests, one_colour


def _leaks(parts: Mapping[str, set[str]], digests: Mapping[str, bytes]) -> list[str]:
    """Return a problem for each validation or test picture that is also a training picture, by name
    or bytes.
    """
    train = {digests[name]: name for name in sorted(parts.get("train", ())) if name in digests}
    problems = []
    for part in ("validation", "test"):
        for name in sorted(parts.get(part, ())):
            if name in parts.get("train", ()):
                problems.append(f"{name}: is in the {part} part and in the training part")
            elif name in digests and (twin := train.get(digests[name])):
                problems.append(f"{name}: a {part} picture that is byte for byte the training picture {twin}")
    return problems
