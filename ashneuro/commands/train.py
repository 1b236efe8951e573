"""``ashneuro train``: learn from image–text pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ashneuro.config import RunConfig, load_config
from ashneuro.errors import ConfigError, need
from ashneuro.report import terminal


def train(
    config: Path = Path("tiny"),
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Run folder. Default: runs/NAME of the config.")] = None,
    resume: Annotated[bool, Parameter(help="Go on with an interrupted run; settings come from the run.", negative=())] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"] | None, Parameter(help="Short for --set train.device=…")] = None,
    set_: Annotated[
        list[str] | None, Parameter(name="--set", help="Change one setting: --set train.epochs=3. Repeatable.", negative=())
    ] = None,
) -> None:
    """Learn from image–text pairs on this GPU or CPU.

    Args:
        config: settings: a TOML, a run's config.json, or a preset's name; ``tiny`` is the small ASH-Net on the embedded emoji.
    """
    overrides = list(set_ or []) + ([f"train.device={device}"] if device else [])
    if resume:
        if out is None or not (out / "config.json").exists():
            raise ConfigError("--resume without a run", "resuming needs the folder of the run", "ashneuro train --resume --out runs/NAME")
        settings = load_config(out / "config.json", overrides)
    else:
        settings = load_config(config, overrides)
    folder = out or Path("runs") / config.stem
    learn(settings, folder, resume=resume)
    terminal.wrote(folder)
    terminal.next_steps(f"ashneuro evaluate {folder}", f"ashneuro export {folder} --target lava")


def learn(config: RunConfig, folder: Path, *, resume: bool = False) -> None:
    """Train ``config`` into ``folder``, with a progress bar."""
    loop = need("ashneuro.train.loop", extra="train", purpose="training")
    with terminal.epochs(f"training {folder.name}") as show:
        loop.train(
            config,
            folder,
            resume=resume,
            on_progress=lambda now: show(now.epoch, now.epochs, now.batch, now.batches, now.loss, now.row),
        )
