"""``ashneuro data``: what has a name, and what of it is here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ashneuro.data.fetch import TUXPAINT
from tests.commands.conftest import Command


def test_the_list_says_what_is_here(ashneuro: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path))
    marker = tmp_path / "data" / "tuxpaint" / TUXPAINT.marker
    marker.parent.mkdir(parents=True)
    marker.write_text("{}")
    rows = {line.split()[0]: line for line in ashneuro("data", "list").out.splitlines() if line.strip()}
    assert rows["emoji"].split()[1] == rows["tuxpaint"].split()[1] == "yes"
    assert "ashneuro data fetch easy-vqa" in rows["easy-vqa"]
    listed = {item["name"]: item["here"] for item in json.loads(ashneuro("data", "list", "--json").out)}
    assert listed == {"emoji": True, "tuxpaint": True, "easy-vqa": False}
