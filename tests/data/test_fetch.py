from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ashneuro.config import DataConfig, QuestionConfig, TasksConfig
from ashneuro.data import fetch as fetching
from ashneuro.data import packages
from ashneuro.data.fetch import EASY_VQA, TUXPAINT, colourfulness, convert_stamps, deb_files, fetch
from ashneuro.data.packages import Package
from ashneuro.data.sources import check_images, load_splits
from ashneuro.data.tasks import load_questions
from ashneuro.errors import ConfigError, DataError


def picture(seed: int, *, photo: bool = True, mode: str = "RGB") -> bytes:
    random = np.random.default_rng(seed)
    pixels = (
        random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        if photo
        else np.full((40, 40, 3), random.integers(0, 256, 3), np.uint8)
    )
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def debian_package(files: dict[str, bytes], compression: str = "xz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo(f"./{fetching.STAMPS}/animals/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar.{compression}": buffer.getvalue()}
    package = b"!<arch>\n"
    for name, content in members.items():
        package += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{0o100644:<8o}{len(content):<10}`\n".encode()
            + content
            + b"\n" * (len(content) % 2)
        )
    return package


def stamps(count: int = 30) -> dict[str, bytes]:
    files = {}
    for index in range(count):
        stem = f"./{fetching.STAMPS}/animals/{'cartoon/' if index % 3 == 0 else ''}stamp{index:02}"
        files[f"{stem}.png"] = picture(index, photo=index % 3 != 1)
        files[f"{stem}.txt"] = f"A stamp, number {index // 2}.\nde.utf8=Ein Stempel.\n".encode()
        files[f"{stem}_desc.ogg"] = b"sound"
    return files


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get
    return tmp_path / "home"


def pinned(content: bytes, url: str) -> Package:
    return replace(TUXPAINT, url=url, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


@pytest.fixture
def package(tmp_path: Path) -> Package:
    content = debian_package(stamps())
    (tmp_path / "stamps.deb").write_bytes(content)
    return pinned(content, (tmp_path / "stamps.deb").as_uri())


def test_fetched_data_set_loads_by_name(home: Path, package: Package) -> None:
    steps: list[str] = []
    folder = fetch("tuxpaint", steps.append, package)
    assert folder == home / "data" / "tuxpaint"
    assert steps[-3:] == ["downloading, 100 % of 0 MB", "unpacking", "converting 30 stamps"]
    splits = load_splits(DataConfig(source="tuxpaint", split="random"))
    pairs = splits.train + splits.validation + splits.test
    check_images(pairs)
    assert splits.name == "tuxpaint, random split by caption"
    assert {pair.key: pair.captions for pair in pairs}["animals/stamp05.png"] == ("A stamp, number 2.",)
    assert len(pairs) == 30 and len({pair.concept for pair in pairs}) == 15
    photos = load_splits(DataConfig(source="tuxpaint", split="random", styles=("photo-like",)))
    assert sorted(pair.key[-6:-4] for pair in photos.train + photos.validation + photos.test) == [
        f"{index:02}" for index in range(2, 30, 3)
    ]


def test_second_fetch_downloads_nothing(home: Path, package: Package) -> None:
    fetch("tuxpaint", None, package)
    gone = replace(package, url="file:///gone.deb")
    assert fetch("tuxpaint", None, gone) == home / "data" / "tuxpaint"


def test_file_with_another_hash_is_refused(home: Path, package: Package) -> None:
    with pytest.raises(DataError, match=r"SHA-256 [\s\S]*expected 0+[\s\S]*apt-get is not on the PATH"):
        fetch("tuxpaint", None, replace(package, sha256="0" * 64))
    assert list((home / "data").iterdir()) == []


def test_interrupted_fetch_leaves_nothing(home: Path, package: Package) -> None:
    def stop(step: str) -> None:
        if step.startswith("converting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("tuxpaint", stop, package)
    assert list((home / "data").iterdir()) == []
    with pytest.raises(DataError, match="not on this machine"):
        fetching.fetched_folder("tuxpaint")


@pytest.fixture
def broken_line() -> Iterator[str]:
    """URL of a server that ends every answer half way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"x" * 50_000)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/stamps.deb"
    server.shutdown()
    thread.join()
    server.server_close()


def test_broken_connection_leaves_nothing(home: Path, broken_line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DataError, match="cannot fetch tuxpaint-stamps-default"):
        fetch("tuxpaint", None, replace(TUXPAINT, url=broken_line))
    assert list((home / "data").iterdir()) == []


def test_apt_is_used_if_the_url_fails(home: Path, tmp_path: Path, package: Package) -> None:
    apt = tmp_path / "apt-get"
    asked = f'[ "$1 $2" = "download {TUXPAINT.package}={TUXPAINT.version}" ]'
    apt.write_text(f"#!/bin/sh\n{asked} && /bin/cp {tmp_path}/stamps.deb here.deb\n")
    apt.chmod(0o755)
    assert (fetch("tuxpaint", None, replace(package, url="file:///gone.deb")) / "captions.json").is_file()


def test_leftovers_of_a_killed_fetch_are_removed_after_a_day(home: Path, package: Package) -> None:
    import os
    import time

    old, new = home / "data" / ".tuxpaint-old", home / "data" / ".tuxpaint-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    fetch("tuxpaint", None, package)
    assert not old.exists() and new.exists()


def test_existing_folder_is_named(home: Path, package: Package) -> None:
    (home / "data" / "tuxpaint" / "mine").mkdir(parents=True)
    with pytest.raises(DataError, match=r"cannot keep tuxpaint[\s\S]*remove that folder"):
        fetch("tuxpaint", None, package)


def test_unknown_names_cannot_be_fetched(home: Path) -> None:
    with pytest.raises(ConfigError, match="cannot fetch 'coco'"):
        fetch("coco")


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_debian_package_is_read_without_dpkg(compression: str) -> None:
    files = {
        f"./{fetching.STAMPS}/a/b.png": b"123",
        "./etc/x.png": b"",
        f"./{fetching.STAMPS}/../../../x.png": b"",
        f"./{fetching.STAMPS}/c.ogg": b"",
    }
    found = {
        str(path): data
        for path, data in deb_files(io.BytesIO(debian_package(files, compression)), fetching.STAMPS, (".png",))
    }
    assert found == {"a/b.png": b"123"}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"!<arch>\n"])
def test_other_files_are_no_debian_package(content: bytes) -> None:
    with pytest.raises(DataError, match="not a Debian package"):
        list(deb_files(io.BytesIO(content), "usr", (".png",)))


def test_package_without_stamps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no stamps"):
        convert_stamps(io.BytesIO(debian_package({})), tmp_path, lambda _: None)


def test_photographs_have_more_colours_than_drawings() -> None:
    photo, drawing = (Image.open(io.BytesIO(picture(1, photo=photo))) for photo in (True, False))
    assert colourfulness(photo) > fetching.PHOTO_COLOURS > colourfulness(drawing)
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert colourfulness(clear) == 0


def wheel(*, test: bool = True) -> bytes:
    """A small easy-vqa wheel: 20 training and 5 test pictures, code and metadata."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for part, count in (("train", 20), ("test", 5))[: 2 if test else 1]:
            rows = [["is there a circle?", "no" if number % 3 else "yes", number] for number in range(count)]
            archive.writestr(f"easy_vqa/data/{part}/questions.json", json.dumps(rows))
            for number in range(count):
                archive.writestr(f"easy_vqa/data/{part}/images/{number}.png", picture(number))
        archive.writestr("easy_vqa/__init__.py", "raise SystemExit")
        archive.writestr("easy_vqa/data/train/../../../../images/1.png", b"outside")
        archive.writestr("easy_vqa-1.0.dist-info/LICENSE", "MIT License")
    return buffer.getvalue()


def of_easy_vqa(content: bytes, path: Path) -> Package:
    path.write_bytes(content)
    return replace(EASY_VQA, url=path.as_uri(), size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


ASKED = TasksConfig(vqa=QuestionConfig(format="easy-vqa"))


def test_fetched_easy_vqa_loads_by_format(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"easy-vqa is not on this machine[\s\S]*ashneuro data fetch easy-vqa"):
        load_questions("vqa", ASKED, DataConfig())
    folder = fetch("easy-vqa", None, of_easy_vqa(wheel(), tmp_path / "easy.whl"))
    assert {path.relative_to(folder).parts[0] for path in folder.rglob("*")} == {"train", "test", "LICENSE"}, (
        "no code, nothing outside"
    )
    assert not (home.parent / "images").exists() and not (home / "images").exists()
    questions = load_questions("vqa", ASKED, DataConfig())
    assert (len(questions.train), len(questions.validation), len(questions.test)) == (18, 2, 5)
    assert questions.name == "easy-vqa" and "drawn by a program" in questions.notes[0]
    assert questions.pictures["test/images/3.png"]().shape == (40, 40, 3)
    with pytest.raises(ConfigError, match=r"of the task 'vqa'"):
        load_questions("nlvr2", TasksConfig(nlvr2=QuestionConfig(format="easy-vqa")), DataConfig())
    assert fetch("easy-vqa", None, replace(EASY_VQA, url="file:///gone.whl")) == folder, "fetched once"


@pytest.mark.parametrize(
    "content, why", [(b"no zip", "not a Python wheel"), (wheel(test=False), "no questions.json for test")]
)
def test_other_wheels_are_refused_and_leave_nothing(home: Path, tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(DataError, match=why):
        fetch("easy-vqa", None, of_easy_vqa(content, tmp_path / "easy.whl"))
    assert list((home / "data").iterdir()) == []


def test_pip_is_used_if_the_url_fails(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, asked = wheel(), []

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        Path(command[command.index("--dest") + 1], "easy_vqa-1.0-py3-none-any.whl").write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    gone = replace(of_easy_vqa(content, tmp_path / "easy.whl"), url="file:///gone.whl")
    monkeypatch.setattr(packages.subprocess, "run", pip)
    assert (fetch("easy-vqa", None, gone) / "train" / "questions.json").is_file()
    assert {"easy-vqa==1.0", "--no-deps"} <= set(asked[0])
    monkeypatch.setattr(
        packages.subprocess,
        "run",
        lambda command, **_: subprocess.CompletedProcess(command, 1, "", "No module named pip"),
    )
    shutil.rmtree(home / "data" / "easy-vqa")
    with pytest.raises(DataError, match=r"gone\.whl[\s\S]*pip download: No module named pip"):
        fetch("easy-vqa", None, gone)


@pytest.mark.slow
def test_real_easy_vqa_has_the_published_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs the network: 3 MB."""
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path))
    fetch("easy-vqa")
    questions = load_questions("vqa", ASKED, DataConfig())
    assert len(questions.train) + len(questions.validation) == 38_575 and len(questions.test) == 9_673
    assert len(questions.pictures) == 5_000
    assert len({answer for question in questions.train for answer in question.answers}) == 13


@pytest.mark.slow
def test_real_tuxpaint_package_has_its_stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs the network: 161 MB."""
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path))
    fetch("tuxpaint")
    splits = load_splits(DataConfig(source="tuxpaint", split="random"))
    pairs = splits.train + splits.validation + splits.test
    check_images(pairs)
    assert len(pairs) == 785 and sum(pair.style == "photo-like" for pair in pairs) == 318
    assert {pair.key: pair.captions for pair in pairs}["animals/birds/penguin.png"] == ("A penguin.",)
