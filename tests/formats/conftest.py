"""The files that earlier versions wrote, unpacked into a folder that a test may write to."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from tests.commands.conftest import ashneuro

__all__ = ["ashneuro"]

FIXTURES = Path(__file__).parent / "before_2026_11"
ASSUMED = Path(__file__).parent / "assumptions_2026_11"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unpacked fixture as the working directory: its runs name their data by a relative
    path.
    """
    shutil.copytree(FIXTURES / "shapes", tmp_path / "shapes")
    for archive in FIXTURES.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            tar.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unpacked bundle that records its assumptions, and counts, as the working directory."""
    with tarfile.open(ASSUMED / "leaky.bundle.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    shutil.copy(ASSUMED / "leaky-counts.npz", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
