"""Benchmarks of layers: variants in turn, ratios to a baseline of the same round, every library
installed.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import count
from typing import get_args

import pytest
import torch

from ashneuro.bench import peers
from ashneuro.bench.layers import conv_jobs, lif_jobs
from ashneuro.bench.measure import Spread
from ashneuro.bench.model import NEURONS, feed_jobs, model_jobs, settings_of
from ashneuro.bench.norse_network import lift, step_by_step
from ashneuro.bench.split import part_of, split
from ashneuro.bench.timing import Job, Variant, kept_without_parameters, time_jobs
from ashneuro.config import AbstractConfig, RunConfig, SpikingNeuron, load_config
from ashneuro.errors import ConfigError
from ashneuro.model.abstract import AbstractEncoder
from ashneuro.reporting import figures, tables
from ashneuro.reporting.tables.table import NOTHING
from ashneuro.spiking.kernels.sparse_synapses import synaptic_currents
from ashneuro.spiking.lif import LIF

CPU = torch.device("cpu")
# The peer whose output equals ours.
SAME = dict.fromkeys(peers.NEURONS, "Norse, Lift(LIFBoxCell)") | {
    "graded": "torch, x · (x > θ)",
    "sigma-delta": "torch, step by step",
}


def test_ratios_are_of_one_round_and_turns_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    now = [0.0]  # a clock that only the variants advance
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def variant(name: str, seconds: float) -> Variant:
        def run() -> None:
            order.append(name)
            now[0] += seconds

        return Variant(name, run)

    long, short = variant("long", 0.06), variant("short", 0.03)
    told = []
    result = time_jobs(
        "lif",
        [Job("two", (long, short, Variant("none", reason="it is not there")), short)],
        device=CPU,
        rounds=3,
        progress=lambda done, total: told.append((done, total)),
    )
    (job,) = result.jobs
    assert job.ways[0].ratio.median == pytest.approx(2.0) and job.ways[1].ratio == Spread(1.0, 1.0, 1.0)
    assert job.baseline == "short"
    turn = ["long"] * 3 + ["short"] * 3
    assert order == ["long", "short"] * 2 + turn * 3  # what is kept, how often, and three rounds
    assert told == [(n, 6) for n in range(1, 7)]
    assert job.ways[2].reason == "it is not there" and job.ways[2].seconds is None


def test_short_runs_are_repeated() -> None:
    calls = []
    quick = Variant("quick", lambda: calls.append(1))
    time_jobs("lif", [Job("one", (quick,), quick)], device=CPU, rounds=1)
    assert len(calls) == 2 + 50


def test_processor_time_is_read_from_the_processors_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count(0, 3)  # seconds of a clock that advances by 3 with every reading
    monkeypatch.setattr(time, "process_time", lambda: float(next(ticks)))
    sleep = Variant("sleep", lambda: None)
    waiting = Job("one", (sleep,), sleep)
    (job,) = time_jobs("lif", [waiting], device=CPU, rounds=1, clock="cpu").jobs
    assert job.ways[0].seconds.median == 3.0
    with pytest.raises(ConfigError, match="processor's time"):
        time_jobs("lif", [waiting], device=torch.device("cuda"), rounds=1, clock="cpu")


def test_kept_bytes_count_each_storage_once_without_parameters() -> None:
    linear, x = torch.nn.Linear(10, 10), torch.randn(8, 10)

    def run() -> None:
        y = linear(x * 1)  # keeps its input, 320 bytes, and the weight, which is a parameter
        (y * y).sum().backward()  # keeps y twice

    assert kept_without_parameters(run) == 320 + 320


def test_kept_bytes_leave_out_transposed_and_detached_parameters() -> None:
    linear, x = torch.nn.Linear(10, 10), torch.randn(8, 10, requires_grad=True)
    assert kept_without_parameters(lambda: linear(x).sum()) == 320  # and the weight, transposed, for the gradient of x
    spikes = (torch.rand(64, 256) < 0.2).float().requires_grad_()
    layer = torch.nn.Linear(256, 256)
    assert kept_without_parameters(lambda: synaptic_currents(layer, spikes).sum()) in (64 * 256 // 8, 64 * 256 * 4)


@pytest.mark.parametrize("setting", [{"rounds": 0}, {"threads": 0}])
def test_refuses_settings_below_one(setting) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        time_jobs("lif", [], **({"device": CPU, "rounds": 1} | setting))


def test_number_of_torch_threads_is_restored() -> None:
    before = torch.get_num_threads()
    assert time_jobs("lif", [], device=CPU, rounds=1, threads=before + 1).threads == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("neuron", peers.NEURONS)
def test_neurons_of_every_library_spike_and_pass_gradients(neuron: str) -> None:
    kind = peers.benched(neuron)
    for name, (package, make) in kind.peers.items():
        if peers.missing(package):
            pytest.skip(f"{peers.missing(package)}")
        x = torch.randn(6, 4, 30).requires_grad_()
        spikes = make()(x)
        active = (spikes != 0).float().mean()
        assert spikes.shape == x.shape and 0.02 < active < 0.6, name
        assert neuron in ("graded", "sigma-delta") or spikes.max() == 1, name
        spikes.sum().backward()
        assert x.grad.abs().max() > 0, name
    ours, theirs = (
        make(torch.randn(6, 4, 30, generator=torch.Generator().manual_seed(1)))
        for make in (kind.ours("torch", CPU), kind.peers[SAME[neuron]][1]())
    )
    # The same work. Straight through, torch rounds a sum and a difference more.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 if neuron == "sigma-delta" else 0)


def test_missing_library_has_a_reason(monkeypatch) -> None:
    lif = replace(peers.NEURONS["lif"], peers={"Nobody": ("no_such_package", lambda: None)})
    monkeypatch.setitem(peers.NEURONS, "lif", lif)
    job = lif_jobs(CPU, timesteps=(2,), batch=2, width=8)[0]
    row = next(variant for variant in job.variants if variant.name == "Nobody")
    assert "no_such_package is not installed" in row.reason


def test_layer_jobs_run_and_show_as_tables_and_plot() -> None:
    jobs = [*lif_jobs(CPU, timesteps=(3,), batch=2, width=16), *conv_jobs(CPU, timesteps=2, batch=1, side=8)]
    content = json.loads(json.dumps(time_jobs("lif", jobs, device=CPU, rounds=1, threads=1).to_json()))
    assert content["schema"] == "ashneuro.bench/1" and content["threads"] == 1 and content["kernels"]
    assert [job["title"].split(",")[0] for job in content["jobs"]] == ["Linear 16 and LIF", "LIF alone", "Conv 32"]
    for job in content["jobs"]:
        names = [way["name"] for way in job["ways"]]
        assert job["baseline"] in names and "ashneuro, torch" in names and "Norse, Lift(LIFBoxCell)" in names
        kept = {way["name"]: way["kept_bytes"] for way in job["ways"] if not way["reason"]}
        assert kept["ashneuro, torch"] < kept["Norse, steps unbound"]
    assert content["jobs"][1]["ways"][-1]["name"] == "copies: 5 arrays read or written"
    for table in tables.bench.jobs(content):
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert content["machine"]["cpu"] in table.note
    drawn = figures.svg.alone(figures.bench.jobs(content), "lif", "times")
    assert (
        drawn.startswith("<svg")
        and "Conv 32" in drawn
        and drawn == figures.svg.alone(figures.bench.jobs(content), "lif", "times")
    )
    content["jobs"][0]["ways"][-1] = {"name": "gone", "reason": "it is not there", "peak_bytes": None}
    table = tables.bench.jobs(content)[0]
    assert (
        table.rows[-1][:2] == ("gone", "not run")
        and table.rows[-1][-1] == NOTHING
        and "because it is not there" in table.note
    )


def test_neurons_other_than_lif_are_timed_beside_lif() -> None:
    jobs = lif_jobs(CPU, timesteps=(3,), batch=2, width=16, neuron="lif-subtract")
    layer, alone = time_jobs("lif-subtract", jobs, device=CPU, rounds=1, threads=1).jobs
    assert layer.title.startswith("Linear 16 and LIF by subtraction,") and alone.title.startswith(
        "LIF by subtraction alone"
    )
    for job in (layer, alone):
        names = [way.name for way in job.ways]
        assert job.baseline == next(name for name in names if name.startswith("LIF, "))
        assert {"LIF, torch", "ashneuro, torch", "sinabs, LIF"} <= set(names)
    assert "Norse, stepwise" in {way.name for way in layer.ways}
    with pytest.raises(
        ConfigError, match=r"neuron 'lif-subtrakt'\n.*lif, lif-subtract, graded, sigma-delta\n.*--neuron lif-subtract"
    ):
        lif_jobs(CPU, neuron="lif-subtrakt")


def test_graded_neurons_are_timed_beside_lif_and_torch() -> None:
    jobs = lif_jobs(CPU, timesteps=(1,), batch=2, width=16, neuron="graded")
    for job in time_jobs("graded", jobs, device=CPU, rounds=1, threads=1).jobs:
        assert job.baseline.startswith("LIF, ")
        names = {way.name for way in job.ways}
        assert {"LIF, torch", "ashneuro, torch", "torch, ReLU"} <= names and "Norse, stepwise" not in names
    small = ["model.abstract.channels=[4, 6]", "model.abstract.units=8", "train.batch_size=4", "data.image_size=16"]
    config = load_config("tiny", [*settings_of("graded"), *small, "train.synops=100"])
    assert isinstance(config, RunConfig) and config.model.abstract.timesteps == 1
    (job,) = model_jobs(CPU, config)
    (timed,) = time_jobs("model", [job], device=CPU, rounds=1, threads=1).jobs
    reasons = {way.name: way.reason for way in timed.ways}
    assert reasons["graded, torch"] == "" and reasons["graded, norse"] == "Norse has no graded neuron"


def test_every_neuron_of_a_network_has_settings() -> None:
    chosen = [load_config("tiny", settings_of(name)).model.abstract for name in NEURONS]
    assert {abstract.neuron for abstract in chosen} == set(get_args(SpikingNeuron))
    assert {abstract.reset for abstract in chosen} == {"value", "subtract"}
    with pytest.raises(ConfigError, match=r"neuron 'sigma-delta'\n.*bench lif --neuron sigma-delta"):
        settings_of("sigma-delta")


def test_training_step_runs_with_every_back_end() -> None:
    config = load_config(
        "tiny", ["model.abstract.channels=[4, 6]", "model.abstract.units=8", "train.batch_size=4", "data.image_size=16"]
    )
    assert isinstance(config, RunConfig)
    (job,) = model_jobs(CPU, config)
    (timed,) = time_jobs("model", [job], device=CPU, rounds=1, threads=1).jobs
    names = [way.name for way in timed.ways if not way.reason]
    assert names[-5:] == ["LIF, torch", "LIF, norse", "Norse, Lift(LIFBoxCell)", "Norse, stepwise", "ReLU, once"]
    kept = {way.name: way.kept_bytes for way in timed.ways}
    assert kept["ReLU, once"] < kept["LIF, torch"] < kept["LIF, norse"]
    assert next(way for way in timed.ways if way.name == "ReLU, once").parts["neurons"] == 0


@pytest.mark.parametrize("other", ["kind='relu'", "neuron='cubalif'", "surrogate='atan'"])
def test_only_plain_lif_is_compared_with_norse(other: str) -> None:
    config = load_config(
        "tiny",
        ["model.abstract.channels=[4, 6]", "train.batch_size=4", "data.image_size=16", f"model.abstract.{other}"],
    )
    (job,) = model_jobs(CPU, config)
    assert [variant.reason for variant in job.variants if variant.name.startswith("Norse")] == [
        "it is compared for plain LIF neurons with SuperSpike"
    ] * 2


@pytest.mark.parametrize("rewrite", [lift, step_by_step])
def test_encoder_in_norse_sends_the_same_spikes(rewrite) -> None:
    torch.manual_seed(2)
    encoder = AbstractEncoder(AbstractConfig(channels=(8, 12), units=7, timesteps=3), width=5, grid=8)
    current = 3 * torch.randn(16, 8, 8, 8)
    with torch.no_grad():
        for _ in range(30):  # batch norms have seen currents: every layer spikes
            encoder(current)
        wanted = encoder.eval()(current)
        rewrite(encoder)
        for (name, ours), (other, norse) in zip(wanted.items(), encoder(current).items(), strict=True):
            assert name == other and torch.equal(ours, norse) and 0 < ours.mean() < 0.6


def test_split_has_every_part_of_a_run() -> None:
    linear, norm, lif = torch.nn.Linear(500, 500), torch.nn.BatchNorm1d(500), LIF(2e-3, dt=1e-3)
    x = torch.randn(400, 500)

    def run() -> None:
        lif(norm(linear(x)).unflatten(0, (4, 100))).sum().backward()

    parts = split(run, CPU)
    assert set(parts) == {"products", "neurons", "norms", "rest"} and all(seconds > 0 for seconds in parts.values())


@pytest.mark.parametrize(
    ("operator", "part"),
    [
        ("aten::addmm", "products"),
        ("_WeightsBackward", "products"),
        ("MultiStepBackward", "neurons"),
        ("aten::native_batch_norm_backward", "norms"),
        ("_BatchNormBackward", "norms"),
        ("aten::mul", "rest"),
    ],
)
def test_part_of_operators(operator: str, part: str) -> None:
    assert part_of(operator) == part


def test_feed_stands_beside_the_step_that_consumes_it() -> None:
    config = load_config("tiny", ["model.abstract.channels=[4, 6]", "train.batch_size=4", "data.image_size=16"])
    (job,) = feed_jobs(CPU, config, picture=(48, 64))
    result = time_jobs("feed", [job], device=CPU, rounds=1, threads=1)
    (timed,) = result.jobs
    assert timed.baseline == "training step" and timed.items == 4
    (table,) = tables.bench.jobs(result.to_json())
    ways = ["training step", "read and augment on cpu", "read, not augmented", "decode JPEGs of 64 × 48"]
    assert [row[0] for row in table.rows] == ways
    rate = float(table.rows[1][table.columns.index(">pairs/s")].replace(",", ""))
    assert rate == pytest.approx(4 / timed.ways[1].seconds.median, rel=0.01)
