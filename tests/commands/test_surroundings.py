"""A disk that is full, a home that is missing, folders with unusual names."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ashneuro.data.clip_pack import PackedClip, write_pack
from ashneuro.files import replace_file, write_text
from ashneuro.program.placement.place import place
from ashneuro.simulation.sanafe.netlist import write_network
from ashneuro.workflows.doctor import examine
from tests.commands.conftest import Command
from tests.simulation.sanafe import nets as networks

EXPORT = ("--no-lava", "--accept-assumptions")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes, as a full disk or ``ulimit -f`` does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_leaves_neither_bundle_nor_parts(
    ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path
) -> None:
    with largest_file(2048):
        said = ashneuro("export", foreign, "--inputs", spikes, *EXPORT, "--out", tmp_path / "net.bundle")
    assert said.code == 2 and "File too large" in said.err and "make room" in said.err
    assert list(tmp_path.iterdir()) == []
    with largest_file(2048):
        said = ashneuro("export", foreign, "--target", "nir", "--accept-assumptions", "--out", tmp_path / "net.nir")
    assert said.code == 2 and str(tmp_path / "net.nir") in said.err and list(tmp_path.iterdir()) == []


def test_full_disk_keeps_the_old_report(ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path) -> None:
    words = ("report", foreign, "--inputs", spikes, "--profile", "loihi1", "--out", tmp_path)
    assert ashneuro(*words).code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with largest_file(2048):
        said = ashneuro(*words)
    assert said.code == 2 and "make room" in said.err and "Traceback" not in said.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]).returncode:
        pytest.skip("only the superuser mounts a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def large_pack(folder: Path) -> None:
    entry = PackedClip("a", ("a thing",), "a", "a", "plain", 4, 1)
    write_pack(folder, [(entry, bytes(1 << 20), "")], frames_per_s=10.0, info={})


def large_network(folder: Path) -> None:
    write_network(folder, networks.program(), place(networks.program(), networks.LIMITS), networks.inputs())


@pytest.mark.parametrize("write", [large_pack, large_network])
def test_full_disk_leaves_no_part_of_a_folder(write: Callable[[Path], None], small_disk: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError), largest_file(512):
        write(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (small_disk / "other").write_bytes(bytes(60 << 10))
    with pytest.raises(OSError):
        write(small_disk / "new")
    assert [path.name for path in small_disk.iterdir()] == ["other"]


def test_disk_that_is_full_keeps_a_report_out(ashneuro: Command, foreign: Path, spikes: Path, small_disk: Path) -> None:
    said = ashneuro("report", foreign, "--inputs", spikes, "--profile", "loihi1", "--out", small_disk / "report")
    assert said.code == 2 and "make room" in said.err and "Traceback" not in said.err
    whole = {"report.json": json.loads}
    for path in (small_disk / "report").rglob("*"):
        assert path.is_dir() or (path.stat().st_size and not path.name.startswith("."))
        whole.get(path.name, str)(path.read_text(errors="replace"))


def test_devices_links_and_long_names_are_written(tmp_path: Path) -> None:
    write_text(Path(os.devnull), "gone")
    assert not Path(os.devnull).is_file()
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "new"
    write_text(tmp_path / ("n" * 250 + ".json"), json.dumps({"path": os.fsdecode(b"\xff")}, ensure_ascii=False))
    assert json.loads((tmp_path / ("n" * 250 + ".json")).read_text()) == {"path": "\udcff"}
    with pytest.raises(OSError, match="file") as caught:
        replace_file(tmp_path / "nowhere" / "file", lambda path: path.write_text(""))
    assert caught.value.filename == str(tmp_path / "nowhere" / "file")


@pytest.mark.parametrize("home", ["~no-such-user/x", "/proc/nowhere"])
def test_missing_home_is_named(ashneuro: Command, foreign: Path, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASHNEURO_HOME", home)
    monkeypatch.setenv("HOME", "/proc/nowhere")
    monkeypatch.setenv("SHELL", "/bin/bash")
    assert ashneuro("check", foreign).code == 0
    cache = next(check for check in examine() if check.name == "cache")
    # To the superuser every folder looks writable.
    assert home in cache.found and (os.geteuid() == 0 or not cache.ok)
    assert home.startswith("/") or "ASHNEURO_HOME" in cache.mend
    said = ashneuro("data", "fetch", "tuxpaint")
    assert said.code == 2 and home in said.err and "do:" in said.err


def test_folder_that_is_no_utf8(ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9 %s{}")
    folder.mkdir()
    net, x = (Path(shutil.copy(path, folder)) for path in (foreign, spikes))
    for words in (
        ("check", net),
        ("export", net, "--inputs", x, *EXPORT),
        ("verify", net.with_suffix(".bundle"), "--no-lava"),
        ("simulate", net.with_suffix(".bundle"), "--on", "loihi", "--save", folder / "spikes.npz"),
        ("report", net.with_suffix(".bundle"), "--profile", "loihi1", "--out", folder / "report"),
    ):
        said = ashneuro(*words)
        assert said.code == 0, said.err
    assert json.loads((folder / "report/report.json").read_text())
    assert (folder / "spikes.npz").is_file() and (folder / "report/report.html").is_file()


def test_run_is_evaluated_in_a_folder_of_any_name(
    ashneuro: Command, task_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "%s{}"
    shutil.copytree(task_run, folder / "run")
    monkeypatch.chdir(folder)
    said = ashneuro("evaluate", "run")
    assert said.code == 0, said.err
    assert (folder / "run/evaluation.json").is_file()


def test_bundle_in_the_working_directory(
    ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path such as ``.`` has no name that another file could be named after."""
    folder = tmp_path / "net.bundle"
    assert ashneuro("export", foreign, "--inputs", spikes, *EXPORT, "--out", folder).code == 0
    monkeypatch.chdir(folder)
    assert ashneuro("report", ".", "--profile", "loihi1").code == 0
    assert ashneuro("export", ".", "--target", "nir", "--accept-assumptions").code == 0
    assert {"net-report", "net.exported.nir"} <= {path.name for path in tmp_path.iterdir()}
    said = ashneuro("simulate", ".", "--on", "loihi", "--shard", "1/2", "--counts", ".")
    assert said.code == 2 and "it is a folder" in said.err
