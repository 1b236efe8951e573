from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ashneuro.data.fetch import METEOCONS, fetch
from ashneuro.data.meteocons import ARCHIVE, draw, unpack
from ashneuro.data.streams import load_clips
from ashneuro.errors import DataError, MissingDependency


def lottie(frames: int = 60, move: bool = True) -> bytes:
    """A black square of 32 pixels on a page of 128, which moves to the right by 64 pixels."""
    start, end = [32, 64], [96 if move else 32, 64]
    keys = [{"t": 0, "s": start, "i": {"x": 1, "y": 1}, "o": {"x": 0, "y": 0}}, {"t": frames, "s": end}]
    zero, whole = {"a": 0, "k": [0, 0]}, {"a": 0, "k": [100, 100]}
    square = {"ty": "rc", "p": zero, "s": {"a": 0, "k": [32, 32]}, "r": {"a": 0, "k": 0}}
    black = {"ty": "fl", "c": {"a": 0, "k": [0, 0, 0, 1]}, "o": {"a": 0, "k": 100}, "r": 1}
    full = {"a": 0, "k": 100}
    place = {"ty": "tr", "p": zero, "a": zero, "s": whole, "r": {"a": 0, "k": 0}, "o": full}
    layer = {
        "ty": 4,
        "ind": 1,
        "ip": 0,
        "op": frames,
        "st": 0,
        "ks": {"p": {"a": 1, "k": keys}, "a": zero, "s": whole, "r": {"a": 0, "k": 0}, "o": full},
        "shapes": [{"ty": "gr", "it": [square, black, place]}],
    }
    page = {
        "v": "5.9.0",
        "fr": 60,
        "ip": 0,
        "op": frames,
        "w": 128,
        "h": 128,
        "ddd": 0,
        "assets": [],
        "layers": [layer],
    }
    return json.dumps(page).encode()


def package(files: dict[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    buffer.seek(0)
    return buffer


ICONS = {
    f"{style}/clear-{part}.json": lottie(move=part == "day") for style in ("fill", "line") for part in ("day", "night")
}


def test_fetched_icons_are_drawn_when_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("thorvg_python")
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path / "home"))
    with pytest.raises(DataError, match="ashneuro data fetch meteocons"):
        load_clips("meteocons")
    content = package({**ICONS, "LICENSE": b"MIT", "index.d.ts": b"", "other/x.json": b"", "fill/../x.json": b""})
    (tmp_path / "icons.tgz").write_bytes(content.getvalue())
    pinned = replace(
        METEOCONS,
        url=(tmp_path / "icons.tgz").as_uri(),
        size_bytes=len(content.getvalue()),
        sha256=hashlib.sha256(content.getvalue()).hexdigest(),
    )
    folder = fetch("meteocons", None, pinned)
    assert {path.name for path in folder.iterdir()} == {ARCHIVE, "LICENSE"}
    clips = load_clips("meteocons", image_size=24)
    assert [(clip.key, clip.concept, clip.captions, clip.style) for clip in clips[:2]] == [
        ("fill/clear-day", "clear-day", ("clear day",), "fill"),
        ("fill/clear-night", "clear-night", ("clear night",), "fill"),
    ]
    assert len(clips) == 4 and len({clip.concept for clip in clips}) == 2
    assert clips[0].frames.shape == (12, 24, 24, 3) and clips[0].frames_per_s == 12
    (day,) = load_clips("meteocons", styles=("line",), every=1, limit=1)
    assert day.frames.shape == (60, 96, 96, 3) and day.frames_per_s == 60


def test_frames_follow_the_animation() -> None:
    pytest.importorskip("thorvg_python")
    frames = np.stack(list(draw(lottie(), "a", 10)))
    assert frames.shape == (6, 96, 96, 3)
    assert (frames[:, 0, 0] == 255).all(), "on white"
    dark = (frames < 128).all(-1)
    centres = [np.nonzero(frame)[1].mean() for frame in dark]
    assert all(after > before for before, after in pairwise(centres))
    assert [frame.sum() for frame in dark] == pytest.approx([24 * 24] * 6, rel=0.1)
    still = np.stack(list(draw(lottie(move=False), "a", 30)))
    assert (still[0] == still[1]).all()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"v": 1}'])
def test_broken_animations_are_errors(content: bytes) -> None:
    pytest.importorskip("thorvg_python")
    with pytest.raises(DataError, match=r"cannot draw fill/x[\s\S]*ThorVG says"):
        list(draw(content, "fill/x", 1))


def test_without_thorvg_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "thorvg_python", None)
    with pytest.raises(MissingDependency, match=r"\[lottie\]"):
        list(draw(lottie(), "a", 1))


def test_other_packages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not an npm package"):
        unpack(io.BytesIO(b"x"), tmp_path, lambda _: None)
    with pytest.raises(DataError, match="holds no icons"):
        unpack(package({"LICENSE": b"MIT"}), tmp_path, lambda _: None)


def test_a_damaged_archive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path))
    folder = tmp_path / "data" / "meteocons"
    folder.mkdir(parents=True)
    (folder / ARCHIVE).write_bytes(b"x")
    with pytest.raises(DataError, match=r"cannot be read[\s\S]*ashneuro data fetch meteocons"):
        load_clips("meteocons")
