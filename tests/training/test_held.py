"""One training at a time in the folder of a run, and no folder where nothing was trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashneuro.errors import ConfigError
from ashneuro.files import is_temporary, replace_file
from ashneuro.training.folder import held, open_folder
from tests.training.tiny import CONFIG


def test_second_training_in_a_folder_is_refused(tmp_path: Path) -> None:
    with (
        held(tmp_path / "run", resume=False),
        pytest.raises(ConfigError, match="would write over the same checkpoints"),
        held(tmp_path / "run", resume=True),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_failure_before_the_first_file_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no data"), held(tmp_path / "run", resume=False):
        open_folder(tmp_path / "run", CONFIG, resume=False)
        raise ConfigError("no data", "", "")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "own").mkdir()
    with held(tmp_path / "own", resume=False):
        pass
    assert (tmp_path / "own").is_dir(), "made by the user"


def test_half_a_file_of_a_killed_training_is_taken_away(tmp_path: Path) -> None:
    names = []
    replace_file(tmp_path / "trainer.pt", lambda path: (names.append(path.name), path.write_bytes(b"")))
    assert is_temporary(names[0]) and not is_temporary("trainer.pt") and not is_temporary(".hidden.json")
    (tmp_path / "trainer.pt").rename(tmp_path / names[0])
    with held(tmp_path, resume=False):
        open_folder(tmp_path, CONFIG, resume=False)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(ConfigError, match="cannot write to /proc/nowhere/run"), held(Path("/proc/nowhere/run"), False):
        pass
