from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ashneuro.config import DataConfig
from ashneuro.data import emoji_streams
from ashneuro.data.clip_files import animated_frames
from ashneuro.data.clip_pack import ARCHIVE, INDEX, MANIFEST, without_times
from ashneuro.data.downloads import Tarball
from ashneuro.data.emoji import load_emoji
from ashneuro.data.emoji_streams import (
    PACK,
    Texts,
    build_emoji_streams,
    build_pack,
    emoji_texts,
    is_unlicensed,
    read_animations,
)
from ashneuro.data.streams import changed_share, load_clips, open_clips
from ashneuro.errors import ConfigError, DataError
from tests.data.animations import moving_square, webp

TEXTS = {
    code: Texts((name, f"animal, {name}"), name, "animals & nature")
    for code, name in {"1f400": "rat", "1f401": "mouse", "1f402": "ox", "1f403": "buffalo", "1f404": "cow"}.items()
}


def animations(count: int = 9) -> dict[str, bytes]:
    return {code: webp(moving_square(count, seed=row)) for row, code in enumerate(TEXTS)}


def npm_package(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_the_embedded_pack_is_complete() -> None:
    manifest = json.loads((PACK / MANIFEST).read_text())
    assert {path.name for path in PACK.iterdir()} == {ARCHIVE, MANIFEST, "LICENSES.txt"}
    assert hashlib.sha256((PACK / ARCHIVE).read_bytes()).hexdigest() == manifest["files"][ARCHIVE]
    assert sum(path.stat().st_size for path in PACK.iterdir()) < 5_500_000
    licences = (PACK / "LICENSES.txt").read_text()
    assert "Copyright (c) Microsoft Corporation." in licences and "UNICODE LICENSE V3" in licences
    records = open_clips("emoji-streams")
    assert len(records) == 693
    assert not [record.key for record in records if is_unlicensed(record.key)]
    assert {round(record.frames_per_s, 2) for record in records} == {7.94}
    whole = open_clips("emoji-streams-24")
    assert len(whole) == 174
    assert {record.key for record in whole} < {record.key for record in records}
    assert {round(record.frames_per_s, 2) for record in whole} == {23.81}


def test_texts_are_those_of_the_emoji_pack() -> None:
    pairs = load_emoji(DataConfig(source="emoji", split="concept"))
    texts = {
        pair.key.partition("/")[2]: (pair.captions, pair.concept, pair.labels["group"])
        for pair in (*pairs.train, *pairs.validation, *pairs.test)
    }
    records = open_clips("emoji-streams")
    assert {r.key: (r.captions, r.concept, r.group) for r in records} == {r.key: texts[r.key] for r in records}
    assert len({record.concept for record in records}) == len(records)


def test_embedded_clips_load_at_several_rates() -> None:
    (clip,) = load_clips("emoji-streams", limit=1)
    assert clip.frames.shape[1:] == (48, 48, 3) and len(clip.frames) <= 24
    assert 0.01 < changed_share(clip.frames).mean() < 0.5
    (small,) = load_clips("emoji-streams", limit=1, image_size=32, frames_per_s=4)
    assert small.frames.shape == (len(clip.frames[::2]), 32, 32, 3)
    (fast,) = load_clips("emoji-streams-24", limit=1)
    assert 24 < len(fast.frames) <= 72
    (slow,) = [c for c in load_clips("emoji-streams-24", frames_per_s=8, limit=1)]
    np.testing.assert_array_equal(slow.frames, fast.frames[::3])
    # A clip that is held at the full rate is the same clip in both sources.
    (record,) = [record for record in open_clips("emoji-streams") if record.key == fast.key]
    np.testing.assert_array_equal(record.load().frames, fast.frames[::3])
    with pytest.raises(ConfigError, match=r"has 7\.94 frames/s[\s\S]*or take emoji-streams-24"):
        load_clips("emoji-streams", limit=1, frames_per_s=24)


def test_a_miniature_is_built_and_read(tmp_path: Path) -> None:
    files = {
        **animations(),
        "1f405": webp(moving_square()),  # no emoji of the pack
        "1f402": webp(moving_square(1)),  # a still
    }
    steps: list[str] = []
    summary = build_pack(tmp_path, files, TEXTS, steps.append)
    assert (summary.clips, summary.frames) == (4, 9 + 3 * 3), "a quarter at the full rate, rounded up"
    assert steps == ["packing clips, 4 of 4"]
    assert summary.size_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    clips = load_clips(tmp_path)
    assert [clip.key for clip in clips] == ["1f400", "1f401", "1f403", "1f404"]
    assert (clips[1].captions, clips[1].concept, clips[1].group) == (
        ("mouse", "animal, mouse"),
        "mouse",
        "animals & nature",
    )
    assert [clip.frames.shape for clip in clips] == [(3, 48, 48, 3)] * 4
    assert clips[0].frames_per_s == pytest.approx(1000 / 42 / 3)
    for clip in clips:
        expected = np.stack(list(emoji_streams.scaled(files[clip.key], clip.key, 3)))
        assert np.abs(clip.frames.astype(int) - expected).mean() < 2
        assert (clip.frames[0] == clip.frames[-1]).all(-1).mean() > 0.5, "what does not move stays the same"
    whole = build_pack(tmp_path / "whole", files, TEXTS, whole=True)
    assert whole.frames == 4 * 9
    assert [len(clip.frames) for clip in load_clips(tmp_path / "whole")] == [9] * 4


def test_a_build_gives_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_pack(tmp_path / name, animations(), TEXTS)
    # Whether they are equal, as numbers: pytest would take minutes to show how bytes differ.
    for name in (ARCHIVE, MANIFEST):
        assert len({hashlib.sha256((tmp_path / build / name).read_bytes()).hexdigest() for build in "ab"}) == 1


def test_the_time_of_encoding_is_cleared() -> None:
    first, *rest = [Image.fromarray(frame) for frame in moving_square(3)]
    buffer = io.BytesIO()
    first.save(buffer, "AVIF", save_all=True, append_images=rest, quality=100, subsampling="4:4:4")
    raw = buffer.getvalue()
    cleared = without_times(raw)
    for header in (b"mvhd", b"tkhd", b"mdhd"):
        at = raw.index(header)
        version = raw[at + 4]
        times = slice(at + 8, at + 8 + (16 if version else 8))  # of creation and of the last change
        assert any(raw[times]) and not any(cleared[times]), header
    assert len(raw) == len(cleared)
    before, after = (list(animated_frames(io.BytesIO(data), "a")) for data in (raw, cleared))
    np.testing.assert_array_equal(before, after)
    assert without_times(b"\0\0\0\x10ftypavif") == b"\0\0\0\x10ftypavif"


def test_tall_animations_are_padded_and_long_ones_are_cut() -> None:
    tall = np.full((80, 16, 8, 3), 0, np.uint8)
    tall[::2] = 40  # WebP joins equal frames
    frames = list(emoji_streams.scaled(webp(tall), "tall", 3))
    assert len(frames) == 24
    assert frames[0].shape == (48, 48, 3)
    assert frames[0][24, 2].min() == frames[0][24, -3].min() == 255 and frames[0][24, 24].max() == 40


def test_skin_tones_and_animations_without_licence_are_not_read(tmp_path: Path) -> None:
    names = ["1f44b.webp", "1f44b-1f3fb.webp", "1f46a.webp", "1f468-200d-1f467.webp", "1f491.webp", "2764-fe0f.webp"]
    files = {f"assets/{name}": name.encode() for name in [*names, "a.png"]}
    found = read_animations(npm_package(tmp_path / "a.tgz", files))
    assert found == {"1f44b": b"1f44b.webp", "2764": b"2764-fe0f.webp"}
    (tmp_path / "a.tgz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot read"):
        read_animations(tmp_path / "a.tgz")


def test_flags_have_no_text() -> None:
    texts = emoji_texts()
    assert {"1f3c1", "1f3f3", "1f38c", "1f6a9"}.isdisjoint(texts)
    assert texts["1f400"].captions[0] == texts["1f400"].concept == "rat"


def test_the_whole_build_from_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", tmp_path.as_uri())
    tarballs = []
    for name, codes in {"one": ["1f400", "1f401"], "two": ["1f404", "1f46a"]}.items():
        path = tmp_path / f"@x/{name}" / "-" / f"{name}-1.0.0.tgz"
        path.parent.mkdir(parents=True)
        content = npm_package(path, {f"assets/{code}.webp": webp(moving_square()) for code in codes}).read_bytes()
        tarballs.append(Tarball(f"@x/{name}", "1.0.0", len(content), hashlib.sha256(content).hexdigest()))
    monkeypatch.setattr(emoji_streams, "PACKAGES", tuple(tarballs))
    steps: list[str] = []
    build_emoji_streams(tmp_path / "out", steps.append)
    assert [clip.captions[0] for clip in load_clips(tmp_path / "out")] == ["rat", "mouse", "cow"]
    assert (tmp_path / "out" / "LICENSES.txt").is_file()
    assert "downloading @x/one@1.0.0, 100 % of 0 MB" in steps
    assert list((tmp_path / "home" / "downloads").iterdir()) == [], "nothing stays in the cache"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    build_pack(tmp_path / "pack", animations(), TEXTS)
    return tmp_path / "pack"


def rewritten(pack: Path, **members: bytes | None) -> None:
    """Replace members of the archive; ``None`` leaves one out."""
    with zipfile.ZipFile(pack / ARCHIVE) as archive:
        content = {name: archive.read(name) for name in archive.namelist()} | members
    with zipfile.ZipFile(pack / ARCHIVE, "w") as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)


