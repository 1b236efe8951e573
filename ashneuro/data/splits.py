"""Shuffles and splits that are the same on every machine."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ashneuro.data.pairs import Pair
from ashneuro.errors import DataError


def hash_order(names: Iterable[str], salt: str) -> list[str]:
    """Return the names in the order of their salted SHA-256.

    Unlike a random generator's, this order cannot change between versions of a library.
    """
    return sorted(names, key=lambda name: hashlib.sha256(f"{salt}/{name}".encode()).digest())


def split_by_caption(
    pairs: Sequence[Pair], salt: str = "random"
) -> tuple[tuple[Pair, ...], tuple[Pair, ...], tuple[Pair, ...]]:
    """Return train, validation and test: about 80, 10 and 10 % of the pairs, in their order.

    Pairs that share a concept, or a caption up to case and spaces, are in one part, transitively.
    Such groups fill the test set and then validation in the order of their hash; a group that would
    overfill a part goes to the next one.

    Raises:
        DataError: there are fewer than three groups, or all of them are too large for a part.
    """
    groups = connected(
        [
            [f"concept {pair.concept}", *(f"caption {normalise_caption(caption)}" for caption in pair.captions)]
            for pair in pairs
        ]
    )
    if len(groups) < 3:
        raise DataError(
            f"cannot split {len(pairs)} pair(s) at random",
            f"they form {len(groups)} group(s) with captions of their own, and each of the three parts needs one",
            "set data.split = 'picture', which lets parts share captions; or 'file', with a split for each pair",
        )
    quota = max(1, round(len(pairs) / 10))  # pairs of test, and of validation
    # A group is named by its smallest key, so that the split does not depend on the order of the
    # pairs.
    names = {min(pairs[index].key for index in group): group for group in groups}
    part = ["train"] * len(pairs)
    filled = {"test": 0, "validation": 0}
    for name in hash_order(names, salt):
        size = len(names[name])
        for chosen in filled:
            if filled[chosen] + size <= quota:
                filled[chosen] += size
                for index in names[name]:
                    part[index] = chosen
                break
    for chosen, count in filled.items():
        if not count:
            raise DataError(
                f"cannot split {len(pairs)} pairs at random",
                f"every group of pairs with common captions is larger than the {quota} that fit into the {chosen} part",
                "set data.split = 'picture', which lets parts share captions; or 'file', with a split for each pair",
            )
    train, validation, test = (
        tuple(pair for pair, where in zip(pairs, part, strict=True) if where == wanted)
        for wanted in ("train", "validation", "test")
    )
    return train, validation, test


def split_by_picture(
    pairs: Sequence[Pair], salt: str = "random"
) -> tuple[tuple[Pair, ...], tuple[Pair, ...], tuple[Pair, ...]]:
    """Return train, validation and test: about 80, 10 and 10 % of the pairs, in their order.

    The same caption can be in several parts, as names of classes are.

    Raises:
        DataError: there are fewer than three pairs.
    """
    if len(pairs) < 3:
        raise DataError(
            f"cannot split {len(pairs)} pair(s)", "each of the three parts needs one", "add pictures with captions"
        )
    quota = max(1, round(len(pairs) / 10))
    order = hash_order((pair.key for pair in pairs), salt)
    test, validation = set(order[:quota]), set(order[quota : 2 * quota])
    return (
        tuple(pair for pair in pairs if pair.key not in test | validation),
        tuple(pair for pair in pairs if pair.key in validation),
        tuple(pair for pair in pairs if pair.key in test),
    )


def choose_labelled(pairs: Sequence[Pair], share: float, seed: int) -> list[int]:
    """Return the numbers of the ``share`` of pairs that are labelled, in their order.

    Stratified by concept: one pair of every concept is chosen before a second of any, concepts and
    their pairs in the order of a hash with ``seed``. At least one pair is chosen.
    """
    by_concept: dict[str, list[int]] = defaultdict(list)
    numbers = {pair.key: number for number, pair in enumerate(pairs)}
    for key in hash_order(numbers, f"labelled/{seed}"):
        by_concept[pairs[numbers[key]].concept].append(numbers[key])
    concepts = [by_concept[name] for name in hash_order(by_concept, f"labelled/{seed}")]
    rounds = max(map(len, concepts))
    ordered = [own[turn] for turn in range(rounds) for own in concepts if turn < len(own)]
    return sorted(ordered[: max(1, round(share * len(pairs)))])


def connected(items: Sequence[Iterable[str]]) -> list[list[int]]:
    """Return the connected components of ``items``, as indices; items with a common text are
    connected (union–find).
    """
    parent = list(range(len(items)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[str, int] = {}
    for index, texts in enumerate(items):
        for text in texts:
            parent[root(index)] = root(first.setdefault(text, index))  # the first item with this text
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(items)):
        groups[root(index)].append(index)
    return list(groups.values())


def equal_texts(texts: Sequence[str]) -> list[list[int]]:
    """Return the numbers of texts that equal another one up to case and spaces, in groups."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        groups[normalise_caption(text)].append(number)
    return [group for group in groups.values() if len(group) > 1]


def normalise_caption(caption: str) -> str:
    """Return the caption in folded case, with single spaces."""
    return " ".join(caption.casefold().split())
