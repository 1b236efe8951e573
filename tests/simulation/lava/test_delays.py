"""Axonal delays in Lava: many per population, all kinds of weights, one sample and several."""

import numpy as np
import pytest

from ashneuro.program.netx.read import read_netx
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.lava.session import Lava
from tests.program.netx.test_read import dense_net, write

pytestmark = pytest.mark.lava


@pytest.mark.parametrize("samples", [1, 3])
def test_delay_per_axon_equals_emulator(tmp_path, samples):
    rng = np.random.default_rng(8)
    # Even weights of both signs; weights of one sign, which may be odd; large ones with exponents.
    kinds = [
        2.0 * rng.integers(-90, 91, (20, 12)),
        rng.integers(0, 200, (20, 12)),
        8.0 * rng.integers(-60, 61, (20, 12)),
    ]
    delay = np.concatenate([rng.integers(low, low + 14, 20) for low in (0, 14, 28)]).astype(np.float32)
    weight = np.concatenate(kinds)
    layers = [
        *dense_net(weight, delay=delay),
        *dense_net(2.0 * rng.integers(-60, 61, (9, 60)), delay=np.float32([0, 3, 3, 62, 1, 9, 7, 3, 0]))[1:],
    ]
    program = read_netx(write(tmp_path / "late.net", layers))
    exponents = {connection.weight_exp for _, connection in program.connections()}
    assert len(exponents) > 1 and len(program.layers[0].connections) > 25
    x = (rng.random((110, samples, 1, 1, 12)) < 0.3).astype(np.uint8)
    names = [layer.name for layer in program.layers]
    wanted = run_program(program, x, rasters=names)
    with Lava() as lava:
        record = lava.run(program, x, rasters=names)
    for name in names:
        assert 0.01 < np.mean(wanted.layers[name].raster) < 0.9
        np.testing.assert_array_equal(record.layers[name].raster, wanted.layers[name].raster, err_msg=name)
