from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ashneuro.data import clips as clips_module
from ashneuro.data.clip_check import check_clips
from ashneuro.data.clips import changed_share
from ashneuro.data.streams import load_clips, open_clips
from ashneuro.errors import ConfigError, DataError


def pictures(count: int, seed: int = 0, side: int = 8) -> list[Image.Image]:
    """Pictures of one colour each, all different."""
    colours = np.random.default_rng(seed).integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    return [Image.fromarray(np.tile(colour, (side, side, 1))) for colour in colours]


def write_animation(path: Path, frames: list[Image.Image], duration: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lossless = {".webp": {"lossless": True}, ".avif": {"quality": 100, "subsampling": "4:4:4"}}
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=duration, **lossless.get(path.suffix, {"disposal": 0})
    )


def write_frames(folder: Path, frames: list[Image.Image]) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        frame.save(folder / f"frame{number}.png")


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".png", ".avif"])
def test_an_animated_picture_is_a_clip(tmp_path: Path, suffix: str) -> None:
    frames = pictures(5)
    write_animation(tmp_path / f"small_white-dog{suffix}", frames)
    (clip,) = load_clips(tmp_path / f"small_white-dog{suffix}")
    assert clip.frames.shape == (5, 8, 8, 3)
    assert clip.frames.dtype == np.uint8
    # AVIF computes in YUV, also at quality 100.
    np.testing.assert_allclose(clip.frames, np.stack([np.asarray(frame) for frame in frames]), atol=3)
    assert clip.frames_per_s == pytest.approx(25)
    assert (clip.key, clip.concept) == (f"small_white-dog{suffix}", "small_white-dog")
    assert clip.captions == ("small white dog",)


def test_transparency_is_white(tmp_path: Path) -> None:
    frames = [Image.new("RGBA", (4, 4), (0, 0, 0, alpha)) for alpha in (0, 255)]
    write_animation(tmp_path / "a.webp", frames)
    (clip,) = load_clips(tmp_path / "a.webp")
    assert [int(frame.mean()) for frame in clip.frames] == [255, 0]


def test_sub_folders_are_clips_with_frames_in_natural_order(tmp_path: Path) -> None:
    frames = pictures(12)
    write_frames(tmp_path / "walk", frames)
    write_frames(tmp_path / "run", frames[:3])
    (tmp_path / "empty").mkdir()
    clips = load_clips(tmp_path, native=30)
    assert [clip.key for clip in clips] == ["run", "walk"]
    np.testing.assert_array_equal(clips[1].frames, np.stack([np.asarray(frame) for frame in frames]))
    assert clips[1].frames_per_s == 30


def test_a_folder_of_stills_is_one_clip(tmp_path: Path) -> None:
    write_frames(tmp_path / "walk", pictures(3))
    (clip,) = load_clips(tmp_path / "walk")
    assert (clip.key, len(clip.frames), clip.frames_per_s) == ("walk", 3, 24)


def test_frames_are_left_out_at_a_constant_step(tmp_path: Path) -> None:
    write_animation(tmp_path / "a.webp", pictures(7), duration=40)
    (whole,) = load_clips(tmp_path)
    (third,) = load_clips(tmp_path, every=3)
    np.testing.assert_array_equal(third.frames, whole.frames[[0, 3, 6]])
    assert third.frames_per_s == pytest.approx(25 / 3)
    (near,) = load_clips(tmp_path, frames_per_s=12)
    np.testing.assert_array_equal(near.frames, whole.frames[::2])
    assert near.frames_per_s == pytest.approx(12.5)
    np.testing.assert_array_equal(whole.subsampled(3).frames, third.frames)
    assert whole.subsampled(3).frames_per_s == third.frames_per_s


def test_frames_are_resized(tmp_path: Path) -> None:
    write_frames(tmp_path / "a", pictures(2, side=8) + pictures(1, side=10))
    (clip,) = load_clips(tmp_path, image_size=4)
    assert clip.frames.shape == (3, 4, 4, 3)
    with pytest.raises(DataError, match="frame 2 is 10×10, the first one 8×8"):
        load_clips(tmp_path)


def test_a_caption_file_names_the_clips(tmp_path: Path) -> None:
    write_frames(tmp_path / "walk", pictures(2))
    write_animation(tmp_path / "run.webp", pictures(2))
    (tmp_path / "clips.csv").write_text(
        "image,caption,concept,style\nwalk,a slow man,man,film\nwalk,walking,man,film\nrun.webp,a fast man,man,film\n"
    )
    clips = load_clips(tmp_path)
    assert [(clip.key, clip.captions, clip.concept, clip.style) for clip in clips] == [
        ("walk", ("a slow man", "walking"), "man", "film"),
        ("run.webp", ("a fast man",), "man", "film"),
    ]
    (tmp_path / "clips.csv").write_text("image,caption\nwalk,a slow man\nfly,a bird\n")
    with pytest.raises(DataError, match=r"(?s)2 problem.*run.webp: has no caption.*fly.*there is no such clip"):
        load_clips(tmp_path)


