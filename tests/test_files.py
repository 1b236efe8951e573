from pathlib import Path

import pytest

from ashneuro.files import replace_file


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(file: Path) -> None:
        file.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, fail)
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["file"]
    replace_file(path, lambda file: file.write_text("new"))
    assert path.read_text() == "new"
