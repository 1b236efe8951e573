"""Import rules of the packages, checked on the source; see CONTRIBUTING.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ashneuro"
# A room imports only from itself, from rooms on its left, and from SHARED.
ROOMS = [
    "data",
    "spiking",
    "model",
    "frameworks",
    "training",
    "program",
    "simulation",
    "cost",
    "reporting",
    "workflows",
    "bench",
    "commands",
    "cli",
]
SHARED = {
    "arrays",
    "config",
    "cores",
    "errors",
    "exchange",
    "display",
    "evaluation",
    "files",
    "loihi",
    "schemas",
    "sweep_config",
    "zips",
}
ANY_GRAPH = {"program", "simulation", "cost", "reporting"}  # import no torch module's room: see TORCH_ROOMS
TORCH_ROOMS = {"model", "frameworks", "training"}
TORCH_FREE = ["program", "cost", "reporting", *sorted(SHARED), "cli"]
PRINTING = {"cli", "commands", "reporting"}
SILENT = {"workflows", "bench"}  # report progress through callbacks

WORKERS = {"lava_worker", "sanafe_worker"}  # run by interpreters of their own
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if not WORKERS & set(path.parts))
WORKER = sorted(path for name in WORKERS for path in (PACKAGE / name).glob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_has_modules() -> None:
    assert {room(path) for path in MODULES} >= {*ROOMS, *SHARED}
    assert WORKER


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_left(path: Path) -> None:
    here = room(path)
    if here == "__main__":
        allowed = {"cli"}
    elif here == "__init__":
        allowed = SHARED | set(ROOMS) - {"commands", "cli"}  # for type checkers; see tests/test_public.py
    elif here in SHARED:
        allowed = SHARED
    else:
        allowed = SHARED | set(ROOMS[: ROOMS.index(here) + 1])
        if here in ANY_GRAPH:
            allowed -= TORCH_ROOMS
    tree = ast.parse(path.read_text())
    at_import = set(
        imports(ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], []))
    )
    for name in imports(tree):
        package, _, rest = name.partition(".")
        # The mixin of results imports its renderer when it is called.
        if here == "display" and name in ("ashneuro.reporting", "ashneuro.reporting.notebook"):
            assert name not in at_import, "the renderer must not be imported at module level"
            continue
        # Both ends of the pipe share the wire format, which needs numpy alone.
        if here == "simulation" and name.startswith("ashneuro.lava_worker.frames"):
            continue
        if package == "ashneuro" and rest and rest != "__version__":
            assert rest.split(".")[0] in allowed, f"{path.name} of {here} imports {name}"
        assert package not in ("lava", "sanafe"), f"{path.name} imports {package}: only its worker may"


@pytest.mark.parametrize("path", WORKER, ids=lambda path: path.name)
def test_worker_imports_neither_ashneuro_nor_torch(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 10))
    assert not [name for name in imports(tree) if name.split(".")[0] in {"ashneuro", "torch"}]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_commands_and_reporting_print(path: Path) -> None:
    if room(path) in PRINTING:
        return
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert "print" not in {call.id for call in calls if isinstance(call, ast.Name)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_workflows_do_not_import_the_terminal(path: Path) -> None:
    if room(path) not in SILENT:
        return
    found = set(imports(ast.parse(path.read_text())))
    assert not {name for name in found if name.startswith(("ashneuro.reporting.terminal", "rich", "cyclopts"))}


def test_commands_do_not_import_each_other() -> None:
    """Commands share options and the display of training; other shared work is a workflow."""
    shared = ("ashneuro.commands.options", "ashneuro.commands.shown")
    for path in (PACKAGE / "commands").glob("*.py"):
        used = {name for name in imports(ast.parse(path.read_text())) if name.startswith("ashneuro.commands")}
        assert all(name.startswith(shared) for name in used), path.name


@pytest.mark.parametrize("start", TORCH_FREE)
def test_starts_without_torch(start: str) -> None:
    """Import every module of the room in a fresh interpreter."""
    names = [
        "ashneuro." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in MODULES
        if room(path) == start
    ]
    code = (
        f"import sys, importlib\nfor name in {names!r}: importlib.import_module(name)\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_package_is_marked_as_typed() -> None:
    """Without the marker of PEP 561 mypy reads an installed ashneuro as ``Any``."""
    assert (PACKAGE / "py.typed").is_file()
