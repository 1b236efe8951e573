"""Estimates on GPUs and CPUs."""

from dataclasses import replace

import pytest

from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import load_profile
from ashneuro.errors import ProfileError
from tests.cost.networks import ANN, WORK


def test_recalled_powers_and_rates_are_not_used():
    gpu = load_profile("h100")
    for changes in (
        {"power": {"tdp": replace(gpu.power["tdp"], check="R")}},
        {"peak": {"fp32": replace(gpu.peak["fp32"], check="R")}},
    ):
        with pytest.raises(ProfileError, match="recalled"):
            estimate(ANN, replace(gpu, **changes), "fp32")


def test_gpu_energy_is_tdp_over_peak_rate():
    h100 = load_profile("h100")
    assert estimate(ANN, h100, "fp32").dynamic_j.typical == pytest.approx(2 * 100 * 700 / 66.9e12)
    assert estimate(ANN, h100, "int3").dynamic_j.typical == pytest.approx(2 * 100 * 700 / 1978.9e12)
    assert estimate(WORK, h100, "fp16").dynamic_j.typical == pytest.approx(2 * 4000 * 700 / 989.4e12)
    with pytest.raises(ProfileError, match="cannot price fp64"):
        estimate(ANN, h100, "fp64")
    with pytest.raises(ProfileError, match="no precision was given"):
        estimate(ANN, h100)


def test_cpu_energy_is_macs_of_a_measured_workload():
    cost = estimate(ANN, load_profile("cpu"), "fp32").dynamic_j
    assert (cost.low, cost.typical, cost.high) == (pytest.approx(100 * 2.01e-9), None, pytest.approx(100 * 36.5e-9))
