"""Fixed shuffles and splits that are the same on every machine."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ashneuro.data.pairs import Pair
from ashneuro.errors import DataError


def by_hash(names: Iterable[str], salt: str) -> list[str]:
    """Return the names in the order of their salted SHA-256: a shuffle without a generator whose stream could change."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{salt}/{name}".encode()).digest())


def split_by_caption(
    pairs: Sequence[Pair], salt: str = "random"
) -> tuple[tuple[Pair, ...], tuple[Pair, ...], tuple[Pair, ...]]:
    """Return train, validation and test: about 80, 10 and 10 % of the pairs, in their order.

    Pairs that share a caption (but for case and spaces) or a concept stay together, also through others. Such groups are taken in the
    order of their hash and fill the test set, then validation; one that would overfill a part goes on to the next.

    Raises:
        DataError: fewer than three groups, which cannot fill three parts.
    """
    groups = linked(
        [[f"concept {pair.concept}", *(f"caption {plain(caption)}" for caption in pair.captions)] for pair in pairs]
    )
    if len(groups) < 3:
        raise DataError(
            f"cannot split {len(pairs)} pair(s) at random",
            f"they form {len(groups)} group(s) with captions of their own, and each of the three parts needs one",
            "give a split for each pair and set data.split = 'file', or add pairs",
        )
    quota = max(1, round(len(pairs) / 10))
    names = {min(pairs[index].key for index in group): group for group in groups}
    part = ["train"] * len(pairs)
    filled = {"test": 0, "validation": 0}
    for name in by_hash(names, salt):
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
                "give a split for each pair and set data.split = 'file'",
            )
    train, validation, test = (
        tuple(pair for pair, where in zip(pairs, part, strict=True) if where == wanted)
        for wanted in ("train", "validation", "test")
    )
    return train, validation, test


def linked(items: Sequence[Iterable[str]]) -> list[list[int]]:
    """Return the indices of ``items`` in groups: two that have a text in common are in one, also through others (union–find)."""
    parent = list(range(len(items)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[str, int] = {}
    for index, texts in enumerate(items):
        for text in texts:
            parent[root(index)] = root(first.setdefault(text, index))
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(items)):
        groups[root(index)].append(index)
    return list(groups.values())


def plain(caption: str) -> str:
    """Return the caption without differences of case and spaces."""
    return " ".join(caption.casefold().split())
