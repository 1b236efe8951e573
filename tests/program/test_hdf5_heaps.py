"""Heaps of texts in HDF5 files, which the library walks by the sizes that they state."""

from __future__ import annotations

import random
import resource
from pathlib import Path

import h5py
import pytest

from ashneuro.program import hdf5
from ashneuro.program.hdf5 import open_hdf5
from tests.fuzz.containers import _heap


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as made:
        made["names"] = ["a", "a longer one"] * 40
    return tmp_path / "a.h5"


def test_sound_heap_is_read(file: Path) -> None:
    with open_hdf5(file) as opened:
        assert opened["names"][1] == b"a longer one"


@pytest.mark.parametrize("length", [0, 8, 2**64 - 16, 2**32])
def test_object_that_is_not_in_its_heap(file: Path, length: int) -> None:
    """HDF5 2.0 reads a text of the first for ever."""
    _heap(length)(file, random.Random(0))
    with pytest.raises(ValueError, match=f"claims {length:,} bytes, which its heap"), open_hdf5(file):
        pass


def test_heaps_in_one_another_are_bounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "MOST", 60)
    with pytest.raises(ValueError, match="more than 60 texts"), open_hdf5(file):
        pass


def test_holes_are_not_read(file: Path, request: pytest.FixtureRequest) -> None:
    with file.open("r+b") as opened:
        opened.truncate(1 << 40)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_AS, before))
    resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 30), before[1]))
    with open_hdf5(file) as opened:
        assert len(opened["names"]) == 80
