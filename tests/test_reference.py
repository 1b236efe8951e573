"""Convolution and pooling of the reference against torch."""

import nir
import numpy as np
import pytest
import torch

from tests import reference


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("seed", range(30))
def test_convolution_equals_torch(seed):
    rng = np.random.default_rng(seed)
    axes, groups = int(rng.integers(1, 3)), int(rng.choice([1, 2]))
    kernel, gap = tuple(int(n) for n in rng.integers(1, 4, axes)), tuple(int(n) for n in rng.integers(1, 3, axes))
    padding = rng.choice([0, 1, 2, "same", "valid"]).item()
    padding = padding if padding in ("same", "valid") else int(padding)
    stride = 1 if padding == "same" else tuple(int(n) for n in rng.integers(1, 3, axes))
    x, weight = rng.standard_normal((2, 4, *rng.integers(6, 9, axes))), rng.standard_normal((6, 4 // groups, *kernel))
    function = torch.nn.functional.conv1d if axes == 1 else torch.nn.functional.conv2d
    wanted = function(torch.from_numpy(x), torch.from_numpy(weight), None, stride, padding, gap, groups)
    np.testing.assert_allclose(reference.convolve(x, weight, stride, padding, gap, groups), wanted, atol=1e-12)


@pytest.mark.parametrize("kind", [nir.SumPool2d, nir.AvgPool2d])
def test_pooling_equals_torch(kind):
    x = np.random.default_rng(0).standard_normal((2, 1, 3, 7, 6))
    node = kind(np.array([2, 3]), np.array([2, 1]), np.array([1, 1]))
    shape = np.array(x.shape[2:])
    graph = nir.NIRGraph(
        {"x": nir.Input(shape), "pool": node, "y": nir.Output(shape)}, [("x", "pool"), ("pool", "y")], type_check=False
    )
    wanted = torch.nn.functional.avg_pool2d(torch.from_numpy(x[:, 0]), (2, 3), (2, 1), 1).numpy() * (
        6 if kind is nir.SumPool2d else 1
    )
    np.testing.assert_allclose(reference.run_graph(graph, x, dt=1.0)["pool"][:, 0], wanted, atol=1e-12)
