"""Measurement windows, idle power, energy counters, and the file of measurements."""

import json
from dataclasses import replace

import pytest

from ashneuro.cost.measure import (
    Measurement,
    NotMeasured,
    Nvml,
    Rapl,
    Unreadable,
    best_batch,
    counter_for,
    load_measurements,
    measure,
    save_measurements,
)
from ashneuro.errors import ConfigError, DataError


class Machine:
    """A simulated machine: 5 W idle, 25 W busy, 0.5 s per run, with its own clock."""

    device, boundary, method = "test machine", "whole machine", "counter"

    def __init__(self, noise=()):
        self.now, self.spent, self.runs, self.noise = 0.0, 0.0, 0, list(noise)

    def joules(self):
        return self.spent

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.spent += 5.0 * seconds

    def run(self):
        self.runs += 1
        self.now += 0.5
        self.spent += 25.0 * 0.5 + (self.noise.pop(0) if self.noise else 0.0)


def take(machine, **options):
    options = {"network": "ANN", "batch": 4, "precision": "fp32", **options}
    return measure(machine.run, machine, clock=machine.clock, sleep=machine.sleep, **options)


def test_idle_power_is_subtracted_and_energy_is_per_inference():
    result = take(Machine())
    assert result.idle_w == pytest.approx(5.0)
    assert result.energy_j == pytest.approx((25 - 5) * 0.5 / 4)
    assert result.total_j == pytest.approx(25 * 0.5 / 4)
    assert result.seconds == pytest.approx(0.5 / 4)
    assert (result.batch, result.network, result.precision) == (4, "ANN", "fp32")
    assert "3 windows of 10 s, idle subtracted" in result.basis


def test_bounds_are_the_spread_over_windows():
    # 20 runs fill a window; the first run only warms up. One window costs more.
    machine = Machine(noise=[0.0] * 21 + [2.0] * 20)
    result = take(machine, batch=1)
    assert result.energy_j == result.low_j == pytest.approx(10.0)
    assert result.high_j == pytest.approx(12.0)
    assert machine.runs == 61


@pytest.mark.parametrize("options", [{"window_s": 9.9}, {"windows": 2}])
def test_short_measurements_are_refused(options):
    with pytest.raises(ConfigError, match="3 windows of 10 s"):
        take(Machine(), **options)


def test_best_batch_is_the_fastest_per_inference():
    machine = Machine()

    def make(batch):
        def run():
            machine.now += 0.1 + 0.01 * batch + (20.0 if batch > 64 else 0.0)

        return run

    assert best_batch(make, clock=machine.clock) == 64

    def small(batch):
        if batch > 4:
            raise RuntimeError("out of memory")
        return make(batch)

    assert best_batch(small, clock=machine.clock) == 4
    with pytest.raises(RuntimeError, match="out of memory"):
        best_batch(small, (16, 64), clock=machine.clock)


def powercap(root, values, names=("package-0", "package-1")):
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        zone = root / f"intel-rapl:{number}"
        zone.mkdir(parents=True, exist_ok=True)
        (zone / "name").write_text(f"{name}\n")
        (zone / "energy_uj").write_text(f"{value}\n")
        (zone / "max_energy_range_uj").write_text("1000000\n")
        inner = zone.parent / f"intel-rapl:{number}:0"
        inner.mkdir(exist_ok=True)
        (inner / "name").write_text("core\n")
        (inner / "energy_uj").write_text("999\n")


def test_rapl_sums_packages_and_handles_overflow(tmp_path):
    powercap(tmp_path, (900_000, 100))
    counter = Rapl(tmp_path)
    assert counter.joules() == 0
    powercap(tmp_path, (100_000, 600))  # the first went over 1 J
    assert counter.joules() == pytest.approx(0.2 + 0.0005)
    powercap(tmp_path, (150_000, 600))
    assert counter.joules() == pytest.approx(0.25 + 0.0005)
    assert "2 processor package" in counter.device


def test_unreadable_counters_give_the_reason(tmp_path, monkeypatch):
    with pytest.raises(Unreadable, match="no package counter"):
        Rapl(tmp_path / "nothing")
    powercap(tmp_path, (1,), ("psys",))
    with pytest.raises(Unreadable, match="no package counter"):
        Rapl(tmp_path)
    powercap(tmp_path, (1,), ("package-0",))
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    (tmp_path / "intel-rapl:0" / "energy_uj").mkdir()
    with pytest.raises(Unreadable, match="chmod a\\+r"):
        Rapl(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    with pytest.raises(Unreadable, match="nvidia-ml-py is not installed"):
        counter_for("cuda:0")


class FakeNvml:
    """NVML of one GPU, or of none."""

    def __init__(self, works=True):
        self.works, self.millijoules = works, 5000

    def nvmlInit(self):
        if not self.works:
            raise OSError("Driver Not Loaded")

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return uuid

    def nvmlDeviceGetName(self, handle):
        return f"NVIDIA Test {handle}".encode()

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self.millijoules


def test_nvml_reads_joules(monkeypatch):
    fake = FakeNvml()
    monkeypatch.setitem(__import__("sys").modules, "pynvml", fake)
    counter = counter_for("cuda")
    assert isinstance(counter, Nvml) and counter.device == "NVIDIA Test 0" and counter.joules() == 5.0
    # CUDA's first GPU need not be NVML's.
    assert counter_for("cuda:0", "7a0d").device == "NVIDIA Test GPU-7a0d"
    monkeypatch.setitem(__import__("sys").modules, "pynvml", FakeNvml(works=False))
    with pytest.raises(Unreadable, match="Driver Not Loaded"):
        counter_for("cuda")


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "cpu:1", "mps", "cuda:-1"])
def test_unknown_device_is_refused(device):
    with pytest.raises(ConfigError, match="neither cpu nor cuda"):
        counter_for(device)


def test_measurement_file_round_trip_and_faults(tmp_path):
    items = (
        Measurement(
            "H200", "board", "NVML", 1e-3, 2e-3, 0.9e-3, 1.1e-3, 64, "fp16", 80.0, "ANN twin", 3e-3, "2026-01-01"
        ),
        NotMeasured("ANN twin", "cpu", "there is no counter"),
    )
    path = save_measurements(items, tmp_path / "m.json")
    assert load_measurements(path) == items
    assert items[1].sentence == "ANN twin on cpu: not measured, because there is no counter"
    for spoilt in ("{}", "[]", '{"schema": "x", "measured": [], "not_measured": []}', "{"):
        path.write_text(spoilt)
        with pytest.raises(DataError, match="cannot read measurements"):
            load_measurements(path)
    path.write_text(json.dumps({"schema": "ashneuro.measurement/1", "measured": [{"device": "x"}], "not_measured": []}))
    with pytest.raises(DataError):
        load_measurements(path)
    for key, spoilt in (("energy_j", "much"), ("seconds", None), ("low_j", float("nan")), ("batch", "x")):
        save_measurements(items, path)
        content = json.loads(path.read_text())
        content["measured"][0][key] = spoilt
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=key):
            load_measurements(path)
    with pytest.raises(DataError, match="cannot read"):
        load_measurements(tmp_path / "absent.json")
    assert replace(items[0], batch=1) != items[0]
