"""One table of text, and numbers as text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from ashneuro.cost.profile import Range
from ashneuro.cost.terms import energy_scale
from ashneuro.reporting import words
from ashneuro.reporting.words import Basis

NOTHING = "–"


class Mark(Enum):
    """Emphasis of a cell, shown as a colour."""

    GOOD = auto()
    WARNING = auto()
    BAD = auto()


class Cell(str):
    """Text of a cell with a mark."""

    mark: Mark

    def __new__(cls, text: str, mark: Mark) -> Cell:
        """Return the text with its mark."""
        cell = super().__new__(cls, text)
        cell.mark = mark
        return cell


def not_run() -> Cell:
    """Return the cell of a computation that was not run."""
    return Cell(words.STATUS["not run"], Mark.WARNING)


@dataclass(frozen=True)
class Table:
    """Rows of text under a title.

    Args:
        title: heading of the table.
        columns: headings; ``>`` in front marks a column of numbers, aligned to the right.
        rows: one text per column.
        basis: origin of the numbers.
        how: words that follow the basis: the samples, the instrument, the profile.
        note: paragraphs below the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    basis: Basis | None = None
    how: str = ""
    note: str = ""

    @property
    def basis_text(self) -> str:
        """Basis in words, e.g. ``"counted over 6 samples"``; empty without a basis."""
        return words.basis_text(self.basis, self.how)

    @property
    def headings(self) -> tuple[str, ...]:
        """Headings without the mark of a numeric column."""
        return tuple(column.removeprefix(">") for column in self.columns)

    @property
    def numeric(self) -> tuple[bool, ...]:
        """True for each column of numbers."""
        return tuple(column.startswith(">") for column in self.columns)


def number(value: float | None) -> str:
    """Return a count in full, a fraction with three digits, and ``–`` for ``None``."""
    if value is None:
        return NOTHING
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")


def percent(value: float | None) -> str:
    """Return a fraction as a percentage with one decimal."""
    return NOTHING if value is None else f"{100 * value:.1f} %"


def three_digits(value: float) -> float:
    """Return ``value`` rounded to three significant digits."""
    return float(f"{value:.3g}")


def common_unit(energies: Iterable[Range | None]) -> tuple[float, str]:
    """Return the factor from joules and the unit in which the largest energy is 1 or more.

    An energy without a typical value counts by its low bound.
    """
    largest = max((abs(energy.typical or energy.low) for energy in energies if energy), default=0.0)
    return energy_scale(largest)


def joules(energy: Range | None, unit: tuple[float, str]) -> tuple[str, str]:
    """Return the typical value and the range of an energy as text, both in ``unit``."""
    if energy is None:
        return "not estimable", NOTHING
    factor = unit[0]
    typical = NOTHING if energy.typical is None else number(energy.typical * factor)
    return typical, NOTHING if energy.is_point else f"{number(energy.low * factor)} – {number(energy.high * factor)}"
