"""Mixins for results: short reprs, HTML tables for notebooks, DataFrames, matplotlib figures.

The rendering is in `ashneuro.reporting.notebook`, which is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LONGEST = 60  # characters of one value in a repr


class Brief:
    """A dataclass with a repr that fits a screen. Subclasses are declared with ``repr=False``."""

    def __repr__(self) -> str:
        """Return the fields on one line; collections by their length, long values cut."""
        shown = (f"{field.name}={_short(getattr(self, field.name))}" for field in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(shown)})"


class Shown(Brief):
    """A result that shows itself as tables."""

    def _repr_html_(self) -> str:
        """Return the result as HTML tables, for notebooks."""
        from ashneuro.reporting import notebook

        return notebook.html(self)

    def to_dataframe(self) -> DataFrame:
        """Return the rows of the result as a pandas DataFrame; column names end in their unit.

        Raises:
            MissingDependency: pandas is not installed.
            AshneuroError: the result has no rows.
        """
        from ashneuro.reporting import notebook

        return notebook.dataframe(self)


class Plotted(Shown):
    """A result that has a figure too."""

    def plot(self) -> Figure:
        """Return the result as a matplotlib figure.

        Raises:
            AshneuroError: there is nothing to draw.
        """
        from ashneuro.reporting import notebook

        return notebook.figure(self)


def _short(value: Any) -> str:
    """Return the repr of a value in at most `LONGEST` characters; the length of a collection, and
    the type of an object with a longer repr.
    """
    if isinstance(value, Sized) and not isinstance(value, str | bytes) and len(value):
        return f"<{len(value)} {'entries' if isinstance(value, Mapping) else 'items'}>"
    if isinstance(value, Brief):
        return f"<{type(value).__name__}>"
    text = repr(value)
    if len(text) > LONGEST and not isinstance(value, str | bytes):
        return f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 10]}…{text[-9:]}"
