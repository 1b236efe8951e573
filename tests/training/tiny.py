"""A run small enough for tests: twelve coloured squares with names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ashneuro.config import AbstractConfig, ConcreteConfig, DataConfig, ModelConfig, RunConfig, TextConfig, TrainConfig
from ashneuro.data.pairs import Pair, Splits

CONFIG = RunConfig(
    data=DataConfig(image_size=8, captions="joined", max_words=5),
    model=ModelConfig(
        concrete=ConcreteConfig(channels=(6,), width=8),
        abstract=AbstractConfig(channels=(6, 6), units=12, timesteps=3, v_threshold=0.3),
        text=TextConfig(width=8, layers=1, heads=2, dropout=0.2),
        embedding=8,
    ),
    train=TrainConfig(
        epochs=3,
        batch_size=6,
        learning_rate=1e-2,
        device="cpu",
        augment=0.3,
        label_smoothing=0.1,
        contrast=0.1,
        stua=0.2,
        stua_reading="uni",
        momentum_text=0.0,
        firing_rate=0.1,
    ),
)
COLOURS = {"red": (200, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 220), "yellow": (230, 220, 30)}
PLACES = {"left": (2, 0), "right": (2, 4), "top": (0, 2)}


def square(colour: tuple[int, int, int], place: tuple[int, int], shade: int) -> np.ndarray:
    image = np.full((8, 8, 3), 255 - shade, np.uint8)
    row, column = place
    image[row : row + 4, column : column + 4] = colour
    return image


def load_splits(config: DataConfig) -> Splits:
    def pairs(style: str, shade: int) -> tuple[Pair, ...]:
        return tuple(
            Pair(
                f"{style}/{c}-{p}",
                (f"{c} square", p),
                f"{c} {p}",
                lambda c=c, p=p: square(COLOURS[c], PLACES[p], shade),
                style=style,
            )
            for c in COLOURS
            for p in PLACES
        )

    return Splits(pairs("plain", 0), pairs("grey", 20), pairs("dark", 40), "squares")


def config(**train: object) -> RunConfig:
    return replace(CONFIG, train=replace(CONFIG.train, **train))


def of_kind(kind: str, **train: object) -> RunConfig:
    settings = config(**train)
    return replace(settings, model=replace(settings.model, abstract=replace(settings.model.abstract, kind=kind)))
