"""Files below a folder with links between folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashneuro.data.walk import files_below


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in files_below(folder)]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    top, disk = tmp_path / "top", tmp_path / "disk"
    for folder in (top / "a", top / "b", disk):
        folder.mkdir(parents=True)
        (folder / "x.png").touch()
    (top / "c").symlink_to(disk)
    (top / "d").symlink_to(disk)  # the same folder twice, under two names
    (top / "a" / "up").symlink_to(top)
    (top / "a" / "b").symlink_to("../b")
    (top / "b" / "a").symlink_to("../a")
    (top / "itself").symlink_to("itself")
    (top / "nothing.png").symlink_to("nowhere")
    assert names(top) == ["a/b/x.png", "a/x.png", "b/a/x.png", "b/x.png", "c/x.png", "d/x.png"]


@pytest.mark.parametrize("circle", [True, False])
def test_paths_without_end_are_refused(circle: bool, tmp_path: Path) -> None:
    """40 folders with two links each to the next make 2^40 paths."""
    for number in range(40):
        (tmp_path / str(number)).mkdir()
        for name in ("x", "y"):
            following = (number + 1) % 40 if circle else number + 1
            (tmp_path / str(number) / name).symlink_to(f"../{following}")
    with pytest.raises(OSError, match="more than 10,000 folders"):
        files_below(tmp_path)
