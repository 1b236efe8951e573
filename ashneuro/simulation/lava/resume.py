"""Finished chunks of a Lava run on disk, from which an interrupted run goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import DataError, LavaError
from ashneuro.files import replace_file
from ashneuro.simulation.record import SpikeRecord, load_counts, pack

KEPT_S = 14 * 24 * 3600  # chunks of an interrupted run are removed after two weeks


class FinishedChunks:
    """Records of chunks, found by hashes of the network, the kept rasters and the samples.

    Args:
        folder: parent of the run's own folder; made when the first chunk is kept.
        network: fingerprint of the network and of the worker's version.
        rasters: layers whose rasters the records keep.
    """

    def __init__(self, folder: Path, network: str, rasters: Collection[str]) -> None:
        name = hashlib.sha256(json.dumps([network, sorted(rasters)]).encode()).hexdigest()
        self._folder = folder / name[:32]
        self._own: set[Path] = set()

    def find(self, samples: Mapping[str, NDArray[Any]]) -> SpikeRecord | None:
        """Return the record of ``samples``; ``None`` if there is none, or it is damaged."""
        try:
            return load_counts(self._path(samples))
        except DataError:
            return None

    def keep(self, samples: Mapping[str, NDArray[Any]], record: SpikeRecord) -> None:
        """Write the record of ``samples``.

        Raises:
            LavaError: it cannot be written.
        """
        path = self._path(samples)
        try:
            if not self._folder.exists():
                _forget(self._folder.parent)
            try:
                self._write(record, path)
            except FileNotFoundError:  # another run of this network has just removed the folder
                self._write(record, path)
        except OSError as error:
            raise LavaError(
                f"cannot write {path}", error.strerror or str(error), "make room, or name another ASHNEURO_HOME"
            ) from error

    def clear(self) -> None:
        """Remove the chunks of this run, but not those of another run of the same network."""
        with suppress(OSError):
            for path in self._own:
                path.unlink(missing_ok=True)
            self._folder.rmdir()

    def _write(self, record: SpikeRecord, path: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        arrays = pack(record, rasters=True)  # not compressed: rasters are large and soon removed
        replace_file(path, lambda file: np.savez(file, allow_pickle=False, **arrays))

    def _path(self, samples: Mapping[str, NDArray[Any]]) -> Path:
        digest = hashlib.sha256()
        for name, values in sorted(samples.items()):
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).data)
        path = self._folder / f"{digest.hexdigest()[:32]}.npz"
        self._own.add(path)
        return path


def _forget(folder: Path) -> None:
    """Remove the chunks of runs that nobody continued."""
    for other in folder.glob("*"):
        if other.is_dir() and time.time() - other.stat().st_mtime > KEPT_S:
            shutil.rmtree(other, ignore_errors=True)
