"""Compiled batch norms against torch's, and their sums against float64."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from ashneuro.errors import ConfigError
from ashneuro.spiking.kernels import batch_norm
from ashneuro.spiking.kernels.batch_norm import BatchNorm1d, BatchNorm2d
from ashneuro.spiking.kernels.cpp import NativeError

try:
    batch_norm.library()
except NativeError as error:
    pytest.skip(str(error), allow_module_level=True)

SHAPES = [(70, 24, 5, 5), (3, 77, 9, 2), (300, 130), (2, 3, 1, 1), (700, 96, 4, 4)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_norm, "MIN_VALUES", 0)


def made(shape: tuple[int, ...], mean: float = 3.0) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a norm with parameters of its own, an input, and a gradient of the output."""
    random = torch.Generator().manual_seed(len(shape) + shape[0])
    norm = (BatchNorm1d if len(shape) == 2 else BatchNorm2d)(shape[1], momentum=0.3)
    for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        values.data = torch.rand(shape[1], generator=random) + 0.5
    x, g = (torch.randn(shape, generator=random) for _ in range(2))
    x = x * (torch.rand(1, shape[1], *[1] * (len(shape) - 2), generator=random) + 0.1) + mean
    if len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    return norm, x, g


def passed(norm: nn.Module, x: Tensor, g: Tensor) -> list[Tensor]:
    """Return output, gradients, and statistics after a training step of ``norm``."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = norm(x)
    y.backward(g)
    return [y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]


def plain(norm: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return torch's own norm with the same parameters and statistics."""
    kind = nn.BatchNorm1d if isinstance(norm, nn.BatchNorm1d) else nn.BatchNorm2d
    other = kind(norm.num_features, norm.eps, norm.momentum)
    other.load_state_dict(norm.state_dict())
    return other.to(dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_training_step_is_torchs(shape: tuple[int, ...]) -> None:
    norm, x, g = made(shape)
    other = plain(norm, torch.float64)
    wanted = passed(other, x.double(), g.double())
    found = passed(norm, x, g)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=2e-5, atol=2e-5)
    assert found[0].stride() == x.stride() and int(norm.num_batches_tracked) == 1
    assert set(norm.state_dict()) == set(other.state_dict())


def test_variance_of_values_far_from_zero() -> None:
    """Sums of squares would cancel: the mean is 10,000 standard deviations away."""
    norm, x, _ = made((4096, 8), mean=10_000.0)
    wanted = x.double().var(0)
    before = norm.running_var.double()
    norm(x)
    torch.testing.assert_close((norm.running_var.double() - 0.7 * before) / 0.3, wanted, rtol=1e-4, atol=0)


def test_same_bytes_with_any_number_of_threads() -> None:
    norm, x, g = made((700, 96, 4, 4))
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(passed(copy.deepcopy(norm), x, g))
    finally:
        torch.set_num_threads(threads)
    for some, others in pairwise(found):
        assert all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def test_gradient_of_another_memory_format() -> None:
    norm, x, g = made((70, 24, 5, 5))
    twin = copy.deepcopy(norm)
    wanted = passed(norm, x, g.contiguous(memory_format=torch.channels_last))
    found = passed(twin, x, g[:, :, :1, :1].expand_as(g) * 0 + g)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("case", ["eval", "kernels", "channels-first", "bfloat16", "momentum", "small"])
def test_torch_computes_the_rest(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    norm, x, g = made((70, 24, 5, 5))
    if case == "eval":
        norm.eval()
    elif case == "kernels":
        norm.kernels = "torch"
    elif case == "channels-first":
        x = x.contiguous()
    elif case == "bfloat16":
        x, g = x.bfloat16(), g.bfloat16()
    elif case == "small":
        monkeypatch.setattr(batch_norm, "MIN_VALUES", x.numel() + 1)
    else:
        norm.momentum = None
    monkeypatch.setattr(batch_norm._BatchNorm, "apply", lambda *inputs: pytest.fail("compiled"))
    other = plain(norm, torch.float32).train(norm.training)
    for ours, theirs in zip(passed(norm, x, g), passed(other, x, g), strict=True):
        assert torch.equal(ours, theirs)


def test_second_derivative_is_refused() -> None:
    norm, x, _ = made((70, 24, 5, 5))
    x.requires_grad_()
    with pytest.raises(ConfigError, match="second derivative"):
        torch.autograd.grad(norm(x).square().sum(), x, create_graph=True)


def test_one_value_per_channel_is_torchs_error() -> None:
    with pytest.raises(ValueError, match="more than 1 value"):
        BatchNorm1d(4)(torch.zeros(1, 4))
