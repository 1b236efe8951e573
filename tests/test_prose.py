"""Rules of prose: openings of docstrings, names of tests, no history of the code in comments."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for folder in ("ashneuro", "tests", "docs", "examples") for path in (ROOT / folder).rglob("*.py"))

QUESTION = r"(?:what|which|how|where|whether)"
# "What a layer sends" paraphrases; "Spikes of a layer" names the thing.
OPENING = re.compile(rf"(?:(?:return|yield|print|say|tell|give|show)s? )?{QUESTION}\b", re.IGNORECASE)
TEST_NAME = re.compile(rf"test_{QUESTION}_")
HISTORY = re.compile(
    r"\b(?:this (?:commit|change|patch|pull request)"
    r"|(?:has|have|had|was|were) (?:been )?(?:renamed|refactored|reworked|rewritten)"
    r"|(?:renamed|moved) from|used to be|formerly|previously|refactor(?:ed|ing)?)\b",
    re.IGNORECASE,
)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yield place and text of every docstring."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield f"{path.relative_to(ROOT)}:{node.body[0].lineno}", text


def comments(path: Path) -> Iterator[tuple[str, str]]:
    """Yield place and text of every comment."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield f"{path.relative_to(ROOT)}:{token.start[0]}", token.string


def test_docstrings_name_the_thing() -> None:
    found = [item for path in FILES for item in docstrings(path) if OPENING.match(item[1])]
    assert not found, "\n".join(f"{place}: {text.splitlines()[0]}" for place, text in found)


def test_names_of_tests_state_behaviour() -> None:
    functions = [
        (path.relative_to(ROOT), node.name)
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert not [item for item in functions if TEST_NAME.match(item[1])]


def test_history_is_left_to_commits() -> None:
    texts = [item for path in FILES for item in (*docstrings(path), *comments(path))]
    assert not [item for item in texts if HISTORY.search(item[1])]


@pytest.mark.parametrize("text", ["What a layer sends.", "Return which are left.", "whether it fits", "Where it goes"])
def test_opening_is_found(text: str) -> None:
    assert OPENING.match(text)
    assert not OPENING.match(f"Spikes. {text}") and not OPENING.match("However it comes.")
