"""Build of the pack *animated emoji*: Microsoft's animated Fluent emoji with the names and keywords
of the emoji pack.

Captions and concepts are those of the emoji pack, so a network that was trained on still drawings
is tested on streams. The animations come from npm, pinned by hash; everything is made in memory, in
the order of the code points.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.config import cache_dir
from ashneuro.cores import reading_threads
from ashneuro.data.clip_files import animated_frames
from ashneuro.data.clip_pack import ClipPackSummary, PackedClip, encode, write_pack
from ashneuro.data.downloads import Tarball, fetch_tarball
from ashneuro.data.emoji import PACK as EMOJI
from ashneuro.data.emoji_build import plain_code
from ashneuro.data.splits import hash_order
from ashneuro.errors import DataError, need

PACK = EMOJI.with_name("emoji-streams")
PACKAGES = (
    Tarball(
        "@lobehub/fluent-emoji-anim-1",
        "1.0.0",
        164_966_217,
        "4c03ac178c1eabf2e2a16dd498f3cc2b92dc30ec3466ae38fdc497d4774c99ea",
    ),
    Tarball(
        "@lobehub/fluent-emoji-anim-2",
        "1.0.0",
        181_915_962,
        "e431da8172e394036c330faa77648d6fbbae1fd3b0be95637c4497c9075019c0",
    ),
    Tarball(
        "@lobehub/fluent-emoji-anim-3",
        "1.0.0",
        197_000_910,
        "3624d0c34c819c1794b74ccf6ae9034adff7c4cb6318dd2a645145f0196feb43",
    ),
    Tarball(
        "@lobehub/fluent-emoji-anim-4",
        "1.0.0",
        185_915_894,
        "3d4c08f1e321f70808ef4996aba0ab575a9d97b6c56ffffc92cf6161a7836aa3",
    ),
)
SIZE = 48  # pixels, both sides
STEP = 3  # of the clips at the low rate: 8 of 24 frames a second
LENGTH = 72  # frames of the original that are kept, 3 s
WHOLE = 4  # every WHOLE-th clip, by hash, is held at the full rate
RATE = 1000 / 42  # frames per second: every frame of these files takes 42 ms
SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
SOURCE = "https://github.com/microsoft/fluentui-emoji-animated"
COMMIT = "daa0365c09795789ed2bc6e8b228c97736cb6669"
# Animations of the npm packages that the metadata of Microsoft's repository (COMMIT) does not name:
# families joined from persons, couples, technologists. Their licence is not established.
FAMILY = re.compile(r"1f46[89](-200d-1f46[6-9])+")
UNNAMED = {
    "1f468-200d-1f4bb",
    "1f468-200d-2764-200d-1f468",
    "1f469-200d-2764-200d-1f468",
    "1f469-200d-2764-200d-1f469",
    "1f469-200d-2764-200d-1f48b-200d-1f469",
    "1f46a",
    "1f46b",
    "1f46c",
    "1f46d",
    "1f48f",
    "1f491",
    "1f9d1-200d-1f4bb",
    "1f9d1-200d-1f91d-200d-1f9d1",
}


@dataclass(frozen=True)
class Texts:
    """Texts of an emoji in the emoji pack."""

    captions: tuple[str, ...]
    concept: str
    group: str


def build_emoji_streams(
    out: str | Path, progress: Callable[[str], None] | None = None, *, whole: bool = False
) -> ClipPackSummary:
    """Fetch and check the npm packages (730 MB), and write the pack to the folder ``out``.

    Downloads are kept in the cache folder until the pack is complete: after an interruption they go
    on where they stopped.

    Args:
        whole: hold every clip at 24 frames per second (about 7.5 MB), not a quarter of them.

    Raises:
        DataError: a package cannot be fetched, or is not the pinned one.
        MissingDependency: Pillow is not installed.
    """
    say = progress or (lambda _: None)
    folder = cache_dir() / "downloads"
    tarballs = [fetch_tarball(package, folder, say) for package in PACKAGES]
    files: dict[str, bytes] = {}
    for package, tarball in zip(PACKAGES, tarballs, strict=True):
        say(f"reading {package.spec}")
        files |= read_animations(tarball)
    summary = build_pack(Path(out), files, emoji_texts(), say, whole=whole)
    if Path(out).resolve() != PACK.resolve():
        shutil.copy(PACK / "LICENSES.txt", out)
    for tarball in tarballs:
        tarball.unlink()
    return summary


def read_animations(tarball: Path) -> dict[str, bytes]:
    """Return the WebP files of a package by code point, without skin tones and
    `is_unlicensed` ones.

    Raises:
        DataError: the file is not a gzipped tar archive.
    """
    found = {}
    try:
        with tarfile.open(tarball, mode="r|gz") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                code = plain_code(path.stem)
                if (
                    member.isfile()
                    and path.suffix == ".webp"
                    and not SKIN_TONES & set(code.split("-"))
                    and not is_unlicensed(code)
                ):
                    file = tar.extractfile(member)
                    assert file is not None  # isfile() says so
                    found[code] = file.read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"cannot read {tarball}", str(error), "remove it and run it again") from error
    return found


def is_unlicensed(code: str) -> bool:
    """Return True if the animation of an emoji has no established licence."""
    return code in UNNAMED or FAMILY.fullmatch(code) is not None


def emoji_texts(pack: Path = EMOJI) -> dict[str, Texts]:
    """Return the texts of the emoji pack by code point."""
    with gzip.open(pack / "captions.json.gz", "rt", encoding="utf-8") as file:
        content = json.load(file)
    captions: dict[int, list[str]] = {}
    for annotation in content["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    # All styles of an emoji have the same texts.
    return {
        image["file_name"].partition("/")[2]: Texts(tuple(captions[image["id"]]), image["concept"], image["group"])
        for image in content["images"]
    }


def build_pack(
    out: Path,
    files: Mapping[str, bytes],
    texts: Mapping[str, Texts],
    progress: Callable[[str], None] | None = None,
    *,
    whole: bool = False,
) -> ClipPackSummary:
    """Write the pack of the animations among ``files``, WebP by code point, to ``out``.

    Left out: still pictures, and emoji that the emoji pack does not have (flags).
    """
    say = progress or (lambda _: None)
    chosen = sorted(code for code, data in files.items() if code in texts and _is_animated(data))
    quarter = set(hash_order(chosen, "whole")[: -(-len(chosen) // WHOLE)])

    def pack(code: str) -> tuple[PackedClip, bytes, str]:
        every = 1 if whole or code in quarter else STEP
        frames = np.stack(list(scaled(files[code], code, every)))
        text = texts[code]
        entry = PackedClip(code, text.captions, text.concept, text.group, "fluent-animated", len(frames), every)
        return entry, encode(frames), hashlib.sha256(frames.tobytes()).hexdigest()

    def counted() -> Iterator[tuple[PackedClip, bytes, str]]:
        with ThreadPoolExecutor(reading_threads()) as pool:  # the codecs release Python's lock
            for number, clip in enumerate(pool.map(pack, chosen), start=1):
                if number % 10 == 0 or number == len(chosen):
                    say(f"packing clips, {number} of {len(chosen)}")
                yield clip

    return write_pack(out, counted(), frames_per_s=RATE, info=_info())


def scaled(webp: bytes, code: str, every: int) -> Iterator[NDArray[np.uint8]]:
    """Iterate over every k-th frame of an animation's first 3 s, (48, 48, 3) uint8, on white."""
    image: Any = need("PIL.Image", extra="data", purpose="building the pack")
    for frame in animated_frames(io.BytesIO(webp), code, every, LENGTH):
        height, width = frame.shape[:2]
        if width != height:  # one animation is 8 pixels too high
            side = max(width, height)
            page = np.full((side, side, 3), 255, np.uint8)
            top, left = (side - height) // 2, (side - width) // 2
            page[top : top + height, left : left + width] = frame
            frame = page
        yield np.asarray(image.fromarray(frame).resize((SIZE, SIZE), image.Resampling.LANCZOS))


def _is_animated(webp: bytes) -> bool:
    image = need("PIL.Image", extra="data", purpose="building the pack")
    with image.open(io.BytesIO(webp)) as file:
        return bool(getattr(file, "n_frames", 1) > 1)


def _info() -> dict[str, Any]:
    features = need("PIL.features", extra="data", purpose="building the pack")
    return {
        "description": "Microsoft's animated Fluent emoji with the names and keywords of the emoji pack",
        "licence": "MIT, Microsoft Corporation",
        "source": f"{SOURCE} (metadata: commit {COMMIT[:7]}), through npm",
        "changes": f"resized to {SIZE} px and flattened on white; first {LENGTH} frames, every {STEP}rd of them for "
        f"all but every {WHOLE}th clip; skin tones, flags and sequences without metadata left out",
        "made_with": {
            **{package.name: package.version for package in PACKAGES},
            "pillow": importlib.metadata.version("pillow"),
            "libavif": str(features.version("avif")),
        },
    }
