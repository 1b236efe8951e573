"""Digests of bundles in the files of a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ashneuro.training.provenance import record_export, recorded_exports


@pytest.mark.parametrize(
    "make",
    [lambda card: card.write_bytes(b"\xff\xfe"), Path.mkdir, os.mkfifo, lambda card: card.symlink_to("/dev/zero")],
    ids=["no text", "a folder", "a named pipe", "a device"],
)
def test_card_that_is_no_text_stays(make: Callable[[Path], object], tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    make(card)
    kind = card.lstat().st_mode
    record_export(tmp_path, tmp_path / "bundle", "0" * 64)
    assert recorded_exports(tmp_path) == {"bundle": "0" * 64} and card.lstat().st_mode == kind
