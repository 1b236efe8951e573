"""Quantise-aware training: its forward pass equals the exported integer program."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ashneuro.config import StageConfig, StageNeuron, dump_config, with_encoder
from ashneuro.model.deploy import deployed_graph
from ashneuro.model.network import AshNet
from ashneuro.program.lower import lower
from ashneuro.program.program import Program
from ashneuro.program.quantise import quantise
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.spiking.contract import read_contract
from ashneuro.workflows.calibration import choose_integers
from ashneuro.workflows.train import fine_tuning_config
from tests.commands.conftest import Command, settings
from tests.model.tiny import images, model, with_reset
from tests.training import tiny


def exported(net: AshNet) -> Program:
    """Return the integer program that an export of ``net`` writes."""
    integers = net.abstract.integers
    graph = deployed_graph(net)
    program = lower(graph, read_contract(graph.metadata).contract)
    return quantise(program, input_peak={"input": integers.input_peak}, scales=integers.scales).program


def require_equal_spikes(net: AshNet, seed: int) -> dict[str, float]:
    """Assert that forward pass and emulator give equal spikes; return the firing rates by layer."""
    x = images(40, seed)
    with torch.no_grad():
        layers = net.encode(x).layers
        currents = net.currents(x).numpy()
    record = run_program(exported(net), np.broadcast_to(currents, (3, *currents.shape)).copy(), rasters=list(layers))
    for name, spikes in layers.items():
        unit = net.abstract.integers.layers[name].message_scale  # graded messages are compared as integers
        found, wanted = (
            np.rint(unit * np.asarray(values, np.float64)) for values in (record.layers[name].raster, spikes)
        )
        np.testing.assert_array_equal(found, wanted, err_msg=name)
    return {name: float((spikes > 0).float().mean()) for name, spikes in layers.items()}


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch):
    """The choice of units for the small model, on small squares in place of pictures."""
    monkeypatch.setattr("ashneuro.workflows.calibration.first_currents", currents_of)
    return lambda net, before: choose_integers(net, before, range(1))


def currents_of(net: AshNet, shown: object, image_size: int) -> dict[str, np.ndarray]:
    with torch.no_grad():
        currents = net.currents(images(24, 3)).numpy()
    return {"input": np.broadcast_to(currents, (3, *currents.shape)).copy()}


@pytest.mark.parametrize(
    "net",
    [
        pytest.param(lambda: with_reset(model(), "value"), id="value"),
        pytest.param(lambda: with_reset(model(), "subtract"), id="subtract"),
        pytest.param(lambda: model(neuron="if", reset="subtract"), id="if, subtract"),
        pytest.param(lambda: model(neuron="if", learn_threshold=True), id="if"),
        pytest.param(lambda: model(learn_decay=True, learn_threshold=True), id="learned decay"),
        pytest.param(lambda: model(neuron="graded", message_bits=5), id="graded"),
        pytest.param(lambda: model(neuron="graded", v_threshold=0.0, message_limit=1.2), id="relu"),
    ],
)
def test_forward_pass_equals_emulator(choose, net) -> None:
    net = net()
    floats = net.encode(images(40, 9)).layers
    net.abstract.use_integers(choose(net, None))
    rates = require_equal_spikes(net, 9)
    assert all(0.01 < rate < 0.9 for rate in rates.values()), rates
    integers = net.encode(images(40, 9)).layers
    assert any(not torch.equal(floats[name], integers[name]) for name in floats), (
        "without a difference between float and integer the test proves nothing"
    )


def test_forward_pass_equals_emulator_after_training(choose) -> None:
    net = model()
    net.abstract.use_integers(choose(net, None))
    net.train()
    assert not any(module.training for module in net.abstract.modules() if isinstance(module, torch.nn.BatchNorm2d))
    optimiser = torch.optim.SGD(net.abstract.parameters(), lr=0.3)
    for seed in range(3):
        net.encode(images(16, seed)).layers["semantic.lif"].mean().mul(-1).backward()
        assert all(
            parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.abstract.parameters()
        )
        assert net.abstract.dense.linear.weight.grad.abs().max() > 0 and net.abstract.w_in.weight.grad.abs().max() > 0
        optimiser.step()
        optimiser.zero_grad()
    before = net.abstract.integers
    net.abstract.use_integers(None)
    net.abstract.use_integers(choose(net.eval(), before))
    require_equal_spikes(net, 11)
    with torch.no_grad():
        net.abstract.dense.linear.weight *= 100  # their sums would overflow 24 bits at the old scale
    before = net.abstract.integers
    net.abstract.use_integers(None)
    net.abstract.use_integers(choose(net, before))
    assert net.abstract.integers.scales["semantic.lif"] < before.scales["semantic.lif"]
    require_equal_spikes(net, 12)


def test_integers_can_be_switched_off(choose) -> None:
    net = model()
    before = net.encode(images(4)).layers["semantic.lif"]
    net.abstract.use_integers(choose(net, None))
    net.abstract.use_integers(None)
    assert torch.equal(net.encode(images(4)).layers["semantic.lif"], before)
    assert all(module.training for module in net.train().abstract.modules())


def test_fine_tuned_run_is_evaluated_and_exported(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    run = tmp_path / "hybrid"
    assert ashneuro("train", "tiny", "--out", run, *settings(pairs)).code == 0
    result = ashneuro("train", run, "--quantise-aware", "--set", "train.epochs=2")
    assert result.code == 0, result.err
    tuned = tmp_path / "hybrid-integers"
    before, after = (json.loads((path / "config.json").read_text())["train"] for path in (run, tuned))
    assert after["learning_rate"] == pytest.approx(before["learning_rate"] / 10) and after["epochs"] == 2
    assert (tuned / "model.safetensors").read_bytes() != (run / "model.safetensors").read_bytes()

    exported = json.loads(ashneuro("export", tuned, "--samples", 4, "--no-lava", "--json").out)
    accuracy = exported["certificate"]["accuracy"]
    assert accuracy["learnt integers"] == accuracy["integer"]
    torch_rows, emulator_rows = (
        json.loads(ashneuro("evaluate", tuned, "--abstract-on", where, "--json").out)["rows"]
        for where in ("torch", "loihi")
    )
    assert [row["image_to_text"] for row in torch_rows] == [row["image_to_text"] for row in emulator_rows]


@pytest.mark.parametrize(
    "neurons",
    [
        {},
        {"learn_decay": True, "learn_threshold": "population"},
        {"neuron": "if", "reset": "subtract"},
        {"neuron": "graded", "timesteps": 1, "learn_threshold": True},
    ],
)
def test_resumed_fine_tuning_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, neurons: dict[str, object]
) -> None:
    from ashneuro.training import loop

    monkeypatch.setattr("ashneuro.training.data.load_splits", tiny.load_splits)
    abstract = replace(tiny.CONFIG.model.abstract, **neurons)  # type: ignore[arg-type]
    start = loop.train(with_encoder(tiny.config(), abstract), tmp_path / "start")
    settings = tiny.config(start=str(tmp_path / "start"), quantise_aware=True, learning_rate=1e-2)
    config = with_encoder(settings, abstract)

    def stop(now: loop.Progress) -> None:
        if (now.epoch, now.batch, now.metrics) == (2, 1, None):
            raise KeyboardInterrupt

    tuned = loop.train(config, tmp_path / "whole", choose_integers=choose_integers)
    before, after = start.model.state_dict(), tuned.model.state_dict()
    assert not torch.equal(after["abstract.dense.linear.weight"], before["abstract.dense.linear.weight"])
    kept = [name for name in before if "tau" in name or "v_threshold" in name]
    assert kept and all(torch.equal(after[name], before[name]) for name in kept), "integers keep these"
    with pytest.raises(KeyboardInterrupt):
        loop.train(config, tmp_path / "parts", choose_integers=choose_integers, on_progress=stop)
    loop.train(config, tmp_path / "parts", resume=True, choose_integers=choose_integers)
    for name in ("model.safetensors", "integers.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_settings_after_a_schedule_are_those_of_its_last_pairs(tmp_path: Path) -> None:
    last = StageConfig("spikes", 8, learning_rate=4e-3, synops=100.0, synops_from=300.0, teacher="start", itc=0.5)
    schedule = (StageConfig("relu", 5, abstract=StageNeuron(kind="relu")), last, StageConfig("vqa", 3, task="vqa"))
    run = replace(tiny.config(seed=7), schedule=schedule)
    (tmp_path / "config.json").write_text(json.dumps(dump_config(run)))
    found = fine_tuning_config(tmp_path, ["train.batch_size=4"])
    changed = {"epochs": 2, "learning_rate": 4e-4, "synops": 100.0, "itc": 0.5, "batch_size": 4}
    assert found.train == replace(run.train, start=str(tmp_path), quantise_aware=True, **changed)  # type: ignore[arg-type]
    assert found.schedule == () and found.model == run.model


@pytest.mark.parametrize("words", [("tiny",), ("nowhere",)])
def test_fine_tuning_needs_a_run(ashneuro: Command, words: tuple[str, ...], tmp_path: Path) -> None:
    result = ashneuro("train", *words, "--quantise-aware", "--out", tmp_path / "out")
    assert result.code != 0 and "fine-tunes a trained run" in result.err
    assert not (tmp_path / "out").exists()