def test_styles_are_chosen(tmp_path: Path) -> None:
    for name in ("walk", "run"):
        write_frames(tmp_path / name, pictures(2))
    (tmp_path / "clips.csv").write_text("image,caption,style\nwalk,a man,film\nrun,a man,drawn\n")
    assert [clip.key for clip in load_clips(tmp_path, styles=("drawn",))] == ["run"]
    with pytest.raises(ConfigError, match="has: drawn, film"):
        load_clips(tmp_path, styles=("painted",))


def test_the_limit_spreads_over_the_source_and_keeps_its_order(tmp_path: Path) -> None:
    for name in "abcdefgh":
        write_frames(tmp_path / name, pictures(2))
    keys = [clip.key for clip in load_clips(tmp_path, limit=3)]
    assert len(keys) == 3
    assert keys == sorted(keys)
    assert set(keys) < {clip.key for clip in load_clips(tmp_path, limit=5)}


def test_the_share_of_changed_pixels() -> None:
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    frames[1:, 0, 0, 1] = 6  # above 2 % of 255
    frames[2, 1] = 5  # below
    assert changed_share(frames).tolist() == [0.25, 0]
    assert changed_share(frames[:1]).shape == (0,)


def test_counts_of_clips(tmp_path: Path) -> None:
    white = np.full((7, 4, 4, 3), 255, np.uint8)
    moving = white.copy()
    moving[3:, :2] = 0  # half of the pixels, once
    write_frames(tmp_path / "still", [Image.fromarray(frame) for frame in white])
    write_frames(tmp_path / "moving", [Image.fromarray(frame) for frame in moving])
    ticks: list[tuple[int, int]] = []
    found = check_clips("mine", open_clips(tmp_path), tick=lambda done, total: ticks.append((done, total)))
    assert (found.clips, found.readable, found.still, found.concepts, found.captions) == (2, 2, 1, 2, 2)
    assert (found.sizes, found.problems, ticks) == (("4×4",), (), [(1, 2), (2, 2)])
    assert [(rate.frames_per_s, rate.frames) for rate in found.rates] == [(24, 14), (12, 8), (8, 6), (4, 4)]
    # One of 6, 3, 2 and 1 changes moves half of the pixels, in one of two clips.
    assert [rate.changed for rate in found.rates] == pytest.approx([0.5 / 12, 0.5 / 6, 0.5 / 4, 0.5 / 2])
    assert [rate.same for rate in found.rates] == pytest.approx([1 - 0.5 / 12, 1 - 0.5 / 6, 1 - 0.5 / 4, 1 - 0.5 / 2])
    (slow,) = {rate.frames for rate in check_clips("mine", open_clips(tmp_path), every=7).rates}
    assert slow == 2
    assert check_clips("mine", open_clips(tmp_path), every=7).rates[0].changed is None
    (tmp_path / "still" / "frame2.png").write_text("no picture")
    found = check_clips("mine", open_clips(tmp_path))
    assert (found.clips, found.readable) == (2, 1)
    assert found.problems[0].startswith("still: it is not an image")


def test_damaged_files_and_stills_are_listed(tmp_path: Path) -> None:
    write_animation(tmp_path / "cut.webp", pictures(6, side=32))
    data = (tmp_path / "cut.webp").read_bytes()
    (tmp_path / "cut.webp").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.gif").write_text("no picture")
    write_frames(tmp_path / "walk", pictures(2))
    pictures(1)[0].save(tmp_path / "still.png")
    with pytest.raises(DataError, match="problem") as caught:
        load_clips(tmp_path)
    assert "text.gif: it is not an image" in caught.value.why
    assert "cut.webp" in caught.value.why
    assert "still.png: a single picture, no stream" in caught.value.why


def test_a_damaged_frame_names_its_clip(tmp_path: Path) -> None:
    write_frames(tmp_path / "walk", pictures(2))
    (tmp_path / "walk" / "frame1.png").write_text("no picture")
    with pytest.raises(DataError, match="walk: it is not an image"):
        load_clips(tmp_path)


def test_reading_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_frames(tmp_path / "a", pictures(4))
    write_frames(tmp_path / "b", pictures(4))
    monkeypatch.setattr(clips_module, "MAX_BYTES", 3 * 8 * 8 * 3)
    with pytest.raises(DataError, match="a: its frames take more than"):
        load_clips(tmp_path)
    assert len(load_clips(tmp_path, every=2)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 2, "frames_per_s": 8.0}, "both say which frames are kept"),
        ({"every": 0}, "every = 0"),
        ({"limit": 0}, "limit = 0"),
        ({"image_size": 0}, "image_size = 0"),
        ({"native": 0.0}, "native = 0"),
        ({"frames_per_s": 0.0}, "not positive"),
        ({"frames_per_s": 60.0}, "frames are left out, never made up"),
    ],
)
def test_numbers_that_cannot_be_used(tmp_path: Path, arguments: dict[str, float], message: str) -> None:
    write_frames(tmp_path / "a", pictures(2))
    with pytest.raises(ConfigError, match=message):
        load_clips(tmp_path, **arguments)  # type: ignore[arg-type]


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nor a file or folder \(did you mean emoji-streams\?\)"):
        load_clips("emoji-stream")
    with pytest.raises(DataError, match="neither animated pictures"):
        load_clips(tmp_path)
