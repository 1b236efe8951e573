from dataclasses import replace

import nir
import numpy as np
import pytest

from ashneuro.errors import DataError
from ashneuro.program.lower import lower
from ashneuro.program.quantise import default_scales, quantise
from ashneuro.simulation import calibrate as module
from ashneuro.simulation.calibrate import calibrate
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.spiking.contract import Contract
from tests.simulation import graphs

CONTRACT = Contract(dt_s=graphs.DT, timesteps=6)


@pytest.fixture(scope="module")
def program():
    return lower(graphs.deployable(1), CONTRACT)


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).normal(0.4, 0.8, (6, 24, 4, 6, 6))


@pytest.fixture(scope="module")
def calibrated(program, inputs):
    return calibrate(program, inputs)


def mismatches(program, integer, inputs):
    names = [layer.name for layer in program.layers]
    left, right = (run_program(item, inputs, rasters=names) for item in (program, integer))
    return {name: (left.layers[name].raster != right.layers[name].raster).mean() for name in names}


def test_reported_mismatches_are_measured(program, inputs, calibrated):
    assert calibrated.mismatches == mismatches(program, calibrated.program, inputs)
    by_rule = quantise(program, input_peak={"input": np.abs(inputs).max()}).program
    assert calibrated.rule_mismatches == mismatches(program, by_rule, inputs)
    assert calibrated.input_peak == {"input": np.abs(inputs).max()}
    assert calibrated.samples == 24


def test_calibration_is_no_worse_than_rule(calibrated):
    assert sum(calibrated.mismatches.values()) <= sum(calibrated.rule_mismatches.values())
    assert {layer.name: layer.scale for layer in calibrated.program.layers} == pytest.approx(calibrated.scales)
    assert 0 < sum(calibrated.mismatches.values()) < 0.2


def test_graded_values_keep_their_resolution_behind_many_layers():
    """The largest possible value grows with every layer, the largest real one does not."""
    random, nodes = np.random.default_rng(3), graphs.ends((24,), (24,))
    for index in range(6):
        nodes[f"fc{index}"] = nir.Linear(random.normal(0, 0.25, (24, 24)))
        nodes[f"n{index}"] = nir.Threshold(np.zeros(24))
        nodes[f"n{index}"].metadata = {"ashneuro.message": "graded"}
    between = " ".join(name for name in nodes if name not in ("input", "output"))
    program = lower(graphs.graph(nodes, f"input {between} output"), Contract(dt_s=graphs.DT, timesteps=1))
    x = random.normal(0, 1, (1, 64, 24))
    found = calibrate(program, x)
    sent = run_program(program, x, rasters=[layer.name for layer in program.layers]).layers
    for layer in found.program.layers:
        largest = sent[layer.name].raster.max()
        assert largest > 0.1 and 30 < largest * layer.scale < 3 * 255, layer.name
    assert max(found.mismatches.values()) < 0.3
    by_rule = quantise(program, input_peak=found.input_peak).program
    assert by_rule.layers[-1].scale * largest < 1, "where the rule alone sends nothing"


def test_better_scale_is_found(program, inputs, monkeypatch):
    """The rule is made coarse on purpose for one layer; the search must go back to a finer one."""
    coarse = {**default_scales(program, input_peak={"input": np.abs(inputs).max()})}
    coarse["lif2"] /= 20
    monkeypatch.setattr(module, "default_scales", lambda *args, **kwargs: dict(coarse))
    monkeypatch.setattr(module, "FACTORS", (1.0, 4.0, 20.0))
    found = calibrate(program, inputs)
    assert found.scales["lif2"] > coarse["lif2"]
    assert found.mismatches["lif2"] < found.rule_mismatches["lif2"]


def test_budget_limits_samples(program, inputs, monkeypatch):
    monkeypatch.setattr(module, "BUDGET", 0)
    found = calibrate(program, inputs)
    assert found.samples == module.FEWEST_SAMPLES
    assert found.input_peak == {"input": np.abs(inputs).max()}


def test_magnitude_of_smallest_int8(program, inputs):
    small = np.clip(inputs * 4, -8, 8).astype(np.int8)
    small[0] = -128
    assert calibrate(program, small).input_peak == {"input": 128.0}


def test_calibration_is_deterministic(program, inputs, calibrated):
    assert calibrate(program, inputs).scales == calibrated.scales


def test_silent_input_is_refused(program, inputs):
    with pytest.raises(DataError, match="'input' is 0 everywhere"):
        calibrate(program, 0 * inputs)


def test_layers_within_a_loop_are_skipped(program):
    """The first layer of a loop cannot be simulated without the later one."""
    assert module._head(program, 2) is not None
    first, second = program.layers[:2]
    back = replace(second.connections[0], source="lif3")
    looped = (replace(first, connections=(*first.connections, back)), *program.layers[1:])
    assert module._head(replace(program, layers=looped), 2) is None
