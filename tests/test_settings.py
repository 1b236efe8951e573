"""Settings that are given on the command line."""

from __future__ import annotations

import pytest

from ashneuro.config import load_config
from ashneuro.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("train.epochs=1\ntrain.seed=2", "more than one key"),
        ("train.epochs=1\n[model]", "more than one key"),
        ("=1", "section.key=value"),
        ("train.epochs=true", "train.epochs = True: Input should be a number"),
        ("train.seed=false", "train.seed = False: Input should be a number"),
    ],
)
def test_settings_that_are_none(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config("tiny", [text])
    assert why in refused.value.why and refused.value.do


def test_values_over_several_lines() -> None:
    assert load_config("tiny", ["model.concrete.channels=[8,\n16]"]).model.concrete.channels == (8, 16)
    assert load_config("tiny", ["train.tensorboard=true"]).train.loggers == ("tensorboard",)
