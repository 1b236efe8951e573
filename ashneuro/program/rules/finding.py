"""One thing that `check` has to say about one node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ashneuro.errors import GraphError


@dataclass(frozen=True)
class Finding:
    """The result of one rule on one node.

    Args:
        node: name of the NIR node (or layer) in the user's file.
        nir_type: its NIR primitive, e.g. ``"Conv2d"``.
        rule: the rule's name.
        sentence: what the rule says; the docstring of the function that checks it.
        level: ``"ok"``, ``"note"`` (an assumption or a loss that does not stop export), or ``"error"``.
        actual: the value found, with its limit.
        remedy: a command or an edit, when level is not ``"ok"``.
    """

    node: str
    nir_type: str
    rule: str
    sentence: str
    level: str
    actual: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether export can go on."""
        return self.level != "error"


def require(findings: Iterable[Finding], what: str) -> None:
    """Raise a `GraphError` that lists every finding that is an error; return when there is none."""
    errors = [finding for finding in findings if not finding.ok]
    if errors:
        reasons = dict.fromkeys(
            f"{finding.node} ({finding.nir_type}): {finding.sentence} {finding.actual}".rstrip() for finding in errors
        )
        remedies = dict.fromkeys(finding.remedy for finding in errors if finding.remedy)
        raise GraphError(what, "\n     ".join(reasons), "; ".join(remedies))
