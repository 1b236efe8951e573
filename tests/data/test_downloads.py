from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from ashneuro.data import downloads
from ashneuro.data.downloads import Tarball, fetch_tarball
from ashneuro.errors import DataError

CONTENT = np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8).tobytes()


class Registry:
    """A registry on this machine.

    Args:
        sends: number of bytes after which an answer ends.
        resumes: whether it answers requests for a range with that range.
    """

    def __init__(self) -> None:
        self.sends = len(CONTENT)
        self.resumes = True
        self.ranges: list[str | None] = []


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    state = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/@x/clips/-/clips-1.0.0.tgz":
                self.send_error(404)
                return
            state.ranges.append(self.headers["Range"])
            start = 0
            if self.headers["Range"] and state.resumes:
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start : start + state.sends])

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(downloads, "BLOCK", 10_000)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


TARBALL = Tarball("@x/clips", "1.0.0", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def quiet(_: str) -> None:
    pass


def test_a_tarball_is_downloaded_once(registry: Registry, tmp_path: Path) -> None:
    steps: list[str] = []
    path = fetch_tarball(TARBALL, tmp_path / "new", steps.append)
    assert path.name == "x-clips-1.0.0.tgz" and path.read_bytes() == CONTENT
    assert steps == [f"downloading @x/clips@1.0.0, {tenth} % of 0 MB" for tenth in range(10, 101, 10)]
    assert fetch_tarball(TARBALL, tmp_path / "new", quiet) == path
    assert registry.ranges == [None]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_broken_download_goes_on_where_it_stopped(registry: Registry, tmp_path: Path) -> None:
    registry.sends = 30_000
    with pytest.raises(DataError, match=r"run it again: it goes on where it stopped"):
        fetch_tarball(TARBALL, tmp_path, quiet)
    assert [file.name for file in tmp_path.iterdir()] == ["x-clips-1.0.0.tgz.part"]
    registry.sends = len(CONTENT)
    assert fetch_tarball(TARBALL, tmp_path, quiet).read_bytes() == CONTENT
    assert registry.ranges == [None, "bytes=30000-"]


def test_an_interruption_keeps_what_came(registry: Registry, tmp_path: Path) -> None:
    def stop(step: str) -> None:
        if " 50 %" in step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_tarball(TARBALL, tmp_path, stop)
    assert fetch_tarball(TARBALL, tmp_path, quiet).read_bytes() == CONTENT
    assert registry.ranges == [None, "bytes=50000-"]


def test_a_server_that_cannot_resume_starts_over(registry: Registry, tmp_path: Path) -> None:
    registry.resumes = False
    (tmp_path / "x-clips-1.0.0.tgz.part").write_bytes(b"other bytes")
    assert fetch_tarball(TARBALL, tmp_path, quiet).read_bytes() == CONTENT


def test_another_file_is_refused_and_removed(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not the pinned package[\s\S]*expected 00"):
        fetch_tarball(Tarball("@x/clips", "1.0.0", len(CONTENT), "0" * 64), tmp_path, quiet)
    assert not list(tmp_path.iterdir())
    (tmp_path / "x-clips-1.0.0.tgz.part").write_bytes(b"x" * len(CONTENT))
    with pytest.raises(DataError, match="not the pinned package"):
        fetch_tarball(TARBALL, tmp_path, quiet)
    (tmp_path / "x-clips-1.0.0.tgz").write_bytes(b"cut")
    with pytest.raises(DataError, match="not the pinned package"):
        fetch_tarball(TARBALL, tmp_path, quiet)
    assert fetch_tarball(TARBALL, tmp_path, quiet).read_bytes() == CONTENT


def test_errors_of_the_registry_and_the_disk(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot fetch @x/gone@1[\s\S]*404"):
        fetch_tarball(Tarball("@x/gone", "1", 1, "0"), tmp_path, quiet)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot fetch"):
        fetch_tarball(TARBALL, tmp_path / "file", quiet)
    with pytest.raises(DataError, match="are free"):
        fetch_tarball(Tarball("@x/clips", "1.0.0", 1 << 60, "0"), tmp_path, quiet)


def test_the_registry_is_npms_own_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    assert TARBALL.url == "https://registry.npmjs.org/@x/clips/-/clips-1.0.0.tgz"
