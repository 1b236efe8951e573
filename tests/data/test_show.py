from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ashneuro.data.pairs import Pair
from ashneuro.data.show import COLUMNS, GAP, PICTURE, contact_sheet
from ashneuro.errors import ConfigError


def pairs(count: int, *captions: str, style: str = "", size: tuple[int, int] = (64, 64)) -> list[Pair]:
    def load(index: int) -> np.ndarray:
        return np.full((*size, 3), (10 + index, 200, 30), np.uint8)

    return [Pair(f"{i}", captions or (f"caption {i}",), f"{i}", lambda i=i: load(i), style=style) for i in range(count)]


def test_sheet_has_a_cell_per_pair() -> None:
    one, seven = contact_sheet(pairs(30), 1), contact_sheet(pairs(30), 7)
    assert one.width == 2 * GAP + PICTURE
    assert seven.width == GAP + COLUMNS * (GAP + PICTURE)
    assert seven.height - GAP == 2 * (one.height - GAP)
    pixels = np.unique(np.asarray(seven).reshape(-1, 3), axis=0)
    colours = pixels[(pixels[:, 1] == 200) & (pixels[:, 2] == 30)]
    assert len(colours) == 7


def test_seed_chooses_the_pairs() -> None:
    first, again, other = (np.asarray(contact_sheet(pairs(30), 6, seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_all_pairs_are_shown_if_there_are_fewer() -> None:
    assert contact_sheet(pairs(2), 24).width == GAP + 2 * (PICTURE + GAP)


def test_pictures_keep_their_proportions() -> None:
    page = np.asarray(contact_sheet(pairs(1, "wide", size=(20, 80)), 1))
    green = (page == (10, 200, 30)).all(-1)
    assert (green.any(1).sum(), green.any(0).sum()) == (PICTURE // 4, PICTURE)


def test_text_stays_inside_its_cell() -> None:
    word = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
    long = f"{word} and more words than there is room for " * 3
    page = np.asarray(contact_sheet(pairs(2, long, long, style="ink"), 2))
    ink = (page < 200).all(-1)
    assert ink.any()
    for margin in (slice(0, GAP), slice(GAP + PICTURE + 2, 2 * GAP + PICTURE), slice(2 * GAP + 2 * PICTURE + 2, None)):
        assert not ink[:, margin].any()


def test_captions_are_drawn() -> None:
    short, long = (
        contact_sheet(pairs(1, "a"), 1),
        contact_sheet(pairs(1, "a", "more to be read under it, in several lines"), 1),
    )
    assert long.height > short.height


def test_empty_sheet_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to show"):
        contact_sheet([])
    with pytest.raises(ConfigError, match="nothing to show"):
        contact_sheet(pairs(3), 0)


def test_sheet_is_saved(tmp_path: Path) -> None:
    contact_sheet(pairs(3), 3).save(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
