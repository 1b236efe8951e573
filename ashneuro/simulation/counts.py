"""Spike counts on disk: what costs are computed from, without the spikes themselves."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ashneuro.errors import DataError
from ashneuro.simulation.record import Activity, SpikeRecord

SCHEMA = "ashneuro-counts/1"
HEADER = "record"


def save_counts(record: SpikeRecord, path: str | Path) -> None:
    """Write the counts of ``record`` to an ``.npz``; rasters and traces are left out."""
    arrays: dict[str, Any] = {}
    header: dict[str, Any] = {
        "schema": SCHEMA,
        "source": record.source,
        "precision": record.precision,
        "timesteps": record.timesteps,
        "samples": record.samples,
    }
    for part, activities in (("layers", record.layers), ("inputs", record.inputs)):
        header[part] = {
            name: {"active_updates": a.active_updates, "binary": a.binary} for name, a in activities.items()
        }
        arrays |= {f"{part}/{name}": activity.counts for name, activity in activities.items()}
    np.savez_compressed(path, allow_pickle=False, **{HEADER: np.array(json.dumps(header))}, **arrays)


def load_counts(path: str | Path) -> SpikeRecord:
    """Return the record that `save_counts` wrote.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(str(archive[HEADER]))
            if header["schema"] != SCHEMA:
                raise ValueError(f"schema {header['schema']!r}, not {SCHEMA!r}")
            layers, inputs = (
                {
                    name: Activity(archive[f"{part}/{name}"], facts["active_updates"], binary=facts["binary"])
                    for name, facts in header[part].items()
                }
                for part in ("layers", "inputs")
            )
            return SpikeRecord(
                header["source"], header["precision"], header["timesteps"], header["samples"], layers, inputs
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"cannot read the spike counts in {path}", str(error), "ashneuro evaluate RUN --abstract-on loihi"
        ) from error
