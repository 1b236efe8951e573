"""Project files: citation, hooks, issue forms, CONTRIBUTING.md and CHANGELOG.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import ashneuro
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


def test_contributing_lists_all_packages() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    order = re.search(r"```\n(data  .+?)```", text, re.DOTALL)
    assert order and order[1].split() == ROOMS
    assert not [name for name in SHARED if f"`{name}`" not in text]


def test_changelog_starts_with_unreleased() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
