"""Files of the cache folder: whatever stands in their place is made again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ashneuro.arrays import kept_array
from ashneuro.schemas import BROKEN, READY, SURVEY, Format
from ashneuro.simulation.lava import environment

Place = Callable[[Path], object]
PLACES: dict[str, Place] = {
    "an empty file": lambda path: path.write_bytes(b""),
    "a list": lambda path: path.write_text("[]"),
    "null": lambda path: path.write_text("null"),
    "nested deeply": lambda path: path.write_text("[" * 100_000),
    "a long integer": lambda path: path.write_text("9" * 6000),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "another schema": lambda path: path.write_text('{"schema": "another/1"}'),
    "a named pipe": os.mkfifo,
    "an empty folder": Path.mkdir,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}
places = pytest.mark.parametrize("stands", PLACES.values(), ids=PLACES)
MADE: dict[Format, dict[str, Any]] = {
    BROKEN: {"broken": {"a.png": "it is cut off"}},
    SURVEY: {"samples": [["a/1", ["a text"]]], "pairs": 1, "problems": []},
}


@places
@pytest.mark.parametrize("file", MADE, ids=lambda file: file.name)
def test_values_are_made_again(file: Format, stands: Place, tmp_path: Path) -> None:
    path = tmp_path / "kept" / "x.json"
    path.parent.mkdir()
    stands(path)
    assert file.kept(path, lambda: MADE[file]) == MADE[file]
    assert file.kept(path, lambda: pytest.fail("made again")) == MADE[file]


@pytest.mark.parametrize("name", ["samples", "pairs", "problems"])
def test_values_of_another_type_are_made_again(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(SURVEY.stamped(MADE[SURVEY] | {name: "x"})))
    assert SURVEY.kept(tmp_path / "x.json", lambda: MADE[SURVEY]) == MADE[SURVEY]


def test_folder_with_something_in_it_stays(tmp_path: Path) -> None:
    (tmp_path / "x.json").mkdir()
    (tmp_path / "x.json" / "own").touch()
    assert BROKEN.kept(tmp_path / "x.json", lambda: MADE[BROKEN]) == MADE[BROKEN]
    assert (tmp_path / "x.json" / "own").exists()
    with pytest.raises(OSError):
        kept_array(tmp_path / "x.json", (2,), np.uint8, lambda array: None)


def _cut(path: Path) -> None:
    np.save(path, np.zeros((3, 4), np.uint8))
    path.write_bytes(path.read_bytes()[:-1])


def _longer(path: Path) -> None:
    np.save(path, np.zeros((3, 4), np.uint8))
    path.write_bytes(path.read_bytes() + b"x")


def _saved(values: Any) -> Place:
    return lambda path: np.save(path, values)


ARRAYS = PLACES | {
    "cut off": _cut,
    "longer": _longer,
    "another shape": _saved(np.zeros((4, 3), np.uint8)),
    "another type": _saved(np.zeros((3, 4), np.int8)),
    "Fortran order": _saved(np.zeros((3, 4), np.uint8, "F")),
    "objects": _saved(np.array([[{}] * 4] * 3)),
}


@pytest.mark.parametrize("stands", ARRAYS.values(), ids=ARRAYS)
def test_arrays_are_made_again(stands: Place, tmp_path: Path) -> None:
    path = tmp_path / "kept" / "x.npy"
    path.parent.mkdir()
    stands(path)
    wanted = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for fill in (lambda array: np.copyto(array, wanted), lambda array: pytest.fail("made again")):
        found = kept_array(path, (3, 4), np.uint8, fill)
        assert np.array_equal(found, wanted) and found.flags.writeable
    found[0] = 0
    assert np.array_equal(np.load(path), wanted), "the file is not changed"


@places
def test_environment_is_not_ready(stands: Place, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / "ready.json").write_text(json.dumps({"requirements": environment._fingerprint()}))
    assert environment._ready(tmp_path)
    (tmp_path / "ready.json").unlink()
    stands(tmp_path / "ready.json")
    assert not environment._ready(tmp_path)
    with pytest.raises((OSError, ValueError)):
        READY.load(tmp_path / "ready.json")
