"""``ashneuro bench``: a table to read, a file to keep."""

import json
import os
import subprocess
import sys

import pytest

from ashneuro.bench.lava import LavaBench, LavaTiming, Schedule
from ashneuro.bench.measure import Machine, Spread
from tests.commands.conftest import Command


def test_bench_emulator(ashneuro: Command, tmp_path):
    out = tmp_path / "emulator.json"
    said = ashneuro("bench", "emulator", "--samples", 4, "--rounds", 1, "--threads", 1, "--no-lava", "--json", out)
    assert said.code == 0, said.err
    assert "256-512-256" in said.out and "not run, because it was not asked for" in said.out
    assert json.loads(out.read_text())["networks"][0]["speeds"][1]["per_second"]["median"] > 0


def test_bench_emulator_on_a_network_of_ones_own(ashneuro: Command, foreign, spikes, tmp_path):
    bundle = tmp_path / "bundle"
    exported = ashneuro(
        "export",
        foreign,
        "--inputs",
        spikes,
        "--input-coding",
        "spikes",
        "--out",
        bundle,
        "--no-lava",
        "--timesteps",
        16,
    )
    assert exported.code == 0, exported.err
    said = ashneuro("bench", "emulator", "--bundle", bundle, "--samples", 9, "--rounds", 1, "--threads", 1, "--no-lava")
    assert said.code == 0, said.err
    assert f"{bundle}, 16 steps" in said.out


def test_a_file_that_cannot_be_written(ashneuro: Command, tmp_path):
    nowhere = tmp_path / "none" / "x.json"
    said = ashneuro("bench", "emulator", "--samples", 2, "--rounds", 1, "--threads", 1, "--no-lava", "--json", nowhere)
    assert said.code == 2 and "--json FILE" in said.err


def test_no_samples(ashneuro: Command):
    said = ashneuro("bench", "emulator", "--samples", 0, "--no-lava")
    assert said.code == 2 and "at least one" in said.err


def test_bench_of_layers_and_of_a_model(ashneuro: Command, tmp_path):
    out, plot = tmp_path / "lif.json", tmp_path / "lif.svg"
    said = ashneuro(
        "bench",
        "lif",
        "--timesteps",
        2,
        "--rounds",
        1,
        "--threads",
        1,
        "--device",
        "cpu",
        "--json",
        out,
        "--plot",
        plot,
    )
    assert said.code == 0, said.err
    assert "Linear 768 and LIF, T = 2" in said.out and "Norse, stepwise" in said.out
    assert json.loads(out.read_text())["benchmark"] == "lif" and plot.read_text().startswith("<svg")
    small = ["--set", "train.batch_size=2", "--set", "model.abstract.units=8"]
    said = ashneuro("bench", "model", *small, "--rounds", 1, "--threads", 1, "--device", "cpu", "--clock", "cpu")
    assert said.code == 0, said.err
    assert "One training step, batch 2, T = 4" in said.out and "processor time" in said.out
    said = ashneuro("bench", "lif", "--timesteps", 0)
    assert said.code == 2 and "at least one step" in said.err


def test_without_torch_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None; from ashneuro.cli import main; main()"
    for verb in ("lif", "conv", "model"):
        said = subprocess.run([sys.executable, "-c", code, "bench", verb], capture_output=True, text=True, check=False)
        assert said.returncode == 3, said.stderr
        assert "pip install 'ashneuro[train]'" in said.stderr and "Traceback" not in said.stderr


def test_a_device_that_cannot_be_meant_is_not_taken_for_the_cpu(ashneuro: Command):
    said = ashneuro("bench", "conv", "--device", "cuda:1")
    assert said.code == 2 and "cuda" in said.err


def test_figures_are_kept_whatever_the_locale(tmp_path):
    out = tmp_path / "emulator.json"
    words = ["bench", "emulator", "--samples", "2", "--rounds", "1", "--threads", "1", "--no-lava", "--json", str(out)]
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-m", "ashneuro", *words], capture_output=True, env=plain, check=True)
    assert "3×3" in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("mismatches", [0, 3])
def test_lava_prints_the_schedules(ashneuro: Command, tmp_path, monkeypatch, mismatches):
    timings = tuple(
        LavaTiming(one.value, 30, Spread(2e-3 / gain, 1e-3 / gain, 3e-3 / gain), Spread(gain, gain, gain))
        for gain, one in enumerate(Schedule, start=1)
    )
    result = LavaBench(Machine("CPU", 2, "Linux", {}, (0.5, 0.6)), "small", 4, 5, timings, mismatches)
    monkeypatch.setattr("ashneuro.bench.lava.bench_lava", lambda network, **options: result)
    out = tmp_path / "lava.json"
    said = ashneuro("bench", "lava", "--samples", 30, "--json", out)
    assert said.code == (1 if mismatches else 0), said.err
    lines = [line.split("  ") for line in said.out.splitlines()]
    rows = {cells[1]: [cell.strip() for cell in cells[2:] if cell] for cells in lines if len(cells) > 2}
    assert rows["streamed"] == ["30", "1", "0.5 – 1.5", "2×", "2 – 2"]
    assert ("spike counts of 3 neurons differ" if mismatches else "all spike counts are equal") in said.out
    assert json.loads(out.read_text())["ways"][1]["per_sample_s"]["median"] == 1e-3
