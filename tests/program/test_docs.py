import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_tables_of_nir_page_are_up_to_date():
    script, page = runpy.run_path(str(DOCS / "update.py")), (DOCS / "nir.md").read_text(encoding="utf8")
    assert script["updated"](page) == page, "run: python docs/update.py"
    assert script["updated"](page.replace("| `Affine` | yes |", "| `Affine` | no |")) == page
    for name in (
        "primitives",
        "contract",
        "rules, graph",
        "rules, float program",
        "rules, lava-dl network",
        "rules, integer program",
    ):
        assert f"<!-- generated: {name} -->" in page


def test_tables_of_lava_page_are_up_to_date():
    script, page = runpy.run_path(str(DOCS / "update.py")), (DOCS / "lava.md").read_text(encoding="utf8")
    assert script["updated"](page) == page, "run: python docs/update.py"
    assert "| `lava_shared_memory` |" in page


def test_rules_of_sanafe_page_are_up_to_date():
    script, page = runpy.run_path(str(DOCS / "update.py")), (DOCS / "sanafe.md").read_text(encoding="utf8")
    assert script["updated"](page) == page, "run: python docs/update.py"
    assert "| `sanafe_delay` |" in page
