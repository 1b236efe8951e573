"""Questions derived from image–text pairs: every answer follows from a label or a caption by a
rule.

They are not VQA v2, SNLI-VE or NLVR2. A question stays in the part of its pictures, so the parts
are as disjoint as those of the pairs. Random choices come from salted hashes: the same pairs give
the same questions.

vqa
    *category* and *subcategory*: the labels ``group`` and ``subgroup``. *yes/no*: "is this about
    KEYWORD?". For each keyword of a picture there is one "no" on a picture whose whole group never
    has that keyword, so that the question alone does not give the answer away.
entailment
    Two pictures of one part whose names share no word with each other's captions; half of the time
    from one subgroup. *entailment*: each with its own name. *contradiction*: each with the other's.
    The name alone does not give the answer away. There are two labels, because names do not tell
    what is neutral.
nlvr2
    Two pictures and a sentence about groups, once on pictures where it is true and once where it is
    false: "both pictures show A", "exactly one picture shows A", "at least one picture shows A",
    "the left picture shows A and the right one B".
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from ashneuro.data.pairs import Pair, Question, Questions, Splits
from ashneuro.data.splits import hash_order
from ashneuro.data.tokens import canonical, split_words
from ashneuro.errors import DataError

Item = TypeVar("Item")

PER_PICTURE = {"vqa": 4, "entailment": 4, "nlvr2": 24}
"""Questions per picture where the settings do not say."""

NOTE = "Questions are derived from labels and captions: this is not VQA v2, SNLI-VE or NLVR2."


def derive_questions(task: str, splits: Splits, per_picture: int = 0) -> Questions:
    """Return questions of ``task`` about the pictures of ``splits``.

    Args:
        task: ``"vqa"``, ``"entailment"`` or ``"nlvr2"``.
        per_picture: maximum number of questions per picture; for NLVR2, sentences per picture. 0:
            the task's number in `PER_PICTURE`.

    Raises:
        DataError: the pairs have no labels ``group`` and ``subgroup``, which VQA and NLVR2 need.
    """
    make = {"vqa": _vqa, "entailment": _entailment, "nlvr2": _nlvr2}[task]
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    if task != "entailment" and not any("group" in pair.labels for pair in splits.train):
        raise DataError(
            f"no {task} questions can be derived from {splits.name}",
            "they follow from the labels 'group' and 'subgroup', and its pairs have none",
            f"set tasks.{task}.format and the files of a task's own data, or use data.source = 'emoji'",
        )
    made = {name: tuple(make(pairs, name, per_picture or PER_PICTURE[task])) for name, pairs in parts.items()}
    pictures = {pair.key: pair.load for pairs in parts.values() for pair in pairs}
    name = f"{splits.name}; derived {task} questions"
    return Questions(task, made["train"], made["validation"], made["test"], pictures, name, (*splits.notes, NOTE))


def keywords(pair: Pair) -> tuple[str, ...]:
    """Return the keywords that the captions after the first list: ``"cheerful, cheery, face"``."""
    return tuple(
        dict.fromkeys(
            canonical(word.strip().lower()) for text in pair.captions[1:] for word in text.split(",") if word.strip()
        )
    )


def _vqa(pairs: Sequence[Pair], part: str, per_picture: int) -> Iterator[Question]:
    by_group: dict[str, list[Pair]] = defaultdict(list)
    words_of: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        by_group[_label(pair, "group")].append(pair)
        words_of[_label(pair, "group")].update(keywords(pair), split_words(pair.captions[0]))
    never = {
        word: [group for group in sorted(by_group) if group and word not in words_of[group]]
        for word in sorted(set().union(*words_of.values()))
    }
    asked: set[tuple[str, str]] = set()
    for pair in pairs:
        if not _label(pair, "group"):
            continue
        yield Question(
            f"{pair.key}?category",
            (pair.key,),
            "what category is this?",
            (_label(pair, "group"),),
            "category",
            split=part,
        )
        if _label(pair, "subgroup"):
            text = "what subcategory is this?"
            yield Question(
                f"{pair.key}?subcategory", (pair.key,), text, (_label(pair, "subgroup"),), "subcategory", split=part
            )
        # Half: every keyword gives two questions, a "yes" here and a "no" on another picture.
        for word in hash_order(keywords(pair), f"vqa/{pair.key}")[: max(1, per_picture // 2)]:
            others = [group for group in never[word] if group != _label(pair, "group")]
            if not others:
                continue
            group = _pick(others, f"{pair.key}/{word}/group")
            other = _pick(by_group[group], f"{pair.key}/{word}/picture")
            if (word, other.key) in asked:
                continue
            asked.add((word, other.key))
            text = f"is this about {word}?"
            yield Question(f"{pair.key}?{word}", (pair.key,), text, ("yes",), "yes/no", split=part)
            yield Question(f"{other.key}?{word} of {pair.key}", (other.key,), text, ("no",), "yes/no", split=part)


def _entailment(pairs: Sequence[Pair], part: str, per_picture: int) -> Iterator[Question]:
    siblings: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        siblings[_label(pair, "subgroup")].append(pair)
    words = {pair.key: {word for caption in pair.captions for word in split_words(caption)} for pair in pairs}
    for pair in pairs:
        for turn in range(max(1, per_picture // 4)):  # a turn gives four questions
            salt = f"{pair.key}/{turn}"
            near = _label(pair, "subgroup") and _hash(f"{salt}/near") % 2
            pool = siblings[_label(pair, "subgroup")] if near else pairs
            other = _unrelated(pair, pool, words, salt) or _unrelated(pair, pairs, words, f"{salt}/far")
            if other is None:
                continue
            # Both names on both pictures: each name is true as often as it is false.
            for number, (seen, said) in enumerate(((pair, pair), (other, other), (pair, other), (other, pair))):
                answer = "entailment" if seen is said else "contradiction"
                yield Question(
                    f"{pair.key}/{turn}/{number}", (seen.key,), f"this is {said.captions[0]}", (answer,), split=part
                )


def _unrelated(pair: Pair, pool: Sequence[Pair], words: Mapping[str, set[str]], salt: str) -> Pair | None:
    """Return a pair of ``pool``, chosen by hash, such that no name shares a word with the other's
    captions.

    Up to 20 candidates are tried; ``None`` if none fits.
    """
    for attempt in range(20):
        other = _pick(pool, f"{salt}/{attempt}")
        apart = not words[pair.key] & set(split_words(other.captions[0])) and not words[other.key] & set(
            split_words(pair.captions[0])
        )
        if other.concept != pair.concept and apart:
            return other
    return None


def _nlvr2(pairs: Sequence[Pair], part: str, per_picture: int) -> Iterator[Question]:
    by_group: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if _label(pair, "group"):
            by_group[_label(pair, "group")].append(pair)
    groups = sorted(by_group)
    if len(groups) < 2:
        return
    for number in range(len(pairs) * per_picture // 4):  # a sentence is used twice, with two pictures each
        salt = f"{part}/{number}"
        first = _pick(groups, f"{salt}/first")
        second, third = (
            _pick([group for group in groups if group != first], f"{salt}/{name}") for name in ("second", "third")
        )
        kind, text, true, false = [
            ("both", f"both pictures show {first}", (first, first), (first, second)),
            ("exactly one", f"exactly one picture shows {first}", (first, second), (first, first)),
            ("at least one", f"at least one picture shows {first}", (first, second), (second, third)),
            (
                "left and right",
                f"the left picture shows {first} and the right one {second}",
                (first, second),
                (second, first),
            ),
        ][number % 4]
        for truth, wanted in (("true", true), ("false", false)):
            # Sides are swapped at random, unless the sentence is about sides.
            swapped = kind != "left and right" and _hash(f"{salt}/{truth}/side") % 2
            chosen = tuple(_pick(by_group[group], f"{salt}/{truth}/{side}").key for side, group in enumerate(wanted))
            pictures = chosen[::-1] if swapped else chosen
            yield Question(f"{part}-{number}-{truth}", pictures, text, (truth,), kind, f"{part}-{number}", part)


def _label(pair: Pair, name: str) -> str:
    return str(pair.labels.get(name, ""))


def _pick(items: Sequence[Item], salt: str) -> Item:
    return items[_hash(salt) % len(items)]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
