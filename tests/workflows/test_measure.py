"""Measuring runs: networks, batches and missing counters. No real counter is read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ashneuro.cost import measure
from ashneuro.cost.measure import Measurement, NotMeasured
from ashneuro.workflows.measure import _gpu_uuid, host_flops, measure_runs


class Model(nn.Module):
    """Stand-in for a trained network: it records batch and spike shape of each call."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.image_size, self.config = 8, SimpleNamespace(abstract=SimpleNamespace(kind=kind, units=5))
        self.abstract = None if kind == "none" else SimpleNamespace(timesteps=4, out_shape=(5,))
        self.linear, self.seen = nn.Linear(3 * 64, 7), []

    def embed_images(self, images: torch.Tensor, *, spikes: torch.Tensor | None = None) -> torch.Tensor:
        self.seen.append((len(images), None if spikes is None else tuple(spikes.shape)))
        return self.linear(images.flatten(1))


@pytest.fixture
def runs() -> list[SimpleNamespace]:
    def run(name: str, kind: str) -> SimpleNamespace:
        model = Model(kind)
        return SimpleNamespace(path=Path(name), model=model, config=SimpleNamespace(model=model.config))

    return [run("hybrid", "spiking"), run("control", "none")]


def test_nothing_runs_without_a_counter(runs: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch) -> None:
    def none(device: str, uuid: str) -> None:
        raise measure.Unreadable("there is no counter here")

    monkeypatch.setattr(measure, "counter_for", none)
    found = measure_runs(runs, "cpu")
    assert [item.sentence for item in found if isinstance(item, NotMeasured)] == [
        "hybrid, ANN branch on cpu: not measured, because there is no counter here",
        "control, whole network on cpu: not measured, because there is no counter here",
    ]
    assert not any(run.model.seen for run in runs)


def test_runs_at_batch_1_and_at_best_batch(runs: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch) -> None:
    def read(run, counter, *, network, batch, precision):  # type: ignore[no-untyped-def]
        run()
        return Measurement("machine", "all", "counter", 1.0, 1.0, 1.0, 1.0, batch, precision, network=network)

    monkeypatch.setattr(measure, "counter_for", lambda device, uuid: object())
    monkeypatch.setattr(measure, "measure", read)
    monkeypatch.setattr(measure, "best_batch", lambda make: make(16)() or 16)
    found = measure_runs(runs, "cpu")
    rows = [(item.network, item.batch, item.precision) for item in found if isinstance(item, Measurement)]
    names = ("hybrid, ANN branch", "control, whole network")
    assert rows == [(name, batch, "fp32") for name in names for batch in (1, 16)]
    hybrid, control = (run.model for run in runs)
    # The hybrid's ANN branch gets spikes (T, B, units); the control gets none.
    assert hybrid.seen == [(16, (4, 16, 5)), (1, (4, 1, 5)), (16, (4, 16, 5))]
    assert control.seen == [(16, None), (1, None), (16, None)]
    assert [item.network for item in found if isinstance(item, NotMeasured)] == [f"{name}, int8" for name in names]


def test_missing_gpu_is_not_measured(runs: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = measure_runs(runs, "cuda")
    assert all(isinstance(item, NotMeasured) and item.reason == "torch sees no CUDA device" for item in found)


def test_gpu_uuid_follows_torch_index() -> None:
    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 2,
        get_device_properties=lambda index: SimpleNamespace(uuid=f"id-{index}"),
    )
    assert _gpu_uuid(cuda, "cuda") == "id-0" and _gpu_uuid(cuda, "cuda:1") == "id-1" and _gpu_uuid(cuda, "cpu") == ""
    with pytest.raises(measure.Unreadable, match="torch sees 2 CUDA devices"):
        _gpu_uuid(cuda, "cuda:2")


def test_host_flops_name_uncounted_operators() -> None:
    text = host_flops(Model("spiking"))
    assert text.startswith(f"{3 * 64 * 7:,} MACs")
    assert "not counted: " in text
