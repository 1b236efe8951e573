"""``ashneuro bench``: tables and files."""

import json
import os
import subprocess
import sys

import pytest

from ashneuro.bench.lava import LavaBench, LavaTiming, Schedule
from ashneuro.bench.measure import Machine, Spread
from ashneuro.errors import install_command
from tests.commands.conftest import Command


def test_bench_emulator(ashneuro: Command, tmp_path):
    out = tmp_path / "emulator.json"
    result = ashneuro("bench", "emulator", "--samples", 4, "--rounds", 1, "--threads", 1, "--no-lava", "--json", out)
    assert result.code == 0, result.err
    assert "256-512-256" in result.out and "not run, because it was not asked for" in result.out
    assert json.loads(out.read_text())["networks"][0]["speeds"][1]["per_second"]["median"] > 0


def test_bench_emulator_with_bundle(ashneuro: Command, foreign, spikes, tmp_path):
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
        "--accept-assumptions",
    )
    assert exported.code == 0, exported.err
    result = ashneuro(
        "bench", "emulator", "--bundle", bundle, "--samples", 9, "--rounds", 1, "--threads", 1, "--no-lava"
    )
    assert result.code == 0, result.err
    assert f"{bundle}, 16 steps" in result.out


def test_unwritable_file_is_an_error(ashneuro: Command, tmp_path):
    nowhere = tmp_path / "none" / "x.json"
    result = ashneuro(
        "bench", "emulator", "--samples", 2, "--rounds", 1, "--threads", 1, "--no-lava", "--json", nowhere
    )
    assert result.code == 2 and "--json FILE" in result.err


def test_rejects_no_samples(ashneuro: Command):
    result = ashneuro("bench", "emulator", "--samples", 0, "--no-lava")
    assert result.code == 2 and "at least one" in result.err


def test_bench_lif_and_model(ashneuro: Command, tmp_path):
    out, plot = tmp_path / "lif.json", tmp_path / "lif.svg"
    result = ashneuro(
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
    assert result.code == 0, result.err
    assert "Linear 768 and LIF, T = 2" in result.out and "Norse, stepwise" in result.out
    assert json.loads(out.read_text())["benchmark"] == "lif" and plot.read_text().startswith("<svg")
    small = ["--set", "train.batch_size=2", "--set", "model.abstract.units=8"]
    result = ashneuro("bench", "model", *small, "--rounds", 1, "--threads", 1, "--device", "cpu", "--clock", "cpu")
    assert result.code == 0, result.err
    assert "One training step, batch 2, T = 4" in result.out and "processor time" in result.out
    result = ashneuro("bench", "model", "--neuron", "sigma-delta")
    assert result.code == 2 and "lif, lif-subtract, cubalif, if, graded" in result.err
    small = ["--timesteps", 2, "--rounds", 1, "--width", 32, "--device", "cpu"]
    result = ashneuro("bench", "lif", "--neuron", "lif-subtract", *small, "--json", out)
    assert result.code == 0 and "LIF by subtraction alone" in result.out, result.err
    assert json.loads(out.read_text())["benchmark"] == "lif-subtract"
    result = ashneuro("bench", "lif", "--timesteps", 0)
    assert result.code == 2 and "at least one step" in result.err


def test_missing_torch_is_an_error():
    code = "import sys; sys.modules['torch'] = None; from ashneuro.cli import main; main()"
    for verb in ("lif", "conv", "model", "feed"):
        result = subprocess.run(
            [sys.executable, "-c", code, "bench", verb], capture_output=True, text=True, check=False
        )
        assert result.returncode == 3, result.stderr
        assert install_command("train") in result.stderr and "Traceback" not in result.stderr


def test_unknown_device_is_rejected(ashneuro: Command):
    result = ashneuro("bench", "conv", "--device", "cuda:1")
    assert result.code == 2 and "cuda" in result.err


def test_json_is_utf8_in_any_locale(tmp_path):
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
    timed = LavaBench(Machine("CPU", 2, "Linux", {}, (0.5, 0.6)), "small", 4, 5, timings, mismatches)
    monkeypatch.setattr("ashneuro.bench.lava.bench_lava", lambda network, **options: timed)
    out = tmp_path / "lava.json"
    result = ashneuro("bench", "lava", "--samples", 30, "--json", out)
    assert result.code == (1 if mismatches else 0), result.err
    lines = [line.split("  ") for line in result.out.splitlines()]
    rows = {cells[1]: [cell.strip() for cell in cells[2:] if cell] for cells in lines if len(cells) > 2}
    assert rows["streamed"] == ["30", "1", "0.5 – 1.5", "2×", "2 – 2"]
    assert ("spike counts of 3 neurons differ" if mismatches else "all spike counts are equal") in result.out
    assert json.loads(out.read_text())["ways"][1]["per_sample_s"]["median"] == 1e-3
