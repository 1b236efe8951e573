"""A network of realistic size, 12 layers and 60,298 neurons, in Lava and in a bundle's script."""

from itertools import pairwise

import nir
import numpy as np
import pytest

from ashneuro.program.check import check
from ashneuro.program.lower import lower
from ashneuro.program.quantise import quantise
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.lava.session import Lava
from ashneuro.spiking.contract import Contract
from tests.simulation.lava.test_script import start, write

pytestmark = [pytest.mark.lava, pytest.mark.slow]

CONTRACT = Contract(dt_s=1e-3, timesteps=8, input_coding="spikes")


def deep(seed=0):
    """Nine convolutions on 32 × 32 pixels and three dense layers, all active."""
    rng, shape = np.random.default_rng(seed), (3, 32, 32)
    nodes = {"input": nir.Input(np.array(shape))}

    def lif(shape):
        one = np.ones(shape)
        return nir.LIF(tau=2e-3 * one, r=2 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)

    for index, (channels, stride) in enumerate(
        ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (64, 2), (64, 1), (128, 2))
    ):
        weight = rng.normal(0, 2.5 / np.sqrt(9 * shape[0]), (channels, shape[0], 3, 3))
        nodes[f"conv{index}"] = nir.Conv2d(shape[1:], weight, stride, 1, 1, 1, rng.normal(0.05, 0.05, channels))
        shape = (channels, *((side - 1) // stride + 1 for side in shape[1:]))
        nodes[f"lif{index}"] = lif(shape)
    nodes["flat"], size = nir.Flatten({"input": np.array(shape)}, 0, -1), int(np.prod(shape))
    for index, outputs in enumerate((256, 128, 10), 9):
        nodes[f"fc{index}"] = nir.Affine(
            rng.normal(0, 2.5 / np.sqrt(size), (outputs, size)), rng.normal(0.05, 0.05, outputs)
        )
        nodes[f"lif{index}"], size = lif((outputs,)), outputs
    nodes["output"] = nir.Output(np.array([10]))
    return nir.NIRGraph(nodes, list(pairwise(nodes)))


def test_deep_network_in_lava_and_in_its_script(tmp_path):
    graph = deep()
    assert all(finding.ok for finding in check(graph, CONTRACT, "lava"))
    program = lower(graph, CONTRACT)
    integer = quantise(program, input_peak={"input": 1.0}).program
    assert len(program.layers) == 12 and sum(layer.size for layer in program.layers) == 60_298
    x = (np.random.default_rng(1).random((8, 20, 3, 32, 32)) < 0.3).astype(np.uint8)
    with Lava() as lava:
        for one in (program, integer):
            names = [layer.name for layer in one.layers]
            wanted = run_program(one, x, rasters=names)
            assert all(0.05 < wanted.firing_rate(name) < 0.3 for name in names)
            found = lava.run(one, x, rasters=names, stock=4)
            assert found.stock_samples == 4
            for name in names:
                np.testing.assert_array_equal(found.layers[name].raster, wanted.layers[name].raster)
    write(tmp_path / "bundle", program, integer, {"input": x[:, :2]})
    said = start(tmp_path / "bundle", "--verify")
    assert said.returncode == 0 and said.stdout.count(" 0 differ\n") == 24, said.stdout + said.stderr
