import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["cost.md", "placement.md", "validation.md"])
def test_generated_tables_of_cost_pages_are_current(name):
    script, page = runpy.run_path(str(DOCS / "update_cost.py")), (DOCS / name).read_text(encoding="utf8")
    assert "<!-- generated: " in page
    assert script["updated"](page) == page, "run: python docs/update_cost.py"
    cut = page.index("<!-- end -->")
    assert script["updated"](page[: cut - 20] + page[cut:]) == page