def test_damaged_packs_are_refused(pack: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    index = zipfile.ZipFile(pack / ARCHIVE).read(INDEX)
    damages = {
        "no zip": lambda: (copy / ARCHIVE).write_bytes(b"x"),
        "cut": lambda: (copy / ARCHIVE).write_bytes((copy / ARCHIVE).read_bytes()[:-100]),
        "manifest": lambda: (copy / MANIFEST).write_text("{}"),
        "no clip": lambda: rewritten(copy, **{"1f400.avif": None}),
        "entry": lambda: rewritten(copy, **{INDEX: index.replace(b'"every"', b'"ever"')}),
        "number": lambda: rewritten(copy, **{INDEX: index.replace(b'"frames": 3', b'"frames": 0')}),
        "steps": lambda: rewritten(copy, **{INDEX: index.replace(b'"every": 1', b'"every": 2')}),
    }
    for damage in damages.values():
        shutil.copytree(pack, copy)
        damage()
        with pytest.raises(DataError, match="ashneuro data build emoji-streams"):
            load_clips(copy)
        shutil.rmtree(copy)


def test_a_damaged_clip_is_named(pack: Path) -> None:
    still = io.BytesIO()
    Image.new("RGB", (48, 48)).save(still, "AVIF")
    rewritten(pack, **{"1f400.avif": b"no picture", "1f401.avif": still.getvalue()})
    with pytest.raises(DataError, match="problem") as caught:
        load_clips(pack)
    assert "1f400: it is not an image" in caught.value.why
    assert "1f401: it has not the" in caught.value.why


@pytest.mark.slow
def test_embedded_pack_equals_a_new_build(tmp_path: Path) -> None:
    """Needs npm's registry: 730 MB.

    Pixels and texts must be equal; compressed bytes depend on encoder versions.
    """
    summary = build_emoji_streams(tmp_path)
    embedded, built = (json.loads((folder / MANIFEST).read_text()) for folder in (PACK, tmp_path))
    assert summary.digest == built["digest"] == embedded["digest"]
    if built["made_with"] == embedded["made_with"]:
        # The embedded pack was built before manifests stated their version.
        assert built == {"schema": built["schema"], **embedded}
