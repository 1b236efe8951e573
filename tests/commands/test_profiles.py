"""``ashneuro profiles``: lists, explanations and new files."""

from __future__ import annotations

import json

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
