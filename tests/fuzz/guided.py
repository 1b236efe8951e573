"""Fuzz a binary reader, guided by the coverage of its Python code (Atheris; no dependency of ours).

pip install atheris
python -m tests.fuzz.guided arrays CORPUS -max_total_time=3600

Readers: ``arrays`` (.npy, .npz), ``hdf5`` (.nir, .net), ``state`` (trainer.pt). CORPUS is a folder
of sound files to begin with, where inputs that reach new code are kept. What follows goes to
libFuzzer. An error of another type than the reader's own ends the run, and its input is written.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def readers() -> dict[str, Callable[[Path], object]]:
    """Return the readers by name; imported here, so that Atheris sees their imports."""
    from ashneuro.arrays import load_arrays
    from ashneuro.config import RunConfig
    from ashneuro.program.netx.read import is_netx, read_netx
    from ashneuro.program.nir_file import read_graph
    from ashneuro.training.state import read_state

    return {
        "arrays": load_arrays,
        "hdf5": lambda path: read_netx(path) if is_netx(path) else read_graph(path),
        "state": lambda path: read_state(path, RunConfig()),
    }


def main(words: list[str]) -> None:
    """Fuzz the reader that the first word names; does not return."""
    import atheris  # type: ignore[import-not-found,unused-ignore]

    for library in ("numpy", "torch", "h5py", "nir", "pydantic"):  # not instrumented: it takes minutes
        importlib.import_module(library)
    with atheris.instrument_imports(include=["ashneuro", "zipfile"]):
        from ashneuro.errors import AshneuroError

        read = readers()[words[0]]
    file = Path(tempfile.mkdtemp(prefix="guided-")) / "input"

    def one(data: bytes) -> None:
        file.write_bytes(data)
        try:
            read(file)
        except (AshneuroError, OSError, ValueError) as error:
            if not str(error):
                raise AssertionError("an error without words") from error

    limits = ["-timeout=20", "-rss_limit_mb=3000", "-max_len=65536"]
    atheris.Setup([sys.argv[0], *limits, *words[1:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
