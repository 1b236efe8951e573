"""Statements of SECURITY.md about the code, checked on the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ashneuro"
NEVER_IMPORTED = {"cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}
NEVER_CALLED = {"eval", "exec", "compile", "extractall", "system", "popen", "unpack_archive"}
OWN_METHODS = {"eval", "compile"}  # of modules and patterns, not builtins


def calls(tree: ast.AST) -> Iterator[tuple[str, str, dict[str, ast.expr]]]:
    """Yield (object, function, keywords) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {word.arg or "": word.value for word in node.keywords}
            if isinstance(node.func, ast.Attribute):
                yield ast.unparse(node.func.value), node.func.attr, keywords
            elif isinstance(node.func, ast.Name):
                yield "", node.func.id, keywords


def literal(keywords: dict[str, ast.expr], name: str) -> object:
    value = keywords.get(name)
    return value.value if isinstance(value, ast.Constant) else None


@pytest.mark.parametrize(
    "folder", sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py")
)
def test_no_file_can_bring_code(folder: str) -> None:
    """One test for each room, and for each module beside them."""
    place = PACKAGE / folder
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        imported = {alias.name.partition(".")[0] for n in nodes if isinstance(n, ast.Import) for alias in n.names}
        imported |= {(n.module or "").partition(".")[0] for n in nodes if isinstance(n, ast.ImportFrom)}
        assert not imported & NEVER_IMPORTED, path
        used = {n.attr for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "pickle"}
        assert used <= {"UnpicklingError"}, f"{path}: of pickle, only the error that torch raises"
        for owner, function, keywords in calls(tree):
            own_method = owner and function in OWN_METHODS
            assert function not in NEVER_CALLED or own_method, f"{path}: {owner}.{function}"
            if (owner, function) in (("np", "load"), ("numpy", "load")):
                assert literal(keywords, "allow_pickle") is False, path
            if (owner, function) == ("torch", "load"):
                assert literal(keywords, "weights_only") is True, path
            assert literal(keywords, "shell") is not True and "trust_remote_code" not in keywords, path
            if function == "Environment":
                assert literal(keywords, "autoescape") is True, path
