"""Training in two processes on one machine (gloo) equals training in one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ashneuro.config import StageConfig, stages
from ashneuro.errors import ConfigError
from ashneuro.exchange import METRICS, read_metrics
from ashneuro.training import data, loop
from ashneuro.training.checkpoint import load_run
from ashneuro.training.processes import SharedNorm, SingleProcess, all_gather, join, shared_norms
from tests.training import tasks_tiny, tiny
from tests.training.two_processes import settings

HERE = Path(__file__).parent.parent.parent


def together(kind: str, out: Path) -> subprocess.CompletedProcess[str]:
    """Run `tests.training.two_processes` under torchrun."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "tests.training.two_processes",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, kind, str(out)], cwd=HERE, env=environment, capture_output=True, text=True, check=False
    )


def curve(path: Path) -> list[dict[str, float]]:
    names = ("itc", "contrast", "stua", "unlabelled", "firing", "synops", "entailment")
    return [
        {name: epoch.losses[name] for name in names if name in epoch.losses}
        | {"loss": epoch.loss, "learning_rate": epoch.learning_rate}
        for epoch in read_metrics(path / METRICS).epochs
    ]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "load_questions", tasks_tiny.load_questions)


def test_two_processes_match_one(tmp_path: Path, alone: None) -> None:
    """Pairs with every objective, then questions."""
    done = together("ddp", tmp_path / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    loop.train(settings("ddp"), tmp_path / "one")
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(one) == len(two) == 3 and "stua" in one[0] and "entailment" in one[2]
    assert one[0]["synops"] > 0 and one[0]["unlabelled"] > 0
    for ours, theirs in zip(one, two, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3)
    weights = [load_run(tmp_path / name).model.state_dict() for name in ("one", "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0.05, atol=0.02, msg=name)


def test_two_processes_match_one_through_stages_of_other_neurons(tmp_path: Path) -> None:
    done = together("stages", tmp_path / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    loop.train(settings("stages"), tmp_path / "one")
    one, two = (read_metrics(tmp_path / name / METRICS).epochs for name in ("one", "two"))
    assert len(one) == len(two) == 3 and {"distil", "distil_embedding", "synops"} <= set(one[2].losses)
    for ours, theirs in zip(one, two, strict=True):
        assert ours.losses == pytest.approx(theirs.losses, rel=2e-2)
    weights = [load_run(tmp_path / name).model.state_dict() for name in ("one", "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0.05, atol=0.02, msg=name)


def test_resume_restores_random_states_of_each_process(tmp_path: Path) -> None:
    done = together("resumed", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    whole, parts = (load_run(tmp_path / name).model.state_dict() for name in ("whole", "parts"))
    for name, value in whole.items():
        assert torch.equal(parts[name], value), name


def test_only_the_first_process_reports_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    done = together("ddp", tmp_path)
    assert done.returncode != 0
    assert "[rank0]" in done.stderr and "ConfigError" in done.stderr  # `ashneuro train` prints it in three parts
    assert "[rank1]" not in done.stderr, done.stderr[-3000:]


@pytest.mark.slow
def test_sharded_training_matches_one_process(tmp_path: Path) -> None:
    done = together("fsdp", tmp_path / "two")
    assert done.returncode == 0, done.stderr[-3000:]
    plain = settings("fsdp")
    loop.train(replace(plain, train=replace(plain.train, strategy="ddp")), tmp_path / "one")
    for ours, theirs in zip(curve(tmp_path / "one"), curve(tmp_path / "two"), strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3)
    assert load_run(tmp_path / "two").model.project.weight.abs().sum() > 0


def test_single_process_gathers_and_replaces_nothing() -> None:
    part = torch.randn(3, 2, requires_grad=True)
    assert all_gather(part) is part
    module = nn.Sequential(nn.BatchNorm2d(2))
    with shared_norms(module, SingleProcess(torch.device("cpu"))):
        assert isinstance(module[0], nn.BatchNorm2d)


def test_shared_norm_equals_batch_norm_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulates two processes with half a batch each, by handing the sums of both to one."""
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(3)
    nn.init.normal_(plain.weight)
    shared = SharedNorm(nn.BatchNorm2d(3))
    shared.load_state_dict(plain.state_dict())
    assert set(shared.state_dict()) == set(plain.state_dict())
    whole = torch.randn(8, 3, 4, 4) * 3 + 1
    halves = [torch.stack([half.sum((0, 2, 3)), half.square().sum((0, 2, 3))]) for half in whole.chunk(2)]
    monkeypatch.setattr("ashneuro.training.processes.all_gather", lambda part: torch.stack(halves))
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    expected = plain(whole)
    torch.testing.assert_close(shared(whole[:4]), expected[:4], atol=1e-5, rtol=1e-5)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value, msg=name)
    torch.testing.assert_close(shared.eval()(whole), plain.eval()(whole))


def test_settings_that_processes_rule_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="does not divide among 4"):
        join(tiny.config(batch_size=6).train, torch.device("cpu"))
    with pytest.raises(ConfigError, match="fsdp"):
        join(tiny.config(batch_size=8, strategy="fsdp").train, torch.device("cpu"))
    of_a_stage = [
        settings for _, settings in stages(tasks_tiny.config(StageConfig("stua", 1, batch_size=6), batch_size=8))
    ]
    with pytest.raises(ConfigError, match="batch_size = 6"):
        join(tiny.config(batch_size=8).train, torch.device("cpu"), of_a_stage)
