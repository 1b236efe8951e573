"""The emulator's benchmark on small networks: speeds, ratios, and no speed where spikes differ."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ashneuro.bench import emulator
from ashneuro.bench.emulator import LAVA, BenchNetwork, bench_emulator, conv_network, dense_network
from ashneuro.bench.measure import Spread
from ashneuro.errors import ConfigError
from ashneuro.reporting import tables
from ashneuro.simulation.emulator.run_program import run_program
from tests.simulation import nets


def small(samples=6, timesteps=8):
    return dense_network(samples, sizes=(12, 20, 9), timesteps=timesteps)


def by_name(result):
    return {(speed.name, speed.threads): speed for speed in result.networks[0].speeds}


def test_networks_fire_at_realistic_rates():
    network = dense_network(8)
    record = run_program(network.program, network.inputs)
    assert all(0.02 < record.firing_rate(name) < 0.3 for name in ("lif1", "lif2"))
    assert [layer.shape for layer in network.program.layers] == [(512,), (256,)]
    again = dense_network(8)
    np.testing.assert_array_equal(again.inputs["input"], network.inputs["input"])
    network = conv_network(8)
    record = run_program(network.program, network.inputs)
    assert all(0.02 < record.firing_rate(name) < 0.3 for name in ("lif1", "lif2", "lif3"))
    assert [layer.shape for layer in network.program.layers] == [(64, 8, 8), (64, 8, 8), (128,)]


@pytest.mark.parametrize("neuron", emulator.NEURONS)
def test_every_neuron_is_active_and_agrees(neuron, monkeypatch, tmp_path):
    network = dense_network(8, neuron=neuron, sizes=(64, 96, 40), timesteps=24)
    record = run_program(network.program, network.inputs)
    assert all(0.01 < record.firing_rate(name) < 0.5 for name in ("lif1", "lif2"))
    monkeypatch.setenv("ASHNEURO_LAVA_PYTHON", str(tmp_path / "nothing"))
    result = bench_emulator([network], rounds=1, threads=1)
    assert result.passed and 0.01 < result.networks[0].firing_rate < 0.5


def test_unknown_neuron_is_refused():
    with pytest.raises(ConfigError, match="one of lif, lif-subtract"):
        dense_network(4, neuron="relu")


def test_without_lava_there_is_a_reason_and_no_ratio(monkeypatch, tmp_path):
    monkeypatch.setenv("ASHNEURO_LAVA_PYTHON", str(tmp_path / "nothing"))
    told = []
    result = bench_emulator([small()], rounds=2, threads=2, progress=lambda done, total: told.append((done, total)))
    speeds = by_name(result)
    assert set(speeds) >= {(LAVA, None), ("emulator, torch", 1), ("emulator, torch", 2), ("emulator, numpy", None)}
    assert speeds[LAVA, None].per_second is None and "nothing" in speeds[LAVA, None].reason
    ran = [speed for speed in speeds.values() if not speed.reason]
    assert all(speed.per_second.low > 0 and speed.ratio is None and speed.spikes == ran[0].spikes for speed in ran)
    assert result.passed and told[-1] == (2 * len(ran), 2 * len(ran))
    assert result.networks[0].compared == 2 * len(ran) * 6 * 8 * (20 + 9)


def test_different_spikes_fail_and_have_no_speed(monkeypatch):
    honest = run_program

    def wrong(program, inputs, *, backend, **kwargs):
        record = honest(program, inputs, backend=backend, **kwargs)
        if backend == "torch":
            layer = record.layers["lif2"]
            raster = layer.raster.copy()
            raster[3, 1, 4] ^= 1
            record = replace(record, layers={**record.layers, "lif2": layer.with_raster(raster)})
        return record

    monkeypatch.setattr(emulator, "run_program", wrong)
    result = bench_emulator([small()], rounds=2, threads=1, lava=False)
    speeds = by_name(result)
    assert not result.passed and not result.to_json()["passed"]
    assert speeds["emulator, torch", 1].mismatches == 2 and speeds["emulator, torch", 1].per_second is None
    assert speeds["emulator, numpy", None].mismatches == 0
    (table,) = tables.bench.emulator(result.to_json())
    assert "2 differ" in table.note
    assert next(row for row in table.rows if row[0] == "emulator, torch")[2] == tables.table.NOTHING


def test_number_of_torch_threads_is_restored():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[train]'")
    before = torch.get_num_threads()
    bench_emulator([small()], rounds=1, threads=before + 1, lava=False)
    assert torch.get_num_threads() == before


def test_table_and_json_have_machine_and_versions():
    content = json.loads(json.dumps(bench_emulator([small(), small()], rounds=1, threads=1, lava=False).to_json()))
    assert content["schema"] == "ashneuro.bench/1" and content["benchmark"] == "emulator"
    assert (
        content["machine"]["cpu"]
        and content["machine"]["cores"] >= 1
        and {"numpy", "torch"} <= set(content["machine"]["versions"])
    )
    both = tables.bench.emulator(content)
    assert len(both) == 2
    for table in both:
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert table.basis_text.startswith("measured, 1 rounds")
        assert content["machine"]["cpu"] in table.note and "load average" in table.note
        assert f"{LAVA}: not run, because it was not asked for" in table.note


def test_spread_is_median_minimum_and_maximum():
    assert Spread.of([3.0, 1.0, 7.0]) == Spread(3.0, 1.0, 7.0)


@pytest.mark.parametrize("setting", [{"rounds": 0}, {"threads": 0}, {"lava_samples": -1}])
def test_refuses_settings_below_one(setting):
    with pytest.raises(ConfigError, match="at least one"):
        bench_emulator([small()], lava=False, **setting)


@pytest.mark.lava
def test_lava_streams_the_same_spikes():
    random, program = nets.recurrent_net(1, "integer")
    recurrent = BenchNetwork("recurrent", program, {"input": random.inputs(program.inputs[0], 5, 2)})
    result = bench_emulator([small(20), recurrent], rounds=2, threads=1, lava_samples=3)
    lava = by_name(result)[LAVA, None]
    assert result.passed
    assert lava.samples == 16  # four requests of 32 steps, where 3 samples would be one
    assert lava.start_s.low > 0 and lava.ratio == Spread(1.0, 1.0, 1.0)
    ours = by_name(result)["emulator, torch", 1]
    assert ours.ratio.low <= ours.ratio.median <= ours.ratio.high
    assert "side by side" in result.networks[1].speeds[0].reason
    assert any(name.startswith("lava worker: ") for name in result.machine.versions)


@pytest.mark.lava
def test_refuses_too_few_samples_to_time_lava():
    with pytest.raises(ConfigError, match="after its first request"):
        bench_emulator([small(2)], rounds=1, threads=1)
