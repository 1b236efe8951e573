"""Meteocons: animated weather icons in four drawing styles, kept as Lottie and drawn when they are
read.

Packed as lossy pictures their small changes would grow (by a fifth at 12 frames per second), so
they are not packed.
"""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.data.clip_files import words_of
from ashneuro.data.clips import ClipRecord
from ashneuro.errors import DataError, need

ARCHIVE = "lottie.zip"
STYLES = ("fill", "flat", "line", "monochrome")
RATE = 60.0  # frames per second of every clip
SIDE = 96  # pixels; frames are then resized as those of other sources
MAX_FRAMES = 10_000
_ICON = re.compile(rf"package/((?:{'|'.join(STYLES)})/[\w-]+)\.json")


def unpack(package: IO[bytes], folder: Path, progress: Callable[[str], None]) -> None:
    """Write the icons of the npm package and its licence to ``folder``.

    Raises:
        DataError: it is not that package.
    """
    progress("unpacking")
    found = 0
    try:
        with (
            tarfile.open(fileobj=package, mode="r|gz") as tar,
            zipfile.ZipFile(folder / ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                if file is not None and (match := _ICON.fullmatch(member.name)):
                    archive.writestr(f"{match[1]}.json", file.read())
                    found += 1
                elif file is not None and member.name == "package/LICENSE":
                    (folder / "LICENSE").write_bytes(file.read())
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError("not an npm package", str(error), "fetch it again") from error
    if not found:
        raise DataError("the package holds no icons", f"there is no {'/'.join(STYLES)} in it", "report it")


def read_meteocons(folder: Path) -> list[ClipRecord]:
    """Return the icons, not drawn yet: a clip per icon and style, the icon's name as caption.

    Raises:
        DataError: the archive is damaged.
    """
    try:
        with zipfile.ZipFile(folder / ARCHIVE) as archive:
            names = sorted(name.removesuffix(".json") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise _damaged(folder, error) from error
    return [
        ClipRecord(key, RATE, icon, (words_of(icon),), "", style, partial(_draw, folder, key))
        for key in names
        for style, _, icon in [key.partition("/")]
    ]


def _draw(folder: Path, key: str, every: int) -> Iterator[NDArray[np.uint8]]:
    try:
        with zipfile.ZipFile(folder / ARCHIVE) as archive:
            icon = archive.read(f"{key}.json")
    except (OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(folder, error) from error
    yield from draw(icon, key, every)


def draw(lottie: bytes, key: str, every: int) -> Iterator[NDArray[np.uint8]]:
    """Iterate over every k-th frame of a Lottie animation, (96, 96, 3) uint8, on white.

    Raises:
        DataError: ThorVG cannot read the animation.
        MissingDependency: thorvg-python is not installed.
    """
    thorvg: Any = need("thorvg_python", extra="lottie", purpose="drawing Meteocons")
    image: Any = need("PIL.Image", extra="train", purpose="drawing Meteocons")
    # An engine per process: one that was made before a fork does not draw after it.
    engine = _engine(os.getpid())
    canvas = thorvg.SwCanvas(engine)
    try:
        canvas.set_target(SIDE, SIDE)
        animation = thorvg.LottieAnimation(engine)
        picture = animation.get_picture()
        loaded = picture.load_data(lottie, "lottie", None, True)
        counted, frames = animation.get_total_frame()
        good = thorvg.Result.SUCCESS
        if loaded != good or counted != good or not 1 <= frames <= MAX_FRAMES:
            raise DataError(f"cannot draw {key}", f"ThorVG says {loaded.name}", "fetch the icons again")
        picture.set_size(SIDE, SIDE)
        canvas.add(picture)
        for index in range(0, round(frames), every):
            animation.set_frame(index)
            canvas.update()
            canvas.draw(True)
            canvas.sync()
            page = image.new("RGBA", (SIDE, SIDE), "white")
            page.alpha_composite(canvas.get_pillow())
            yield np.asarray(page.convert("RGB"))
    finally:
        canvas.destroy()


@cache
def _engine(process: int) -> Any:
    return need("thorvg_python", extra="lottie", purpose="drawing Meteocons").Engine(threads=0)


def _damaged(folder: Path, error: Exception) -> DataError:
    return DataError(
        f"the Meteocons in {folder} cannot be read", str(error), f"remove {folder}, and `ashneuro data fetch meteocons`"
    )
