"""Chunks of samples that Lava has finished, on disk: a run that was ended goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zipfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import LavaError
from ashneuro.simulation.record import Activity, SpikeRecord

HEADER = "record"
KEPT_S = 14 * 24 * 3600  # for how long the chunks of a run wait that nobody takes up again


class FinishedChunks:
    """Records by what they are records of: the network, the rasters that are kept, and the samples. Nothing else finds them.

    Args:
        folder: where they lie; made when the first one is kept.
        network: a fingerprint of what computes.
        rasters: the layers whose rasters the records have.
    """

    def __init__(self, folder: Path, network: str, rasters: Collection[str]) -> None:
        name = hashlib.sha256(json.dumps([network, sorted(rasters)]).encode()).hexdigest()
        self._folder = folder / name[:32]
        self._own: set[Path] = set()

    def find(self, samples: Mapping[str, NDArray[Any]]) -> SpikeRecord | None:
        """Return the record of ``samples``, ``None`` when there is none that can be read."""
        try:
            return _load(self._path(samples))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return None

    def keep(self, samples: Mapping[str, NDArray[Any]], record: SpikeRecord) -> None:
        """Write the record of ``samples``.

        Raises:
            LavaError: it cannot be written.
        """
        path = self._path(samples)
        fresh = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            if not self._folder.exists():
                _forget(self._folder.parent)
            try:
                self._write(record, fresh)
            except FileNotFoundError:  # another run of this network has just removed its last one, and the folder
                self._write(record, fresh)
            fresh.replace(path)
        except OSError as error:
            raise LavaError(
                f"cannot write {path}", error.strerror or str(error), "make room, or name another ASHNEURO_HOME"
            ) from error

    def clear(self) -> None:
        """Remove those of this run: it is complete. Another run of the same network, with other samples, may go on."""
        with suppress(OSError):
            for path in self._own:
                path.unlink(missing_ok=True)
            self._folder.rmdir()

    def _write(self, record: SpikeRecord, path: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        _save(record, path)

    def _path(self, samples: Mapping[str, NDArray[Any]]) -> Path:
        digest = hashlib.sha256()
        for name, values in sorted(samples.items()):
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).data)
        path = self._folder / f"{digest.hexdigest()[:32]}.npz"
        self._own.add(path)
        return path


def _forget(folder: Path) -> None:
    """Remove the chunks of runs that were given up long ago."""
    for other in folder.glob("*"):
        if other.is_dir() and time.time() - other.stat().st_mtime > KEPT_S:
            shutil.rmtree(other, ignore_errors=True)


def _save(record: SpikeRecord, path: Path) -> None:
    arrays: dict[str, NDArray[Any]] = {}
    header: dict[str, Any] = {
        "source": record.source,
        "precision": record.precision,
        "timesteps": record.timesteps,
        "samples": record.samples,
        "stock_samples": record.stock_samples,
    }
    for part, activities in (("layers", record.layers), ("inputs", record.inputs)):
        header[part] = {
            name: {"binary": activity.binary, "raster": activity.raster is not None}
            for name, activity in activities.items()
        }
        for number, activity in enumerate(activities.values()):
            arrays[f"{part}/{number}"] = activity.counts
            if activity.raster is not None:
                arrays[f"{part}/{number}/raster"] = activity.raster
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **{HEADER: np.array(json.dumps(header))}, **arrays)  # type: ignore[arg-type]


def _load(path: Path) -> SpikeRecord:
    with np.load(path, allow_pickle=False) as archive:
        header = json.loads(str(archive[HEADER]))
        layers, inputs = (
            {
                name: Activity(
                    archive[f"{part}/{number}"],
                    None,
                    archive[f"{part}/{number}/raster"] if facts["raster"] else None,
                    binary=facts["binary"],
                )
                for number, (name, facts) in enumerate(header[part].items())
            }
            for part in ("layers", "inputs")
        )
    return SpikeRecord(
        header["source"],
        header["precision"],
        header["timesteps"],
        header["samples"],
        layers,
        inputs,
        header["stock_samples"],
    )
