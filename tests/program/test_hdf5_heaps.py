"""Heaps of texts in HDF5 files, which the library walks by the sizes that they state."""

from __future__ import annotations

import random
import resource
from pathlib import Path
from typing import Any

import h5py
import pytest

from ashneuro.program import hdf5
from ashneuro.program.hdf5 import open_hdf5
from tests.fuzz.containers import _claimed_text, _heap


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


@pytest.mark.parametrize("length", [1, 17, 19, 10**6, 2**32 - 1])
def test_text_that_its_heap_does_not_have(file: Path, length: int) -> None:
    """HDF5 2.0 allocates what a text claims, up to 4 GiB, and copies what its heap has into it."""
    _claimed_text(length)(file, random.Random(0))
    with pytest.raises(ValueError, match=f"/text claims a text of {length:,} bytes"), open_hdf5(file):
        pass


def test_texts_behind_a_user_block(tmp_path: Path) -> None:
    """Addresses count from the end of the user block."""
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as made:
        made["names"] = ["a", "", "a longer one"]
    with open_hdf5(tmp_path / "a.h5") as opened:
        assert list(opened["names"]) == [b"a", b"", b"a longer one"]


@pytest.mark.parametrize("packed", [{"chunks": (2,)}, {"compression": "gzip"}])
def test_texts_in_chunks(tmp_path: Path, packed: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as made:
        made.create_dataset("names", data=["a", "b", "c"], **packed)
    with pytest.raises(ValueError, match="packed or in chunks"), open_hdf5(tmp_path / "a.h5"):
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


def test_heap_with_a_hole(file: Path) -> None:
    """A hole reads as objects of size 0, and is no part of what is on disk."""
    content = file.read_bytes()
    start = content.index(hdf5.HEAP)
    hole = start - start % 4096 + 4096  # file systems keep blocks of 4096 bytes
    assert hole < start + int.from_bytes(content[start + 8 : start + 16], "little")
    with file.open("wb") as sparse:
        sparse.write(content[:hole])
        sparse.seek(hole + 4096)
        sparse.write(content[hole + 4096 :])
        sparse.truncate(max(len(content), hole + 4096))
    with pytest.raises(ValueError, match=r"which were not written|which its heap"), open_hdf5(file):
        pass
