"""Hooks of mkdocs: notebooks as pages, and links out of docs/ as links to the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

NOTEBOOKS = Path(__file__).with_name("notebooks")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every notebook, without outputs: `tests/test_notebooks.py` checks those."""
    import jupytext
    from mkdocs.structure.files import File

    for path in sorted(NOTEBOOKS.glob("*.py")):
        text = jupytext.writes(jupytext.read(path), "md:markdown")
        text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)  # jupytext's own header
        text += f"\n\nRun it: `jupytext --to notebook {path.relative_to(NOTEBOOKS.parents[1])}`.\n"
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files outside docs/ to the repository."""
    return re.sub(r"\]\(\.\./([^)\s]+)\)", rf"]({config.repo_url}/blob/main/\1)", markdown)
