"""Results as tables of text, for the terminal, the HTML page and notebooks alike.

The modules load when they are first used: a verb prints one or two kinds of tables.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ashneuro.reporting.tables import bench as bench
    from ashneuro.reporting.tables import data as data
    from ashneuro.reporting.tables import energy as energy
    from ashneuro.reporting.tables import network as network
    from ashneuro.reporting.tables import opinion as opinion
    from ashneuro.reporting.tables import profiles as profiles
    from ashneuro.reporting.tables import proof as proof
    from ashneuro.reporting.tables import streams as streams
    from ashneuro.reporting.tables import table as table
    from ashneuro.reporting.tables import tasks as tasks
    from ashneuro.reporting.tables import training as training
    from ashneuro.reporting.tables import validation as validation


def __getattr__(name: str) -> ModuleType:
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise AttributeError(f"there are no tables of {name!r}") from error
