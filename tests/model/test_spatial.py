import pytest
import torch
from torch import nn

from ashneuro.model.spatial import SpatialLinear, global_average_pool


def test_average_pool_equals_torch_and_keeps_the_memory_format() -> None:
    dense = torch.randn(3, 5, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x, y = (dense.clone(memory_format=memory_format).requires_grad_() for _ in range(2))
        seen = []
        x.register_hook(seen.append)
        weights = torch.arange(15.0).reshape(3, 5)
        (global_average_pool(x) * weights).sum().backward()
        (y.mean((2, 3)) * weights).sum().backward()
        assert torch.equal(x.grad, y.grad)
        assert seen[0].is_contiguous(memory_format=memory_format)


def test_average_pool_second_derivative() -> None:
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: global_average_pool(x).square(), x)


@pytest.mark.parametrize("shape", [(3, 5, 4, 4), (64, 96, 4, 4)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_spatial_linear_equals_a_flattened_linear(shape: tuple[int, ...], memory_format: torch.memory_format) -> None:
    torch.manual_seed(1)
    linear = nn.Linear(shape[1] * 16, 60, bias=False)
    torch.manual_seed(1)
    ours = SpatialLinear(shape[1], 4, 60).to(memory_format=memory_format)
    assert torch.equal(ours.weight.flatten(1), linear.weight)
    spikes = (torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.2).float()
    x, y = spikes.clone(memory_format=memory_format).requires_grad_(), spikes.clone().requires_grad_()
    sums, wanted = ours(x), linear(y.flatten(1))
    torch.testing.assert_close(sums, wanted, rtol=1e-5, atol=1e-5)
    weights = torch.linspace(-1, 1, sums.numel()).reshape(sums.shape)
    (sums * weights).sum().backward()
    (wanted * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad.flatten(1), linear.weight.grad, rtol=1e-5, atol=1e-5)
    assert x.grad.stride() == x.stride() and ours.weight.grad.stride() == ours.weight.stride()


def test_channels_last_input_is_not_copied() -> None:
    dense = SpatialLinear(8, 3, 4).to(memory_format=torch.channels_last)
    arrays = torch.randn(5, 8, 3, 3).to(memory_format=torch.channels_last)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        dense(arrays)
    assert not {"aten::copy_", "aten::clone"} & {event.key for event in profile.key_averages()}
