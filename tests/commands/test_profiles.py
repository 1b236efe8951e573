"""``ashneuro profiles``: lists, explanations, new profiles and validation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ashneuro.cost.profile import load_profile
from tests.commands.conftest import Command


def test_list_as_json(ashneuro: Command) -> None:
    listed = json.loads(ashneuro("profiles", "list", "--json").out)
    assert {item["name"]: item["kind"] for item in listed}["loihi1"] == "neuromorphic"
    assert all(item["boundary"] and sum(item["checks"].values()) for item in listed)


def test_explain_as_json(ashneuro: Command) -> None:
    for words in (("loihi2",), ("loihi1", "energy.synop")):
        content = json.loads(ashneuro("profiles", "explain", *words, "--json").out)
        assert (content["profile"], content["number"]) == (words[0], words[1] if len(words) > 1 else None)
        assert "\n".join(content["says"]).split() == ashneuro("profiles", "explain", *words).out.split()


@pytest.mark.parametrize("kind", ["neuromorphic", "asic", "gpu", "cpu"])
def test_new_profile_is_valid_and_without_numbers(ashneuro: Command, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    result = ashneuro("profiles", "new", "mine", "--kind", kind, "--out", path)
    assert result.code == 0 and f"wrote {path}" in result.out, result.err
    profile = load_profile(path)
    assert profile.kind == kind and not list(profile.quantities())
    # The first commented-out number, filled in, is read.
    text = path.read_text()
    key = text[text.index("# [") + 3 :].split("]")[0]
    block = text[text.index(f"# [{key}]") :].split("\n\n")[0]
    lines = [line.removeprefix("# ") for line in block.splitlines()]
    lines = [line.replace("value = ", "value = 2").replace('""', '"x"') for line in lines]
    path.write_text(text.replace(block, "\n".join(lines)))
    assert len(list(load_profile(path).quantities())) == 1


def test_new_rejects_existing_files_and_bad_names(ashneuro: Command, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("precious")
    exists = ashneuro("profiles", "new", "mine", "--out", path)
    assert exists.code == 2 and f"{path} exists" in exists.err and path.read_text() == "precious"
    named = ashneuro("profiles", "new", "My chip", "--out", tmp_path / "other.toml")
    assert named.code == 2 and "lower-case" in named.err


def test_validate_shows_misses_and_reasons(ashneuro: Command) -> None:
    text = ashneuro("profiles", "validate", "loihi1", "loihi2").out
    assert "above: predicted too low" in text and "inside the range" in text and "different" in text
    assert "counted by" in text and "the run waited for its input" in text
    content = json.loads(ashneuro("profiles", "validate", "--json").out)
    assert content["schema"] == "ashneuro.validation/1"
    assert {row["verdict"] for row in content["energies"]} >= {"inside", "too low"}
    unknown = ashneuro("profiles", "validate", "lohi")
    assert unknown.code == 2 and "there is no hardware profile" in unknown.err
