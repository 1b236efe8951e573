"""Data sets that are not shipped: downloaded once, checked, converted, and kept in the cache
folder.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from ashneuro.config import cache_dir
from ashneuro.data import meteocons
from ashneuro.data.images import DAMAGE
from ashneuro.errors import ConfigError, DataError, need

Progress = Callable[[str], None]
"""Called with a description of the current step."""


@dataclass(frozen=True)
class Package:
    """A data set inside a package, pinned by its hash.

    Args:
        suffix: of the package file.
        size_bytes: of the package file.
        notes: caveats for readers of results, one sentence each.
        marker: a file of the finished folder, by which it is recognised.
        convert: writes the data set from the package to a folder.
        client: downloads the package with its package manager, which knows this machine's mirrors,
            if the URL fails.
    """

    about: str
    licence: str
    package: str
    version: str
    url: str
    suffix: str
    size_bytes: int
    sha256: str
    notes: tuple[str, ...]
    marker: str
    convert: Callable[[IO[bytes], Path, Progress], None]
    client: Callable[[Package, Path, Progress], None]


STAMPS = "usr/share/tuxpaint/stamps"
PHOTO_COLOURS = 8.0  # see `colourfulness`
_EASY_VQA = re.compile(
    r"easy_vqa/data/((?:train|test)/(?:questions\.json|images/\d+\.png))|easy_vqa-[^/]+\.dist-info/(LICENSE)"
)


def is_available(name: str) -> bool:
    """Return True if the named data set is on this machine: embedded, or fetched before."""
    return name not in PACKAGES or (_folder(name) / PACKAGES[name].marker).is_file()


def fetched_folder(name: str) -> Path:
    """Return the folder of a data set that was fetched before.

    Raises:
        DataError: it was not.
    """
    folder = _folder(name)
    if not is_available(name):
        raise DataError(f"{name} is not on this machine", f"there is no {folder}", f"ashneuro data fetch {name}")
    return folder


def fetch(name: str, progress: Progress | None = None, source: Package | None = None) -> Path:
    """Return the folder of the data set, downloaded and converted the first time.

    ``tuxpaint``: ``captions.json`` (COCO) and its images. ``easy-vqa``: ``train`` and ``test``,
    each with ``questions.json`` and ``images``. ``meteocons``: ``lottie.zip``. The folder appears
    complete or not at all: it is made under another name and renamed at the end.

    Raises:
        ConfigError: no data set of that name can be fetched.
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


def download(source: Package, target: Path, progress: Progress) -> None:
    """Write the package to ``target``, from its URL or else by its package manager, and check its
    hash.

    Raises:
        DataError: neither gives the pinned file; names both problems.
    """
    problems = []
    for name, get in ((source.url, _from_url), (CLIENTS[source.suffix], source.client)):
        try:
            get(source, target, progress)
        except (OSError, http.client.HTTPException) as error:
            problems.append(f"{name}: {error}")
            continue
        found = _sha256(target)
        if found == source.sha256:
            return
        # A mirror may have a truncated or another file: the next source is tried.
        problems.append(f"{name}: what came has the SHA-256 {found}, expected {source.sha256}")
    remedy = "check the network" + ("; `apt-get update` renews apt's lists" if source.suffix == ".deb" else "")
    raise DataError(f"cannot fetch {source.package} {source.version}", "; ".join(problems), remedy)


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


def _from_url(source: Package, target: Path, progress: Progress) -> None:
    with urllib.request.urlopen(source.url, timeout=30) as answer, target.open("wb") as file:
        done, tenths = 0, -1
        while block := answer.read(1 << 20):
            file.write(block)
            done += len(block)
            if done * 10 // source.size_bytes > tenths:
                tenths = done * 10 // source.size_bytes
                progress(f"downloading, {10 * tenths} % of {source.size_bytes / 1e6:.0f} MB")


def _through_apt(source: Package, target: Path, progress: Progress) -> None:
    apt = shutil.which("apt-get")
    if apt is None:
        raise OSError("apt-get is not on the PATH")
    progress("downloading through apt")
    _run_client("apt-get", lambda folder: [apt, "download", f"{source.package}={source.version}"], target)


def _through_pip(source: Package, target: Path, progress: Progress) -> None:
    progress("downloading through pip")
    pip = [sys.executable, "-m", "pip", "download", f"{source.package}=={source.version}"]
    options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input", "--quiet"]
    _run_client("pip", lambda folder: [*pip, *options, "--dest", folder], target)


def _through_npm(source: Package, target: Path, progress: Progress) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("npm is not on the PATH")
    progress("downloading through npm")
    _run_client("npm", lambda folder: [npm, "pack", f"{source.package}@{source.version}", "--silent"], target)


def _run_client(name: str, command: Callable[[str], list[str]], target: Path) -> None:
    """Run a package manager in an empty folder and move the file that it downloads there to
    ``target``.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        done = subprocess.run(
            command(folder), cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        found = list(Path(folder).glob(f"*{target.suffix}"))
        if done.returncode or not found:
            lines = done.stderr.strip().splitlines() or [f"{name} ended with status {done.returncode}"]
            # pip's last line may be advice to upgrade it.
            raise OSError(next((line for line in reversed(lines) if "ERROR" in line or "No module" in line), lines[-1]))
        shutil.move(found[0], target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    client=_through_apt,
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
    client=_through_pip,
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
    client=_through_npm,
)
PACKAGES: dict[str, Package] = {"tuxpaint": TUXPAINT, "easy-vqa": EASY_VQA, "meteocons": METEOCONS}
CLIENTS = {".deb": "apt-get download", ".whl": "pip download", ".tgz": "npm pack"}
