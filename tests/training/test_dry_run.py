"""Estimates of memory and time without training."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ashneuro.config import StageConfig
from ashneuro.training.dry_run import dry_run
from tests.training import tasks_tiny, tiny

SCHEDULE = (
    StageConfig("pretrain", 2, itm=0.5, mlm=0.5),
    StageConfig("stua", 1, parts=("abstract",), stua=1.0, learning_rate=5e-3),
    StageConfig("finetune", 1, task="vqa"),
)


def test_dry_run_estimates() -> None:
    settings = tasks_tiny.config(*SCHEDULE)
    found = dry_run(settings, pairs=60, words=50, processes=2)
    assert [stage.name for stage in found.stages] == ["pretrain", "stua", "finetune"]
    assert found.stages[0].pairs == 2 * 60 and found.stages[0].batch == 3
    assert (
        found.learning
        == sum(found.parameters.values()) + tiny.CONFIG.model.concrete.width + tiny.CONFIG.model.abstract.timesteps + 1
    )
    for stage in found.stages:
        assert stage.activation_bytes > 0 and stage.flops > 0
        assert stage.memory_bytes == stage.fixed_bytes + stage.batch * stage.activation_bytes
    assert found.stages[1].fixed_bytes < found.stages[0].fixed_bytes, "frozen parameters have no moments"
    assert found.seconds_at(1e9) == pytest.approx(sum(stage.flops * stage.pairs for stage in found.stages) / 2e9)
    assert (
        dry_run(replace(settings, train=replace(settings.train, checkpointing=True)), pairs=60, words=50)
        .stages[0]
        .activation_bytes
        < found.stages[0].activation_bytes
    )
