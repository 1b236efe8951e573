"""Random inputs: shapes, seeds, ranges and errors."""

from __future__ import annotations

import numpy as np
import pytest

from ashneuro.errors import AshneuroError
from ashneuro.program.program import InputPort
from ashneuro.workflows.noise import NOISE_TIMESTEPS, PROOF_NOISE, REPORT_NOISE, Noise

SPIKES = InputPort("spikes", (30, 4), "spikes")
CURRENT = InputPort("current", (50,), "current")
GRADED = InputPort("graded", (2, 40), "graded", scale=4.0, limit=32)
NOISES = pytest.mark.parametrize("noise", [PROOF_NOISE, REPORT_NOISE], ids=["proof", "report"])


@NOISES
def test_shapes(noise: Noise) -> None:
    inputs = noise.inputs([SPIKES, CURRENT], 5)
    assert {name: x.shape for name, x in inputs.items()} == {
        "spikes": (5, noise.samples, 30, 4),
        "current": (5, noise.samples, 50),
    }
    assert noise.inputs([CURRENT], None)["current"].shape[0] == NOISE_TIMESTEPS


@NOISES
def test_spikes_have_the_rate(noise: Noise) -> None:
    x = noise.inputs([SPIKES], 20)["spikes"]
    assert x.dtype == np.uint8 and set(np.unique(x)) == {0, 1}
    assert x.mean() == pytest.approx(noise.rate, rel=0.05)


def test_unsigned_values_are_constant_magnitudes() -> None:
    x = REPORT_NOISE.inputs([GRADED], 6)["graded"]
    assert (x >= 0).all() and (x == x[0]).all()
    assert np.square(x[0]).mean() == pytest.approx(1, rel=0.15), "half-normal, of unit variance before abs()"


def test_signed_values_fill_a_quarter_of_the_range() -> None:
    noise = Noise(50, 0.2, signed=True)
    inputs = noise.inputs([CURRENT, GRADED], 6)
    for name, deviation in (("current", 1.0), ("graded", 32 / 4.0 / 4)):
        assert inputs[name].std() == pytest.approx(deviation, rel=0.03)
        assert abs(inputs[name].mean()) < 0.05 * deviation
        assert not (inputs[name] == inputs[name][0]).all()
    constant = noise.inputs([CURRENT], 6, constant=True)["current"]
    assert (constant == constant[0]).all() and (constant < 0).any()


@NOISES
def test_seed_decides(noise: Noise) -> None:
    ports = [SPIKES, CURRENT]
    first, again = noise.inputs(ports, 5), noise.inputs(ports, 5)
    other = Noise(noise.samples, noise.rate, seed=1, signed=noise.signed).inputs(ports, 5)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()


@pytest.mark.parametrize(("samples", "rate"), [(0, 0.1), (-1, 0.1), (8, 0.0), (8, -0.1), (8, 1.01), (8, np.nan)])
def test_values_out_of_range_are_errors(samples: int, rate: float) -> None:
    with pytest.raises(AshneuroError, match=f"--noise {samples} --rate {rate}") as error:
        Noise(samples, rate).inputs([SPIKES], 5)
    assert "a rate above 0, at most 1" in error.value.why


@pytest.mark.parametrize("samples", [10**9, 10**12])
def test_more_values_than_fit_are_refused_before_they_are_made(samples: int) -> None:
    with pytest.raises(AshneuroError, match=f"--noise {samples}"):
        Noise(samples, 0.1).inputs([SPIKES], 5)
