"""The result of a search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ashneuro.data.pairs import Pair
from ashneuro.workflows.search import SearchMatch, SearchResult


def pair(key: str, caption: str, shade: int) -> Pair:
    return Pair(key, (caption, "second caption"), caption, lambda: np.full((8, 8, 3), shade, np.uint8))


FOUND = SearchResult(
    "a red qwerty",
    12,
    ("qwerty",),
    ("broken.jpg: cannot identify image file",),
    (
        SearchMatch(pair("1.png", "red square", 200), 0.75, "red square", hit=False),
        SearchMatch(pair("0.png", "blue square", 90), -0.25, "second caption", hit=True),
    ),
    hits=1,
)


def test_to_json() -> None:
    assert FOUND.to_json() == {
        "query": "a red qwerty",
        "unknown_words": ["qwerty"],
        "pictures": 12,
        "unreadable": ["broken.jpg: cannot identify image file"],
        "hits": 1,
        "best": [
            {"picture": "1.png", "caption": "red square", "cosine": 0.75, "hit": False},
            {"picture": "0.png", "caption": "second caption", "cosine": -0.25, "hit": True},
        ],
    }


def test_save_draws_every_match(tmp_path: Path) -> None:
    FOUND.save(tmp_path / "best.png")
    page = np.asarray(Image.open(tmp_path / "best.png"))
    left, right = ((page == shade).all(axis=2) for shade in (200, 90))
    assert left.sum() > 64 and right.sum() > 64
    # The median column: single pixels of the text may have the same shade.
    assert np.median(left.nonzero()[1]) < np.median(right.nonzero()[1]), "best match first"
