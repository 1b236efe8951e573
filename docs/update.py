"""Regenerate the tables of docs/nir.md, docs/lava.md and docs/sanafe.md: `python docs/update.py`.

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`; everything else is written by
hand. A test checks that the tables are up to date.
"""

import inspect
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from ashneuro.program.check import RULES, rule_table
from ashneuro.program.support import support_table
from ashneuro.spiking.contract import PREFIX, Contract

PAGES = tuple(Path(__file__).with_name(name) for name in ("nir.md", "lava.md", "sanafe.md"))


def updated(page: str) -> str:
    """Return ``page`` with its tables regenerated from the code."""
    tables = {
        "primitives": primitives(),
        "contract": contract(),
        **{f"rules, {where}": rules(where) for where in RULES},
    }

    def replace(found: re.Match[str]) -> str:
        return f"<!-- generated: {found[1]} -->\n{tables[found[1]]}\n<!-- end -->"

    return re.sub(r"<!-- generated: (.+?) -->\n.*?<!-- end -->", replace, page, flags=re.DOTALL)


def primitives() -> str:
    """Return the table of NIR primitives and the arithmetics that run them."""
    rows = support_table()
    return _table(
        ("NIR primitive", "read", "float", "Loihi's integers", "Lava"),
        (
            (
                f"`{row.primitive}`",
                *(text or "yes" for text in (row.read, row.float_program, row.integer_program, row.lava)),
            )
            for row in rows
        ),
    )


def contract() -> str:
    """Return the table of the contract's fields, with the meanings from its docstring."""
    text = inspect.getdoc(Contract) or ""
    entries = re.findall(r"^    (\w+): (.+?)(?=^    \w+:|\Z)", text, flags=re.DOTALL | re.MULTILINE)
    meanings = {name: " ".join(words.replace("``", "`").split()) for name, words in entries}
    default = Contract()
    return _table(
        ("field", "in the metadata", "default", "meaning"),
        (
            (
                f"`--{_option(field.name)}`",
                f"`{PREFIX}{field.name}`",
                f"`{getattr(default, field.name)}`",
                meanings[field.name],
            )
            for field in fields(Contract)
        ),
    )


def rules(where: str) -> str:
    """Return the table of the rules on ``where``: graphs, programs, or Lava."""
    return _table(
        ("rule", "what it says"), ((f"`{name}`", text) for subject, name, text in rule_table() if subject == where)
    )


def _option(field: str) -> str:
    return {"dt_s": "dt"}.get(field, field.replace("_", "-"))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(updated(page.read_text(encoding="utf8")), encoding="utf8")
