import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_kernels_page_has_the_figures_of_its_files() -> None:
    script, page = runpy.run_path(str(DOCS / "update_kernels.py")), (DOCS / "kernels.md").read_text(encoding="utf8")
    assert script["updated"](page) == page, "run: python docs/update_kernels.py"
    for name in (*script["NAMES"], "emulator"):
        assert script["content"](name)["benchmark"] == name
    assert "| ashneuro, native |" in page and "| Lava, fixed_pt, streamed |" in page
