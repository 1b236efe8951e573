"""Specimens that violate a rule, and the same with the rule's remedy applied."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One remedy of one rule.

    Args:
        table: the rules' subject, as in `ashneuro.program.check.RULES`.
        rule: the rule's name.
        says: words of the remedy.
        broken: the specimen: arguments of the rule.
        cured: the specimen after the remedy; ``None``: there is nothing to do.
    """

    table: str
    rule: str
    says: str
    broken: tuple[Any, ...]
    cured: tuple[Any, ...] | None
