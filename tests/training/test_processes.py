"""Training in two processes on one machine (gloo) equals training in one.

The processes start once, for all tests but that of FSDP.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ashneuro.config import StageConfig, stages
from ashneuro.errors import ConfigError
from ashneuro.exchange import METRICS, read_metrics
from ashneuro.training import data, loop
from ashneuro.training.checkpoint import load_run
from ashneuro.training.processes import SharedNorm, SingleProcess, all_gather, join, shared_norms
from ashneuro.training.schedule import NORMS
from tests.training import tasks_tiny, tiny
from tests.training.two_processes import settings

HERE = Path(__file__).parent.parent.parent


def together(kind: str, out: Path) -> None:
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
    home = str(out.with_name("home"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ASHNEURO_HOME": home}
    done = subprocess.run(
        [*command, kind, str(out)], cwd=HERE, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that two processes trained, all in one start of them."""
    out = tmp_path_factory.mktemp("processes") / "two"
    together("all", out)
    return out


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


def test_two_processes_match_one(two: Path, tmp_path: Path, alone: None) -> None:
    """Pairs with every objective, two batches a step, then questions."""
    loop.train(settings("ddp"), tmp_path)
    ours, theirs = curve(tmp_path), curve(two / "ddp")
    assert len(ours) == len(theirs) == 3 and "stua" in ours[0] and "entailment" in ours[2]
    assert ours[0]["synops"] > 0 and ours[0]["unlabelled"] > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=2e-3)
    same_weights(tmp_path, two / "ddp")


def test_two_processes_match_one_through_stages_of_other_neurons(two: Path, tmp_path: Path) -> None:
    loop.train(settings("stages"), tmp_path)
    ours, theirs = (read_metrics(path / METRICS).epochs for path in (tmp_path, two / "stages"))
    assert len(ours) == len(theirs) == 3 and {"distil", "distil_embedding", "synops"} <= set(ours[2].losses)
    for one, other in zip(ours, theirs, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=2e-2)
    same_weights(tmp_path, two / "stages")


def same_weights(ours: Path, theirs: Path) -> None:
    other = load_run(theirs).model.state_dict()
    for name, value in load_run(ours).model.state_dict().items():
        torch.testing.assert_close(other[name], value, rtol=0.05, atol=0.02, msg=name)


def test_resume_restores_random_states_of_each_process(two: Path) -> None:
    whole, parts = (load_run(two / name).model.state_dict() for name in ("whole", "parts"))
    for name, value in whole.items():
        assert torch.equal(parts[name], value), name


def test_one_process_decodes_the_pictures(two: Path) -> None:
    first, second = seen(two)
    splits = tiny.load_splits(tiny.config().data)
    assert set(first["decoded"]) == {pair.key for part in (splits.train, splits.validation) for pair in part}
    assert second["decoded"] == []


def test_only_the_first_process_reports_an_error(two: Path) -> None:
    """`ashneuro train` prints the first one's; the other process exits without a word."""
    assert [found["error"] for found in seen(two)] == ["ConfigError", "SystemExit"]


def seen(two: Path) -> list[dict[str, Any]]:
    return [json.loads((two / f"seen-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
def test_sharded_training_matches_one_process(tmp_path: Path) -> None:
    together("fsdp", tmp_path / "two")
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shared_norm_equals_batch_norm_of_the_whole_batch(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulates two processes with half a batch each, by handing the statistics of both to one.

    Under bfloat16 a mean of 10 would leave nothing of a variance of 1 in sums of squares.
    """
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(3)
    nn.init.normal_(plain.weight)
    shared = SharedNorm(nn.BatchNorm2d(3))
    shared.load_state_dict(plain.state_dict())
    assert set(shared.state_dict()) == set(plain.state_dict())
    whole = (torch.randn(8, 3, 4, 4) + 10).to(dtype)
    halves = [torch.stack(torch.var_mean(half.float(), (0, 2, 3), correction=0)) for half in whole.chunk(2)]

    def gathered(part: torch.Tensor) -> torch.Tensor:
        assert torch.equal(part[0], halves[0])
        return torch.stack(halves)

    monkeypatch.setattr("ashneuro.training.processes.all_gather", gathered)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    expected, found = plain(whole), shared(whole[:4])
    assert found.dtype == expected.dtype == dtype
    rough = {"atol": 0.02, "rtol": 0.02} if dtype is torch.bfloat16 else {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(found, expected[:4], **rough)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value, msg=name)
    torch.testing.assert_close(shared.eval()(whole), plain.eval()(whole), **rough)


def test_norms_of_a_gpu_are_torchs_own() -> None:
    """`nn.SyncBatchNorm` runs on a GPU only; that it has the norm's tensors is seen without one."""
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, eps=1e-3, momentum=0.2).eval())
    processes = SingleProcess(torch.device("cuda"))
    processes.size = 2
    before = dict(module.state_dict(keep_vars=True))
    with shared_norms(module, processes):
        norm = module[1]
        assert type(norm) is nn.SyncBatchNorm and isinstance(norm, NORMS)
        assert (norm.eps, norm.momentum, norm.training) == (1e-3, 0.2, False)
        assert all(value is before[name] for name, value in module.state_dict(keep_vars=True).items())
    assert type(module[1]) is nn.BatchNorm2d


@pytest.mark.gpu
def test_norms_of_a_gpu_under_bfloat16() -> None:
    plain, module = nn.BatchNorm2d(3).cuda(), nn.Sequential(nn.BatchNorm2d(3).cuda())
    processes = SingleProcess(torch.device("cuda"))
    processes.size = 2
    whole = (torch.randn(8, 3, 4, 4, device="cuda") + 10).bfloat16()
    with shared_norms(module, processes):
        torch.testing.assert_close(module(whole), plain(whole))
    torch.testing.assert_close(module[0].running_var, plain.running_var)


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
