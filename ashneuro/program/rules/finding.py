"""Findings: the results of rules, one per node that breaks one.

A rule is a generator function. Its docstring is the sentence that users see; it yields a
`Violation` for every node that breaks it. `apply_rules` turns violations into findings, `require`
turns findings into one error.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ashneuro.display import Shown
from ashneuro.errors import GraphError

Level = Literal["error", "note", "ok"]


@dataclass(frozen=True)
class Finding:
    """The result of one rule on one node.

    Args:
        node: name of the NIR node (or layer) in the user's file.
        nir_type: its NIR primitive, e.g. ``"Conv2d"``.
        rule: the rule's name.
        sentence: the rule in words.
        level: ``"error"``, ``"note"`` (a loss that does not stop export, or an assumption, which
            export asks to be stated or accepted), or ``"ok"``.
        actual: the value found, with its limit.
        remedy: a command or an edit, when level is not ``"ok"``.
    """

    node: str
    nir_type: str
    rule: str
    sentence: str
    level: Level
    actual: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """True if the finding does not stop export."""
        return self.level != "error"


class Findings(Shown, tuple[Finding, ...]):
    """Findings of `check`, in a tuple that shows itself as a table."""

    @property
    def ok(self) -> bool:
        """True if no finding stops export."""
        return all(finding.ok for finding in self)

    def __repr__(self) -> str:
        """Return the number of findings by level, and the first few that are not ok, a line
        each.
        """
        by_level = Counter(finding.level for finding in self)
        shown = [finding for finding in self if finding.level != "ok"]
        lines = [f"{each.level}: {each.node} ({each.nir_type}): {each.sentence}"[:100] for each in shown[:6]]
        lines += [f"and {len(shown) - 6} more"] if len(shown) > 6 else []
        counts = ", ".join(f"{count} {level}" for level, count in by_level.items()) or "none"
        return "\n  ".join([f"Findings: {counts}", *lines])


@dataclass(frozen=True)
class Violation:
    """A node that breaks a rule; the fields are those of `Finding`."""

    node: str
    actual: str
    remedy: str
    level: Level = "error"


def apply_rules(
    rules: Mapping[str, Callable[..., Iterator[Violation]]], *subject: Any, nir_type: Callable[[str], str]
) -> list[Finding]:
    """Return everything that ``rules`` find in ``subject``, in the rules' order.

    Args:
        rules: functions by name.
        subject: the arguments of every rule.
        nir_type: gives the type of a node by its name.
    """
    return [
        Finding(found.node, nir_type(found.node), name, sentence(rule), found.level, found.actual, found.remedy)
        for name, rule in rules.items()
        for found in rule(*subject)
    ]


def sentence(rule: Callable[..., Any]) -> str:
    """Return the first paragraph of a rule's docstring as one line."""
    return " ".join((inspect.getdoc(rule) or "").split("\n\n")[0].split())


def require(findings: Iterable[Finding], what: str) -> None:
    """Raise a `GraphError` that lists every error among ``findings``; return when there is none."""
    errors = [finding for finding in findings if not finding.ok]
    if errors:
        reasons = dict.fromkeys(
            f"{finding.node} ({finding.nir_type}): {finding.sentence} {finding.actual}".rstrip() for finding in errors
        )
        remedies = dict.fromkeys(finding.remedy for finding in errors if finding.remedy)
        raise GraphError(what, "\n     ".join(reasons), "; ".join(remedies))


def some(names: Sequence[str]) -> str:
    """Return the first four names, and the number of the others."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def shape_text(shape: tuple[int, ...] | None) -> str:
    """Return a shape as in ``3×32×32``; ``()`` without axes."""
    return "×".join(map(str, shape)) if shape else "()"


def range_text(values: Any) -> str:
    """Return the smallest and the largest of ``values``, or the one value."""
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:g}" if low == high else f"{low:g} … {high:g}"
