"""A run's folder while it is trained: never overwritten, always whole, taken up again where it stopped."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ashneuro.config import RunConfig, load_config
from ashneuro.errors import ConfigError, DataError
from ashneuro.training.checkpoint import CONFIG, TRAINER

# Where a run is trained changes nothing of what it is.
MAY_DIFFER = {"train.device", "train.kernels"}


def open_folder(out: Path, config: RunConfig, resume: bool) -> dict[str, Any] | None:
    """Make the folder, and return the state to resume from, if there is one.

    Raises:
        ConfigError: the folder holds a run and ``resume`` is not set, or holds something else; or its run has other settings.
        DataError: the state cannot be read.
    """
    if not resume and (out / CONFIG).exists():
        raise ConfigError(
            f"{out} already holds a run",
            "a run is never overwritten",
            f"--resume, or another folder with --out, or delete {out}",
        )
    if not (out / CONFIG).exists() and out.exists() and (not out.is_dir() or any(_foreign(out))):
        raise ConfigError(f"{out} is not empty", "a run gets a folder of its own", "name another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(".*.[0-9]*"):  # half-written by a process that was killed
            left.unlink()
    except OSError as error:
        raise ConfigError(
            f"cannot write to {out}", error.strerror or str(error), "name another folder with --out"
        ) from error
    if not (out / CONFIG).exists():
        return None
    before = load_config(out / CONFIG)
    if different := list(_differences(dataclasses.asdict(before), dataclasses.asdict(config))):
        raise ConfigError(
            f"cannot resume {out}", f"its settings were others: {'; '.join(different)}", f"resume with {out / CONFIG}"
        )
    try:
        state: dict[str, Any] = torch.load(out / TRAINER, weights_only=True, map_location="cpu")
    except Exception as error:  # torch.load raises whatever a damaged file leads to
        raise DataError(
            f"cannot resume from {out / TRAINER}", str(error).splitlines()[0], "train again in another folder"
        ) from error
    return state


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C until the block is done."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    pressed = False

    def remember(signal_number: int, frame: object) -> None:
        nonlocal pressed
        pressed = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _foreign(out: Path) -> Iterator[Path]:
    """Yield what is in a folder without a run, but for what a process that was killed at its first checkpoint leaves there."""
    for path in out.iterdir():
        if not (path.name == TRAINER or path.name.startswith(f".{TRAINER}.")):
            yield path


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in now.items():
        if isinstance(value, dict):
            yield from _differences(before[name], value, f"{prefix}{name}.")
        elif value != before[name] and prefix + name not in MAY_DIFFER:
            yield f"{prefix}{name} was {before[name]!r}, now {value!r}"
