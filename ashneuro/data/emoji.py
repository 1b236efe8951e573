"""The embedded pack *emoji in six drawing styles*, as pairs in one of its two fixed splits."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.config import DataConfig
from ashneuro.data.pairs import Pair, Splits
from ashneuro.errors import ConfigError, DataError, need

PACK = Path(__file__).with_name("packs") / "emoji"


def load_emoji(config: DataConfig, pack: Path = PACK) -> Splits:
    """Return the emoji in the split ``config.split``.

    ``"style"``: the test set is a drawing style that training never sees, while its captions are
        seen. This
    measures recognition across styles, not zero-shot retrieval. ``"concept"``: concepts are split
    by family, so test captions are unseen. ``config.styles`` restricts the drawing styles: those of
    training and validation in the style split, those of every part in the concept split.

    Raises:
        ConfigError: the split or a style is not in the pack.
        DataError: the pack is damaged.
    """
    if config.split not in ("style", "concept"):
        raise ConfigError(
            f"data.split = {config.split!r}",
            "the emoji come with two fixed splits: style and concept",
            "set data.split = 'style'",
        )
    captions, splits = _read(pack)
    pairs = _pairs(captions, pack)
    held_out = splits["style"]["test_style"]
    known = list(dict.fromkeys(pair.style for pair in pairs))
    chosen = set(config.styles)
    if wrong := sorted(chosen - set(known)):
        raise ConfigError(
            f"data.styles: no drawing style {', '.join(map(repr, wrong))}",
            f"there are {', '.join(known)}",
            "correct data.styles",
        )
    if config.split == "style":
        if held_out in chosen:
            training = [style for style in known if style != held_out]
            raise ConfigError(
                f"data.styles names {held_out!r}",
                "that style is the test set of this split",
                f"choose from {', '.join(training)}",
            )
        validation = set(splits["style"]["validation"])
        rest = [pair for pair in pairs if pair.style != held_out and (not chosen or pair.style in chosen)]
        return Splits(
            tuple(pair for pair in rest if pair.key not in validation),
            tuple(pair for pair in rest if pair.key in validation),
            tuple(pair for pair in pairs if pair.style == held_out),
            f"emoji, unseen style ({held_out})",
            (
                "Test captions are seen in training, in other drawing styles: "
                "this is recognition across styles, not zero-shot.",
            ),
        )
    part = {concept: name for name in ("validation", "test") for concept in splits["concept"][name]}
    parts: dict[str, list[Pair]] = {"train": [], "validation": [], "test": []}
    for pair in pairs:
        if not chosen or pair.style in chosen:
            parts[part.get(pair.concept, "train")].append(pair)
    return Splits(
        tuple(parts["train"]),
        tuple(parts["validation"]),
        tuple(parts["test"]),
        "emoji, unseen concepts",
        (
            "Neither the test drawings nor their captions are seen in training; "
            "variants such as man/woman/person stay on one side.",
        ),
    )


class Sheet:
    """A sprite sheet, decoded when its first cell is read."""

    def __init__(self, path: Path, cell: int, columns: int) -> None:
        self.path, self.cell, self.columns = path, cell, columns

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """The whole sheet, (rows · cell, columns · cell, 3) uint8."""
        image = need("PIL.Image", extra="train", purpose="reading images")
        try:
            with image.open(self.path) as file:
                return np.asarray(file.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise _damaged(self.path.parent, error) from error

    def crop(self, index: int) -> NDArray[np.uint8]:
        """Return the cell ``index``, counted row by row, (cell, cell, 3) uint8."""
        row, column = divmod(index, self.columns)
        top, left = row * self.cell, column * self.cell
        # A copy, which callers may change.
        return self.pixels[top : top + self.cell, left : left + self.cell].copy()


def _read(pack: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with gzip.open(pack / "captions.json.gz", "rt", encoding="utf-8") as file:
            captions = json.load(file)
        splits = json.loads((pack / "splits.json").read_text(encoding="utf-8"))
    except (OSError, EOFError, ValueError) as error:
        raise _damaged(pack, error) from error
    return captions, splits


def _pairs(captions: dict[str, Any], pack: Path) -> tuple[Pair, ...]:
    texts: dict[int, list[str]] = defaultdict(list)
    for annotation in captions["annotations"]:
        texts[annotation["image_id"]].append(annotation["caption"])
    grid = captions["info"]["grid"]
    sheets = {
        name: Sheet(pack / name, grid["cell"], grid["columns"])
        for name in {image["sheet"] for image in captions["images"]}
    }
    return tuple(
        Pair(
            key=image["file_name"],
            captions=tuple(texts[image["id"]]),
            concept=image["concept"],
            load=partial(sheets[image["sheet"]].crop, image["cell"]),
            labels={"group": image["group"], "subgroup": image["subgroup"]},
            style=image["style"],
        )
        for image in captions["images"]
    )


def _damaged(pack: Path, error: Exception) -> DataError:
    return DataError(
        f"the emoji pack in {pack} cannot be read", str(error), "reinstall ashneuro, or run `ashneuro data build emoji`"
    )
