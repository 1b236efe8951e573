"""``ashneuro profiles``: what a script reads."""

from __future__ import annotations

import json

from tests.commands.conftest import Command


def test_profiles_are_listed_for_a_script_too(ashneuro: Command) -> None:
    listed = json.loads(ashneuro("profiles", "list", "--json").out)
    assert {item["name"]: item["kind"] for item in listed}["loihi1"] == "neuromorphic"
    assert all(item["boundary"] and sum(item["checks"].values()) for item in listed)


def test_what_a_profile_explains_is_there_for_a_script_too(ashneuro: Command) -> None:
    for words in (("loihi2",), ("loihi1", "energy.synop")):
        told = json.loads(ashneuro("profiles", "explain", *words, "--json").out)
        assert (told["profile"], told["number"]) == (words[0], words[1] if len(words) > 1 else None)
        assert "\n".join(told["says"]).split() == ashneuro("profiles", "explain", *words).out.split()
