"""``ashneuro train --dry-run``."""

from __future__ import annotations

import json
from pathlib import Path

from tests.commands.conftest import Command, settings


def test_dry_run_estimates_memory_and_time(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    result = ashneuro(
        "train",
        "tiny",
        "--out",
        tmp_path / "run",
        *settings(pairs),
        "--dry-run",
        "--pairs",
        100,
        "--gpus",
        2,
        "--tflops",
        10,
    )
    assert result.code == 0, result.err
    assert (
        "memory per process" in result.out
        and "2 GPUs at 10 TFLOP/s sustained" in result.out
        and "2 of them sharing each batch" in result.out
    )
    content = json.loads(ashneuro("train", "tiny", *settings(pairs), "--dry-run", "--pairs", 100, "--json").out)
    (stage,) = content["stages"]
    assert (
        stage["memory_bytes"] > stage["fixed_bytes"] > 0
        and content["seconds_at_tflops"] > 0
        and content["tflops"] == 50
    )
    assert "--dry-run" in ashneuro("train", "tiny", "--json").err
    assert not (tmp_path / "run").exists()
