"""``ashneuro profiles``: what a script reads."""

from __future__ import annotations

import json

from tests.commands.conftest import Command


def test_profiles_are_listed_for_a_script_too(ashneuro: Command) -> None:
    listed = json.loads(ashneuro("profiles", "list", "--json").out)
    assert {item["name"]: item["kind"] for item in listed}["loihi1"] == "neuromorphic"
    assert all(item["boundary"] and sum(item["checks"].values()) for item in listed)
