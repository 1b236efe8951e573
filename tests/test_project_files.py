"""Project files: citation, hooks, issue forms, CONTRIBUTING.md and CHANGELOG.md."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

import ashneuro
from ashneuro.program.lower import lower
from ashneuro.spiking.firing import LIF_FIRING, Comparison, Reset
from ashneuro.spiking.message import MESSAGE_KINDS, SPIKE
from tests.simulation.random_graphs import draw, seeded
from tests.test_boundaries import ROOMS, SHARED

ROOT = Path(__file__).parent.parent
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*_*.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_citation_is_of_this_version() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert (citation["title"], citation["type"], citation["license"]) == ("ashneuro", "software", "Apache-2.0")
    assert str(citation["version"]) == ashneuro.__version__


def test_hooks_equal_make_lint() -> None:
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    assert [hook["entry"] for hook in repository["hooks"]] == commands


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_ask_for_doctor(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= form.keys()
    fields = {field["id"]: field for field in form["body"]}
    assert len(fields) == len(form["body"]), "ids are unique"
    assert "ashneuro doctor" in fields["doctor"]["attributes"]["label"]
    assert fields["doctor"]["validations"]["required"]


def test_there_are_issue_forms() -> None:
    assert {path.stem for path in FORMS} == {"bug_report", "feature_request"}
    assert read(ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml") == {"blank_issues_enabled": False}


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_named_paths_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:ashneuro|tests|docs|examples|hardware_profiles)/[\w./-]*)`", text)
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_dotted_names_in_pages_and_docstrings_exist() -> None:
    package = ROOT / "ashneuro"
    name = re.compile(rf"`(ashneuro\.(?:{'|'.join([*ROOMS, *SHARED])})\.[\w.]+)`")
    absent = []
    for path in [*package.rglob("*.py"), *ROOT.glob("docs/**/*.md"), ROOT / "CONTRIBUTING.md"]:
        for found in name.findall(path.read_text(encoding="utf-8")):
            place, parts = package, found.split(".")[1:]
            while parts and ((place / parts[0]).is_dir() or (place / f"{parts[0]}.py").is_file()):
                place /= parts.pop(0)
            file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            if parts and not re.search(rf"\b{parts[0]}\b", file.read_text(encoding="utf-8")):
                absent.append(f"{path.relative_to(ROOT)}: {found}")
    assert not absent


def test_contributing_lists_all_packages() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    order = re.search(r"```\n(data  .+?)```", text, re.DOTALL)
    assert order and order[1].split() == ROOMS
    assert not [name for name in SHARED if f"`{name}`" not in text]


def places(axis: str) -> list[Path]:
    """Return the files where CONTRIBUTING.md says that a choice of an axis is named."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{axis}` \| (.+) \|$", text, re.MULTILINE)
    assert row, f"CONTRIBUTING.md has no row of {axis}"
    return [ROOT / path for path in re.findall(r"`(.+?)`", row[1])]


# Choices beside the default, which is what the rest of the code does anyway.
CHOICES = [
    *(("Comparison", name) for name in get_args(Comparison) if name != LIF_FIRING.comparison),
    *(("Reset", name) for name in get_args(Reset) if name != LIF_FIRING.reset),
    *(("MessageKind", name) for name in MESSAGE_KINDS if name != SPIKE.kind),
]


@pytest.mark.parametrize(("axis", "choice"), CHOICES)
def test_every_choice_is_named_where_contributing_says(axis: str, choice: str) -> None:
    found = places(axis)
    assert len(found) > 10
    absent = [path for path in found if choice not in path.read_text(encoding="utf-8").lower()]
    assert not absent, f"{choice} is not in {', '.join(map(str, absent))}"


def test_random_graphs_draw_every_choice() -> None:
    drawn: Counter[tuple[str, str]] = Counter()
    for seed in range(90):
        case = draw(seeded(seed), integers=False)
        for layer in lower(case.graph, case.contract).layers:
            neuron = layer.neuron
            drawn["Comparison", neuron.firing.comparison] += 1
            drawn["Reset", neuron.firing.reset] += 1
            drawn["MessageKind", neuron.message.kind] += 1
    assert all(drawn[choice] >= 3 for choice in CHOICES), drawn


def test_changelog_starts_with_unreleased() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
