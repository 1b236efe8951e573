"""Which data sets there are, and how a name or a path becomes pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ashneuro.config import DataConfig
from ashneuro.data.emoji import load_emoji
from ashneuro.data.pairs import Splits
from ashneuro.errors import ConfigError


@dataclass(frozen=True)
class Source:
    """A data set that has a name."""

    about: str
    load: Callable[[DataConfig], Splits]


SOURCES: dict[str, Source] = {
    "emoji": Source("emoji in six drawing styles, names and keywords (embedded)", load_emoji),
}


def load_splits(config: DataConfig) -> Splits:
    """Return the pairs that ``config.source`` names, split as ``config.split`` says."""
    if source := SOURCES.get(config.source):
        return source.load(config)
    raise ConfigError(f"data.source = {config.source!r}", f"the known data sets are {', '.join(SOURCES)}", "correct data.source")
