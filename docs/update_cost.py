"""Update the generated tables of docs/cost.md, docs/placement.md and docs/validation.md.

Run `python docs/update_cost.py`. A generated table stands between `<!-- generated: NAME -->` and
`<!-- end -->`; the rest of a page is written by hand. A test checks that the tables are up to date.
"""

import re
from pathlib import Path

from ashneuro.cost.profile import CHECKS, EVENTS, list_profiles, load_profile
from ashneuro.cost.validate import validate
from ashneuro.reporting.tables import validation
from ashneuro.reporting.tables.table import Table

PAGES = [Path(__file__).with_name(name) for name in ("cost.md", "placement.md", "validation.md")]


def tables() -> dict[str, str]:
    """Return the generated tables by name."""
    result = validate()
    profiles = [load_profile(name) for name in list_profiles()]
    chips = (
        (
            f"`{profile.name}`",
            profile.title,
            profile.kind,
            str(len(list(profile.quantities()))),
            " ".join(
                f"{level} {count}"
                for level in CHECKS
                if (count := sum(q.check == level for _, q in profile.quantities()))
            ),
            profile.boundary,
        )
        for profile in profiles
    )
    return {
        "profiles": _text(("profile", "chip", "kind", "numbers", "checks", "boundary"), chips),
        "events": _text(("event", "what it is"), ((f"`{name}`", text) for name, text in EVENTS.items())),
        "energies": _markdown(validation.energies(result)),
        "anns": _markdown(validation.anns(result)),
        "left_out": _markdown(validation.left_out(validate(leave_one_out=True))),
        "steps": _markdown(validation.step_times(result)),
        "cores": _markdown(validation.partition_totals(result)),
        "partitions": _markdown(validation.partitions(result)),
        "skipped": _markdown(validation.skipped(result)),
    }


def updated(page: str) -> str:
    """Return ``page`` with up-to-date tables."""
    known = tables()

    def replace(found: re.Match[str]) -> str:
        return f"<!-- generated: {found[1]} -->\n{known[found[1]]}\n<!-- end -->"

    return re.sub(r"<!-- generated: (.+?) -->\n.*?<!-- end -->", replace, page, flags=re.DOTALL)


def _markdown(table: Table) -> str:
    return _text(table.headings, table.rows) + (f"\n\n{table.note}" if table.note else "")


def _text(head, rows) -> str:  # type: ignore[no-untyped-def]
    lines = [tuple(head), ("---",) * len(tuple(head)), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(updated(path.read_text(encoding="utf8")), encoding="utf8")
