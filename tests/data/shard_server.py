"""WebDataset shards for tests, and an HTTP server for them on the loopback address."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
from PIL import Image

WORDS = ("red", "green", "blue", "dark", "bright", "round", "small", "square", "old", "new")


def picture(number: int, side: int = 8) -> bytes:
    """Return a PNG of noise: it does not compress."""
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def caption(number: int) -> str:
    return f"a {WORDS[number % 10]} {WORDS[number // 10 % 10]} thing {number // 100}"


def write_shard(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def write_shards(folder: Path, shards: int, each: int, side: int = 8, first: int = 0, name: str = "train") -> str:
    """Write shards of ``each`` samples; return the pattern of their names."""
    for shard in range(shards):
        members: dict[str, bytes] = {}
        for number in range(first + shard * each, first + (shard + 1) * each):
            members[f"{number:06}.png"] = picture(number, side)
            members[f"{number:06}.txt"] = caption(number).encode()
        write_shard(folder / f"{name}-{shard:03}.tar", members)
    return f"{name}-{{000..{shards - 1:03}}}.tar"


class _Handler(SimpleHTTPRequestHandler):
    """Serves a folder; the connection of the first ``breaks[NAME]`` requests breaks off halfway."""

    breaks: dict[str, int]
    asked: list[str]

    def __init__(self, *words: object, breaks: dict[str, int], asked: list[str], **names: object) -> None:
        self.breaks, self.asked = breaks, asked
        super().__init__(*words, **names)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.asked.append(name)
        if self.breaks.get(name, 0) <= 0:
            super().do_GET()
            return
        self.breaks[name] -= 1
        data = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.close_connection = True

    def log_message(self, *words: object) -> None:
        """Print nothing."""


@contextmanager
def serve(folder: Path, breaks: dict[str, int] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder; give its address, and the names that were asked for with GET."""
    asked: list[str] = []
    handler = partial(_Handler, directory=str(folder), breaks=breaks or {}, asked=asked)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
