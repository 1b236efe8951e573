"""Simulation behind the activity of the LSNN in hardware_profiles/measured/."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from ashneuro.cost.cases import load_case, measured_folder

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "docs" / "simulate_lsnn.py"))
CASE = measured_folder() / "smnist_lsnn.toml"


def test_simulation_has_the_shape_of_the_case():
    case = load_case(CASE)
    spikes = SCRIPT["encode"](np.zeros((1, 784), int))
    assert spikes.shape == (case.steps, 1, 80)
    # The relays of the input, two compartments of each adaptive neuron, and ten outputs.
    assert case.activity.neurons == 80 + SCRIPT["REGULAR"] + 2 * 100 + 10
    for path in (CASE, ROOT / "docs" / "validation.md"):
        assert "python docs/simulate_lsnn.py WEIGHTS" in path.read_text(encoding="utf-8")


def test_input_spikes_where_a_pixel_crosses_a_threshold():
    pixels = np.zeros((1, 784), int)
    pixels[0, 10:12] = 14, 255
    spikes = SCRIPT["encode"](pixels)[:784, 0]
    up, down = 2 * np.arange(1, 39), 2 * np.arange(1, 39) + 1
    levels = np.floor(np.linspace(0, 255, 40))[1:39]
    assert spikes[9][up].tolist() == (levels <= 14).tolist()
    assert spikes[10][up].tolist() == (levels > 14).tolist()
    assert spikes[11][down].all() and spikes[:, down].sum() == 38
    assert np.flatnonzero(spikes[:, 78]).tolist() == [11]
    assert spikes.sum() == 38 + 38 + 1
    assert SCRIPT["encode"](pixels)[784:, 0].sum(0).tolist() == [0] * 79 + [56]


def test_synops_and_spikes_are_counted_by_hand():
    """One relay excites one adaptive neuron over its threshold; it excites an output."""
    w_in, w_rec, w_out = np.zeros((1, 141)), np.zeros((141, 141)), np.zeros((141, 10))
    w_in[0, 140], w_rec[140, :2], w_out[140, 3] = 128, 1, 1
    spikes = np.zeros((5, 1, 1))
    spikes[0] = 1
    # Injected at step 0, relayed at 1, the neuron fires and its spike arrives at 2: at two neurons,
    # at an output and at its second compartment.
    assert SCRIPT["count"](w_in, w_rec, w_out, spikes) == (1 + 1 + 4, 2)
    w_in[0, 140] = 127  # at the threshold, not above
    assert SCRIPT["count"](w_in, w_rec, w_out, spikes) == (1 + 1, 1)


@pytest.mark.parametrize(("neuron", "fired"), [(139, 3), (140, 2)])
def test_adaptive_neurons_fire_less(neuron, fired):
    """Inputs of 1.5 above the threshold: an adaptive neuron's has risen after its first spike."""
    w_in, w_rec, w_out = np.zeros((1, 141)), np.zeros((141, 141)), np.zeros((141, 10))
    w_in[0, neuron] = 128.49
    spikes = np.zeros((5, 1, 1))
    spikes[:3] = 1
    assert SCRIPT["count"](w_in, w_rec, w_out, spikes)[1] == 3 + fired


def test_input_spikes_of_the_digits_are_those_that_the_case_states():
    pytest.importorskip("sklearn")
    found = SCRIPT["encode"](SCRIPT["digits"](100, 1.0, np.random.default_rng(0))).sum() / 100
    assert f"{found:,.0f}\n# to 1,864 of the spikes are inputs" in CASE.read_text(encoding="utf-8")
