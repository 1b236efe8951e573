"""``trainer.pt``, read within limits and checked before training goes on from it."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ashneuro.config import RunConfig, stages
from ashneuro.exchange import EpochMetrics, read_epoch
from ashneuro.files import parse_json, require_regular
from ashneuro.schemas import Format
from ashneuro.spiking.integers import Integers

STATE = Format("ashneuro-trainer", dict[str, Any], bare=True)
"""``trainer.pt``; its entries are compared here, not by a model: they hold tensors."""

# Type of each entry of a `TrainerState`, and of those that files of older versions lack.
_NEEDED: Mapping[str, type] = {
    "model": dict,
    "optimiser": dict,
    "stage": int,
    "batch": int,
    "sums": dict,
    "random": list,
    "rows": str,
    "integers": str,
}
_OPTIONAL: Mapping[str, type] = {"average": dict, "average_steps": int, "data": str, "teacher": str}

_DEEPEST = 16
"""Levels of containers in the state of an optimiser; torch's have four."""
_MOST = 1_000_000
"""Entries of them."""


def read_state(path: Path, config: RunConfig) -> dict[str, Any]:
    """Return the content of a ``trainer.pt`` that training with ``config`` can go on from.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is damaged, holds something other than tensors and plain values, or its parts
            do not belong together.
    """
    size = require_regular(path)
    _require_stored(path, size)
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        # torch advises to load it anyway, which would run what the file says.
        raise ValueError("it holds something other than tensors and plain values, or is damaged") from error
    except OSError:
        raise
    except Exception as error:  # torch.load raises errors of many types on a damaged file
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0][:200]) from error
    if not isinstance(state, dict):
        raise ValueError("it is not a state of training")
    STATE.version_of(state)
    if problem := next(_problems(state, config), ""):
        raise ValueError(problem)
    return dict(state)


def read_rows(rows: str) -> list[EpochMetrics]:
    """Return the metrics of the finished epochs from the JSON in a state.

    Raises:
        ValueError: it is not such JSON.
    """
    entries = parse_json(rows)
    if not isinstance(entries, list):
        raise ValueError("its rows are not a list")
    return [read_epoch(entry) for entry in entries]


def _require_stored(path: Path, size: int) -> None:
    """Raise `ValueError` unless a file is a zip of uncompressed members, as `torch.save` writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = archive.infolist()
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"it is not what torch.save writes ({error})") from error
    if any(info.compress_type != zipfile.ZIP_STORED for info in found) or sum(info.file_size for info in found) > size:
        raise ValueError("its members claim more than the file holds")


def _problems(state: Mapping[str, Any], config: RunConfig) -> Iterator[str]:
    """Yield the faults of a state; later checks rely on earlier ones."""
    for name, kind in {**_NEEDED, **_OPTIONAL}.items():
        if name not in state:
            if name in _NEEDED:
                yield f"it has no {name}"
        elif not isinstance(state[name], kind) or isinstance(state[name], bool):
            yield f"its {name} is of the type {type(state[name]).__name__}"
    for name in ("model", "sums", "average"):
        for key, value in state.get(name, {}).items():
            if not isinstance(value, Tensor):
                yield f"its {name} has {key!r}, which is no tensor"
            elif value.is_floating_point() and not value.isfinite().all():
                yield f"its {name} has {key!r}, whose values are not finite numbers"
    if not _finite(state["optimiser"]):
        yield "values of its optimiser are not finite numbers"
    if not all(isinstance(each, list) and all(isinstance(own, Tensor) for own in each) for each in state["random"]):
        yield "its states of random generators are no tensors"
    yield from _place(state, config)
    try:
        if state["integers"]:
            Integers.loads(state["integers"])
    except (ValueError, TypeError, KeyError) as error:
        yield f"its integers: {error}"


def _place(state: Mapping[str, Any], config: RunConfig) -> Iterator[str]:
    """Yield the faults of the place in the schedule that a state names."""
    try:
        done = len(read_rows(state["rows"]))
    except ValueError as error:
        yield f"its rows: {error}"
        return
    epochs = [settings.epochs for _, settings in stages(config)]
    stage, batch = state["stage"], state["batch"]
    if not 0 <= stage < len(epochs):
        yield f"its stage is {stage}, of {len(epochs)}"
        return
    before = sum(epochs[:stage])
    # Between epochs at least one of the stage is finished, and within one at least one is not.
    least, most = (before + 1, before + epochs[stage]) if batch == 0 else (before, before + epochs[stage] - 1)
    if batch < 0 or not least <= done <= most:
        yield f"it is at batch {batch} of stage {stage}, after {done} epochs of {epochs}"


def _finite(nested: Any) -> bool:
    """Return True if all tensors in nested values are finite.

    Raises:
        ValueError: containers are nested deeper than an optimiser's, as those that hold themselves,
            or one is shared so often that to walk them does not end.
    """
    waiting = [(nested, 0)]
    entries = 0
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, Tensor):
            if value.is_floating_point() and not value.isfinite().all():
                return False
        elif isinstance(value, dict | list | tuple):
            entries += len(value)
            if depth == _DEEPEST or entries > _MOST:
                raise ValueError("its optimiser is nested too deep, or holds itself")
            waiting += ((each, depth + 1) for each in (value.values() if isinstance(value, dict) else value))
    return True
