"""One thing that `check` has to say about one node."""

from __future__ import annotations

from dataclasses import dataclass


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
