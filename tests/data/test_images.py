from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ashneuro.data.images import header_problem, read_image
from ashneuro.errors import DataError

from .pictures import write_picture


def test_images_are_rgb(tmp_path: Path) -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), pixels)


def test_transparency_is_flattened_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = 0, 128, 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [255, 127, 0]


def test_transparent_palette_entry_is_flattened_on_white(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putdata([0, 1])
    picture.save(tmp_path / "a.png", transparency=0)
    assert read_image(tmp_path / "a.png").tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_sixteen_bit_images_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0x1234, 0xFFFF]], np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 1].tolist() == [0, 0x12, 255]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (20, 10), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is on the right
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (20, 10, 3)


@pytest.mark.parametrize("mode", ["L", "LA", "CMYK", "1"])
def test_other_modes_have_three_channels(tmp_path: Path, mode: str) -> None:
    name = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new(mode, (3, 2)).save(name)
    pixels = read_image(name)
    assert (pixels.shape, pixels.dtype) == ((2, 3, 3), np.uint8)


def test_tiff_with_fractional_offsets_is_damaged(tmp_path: Path) -> None:
    """With one wrong byte, in the type of StripOffsets, Pillow's decoder raises a TypeError."""
    Image.new("RGB", (4, 3)).save(tmp_path / "a.tif")
    data = (tmp_path / "a.tif").read_bytes()
    entry = data.index(struct.pack("<HH", 273, 4))
    (tmp_path / "a.tif").write_bytes(data[: entry + 2] + struct.pack("<H", 5) + data[entry + 4 :])
    with pytest.raises(DataError, match=r"a\.tif"):
        read_image(tmp_path / "a.tif")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png[\s\S]*no such file"):
        read_image(tmp_path / "gone.png")
    assert header_problem(tmp_path / "gone.png") == "there is no such file"


def test_truncated_file_is_an_error(tmp_path: Path) -> None:
    whole, short = tmp_path / "whole.png", tmp_path / "short.png"
    write_picture(whole, size=(40, 40))
    short.write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"short\.png"):
        read_image(short)
    assert header_problem(whole) == ""


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_header_problem_of_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert "not an image" in header_problem(tmp_path / "a.png")
    with pytest.raises(DataError, match="not an image"):
        read_image(tmp_path / "a.png")


def test_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "a.png", size=(100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="exceeds limit"):
        read_image(tmp_path / "a.png")
    assert "exceeds limit" in header_problem(tmp_path / "a.png")


@pytest.mark.parametrize(
    "values, expected",
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]], np.float32), [0, 100, 255]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 0x1234, 0xFFFF]], np.int32), [0, 0x12, 255]),
    ],
)
def test_numbers_are_scaled_to_bytes(tmp_path: Path, values: np.ndarray, expected: list[int]) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, :, 1].tolist() == expected


@pytest.mark.parametrize(
    "values",
    [np.array([[-1.0, 1.0]], np.float32), np.array([[0.0, np.nan]], np.float32), np.array([[0, 1 << 20]], np.int32)],
)
def test_numbers_of_an_unknown_range_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif[\s\S]*its pixels are numbers from"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "palette.png", "clear.png"])
@pytest.mark.filterwarnings("error")
def test_large_pictures_are_reduced_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    picture = Image.new("RGB", (120, 100), (200, 30, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is on the right
    if name == "clear.png":
        picture.putalpha(0)
    (picture.quantize(4) if name == "palette.png" else picture).save(tmp_path / name, exif=exif)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    monkeypatch.setattr("ashneuro.data.images.LARGE_TO", 1000)
    assert header_problem(tmp_path / name) == ""
    pixels = read_image(tmp_path / name)
    assert pixels.shape[0] * pixels.shape[1] <= 1000 and pixels.shape[0] > pixels.shape[1]
    assert np.abs(pixels[5, 5].astype(int) - ([255] * 3 if name == "clear.png" else [200, 30, 30])).max() < 5
