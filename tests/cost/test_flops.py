"""Counts by torch's flop counter, and the operations without a formula."""

import pytest
import torch
from torch import nn

from ashneuro.cost.flops import count_flops
from ashneuro.errors import AshneuroError


def test_products_and_uncounted_operations():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)
    ).eval()
    x = torch.rand(2, 3, 6, 6)
    found = count_flops(lambda: net(x))
    conv, linear = 2 * 36 * 8 * 27, 2 * 8 * 36 * 10  # torch counts the padding's products too
    assert found.macs == conv + linear
    assert any("batch_norm" in name for name in found.uncounted) and "relu" in found.uncounted
    assert not {"view", "t", "convolution", "addmm"} & found.uncounted.keys()
    assert "not counted: " in found.sentence() and "relu" in found.sentence()


def test_attention_is_counted():
    net = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    x = torch.rand(1, 5, 16)
    found = count_flops(lambda: net(x, x, x, need_weights=True))
    assert found.macs >= 4 * 5 * 16 * 16 + 2 * 5 * 5 * 16
    assert any("softmax" in name for name in found.uncounted)


def test_no_product_raises():
    x = torch.rand(4)
    with pytest.raises(AshneuroError, match="saw no product"):
        count_flops(lambda: (x + 1).relu())
