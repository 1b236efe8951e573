"""Update the figures of docs/kernels.md from docs/bench/*.json: `python docs/update_kernels.py`.

A test checks that the page is up to date.

`ashneuro bench NAME --json docs/bench/NAME.json` makes a file of them.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from ashneuro.reporting import figures
from ashneuro.reporting.tables import bench
from ashneuro.reporting.tables.table import Table

DOCS = Path(__file__).parent
PAGE = DOCS / "kernels.md"
NAMES = ("lif", "conv", "model")


def content(name: str) -> dict:
    """Return the JSON of a benchmark."""
    return json.loads((DOCS / "bench" / f"{name}.json").read_text(encoding="utf8"))


def updated(page: str) -> str:
    """Return ``page`` with the figures of the files."""
    parts = []
    for name in NAMES:
        parts += [f"![{name}: bars of the medians, whiskers from the fastest to the slowest round](bench/{name}.svg)"]
        parts += as_markdown(bench.jobs(content(name)))
    parts += as_markdown(bench.emulator(content("emulator")))
    text = "\n\n".join(parts)
    return re.sub(
        r"<!-- figures -->.*?<!-- end -->", lambda _: f"<!-- figures -->\n{text}\n<!-- end -->", page, flags=re.DOTALL
    )


def as_markdown(tables: Iterable[Table]) -> list[str]:
    """Return each table below its title, and their common note below the last."""
    parts, note = [], ""
    for table in tables:
        rule = ["---:" if column.startswith(">") else "---" for column in table.columns]
        lines = ["| " + " | ".join(cells) + " |" for cells in (table.headings, rule, *table.rows)]
        parts += [f"**{table.title}** [{table.basis_text}]", "\n".join(lines)]
        note = " ".join(table.note.splitlines())
    return [*parts, note]


if __name__ == "__main__":
    for name in NAMES:
        figure = figures.bench.jobs(content(name))
        figures.svg.save(figure, DOCS / "bench" / f"{name}.svg", f"times of {name} relative to the baselines")
    PAGE.write_text(updated(PAGE.read_text(encoding="utf8")), encoding="utf8")
